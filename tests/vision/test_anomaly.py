"""From a map of distances to score, decision and heat."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Box, InvalidError
from lineside.vision import AnomalyRule, Crop, Decision, Prepare
from lineside.vision.anomaly import (
    anomaly_cells,
    anomaly_score,
    decide_anomaly,
    heat_on_picture,
    smoothed_cells,
)
from lineside.vision.geometry import similarity
from lineside.vision.prepare import levelled

RULE = AnomalyRule(
    limit=1.5,
    unsure_above=1.2,
    unit=2.0,
    false_reject_rate=0.05,
    calibration_pictures=40,
    top_share=0.1,
)
WHOLE = (Crop(region="", box_px=Box(x0_px=0, y0_px=0, x1_px=64, y1_px=64)),)
ZOOM = Prepare(crops=WHOLE, width_px=32, height_px=32, fit="zoom", zoom=0.5)


def test_the_score_is_the_mean_of_the_largest_cells_in_the_rules_unit() -> None:
    grid = np.ones((10, 10), np.float32)
    grid[0, :10] = 5.0
    cells = anomaly_cells(
        grid, RULE, settings=Prepare(crops=WHOLE, width_px=80, height_px=80), width_px=64,
        height_px=64,
    )  # fmt: skip
    assert anomaly_score(cells, RULE) == pytest.approx(2.5)


def test_cells_where_no_part_can_be_do_not_count() -> None:
    grid = np.zeros((10, 10), np.float32)
    grid[5, :5] = 4.0
    assert anomaly_score(smoothed_cells(grid, RULE), RULE) == pytest.approx(2.0)
    soft = smoothed_cells(grid, replace(RULE, blur_cells=1.0))
    assert soft[5, 2] == pytest.approx(2.0, rel=1e-4)
    assert soft[4, 2] == 0
    assert anomaly_score(np.zeros((3, 3), np.float32), RULE) == 0.0


@given(
    low=st.floats(0.1, 5),
    more=st.floats(0.01, 5),
    place=st.integers(0, 24),
)
def test_a_farther_cell_never_lowers_the_score(low: float, more: float, place: int) -> None:
    grid = np.full((5, 5), low, np.float32)
    before = anomaly_score(smoothed_cells(grid, RULE), RULE)
    grid.flat[place] += more
    assert anomaly_score(smoothed_cells(grid, RULE), RULE) >= before - 1e-6


@pytest.mark.parametrize(
    ("score", "said"),
    [(1.0, Decision.ABSENT), (1.2, Decision.ABSENT), (1.3, Decision.UNSURE),
     (1.5, Decision.UNSURE), (1.6, Decision.PRESENT)],
)  # fmt: skip
def test_above_the_limit_is_anomalous_and_below_it_first_unsure(
    score: float, said: Decision
) -> None:
    assert decide_anomaly(score, RULE).decision is said


def test_what_is_not_usable_is_always_unsure() -> None:
    rule = replace(RULE, usable=False, reason="good pictures differ")
    assert {decide_anomaly(s, rule).decision for s in (0.0, 1.3, 99.0)} == {Decision.UNSURE}
    assert decide_anomaly(0.0, rule).reason == "good pictures differ"
    assert decide_anomaly(0.0, replace(rule, usable=True)).reason == ""


def test_cells_beyond_the_picture_are_left_aside() -> None:
    grid = np.ones((8, 8), np.float32)
    cells = anomaly_cells(grid, RULE, settings=ZOOM, width_px=70, height_px=100)
    assert cells.shape == (6, 4)


def test_heat_lies_where_the_cells_were_looked_at() -> None:
    cells = np.zeros((8, 8), np.float32)
    cells[2, 5] = 3.0
    heat = heat_on_picture(
        cells, replace(RULE, stride_px=4), settings=ZOOM, width_px=64, height_px=64
    )
    assert heat.shape == (64, 64)
    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    assert max(abs(int(y) - 20), abs(int(x) - 44)) <= 4
    settings = Prepare(crops=WHOLE, width_px=64, height_px=64)
    turned = similarity(rotation_deg=90, dx_px=63)
    heat = heat_on_picture(cells, RULE, settings=settings, width_px=64, height_px=64, matrix=turned)
    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    assert max(abs(int(y) - 44), abs(int(x) - 43)) <= 4


def test_levelled_pictures_have_one_mean() -> None:
    dark = np.full((1, 8, 8, 3), 40, np.uint8)
    settings = Prepare(crops=WHOLE, width_px=8, height_px=8, level=127.0)
    assert levelled(dark, settings).mean() == 127
    assert levelled(dark, replace(settings, level=0.0)) is dark
    assert levelled(np.zeros_like(dark), settings).max() == 0


def test_rules_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidError):
        replace(RULE, unit=0.0)
    with pytest.raises(InvalidError):
        replace(RULE, unsure_above=2.0)
    with pytest.raises(InvalidError):
        replace(RULE, blur_cells=-1.0)
