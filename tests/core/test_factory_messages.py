import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError
from lineside.core.factory import (
    SLOTS,
    AlertMessage,
    BrightnessMessage,
    BroadcastMessage,
    CameraMessage,
    ClimateMessage,
    Colour,
    OrderCommand,
    OrderMessage,
    OrderState,
    PanTiltMessage,
    PieceState,
    StationMessage,
    StockMessage,
    TagMessage,
    order_command,
    read_message,
    write_message,
)

TS = "2023-05-15T12:41:07.318Z"
PICTURE = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(256)) * 210 + b"\xff\xd9"


def camera(data: object) -> CameraMessage:
    return read_message(CameraMessage, json.dumps({"ts": TS, "data": data}).encode(), where="i/cam")


def test_a_picture_of_54_kilobytes_comes_out_whole() -> None:
    text = base64.b64encode(PICTURE).decode()
    assert text.startswith("/9j/")
    message = camera("data:image/jpeg;base64," + text)
    assert message.picture() == PICTURE
    assert len(write_message(message)) > 71_000
    assert message.at == datetime(2023, 5, 15, 12, 41, 7, 318_000, tzinfo=UTC)


def test_the_bytes_are_what_follows_the_last_mark() -> None:
    data = "data:image/jpeg;base64,AAAA;base64," + base64.b64encode(b"x").decode()
    assert camera(data).picture() == b"x"


@given(st.binary(max_size=300))
def test_any_picture_survives_its_message(picture: bytes) -> None:
    message = camera("data:image/jpeg;base64," + base64.b64encode(picture).decode())
    assert message.picture() == picture


@pytest.mark.parametrize(
    "data",
    ["", "/9j/", "data:text/plain;base64,AAAA", ";base64,AAAA", "data:image/jpeg;base64,?",
     "data:image/jpeg;base64,AAA", "data:image/jpeg;base64,A A=", "data:image/jpeg;base64,é"],
)  # fmt: skip
def test_what_holds_no_picture_is_refused(data: str) -> None:
    with pytest.raises(InvalidError) as caught:
        camera(data).picture()
    assert caught.value.where == "data"


def test_the_references_examples_read_as_they_stand() -> None:
    climate = read_message(
        ClimateMessage,
        b'{"ts":"2023-05-15T12:41:08.002Z","t":25.1,"rt":27.93,"h":40.0,"rh":38.01,'
        b'"p":1000.2,"iaq":200,"aq":3,"gr":161000}',
        where="i/bme680",
    )
    assert (climate.t, climate.iaq, climate.gr) == (25.1, 200, 161000)
    light = read_message(
        BrightnessMessage, b'{"ts":"2023-05-15T12:41:09.551Z","ldr":2355,"br":"84.3"}', where=""
    )
    assert light.brightness == 84.3
    order = read_message(
        OrderMessage, b'{"ts":"2023-05-15T12:41:10.000Z","state":"ORDERED","type":"RED"}', where=""
    )
    assert (order.state, order.type) == (OrderState.ORDERED, Colour.RED)
    stock = read_message(
        StockMessage,
        b'{"ts":"2023-05-15T12:41:11.120Z","stockItems":[{"location":"A1","workpiece":'
        b'{"id":"04a1b2c3d4e5f6","type":"BLUE","state":"RAW"}},{"location":"A2","workpiece":null}]}',
        where="f/i/stock",
    )
    first, second = stock.stock_items
    assert first.workpiece is not None
    assert (first.location, first.workpiece.type, first.workpiece.state) == (
        "A1", Colour.BLUE, PieceState.RAW,
    )  # fmt: skip
    assert second.workpiece is None
    assert SLOTS[0] == first.location


@pytest.mark.parametrize("value", ['"84.3"', "84.3", '" 84.3"'])
def test_brightness_is_read_from_text_and_from_a_number(value: str) -> None:
    raw = f'{{"ts":"{TS}","ldr":2355,"br":{value}}}'.encode()
    assert read_message(BrightnessMessage, raw, where="").brightness == 84.3


@pytest.mark.parametrize("value", ['"dark"', '""', '"nan"', '"inf"'])
def test_brightness_that_is_no_number_is_refused(value: str) -> None:
    raw = f'{{"ts":"{TS}","br":{value}}}'.encode()
    with pytest.raises(InvalidError) as caught:
        _ = read_message(BrightnessMessage, raw, where="").brightness
    assert caught.value.where == "br"


