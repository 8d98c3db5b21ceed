"""Shapes as labelling programs draw them: boxes, points, polygons, ellipses, lines and masks.

1. A box or a point marks an object and draws nothing. Every other shape marks the box around it and
   is drawn into the picture's mask.
2. A line is drawn one pixel wide: nobody wrote how wide it is.
3. What is drawn is held as it was written and unpacked only where a mask is made, so that a source
   of many pictures fits into memory.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from lineside.core import InvalidError
from lineside.datasets.formats.rle import Mask, box_of, mask_of_polygon, mask_png
from lineside.datasets.formats.rows import Truth
from lineside.datasets.samples import Marked, Skipped

Draw = Callable[[int, int], Mask]
"""Makes a shape's mask for a picture of a width and a height."""
_MOST_NUMBERS = 200_000
_FURTHEST_PX = 1_000_000
_CORNERS_OF_ROUND = 72


@dataclass(frozen=True, slots=True)
class Shape:
    """One drawn object: its corners ``x0, y0, x1, y1`` (a point's are equal) and its mask."""

    corners: tuple[float, float, float, float]
    draw: Draw | None = None
    is_point: bool = False


def point_shape(numbers: Sequence[float]) -> Shape:
    """A point."""
    x, y = _checked(numbers, exactly=1)
    return Shape((x, y, x, y), is_point=True)


def box_shape(numbers: Sequence[float]) -> Shape:
    """The box around corners in any order."""
    return Shape(_corners(_checked(numbers)))


def polygon_shape(numbers: Sequence[float]) -> Shape:
    """A polygon ``x0 y0 x1 y1 …``."""
    checked = _checked(numbers, least=3)
    return Shape(_corners(checked), partial(_draw_polygon, checked))


def line_shape(numbers: Sequence[float]) -> Shape:
    """A line through points; its box holds every pixel of it."""
    checked = _checked(numbers)
    x, y = checked[0::2], checked[1::2]
    corners = (math.floor(min(x)), math.floor(min(y)), math.floor(max(x)), math.floor(max(y)))
    x0, y0, x1, y1 = corners
    return Shape((x0, y0, x1 + 1, y1 + 1), partial(_draw_line, checked))


def ellipse_shape(
    centre: tuple[float, float], radii: tuple[float, float], *, degrees: float = 0.0
) -> Shape:
    """An ellipse, turned clockwise about its centre."""
    across, down = radii
    if min(radii) <= 0:
        raise InvalidError(f"an ellipse of radius {min(radii):g}")
    steps = [2 * math.pi * step / _CORNERS_OF_ROUND for step in range(_CORNERS_OF_ROUND)]
    rim = [value for a in steps for value in (across * math.cos(a), down * math.sin(a))]
    return polygon_shape(rotate(rim, centre=centre, degrees=degrees))


def mask_shape(make: Callable[[], Mask], *, left: int, top: int) -> Shape:
    """A mask of a part of the picture whose upper left pixel is ``left``, ``top``."""
    box = box_of(make())
    if box is None:
        raise InvalidError("a mask without a pixel")
    x0, y0, x1, y1 = box
    corners = _checked([x0 + left, y0 + top, x1 + left, y1 + top])
    return Shape(_corners(corners), partial(_draw_mask, make, left, top))


def rotate(offsets: Sequence[float], *, centre: tuple[float, float], degrees: float) -> list[float]:
    """Points, given by their distances ``x0 y0 x1 y1 …`` from a centre, turned clockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    pairs = zip(offsets[0::2], offsets[1::2], strict=True)
    x, y = centre
    return [v for dx, dy in pairs for v in (x + dx * cos - dy * sin, y + dx * sin + dy * cos)]


def mark_object(shape: Shape, label: str, *, size: tuple[int, int] | None) -> Marked:
    """The object of a shape, cut at the picture's edges where its size is known.

    Raises:
        InvalidError: nothing of it lies on the picture.
    """
    x0, y0, x1, y1 = shape.corners
    mark = Marked(label=label, x0_px=x0, y0_px=y0, x1_px=x1, y1_px=y1)
    if not shape.is_point and (x0 >= x1 or y0 >= y1):
        raise InvalidError(f"a shape without area on the picture: {x0:g} {y0:g} {x1:g} {y1:g}")
    return mark if size is None else mark.cut_at(size[0], height=size[1])


def mask_maker(shapes: Iterable[Shape]) -> Callable[[int, int], bytes] | None:
    """The maker of the mask of all shapes, as ``Row.drawn``; None where nothing is drawn."""
    draws = tuple(shape.draw for shape in shapes if shape.draw is not None)
    return partial(_draw_all, draws) if draws else None


def wanted_name(written: str, truth: Truth, unwanted: Counter[str]) -> str:
    """The wanted name that a label means; "" for one that is not wanted, which is counted.

    Raises:
        InvalidError: the shape has no label.
    """
    if not written:
        raise InvalidError("a shape without label")
    try:
        return truth.name(written)
    except InvalidError:
        unwanted[written] += 1
        return ""


def unwanted_notes(unwanted: Counter[str], *, where: str) -> list[Skipped]:
    """The report on labels that are not wanted."""
    return [
        Skipped(where=where, reason=f"{count} shapes are of {label!r}, which is not wanted")
        for label, count in sorted(unwanted.items())
    ]


def _checked(
    numbers: Sequence[float], *, least: int = 2, exactly: int | None = None
) -> tuple[float, ...]:
    count, odd = divmod(len(numbers), 2)
    wrong = count != exactly if exactly is not None else count < least
    if odd or wrong or len(numbers) > _MOST_NUMBERS:
        wanted = f"{exactly}" if exactly is not None else f"{least} to {_MOST_NUMBERS // 2}"
        raise InvalidError(f"{len(numbers) / 2:g} points where {wanted} are expected")
    far = next((one for one in numbers if not abs(one) <= _FURTHEST_PX), None)
    if far is not None:
        raise InvalidError(f"a point at {far:g}, which lies on no picture")
    return tuple(float(one) for one in numbers)


def _corners(numbers: Sequence[float]) -> tuple[float, float, float, float]:
    x, y = numbers[0::2], numbers[1::2]
    return min(x), min(y), max(x), max(y)


def _draw_all(draws: Sequence[Draw], width: int, height: int) -> bytes:
    mask = np.zeros((height, width), np.bool_)
    for draw in draws:
        mask |= draw(width, height)
    return mask_png(mask)


def _draw_polygon(numbers: Sequence[float], width: int, height: int) -> Mask:
    return mask_of_polygon(numbers, width=width, height=height)


def _draw_line(numbers: Sequence[float], width: int, height: int) -> Mask:
    import cv2

    canvas = np.zeros((height, width), np.uint8)
    points = np.floor(np.asarray(numbers, np.float64).reshape(-1, 1, 2)).astype(np.int32)
    return np.asarray(cv2.polylines(canvas, [points], False, 1) > 0, np.bool_)  # noqa: FBT003  not closed


def _draw_mask(  # noqa: PLR0917  the last two as ``Draw`` says
    make: Callable[[], Mask], left: int, top: int, width: int, height: int
) -> Mask:
    mask = np.zeros((height, width), np.bool_)
    part = make()[max(-top, 0) :, max(-left, 0) :]
    part = part[: max(height - max(top, 0), 0), : max(width - max(left, 0), 0)]
    down, across = part.shape
    mask[max(top, 0) : max(top, 0) + down, max(left, 0) : max(left, 0) + across] = part
    return mask
