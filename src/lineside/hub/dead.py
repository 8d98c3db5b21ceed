"""Quarantine: messages that were refused, with reason, time, topic and their raw bytes; bounded.

The bytes stand among the blobs behind a head line of their own, so that forgetting a letter can
never take a picture that shares its bytes.
"""

import contextlib
import threading
from collections import Counter, deque

from lineside.core import Clock, Digest, NotFoundError, decode, new_id, to_plain
from lineside.hub.topics import DeadLetterError
from lineside.hub.views import DeadLetterView
from lineside.store import Blobs, Records

_KIND = "dead-letter"
_MOST_BYTES_EACH = 8_000_000
_MOST_BYTES = 256_000_000
_MOST_DETAIL = 500


class DeadLetters:
    """Refused messages; the oldest go when there are too many or they grow too large."""

    def __init__(self, records: Records, blobs: Blobs, *, clock: Clock, most: int = 1000) -> None:
        self._records = records
        self._blobs = blobs
        self._clock = clock
        self._most = most
        self._lock = threading.Lock()
        self._kept: deque[tuple[str, int, Digest]] = deque()
        self._bytes = 0
        self._counts: Counter[str] = Counter()
        self._load()

    def _load(self) -> None:
        after = ""
        while page := self._records.documents.page(_KIND, after=after, limit=500):
            for document in page:
                view = _view(document.body)
                self._kept.append((view.id, view.size_bytes, view.digest))
                self._bytes += view.size_bytes
                self._counts[view.reason] += 1
            after = page[-1].id

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
            self._kept.append((letter_id, len(kept), digest))
            self._bytes += len(kept)
            self._counts[view.reason] += 1
            over = self._take_over()
        for old_id, _, old_digest in over:
            self._records.documents.delete(_KIND, old_id)
            self._blobs.delete(old_digest)
        return view

    def _take_over(self) -> list[tuple[str, int, Digest]]:
        over = []
        while len(self._kept) > self._most or (self._bytes > _MOST_BYTES and len(self._kept) > 1):
            over.append(self._kept.popleft())
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
        """How many of each reason, since the store began or as far as letters are kept."""
        with self._lock:
            return dict(self._counts)


def _head(letter_id: str) -> bytes:
    return b"lineside.dead-letter/1 " + letter_id.encode() + b"\n"


def _view(body: dict[str, object]) -> DeadLetterView:
    return decode(DeadLetterView, body, where="dead letter")
