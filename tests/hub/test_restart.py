"""What a restart finds: the same twin, nothing twice, and work that waits for whoever was away."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import mongomock
import pytest

from lineside.core import (
    ConflictError,
    InvalidError,
    Plant,
    UnavailableError,
    decode_json,
    encode,
    rfc3339,
)
from lineside.core.plant import Retention
from lineside.hub import HubConfig, Services
from lineside.hub.api.documents import collection_page
from lineside.hub.eventlog.followers import Follower
from lineside.hub.sinks.mongo import MongoOrders, MongoWriter
from lineside.hub.sinks.mqtt import EventOutbox
from lineside.hub.timers import RetentionSweep, Timers
from lineside.links import Bus
from lineside.links.mongo import MongoSink
from lineside.store import Logged, Records
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S
from tests.hub.conftest import Line, another_hub, drain

Pictures = Callable[..., bytes]
Again = Callable[[], Services]


@pytest.fixture
def again(hub: Services, bus: Bus) -> Again:
    """A hub started over the same store."""

    def start() -> Services:
        services = another_hub(hub)
        services.join(bus, base_url="http://hub.test")
        return services

    return start


def day(line: Line, hub: Services, *, jpeg: Pictures) -> None:
    """Something of everything."""
    for number, colour in enumerate(("red", "blue", "red")):
        picture = jpeg(colour, seed=number)
        line.send(line.status(), line.camera(picture), line.prediction(colour, picture=picture))
        line.wait(0.5)
    hub.orders.place("red", by="anna")
    hub.tick()
    line.send(line.said("i/bme680", t=21.5), line.said("f/i/order", state="ORDERED", type="RED"))
    stock: list[object] = [{"location": "B1", "workpiece": None}]
    line.send(line.said("f/i/stock", stockItems=stock))  # type: ignore[arg-type]  # JSON
    line.wait(4)
    hub.tick()


# ---- the twin


def test_the_twin_is_the_same_after_a_restart_from_the_log_alone(
    hub: Services, line: Line, jpeg: Pictures, again: Again
) -> None:
    day(line, hub, jpeg=jpeg)
    assert hub.ledger.state.discrepancies
    assert again().ledger.state == hub.ledger.state


def test_the_twin_is_the_same_from_its_snapshot_and_the_tail(
    hub: Services, line: Line, jpeg: Pictures, again: Again
) -> None:
    day(line, hub, jpeg=jpeg)
    hub.ledger.keep_snapshot()
    line.see("white")
    line.send(line.said("i/ldr", ldr=1, br="99.9"))
    started = again()
    assert started.ledger.state == hub.ledger.state
    assert started.ledger.position == hub.ledger.position


def test_a_message_delivered_again_after_a_restart_is_kept_once(
    line: Line, jpeg: Pictures, again: Again
) -> None:
    message = line.camera(jpeg())
    line.send(message)
    started = again()
    started.plant_ingest.take([message])
    assert len(started.frames.page()) == 1
    assert len(started.events.page()) == 1


def test_acknowledgements_go_on_after_a_restart(line: Line, again: Again, factory: Bus) -> None:
    line.send(line.status(), line.prediction(sequence=1), line.prediction(sequence=2))
    line.wait(1)
    mailbox = factory.subscribe(("lineside/hall/device/+/ack",))
    started = again()
    started.device_ingest.take([line.prediction(sequence=3)])
    message = mailbox.get(timeout_s=1)
    assert message is not None
    assert decode_json(message.payload, where="ack")["sequence"] == 3
    assert started.devices.all()[0].state == "online"


def test_cameras_show_the_newest_frame_and_answer_after_a_restart(
    line: Line, jpeg: Pictures, again: Again
) -> None:
    picture = jpeg("blue")
    line.send(line.status(), line.camera(picture), line.prediction("blue", picture=picture))
    rack = again().cameras.one("rack")
    assert rack.state == "live"  # its images come on events
    assert rack.newest is not None
    assert rack.prediction is not None
    assert rack.prediction.frame.id == rack.newest.id


def test_dead_letters_stay_bounded_over_restarts(line: Line, again: Again) -> None:
    line.send(line.said("i/none"))
    assert again().dead_letters.counts() == {"unknown topic": 1}


# ---- a store that is away


class Flaky:
    """Records whose transactions fail a number of times."""

    def __init__(self, records: Records, *, times: int) -> None:
        self._records = records
        self.left = times

    def __getattr__(self, name: str) -> object:
        return getattr(self._records, name)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._records.transaction():
            yield
            if self.left:
                self.left -= 1
                raise UnavailableError("the disk is full")


def test_while_the_store_is_away_a_batch_is_tried_again_and_kept_once(
    hub: Services, clock: FakeClock, jpeg: Pictures
) -> None:
    flaky = Flaky(hub.records, times=2)
    started = another_hub(hub, records=flaky)
    line = Line(started, clock)
    line.send(line.camera(jpeg()), line.status(), line.prediction("blue"))
    assert flaky.left == 0
    assert started.stats.plain()["frames_stored"] == 1
    assert len(started.events.page()) == 2
    assert started.ledger.state.revision == 1


def test_over_http_a_store_that_is_away_is_said_at_once(hub: Services, clock: FakeClock) -> None:
    flaky = Flaky(hub.records, times=1)
    started = another_hub(hub, records=flaky)
    body = encode({"topic": "i/ldr", "ts": rfc3339(clock.now()), "ldr": 1})
    with pytest.raises(UnavailableError):
        started.plant_ingest.take_http(body)
    assert started.events.page() == []
    started.plant_ingest.take_http(body)
    assert len(started.events.page()) == 1


def test_a_transaction_that_fails_leaves_the_twin_where_it_was(
    hub: Services, clock: FakeClock
) -> None:
    flaky = Flaky(hub.records, times=0)
    started = another_hub(hub, records=flaky)
    line = Line(started, clock)
    line.see("red")
    before = started.ledger.state
    flaky.left = 1
    with pytest.raises(UnavailableError):
        started.orders.place("red", by="anna")
    assert started.ledger.state is before
    assert started.orders.place("red", by="anna").colour == "red"


# ---- followers


class Handler:
    """Takes entries, or is away."""

    def __init__(self) -> None:
        self.away = False
        self.taken: list[str] = []
        self.came = threading.Event()

    def __call__(self, entries: Sequence[Logged]) -> None:
        if self.away:
            raise UnavailableError("away")
        self.taken += [logged.entry.id for logged in entries]
        self.came.set()


def follower(hub: Services, handler: Handler, *, source: str = "") -> Follower:
    return Follower(
        "test", records=hub.records, ledger=hub.ledger, handle=handler,
        source=source,
    )  # fmt: skip


def test_a_follower_goes_on_where_it_stood(hub: Services, line: Line) -> None:
    handler = Handler()
    line.see("blue")
    follower(hub, handler).step()
    line.wait(1)
    line.see("red")
    next_one = follower(hub, handler)
    assert next_one.behind == 1
    next_one.step()
    assert handler.taken == [event.id for event in hub.events.page()]


def test_a_follower_waits_for_whoever_is_away_and_leaves_nothing_out(
    hub: Services, line: Line
) -> None:
    handler = Handler()
    handler.away = True
    running = follower(hub, handler)
    line.see("blue")
    with pytest.raises(UnavailableError):
        running.step()
    handler.away = False
    running.step()
    assert len(handler.taken) == 1


def test_a_follower_sees_what_it_selected_only(hub: Services, line: Line) -> None:
    handler = Handler()
    line.see("blue")
    line.send(line.said("i/ldr", ldr=1))
    running = follower(hub, handler, source="/hall/plant")
    running.start()
    assert handler.came.wait(LONG_S)
    running.stop()
    assert len(handler.taken) == 1


def test_rule_events_are_said_on_the_bus(
    hub: Services, line: Line, factory: Bus, bus: Bus, plant: Plant, jpeg: Pictures
) -> None:
    mailbox = factory.subscribe(("lineside/hall/warehouse/event/#",))
    day(line, hub, jpeg=jpeg)
    outbox = EventOutbox(bus, plant=plant)
    said = Follower(
        "events", records=hub.records, ledger=hub.ledger, handle=outbox.publish,
        source="/hall/hub", type="lineside.event.v1",
    )  # fmt: skip
    said.step()
    messages = mailbox.get_many(most=10, timeout_s=0)
    assert [message.topic for message in messages] == ["lineside/hall/warehouse/event/discrepancy"]
    event = json.loads(messages[0].payload)
    assert event["data"]["slot"] == "B1"
    bus.lose()  # type: ignore[attr-defined]  # the bus in memory
    with pytest.raises(UnavailableError):
        outbox.publish(hub.records.log.read(limit=1))


# ---- MongoDB


class Database:
    """A database that can be away."""

    def __init__(self) -> None:
        self.client: Any = mongomock.MongoClient(tz_aware=True)
        self.away = False

    def connect(self, _url: str) -> object:
        if self.away:
            from pymongo.errors import ServerSelectionTimeoutError

            raise ServerSelectionTimeoutError("away")
        return self.client

    def documents(self, collection: str) -> list[dict[str, Any]]:
        return list(self.client["aws"][collection].find())


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def sink(database: Database) -> Iterator[MongoSink]:
    opened = MongoSink("mongodb://nowhere", connect=database.connect)
    yield opened
    opened.close()


def writer(hub: Services, sink: MongoSink) -> Follower:
    return Follower(
        "mongo", records=hub.records, ledger=hub.ledger,
        handle=MongoWriter(sink, services=hub).write,
    )  # fmt: skip


def test_every_collection_of_the_reference_is_written(
    hub: Services, line: Line, jpeg: Pictures, sink: MongoSink, database: Database
) -> None:
    """Reference section 3; dates are dates."""
    day(line, hub, jpeg=jpeg)
    drain(writer(hub, sink))
    assert len(database.documents("factory_camera")) == 3
    (sensor,) = database.documents("sensors")
    assert sensor["t"] == 21.5
    assert rfc3339(sensor["ts"])
    assert {message["topic"] for message in database.documents("mqtt")} == {
        "f/i/order", "f/i/stock",
    }  # fmt: skip
    (stock,) = database.documents("sagemaker_stock_inference")
    assert stock["is_present"] == {"blue": False, "red": True, "white": False}
    (order,) = database.documents("digital_twin_orders")
    assert order["orderStatus"] == "ORDERED"
    for collection in ("factory_camera", "sensors", "mqtt", "digital_twin_orders"):
        assert all(d["_partition"] == "DTPartition" for d in database.documents(collection))


def test_nothing_is_lost_while_the_database_is_away(
    hub: Services, line: Line, sink: MongoSink, database: Database
) -> None:
    database.away = True
    line.send(line.said("i/ldr", ldr=1), line.said("i/ldr", ldr=2))
    with pytest.raises(UnavailableError):
        writer(hub, sink).step()
    database.away = False
    writer(hub, sink).step()
    writer(hub, sink).step()
    assert len(database.documents("sensors")) == 2


def foreign(database: Database, clock: FakeClock, colour: str) -> str:
    """An order as the reference's own twin writes it."""
    from bson import ObjectId

    made = ObjectId(f"{int(clock.now().timestamp()):08x}" + ObjectId().binary.hex()[8:])
    database.client["aws"]["digital_twin_orders"].insert_one(
        {
            "_id": made, "_partition": "DTPartition", "color": colour, "firstName": "H",
            "lastName": "A", "orderStatus": "Order Submitted", "ship_from": "North York",
            "ship_to": "Barcelona", "userId": "DT", "timeStamp": clock.now(),
        }
    )  # fmt: skip
    return str(made)


