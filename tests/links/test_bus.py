"""Every bus passes the same contract."""

import socket
from collections.abc import Iterator
from typing import Protocol, cast

import pytest

from lineside.links import Bus, BusSession, EmbeddedBroker
from lineside.links.memory import MemoryBus, MemorySession
from lineside.links.mqtt import MqttBus
from lineside.links.mqtt_session import MqttSession
from lineside.testing.links import BusContract, SessionContract, wait_until


class Server(Protocol):
    @property
    def url(self) -> str: ...


class TestMemory(BusContract):
    @pytest.fixture
    def url(self, request: pytest.FixtureRequest) -> str:
        return f"memory://{abs(hash(request.node.nodeid))}"

    def vanish(self, bus: Bus) -> None:
        cast("MemoryBus", bus).lose()

    def come_back(self, bus: Bus) -> None:
        cast("MemoryBus", bus).regain()


def cut(bus: Bus | BusSession) -> None:
    """Close the client's socket under it, as a pulled cable would."""
    sock = cast("MqttBus", bus)._client.socket()
    assert isinstance(sock, socket.socket)
    sock.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: not bus.connected() or cast("MqttBus", bus)._client.socket() is not sock)


class TestEmbeddedBroker(BusContract):
    @pytest.fixture
    def url(self) -> Iterator[str]:
        with EmbeddedBroker() as broker:
            yield broker.url

    def vanish(self, bus: Bus) -> None:
        cut(bus)


@pytest.mark.service
class TestMosquitto(BusContract):
    @pytest.fixture
    def url(self, mosquitto: Server) -> str:
        return mosquitto.url

    def vanish(self, bus: Bus) -> None:
        cut(bus)


@pytest.mark.service
class TestMosquittoWithVersion5(BusContract):
    copy_per_pattern = True

    @pytest.fixture
    def url(self, mosquitto: Server) -> str:
        return f"{mosquitto.url}?version=5"

    def vanish(self, bus: Bus) -> None:
        cut(bus)


class TestMemorySession(SessionContract):
    @pytest.fixture
    def url(self, request: pytest.FixtureRequest) -> str:
        return f"memory://{abs(hash(request.node.nodeid))}"

    def vanish(self, session: BusSession) -> None:
        cast("MemorySession", session).lose()

    def come_back(self, session: BusSession) -> None:
        cast("MemorySession", session).regain()


class MqttSessionContract(SessionContract):
    def vanish(self, session: BusSession) -> None:
        cut(session)

    def close_after_acknowledgements(self, session: BusSession) -> None:
        mqtt = cast("MqttSession", session)
        with mqtt._changed:  # what a broker answers comes after what it was told before (MQTT, 4.6)
            _, asked = mqtt._client.unsubscribe("never/subscribed")
            assert asked is not None
            mqtt._unanswered, mqtt._agreed = {asked}, False
        wait_until(session.agreed)
        session.close()


class TestEmbeddedBrokerSession(MqttSessionContract):
    says_again = False

    @pytest.fixture
    def url(self) -> Iterator[str]:
        with EmbeddedBroker() as broker:
            yield broker.url


@pytest.mark.service
class TestMosquittoSession(MqttSessionContract):
    @pytest.fixture
    def url(self, mosquitto: Server) -> str:
        return mosquitto.url


@pytest.mark.service
class TestMosquittoSessionWithVersion5(MqttSessionContract):
    @pytest.fixture
    def url(self, mosquitto: Server) -> str:
        return f"{mosquitto.url}?version=5"
