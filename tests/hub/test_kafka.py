"""Kafka beside the hub, on librdkafka's mock cluster: both ways, and what cannot be taken."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError, RouteKind, SystemClock, UnavailableError, rfc3339
from lineside.core.plant import Route
from lineside.hub import HubConfig, Services
from lineside.hub.config import (
    KafkaBridgeConfig,
    KafkaConfig,
    KafkaSendConfig,
    KafkaTakeConfig,
    key_of,
)
from lineside.hub.eventlog.followers import Follower
from lineside.hub.eventlog.topics import DeadLetterError, Reason
from lineside.hub.run import running
from lineside.hub.sinks.kafka import (
    KafkaEvents,
    KafkaReader,
    dead_record,
    event_of,
    is_sent,
    record_of,
)
from lineside.links import open_bus
from lineside.links.kafka import KafkaPlace, KafkaReceiver, KafkaSender, ReceivedRecord
from lineside.store import LogEntry, Logged
from lineside.streams import EVENT_TYPE, Event, decode_event, encode_event, entry_of
from lineside.streams.rules.replay import run_rule
from lineside.testing import FakeClock
from lineside.testing.events import small_plant
from lineside.testing.kafka import received
from lineside.testing.links import wait_until
from lineside.testing.rules import rule_of

SOCK = Route(topic="sockfound", kind=RouteKind.MESSAGE, max_bytes=1000)
BYTES = b'{"image":"Google","probability":97.3}'


def taken(value: bytes | None = BYTES, *, offset: int = 7, **more: Any) -> ReceivedRecord:  # noqa: ANN401  of the record
    at = FakeClock().now()
    return ReceivedRecord(topic="data_mqtt", partition=0, offset=offset, at=at, value=value, **more)


def kept(record: ReceivedRecord, *, site: str = "hall") -> Event:
    return event_of(record, SOCK, topic="sockfound", site=site)


def logged(event: Event) -> Logged:
    entry = LogEntry(
        id=event.id, source=event.source, type=event.type, subject=event.subject,
        captured_at=event.time, body=encode_event(event),
    )  # fmt: skip
    return Logged(
        position=1, source_position=1, entry=entry, arrived_at=event.time, previous="", hash="h"
    )


def rule_event(number: int = 0, **data: Any) -> Event:  # noqa: ANN401  of the event
    return Event(
        id=f"evt_{number}", source="/hall/hub", type=EVENT_TYPE, subject="pair",
        time=FakeClock().now(), data=data,
    )  # fmt: skip


# ---- what a record says


def test_a_message_without_time_has_the_records_and_says_so() -> None:
    event = kept(taken())
    assert event.data["ts_is"] == "arrival"
    assert event.data["image"] == "Google"
    assert event.time == taken().at
    assert event.type == "lineside.plant.message.v1"


def test_a_backlog_arrived_when_the_cluster_took_it() -> None:
    """As ksqlDB has it: a window for each of 20 stretches, though the hub reads them in one."""
    rule = rule_of(
        'id = "r"\nread = { topic = "sockfound" }\nwindow = { size_s = 5 }\ntime = "arrival"'
    )
    backlog = [
        replace(taken(offset=n), at=taken().at + timedelta(seconds=5 * n)) for n in range(20)
    ]
    events = [kept(one) for one in backlog]
    read_at_us = round((taken().at + timedelta(hours=1)).timestamp() * 1e6)
    entries = [entry_of(one, arrived_us=read_at_us) for one in events]
    assert len(list(run_rule(rule, entries, plant=small_plant()))) == 20
    assert [decode_event(encode_event(one), where="event") for one in events] == events


def test_two_equal_messages_without_time_are_two_events_and_one_delivered_twice_is_one() -> None:
    assert kept(taken()).id == kept(taken()).id
    assert kept(taken()).id != kept(taken(offset=8)).id


def test_a_message_with_time_is_one_event_wherever_it_stands() -> None:
    raw = b'{"ts":"2024-01-01T00:00:00Z","image":"Blank"}'
    assert kept(taken(raw)).id == kept(taken(raw, offset=8)).id


def test_a_cloud_event_is_one_event_however_often_its_sender_sent_it() -> None:
    headers = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
    raw = encode_event(rule_event(3, colour="red"))
    first, again = (kept(taken(raw, offset=n, headers=headers)) for n in (1, 2))
    assert first == again
    assert (first.data["colour"], first.data["says"]) == ("red", "evt_3")
    with pytest.raises(DeadLetterError, match="not an event"):
        kept(taken(b"{}", headers=headers))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.NOT_JSON),
        (b"Hello from deeplens", Reason.NOT_JSON),
        (b"[1]", Reason.NOT_JSON),
        (b"[" * 900, Reason.NOT_JSON),
        (b'{"ts":"noon"}', Reason.BAD_TIME),
        (b'{"ts":5}', Reason.BAD_TIME),
        (b'"' + b"x" * 2000 + b'"', Reason.TOO_LARGE),
    ],
)
def test_what_cannot_be_taken_has_a_reason(value: bytes | None, reason: Reason) -> None:
    with pytest.raises(DeadLetterError) as raised:
        kept(taken(value))
    assert raised.value.reason is reason


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_become_a_dead_letter(raw: bytes) -> None:
    try:
        assert kept(taken(raw)).subject == "sockfound"
    except DeadLetterError as refusal:
        record = dead_record(taken(raw, key=b"k"), refusal, topic="dead")
        assert (record.value, record.key) == (raw, b"k")
        assert dict(record.headers)["lineside_place"] == b"data_mqtt/0/7"


# ---- what an event says


def test_an_event_goes_out_as_it_stands_with_its_id_beside_it() -> None:
    found = logged(rule_event(5, label="Google"))
    record = record_of(found, KafkaSendConfig(topic="out"))
    assert decode_event(record.value, where="test") == rule_event(5, label="Google")
    assert dict(record.headers)["ce_id"] == b"evt_5"
    assert dict(record.headers)["content-type"].startswith(b"application/cloudevents+json")


@pytest.mark.parametrize(
    ("wanted", "key"),
    [
        ("", "/hall/hub pair"),
        ("id", "evt_0"),
        ("subject", "pair"),
        ("data.label", "Google"),
        ("data.none", "/hall/hub pair"),
        ("data.list", "/hall/hub pair"),
    ],
)
def test_the_key_is_source_and_subject_or_a_chosen_field(wanted: str, key: str) -> None:
    assert key_of(logged(rule_event(label="Google", list=[1])), wanted) == key


def test_types_are_chosen_by_pattern() -> None:
    found = logged(rule_event())
    assert is_sent(found, KafkaSendConfig(topic="out"))
    assert is_sent(found, KafkaSendConfig(topic="out", types=("lineside.*",)))
    assert not is_sent(found, KafkaSendConfig(topic="out", types=("lineside.order.v1",)))


# ---- settings


@pytest.mark.parametrize(
    "make",
    [
        lambda: KafkaConfig(send=(KafkaSendConfig(topic="a"),)),
        lambda: KafkaConfig(
            brokers="b:1", send=(KafkaSendConfig(topic="a"), KafkaSendConfig(topic="a"))
        ),
        lambda: KafkaConfig(brokers="b:1", group=""),
        lambda: KafkaConfig(brokers="b:1", dead="a b"),
        lambda: KafkaConfig(brokers="b:1", options={"sasl.password": "x"}),
        lambda: KafkaSendConfig(topic="ä"),
        lambda: KafkaSendConfig(topic="a", types=()),
        lambda: KafkaSendConfig(topic="a", key="colour"),
        lambda: KafkaSendConfig(topic="a", key="data."),
        lambda: KafkaBridgeConfig(mqtt="a/#/b", topic="a"),
        lambda: KafkaTakeConfig(topic="a", route="a/+"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_a_sentence(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidError) as raised:
        make()
    assert raised.value.fix


# ---- with a cluster


@pytest.fixture
def names() -> dict[str, str]:
    return {part: f"{part}-{uuid.uuid4().hex}" for part in ("data", "out", "dead", "group")}


@pytest.fixture
def kafka(mock_kafka: str, names: dict[str, str]) -> KafkaConfig:
    return KafkaConfig(
        brokers=mock_kafka, group=names["group"], dead=names["dead"],
        bridge=(KafkaBridgeConfig(mqtt="sockfound", topic=names["data"]),),
        send=(KafkaSendConfig(topic=names["out"]),),
        take=(KafkaTakeConfig(topic=names["data"], route="i/sock"),),
    )  # fmt: skip


@contextmanager
def reading(place: KafkaPlace, *topics: str) -> Iterator[KafkaReceiver]:
    receiver = KafkaReceiver(place, topics=topics, group=f"of-{topics[0]}", client_id="test")
    yield receiver
    receiver.close()


def test_a_message_goes_from_mqtt_to_kafka_to_the_log_and_its_event_to_kafka(
    config: HubConfig, kafka: KafkaConfig, names: dict[str, str]
) -> None:
    with_route = config.plant.replace(".toml", "-sock.toml")
    with open(config.plant) as plain, open(with_route, "w") as longer:  # noqa: PTH123  two lines
        longer.write(plain.read() + '\n[[route]]\ntopic = "i/sock"\nkind = "message"\n')
    settings = replace(config, plant=with_route, kafka=kafka, strays=False)
    with running(settings, clock=SystemClock()) as hub:
        services = hub.services
        bus = open_bus(hub.bus_url, client_id="camera", clock=SystemClock())
        bus.publish("sockfound", b"Hello from deeplens")
        for _ in range(3):
            bus.publish("sockfound", BYTES)
        services.ledger.record([replace(rule_event(9, label="Google"), time=SystemClock().now())])

        def gauges() -> dict[str, float]:
            return dict(services.stats.plain()["gauges"])

        wait_until(lambda: gauges()["kafka_taken"] == 3 and gauges()["kafka_dead"] == 1)
        wait_until(lambda: gauges()["kafka_sent"] == 1)
        assert gauges()["kafka_bridged"] == 4
        assert gauges()["kafka_bridge_dropped"] == 0
        wait_until(lambda: services.followers.one("kafka-" + names["out"]).behind == 0)
        said = [event.event for event in services.events.page(kind="lineside.plant.message.v1")]
        assert [event["data"]["image"] for event in said] == ["Google"] * 3
        (letter,) = services.dead_letters.page()
        assert services.dead_letters.payload(letter.id) == b"Hello from deeplens"
        bus.close()
    with reading(kafka.place, *(names[part] for part in ("data", "dead", "out"))) as receiver:
        came = received(receiver, 6)
    records = [one for one in came if one.topic == names["data"]]
    assert [one.value for one in records] == [b"Hello from deeplens", BYTES, BYTES, BYTES]
    assert {one.key for one in records} == {b"sockfound"}
    (dead,) = (one for one in came if one.topic == names["dead"])
    assert dict(dead.headers)["lineside_reason"] == b"not JSON"
    (told,) = (one for one in came if one.topic == names["out"])
    assert json.loads(told.value or b"")["data"] == {"label": "Google"}


class AwayAtFirst:
    """A group member whose turns are counted, over a list of records."""

    def __init__(self, records: list[ReceivedRecord]) -> None:
        self.records = records
        self.said: list[str] = []

    def take(self, *, most: int, timeout_s: float) -> list[ReceivedRecord]:
        assert min(most, timeout_s) > 0
        came, self.records = self.records, []
        return came

    def commit(self, records: list[ReceivedRecord]) -> bool:
        self.said.append(f"commit {len(records)}")
        return True

    def pause(self, *, timeout_s: float) -> None:
        assert timeout_s
        self.said.append("pause")

    def resume(self) -> None:
        self.said.append("resume")


def intake(hub: Services, receiver: AwayAtFirst) -> KafkaReader:
    nowhere = KafkaSender(KafkaPlace(brokers="127.0.0.1:9"), client_id="test")
    reads = (KafkaTakeConfig(topic="data_mqtt", route="i/alert"),)
    return KafkaReader(reads, receiver=receiver, dead=nowhere, services=hub)  # type: ignore[arg-type]  # the part of it that is used


def test_offsets_are_committed_after_the_records_and_not_while_the_store_is_away(
    hub: Services, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    alert = json.dumps({"id": "bme680", "code": 1, "data": "", "ts": rfc3339(clock.now())}).encode()
    receiver = AwayAtFirst([taken(alert), taken(b"{", offset=8)])
    record, away = hub.ledger.record, [1, 1]

    def sometimes(*args: Any, **more: Any) -> object:  # noqa: ANN401  passed on
        if away:
            away.pop()
            raise UnavailableError("the store is away")
        return record(*args, **more)

    monkeypatch.setattr(hub.ledger, "record", sometimes)
    reader = intake(hub, receiver)
    reader.step()
    assert receiver.said == ["pause", "pause", "resume", "commit 2"]
    assert (reader.count, reader.dead_count) == (1, 1)
    assert hub.dead_letters.counts() == {"not JSON": 1}
    reader.step()
    assert len(receiver.said) == 4


def test_a_record_from_the_future_is_a_dead_letter(hub: Services, clock: FakeClock) -> None:
    ahead = rfc3339(clock.now() + timedelta(seconds=60))
    alert = json.dumps({"id": "bme680", "code": 1, "data": "", "ts": ahead}).encode()
    intake(hub, AwayAtFirst([taken(alert)])).step()
    assert hub.dead_letters.counts() == {"from the future": 1}


def test_events_wait_in_the_log_while_kafka_is_away(hub: Services, mock_kafka: str) -> None:
    sent = KafkaSendConfig(topic=f"out-{uuid.uuid4().hex}")
    place = KafkaPlace(brokers="127.0.0.1:9", options={"message.timeout.ms": "200"})
    away = KafkaSender(place, client_id="test")

    def follower(sender: KafkaSender) -> Follower:
        return Follower(
            "kafka-test", records=hub.records, ledger=hub.ledger,
            handle=KafkaEvents(sent, sender=sender).send,
            type=EVENT_TYPE,
        )  # fmt: skip

    hub.ledger.record([rule_event(n) for n in range(3)])
    with pytest.raises(UnavailableError):
        follower(away).step()
    away.close()
    there = KafkaSender(KafkaPlace(brokers=mock_kafka), client_id="test")
    assert follower(there).step() == 3
    assert follower(there).step() == 0
    there.close()


def test_an_event_that_kafka_never_takes_is_quarantined_and_the_next_is_sent(
    hub: Services, mock_kafka: str
) -> None:
    place = KafkaPlace(brokers=mock_kafka, options={"message.max.bytes": "2000"})
    sender = KafkaSender(place, client_id="test")
    events = KafkaEvents(KafkaSendConfig(topic="small"), sender=sender)
    hub.ledger.record([rule_event(1, text="x" * 5000), rule_event(2)])
    follower = Follower(
        "kafka-small", records=hub.records, ledger=hub.ledger, handle=events.send,
        type=EVENT_TYPE,
    )  # fmt: skip
    assert follower.step() == 2
    assert events.count == 1
    (record,) = follower.quarantine.page()
    assert record.event == rule_event(1).id
    sender.close()
