"""Retry and dead-letter policy of everything that writes to the log.

1. While the store is away an operation is tried again. A message that cannot be taken becomes a
   dead letter and never stops the others.
2. A refused message stands nowhere else, so a dead letter keeps its raw bytes, with reason, time
   and topic. They stand among the blobs behind a head line of their own, so that forgetting a
   letter can never take an image that shares its bytes. The oldest go when there are too many.
3. A record that a follower set aside stands in the log, so a quarantine keeps its position and the
   reason. None is dropped: with a full quarantine the follower waits, until a person retries or
   discards some.
"""

import contextlib
import logging
import threading
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from lineside.core import (
    Clock,
    Digest,
    InvalidError,
    NotFoundError,
    UnavailableError,
    decode,
    new_id,
    to_plain,
)
from lineside.core.worker import retry
from lineside.hub.eventlog.stats import Stats
from lineside.hub.eventlog.topics import DeadLetterError, Reason
from lineside.hub.views import DeadLetterView
from lineside.store import Blobs, Documents, Logged, Records

_KIND = "dead-letter"
_MOST_BYTES_EACH = 8_000_000
_MOST_BYTES = 256_000_000
_MOST_DETAIL = 500
_LOOKED_AT_AGAIN = 100
_QUARANTINED = "quarantine"
_ASKED = "quarantine-retry"
_ALL = "all"
MOST_QUARANTINED = 10_000


class DeadLetters:
    """Refused messages; the oldest go when there are too many or they grow too large."""

    def __init__(self, records: Records, blobs: Blobs, *, clock: Clock, most: int = 1000) -> None:
        self._records = records
        self._blobs = blobs
        self._clock = clock
        self._most = most
        self._lock = threading.Lock()
        self._kept: list[tuple[str, int, Digest]] = []  # by id, by which pages are cut
        self._bytes = 0
        self._counts: Counter[str] = Counter()
        self.catch_up()

    def catch_up(self) -> None:
        """Add the letters that this hub does not know: those of earlier starts and of other hubs.

        Ids begin with their time, so only the newest are looked at again: a hub may finish writing
        a little after one that began later.
        """
        with self._lock:
            known = {letter_id for letter_id, _, _ in self._kept}
            after = self._kept[-_LOOKED_AT_AGAIN][0] if len(known) >= _LOOKED_AT_AGAIN else ""
        new = []
        while page := self._records.documents.page(_KIND, after=after, limit=500):
            new += [_view(document.body) for document in page if document.id not in known]
            after = page[-1].id
        with self._lock:
            for view in new:
                self._add(view)

    def _add(self, view: DeadLetterView) -> None:
        """Count a letter, once: a letter of this hub may be read before ``keep`` counts it."""
        if all(letter_id != view.id for letter_id, _, _ in reversed(self._kept)):
            size_bytes = min(view.size_bytes, _MOST_BYTES_EACH)
            insort(self._kept, (view.id, size_bytes, view.digest))
            self._bytes += size_bytes
            self._counts[view.reason] += 1

    def keep(self, refusal: DeadLetterError, raw: bytes, *, topic: str) -> DeadLetterView:
        """Put one message away."""
        letter_id = new_id("dlt", clock=self._clock)
        kept = raw[:_MOST_BYTES_EACH]
        digest = self._blobs.put(_head(letter_id) + kept)
        view = DeadLetterView(
            id=letter_id, reason=str(refusal.reason), detail=refusal.detail[:_MOST_DETAIL],
            topic=topic[:_MOST_DETAIL], at=self._clock.now(), size_bytes=len(raw), digest=digest,
            truncated=len(kept) < len(raw),
        )  # fmt: skip
        self._records.documents.put(_KIND, letter_id, body=to_plain(view))
        with self._lock:
            self._add(view)
            over = self._take_over()
        for old_id, _, old_digest in over:
            self._records.documents.delete(_KIND, old_id)
            self._blobs.delete(old_digest)
        return view

    def _take_over(self) -> list[tuple[str, int, Digest]]:
        over = []
        while len(self._kept) > self._most or (self._bytes > _MOST_BYTES and len(self._kept) > 1):
            over.append(self._kept.pop(0))
            self._bytes -= over[-1][1]
        return over

    def page(self, *, before: str = "", limit: int = 100) -> list[DeadLetterView]:
        """Newest first, those older than ``before``."""
        with self._lock:
            ids = [kept[0] for kept in self._kept]
        older = [letter_id for letter_id in reversed(ids) if not before or letter_id < before]
        bodies = self._records.documents
        found = []
        for letter_id in older[:limit]:
            with contextlib.suppress(NotFoundError):  # forgotten meanwhile
                found.append(_view(bodies.get(_KIND, letter_id).body))
        return found

    def one(self, letter_id: str) -> DeadLetterView:
        """``NotFoundError`` once it was forgotten."""
        return _view(self._records.documents.get(_KIND, letter_id).body)

    def payload(self, letter_id: str) -> bytes:
        """The message's bytes as they came."""
        head = _head(letter_id)
        data = self._blobs.get(self.one(letter_id).digest)
        return data[len(head) :]

    def counts(self) -> dict[str, int]:
        """Number of each reason, since the store began or as far as letters are kept."""
        with self._lock:
            return dict(self._counts)


