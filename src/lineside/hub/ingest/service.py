"""Messages of the plant, from the bus and over HTTP, into the log: the hot path.

1. A batch is one transaction; listeners hear of it after the commit.
2. A message that cannot be taken becomes a dead letter with its reason, and never stops the rest.
3. While the store is away the batch in hand is tried again, and nothing of it is acknowledged: the
   broker keeps what came meanwhile.
4. A camera's image is decoded once, stored under its digest as the bytes that came, never encoded
   anew, and handed on to the live view from memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from lineside.core import Clock, Digest, InvalidError, Plant, RouteKind, digest_of, frame_id
from lineside.core.ids import made_at
from lineside.core.plant import Route
from lineside.hub.eventlog.dead_letters import FailurePolicy, store_batch
from lineside.hub.eventlog.ledger import Commit, Ledger
from lineside.hub.eventlog.stats import Stats
from lineside.hub.eventlog.topics import (
    MAX_AGE_S,
    SKEW_S,
    DeadLetterError,
    PictureMessage,
    Reason,
    Router,
    arrival_of,
    check_not_future,
    check_size,
    frame_event,
    is_late,
    is_timeless,
    picture_of,
    plant_event,
    read_picture,
    read_plant,
    split_document,
)
from lineside.hub.ingest.frames import THUMBNAIL_PX
from lineside.hub.views import DeadLetterView
from lineside.links import Message
from lineside.store import Blobs, FrameIndex, FrameRow
from lineside.streams import Event
from lineside.vision import HealthFigures, check_picture
from lineside.vision.picture import check_outline

OnFrame = Callable[[FrameRow, bytes, HealthFigures | None], None]
_BURST = 10  # a broker sends 20 messages ahead, as mosquitto is shipped


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CheckedImage:
    """A camera's message whose image was checked and is not stored yet.

    Attributes:
        thumbnail: empty after a quick check; the thumbnail worker makes it.
        health: figures of the thumbnail; None as long as there is none.
        raw: the whole message.
    """

    message: PictureMessage
    raw: bytes
    at: datetime
    arrived_at: datetime
    size_px: tuple[int, int]
    thumbnail: bytes
    health: HealthFigures | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IngestedMessage:
    """A message ready for the log: its event, and of a camera the stored frame.

    Attributes:
        raw: the whole message, for a dead letter.
        encoded: the frame's bytes, for the live view.
        health: figures of its thumbnail; None where that is made later.
    """

    event: Event
    raw: bytes
    row: FrameRow | None = None
    encoded: bytes = b""
    health: HealthFigures | None = None


class FrameDecoder:
    """Checks and stores images; safe from several threads."""

    def __init__(
        self, router: Router, *, plant: Plant, blobs: Blobs, clock: Clock, stats: Stats
    ) -> None:
        self._router = router
        self._plant = plant
        self._blobs = blobs
        self._clock = clock
        self._stats = stats

    def check(self, message: PictureMessage, *, raw: bytes, quick: bool) -> CheckedImage:
        """Decode one image; nothing is written.

        Args:
            message: as it was read.
            raw: the whole message.
            quick: header, size and end only; the thumbnail worker reads the rest later.

        Raises:
            DeadLetterError: the image cannot be read, is too large, or comes from the future.
        """
        now = self._clock.now()
        at = message.captured_at or message.arrived_at or now
        limits = self._router.limits(message.camera)
        count_skew(
            self._stats, at, now=now, where=message.topic, skew_s=limits.skew_s,
            max_age_s=limits.max_age_s,
        )  # fmt: skip
        limit, thumbnail, health = limits.max_frame_bytes, b"", None
        if len(message.encoded) > limit:
            raise DeadLetterError(
                Reason.TOO_LARGE,
                f"a picture of {len(message.encoded)} bytes, at most {limit}",
                where=message.topic,
            )
        try:
            if quick:
                size = check_outline(message.encoded, max_bytes=limit)
            else:
                checked = check_picture(message.encoded, width_px=THUMBNAIL_PX, max_bytes=limit)
                size, thumbnail = (checked.width_px, checked.height_px), checked.thumbnail
                health = checked.health
        except InvalidError as error:
            raise DeadLetterError(Reason.PICTURE, str(error), where=message.topic) from error
        return CheckedImage(
            message=message, raw=raw, at=at, arrived_at=now, size_px=size, thumbnail=thumbnail,
            health=health,
        )  # fmt: skip

    def store(self, images: Sequence[CheckedImage]) -> list[IngestedMessage]:
        """Store images and thumbnails; all of them are on the disk when this returns.

        An image without thumbnail is its own until the thumbnail worker has made one.
        """
        encoded = [each.message.encoded for each in images]
        small = [each.thumbnail for each in images if each.thumbnail]
        digests = self._blobs.put_many([*encoded, *small])
        thumbnails = iter(digests[len(images) :])
        return [
            self._frame(
                each, digest=digest, thumbnail=next(thumbnails) if each.thumbnail else digest
            )
            for each, digest in zip(images, digests, strict=False)
        ]

    def _frame(self, image: CheckedImage, *, digest: Digest, thumbnail: Digest) -> IngestedMessage:
        message, at = image.message, image.at
        row = FrameRow(
            id=frame_id(camera=message.camera, captured_at=at, digest=digest),
            camera=message.camera, captured_at=at, arrived_at=image.arrived_at, digest=digest,
            size_bytes=len(message.encoded), width_px=image.size_px[0],
            height_px=image.size_px[1], thumbnail=thumbnail, part=message.part,
            sequence=message.sequence,
        )  # fmt: skip
        event = frame_event(message, frame=row.id, digest=digest, at=at, site=self._plant.site)
        return IngestedMessage(
            event=event, raw=image.raw, row=row, encoded=message.encoded, health=image.health
        )


class PlantIngest:
    """Frames, sensor values, states."""

    def __init__(
        self, *, router: Router, decoder: FrameDecoder, ledger: Ledger, failures: FailurePolicy,
        stats: Stats, frames: FrameIndex, clock: Clock, on_frame: OnFrame,
    ) -> None:  # fmt: skip
        """``on_frame`` gets each new frame, its bytes and its figures after the commit."""
        self._router = router
        self._plant: Plant = router.plant
        self._decoder = decoder
        self._ledger = ledger
        self._failures = failures
        self._without_retry = failures.without_retry()
        self._stats = stats
        self._frames = frames
        self._clock = clock
        self._on_frame = on_frame

    def take(self, messages: Sequence[Message]) -> None:
        """One batch from the bus: ``prepare``, then ``commit``."""
        self.commit(self.prepare(messages))

    def is_timeless(self, message: Message) -> bool:
        """Return True if a message may carry no time, so that its content does not identify it."""
        try:
            return is_timeless(self._router.find(message.topic), message.payload)
        except DeadLetterError:
            return False

    def prepare(self, messages: Sequence[Message]) -> list[IngestedMessage]:
        """Read, check and store images; several threads may, each with a batch of its own.

        A long batch means that frames come faster than they can be decoded: they are stored after
        a quick check, and the thumbnail worker does the rest.
        """
        quick = len(messages) >= _BURST
        items: list[IngestedMessage | CheckedImage] = []
        for message in messages:
            try:
                items += self._read(message, quick=quick)
            except DeadLetterError as refusal:
                self._refuse(refusal, message.payload, topic=message.topic)
        return self._store_images(items, failures=self._failures)

    def commit(self, items: Sequence[IngestedMessage]) -> None:
        """Into the log and the twin, in one transaction; in the order the messages came."""
        store_batch(
            items, lambda batch: self._commit(batch, failures=self._failures),
            refuse=self._refuse_item,
        )  # fmt: skip

    def take_http(self, body: bytes) -> Commit | DeadLetterView:
        """One message that names its topic; returns after the commit.

        Raises:
            UnavailableError: the store is away; nothing was kept, send it again.
        """
        self._stats.count("messages_received")
        topic, failures = "", self._without_retry
        try:
            topic, document = split_document(body)
            route = self._router.find(topic)
            check_size(route, len(body), topic=topic)
            item = self._item_of(route, document, raw=body, topic=topic)
        except DeadLetterError as refusal:
            return self._refuse(refusal, body, topic=topic, failures=failures)
        answers: list[Commit | DeadLetterView] = []
        store_batch(
            self._store_images([item], failures=failures),
            lambda items: answers.append(self._commit(items, failures=failures)),
            refuse=lambda item, refusal: answers.append(self._refuse_item(item, refusal)),
        )
        return answers[0]

    def _read(self, message: Message, *, quick: bool) -> list[IngestedMessage | CheckedImage]:
        self._stats.count("messages_received")
        topic = message.topic
        route = self._router.find(topic)
        if route.kind is not RouteKind.FRAME:
            arrival = arrival_of(route, clock=self._clock, delivery=message.delivery)
            event = read_plant(
                route, message.payload, topic=topic, site=self._plant.site, arrival=arrival
            )
            return [self._plant_item(event, raw=message.payload)]
        self._stats.count("frames_published")
        picture = read_picture(route, message.payload, topic=topic)
        if message.delivery:
            picture = replace(picture, arrived_at=made_at(message.delivery))
        if picture.captured_at is None and is_repeat(picture, self._frames.newest(picture.camera)):
            self._stats.count("frames_duplicate")
            return []
        return [self._decoder.check(picture, raw=message.payload, quick=quick)]

    def _item_of(
        self, route: Route, document: dict[str, object], *, raw: bytes, topic: str
    ) -> IngestedMessage | CheckedImage:
        if route.kind is RouteKind.FRAME:
            self._stats.count("frames_published")
            picture = picture_of(route, document, topic=topic)
            return self._decoder.check(picture, raw=raw, quick=False)
        arrival = arrival_of(route, clock=self._clock)
        event = plant_event(route, document, topic=topic, site=self._plant.site, arrival=arrival)
        return self._plant_item(event, raw=raw)

    def _store_images(
        self, items: Sequence[IngestedMessage | CheckedImage], *, failures: FailurePolicy
    ) -> list[IngestedMessage]:
        """The same in the same order, with the images among the blobs."""
        images = [item for item in items if isinstance(item, CheckedImage)]
        frames = iter(failures.retry(lambda: self._decoder.store(images)) if images else ())
        return [next(frames) if isinstance(item, CheckedImage) else item for item in items]

    def _plant_item(self, event: Event, *, raw: bytes) -> IngestedMessage:
        count_skew(self._stats, event.time, now=self._clock.now(), where=event.subject)
        return IngestedMessage(event=event, raw=raw)

    def _refuse_item(self, item: IngestedMessage, refusal: DeadLetterError) -> DeadLetterView:
        return self._refuse(refusal, item.raw, topic=item.event.subject)

    def _refuse(
        self, refusal: DeadLetterError, raw: bytes, *, topic: str,
        failures: FailurePolicy | None = None,
    ) -> DeadLetterView:  # fmt: skip
        try:
            route = self._router.find(topic)
            camera = route.camera if route.kind is RouteKind.FRAME else ""
        except DeadLetterError:
            camera = ""
        return (failures or self._failures).refuse(refusal, raw, topic=topic, camera=camera)

    def _commit(self, items: Sequence[IngestedMessage], *, failures: FailurePolicy) -> Commit:
        events = [item.event for item in items]
        rows = [item.row for item in items if item.row is not None]
        commit = failures.retry(lambda: self._ledger.record(events, frames=rows))
        fresh = {logged.entry.id for logged in commit.logged if not logged.duplicate}
        self._stats.count("frames_stored", by=commit.new_frames)
        self._stats.count("frames_duplicate", by=len(rows) - commit.new_frames)
        self._stats.count("messages_duplicate", by=len(events) - len(fresh))
        self._stats.count("events", by=len(fresh) + len(commit.raised))
        for item in items:
            if item.row is not None and item.event.id in fresh:
                self._stats.count("camera_frames", item.row.camera)
                self._on_frame(item.row, item.encoded, item.health)
        return commit


def count_skew(
    stats: Stats, at: datetime, *, now: datetime, where: str, skew_s: float = SKEW_S,
    max_age_s: float = MAX_AGE_S,
) -> None:  # fmt: skip
    """Refuse a time from the future, and count it or a late one.

    Raises:
        DeadLetterError: it is further ahead than ``skew_s``.
    """
    try:
        check_not_future(at, now=now, skew_s=skew_s, where=where)
    except DeadLetterError:
        stats.count("skew", "future")
        raise
    if is_late(at, now=now, max_age_s=max_age_s):
        stats.count("skew", "late")


def is_repeat(message: PictureMessage, newest: FrameRow | None) -> bool:
    """Return True for bare bytes without a time that are the newest frame (delivered twice)."""
    return (
        message.captured_at is None
        and newest is not None
        and newest.digest == digest_of(message.encoded)
    )
