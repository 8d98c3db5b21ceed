"""Thumbnails of mistakes: truth in green, answer in magenta."""

from dataclasses import replace

import numpy as np

from lineside.core import digest_of
from lineside.datasets import Marked, Sample
from lineside.models.result import Mistake
from lineside.training.evaluation.evaluate import mistake_pictures
from lineside.training.tasks.contract import Case
from lineside.vision import (
    AnomalyAnswer,
    BoxAnswer,
    Decision,
    MaskAnswer,
    decode_picture,
    encode_png,
)
from lineside.vision.masks import rle_of
from tests.training.test_controls import prediction

GREY = np.full((60, 80, 3), 120, np.uint8)
RAW = encode_png(GREY)
WORST = (Mistake(picture="a", truth="x", said="y", probability=0.9),)


def made(case: Case) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    (jpeg,) = mistake_pictures([case], WORST, files=lambda _: RAW).values()
    return decode_picture(jpeg)


def coloured(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], *, red: bool) -> int:
    first, second = (0, 1) if red else (1, 0)
    return int((image[..., first].astype(int) - image[..., second] > 40).sum())


def sample(marked: tuple[Marked, ...] | None = None) -> Sample:
    return Sample(name="a", digest=digest_of(RAW), marked=marked)


def test_boxes_and_points_are_drawn_in_both_colours() -> None:
    marked = (
        Marked(label="x", x0_px=5, y0_px=5, x1_px=25, y1_px=25),
        Marked(label="x", x0_px=70, y0_px=50, x1_px=70, y1_px=50),
    )
    said = BoxAnswer(label="x", x0_px=40, y0_px=10, x1_px=60, y1_px=30, probability=0.9)
    absent = replace(said, x0_px=1, x1_px=9, decision=Decision.ABSENT)
    case = Case(sample=sample(marked), prediction=replace(prediction(), boxes=(said, absent)))
    image = made(case)
    assert coloured(image, red=False) > 60
    assert 30 < coloured(image, red=True) < 200


def test_masks_are_outlined_and_a_heat_map_lies_over_the_picture() -> None:
    mask = np.zeros((60, 80), np.bool_)
    mask[10:30, 10:30] = True
    answer = MaskAnswer(rle=rle_of(mask[:, ::-1].copy()), width_px=80, height_px=60, share=0.08)
    case = Case(
        sample=sample(), prediction=replace(prediction("segment"), mask=answer), truth_mask=mask
    )
    image = made(case)
    assert coloured(image[:, :40], red=False) > 30
    assert coloured(image[:, 40:], red=True) > 30
    heat = np.zeros((60, 80), np.float32)
    heat[40:50, 40:60] = 4.0
    said = AnomalyAnswer(score=4.0, limit=2.0, decision=Decision.PRESENT)
    hot = Case(sample=sample(), prediction=replace(prediction("anomaly"), anomaly=said), heat=heat)
    assert coloured(made(hot), red=True) > 100


def test_a_mask_or_map_of_another_size_is_left_out() -> None:
    case = Case(
        sample=sample(),
        prediction=prediction("anomaly"),
        truth_mask=np.ones((3, 3), np.bool_),
        heat=np.ones((3, 3), np.float32),
    )
    assert coloured(made(case), red=False) == 0


def test_a_mistake_whose_picture_is_gone_is_left_out() -> None:
    assert mistake_pictures([], WORST, files=lambda _: RAW) == {}
