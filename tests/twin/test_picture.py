"""What a prediction does to slots, colours and the picture's state."""

from dataclasses import replace

import pytest

from lineside.core import Region
from lineside.core.factory import SLOTS
from lineside.core.plant import Slot
from lineside.streams import Event, prediction_event
from lineside.testing.bare import PACKAGE
from lineside.testing.events import (
    after,
    factory_event,
    picture_event,
    prediction_of,
    small_plant,
    stock_event,
)
from lineside.twin import LineState, Presence, apply, initial, order_event, replay
from lineside.twin.state import Outcome
from lineside.vision import Decision, LabelAnswer, PictureState

PLANT = small_plant()
FULL = dict(zip(SLOTS, ("blue", "red", "white", *["empty"] * 6), strict=True))


def answered(answers: list[tuple[str, str, float, Decision]], *, at_s: float = 1) -> Event:
    labels = tuple(
        LabelAnswer(name=f"{r}/{c}", region=r, label=c, probability=p, decision=d)
        for r, c, p, d in answers
    )
    prediction = replace(prediction_of({}, at_s=at_s), labels=labels)
    return prediction_event(prediction, site="hall", device="edge-1", sequence=1, first=1)


def test_before_any_picture_everything_is_unknown_and_nothing_is_absent() -> None:
    state = initial(PLANT)
    assert {slot.seen for slot in state.slots.values()} == {Presence.UNKNOWN}
    assert {colour.seen for colour in state.colours.values()} == {Presence.UNKNOWN}
    assert state.picture.state == "unknown"
    assert {colour.evidence.at for colour in state.colours.values()} == {None}


def test_a_picture_fills_slots_and_colours_with_their_evidence() -> None:
    event = picture_event(FULL, at_s=2)
    state = replay([event], plant=PLANT)
    slot, colour = state.slots["A1"], state.colours["blue"]
    assert (slot.seen, slot.colour, slot.probability) == (Presence.PRESENT, "blue", 0.97)
    assert slot.evidence.at == after(2)
    assert slot.evidence.event == event.id
    assert slot.evidence.frame == event.data["frame"]["id"]
    assert slot.evidence.package == PACKAGE
    assert (colour.seen, colour.present, colour.free) == (Presence.PRESENT, 1, 1)
    assert colour.evidence == slot.evidence
    assert state.slots["B1"].seen is Presence.ABSENT
    assert state.picture.state == "ok"


def test_pieces_are_counted_and_placed_not_only_present() -> None:
    state = replay([picture_event({**FULL, "C3": "red", "B2": "red"}, at_s=1)], plant=PLANT)
    assert state.colours["red"].present == 3
    assert [slot.id for slot in state.slots.values() if slot.colour == "red"] == ["A2", "B2", "C3"]


def test_two_pictures_of_a_burst_each_leave_their_own_evidence() -> None:
    first, second = picture_event({"A1": "blue"}, at_s=1), picture_event({"A2": "red"}, at_s=1.01)
    state = replay([first, second], plant=PLANT)
    assert state.slots["A1"].evidence.frame == first.data["frame"]["id"]
    assert state.slots["A2"].evidence.frame == second.data["frame"]["id"]


def test_an_older_answer_that_comes_late_changes_nothing_and_is_called_late() -> None:
    newer, older = picture_event({"A1": "red"}, at_s=5), picture_event({"A1": "blue"}, at_s=4)
    state = replay([newer], plant=PLANT)
    applied = apply(state, older, plant=PLANT)
    assert applied.outcome is Outcome.LATE
    assert applied.state is state
    assert applied.reason == f"{newer.id} is newer"


@pytest.mark.parametrize("bad", [state for state in PictureState if state != "ok"])
def test_a_picture_that_cannot_be_judged_changes_no_slot_and_says_why(bad: PictureState) -> None:
    good, moved = picture_event(FULL, at_s=1), picture_event({}, at_s=2, state=bad)
    before, state = replay([good], plant=PLANT), replay([good, moved], plant=PLANT)
    assert state.slots == before.slots
    assert state.colours == before.colours
    assert state.picture.state == bad.value
    assert state.picture.reason == f"{bad} by 40 px"
    assert state.picture.evidence.at == after(2)
    assert state.slots["A1"].evidence.at == after(1)


def test_a_late_good_picture_still_fills_slots_behind_a_newer_bad_one() -> None:
    moved = picture_event({}, at_s=3, state=PictureState.CAMERA_MOVED)
    state = replay([moved, picture_event(FULL, at_s=2)], plant=PLANT)
    assert state.slots["A1"].colour == "blue"
    assert state.picture.state == "camera moved"


def test_a_picture_that_stops_and_starts_to_be_judgeable_is_an_event_each() -> None:
    state = initial(PLANT)
    raised: list[Event] = []
    for at_s, kind in enumerate(["ok", "camera moved", "camera moved", "ok", "black", "blurred"]):
        event = picture_event({}, at_s=at_s, state=PictureState(kind))
        applied = apply(state, event, plant=PLANT)
        state = applied.state
        raised += applied.raised
    assert [(e.data["action"], e.data["before"], e.data["state"]) for e in raised] == [
        ("begun", "ok", "camera moved"),
        ("ended", "camera moved", "ok"),
        ("begun", "ok", "black"),
        ("begun", "black", "blurred"),
    ]
    assert {(e.source, e.type, e.subject) for e in raised} == {
        ("/hall/hub", "lineside.event.v1", "picture")
    }
    assert raised[0].time == after(1)
    assert raised[0].data["frame"]


