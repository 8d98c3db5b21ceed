"""Placing an order, and its life from there to SHIPPED or release."""

from dataclasses import replace

import pytest

from lineside.core import ConflictError, InvalidError
from lineside.core.factory import SLOTS
from lineside.streams import Event
from lineside.testing.events import (
    after,
    factory_event,
    picture_event,
    small_plant,
    stock_event,
)
from lineside.twin import (
    LineState,
    OrderStatus,
    Presence,
    apply,
    initial,
    order_event,
    place,
    read_order,
    replay,
)
from lineside.twin.orders import Refusal
from lineside.twin.state import Outcome
from lineside.vision import PictureState

PLANT = small_plant()
EMPTY = dict.fromkeys(SLOTS, "empty")
ONE_RED = {**EMPTY, "A2": "red"}


def seen(shown: dict[str, str], *, at_s: float = 10) -> LineState:
    return replay([picture_event(shown, at_s=at_s)], plant=PLANT)


def ordered(
    state: LineState, colour: str, *, at_s: float = 11, order: str = "ord_1"
) -> tuple[LineState, Event]:
    event = place(state, colour=colour, by="m.keller", now=after(at_s), order_id=order, plant=PLANT)
    return apply(state, event, plant=PLANT).state, event


def sent(state: LineState, order: str = "ord_1", *, at_s: float = 12) -> LineState:
    events = [
        order_event(order, "sending", at=after(at_s), site="hall"),
        order_event(order, "sent", at=after(at_s), site="hall"),
    ]
    return replay(events, plant=PLANT, state=state)


def told(state: LineState, *events: Event) -> LineState:
    return replay(events, plant=PLANT, state=state)


def status(state: LineState, order: str = "ord_1") -> str:
    found = state.order(order)
    assert found is not None
    return found.status.value


def test_an_order_reserves_one_named_place() -> None:
    state, event = ordered(seen(ONE_RED), "red")
    assert read_order(event).action == "placed"
    assert read_order(event).slot == "A2"
    assert event.subject == "ord_1"
    assert event.source == "/hall/hub"
    assert event.data["frame"] == state.slots["A2"].evidence.frame
    assert state.slots["A2"].reserved_by == "ord_1"
    assert (state.colours["red"].present, state.colours["red"].free) == (1, 0)
    order = state.orders[0]
    assert (order.status.value, order.placed_by) == ("Order Submitted", "m.keller")
    assert order.expires_at == after(11 + 300)
    assert [step.name for step in order.steps] == ["placed"]


@pytest.mark.parametrize("colour", ["blue", "red", "white"])
def test_an_absent_colour_is_refused_with_the_references_text(colour: str) -> None:
    state, event = ordered(seen(EMPTY), colour)
    assert event.data["action"] == "refused"
    assert event.data["code"] == Refusal.OUT_OF_STOCK
    assert event.data["reason"] == (
        f"The {colour} piece you are requesting is out of stock in the Physical Factory!"
    )
    assert event.data["frame"] == state.picture.evidence.frame
    assert state == seen(EMPTY)


def test_before_the_first_picture_the_order_is_refused_with_its_own_sentence() -> None:
    _, event = ordered(initial(PLANT), "blue")
    assert event.data["code"] == Refusal.UNKNOWN
    assert event.data["reason"] == (
        "No picture of the warehouse has been judged yet, so nobody knows whether a blue piece is "
        "there. The order was not placed."
    )


@pytest.mark.parametrize(("age_s", "code"), [(10.0, Refusal.OUT_OF_STOCK), (10.001, Refusal.STALE)])
def test_a_picture_older_than_the_limit_is_no_ground_for_an_order(age_s: float, code: str) -> None:
    state = seen(EMPTY, at_s=0)
    event = place(state, colour="red", by="a", now=after(age_s), order_id="ord_1", plant=PLANT)
    assert event.data["code"] == code
    stale = place(state, colour="red", by="a", now=after(42), order_id="ord_1", plant=PLANT)
    assert "is 42 s old, more than 10 s" in stale.data["reason"]


