"""The form of a backup: one tar file, its members in this order.

- ``records/000001.jsonl.gz`` …: one row a line, ``{"document":…}``, ``{"entry":…}`` or
  ``{"frame":…}``; the same whichever database it came from, so that SQLite's backup fills
  PostgreSQL and the reverse;
- ``blobs/<64 hex>``: bytes under their digest;
- ``extra/<name>``: other files, as named by who made the backup, with their rights;
- ``manifest.json``, last: counts, where each chain ends, and a digest over the names and digests
  of all members before it. An archive without it is half an archive.

Reading trusts nothing: plain files only, known names, limits on number and size, and headers are
read through a window that a forged length cannot widen.
"""

import hashlib
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from io import RawIOBase
from pathlib import PurePosixPath
from typing import BinaryIO, Literal, cast

from lineside.core import Digest, InvalidError, decode_fast, encode
from lineside.store.contract import Document, FrameRow, Logged, Row

SCHEMA: Literal["lineside.backup/1"] = "lineside.backup/1"
MANIFEST = "manifest.json"
PART_BYTES = 8_000_000
_PART_MOST_BYTES = 512_000_000
_HEADER_MOST_BYTES = 1_000_000
_LONGEST_NAME = 1000
_RECORDS = re.compile(r"records/[0-9]{6,9}\.jsonl\.gz")
_BLOB = re.compile(r"blobs/[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """Limits of an archive's content."""

    members: int = 50_000_000
    member_bytes: int = 2_000_000_000
    total_bytes: int = 4_000_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainEnd:
    """Where a chain ended when the backup was made."""

    source_position: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The last member of an archive.

    Attributes:
        absent: blobs that records name and the backup could not read, with the reason.
        members: digest over one line ``<name> <sha256>`` a member, in order.
    """

    schema: Literal["lineside.backup/1"]
    made_at: datetime
    documents: int
    entries: int
    frames: int
    blobs: int
    members: Digest
    chains: dict[str, ChainEnd] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a ``records/`` member: exactly one of the three."""

    document: Document | None = None
    entry: Logged | None = None
    frame: FrameRow | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of an archive, read whole.

    Attributes:
        mode: the file's rights, 0o000-0o777.
    """

    name: str
    content: bytes
    mode: int = 0o600

    @property
    def is_records(self) -> bool:
        return self.name.startswith("records/")

    @property
    def is_blob(self) -> bool:
        return self.name.startswith("blobs/")

    @property
    def extra_name(self) -> str:
        """The name without ``extra/``; "" for other members."""
        head, _, tail = self.name.partition("/")
        return tail if head == "extra" else ""


class MemberDigest:
    """The digest over all members, built up one by one."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, member: Member) -> None:
        content = hashlib.sha256(member.content).hexdigest()
        self._hash.update(f"{member.name} {content}\n".encode())

    def value(self) -> Digest:
        return Digest("sha256:" + self._hash.hexdigest())


def line_of(row: Row) -> bytes:
    """A row as it is written."""
    match row:
        case Document():
            return encode({"document": row})
        case Logged():
            return encode({"entry": row})
        case FrameRow():
            return encode({"frame": row})


def rows_of(member: Member) -> Iterator[Row]:
    """The rows of a ``records/`` member.

    Raises:
        InvalidError: not gzip, too large once unpacked, or a line that is no row.
    """
    for number, line in enumerate(_unpacked(member).splitlines(), start=1):
        where = f"{member.name}:{number}"
        read = decode_fast(Line, line, where=where)
        found = [row for row in (read.document, read.entry, read.frame) if row is not None]
        if len(found) != 1:
            raise InvalidError("a line that is no row", where=where, fix=_DAMAGED)
        yield found[0]


_DAMAGED = "The archive is damaged; take another backup."


def _unpacked(member: Member) -> bytes:
    unpack = zlib.decompressobj(wbits=31)
    try:
        text = unpack.decompress(member.content, _PART_MOST_BYTES)
    except zlib.error as error:
        raise InvalidError(f"not gzip: {error}", where=member.name, fix=_DAMAGED) from error
    if not unpack.eof or unpack.unused_data:
        raise InvalidError("cut short or too large", where=member.name, fix=_DAMAGED)
    return text


def check_extra_name(name: str) -> None:
    """Refuse a name that could lead out of a folder.

    Raises:
        InvalidError: absolute, with ``..``, a backslash, or a control character.
    """
    parts = name.split("/")
    if (
        len(name) > _LONGEST_NAME
        or not name.isprintable()
        or "\\" in name
        or ":" in name
        or any(part in ("", ".", "..") for part in parts)
        or PurePosixPath(name).is_absolute()
    ):
        raise InvalidError(
            f"{name[:80]!r} is no name for a file of an archive",
            where="extra",
            fix="Use relative names such as certificates/site.pem.",
        )


class _HeaderWindow(RawIOBase):
    """The archive as tarfile sees it: it reads headers only, so large reads are forgeries."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _HEADER_MOST_BYTES:
            raise InvalidError("a header of absurd size", where="archive", fix=_DAMAGED)
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def read_members(file: BinaryIO, *, limits: ArchiveLimits) -> Iterator[Member]:
    """Every member in order, checked for type, name and size.

    Raises:
        InvalidError: not an archive of this form, cut short, or beyond the limits.
    """
    total = 0
    for count, found in enumerate(_headers(file), start=1):
        total += max(found.size, 0)
        _check_header(found, limits=limits)
        if count > limits.members or total > limits.total_bytes:
            raise InvalidError(
                f"more than {limits.members} files or {limits.total_bytes} bytes",
                where="archive",
                fix="Raise the limits if you made it yourself.",
            )
        file.seek(found.offset_data)
        content = file.read(found.size)
        if len(content) != found.size:
            raise InvalidError("the archive is cut short", where=found.name, fix=_DAMAGED)
        yield Member(name=found.name, content=content, mode=found.mode & 0o777)


def _headers(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    seen = -1
    try:
        with tarfile.open(fileobj=cast("BinaryIO", _HeaderWindow(file)), mode="r:") as tar:
            while True:
                found = tar.next()
                if found is None:
                    return
                if found.offset_data <= seen:
                    raise InvalidError("a header that leads back", where="archive", fix=_DAMAGED)
                seen = found.offset_data
                tar.members = []  # type: ignore[attr-defined]  # it would keep every header in memory
                yield found
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise InvalidError(f"no tar archive: {error}", where="archive", fix=_DAMAGED) from error


def _check_header(found: tarfile.TarInfo, *, limits: ArchiveLimits) -> None:
    name = found.name
    if not found.isreg() or found.issparse():
        raise InvalidError(f"{name[:80]!r} is no plain file", where="archive", fix=_DAMAGED)
    if not 0 <= found.size <= limits.member_bytes:
        raise InvalidError(
            f"{name[:80]!r} has {found.size} bytes, more than {limits.member_bytes}",
            where="archive",
            fix="Raise the limits if you made it yourself.",
        )
    if name.startswith("extra/"):
        check_extra_name(name.removeprefix("extra/"))
    elif name != MANIFEST and not _RECORDS.fullmatch(name) and not _BLOB.fullmatch(name):
        raise InvalidError(f"{name[:80]!r} does not belong here", where="archive", fix=_DAMAGED)
