"""JSON Patch between states, checked by a library of others."""

from dataclasses import replace
from typing import Any

import jsonpatch
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import Json, to_plain
from lineside.core.factory import SLOTS
from lineside.streams import Event
from lineside.testing.events import after, factory_event, picture_event, plant_event, small_plant
from lineside.twin import LineState, apply, initial, order_event, patch, place
from lineside.twin.documents import difference

PLANT = small_plant()
KEYS = st.text(alphabet="ab/~é", max_size=3)
LEAVES = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from([0.5, 1.0, "", "a"])
PLAIN = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


def told_apart(value: Json) -> object:
    """A document in which true is not 1, as JSON has it and Python has not."""
    if isinstance(value, dict):
        return {key: told_apart(item) for key, item in value.items()}
    if isinstance(value, list):
        return [told_apart(item) for item in value]
    return str(value) if isinstance(value, bool) else ("", value)


@settings(max_examples=300, deadline=None)
@given(before=PLAIN, after_=PLAIN)
def test_a_difference_turns_any_document_into_any_other(before: Json, after_: Json) -> None:
    operations = list(difference(before, after_))
    assert told_apart(jsonpatch.apply_patch(before, operations)) == told_apart(after_)
    assert (operations == []) is (told_apart(before) == told_apart(after_))


@settings(max_examples=100, deadline=None)
@given(
    before=st.lists(st.builds(lambda n, v: {"id": n, "v": v}, st.integers(0, 4), st.integers(0, 2)),
    max_size=6),
    after_=st.lists(st.builds(lambda n, v: {"id": n, "v": v}, st.integers(0, 4), st.integers(0, 2)),
    max_size=6),
)  # fmt: skip
def test_lists_of_named_things_are_patched_right(
    before: list[dict[str, Any]], after_: list[dict[str, Any]]
) -> None:
    operations = list(difference(before, after_))
    assert jsonpatch.apply_patch(before, operations) == after_


def journey() -> list[Event]:
    shown = {**dict.fromkeys(SLOTS, "empty"), "A2": "red"}
    return [
        picture_event(shown, at_s=1),
        plant_event("sensor", at_s=1, t=21.0),
        order_event("ord_1", "placed", at=after(2), site="hall", colour="red", slot="A2"),
        order_event("ord_1", "sending", at=after(2), site="hall"),
        factory_event("ORDERED", "red", at_s=3),
        picture_event({**shown, "A2": "empty"}, at_s=4),
        factory_event("SHIPPED", "red", at_s=5),
        order_event("ord_2", "placed", at=after(6), site="hall", colour="red", slot="A2"),
        *(plant_event("alert", at_s=7 + n, id=f"s{n}", code=200, data=n) for n in range(25)),
        *(picture_event(shown, at_s=40 + n) for n in range(70)),
    ]


def test_a_browser_that_follows_patches_holds_the_state() -> None:
    state = initial(PLANT)
    held = to_plain(state)
    for event in journey():
        after_ = apply(state, event, plant=PLANT).state
        held = jsonpatch.apply_patch(held, patch(state, after_))
        assert held == to_plain(after_)
        state = after_


def test_an_unchanged_state_needs_no_patch() -> None:
    state = initial(PLANT)
    assert patch(state, state) == []
    assert patch(state, replace(state)) == []


def test_a_new_order_is_put_in_front_and_the_others_are_not_sent_again() -> None:
    state = with_orders(3)
    event = place(state, colour="blue", by="a", now=after(3), order_id="ord_x", plant=PLANT)
    operations = patch(state, apply(state, event, plant=PLANT).state)
    orders = [op for op in operations if op["path"].startswith("/orders")]
    assert [(op["op"], op["path"]) for op in orders] == [("add", "/orders/0")]


def with_orders(count: int) -> LineState:
    state = apply(
        initial(PLANT), picture_event(dict.fromkeys(SLOTS, "blue"), at_s=1), plant=PLANT
    ).state
    for number in range(count):
        event = place(
            state, colour="blue", by="a", now=after(2), order_id=f"ord_{number}", plant=PLANT
        )
        state = apply(state, event, plant=PLANT).state
    return state
