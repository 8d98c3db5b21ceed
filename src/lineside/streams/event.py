"""Events: CloudEvents records, their JSON, and predictions as events.

The JSON is that of CloudEvents 1.0.2, structured mode. Rules of ``decode_event``, which reads
what anybody on the bus may have written:

1. At most ``MAX_EVENT_BYTES``; one JSON object; ``specversion`` is ``"1.0"``.
2. ``id``, ``source``, ``type`` and ``time`` are there and not empty; ``time`` names its zone.
3. ``data`` is a JSON object; ``data_base64`` and other content types are refused.
4. Any other attribute has a name of lower-case letters and digits and a plain value (section 3.1);
   such extensions are passed over, because nothing here knows them.
5. What is wrong is one sentence with the attribute, the value seen and the fix.

``encode_event`` is canonical (equal events, equal bytes) and leaves optional attributes out where
they say nothing, since CloudEvents forbids empty ones. Times keep microseconds where they have
any, so that an event read back is the event written.

Of a prediction (the hot path of device and hub) the event's id is a hash of frame, inspection and
package, so the same package on the same frame is the same event, whoever computes it and how often
it is sent. It is young enough to act on (``freshness``) by its capture time, never by its arrival:
one of exactly ``max_age_s`` is still taken; one from the future is taken up to ``max_skew_s``, the
difference of clocks that a site allows.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from lineside.core import (
    InvalidError,
    decode_json,
    encode,
    parse_rfc3339,
    rfc3339,
    stable_id,
    to_plain,
)
from lineside.vision import Prediction
from lineside.vision.prediction import PREDICTION_SCHEMA

PREDICTION_TYPE = "lineside.prediction.v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened.

    Attributes:
        id: stable for the same happening; see ``core.stable_id``.
        source: who says it: ``/site/camera/<c>``, ``/site/device/<d>``, ``/site/hub``,
            ``/site/plant`` (messages of the plant itself).
        type: ``lineside.prediction.v1``, ``lineside.event.v1``, ``lineside.plant.<kind>.v1``,
            ``lineside.order.v1``, ``lineside.anchor.v1``.
        subject: the inspection, topic, order or rule it is about.
        time: aware UTC, when it happened at the camera or station.
        data: plain JSON of the documented shape of ``type``.
        imagemissing: why the image of a prediction does not come with it; "" where it does, or is
            not the device's to send.
        traceparent: W3C trace context of the step that made it; "" where nobody traces.
        prediction: ``data`` as a record, where it was read already; never written.
    """

    id: str
    source: str
    type: str
    time: datetime
    data: dict[str, Any]
    subject: str = ""
    specversion: Literal["1.0"] = "1.0"
    datacontenttype: str = "application/json"
    dataschema: str = ""
    deviceseq: int = 0
    devicefirst: int = 0
    imagemissing: str = ""
    recordedtime: datetime | None = None
    traceparent: str = ""
    prediction: Prediction | None = field(default=None, compare=False, repr=False)


MAX_EVENT_BYTES = 256 * 1024

_MOST_ID = 256
_MOST_NAME = 1024
_MOST_COUNT = 2**53 - 1
_LONGEST_SHOWN = 60
_EXTENSION = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_KNOWN = frozenset(
    ("id", "source", "type", "time", "data", "subject", "specversion", "datacontenttype",
     "dataschema", "deviceseq", "devicefirst", "imagemissing", "recordedtime", "traceparent")
)  # fmt: skip
_CONTENT = ("application/json", "application/json; charset=utf-8")


def encode_event(event: Event) -> bytes:
    """Canonical JSON of an event: sorted keys, no spaces, no empty attributes."""
    document: dict[str, Any] = {
        "specversion": event.specversion,
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "time": written_time(event.time),
        "datacontenttype": event.datacontenttype,
        "data": event.data,
        "subject": event.subject,
        "dataschema": event.dataschema,
        "deviceseq": event.deviceseq,
        "devicefirst": event.devicefirst,
        "imagemissing": event.imagemissing,
        "recordedtime": event.recordedtime and written_time(event.recordedtime),
        "traceparent": event.traceparent,
    }
    return encode({name: value for name, value in document.items() if value not in ("", 0, None)})


