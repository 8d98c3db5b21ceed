"""Messages without a time that go through Kafka: each counts once, wherever the hub was killed."""

import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import RouteKind, SystemClock, UnavailableError
from lineside.core.plant import Route
from lineside.hub import Services
from lineside.hub.config import KafkaBridgeConfig
from lineside.hub.eventlog.leases import LENGTH_S, HubLeases
from lineside.hub.readers import MOST_NAMES, DeliveryName, DeliveryNames, name_deliveries
from lineside.hub.sinks.kafka import DELIVERY, KafkaBridge, bridged_record, event_of
from lineside.links import Delivery, Message, open_bus, open_session
from lineside.links.kafka import KafkaPlace, KafkaReceiver, KafkaRecord, KafkaSender, ReceivedRecord
from lineside.store import open_records
from lineside.testing import FakeClock
from lineside.testing.kafka import received
from lineside.testing.links import wait_until
from tests.links.conftest import Mosquitto

SOCK = Route(topic="i/sock", kind=RouteKind.MESSAGE, max_bytes=1000)
WORDS = (b'{"image":"Blank"}', b'{"image":"Google"}')


def kept(mid: int, *, content: bytes = WORDS[0], again: bool = False, qos: int = 1) -> Delivery:
    message = Message(topic="sockfound", payload=content, qos=qos)
    return Delivery(message=message, mid=mid, connection=1, again=again)


def taken(record_of: Delivery, name: str, *, offset: int) -> ReceivedRecord:
    record = bridged_record(record_of.message, topic="data_mqtt", delivery=name)
    return ReceivedRecord(
        topic="data_mqtt", partition=0, offset=offset, at=FakeClock().now(), value=record.value,
        key=record.key, headers=record.headers,
    )  # fmt: skip


def event_id(record: ReceivedRecord) -> str:
    return event_of(record, SOCK, topic="i/sock", site="hall").id


def names_from(start: int = 0) -> Callable[[], str]:
    numbers = iter(range(start, 10_000))
    return lambda: f"dlv_{next(numbers)}"


def test_what_is_sent_once_more_keeps_its_name_and_nothing_else_gets_it() -> None:
    fresh = names_from()
    (first, other), known = name_deliveries([kept(7), kept(8)], [], fresh=fresh)
    assert first != other
    (same,), _ = name_deliveries([kept(7, again=True)], known, fresh=fresh)
    assert same == first
    for one in (kept(7), kept(7, content=WORDS[1], again=True), kept(9, again=True)):
        (name,), _ = name_deliveries([one], known, fresh=fresh)
        assert name not in {first, other}


def test_a_message_that_is_sent_once_only_has_no_name() -> None:
    assert name_deliveries([kept(0, qos=0)], [], fresh=names_from()) == ([""], [])
    assert bridged_record(kept(0, qos=0).message, topic="t", delivery="").headers == ()


def test_what_is_remembered_is_bounded_and_the_oldest_goes() -> None:
    _, known = name_deliveries([kept(n) for n in range(MOST_NAMES + 3)], [], fresh=names_from())
    assert [one.mid for one in known] == list(range(3, MOST_NAMES + 3))


def test_names_survive_the_hub() -> None:
    with open_records("memory://", clock=FakeClock()) as records:

        def life() -> DeliveryNames:
            return DeliveryNames(records.documents, session="hub", clock=FakeClock())

        first = life().names([kept(1), kept(2)])
        assert life().names([kept(2, again=True)]) == first[1:]
        assert life().names([kept(3)])[0] not in first


def test_a_hub_that_lost_the_session_names_nothing_that_it_still_has_in_hand() -> None:
    clock = FakeClock()
    with open_records("memory://", clock=clock) as records:
        leases = [HubLeases(records, hub=hub, clock=clock, alone=False) for hub in ("a", "b")]
        parts = [one.lease("plant") for one in leases]
        readers = [
            DeliveryNames(records.documents, session="hub", clock=clock, writing=part.writing)
            for part in parts
        ]
        leases[0].step()
        (name,) = readers[0].names([kept(1)])
        clock.advance(LENGTH_S + 1)
        leases[1].step()
        assert readers[1].names([kept(1, again=True)]) == [name]
        with pytest.raises(UnavailableError, match="taken 'plant' over"):
            readers[0].names([kept(2)])
        assert len(records.documents.get("mqtt-deliveries", "hub").body["named"]) == 1


