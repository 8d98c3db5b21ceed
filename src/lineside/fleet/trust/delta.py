"""Of a package that a device has an earlier version of, only what changed is fetched.

1. An archive is stored entries one after the other and a directory at its end (``models.archive``).
   Its end is fetched first. Entries that stand there with the name, length and CRC-32 they have in
   the earlier archive are copied from that; what lies between is asked for by range.
2. Nothing of this is believed. What is put together goes the way of bytes that a source sent one
   after the other (``download``): length, pace, and at the end the signed SHA-256 of the whole.
   Whoever lies here is found out there, and the archive is fetched whole.
3. It is put together in order, so an earlier fetch is gone on with, whichever way its bytes came.
4. Where nothing can be copied, the directory is not as packages have it, or the source knows no
   ranges, everything comes from the source.

Source: APPNOTE.TXT 6.3.10, 4.3.12 (central directory), 4.3.16 (its end).
"""

import logging
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

from lineside.core import RefusedError, UnavailableError
from lineside.fleet.trust.download import Part, Source

logger = logging.getLogger(__name__)

END_BYTES = 1 << 16
"""Bytes read for the directory; 256 files of 100 characters each take 37 kB."""
LEAST_KEPT_BYTES = 1 << 14
"""A shorter piece is fetched with its neighbours: a request costs more."""
MOST_PIECES = 64
_CHUNK_BYTES = 1 << 18
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
        kept_at: where they stand in the earlier archive; None: they are to be fetched.
    """

    start: int
    stop: int
    kept_at: int | None


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
        Piece(start=one.start, stop=one.start + one.kind.length, kept_at=known.get(one.kind))
        for one in new
    ]
    pieces = [replace(one, stop=min(one.stop, end)) for one in pieces if one.start < end]
    long = [
        one if one.stop - one.start >= LEAST_KEPT_BYTES else replace(one, kept_at=None)
        for one in _joined(pieces)
    ]
    joined = _joined(long)
    worth = any(one.kept_at is not None for one in joined) and len(joined) <= MOST_PIECES
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
    if before.kept_at is None or after.kept_at is None:
        return before.kept_at is after.kept_at
    return before.kept_at + before.stop - before.start == after.kept_at


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
        kept = sum(one.stop - one.start for one in pieces if one.kept_at is not None)
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
            if piece.kept_at is None:
                yield from self._fetched(path, first, stop=piece.stop)
            else:
                at = piece.kept_at + first - piece.start
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
    while size > 0 and (chunk := file.read(min(size, _CHUNK_BYTES))):
        size -= len(chunk)
        yield chunk
