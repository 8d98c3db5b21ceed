"""RecordIO: many pictures with their labels in one file, byte for byte as DMLC and MXNet write it.

Framing (dmlc-core ``recordio.h``), little-endian:

1. A part is the magic ``0a 23 d7 ce``, a word of ``flag << 29 | length``, the payload, and zeros up
   to a multiple of four. Flag 0 is a whole record, 1 its first part, 2 a middle and 3 the last one.
2. A payload that holds the magic at an offset divisible by four is parted there and the four bytes
   are dropped; a reader puts them back between parts. Elsewhere the magic stays as it is.
3. A reader fails, naming the offset: a short header, another magic, a short payload or padding, a
   flag above 3, a part without its first one, a record that does not end. The end of the file is
   clean only between records.
4. After damage a reader goes on at the next multiple of four that has the magic and flag 0 or 1.

Image header (MXNet ``image_recordio.h``): uint32 flag, float32 label, uint64 id, uint64 second id,
then ``flag`` float32 labels where flag is above 0, then the encoded picture.

Index: a line ``id <TAB> offset`` for each record, in the order of the file.


Class names by number stand in a text file beside the lists and records that use the numbers.
"""

import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from lineside.core import InvalidError, NotFoundError, replace_durably

CLASSES = "_classes.txt"


def class_file(prefix: Path) -> Path:
    """Where the class names of a prefix are kept."""
    return prefix.with_name(prefix.name + CLASSES)


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names by number; empty where there is no such file.

    Raises:
        InvalidError: no text, or a name stands there twice.
    """
    if not path.is_file():
        return ()
    try:
        return parse_classes(path.read_bytes(), where=str(path))
    except OSError as error:
        raise InvalidError(f"cannot be read: {error.strerror}", where=str(path)) from error


def parse_classes(raw: bytes, *, where: str) -> tuple[str, ...]:
    """Class names of the bytes of such a file: line number from 0, spaces behind cut off."""
    try:
        lines = raw.decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise InvalidError("not UTF-8 text", where=where, fix="Save it as UTF-8.") from error
    names = tuple(line.rstrip() for line in lines)
    if "" in names or len(set(names)) != len(names):
        raise InvalidError(
            "an empty name, or one that stands twice", where=where, fix="One name in each line."
        )
    return names


def adjacent_classes(path: Path) -> tuple[str, ...]:
    """The class names kept with the lists a record or list file was made of; empty for none.

    ``socks_train.rec`` takes ``socks_train_classes.txt``, ``socks_classes.txt`` or ``classes.txt``.
    """
    found = (read_classes(path.with_name(file)) for file in class_files(path.stem))
    return next((names for names in found if names), ())


def class_files(stem: str) -> Iterator[str]:
    """Names such a file may have, the nearest first."""
    words = stem.split("_")
    for count in range(len(words), 0, -1):
        yield "_".join(words[:count]) + CLASSES
    yield CLASSES.removeprefix("_")


def picture_suffix(encoded: bytes) -> str:
    """The suffix of a picture's file, by its first bytes."""
    if encoded.startswith(b"\xff\xd8\xff"):
        return ".jpg"
    return ".png" if encoded.startswith(b"\x89PNG") else ".bin"


MAGIC = struct.pack("<I", 0xCED7230A)
MOST_PAYLOAD = (1 << 29) - 1
_WORD = 4
_HEADER = struct.Struct("<4sI")
_IMAGE = struct.Struct("<IfQQ")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_INDEX_LINE = re.compile(rb"([0-9]{1,20})\t([0-9]{1,20})\r?")
_REFORM = "Copy the file again, or make it again from its pictures."


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A payload and where its first magic stands."""

    offset: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Bytes that are no record: where they begin, and what is wrong there."""

    offset: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """A picture with its labels.

    Attributes:
        as_vector: labels stand behind the header (flag = their number) even where there is one;
            several always do.
    """

    id: int
    labels: tuple[float, ...]
    picture: bytes
    as_vector: bool = False


def framed(payload: bytes) -> bytes:
    """The bytes of one record; ``InvalidError`` from 2^29 bytes of payload on."""
    if len(payload) > MOST_PAYLOAD:
        raise InvalidError(
            f"a record of {len(payload)} bytes, at most {MOST_PAYLOAD} fit", fix="Make it smaller."
        )
    parts = _parted(payload)
    if len(parts) == 1:
        return _part(_WHOLE, parts[0])
    flags = [_FIRST, *[_MIDDLE] * (len(parts) - 2), _LAST]
    return b"".join(_part(flag, part) for flag, part in zip(flags, parts, strict=True))


