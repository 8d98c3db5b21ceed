"""Which topic means what: the router's table, and what is refused with which reason."""

import base64
import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Plant, RouteKind, encode
from lineside.core.topics import topic_matches
from lineside.hub.eventlog.topics import (
    DeadLetterError,
    Reason,
    Router,
    _read_quickly,
    check_not_future,
    picture_of,
    read_picture,
    read_plant,
    split_document,
)

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
TS = "2026-01-01T12:00:00.000Z"


def reason_of(router: Router, topic: str, *, payload: bytes) -> Reason:
    with pytest.raises(DeadLetterError) as caught:
        read(router, topic, payload=payload)
    return caught.value.reason


def read(router: Router, topic: str, *, payload: bytes) -> object:
    route = router.find(topic)
    if route.kind is RouteKind.FRAME:
        return read_picture(route, payload, topic=topic)
    return read_plant(route, payload, topic=topic, site="hall")


@pytest.fixture
def router(plant: Plant) -> Router:
    return Router(plant)


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("i/cam", RouteKind.FRAME),
        ("i/ldr", RouteKind.SENSOR),
        ("i/bme680", RouteKind.SENSOR),
        ("f/i/order", RouteKind.ORDER),
        ("f/i/stock", RouteKind.STOCK),
        ("f/i/state/hbw", RouteKind.STATION),
        ("i/alert", RouteKind.ALERT),
        ("lineside/hall/warehouse/rack/frame", RouteKind.FRAME),
        ("lineside/hall/warehouse/gate/frame", RouteKind.FRAME),
    ],
)
def test_a_routed_topic_is_what_the_plant_file_says(
    router: Router, topic: str, kind: RouteKind
) -> None:
    assert router.find(topic).kind is kind


def test_an_unknown_and_a_missing_topic_are_told_apart(router: Router) -> None:
    """Reference defect 9."""
    assert reason_of(router, "i/unknown", payload=b"{}") is Reason.UNKNOWN_TOPIC
    assert reason_of(router, "", payload=b"{}") is Reason.MISSING_TOPIC


@pytest.mark.parametrize("topic", ["i/cam", "lineside/hall/warehouse/rack/frame"])
def test_the_largest_picture_of_a_camera_passes_and_a_larger_one_does_not(
    plant: Plant, topic: str
) -> None:
    router = Router(plant)
    most = plant.find_camera("rack").max_frame_bytes
    head = b'{"ts":"%s","data":"data:image/jpeg;base64,' % TS.encode()
    payload = head + base64.b64encode(bytes(most)) + b'"}'
    message = read_picture(router.find(topic), payload, topic=topic)
    assert len(message.encoded) == most
    payload = head + base64.b64encode(bytes(most + 3200)) + b'"}'
    assert reason_of(router, topic, payload=payload) is Reason.TOO_LARGE


@pytest.mark.parametrize("ts", ["", "yesterday", "2026-01-01T12:00:00", 17, None])
def test_a_missing_or_unreadable_time_is_refused(router: Router, ts: object) -> None:
    """Reference defect 8."""
    payload = encode({"ts": ts, "t": 21.0})
    assert reason_of(router, "i/bme680", payload=payload) is Reason.BAD_TIME
    assert reason_of(router, "i/bme680", payload=b'{"t":21}') is Reason.BAD_TIME


HALF_PAIRS = [b'{"ts":"\\ud800"}', b'{"\\udc00x":1}', b'{"ts":"\xed\xa0\x80"}']


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b"17", b"\xff\xfe", b'{"ts":"x"', *HALF_PAIRS]
)
def test_what_is_no_json_object_is_refused(router: Router, payload: bytes) -> None:
    """Reference defect 7: the body is parsed inside the handler of failures."""
    assert reason_of(router, "f/i/order", payload=payload) is Reason.NOT_JSON


def test_fields_of_another_type_are_refused(router: Router) -> None:
    payload = encode({"ts": TS, "state": "SOLD", "type": "RED"})
    assert reason_of(router, "f/i/order", payload=payload) is Reason.FIELDS
    payload = encode({"ts": TS, "br": "bright"})
    assert reason_of(router, "i/ldr", payload=payload) is Reason.FIELDS


@pytest.mark.parametrize("br", ["84.3", 84.3])
def test_brightness_is_taken_as_text_and_as_number(router: Router, br: object) -> None:
    payload = encode({"ts": TS, "ldr": 2355, "br": br})
    event = read_plant(router.find("i/ldr"), payload, topic="i/ldr", site="hall")
    assert event.data["br"] == br
    assert event.type == "lineside.plant.sensor.v1"
    assert event.source == "/hall/plant"
    assert event.subject == "i/ldr"


def test_a_payload_above_the_route_limit_is_refused(router: Router) -> None:
    payload = encode({"ts": TS, "data": "x" * 1_100_000})
    assert reason_of(router, "f/i/order", payload=payload) is Reason.TOO_LARGE


def test_a_message_that_would_not_fit_the_log_is_refused(router: Router) -> None:
    payload = encode({"ts": TS, "state": "ORDERED", "note": "x" * 300_000})
    assert reason_of(router, "f/i/order", payload=payload) is Reason.TOO_LARGE


