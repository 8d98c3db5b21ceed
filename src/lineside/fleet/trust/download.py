"""Bytes of a source that nobody trusts, taken under limits.

1. The length is known before the first byte is asked for; one byte more ends the transfer (TUF
   1.5.3, endless data).
2. A source that gives less than ``least_bytes_per_s`` over a while, or takes longer than
   ``metadata_s`` for a metadata file, is left (TUF 1.5.3, slow retrieval).
3. What came of a target stays in a ``.part`` file and is gone on with; a source that begins at the
   first byte again is read from there. Only a whole file whose digest is the signed one gets the
   name it is known by; anything else is thrown away.

A source is a hub, a folder or a bundle; nothing of it is believed. Paths are those of a repository
of consistent snapshots (TUF 6.2): ``metadata/3.root.json``, ``metadata/timestamp.json``,
``targets/packages/<group>/<version>/<sha256>.<name>``.

Of a package that a device has an earlier version of, only what changed is fetched:

4. An archive is stored entries one after the other and a directory at its end (``models.archive``).
   Its end is fetched first. Entries that stand there with the name, length and CRC-32 they have in
   the earlier archive are copied from that; what lies between is asked for by range.
5. Nothing of this is believed. What is put together goes the way of bytes that a source sent one
   after the other: length, pace, and at the end the signed SHA-256 of the whole. Whoever lies here
   is found out there, and the archive is fetched whole.
6. It is put together in order, so an earlier fetch is gone on with, whichever way its bytes came.
7. Where nothing can be copied, the directory is not as packages have it, or the source knows no
   ranges, everything comes from the source.

Source: APPNOTE.TXT 6.3.10, 4.3.12 (central directory), 4.3.16 (its end).
"""

import hashlib
import logging
import shutil
import struct
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from lineside.core import Clock, NotFoundError, RefusedError, UnavailableError
from lineside.core.files import sync_path
from lineside.fleet.contract import Progress, Target
from lineside.fleet.trust.roles import check_path, prefixed

_READ_BYTES = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """A file from some byte on.

    Attributes:
        start_byte: where it begins; 0 where the source does not know ranges.
        chunks: its bytes; reading them may raise ``UnavailableError``.
    """

    start_byte: int
    chunks: Iterator[bytes]


class Source(Protocol):
    """Files of a repository; may lie about every one of them."""

    def open(
        self, path: str, *, start_byte: int = 0, end_byte: int | None = None
    ) -> AbstractContextManager[Part]:
        """A file from a byte on, or from its beginning.

        Args:
            path: of the file.
            start_byte: the first that is wanted.
            end_byte: the one after the last that is wanted, above ``start_byte``; more may come.
                None: the file's end.

        Raises:
            NotFoundError: there is none.
            UnavailableError: it cannot be reached now.
        """
        ...


