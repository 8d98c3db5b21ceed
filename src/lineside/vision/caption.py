"""A line of red text on a picture, for people who watch from afar."""

import numpy as np
from numpy.typing import NDArray

# Of a Full HD picture: OpenCV's simple Hershey font at scale 5, 12 px thick, its baseline beginning
# at (20, 200). Everything scales with the picture's height.
_HEIGHT_PX = 1080
_SCALE, _THICK_PX = 5.0, 12.0
_LEFT_PX, _BASE_PX = 20.0, 200.0
_RED = (255, 0, 0)


def draw_caption(image: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A copy of the picture with red text at its upper left; long text is set smaller to fit.

    Args:
        image: (height, width, 3) uint8 RGB.
        text: letters that the built-in font lacks become question marks.
    """
    import cv2

    canvas = np.array(image, np.uint8, copy=True)
    height, width = canvas.shape[:2]
    share = height / _HEIGHT_PX
    plain = text.encode("ascii", "replace").decode()
    left, font = round(_LEFT_PX * share), cv2.FONT_HERSHEY_SIMPLEX
    scale, thick = _SCALE * share, max(1, round(_THICK_PX * share))
    (wide, _), _ = cv2.getTextSize(plain, font, scale, thick)
    room = width - 2 * left
    if wide > room:
        scale *= room / wide
        thick = max(1, round(thick * room / wide))
    base = (left, round(_BASE_PX * share))
    cv2.putText(canvas, plain, base, font, scale, _RED, thick, cv2.LINE_AA)
    return canvas
