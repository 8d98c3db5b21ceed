"""Figures of a picture, and pictures as evidence."""

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import Box
from lineside.testing.bare import bare_prediction
from lineside.testing.pictures import lit, rack
from lineside.vision import (
    Crop,
    Decision,
    LabelAnswer,
    PictureState,
    Prediction,
    draw_heat,
    picture_health,
)
from lineside.vision.draw import draw_overlay, heat_layer
from lineside.vision.geometry import similarity
from lineside.vision.masks import mask_answer

CROP = Crop(region="top", box_px=Box(x0_px=60, y0_px=50, x1_px=120, y1_px=90))


def blurred(image: NDArray[np.uint8], *, sigma: float) -> NDArray[np.uint8]:
    import cv2

    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def test_sharpness_falls_with_blur() -> None:
    figures = [picture_health(blurred(rack(), sigma=s)).sharpness for s in (0.3, 1, 2, 4)]
    assert figures == sorted(figures, reverse=True)
    assert figures[0] > 20 * figures[-1]


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    grey = np.zeros((40, 60), np.uint8)
    grey[:, 30:] = 100
    image = np.repeat(grey[..., None], 3, axis=2)
    laplacian = np.zeros((40, 60))
    laplacian[:, 29], laplacian[:, 30] = 100, -100
    assert picture_health(image).sharpness == pytest.approx(laplacian.var())


def test_light_shows_in_mean_grey_and_clipping() -> None:
    dark, normal, bright = (picture_health(lit(rack(), gain=g)) for g in (0.2, 1.0, 4.0))
    assert dark.mean_grey < normal.mean_grey < bright.mean_grey
    assert normal.clipped_share < 0.05 < bright.clipped_share


@pytest.mark.parametrize(
    ("value", "clipped"), [(0, 1.0), (2, 1.0), (3, 0.0), (252, 0.0), (253, 1.0)]
)
def test_an_even_picture_has_its_own_grey(value: int, clipped: float) -> None:
    found = picture_health(np.full((30, 40, 3), value, np.uint8))
    assert found.mean_grey == pytest.approx(value)
    assert (found.sharpness, found.clipped_share) == (0.0, clipped)


def test_heat_goes_from_nothing_through_amber_to_magenta() -> None:
    layer = heat_layer(np.array([[0.0, 0.5, 1.0]], np.float32))[0]
    assert layer[0, 3] == 0
    assert tuple(layer[1, :3]) == (255, 176, 0)
    assert tuple(layer[2, :3]) == (214, 0, 147)
    assert layer[1, 3] == layer[2, 3] == round(255 * 0.75)


def test_where_there_is_no_heat_the_picture_stays() -> None:
    image = rack(width=64, height=48)
    heat = np.zeros((48, 64), np.float32)
    assert np.array_equal(draw_heat(image, heat), image)
    heat[10:20, 10:20] = 1.0
    drawn = draw_heat(image, heat)
    assert np.array_equal(drawn[30:], image[30:])
    assert not np.array_equal(drawn[10:20, 10:20], image[10:20, 10:20])


def prediction(
    *answers: LabelAnswer, state: PictureState = PictureState.OK, reason: str = ""
) -> Prediction:
    return bare_prediction(task="multilabel", state=state, labels=answers, reason=reason)


def answer(decision: Decision, *, region: str = "top", label: str = "blue") -> LabelAnswer:
    return LabelAnswer(name=label, region=region, label=label, probability=0.73, decision=decision)


def changed(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero((before != after).any(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


@pytest.mark.parametrize("decision", list(Decision))
def test_a_region_is_outlined_where_it_lies(decision: Decision) -> None:
    image = rack()
    untouched = image.copy()
    drawn = draw_overlay(image, prediction(answer(decision)), crops=[CROP])
    assert np.array_equal(image, untouched)
    left, top, _, bottom = changed(image, drawn)
    assert left == pytest.approx(60, abs=1)
    assert 30 <= top < 50
    assert bottom == pytest.approx(90, abs=1)


def test_the_outline_moves_with_the_camera() -> None:
    image = rack()
    shown = prediction(answer(Decision.PRESENT))
    drawn = draw_overlay(image, shown, crops=[CROP], matrix=similarity(dx_px=40, dy_px=25))
    left, _, _, bottom = changed(image, drawn)
    assert left == pytest.approx(100, abs=1)
    assert bottom == pytest.approx(115, abs=1)


@pytest.mark.parametrize(("dx", "dy"), [(-200, 0), (300, 0), (0, -200), (0, 300), (-400, -400)])
def test_a_label_near_or_over_the_edge_is_drawn_inside(dx: float, dy: float) -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    matrix = similarity(dx_px=dx, dy_px=dy)
    shown = prediction(answer(Decision.PRESENT, label="a long label, too long"))
    drawn = draw_overlay(image, shown, crops=[CROP], matrix=matrix)
    left, top, right, bottom = changed(image, drawn)
    assert right - left > 50
    assert bottom - top > 5


def test_a_label_wider_than_the_picture_does_not_fail() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    shown = prediction(answer(Decision.UNSURE, region="", label="x" * 300))
    assert draw_overlay(image, shown).any()


def test_whole_picture_answers_stand_in_the_corner() -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    shown = prediction(answer(Decision.PRESENT, region=""), answer(Decision.ABSENT, region=""))
    left, top, _, bottom = changed(image, draw_overlay(image, shown))
    assert (left, top) == (0, 0)
    assert bottom < 40


def test_a_refused_picture_shows_its_reason() -> None:
    image = np.zeros((120, 320, 3), np.uint8)
    refused = prediction(state=PictureState.CAMERA_MOVED, reason="turned by 40 degrees")
    drawn = draw_overlay(image, refused)
    assert (drawn[0, 0] == (229, 72, 77)).all()
    assert math.isclose(float((drawn > 0).any(axis=2).mean()), 0.1, abs_tol=0.1)


def test_defective_pixels_are_tinted_where_they_lie() -> None:
    image = np.full((40, 60, 3), 120, np.uint8)
    mask = np.zeros((40, 60), np.bool_)
    mask[20:30, 30:45] = True
    said = replace(prediction(), mask=mask_answer(mask, (150,)))
    drawn = draw_overlay(image, said)
    assert changed(image, drawn) == (30, 20, 44, 29)
    assert (drawn[25, 37] != 120).any()
    assert (image == 120).all()


def test_a_mask_of_another_size_is_not_drawn() -> None:
    image = np.full((40, 60, 3), 120, np.uint8)
    said = replace(prediction(), mask=mask_answer(np.ones((4, 6), np.bool_), (24,)))
    assert np.array_equal(draw_overlay(image, said), image)