@pytest.fixture
def order(
    hub: Services, line: Line, sink: MongoSink, database: Database, clock: FakeClock
) -> Callable[[str, str], str]:
    """Show a piece, and let another twin order one of a colour; the id of its document."""

    def place(shown: str, colour: str) -> str:
        line.see(shown)
        MongoOrders(sink, services=hub).step()
        clock.advance(2)
        made = foreign(database, clock, colour)
        MongoOrders(sink, services=hub).step()
        return made

    return place


def test_an_order_of_another_twin_is_placed_once_also_after_a_restart(
    hub: Services, line: Line, sink: MongoSink, database: Database, clock: FakeClock
) -> None:
    line.see("red", "blue")
    orders = MongoOrders(sink, services=hub)
    assert orders.step() == 0
    clock.advance(2)
    foreign(database, clock, "red")
    assert orders.step() == 1
    (order,) = hub.orders.all()
    assert (order.colour, order.placed_by) == ("red", "other twin")
    with MongoSinkAgain(database) as fresh:
        MongoOrders(fresh, services=hub).step()
    assert len(hub.orders.all()) == 1


def test_a_refused_order_of_another_twin_stays_refused_after_a_restart(
    hub: Services, line: Line, database: Database, order: Callable[[str, str], str]
) -> None:
    order("blue", "red")
    assert hub.orders.all() == ()
    line.wait(1)
    line.see("red")
    with MongoSinkAgain(database) as fresh:
        MongoOrders(fresh, services=hub).step()
    assert hub.orders.all() == ()


