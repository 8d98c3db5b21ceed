"""From the bus and from HTTP into the log: the hot path.

1. A batch is one transaction; whoever is told something is told after it.
2. What cannot be taken becomes a dead letter with its reason, and never stops the rest.
3. While the store is away the batch in hand is tried again; the mailbox behind it drops its
   oldest and counts that.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar

from lineside.core import Clock, InvalidError, Plant, Route, RouteKind, UnavailableError
from lineside.hub.dead import DeadLetters
from lineside.hub.devices import AckState, Devices, ack_payload
from lineside.hub.intake import Intake, Taken, is_repeat
from lineside.hub.ledger import Ledger, Recorded, is_late
from lineside.hub.stats import Stats
from lineside.hub.topics import (
    DeadLetterError,
    PictureMessage,
    Reason,
    Router,
    check_not_ahead,
    check_size,
    picture_of,
    plant_event,
    read_picture,
    read_plant,
    split_document,
)
from lineside.hub.views import DeadLetterView
from lineside.links import Bus, Message
from lineside.store import FrameIndex, Logged
from lineside.streams import PREDICTION_TYPE, Event, decode_event, read_prediction
from lineside.vision import Prediction

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_RETRY_S = 1.0
_SKEW_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchers:
    """Who hears of what was committed."""

    frame: Callable[[Taken], None]
    prediction: Callable[[Prediction, str], None]
    device: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """A prediction read from the bus."""

    device: str
    event: Event
    prediction: Prediction


class Ingest:
    """Messages of the plant and of devices, taken in batches."""

    def __init__(
        self, *, router: Router, intake: Intake, ledger: Ledger, dead: DeadLetters,
        devices: Devices, stats: Stats, frames: FrameIndex, clock: Clock,
    ) -> None:  # fmt: skip
        self._router = router
        self._plant: Plant = router.plant
        self._intake = intake
        self._ledger = ledger
        self._dead = dead
        self._devices = devices
        self._stats = stats
        self._frames = frames
        self._clock = clock
        self._stop = threading.Event()
        self.watchers: Watchers | None = None
        self.bus: Bus | None = None

    def stop(self) -> None:
        """Give up waiting for a store that is away."""
        self._stop.set()

    # ---- messages of the plant

    def take_plant(self, messages: Sequence[Message]) -> None:
        """One batch of frames, sensor values, states."""
        pictures: list[PictureMessage] = []
        events: list[Event] = []
        for message in messages:
            self._stats.count("messages_received")
            try:
                read = self._read(message)
            except DeadLetterError as refusal:
                self._refuse(refusal, message.payload, topic=message.topic)
                continue
            if isinstance(read, Event):
                events.append(read)
            else:
                pictures.append(read)
        taken = self._take_pictures(pictures)
        self._commit(events, taken)

    def _read(self, message: Message) -> Event | PictureMessage:
        route = self._router.find(message.topic)
        if route.kind is RouteKind.FRAME:
            self._stats.count("frames_published")
            return read_picture(route, message.payload, topic=message.topic)
        event = read_plant(route, message.payload, topic=message.topic, site=self._plant.site)
        self._check_time(event.time, topic=message.topic)
        return event

    def _check_time(self, at: datetime, *, topic: str) -> None:
        now = self._clock.now()
        try:
            check_not_ahead(at, now=now, skew_s=_SKEW_S, where=topic)
        except DeadLetterError:
            self._stats.skewed("future")
            raise
        if is_late(at, now=now, max_age_s=60.0):
            self._stats.skewed("late")

    def _take_pictures(self, messages: Iterable[PictureMessage]) -> list[Taken]:
        taken = []
        for message in messages:
            if message.captured_at is None and self._is_repeat(message):
                self._stats.count("frames_duplicate")
                continue
            try:
                taken.append(self._retry(partial(self._intake.take, message)))
            except DeadLetterError as refusal:
                self._refuse(refusal, message.encoded, topic=message.topic)
        return taken

    def _is_repeat(self, message: PictureMessage) -> bool:
        return is_repeat(message, self._frames.newest(message.camera))

    def _commit(self, events: Sequence[Event], taken: Sequence[Taken]) -> Recorded | None:
        every = [*events, *(frame.event for frame in taken)]
        if not every:
            return None
        rows = [frame.row for frame in taken]
        recorded = self._retry(lambda: self._ledger.record(every, frames=rows))
        known = {logged.entry.id for logged in recorded.logged if logged.duplicate}
        self._stats.count("frames_stored", by=recorded.new_frames)
        self._stats.count("frames_duplicate", by=len(rows) - recorded.new_frames)
        self._stats.count("messages_duplicate", by=len(known))
        self._stats.count("events", by=len(every) - len(known) + len(recorded.raised))
        for frame in taken:
            if frame.event.id not in known and self.watchers is not None:
                self.watchers.frame(frame)
        return recorded

    # ---- HTTP

    def take_http(self, body: bytes) -> Recorded | DeadLetterView:
        """One factory message that names its topic; returns after the commit."""
        self._stats.count("messages_received")
        topic = ""
        try:
            topic, document = split_document(body)
            route = self._router.find(topic)
            return self._take_document(route, document, topic=topic, size_bytes=len(body))
        except DeadLetterError as refusal:
            return self._refuse(refusal, body, topic=topic)

    def _take_document(
        self, route: Route, document: dict[str, object], *, topic: str, size_bytes: int
    ) -> Recorded:
        check_size(route, size_bytes, topic=topic)
        if route.kind is RouteKind.FRAME:
            self._stats.count("frames_published")
            message = picture_of(route, document, topic=topic)
            recorded = self._commit([], [self._intake.take(message)])
        else:
            event = plant_event(route, document, topic=topic, site=self._plant.site)
            self._check_time(event.time, topic=topic)
            recorded = self._commit([event], [])
        assert recorded is not None  # noqa: S101  one event was given
        return recorded

    # ---- devices

    def take_devices(self, messages: Sequence[Message]) -> None:
        """One batch of predictions and status messages."""
        said: list[_Said] = []
        for message in messages:
            try:
                if message.topic.endswith("/status"):
                    self._take_status(message)
                else:
                    said += self._take_prediction(message)
            except DeadLetterError as refusal:
                self._refuse(refusal, message.payload, topic=message.topic)
        if said:
            self._store_predictions(said)

    def _take_prediction(self, message: Message) -> list[_Said]:
        device, event = self._read_event(message)
        try:
            check_not_ahead(event.time, now=self._clock.now(), where=message.topic)
            return [_Said(device=device, event=event, prediction=_prediction_of(event))]
        except DeadLetterError as refusal:
            if refusal.reason is Reason.FUTURE:
                self._stats.skewed("future")
            self._refuse(refusal, message.payload, topic=message.topic)
            # It stands among the dead letters now, so the device need not send it again.
            self._devices.committed(device, self._devices.quarantined(device, event))
            return []

    def _take_status(self, message: Message) -> None:
        self._stats.count("status_messages")
        if not message.payload:
            return
        device = message.topic.split("/")[3]
        is_new = device not in self._devices.known()
        self._devices.take_status(device, message.payload)
        if is_new and self.watchers is not None:
            self.watchers.device(device)

    def _read_event(self, message: Message) -> tuple[str, Event]:
        _, _, line, camera, _ = message.topic.split("/")
        try:
            event = decode_event(message.payload, where=message.topic)
        except InvalidError as error:
            raise DeadLetterError(Reason.NOT_AN_EVENT, str(error), where=message.topic) from error
        return self._devices.check(event, line=line, camera=camera), event

    def _store_predictions(self, said: Sequence[_Said]) -> None:
        states: dict[str, AckState] = {}

        def note(logged: list[Logged]) -> None:
            by_device: dict[str, list[tuple[Event, Logged]]] = defaultdict(list)
            for item, kept in zip(said, logged, strict=True):
                by_device[item.device].append((item.event, kept))
            for device, counts in by_device.items():
                states[device] = self._devices.stored(device, counts)

        events = [item.event for item in said]
        recorded = self._retry(lambda: self._ledger.record(events, within=note))
        for device, state in states.items():
            self._devices.committed(device, state)
            self._tell(device, state.acked)
        self._count_predictions(said, recorded)

    def _count_predictions(self, said: Sequence[_Said], recorded: Recorded) -> None:
        for item, logged in zip(said, recorded.logged, strict=True):
            if logged.duplicate:
                self._stats.count("predictions_duplicate")
                continue
            self._stats.count("predictions")
            self._stats.latency((recorded.at - item.event.time).total_seconds())
            if self.watchers is not None:
                self.watchers.prediction(item.prediction, item.event.id)
        fresh = sum(not logged.duplicate for logged in recorded.logged)
        self._stats.count("events", by=fresh + len(recorded.raised))

    def _tell(self, device: str, acked: int) -> None:
        if self.bus is None:
            return
        topic = f"lineside/{self._plant.site}/device/{device}/ack"
        # A lost ack costs a second delivery, which changes nothing; so nobody waits for it.
        self.bus.publish_soon(topic, ack_payload(device, acked), qos=1)

    # ---- both

    def _refuse(self, refusal: DeadLetterError, raw: bytes, *, topic: str) -> DeadLetterView:
        self._stats.drop(str(refusal.reason))
        logger.debug("message refused topic=%s reason=%s", topic, refusal)
        return self._retry(lambda: self._dead.keep(refusal, raw, topic=topic))

    def _retry(self, act: Callable[[], _T]) -> _T:
        lost = False
        while True:
            try:
                done = act()
            except UnavailableError as error:
                if self._stop.is_set():
                    raise
                if not lost:
                    logger.warning("store away, waiting reason=%s", error)
                lost = True
                self._stop.wait(_RETRY_S)
                continue
            if lost:
                logger.info("store back")
            return done


def _prediction_of(event: Event) -> Prediction:
    if event.type != PREDICTION_TYPE:
        raise DeadLetterError(Reason.NOT_AN_EVENT, f"type {event.type!r} on a prediction topic")
    try:
        return read_prediction(event)
    except InvalidError as error:
        raise DeadLetterError(Reason.NOT_AN_EVENT, str(error)) from error
