"""CSV tables: one row a picture.

1. The first line names the columns; ``file`` is needed. Read as present: ``label`` (several
   separated by ``;``, empty for none), ``mask``, ``count``, ``group``, ``split``, ``captured_at``,
   ``template`` (the picture that shows how this one should look).
2. A further column that is named like a wanted label and holds only 0 and 1 (or nothing: not
   judged) is that label's truth. Then ``label`` speaks of the remaining wanted labels only; when
   none remain it is passed over.
3. All other columns are kept as the sample's facts; nothing is learned from them.
4. A row that names an unknown label, split or time, or that has too few or too many cells, is
   reported and skipped.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from lineside.datasets.samples import Skipped, part_of

OWN_COLUMNS = ("file", "label", "mask", "count", "group", "split", "captured_at", "template")
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
    plan = _Plan(truth=Truth(tuple(labels)), columns=columns)

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


def _is_truth(cell: str) -> bool:
    try:
        return not cell or zero_or_one(cell) in (True, False)
    except InvalidError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    truth: Truth
    columns: tuple[str, ...]

    def row(self, cells: KeyedState, *, where: str) -> Row:
        if not cells["file"] or "\0" in cells["file"]:
            raise InvalidError("no file name")
        held, known = self.labels(cells)
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
                if cell and name not in OWN_COLUMNS and name not in self.columns
            },
        )

    def labels(self, cells: KeyedState) -> tuple[tuple[str, ...], tuple[str, ...]]:
        judged = {name for name in self.columns if cells[name]}
        held = {name for name in judged if zero_or_one(cells[name])}
        rest = [name for name in self.truth.wanted if name not in self.columns]
        speaks = "label" in cells and bool(rest or not self.truth.wanted)
        if speaks:
            written = [word.strip() for word in cells["label"].split(";")]
            held |= {self.truth.name(word) for word in written if word}
        over = {*judged, *(rest if speaks else ())}
        known = {*judged, *self.truth.judged(held, over=sorted(over))}
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