def _parted(payload: bytes) -> list[bytes]:
    """Return the stretches between the magic words at offsets divisible by four."""
    parts: list[bytes] = []
    begin = place = 0
    while (place := payload.find(MAGIC, place)) >= 0:
        if place % _WORD:
            place += 1
            continue
        parts.append(payload[begin:place])
        place += _WORD
        begin = place
    return [*parts, payload[begin:]]


def _part(flag: int, content: bytes) -> bytes:
    padding = bytes(-len(content) % _WORD)
    return _HEADER.pack(MAGIC, flag << 29 | len(content)) + content + padding


def scan(file: BinaryIO) -> Iterator[Record | Damage]:
    """Every record from the file's place on, and every stretch of damage between them."""
    size = _size(file)
    offset = file.tell()
    while offset < size:
        found = _record(file, offset, size=size)
        yield found
        if isinstance(found, Record):
            offset = file.tell()
        else:
            offset = _next_start(file, offset + _WORD - offset % _WORD, size=size)


def read_records(file: BinaryIO, *, where: str) -> Iterator[Record]:
    """Every record; ``InvalidError`` names the offset of the first damage."""
    for found in scan(file):
        if isinstance(found, Damage):
            raise damaged(found, where=where)
        yield found


def read_record(file: BinaryIO, offset: int, *, where: str) -> Record:
    """The record at an offset; ``InvalidError`` when none begins there."""
    found = _record(file, offset, size=_size(file))
    if isinstance(found, Damage):
        raise damaged(found, where=where)
    return found


def damaged(damage: Damage, *, where: str) -> InvalidError:
    """The damage as an error that names file and offset."""
    return InvalidError(damage.reason, where=f"{where}: byte {damage.offset}", fix=_REFORM)


def _size(file: BinaryIO) -> int:
    place = file.tell()
    size = file.seek(0, 2)
    file.seek(place)
    return size


def _record(file: BinaryIO, offset: int, *, size: int) -> Record | Damage:
    file.seek(offset)
    parts: list[bytes] = []
    place = offset
    while True:
        flag, content = _read_part(file, place, size=size)
        if isinstance(content, str):
            return Damage(offset=place, reason=content)
        wrong = _out_of_order(flag, opened=bool(parts))
        if wrong:
            return Damage(offset=place, reason=wrong)
        parts.append(content)
        if flag in (_WHOLE, _LAST):
            return Record(offset=offset, payload=MAGIC.join(parts))
        place = file.tell()
        if place >= size:
            return Damage(offset=place, reason="the file ends inside a record")


def _read_part(file: BinaryIO, place: int, *, size: int) -> tuple[int, bytes | str]:
    """Flag and content of the part at the file's place, or what is wrong with it."""
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return 0, f"{len(header)} bytes where a header of {_HEADER.size} stands"
    magic, word = _HEADER.unpack(header)
    flag, length = word >> 29, word & MOST_PAYLOAD
    if magic != MAGIC:
        return 0, f"{magic.hex(' ')} where the magic {MAGIC.hex(' ')} stands"
    if flag > _LAST:
        return 0, f"flag {flag}, the highest is {_LAST}"
    padded = length + -length % _WORD
    held = size - place - _HEADER.size
    if held < padded:
        return 0, f"{held} bytes of payload and padding where {padded} stand"
    return flag, file.read(padded)[:length]


def _out_of_order(flag: int, *, opened: bool) -> str:
    if opened and flag in (_WHOLE, _FIRST):
        return f"flag {flag} inside a record that has not ended"
    if not opened and flag in (_MIDDLE, _LAST):
        return f"flag {flag} without a first part"
    return ""


def _next_start(file: BinaryIO, offset: int, *, size: int) -> int:
    """The next offset divisible by four with the magic and flag 0 or 1; the size for none."""
    held = b""
    chunk = 1 << 20
    while offset < size:
        file.seek(offset)
        held = file.read(chunk + _HEADER.size)
        place = -1
        while (place := held.find(MAGIC, place + 1)) >= 0:
            word = held[place + _WORD : place + _HEADER.size]
            begins = len(word) == _WORD and int.from_bytes(word, "little") >> 29 in (_WHOLE, _FIRST)
            if begins and place % _WORD == 0:
                return offset + place
        offset += chunk
    return size


