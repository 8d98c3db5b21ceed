"""Similarity transforms and boxes, as plain arrays.

A transform is a (2, 3) float64 matrix ``[[a, -b, tx], [b, a, ty]]`` with a = s cos φ and
b = s sin φ. Points are (n, 2), x before y, in pixels; the centre of the first pixel is (0, 0).
Pixel edges therefore lie at -0.5, and a ``Box`` counts from edges: it covers pixels x0_px to
x1_px - 1, so its left edge is at x0_px - 0.5 in these coordinates.
"""

import math

import numpy as np
from numpy.typing import NDArray

from lineside.core import Box, InvalidError

Matrix = NDArray[np.float64]


def identity() -> Matrix:
    """The transform that moves nothing."""
    return np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def similarity(
    *, scale: float = 1.0, rotation_deg: float = 0.0, dx_px: float = 0.0, dy_px: float = 0.0
) -> Matrix:
    """Rotate about the origin, scale, then shift; y points down, so positive turns clockwise."""
    turn = math.radians(rotation_deg)
    a, b = scale * math.cos(turn), scale * math.sin(turn)
    return np.array([[a, -b, dx_px], [b, a, dy_px]])


def about(centre: tuple[float, float], turn: Matrix) -> Matrix:
    """The same turn and scale about ``centre`` instead of the origin, shift added after."""
    to_origin = similarity(dx_px=-centre[0], dy_px=-centre[1])
    return compose(similarity(dx_px=centre[0], dy_px=centre[1]), compose(turn, to_origin))


def compose(outer: Matrix, inner: Matrix) -> Matrix:
    """``inner`` first, then ``outer``."""
    linear = outer[:, :2] @ inner[:, :2]
    return np.hstack([linear, (outer[:, :2] @ inner[:, 2:]) + outer[:, 2:]])


def invert(matrix: Matrix) -> Matrix:
    """The way back; ``InvalidError`` if the transform flattens the plane."""
    determinant = matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]
    if not abs(determinant) > 1e-12:
        raise InvalidError("a transform that cannot be inverted", fix="Register the picture again.")
    back = np.array([[matrix[1, 1], -matrix[0, 1]], [-matrix[1, 0], matrix[0, 0]]]) / determinant
    return np.hstack([back, -(back @ matrix[:, 2:])])


def apply(matrix: Matrix, points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Transform (n, 2) points."""
    return points.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]


def scale_of(matrix: Matrix) -> float:
    """By how much lengths grow."""
    return math.hypot(matrix[0, 0], matrix[1, 0])


def rotation_of(matrix: Matrix) -> float:
    """Degrees, -180 to 180, clockwise as seen."""
    return math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))


def corners(box: Box) -> NDArray[np.float64]:
    """(4, 2) corners of a box in pixel-centre coordinates, clockwise from the upper left."""
    left, top, right, bottom = box.x0_px, box.y0_px, box.x1_px, box.y1_px
    around = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return around - 0.5


def transform_box(matrix: Matrix, box: Box) -> Box:
    """The upright box around a transformed box."""
    moved = apply(matrix, corners(box)) + 0.5
    (x0, y0), (x1, y1) = moved.min(axis=0), moved.max(axis=0)
    return Box(x0_px=float(x0), y0_px=float(y0), x1_px=float(x1), y1_px=float(y1))


def share_inside(box: Box, *, width_px: float, height_px: float) -> float:
    """Share of the box's area that lies inside a picture of that size, 0-1."""
    across = min(box.x1_px, width_px) - max(box.x0_px, 0.0)
    down = min(box.y1_px, height_px) - max(box.y0_px, 0.0)
    area = (box.x1_px - box.x0_px) * (box.y1_px - box.y0_px)
    return max(0.0, across) * max(0.0, down) / area


def scaled(matrix: Matrix, *, target: float, source: float) -> Matrix:
    """Carry a transform between two pictures over to both of them resized.

    Args:
        matrix: from one picture to the other.
        target: by how much the picture transformed to is enlarged.
        source: by how much the picture transformed from is enlarged.

    Pixel centres move by half a pixel in a resize; that is accounted for.
    """
    grow = resize_matrix(target, target)
    return compose(grow, compose(matrix, resize_matrix(1 / source, 1 / source)))


def resize_matrix(across: float, down: float) -> Matrix:
    """Where pixel centres go when a picture is enlarged by these factors."""
    return np.array([[across, 0.0, (across - 1) / 2], [0.0, down, (down - 1) / 2]])


def rounded(matrix: Matrix) -> Matrix:
    """To far less than a pixel: the last bits of a sum depend on where arrays lie in memory."""
    return np.hstack([np.round(matrix[:, :2], 7), np.round(matrix[:, 2:], 4)])
