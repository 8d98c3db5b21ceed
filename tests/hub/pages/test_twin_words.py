"""The twin in words."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lineside.hub.pages.twin import (
    open_orders,
    order_steps,
    parts_word,
    reported_word,
    scene_plan,
    scene_view,
    shown_order,
    slot_word,
    station_mark,
    stock_word,
    subtitle,
)
from lineside.testing.clock import NOON
from lineside.testing.events import after, small_plant
from lineside.twin import LineState, Order, OrderStatus, Presence, SlotState, initial
from lineside.twin.state import ColourState, Evidence, OrderStep, StationState

CASES: dict[str, Any] = json.loads((Path(__file__).parent / "twin_cases.json").read_text())
STATIONS = {
    key: StationState(id=key, name=name, code=key, shape=shape)
    for key, name, shape in CASES["stations"]
}


def order(status: str, *steps: str, number: int = 1) -> Order:
    return Order(
        id=f"ord_{number}",
        colour="blue",
        status=OrderStatus(status),
        placed_at=NOON,
        placed_by="anna",
        expires_at=after(300),
        steps=tuple(OrderStep(name=name, at=after(n)) for n, name in enumerate(steps)),
    )


@pytest.mark.parametrize("case", CASES["orders"])
def test_steps_are_what_happened_then_what_is_to_come(case: dict[str, Any]) -> None:
    rows = order_steps(order(case["status"], *case["steps"]), STATIONS)
    assert [[row.words, row.state] for row in rows] == case["rows"]


def test_a_step_that_happened_keeps_its_time_and_one_to_come_has_none() -> None:
    rows = order_steps(order("ORDERED", "placed", "sent"), STATIONS)
    assert [row.at is not None for row in rows[:3]] == [True, True, False]


@pytest.mark.parametrize(("slot", "word"), CASES["slots"])
def test_a_place_says_what_was_seen(slot: dict[str, Any], word: str) -> None:
    seen = SlotState(
        id="A1",
        seen=Presence(slot["seen"]),
        colour=slot["colour"],
        possible=tuple(slot["possible"]),
    )
    assert slot_word(seen) == word


@pytest.mark.parametrize(("colour", "word"), CASES["stock"])
def test_a_button_says_what_is_free(colour: dict[str, Any], word: str) -> None:
    state = ColourState(
        colour="blue",
        seen=Presence(colour["seen"]),
        present=colour["present"],
        reserved=colour["reserved"],
    )
    assert stock_word(state) == word


def test_a_report_that_never_came_is_no_empty_place() -> None:
    assert [reported_word(None), reported_word(""), reported_word("red")] == [
        "not reported yet",
        "empty",
        "red",
    ]


def test_a_station_that_never_spoke_is_not_waiting() -> None:
    never = STATIONS["gripper"]
    assert station_mark(never).word == "never reported"


def test_the_oldest_open_order_is_shown_first() -> None:
    orders = (
        order("SHIPPED", "placed", number=4),
        order("ORDERED", "placed", number=3),
        order("IN_PROCESS", "placed", number=2),
        order("SHIPPED", "placed", number=1),
    )
    state = LineState(orders=orders)
    shown = shown_order(state)
    assert shown is not None
    assert shown.id == "ord_2"
    assert open_orders(state) == 2
    assert shown_order(LineState()) is None
    ended = shown_order(LineState(orders=orders[:1]))
    assert ended is not None
    assert ended.id == "ord_4"


def test_the_scene_is_told_places_and_stations() -> None:
    plan = scene_plan(small_plant())
    assert isinstance(plan, dict)
    assert plan["slots"] == ["A1", "A2", "A3", "B1", "B2", "B3", "C1", "C2", "C3"]
    assert subtitle(small_plant()) == "hall, 5 stations, 9 places"


def place(seen: str, colour: str = "", **more: Any) -> SlotState:  # noqa: ANN401  fields of a place
    return SlotState(
        id="A1", seen=Presence(seen), colour=colour, **{"evidence": Evidence(at=NOON), **more}
    )


@pytest.mark.parametrize(
    ("slot", "late_s", "shown"),
    [
        (place("present", "blue"), 1, ("disc", "blue", "blue")),
        (place("present", "blue"), 11, ("outline", "blue", "blue, seen too long ago")),
        (place("absent"), 11, ("empty", "", "empty")),
        (place("absent", reported="red"), 1, ("outline", "red", "empty, red expected")),
        (place("unsure", possible=("red",)), 1, ("unsure", "red", "unsure: red")),
        (place("unknown", evidence=Evidence()), 1, ("unknown", "", "unknown")),
        (
            place("unknown", reported="red", evidence=Evidence()),
            1,
            ("outline", "red", "unknown, red expected"),
        ),
    ],
)
def test_picture_and_table_show_no_more_of_a_place_than_is_known(
    slot: SlotState, late_s: float, shown: tuple[str, str, str]
) -> None:
    view = scene_view(LineState(slots={"A1": slot}), small_plant(), now=after(late_s)).slots["A1"]
    assert (view.show, view.colour, view.word) == shown


def test_a_place_is_noted_where_it_differs_is_held_or_is_in_doubt() -> None:
    slot = place("unsure", differs_since=NOON, reserved_by="ord_1")
    view = scene_view(LineState(slots={"A1": slot}), small_plant(), now=NOON).slots["A1"]
    assert view.notes == ("?", "≠", "held")


@pytest.mark.parametrize(
    ("steps", "status", "parts"),
    [
        ([], "Order Submitted", {}),
        (["placed", "sent"], "Order Submitted", {}),
        (["placed", "sent", "hbw"], "ORDERED", {"vgr": "blue part expected"}),
        (
            ["placed", "sent", "hbw", "fetched"],
            "ORDERED",
            {"hbw": "blue part", "vgr": "blue part expected"},
        ),
        (
            ["placed", "sent", "fetched", "mpo"],
            "IN_PROCESS",
            {"mpo": "blue part", "sld": "blue part expected"},
        ),
        (["placed", "sent", "hbw", "fetched", "dso"], "IN_PROCESS", {"dso": "blue part"}),
        (["placed", "sent", "dso", "SHIPPED"], "SHIPPED", {}),
        (["placed", "sent", "RELEASED"], "RELEASED", {}),
    ],
)
def test_a_part_stands_where_a_station_was_seen_to_work_on_it(
    steps: list[str], status: str, parts: dict[str, str]
) -> None:
    plant = small_plant()
    state = replace(initial(plant), orders=(order(status, *steps),))
    found = scene_view(state, plant, now=NOON).parts
    words = {name: parts_word(found, name) for name in state.stations}
    assert {name: word for name, word in words.items() if word} == parts
