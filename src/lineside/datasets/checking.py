"""Read a record file through: how many records, of which labels, and where it is damaged."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lineside.core import InvalidError, NotFoundError, replace_durably
from lineside.datasets.classes import classes_beside
from lineside.datasets.recordio import (
    Damage,
    ImageRecord,
    Record,
    class_of,
    damaged,
    image_in,
    index_of,
    read_by_id,
    read_index,
    read_record,
    read_records,
    scan,
    write_index,
)

_MOST_NAMED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRecords:
    """What a record file holds.

    Attributes:
        records: whole ones, raw payloads included.
        pictures: records with an image header.
        labels: records of each label, by its name where the classes are known.
        offset: where the first damage begins; the file's length where there is none.
        damage: every stretch of it, at most 1,000.
        faults: of the index beside the file.
    """

    records: int
    pictures: int
    labels: dict[str, int]
    offset: int
    damage: tuple[Damage, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(slots=True)
class _Seen:
    records: int = 0
    index: list[tuple[int, int]] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    damage: list[Damage] = field(default_factory=list)


def check_records(path: Path) -> CheckedRecords:
    """Read all of it, going on behind damage.

    Raises:
        NotFoundError: no such file.
    """
    seen = _read(path)
    found = seen.damage
    return CheckedRecords(
        records=seen.records,
        pictures=len(seen.index),
        labels=dict(sorted(seen.labels.items())),
        offset=found[0].offset if found else path.stat().st_size,
        damage=tuple(found),
        faults=tuple(_index_faults(path, dict(seen.index))),
    )


def index_again(path: Path) -> int:
    """Write the index of a file from what it holds; the number of its lines.

    Raises:
        NotFoundError: no such file.
        InvalidError: it is damaged.
    """
    seen = _read(path)
    if seen.damage:
        raise damaged(seen.damage[0], where=path.name)
    replace_durably(path.with_suffix(".idx"), write_index(seen.index))
    return len(seen.index)


def _read(path: Path) -> _Seen:
    if not path.is_file():
        raise NotFoundError("no such file", where=str(path), fix="Check the path.")
    names = classes_beside(path)
    seen = _Seen()
    with path.open("rb") as file:
        for found in scan(file):
            if isinstance(found, Damage):
                seen.damage += [found] if len(seen.damage) < _MOST_NAMED else []
                continue
            seen.records += 1
            record = image_in(found)
            if record is None:
                continue
            seen.index.append((record.id, found.offset))
            seen.labels.update(label_words(record, names=names))
    return seen


def label_words(record: ImageRecord, *, names: tuple[str, ...]) -> list[str]:
    """A record's labels in words: a class by its name, of several those that hold."""
    number = class_of(record.labels)
    if number is not None:
        return [names[number] if number < len(names) else f"class-{number}"]
    if len(record.labels) == 1:
        return [f"{record.labels[0]:g}"]
    return [
        names[place] if place < len(names) else f"label-{place}"
        for place, value in enumerate(record.labels)
        if value == 1.0
    ]


def _index_faults(path: Path, found: dict[int, int]) -> Iterator[str]:
    beside = path.with_suffix(".idx")
    if not beside.is_file():
        return
    try:
        told = read_index(beside.read_bytes(), where=beside.name)
    except InvalidError as error:
        yield str(error)
        return
    for number in sorted(told.keys() | found.keys())[:_MOST_NAMED]:
        says, stands = told.get(number), found.get(number)
        if says != stands:
            yield f"id {number}: the index says {says}, it stands at {stands}"


def iter_records(
    path: Path, *, only: int | None = None
) -> Iterator[tuple[Record, ImageRecord | None]]:
    """Each record with the picture in it, if it is one; or the one picture with an id.

    Raises:
        NotFoundError: no such file, or no such id.
        InvalidError: the offset of the first damage.
    """
    if not path.is_file():
        raise NotFoundError("no such file", where=str(path), fix="Check the path.")
    offsets = index_of(path) if only is not None else {}
    with path.open("rb") as file:
        if only is not None:
            image = read_by_id(path, only, offsets=offsets)
            yield read_record(file, offsets[only], where=path.name), image
            return
        for found in read_records(file, where=path.name):
            yield found, image_in(found)


def iter_images(path: Path) -> Iterator[tuple[int, ImageRecord]]:
    """Offset and content of each picture in a file; raises as ``iter_records`` does."""
    for record, image in iter_records(path):
        if image is not None:
            yield record.offset, image
