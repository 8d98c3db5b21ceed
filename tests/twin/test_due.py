"""What time alone brings: release, discrepancies, the next order to send."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core.factory import SLOTS
from lineside.streams import Event
from lineside.testing.events import (
    after,
    factory_event,
    picture_event,
    small_plant,
    stock_event,
)
from lineside.twin import LineState, apply, due, initial, next_to_send, order_event, place, replay
from lineside.twin.state import Outcome

PLANT = small_plant()
EMPTY = dict.fromkeys(SLOTS, "empty")
REDS = {**EMPTY, "A1": "red", "A2": "red", "A3": "red"}


def told(state: LineState, *events: Event) -> LineState:
    return replay(events, plant=PLANT, state=state)


def placed(*orders: str, at_s: float = 1) -> LineState:
    state = replay([picture_event(REDS, at_s=at_s)], plant=PLANT)
    for order in orders:
        event = place(state, colour="red", by="a", now=after(at_s), order_id=order, plant=PLANT)
        state = told(state, event)
    return state


def sending(order: str, *, at_s: float) -> Event:
    return order_event(order, "sending", at=after(at_s), site="hall")


def due_at(state: LineState, at_s: float) -> tuple[Event, ...]:
    return due(state, now=after(at_s), plant=PLANT)


def next_at(state: LineState, at_s: float) -> str:
    order = next_to_send(state, now=after(at_s), plant=PLANT)
    return order.id if order else ""


def test_nothing_is_due_where_nothing_waits() -> None:
    assert due_at(initial(PLANT), 1e6) == ()
    assert due(initial(PLANT), now=after(0), plant=replace(PLANT, twin=None)) == ()


def test_an_order_never_answered_is_released_after_the_time_out() -> None:
    state = told(placed("ord_1"), sending("ord_1", at_s=2))
    assert due_at(state, 301.999) == ()
    (event,) = due_at(state, 302)
    assert event.data["action"] == "released"
    assert event.data["reason"] == "The factory did not answer ORDERED within 300 s of sending."
    released = told(state, event)
    assert released.orders[0].status == "RELEASED"
    assert released.slots["A1"].reserved_by == ""
    assert due_at(released, 400) == ()


def test_an_order_begun_but_never_shipped_is_released_after_the_time_out() -> None:
    state = told(placed("ord_1"), sending("ord_1", at_s=2), factory_event("ORDERED", "red", at_s=9))
    assert due_at(state, 308) == ()
    (event,) = due_at(state, 309)
    expected = "The factory said ORDERED, but not SHIPPED within 300 s of it."
    assert event.data["reason"] == expected


def test_an_order_that_could_not_be_sent_is_released_and_never_sent_afterwards() -> None:
    state = told(placed("ord_1"), factory_event("IN_PROCESS", "blue", at_s=1))
    assert next_at(state, 2) == ""
    (event,) = due_at(state, 301)
    assert (
        "could not be sent within 300 s; the factory last said IN_PROCESS" in event.data["reason"]
    )
    assert next_at(state, 301) == ""


def test_asked_again_the_answer_is_the_same_event() -> None:
    state = told(placed("ord_1"), sending("ord_1", at_s=2))
    assert due_at(state, 302)[0].id == due_at(state, 305)[0].id


def test_orders_go_to_the_factory_one_at_a_time_oldest_first() -> None:
    state = placed("ord_1", "ord_2")
    assert next_at(state, 2) == "ord_1"
    state = told(state, sending("ord_1", at_s=2))
    assert next_at(state, 3) == ""
    shipped = (factory_event(s, "red", at_s=n) for n, s in enumerate(("ORDERED", "SHIPPED"), 4))
    state = told(state, *shipped)
    assert next_at(state, 6) == ""
    state = told(state, factory_event("WAITING_FOR_ORDER", at_s=7))
    assert next_at(state, 8) == "ord_2"


def test_after_a_crash_between_sending_and_sent_the_order_is_not_sent_again() -> None:
    events = [
        picture_event(REDS, at_s=1),
        order_event("ord_1", "placed", at=after(1), site="hall", colour="red", slot="A1"),
        sending("ord_1", at_s=2),
    ]
    restarted = replay(events, plant=PLANT)
    assert next_at(restarted, 3) == ""
    assert told(restarted, factory_event("ORDERED", "red", at_s=4)).orders[0].status == "ORDERED"
    assert [event.data["action"] for event in due_at(restarted, 302)] == ["released"]


def test_after_a_crash_before_sending_the_order_is_sent() -> None:
    event = order_event("ord_1", "placed", at=after(1), site="hall", colour="red", slot="A1")
    assert next_at(replay([picture_event(REDS, at_s=1), event], plant=PLANT), 3) == "ord_1"


def test_who_waits_behind_another_gets_the_full_time_from_its_end() -> None:
    state = told(placed("ord_1", "ord_2"), sending("ord_1", at_s=2))
    assert [event.subject for event in due_at(state, 302)] == ["ord_1"]
    state = told(state, *due_at(state, 302))
    assert due_at(state, 303) == ()
    assert next_at(state, 303) == "ord_2"
    assert [event.subject for event in due_at(state, 602)] == ["ord_2"]


def test_a_factory_silent_for_half_the_time_out_is_asked_again() -> None:
    state = told(placed("ord_1"), factory_event("SHIPPED", "blue", at_s=1))
    assert next_at(state, 150) == ""
    assert next_at(state, 151) == "ord_1"


def test_without_a_twin_nothing_is_sent() -> None:
    plant = replace(PLANT, twin=None)
    assert next_to_send(placed("ord_1"), now=after(2), plant=plant) is None


def test_a_difference_that_lasts_is_an_event_and_its_end_another() -> None:
    state = told(
        initial(PLANT), picture_event({**EMPTY, "A2": "red"}, at_s=1),
        stock_event({"A2": "blue"}, at_s=2),
    )  # fmt: skip
    assert state.slots["A2"].differs_since == after(2)
    assert due_at(state, 4.999) == ()
    (begun,) = due_at(state, 5)
    assert (begun.type, begun.subject) == ("lineside.event.v1", "discrepancy")
    assert begun.data["action"] == "begun"
    assert begun.data["sentence"] == "A2: the picture shows red, the factory reports blue"
    assert begun.data["frame"] == state.slots["A2"].evidence.frame
    state = told(state, begun, begun)
    assert [(item.slot, item.seen, item.reported) for item in state.discrepancies] == [
        ("A2", "red", "blue")
    ]
    assert state.discrepancies[0].event == begun.id
    assert due_at(state, 60) == ()
    state = told(state, stock_event({"A2": "red"}, at_s=8))
    (ended,) = due_at(state, 8)
    assert ended.data["action"] == "ended"
    state = told(state, ended)
    assert state.discrepancies == ()
    assert told(state, begun, ended) == state


def test_a_difference_that_passes_is_not_said() -> None:
    state = told(
        initial(PLANT), picture_event({**EMPTY, "A2": "red"}, at_s=1),
        stock_event({"A2": ""}, at_s=2), picture_event(EMPTY, at_s=4),
    )  # fmt: skip
    assert due_at(state, 60) == ()


def test_an_unsure_or_missing_picture_neither_begins_nor_ends_a_discrepancy() -> None:
    differing = [picture_event({**EMPTY, "A2": "red"}, at_s=1), stock_event({"A2": ""}, at_s=2)]
    unsure = picture_event({**EMPTY, "A2": "?"}, at_s=3)
    assert due_at(told(initial(PLANT), *differing, unsure), 60) == ()
    state = told(initial(PLANT), *differing)
    state = told(state, *due_at(state, 10), unsure)
    assert len(state.discrepancies) == 1
    assert due_at(state, 60) == ()


def test_a_difference_that_ends_and_begins_again_is_told_as_two() -> None:
    state = told(
        initial(PLANT), picture_event({**EMPTY, "A2": "red"}, at_s=1),
        stock_event({"A2": ""}, at_s=2),
    )  # fmt: skip
    state = told(state, *due_at(state, 10))
    state = told(state, stock_event({"A2": "red"}, at_s=11), stock_event({"A2": ""}, at_s=12))
    events = due_at(state, 20)
    assert [event.data["action"] for event in events] == ["ended", "begun"]
    for either in (events, events[::-1]):
        after_both = told(state, *either)
        assert [item.since for item in after_both.discrepancies] == [after(12)]


def test_without_a_report_there_is_nothing_to_differ_from() -> None:
    state = told(initial(PLANT), picture_event(REDS, at_s=1))
    assert due_at(state, 1e5) == ()


SHOWN = st.lists(
    st.tuples(st.booleans(), st.sampled_from(["", "red", "blue", "?"]), st.integers(0, 4)),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(SHOWN)
def test_every_discrepancy_that_began_ends_before_it_begins_again(
    witness: list[tuple[bool, str, int]],
) -> None:
    state, at_s = initial(PLANT), 0.0
    said: list[str] = []
    for is_picture, colour, step in witness:
        at_s += step
        if is_picture:
            state = told(state, picture_event({"A1": colour or "empty"}, at_s=at_s))
        elif colour != "?":
            state = told(state, stock_event({"A1": colour}, at_s=at_s))
        events = due_at(state, at_s)
        said += [event.data["action"] for event in events]
        state = told(state, *events)
        assert due_at(state, at_s) == ()
        assert said.count("begun") - said.count("ended") == len(state.discrepancies)


def test_a_discrepancy_event_that_the_state_no_longer_bears_out_is_ignored() -> None:
    state = told(
        initial(PLANT), picture_event({**EMPTY, "A2": "red"}, at_s=1),
        stock_event({"A2": ""}, at_s=2),
    )  # fmt: skip
    (begun,) = due_at(state, 10)
    agreed = told(state, stock_event({"A2": "red"}, at_s=11))
    elsewhere = replace(begun, id="evt_else", data={**begun.data, "slot": "Z9"})
    for event in (begun, elsewhere):
        applied = apply(agreed, event, plant=PLANT)
        assert applied.outcome is Outcome.IGNORED
        assert applied.state is agreed