def test_a_moved_camera_is_no_ground_for_an_order_even_where_stock_was_seen_before() -> None:
    state = told(seen(ONE_RED), picture_event({}, at_s=10.5, state=PictureState.CAMERA_MOVED))
    _, event = ordered(state, "red")
    assert event.data["code"] == Refusal.PICTURE
    assert "could not be judged: camera moved (camera moved by 40 px)" in event.data["reason"]


def test_an_unsure_place_is_refused_with_its_own_sentence() -> None:
    _, event = ordered(seen({**EMPTY, "C3": "?red"}), "red")
    assert event.data["code"] == Refusal.UNSURE
    assert "does not show clearly whether a red piece is in C3" in event.data["reason"]
    _, other = ordered(seen({**EMPTY, "C3": "?red"}), "blue")
    assert other.data["code"] == Refusal.OUT_OF_STOCK


def test_a_place_never_seen_is_refused_as_unknown() -> None:
    _, event = ordered(seen({"A1": "empty"}), "red")
    assert event.data["code"] == Refusal.UNKNOWN
    assert "A2, A3, B1" in event.data["reason"]


def test_a_piece_that_the_factory_denies_is_not_sold() -> None:
    state = told(seen(ONE_RED), stock_event({"A2": ""}, at_s=10.5))
    _, event = ordered(state, "red")
    assert event.data["code"] == Refusal.DIFFERS
    assert "in A2, but the factory's own stock report does not" in event.data["reason"]


def test_a_piece_whose_place_was_not_judged_for_too_long_is_not_sold() -> None:
    state = told(seen(ONE_RED, at_s=10), picture_event({"A1": "empty"}, at_s=25))
    _, event = ordered(state, "red", at_s=25)
    assert event.data["code"] == Refusal.STALE
    assert "No picture has shown A2 for more than 10 s" in event.data["reason"]


def test_two_simultaneous_orders_for_one_piece_are_one_accepted_and_one_refused() -> None:
    state = seen(ONE_RED)
    state, first = ordered(state, "red", order="ord_1")
    _, second = ordered(state, "red", order="ord_2")
    assert [first.data["action"], second.data["action"]] == ["placed", "refused"]
    assert second.data["code"] == Refusal.RESERVED
    assert second.data["reason"] == (
        "The red piece you are requesting is out of stock in the Physical Factory!"
    )


def test_two_orders_decided_on_the_same_state_end_as_one_order_and_one_release() -> None:
    state = seen(ONE_RED)
    first = place(state, colour="red", by="a", now=after(11), order_id="ord_1", plant=PLANT)
    second = place(state, colour="red", by="b", now=after(11), order_id="ord_2", plant=PLANT)
    state = told(state, first)
    applied = apply(state, second, plant=PLANT)
    assert status(applied.state, "ord_1") == "Order Submitted"
    assert status(applied.state, "ord_2") == "RELEASED"
    assert applied.state.slots["A2"].reserved_by == "ord_1"
    assert [event.data["action"] for event in applied.raised] == ["released"]
    assert "taken by another order" in applied.raised[0].data["reason"]
    assert told(applied.state, *applied.raised) == applied.state


def test_a_second_piece_of_the_colour_can_be_ordered_beside_the_first() -> None:
    state = seen({**ONE_RED, "B3": "red"})
    state, first = ordered(state, "red", order="ord_1")
    state, second = ordered(state, "red", order="ord_2")
    assert [first.data["slot"], second.data["slot"]] == ["A2", "B3"]
    assert state.colours["red"].free == 0
    assert [order.id for order in state.orders] == ["ord_2", "ord_1"]


def test_the_next_order_needs_no_cooldown() -> None:
    state, _ = ordered(seen({**ONE_RED, "A1": "red"}), "red", order="ord_1")
    _, event = ordered(state, "red", order="ord_2")
    assert event.data["action"] == "placed"


def test_what_cannot_be_ordered_is_invalid_and_an_id_is_taken_once() -> None:
    with pytest.raises(InvalidError, match="'green' cannot be ordered"):
        ordered(seen(ONE_RED), "green")
    state, _ = ordered(seen(ONE_RED), "red")
    with pytest.raises(ConflictError):
        ordered(state, "red")
    with pytest.raises(InvalidError, match="no twin"):
        place(
            state, colour="red", by="a", now=after(1), order_id="o",
            plant=replace(PLANT, twin=None),
        )  # fmt: skip


