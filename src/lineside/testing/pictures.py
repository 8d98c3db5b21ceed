"""Pictures made from numbers, for tests that need to know what they show.

A rack of rectangles; trays with discs and squares on them, and folders that say where these lie.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lineside.vision import Matrix, encode_png
from lineside.vision.geometry import similarity

_TRIES = 60
_APART = 2.4
COLOURS = {"disc": (220, 210, 60), "square": (60, 120, 230)}


def rack(*, width: int = 320, height: int = 240, seed: int = 0) -> NDArray[np.uint8]:
    """Rectangles of many greys and colours on a soft ramp: corners everywhere."""
    import cv2

    rng = np.random.default_rng(seed)
    ramp = np.linspace(60, 150, width, dtype=np.float32)[None, :, None]
    image = np.broadcast_to(ramp, (height, width, 3)).astype(np.uint8).copy()
    for _ in range(width * height // 700):
        x, y = int(rng.integers(-10, width)), int(rng.integers(-10, height))
        w, h = int(rng.integers(5, 40)), int(rng.integers(5, 30))
        colour = tuple(int(value) for value in rng.integers(10, 240, 3))
        cv2.rectangle(image, (x, y), (x + w, y + h), colour, thickness=-1)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.8), np.uint8)


def moved(image: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    """The picture a camera takes when the view's points go where ``matrix`` says."""
    import cv2

    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REFLECT), np.uint8)


def shifted(image: NDArray[np.uint8], *, dx_px: float, dy_px: float) -> NDArray[np.uint8]:
    """The picture after the camera slid: the view's points lie that much further right and down."""
    return moved(image, similarity(dx_px=dx_px, dy_px=dy_px))


def lit(image: NDArray[np.uint8], *, gain: float) -> NDArray[np.uint8]:
    """The picture under more or less light."""
    return np.asarray(np.clip(image * gain, 0, 255), np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tray:
    """A picture and what lies on it.

    Attributes:
        image: (side, side, 3) uint8 RGB.
        empty: the same tray with nothing on it.
        boxes: (label, x0, y0, x1, y1) in pixels.
    """

    image: NDArray[np.uint8]
    empty: NDArray[np.uint8]
    boxes: tuple[tuple[str, int, int, int, int], ...]


def tray(number: int, *, seed: int, side: int = 96, half: int = 12) -> Tray:
    """A tray with so many objects of about ``2 * half`` pixels; fewer where no room is left."""
    import cv2

    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 12, (side, side, 1), dtype=np.uint8)
    empty = np.asarray(np.full((side, side, 3), 60, np.uint8) + noise, np.uint8)
    image = empty.copy()
    boxes: list[tuple[str, int, int, int, int]] = []
    middles: list[NDArray[np.int64]] = []
    for _ in range(_TRIES):
        if len(boxes) == number:
            break
        middle = rng.integers(half + 1, side - half - 1, 2)
        if any(np.abs(middle - other).max() < _APART * half for other in middles):
            continue
        middles.append(middle)
        label, reach = ("disc", "square")[int(rng.integers(2))], half - int(rng.integers(3))
        x, y = int(middle[0]), int(middle[1])
        if label == "disc":
            cv2.circle(image, (x, y), reach, COLOURS[label], -1)
        else:
            corners = (x - reach, y - reach), (x + reach, y + reach)
            cv2.rectangle(image, *corners, COLOURS[label], -1)
        boxes.append((label, x - reach, y - reach, x + reach + 1, y + reach + 1))
    return Tray(image=image, empty=empty, boxes=tuple(boxes))


def tray_folder(folder: Path, *, pictures: int, marks: str, template: bool = False) -> Path:
    """A folder of trays with 0 to 4 objects each.

    Args:
        folder: made where it is missing.
        pictures: how many.
        marks: ``boxes``, ``points`` or ``counts``.
        template: whether each picture has the empty tray beside it.
    """
    (folder / "images").mkdir(parents=True)
    (folder / "empty").mkdir()
    rows, marked = [], []
    for place in range(pictures):
        made = tray(place % 5, seed=place)
        file = f"images/{place:03d}.png"
        (folder / file).write_bytes(encode_png(made.image))
        beside = f"empty/{place:03d}.png" if template else ""
        if template:
            (folder / beside).write_bytes(encode_png(made.empty))
        rows.append((file, "tray", len(made.boxes), beside))
        marked += [(file, *box) for box in made.boxes]
    _table(folder / "labels.csv", "file,label,count,template", rows=rows)
    if marks == "boxes":
        boxes = [(file, x0, y0, x1, y1, label) for file, label, x0, y0, x1, y1 in marked]
        _table(folder / "boxes.csv", "file,x1,y1,x2,y2,type", rows=boxes)
    if marks == "points":
        points = [
            (file, (x0 + x1) / 2, (y0 + y1) / 2, label) for file, label, x0, y0, x1, y1 in marked
        ]
        _table(folder / "points.csv", "file,x,y,type", rows=points)
    return folder


def _table(path: Path, head: str, *, rows: Sequence[tuple[object, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head.split(","), *rows])