def decode_event(raw: bytes, *, where: str) -> Event:
    """Read one event as it came over the bus or out of the log.

    Raises:
        InvalidError: the first thing that breaks the rules at the top of this file.
    """
    if len(raw) > MAX_EVENT_BYTES:
        raise InvalidError(
            f"an event of {len(raw)} bytes, more than {MAX_EVENT_BYTES}",
            where=where,
            fix="Send pictures as frames; an event names them.",
        )
    document = decode_json(raw, where=where)
    attributes = _Attributes(document if isinstance(document, dict) else {}, where=where)
    if not isinstance(document, dict):
        raise attributes.fault("the event", value=document, expected="a JSON object")
    attributes.check_envelope()
    return Event(
        id=attributes.text("id", most=_MOST_ID),
        source=attributes.text("source", most=_MOST_NAME),
        type=attributes.text("type", most=_MOST_NAME),
        time=parse_rfc3339(attributes.text("time", most=64), where=f"{where} time"),
        data=attributes.data(),
        subject=attributes.optional_text("subject"),
        dataschema=attributes.optional_text("dataschema"),
        deviceseq=attributes.count("deviceseq"),
        devicefirst=attributes.count("devicefirst"),
        imagemissing=attributes.optional_text("imagemissing"),
        recordedtime=attributes.optional_time("recordedtime"),
        traceparent=attributes.optional_text("traceparent"),
    )


class _Attributes:
    """One JSON object, read attribute by attribute."""

    def __init__(self, document: dict[str, Any], *, where: str) -> None:
        self._document = document
        self._where = where

    def fault(self, name: str, *, value: object, expected: str) -> InvalidError:
        shown = "nothing" if value is None else repr(value)
        shown = shown if len(shown) <= _LONGEST_SHOWN else shown[: _LONGEST_SHOWN - 1] + "…"
        return InvalidError(
            f"{name} is {shown}, not {expected}",
            where=self._where,
            fix="Send CloudEvents 1.0 JSON as docs/reference/messages.md shows it.",
        )

    def check_envelope(self) -> None:
        version = self._document.get("specversion")
        if version != "1.0":
            raise self.fault("specversion", value=version, expected="'1.0'")
        content = self._document.get("datacontenttype", _CONTENT[0])
        if content not in _CONTENT:
            raise self.fault("datacontenttype", value=content, expected=repr(_CONTENT[0]))
        for name in self._document.keys() - _KNOWN:
            self.check_extension(name)

    def check_extension(self, name: str) -> None:
        value = self._document[name]
        if name == "data_base64":
            raise self.fault(name, value=value, expected="there (put JSON into data)")
        if not name or set(name) - _EXTENSION:
            raise self.fault("a name", value=name, expected="of lower-case letters and digits")
        if not isinstance(value, str | int):
            raise self.fault(name, value=value, expected="text, a whole number, true or false")

    def text(self, name: str, *, most: int) -> str:
        value = self._document.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= most:
            raise self.fault(name, value=value, expected=f"text of 1 to {most} characters")
        return value

    def optional_text(self, name: str) -> str:
        return self.text(name, most=_MOST_NAME) if name in self._document else ""

    def optional_time(self, name: str) -> datetime | None:
        if name not in self._document:
            return None
        return parse_rfc3339(self.text(name, most=64), where=f"{self._where} {name}")

    def count(self, name: str) -> int:
        value = self._document.get(name, 0)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_COUNT:
            raise self.fault(name, value=value, expected=f"a whole number from 0 to {_MOST_COUNT}")
        return value

    def data(self) -> dict[str, Any]:
        value = self._document.get("data")
        if not isinstance(value, dict):
            raise self.fault("data", value=value, expected="a JSON object")
        return value


def written_time(moment: datetime) -> str:
    """RFC 3339 UTC with milliseconds, or microseconds where there are any."""
    if moment.tzinfo is None:
        raise InvalidError("a time without zone cannot be written", fix="Attach a UTC offset.")
    timespec = "microseconds" if moment.microsecond % 1000 else "milliseconds"
    return moment.astimezone(UTC).isoformat(timespec=timespec)[:-6] + "Z"


_MOST_ANSWERS = 4096