def running() -> LineState:
    state, _ = ordered(seen({**ONE_RED, "B3": "red"}), "red")
    return sent(state)


def test_an_order_is_driven_from_submitted_to_shipped_and_then_holds_nothing() -> None:
    state = running()
    seen_status = [status(state)]
    for second, factory in enumerate(["ORDERED", "IN_PROCESS", "SHIPPED"]):
        event = factory_event(factory, "red", at_s=20 + second)
        applied = apply(state, event, plant=PLANT)
        state = applied.state
        seen_status.append(status(state))
        (raised,) = applied.raised
        assert raised.data["action"] == "advanced"
        assert raised.data["status"] == factory
        assert raised.data["cause"] == event.id
    assert seen_status == ["Order Submitted", "ORDERED", "IN_PROCESS", "SHIPPED"]
    assert [slot.id for slot in state.slots.values() if slot.reserved_by] == []
    names = [step.name for step in state.orders[0].steps]
    assert names == ["placed", "sending", "sent", "ORDERED", "IN_PROCESS", "SHIPPED"]


def test_waiting_for_order_twice_has_no_effect_on_orders() -> None:
    state = told(running(), factory_event("ORDERED", "red", at_s=20))
    for second in (21, 22):
        state = told(state, factory_event("WAITING_FOR_ORDER", at_s=second))
    assert status(state) == "ORDERED"
    assert state.factory.state == "WAITING_FOR_ORDER"
    assert state.factory.order == ""


def test_ordered_delivered_twice_is_one_run() -> None:
    state, _ = ordered(seen({**ONE_RED, "B3": "red"}), "red", order="ord_1")
    state, _ = ordered(state, "red", order="ord_2")
    state = sent(sent(state, "ord_1"), "ord_2")
    redelivered = factory_event("ORDERED", "red", at_s=20)
    state = told(state, redelivered, redelivered, factory_event("ORDERED", "red", at_s=21))
    assert [status(state, "ord_1"), status(state, "ord_2")] == ["ORDERED", "Order Submitted"]
    assert [step.name for step in state.orders[1].steps].count("ORDERED") == 1


def test_states_go_to_the_oldest_open_order_of_their_colour() -> None:
    state, _ = ordered(seen({**ONE_RED, "A1": "blue", "B3": "red"}), "blue", order="ord_1")
    state, _ = ordered(state, "red", order="ord_2")
    state, _ = ordered(state, "red", order="ord_3")
    for order in ("ord_1", "ord_2", "ord_3"):
        state = sent(state, order)
    state = told(state, factory_event("ORDERED", "red", at_s=20))
    assert [order.status.value for order in state.orders] == [
        "Order Submitted", "ORDERED", "Order Submitted",
    ]  # fmt: skip
    state = told(state, *(factory_event(s, "red", at_s=21) for s in ("IN_PROCESS", "SHIPPED")))
    assert status(state, "ord_2") == "SHIPPED"
    state = told(state, factory_event("ORDERED", "red", at_s=30))
    assert status(state, "ord_3") == "ORDERED"


def test_an_order_that_was_never_sent_is_not_moved_by_somebody_elses() -> None:
    state, _ = ordered(seen(ONE_RED), "red")
    state = told(state, factory_event("ORDERED", "red", at_s=20))
    assert status(state) == "Order Submitted"
    assert state.factory.order == ""


def test_a_missed_ordered_is_made_good_by_the_next_state() -> None:
    state = told(running(), factory_event("IN_PROCESS", "red", at_s=20))
    assert status(state) == "IN_PROCESS"
    assert status(told(running(), factory_event("SHIPPED", "red", at_s=20))) == "SHIPPED"


def test_an_older_state_that_comes_late_moves_nothing_back() -> None:
    state = told(running(), factory_event("IN_PROCESS", "red", at_s=20))
    applied = apply(state, factory_event("ORDERED", "red", at_s=19), plant=PLANT)
    assert applied.outcome is Outcome.LATE
    assert status(applied.state) == "IN_PROCESS"


def test_shipped_said_twice_does_not_ship_the_next_order() -> None:
    state, _ = ordered(running(), "red", order="ord_2")
    state = sent(state, "ord_2")
    states = ["ORDERED", "IN_PROCESS", "SHIPPED", "SHIPPED"]
    state = told(state, *(factory_event(s, "red", at_s=20 + n) for n, s in enumerate(states)))
    assert [status(state, "ord_1"), status(state, "ord_2")] == ["SHIPPED", "Order Submitted"]


