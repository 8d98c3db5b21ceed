"""Fill empty records and blobs from an archive (its form: ``archive.py``).

1. The whole archive is read and checked before anything is opened or written: names, sizes,
   every digest, every chain from its first entry to the end that the manifest names, and that
   each picture and thumbnail of a frame is there or listed as absent.
2. The target must be empty; nothing is ever merged or overwritten.
3. Blobs first, other files next, records last in one transaction: when restoring is cut off, the
   records are empty, and it is plain that it did not happen.
4. Other files are written whole beside their place and come there by one rename each, with the
   rights they had; folders are their owner's only. What a restore that was killed left beside a
   place goes with the next one.
"""

import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from lineside.core import (
    Clock,
    ConflictError,
    Digest,
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    decode,
    digest_of,
)
from lineside.core.files import sync_path, write_durably
from lineside.store.archive import (
    MANIFEST,
    ArchiveLimits,
    Manifest,
    Member,
    MemberDigest,
    read_members,
    rows_of,
)
from lineside.store.chain import Link, fault_of
from lineside.store.contract import (
    CHECKPOINT,
    Blobs,
    Document,
    FrameRow,
    Logged,
    Records,
    Row,
    open_blobs,
    open_records,
)

_PARTIAL = ".part"
_OWN = 0o700
_ANOTHER = "The archive is damaged or was changed; take another backup."


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """Result of a restore.

    Attributes:
        absent: blobs that were not in the backup; frames of those pictures are tombstones now.
        extra: names of the other files in the archive.
    """

    documents: int
    entries: int
    frames: int
    blobs: int
    absent: tuple[str, ...]
    extra: tuple[str, ...]


def restore(
    archive: Path,
    *,
    records_url: str,
    blobs_url: str,
    clock: Clock,
    extra: Mapping[str, Path] | None = None,
    limits: ArchiveLimits | None = None,
) -> RestoreReport:
    """Check an archive, then fill what the URLs name with it.

    Args:
        archive: made by ``backup``, on whichever database.
        records_url: empty records; made if they are not there.
        blobs_url: empty blobs.
        clock: for the records opened.
        extra: first part of a name in the archive → the file or folder that it becomes; other
            names stay in the archive.
        limits: refused beyond; None for the usual ones.

    Raises:
        NotFoundError: no such archive.
        InvalidError: not an archive, cut short, or beyond the limits.
        RefusedError: a digest or chain does not match.
        ConflictError: records, blobs or an extra file are there already.
    """
    bounds, places = limits or ArchiveLimits(), extra or {}
    with _opened(archive) as file:
        manifest = check_archive(file, limits=bounds)
        with (
            open_records(records_url, clock=clock) as records,
            closing(open_blobs(blobs_url, clock=clock)) as blobs,
        ):
            _refuse_filled(records, blobs)
            _refuse_used(places.values())
            with _temporary_names(places) as partial:
                _fill(file, blobs, places=partial, limits=bounds)
                for name, place in places.items():
                    if partial[name].exists():
                        partial[name].replace(place)
                        sync_path(place.parent)
            records.load(_rows(file, manifest=manifest, limits=bounds))
    return RestoreReport(
        documents=manifest.documents,
        entries=manifest.entries,
        frames=manifest.frames,
        blobs=manifest.blobs,
        absent=tuple(sorted(manifest.absent)),
        extra=manifest.extra,
    )


def check_archive(file: BinaryIO, *, limits: ArchiveLimits) -> Manifest:
    """Read an archive to its end and check everything in it.

    Raises:
        InvalidError, RefusedError: as ``restore``.
    """
    file.seek(0)
    check = _Check()
    for member in read_members(file, limits=limits):
        check.take(member)
    return check.finish()


