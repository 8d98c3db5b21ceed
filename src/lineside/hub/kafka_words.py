"""What a record of Kafka says to the plant, and what an event says to Kafka; pure.

Rules:

1. A record is a message of the plant: a JSON object under the MQTT topic that the settings name.
   With ``ts``, topic and content make it one event, as over MQTT. Without, its time is the
   record's, ``ts_is`` says so, and its place in the cluster makes it one event.
2. A CloudEvent in structured mode (content type ``application/cloudevents+json``) is taken apart:
   its ``data`` is the message, its ``time`` the time, and source and id make it one event, also
   where its sender sent it twice.
3. Events go out as they stand in the log, in structured mode (CloudEvents, Kafka protocol binding
   1.0.2, 3.3), with ``ce_id`` and ``ce_source`` as headers too, so that a reader that takes each
   once need not open them.
"""

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from lineside.core import InvalidError, Route, decode_json, rfc3339, stable_id
from lineside.hub.kafka_config import KafkaSent
from lineside.hub.topics import DeadLetterError, Reason, check_size, plant_event
from lineside.links import KafkaRecord, KafkaTaken
from lineside.store import Logged
from lineside.streams import Event, decode_event

CONTENT = "application/cloudevents+json"
_MOST_KEY_BYTES = 1024
_MOST_DETAIL_BYTES = 500


def event_of(taken: KafkaTaken, route: Route, *, topic: str, site: str) -> Event:
    """The event that a record is kept as.

    Raises:
        DeadLetterError: it cannot be taken.
    """
    if taken.value is None:
        raise DeadLetterError(Reason.NOT_JSON, "a deletion mark", where=taken.place)
    check_size(route, len(taken.value), topic=topic)
    if _header(taken, "content-type").startswith(CONTENT):
        return _of_cloud_event(taken.value, route, topic=topic, site=site, place=taken.place)
    document = _document(taken.value, taken.place)
    if "ts" not in document:
        document |= {"ts": rfc3339(taken.at), "ts_is": "arrival", "delivery": taken.place}
    return plant_event(route, document, topic=topic, site=site)


def _of_cloud_event(raw: bytes, route: Route, *, topic: str, site: str, place: str) -> Event:
    try:
        told = decode_event(raw, where=place)
    except InvalidError as error:
        raise DeadLetterError(Reason.NOT_AN_EVENT, str(error), where=place) from error
    document = {**told.data, "ts": rfc3339(told.time), "said_by": told.source, "says": told.id}
    made = plant_event(route, document, topic=topic, site=site)
    return replace(made, id=stable_id("evt", topic, told.source, told.id))


def _document(raw: bytes, place: str) -> dict[str, Any]:
    try:
        document = decode_json(raw, where=place)
    except (InvalidError, RecursionError) as error:
        raise DeadLetterError(Reason.NOT_JSON, str(error), where=place) from error
    if not isinstance(document, dict):
        raise DeadLetterError(Reason.NOT_JSON, "not a JSON object", where=place)
    return document


def _header(taken: KafkaTaken, name: str) -> str:
    found = (value for key, value in taken.headers if key.lower() == name)
    return next(found, b"").decode(errors="replace").lower()


def is_sent(logged: Logged, sent: KafkaSent) -> bool:
    """Whether an event is one of those that go to this topic."""
    return any(fnmatchcase(logged.entry.type, pattern) for pattern in sent.types)


def record_of(logged: Logged, sent: KafkaSent) -> KafkaRecord:
    """An event of the log as a record."""
    entry = logged.entry
    return KafkaRecord(
        topic=sent.topic,
        value=entry.body,
        key=key_of(logged, sent.key).encode()[:_MOST_KEY_BYTES],
        headers=(
            ("content-type", f"{CONTENT}; charset=UTF-8".encode()),
            ("ce_id", entry.id.encode()),
            ("ce_source", entry.source.encode()),
        ),
    )


def key_of(logged: Logged, wanted: str) -> str:
    """What keeps an event in order with others.

    Args:
        logged: the event.
        wanted: see ``KafkaSent.key``; a field the event lacks leaves source and subject.
    """
    entry = logged.entry
    usual = f"{entry.source} {entry.subject}".rstrip()
    if not wanted:
        return usual
    if not wanted.startswith("data."):
        return str(getattr(entry, wanted))
    event = decode_event(entry.body, where=entry.id)
    found = event.data.get(wanted.removeprefix("data."))
    return usual if found is None or isinstance(found, dict | list) else str(found)


def dead_record(taken: KafkaTaken, refusal: DeadLetterError, *, topic: str) -> KafkaRecord:
    """A record that could not be taken, as it came, with the reason in its headers."""
    return KafkaRecord(
        topic=topic,
        value=taken.value or b"",
        key=taken.key,
        headers=(
            *taken.headers,
            ("lineside_reason", str(refusal.reason).encode()),
            ("lineside_detail", refusal.detail.encode()[:_MOST_DETAIL_BYTES]),
            ("lineside_place", taken.place.encode()),
        ),
    )