class FolderSource:
    """A copy of a repository in a folder: ``metadata/`` and, where it holds any, ``targets/``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def open(
        self, path: str, *, start_byte: int = 0, end_byte: int | None = None
    ) -> Iterator[Part]:
        """From the disk; until whoever reads has enough."""
        del end_byte
        place = self._folder / check_path(path)
        try:
            file = place.open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFoundError("no such file", where=str(place), fix="Copy it all.") from None
        except OSError as error:
            raise UnavailableError(
                f"cannot be read: {error.strerror}", where=str(place), fix="Check the disk."
            ) from error
        with file:
            file.seek(start_byte)
            yield Part(start_byte=start_byte, chunks=iter(lambda: file.read(_READ_BYTES), b""))


_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateLimits:
    """Limits on what a source may cost.

    Attributes:
        root_bytes, timestamp_bytes, snapshot_bytes, targets_bytes: longest metadata files, where
            no signed length is known yet.
        target_bytes: longest archive that is taken, whatever is signed.
        roots: how many new roots are followed in one refresh.
        delegations: how many roles are asked for one target.
        metadata_s: longest time for one metadata file.
        least_bytes_per_s: slowest archive that is waited for, after ``slow_after_s``.
    """

    root_bytes: int = 512_000
    timestamp_bytes: int = 16_384
    snapshot_bytes: int = 2_000_000
    targets_bytes: int = 5_000_000
    target_bytes: int = 512_000_000
    roots: int = 256
    delegations: int = 32
    metadata_s: float = 60.0
    least_bytes_per_s: float = 1000.0
    slow_after_s: float = 30.0


def read_metadata(
    source: Source, name: str, *, most_bytes: int, clock: Clock, limits: UpdateLimits
) -> bytes:
    """A metadata file, whole.

    Raises:
        NotFoundError: the source has none.
        RefusedError: it is longer than it may be.
        UnavailableError: away, or too slow.
    """
    ends_s, found = clock.monotonic() + limits.metadata_s, bytearray()
    with source.open(f"metadata/{name}") as part:
        for chunk in part.chunks:
            found += chunk
            if len(found) > most_bytes:
                raise _too_long(name, most_bytes)
            if clock.monotonic() > ends_s:
                raise _too_slow(name)
    return bytes(found)


def fetch_target(
    source: Source,
    target: Target,
    *,
    into: Path,
    progress: Progress,
    clock: Clock,
    limits: UpdateLimits,
) -> Path:
    """The file in a folder, whole and verified; named after its digest.

    Raises:
        RefusedError: longer or shorter than signed, or another digest; nothing of it stays.
        UnavailableError: broken off, too slow or no space; what came stays for the next try.
    """
    if target.size_bytes > limits.target_bytes:
        raise RefusedError(
            f"{target.size_bytes} bytes are signed, at most {limits.target_bytes} are taken",
            where=target.path,
            fix="Publish a smaller package.",
        )
    whole, part = into / f"{target.sha256}.lspkg", into / f"{target.sha256}.part"
    try:
        into.mkdir(parents=True, exist_ok=True)
        if _is_whole(whole, target):
            progress(target.size_bytes, target.size_bytes)
            return whole
        _check_space(into, needed=target.size_bytes - _size(part))
        with part.open("a+b") as file:
            _complete(file, source, target, clock=clock, limits=limits, progress=progress)
        part.replace(whole)
        sync_path(into)
    except RefusedError:
        part.unlink(missing_ok=True)
        raise
    except NotFoundError as error:
        raise UnavailableError(
            "signed, but the repository does not have it",
            where=target.path,
            fix="Publish it again.",
        ) from error
    except OSError as error:
        raise UnavailableError(
            f"cannot be written: {error.strerror}", where=str(into), fix="Free space there."
        ) from error
    return whole


def _complete(
    file: BinaryIO, source: Source, target: Target, *, clock: Clock, limits: UpdateLimits,
    progress: Progress,
) -> None:  # fmt: skip
    """Go on with a file until it is the target."""
    digest, kept = _read_part(file, most_bytes=target.size_bytes)
    size = kept
    if kept < target.size_bytes:
        path = f"targets/{prefixed(target.path, target.sha256)}"
        with source.open(path, start_byte=kept) as part:
            if part.start_byte not in (0, kept):
                raise RefusedError(
                    f"asked for byte {kept}, got byte {part.start_byte}",
                    where=target.path,
                    fix="Look after the repository's web server.",
                )
            if part.start_byte < kept:
                file.truncate(0)
                digest, size = hashlib.sha256(), 0
            for chunk in _limited(part.chunks, size, target=target, clock=clock, limits=limits):
                digest.update(chunk)
                file.write(chunk)
                size += len(chunk)
                progress(size, target.size_bytes)
            file.flush()
        if size < target.size_bytes:
            raise _broken_off(target, size, was_all=part.start_byte > 0 and size == kept)
    if digest.hexdigest() != target.sha256:
        raise RefusedError(
            "these are not the bytes that were signed",
            where=target.path,
            fix="Fetch it again; if it stays so, look after the repository.",
        )


def _read_part(file: BinaryIO, *, most_bytes: int) -> "tuple[hashlib._Hash, int]":
    """Digest and size of what an earlier try left; what is too long is thrown away."""
    file.seek(0)
    digest = hashlib.sha256()
    for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""):
        digest.update(chunk)
    if file.tell() > most_bytes:
        file.truncate(0)
        return hashlib.sha256(), 0
    return digest, file.tell()


def _limited(
    chunks: Iterator[bytes], size: int, *, target: Target, clock: Clock, limits: UpdateLimits
) -> Iterator[bytes]:
    """The chunks behind ``size``, while there are no more than signed, and they come in time."""
    begun_s, begun = clock.monotonic(), size
    for chunk in chunks:
        size += len(chunk)
        if size > target.size_bytes:
            raise _too_long(target.path, target.size_bytes)
        yield chunk
        passed_s, come = clock.monotonic() - begun_s, size - begun
        if passed_s >= limits.slow_after_s and come / passed_s < limits.least_bytes_per_s:
            raise _too_slow(target.path)


def _broken_off(target: Target, size: int, *, was_all: bool) -> RefusedError | UnavailableError:
    """A source that has no more, though it was asked from there, will never have the rest."""
    if was_all:
        return RefusedError(
            f"ends after {size} of {target.size_bytes} bytes",
            where=target.path,
            fix="Put the whole file into the repository.",
        )
    return UnavailableError(
        f"broken off after {size} of {target.size_bytes} bytes",
        where=target.path,
        fix="Try again; it goes on from there.",
    )


def _is_whole(path: Path, target: Target) -> bool:
    if not path.is_file() or path.stat().st_size != target.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == target.sha256


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check_space(folder: Path, *, needed: int) -> None:
    free = _free(folder)
    if free < needed:
        raise UnavailableError(
            f"{needed} bytes are needed, {free} are free", where=str(folder), fix="Free space."
        )


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _too_long(name: str, most: int) -> RefusedError:
    return RefusedError(
        f"more than the {most} bytes it may have", where=name, fix="Look after the repository."
    )


def _too_slow(name: str) -> UnavailableError:
    return UnavailableError("comes too slowly", where=name, fix="Try again over a better line.")


logger = logging.getLogger(__name__)

END_BYTES = 1 << 16
"""Bytes read for the directory; 256 files of 100 characters each take 37 kB."""
LEAST_KEPT_BYTES = 1 << 14
"""A shorter piece is fetched with its neighbours: a request costs more."""
MOST_PIECES = 64
_COPY_BYTES = 1 << 18
_MOST_ENTRIES = 256
_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<4s6H3L5H2L")


class _Kind(NamedTuple):
    """Identity of an entry, until the digest says otherwise."""

    name: bytes
    crc: int
    size: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A stored file of an archive, with its own header.

    Attributes:
        kind: by what it is found again; ``length`` reaches to the next entry.
        start: its first byte in the archive.
    """

    kind: _Kind
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Bytes of the new archive.

    Attributes:
        start: the first.
        stop: the one after the last.
        earlier_start: where they stand in the earlier archive; None: they are to be fetched.
    """

    start: int
    stop: int
    earlier_start: int | None


def read_directory(end: bytes, *, size: int) -> tuple[Entry, ...] | None:
    """The entries of an archive from its last bytes; None where it is not as packages have it.

    Args:
        end: last bytes of the archive.
        size: of the whole of it.
    """
    begins = size - len(end)
    if begins < 0 or len(end) < _END.size:
        return None
    mark, disk, first_disk, here, count, length, start, comment = _END.unpack(end[-_END.size :])
    stop = size - _END.size
    plain = (mark, disk, first_disk, here, comment) == (b"PK\5\6", 0, 0, count, 0)
    if not plain or count > _MOST_ENTRIES or start < begins or start + length != stop:
        return None
    found = _read_entries(end[start - begins : stop - begins], count=count)
    return _measured(found, stop=start) if found is not None else None


def _read_entries(directory: bytes, *, count: int) -> list[Entry] | None:
    found, place = [], 0
    for _ in range(count):
        if place + _ENTRY.size > len(directory):
            return None
        mark, *fields, at = _ENTRY.unpack_from(directory, place)
        crc, packed, size, name, extra, comment = fields[6:12]
        kind = _Kind(directory[place + _ENTRY.size :][:name], crc, size, length=0)
        if mark != b"PK\1\2" or packed != size or len(kind.name) != name:
            return None
        found.append(Entry(kind=kind, start=at))
        place += _ENTRY.size + name + extra + comment
    return found if place == len(directory) else None


def _measured(found: list[Entry], *, stop: int) -> tuple[Entry, ...] | None:
    """With lengths; None where entries overlap or leave the beginning of the archive out."""
    starts = [*(one.start for one in found), stop]
    if starts[0] != 0 or any(before >= after for before, after in pairwise(starts)):
        return None
    return tuple(
        replace(one, kind=one.kind._replace(length=after - one.start))
        for one, after in zip(found, starts[1:], strict=True)
    )


def pieces_of(new: Sequence[Entry], old: Sequence[Entry], *, end: int) -> tuple[Piece, ...]:
    """Return the held and the fetched ranges of the new archive before ``end``, in order.

    Empty where nothing that is worth it can be kept.
    """
    known = {one.kind: one.start for one in old}
    pieces = [
        Piece(start=one.start, stop=one.start + one.kind.length, earlier_start=known.get(one.kind))
        for one in new
    ]
    pieces = [replace(one, stop=min(one.stop, end)) for one in pieces if one.start < end]
    long = [
        one if one.stop - one.start >= LEAST_KEPT_BYTES else replace(one, earlier_start=None)
        for one in _joined(pieces)
    ]
    joined = _joined(long)
    worth = any(one.earlier_start is not None for one in joined) and len(joined) <= MOST_PIECES
    return tuple(joined) if worth else ()


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """The same bytes, neighbours that go on where the other ends as one."""
    found: list[Piece] = []
    for piece in pieces:
        if found and _follows(found[-1], piece):
            found[-1] = replace(found[-1], stop=piece.stop)
        else:
            found.append(piece)
    return found


def _follows(before: Piece, after: Piece) -> bool:
    if before.earlier_start is None or after.earlier_start is None:
        return before.earlier_start is after.earlier_start
    return before.earlier_start + before.stop - before.start == after.earlier_start


class DeltaSource:
    """A ``Source`` of one file, that takes from an earlier archive what is the same there."""

    def __init__(self, source: Source, *, previous: Path, size_bytes: int) -> None:
        """Read nothing yet.

        Args:
            source: of everything else.
            previous: an archive; a file that is none, or is not there, is as good as none.
            size_bytes: of the file, as signed.
        """
        self._source = source
        self._previous = previous
        self._size = size_bytes

    @contextmanager
    def open(
        self, path: str, *, start_byte: int = 0, end_byte: int | None = None
    ) -> Iterator[Part]:
        """From a byte on; what is kept costs the source nothing."""
        old = _directory_of(self._previous)
        begins = max(0, self._size - END_BYTES)
        end = self._end(path, begins) if old and start_byte < begins else None
        new = read_directory(end, size=self._size) if end is not None else None
        pieces = pieces_of(new, old, end=begins) if new and old else ()
        if end is None or not pieces:
            with self._source.open(path, start_byte=start_byte, end_byte=end_byte) as part:
                yield part
            return
        kept = sum(one.stop - one.start for one in pieces if one.earlier_start is not None)
        logger.info("delta path=%s kept_bytes=%d of=%d", path, kept, self._size)
        yield Part(
            start_byte=start_byte, chunks=self._chunks(path, pieces, start=start_byte, end=end)
        )

    def _end(self, path: str, begins: int) -> bytes | None:
        """The file's last bytes; None where the source does not know ranges."""
        found = bytearray()
        with self._source.open(path, start_byte=begins, end_byte=self._size) as part:
            if part.start_byte != begins:
                return None
            for chunk in _at_most(part.chunks, self._size - begins):
                found += chunk
        return bytes(found) if len(found) == self._size - begins else None

    def _chunks(
        self, path: str, pieces: Sequence[Piece], *, start: int, end: bytes
    ) -> Iterator[bytes]:
        for piece in pieces:
            first = max(start, piece.start)
            if first >= piece.stop:
                continue
            if piece.earlier_start is None:
                yield from self._fetched(path, first, stop=piece.stop)
            else:
                at = piece.earlier_start + first - piece.start
                yield from _copied(self._previous, at, size=piece.stop - first)
        yield end[max(0, start - (self._size - len(end))) :]

    def _fetched(self, path: str, start: int, *, stop: int) -> Iterator[bytes]:
        there = start
        with self._source.open(path, start_byte=start, end_byte=stop) as part:
            if part.start_byte != start:
                raise RefusedError(
                    f"asked for byte {start}, got byte {part.start_byte}",
                    where=path,
                    fix="Look after the repository's web server.",
                )
            for chunk in _at_most(part.chunks, stop - start):
                there += len(chunk)
                yield chunk
        if there == start:
            raise RefusedError(
                f"no byte {start} of a longer file", where=path, fix="Look after the repository."
            )
        if there < stop:
            raise UnavailableError(
                f"broken off after {there} bytes", where=path, fix="Try again; it goes on."
            )


def _at_most(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Of a source that sends on though it was asked for less, no more."""
    for chunk in chunks:
        yield chunk[:size]
        size -= len(chunk)
        if size <= 0:
            return


def _directory_of(path: Path) -> tuple[Entry, ...] | None:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - END_BYTES))
            return read_directory(file.read(END_BYTES), size=size)
    except OSError:
        return None


def _copied(path: Path, start: int, *, size: int) -> Iterator[bytes]:
    """Bytes of the earlier archive; fewer where it became shorter, which the digest tells."""
    with path.open("rb") as file:
        file.seek(start)
        yield from _read(file, size)


def _read(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := file.read(min(size, _COPY_BYTES))):
        size -= len(chunk)
        yield chunk
