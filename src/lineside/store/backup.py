"""One archive of everything that is kept (its form: ``archive.py``).

1. The records are read as they were at one moment, while others go on writing. Blobs are read
   after that, so every picture those records name was there; one that aged out in between is
   listed as absent, and its frame comes back as a tombstone.
2. Other files are read last, while ``held`` keeps whoever changes them from doing so: they are as
   new as the records or newer, and belong together.
3. The archive is written under another name, synced, then renamed: under the name asked for stands
   a whole archive or none. It may hold secrets and is readable by its owner only.
"""

import gzip
import io
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from lineside.core import (
    ConflictError,
    Digest,
    NotFoundError,
    RefusedError,
    UnavailableError,
    encode,
)
from lineside.core.files import replacing
from lineside.store.archive import (
    MANIFEST,
    PART_BYTES,
    SCHEMA,
    ChainEnd,
    Manifest,
    Member,
    MemberDigest,
    check_extra_name,
    line_of,
)
from lineside.store.contract import Blobs, Document, FrameRow, Logged, Records, Row


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
        self._chains: dict[str, ChainEnd] = {}
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
                self._chains[row.entry.source] = ChainEnd(
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
