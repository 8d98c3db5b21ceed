"""Contracts of the store, whichever database or bucket is behind it.

1. A call that returned has been committed: kill -9 afterwards loses nothing of it.
2. Putting or appending the same thing twice keeps one.
3. Methods are safe to call from several threads.
4. Driver errors never leave the room: ``UnavailableError`` (retry), ``ConflictError`` (read
   again), ``NotFoundError``, ``RefusedError`` (bytes changed at rest).
5. Names (kinds, ids, sources, types, subjects, cameras, reasons) are text without NUL, at most
   2,000 bytes of UTF-8, kinds and reasons 500; others are an ``InvalidError``.
6. What keeps a blob: a frame that has not aged out names it, a frame names it as thumbnail, or
   the body of a document holds its digest as text. Nothing else does, so whoever keeps bytes
   that may equal a frame's picture names them in a document.

Names are the same on every database: PostgreSQL refuses NUL in text and index entries above about
2,700 bytes; SQLite takes both. A name that one of them refuses is refused by all, before a
statement is written.
"""

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from lineside.core import Clock, Digest, FrameId, InvalidError, SystemClock
from lineside.core.drivers import SecretUrl, find_driver
from lineside.vision.verdict import PartVerdict

if TYPE_CHECKING:
    from lineside.store.sums import SqlRuleSums

_PAGE = 500
LEAVING = "blob-leaving"
"""Kind of the documents that name blobs about to be deleted; the id is the digest."""

CHECKPOINT = "log-checkpoint"
"""Kind of the documents that say where a pruned chain begins; the id is the source."""

VERIFIED = "log-verified"
"""Kind of the documents that say how far a chain was found whole; the id is the source."""

Signer = Callable[[bytes], Mapping[str, str]]
"""Signs bytes; the signature as a document keeps it."""


class Blobs(Protocol):
    """Bytes kept under their digest."""

    def put(self, data: bytes) -> Digest:
        """Keep the bytes; putting twice keeps one."""
        ...

    def put_many(self, data: Sequence[bytes]) -> list[Digest]:
        """Keep all for about the price of one commit; some where it raises: put them again."""
        ...

    def get(self, digest: Digest) -> bytes:
        """The bytes; ``NotFoundError`` if absent, ``RefusedError`` if they no longer match."""
        ...

    def has(self, digest: Digest) -> bool:
        """Return whether the bytes are kept; they are not read."""
        ...

    def delete(self, digest: Digest) -> None:
        """Forget the bytes; absent is fine."""
        ...

    def discard(self, digest: Digest, *, idle_s: float) -> bool:
        """Forget the bytes unless somebody put them during the last ``idle_s`` seconds.

        Putting bytes that are there already counts too: it makes them fresh. True when they are
        gone, also when they were not there.
        """
        ...

    def digests(self) -> Iterator[Digest]:
        """Every digest kept, in no order."""
        ...

    def close(self) -> None:
        """Release what ``open_blobs`` opened."""
        ...


class Place(Protocol):
    """Where bytes are put under names that others read."""

    def put(self, name: str, data: bytes) -> None:
        """Keep the bytes under a relative name; they are safe when it returns.

        Raises:
            InvalidError: the name leads out.
            NotFoundError, RefusedError: no such bucket, wrong credentials.
            UnavailableError: try again.
        """
        ...

    def address(self, name: str) -> str:
        """Return the address for other programs: ``file:///…``, ``s3://…``."""
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
        """Write, and return what is kept now.

        Args:
            kind: what sort of document.
            doc_id: its name among them.
            body: plain JSON.
            expect: the version read before (0: must not exist); None overwrites.

        Raises:
            ConflictError: it is not at the version expected.
        """
        ...

    def page(
        self, kind: str, *, after: str = "", limit: int = 100, since: datetime | None = None
    ) -> list[Document]:
        """Documents of a kind in id order, ids strictly after ``after``.

        ``since``: only those written at this moment or later, by their writers' clocks.
        """
        ...

    def delete(self, kind: str, doc_id: str, *, expect: int | None = None) -> None:
        """Forget it; absent is fine where nothing is expected.

        Args:
            kind: what sort of document.
            doc_id: its name among them.
            expect: the version read before; None deletes whatever is there.

        Raises:
            ConflictError: it is not at the version expected.
        """
        ...