def test_another_inspection_is_not_the_twins_business() -> None:
    applied = apply(initial(PLANT), picture_event(FULL, at_s=1, inspection="lid"), plant=PLANT)
    assert applied.outcome is Outcome.IGNORED


def test_a_region_without_answer_keeps_its_slot() -> None:
    state = replay([picture_event(FULL, at_s=1), picture_event({"A2": "red"}, at_s=2)], plant=PLANT)
    assert state.slots["A1"].evidence.at == after(1)
    assert state.slots["A2"].evidence.at == after(2)


def test_unsure_names_the_colours_that_may_be_there() -> None:
    state = replay([picture_event({**FULL, "A1": "?blue", "B1": "?"}, at_s=1)], plant=PLANT)
    assert state.slots["A1"].seen is Presence.UNSURE
    assert state.slots["A1"].possible == ("blue",)
    assert state.slots["A1"].colour == ""
    assert state.slots["A1"].probability == 0.5
    assert state.slots["B1"].possible == ("blue", "red", "white")
    assert state.colours["blue"].seen is Presence.UNSURE
    assert state.colours["red"].seen is Presence.PRESENT


def test_contradicting_classes_of_one_region_are_unsure() -> None:
    both = [("A1", "blue", 0.9, Decision.PRESENT), ("A1", "red", 0.9, Decision.PRESENT)]
    state = replay([answered([*both, ("A1", "empty", 0.1, Decision.ABSENT)])], plant=PLANT)
    assert state.slots["A1"].seen is Presence.UNSURE
    assert state.slots["A1"].possible == ("blue", "red")


def test_no_class_at_all_may_be_any_colour() -> None:
    none = [("A1", label, 0.3, Decision.ABSENT) for label in ("empty", "blue", "red", "white")]
    state = replay([answered(none)], plant=PLANT)
    assert state.slots["A1"].seen is Presence.UNSURE
    assert state.slots["A1"].possible == ("blue", "red", "white")


def test_a_colour_with_a_slot_never_seen_is_unknown_not_absent() -> None:
    state = replay([picture_event({"A1": "empty", "A2": "empty"}, at_s=1)], plant=PLANT)
    assert state.colours["blue"].seen is Presence.UNKNOWN


def presence_regions() -> tuple[Region, ...]:
    box = PLANT.inspection[0].region[0].box_px
    return tuple(
        Region(id=place, box_px=box, label=colour)
        for place, colour in (("top", "blue"), ("middle", "red"), ("bottom", "white"))
    )


def test_a_presence_label_says_its_slots_declared_colour() -> None:
    regions = presence_regions()
    assert PLANT.twin
    slots = tuple(Slot(id=r.id, region=r.id, colour=r.label) for r in regions)
    plant = replace(
        PLANT,
        inspection=(replace(PLANT.inspection[0], region=regions),),
        twin=replace(PLANT.twin, slot=slots),
    )
    event = answered(
        [
            ("top", "blue", 0.98, Decision.PRESENT),
            ("middle", "red", 0.04, Decision.ABSENT),
            ("bottom", "white", 0.6, Decision.UNSURE),
        ]
    )
    state = replay([event, stock_event({"middle": "white"}, at_s=2)], plant=plant)
    shown = {slot.id: (slot.seen, slot.colour, slot.probability) for slot in state.slots.values()}
    assert shown == {
        "top": (Presence.PRESENT, "blue", 0.98),
        "middle": (Presence.ABSENT, "", 0.96),
        "bottom": (Presence.UNSURE, "", 0.6),
    }
    seen = {colour: item.seen for colour, item in state.colours.items()}
    assert seen == {"blue": Presence.PRESENT, "red": Presence.ABSENT, "white": Presence.UNSURE}
    # "No red piece" does not contradict a report of a white one.
    assert state.slots["middle"].differs_since is None


def seen_states(state: LineState) -> set[Presence]:
    return {slot.seen for slot in state.slots.values()}


def test_a_reserved_piece_that_leaves_the_picture_is_a_step_of_its_order() -> None:
    events = [
        picture_event(FULL, at_s=1),
        order_event("ord_1", "placed", at=after(2), site="hall", colour="red", slot="A2"),
        order_event("ord_1", "sending", at=after(2), site="hall"),
        factory_event("ORDERED", "red", at_s=3),
        picture_event(FULL, at_s=4),
    ]
    gone = picture_event({**FULL, "A2": "empty"}, at_s=9)
    state = replay([*events, gone, picture_event({**FULL, "A2": "empty"}, at_s=10)], plant=PLANT)
    steps = {step.name: step for step in state.orders[0].steps}
    assert list(steps) == ["placed", "sending", "ORDERED", "fetched"]
    assert steps["fetched"].at == after(9)
    assert steps["fetched"].frame == gone.data["frame"]["id"]
    assert state.slots["A2"].reserved_by == "ord_1"
    assert (state.colours["red"].present, state.colours["red"].free) == (0, 0)
    assert seen_states(state) == {Presence.PRESENT, Presence.ABSENT}
