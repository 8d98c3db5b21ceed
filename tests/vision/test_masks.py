"""Run lengths, pieces, and from a map of logits to a mask and a decision."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from lineside.core import InvalidError, Policy
from lineside.vision import Decision, MaskRule, Prepare
from lineside.vision.masks import (
    decide_score,
    inside_picture,
    mask_answer,
    mask_of,
    mask_score,
    on_picture,
    pieces_of,
    rle_of,
    score_probability,
    set_pixels,
    top_mean,
    without_small,
)

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=12))
RULE = MaskRule(
    label="crack",
    cut=0.5,
    least_px=3,
    present_above=0.7,
    absent_below=0.2,
    error_rate=0.1,
    calibration_pictures=30,
    top_share=0.25,
    stride_px=2,
    floor=0.05,
)


def zoomed(zoom: float, multiple: int = 8) -> Prepare:
    return Prepare(crops=(), width_px=8, height_px=8, fit="zoom", zoom=zoom, multiple=multiple)


@given(masks)
def test_run_lengths_give_the_mask_back(mask: NDArray[np.bool_]) -> None:
    height, width = mask.shape
    assert np.array_equal(mask_of(rle_of(mask), width_px=width, height_px=height), mask)


def test_runs_go_down_the_columns_and_begin_with_what_is_not_set() -> None:
    mask = np.array([[0, 1, 1], [0, 0, 1]], np.bool_)
    assert rle_of(mask) == "2 1 1 2"
    assert rle_of(~mask) == "0 2 1 1 2"
    assert rle_of(np.zeros((2, 3), np.bool_)) == "6"


@pytest.mark.parametrize(
    "text",
    [
        "5",
        "7",
        "",
        "2 -1 5",
        "2 x 3",
        "2 1.0 3",
        "1e1",
        "²",
        "9" * 30,
        "999999999 999999999",
        "6 0 1",
    ],
)
def test_runs_that_are_no_mask_of_that_size_are_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        mask_of(text, width_px=3, height_px=2)


@given(st.text(max_size=30), st.integers(-3, 9), st.integers(-3, 9))
def test_any_text_is_a_mask_or_refused(text: str, width: int, height: int) -> None:
    try:
        mask = mask_of(text, width_px=width, height_px=height)
    except InvalidError:
        return
    assert mask.shape == (height, width)


def test_a_mask_too_large_to_hold_is_refused_before_it_is_made() -> None:
    with pytest.raises(InvalidError):
        mask_of(str(10**9), width_px=10**5, height_px=10**4)


def test_small_pieces_are_dropped_and_touching_corners_join() -> None:
    mask = np.zeros((8, 8), np.bool_)
    mask[0, 0] = mask[1, 1] = mask[2, 2] = True
    mask[6, 6:8] = True
    found, areas = without_small(mask, least_px=3)
    assert areas == (3,)
    assert found.sum() == 3
    assert not found[6].any()
    assert without_small(mask, least_px=0)[1] == (3, 2)
    assert without_small(np.zeros((3, 3), np.bool_), least_px=1)[1] == ()


@given(masks)
def test_pieces_are_apart_and_together_the_mask(mask: NDArray[np.bool_]) -> None:
    boxes, pieces = pieces_of(mask)
    assert pieces.shape == (len(boxes), *mask.shape)
    assert (pieces.sum(axis=0) == mask).all()
    assert [int(piece.sum()) for piece in pieces] == list(without_small(mask, least_px=1)[1])
    for (x0, y0, x1, y1), piece in zip(boxes.astype(int), pieces, strict=True):
        rows, columns = np.nonzero(piece)
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x0, y0, x1, y1)


@given(masks, st.integers(0, 6))
def test_what_is_left_was_set_and_is_counted(mask: NDArray[np.bool_], least: int) -> None:
    found, areas = without_small(mask, least_px=least)
    assert not (found & ~mask).any()
    assert sum(areas) == found.sum()
    assert list(areas) == sorted(areas, reverse=True)


@pytest.mark.parametrize("zoom", [0.5, 1.0, 2.0])
def test_a_map_lies_on_the_picture_where_the_network_saw_it(zoom: float) -> None:
    settings = zoomed(zoom)
    width, height = 37, 21
    rows, columns = (math.ceil(side * zoom / 8) * 4 for side in (height, width))
    grid = np.zeros((rows, columns), np.float32)
    grid[:, 2:] = 10.0  # beyond 4 network px from the left
    laid = on_picture(grid, settings, width_px=width, height_px=height)
    assert laid.shape == (height, width)
    edge_px = 4 / zoom
    assert (laid[:, : int(edge_px - 1 / zoom)] < 5).all()
    assert (laid[:, math.ceil(edge_px + 1 / zoom) :] > 5).all()


def test_a_flat_map_stays_flat_to_the_edges() -> None:
    laid = on_picture(np.full((8, 12), 3.0, np.float32), zoomed(1.0), width_px=23, height_px=15)
    assert np.allclose(laid, 3.0)


def test_cells_beyond_the_picture_do_not_count() -> None:
    grid = np.arange(4 * 8, dtype=np.float32).reshape(4, 8)  # 8 x 16 network px, cells of 2
    inside = inside_picture(grid, zoomed(1.0), width_px=11, height_px=5)
    assert inside.shape == (2, 5)  # centres at 1, 3 and 1, 3, 5, 7, 9
    assert inside_picture(grid, zoomed(1.0), width_px=1, height_px=1).shape == (1, 1)
    assert inside_picture(grid, zoomed(1.0), width_px=16, height_px=8).shape == (4, 8)


def test_the_score_is_the_mean_probability_of_the_largest_cells() -> None:
    cells = np.array([[0.0, -30.0], [30.0, -30.0], [0.0, -30.0], [0.0, -30.0]], np.float32)
    assert mask_score(cells, RULE) == pytest.approx(0.75)
    assert top_mean(cells, share=1e-6) == pytest.approx(1.0)
    assert top_mean(cells, share=1.0) == pytest.approx(2.5 / 8)


def test_between_the_cuts_a_score_is_unsure() -> None:
    policy = Policy()
    said = [decide_score(score, RULE, policy=policy).decision for score in (0.1, 0.2, 0.7, 0.71)]
    assert said == [Decision.ABSENT, Decision.UNSURE, Decision.UNSURE, Decision.PRESENT]


def test_a_cut_that_the_policy_fixes_leaves_nothing_unsure() -> None:
    policy = Policy(present_above=0.6)
    assert decide_score(0.5, RULE, policy=policy).decision is Decision.ABSENT
    assert decide_score(0.65, RULE, policy=policy).decision is Decision.PRESENT


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_higher_score_is_never_less_probable(one: float, other: float) -> None:
    rule = replace(RULE, slope=2.0, offset=-0.5)
    low, high = sorted((one, other))
    assert score_probability(low, rule) <= score_probability(high, rule)
    assert rule.floor <= score_probability(one, rule) <= 1 - rule.floor


def test_pixels_above_the_cut_are_set_and_counted() -> None:
    logits = np.full((6, 6), -2.0, np.float32)
    logits[1:3, 1:4] = 2.0
    logits[5, 5] = 2.0
    mask, areas = set_pixels(logits, RULE)
    assert areas == (6,)
    said = mask_answer(mask, areas)
    assert (said.width_px, said.height_px, said.areas_px) == (6, 6, (6,))
    assert said.share == pytest.approx(6 / 36)
    assert np.array_equal(mask_of(said.rle, width_px=6, height_px=6), mask)


@pytest.mark.parametrize(
    "wrong",
    [{"cut": 0.0}, {"cut": 1.0}, {"top_share": 0.0}, {"floor": 0.6}, {"absent_below": 0.8}],
)
def test_a_rule_that_cannot_decide_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        replace(RULE, **wrong)