def every_document(
    documents: Documents, kind: str, *, after: str = "", prefix: str = "", size: int = _PAGE,
    since: datetime | None = None,
) -> Iterator[Document]:  # fmt: skip
    """Documents of a kind in id order, read a page of ``size`` at a time.

    Args:
        documents: where they are kept.
        kind: of them.
        after: only ids strictly after this one.
        prefix: only ids that begin so.
        size: how many are read at once.
        since: only those written at this moment or later, by their writers' clocks.
    """
    after = after or prefix
    while page := documents.page(kind, after=after, limit=size, since=since):
        for document in page:
            if not document.id.startswith(prefix):
                return
            yield document
        if len(page) < size:
            return
        after = page[-1].id


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
            hash = sha256(previous + "\\n" + source_position + "\\n" + arrived_at + "\\n" + body);
            before the first entry stands the empty text.
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
        """Keep all or none, in one transaction; an id already there is returned as it stands.

        Raises:
            InvalidError: an attribute differs from what the body says. ``captured_at`` may be
                cut to milliseconds; the body's own ``time`` is what is kept.
        """
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
        unsettled: bool = False,
    ) -> list[Logged]:
        """Entries by position, strictly after ``after`` (before it when newest first; 0: end).

        Oldest first, a reader that goes on from the last position it saw misses nothing: an
        entry is held back while an append that began before it has not ended. With
        ``unsettled`` it is not: for a reader that knows otherwise that none is under way.
        """
        ...

    def get(self, event_id: str) -> Logged:
        """``NotFoundError`` if absent; the first kept where two sources used one id."""
        ...

    def heads(self) -> dict[str, Logged]:
        """The last entry of each source."""
        ...

    def sources(self) -> list[str]:
        """Every source that has a chain, also one whose last entries were taken away."""
        ...

    def verify(self, source: str, *, resume: bool = False) -> ChainReport:
        """Recompute a source's chain from its first kept entry to its head.

        Args:
            source: whose chain.
            resume: begin after the last entry that an earlier call with ``resume`` found whole,
                which has to have the same hash still, and keep how far this one came.

        Raises:
            NotFoundError: the log has no such source.
        """
        ...

    def prune(
        self, source: str, *, before: datetime, anchors: str, sign: Signer | None = None
    ) -> int:
        """Forget a source's entries that an anchor older than ``before`` covers; how many.

        The anchored entry itself stays, and a document of kind ``log-checkpoint`` keeps position
        and hash of the last one forgotten, so that ``verify`` still works. Without an anchor
        nothing is forgotten. A forgotten id is new again if it is sent once more.

        Args:
            source: whose chain.
            before: anchors that arrived before this moment count.
            anchors: the source whose chain holds the anchors.
            sign: makes the signature that the checkpoint gets; None leaves it without.

        Raises:
            RefusedError: the chain is broken, or differs from the anchor; all of it is kept.
        """
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameAnswer:
    """The answer of an inspection to a frame, as lists of frames are filtered and sorted by it.

    A frame that several inspections look at has the answer of the worst verdict.

    Attributes:
        label: what was found, in a word; "" for nothing.
        labels: every label that is present or unsure; frames are found by any of them.
        score: of ``label``: probability 0-1, of an anomaly its score from 0 up.
        doubt: 0 (sure) to 1; 0.5 and above is unsure.
        unsure: whether any part of the answer is unsure, or the image could not be judged.
    """

    frame: FrameId
    camera: str
    captured_at: datetime
    inspection: str
    package: str
    verdict: PartVerdict
    label: str = ""
    labels: tuple[str, ...] = ()
    score: float = 0.0
    doubt: float = 0.0
    unsure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameWithAnswer(FrameRow):
    """A frame with the answer to it; None where no inspection answered."""

    answer: FrameAnswer | None = None


