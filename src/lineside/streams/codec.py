"""Events to and from the JSON of CloudEvents 1.0.2 (structured mode).

Rules of ``decode_event``, which reads what anybody on the bus may have written:

1. At most ``MAX_EVENT_BYTES``; one JSON object; ``specversion`` is ``"1.0"``.
2. ``id``, ``source``, ``type`` and ``time`` are there and not empty; ``time`` names its zone.
3. ``data`` is a JSON object; ``data_base64`` and other content types are refused.
4. Any other attribute has a name of lower-case letters and digits and a plain value (section 3.1);
   such extensions are passed over, because nothing here knows them.
5. What is wrong is one sentence with the attribute, the value seen and the mend.

``encode_event`` is canonical (equal events, equal bytes) and leaves optional attributes out where
they say nothing, since CloudEvents forbids empty ones. Times keep microseconds where they have
any, so that an event read back is the event written.
"""

from datetime import UTC, datetime
from typing import Any

from lineside.core import InvalidError, decode_json, encode, parse_rfc3339
from lineside.streams.event import Event

MAX_EVENT_BYTES = 256 * 1024

_MOST_ID = 256
_MOST_NAME = 1024
_MOST_COUNT = 2**53 - 1
_LONGEST_SHOWN = 60
_EXTENSION = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_KNOWN = frozenset(
    ("id", "source", "type", "time", "data", "subject", "specversion", "datacontenttype",
     "dataschema", "deviceseq", "devicefirst", "recordedtime")
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
    }
    if event.subject:
        document["subject"] = event.subject
    if event.dataschema:
        document["dataschema"] = event.dataschema
    if event.deviceseq:
        document["deviceseq"] = event.deviceseq
    if event.devicefirst:
        document["devicefirst"] = event.devicefirst
    if event.recordedtime is not None:
        document["recordedtime"] = written_time(event.recordedtime)
    return encode(document)


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
        raise attributes.fault("the event", seen=document, expected="a JSON object")
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
        recordedtime=attributes.optional_time("recordedtime"),
    )


class _Attributes:
    """One JSON object, read attribute by attribute."""

    def __init__(self, document: dict[str, Any], *, where: str) -> None:
        self._document = document
        self._where = where

    def fault(self, name: str, *, seen: object, expected: str) -> InvalidError:
        shown = "nothing" if seen is None else repr(seen)
        shown = shown if len(shown) <= _LONGEST_SHOWN else shown[: _LONGEST_SHOWN - 1] + "…"
        return InvalidError(
            f"{name} is {shown}, not {expected}",
            where=self._where,
            fix="Send CloudEvents 1.0 JSON as docs/reference/messages.md shows it.",
        )

    def check_envelope(self) -> None:
        version = self._document.get("specversion")
        if version != "1.0":
            raise self.fault("specversion", seen=version, expected="'1.0'")
        content = self._document.get("datacontenttype", _CONTENT[0])
        if content not in _CONTENT:
            raise self.fault("datacontenttype", seen=content, expected=repr(_CONTENT[0]))
        for name in self._document.keys() - _KNOWN:
            self.check_extension(name)

    def check_extension(self, name: str) -> None:
        value = self._document[name]
        if name == "data_base64":
            raise self.fault(name, seen=value, expected="there (put JSON into data)")
        if not name or set(name) - _EXTENSION:
            raise self.fault("a name", seen=name, expected="of lower-case letters and digits")
        if not isinstance(value, str | int):
            raise self.fault(name, seen=value, expected="text, a whole number, true or false")

    def text(self, name: str, *, most: int) -> str:
        value = self._document.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= most:
            raise self.fault(name, seen=value, expected=f"text of 1 to {most} characters")
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
            raise self.fault(name, seen=value, expected=f"a whole number from 0 to {_MOST_COUNT}")
        return value

    def data(self) -> dict[str, Any]:
        value = self._document.get("data")
        if not isinstance(value, dict):
            raise self.fault("data", seen=value, expected="a JSON object")
        return value


def written_time(moment: datetime) -> str:
    """RFC 3339 UTC with milliseconds, or microseconds where there are any."""
    if moment.tzinfo is None:
        raise InvalidError("a time without zone cannot be written", fix="Attach a UTC offset.")
    timespec = "microseconds" if moment.microsecond % 1000 else "milliseconds"
    return moment.astimezone(UTC).isoformat(timespec=timespec)[:-6] + "Z"
