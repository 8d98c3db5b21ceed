"""An answer of the embedded broker means stored: when it comes, to whom, and after which losses."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lineside.core import SystemClock
from lineside.links import (
    BrokerLimits,
    BusSession,
    Delivery,
    EmbeddedBroker,
    open_bus,
    open_session,
)
from lineside.links.broker_contract import OversizedPacket
from lineside.testing.links import LONG_S, SHORT_S, wait_until
from tests.links.test_broker_limits import is_closed, packet, raw_client, text

CLOCK = SystemClock()
TOPICS = ("line/#",)
PUBREC, PUBREL, PUBCOMP = 0x50, 0x62, 0x70


@contextmanager
def hub_of(broker: EmbeddedBroker) -> Iterator[BusSession]:
    """The session by which the broker's own process stores what it takes."""
    session = open_session(broker.own_url, client_id="hub", patterns=TOPICS, clock=CLOCK)
    try:
        yield session
    finally:
        session.close()


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


def take(hub: BusSession, count: int) -> list[Delivery]:
    taken: list[Delivery] = []
    while len(taken) < count:
        came = hub.take(most=count - len(taken), timeout_s=LONG_S)
        assert came, "nothing came"
        taken += came
    return taken


def publish(link: socket.socket, number: int, *, qos: int, topic: str = "line/a") -> None:
    body = text(topic) + struct.pack("!H", number) + str(number).encode()
    link.sendall(packet(0x30 | qos << 1, body))


def answer(kind: int, number: int) -> bytes:
    return bytes([kind, 2]) + struct.pack("!H", number)


def is_silent(link: socket.socket) -> bool:
    """Whether nothing comes for a while."""
    link.settimeout(SHORT_S)
    try:
        return not link.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return True
    finally:
        link.settimeout(LONG_S)


def persistent_client(broker: EmbeddedBroker, client_id: str) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", broker.port), timeout=LONG_S)
    link.sendall(packet(0x10, text("MQTT") + b"\x04\x00\x00\x3c" + text(client_id)))
    assert link.recv(4)[:2] == b"\x20\x02"
    return link


class TestAnAnswer:
    @pytest.mark.parametrize(("qos", "kind"), [(1, 0x40), (2, PUBREC)])
    def test_comes_when_the_hub_has_stored_the_message(
        self, broker: EmbeddedBroker, qos: int, kind: int
    ) -> None:
        camera = raw_client(broker, "camera")
        with hub_of(broker) as hub:
            publish(camera, 7, qos=qos)
            taken = take(hub, 1)
            assert is_silent(camera)
            hub.acknowledge(taken)
            assert camera.recv(4) == answer(kind, 7)
        camera.close()

    def test_comes_at_once_for_what_the_hub_does_not_take(self, broker: EmbeddedBroker) -> None:
        camera = raw_client(broker, "camera")
        with hub_of(broker):
            publish(camera, 7, qos=1, topic="other/a")
            assert camera.recv(4) == answer(0x40, 7)
        camera.close()

    def test_keeps_the_order_of_the_messages(self, broker: EmbeddedBroker) -> None:
        camera = raw_client(broker, "camera")
        with hub_of(broker) as hub:
            publish(camera, 1, qos=1)
            publish(camera, 2, qos=1, topic="other/a")
            taken = take(hub, 1)
            assert is_silent(camera)
            hub.acknowledge(taken)
            assert camera.recv(4) + camera.recv(4) == answer(0x40, 1) + answer(0x40, 2)
        camera.close()

    def test_waits_for_a_hub_that_is_away_and_comes_when_it_is_back(
        self, broker: EmbeddedBroker
    ) -> None:
        camera = raw_client(broker, "camera")
        with hub_of(broker):
            pass
        publish(camera, 7, qos=1)
        assert is_silent(camera)
        with hub_of(broker) as hub:
            hub.acknowledge(take(hub, 1))
            assert camera.recv(4) == answer(0x40, 7)
        camera.close()

    def test_never_comes_when_the_hub_gave_up_its_session(self, broker: EmbeddedBroker) -> None:
        camera = raw_client(broker, "camera")
        with hub_of(broker):
            pass
        publish(camera, 7, qos=1)
        assert is_silent(camera)
        open_bus(broker.own_url, client_id="hub", clock=CLOCK).close()  # begins a clean session
        assert is_closed(camera)
        camera.close()

    def test_is_not_waited_for_by_the_hub_itself(self, broker: EmbeddedBroker) -> None:
        with hub_of(broker) as hub:
            own = open_bus(broker.own_url, client_id="other", clock=CLOCK)
            own.publish("line/a", b"1", timeout_s=LONG_S)
            own.close()
            assert len(take(hub, 1)) == 1

    def test_a_reader_that_is_slow_slows_its_sender_down_and_loses_nothing(self) -> None:
        limits = BrokerLimits(inbox_messages=4, outbox_messages=3)
        with EmbeddedBroker(limits=limits) as broker, hub_of(broker) as hub:
            camera = raw_client(broker, "camera")
            for number in range(1, 21):
                publish(camera, number, qos=1)
            taken = take(hub, 4)
            assert hub.take(most=1, timeout_s=SHORT_S) == []
            hub.acknowledge(taken)
            for _ in range(4):
                more = take(hub, 4)
                hub.acknowledge(more)
                taken += more
            assert [int(one.message.payload) for one in taken] == list(range(1, 21))
            assert broker.figures().dropped == 0
            camera.close()


