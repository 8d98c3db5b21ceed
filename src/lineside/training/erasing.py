"""Paint a marked defect or object over from its surroundings (Telea 2004)."""

import numpy as np
from numpy.typing import NDArray

from lineside.training.measures import Case
from lineside.training.tasks.contract import MOST_BYTES
from lineside.vision import decode_picture, encode_png

_MOST_SHARE = 0.3
_MARGIN_SHARE = 0.015
_LEAST_MARGIN_PX = 3
_RADIUS_PX = 5
_AROUND_PX = 24


def marked_area(case: Case) -> NDArray[np.bool_] | None:
    """Where the mark lies, (height, width) bool; None without one that has an area.

    Of boxes, an array just large enough for them; ``erased`` lays it onto the picture.
    """
    if case.truth_mask is not None and case.truth_mask.any():
        return case.truth_mask
    boxes = [mark for mark in case.sample.marked or () if not mark.is_point]
    if not boxes:
        return None
    width = max(1, round(max(box.x1_px for box in boxes)))
    height = max(1, round(max(box.y1_px for box in boxes)))
    area = np.zeros((height, width), np.bool_)
    for box in boxes:
        area[
            max(0, int(box.y0_px)) : round(box.y1_px), max(0, int(box.x0_px)) : round(box.x1_px)
        ] = True
    return area


def erased(encoded: bytes, case: Case) -> bytes:
    """The picture as PNG with its mark painted over, some pixels wider than it was drawn.

    A mark that covers a third of the picture leaves too little to paint from: then it is one grey,
    the median of the rest.
    """
    import cv2

    image = np.array(decode_picture(encoded, max_bytes=MOST_BYTES))
    wide = wide_mark(marked_area(case), image.shape[:2]).astype(np.uint8)
    if not wide.any():
        return encoded
    if wide.mean() > _MOST_SHARE:
        rest = image[wide == 0]
        image[wide > 0] = np.median(rest, axis=0) if len(rest) else 127
        return encode_png(image)
    rows, columns = _around(wide)
    image[rows, columns] = cv2.inpaint(
        np.ascontiguousarray(image[rows, columns]),
        np.ascontiguousarray(wide[rows, columns]),
        _RADIUS_PX,
        cv2.INPAINT_TELEA,
    )
    return encode_png(image)


def wide_mark(area: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mark on a picture of that (height, width), some pixels wider than it was drawn."""
    import cv2

    laid = _on_picture(area, shape)
    margin = max(_LEAST_MARGIN_PX, round(_MARGIN_SHARE * max(shape)))
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    return np.asarray(cv2.dilate(laid.astype(np.uint8), brush) > 0, np.bool_)


def _on_picture(area: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    laid = np.zeros(shape, np.bool_)
    if area is not None:
        part = area[: shape[0], : shape[1]]
        laid[: part.shape[0], : part.shape[1]] = part
    return laid


def _around(wide: NDArray[np.uint8]) -> tuple[slice, slice]:
    """The mark with some picture around it, so that the rest is not touched."""
    down, across = np.flatnonzero(wide.any(axis=1)), np.flatnonzero(wide.any(axis=0))
    return (
        slice(max(0, int(down[0]) - _AROUND_PX), int(down[-1]) + 1 + _AROUND_PX),
        slice(max(0, int(across[0]) - _AROUND_PX), int(across[-1]) + 1 + _AROUND_PX),
    )
