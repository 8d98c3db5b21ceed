"""Objects marked on pictures, in tables beside ``labels.csv``.

1. ``boxes.csv``: ``file,x1,y1,x2,y2,type``; ``points.csv``: ``file,x,y,type``. Pixels of the
   picture, the far corner of a box outside it.
2. With both, points say which objects there are: a box of a point's type that holds it gives its
   size, and boxes of types that no point has are left out (a scale or coin beside the parts).
3. Where such a table exists, a picture without a row in it shows no objects.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lineside.core import InvalidError
from lineside.datasets.formats.rows import number
from lineside.datasets.samples import Marked, Skipped

BOXES, POINTS = "boxes.csv", "points.csv"
_BOX = ("file", "x1", "y1", "x2", "y2", "type")
_POINT = ("file", "x", "y", "type")

Marks = dict[str, list[Marked]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """Content of the tables: objects by the file they are on, and what was left out."""

    marks: Mapping[str, tuple[Marked, ...]]
    skipped: tuple[Skipped, ...] = ()


def read_objects(*, boxes: bytes | None, points: bytes | None) -> Objects | None:
    """Objects of both tables; None where there is neither.

    Raises:
        InvalidError: a table that is not UTF-8 CSV with the columns above.
    """
    if boxes is None and points is None:
        return None
    skipped: list[Skipped] = []
    boxed = _read(boxes, columns=_BOX, where=BOXES, skipped=skipped)
    dotted = _read(points, columns=_POINT, where=POINTS, skipped=skipped)
    if points is not None:
        boxed = _sized(boxed, dotted, skipped=skipped)
    return Objects(
        marks={file: tuple(found) for file, found in boxed.items()}, skipped=tuple(skipped)
    )


def _read(
    raw: bytes | None, *, columns: Sequence[str], where: str, skipped: list[Skipped]
) -> Marks:
    marks: Marks = defaultdict(list)
    if raw is None:
        return marks
    try:
        reader = csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise InvalidError(
                f"no column {missing[0]}", where=f"{where}:1", fix=f"Name {', '.join(columns)}."
            )
        for row in reader:
            _take(row, marks=marks, where=f"{where}:{reader.line_num}", skipped=skipped)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidError(f"not UTF-8 CSV: {error}", where=where, fix="Save it again.") from error
    return marks


def _take(
    row: Mapping[str, str | None], *, marks: Marks, where: str, skipped: list[Skipped]
) -> None:
    try:
        mark = _mark({key: (value or "").strip() for key, value in row.items() if key})
    except InvalidError as error:
        skipped.append(Skipped(where=where, reason=error.message))
        return
    marks[(row["file"] or "").strip()].append(mark)


def _mark(cells: Mapping[str, str]) -> Marked:
    if not cells["file"] or not cells["type"]:
        raise InvalidError("no file or no type")
    if "x" in cells:
        x, y = number(cells["x"]), number(cells["y"])
        return Marked(label=cells["type"], x0_px=x, y0_px=y, x1_px=x, y1_px=y)
    x0, y0, x1, y1 = (number(cells[name]) for name in ("x1", "y1", "x2", "y2"))
    if x0 >= x1 or y0 >= y1:
        raise InvalidError(f"a box without area: {x0:g} {y0:g} {x1:g} {y1:g}")
    return Marked(label=cells["type"], x0_px=x0, y0_px=y0, x1_px=x1, y1_px=y1)


def _sized(boxed: Marks, dotted: Marks, *, skipped: list[Skipped]) -> Marks:
    """Every point, with the size of the nearest box of its type that holds it."""
    known = {mark.label for marks in dotted.values() for mark in marks}
    other = sorted({m.label for marks in boxed.values() for m in marks} - known)
    if other:
        reason = f"boxes of {', '.join(other)} are left out: no point is of that type"
        skipped.append(Skipped(where=BOXES, reason=reason))
    found: Marks = defaultdict(list)
    for file, points in dotted.items():
        free = [mark for mark in boxed.get(file, ()) if mark.label in known]
        for point in points:
            box = min(_holding(free, point), key=lambda b: _apart(b, point), default=None)
            if box is not None:
                free.remove(box)
            found[file].append(box or point)
    return found


def _holding(boxes: Sequence[Marked], point: Marked) -> list[Marked]:
    x, y = point.centre_px
    return [
        box
        for box in boxes
        if box.label == point.label and box.x0_px <= x <= box.x1_px and box.y0_px <= y <= box.y1_px
    ]


def _apart(box: Marked, point: Marked) -> float:
    (bx, by), (x, y) = box.centre_px, point.centre_px
    return (bx - x) ** 2 + (by - y) ** 2
