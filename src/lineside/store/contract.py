"""What the store promises, whichever database or bucket stands behind it.

1. A call that returned has been committed: kill -9 afterwards loses nothing of it.
2. Putting or appending the same thing twice keeps one.
3. Methods are safe to call from several threads.
4. Driver errors never leave the room: ``UnavailableError`` (retry), ``ConflictError`` (read
   again), ``NotFoundError``, ``RefusedError`` (bytes changed at rest).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from lineside.core import Digest, FrameId


class Blobs(Protocol):
    """Bytes kept under their digest."""

    def put(self, data: bytes) -> Digest:
        """Keep the bytes; putting twice keeps one."""
        ...

    def get(self, digest: Digest) -> bytes:
        """The bytes; ``NotFoundError`` if absent, ``RefusedError`` if they no longer match."""
        ...

    def delete(self, digest: Digest) -> None:
        """Forget the bytes; absent is fine."""
        ...

    def digests(self) -> Iterator[Digest]:
        """Every digest kept, in no order."""
        ...

    def close(self) -> None:
        """Release what ``open_blobs`` opened."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A named JSON document with a version that counts its writes from 1."""

    kind: str
    id: str
    version: int
    body: dict[str, Any]
    updated_at: datetime


class Documents(Protocol):
    """Small JSON documents by kind and id, with optimistic versions."""

    def get(self, kind: str, doc_id: str) -> Document:
        """``NotFoundError`` if absent."""
        ...

    def put(
        self, kind: str, doc_id: str, *, body: dict[str, Any], expect: int | None = None
    ) -> Document:
        """Write; ``expect`` is the version read before (0: must not exist), else
        ``ConflictError``. None overwrites.
        """
        ...

    def page(self, kind: str, *, after: str = "", limit: int = 100) -> list[Document]:
        """Documents of a kind in id order, ids strictly after ``after``."""
        ...

    def delete(self, kind: str, doc_id: str) -> None:
        """Forget it; absent is fine."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """An entry offered to the event log. ``body`` is canonical JSON of the whole event."""

    id: str
    source: str
    type: str
    subject: str
    captured_at: datetime
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    r"""An entry as kept.

    Attributes:
        position: place in the whole log, counting up; the cursor of readers.
        source_position: place in its source's chain, from 1 without gaps.
        previous, hash: ``sha256:`` chain of the source:
            hash = sha256(previous + "\\n" + source_position + "\\n" + arrived_at + "\\n" + body).
        duplicate: true in the answer of ``append`` when the id was already there.
    """

    position: int
    source_position: int
    entry: LogEntry
    arrived_at: datetime
    previous: str
    hash: str
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReport:
    """The result of walking one source's chain."""

    source: str
    entries: int
    ok: bool
    broken_at: int = 0
    reason: str = ""


class EventLog(Protocol):
    """Append-only, hash-chained per source, idempotent by (source, id)."""

    def append(self, entries: Sequence[LogEntry]) -> list[Logged]:
        """Keep all or none, in one transaction; an id already there is returned as it stands."""
        ...

    def read(
        self,
        *,
        after: int = 0,
        limit: int = 1000,
        source: str = "",
        type: str = "",  # noqa: A002  the CloudEvents attribute's name
        subject: str = "",
        newest_first: bool = False,
    ) -> list[Logged]:
        """Entries by position, strictly after ``after`` (before it when newest first; 0: end)."""
        ...

    def get(self, event_id: str) -> Logged:
        """``NotFoundError`` if absent."""
        ...

    def heads(self) -> dict[str, Logged]:
        """The last entry of each source."""
        ...

    def verify(self, source: str) -> ChainReport:
        """Recompute a source's chain from its first kept entry."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRow:
    """A frame as the index keeps it; the picture stands in ``Blobs`` under ``digest``.

    ``pins`` are reasons it may not age out (``dataset:rack/3``, ``order:ord_…``). A tombstone
    (``aged_out_at`` set) keeps everything but the picture; the thumbnail stays.
    """

    id: FrameId
    camera: str
    captured_at: datetime
    arrived_at: datetime
    digest: Digest
    size_bytes: int
    width_px: int
    height_px: int
    thumbnail: Digest
    part: str = ""
    sequence: int = 0
    pins: tuple[str, ...] = ()
    aged_out_at: datetime | None = None


class FrameIndex(Protocol):
    """Which frames there are; newest-frame queries stay under 1 ms at a million frames."""

    def add(self, rows: Sequence[FrameRow]) -> int:
        """Keep the rows in one transaction; how many were new (an id already there is kept)."""
        ...

    def get(self, frame: FrameId) -> FrameRow:
        """``NotFoundError`` if absent."""
        ...

    def newest(self, camera: str) -> FrameRow | None:
        """The frame with the latest capture time, or None."""
        ...

    def page(
        self,
        *,
        camera: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        before: FrameId | None = None,
        limit: int = 100,
    ) -> list[FrameRow]:
        """Newest first (capture time, then id), strictly older than ``before``."""
        ...

    def pin(self, frames: Sequence[FrameId], *, reason: str) -> None:
        """Keep these from ageing out; pinning twice with one reason is one pin."""
        ...

    def age_out(
        self, *, older_than: datetime | None, keep_bytes: int | None, limit: int = 1000
    ) -> list[FrameRow]:
        """Turn unpinned frames into tombstones, oldest first, by age and by total size; returns
        those whose blob no other kept frame names, so that the caller can delete the blobs.
        """
        ...