def test_the_same_message_twice_has_one_id_and_another_content_another(router: Router) -> None:
    route = router.find("f/i/order")
    one = encode({"ts": TS, "state": "ORDERED", "type": "RED"})
    same = encode({"type": "RED", "state": "ORDERED", "ts": TS})
    other = encode({"ts": TS, "state": "SHIPPED", "type": "RED"})
    ids = [read_plant(route, raw, topic="f/i/order", site="hall").id for raw in (one, same, other)]
    assert ids[0] == ids[1] != ids[2]


def test_over_http_the_topic_stands_in_the_message() -> None:
    topic, document = split_document(encode({"topic": "i/ldr", "ts": TS, "ldr": 1}))
    assert topic == "i/ldr"
    assert "topic" not in document
    assert split_document(b'{"topic":17}')[0] == ""


def test_a_picture_is_what_follows_the_last_base64_mark(router: Router) -> None:
    text = "data:image/jpeg;base64," + base64.b64encode(b"\xff\xd8\xff picture").decode()
    payload = encode({"ts": TS, "data": text, "sequence": 7, "part": "p-1"})
    message = read_picture(router.find("i/cam"), payload, topic="i/cam")
    assert message.encoded == b"\xff\xd8\xff picture"
    assert (message.camera, message.sequence, message.part) == ("rack", 7, "p-1")
    assert message.captured_at == NOW


@pytest.mark.parametrize("data", ["", "/9j/", "data:image/jpeg;base64,!!", "data:text/plain,a"])
def test_a_camera_message_without_picture_is_refused(router: Router, data: str) -> None:
    payload = encode({"ts": TS, "data": data})
    assert reason_of(router, "i/cam", payload=payload) is Reason.PICTURE


@pytest.mark.parametrize("more", [{"sequence": -1}, {"sequence": "7"}, {"part": 7}])
def test_a_camera_message_with_a_wrong_count_or_part_is_refused(
    router: Router, more: dict[str, object]
) -> None:
    data = "data:image/jpeg;base64,/9j/"
    payload = encode({"ts": TS, "data": data, **more})
    assert reason_of(router, "i/cam", payload=payload) is Reason.FIELDS


def test_bare_picture_bytes_are_taken_without_a_time(router: Router) -> None:
    route = router.find("lineside/hall/warehouse/gate/frame")
    message = read_picture(route, b"\xff\xd8\xff...", topic=route.topic)
    assert message.captured_at is None
    assert message.camera == "gate"


def test_exactly_the_allowed_skew_is_taken_and_a_hair_more_is_not() -> None:
    check_not_future(NOW + timedelta(seconds=5), now=NOW, where="x")
    with pytest.raises(DeadLetterError, match="from the future"):
        check_not_future(NOW + timedelta(seconds=5.001), now=NOW, where="x")


def test_with_strays_the_branches_of_the_routes_are_listened_to(router: Router) -> None:
    patterns = router.patterns(unrouted=True)
    assert {"i/#", "f/i/#"} <= set(patterns)
    assert not any(topic_matches(pattern, "f/o/order") for pattern in patterns)
    exact = router.patterns(unrouted=False)
    assert "f/i/state/+" in exact
    assert not any("#" in pattern for pattern in exact)


def test_every_routed_topic_is_listened_to_either_way(router: Router) -> None:
    topics = ["i/cam", "i/ldr", "f/i/stock", "f/i/state/hbw", "lineside/hall/warehouse/rack/frame"]
    for strays in (True, False):
        patterns = router.patterns(unrouted=strays)
        assert all(any(topic_matches(p, topic) for p in patterns) for topic in topics)


@given(
    picture=st.binary(max_size=300),
    head=st.sampled_from(["data:image/jpeg", "data:image/png;x=1", "data:text/plain", ""]),
    tail=st.sampled_from(["", "=", "é", " ", "\n", '"']),
    more=st.dictionaries(
        st.sampled_from(["sequence", "part", "other"]),
        st.one_of(st.integers(-2, 2**60), st.text(max_size=5), st.none()),
    ),
)
def test_the_quick_reader_of_pictures_says_what_the_plain_one_says(
    picture: bytes, head: str, tail: str, more: dict[str, object], plant: Plant
) -> None:
    route = Router(plant).find("i/cam")
    text = f"{head};base64,{base64.b64encode(picture).decode()}{tail}"
    document = {"ts": TS, "data": text, **more}
    payload = encode(document)
    quick = _read_quickly(route, payload, topic="i/cam")
    try:
        plain = picture_of(route, document, topic="i/cam")
    except DeadLetterError:
        assert quick is None
        return
    if quick is not None:
        for field in ("encoded", "captured_at", "sequence", "part", "camera"):
            assert getattr(quick, field) == getattr(plain, field)


def test_an_escaped_slash_in_base64_is_a_slash(router: Router) -> None:
    escaped = rb'{"ts":"2026-01-01T12:00:00.000Z","data":"data:image\/jpeg;base64,\/9j\/"}'
    message = read_picture(router.find("i/cam"), escaped, topic="i/cam")
    assert message.encoded == b"\xff\xd8\xff"


@given(payload=st.binary(max_size=200), topic=st.sampled_from(["i/cam", "i/ldr", "f/i/stock"]))
def test_no_payload_makes_anything_but_a_reason(payload: bytes, topic: str, plant: Plant) -> None:
    with contextlib.suppress(DeadLetterError):
        read(Router(plant), topic, payload=payload)
