"""A file of recorded events, one a line: CloudEvents, or messages as a bus said them.

1. A line is a CloudEvent as docs/reference/messages.md shows it. It arrived at its ``time``, or at
   ``arrivedat`` where it has that extension.
2. Or it is ``{"topic": …, "payload": …, "time": …}``: a message of the bus. ``payload`` is a JSON
   object, or text that holds one; ``time`` is when it arrived, and its own time where the payload
   has no ``ts``. A payload that is a CloudEvent is one.
3. Empty lines are passed over; anything else is a fault that names its line.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from lineside.core import (
    InvalidError,
    Plant,
    decode_json,
    digest_of,
    encode,
    parse_rfc3339,
    stable_id,
)
from lineside.streams.codec import decode_event, encode_event, written_time
from lineside.streams.event import Event
from lineside.streams.outputs import moment
from lineside.streams.records import PLANT_TYPE, Entry, microseconds, topic_fits


def read_entries(lines: Iterable[bytes], *, plant: Plant, where: str) -> Iterator[Entry]:
    """The entries of a file of recorded events, in its order.

    Raises:
        InvalidError: a line that is neither form; read so far is what was given out.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _entry(line, plant=plant, where=f"{where}:{number}")


def _entry(line: bytes, *, plant: Plant, where: str) -> Entry:
    document = decode_json(line, where=where)
    if not isinstance(document, dict):
        raise InvalidError("not a JSON object", where=where, fix=_FIX)
    if "specversion" in document:
        return _cloud_event(line, document, where=where)
    if "topic" not in document or "payload" not in document:
        raise InvalidError("neither a CloudEvent nor a message", where=where, fix=_FIX)
    return _message(document, plant=plant, where=where)


def entry_line(entry: Entry) -> bytes:
    """An entry of the log as a line that ``read_entries`` reads as the same entry."""
    arrived = written_time(moment(entry.arrived_us))
    # Bodies are canonical and never empty: in order of names, this one stands first.
    return b'{"arrivedat":' + encode(arrived) + b"," + entry.body[1:] + b"\n"


_FIX = 'Write one CloudEvent a line, or {"topic": "a/b", "payload": {…}, "time": "…Z"}.'


def _cloud_event(line: bytes, document: dict[str, Any], *, where: str) -> Entry:
    event = decode_event(line, where=where)
    arrived = document.get("arrivedat")
    at = event.time if arrived is None else parse_rfc3339(arrived, where=f"{where} arrivedat")
    return Entry(
        type=event.type, subject=event.subject, arrived_us=microseconds(at), body=line.strip()
    )


def _message(document: dict[str, Any], *, plant: Plant, where: str) -> Entry:
    topic, payload = document["topic"], document["payload"]
    if isinstance(payload, str):
        payload = decode_json(payload, where=f"{where} payload")
    if not isinstance(topic, str) or not isinstance(payload, dict):
        raise InvalidError("topic is not text, or payload no object", where=where, fix=_FIX)
    if "specversion" in payload:
        return _cloud_event(encode(payload), payload, where=f"{where} payload")
    captured, arrived = _times(document, payload, where=where)
    kind = _kind(topic, plant)
    data = {**payload, "topic": topic}
    event = Event(
        id=stable_id("evt", topic, written_time(arrived), digest_of(encode(data))),
        source=f"/{plant.site}/plant", type=f"{PLANT_TYPE}{kind}.v1", subject=topic,
        time=captured, data=data,
    )  # fmt: skip
    return Entry(
        type=event.type, subject=topic, arrived_us=microseconds(arrived), body=encode_event(event)
    )


def _times(
    document: dict[str, Any], payload: dict[str, Any], *, where: str
) -> tuple[datetime, datetime]:
    """When a message was made, and when it arrived."""
    own = payload.get("ts")
    told = document.get("time", own)
    if told is None:
        raise InvalidError("a message without time", where=where, fix='Add "time": "…Z".')
    arrived = parse_rfc3339(told, where=f"{where} time")
    return (parse_rfc3339(own, where=f"{where} ts") if own is not None else arrived), arrived


def _kind(topic: str, plant: Plant) -> str:
    """The kind of the route that takes a topic; "message" where none does."""
    routes = (str(one.kind) for one in plant.route if topic_fits(one.topic, topic))
    return next(routes, "message")
