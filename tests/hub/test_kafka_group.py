"""Hubs of one group share a topic's keys; one that dies before it said so leaves nothing behind."""

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from lineside.core import Plant, Route, RouteKind, SystemClock, decode_json
from lineside.hub import HubConfig, Services, build_services
from lineside.hub.kafka import KafkaIntake
from lineside.hub.kafka_config import KafkaConfig, KafkaRead
from lineside.links import (
    KafkaPlace,
    KafkaReceiver,
    KafkaRecord,
    KafkaSender,
)
from lineside.store import open_blobs, open_records

KEYS = 12
MESSAGES = 20
MESSAGE = "lineside.plant.message.v1"


@pytest.fixture
def place(mock_kafka: str) -> KafkaPlace:
    soon = {"session.timeout.ms": "1500", "heartbeat.interval.ms": "300"}
    return KafkaPlace(brokers=mock_kafka, options=soon)


@pytest.fixture
def hub(config: HubConfig, plant: Plant, place: KafkaPlace) -> Iterator[Services]:
    """What hubs on one database have in common."""
    clock = SystemClock()
    kafka = KafkaConfig(brokers=place.brokers)
    told = HubConfig(data_dir=config.data_dir, plant=config.plant, kafka=kafka)
    with open_records("memory://", clock=clock) as records:
        blobs = open_blobs("memory://", clock=clock)
        made = build_services(told, plant=plant, records=records, blobs=blobs, clock=clock)
        made.load()
        yield made
        made.runs.close()
        blobs.close()


class Dies(KafkaReceiver):
    """Of a hub that is killed after the log has its records, before their offsets are told."""

    def commit(self, records: object) -> bool:
        del records
        return False


class Member:
    """A hub's intake of the topic."""

    def __init__(
        self, kind: type[KafkaReceiver], topic: str, *, place: KafkaPlace, hub: Services
    ) -> None:
        self._receiver = kind(place, topics=[topic], group=topic, client_id=kind.__name__)
        self._dead = KafkaSender(place, client_id="dead")
        self.intake = KafkaIntake(
            (KafkaRead(topic=topic, route="i/part"),), receiver=self._receiver, dead=self._dead,
            services=hub,
        )  # fmt: skip
        self.intake.start()

    def leave(self) -> None:
        self.intake.stop()
        self._receiver.close()
        self._dead.close()


@pytest.fixture
def plant(plant: Plant) -> Plant:
    more = Route(topic="i/part", kind=RouteKind.MESSAGE, time="arrival")
    return replace(plant, route=(*plant.route, more))


def until(what: Callable[[], object]) -> None:
    pause = threading.Event()
    for _ in range(600):
        if what():
            return
        pause.wait(0.05)
    pytest.fail("it did not come")


def send(sender: KafkaSender, topic: str, *, numbers: range) -> None:
    sender.send([
        KafkaRecord(topic=topic, key=b"%d" % key, value=b'{"key":%d,"number":%d}' % (key, number))
        for number in numbers
        for key in range(KEYS)
    ])  # fmt: skip


def kept(hub: Services) -> list[tuple[int, int]]:
    page = hub.records.log.read(type=MESSAGE, limit=10_000)
    bodies = [decode_json(one.entry.body, where="log")["data"] for one in page]
    return [(body["key"], body["number"]) for body in bodies]


def test_each_record_is_kept_once_and_in_its_keys_order_whoever_dies(
    hub: Services, place: KafkaPlace
) -> None:
    topic = f"parts-{uuid.uuid4().hex}"
    sender = KafkaSender(place, client_id="test")
    send(sender, topic, numbers=range(MESSAGES))
    dying = Member(Dies, topic, place=place, hub=hub)
    until(lambda: len(kept(hub)) == KEYS * MESSAGES)
    staying = Member(KafkaReceiver, topic, place=place, hub=hub)
    send(sender, topic, numbers=range(MESSAGES, 2 * MESSAGES))
    until(lambda: len(kept(hub)) == 2 * KEYS * MESSAGES)
    dying.leave()
    send(sender, topic, numbers=range(2 * MESSAGES, 3 * MESSAGES))
    until(lambda: len(kept(hub)) == 3 * KEYS * MESSAGES)
    until(lambda: hub.stats.plain()["messages_duplicate"] >= KEYS * MESSAGES)
    staying.leave()
    sender.close()
    found = kept(hub)
    assert len(found) == len(set(found)) == 3 * KEYS * MESSAGES
    for key in range(KEYS):
        assert [number for of, number in found if of == key] == list(range(3 * MESSAGES))
    assert staying.intake.count > 0
