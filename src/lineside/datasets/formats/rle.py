"""Masks as run lengths and polygons, as COCO writes them.

1. Runs go down the columns, first of 0 then of 1, in turns; they sum to height times width.
2. Compressed runs are text: each run, from the fourth on less the run two before it, in groups of
   five bits, lowest first, each group plus 48, bit 5 set where more follow; the sign is the highest
   bit of the last group.
3. A polygon holds the pixels whose centres lie inside it (even-odd); several polygons of one object
   add up.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError

Mask = NDArray[np.bool_]
_MOST_RUNS = 10_000_000


def runs_of(mask: Mask) -> list[int]:
    """The run lengths of a (height, width) mask."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(run) for run in np.diff(np.concatenate([[0], edges, [mask.size]]))]


def mask_of_runs(runs: Sequence[int], *, width: int, height: int) -> Mask:
    """The mask of run lengths.

    Raises:
        InvalidError: a run below zero, or they do not sum to the picture's pixels.
    """
    lengths = np.asarray(runs, np.int64)
    if len(lengths) > _MOST_RUNS or (lengths < 0).any() or lengths.sum() != width * height:
        raise InvalidError(f"runs that do not fill {width} x {height} pixels")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape((height, width), order="F")


def compressed(runs: Sequence[int]) -> str:
    """Run lengths as text."""
    written: list[str] = []
    for place, run in enumerate(runs):
        left = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            group = left & 0x1F
            left >>= 5
            more = left != (-1 if group & 0x10 else 0)
            written.append(chr(group + (0x20 if more else 0) + 48))
    return "".join(written)


def uncompressed(text: str) -> list[int]:
    """Run lengths of their text.

    Raises:
        InvalidError: a character that stands for nothing, or the text ends inside a run.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        group = ord(letter) - 48
        if not 0 <= group < 64 or shift > 40:
            raise InvalidError(f"{letter!r} in run lengths")
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        value -= (1 << shift) if group & 0x10 else 0
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise InvalidError("run lengths that end inside a run")
    return runs


def mask_of_polygon(points: Sequence[float], *, width: int, height: int) -> Mask:
    """The pixels whose centres lie inside a polygon ``x0 y0 x1 y1 …`` in pixels.

    Raises:
        InvalidError: fewer than three corners, or a corner that is no point.
    """
    corners = np.asarray(points, np.float64)
    if len(corners) < 6 or len(corners) % 2 or not np.isfinite(corners).all():
        raise InvalidError(f"a polygon of {len(corners)} numbers")
    x0, y0 = corners[0::2], corners[1::2]
    x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
    mask = np.zeros((height, width), np.bool_)
    first = int(np.clip(np.floor(y0.min()), 0, height))
    last = int(np.clip(np.ceil(y0.max()), 0, height))
    for row in range(first, last):
        centre = row + 0.5
        crossing = (y0 <= centre) != (y1 <= centre)
        if not crossing.any():
            continue
        ax, ay, bx, by = x0[crossing], y0[crossing], x1[crossing], y1[crossing]
        cuts = np.sort(ax + (centre - ay) * (bx - ax) / (by - ay))
        edges = np.clip(np.ceil(cuts - 0.5), 0, width).astype(int)
        for left, right in zip(edges[0::2], edges[1::2], strict=True):
            mask[row, left:right] = True
    return mask


def mask_png(mask: Mask, *, mark: int = 255) -> bytes:
    """A grey PNG of a mask: ``mark`` where it is set, else 0."""
    import cv2

    return bytes(cv2.imencode(".png", mask.astype(np.uint8) * np.uint8(mark))[1])


def marks_of(image: NDArray[np.uint8]) -> Mask:
    """Where a mask's picture is above 127 in any colour."""
    red, green, blue = (image[..., place] > 127 for place in range(3))
    return np.asarray(red | green | blue, np.bool_)


def box_of(mask: Mask) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 around the pixels that are set, the far corner outside; None for none."""
    down, across = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(down):
        return None
    return int(across[0]), int(down[0]), int(across[-1]) + 1, int(down[-1]) + 1