class _Check:
    """State of an archive while it is read."""

    def __init__(self) -> None:
        self._members = MemberDigest()
        self._rows = {"documents": 0, "entries": 0, "frames": 0}
        self._needed: set[Digest] = set()
        self._blobs: set[Digest] = set()
        self._extra: list[str] = []
        self._starts: dict[str, Link] = {}
        self._ends: dict[str, Link] = {}
        self._manifest: Manifest | None = None

    def take(self, member: Member) -> None:
        if self._manifest is not None:
            raise InvalidError("something stands after the manifest", where="archive", fix=_ANOTHER)
        if member.name == MANIFEST:
            self._manifest = decode(Manifest, member.content, where=MANIFEST)
            return
        self._members.add(member)
        if member.is_records:
            for row in rows_of(member):
                self._take_row(row, where=member.name)
        elif member.is_blob:
            self._take_blob(member)
        else:
            self._extra.append(member.extra_name)

    def finish(self) -> Manifest:
        manifest = self._manifest
        if manifest is None:
            raise InvalidError("the archive ends early", where="archive", fix=_ANOTHER)
        for what, said, found in (
            ("members", manifest.members, self._members.value()),
            ("documents", manifest.documents, self._rows["documents"]),
            ("entries", manifest.entries, self._rows["entries"]),
            ("frames", manifest.frames, self._rows["frames"]),
            ("blobs", manifest.blobs, len(self._blobs)),
            ("chains", manifest.chains, self._ends),
            ("extra", manifest.extra, tuple(self._extra)),
        ):
            if said != found:
                raise _refused(f"the {what} are not those of the manifest", where="archive")
        missing = self._needed - self._blobs - {Digest(digest) for digest in manifest.absent}
        if missing:
            raise _refused(f"{len(missing)} pictures are missing", where=min(missing))
        return manifest

    def _take_row(self, row: Row, *, where: str) -> None:
        match row:
            case Document():
                self._rows["documents"] += 1
                if row.kind == CHECKPOINT:
                    self._starts[row.id] = Link.of_checkpoint(row)
            case Logged():
                self._rows["entries"] += 1
                self._take_entry(row, where=where)
            case FrameRow():
                self._rows["frames"] += 1
                self._needed.add(row.thumbnail)
                if row.aged_out_at is None:
                    self._needed.add(row.digest)

    def _take_entry(self, logged: Logged, *, where: str) -> None:
        source = logged.entry.source
        before = self._ends.get(source) or self._starts.get(source) or Link()
        reason = fault_of(logged, after=before)
        if reason:
            raise _refused(f"entry {logged.source_position} of {source}: {reason}", where=where)
        self._ends[source] = Link(source_position=logged.source_position, hash=logged.hash)

    def _take_blob(self, member: Member) -> None:
        digest = digest_of(member.content)
        if member.name != f"blobs/{digest.removeprefix('sha256:')}":
            raise _refused("the bytes are not those of the name", where=member.name)
        self._blobs.add(digest)


def _refused(message: str, *, where: str) -> RefusedError:
    return RefusedError(message, where=where, fix=_ANOTHER)


@contextmanager
def _opened(archive: Path) -> Iterator[BinaryIO]:
    try:
        with archive.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise NotFoundError("no such file", where=str(archive), fix="Name an archive.") from error
    except OSError as error:
        raise UnavailableError(
            f"cannot read or write: {error.strerror}", where=str(archive), fix="Look at the disk."
        ) from error


def _refuse_filled(records: Records, blobs: Blobs) -> None:
    with closing(records.export()) as rows:
        filled = next(rows, None) is not None
    if filled:
        raise ConflictError(
            "the records are not empty", where="records", fix="Name a new database."
        )
    if next(blobs.digests(), None) is not None:
        raise ConflictError(
            "the blobs are not empty", where="blobs", fix="Name a new folder or prefix."
        )


def _refuse_used(places: Iterable[Path]) -> None:
    for place in places:
        if place.is_file() or (place.is_dir() and any(place.iterdir())):
            raise ConflictError(
                "there is something there already",
                where=str(place),
                fix="Move it away, or name another place.",
            )


@contextmanager
def _temporary_names(places: Mapping[str, Path]) -> Iterator[Mapping[str, Path]]:
    """A name beside each place, for what is not whole yet."""
    for place in places.values():
        for left in place.parent.glob(f".{place.name}.*{_PARTIAL}"):
            _remove(left)
    partial = {
        name: place.with_name(f".{place.name}.{secrets.token_hex(4)}{_PARTIAL}")
        for name, place in places.items()
    }
    try:
        yield partial
    finally:
        for path in partial.values():
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _fill(
    file: BinaryIO, blobs: Blobs, *, places: Mapping[str, Path], limits: ArchiveLimits
) -> None:
    file.seek(0)
    for member in read_members(file, limits=limits):
        if member.is_blob:
            blobs.put(member.content)
            continue
        head, _, below = member.extra_name.partition("/")
        if head in places:
            _write_extra(places[head], below=below, member=member)


def _write_extra(place: Path, *, below: str, member: Member) -> None:
    """One file, durably; nobody but its owner ever writes it."""
    path = place / below if below else place
    place.parent.mkdir(parents=True, exist_ok=True)
    within = [each for each in (path.parent, *path.parents[1:]) if each.is_relative_to(place)]
    for folder in reversed(within):
        folder.mkdir(mode=_OWN, exist_ok=True)
    write_durably(path, member.content, mode=member.mode & 0o755 | 0o600)
    sync_path(path.parent)


def _rows(file: BinaryIO, *, manifest: Manifest, limits: ArchiveLimits) -> Iterator[Row]:
    """The archive's rows as they are to be kept; members after the records are not read."""
    file.seek(0)
    for member in read_members(file, limits=limits):
        if not member.is_records:
            return
        for row in rows_of(member):
            if isinstance(row, FrameRow) and row.digest in manifest.absent:
                yield replace(row, aged_out_at=row.aged_out_at or manifest.made_at)
            else:
                yield row
