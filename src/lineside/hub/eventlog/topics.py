"""Routes of the plant file and lineside's own topics, and the messages on them as records.

Rules:

1. A topic that nothing routes is refused, as is a message without one; neither is guessed at.
2. ``ts`` must be a time with zone; where a route says ``time = "arrival"``, a message without it is
   dated when it comes, and says so (``ts_is``). A message from further ahead than the allowed skew
   is refused, because nothing newer could overwrite it; a late one is kept and counted.
3. The same message delivered twice has the same event id: a frame by its frame id, anything else
   by its topic and canonical content.
4. Pure, but for ``arrival_of``: nothing here touches a disk.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from lineside.core import (
    Camera,
    Clock,
    InvalidError,
    Plant,
    RouteKind,
    decode_json,
    digest_of,
    encode,
    new_id,
    parse_rfc3339,
    rfc3339,
    stable_id,
)
from lineside.core.factory import (
    AlertMessage,
    BrightnessMessage,
    CameraMessage,
    ClimateMessage,
    OrderMessage,
    StationMessage,
    StockMessage,
    read_message,
)
from lineside.core.ids import made_at
from lineside.core.plant import Route
from lineside.core.topics import topic_matches
from lineside.streams import Event
from lineside.streams.event import MAX_EVENT_BYTES

_NOTHING: Mapping[str, str] = {}
_M = TypeVar("_M", bound=msgspec.Struct)
SKEW_S = 5.0
MAX_AGE_S = 60.0
_ENVELOPE_BYTES = 4096
_MOST_COUNT = 2**53 - 1
_HEAD = b'"data:image/'
_MARK = b";base64,"
_LONGEST_HEAD = 100
_MOST_PART = 200
_MOST_EVENT_BYTES = MAX_EVENT_BYTES - _ENVELOPE_BYTES
_RAW_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


class Reason(StrEnum):
    """Why a message became a dead letter."""

    NOT_JSON = "not JSON"
    UNKNOWN_TOPIC = "unknown topic"
    MISSING_TOPIC = "missing topic"
    BAD_TIME = "bad ts"
    FUTURE = "from the future"
    FIELDS = "fields not as documented"
    TOO_LARGE = "too large"
    PICTURE = "picture cannot be read"
    NOT_AN_EVENT = "not an event"
    UNKNOWN_DEVICE = "unknown device"
    WRONG_CAMERA = "wrong camera"
    NOT_SENT = "not taken by Kafka"
    FAILED = "could not be processed"


class DeadLetterError(InvalidError):
    """A message that cannot be taken; ``reason`` is what it is counted under."""

    def __init__(self, reason: Reason, detail: str, *, where: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason), where=where)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PictureMessage:
    """A camera's message taken apart.

    Attributes:
        captured_at: None where the bytes came bare, without time.
        arrived_at: when such bytes came, where that is known already.
    """

    camera: str
    topic: str
    encoded: bytes
    captured_at: datetime | None
    sequence: int
    part: str
    arrived_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraLimits:
    """Limits of a camera's messages.

    Attributes:
        skew_s: how far ahead of the hub's clock its time may be.
        max_age_s: from which age on its frame counts as late.
    """

    skew_s: float
    max_age_s: float
    max_frame_bytes: int


class Router:
    """Topics of one plant, as it is declared now."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.declare()

    def declare(self) -> None:
        """Take over what the plant declares; once more after a change of it."""
        plant = self.plant
        routes = (*_native(plant), *plant.route, *_camera_sources(plant))
        self.routes = tuple(replace(item, max_bytes=plant.limit_bytes(item)) for item in routes)
        self._cameras = {camera.id: _limits_of(plant, camera) for camera in plant.camera}
        self._find = lru_cache(maxsize=4096)(self._search)

    def find(self, topic: str) -> Route:
        """The route of a topic, lineside's own first, then in the plant file's order.

        Raises:
            DeadLetterError: no topic, or one that nothing routes.
        """
        if not topic:
            raise DeadLetterError(Reason.MISSING_TOPIC, "the message names no topic")
        route = self._find(topic)
        if route is None:
            raise DeadLetterError(Reason.UNKNOWN_TOPIC, f"no route takes {topic!r}", where=topic)
        return route

    def _search(self, topic: str) -> Route | None:
        return next((route for route in self.routes if topic_matches(route.topic, topic)), None)

    def patterns(self, *, unrouted: bool) -> tuple[str, ...]:
        """Subscriptions: the routes, or with ``unrouted`` the branches they hang on."""
        topics = [route.topic for route in self.routes if not _is_own(route.topic)]
        own = [route.topic for route in self.routes if _is_own(route.topic)]
        wanted = sorted({_branch(topic) for topic in topics} if unrouted else set(topics))
        return tuple(own) + tuple(
            topic for topic in wanted if not any(_covers(other, topic) for other in wanted)
        )

    def limits(self, camera: str) -> CameraLimits:
        """Limits of a camera's messages."""
        return self._cameras[camera]


