"""The fold stays cheap: processor time of this thread, so that a busy machine does not matter."""

import sys
import time
from collections.abc import Callable

import pytest

from lineside.core.factory import SLOTS
from lineside.testing.events import after, picture_event, small_plant
from lineside.twin import LineState, apply, initial, order_event, patch, replay

PLANT = small_plant()
ROUNDS = 300


def full_state() -> LineState:
    """Nine places, a hundred closed orders, three open ones."""
    state = replay([picture_event(dict.fromkeys(SLOTS, "red"), at_s=1)], plant=PLANT)
    for number in range(103):
        name = f"ord_{number}"
        slot = SLOTS[number % 9]
        events = [
            order_event(name, "placed", at=after(2), site="hall", colour="red", slot=slot),
            order_event(name, "released", at=after(3), site="hall", reason="done"),
        ]
        state = replay(events[: 1 if number > 99 else 2], plant=PLANT, state=state)
    return state


def p99_ms(action: Callable[[int], object]) -> float:
    spent = []
    for number in range(ROUNDS):
        began = time.thread_time()
        action(number)
        spent.append(time.thread_time() - began)
    return sorted(spent)[int(ROUNDS * 0.99)] * 1000


pytestmark = pytest.mark.skipif(
    sys.gettrace() is not None, reason="a tracer (coverage) is part of what would be measured"
)


@pytest.fixture(scope="module")
def busy() -> LineState:
    return full_state()


def test_a_prediction_of_nine_regions_folds_in_under_a_millisecond(busy: LineState) -> None:
    names = ("red", "blue", "empty")
    events = [
        picture_event({slot: names[(number + place) % 3] for place, slot in enumerate(SLOTS)},
                      at_s=10 + number)
        for number in range(ROUNDS)
    ]  # fmt: skip
    states = [busy]

    def fold(number: int) -> None:
        states.append(apply(states[-1], events[number], plant=PLANT).state)

    def whole() -> float:
        states[:] = [busy]
        return p99_ms(fold)

    # What else the machine does only adds to a round, through caches and clock rates.
    assert min(whole() for _ in range(3)) < 1.0
    assert states[-1].revision == busy.revision + ROUNDS


def test_a_patch_of_a_full_state_takes_under_two_milliseconds(busy: LineState) -> None:
    event = picture_event(dict.fromkeys(SLOTS, "blue"), at_s=10)
    moved = apply(busy, event, plant=PLANT).state
    released = order_event("ord_102", "released", at=after(20), site="hall", reason="x")
    closed = apply(moved, released, plant=PLANT).state
    assert min(p99_ms(lambda _: patch(busy, moved)) for _ in range(3)) < 2.0
    assert min(p99_ms(lambda _: patch(moved, closed)) for _ in range(3)) < 2.0
    assert initial(PLANT).revision == 0
