"""Write everything that is kept into one archive, and read such an archive member by member.

1. The records are read as they were at one moment, while others go on writing. Blobs are read
   after that, so every picture those records name was there; one that aged out in between is
   listed as absent, and its frame comes back as a tombstone.
2. Other files are read last, while ``held`` keeps whoever changes them from doing so: they are as
   new as the records or newer, and belong together.
3. The archive is written under another name, synced, then renamed: under the name asked for stands
   a whole archive or none. It may hold secrets and is readable by its owner only.

The archive is one tar file, its members in this order:

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

import gzip
import hashlib
import io
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, cast

from lineside.core import (
    ConflictError,
    Digest,
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    decode_fast,
    encode,
)
from lineside.core.files import HeaderWindow, replacing
from lineside.store.chain import Link
from lineside.store.contract import Blobs, Document, FrameRow, Logged, Records, Row

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
    chains: dict[str, Link] = field(default_factory=dict)
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
    refusal = InvalidError("a header of absurd size", where="archive", fix=_DAMAGED)
    window = HeaderWindow(file, most_bytes=_HEADER_MOST_BYTES, refusal=refusal)
    try:
        with tarfile.open(fileobj=cast("BinaryIO", window), mode="r:") as tar:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupReport:
    """Content of an archive.

    Attributes:
        absent: blobs that records name and that could not be read, with the reason.
    """

    path: Path
    size_bytes: int
    documents: int
    entries: int
    frames: int
    blobs: int
    absent: dict[str, str]


Held = Callable[[], AbstractContextManager[None]]


def backup(
    records: Records,
    blobs: Blobs,
    *,
    to: Path,
    extra: Mapping[str, Path],
    held: Held = nullcontext,
) -> BackupReport:
    """Write one archive of records, blobs and other files.

    Args:
        records: read at one moment.
        blobs: all of them.
        to: the archive; must not be there yet.
        extra: name in the archive → file or folder; what is in a folder is named below it.
        held: entered while these are listed and read, which is short.

    Raises:
        ConflictError: there is something of that name already.
        NotFoundError: an extra file is not there.
        UnavailableError: the disk is full, or records or blobs are away.
    """
    if to.exists():
        raise ConflictError("the archive is there already", where=str(to), fix="Name another.")
    list(_extra_files(extra))  # what is not there is said before any work
    try:
        with replacing(to, mode=0o600) as file:
            manifest = _write(file, records=records, blobs=blobs, extra=extra, held=held)
    except OSError as error:
        raise UnavailableError(
            f"the archive cannot be written: {error.strerror}",
            where=str(error.filename or to),
            fix="Name a folder that is there, with enough space.",
        ) from error
    return BackupReport(
        path=to,
        size_bytes=to.stat().st_size,
        documents=manifest.documents,
        entries=manifest.entries,
        frames=manifest.frames,
        blobs=manifest.blobs,
        absent=manifest.absent,
    )


def _write(
    file: BinaryIO, *, records: Records, blobs: Blobs, extra: Mapping[str, Path], held: Held
) -> Manifest:
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        writer = _Writer(tar, made_at=records.clock.now())
        with closing(records.export()) as rows:
            writer.write_records(rows)
        writer.write_blobs(blobs)
        with held():
            writer.write_extra(dict(_extra_files(extra)))
        return writer.finish()


class _Writer:
    """Writes members in order and keeps account of them."""

    def __init__(self, tar: tarfile.TarFile, *, made_at: datetime) -> None:
        self._tar = tar
        self._made_at = made_at
        self._members = MemberDigest()
        self._counts = {"documents": 0, "entries": 0, "frames": 0, "blobs": 0}
        self._chains: dict[str, Link] = {}
        self._needed: set[Digest] = set()
        self._absent: dict[str, str] = {}
        self._extra: list[str] = []

    def write_records(self, rows: Iterable[Row]) -> None:
        part: list[bytes] = []
        size = number = 0
        for row in rows:
            self._note(row)
            part.append(line_of(row))
            size += len(part[-1])
            if size >= PART_BYTES:
                number += 1
                self._add_part(number, part)
                part, size = [], 0
        if part:
            self._add_part(number + 1, part)

    def write_blobs(self, blobs: Blobs) -> None:
        for digest in blobs.digests():
            try:
                content = blobs.get(digest)
            except (NotFoundError, RefusedError) as error:
                self._absent[digest] = error.message
                continue
            self._counts["blobs"] += 1
            self._needed.discard(digest)
            self._add(Member(name=f"blobs/{digest.removeprefix('sha256:')}", content=content))
        for digest in self._needed:
            self._absent.setdefault(digest, "it was not there")
        self._absent = {
            digest: reason for digest, reason in self._absent.items() if digest in self._needed
        }

    def write_extra(self, files: Mapping[str, Path]) -> None:
        for name, path in sorted(files.items()):
            self._extra.append(name)
            mode = path.stat().st_mode & 0o777
            self._add(Member(name=f"extra/{name}", content=path.read_bytes(), mode=mode))

    def finish(self) -> Manifest:
        manifest = Manifest(
            schema=SCHEMA,
            made_at=self._made_at,
            members=self._members.value(),
            chains=self._chains,
            absent=self._absent,
            extra=tuple(self._extra),
            **self._counts,
        )
        self._add(Member(name=MANIFEST, content=encode(manifest)))
        return manifest

    def _note(self, row: Row) -> None:
        match row:
            case Document():
                self._counts["documents"] += 1
            case Logged():
                self._counts["entries"] += 1
                self._chains[row.entry.source] = Link(
                    source_position=row.source_position, hash=row.hash
                )
            case FrameRow():
                self._counts["frames"] += 1
                self._needed.add(row.thumbnail)
                if row.aged_out_at is None:
                    self._needed.add(row.digest)

    def _add_part(self, number: int, part: list[bytes]) -> None:
        content = gzip.compress(b"\n".join(part), compresslevel=6, mtime=0)
        self._add(Member(name=f"records/{number:06d}.jsonl.gz", content=content))

    def _add(self, member: Member) -> None:
        self._members.add(member)
        header = tarfile.TarInfo(member.name)
        header.size = len(member.content)
        header.mtime = int(self._made_at.timestamp())
        header.mode = member.mode
        self._tar.addfile(header, io.BytesIO(member.content))
        self._tar.members = []  # type: ignore[attr-defined]  # it would keep every header in memory


def _extra_files(extra: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    for name, path in extra.items():
        check_extra_name(name)
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file())
            for file in inside:
                below = f"{name}/{file.relative_to(path).as_posix()}"
                check_extra_name(below)
                yield below, file
        elif path.is_file():
            yield name, path
        else:
            raise NotFoundError("no such file", where=str(path), fix="Leave it out, or name it.")
