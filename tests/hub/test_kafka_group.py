"""Hubs of one group share a topic's keys; one that dies before it said so leaves nothing behind.

And what hostile senders write there harms nothing else.
"""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import pytest

from lineside.core import Plant, RouteKind, SystemClock, decode_json
from lineside.core.plant import Route
from lineside.hub import HubConfig, Services
from lineside.hub.config import KafkaConfig, KafkaTakeConfig
from lineside.hub.sinks.kafka import KafkaReader, start_kafka
from lineside.links.kafka import KafkaPlace, KafkaReceiver, KafkaRecord, KafkaSender
from lineside.testing.kafka import received
from lineside.testing.links import wait_until
from tests.hub.conftest import open_hub

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
    with open_hub(replace(config, kafka=kafka), plant=plant, clock=clock) as services:
        yield services


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
        self.intake = KafkaReader(
            (KafkaTakeConfig(topic=topic, route="i/part"),), receiver=self._receiver,
            dead=self._dead, services=hub,
        )  # fmt: skip
        self.intake.worker.start()

    def leave(self) -> None:
        self.intake.worker.stop()
        self._receiver.close()
        self._dead.close()


@pytest.fixture
def plant(plant: Plant) -> Plant:
    more = Route(topic="i/part", kind=RouteKind.MESSAGE, time="arrival")
    return replace(plant, route=(*plant.route, more))


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


def has_more_than(hub: Services, count: int) -> bool:
    return len(kept(hub)) > count


@pytest.mark.slow
def test_each_record_is_kept_once_and_in_its_keys_order_whoever_dies(
    hub: Services, place: KafkaPlace
) -> None:
    topic = f"parts-{uuid.uuid4().hex}"
    sender = KafkaSender(place, client_id="test")
    send(sender, topic, numbers=range(MESSAGES))
    dying = Member(Dies, topic, place=place, hub=hub)
    wait_until(lambda: len(kept(hub)) == KEYS * MESSAGES)
    staying = Member(KafkaReceiver, topic, place=place, hub=hub)
    send(sender, topic, numbers=range(MESSAGES, 2 * MESSAGES))
    wait_until(lambda: len(kept(hub)) == 2 * KEYS * MESSAGES)
    dying.leave()
    send(sender, topic, numbers=range(2 * MESSAGES, 3 * MESSAGES))
    wait_until(lambda: len(kept(hub)) == 3 * KEYS * MESSAGES)
    wait_until(lambda: hub.stats.plain()["messages_duplicate"] >= KEYS * MESSAGES)
    staying.leave()
    sender.close()
    found = kept(hub)
    assert len(found) == len(set(found)) == 3 * KEYS * MESSAGES
    for key in range(KEYS):
        assert [number for of, number in found if of == key] == list(range(3 * MESSAGES))
    assert staying.intake.count > 0


@pytest.mark.slow
def test_a_planned_restart_reads_what_was_not_committed_and_nothing_twice(
    hub: Services, place: KafkaPlace
) -> None:
    topic = f"parts-{uuid.uuid4().hex}"
    take = (KafkaTakeConfig(topic=topic, route="i/part"),)
    options = {**place.options, "session.timeout.ms": "6000"}  # who is put out reads some twice
    kafka = KafkaConfig(brokers=place.brokers, group=topic, take=take, options=options)
    services = replace(hub, config=replace(hub.config, kafka=kafka))
    sender = KafkaSender(place, client_id="test")
    for life in range(3):
        send(sender, topic, numbers=range(life * MESSAGES, (life + 1) * MESSAGES))
        before = len(kept(hub))
        with ExitStack() as stack:
            start_kafka(services, bus_url="", stack=stack)
            # The second life ends in the middle of its work.
            wanted = before if life == 1 else (life + 1) * KEYS * MESSAGES - 1
            wait_until(partial(has_more_than, hub, wanted))
    sender.close()
    found = kept(hub)
    assert len(found) == len(set(found)) == 3 * KEYS * MESSAGES
    assert hub.stats.plain()["messages_duplicate"] == 0


def test_what_is_too_large_or_no_text_is_a_dead_letter_and_stops_nothing(
    hub: Services, place: KafkaPlace
) -> None:
    """Also where the topic of dead letters does not take it: the hub's own does."""
    topic, dead = f"parts-{uuid.uuid4().hex}", f"dead-{uuid.uuid4().hex}"
    wide = KafkaPlace(brokers=place.brokers, options={"message.max.bytes": "9000000"})
    odd = [
        b'{"key":1,"number":0,"note":"' + b"x" * 3_000_000 + b'"}', b'{"key":"\xff\xfe"}',
        b"\x00" * 1000, b"[" * 100_000, b'{"ts":"9999-12-31T23:59:59Z","key":1}',
        b'{"key":1,"number":NaN}', b"",
    ]  # fmt: skip
    sender = KafkaSender(wide, client_id="test")
    records = [KafkaRecord(topic=topic, value=value, key=b"k") for value in odd]
    assert sender.send(records) == []
    send(sender, topic, numbers=range(1))
    hub = replace(hub, config=replace(hub.config, kafka=replace(hub.config.kafka, dead=dead)))
    member = Member(KafkaReceiver, topic, place=place, hub=hub)
    wait_until(lambda: len(kept(hub)) == KEYS)
    wait_until(lambda: member.intake.dead_count == len(odd))
    member.leave()
    sender.close()
    assert sum(hub.dead_letters.counts().values()) == len(odd)
    reader = KafkaReceiver(place, topics=[dead], group=dead, client_id="test")
    told = received(reader, len(odd) - 1)
    reader.close()
    assert {one.value for one in told} == set(odd[1:])  # the first is too large for there
    assert {dict(one.headers)["lineside_place"].decode().split("/")[0] for one in told} == {topic}
