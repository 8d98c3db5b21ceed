"""List files: ``id <TAB> label columns <TAB> file name``, one picture a line.

1. Columns are split on tabs only (file names hold spaces and commas) and stripped of spaces around.
2. The first column is a whole number, the last one the file, everything between is a label.
3. The last line may lack its line end. Empty lines are passed over.
4. A line of fewer than three columns, or whose numbers do not parse, is reported and skipped; so is
   an id or a file named before.
5. One label column and several wanted labels: the column is a class number. Otherwise there is one
   column per wanted label, 0 or 1, with any number of ones. Both number forms are read, ``1`` and
   ``1.000000``.


Record files (``.rec``) as a source: pictures and labels of one file, never unpacked.

1. A single label is a class number; its name is that of the wanted labels, else of the classes kept
   beside the file, else ``class-4``. A vector of labels is a column of 0 or 1 per name.
2. ``train``, ``val`` and ``test`` in a file's name are its records' part.
3. A damaged stretch is reported with its offset and the reading goes on behind it.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from lineside.core import InvalidError
from lineside.datasets.formats.folders import part_in
from lineside.datasets.formats.rows import (
    Entry,
    Listing,
    Row,
    Source,
    Truth,
    collected,
    entry_of,
    left_out,
    number,
    zero_or_one,
)
from lineside.datasets.recordio import (
    Damage,
    Record,
    class_files,
    parse_classes,
    picture_suffix,
    read_at,
    scan,
    unpack_image,
)
from lineside.datasets.samples import Part, Skipped
from lineside.datasets.trees import MOST_NOTE_BYTES, FolderTree, Tree

NumberForm = Literal["decimals", "plain"]
_LONGEST_LINE = 65_536


def read_lst(
    raw: bytes, *, where: str, labels: Sequence[str] = (), split: Part = Part.OPEN
) -> Source:
    """Read the bytes of a list file.

    Args:
        raw: the file's bytes, UTF-8.
        where: the file's name, for the report.
        labels: names of the label columns in their order, or of the class numbers from 0. Without
            them columns are called ``label-0`` … and classes ``class-0`` ….
        split: the part all rows belong to.
    """
    return collected(list_lst(lambda: io.BytesIO(raw), where=where, labels=labels, split=split))


def list_lst(
    opening: Callable[[], BinaryIO],
    *,
    where: str,
    labels: Sequence[str] = (),
    split: Part = Part.OPEN,
) -> Listing:
    """The pictures of a list file, a line at a time; as ``read_lst`` otherwise."""
    reader = _Reader(labels=tuple(labels), split=split)
    listing = Listing(format="lst", entries=iter(()))

    def entries() -> Iterator[Entry]:
        with opening() as file:
            for place, line in enumerate(_lines(file), start=1):
                if not line.strip():
                    continue
                try:
                    row = reader.take(line, where=f"{where}:{place}")
                except InvalidError as error:
                    listing.skipped.append(left_out(f"{where}:{place}", error))
                else:
                    yield entry_of(row)

    return replace(listing, entries=entries())


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines without their ends, a byte order mark taken away; a long one comes cut, hence bad."""
    first = True
    while line := file.readline(_LONGEST_LINE):
        yield line.removeprefix(b"\xef\xbb\xbf" if first else b"").removesuffix(b"\n")
        first = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ListLine:
    """A line of a list file: its id, its label columns as written, and its file."""

    where: str
    id: int
    values: tuple[str, ...]
    file: str


def parse_line(line: bytes, *, where: str) -> ListLine:
    """A line by its columns; ``InvalidError`` says what is wrong with it."""
    try:
        columns = [column.strip() for column in line.decode().split("\t")]
    except UnicodeDecodeError as error:
        raise InvalidError("not UTF-8 text") from error
    if len(columns) < 3:
        raise InvalidError(f"{len(columns)} columns, at least 3 are needed")
    if not columns[-1] or "\0" in columns[-1]:
        raise InvalidError("no file name in the last column")
    row_id = number(columns[0])
    if row_id != int(row_id):
        raise InvalidError(f"id {columns[0]!r} is not a whole number")
    return ListLine(where=where, id=int(row_id), values=tuple(columns[1:-1]), file=columns[-1])


def list_lines(file: BinaryIO, *, where: str) -> Iterator[ListLine | Skipped]:
    """Every line that is not empty, or why it cannot be read."""
    for place, line in enumerate(_lines(file), start=1):
        if line.strip():
            try:
                yield parse_line(line, where=f"{where}:{place}")
            except InvalidError as error:
                yield left_out(f"{where}:{place}", error)