def test_a_run_after_a_missed_end_is_a_new_run() -> None:
    state, _ = ordered(running(), "red", order="ord_2")
    state = sent(state, "ord_2")
    states = ["ORDERED", "IN_PROCESS", "SHIPPED", "IN_PROCESS"]
    state = told(state, *(factory_event(s, "red", at_s=20 + n) for n, s in enumerate(states)))
    assert [status(state, "ord_1"), status(state, "ord_2")] == ["SHIPPED", "IN_PROCESS"]


def test_a_state_without_type_goes_to_the_run_under_way() -> None:
    state = told(running(), factory_event("ORDERED", "red", at_s=20))
    state = told(state, factory_event("IN_PROCESS", at_s=21), factory_event("SHIPPED", at_s=22))
    assert status(state) == "SHIPPED"


def test_a_piece_on_its_way_is_not_available() -> None:
    state = told(
        running(),
        factory_event("ORDERED", "red", at_s=20),
        picture_event(EMPTY, at_s=21),
    )
    _, event = ordered(state, "red", at_s=22, order="ord_2")
    assert event.data["code"] == Refusal.OUT_OF_STOCK
    reported = told(running(), stock_event({"A2": "", "B3": ""}, at_s=20))
    _, event = ordered(reported, "red", at_s=20, order="ord_2")
    assert event.data["action"] == "refused"


def test_a_place_that_still_shows_the_shipped_piece_waits_for_a_newer_picture() -> None:
    states = ["ORDERED", "IN_PROCESS", "SHIPPED"]
    state, _ = ordered(seen(ONE_RED), "red")
    state = told(sent(state), *(factory_event(s, "red", at_s=12 + n) for n, s in enumerate(states)))
    assert state.slots["A2"].seen is Presence.UNKNOWN
    _, event = ordered(state, "red", at_s=15, order="ord_2")
    assert event.data["code"] == Refusal.UNKNOWN
    before = told(state, picture_event(ONE_RED, at_s=13.5))
    assert before.slots["A2"].seen is Presence.UNKNOWN
    newer = told(state, picture_event(EMPTY, at_s=15))
    assert newer.slots["A2"].seen is Presence.ABSENT


def test_a_release_frees_the_place_and_says_why() -> None:
    state, _ = ordered(seen(ONE_RED), "red")
    state = told(state, order_event("ord_1", "released", at=after(20), site="hall", reason="late"))
    order = state.orders[0]
    assert (order.status, order.reason) == (OrderStatus.RELEASED, "late")
    assert state.slots["A2"].reserved_by == ""
    assert state.slots["A2"].colour == "red"
    _, event = ordered(state, "red", at_s=20, order="ord_2")
    assert event.data["action"] == "placed"


def test_a_released_order_that_the_factory_ships_after_all_is_shipped() -> None:
    state = told(
        running(),
        factory_event("ORDERED", "red", at_s=20),
        order_event("ord_1", "released", at=after(400), site="hall", reason="too slow"),
        factory_event("IN_PROCESS", "red", at_s=401),
    )
    assert status(state) == "RELEASED"
    state = told(state, factory_event("SHIPPED", "red", at_s=402))
    assert status(state) == "SHIPPED"
    assert state.orders[0].reason == "too slow"


def test_sending_is_written_once_and_a_closed_order_takes_no_more_steps() -> None:
    state = running()
    again = order_event("ord_1", "sending", at=after(50), site="hall")
    assert apply(state, again, plant=PLANT).state is state
    other = replace(again, id="evt_other")
    assert apply(state, other, plant=PLANT).outcome is Outcome.IGNORED
    closed = told(state, order_event("ord_1", "released", at=after(60), site="hall"))
    assert apply(closed, replace(again, id="evt_more"), plant=PLANT).state is closed


