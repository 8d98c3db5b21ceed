"""Thumbnail worker: decodes in full, later, the frames that were stored after a quick check.

When frames come faster than they can be decoded, a frame is stored after a check of its header and
end, with itself as thumbnail. This thread does the rest when nothing waits, newest batch last.
An image that turns out not to be readable becomes a dead letter too; its frame stays as it came.
After a crash, and after more were left than are remembered, the frames stored last are searched for
those that were left.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable

import numpy as np

from lineside.core import FrameId, InvalidError, NotFoundError
from lineside.core.worker import Worker
from lineside.hub.eventlog.dead_letters import FailurePolicy
from lineside.hub.eventlog.topics import DeadLetterError, Reason
from lineside.store import Blobs, FrameRow, Records
from lineside.vision import check_picture, encode_jpeg

logger = logging.getLogger(__name__)

THUMBNAIL_PX = 160
_BATCH = 32
_LOOK_BACK = 10_000
_MOST_WAITING = 20_000
_PAGE = 1000
_WAIT_S = 0.5
_BUSY_S = 0.05


class ThumbnailWorker:
    """One thread; the ids of what waits are in memory, the truth is in the frame index."""

    def __init__(self, records: Records, blobs: Blobs, *, failures: FailurePolicy) -> None:
        self._records = records
        self._blobs = blobs
        self._failures = failures
        self._waiting: deque[FrameId] = deque()
        self._more = False
        self._lock = threading.Lock()
        self._worker = Worker("finisher", self._turn, longest_retry_s=_WAIT_S)
        self._stop = self._worker.stopping
        self.busy: Callable[[], bool] = lambda: False

    @property
    def waiting(self) -> int:
        """Number of frames without a thumbnail."""
        return len(self._waiting)

    def add(self, rows: Iterable[FrameRow]) -> None:
        """Remember the frames that were stored after a quick check."""
        left = [row.id for row in rows if needs_thumbnail(row)]
        if left:
            with self._lock:
                room = _MOST_WAITING - len(self._waiting)
                self._more = self._more or len(left) > room
                self._waiting.extend(left[: max(0, room)])
            self._worker.wake()

    def start(self) -> None:
        """Search for frames left before, then begin."""
        self._more = True
        self._worker.start()

    def stop(self) -> None:
        """End after the batch in hand; the rest is found on the next start."""
        self._worker.stop()

    def look_again(self) -> None:
        """Search for frames that another hub may have left."""
        with self._lock:
            self._more = True
        self._worker.wake()

    def look_back(self) -> None:
        """Find frames without a thumbnail among those captured last, and further back."""
        before: FrameId | None = None
        seen = 0
        while not self._stop.is_set():
            page = self._records.frames.page(before=before, limit=_PAGE)
            self.add(reversed(page))
            seen += len(page)
            done = seen >= _LOOK_BACK and not any(map(needs_thumbnail, page))
            if done or self._more or len(page) < _PAGE:
                return
            before = page[-1].id

    def step(self) -> int:
        """Finish one batch; how many frames it had."""
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        rows = [row for row in map(self._row, batch) if row is not None and needs_thumbnail(row)]
        small = {row.id: self._thumbnail(row) for row in rows}
        digests = self._blobs.put_many(list(small.values()))
        self._records.frames.set_thumbnails(dict(zip(small, digests, strict=True)))
        return len(batch)

    def _row(self, frame: FrameId) -> FrameRow | None:
        try:
            return self._records.frames.get(frame)
        except NotFoundError:
            return None

    def _thumbnail(self, row: FrameRow) -> bytes:
        encoded = self._blobs.get(row.digest)
        try:
            checked = check_picture(encoded, width_px=THUMBNAIL_PX, max_bytes=len(encoded))
        except InvalidError as error:
            refusal = DeadLetterError(Reason.PICTURE, f"{row.id}: {error}", where=row.camera)
            self._failures.refuse(refusal, encoded, topic=row.camera, frame=True)
            return _unreadable()
        return checked.thumbnail

    def _turn(self) -> float:
        """Finish a batch or look for more; returns the seconds until the next turn."""
        if self._waiting and not self.busy():
            self.step()
            return 0.0
        if self._more and not self._waiting:
            self._more = False
            self.look_back()
            return 0.0
        return _BUSY_S if self._waiting else _WAIT_S


def _unreadable() -> bytes:
    """A grey thumbnail for what cannot be read, so that nobody tries again."""
    return encode_jpeg(np.full((12, 16, 3), 128, np.uint8))


def needs_thumbnail(row: FrameRow) -> bool:
    """Return True while a frame is its own thumbnail."""
    return row.thumbnail == row.digest
