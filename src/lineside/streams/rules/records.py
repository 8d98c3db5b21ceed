"""Events of the log as the flat records that a rule reads.

Rules:

1. Of predictions with ``answers = "top"``: one record for each picture, with its likeliest label
   where it has one; ``each``: one for each label, box, count, mask and anomaly, and one with
   ``answer = "none"`` for a picture that has no answer, so that nothing in view is seen too.
2. Of the plant: one record for each message; nested values as ``outer.inner``, at most
   ``MOST_FIELDS``; null is a field that is not there, and so is a number beyond ``MOST_FIGURE``.
3. Of a rule: one record for each event, with key and values beside ``rule``, ``action``, ``name``,
   ``revision`` and ``seconds``.
4. With ``time = "arrival"`` a record's time is when the log took it; of a message that came by way
   of Kafka, when the cluster took it, so that a backlog is read as it arrived there.
5. Only what the log took is read; what cannot be read all the same is counted by the engine.

Bodies are decoded as far as a rule can need them, straight into typed structs: this is the hot
path. ``flat`` is the long way for messages that hold more than plain values.


A file of recorded events (``read_entries``) holds one a line:

1. A line is a CloudEvent as docs/reference/messages.md shows it. It arrived at its ``time``, or at
   ``arrivedat`` where it has that extension.
2. Or it is ``{"topic": …, "payload": …, "time": …}``: a message of the bus. ``payload`` is a JSON
   object, or text that holds one; ``time`` is when it arrived, and its own time where the payload
   has no ``ts``. A payload that is a CloudEvent is one.
3. Empty lines are passed over; anything else is a fault that names its line.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from lineside.core import (
    InvalidError,
    Plant,
    Rule,
    decode_json,
    digest_of,
    encode,
    parse_rfc3339,
    stable_id,
)
from lineside.core.plant_rules import Scalar
from lineside.core.topics import topic_matches
from lineside.core.webhooks import EVENT_TYPE
from lineside.streams.event import (
    PREDICTION_TYPE,
    Event,
    decode_event,
    encode_event,
    written_time,
)
from lineside.streams.rules.contract import Record, moment
from lineside.vision.prediction import AnomalyAnswer, BoxAnswer, CountAnswer, LabelAnswer

TICK_TYPE = "lineside.tick.v1"
"""An entry of the log that says only that time has passed; see docs/adr/0015."""

PLANT_TYPE = "lineside.plant."
SESSION = "session"
"""Source of the records that begin a sorting session."""

MOST_FIELDS = 200
MOST_FIGURE = 1e300
"""JSON has larger numbers, of which sums and means are none that a memory could keep."""
_Plain = str | int | float | bool
_Usual = (
    str
    | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    | Annotated[float, msgspec.Meta(ge=-MOST_FIGURE, le=MOST_FIGURE)]
    | bool
)
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry of the log as rules take it.

    Attributes:
        type, subject: of its event.
        arrived_us: when the log took it, microseconds since the epoch.
        body: JSON of the whole event.
    """

    type: str
    subject: str
    arrived_us: int
    body: bytes