def test_closed_orders_are_kept_up_to_a_limit_and_open_ones_always() -> None:
    state, _ = ordered(seen({**ONE_RED, "A1": "blue"}), "blue", order="ord_open")
    for number in range(130):
        name = f"ord_{number}"
        state, _ = ordered(state, "red", order=name)
        state = told(state, order_event(name, "released", at=after(12), site="hall"))
    assert len(state.orders) == 101
    assert status(state, "ord_open") == "Order Submitted"
    assert state.order("ord_29") is None
    assert state.order("ord_30") is not None


def test_an_order_for_a_place_that_the_plant_no_longer_has_is_released() -> None:
    event = order_event("ord_1", "placed", at=after(1), site="hall", colour="red", slot="Z9")
    applied = apply(seen(ONE_RED), event, plant=PLANT)
    assert status(applied.state) == "RELEASED"


def test_an_order_whose_place_was_emptied_for_another_claims_the_next_piece() -> None:
    two = {**ONE_RED, "B3": "red"}
    state, _ = ordered(seen(two), "red")
    state = told(sent(state), factory_event("ORDERED", "red", at_s=12))
    state, second = ordered(state, "red", at_s=13, order="ord_2")
    assert second.data["slot"] == "B3"
    state = told(state, factory_event("SHIPPED", "red", at_s=14), picture_event(ONE_RED, at_s=15))
    assert state.slots["A2"].reserved_by == "ord_2"
    assert state.slots["B3"].reserved_by == ""
    assert state.orders[0].slot == "A2"
    assert state.orders[0].steps[-1].name == "moved"
    _, third = ordered(state, "red", at_s=17, order="ord_3")
    assert third.data["code"] == Refusal.RESERVED


def test_a_running_order_whose_piece_was_seen_to_leave_keeps_its_place() -> None:
    two = {**ONE_RED, "B3": "red"}
    state, _ = ordered(seen(two), "red")
    state = told(sent(state), factory_event("ORDERED", "red", at_s=12))
    state = told(state, picture_event(two, at_s=13), picture_event({**EMPTY, "B3": "red"}, at_s=14))
    assert state.orders[0].steps[-1].name == "fetched"
    assert state.slots["A2"].reserved_by == "ord_1"
    assert state.colours["red"].free == 1


def test_the_crane_before_the_place_of_a_running_order_moves_no_claim() -> None:
    two = {**ONE_RED, "B3": "red"}
    state, _ = ordered(seen(two), "red")
    state = told(sent(state), factory_event("ORDERED", "red", at_s=12), picture_event(two, at_s=13))
    assert state.orders[0].seen_at == after(13)
    state = told(state, picture_event({**two, "A2": "?"}, at_s=14))
    assert state.slots["A2"].reserved_by == "ord_1"
    state = told(state, picture_event({**two, "A2": "empty"}, at_s=15))
    assert state.orders[0].steps[-1].name == "fetched"


def test_an_order_whose_place_became_unsure_claims_a_sure_piece() -> None:
    state, _ = ordered(seen({**ONE_RED, "B3": "red"}), "red")
    state = told(state, picture_event({**EMPTY, "A2": "?", "B3": "red"}, at_s=12))
    assert state.slots["B3"].reserved_by == "ord_1"
    _, event = ordered(state, "red", at_s=12, order="ord_2")
    assert event.data["action"] == "refused"


def test_a_place_found_empty_without_having_been_seen_full_in_the_run_is_no_proof() -> None:
    two = {**ONE_RED, "B3": "red"}
    state, _ = ordered(seen(two), "red")
    state = told(sent(state), factory_event("ORDERED", "red", at_s=12))
    state = told(state, picture_event({**EMPTY, "B3": "red"}, at_s=14))
    assert state.slots["B3"].reserved_by == "ord_1"
    assert state.colours["red"].free == 0
    state = told(state, factory_event("SHIPPED", "red", at_s=30))
    state = told(state, picture_event({**EMPTY, "B3": "red"}, at_s=31))
    assert state.colours["red"].free == 1


def test_a_flickering_picture_makes_no_endless_list_of_steps() -> None:
    state, _ = ordered(seen({**ONE_RED, "B3": "red"}), "red")
    for second in range(12, 40):
        place_shown = "A2" if second % 2 else "B3"
        state = told(state, picture_event({**EMPTY, place_shown: "red"}, at_s=second))
    assert [step.name for step in state.orders[0].steps] == ["placed", "moved"]
    assert state.orders[0].slot == "A2"