def read_picture(route: Route, payload: bytes, *, topic: str) -> PictureMessage:
    """Take a camera's message apart: the factory's JSON, or bare JPEG or PNG bytes."""
    check_size(route, len(payload), topic=topic)
    if payload.startswith(_RAW_PICTURES):
        return PictureMessage(
            camera=route.camera, topic=topic, encoded=payload, captured_at=None, sequence=0, part=""
        )
    quick = _read_quickly(route, payload, topic=topic)
    return quick or picture_of(route, _document(payload, topic), topic=topic)


class _QuickCamera(msgspec.Struct):
    """A camera's message with its picture left as the text it came in."""

    ts: str
    data: msgspec.Raw
    sequence: int = 0
    part: str = ""


_QUICK = msgspec.json.Decoder(_QuickCamera)
_BASE64 = msgspec.json.Decoder(bytes)


def _read_quickly(route: Route, payload: bytes, *, topic: str) -> PictureMessage | None:
    """The same as ``picture_of`` at a third of its time; None where that one has to say why not.

    The picture goes from JSON text to bytes in one step, without a string in between.
    """
    try:
        quick = _QUICK.decode(payload)
        text = bytes(quick.data)
        mark = text.find(_MARK, 0, _LONGEST_HEAD)
        if mark < 0 or not text.startswith(_HEAD):
            return None
        encoded = _BASE64.decode(b'"' + text[mark + len(_MARK) :])
        captured_at = parse_rfc3339(quick.ts)
    except (msgspec.MsgspecError, InvalidError, OverflowError, RecursionError, ValueError):
        return None
    if not (0 <= quick.sequence <= _MOST_COUNT and len(quick.part) <= _MOST_PART):
        return None
    return PictureMessage(
        camera=route.camera, topic=topic, encoded=encoded, captured_at=captured_at,
        sequence=quick.sequence, part=quick.part,
    )  # fmt: skip


def picture_of(route: Route, document: dict[str, Any], *, topic: str) -> PictureMessage:
    """A camera's message from its JSON document."""
    captured_at = _time(document, topic)
    message = _fields(CameraMessage, document, topic=topic)
    try:
        encoded = message.picture()
    except (InvalidError, ValueError) as error:
        raise DeadLetterError(Reason.PICTURE, str(error), where=topic) from error
    sequence, part = document.get("sequence", 0), document.get("part", "")
    counted = isinstance(sequence, int) and 0 <= sequence <= _MOST_COUNT
    if not counted or not isinstance(part, str) or len(part) > _MOST_PART:
        raise DeadLetterError(
            Reason.FIELDS,
            "sequence is a count, part is text of at most 200 characters",
            where=topic,
        )
    return PictureMessage(
        camera=route.camera, topic=topic, encoded=encoded, captured_at=captured_at,
        sequence=sequence, part=part,
    )  # fmt: skip