class TestQualityTwo:
    def test_a_client_that_drops_before_pubrec_comes_back_and_is_answered(
        self, broker: EmbeddedBroker
    ) -> None:
        for number in range(1, 5):
            first = persistent_client(broker, "camera")
            with hub_of(broker) as hub:
                publish(first, number, qos=2)
                taken = take(hub, 1)
                first.close()
                again = persistent_client(broker, "camera")
                publish(again, number, qos=2)
                assert is_silent(again)
                hub.acknowledge(taken)
                assert again.recv(4) == answer(PUBREC, number)
                again.sendall(answer(PUBREL, number))
                assert again.recv(4) == answer(PUBCOMP, number)
                assert hub.take(most=1, timeout_s=SHORT_S) == []
                again.close()
        wait_until(lambda: broker.figures().clients == 0)

    def test_what_was_stored_meanwhile_is_answered_when_it_is_sent_again(
        self, broker: EmbeddedBroker
    ) -> None:
        first = persistent_client(broker, "camera")
        with hub_of(broker) as hub:
            publish(first, 7, qos=2)
            taken = take(hub, 1)
            first.close()
            wait_until(lambda: broker.figures().clients == 1)
            hub.acknowledge(taken)
            again = persistent_client(broker, "camera")
            publish(again, 7, qos=2)
            assert again.recv(4) == answer(PUBREC, 7)
            assert hub.take(most=1, timeout_s=SHORT_S) == []
            again.close()

    def test_a_reader_that_left_before_pubcomp_hears_pubrel_again(
        self, broker: EmbeddedBroker
    ) -> None:
        reader = persistent_client(broker, "reader")
        reader.sendall(packet(0x82, b"\x00\x01" + text("line/a") + b"\x02"))
        assert reader.recv(5)[0] == 0x90
        sender = open_bus(broker.url, client_id="sender", clock=CLOCK)
        sender.publish("line/a", b"1", qos=2, timeout_s=LONG_S)
        number = struct.unpack("!H", reader.recv(100)[-3:-1])[0]
        reader.sendall(answer(PUBREC, number))
        assert reader.recv(4) == answer(PUBREL, number)
        reader.close()
        back = persistent_client(broker, "reader")
        assert back.recv(4) == answer(PUBREL, number)
        back.sendall(answer(PUBCOMP, number))
        wait_until(lambda: broker.figures().waiting_messages == 0)
        back.close()
        sender.close()


def test_others_come_in_when_the_hub_has_subscribed() -> None:
    with EmbeddedBroker(topics=TOPICS) as broker:
        link = socket.create_connection(("127.0.0.1", broker.port), timeout=LONG_S)
        link.sendall(packet(0x10, text("MQTT") + b"\x04\x02\x00\x3c" + text("camera")))
        with hub_of(broker) as hub:
            assert is_silent(link)
            broker.admit_clients()
            assert link.recv(4) == b"\x20\x02\x00\x00"
            publish(link, 7, qos=1)
            hub.acknowledge(take(hub, 1))
            assert link.recv(4) == answer(0x40, 7)
        link.close()


def test_a_client_that_comes_before_the_hub_is_not_kept_for_ever() -> None:
    with EmbeddedBroker(topics=TOPICS, limits=BrokerLimits(connect_s=0.2)) as broker:
        link = socket.create_connection(("127.0.0.1", broker.port), timeout=LONG_S)
        link.sendall(packet(0x10, text("MQTT") + b"\x04\x02\x00\x3c" + text("camera")))
        assert is_closed(link)
        link.close()


def test_a_packet_above_the_limit_is_told_once_with_its_topic_and_size_and_counted() -> None:
    told: list[OversizedPacket] = []
    limits = BrokerLimits(packet_bytes=1000)
    with EmbeddedBroker(limits=limits, oversized=told.append) as broker:
        for _ in range(3):
            camera = raw_client(broker, "camera")
            body = text("line/a") + bytes(5000)
            camera.sendall(packet(0x30, body))
            assert is_closed(camera)
            camera.close()
        other = raw_client(broker, "other")
        other.sendall(packet(0x30, text("line/b") + bytes(2000)))
        assert is_closed(other)
        other.close()
        wait_until(lambda: len(told) == 2)
        assert broker.figures().oversized == 4
    assert [(one.client_id, one.topic, one.size_bytes) for one in told] == [
        ("camera", "line/a", 5008),
        ("other", "line/b", 2008),
    ]
