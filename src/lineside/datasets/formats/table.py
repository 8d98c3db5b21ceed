"""CSV tables: one row a picture.

1. The first line names the columns; ``file`` is needed. Read as present: ``label`` (several
   separated by ``;``, empty for none), ``mask``, ``count``, ``group``, ``split``, ``captured_at``,
   ``template`` (the picture that shows how this one should look).
2. A further column that is named like a wanted label and holds only 0 and 1 (or nothing: not
   judged) is that label's truth. Then ``label`` speaks of the remaining wanted labels only; when
   none remain it is passed over.
3. A column ``known`` (names separated by ``;``) says what was judged at all, held or not, where it
   names each row's labels too; otherwise it is a column like any other.
4. All other columns are kept as the sample's facts; nothing is learned from them.
5. A row that names an unknown label, split or time, or that has too few or too many cells, is
   reported and skipped.

Objects marked on pictures, in tables beside ``labels.csv``.

1. ``boxes.csv``: ``file,x1,y1,x2,y2,type``; ``points.csv``: ``file,x,y,type``. Pixels of the
   picture, the far corner of a box outside it.
2. With both, points say which objects there are: a box of a point's type that holds it gives its
   size, and boxes of types that no point has are left out (a scale or coin beside the parts).
3. Where such a table exists, a picture without a row in it shows no objects.
4. A line that cannot be read takes its picture with it: without it the picture would look good.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import BinaryIO

from lineside.core import InvalidError, parse_rfc3339
from lineside.datasets.formats.rows import (
    Entry,
    Listing,
    Row,
    Source,
    Truth,
    collected,
    number,
    zero_or_one,
)
from lineside.datasets.samples import Marked, Skipped, part_of
from lineside.datasets.trees import composed

OWN_COLUMNS = ("file", "label", "mask", "count", "group", "split", "captured_at", "template")
KNOWN_COLUMN = "known"
_LONGEST_CELL = 65_536

KeyedState = Mapping[str, str]
Opening = Callable[[], BinaryIO]


def read_table(raw: bytes, *, where: str, labels: Sequence[str] = ()) -> Source:
    """Read the bytes of a CSV table.

    Raises:
        InvalidError: no header, or no ``file`` column.
    """
    return collected(list_table(lambda: io.BytesIO(raw), where=where, labels=labels))


def list_table(opening: Opening, *, where: str, labels: Sequence[str] = ()) -> Listing:
    """The pictures of a CSV table, a line at a time; it is opened twice where labels are wanted.

    Raises:
        InvalidError: no header, or no ``file`` column.
    """
    table = _Table(opening=opening, where=where)
    header = table.header()
    skipped: list[Skipped] = []
    columns = tuple(_label_columns(table, header=header, labels=labels, skipped=skipped))
    says_known = KNOWN_COLUMN not in columns and _says_known(table, header=header)
    plan = _Plan(truth=Truth(tuple(labels)), columns=columns, says_known=says_known)

    def entries() -> Iterator[Entry]:
        for place, cells in table.rows(header, skipped=skipped):
            yield Entry(file=cells["file"], where=place, row=partial(plan.row, cells, where=place))

    return Listing(format="csv", entries=entries(), skipped=skipped)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    opening: Opening
    where: str

    def header(self) -> tuple[str, ...]:
        with self.lines() as lines:
            header = [name.strip() for name in next(lines, ("", []))[1]]
        if "file" not in header or len(set(header)) != len(header):
            raise InvalidError(
                f"the columns are {', '.join(header) or 'missing'}",
                where=f"{self.where}:1",
                fix="The first line names each column once; one of them is file.",
            )
        return tuple(header)

    def rows(
        self, header: Sequence[str], *, skipped: list[Skipped]
    ) -> Iterator[tuple[str, KeyedState]]:
        with self.lines() as lines:
            next(lines, None)
            for place, row in lines:
                if len(row) == len(header):
                    yield place, dict(zip(header, map(str.strip, row), strict=True))
                elif row:
                    reason = f"{len(row)} cells, the header has {len(header)}"
                    skipped.append(Skipped(where=place, reason=reason))

    @contextmanager
    def lines(self) -> Iterator[Iterator[tuple[str, list[str]]]]:
        with io.TextIOWrapper(self.opening(), encoding="utf-8-sig", newline="") as text:
            yield _rows(text, where=self.where)


def _rows(text: io.TextIOWrapper, *, where: str) -> Iterator[tuple[str, list[str]]]:
    reader = csv.reader(text, strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except UnicodeDecodeError as error:
            raise InvalidError("not UTF-8 text", where=where, fix="Save it as UTF-8.") from error
        except csv.Error as error:
            raise InvalidError(
                f"not CSV: {error}", where=f"{where}:{reader.line_num}", fix="Mend that line."
            ) from error
        if any(len(cell) > _LONGEST_CELL for cell in row):
            raise InvalidError(
                "a cell above 64 KiB", where=f"{where}:{reader.line_num}", fix="Close its quotes."
            )
        yield f"{where}:{reader.line_num}", row


def _label_columns(
    table: _Table, *, header: Sequence[str], labels: Sequence[str], skipped: list[Skipped]
) -> list[str]:
    """Columns named like a wanted label with cells 0, 1 or empty alone; the odd ones reported."""
    asked = [name for name in labels if name in header and name not in OWN_COLUMNS]
    wrong: dict[str, str] = {}
    for place, cells in table.rows(header, skipped=[]) if asked else ():
        for name in asked:
            if name not in wrong and not _is_truth(cells[name]):
                wrong[name] = place
    for name, place in wrong.items():
        reason = f"column {name!r} holds more than 0 and 1 ({place}); not read as a label"
        skipped.append(Skipped(where=table.where, reason=reason))
    return [name for name in asked if name not in wrong]


def _says_known(table: _Table, *, header: Sequence[str]) -> bool:
    """Return whether the column ``known`` holds judged names: in each row its labels, and more."""
    if KNOWN_COLUMN not in header or "label" not in header:
        return False
    named = False
    for _, cells in table.rows(header, skipped=[]):
        known = set(_words(cells[KNOWN_COLUMN]))
        if not known.issuperset(_words(cells["label"])):
            return False
        named = named or bool(known)
    return named


def _words(cell: str) -> list[str]:
    return [word for written in cell.split(";") if (word := written.strip())]


def _is_truth(cell: str) -> bool:
    try:
        return not cell or zero_or_one(cell) in (True, False)
    except InvalidError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    truth: Truth
    columns: tuple[str, ...]
    says_known: bool

    def row(self, cells: KeyedState, *, where: str) -> Row:
        if not cells["file"] or "\0" in cells["file"]:
            raise InvalidError("no file name")
        held, known = self.labels(cells)
        own = (*OWN_COLUMNS, KNOWN_COLUMN) if self.says_known else OWN_COLUMNS
        return Row(
            where=where,
            file=cells["file"],
            labels=held,
            known=known,
            group=cells.get("group", ""),
            split=part_of(cells.get("split", "")),
            captured_at=_moment(cells.get("captured_at", "")),
            mask=cells.get("mask", ""),
            count=_whole(cells.get("count", "")),
            template=cells.get("template", ""),
            facts={
                name: cell
                for name, cell in cells.items()
                if cell and name not in own and name not in self.columns
            },
        )

    def labels(self, cells: KeyedState) -> tuple[tuple[str, ...], tuple[str, ...]]:
        judged = {name for name in self.columns if cells[name]}
        held = {name for name in judged if zero_or_one(cells[name])}
        rest = [name for name in self.truth.wanted if name not in self.columns]
        speaks = "label" in cells and bool(rest or not self.truth.wanted)
        if speaks:
            held |= {self.truth.name(word) for word in _words(cells["label"])}
        over = {*judged, *(rest if speaks else ())}
        known = {*judged, *self.truth.judged(held, over=sorted(over))}
        if self.says_known:
            wanted = self.truth.wanted
            said = [name for name in _words(cells[KNOWN_COLUMN]) if name in wanted or not wanted]
            known = {*judged, *held, *said}
        return tuple(sorted(held)), tuple(sorted(known))


def _moment(text: str) -> datetime | None:
    return parse_rfc3339(text) if text else None


def _whole(text: str) -> int | None:
    if not text:
        return None
    value = number(text)
    if value != int(value) or value < 0:
        raise InvalidError(f"count {text!r} is not a whole number from 0")
    return int(value)


BOXES, POINTS = "boxes.csv", "points.csv"
_BOX = ("file", "x1", "y1", "x2", "y2", "type")
_POINT = ("file", "x", "y", "type")

Marks = dict[str, list[Marked]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """Content of the tables: objects by the file they are on, and what was left out.

    ``unread``: of files with lines that cannot be read, the first one and why.
    """

    marks: Mapping[str, tuple[Marked, ...]]
    unread: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()

    def marked_on(self, file: str) -> tuple[Marked, ...]:
        """Return the objects of a file; ``InvalidError`` where a line on it cannot be read."""
        if file in self.unread:
            raise InvalidError(self.unread[file], fix="Correct the line, or delete it.")
        return self.marks.get(file, ())


def read_objects(*, boxes: bytes | None, points: bytes | None) -> Objects | None:
    """Objects of both tables; None where there is neither.

    Raises:
        InvalidError: a table that is not UTF-8 CSV with the columns above.
    """
    if boxes is None and points is None:
        return None
    skipped: list[Skipped] = []
    unread: dict[str, str] = {}
    read = partial(_read, unread=unread, skipped=skipped)
    boxed = read(boxes, columns=_BOX, where=BOXES)
    dotted = read(points, columns=_POINT, where=POINTS)
    if points is not None:
        boxed = _sized(boxed, dotted, skipped=skipped)
    marks = {file: tuple(found) for file, found in boxed.items()}
    return Objects(marks=marks, unread=unread, skipped=tuple(skipped))


def _read(
    raw: bytes | None, *, columns: Sequence[str], where: str, unread: dict[str, str],
    skipped: list[Skipped],
) -> Marks:  # fmt: skip
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
            file, place = composed((row["file"] or "").strip()), f"{where}:{reader.line_num}"
            try:
                mark = _mark(row)
            except InvalidError as error:
                if not file:
                    skipped.append(Skipped(where=place, reason=error.message))
                else:
                    unread.setdefault(file, f"{place}: {error.message}")
            else:
                marks[file].append(mark)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidError(f"not UTF-8 CSV: {error}", where=where, fix="Save it again.") from error
    return marks


def _mark(row: Mapping[str, str | None]) -> Marked:
    if None in row:  # as the reader names what no column is for
        raise InvalidError("more cells than the header has")
    cells = {key: (value or "").strip() for key, value in row.items()}
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