def prediction_event(
    prediction: Prediction, *, site: str, device: str, sequence: int, first: int
) -> Event:
    """Wrap a prediction.

    Args:
        prediction: becomes ``data``; its frame's capture time is the event's time.
        site: the plant's site, first part of the source.
        device: second part of the source, ``/<site>/device/<device>``.
        sequence: the device's own count of this event, from 1.
        first: the lowest count the device still holds.
    """
    return Event(
        id=prediction_id(prediction),
        source=f"/{site}/device/{device}",
        type=PREDICTION_TYPE,
        time=prediction.frame.captured_at,
        data=to_plain(prediction),
        subject=prediction.inspection,
        dataschema=PREDICTION_SCHEMA,
        deviceseq=sequence,
        devicefirst=first,
    )


def encode_prediction_event(
    prediction: Prediction, *, site: str, device: str, sequence: int, first: int,
    traceparent: str = "",
) -> bytes:  # fmt: skip
    """``encode_event(prediction_event(…))``, byte for byte, without plain objects in between.

    ``data`` is the first attribute of the canonical form, so the prediction's own canonical JSON
    stands before that of the envelope.
    """
    envelope: dict[str, object] = {
        "datacontenttype": "application/json",
        "dataschema": PREDICTION_SCHEMA,
        "deviceseq": sequence,
        "devicefirst": first,
        "id": prediction_id(prediction),
        "source": f"/{site}/device/{device}",
        "specversion": "1.0",
        "subject": prediction.inspection,
        "time": written_time(prediction.frame.captured_at),
        "traceparent": traceparent,
        "type": PREDICTION_TYPE,
    }
    said = {name: value for name, value in envelope.items() if value not in (0, "")}
    return b'{"data":' + encode(prediction) + b"," + encode(said)[1:]


def prediction_id(prediction: Prediction) -> str:
    """The event's id: the same for the same package on the same frame."""
    return stable_id("evt", prediction.frame.id, prediction.inspection, prediction.package)


def read_prediction(event: Event) -> Prediction:
    """The prediction in an event, read once where the event carries it.

    Raises:
        InvalidError: another type, another shape, or a probability outside 0 to 1.
    """
    if event.prediction is not None:
        return event.prediction
    if event.type != PREDICTION_TYPE:
        raise _bad(event, f"type {event.type!r} is no prediction")
    try:
        prediction = msgspec.convert(event.data, Prediction)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _bad(event, str(error)) from error
    _check(event, prediction)
    return prediction


def _check(event: Event, prediction: Prediction) -> None:
    if prediction.schema != PREDICTION_SCHEMA:
        raise _bad(event, f"schema {prediction.schema!r} is not {PREDICTION_SCHEMA!r}")
    if prediction.frame.captured_at != event.time:
        raise _bad(event, "time is not the frame's capture time")
    if len(prediction.labels) > _MOST_ANSWERS:
        raise _bad(event, f"{len(prediction.labels)} answers, more than {_MOST_ANSWERS}")
    for answer in prediction.labels:
        if not 0.0 <= answer.probability <= 1.0:
            raise _bad(event, f"probability {answer.probability} of {answer.name!r} is not 0 to 1")


def _bad(event: Event, what: str) -> InvalidError:
    return InvalidError(
        what,
        where=f"event {event.id}",
        fix="Send the shape of docs/reference/messages.md, Prediction event.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """Take it. ``age_s`` is negative for a time within the allowed skew ahead."""

    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFresh:
    """Leave it, count it under ``reason`` and say ``sentence``."""

    age_s: float
    reason: Literal["too old", "from the future"]
    sentence: str


def freshness(
    captured_at: datetime, now: datetime, *, max_age_s: float, max_skew_s: float
) -> Fresh | NotFresh:
    """Compare a capture time with now; both are aware."""
    age = now - captured_at
    age_s = age.total_seconds()
    # Compared as durations: 60.0 s as a float sum may come out a hair above 60.
    if age > timedelta(seconds=max_age_s):
        sentence = f"captured {age_s:.1f} s ago at {rfc3339(captured_at)}, limit {max_age_s:g} s"
        return NotFresh(age_s=age_s, reason="too old", sentence=sentence)
    if -age > timedelta(seconds=max_skew_s):
        sentence = (
            f"captured {-age_s:.1f} s in the future at {rfc3339(captured_at)}, limit "
            f"{max_skew_s:g} s; set the sender's clock"
        )
        return NotFresh(age_s=age_s, reason="from the future", sentence=sentence)
    return Fresh(age_s=age_s)