def pack_image(record: ImageRecord) -> bytes:
    """The payload of a picture with its labels."""
    if not record.labels:
        raise InvalidError("a picture without a label", where=f"id {record.id}", fix="Give one.")
    count = len(record.labels)
    if count == 1 and not record.as_vector:
        return _IMAGE.pack(0, record.labels[0], record.id, 0) + record.picture
    vector = struct.pack(f"<{count}f", *record.labels)
    return _IMAGE.pack(count, 0.0, record.id, 0) + vector + record.picture


def unpack_image(payload: bytes, *, where: str) -> ImageRecord:
    """The picture in a payload.

    Raises:
        InvalidError: it is shorter than its header and labels.
    """
    if len(payload) < _IMAGE.size:
        raise InvalidError(
            f"a payload of {len(payload)} bytes is no picture", where=where, fix=_REFORM
        )
    flag, label, number, _ = _IMAGE.unpack_from(payload)
    end = _IMAGE.size + 4 * flag
    if len(payload) < end:
        raise InvalidError(
            f"{flag} labels in a payload of {len(payload)} bytes", where=where, fix=_REFORM
        )
    labels = struct.unpack_from(f"<{flag}f", payload, _IMAGE.size) if flag else (label,)
    return ImageRecord(id=number, labels=labels, picture=payload[end:], as_vector=flag > 0)


def image_in(record: Record) -> ImageRecord | None:
    """The picture of a record; None for a payload that is no picture."""
    try:
        return unpack_image(record.payload, where=f"byte {record.offset}")
    except InvalidError:
        return None


def write_index(entries: Iterable[tuple[int, int]]) -> bytes:
    """Ids and offsets as the text of an index."""
    return "".join(f"{number}\t{offset}\n" for number, offset in entries).encode()


def read_index(raw: bytes, *, where: str) -> dict[int, int]:
    """Offsets by id, in the order of the index.

    Raises:
        InvalidError: a line is none, or an id stands there twice.
    """
    offsets: dict[int, int] = {}
    for place, line in enumerate(raw.removesuffix(b"\n").split(b"\n") if raw else (), start=1):
        match = _INDEX_LINE.fullmatch(line)
        if match is None or int(match[1]) in offsets:
            raise InvalidError(
                f"{line[:60]!r} is no line of an index, or its id stands there already",
                where=f"{where}:{place}",
                fix="Make the index again: lineside recordio check --write-index.",
            )
        offsets[int(match[1])] = int(match[2])
    return offsets


def index_of(path: Path) -> dict[int, int]:
    """Offsets by id: of the ``.idx`` beside the file, or by reading the file through."""
    beside = path.with_suffix(".idx")
    if beside.is_file():
        return read_index(beside.read_bytes(), where=beside.name)
    with path.open("rb") as file:
        found = ((image_in(one), one.offset) for one in read_records(file, where=path.name))
        return {image.id: offset for image, offset in found if image is not None}


def read_by_id(path: Path, number: int, *, offsets: dict[int, int]) -> ImageRecord:
    """The record of an id.

    Raises:
        NotFoundError: the index has no such id.
        InvalidError: no whole record begins there, or it is of another id.
    """
    if number not in offsets:
        raise NotFoundError(f"no record of id {number}", where=path.name, fix="See the index.")
    return read_at(path, offsets[number], number=number)


def read_at(path: Path, offset: int, *, number: int) -> ImageRecord:
    """The record that begins at an offset; ``InvalidError`` when it is of another id."""
    where = f"{path.name}: byte {offset}"
    with path.open("rb") as file:
        record = unpack_image(read_record(file, offset, where=path.name).payload, where=where)
    if record.id != number:
        raise InvalidError(
            f"id {record.id} where the index says {number}", where=where, fix="Index it again."
        )
    return record


def class_of(labels: Sequence[float]) -> int | None:
    """The class number of a single label; None for anything else."""
    if len(labels) == 1 and labels[0] >= 0 and labels[0] == int(labels[0]):
        return int(labels[0])
    return None


_MOST_NAMED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRecords:
    """The content of a record file.

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
class _Scan:
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


def _read(path: Path) -> _Scan:
    if not path.is_file():
        raise NotFoundError("no such file", where=str(path), fix="Check the path.")
    names = adjacent_classes(path)
    seen = _Scan()
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
