"""Events to JSON and back, and everything that is refused on the way in."""

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError
from lineside.streams import Event, decode_event, encode_event
from lineside.streams.event import MAX_EVENT_BYTES
from lineside.testing.events import after, picture_event

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False,
    allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
NAME = st.text(min_size=1, max_size=60)
ZONES = st.sampled_from(
    [UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=9))]
)
EVENTS = st.builds(
    Event,
    id=NAME,
    source=NAME,
    type=NAME,
    time=st.datetimes(datetime(1990, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  the strategy wants naive bounds
    data=st.dictionaries(st.text(), PLAIN, max_size=4),
    subject=st.text(max_size=20),
    dataschema=st.text(max_size=20),
    deviceseq=st.integers(0, 2**53 - 1),
    devicefirst=st.integers(0, 2**53 - 1),
    imagemissing=st.text(max_size=20),
)


def plain(**changes: object) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(encode_event(picture_event({}, at_s=1)))
    document.update(changes)
    return {key: value for key, value in document.items() if value is not ...}


def refusal(document: object) -> str:
    with pytest.raises(InvalidError) as refused:
        decode_event(json.dumps(document).encode(), where="i/test")
    assert refused.value.where.startswith("i/test")
    assert refused.value.fix
    return refused.value.message


@given(EVENTS)
def test_an_event_read_back_is_the_event_written(event: Event) -> None:
    assert decode_event(encode_event(event), where="test") == event


@given(EVENTS)
def test_equal_events_have_equal_bytes_without_empty_attributes(event: Event) -> None:
    raw = encode_event(event)
    assert raw == encode_event(decode_event(raw, where="test"))
    assert all(json.loads(raw)[name] != "" for name in json.loads(raw))


def test_the_wire_form_is_cloudevents_structured_json() -> None:
    event = Event(
        id="evt_1", source="/hall/plant", type="lineside.plant.order.v1", time=after(1.5),
        data={"state": "ORDERED"}, subject="f/i/order",
    )  # fmt: skip
    assert json.loads(encode_event(event)) == {
        "specversion": "1.0",
        "id": "evt_1",
        "source": "/hall/plant",
        "type": "lineside.plant.order.v1",
        "time": "2026-01-01T12:00:01.500Z",
        "subject": "f/i/order",
        "datacontenttype": "application/json",
        "data": {"state": "ORDERED"},
    }


@given(ZONES)
def test_a_time_in_any_zone_is_read_as_utc(zone: timezone) -> None:
    written = after(0).astimezone(zone).isoformat()
    assert decode_event(json.dumps(plain(time=written)).encode(), where="x").time == after(0)


def test_extensions_of_others_are_passed_over() -> None:
    document = plain(tracestate="a=1", sampledrate=3, flag=True)
    assert decode_event(json.dumps(document).encode(), where="x") == picture_event({}, at_s=1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"specversion": "0.3"}, "specversion is '0.3', not '1.0'"),
        ({"specversion": ...}, "specversion is nothing, not '1.0'"),
        ({"id": ""}, "id is '', not text of 1 to 256 characters"),
        ({"id": ...}, "id is nothing, not text"),
        ({"id": 7}, "id is 7, not text"),
        ({"id": "x" * 257}, "not text of 1 to 256 characters"),
        ({"source": ...}, "source is nothing"),
        ({"type": None}, "type is nothing"),
        ({"time": ...}, "time is nothing"),
        ({"time": "yesterday"}, "'yesterday' is not a time with zone"),
        ({"time": "2026-01-01T12:00:00"}, "is not a time with zone"),
        ({"time": "0001-01-01T00:00:00+14:00"}, "is not a time with zone"),
        ({"subject": ""}, "subject is ''"),
        ({"data": ...}, "data is nothing, not a JSON object"),
        ({"data": [1]}, "data is [1], not a JSON object"),
        ({"data_base64": "AAAA"}, "data_base64 is 'AAAA', not there"),
        ({"datacontenttype": "text/xml"}, "datacontenttype is 'text/xml'"),
        ({"deviceseq": -1}, "deviceseq is -1, not a whole number"),
        ({"deviceseq": True}, "deviceseq is True, not a whole number"),
        ({"deviceseq": 2**60}, "not a whole number"),
        ({"devicefirst": "1"}, "devicefirst is '1', not a whole number"),
        ({"trace-parent": "x"}, "a name is 'trace-parent'"),
        ({"extension": {"a": 1}}, "extension is {'a': 1}, not text"),
        ({"ratio": 0.5}, "ratio is 0.5, not text"),
    ],
)
def test_a_broken_rule_is_one_sentence_with_what_was_seen(
    changes: dict[str, object], said: str
) -> None:
    assert said in refusal(plain(**changes))


@pytest.mark.parametrize("document", [[], "event", 3, None, True])
def test_anything_but_an_object_is_refused(document: object) -> None:
    assert "not a JSON object" in refusal(document)


def test_an_event_of_more_than_the_limit_is_refused_before_it_is_parsed() -> None:
    raw = b"{" + b" " * MAX_EVENT_BYTES
    with pytest.raises(InvalidError, match="more than 262144"):
        decode_event(raw, where="x")


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b'{"a":1e999}', b"{} {}"]
)
def test_bytes_that_are_no_json_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidError):
        decode_event(raw, where="x")


@given(st.data())
def test_cut_and_changed_bytes_are_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    raw = bytearray(encode_event(picture_event({"A1": "blue"}, at_s=1)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    for hostile in (bytes(raw), bytes(raw[:cut])):
        with contextlib.suppress(InvalidError):
            decode_event(hostile, where="x")


def test_a_time_without_zone_cannot_be_written() -> None:
    naive = after(0).replace(tzinfo=None)
    with pytest.raises(InvalidError, match="without zone"):
        encode_event(Event(id="1", source="/x", type="t", time=naive, data={}))
