"""Whether a picture may be judged."""

from dataclasses import replace

import pytest

from lineside.models import HealthLimits
from lineside.models.predictor import judge_features, judge_picture, judge_place, judge_repeats
from lineside.vision import HealthFigures, PictureState, RegistrationFigures

LIMITS = HealthLimits(
    sharpness_min=50.0,
    mean_grey_min=40.0,
    mean_grey_max=200.0,
    clipped_share_max=0.2,
    residual_max_px=2.0,
    feature_distance_max=1.5,
)
GOOD = HealthFigures(sharpness=300.0, mean_grey=110.0, clipped_share=0.02)
ALIGNED = RegistrationFigures(state="aligned", residual_px=1.0)
MOVED = RegistrationFigures(state="moved", reason="scale 2.00 lies outside")


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, PictureState.OK),
        ({"mean_grey": 39.9}, PictureState.BLACK),
        ({"mean_grey": 40.0}, PictureState.OK),
        ({"mean_grey": 200.1}, PictureState.OVEREXPOSED),
        ({"clipped_share": 0.21}, PictureState.OVEREXPOSED),
        ({"sharpness": 49.0}, PictureState.BLURRED),
    ],
)
def test_exposure_and_sharpness_are_held_against_the_limits(
    changes: dict[str, float], state: PictureState
) -> None:
    verdict = judge_picture(replace(GOOD, **changes), LIMITS)
    assert verdict.state is state
    assert bool(verdict.reason) is (state is not PictureState.OK)


def test_a_place_that_fits_lets_the_picture_be_judged() -> None:
    assert judge_place(ALIGNED, GOOD, limits=LIMITS).state is PictureState.OK
    loose = replace(ALIGNED, residual_px=2.1)
    assert judge_place(loose, GOOD, limits=LIMITS).state is PictureState.CAMERA_MOVED
    dark = replace(GOOD, mean_grey=30.0)
    assert judge_place(ALIGNED, dark, limits=LIMITS).state is PictureState.BLACK


def test_another_scene_is_a_moved_camera_however_it_is_exposed() -> None:
    for figures in (GOOD, replace(GOOD, mean_grey=30.0), replace(GOOD, clipped_share=0.4)):
        verdict = judge_place(MOVED, figures, limits=LIMITS)
        assert verdict.state is PictureState.CAMERA_MOVED
        assert verdict.reason.startswith("scale 2.00")


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"mean_grey": 3.0}, PictureState.BLACK),
        ({"clipped_share": 0.9}, PictureState.OVEREXPOSED),
        ({"sharpness": 1.0}, PictureState.BLURRED),
    ],
)
def test_a_picture_of_nothing_says_what_is_wrong_with_it(
    changes: dict[str, float], state: PictureState
) -> None:
    assert judge_place(MOVED, replace(GOOD, **changes), limits=LIMITS).state is state


def test_repeats_count_only_where_a_limit_is_set() -> None:
    assert judge_repeats(LIMITS, repeats=4).state is PictureState.OK
    assert judge_repeats(LIMITS, repeats=5).state is PictureState.FROZEN
    never = replace(LIMITS, frozen_after=0)
    assert judge_repeats(never, repeats=500).state is PictureState.OK


def test_strange_features_are_unfamiliar() -> None:
    assert judge_features(replace(GOOD, feature_distance=1.5), LIMITS).state is PictureState.OK
    strange = judge_features(replace(GOOD, feature_distance=1.6), LIMITS)
    assert strange.state is PictureState.UNFAMILIAR
    assert "1.60" in strange.reason