def test_an_order_of_another_twin_hears_every_step_in_its_own_document(
    hub: Services,
    line: Line,
    sink: MongoSink,
    database: Database,
    order: Callable[[str, str], str],
) -> None:
    """Reference defect 24."""
    follower = writer(hub, sink)
    submitted = order("red", "red")
    seen: list[str] = []

    def row() -> dict[str, Any]:
        drain(follower)
        (found,) = database.documents("digital_twin_orders")
        seen.append(found["orderStatus"])
        return found

    assert str(row()["_id"]) == submitted
    hub.tick()
    for state in ("ORDERED", "IN_PROCESS", "SHIPPED"):
        line.wait(1)
        line.send(line.said("f/i/order", state=state, type="RED"))
        row()
    found = row()
    assert seen == ["Order Submitted", "ORDERED", "IN_PROCESS", "SHIPPED", "SHIPPED"]
    assert [step["name"] for step in found["steps"]] == [
        "placed", "sending", "sent", "ORDERED", "IN_PROCESS", "SHIPPED",
    ]  # fmt: skip
    assert (found["userId"], found["color"], found["order"]) == (
        "DT", "red", hub.orders.all()[0].id,
    )  # fmt: skip
    shown = client_documents(hub)
    assert [one["_id"] for one in shown] == [submitted]


