"""What a record of Kafka says to the plant, and what an event says to Kafka; pure.

Rules:

1. A record is a message of the plant: a JSON object under the MQTT topic that the settings name.
   With ``ts``, topic and content make it one event, as over MQTT. Without, its time is the
   record's, ``ts_is`` says so, and its place in the cluster makes it one event; what the bridge
   passed on has the name of its MQTT delivery with it instead, since it may stand there twice.
2. A CloudEvent in structured mode (content type ``application/cloudevents+json``) is taken apart:
   its ``data`` is the message, its ``time`` the time, and source and id make it one event, also
   where its sender sent it twice.
   Whatever it is, it arrived when the cluster says (``recordedtime``), not when the hub read it.
3. Events go out as they stand in the log, in structured mode (CloudEvents, Kafka protocol binding
   1.0.2, 3.3), with ``ce_id`` and ``ce_source`` as headers too, so that a reader that takes each
   once need not open them.
"""

import re
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from lineside.core import InvalidError, Route, decode_json, digest_of, rfc3339, stable_id
from lineside.hub.config import KafkaSent, key_of
from lineside.hub.eventlog.topics import DeadLetterError, Reason, check_size, plant_event
from lineside.links import KafkaRecord, KafkaTaken, Message
from lineside.store import Logged
from lineside.streams import Event, decode_event

CONTENT = "application/cloudevents+json"
DELIVERY = "lineside_delivery"
_NAME = re.compile(r"dlv_[0-9a-z]{1,60}")
_MOST_KEY_BYTES = 1024
_MOST_DETAIL_BYTES = 500


def event_of(taken: KafkaTaken, route: Route, *, topic: str, site: str) -> Event:
    """The event that a record is kept as.

    Raises:
        DeadLetterError: it cannot be taken.
    """
    made = _event_of(taken, route, topic=topic, site=site)
    return replace(made, recordedtime=taken.at)


def _event_of(taken: KafkaTaken, route: Route, *, topic: str, site: str) -> Event:
    if taken.value is None:
        raise DeadLetterError(Reason.NOT_JSON, "a deletion mark", where=taken.place)
    check_size(route, len(taken.value), topic=topic)
    if _header(taken, "content-type").startswith(CONTENT):
        return _of_cloud_event(taken.value, route, topic=topic, site=site, place=taken.place)
    document = _document(taken.value, taken.place)
    if "ts" in document:
        return plant_event(route, document, topic=topic, site=site)
    named = _delivery(taken)
    document |= {"ts": rfc3339(taken.at), "ts_is": "arrival", "delivery": named or taken.place}
    made = plant_event(route, document, topic=topic, site=site)
    if not named:
        return made
    return replace(made, id=stable_id("evt", topic, named, digest_of(taken.value)))


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


def _delivery(taken: KafkaTaken) -> str:
    """The name that a bridge gave, "" without; one that is no name of ours counts as none."""
    found = _header(taken, DELIVERY)
    return found if _NAME.fullmatch(found) else ""


def bridged_record(message: Message, *, topic: str, delivery: str) -> KafkaRecord:
    """An MQTT message as it goes to a topic: the payload's bytes, its own topic as key.

    ``delivery`` "": the broker will not send it again, and its record has no name.
    """
    headers = ((DELIVERY, delivery.encode()),) if delivery else ()
    key = message.topic.encode()
    return KafkaRecord(topic=topic, value=message.payload, key=key, headers=headers)


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