def test_brightness_that_was_not_sent_is_none() -> None:
    assert read_message(BrightnessMessage, {"ts": TS}, where="").brightness is None


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        (StationMessage, {"station": "vgr", "code": 2, "description": "", "active": 1,
                          "target": "hbw"}),
        (StationMessage, {"station": "dso", "code": 1, "description": "", "active": 0}),
        (AlertMessage, {"id": "cam", "code": 100, "data": "data:image/jpeg;base64,/9j/"}),
        (AlertMessage, {"id": "bme680/t", "code": 200, "data": 3.5}),
        (TagMessage, {"workpiece": {"id": "04a1", "type": "RED", "state": "PROCESSED"},
                      "history": [{"ts": TS, "code": 100}]}),
        (PanTiltMessage, {"pan": 0.5, "tilt": -0.5}),
        (BroadcastMessage, {"hardwareId": "AA", "hardwareModel": "TXT", "softwareName": "s",
                            "softwareVersion": "1", "message": "init"}),
        (OrderMessage, {"state": "WAITING_FOR_ORDER", "type": "NONE"}),
        (OrderCommand, {"type": "WHITE"}),
        (StockMessage, {"stockItems": [{"location": "A1", "workpiece": None}]}),
        (BrightnessMessage, {"ldr": 2355.0, "br": "84.3"}),
    ],
)  # fmt: skip
def test_every_shape_reads_and_is_written_as_it_was(
    kind: type[OrderCommand], document: dict[str, object]
) -> None:
    sent = {"ts": TS, **document}
    message = read_message(kind, sent, where="")
    assert json.loads(write_message(message)) == sent
    assert read_message(kind, write_message(message), where="") == message


def test_fields_the_firmware_may_add_are_passed_over() -> None:
    raw = {"ts": TS, "type": "RED", "topic": "f/o/order", "fps": 3}
    assert read_message(OrderCommand, raw, where="").type is Colour.RED


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"null", b'{"type":"RED"}', b'{"ts":3,"type":"RED"}', b"\xff",
     b'{"ts":"2023-05-15","type":"RED"}', b'{"ts":"2023-05-15T12:41:07.318Z","type":"GREEN"}',
     b'{"ts":"2023-05-15T12:41:07.318Z"}', b'{"ts":"2023-05-15T12:41:07.318Z","type":"RED"'],
)  # fmt: skip
def test_a_message_that_is_none_is_refused_with_its_topic(raw: bytes) -> None:
    with pytest.raises(InvalidError) as caught:
        read_message(OrderCommand, raw, where="f/o/order")
    assert caught.value.where.startswith("f/o/order")


@pytest.mark.parametrize("kind", [OrderMessage, StockMessage, BrightnessMessage])
@pytest.mark.parametrize(
    "time", [{}, {"ts": None}, {"ts": ""}, {"ts": "yesterday"}, {"ts": 1684154467318},
             {"ts": "2023-05-15T12:41:07.318"}],
)  # fmt: skip
def test_a_message_without_a_readable_time_is_refused(
    kind: type[OrderMessage], time: dict[str, object]
) -> None:
    document = {"state": "ORDERED", "type": "RED", "stockItems": [], "br": "84.3", **time}
    with pytest.raises(InvalidError):
        read_message(kind, document, where="f/i/order")


@given(st.binary(max_size=80))
def test_any_bytes_are_a_message_or_refused(raw: bytes) -> None:
    with pytest.raises(InvalidError):
        read_message(StockMessage, raw, where="f/i/stock")


@pytest.mark.parametrize("colour", ["blue", "red", "white"])
def test_an_order_is_written_in_upper_case(colour: str) -> None:
    at = datetime(2023, 6, 21, 13, 42, 11, tzinfo=UTC)
    assert json.loads(order_command(colour, at=at)) == {
        "ts": "2023-06-21T13:42:11.000Z", "type": colour.upper(),
    }  # fmt: skip


@pytest.mark.parametrize("colour", ["green", "RED", "none", ""])
def test_what_is_no_colour_cannot_be_ordered(colour: str) -> None:
    with pytest.raises(InvalidError, match="Known: blue, red, white"):
        order_command(colour, at=datetime(2023, 6, 21, tzinfo=UTC))