Read = Callable[[Entry], Sequence[Record]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """The records that a rule reads from the log.

    Attributes:
        takes: whether entries of a type and subject are read by ``read``.
        read: the records of such an entry; ``msgspec.MsgspecError`` where it cannot be read.
        begins: whether such an entry begins a new sorting session.
    """

    takes: Callable[[str, str], bool]
    read: Read
    begins: Callable[[str, str], bool]


def reader_of(rule: Rule) -> Reader:
    """The reader of a rule: entries of the log to records."""
    read, arrival = rule.read, rule.time == "arrival"
    if read.inspections:
        many = _top if read.answers == "top" else _each
        takes = _among(PREDICTION_TYPE, read.inspections)
        made = _prediction_reader(many, arrival=arrival, apart=len(read.inspections) > 1)
    elif read.rules:
        takes, made = _among(EVENT_TYPE, read.rules), _event_reader(arrival=arrival)
    else:
        takes = _of_kind(read.plant) if read.plant else _on_topic(read.topic)
        made = _plant_reader(arrival=arrival)
    session = rule.pair.session if rule.pair is not None else ""
    return Reader(
        takes=takes,
        read=_of_cameras(made, read.cameras) if read.cameras else made,
        begins=_on_topic(session) if session else lambda _type, _subject: False,
    )


def session_record(entry: Entry, *, arrival: bool) -> Record:
    """The record that begins a sorting session: named by its message, else by its time."""
    told = _read_plant(entry, arrival=arrival)
    name = next((told.fields[key] for key in ("session", "name") if key in told.fields), "")
    fields = {SESSION: str(name or told.at_us)}
    return Record(
        id=told.id, source=SESSION, at_us=told.at_us, arrived_us=told.arrived_us, fields=fields
    )


def microseconds(moment: datetime) -> int:
    """An aware time as whole microseconds since the epoch."""
    return round(moment.timestamp() * 1e6)


def flat(document: Mapping[str, Any], *, before: str = "") -> dict[str, Scalar]:
    """Nested JSON as one level of plain values, names joined by dots, lists by their places."""
    found: dict[str, Scalar] = {}
    for name, value in _leaves(document, before):
        if len(found) >= MOST_FIELDS:
            break
        found[name] = value
    return found


def _leaves(value: object, path: str) -> Iterator[tuple[str, Scalar]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{path}.{place}" if path else str(place))
    elif isinstance(value, str) or (
        isinstance(value, int | float) and -MOST_FIGURE <= value <= MOST_FIGURE
    ):
        yield path, value


# ---- which entries


def _among(kind: str, subjects: tuple[str, ...]) -> Callable[[str, str], bool]:
    return lambda type_, name: type_ == kind and name in subjects


def _of_kind(kind: str) -> Callable[[str, str], bool]:
    wanted = f"{PLANT_TYPE}{kind}.v1"
    return lambda type_, _subject: type_ == wanted


def _on_topic(pattern: str) -> Callable[[str, str], bool]:
    matches = lru_cache(maxsize=4096)(lambda topic: topic_matches(pattern, topic))
    return lambda type_, subject: type_.startswith(PLANT_TYPE) and matches(subject)


def _of_cameras(read: Read, cameras: tuple[str, ...]) -> Read:
    known = frozenset(cameras)
    return lambda entry: [one for one in read(entry) if one.fields.get("camera") in known]


# ---- messages of the plant


class _PlainMessage(msgspec.Struct):
    id: str
    time: _Moment
    data: dict[str, _Usual]
    recordedtime: _Moment | None = None


class _AnyMessage(msgspec.Struct):
    id: str
    time: _Moment
    data: dict[str, Any]
    recordedtime: _Moment | None = None


_PLAIN = msgspec.json.Decoder(_PlainMessage)
_ANY = msgspec.json.Decoder(_AnyMessage)


def _plant_reader(*, arrival: bool) -> Read:
    return _read_at_arrival if arrival else _read_at_time


def _read_at_arrival(entry: Entry) -> Sequence[Record]:
    return (_read_plant(entry, arrival=True),)


def _read_at_time(entry: Entry) -> Sequence[Record]:
    """The usual message, at its own time; the rest goes the long way."""
    try:
        message = _PLAIN.decode(entry.body)
    except msgspec.ValidationError:
        return (_read_plant(entry, arrival=False),)
    return (
        Record(
            id=message.id, source=entry.subject, at_us=round(message.time.timestamp() * 1e6),
            arrived_us=entry.arrived_us, fields=message.data,
        ),
    )  # fmt: skip


def _read_plant(entry: Entry, *, arrival: bool) -> Record:
    try:
        message = _PLAIN.decode(entry.body)
        fields = message.data
    except msgspec.ValidationError:
        full = _ANY.decode(entry.body)
        message, fields = full, flat(full.data)  # type: ignore[assignment]  # alike but for data
    at_us = microseconds(message.time)
    if arrival:
        recorded = message.recordedtime
        at_us = entry.arrived_us if recorded is None else microseconds(recorded)
    return Record(
        id=message.id,
        source=entry.subject,
        at_us=at_us,
        arrived_us=entry.arrived_us,
        fields=fields,
    )


# ---- events of rules


class _RuleEventData(msgspec.Struct):
    rule: str = ""
    action: str = ""
    name: str = ""
    revision: int = 0
    seconds: float = 0.0
    key: dict[str, _Plain] = {}
    values: dict[str, _Plain] = {}
    frame: str = ""


class _RuleEvent(msgspec.Struct):
    id: str
    time: _Moment
    data: _RuleEventData


_EVENT = msgspec.json.Decoder(_RuleEvent)


def _event_reader(*, arrival: bool) -> Read:
    def read(entry: Entry) -> Sequence[Record]:
        try:
            event = _EVENT.decode(entry.body)
        except msgspec.ValidationError:
            return (_read_plant(entry, arrival=arrival),)
        told = event.data
        if not told.values:  # an event that the hub itself says: its data is flat
            return (_read_plant(entry, arrival=arrival),)
        fields: dict[str, Scalar] = {
            "rule": told.rule, "action": told.action, "name": told.name,
            "revision": told.revision, "seconds": told.seconds, **told.values, **told.key,
        }  # fmt: skip
        if told.frame:
            fields["frame"] = told.frame
        at_us = entry.arrived_us if arrival else microseconds(event.time)
        return (_record(event.id, entry, at_us=at_us, fields=fields),)

    return read


def _record(
    record_id: str, entry: Entry, *, at_us: int, fields: Mapping[str, Scalar], source: str = ""
) -> Record:
    return Record(
        id=record_id, source=source or entry.subject, at_us=at_us, arrived_us=entry.arrived_us,
        fields=fields,
    )  # fmt: skip


# ---- predictions


class _Frame(msgspec.Struct):
    id: str
    camera: str
    part: str = ""
    sequence: int = 0


class _Mask(msgspec.Struct):
    share: float
    areas_px: tuple[int, ...] = ()


class _Prediction(msgspec.Struct):
    frame: _Frame
    inspection: str
    task: str
    state: str
    package: str
    device: str = ""
    labels: tuple[LabelAnswer, ...] = ()
    boxes: tuple[BoxAnswer, ...] = ()
    count: CountAnswer | None = None
    mask: _Mask | None = None
    anomaly: AnomalyAnswer | None = None


class _PredictionEvent(msgspec.Struct):
    id: str
    time: _Moment
    data: _Prediction


_PREDICTION = msgspec.json.Decoder(_PredictionEvent)
_Answers = Callable[[_Prediction], Iterable[dict[str, Scalar]]]


def _prediction_reader(answers: _Answers, *, arrival: bool, apart: bool = False) -> Read:
    """``apart``: each inspection keeps its own time, though two may be of one camera."""

    def read(entry: Entry) -> Sequence[Record]:
        event = _PREDICTION.decode(entry.body)
        at_us = entry.arrived_us if arrival else round(event.time.timestamp() * 1e6)
        picture = _picture(event.data)
        source = event.data.inspection if apart else event.data.frame.camera
        found = list(answers(event.data))
        if len(found) == 1:
            fields = picture | found[0]
            return (_record(event.id, entry, at_us=at_us, fields=fields, source=source),)
        return [
            _record(f"{event.id}#{place}", entry, at_us=at_us, fields=picture | one, source=source)
            for place, one in enumerate(found, start=1)
        ]

    return read


def _picture(prediction: _Prediction) -> dict[str, Scalar]:
    frame = prediction.frame
    fields: dict[str, Scalar] = {
        "camera": frame.camera, "inspection": prediction.inspection, "task": prediction.task,
        "state": prediction.state, "device": prediction.device, "package": prediction.package,
        "frame": frame.id, "sequence": frame.sequence,
    }  # fmt: skip
    if frame.part:
        fields["part"] = frame.part
    return fields


def _top(prediction: _Prediction) -> Iterable[dict[str, Scalar]]:
    if not prediction.labels:
        return ({"answer": "none"},)
    return (_label(max(prediction.labels, key=_probability)),)


def _probability(answer: LabelAnswer) -> float:
    return answer.probability


def _label(answer: LabelAnswer) -> dict[str, Scalar]:
    return {
        "answer": "label", "name": answer.name, "region": answer.region, "label": answer.label,
        "probability": answer.probability, "decision": answer.decision.value,
    }  # fmt: skip


def _each(prediction: _Prediction) -> Iterable[dict[str, Scalar]]:
    found = [_label(answer) for answer in prediction.labels]
    found += [_box(box) for box in prediction.boxes]
    found += _wholes(prediction)
    return found or ({"answer": "none"},)


def _box(box: BoxAnswer) -> dict[str, Scalar]:
    return {
        "answer": "box", "label": box.label, "probability": box.probability,
        "decision": box.decision.value, "x0_px": box.x0_px, "y0_px": box.y0_px, "x1_px": box.x1_px,
        "y1_px": box.y1_px, "x_px": (box.x0_px + box.x1_px) / 2,
        "y_px": (box.y0_px + box.y1_px) / 2,
    }  # fmt: skip


def _wholes(prediction: _Prediction) -> Iterator[dict[str, Scalar]]:
    """Return the fields of the image as a whole."""
    count, mask, anomaly = prediction.count, prediction.mask, prediction.anomaly
    if count is not None:
        yield {
            "answer": "count", "value": count.value, "low": count.low, "high": count.high,
            "more": count.more, "decision": count.decision.value,
        }  # fmt: skip
    if mask is not None:
        yield {"answer": "mask", "share": mask.share, "pieces": len(mask.areas_px)}
    if anomaly is not None:
        yield {
            "answer": "anomaly", "score": anomaly.score, "limit": anomaly.limit,
            "decision": anomaly.decision.value,
        }  # fmt: skip


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
    routes = (str(one.kind) for one in plant.route if topic_matches(one.topic, topic))
    return next(routes, "message")
