"""A camera's message becomes a kept picture: checked, stored under its digest, with a thumbnail.

The picture's own bytes are kept, never encoded anew. What the pages show live is handed on from
memory, so that nobody reads back what was just written.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from lineside.core import Clock, Digest, InvalidError, Plant, digest_of, frame_id
from lineside.hub.eventlog.ledger import is_late
from lineside.hub.eventlog.stats import Stats
from lineside.hub.eventlog.topics import (
    DeadLetterError,
    PictureMessage,
    Reason,
    Router,
    check_not_ahead,
    frame_event,
)
from lineside.store import Blobs, FrameRow
from lineside.streams import Event
from lineside.vision import FrameRef, check_outline, check_picture

THUMBNAIL_PX = 160


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Taken:
    """A frame ready for the log: its row, its event, and the bytes for those who watch."""

    row: FrameRow
    event: Event
    encoded: bytes

    @property
    def ref(self) -> FrameRef:
        """The frame's name."""
        row = self.row
        return FrameRef(
            id=row.id, camera=row.camera, captured_at=row.captured_at, digest=row.digest,
            sequence=row.sequence, part=row.part,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looked:
    """A picture that was looked at; not kept yet. ``thumbnail`` empty: it was a glance only."""

    message: PictureMessage
    at: datetime
    arrived_at: datetime
    size_px: tuple[int, int]
    thumbnail: bytes


class Intake:
    """Pictures in; safe from several threads."""

    def __init__(
        self, router: Router, *, plant: Plant, blobs: Blobs, clock: Clock, stats: Stats
    ) -> None:
        self._router = router
        self._plant = plant
        self._blobs = blobs
        self._clock = clock
        self._stats = stats

    def look(self, message: PictureMessage) -> Looked:
        """Decode and measure one picture; nothing is written.

        Raises:
            DeadLetterError: the picture cannot be read, is too large, or comes from the future.
        """
        with self._judging(message) as (at, now, limit):
            checked = check_picture(message.encoded, width_px=THUMBNAIL_PX, max_bytes=limit)
            size, small = (checked.width_px, checked.height_px), checked.thumbnail
        return Looked(message=message, at=at, arrived_at=now, size_px=size, thumbnail=small)

    def glance(self, message: PictureMessage) -> Looked:
        """The same in a hurry: beginning, size and end only; the finisher reads it all later."""
        with self._judging(message) as (at, now, limit):
            size = check_outline(message.encoded, max_bytes=limit)
        return Looked(message=message, at=at, arrived_at=now, size_px=size, thumbnail=b"")

    @contextmanager
    def _judging(self, message: PictureMessage) -> Iterator[tuple[datetime, datetime, int]]:
        """Capture time, arrival and size limit; what a check refuses becomes a dead letter."""
        now = self._clock.now()
        at = message.captured_at or message.arrived_at or now
        self._check_time(message, at, now=now)
        limit = self._router.limits(message.camera).max_frame_bytes
        if len(message.encoded) > limit:
            raise DeadLetterError(
                Reason.TOO_LARGE,
                f"a picture of {len(message.encoded)} bytes, at most {limit}",
                where=message.topic,
            )
        try:
            yield at, now, limit
        except InvalidError as error:
            raise DeadLetterError(Reason.PICTURE, str(error), where=message.topic) from error

    def keep(self, looked: Sequence[Looked]) -> list[Taken]:
        """Keep pictures and thumbnails; all of them are on the disk when this returns.

        A picture without thumbnail is its own until the finisher has made one.
        """
        pictures = [each.message.encoded for each in looked]
        small = [each.thumbnail for each in looked if each.thumbnail]
        digests = self._blobs.put_many([*pictures, *small])
        made = iter(digests[len(looked) :])
        return [
            self._taken(each, digest=digest, thumbnail=next(made) if each.thumbnail else digest)
            for each, digest in zip(looked, digests, strict=False)
        ]

    def _taken(self, looked: Looked, *, digest: Digest, thumbnail: Digest) -> Taken:
        message, at = looked.message, looked.at
        row = FrameRow(
            id=frame_id(camera=message.camera, captured_at=at, digest=digest),
            camera=message.camera, captured_at=at, arrived_at=looked.arrived_at, digest=digest,
            size_bytes=len(message.encoded), width_px=looked.size_px[0],
            height_px=looked.size_px[1], thumbnail=thumbnail, part=message.part,
            sequence=message.sequence,
        )  # fmt: skip
        event = frame_event(message, frame=row.id, digest=digest, at=at, site=self._plant.site)
        return Taken(row=row, event=event, encoded=message.encoded)

    def _check_time(self, message: PictureMessage, at: datetime, *, now: datetime) -> None:
        limits = self._router.limits(message.camera)
        try:
            check_not_ahead(at, now=now, skew_s=limits.skew_s, where=message.topic)
        except DeadLetterError:
            self._stats.skewed("future")
            raise
        if is_late(at, now=now, max_age_s=limits.max_age_s):
            self._stats.skewed("late")


def is_repeat(message: PictureMessage, newest: FrameRow | None) -> bool:
    """Whether bare bytes without a time are the newest frame once more (delivered twice)."""
    return (
        message.captured_at is None
        and newest is not None
        and newest.digest == digest_of(message.encoded)
    )