def _head(letter_id: str) -> bytes:
    return b"lineside.dead-letter/1 " + letter_id.encode() + b"\n"


def _view(body: dict[str, object]) -> DeadLetterView:
    return decode(DeadLetterView, body, where="dead letter")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedRecord:
    """A record that a follower of the log could not handle.

    Attributes:
        follower: whose quarantine this is.
        position: of the record in the log.
        event, type, subject: of the record.
        reason: why it failed the last time.
        at: when it was set aside.
        tries: how often it was tried.
    """

    follower: str
    position: int
    event: str
    type: str
    subject: str
    reason: str
    at: datetime
    tries: int = 1


class Quarantine:
    """Records that one follower set aside; at most ``most``, none of them dropped.

    Its documents are shared by the hubs of a site. The positions are held in memory too, so that
    counting them costs nothing; ``refresh`` brings these up to what other hubs did.
    """

    def __init__(
        self, documents: Documents, *, follower: str, most: int = MOST_QUARANTINED
    ) -> None:
        self._documents = documents
        self._follower = follower
        self._most = most
        self._lock = threading.Lock()
        self._positions: set[int] = set()

    def __len__(self) -> int:
        return len(self._positions)

    def refresh(self) -> None:
        """Read anew which records there are."""
        positions = {record.position for record in self._records()}
        with self._lock:
            self._positions = positions

    def check_capacity(self) -> None:
        """Refuse to go on with a full quarantine: so many are no single bad records.

        Raises:
            UnavailableError: there is no room until a person retries or discards some.
        """
        if len(self) >= self._most:
            self.refresh()
        if len(self) >= self._most:
            raise UnavailableError(
                f"its quarantine is full, {len(self)} records", where=self._follower,
                fix="Mend the cause, then retry or discard them.",
            )  # fmt: skip

    def add(self, logged: Logged, reason: str, *, at: datetime) -> None:
        """Set a record aside; adding it again counts the try."""
        entry = logged.entry
        record = QuarantinedRecord(
            follower=self._follower, position=logged.position, event=entry.id, type=entry.type,
            subject=entry.subject, reason=reason[:_MOST_DETAIL], at=at,
        )  # fmt: skip
        with contextlib.suppress(NotFoundError):
            known = self.one(logged.position)
            record = replace(record, at=known.at, tries=known.tries + 1)
        self._put(record)
        with self._lock:
            self._positions.add(logged.position)

    def one(self, position: int) -> QuarantinedRecord:
        """``NotFoundError`` where it was written or discarded meanwhile."""
        try:
            found = self._documents.get(_QUARANTINED, self._id(position))
        except NotFoundError as error:
            raise NotFoundError(
                f"no record of position {position} is quarantined", where=self._follower,
                fix="It was written or discarded meanwhile.",
            ) from error  # fmt: skip
        return decode(QuarantinedRecord, found.body, where="quarantine")

    def page(self, *, after: int = 0, limit: int = 100) -> list[QuarantinedRecord]:
        """Oldest first, positions above ``after``."""
        page = self._documents.page(_QUARANTINED, after=self._id(after), limit=limit)
        return [
            decode(QuarantinedRecord, document.body, where="quarantine")
            for document in page
            if document.id.startswith(f"{self._follower}/")
        ]

    def remove(self, position: int) -> None:
        """Forget a record, and that somebody asked for another try."""
        for kind in (_QUARANTINED, _ASKED):
            self._documents.delete(kind, self._id(position))
        with self._lock:
            self._positions.discard(position)

    def discard(self, position: int = 0) -> None:
        """Forget one record, or all of them; ``NotFoundError`` where the one is not there."""
        for record in [self.one(position)] if position else list(self._records()):
            self.remove(record.position)

    def request_retry(self, position: int = 0) -> None:
        """Ask for another try of one record, or of all; ``NotFoundError`` where it is not there."""
        if position:
            self.one(position)
        name = self._id(position) if position else f"{self._follower}/{_ALL}"
        self._documents.put(_ASKED, name, body={})

    def retry_requests(self) -> list[int]:
        """Positions that are to be tried again."""
        found = self._documents.page(_ASKED, after=f"{self._follower}/", limit=1000)
        names = [one.id for one in found if one.id.startswith(f"{self._follower}/")]
        if f"{self._follower}/{_ALL}" in names:
            return [record.position for record in self._records()]
        return [int(name.rpartition("/")[2]) for name in names]

    def fail(self, position: int, reason: str) -> None:
        """Write down that a record failed again."""
        self._documents.delete(_ASKED, self._id(position))
        with contextlib.suppress(NotFoundError):  # discarded meanwhile
            known = self.one(position)
            self._put(replace(known, reason=reason[:_MOST_DETAIL], tries=known.tries + 1))

    def clear_request(self) -> None:
        """Forget that a try of all was asked for."""
        self._documents.delete(_ASKED, f"{self._follower}/{_ALL}")

    def _records(self) -> Iterator[QuarantinedRecord]:
        after = 0
        while page := self.page(after=after, limit=500):
            yield from page
            after = page[-1].position

    def _put(self, record: QuarantinedRecord) -> None:
        name = self._id(record.position)
        self._documents.put(_QUARANTINED, name, body=to_plain(record))

    def _id(self, position: int) -> str:
        return f"{self._follower}/{position:019d}"


