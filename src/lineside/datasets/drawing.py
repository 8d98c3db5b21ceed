"""Small pictures with what is drawn on them: boxes, points, the outline of a mask."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lineside.core import Digest
from lineside.datasets.figures import LARGEST_PICTURE
from lineside.datasets.samples import Marked, Sample
from lineside.vision import decode_picture, encode_jpeg

DRAWN_PX = 320
_COLOURS = ((255, 176, 0), (214, 0, 147), (0, 176, 255), (44, 182, 125))
_MASK = (255, 64, 64)
_MASKED = 127

Files = Callable[[Digest], bytes]


def is_drawn_on(sample: Sample) -> bool:
    """Whether there is something to draw."""
    return bool(sample.marked) or sample.mask_digest is not None


def drawn_thumbnail(sample: Sample, *, files: Files, width_px: int = DRAWN_PX) -> bytes:
    """A JPEG at most so wide, with the sample's objects and its mask's outline on it.

    Each label has a colour of its own, as long as there are no more than four.

    Raises:
        InvalidError: the picture or its mask is damaged.
    """
    image = decode_picture(files(sample.digest), max_bytes=LARGEST_PICTURE)
    scale = min(1.0, width_px / image.shape[1])
    small = _scaled(image, scale)
    if sample.mask_digest is not None:
        mask = decode_picture(files(sample.mask_digest), max_bytes=LARGEST_PICTURE)
        _outline(small, mask)
    labels = sorted({mark.label for mark in sample.marked or ()})
    for mark in sample.marked or ():
        colour = _COLOURS[labels.index(mark.label) % len(_COLOURS)]
        _draw(small, mark, scale=scale, colour=colour)
    return encode_jpeg(small, quality=80)


def _scaled(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    import cv2

    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _outline(small: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    import cv2

    size = (small.shape[1], small.shape[0])
    shrunk = cv2.resize(mask[..., 0], size, interpolation=cv2.INTER_AREA)
    found = cv2.findContours(
        (shrunk > _MASKED).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )[0]
    cv2.drawContours(small, found, -1, _MASK, 1)


def _draw(
    small: NDArray[np.uint8], mark: Marked, *, scale: float, colour: tuple[int, int, int]
) -> None:
    import cv2

    if mark.is_point:
        x, y = mark.centre_px
        cv2.circle(small, (round(x * scale), round(y * scale)), 4, colour, 1)
    else:
        start = (round(mark.x0_px * scale), round(mark.y0_px * scale))
        cv2.rectangle(
            small, start, (round(mark.x1_px * scale), round(mark.y1_px * scale)), colour, 1
        )