def write_lst(
    rows: Iterable[tuple[int, Sequence[float], str]], *, form: NumberForm = "decimals"
) -> bytes:
    """Write ids, label values and file names: ``4.000000`` with decimals, ``4`` plain."""
    lines = []
    for row_id, values, file in rows:
        if any(mark in file for mark in "\t\n\r") or file != file.strip() or not file:
            raise InvalidError(
                f"{file!r} cannot stand in a list file",
                fix="Rename it: no tabs, no line ends, no spaces around.",
            )
        columns = [str(row_id), *(_written(value, form) for value in values), file]
        lines.append("\t".join(columns) + "\n")
    return "".join(lines).encode()


def _written(value: float, form: NumberForm) -> str:
    if form == "decimals":
        return f"{value:.6f}"
    return str(int(value)) if value == int(value) else repr(float(value))


@dataclass(slots=True)
class _Reader:
    labels: tuple[str, ...]
    split: Part
    ids: dict[int, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def take(self, line: bytes, *, where: str) -> Row:
        row_id, row = self.parse(line, where=where)
        _once(row_id, self.ids, noun="id", where=where)
        _once(row.file, self.files, noun="file", where=where)
        return row

    def parse(self, line: bytes, *, where: str) -> tuple[int, Row]:
        parsed = parse_line(line, where=where)
        held, known = list_labels(parsed.values, labels=self.labels)
        row = Row(where=where, file=parsed.file, labels=held, known=known, split=self.split)
        return parsed.id, row


def _once(
    key: int | str, places: dict[int, str] | dict[str, str], *, noun: str, where: str
) -> None:
    first = places.setdefault(key, where)  # type: ignore[arg-type]  # key and dict go together
    if first != where:
        raise InvalidError(f"{noun} {key!r} stands already at {first}")


def list_labels(
    values: Sequence[str], *, labels: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names that label columns say hold, and those that are judged (rule 5)."""
    if len(values) == 1 and len(labels) != 1:
        return _class_of(values[0], labels=labels)
    names = tuple(labels) or tuple(f"label-{place}" for place in range(len(values)))
    if len(values) != len(names):
        raise InvalidError(
            f"{len(values)} label columns, {len(names)} labels are wanted: {', '.join(names)}."
        )
    held = tuple(name for name, text in zip(names, values, strict=True) if zero_or_one(text))
    return held, Truth(names).judged(held, over=names)


def _class_of(text: str, *, labels: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    value = number(text)
    if value != int(value) or value < 0:
        raise InvalidError(f"class {text!r} is not a whole number from 0")
    if not labels:
        return (f"class-{int(value)}",), (f"class-{int(value)}",)
    if value >= len(labels):
        raise InvalidError(f"class {text!r} is unknown, there are {len(labels)}")
    held = (labels[int(value)],)
    return held, Truth(tuple(labels)).judged(held, over=labels)


def list_records(tree: Tree, name: str, *, labels: Sequence[str] = ()) -> Listing:
    """The pictures of a record file, in its order."""
    if not isinstance(tree, FolderTree):
        raise InvalidError(
            "record files are read from folders", where=tree.where, fix="Copy it to this machine."
        )
    path = tree.path(name)
    names = tuple(labels) or classes_in(tree, name)
    listing = Listing(format="records", entries=iter(()))

    def entries() -> Iterator[Entry]:
        with path.open("rb") as file:
            for found in scan(file):
                place = f"{path.name}: byte {found.offset}"
                if isinstance(found, Damage):
                    listing.skipped.append(Skipped(where=place, reason=found.reason))
                    continue
                try:
                    row = _row(path, found, labels=names)
                except InvalidError as error:
                    listing.skipped.append(left_out(place, error))
                else:
                    yield entry_of(row)

    return replace(listing, entries=entries())


def classes_in(tree: Tree, name: str) -> tuple[str, ...]:
    """The class names kept beside a list or record file; empty for none."""
    folder = PurePosixPath(name).parent
    for file in class_files(PurePosixPath(name).stem):
        beside = (folder / file).as_posix()
        if tree.has(beside):
            return parse_classes(tree.read(beside, most=MOST_NOTE_BYTES), where=beside)
    return ()


def _row(path: Path, found: Record, *, labels: Sequence[str]) -> Row:
    where = f"{path.name}: byte {found.offset}"
    record = unpack_image(found.payload, where=where)
    held, known = list_labels([f"{value:g}" for value in record.labels], labels=labels)
    return Row(
        where=where,
        file=f"{path.stem}/{record.id}{picture_suffix(record.picture)}",
        labels=held,
        known=known,
        split=part_in(path.stem),
        facts={"id": str(record.id)},
        picture=partial(_picture, path, found.offset, number=record.id),
    )


def _picture(path: Path, offset: int, *, number: int) -> bytes:
    return read_at(path, offset, number=number).picture