def read_plant(
    route: Route, payload: bytes, *, topic: str, site: str, arrival: Mapping[str, str] = _NOTHING
) -> Event:
    """Any other message of the plant as the event it is kept as."""
    check_size(route, len(payload), topic=topic)
    document = _document(payload, topic)
    return plant_event(route, document, topic=topic, site=site, arrival=arrival)


def arrival_of(route: Route, *, clock: Clock, delivery: str = "") -> Mapping[str, str]:
    """Time fields added to a message of this route that names none; empty where it must name one.

    ``delivery`` tells it from the same content a moment later; the same one gives the same again.
    """
    if route.time == "ts":
        return _NOTHING
    delivery = delivery or new_id("dlv", clock=clock)
    return {"ts": rfc3339(made_at(delivery)), "ts_is": "arrival", "delivery": delivery}


def is_timeless(route: Route, payload: bytes) -> bool:
    """Return True if a message of this route may carry no time: bare image, or dated on arrival."""
    if route.kind is RouteKind.FRAME:
        return payload.startswith(_RAW_PICTURES)
    return route.time != "ts"


def plant_event(
    route: Route,
    document: dict[str, Any],
    *,
    topic: str,
    site: str,
    arrival: Mapping[str, str] = _NOTHING,
) -> Event:
    """The event of a plant message: its fields as sent, and its topic.

    ``arrival``: as ``arrival_of`` gives it, added to a message without ``ts``.
    """
    if len(encode(document)) > _MOST_EVENT_BYTES:
        raise DeadLetterError(Reason.TOO_LARGE, f"more than {_MOST_EVENT_BYTES} bytes", where=topic)
    if "ts" not in document:
        document = {**document, **arrival}
    at = _time(document, topic)
    _check_fields(route.kind, document, topic=topic)
    data = {**document, "topic": topic}
    return Event(
        id=stable_id("evt", topic, digest_of(encode(data))),
        source=plant_source(site),
        type=f"lineside.plant.{route.kind}.v1",
        subject=topic,
        time=at,
        data=data,
    )


def frame_event(
    message: PictureMessage, *, frame: str, digest: str, at: datetime, site: str
) -> Event:
    """The event of a frame: the message without the picture, which stands among the blobs."""
    data: dict[str, Any] = {
        "ts": rfc3339(at), "topic": message.topic, "camera": message.camera, "frame": frame,
        "digest": digest,
    }  # fmt: skip
    if message.captured_at is None:
        data["ts_is"] = "arrival"
    if message.sequence:
        data["sequence"] = message.sequence
    if message.part:
        data["part"] = message.part
    return Event(
        id=stable_id("evt", frame), source=plant_source(site), type="lineside.plant.frame.v1",
        subject=message.topic, time=at, data=data,
    )  # fmt: skip


def check_not_future(at: datetime, *, now: datetime, skew_s: float = SKEW_S, where: str) -> None:
    """Refuse a time from the future; exactly the allowed skew is still taken."""
    if at - now > timedelta(seconds=skew_s):
        ahead_s = (at - now).total_seconds()
        raise DeadLetterError(
            Reason.FUTURE, f"{ahead_s:.1f} s ahead, {skew_s:g} s allowed", where=where
        )


def is_late(at: datetime, *, now: datetime, max_age_s: float = MAX_AGE_S) -> bool:
    """Return True for a message too old to count as fresh; exactly the age is fresh."""
    return now - at > timedelta(seconds=max_age_s)


def plant_source(site: str) -> str:
    """The chain of the plant's own messages."""
    return f"/{site}/plant"


def hub_source(site: str) -> str:
    """The chain of the hub's own events."""
    return f"/{site}/hub"


def device_source(site: str, device: str) -> str:
    """The chain of one device."""
    return f"/{site}/device/{device}"


