"""The reference's documents, field by field."""

import base64
from datetime import datetime

import pytest

from lineside.core.factory import SLOTS
from lineside.streams import Event
from lineside.testing.bare import PACKAGE
from lineside.testing.events import (
    after,
    factory_event,
    picture_event,
    plant_event,
    small_plant,
    stock_event,
)
from lineside.twin import (
    LineState,
    camera_document,
    documents,
    initial,
    order_event,
    place,
    reference_document,
    replay,
)
from lineside.twin.documents import stock_document
from lineside.vision import PictureState

PLANT = small_plant()
EMPTY = dict.fromkeys(SLOTS, "empty")


def seen(*events: Event) -> LineState:
    return replay(events, plant=PLANT)


def test_there_is_no_stock_document_before_the_first_picture() -> None:
    assert documents(initial(PLANT), plant=PLANT) == {
        "sagemaker_stock_inference": [],
        "digital_twin_orders": [],
    }
    moved = picture_event({}, at_s=1, state=PictureState.CAMERA_MOVED)
    assert stock_document(seen(moved), plant=PLANT) is None


def test_the_first_picture_makes_the_one_stock_document() -> None:
    event = picture_event({**EMPTY, "A1": "blue", "B2": "?white"}, at_s=2)
    (stock,) = documents(seen(event), plant=PLANT)["sagemaker_stock_inference"]
    assert stock["_partition"] == "DTPartition"
    assert stock["ts"] == after(2)
    assert stock["is_present"] == {"blue": True, "red": False, "white": False}
    assert list(stock["is_present"]) == ["blue", "red", "white"]
    assert stock["state"] == {"blue": "present", "red": "absent", "white": "unsure"}
    assert stock["probability"] == {"blue": 0.97, "red": 0.5, "white": 0.5}
    assert stock["evidence"]["blue"] == {
        "ts": after(2),
        "event": event.id,
        "frame": event.data["frame"]["id"],
        "package": PACKAGE,
    }


def test_the_stock_document_keeps_its_id_and_the_time_of_the_picture() -> None:
    first = stock_document(seen(picture_event(EMPTY, at_s=2)), plant=PLANT)
    moved = picture_event({}, at_s=9, state=PictureState.CAMERA_MOVED)
    second = stock_document(seen(picture_event(EMPTY, at_s=2), moved), plant=PLANT)
    assert first
    assert second
    assert first["_id"] == second["_id"]
    assert len(bytes.fromhex(first["_id"])) == 12
    assert second["ts"] == after(2)
    assert second["picture"]["state"] == "camera moved"
    assert second["picture"]["ts"] == after(9)


def ordered() -> LineState:
    state = seen(picture_event({**EMPTY, "A2": "red"}, at_s=1))
    event = place(state, colour="red", by="a", now=after(2), order_id="ord_1", plant=PLANT)
    return replay([event], plant=PLANT, state=state)


def test_an_order_document_has_the_references_shape_and_its_constants() -> None:
    (order,) = documents(ordered(), plant=PLANT)["digital_twin_orders"]
    reference = {
        "_partition": "DTPartition", "color": "red", "firstName": "H", "lastName": "A",
        "orderStatus": "Order Submitted", "ship_from": "North York", "ship_to": "Barcelona",
        "userId": "DT", "timeStamp": after(2),
    }  # fmt: skip
    assert reference.items() <= order.items()
    assert isinstance(order["timeStamp"], datetime)
    assert len(bytes.fromhex(order["_id"])) == 12
    assert order["order"] == "ord_1"


def test_the_order_status_is_driven_on() -> None:
    state = replay(
        [order_event("ord_1", "sending", at=after(3), site="hall")], plant=PLANT, state=ordered()
    )
    told, ids = [], set()
    for number, factory in enumerate(["ORDERED", "IN_PROCESS", "SHIPPED"]):
        event = factory_event(factory, "red", at_s=4 + number)
        state = replay([event], plant=PLANT, state=state)
        (order,) = documents(state, plant=PLANT)["digital_twin_orders"]
        told.append(order["orderStatus"])
        ids.add(order["_id"])
    assert told == ["ORDERED", "IN_PROCESS", "SHIPPED"]
    assert len(ids) == 1


def test_a_plant_message_is_kept_as_sent_with_ts_as_a_date() -> None:
    event = plant_event("sensor", topic="i/ldr", at_s=1, ldr=2355, br="84.3")
    collection, document = reference_document(event, collection="sensors")
    assert collection == "sensors"
    assert {key: document[key] for key in document if key != "_id"} == {
        "_partition": "DTPartition",
        "ts": after(1),
        "topic": "i/ldr",
        "ldr": 2355,
        "br": "84.3",
    }


def test_the_same_message_twice_is_the_same_document() -> None:
    event = stock_event({"A1": "blue"}, at_s=1)
    one, two = (reference_document(event, collection="mqtt")[1] for _ in range(2))
    assert one == two
    assert one["stockItems"][0]["workpiece"]["type"] == "BLUE"
    other = reference_document(stock_event({"A1": "red"}, at_s=1), collection="mqtt")[1]
    assert other["_id"] != one["_id"]


@pytest.mark.parametrize(
    ("encoded", "head"),
    [
        (b"\xff\xd8\xff\xe0 jpeg \xff\xd9", "data:image/jpeg;base64,"),
        (b"\x89PNG\r\n\x1a\n png", "data:image/png;base64,"),
    ],
)
def test_a_picture_is_base64_text_as_the_reference_has_it(encoded: bytes, head: str) -> None:
    event = plant_event("frame", topic="i/cam", at_s=1, frame="frm_1", digest="sha256:00")
    collection, document = camera_document(event, encoded)
    assert collection == "factory_camera"
    assert document["topic"] == "i/cam"
    assert document["ts"] == after(1)
    assert document["data"].startswith(head)
    assert base64.b64decode(document["data"].rpartition(";base64,")[2]) == encoded


def test_a_picture_may_be_kept_as_bytes_or_by_its_digest_alone() -> None:
    event = plant_event("frame", topic="i/cam", at_s=1, frame="frm_1", digest="sha256:00")
    assert camera_document(event, b"\xff\xd8", picture="binary")[1]["data"] == b"\xff\xd8"
    named = camera_document(event, b"\xff\xd8", picture="digest")[1]
    assert "data" not in named
    assert named["digest"] == "sha256:00"