class FrameOrder(StrEnum):
    """Order of a list of frames: newest, highest score or greatest doubt first."""

    NEWEST = "newest"
    SCORE = "score"
    DOUBT = "doubt"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFilter:
    """Frames that are asked for; each field narrows, an empty one does not.

    Attributes:
        frames: these frames and no others, at most 1,000.
        cameras: any of them.
        since, until: capture time; ``since`` is inside the span, ``until`` outside.
        verdicts: any of them.
        label: one that an answer to the frame names, present or unsure.
        least_score, most_score: both inside the range.
        unsure: only answers that are unsure.
        part: id of the part shown.
        package: digest of the package that answered.
        dataset: name of a dataset that holds the frame (``rack``), or a version (``rack/3``).
        order: with ``score`` and ``doubt`` only frames with an answer.
    """

    frames: tuple[FrameId, ...] = ()
    cameras: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    verdicts: tuple[PartVerdict, ...] = ()
    label: str = ""
    least_score: float | None = None
    most_score: float | None = None
    unsure: bool = False
    part: str = ""
    package: str = ""
    dataset: str = ""
    order: FrameOrder = FrameOrder.NEWEST


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePage:
    """A page of frames.

    Attributes:
        following: what ``before`` takes for the next page; "" at the end. A page may hold fewer
            frames than asked for, or none, and still have a next one: it ends where the number of
            frames that one page looks at is reached.
    """

    frames: tuple[FrameWithAnswer, ...]
    following: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameCount:
    """The number of frames that pass a filter.

    Attributes:
        frames: of all verdicts, and without an answer.
        verdicts: of each verdict.
        whole: False where more were not looked at.
    """

    frames: int
    verdicts: dict[PartVerdict, int] = field(default_factory=dict)
    whole: bool = True


MOST_COUNTED = 2_000


class FrameIndex(Protocol):
    """Index of frames; newest-frame queries stay under 1 ms at a million frames."""

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
        """Newest first (capture time, then id), strictly older than ``before``.

        ``since`` is inside the span, ``until`` outside.
        """
        ...

    def answer(self, answers: Sequence[FrameAnswer]) -> None:
        """Note answers to frames, also to those that are not there yet; in the order given.

        A newer answer of the same inspection replaces the one before; of several inspections the
        worst verdict is kept (reject, incomplete, review, ok), of equal ones the newer.
        """
        ...

    def note_incomplete(self, answers: Sequence[FrameAnswer]) -> None:
        """Note frames of parts that are incomplete, before or after the answers to them.

        The verdict on such a frame is incomplete from then on, unless it is a reject; what was
        answered stays. Of the answers only frame, camera, time and package are read.
        """
        ...

    def has_answers(self) -> bool:
        """Return whether any answer was noted."""
        ...

    def find(self, wanted: FrameFilter, *, before: str = "", limit: int = 100) -> FramePage:
        """Return the frames that pass, in the filter's order, behind the frame ``before``.

        The time it takes does not grow with the number of frames: a page looks at a bounded number
        of them, along the index of the narrowest field.

        Raises:
            NotFoundError: there is no frame ``before``.
        """
        ...

    def count(self, wanted: FrameFilter, *, most: int = MOST_COUNTED) -> FrameCount:
        """Count the frames that pass among the newest ``most`` that it looks at."""
        ...

    def count_parts(
        self, wanted: FrameFilter, *, edges: Sequence[datetime], most: int = MOST_COUNTED
    ) -> list[FrameCount]:
        """``count`` of each part of the time between two edges, which stand in the filter's place.

        Many parts cost little more than one.
        """
        ...

    def pin(self, frames: Sequence[FrameId], *, reason: str) -> None:
        """Keep these from ageing out; pinning twice with one reason is one pin.

        A tombstone can be pinned; its picture does not come back.

        Raises:
            NotFoundError: one of them is not there; none is pinned.
        """
        ...

    def set_thumbnails(self, thumbnails: Mapping[FrameId, Digest]) -> None:
        """Give frames other thumbnails; a frame that is not there is passed over.

        A frame may be added with its own picture as thumbnail until it has a small one: until
        then the picture stays. A former thumbnail that nothing keeps is noted as leaving.
        """
        ...

    def age_out(
        self, *, older_than: datetime | None, excess_bytes: int = 0, limit: int = 1000
    ) -> list[FrameRow]:
        """Turn unpinned frames into tombstones, oldest first, by age and until so much is freed.

        Returns those whose blob nothing else keeps (rule 6), so that the caller can delete the
        blobs. At most ``limit`` frames a call. For each row returned a document of kind
        ``blob-leaving`` is written in the same commit: a crash before the blob is deleted leaves
        that note, and ``sweep`` goes by it.
        """
        ...

    def stored_bytes(self) -> int:
        """Return the size of the pictures of all frames that have not aged out, each once."""
        ...

    def forget(self, *, before: datetime, limit: int = 1000) -> int:
        """Delete unpinned tombstones captured before a moment, oldest first; how many.

        Their answers go with them; their thumbnails are noted as leaving where nothing else
        keeps them.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right of one holder to do what ``name`` names, until ``ends_at`` by the database's clock.

    ``token`` counts the holders: it is another one after each change.
    """

    name: str
    holder: str
    token: int
    ends_at: datetime