def test_a_name_tells_one_event_from_its_like_and_finds_itself_again() -> None:
    one = taken(kept(1), "dlv_1", offset=4)
    assert event_id(one) == event_id(replace(one, offset=9))
    assert event_id(one) != event_id(replace(one, headers=((DELIVERY, b"dlv_2"),)))
    assert event_id(one) != event_id(replace(one, value=WORDS[1]))


@pytest.mark.parametrize("name", [b"", b"dlv_", b"dlv_\xff", b"dlv_" + b"x" * 99, b"evt_1"])
def test_a_name_of_others_counts_as_none(name: bytes) -> None:
    one = replace(taken(kept(1), "", offset=4), headers=((DELIVERY, name),))
    assert event_id(one) != event_id(replace(one, offset=9))


# ---- any kill


@dataclass
class Broker:
    """What MQTT 3.1.1 promises of a session: identifiers counted up, unacknowledged sent again."""

    waiting: deque[bytes]
    window: int
    last_mid: int = 0
    unacked: dict[int, bytes] = field(default_factory=dict)

    def join(self) -> list[Delivery]:
        return [kept(mid, content=content, again=True) for mid, content in self.unacked.items()]

    def send(self) -> list[Delivery]:
        came = []
        while self.waiting and len(self.unacked) < self.window:
            self.last_mid += 1
            self.unacked[self.last_mid] = self.waiting.popleft()
            came.append(kept(self.last_mid, content=self.unacked[self.last_mid]))
        return came


class KilledError(Exception):
    """The hub's end."""


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=40), st.integers(1, 6), st.data())
def test_killed_anywhere_each_message_is_one_event(
    messages: list[bytes], window: int, data: st.DataObject
) -> None:
    """Also with messages that are word for word the same; at most six kills, then none."""
    broker, log = Broker(deque(messages), window), list[ReceivedRecord]()
    stored: list[DeliveryName] = []
    fresh, kills = names_from(), iter(range(6))

    def may_die() -> None:
        if data.draw(st.booleans()) and next(kills, None) is not None:
            raise KilledError

    def live() -> None:
        came = broker.join()
        while came := came or broker.send():
            may_die()
            batch = came[: data.draw(st.integers(1, len(came)))]
            names, stored[:] = name_deliveries(batch, stored, fresh=fresh)
            for one, name in zip(batch, names, strict=True):
                may_die()
                log.append(taken(one, name, offset=len(log)))
            for one in batch:
                may_die()  # told the broker, or not
                broker.unacked.pop(one.mid)
            came = came[len(batch) :]

    while broker.waiting or broker.unacked:
        with suppress(KilledError):
            live()
    once = {event_id(record): record.value for record in log}
    assert sorted(value or b"" for value in once.values()) == sorted(messages)


# ---- the bridge


class Dying(KafkaSender):
    """The hub ends when Kafka has the records, before the MQTT broker hears of it."""

    sent = 0

    def send(self, records: Sequence[KafkaRecord]) -> list[object]:  # type: ignore[override]  # it never answers
        super().send(records)
        Dying.sent = len(records)
        raise KilledError


@pytest.mark.service
def test_what_kafka_had_before_the_kill_is_no_second_event(
    hub: Services, mosquitto: Mosquitto, mock_kafka: str
) -> None:
    topic = f"data-{uuid.uuid4().hex}"
    place = KafkaPlace(brokers=mock_kafka)

    @contextmanager
    def life(kind: type[KafkaSender]) -> Iterator[KafkaBridge]:
        with ExitStack() as stack:
            session = open_session(
                mosquitto.url, patterns=("sockfound",), client_id="hub", clock=SystemClock()
            )
            stack.callback(session.close)
            sender = kind(place, client_id="test")
            stack.callback(sender.close)
            bridged = (KafkaBridgeConfig(mqtt="sockfound", topic=topic),)
            yield KafkaBridge(bridged, session=session, sender=sender, services=hub, name="hub")

    with life(Dying) as bridge:
        camera = open_bus(mosquitto.url, client_id="camera", clock=SystemClock())
        for _ in range(3):  # word for word the same, without a time
            camera.publish("sockfound", WORDS[0])
        camera.close()
        with pytest.raises(KilledError):
            wait_until(bridge.step)
    with life(KafkaSender) as bridge:
        while bridge.count < 3:
            bridge.step()
    receiver = KafkaReceiver(place, topics=[topic], group=topic, client_id="test")
    records = received(receiver, Dying.sent + 3)
    receiver.close()
    assert len(records) == Dying.sent + 3
    assert len({event_id(one) for one in records}) == 3
    assert {one.value for one in records} == {WORDS[0]}
