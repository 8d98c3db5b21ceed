"""Figures of the picture itself: is it sharp, lit, and not clipped."""

import numpy as np
from numpy.typing import NDArray

from lineside.vision.prediction import HealthFigures


def grey_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(height, width) uint8 grey of an RGB picture (ITU-R BT.601 weights)."""
    import cv2

    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def picture_health(image: NDArray[np.uint8]) -> HealthFigures:
    """Sharpness, mean grey and clipped share of an RGB picture; the network adds its distance."""
    return grey_health(grey_of(image))


def grey_health(grey: NDArray[np.uint8]) -> HealthFigures:
    """The same figures from (height, width) uint8 grey, for callers that have it already."""
    import cv2

    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    inside = cv2.countNonZero(cv2.inRange(grey, 3, 252))
    return HealthFigures(
        sharpness=float(deviation[0, 0]) ** 2,
        mean_grey=cv2.sumElems(grey)[0] / grey.size,
        clipped_share=(grey.size - inside) / grey.size,
    )
