"""When a frame is inspected, and which message it answers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Camera as CameraRecord
from lineside.core import Inspection, InvalidError, digest_of
from lineside.core.drivers import SecretUrl
from lineside.core.plant import Task, Trigger
from lineside.edge.messages import Counters, read_expected
from lineside.edge.worker import (
    CameraWorker,
    TriggerState,
    arm,
    disarmed,
    inspected,
    rearmed,
    wants,
)
from lineside.links import Shot
from lineside.links.shots import ShotCamera
from lineside.testing import FakeClock
from lineside.testing.links import wait_until
from lineside.vision import CountAnswer, Frame, Prediction
from tests.edge.conftest import GOOD, QuickJudge, picture

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def test_on_frame_wants_every_frame() -> None:
    assert wants(Trigger(), TriggerState(last_at=AT), captured_at=AT, part="")


def test_on_interval_waits_by_the_cameras_time() -> None:
    trigger = Trigger(on="interval", interval_s=2.0)
    seen = TriggerState()
    taken = []
    for tenth in range(0, 100, 5):
        if wants(trigger, seen, captured_at=at(tenth / 10), part=""):
            taken.append(tenth / 10)
            seen = inspected(seen, captured_at=at(tenth / 10))
    assert taken == [0.0, 2.0, 4.0, 6.0, 8.0]


def test_on_interval_an_older_frame_is_neither_wanted_nor_moves_the_interval_back() -> None:
    trigger = Trigger(on="interval", interval_s=2.0)
    seen = inspected(TriggerState(), captured_at=at(10))
    assert not wants(trigger, seen, captured_at=at(3), part="")
    assert inspected(seen, captured_at=at(3)).last_at == at(10)


def test_on_topic_wants_one_frame_for_each_message() -> None:
    trigger = Trigger(on="topic", topic="gate/open")
    assert not wants(trigger, TriggerState(), captured_at=AT, part="")
    armed = arm(arm(TriggerState()))
    assert wants(trigger, armed, captured_at=AT, part="")
    assert not wants(trigger, disarmed(armed), captured_at=at(1), part="")
    assert inspected(armed, captured_at=AT).armed


def test_a_message_expects_its_number_of_one_frame() -> None:
    armed = arm(arm(TriggerState(), expected=3), expected=12)
    assert armed.expected == 12
    assert disarmed(armed).expected is None
    assert rearmed(disarmed(armed), before=armed) == armed
    again = arm(disarmed(armed), expected=8)
    assert rearmed(again, before=armed) == again
    assert read_expected(b'{"pieces": 12, "ts": 1}', field="pieces", where="t") == 12
    for body in (b"{}", b"[12]", b'{"pieces": "12"}', b'{"pieces": -1}', b'{"pieces": true}', b"x"):
        with pytest.raises(InvalidError):
            read_expected(body, field="pieces", where="t")


def test_on_part_wants_frames_that_name_a_part() -> None:
    trigger = Trigger(on="part")
    assert not wants(trigger, TriggerState(), captured_at=AT, part="")
    assert wants(trigger, TriggerState(), captured_at=AT, part="p-1")


@given(st.lists(st.floats(-1000, 1000), max_size=50), st.floats(0.1, 100))
def test_two_inspections_are_never_nearer_than_the_interval(
    times: list[float], interval_s: float
) -> None:
    trigger = Trigger(on="interval", interval_s=interval_s)
    seen, taken = TriggerState(), []
    for seconds in times:
        if wants(trigger, seen, captured_at=at(seconds), part=""):
            taken.append(at(seconds))
            seen = inspected(seen, captured_at=at(seconds))
    gaps = [b - a for a, b in pairwise(taken)]
    assert all(gap >= timedelta(seconds=interval_s) for gap in gaps)


# ---- messages that arrive while a frame is inspected


def nothing(*_: object) -> None:
    """Nobody listens."""


class Pictures(ShotCamera):
    """A camera that gives these shots and ends."""

    def __init__(self, shots: Sequence[Shot]) -> None:
        super().__init__(refused=nothing)
        self._shots = shots

    def shots(self) -> Iterator[Shot]:
        yield from self._shots

    def close(self) -> None:
        """There is nothing to free."""


class CountJudge(QuickJudge):
    """Counts 12 objects; ``meanwhile`` happens while it is at a frame."""

    meanwhile: Callable[[int], None]

    def predict(self, frame: Frame, *, device: str = "", decode_ms: float = 0.0) -> Prediction:
        self.meanwhile(len(self.seen))
        said = super().predict(frame, device=device, decode_ms=decode_ms)
        return replace(said, labels=(), count=CountAnswer(value=12, low=12, high=12))


def expected_of(
    clock: FakeClock, *, first: int, then: dict[int, int], failing: Sequence[int] = ()
) -> list[int | None]:
    """Look at three frames; the numbers that their predictions expect.

    ``then``: what a message expects that arrives during the frame of that place.
    """
    inspection = Inspection(
        id="stock", camera="rack", task=Task.COUNT, trigger=Trigger(on="topic", topic="gate/open")
    )
    said: list[int | None] = []
    judge = CountJudge(package=digest_of(GOOD), clock=clock)

    def decided(frame: Frame, prediction: Prediction, image: bytes | None) -> bool:
        assert (frame.ref, image) == (prediction.frame, None)
        assert prediction.count is not None
        said.append(prediction.count.expected)
        return True

    shots = [
        Shot(camera="rack", captured_at=clock.now() + timedelta(seconds=n), encoded=picture(n))
        for n in range(3)
    ]
    clock.advance(len(shots))
    worker = CameraWorker(
        CameraRecord(id="rack", line="warehouse", source=SecretUrl("mqtt:i/cam")),
        inspections=(inspection,),
        device="edge-1", open_camera=lambda *_: Pictures(shots),
        find_judge=lambda _: judge, decided=decided, failed=nothing, forward=lambda _: True,
        shown=nothing, counters=Counters(), clock=clock,
    )  # fmt: skip

    def meanwhile(place: int) -> None:
        if place in then:
            worker.arm("stock", expected=then[place])
        judge.failing = place in failing

    judge.meanwhile = meanwhile
    worker.arm("stock", expected=first)
    worker.start()
    wait_until(lambda: worker.pulse().done)
    worker.close()
    return said


def test_a_message_during_a_frame_is_of_the_next_one(clock: FakeClock) -> None:
    assert expected_of(clock, first=12, then={}) == [12]
    assert expected_of(clock, first=12, then={0: 8}) == [12, 8]
    assert expected_of(clock, first=12, then={0: 8, 1: 3}) == [12, 8, 3]


def test_a_frame_that_fails_leaves_its_message_unless_another_one_came(clock: FakeClock) -> None:
    assert expected_of(clock, first=12, then={}, failing=[0]) == [12]
    assert expected_of(clock, first=12, then={0: 8}, failing=[0]) == [8]


def test_a_frame_that_cannot_be_read_gets_no_answer_from_those_that_wait(clock: FakeClock) -> None:
    failed: list[str] = []
    counters = Counters()
    shots = [Shot(camera="rack", captured_at=clock.now(), encoded=b"no picture")]
    worker = CameraWorker(
        CameraRecord(id="rack", line="warehouse", source=SecretUrl("mqtt:i/cam")),
        inspections=(Inspection(id="stock", camera="rack", task=Task.COUNT),),
        device="edge-1", open_camera=lambda *_: Pictures(shots), find_judge=nothing,
        decided=lambda *_: True, failed=lambda name, _: failed.append(name),
        forward=lambda _: True, shown=nothing, counters=counters, clock=clock,
    )  # fmt: skip
    worker.start()
    wait_until(lambda: worker.pulse().done)
    worker.close()
    assert failed == ["stock"]
    (told,) = counters.read().faults
    assert told.startswith("images of camera rack: neither JPEG nor PNG")
