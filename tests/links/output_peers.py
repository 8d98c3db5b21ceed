"""What an output drives, one class for each kind: real servers, which note what is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import pytest

from lineside.core import SystemClock
from lineside.links import Bus, EmbeddedBroker, Mailbox, open_bus, output
from lineside.testing.links import LONG_S
from tests.links.conftest import Mosquitto, free_port

Write = tuple[float, str, int]
"""Time on the monotonic clock, point and value."""


class Peer(Protocol):
    """A server with points.

    Attributes:
        url: of the output.
        points: one to switch, and one for the heartbeat.
        writes: each write that it has got, in order.
    """

    @property
    def url(self) -> str: ...

    @property
    def points(self) -> tuple[str, str]: ...

    @property
    def writes(self) -> list[Write]: ...

    def values(self, point: str) -> list[int]:
        """What was written to a point, without what was written again."""
        ...

    def switch_on(self) -> None: ...

    def switch_off(self) -> None:
        """Power is gone: connections end, values are lost."""
        ...


def changes(writes: list[Write], point: str) -> list[int]:
    """Return the values of a point without those that equal the one before."""
    values = [value for _, name, value in list(writes) if name == point]
    return [one for place, one in enumerate(values) if place == 0 or values[place - 1] != one]


@dataclass
class BrokerPeer:
    """A broker, and a client of it that reads what is published below ``west``."""

    broker: EmbeddedBroker | Mosquitto = field(default_factory=EmbeddedBroker)
    points: tuple[str, str] = ("west/gate", "west/alive")
    _bus: Bus | None = None
    _heard: Mailbox | None = None
    _writes: list[Write] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.broker.url

    @property
    def writes(self) -> list[Write]:
        if self._heard is not None:
            for message in self._heard.get_many(most=1000, timeout_s=0):
                self._writes.append((message.arrived_s, message.topic, int(message.payload)))
        return self._writes

    def values(self, point: str) -> list[int]:
        return changes(self.writes, point)

    def switch_on(self) -> None:
        self.broker.start()
        self._bus = open_bus(self.broker.url, client_id="reader", clock=SystemClock())
        self._heard = self._bus.subscribe(("west/#",))

    def switch_off(self) -> None:
        if self._bus is not None:
            self._bus.close()
            self.broker.stop()
        self._bus = self._heard = None
        self._writes.clear()


class _Users:
    """Anybody, and anna by her password; in asyncua's form."""

    def get_user(
        self, _server: object, *, username: str | None = None, password: str | None = None,
        certificate: object = None,  # noqa: ARG002  names no person
    ) -> object:  # fmt: skip
        from asyncua.crypto.permission_rules import User, UserRole

        return User(role=UserRole.User) if (username, password) in _USERS else None


_USERS = {(None, None), ("anna", "geheim")}


@dataclass
class OpcuaPeer:
    """An OPC UA server of a PLC; every node but ``Locked`` may be written.

    Attributes:
        folder: with ``plc.crt`` and ``plc.key`` it encrypts, too; None: it does not.
    """

    url: str = field(default_factory=lambda: f"opc.tcp://127.0.0.1:{free_port()}")
    points: tuple[str, str] = ("ns=2;s=Gate", "ns=2;s=Alive")
    folder: Path | None = None
    writes: list[Write] = field(default_factory=list)
    _server: Any = None

    def values(self, point: str) -> list[int]:
        return changes(self.writes, point)

    def value(self, name: str) -> object:
        return self._server.get_node(f"ns=2;s={name}").read_value()

    def make(self) -> None:
        """Make the nodes and listen; it takes a second."""
        from asyncua import ua
        from asyncua.common.callback import CallbackType
        from asyncua.sync import Server

        server: Any = Server()
        node_id: Any = ua.NodeId  # typed for numbers of its own kinds
        self._server = server
        server.set_endpoint(self.url)
        policies = [ua.SecurityPolicyType.NoSecurity]
        server.aio_obj.iserver.set_user_manager(_Users())
        if self.folder is not None:
            server.load_certificate(str(self.folder / "plc.crt"), "pem")
            server.load_private_key(self.folder / "plc.key", None, "pem")
            policies.append(ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt)
        server.set_security_policy(policies)
        space = server.register_namespace("urn:plc")
        for name, value, kind in (
            ("Gate", False, "Boolean"), ("Alive", False, "Boolean"), ("Ready", True, "Boolean"),
            ("State", 0, "UInt16"), ("Small", 0, "Byte"), ("Share", 0.0, "Float"),
            ("Name", "", "String"), ("Locked", False, "Boolean"),
        ):  # fmt: skip
            node = server.nodes.objects.add_variable(
                node_id(name, space), name, value, ua.VariantType[kind]
            )
            if name != "Locked":
                node.set_writable()
        server.aio_obj.subscribe_server_callback(CallbackType.PostWrite, self._note)
        server.start()

    def end(self) -> None:
        self._server.stop()

    def switch_on(self) -> None:
        self._server.tloop.post(self._server.aio_obj.bserver.start())

    def switch_off(self) -> None:
        self._server.tloop.post(self._server.aio_obj.bserver.stop())
        self.writes.clear()

    def _note(self, event: Any, _service: object) -> None:  # noqa: ANN401  of the library
        for asked, status in zip(
            event.request_params.NodesToWrite, event.response_params, strict=True
        ):
            if event.is_external and status.is_good():
                value = int(asked.Value.Value.Value)
                self.writes.append((monotonic(), asked.NodeId.to_string(), value))


def patient_outputs(patch: pytest.MonkeyPatch) -> None:
    """Let outputs wait long for a peer of this process, and a test longer for their failure."""
    patch.setattr(output, "WAIT_S", LONG_S / 3)
    patch.setattr(output, "_OPCUA_S", LONG_S / 3)


@contextmanager
def opcua_peer(folder: Path | None = None) -> Iterator[OpcuaPeer]:
    """One that is on, for the length of a ``with``."""
    peer = OpcuaPeer(folder=folder)
    peer.make()
    try:
        yield peer
    finally:
        peer.end()


@contextmanager
def broker_peer(broker: EmbeddedBroker | Mosquitto | None = None) -> Iterator[BrokerPeer]:
    """One that is on, for the length of a ``with``."""
    peer = BrokerPeer(broker or EmbeddedBroker())
    peer.switch_on()
    try:
        yield peer
    finally:
        peer.switch_off()
