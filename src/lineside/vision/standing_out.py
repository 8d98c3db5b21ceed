"""Things on a belt without a trained model: what stands out from its own row of the picture.

A belt that moves up or down the picture looks much the same across its width, whatever its marks,
seams and light along it. So each row's median is the belt there, and what differs from it is a
thing, if it is narrower than half of the picture and touches neither of its sides. For a belt that
moves across, turn the picture.
"""

import numpy as np
from numpy.typing import NDArray

from lineside.vision.prediction import BoxAnswer

LABEL = "thing"
_COLOUR = 2.0  # a step of colour tells more than one of lightness, which shadows change too
_BLUR_PX = 2.0


def standing_out(
    picture: NDArray[np.uint8], *, contrast: float = 28.0, least_px: int = 500, join_px: int = 15
) -> tuple[BoxAnswer, ...]:
    """Boxes of what stands out.

    Args:
        picture: (height, width, 3) uint8 RGB.
        contrast: distance in CIE L*a*b* (8-bit scale, colour doubled) from the row's median.
        least_px: smallest area.
        join_px: parts closer than this are one thing.

    Returns:
        In order of the component labels; the score is the share of the box that stands out.
    """
    import cv2

    soft = cv2.GaussianBlur(picture, (0, 0), _BLUR_PX)
    lab = cv2.cvtColor(soft, cv2.COLOR_RGB2LAB).astype(np.float32)
    off = (lab - np.median(lab, axis=1, keepdims=True)) * np.array([1, _COLOUR, _COLOUR])
    mask = (np.sqrt((off**2).sum(axis=2)) > contrast).astype(np.uint8)
    joined = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((join_px, join_px), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(joined)
    width = picture.shape[1]
    return tuple(
        _box(*(int(figure) for figure in row))
        for row in stats[1:]
        if row[4] >= least_px and row[2] < width / 2 and row[0] > 0 and row[0] + row[2] < width
    )


def _box(x: int, y: int, width: int, height: int, area: int) -> BoxAnswer:  # noqa: PLR0917  a row of OpenCV's
    return BoxAnswer(
        label=LABEL, x0_px=x, y0_px=y, x1_px=x + width, y1_px=y + height,
        probability=round(area / (width * height), 4),
    )  # fmt: skip
