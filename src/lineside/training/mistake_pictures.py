"""Thumbnails of the worst mistakes: what was marked in green, what was said in magenta."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lineside.training.measures import Case, Worst
from lineside.training.tasks.contract import MOST_BYTES, Files
from lineside.vision import Decision, decode_picture, draw_heat, mask_of, thumbnail

_WIDTH_PX = 240
_TRUE = (44, 182, 125)
_SAID = (214, 0, 147)

Image = NDArray[np.uint8]


def mistake_pictures(
    cases: Sequence[Case], mistakes: Sequence[Worst], *, files: Files
) -> dict[str, bytes]:
    """JPEG by picture name; names that no case has are left out."""
    by_name = {case.sample.name: case for case in cases}
    return {
        worst.picture: _picture(by_name[worst.picture], files=files)
        for worst in mistakes
        if worst.picture in by_name
    }


def _picture(case: Case, *, files: Files) -> bytes:
    image = decode_picture(files(case.sample.digest), max_bytes=MOST_BYTES)
    canvas = np.array(_heated(image, case))
    _outline(canvas, _said(case), colour=_SAID)
    _outline(canvas, case.truth_mask, colour=_TRUE)
    for mark in case.sample.marked or ():
        _rectangle(canvas, (mark.x0_px, mark.y0_px, mark.x1_px, mark.y1_px), colour=_TRUE)
    for box in case.prediction.boxes:
        if box.decision is not Decision.ABSENT:
            _rectangle(canvas, (box.x0_px, box.y0_px, box.x1_px, box.y1_px), colour=_SAID)
    return thumbnail(canvas, width_px=_WIDTH_PX)


def _heated(image: Image, case: Case) -> Image:
    """The picture under its map, the limit (or the map's own middle) half way.

    A mask that was said is outlined instead.
    """
    if case.prediction.mask is not None or case.heat is None or case.heat.shape != image.shape[:2]:
        return image
    answer = case.prediction.anomaly
    low = 0.0 if answer is not None else float(case.heat.min())
    middle = answer.limit if answer is not None else (low + float(case.heat.max())) / 2
    if middle <= low:
        return image
    return draw_heat(image, np.asarray((case.heat - low) / (2 * (middle - low)), np.float32))


def _said(case: Case) -> NDArray[np.bool_] | None:
    answer = case.prediction.mask
    if answer is None:
        return None
    return mask_of(answer.rle, width_px=answer.width_px, height_px=answer.height_px)


def _outline(
    canvas: Image, mask: NDArray[np.bool_] | None, *, colour: tuple[int, int, int]
) -> None:
    import cv2

    if mask is None or mask.shape != canvas.shape[:2]:
        return
    around, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, around, -1, colour, _thick(canvas))


def _rectangle(
    canvas: Image, box: tuple[float, float, float, float], *, colour: tuple[int, int, int]
) -> None:
    import cv2

    left, top, right, bottom = (round(value) for value in box)
    if (left, top) == (right, bottom):
        cv2.circle(canvas, (left, top), 3 * _thick(canvas), colour, _thick(canvas))
    else:
        cv2.rectangle(canvas, (left, top), (right - 1, bottom - 1), colour, _thick(canvas))


def _thick(canvas: Image) -> int:
    return max(1, round(int(canvas.shape[1]) / _WIDTH_PX))
