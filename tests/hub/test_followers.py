"""Readers of the log look when something came that they want, and not otherwise."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from lineside.core import ConflictError, InvalidError, NotFoundError, UnavailableError
from lineside.hub import Services
from lineside.hub.eventlog.dead_letters import Quarantine
from lineside.hub.eventlog.followers import (
    DOUBTFUL_TRIES,
    Follower,
    Followers,
    FollowerState,
    Rejection,
    skip_entry,
)
from lineside.hub.eventlog.leases import HubLeases, PartLease
from lineside.store import Logged
from lineside.streams import Event
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, wait_until
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


def follower(hub: Services, taker: Taker, *, source: str = "", type: str = "") -> Follower:  # noqa: A002  as Follower names it
    return Follower(
        "test", records=hub.records, ledger=hub.ledger, handle=taker, source=source, type=type
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
            say(hub, clock, str(place), kind="b.v1", source="/x")
            while f"evt_{place}" not in taker.taken:
                assert taker.came.wait(LONG_S)
                taker.came.clear()
    finally:
        made.stop()
    own = [name for name in taker.taken if "other" not in name]
    assert own == [f"evt_{place}" for place in range(20)]


def test_a_reader_that_gathers_takes_what_comes_singly_as_one_page(
    hub: Services, clock: FakeClock
) -> None:
    pages: list[int] = []

    def take(entries: Sequence[Logged]) -> None:
        pages.append(len(entries))

    class Gathering(threading.Event):
        """Five more come while the reader waits."""

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout == 5.0
            for place in range(1, 6):
                say(hub, clock, str(place), kind="b.v1")
            return False

    made = Follower(
        "test", records=hub.records, ledger=hub.ledger, handle=take, type="b.v1", gather_s=5.0
    )
    made._stop = Gathering()
    made._wait_and_turn()  # nothing is there, so the next turn waits
    say(hub, clock, "0", kind="b.v1")
    made._wait_and_turn()
    assert pages == [6]


def test_a_page_that_is_not_full_is_not_followed_by_an_empty_one(
    hub: Services, clock: FakeClock
) -> None:
    made = Follower(
        "test", records=hub.records, ledger=hub.ledger, handle=Taker(), type="b.v1", page=2
    )
    for place in range(3):
        say(hub, clock, str(place), kind="b.v1")
    assert made.turn()  # a full page: there may be more
    assert not made.turn()
    assert made.behind == 0


def test_a_commit_wakes_those_who_want_something_of_it(hub: Services, clock: FakeClock) -> None:
    woken: list[str] = []

    class Watched(threading.Condition):
        def __init__(self, name: str) -> None:
            super().__init__(hub.ledger._commit_lock)
            self.name = name

        def notify_all(self) -> None:
            woken.append(self.name)
            super().notify_all()

    for kind in ("", "a.v1", "b.v1"):
        hub.ledger._commit_conditions["", kind] = Watched(kind)
    say(hub, clock, "1", kind="b.v1")
    assert sorted(woken) == ["", "b.v1"]


def test_a_position_is_noted_once_in_the_given_time_and_at_the_end(
    hub: Services, clock: FakeClock
) -> None:
    def noted() -> int:
        return int(hub.records.documents.get("cursor", "test").body["position"])

    made = Follower(
        "test", records=hub.records, ledger=hub.ledger, handle=Taker(), type="b.v1", note_s=1.0
    )
    for name in ("1", "2"):
        say(hub, clock, name, kind="b.v1")
        made.step()
    first, second = made.position - 1, made.position
    assert noted() == first
    clock.advance(1.0)
    made.step()  # nothing came, and the second is over
    assert noted() == second
    say(hub, clock, "3", kind="b.v1")
    made.step()
    assert noted() == second
    made.start()
    made.stop()
    assert noted() == made.position == second + 1


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
        assert taker.came.wait(LONG_S)
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
    order: list[str] = []

    def look(_state: LineState) -> Sequence[Event]:
        order.append("other")
        return ()

    def note(_logged: list[Logged]) -> None:
        order.append("mine")

    for turn in range(5):
        other = threading.Thread(target=hub.ledger.decide, args=(look,))
        events = [_own(clock, f"{turn}-{number}") for number in range(3)]
        with hub.ledger._lock:
            other.start()
            wait_until(hub.ledger._lock._first.locked)  # it waits for its turn
            hub.ledger.record(events[:1], within=note)
        for event in events[1:]:
            hub.ledger.record([event], within=note)
        other.join()
    assert order == ["mine", "other", "mine", "mine"] * 5
    assert hub.ledger.decide(lambda _state: [_own(clock, "last")]) is not None


def _own(clock: FakeClock, name: str) -> Event:
    return Event(
        id=f"evt_own {name}",
        source=SOURCE,
        type="a.v1",
        subject="a",
        time=clock.now(),
        data={"topic": "a"},
    )


# ---- records that cannot be written


class Picky:
    """A handler that fails at some entries; ``written`` holds what it took."""

    def __init__(self, *bad: str, error: Exception | None = None) -> None:
        self.bad = {f"evt_{name}" for name in bad}
        self.error = error or InvalidError("a key begins with $", where="mqtt")
        self.written: list[str] = []

    def __call__(self, entries: Sequence[Logged]) -> None:
        if self.bad & {logged.entry.id for logged in entries}:
            raise self.error
        self.written += [logged.entry.id for logged in entries]


def picky(hub: Services, handle: Picky, **more: Any) -> Follower:  # noqa: ANN401  of the constructor
    return Follower("sink", records=hub.records, ledger=hub.ledger, handle=handle, **more)


def five(hub: Services, clock: FakeClock) -> None:
    for name in "12345":
        say(hub, clock, name, kind="a.v1")


@pytest.mark.parametrize(
    "error", [InvalidError("a key begins with $", where="mqtt"), OverflowError("8-byte ints")]
)
def test_one_bad_record_is_set_aside_and_the_rest_goes_on(
    hub: Services, clock: FakeClock, error: Exception
) -> None:
    five(hub, clock)
    handle = Picky("3", error=error)
    made = picky(hub, handle)
    assert made.step() == 5
    assert handle.written == ["evt_1", "evt_2", "evt_4", "evt_5"]
    assert made.behind == 0
    (record,) = made.quarantine.page()
    assert (record.follower, record.event, record.position) == ("sink", "evt_3", 3)
    assert str(error.args[0]) in record.reason
    assert made.view().quarantined == 1
    assert made.step() == 0


def test_the_other_side_being_away_blames_no_record(hub: Services, clock: FakeClock) -> None:
    five(hub, clock)
    handle = Picky("3", error=UnavailableError("away"))
    made = picky(hub, handle)
    for _ in range(30):
        with pytest.raises(UnavailableError):
            made.step()
    assert (made.position, len(made.quarantine)) == (0, 0)
    handle.bad = set()
    made.step()
    assert handle.written == [f"evt_{name}" for name in "12345"]


@pytest.mark.parametrize("error", [ConflictError("it was moved"), OSError("disk full")])
def test_what_may_pass_by_itself_is_blamed_on_the_record_after_some_tries(
    hub: Services, clock: FakeClock, error: Exception
) -> None:
    say(hub, clock, "1", kind="a.v1")
    made = picky(hub, Picky("1", error=error))
    for _ in range(DOUBTFUL_TRIES - 1):
        with pytest.raises(type(error)):
            made.step()
    assert made.step() == 1
    assert len(made.quarantine) == 1


def test_a_handler_that_took_the_others_names_what_it_did_not(
    hub: Services, clock: FakeClock
) -> None:
    five(hub, clock)
    pages: list[int] = []

    def handle(entries: Sequence[Logged]) -> list[Rejection]:
        pages.append(len(entries))
        return [Rejection(one, "too large") for one in entries if one.entry.id == "evt_2"]

    made = Follower(
        "sink",
        records=hub.records,
        ledger=hub.ledger,
        handle=handle,
    )
    made.step()
    assert (pages, made.position) == ([5], 5)
    assert [record.reason for record in made.quarantine.page()] == ["too large"]


def test_another_try_writes_the_record_or_keeps_it_with_the_new_reason(
    hub: Services, clock: FakeClock
) -> None:
    five(hub, clock)
    handle = Picky("2", "4")
    made = picky(hub, handle)
    followers = Followers(hub.records, ledger=hub.ledger, site="hall")
    followers._all["sink"] = made
    made.step()
    handle.bad = {"evt_4"}
    handle.error = InvalidError("still too large")
    followers.retry("sink", by="anna")
    made.step()
    assert handle.written[:4] == ["evt_1", "evt_3", "evt_5", "evt_2"]
    (record,) = followers.quarantined("sink")
    assert (record.event, record.tries, record.reason) == ("evt_4", 2, "still too large")
    assert made.quarantine.retry_requests() == []
    followers.discard("sink", position=record.position, by="anna")
    assert followers.quarantined("sink") == []
    assert made.view().quarantined == 0
    said = [view.event["data"] for view in hub.events.page(kind="lineside.follower.v1")]
    assert [(each["action"], each["by"]) for each in said] == [
        ("retried", "anna"), ("discarded", "anna"),
    ]  # fmt: skip
    with pytest.raises(NotFoundError):
        followers.retry("sink", position=record.position, by="anna")
    with pytest.raises(NotFoundError, match="Known: sink"):
        followers.one("other")


def test_a_try_waits_while_the_other_side_is_away(hub: Services, clock: FakeClock) -> None:
    say(hub, clock, "1", kind="a.v1")
    handle = Picky("1")
    made = picky(hub, handle)
    made.step()
    made.quarantine.request_retry()
    handle.error = UnavailableError("away")
    with pytest.raises(UnavailableError):
        made.step()
    handle.bad = set()
    made.step()
    assert (handle.written, len(made.quarantine)) == (["evt_1"], 0)


def test_a_fold_skips_its_bad_entry_and_goes_back_for_nothing(
    hub: Services, clock: FakeClock
) -> None:
    five(hub, clock)
    made = picky(hub, Picky("3"), skip=skip_entry)
    made.step()
    followers = Followers(hub.records, ledger=hub.ledger, site="hall")
    followers._all["sink"] = made
    assert not made.view().retryable
    with pytest.raises(ConflictError, match="in its order"):
        followers.retry("sink", by="anna")
    followers.discard("sink", by="anna")
    assert made.view().quarantined == 0


def test_with_a_full_quarantine_a_follower_waits_and_drops_nothing(
    hub: Services, clock: FakeClock
) -> None:
    five(hub, clock)
    quarantine = Quarantine(hub.records.documents, follower="sink", most=1)
    made = picky(hub, Picky("1", "2", "3", "4", "5"), page=1, quarantine=quarantine)
    made.step()
    with pytest.raises(UnavailableError, match="quarantine is full"):
        made.step()
    quarantine.discard()
    made.step()
    assert [record.event for record in quarantine.page()] == ["evt_2"]


def test_a_quarantine_is_there_after_a_restart_and_apart_from_others(
    hub: Services, clock: FakeClock
) -> None:
    five(hub, clock)
    picky(hub, Picky("3")).step()
    assert len(picky(hub, Picky()).quarantine) == 1
    other = Quarantine(hub.records.documents, follower="sin")
    other.refresh()
    assert (len(other), other.page()) == (0, [])


class Leased(PartLease):
    """A lease that a test gives and takes away."""

    def __init__(self, hub: Services) -> None:
        super().__init__("sink", leases=hub.leases)
        self.ours = False
        self.asked = threading.Event()
        self.released = threading.Event()

    def hold(self) -> bool:
        self.asked.set()
        return self.ours

    @contextmanager
    def writing(self) -> Iterator[None]:
        assert self.ours
        yield

    def release(self) -> None:
        self.released.set()


def test_a_follower_works_only_while_it_holds_its_lease(hub: Services, clock: FakeClock) -> None:
    five(hub, clock)
    lease, taker = Leased(hub), Taker()
    made = Follower("sink", records=hub.records, ledger=hub.ledger, handle=taker, lease=lease)
    made.start()
    try:
        assert lease.asked.wait(LONG_S)
        assert made.view().state is FollowerState.STANDBY
        assert taker.taken == []
        hub.records.documents.put("cursor", "sink", body={"position": 2})  # by the other hub
        lease.ours = True
        assert taker.came.wait(LONG_S)
        assert taker.taken == ["evt_3", "evt_4", "evt_5"]
    finally:
        made.stop()
    assert lease.released.is_set()
    assert made.view().state is FollowerState.STOPPED


def test_a_follower_that_ends_on_standby_gives_its_lease_up(hub: Services) -> None:
    lease = Leased(hub)
    made = Follower("sink", records=hub.records, ledger=hub.ledger, handle=Taker(), lease=lease)
    made.start()
    assert lease.asked.wait(LONG_S)
    made.stop()
    assert lease.released.is_set()


def test_the_view_says_for_what_and_since_when_it_waits(hub: Services, clock: FakeClock) -> None:
    say(hub, clock, "1", kind="a.v1")
    clock.advance(40)
    tried = threading.Event()

    def handle(_entries: Sequence[Logged]) -> None:
        tried.set()
        raise UnavailableError("the database is away", where="mongodb://x")

    made = Follower(
        "sink",
        records=hub.records,
        ledger=hub.ledger,
        handle=handle,
    )
    made.start()
    try:
        assert tried.wait(LONG_S)
        while made.view().state is not FollowerState.WAITING:
            tried.wait(0.01)
        view = made.view()
        assert (view.since, view.lag, view.lag_s) == (clock.now(), 1, 40.0)
        assert view.reason == "mongodb://x: the database is away"
    finally:
        made.stop()


class Pair:
    """The same follower in two hubs, with leases that really end."""

    def __init__(self, hub: Services, clock: FakeClock) -> None:
        self._clock = clock
        self.leases = [
            HubLeases(hub.records, hub=name, clock=clock, alone=False) for name in ("a", "b")
        ]
        self.takers = [Taker(), Taker()]
        self.made = [
            Follower(
                "sink", records=hub.records, ledger=hub.ledger, handle=taker,
                page=2,
            )
            for taker in self.takers
        ]  # fmt: skip
        for made, leases in zip(self.made, self.leases, strict=True):
            made.share(leases.lease("sink"))

    def turn(self, *, still: int | None = None) -> None:
        """A second of both hubs; one may stand still."""
        self._clock.advance(1)
        for place, (made, leases) in enumerate(zip(self.made, self.leases, strict=True)):
            if place != still:
                leases.step()
                with suppress(ConflictError):  # another hub went on meanwhile
                    made.turn()


def test_another_hub_goes_on_where_the_first_one_stood_still(
    hub: Services, clock: FakeClock
) -> None:
    five(hub, clock)
    pair = Pair(hub, clock)
    pair.turn()
    assert pair.takers[0].taken == ["evt_1", "evt_2"]
    for _ in range(10):
        pair.turn(still=0)
    assert pair.takers[1].taken == ["evt_3", "evt_4", "evt_5"]
    # What the first hub had in hand when it stood still moves no position of the second one.
    with pytest.raises(ConflictError):
        pair.made[0].step()
    assert hub.records.documents.get("cursor", "sink").body == {"position": 5}
    for _ in range(10):
        pair.turn()
    assert pair.takers[0].taken == ["evt_1", "evt_2", "evt_3", "evt_4"]
    assert pair.made[0].position == 5


def test_a_follower_that_was_asked_back_stands_before_another_begins(
    hub: Services, clock: FakeClock
) -> None:
    pair = Pair(hub, clock)
    pair.turn()
    (lease,) = [leases.lease("sink") for leases in pair.leases[:1]]
    assert lease.is_held
    lease.ask_back()
    five(hub, clock)
    for _ in range(8):
        pair.turn()
    assert sorted(pair.takers[0].taken + pair.takers[1].taken) == [f"evt_{n}" for n in range(1, 6)]
