"""The fold itself: pure, idempotent, in capture time; replay equals live."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import decode, parse_plant, to_plain
from lineside.core.factory import SLOTS
from lineside.streams import Event, LineVerdicts, decode_event, encode_event
from lineside.streams.alerts import AlertCause, Observation, alert_event, feed_alerts
from lineside.testing.events import (
    PARTS,
    after,
    factory_event,
    part_prediction,
    picture_event,
    plant_event,
    small_plant,
    station_event,
    stock_event,
)
from lineside.twin import LineState, SlotState, apply, initial, order_event, place, replay
from lineside.twin.state import Outcome
from lineside.vision import PictureState

PLANT = small_plant()
FEW = settings(max_examples=50, deadline=None)
CLASS = st.sampled_from(["empty", "blue", "red", "white", "?", "?red"])
PLACES = st.dictionaries(st.sampled_from(SLOTS), CLASS, min_size=1)
SECONDS = st.integers(0, 50)
OBSERVATIONS = st.one_of(
    st.builds(lambda shown, s: picture_event(shown, at_s=s), PLACES, SECONDS),
    st.builds(lambda s: picture_event({}, at_s=s, state=PictureState.CAMERA_MOVED), SECONDS),
    st.builds(
        lambda told, s: stock_event(told, at_s=s),
        st.dictionaries(st.sampled_from(SLOTS), st.sampled_from(["", "blue", "red"]), min_size=1),
        SECONDS,
    ),
    st.builds(
        lambda code, on, s: station_event(code, active=on, at_s=s),
        st.sampled_from(["hbw", "vgr", "mpo"]), st.booleans(), SECONDS,
    ),
    st.builds(
        lambda t, s: plant_event("sensor", at_s=s, t=t, h=40.0), st.integers(-9, 40), SECONDS
    ),
    st.builds(
        lambda br, s: plant_event("sensor", topic="i/ldr", at_s=s, br=br),
        st.integers(0, 99), SECONDS,
    ),
    st.builds(
        lambda n, s: plant_event("alert", at_s=s, id=f"a{n}", code=200, data=3.0),
        st.integers(0, 3), SECONDS,
    ),
)  # fmt: skip
STATES = ["WAITING_FOR_ORDER", "ORDERED", "IN_PROCESS", "SHIPPED"]
ORDERS = st.one_of(
    st.builds(
        lambda state, colour, s: factory_event(state, colour, at_s=s),
        st.sampled_from(STATES), st.sampled_from(["blue", "red"]), SECONDS,
    ),
    st.builds(
        lambda n, slot, s: order_event(
            f"ord_{n}", "placed", at=after(s), site="hall", colour="blue", by="a", slot=slot
        ),
        st.integers(0, 4), st.sampled_from(SLOTS), SECONDS,
    ),
    st.builds(
        lambda n, action, s: order_event(f"ord_{n}", action, at=after(s), site="hall", reason="r"),
        st.integers(0, 4), st.sampled_from(["sending", "sent", "released"]), SECONDS,
    ),
)  # fmt: skip
ANY = st.lists(OBSERVATIONS | ORDERS, max_size=16)


def undated(state: LineState) -> list[SlotState]:
    return [replace(slot, differs_since=None) for slot in state.slots.values()]


def unique_times(events: list[Event]) -> list[Event]:
    """At most one event a second: at equal times the arrival decides, on purpose."""
    return list({event.time: event for event in events}.values())


@FEW
@given(ANY)
def test_the_same_event_twice_changes_nothing(events: list[Event]) -> None:
    state = initial(PLANT)
    for event in events:
        state = apply(state, event, plant=PLANT).state
        again = apply(state, event, plant=PLANT)
        assert again.state is state
        assert again.outcome is not Outcome.APPLIED
        assert again.raised == ()


@FEW
@given(events=ANY, data=st.data())
def test_any_old_event_that_comes_again_leaves_the_newest_state(
    events: list[Event], data: st.DataObject
) -> None:
    state, done = initial(PLANT), []
    for event in events:
        applied = apply(state, event, plant=PLANT)
        state = applied.state
        if applied.outcome is not Outcome.IGNORED:
            done.append(event)
    if done:
        old = data.draw(st.lists(st.sampled_from(done), max_size=5))
        assert replay(old, plant=PLANT, state=state) == state


@FEW
@given(events=st.lists(OBSERVATIONS, max_size=12), data=st.data())
def test_observations_in_any_order_and_number_give_the_same_values(
    events: list[Event], data: st.DataObject
) -> None:
    once = unique_times(events)
    ordered = sorted(once, key=lambda event: event.time)
    mixed = data.draw(st.permutations([*once, *once]))
    there, here = replay(ordered, plant=PLANT), replay(mixed, plant=PLANT)
    # Since when the witnesses differ depends on which of them was heard first.
    assert undated(there) == undated(here)
    assert there.picture == here.picture
    assert there.colours == here.colours
    assert there.stations == here.stations
    assert there.sensors == here.sensors
    assert set(there.alerts) == set(here.alerts)


@FEW
@given(events=ANY, cut=st.integers(0, 16))
def test_replay_equals_live_however_it_is_cut(events: list[Event], cut: int) -> None:
    live = initial(PLANT)
    for event in events:
        live = apply(live, event, plant=PLANT).state
    first = replay(events[:cut], plant=PLANT)
    assert replay(events[cut:], plant=PLANT, state=first) == live


@FEW
@given(ANY)
def test_a_replay_from_the_log_and_a_state_read_back_are_the_live_ones(events: list[Event]) -> None:
    live = replay(events, plant=PLANT)
    logged = [decode_event(encode_event(event), where="log") for event in events]
    assert replay(logged, plant=PLANT) == live
    assert decode(LineState, to_plain(live), where="state") == live


@FEW
@given(ANY)
def test_what_is_raised_and_fed_back_does_not_move_the_values(events: list[Event]) -> None:
    alone, fed = initial(PLANT), initial(PLANT)
    for event in events:
        alone = apply(alone, event, plant=PLANT).state
        applied = apply(fed, event, plant=PLANT)
        fed = replay(applied.raised, plant=PLANT, state=applied.state)
    assert fed == alone


@FEW
@given(ANY)
def test_reservations_and_orders_always_agree(events: list[Event]) -> None:
    state = initial(PLANT)
    for event in events:
        state = apply(state, event, plant=PLANT).state
        held = [slot.reserved_by for slot in state.slots.values() if slot.reserved_by]
        assert sorted(held) == sorted(order.id for order in state.orders if order.open)
        for colour in state.colours.values():
            assert 0 <= colour.reserved <= colour.present


def test_the_revision_counts_applied_events_only() -> None:
    first, second = picture_event({"A1": "blue"}, at_s=1), picture_event({"A1": "red"}, at_s=2)
    state = replay([first, second, first, second], plant=PLANT)
    assert state.revision == 2
    assert state.recent == (second.id, first.id)


def test_the_memory_of_ids_is_bounded() -> None:
    events = [plant_event("sensor", at_s=second, t=1.0) for second in range(500)]
    assert len(replay(events, plant=PLANT).recent) == 64


def test_at_equal_capture_time_the_later_arrival_wins_and_its_rival_does_not_return() -> None:
    on, off = station_event("vgr", active=True, at_s=1), station_event("vgr", active=False, at_s=1)
    state = replay([on, off, on, on], plant=PLANT)
    assert state.stations["vgr"].active is False


def test_the_newest_verdict_of_each_line_stands() -> None:
    plant = parse_plant(b'schema = "lineside.plant/1"\nsite = "hall"\n' + PARTS.encode(), where="p")
    line = LineVerdicts(plant, "press")
    first, second = (
        event
        for at_s, said in ((1.0, "ok"), (2.0, "reject"))
        for event in line.add(
            line.judge(part_prediction("top", f"p{at_s}", verdict=said, at_s=at_s), event="evt"),
            at_us=0,
        )
    )
    state = replay([second, first, second], plant=plant)
    found = state.verdicts["press"]
    assert (found.part, found.verdict, found.evidence.event) == ("p2.0", "reject", second.id)
    assert found.evidence.frame == part_prediction("top", "p2.0", at_s=2.0).frame.id
    assert state.revision == 1


def test_types_the_twin_does_not_show_are_ignored() -> None:
    state = initial(PLANT)
    for kind in ("lineside.anchor.v1", "lineside.package.v1", "lineside.plant.frame.v1", "com.x"):
        event = replace(plant_event("sensor", at_s=1, t=1.0), type=kind)
        applied = apply(state, event, plant=PLANT)
        assert applied.outcome is Outcome.IGNORED
        assert applied.state is state


@pytest.mark.parametrize(
    "event",
    [
        plant_event("sensor", at_s=1, t="warm"),
        plant_event("sensor", topic="i/ldr", at_s=1, br="bright"),
        plant_event("sensor", topic="i/ldr", at_s=1, br="nan"),
        plant_event("stock", at_s=1, stockItems="all"),
        plant_event("stock", at_s=1),
        plant_event("station", topic="f/i/state/hbw", at_s=1, station=3),
        plant_event("order", at_s=1, state="LOST", type="RED"),
        plant_event("alert", at_s=1, id="bme680"),
        replace(picture_event({"A1": "blue"}, at_s=1), data={}),
        replace(factory_event("ORDERED", at_s=1), data={"state": "ORDERED", "type": "RED"}),
        replace(
            order_event("ord_1", "placed", at=after(1), site="hall"), data={"action": "stolen"}
        ),
    ],
)
def test_an_entry_that_cannot_be_read_is_named_and_stops_nothing(event: Event) -> None:
    state = initial(PLANT)
    applied = apply(state, event, plant=PLANT)
    assert applied.outcome is Outcome.UNREADABLE
    assert applied.reason
    assert applied.state is state


def test_a_plant_without_a_twin_folds_to_sensors_only() -> None:
    plant = replace(PLANT, twin=None)
    events = [
        picture_event({"A1": "blue"}, at_s=1), stock_event({"A1": "blue"}, at_s=2),
        plant_event("sensor", at_s=3, t=21.0),
    ]  # fmt: skip
    state = replay(events, plant=plant)
    assert state.slots == {}
    assert state.sensors["temperature"].value == 21.0


def test_a_dark_camera_is_over_also_where_the_twin_sees_by_another_since() -> None:
    dark = Observation(cause=AlertCause.CAMERA_DARK, object="rack", at=after(1), reason="grey 2")
    book, (opened,) = feed_alerts({}, [dark], now=after(1))
    book, _ = feed_alerts(book, [replace(dark, holds=False)], now=after(2))
    _, (closed,) = feed_alerts(book, [replace(dark, holds=False)], now=after(60))
    begun, ended = (alert_event(one, source="/hall/hub") for one in (opened, closed))
    state = replay([begun], plant=PLANT)
    assert [one.seen for one in state.discrepancies] == ["camera dark"]
    moved = replace(
        PLANT, camera=(*PLANT.camera, replace(PLANT.camera[0], id="gate")),
        inspection=(replace(PLANT.inspection[0], camera="gate"), *PLANT.inspection[1:]),
    )  # fmt: skip
    assert replay([ended], plant=moved, state=state).discrepancies == ()
    assert replay([begun], plant=moved).discrepancies == ()


def test_an_order_id_taken_is_not_decided_again() -> None:
    state = replay([picture_event({"A1": "blue", "A2": "blue"}, at_s=1)], plant=PLANT)
    placed = place(state, colour="blue", by="a", now=after(1), order_id="ord_1", plant=PLANT)
    state = apply(state, placed, plant=PLANT).state
    other = order_event("ord_1", "placed", at=after(2), site="hall", colour="blue", slot="A2")
    assert apply(state, replace(other, id="evt_else"), plant=PLANT).state is state