logger = logging.getLogger(__name__)

T = TypeVar("T")
_LONGEST_RETRY_S = 1.0


class FailurePolicy:
    """Retries while the store is away; stores a message that cannot be taken as a dead letter."""

    def __init__(self, dead: DeadLetters, *, stats: Stats, waits: bool = True) -> None:
        """``waits``: for a store that is away; else ``retry`` raises at once."""
        self._dead = dead
        self._stats = stats
        self._stop = threading.Event()
        if not waits:
            self._stop.set()

    def without_retry(self) -> "FailurePolicy":
        """The same policy without waiting, for callers who can retry themselves."""
        return FailurePolicy(self._dead, stats=self._stats, waits=False)

    def stop(self) -> None:
        """Give up waiting for a store that is away."""
        self._stop.set()

    def refuse(
        self, refusal: DeadLetterError, raw: bytes, *, topic: str, camera: str = ""
    ) -> DeadLetterView:
        """Store one refused message as a dead letter and count it; ``camera``: of its frame."""
        letter = self.retry(lambda: self._dead.keep(refusal, raw, topic=topic))
        self._stats.refuse(str(refusal.reason), camera=camera)
        logger.debug("message refused topic=%s reason=%s", topic, refusal)
        return letter

    def retry(self, act: Callable[[], T]) -> T:
        """Return the result of ``act``, called again while the store is away."""
        return retry(act, stop=self._stop, most_s=_LONGEST_RETRY_S)


def store_batch(
    items: Sequence[T],
    store: Callable[[Sequence[T]], object],
    *,
    refuse: Callable[[T, DeadLetterError], object],
) -> None:
    """Store all in one transaction; where the store refuses one of them, each alone.

    A batch is taken or refused as a whole, so one bad name would otherwise take the good ones
    with it.
    """
    if not items:
        return
    try:
        store(items)
    except InvalidError as error:
        if len(items) == 1:
            refuse(items[0], DeadLetterError(Reason.FIELDS, str(error), where=error.where))
            return
        for item in items:
            store_batch([item], store, refuse=refuse)
