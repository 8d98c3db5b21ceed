"""When a frame is inspected."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError
from lineside.core.plant import Trigger
from lineside.edge.messages import read_expected
from lineside.edge.worker import TriggerState, arm, inspected, wants

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
    assert not wants(trigger, inspected(armed, captured_at=AT), captured_at=at(1), part="")


def test_a_message_expects_its_number_of_one_frame() -> None:
    armed = arm(arm(TriggerState(), expected=3), expected=12)
    assert armed.expected == 12
    assert inspected(armed, captured_at=AT).expected is None
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
