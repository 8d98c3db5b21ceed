"""Readers of the log look when something came that they want, and not otherwise."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from lineside.core import UnavailableError
from lineside.hub import Services
from lineside.hub.follow import Follower, Selection
from lineside.store import Logged
from lineside.streams import Event
from lineside.testing import FakeClock
from lineside.twin import LineState

SOURCE = "/hall/plant"


class Taker:
    """Takes entries; ``came`` is set by each page."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.came = threading.Event()

    def __call__(self, entries: Sequence[Logged]) -> None:
        self.taken += [logged.entry.id for logged in entries]
        self.came.set()


def follower(hub: Services, taker: Taker, **wanted: str) -> Follower:
    return Follower(
        "test", records=hub.records, ledger=hub.ledger, handle=taker, selection=Selection(**wanted)
    )


def say(hub: Services, clock: FakeClock, name: str, *, kind: str, source: str = SOURCE) -> None:
    event = Event(
        id=f"evt_{name}", source=source, type=kind, subject="a", time=clock.now(),
        data={"topic": "a"},
    )  # fmt: skip
    hub.ledger.record([event])


def test_what_a_reader_does_not_want_leaves_nothing_to_look_at(
    hub: Services, clock: FakeClock
) -> None:
    made = follower(hub, Taker(), type="b.v1")
    say(hub, clock, "1", kind="b.v1")
    assert made.behind == 1
    made.step()
    made.step()
    assert made.behind == 0
    for place in range(5):
        say(hub, clock, f"other {place}", kind="a.v1")
        assert made.behind == 0
    say(hub, clock, "2", kind="b.v1")
    assert made.behind == 6
    made.step()
    assert made.position == 7


@pytest.mark.parametrize(
    "wanted", [{}, {"type": "b.v1"}, {"source": "/x"}, {"type": "b.v1", "source": "/x"}]
)
def test_a_reader_is_woken_by_each_thing_that_it_wants(
    hub: Services, clock: FakeClock, wanted: dict[str, str]
) -> None:
    taker = Taker()
    made = follower(hub, taker, **wanted)
    made.start()
    try:
        for place in range(20):
            say(hub, clock, f"other {place}", kind="a.v1", source="/y")
            taker.came.clear()
            say(hub, clock, str(place), kind="b.v1", source="/x")
            assert taker.came.wait(20.0)
    finally:
        made.stop()
    own = [name for name in taker.taken if "other" not in name]
    assert own == [f"evt_{place}" for place in range(20)]


def test_what_another_process_wrote_is_found_all_the_same(hub: Services, clock: FakeClock) -> None:
    taker = Taker()
    made = follower(hub, taker, type="b.v1")
    made.step()
    say(hub, clock, "1", kind="b.v1")
    event = hub.records.log.get("evt_1").entry
    assert made.step() == 1
    made.start()
    try:
        taker.came.clear()
        body = event.body.replace(b"evt_1", b"evt_2")
        hub.records.log.append([replace(event, id="evt_2", body=body)])
        assert taker.came.wait(20.0)
    finally:
        made.stop()
    assert taker.taken == ["evt_1", "evt_2"]


def test_an_aborted_commit_is_not_announced(hub: Services, clock: FakeClock) -> None:
    made = follower(hub, Taker())
    before = hub.ledger.committed

    def fails(_logged: list[Logged]) -> None:
        assert hub.ledger.position > before
        assert hub.ledger.committed == before
        assert made.behind == before - made.position
        raise UnavailableError("the disk is full")

    event = Event(
        id="evt_1", source=SOURCE, type="a.v1", subject="a", time=clock.now(), data={"topic": "a"}
    )
    with pytest.raises(UnavailableError):
        hub.ledger.record([event], within=fails)
    assert (hub.ledger.position, hub.ledger.committed) == (before, before)
    hub.ledger.record([event])
    assert hub.ledger.committed == before + 1


def test_the_ledger_takes_turns(hub: Services, clock: FakeClock) -> None:
    """A writer with a backlog does not keep another out."""
    waited: list[int] = []
    written, done = 0, threading.Event()
    inside = threading.Event()

    def look(_state: LineState) -> Sequence[Event]:
        waited.append(written)
        return ()

    def others() -> None:
        for _ in range(5):
            inside.wait(20.0)
            waited.append(written)
            hub.ledger.decide(look)
        done.set()

    other = threading.Thread(target=others)
    other.start()
    while not done.is_set():
        say(hub, clock, f"mine {written}", kind="a.v1")
        written += 1
        inside.set()
    other.join()
    assert len(waited) == 10
    assert max(after - before for before, after in zip(waited[::2], waited[1::2], strict=True)) < 20
    assert hub.ledger.decide(lambda _state: [_own(clock)]) is not None


def _own(clock: FakeClock) -> Event:
    return Event(
        id="evt_own", source=SOURCE, type="a.v1", subject="a", time=clock.now(), data={"topic": "a"}
    )
