"""The MongoDB sink against mongomock, and against a server when one is named."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import mongomock
import pymongo
import pymongo.errors
import pytest
from bson import Decimal128, ObjectId
from bson.errors import InvalidDocument

from lineside.core import InvalidError, RefusedError, UnavailableError, digest_of
from lineside.links.mongo import MongoSink

_URL = os.environ.get("LINESIDE_TEST_MONGO_URL", "")  # noqa: TID251  the tests' own switch
AT = datetime(2023, 5, 15, 12, 41, 7, 318000, tzinfo=UTC)
ID = "5f" * 12
Server = Any  # mongomock carries no types, and stands where pymongo does


class SinkContract:
    """The same for every server; fixture ``client``: an empty one."""

    @pytest.fixture
    def sink(self, client: Server) -> MongoSink:
        return MongoSink("mongodb://test", database="lineside_test", connect=lambda _: client)

    def rows(self, client: Server, collection: str) -> list[dict[str, Any]]:
        return list(client["lineside_test"][collection].find().sort("_id", 1))

    def test_a_message_stands_with_partition_and_a_real_date(
        self,
        sink: MongoSink,
        client: Server,
    ) -> None:
        document = {"_id": ID, "ts": "2023-05-15T12:41:07.318Z", "topic": "f/i/order"}
        sink.write("mqtt", {**document, "state": "ORDERED", "type": "RED"})
        (row,) = self.rows(client, "mqtt")
        assert row["ts"] == AT
        assert row["_partition"] == "DTPartition"
        assert row["_id"] == ObjectId(ID)
        assert (row["topic"], row["state"], row["type"]) == ("f/i/order", "ORDERED", "RED")

    def test_writing_twice_keeps_one(self, sink: MongoSink, client: Server) -> None:
        for state in ("ORDERED", "SHIPPED"):
            sink.write("mqtt", {"_id": ID, "ts": AT, "state": state})
        (row,) = self.rows(client, "mqtt")
        assert row["state"] == "SHIPPED"

    def test_sensor_numbers_are_doubles_and_brightness_is_text(
        self,
        sink: MongoSink,
        client: Server,
    ) -> None:
        sink.write("sensors", {"_id": ID, "ts": AT, "iaq": 200, "t": 25.1})
        sink.write("sensors", {"_id": "60" * 12, "ts": AT, "ldr": 2355, "br": 84.3})
        climate, light = self.rows(client, "sensors")
        assert isinstance(climate["iaq"], float)
        assert light["br"] == "84.3"
        assert isinstance(light["ldr"], float)

    @pytest.mark.parametrize("data", ["data:image/jpeg;base64,/9j/4AAQ", b"\xff\xd8\xff\xe0"])
    def test_a_picture_stands_as_text_or_bytes(
        self,
        sink: MongoSink,
        client: Server,
        data: object,
    ) -> None:
        sink.write("factory_camera", {"_id": ID, "ts": AT, "topic": "i/cam", "data": data})
        (row,) = self.rows(client, "factory_camera")
        assert row["data"] == data

    def test_the_stock_document_is_made_when_absent_and_then_updated(
        self,
        sink: MongoSink,
        client: Server,
    ) -> None:
        stock = {"blue": True, "red": False, "white": True}
        sink.write("sagemaker_stock_inference", {"_id": ID, "ts": AT, "is_present": stock})
        later = AT + timedelta(seconds=1)
        sink.write("sagemaker_stock_inference", {"_id": ID, "ts": later, "is_present": {}})
        (row,) = self.rows(client, "sagemaker_stock_inference")
        assert row["ts"] == later
        assert row["_partition"] == "DTPartition"

    def test_the_stock_document_of_another_program_is_updated_in_place(
        self,
        sink: MongoSink,
        client: Server,
    ) -> None:
        theirs = ObjectId("40" * 12)
        client["lineside_test"]["sagemaker_stock_inference"].insert_one(
            {"_id": theirs, "ts": AT, "is_present": {"blue": False}}
        )
        later = AT + timedelta(seconds=1)
        sink.write("sagemaker_stock_inference", {"_id": ID, "ts": later, "is_present": {"blue": 1}})
        (row,) = self.rows(client, "sagemaker_stock_inference")
        assert (row["_id"], row["ts"]) == (theirs, later)

    def test_an_older_stock_document_changes_nothing(
        self,
        sink: MongoSink,
        client: Server,
    ) -> None:
        sink.write("sagemaker_stock_inference", {"_id": ID, "ts": AT, "is_present": {"blue": True}})
        before = AT - timedelta(seconds=1)
        sink.write("sagemaker_stock_inference", {"_id": ID, "ts": before, "is_present": {}})
        (row,) = self.rows(client, "sagemaker_stock_inference")
        assert row["is_present"] == {"blue": True}

    def order(self, at: datetime, **more: object) -> dict[str, Any]:
        made = ObjectId.from_datetime(at)
        return {"_id": made, "color": "red", "orderStatus": "Order Submitted", **more}

    def test_orders_of_other_twins_come_once_and_oldest_first(
        self,
        sink: MongoSink,
        client: Server,
    ) -> None:
        orders = client["lineside_test"]["digital_twin_orders"]
        orders.insert_many([self.order(AT + timedelta(seconds=n)) for n in (2, 1)])
        orders.insert_one(self.order(AT + timedelta(seconds=3), order="ord_ours"))
        shipped = {"orderStatus": "SHIPPED"}
        orders.insert_one({**self.order(AT + timedelta(seconds=4)), **shipped})
        start = str(ObjectId.from_datetime(AT))
        found = sink.orders_after(start)
        wanted = [str(ObjectId.from_datetime(AT + timedelta(seconds=n))) for n in (1, 2)]
        assert [row["_id"] for row in found] == wanted
        assert sink.orders_after(wanted[-1]) == []

    def test_an_order_from_a_machine_whose_clock_is_late_is_still_found(
        self,
        sink: MongoSink,
        client: Server,
    ) -> None:
        orders = client["lineside_test"]["digital_twin_orders"]
        late = str(ObjectId.from_datetime(AT))
        orders.insert_one(self.order(AT - timedelta(minutes=5)))
        assert len(sink.orders_after(late)) == 1

    def test_orders_of_the_past_are_not_placed_when_reading_begins(
        self,
        sink: MongoSink,
        client: Server,
    ) -> None:
        orders = client["lineside_test"]["digital_twin_orders"]
        orders.insert_one(self.order(AT))
        assert sink.orders_after("") == []
        orders.insert_one({"color": "red", "orderStatus": "Order Submitted"})
        assert len(sink.orders_after("")) == 1

    @pytest.mark.parametrize(
        ("told", "held"),
        [
            (
                {"$set": 1, "a": {"$gt": [{"$in": 2}]}},
                {"\uff04set": 1, "a": {"\uff04gt": [{"\uff04in": 2}]}},
            ),
            ({"a\0b": 1, "text": "a\0b"}, {"a\u2400b": 1, "text": "a\0b"}),
            ({"n": 2**63 - 1, "least": -(2**63)}, {"n": 2**63 - 1, "least": -(2**63)}),
            ({"n": 2**63}, {"n": Decimal128("9223372036854775808")}),
            ({"n": [-(10**33)]}, {"n": [Decimal128("-1" + "0" * 33)]}),
            ({"n": 10**34}, {"n": "1" + "0" * 34}),
            ({"": 1, "a.b": {"c.d": 2}}, {"": 1, "a.b": {"c.d": 2}}),
        ],
    )
    def test_what_bson_cannot_hold_is_written_as_the_nearest_that_it_can(
        self, sink: MongoSink, client: Server, told: dict[str, Any], held: dict[str, Any]
    ) -> None:
        sink.write("mqtt", {"_id": ID, "ts": AT, **told})
        (row,) = self.rows(client, "mqtt")
        assert {name: row[name] for name in held} == held

    def test_a_number_without_end_stands_in_sensors_as_its_digits(
        self, sink: MongoSink, client: Server
    ) -> None:
        sink.write("sensors", {"_id": ID, "ts": AT, "t": 10**400, "br": 10**400})
        (row,) = self.rows(client, "sensors")
        assert row["t"] == row["br"] == "1" + "0" * 400

    def test_two_keys_that_become_one_are_refused(self, sink: MongoSink) -> None:
        with pytest.raises(InvalidError, match="two keys become"):
            sink.write("mqtt", {"_id": ID, "ts": AT, "$a": 1, "\uff04a": 2})

    def test_fields_of_a_document_of_others_are_set_and_nothing_is_made(
        self, sink: MongoSink, client: Server
    ) -> None:
        orders = client["lineside_test"]["digital_twin_orders"]
        orders.insert_one({"_id": ObjectId(ID), "color": "red", "theirs": 1})
        for found in (ID, "60" * 12):
            sink.amend("digital_twin_orders", {"_id": found, "orderStatus": "SHIPPED"})
        (row,) = self.rows(client, "digital_twin_orders")
        assert (row["orderStatus"], row["color"], row["theirs"]) == ("SHIPPED", "red", 1)

    @pytest.mark.parametrize("bad", [None, "short", "zz" * 12])
    def test_a_document_without_object_id_is_refused(self, sink: MongoSink, bad: object) -> None:
        with pytest.raises(InvalidError, match="object id"):
            sink.write("mqtt", {"_id": bad, "ts": AT})

    def test_a_time_that_is_none_is_refused(self, sink: MongoSink) -> None:
        with pytest.raises(InvalidError, match=r"mqtt\.ts"):
            sink.write("mqtt", {"_id": ID, "ts": "yesterday"})


class TestMongomock(SinkContract):
    @pytest.fixture
    def client(self) -> Server:
        return mongomock.MongoClient(tz_aware=True)


@pytest.mark.service
class TestServer(SinkContract):
    @pytest.fixture
    def client(self) -> Iterator[Server]:
        if not _URL:
            pytest.skip("LINESIDE_TEST_MONGO_URL names no server")
        client: Server = pymongo.MongoClient(_URL, tz_aware=True)
        client.drop_database("lineside_test")
        yield client
        client.drop_database("lineside_test")
        client.close()


class _Failing:
    """A client whose collections fail in one way."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getitem__(self, _name: str) -> "_Failing":
        return self

    def replace_one(self, *_: object, **__: object) -> None:
        raise self.error

    def close(self) -> None:
        """Nothing to free."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (pymongo.errors.ServerSelectionTimeoutError("nobody"), UnavailableError),
        (pymongo.errors.AutoReconnect("lost"), UnavailableError),
        (pymongo.errors.OperationFailure("bad", code=18), RefusedError),
        (pymongo.errors.OperationFailure("busy", code=1), UnavailableError),
        (pymongo.errors.InvalidURI("no"), InvalidError),
        (pymongo.errors.WriteError("nested too deeply", code=15), InvalidError),
        (pymongo.errors.WriteError("a validator of others", code=121), InvalidError),
        (pymongo.errors.DuplicateKeyError("a unique index of others", code=11000), InvalidError),
        (pymongo.errors.WriteError("primary stepped down", code=189), UnavailableError),
        (pymongo.errors.OperationFailure("failed to parse", code=9), InvalidError),
        (pymongo.errors.DocumentTooLarge("16 MB"), InvalidError),
        (InvalidDocument("cannot encode"), InvalidError),
        (OverflowError("8-byte ints"), InvalidError),
    ],
)
def test_failures_are_told_apart_and_keep_no_secret(error: Exception, kind: type) -> None:
    sink = MongoSink("mongodb://u:secret@host", connect=lambda _: _Failing(error))
    with pytest.raises(kind) as raised:
        sink.write("mqtt", {"_id": ID, "ts": AT})
    assert "secret" not in str(raised.value)
    sink.close()
    sink.close()


def test_a_server_that_is_away_is_unavailable() -> None:
    sink = MongoSink("mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=100")
    with pytest.raises(UnavailableError):
        sink.write("mqtt", {"_id": ID, "ts": AT})
    sink.close()


class _Small:
    """A collection that takes no document of more than some bytes."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []

    def __getitem__(self, _name: str) -> "_Small":
        return self

    def replace_one(self, _query: object, document: dict[str, Any], **_: object) -> None:
        if len(document["data"]) > 1000:
            raise pymongo.errors.DocumentTooLarge("too large")
        self.kept.append(document)


def test_a_picture_above_the_limit_is_kept_as_its_digest() -> None:
    small = _Small()
    sink = MongoSink("mongodb://test", connect=lambda _: small)
    sink.write("factory_camera", {"_id": ID, "ts": AT, "data": "x" * 2000})
    assert small.kept[0]["data"] == digest_of(b"x" * 2000)