def client_documents(hub: Services) -> list[dict[str, Any]]:
    page, _ = collection_page(hub, "digital_twin_orders", after=0, limit=10)
    return page


@pytest.mark.parametrize(
    ("colour", "sentence"),
    [
        ("red", "The red piece you are requesting is out of stock in the Physical Factory!"),
        ("green", "no colour 'green'"),
    ],
)
def test_a_refused_order_of_another_twin_hears_the_sentence_in_its_own_document(
    hub: Services, sink: MongoSink, database: Database, order: Callable[[str, str], str], *,
    colour: str, sentence: str,
) -> None:  # fmt: skip
    """Reference defect 24."""
    submitted = order("blue", colour)
    drain(writer(hub, sink))
    (row,) = database.documents("digital_twin_orders")
    assert (str(row["_id"]), row["orderStatus"]) == (submitted, "REFUSED")
    assert sentence in row["reason"]
    assert [step["name"] for step in row["steps"]] == ["refused"]
    with MongoSinkAgain(database) as fresh:
        assert MongoOrders(fresh, services=hub).step() == 0


def test_a_submitter_hears_the_end_of_an_order_that_the_state_let_go(
    hub: Services,
    line: Line,
    sink: MongoSink,
    database: Database,
    order: Callable[[str, str], str],
) -> None:
    order("red", "red")
    hub.tick()
    for state in ("ORDERED", "IN_PROCESS", "SHIPPED"):
        line.wait(1)
        line.send(line.said("f/i/order", state=state, type="RED"))
    hub.ledger._state = replace(hub.ledger.state, orders=())
    drain(writer(hub, sink))
    (row,) = database.documents("digital_twin_orders")
    assert row["orderStatus"] == "SHIPPED"


