"""Frames: their rows, their bytes, their events, and the worker that makes their thumbnails.

When frames come faster than they can be decoded, a frame is stored after a check of its header and
end, with itself as thumbnail. The worker does the rest when nothing waits, newest batch last.
An image that turns out not to be readable becomes a dead letter too; its frame stays as it came.
After a crash, and after more were left than are remembered, the frames stored last are searched for
those that were left.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache

import numpy as np

from lineside.core import (
    Digest,
    FrameId,
    InvalidError,
    NotFoundError,
    Plant,
    stable_id,
)
from lineside.core.worker import Worker
from lineside.hub.eventlog.dead_letters import FailurePolicy
from lineside.hub.eventlog.topics import DeadLetterError, Reason
from lineside.hub.models.packages import Packages
from lineside.hub.views import EventView, FrameView, Picture, view_of
from lineside.models.predictor import NearPicture
from lineside.store import (
    MOST_COUNTED,
    Blobs,
    FrameCount,
    FrameFilter,
    FramePage,
    FrameRow,
    Records,
)
from lineside.vision import (
    Frame,
    HealthFigures,
    check_picture,
    encode_jpeg,
    encode_png,
    open_frame,
)
from lineside.vision.draw import heat_layer

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
        self.on_finished: Callable[[FrameRow, HealthFigures], None] = lambda _row, _health: None

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
            self._failures.refuse(refusal, encoded, topic=row.camera, camera=row.camera)
            return _unreadable()
        self.on_finished(row, checked.health)
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


_PNG = b"\x89PNG"
_MOST_PAGE = 1000


class GoneError(NotFoundError):
    """The picture aged out; ``row`` is what is left of it."""

    http_status = 410
    title = "Gone"

    def __init__(self, row: FrameRow) -> None:
        super().__init__(
            "the picture aged out; its digest, thumbnail and answers are kept",
            where=row.id,
            fix="Pin frames that must stay: add them to a dataset.",
        )
        self.row = row


_MAPS_KEPT = 64


class Frames:
    """Stored frames."""

    def __init__(self, records: Records, blobs: Blobs, *, plant: Plant, packages: Packages) -> None:
        self._records = records
        self._blobs = blobs
        self._plant = plant
        self._packages = packages
        # Every browser that shows a reject asks for the same map.
        self._activation = lru_cache(maxsize=_MAPS_KEPT)(self._computed)

    def row(self, frame: str) -> FrameRow:
        """``NotFoundError`` if it was never stored."""
        return self._records.frames.get(FrameId(frame))

    def page(
        self, *, camera: str = "", since: datetime | None = None, until: datetime | None = None,
        before: str = "", limit: int = 100,
    ) -> list[FrameRow]:  # fmt: skip
        """Newest first, strictly older than the frame ``before``."""
        return self._records.frames.page(
            camera=camera, since=since, until=until, before=FrameId(before) if before else None,
            limit=min(limit, _MOST_PAGE),
        )  # fmt: skip

    def find(self, wanted: FrameFilter, *, before: str = "", limit: int = 100) -> FramePage:
        """Frames that pass a filter, with their answers; see ``FrameIndex.find``."""
        return self._records.frames.find(wanted, before=before, limit=min(limit, _MOST_PAGE))

    def count(self, wanted: FrameFilter, *, most: int = MOST_COUNTED) -> FrameCount:
        """Count those that pass among the newest ``most`` that it looks at."""
        return self._records.frames.count(wanted, most=most)

    def count_parts(
        self, wanted: FrameFilter, *, edges: Sequence[datetime], most: int
    ) -> list[FrameCount]:
        """Count them of each part of the time; see ``FrameIndex.count_parts``."""
        return self._records.frames.count_parts(wanted, edges=edges, most=most)

    def view(self, frame: str) -> FrameView:
        """The row and everything that names the frame."""
        row = self.row(frame)
        named = [pin.partition(":") for pin in row.pins]
        predictions = self._entries(self._prediction_ids(row))
        events = self._entries([name for kind, _, name in named if kind == "event"])
        own = self._entries([stable_id("evt", row.id)])
        return FrameView(
            row=row,
            predictions=tuple(predictions),
            events=(*own, *events),
            orders=tuple(name for kind, _, name in named if kind == "order"),
            datasets=tuple(name for kind, _, name in named if kind == "dataset"),
        )

    def picture(self, frame: str) -> Picture:
        """The bytes as they came; ``GoneError`` when they aged out."""
        row = self.row(frame)
        if row.aged_out_at is not None:
            raise GoneError(row)
        return picture_of_bytes(self._blobs.get(row.digest))

    def thumbnail(self, frame: str) -> Picture:
        """A small JPEG; it outlives the picture."""
        row = self.row(frame)
        kept = self._blobs.get(Digest(row.thumbnail))
        if needs_thumbnail(row):
            kept = check_picture(kept, width_px=THUMBNAIL_PX, max_bytes=len(kept)).thumbnail
        return picture_of_bytes(kept)

    def open(self, frame: str) -> Frame:
        """The decoded frame, for a predictor."""
        row = self.row(frame)
        return open_frame(
            self.picture(frame).data, camera=row.camera, captured_at=row.captured_at,
            sequence=row.sequence, part=row.part, max_bytes=row.size_bytes,
        )  # fmt: skip

    def activation(self, frame: str, *, label: str, package: str = "") -> Picture:
        """Where the network looked for a label, as a transparent PNG over the picture.

        ``package`` empty: the one that answered this frame, newest answer first.
        """
        return self._activation(frame, label, package or self._answered_by(frame))

    def nearest(self, frame: str, *, package: str) -> tuple[NearPicture, ...]:
        """Return a package's training pictures that are nearest to the frame."""
        return self._packages.nearest(package, self.open(frame))

    def _computed(self, frame: str, label: str, digest: str) -> Picture:
        heat = self._packages.explain(digest, self.open(frame))
        if label not in heat:
            known = ", ".join(heat) or "none"
            raise InvalidError(f"no label {label!r}", where="label", fix=f"Known: {known}.")
        return Picture(data=encode_png(heat_layer(heat[label])), media_type="image/png")

    def _answered_by(self, frame: str) -> str:
        answers = self._entries(self._prediction_ids(self.row(frame)))
        if not answers:
            raise NotFoundError(
                "nothing was said of this frame yet", where=frame, fix="Name a package."
            )
        newest = max(answers, key=lambda view: view.position)
        return str(newest.event["data"]["package"])

    def _prediction_ids(self, row: FrameRow) -> list[str]:
        """Ids of every answer there can be: a hash of frame, inspection and package."""
        inspections = [item.id for item in self._plant.inspection if item.camera == row.camera]
        digests = self._packages.digests()
        return [
            stable_id("evt", row.id, inspection, digest)
            for inspection in inspections
            for digest in digests
        ]

    def _entries(self, event_ids: list[str]) -> list[EventView]:
        found = []
        for event_id in event_ids:
            try:
                found.append(view_of(self._records.log.get(event_id)))
            except NotFoundError:
                continue
        return found


def picture_of_bytes(data: bytes) -> Picture:
    """Encoded bytes with the media type that their beginning tells."""
    return Picture(data=data, media_type="image/png" if data.startswith(_PNG) else "image/jpeg")
