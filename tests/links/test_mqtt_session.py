"""What is particular to sessions over MQTT, beside the contract that all of them pass."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from lineside.core import SystemClock
from lineside.links import Bus, BusSession, open_bus, open_session
from lineside.testing.links import LONG_S, numbers, take_from, wait_until
from tests.links.conftest import Mosquitto


def opened(url: str, *, client_id: str = "reader") -> BusSession:
    return open_session(url, client_id=client_id, patterns=("line/#",), clock=SystemClock())


def camera(url: str) -> Bus:
    return open_bus(url, client_id="camera", clock=SystemClock())


@pytest.mark.service
def test_after_a_broker_lost_the_session_what_waits_is_not_let_go(mosquitto: Mosquitto) -> None:
    """The session ends with this broker, so nothing is sent again."""
    session, sender = opened(mosquitto.url), camera(mosquitto.url)
    for number in (1, 2):
        sender.publish("line/a", b"%d" % number)
    taken = take_from(session, 1)
    mosquitto.stop()
    mosquitto.start()
    wait_until(lambda: session.connections() > 1 and session.agreed() and sender.connected())
    session.acknowledge(taken)
    sender.publish("line/a", b"3")
    assert numbers(take_from(session, 2)) == [2, 3]
    session.close()
    sender.close()


@pytest.mark.service
def test_version_5_says_how_much_may_come_ahead_and_mosquitto_as_shipped_sends_20(
    mosquitto: Mosquitto,
) -> None:
    """Each has a session of its own: a broker may take up the next connection of a session before
    it has read the last acknowledgements of the one before, and then sends those messages again."""
    sender = camera(mosquitto.url)
    for url, window in ((mosquitto.url, 20), (f"{mosquitto.url}?version=5", 100)):
        session = opened(url, client_id=f"reader-{window}")
        for number in range(150):
            sender.publish("line/a", b"%d" % number)
        held = take_from(session, window)
        assert session.take(most=1, timeout_s=0.3) == []
        session.acknowledge(held)
        session.acknowledge(take_from(session, 150 - window))
        session.close()
    sender.close()


def _length(size: int) -> bytes:
    """The remaining length of a packet (MQTT 3.1.1, 2.2.3), up to two bytes of it."""
    return bytes([size]) if size < 128 else bytes([size % 128 | 128, size >> 7])


class LooseBroker:
    """A broker by hand that sends as much as the network takes, and notes what is acknowledged."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._link = socket.socket()
        self.url = f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}"
        self.acknowledged: list[int] = []
        self.sent = 0
        self._threads = [threading.Thread(target=self._serve, name="loose-broker")]
        self._threads[0].start()

    def _serve(self) -> None:
        self._link.close()
        self._link, _ = self._listener.accept()
        while (packet := self._packet()) is not None:
            kind, body = packet
            if kind == 0x10:
                self._link.sendall(b"\x20\x02\x00\x00")
            elif kind == 0x82:
                self._link.sendall(b"\x90\x03" + body[:2] + b"\x01")
            elif kind == 0x40:
                self.acknowledged.append(struct.unpack("!H", body)[0])

    def _packet(self) -> tuple[int, bytes] | None:
        try:
            head = self._link.recv(2)
            body = b""
            while len(head) == 2 and len(body) < head[1]:
                body += self._link.recv(head[1] - len(body))
        except OSError:
            return None
        return (head[0], body) if len(head) == 2 else None

    def send_all(self, mids: range, *, size_bytes: int = 1) -> None:
        """Messages of quality 1, from a thread of its own: the reader may not take them all."""

        def send() -> None:
            for mid in mids:
                body = struct.pack("!H", 6) + b"line/a" + struct.pack("!H", mid)
                body += b"x" * size_bytes
                packed = _length(len(body))
                try:
                    self._link.sendall(b"\x32" + packed + body)
                except OSError:
                    return
                self.sent += 1

        self._threads.append(threading.Thread(target=send, name="loose-sender"))
        self._threads[-1].start()

    def close(self) -> None:
        for one in (self._link, self._listener):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._link.close()
        self._listener.close()


@pytest.fixture
def loose() -> Iterator[LooseBroker]:
    made = LooseBroker()
    yield made
    made.close()


def test_acknowledgements_go_out_in_the_order_of_the_messages(loose: LooseBroker) -> None:
    session = opened(loose.url)
    loose.send_all(range(1, 11))
    taken = take_from(session, 10)
    for one in reversed(taken[1:]):
        session.acknowledge([one])
    assert loose.acknowledged == []
    session.acknowledge(taken[:1])
    wait_until(lambda: len(loose.acknowledged) == 10)
    assert loose.acknowledged == list(range(1, 11))
    session.close()


def test_a_broker_without_a_window_is_slowed_down_by_the_network(loose: LooseBroker) -> None:
    session = opened(loose.url)
    loose.send_all(range(1, 5001), size_bytes=10_000)
    wait_until(lambda: session.figures().waiting >= 1000)
    assert session.take(most=0, timeout_s=0.3) == []
    assert session.figures().waiting < 1100
    assert loose.sent < 5000
    stored = 0
    while stored < 5000:
        came = session.take(most=100, timeout_s=LONG_S)
        assert came
        session.acknowledge(came)
        stored += len(came)
    wait_until(lambda: len(loose.acknowledged) == 5000)
    session.close()
