"""Refinement takes the last pixels, and leaves alone what it cannot improve."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import InvalidError
from lineside.testing.pictures import moved, rack
from lineside.vision import Matrix, grey_of
from lineside.vision.geometry import about, apply, identity, similarity
from lineside.vision.registration import (
    CoarseToFine,
    Features,
    Refiner,
    RegistrationLimits,
    Search,
    StillCheck,
)

GREY = grey_of(rack())
MARKS = np.array([[60.0, 60.0], [260.0, 60.0], [160.0, 180.0]])
FLAT = np.full((240, 320), 90, np.uint8)
FAR = similarity(dx_px=900.0)
SEARCH = Search(pixels=45_000, count=500, contrast=0.015, ratio=0.8)


def error_px(found: Matrix, true: Matrix) -> float:
    return float(np.linalg.norm(apply(found, MARKS) - apply(true, MARKS), axis=1).max())


@pytest.mark.parametrize("off", [(1.5, -1.0), (-2.5, 2.0), (0.3, 0.2)])
def test_a_start_within_a_few_pixels_becomes_a_fraction_of_one(off: tuple[float, float]) -> None:
    true = about((160.0, 120.0), similarity(scale=1.01, rotation_deg=0.8))
    picture = grey_of(moved(rack(), true))
    start = true + np.array([[0, 0, off[0]], [0, 0, off[1]]])
    found = Refiner(GREY).refine(picture, start)
    assert error_px(found.matrix, true) < 0.1
    assert found.correlation > 0.9


def test_what_covers_part_of_the_picture_does_not_pull() -> None:
    true = similarity(dx_px=2.0, dy_px=-1.0)
    picture = grey_of(moved(rack(), true)).copy()
    picture[60:150, 80:190] = np.random.default_rng(0).integers(0, 256, (90, 110))
    found = Refiner(GREY).refine(picture, identity())
    assert error_px(found.matrix, true) < 0.3


def test_the_better_of_start_and_end_is_kept() -> None:
    refiner = Refiner(GREY)
    wild = similarity(dx_px=60.0, dy_px=40.0)
    found = refiner.refine(GREY, wild)
    assert found.correlation >= -1
    near = refiner.refine(GREY, identity())
    assert near.correlation >= found.correlation


@pytest.mark.parametrize(
    ("reference", "picture", "start"),
    [
        (FLAT, FLAT, identity()),
        (GREY, FLAT, identity()),
        (FLAT, GREY, identity()),
        (GREY, GREY, FAR),
    ],
)
def test_nothing_to_go_by_leaves_the_start(
    *, reference: NDArray[np.uint8], picture: NDArray[np.uint8], start: Matrix
) -> None:
    found = Refiner(reference).refine(picture, start)
    assert np.array_equal(found.matrix, start)
    assert found.correlation == 0.0


def test_stripes_leave_the_start_because_they_fix_one_direction_only() -> None:
    stripes = np.tile(np.repeat(np.array([40, 200], np.uint8), 16), (240, 10))
    found = Refiner(stripes).refine(stripes, similarity(dx_px=1.0))
    assert np.array_equal(found.matrix, similarity(dx_px=1.0))


def test_the_overlap_is_the_share_of_the_view_that_is_seen() -> None:
    found = Refiner(GREY).refine(grey_of(moved(rack(), similarity(dx_px=80))), similarity(dx_px=80))
    assert found.overlap == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize(("kept", "shown"), [(FLAT, GREY), (GREY, FLAT), (FLAT, FLAT)])
def test_a_flat_picture_is_never_still(kept: NDArray[np.uint8], shown: NDArray[np.uint8]) -> None:
    assert not StillCheck(kept).holds(shown)


def test_features_of_a_flat_picture_match_nothing() -> None:
    features = Features(GREY, search=SEARCH, turn_max_deg=20.0, grow_max=1.25)
    assert features.match(FLAT) is None
    assert Features(FLAT, search=SEARCH, turn_max_deg=20.0, grow_max=1.25).match(GREY) is None


@pytest.mark.parametrize("scales", [(0.0, 1.25), (1.1, 1.25), (0.8, 0.9)])
def test_limits_that_forbid_the_view_itself_are_refused(scales: tuple[float, float]) -> None:
    with pytest.raises(InvalidError, match="scale_min"):
        RegistrationLimits(scale_min=scales[0], scale_max=scales[1])


@pytest.mark.parametrize("off", [(11.0, -8.0), (-9.0, 10.0)])
def test_from_coarse_to_fine_a_start_many_pixels_off_is_near_enough(
    off: tuple[float, float],
) -> None:
    true = about((160.0, 120.0), similarity(scale=1.01, rotation_deg=1.5))
    picture = grey_of(moved(rack(), true))
    start = true + np.array([[0, 0, off[0]], [0, 0, off[1]]])
    alone = Refiner(GREY).refine(picture, start)
    found = CoarseToFine(GREY, reductions=(4, 2)).refine(picture, start)
    assert error_px(found.matrix, true) < 0.25
    assert error_px(alone.matrix, true) > 2.0
    assert found.correlation > 0.9


def test_a_picture_at_full_size_alone_is_refined_as_ever() -> None:
    picture = grey_of(moved(rack(), similarity(dx_px=2.0)))
    one = CoarseToFine(GREY, reductions=(1,)).refine(picture, identity())
    other = Refiner(GREY).refine(picture, identity())
    assert np.array_equal(one.matrix, other.matrix)
    assert (one.correlation, one.overlap) == (other.correlation, other.overlap)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (40, 61)])
def test_pictures_too_small_to_reduce_leave_the_start(size: tuple[int, int]) -> None:
    grey = np.random.default_rng(0).integers(0, 255, size).astype(np.uint8)
    found = CoarseToFine(grey, reductions=(16,)).refine(grey, identity())
    assert np.array_equal(found.matrix, identity())
    assert found.correlation == 0.0
