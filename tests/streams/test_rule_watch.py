"""Watching over the warehouse by rules: a zone of the picture, and the factory's own alerts."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lineside.core import Plant, load_plant
from lineside.core.plant_rules import Scalar
from lineside.streams import Entry, entry_of, moment, prediction_event
from lineside.streams.rules.replay import run_rule
from lineside.testing.bare import bare_frame, bare_prediction
from lineside.testing.rules import START_S, message
from lineside.vision import (
    BoxAnswer,
)

PLANT = Path(__file__).parents[2] / "examples" / "warehouse" / "watch.toml"
FPS = 5
INSIDE, OUTSIDE = (320.0, 260.0), (100.0, 260.0)
Stay = tuple[float, float, tuple[float, float], str]
"""From, to (s), where the middle of the box is, and what it is."""


@pytest.fixture(scope="module")
def plant() -> Plant:
    return load_plant(PLANT)


def said(plant: Plant, rule: str, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    (declared,) = (one for one in plant.rule if one.id == rule)
    return [event.data for event in run_rule(declared, entries, plant=plant)]


def box(label: str, middle: tuple[float, float]) -> BoxAnswer:
    x_px, y_px = middle
    return BoxAnswer(
        label=label, x0_px=x_px - 20, y0_px=y_px - 50, x1_px=x_px + 20, y1_px=y_px + 50,
        probability=0.9,
    )  # fmt: skip


def picture(at_s: float, boxes: Sequence[BoxAnswer], *, sequence: int) -> Entry:
    at = moment(round((START_S + at_s) * 1e6))
    frame = bare_frame(f"frm_{sequence}", camera="aisle", at=at, sequence=sequence)
    made = bare_prediction(
        frame, inspection="people", task="detect", boxes=tuple(boxes), device="edge-1"
    )
    event = prediction_event(made, site="s", device="edge-1", sequence=sequence, first=1)
    return entry_of(event, arrived_us=round((START_S + at_s) * 1e6))


def film(stays: Sequence[Stay], *, until_s: float) -> Iterator[Entry]:
    for number in range(int(until_s * FPS)):
        at_s = number / FPS
        seen = [box(what, where) for since, to, where, what in stays if since <= at_s < to]
        yield picture(at_s, seen, sequence=number + 1)


def told(plant: Plant, stays: Sequence[Stay]) -> list[tuple[str, float]]:
    entries = list(film(stays, until_s=30))
    return [(one["action"], one["seconds"]) for one in said(plant, "somebody-stays", entries)]


def test_somebody_who_stays_in_the_zone_is_told_and_when_it_ends(plant: Plant) -> None:
    (begun, ended) = told(plant, [(5, 12, INSIDE, "person")])
    assert (begun[0], ended[0]) == ("begun", "ended")
    assert (begun[1], ended[1]) == pytest.approx((3.0, 7.0 - 1 / FPS))


@pytest.mark.parametrize(
    "stays",
    [
        [],
        [(5, 12, OUTSIDE, "person")],
        [(5, 12, INSIDE, "forklift")],
        [(5, 7.8, INSIDE, "person")],
        [(2 * n, 2 * n + 0.8, INSIDE, "person") for n in range(10)],  # one after the other
    ],
)
def test_who_is_elsewhere_something_else_or_passes_is_not(plant: Plant, stays: list[Stay]) -> None:
    assert told(plant, stays) == []


def test_a_short_miss_of_the_network_does_not_end_a_stay(plant: Plant) -> None:
    torn: list[Stay] = [(5, 8, INSIDE, "person"), (8.8, 12, INSIDE, "person")]
    assert [action for action, _ in told(plant, torn)] == ["begun", "ended"]


def test_two_persons_are_one_occupation_of_the_zone(plant: Plant) -> None:
    relay: list[Stay] = [(5, 9, INSIDE, "person"), (8, 12, (400.0, 300.0), "person")]
    (_, (action, lasted_s)) = told(plant, relay)
    assert action == "ended"
    assert lasted_s == pytest.approx(7.0 - 1 / FPS)


def alert(at_s: float, code: int, data: Scalar, *, name: str = "cam") -> Entry:
    return message("i/alert", {"id": name, "code": code, "data": data}, at_s=at_s, kind="alert")


def test_movement_that_lasts_is_told_and_a_passer_by_is_not(plant: Plant) -> None:
    short = [alert(at_s, 100, "data:image/jpeg;base64,AAAA") for at_s in range(0, 16, 5)]
    long = [alert(at_s, 100, "data:image/jpeg;base64,AAAA") for at_s in range(100, 126, 5)]
    cold = [alert(at_s, 200, 3.5, name="bme680") for at_s in range(130, 160, 5)]
    (found,) = said(plant, "movement-lasts", [*short, *long, *cold])
    assert (found["seconds"], found["values"]["count"]) == (25.0, 6)
    assert found["key"] == {"id": "cam"}


def test_frost_is_told_once_it_is_more_than_a_draught(plant: Plant) -> None:
    draught = [alert(at_s, 200, 3.5, name="bme680") for at_s in (0, 40)]
    frost = [alert(at_s, 200, 3.5, name="bme680") for at_s in (200, 210, 220, 230)]
    found = said(plant, "climate", [*draught, alert(100, 100, "picture"), *frost])
    assert [one["action"] for one in found] == ["begun", "ended"]
    assert found[0]["key"] == {"id": "bme680", "code": 200}
