"""Messages of the plant, from the bus and over HTTP, into the log: the hot path.

1. A batch is one transaction; whoever is told something is told after it.
2. What cannot be taken becomes a dead letter with its reason, and never stops the rest.
3. While the store is away the batch in hand is tried again, and nothing of it is acknowledged: the
   broker keeps what came meanwhile.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from lineside.core import Clock, Plant, Route, RouteKind, made_at
from lineside.hub.eventlog.dead_letters import Keeping, keep_batch
from lineside.hub.eventlog.ledger import Ledger, Recorded, is_late
from lineside.hub.eventlog.stats import Stats
from lineside.hub.eventlog.topics import (
    DeadLetterError,
    PictureMessage,
    Router,
    arrival_of,
    check_not_ahead,
    check_size,
    is_timeless,
    picture_of,
    plant_event,
    read_picture,
    read_plant,
    split_document,
)
from lineside.hub.ingest.decoder import Intake, Looked, Taken, is_repeat
from lineside.hub.views import DeadLetterView
from lineside.links import Message
from lineside.store import FrameIndex
from lineside.streams import Event

_HURRY = 10  # a broker sends 20 messages ahead, as mosquitto is shipped


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """A message ready for the log: its event, and the frame it brought if any."""

    event: Event
    frame: Taken | None
    raw: bytes
    topic: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Seen:
    """A camera's message whose picture was decoded and is not kept yet."""

    looked: Looked
    raw: bytes


class PlantIngest:
    """Frames, sensor values, states."""

    def __init__(
        self, *, router: Router, intake: Intake, ledger: Ledger, keeping: Keeping, stats: Stats,
        frames: FrameIndex, clock: Clock, watcher: Callable[[Taken], None],
    ) -> None:  # fmt: skip
        self._router = router
        self._plant: Plant = router.plant
        self._intake = intake
        self._ledger = ledger
        self._keeping = keeping
        self._hasty = keeping.hasty()
        self._stats = stats
        self._frames = frames
        self._clock = clock
        self._watcher = watcher

    def take(self, messages: Sequence[Message]) -> None:
        """One batch from the bus: ``prepare``, then ``commit``."""
        self.commit(self.prepare(messages))

    def is_timeless(self, message: Message) -> bool:
        """Whether a message may say no time, so that its content alone does not tell it apart."""
        try:
            return is_timeless(self._router.find(message.topic), message.payload)
        except DeadLetterError:
            return False

    def prepare(self, messages: Sequence[Message]) -> list[Item]:
        """Read, check and keep pictures; several threads may, each with a batch of its own.

        A batch this long means that frames come faster than they can be decoded: they are kept
        after a glance, and the finisher does the rest.
        """
        look = self._intake.glance if len(messages) >= _HURRY else self._intake.look
        items: list[Item | _Seen] = []
        for message in messages:
            try:
                items += self._read(message, look=look)
            except DeadLetterError as refusal:
                self._refuse(refusal, message.payload, topic=message.topic)
        return self._kept(items)

    def commit(self, items: Sequence[Item]) -> None:
        """Into the log and the twin, in one transaction; in the order the messages came."""
        keep_batch(items, self._commit, refuse=self._refuse_item)

    def take_http(self, body: bytes) -> Recorded | DeadLetterView:
        """One message that names its topic; returns after the commit.

        Raises:
            UnavailableError: the store is away; nothing was kept, send it again.
        """
        self._stats.count("messages_received")
        topic, hasty = "", self._hasty
        try:
            topic, document = split_document(body)
            route = self._router.find(topic)
            check_size(route, len(body), topic=topic)
            item = self._item_of(route, document, raw=body, topic=topic)
        except DeadLetterError as refusal:
            return self._refuse(refusal, body, topic=topic, keeping=hasty)
        answers: list[Recorded | DeadLetterView] = []
        keep_batch(
            self._kept([item], keeping=hasty),
            lambda items: answers.append(self._commit(items, keeping=hasty)),
            refuse=lambda item, refusal: answers.append(self._refuse_item(item, refusal)),
        )
        return answers[0]

    def _read(
        self, message: Message, *, look: Callable[[PictureMessage], Looked]
    ) -> list[Item | _Seen]:
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
        return [_Seen(looked=look(picture), raw=message.payload)]

    def _item_of(
        self, route: Route, document: dict[str, object], *, raw: bytes, topic: str
    ) -> Item | _Seen:
        if route.kind is RouteKind.FRAME:
            self._stats.count("frames_published")
            picture = picture_of(route, document, topic=topic)
            return _Seen(looked=self._intake.look(picture), raw=raw)
        arrival = arrival_of(route, clock=self._clock)
        event = plant_event(route, document, topic=topic, site=self._plant.site, arrival=arrival)
        return self._plant_item(event, raw=raw)

    def _kept(self, items: Sequence[Item | _Seen], *, keeping: Keeping | None = None) -> list[Item]:
        """The same in the same order, with the pictures among the blobs."""
        keeping = keeping or self._keeping
        looked = [item.looked for item in items if isinstance(item, _Seen)]
        frames = iter(keeping.patiently(lambda: self._intake.keep(looked)) if looked else ())
        return [
            _frame_item(next(frames), raw=item.raw) if isinstance(item, _Seen) else item
            for item in items
        ]

    def _plant_item(self, event: Event, *, raw: bytes) -> Item:
        self._check_time(event.time, topic=event.subject)
        return Item(event=event, frame=None, raw=raw, topic=event.subject)

    def _check_time(self, at: datetime, *, topic: str) -> None:
        now = self._clock.now()
        try:
            check_not_ahead(at, now=now, where=topic)
        except DeadLetterError:
            self._stats.skewed("future")
            raise
        if is_late(at, now=now):
            self._stats.skewed("late")

    def _refuse_item(self, item: Item, refusal: DeadLetterError) -> DeadLetterView:
        return self._refuse(refusal, item.raw, topic=item.topic)

    def _refuse(
        self, refusal: DeadLetterError, raw: bytes, *, topic: str, keeping: Keeping | None = None
    ) -> DeadLetterView:
        try:
            frame = self._router.find(topic).kind is RouteKind.FRAME
        except DeadLetterError:
            frame = False
        return (keeping or self._keeping).refuse(refusal, raw, topic=topic, frame=frame)

    def _commit(self, items: Sequence[Item], *, keeping: Keeping | None = None) -> Recorded:
        events = [item.event for item in items]
        frames = [item.frame for item in items if item.frame is not None]
        rows = [frame.row for frame in frames]
        keeping = keeping or self._keeping
        recorded = keeping.patiently(lambda: self._ledger.record(events, frames=rows))
        fresh = {logged.entry.id for logged in recorded.logged if not logged.duplicate}
        self._stats.count("frames_stored", by=recorded.new_frames)
        self._stats.count("frames_duplicate", by=len(rows) - recorded.new_frames)
        self._stats.count("messages_duplicate", by=len(events) - len(fresh))
        self._stats.count("events", by=len(fresh) + len(recorded.raised))
        for frame in frames:
            if frame.event.id in fresh:
                self._watcher(frame)
        return recorded


def _frame_item(taken: Taken, *, raw: bytes) -> Item:
    return Item(event=taken.event, frame=taken, raw=raw, topic=taken.event.subject)
