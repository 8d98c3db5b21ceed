"""Figures of masks and maps, against their definitions worked out the slow way."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference

from lineside.core import InvalidError
from lineside.vision.metrics import (
    f1_of,
    iou_of,
    pixel_auroc,
    pixel_counts,
    pixel_f1,
    pro,
    region_bins,
)

Maps = list[NDArray[np.float32]]
Masks = list[NDArray[np.bool_]]


def drawn(seed: int, *, pictures: int = 3, separable: float = 1.5) -> tuple[Maps, Masks]:
    """Maps of different sizes, defective pixels higher by ``separable`` deviations."""
    rng = np.random.default_rng(seed)
    maps: Maps = []
    truths: Masks = []
    for number in range(pictures):
        size = tuple(rng.integers(12, 30, 2))
        truth = np.zeros(size, np.bool_)
        if number:  # the first one is good
            for _ in range(3):
                row, column = rng.integers(0, size[0] - 4), rng.integers(0, size[1] - 4)
                truth[row : row + rng.integers(1, 5), column : column + rng.integers(1, 5)] = True
        maps.append((rng.normal(0, 1, size) + separable * truth).astype(np.float32))
        truths.append(truth)
    return maps, truths


def slow_pro(maps: Maps, truths: Masks, *, limit: float) -> float:
    """Bergmann et al. 2021 at every threshold that occurs."""
    pieces = []
    for values, truth in zip(maps, truths, strict=True):
        count, numbers = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
        pieces += [values[numbers == number] for number in range(1, count)]
    good = np.concatenate([v[~t] for v, t in zip(maps, truths, strict=True)])
    cuts = np.unique(np.concatenate([m.reshape(-1) for m in maps]))[::-1]
    x = [0.0, *(float(np.mean(good >= cut)) for cut in cuts)]
    y = [0.0, *(float(np.mean([np.mean(p >= cut) for p in pieces])) for cut in cuts)]
    inside = [(a, b) for a, b in zip(x, y, strict=True) if a < limit]
    ends = [*inside, (limit, float(np.interp(limit, x, y)))]
    return float(np.trapezoid([b for _, b in ends], [a for a, _ in ends]) / limit)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_the_pixel_auroc_is_that_of_all_pixels_in_one_list(seed: int) -> None:
    maps, truths = drawn(seed)
    wanted = reference.roc_auc_score(
        np.concatenate([t.reshape(-1) for t in truths]),
        np.concatenate([m.reshape(-1) for m in maps]),
    )
    assert pixel_auroc(maps, truths) == pytest.approx(wanted, abs=2e-3)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_the_overlap_per_region_is_that_of_every_threshold(seed: int) -> None:
    maps, truths = drawn(seed)
    assert pro(maps, truths) == pytest.approx(slow_pro(maps, truths, limit=0.3), abs=5e-3)


def test_coarse_bins_stay_near_the_exact_figures() -> None:
    maps, truths = drawn(3, pictures=6)
    coarse, fine = region_bins(maps, truths, bins=128), region_bins(maps, truths)
    assert coarse.auroc() == pytest.approx(fine.auroc(), abs=3e-3)
    assert coarse.pro() == pytest.approx(fine.pro(), abs=1e-2)
    assert len(coarse.edges) < 128


def test_a_perfect_map_reaches_one_and_an_upside_down_one_nothing() -> None:
    truth = np.zeros((20, 20), np.bool_)
    truth[3:6, 4:9] = True
    values = truth.astype(np.float32)
    assert pixel_auroc([values], [truth]) == 1.0
    assert pro([values], [truth]) == pytest.approx(1.0)
    assert pixel_auroc([-values], [truth]) == 0.0
    assert pro([-values], [truth]) == 0.0


def test_a_map_that_says_nothing_is_half_right() -> None:
    truth = np.zeros((20, 20), np.bool_)
    truth[3:6, 4:9] = True
    flat = np.zeros((20, 20), np.float32)
    assert pixel_auroc([flat], [truth]) == 0.5
    assert pro([flat], [truth]) == pytest.approx(0.15)


def test_small_and_large_pieces_weigh_the_same_in_the_overlap() -> None:
    truth = np.zeros((40, 40), np.bool_)
    truth[0:20, 0:20] = True  # found
    truth[30, 30] = True  # missed
    values = np.zeros((40, 40), np.float32)
    values[0:20, 0:20] = 1.0
    values[30, 30] = -1.0
    assert pro([values], [truth]) == pytest.approx(0.5)


def test_without_a_defect_or_a_good_pixel_there_is_no_figure() -> None:
    values, nothing = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.bool_)
    assert math.isnan(pixel_auroc([values], [nothing]))
    assert math.isnan(pixel_auroc([values], [~nothing]))
    assert math.isnan(pro([values], [nothing]))
    assert math.isnan(pro([values], [~nothing]))
    assert math.isnan(pixel_f1([nothing], [nothing]))
    assert math.isnan(iou_of(pixel_counts([nothing], [nothing])))
    assert math.isnan(pixel_auroc([], []))


def test_a_row_drawn_twice_weighs_twice() -> None:
    maps, truths = drawn(5, pictures=4)
    bins = region_bins(maps, truths)
    rows = np.array([0, 2, 2, 3])
    chosen = [maps[row] for row in rows], [truths[row] for row in rows]
    assert bins.auroc(rows) == pytest.approx(pixel_auroc(*chosen), abs=2e-3)
    assert bins.pro(rows) == pytest.approx(pro(*chosen), abs=5e-3)
    assert bins.auroc(np.arange(4)) == bins.auroc()
    assert bins.pro(np.arange(4)) == bins.pro()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_f1_and_intersection_are_those_of_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = [rng.random((7, 9)) < 0.4, rng.random((5, 3)) < 0.4]
    truth = [rng.random((7, 9)) < 0.4, rng.random((5, 3)) < 0.4]
    flat_found = np.concatenate([each.reshape(-1) for each in found])
    flat_truth = np.concatenate([each.reshape(-1) for each in truth])
    assert pixel_f1(found, truth) == pytest.approx(reference.f1_score(flat_truth, flat_found))
    share = iou_of(pixel_counts(found, truth))
    assert share == pytest.approx(reference.jaccard_score(flat_truth, flat_found))
    assert pixel_counts(found, truth).sum() == int((flat_found | flat_truth).sum())


def test_pictures_together_are_not_the_mean_of_pictures() -> None:
    counts = np.array([[90, 10, 0], [1, 9, 0]])
    assert f1_of(counts) == pytest.approx(2 * 91 / (2 * 91 + 19))


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((3, 4), np.float32),
        np.zeros(12, np.float32),
        np.full((4, 4), np.nan, np.float32),
    ],
)
def test_maps_that_do_not_fit_are_refused(values: NDArray[np.float32]) -> None:
    with pytest.raises(InvalidError):
        region_bins([values], [np.zeros((4, 4), np.bool_)])


def test_a_map_without_a_truth_is_refused() -> None:
    with pytest.raises(InvalidError):
        pixel_f1([np.zeros((4, 4), np.bool_)], [])