class Leases(Protocol):
    """Rights for a limited time: what only one of several programs at a database may do."""

    def take(self, names: Sequence[str], *, holder: str, length_s: float) -> list[Lease]:
        """Take those that nobody holds now; which were got, by name."""
        ...

    def renew(self, names: Sequence[str], *, holder: str, length_s: float) -> list[Lease]:
        """Hold on to those that no other has taken, also after their end; which were kept."""
        ...

    def release(self, names: Sequence[str], *, holder: str) -> None:
        """End those of them that are this holder's."""
        ...

    def held(self) -> list[Lease]:
        """Every lease that has not ended, by name."""
        ...

    def check(self, lease: Lease) -> None:
        """Make sure, until the end of this thread's transaction, that nobody else takes it over.

        Raises:
            ConflictError: somebody else has it since; undo what was begun.
        """
        ...


Row = Document | Logged | FrameRow


T = TypeVar("T")


class Records(Protocol):
    """Documents, event log and frame index over one database."""

    @property
    def clock(self) -> Clock:
        """Where arrival and update times come from."""
        ...

    @property
    def documents(self) -> Documents:
        """Named JSON documents."""
        ...

    @property
    def log(self) -> EventLog:
        """The event log."""
        ...

    @property
    def frames(self) -> FrameIndex:
        """The frame index."""
        ...

    rule_sums: "SqlRuleSums"
    """Sums of rule events."""

    @property
    def leases(self) -> Leases:
        """Return which of several programs does what."""
        ...

    @property
    def shared(self) -> bool:
        """Return whether several hubs may stand at it; if not, nobody needs a lease."""
        ...

    def serialise(self, name: str) -> None:
        """Let one transaction of that name go on at a time; this one until it ends.

        Call it first in a transaction, before anything is locked.
        """
        ...

    def transaction(self) -> AbstractContextManager[object]:
        """Everything this thread writes inside is one commit, or nothing when the block raises.

        Bound to the thread; a block inside a block joins it (and is undone alone if it raises).
        Keep it short: on SQLite every other writer waits.
        """
        ...

    def read_once(self, key: Hashable, read: Callable[[], T]) -> T:
        """Return what ``read`` gave, or gives now if anybody committed anything since.

        A commit of another program is noticed as one of this one is. Where noticing costs as much
        as reading (PostgreSQL), and inside a transaction, each call reads. None is not kept.

        Args:
            key: of what is read, one and the same for all programs' code.
            read: reads from these records alone, and gives something that nobody changes.
        """
        ...

    def known(self, key: Hashable) -> object | None:
        """Return what ``read_once`` would give without a read; None where it would read."""
        ...

    def unused_bytes(self) -> int:
        """Return how much of the database's files is free for new rows; 0 where nobody can say."""
        ...

    def named(self, digests: Sequence[Digest]) -> set[Digest]:
        """Those that something keeps (rule 6)."""
        ...

    def export(self) -> Generator[Row, None, None]:
        """Everything at one moment: documents, then entries chain by chain, then frames.

        Others may write meanwhile. Close it if it is not read to its end.
        """
        ...

    def load(self, rows: Iterable[Row]) -> None:
        """Fill empty records with what ``export`` gave, in one transaction.

        Raises:
            ConflictError: the records are not empty.
        """
        ...

    def close(self) -> None:
        """Release what ``open_records`` opened."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *raised: object) -> None: ...


MAX_NAME_BYTES = 2000
MAX_KIND_BYTES = 500
MAX_COUNT = 2**63 - 1
_LONGEST_SHOWN = 60


def check_name(text: str, *, what: str, most: int = MAX_NAME_BYTES, empty: bool = False) -> None:
    """Refuse text that cannot stand in an index.

    Raises:
        InvalidError: empty where it may not be, a NUL, half a surrogate pair, or too long.
    """
    shown = text[:_LONGEST_SHOWN]
    if not text and not empty:
        raise InvalidError(f"the {what} is empty", where=what, fix="Name it.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidError(
            f"the {what} {shown!r} is no Unicode text", where=what, fix="Send valid UTF-8."
        ) from error
    if "\x00" in text:
        raise InvalidError(f"the {what} {shown!r} holds a NUL", where=what, fix="Leave it out.")
    if size > most:
        raise InvalidError(
            f"the {what} {shown!r}… has {size} bytes, more than {most}",
            where=what,
            fix="Shorten it.",
        )


def check_count(number: int, *, what: str) -> None:
    """Refuse a number that a 64-bit column cannot hold, or below 0."""
    if not 0 <= number <= MAX_COUNT:
        raise InvalidError(f"{what} is {number}", where=what, fix=f"From 0 to {MAX_COUNT}.")


def check_moment(moment: datetime | None, *, what: str) -> None:
    """Refuse a time without zone."""
    if moment is not None and moment.tzinfo is None:
        raise InvalidError(f"{what} {moment} names no zone", where=what, fix="Attach a UTC offset.")


def check_limit(limit: int) -> None:
    """Refuse a page of nothing."""
    if limit < 1:
        raise InvalidError(f"limit is {limit}", where="limit", fix="Ask for 1 or more.")


_RECORDS = {
    "memory": "lineside.store.sqlite:open_memory",
    "sqlite": "lineside.store.sqlite:open_sqlite",
    "postgresql": "lineside.store.postgres:open_postgres",
}
_BLOBS = {
    "memory": "lineside.store.memory:open_memory",
    "file": "lineside.store.folder:open_folder",
    "s3": "lineside.store.bucket:open_bucket",
}


def open_records(url: str, *, clock: Clock) -> Records:
    """Open records, bringing their tables up to date.

    Args:
        url: ``memory://``, ``sqlite:////abs/path.db``, ``postgresql://user@host/db``
            (``?passfile=/abs/file`` names libpq's password file).
        clock: where arrival and update times come from.

    Raises:
        RefusedError: wrong credentials, a damaged file, or tables of a newer lineside.
        UnavailableError: the server is away, the disk is full; try again.
        NotFoundError: no such database.
        MissingExtraError: the driver is not installed.
    """
    records: Records = find_driver("records", url, table=_RECORDS)(
        SecretUrl(url).reveal(), clock=clock
    )
    return records


def open_blobs(url: str, *, clock: Clock | None = None) -> Blobs:
    """Open a place for bytes.

    Args:
        url: ``memory://``, ``file:///abs/dir``, or
            ``s3://bucket/prefix?endpoint=http://…&region=…&credentials=/abs/file``.
        clock: says when bytes were put; the machine's own if None.

    Raises:
        RefusedError: wrong credentials.
        UnavailableError: the folder or server cannot be reached; try again.
        NotFoundError: no such bucket.
        MissingExtraError: the driver is not installed.
    """
    blobs: Blobs = find_driver("blobs", url, table=_BLOBS)(
        SecretUrl(url).reveal(), clock=clock or SystemClock()
    )
    return blobs