def split_document(payload: bytes) -> tuple[str, dict[str, Any]]:
    """A message that names its own topic (over HTTP): the topic, and the document without it."""
    document = _document(payload, "")
    topic = document.pop("topic", "")
    return (topic if isinstance(topic, str) else ""), document


def check_size(route: Route, size_bytes: int, *, topic: str) -> None:
    """Refuse a payload above the limit of a router's route."""
    most = route.max_bytes or 0
    if size_bytes > most:
        raise DeadLetterError(Reason.TOO_LARGE, f"{size_bytes} bytes, at most {most}", where=topic)


def _document(payload: bytes, topic: str) -> dict[str, Any]:
    try:
        document = decode_json(payload, where=topic)
    except (InvalidError, RecursionError) as error:
        raise DeadLetterError(Reason.NOT_JSON, str(error), where=topic) from error
    if not isinstance(document, dict):
        raise DeadLetterError(Reason.NOT_JSON, "not a JSON object", where=topic)
    return document


def _time(document: dict[str, Any], topic: str) -> datetime:
    try:
        return parse_rfc3339(document.get("ts", ""), where=f"{topic} ts")
    except (InvalidError, OverflowError) as error:
        raise DeadLetterError(Reason.BAD_TIME, str(error), where=topic) from error


_KINDS: dict[RouteKind, type[msgspec.Struct]] = {
    RouteKind.STOCK: StockMessage, RouteKind.ORDER: OrderMessage,
    RouteKind.STATION: StationMessage, RouteKind.ALERT: AlertMessage,
}  # fmt: skip


def _check_fields(kind: RouteKind, document: dict[str, Any], *, topic: str) -> None:
    if kind is RouteKind.SENSOR:
        bright = "br" in document or "ldr" in document
        message = _fields(BrightnessMessage if bright else ClimateMessage, document, topic=topic)
        _check_brightness(message, topic)
    elif kind in _KINDS:
        _fields(_KINDS[kind], document, topic=topic)


def _check_brightness(message: object, topic: str) -> None:
    try:
        _ = message.brightness if isinstance(message, BrightnessMessage) else None
    except InvalidError as error:
        raise DeadLetterError(Reason.FIELDS, str(error), where=topic) from error


def _fields(kind: type[_M], document: dict[str, Any], *, topic: str) -> _M:
    try:
        return read_message(kind, document, where=topic)
    except InvalidError as error:
        raise DeadLetterError(Reason.FIELDS, str(error), where=topic) from error


def _limits_of(plant: Plant, camera: Camera) -> CameraLimits:
    asked = [item for item in plant.inspection if item.camera == camera.id]
    return CameraLimits(
        skew_s=max((item.max_skew_s for item in asked), default=SKEW_S),
        max_age_s=max((item.max_age_s for item in asked), default=MAX_AGE_S),
        max_frame_bytes=camera.max_frame_bytes,
    )


def _native(plant: Plant) -> tuple[Route, ...]:
    return tuple(
        Route(
            topic=f"lineside/{plant.site}/{camera.line}/{camera.id}/frame",
            kind=RouteKind.FRAME,
            camera=camera.id,
        )
        for camera in plant.camera
    )


def _camera_sources(plant: Plant) -> tuple[Route, ...]:
    return tuple(
        Route(
            topic=camera.source.reveal().removeprefix("mqtt:"),
            kind=RouteKind.FRAME,
            camera=camera.id,
        )
        for camera in plant.camera
        if camera.source.startswith("mqtt:")
    )


def _is_own(topic: str) -> bool:
    return topic.startswith("lineside/")


def _branch(topic: str) -> str:
    head, slash, _ = topic.rpartition("/")
    fixed = head.partition("+")[0].rstrip("/") if "+" in head else head
    return f"{fixed}/#" if slash and fixed and "#" not in topic else topic


def _covers(wide: str, narrow: str) -> bool:
    if wide == narrow or not wide.endswith("/#"):
        return False
    return narrow.startswith(wide[:-1]) or narrow == wide[:-2]