def test_a_message_that_no_document_can_hold_stops_nothing(
    hub: Services, line: Line, sink: MongoSink, database: Database
) -> None:
    big: dict[str, Any] = {"$set": 1, "n": 2**63}
    twins: dict[str, Any] = {"$a": 1, "\uff04a": 2}
    line.send(line.said("f/i/stock", stockItems=[], **big))
    line.send(line.said("i/ldr", **twins))
    line.send(line.said("i/ldr", ldr=3))
    follower = writer(hub, sink)
    drain(follower)
    (stock,) = database.documents("mqtt")
    assert stock["\uff04set"] == 1
    (light,) = database.documents("sensors")
    assert light["ldr"] == 3.0
    (record,) = follower.quarantine.page()
    assert "two keys become" in record.reason


def test_refused_credentials_blame_no_record(
    hub: Services, line: Line, sink: MongoSink, database: Database
) -> None:
    from pymongo.errors import OperationFailure

    def refuse(_url: str) -> object:
        raise OperationFailure("bad password", code=18)

    line.send(line.said("i/ldr", ldr=1))
    with MongoSinkAgain(database) as refused:
        refused._connect = refuse
        with pytest.raises(UnavailableError, match="credentials"):
            writer(hub, refused).step()
    made = writer(hub, sink)
    drain(made)
    assert len(database.documents("sensors")) == 1
    assert len(made.quarantine) == 0


class MongoSinkAgain:
    """A sink as a new start opens it."""

    def __init__(self, database: Database) -> None:
        self._sink = MongoSink("mongodb://nowhere", connect=database.connect)

    def __enter__(self) -> MongoSink:
        return self._sink

    def __exit__(self, *_: object) -> None:
        self._sink.close()


# ---- timers


def test_duties_are_done_when_due_and_a_failing_one_does_not_stop_the_others(
    hub: Services, line: Line, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise ConflictError("no")

    line.see("blue")
    timers = Timers(hub, clock=clock)
    monkeypatch.setattr(timers._duties[0], "act", fails)
    timers.step()
    assert len(hub.events.page(kind="lineside.anchor.v1")) == 1
    line.wait(1)
    line.see("red")
    timers.step()
    assert len(hub.events.page(kind="lineside.anchor.v1")) == 1
    clock.advance(60)
    timers.step()
    assert len(hub.events.page(kind="lineside.anchor.v1")) == 2
    timers.stop()


def test_pictures_age_out_and_pinned_ones_stay(
    hub: Services, line: Line, jpeg: Pictures, clock: FakeClock, config: HubConfig
) -> None:
    from dataclasses import replace

    from lineside.hub.learning.datasets import Teaching

    for number in range(3):
        line.send(line.camera(jpeg(seed=number)))
        line.wait(1)
    kept = hub.frames.page()[-1].id
    hub.datasets.teach("rack", Teaching(frames=(kept,), labels=("red",)), by="anna")
    clock.advance(2 * 24 * 3600)
    aged = replace(hub, config=replace(config, retention=Retention(max_age_days=1)))
    assert RetentionSweep(aged).run() == 2
    rows = hub.frames.page()
    assert [row.aged_out_at is None for row in rows] == [False, False, True]
    assert hub.stats.plain()["frames_aged_out"] == 2


# ---- settings


@pytest.mark.parametrize(
    ("change", "where"),
    [({"port": 70_000}, "port"), ({"bus_port": -1}, "port"), ({"session_hours": 0}, "session")],
)
def test_settings_that_cannot_work_are_refused(change: dict[str, int], where: str) -> None:
    with pytest.raises(InvalidError) as refused:
        HubConfig(data_dir="x", plant="y", **change)  # type: ignore[arg-type]  # a wrong value is the point
    assert where in refused.value.where


def test_by_default_everything_stands_in_the_data_folder(tmp_path: Path) -> None:
    config = HubConfig(data_dir=str(tmp_path), plant="plant.toml")
    assert config.records_url == f"sqlite:///{tmp_path}/records.db"
    assert config.blobs_url == f"file://{tmp_path}/blobs"
    assert config.ingest_token_path == tmp_path / "tokens" / "ingest.token"
    assert config.loopback_only
