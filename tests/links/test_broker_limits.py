"""What one client of the embedded broker may cost, and that it costs no more."""

import contextlib
import gc
import logging
import socket
import struct
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pwdlib import PasswordHash

from lineside.core import InvalidError, RefusedError, SystemClock, UnavailableError
from lineside.links import (
    BrokerLimits,
    Bus,
    BusSession,
    EmbeddedBroker,
    Mailbox,
    open_bus,
    open_session,
)
from lineside.testing.links import LONG_S, numbers, store_from, wait_until

MEGABYTE = 1_000_000
LIMIT = 8 * MEGABYTE  # twice what the kernel may hold for a client that reads nothing


def join(url: str, client_id: str) -> Bus:
    return open_bus(url, client_id=client_id, clock=SystemClock())


def read(url: str, client_id: str) -> BusSession:
    return open_session(url, client_id=client_id, patterns=("line/a",), clock=SystemClock())


def text(value: str) -> bytes:
    return struct.pack("!H", len(value)) + value.encode()


def packet(kind: int, body: bytes) -> bytes:
    length, left = bytearray(), len(body)
    while True:
        left, digit = left >> 7, left & 0x7F
        length.append(digit | (0x80 if left else 0))
        if not left:
            return bytes([kind]) + bytes(length) + body


def connect_packet(client_id: str, *, keepalive_s: int = 60) -> bytes:
    head = text("MQTT") + b"\x04\x02" + struct.pack("!H", keepalive_s)
    return packet(0x10, head + text(client_id))


def raw_client(broker: EmbeddedBroker, client_id: str, *, keepalive_s: int = 60) -> socket.socket:
    """A client that speaks the protocol by hand, so that it can misbehave."""
    link = socket.socket()
    link.settimeout(LONG_S)
    # A fixed buffer: the kernel's own may grow until all that is under way fits into it.
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    link.connect(("127.0.0.1", broker.port))
    link.sendall(connect_packet(client_id, keepalive_s=keepalive_s))
    assert link.recv(4) == b"\x20\x02\x00\x00"
    return link


def subscribe_by_hand(link: socket.socket, pattern: str, *, qos: int) -> None:
    link.sendall(packet(0x82, b"\x00\x01" + text(pattern) + bytes([qos])))
    assert link.recv(5)[0] == 0x90


def is_closed(link: socket.socket) -> bool:
    link.settimeout(LONG_S)
    try:
        while link.recv(65536):
            pass
    except ConnectionError:
        return True
    return True


def caught_up(mailbox: Mailbox, count: int) -> bool:
    return mailbox.figures().received >= count


@pytest.mark.parametrize("qos", [0, 1])
class TestAStalledReader:
    def test_costs_a_bounded_memory(self, qos: int) -> None:
        limits = BrokerLimits(outbox_bytes=LIMIT, stalled_s=LONG_S)
        with EmbeddedBroker(limits=limits) as broker:
            stalled = raw_client(broker, "stalled")
            subscribe_by_hand(stalled, "cam/#", qos=qos)
            sender, receiver = join(broker.url, "sender"), join(broker.url, "healthy")
            healthy = receiver.subscribe(("cam/#",), size=10)
            gc.collect()
            before = psutil.Process().memory_info().rss
            for number in range(1, 301):  # 60 MB, seven times what may wait
                sender.publish("cam/a", bytes(200_000), qos=1)
                if number % 10 == 0:
                    wait_until(partial(caught_up, healthy, number))
            gc.collect()
            grown = psutil.Process().memory_info().rss - before
            assert broker.figures().waiting_bytes <= LIMIT + 64 * 200_000
            assert broker.figures().dropped > 0
            assert grown < 40 * MEGABYTE
            assert healthy.figures().received == 300
            for one in (sender, receiver, stalled):
                one.close()

    def test_is_cut_off(self, qos: int) -> None:
        with EmbeddedBroker(limits=BrokerLimits(outbox_bytes=LIMIT, stalled_s=0.5)) as broker:
            stalled = raw_client(broker, "stalled")
            subscribe_by_hand(stalled, "cam/#", qos=qos)
            sender = join(broker.url, "sender")

            def is_cut_off() -> bool:
                sender.publish("cam/a", bytes(200_000), qos=1)
                return broker.figures().cut_off == 1

            wait_until(is_cut_off)
            assert is_closed(stalled)
            wait_until(lambda: broker.figures().waiting_messages == 0)
            sender.close()
            stalled.close()


@pytest.mark.slow
@pytest.mark.parametrize("qos", [1, 2])
def test_an_answer_may_take_as_long_as_it_takes(qos: int) -> None:
    with EmbeddedBroker(limits=BrokerLimits(stalled_s=1)) as broker:
        client = raw_client(broker, "slow")
        subscribe_by_hand(client, "line/a", qos=qos)
        sender = join(broker.url, "sender")
        sender.publish("line/a", b"1", qos=2)
        number = client.recv(100)[-3:-1]
        threading.Event().wait(5.5)
        client.sendall(bytes([0x40 if qos == 1 else 0x50, 2]) + number)
        if qos == 2:
            assert client.recv(4) == b"\x62\x02" + number
            client.sendall(b"\x70\x02" + number)
        wait_until(lambda: broker.figures().waiting_messages == 0)
        assert broker.figures().cut_off == 0
        client.close()
        sender.close()


def test_an_absent_session_keeps_its_newest_messages_and_counts_the_rest() -> None:
    with EmbeddedBroker(limits=BrokerLimits(outbox_messages=10)) as broker:
        sender = join(broker.url, "sender")
        read(broker.url, "away").close()
        wait_until(lambda: broker.figures().clients == 1)
        for number in range(25):
            sender.publish("line/a", str(number).encode())
        wait_until(lambda: broker.figures().dropped == 15)
        back = read(broker.url, "away")
        assert numbers(store_from(back, 10)) == list(range(15, 25))
        back.close()
        sender.close()


def test_a_packet_above_the_limit_ends_the_connection_unread() -> None:
    with EmbeddedBroker(limits=BrokerLimits(packet_bytes=MEGABYTE)) as broker:
        link = raw_client(broker, "greedy")
        body = text("line/a") + bytes(2 * MEGABYTE)
        with contextlib.suppress(ConnectionError):
            link.sendall(packet(0x30, body))
        assert is_closed(link)
        link.close()
        other = join(broker.url, "other")
        other.publish("line/a", b"1")
        other.close()


def test_a_client_that_says_nothing_is_closed() -> None:
    with EmbeddedBroker(limits=BrokerLimits(connect_s=0.2)) as broker:
        link = socket.create_connection(("127.0.0.1", broker.port), timeout=LONG_S)
        assert is_closed(link)
        link.close()


def test_a_client_silent_beyond_its_keepalive_is_cut_off() -> None:
    with EmbeddedBroker() as broker:
        began_s = SystemClock().monotonic()
        link = raw_client(broker, "sleeper", keepalive_s=1)
        assert is_closed(link)
        assert SystemClock().monotonic() - began_s >= 1
        link.close()


def test_too_many_connections_are_refused() -> None:
    with EmbeddedBroker(limits=BrokerLimits(connections=2)) as broker:
        first, second = raw_client(broker, "a"), raw_client(broker, "b")
        third = socket.create_connection(("127.0.0.1", broker.port), timeout=LONG_S)
        assert is_closed(third)
        assert broker.figures().refused == 1
        for link in (first, second, third):
            link.close()


def test_retained_topics_are_bounded() -> None:
    with EmbeddedBroker(limits=BrokerLimits(retained_topics=3, retained_bytes=100)) as broker:
        bus = join(broker.url, "one")
        for number in range(5):
            bus.publish(f"r/{number}", b"x", retain=True)
        bus.publish("r/0", b"y" * 200, retain=True)
        wait_until(lambda: broker.figures().refused == 3)
        assert broker.figures().retained == 3
        bus.publish("r/0", b"", retain=True)
        bus.publish("r/9", b"z", retain=True)
        wait_until(lambda: broker.figures().retained == 3)
        assert broker.figures().refused == 3
        bus.close()


def test_reserved_topics_are_not_passed_on() -> None:
    with EmbeddedBroker() as broker:
        bus = join(broker.url, "one")
        mailbox = bus.subscribe(("$SYS/#",))
        bus.publish("$SYS/broker/version", b"mine")
        bus.publish("line/a", b"1")
        wait_until(lambda: broker.figures().refused == 1)
        assert mailbox.figures().received == 0
        bus.close()


def test_a_fast_sender_is_slowed_down_instead_of_filling_the_memory() -> None:
    with EmbeddedBroker(limits=BrokerLimits(inbox_messages=4)) as broker:
        sender, receiver = join(broker.url, "sender"), join(broker.url, "receiver")
        mailbox = receiver.subscribe(("line/#",), size=2)
        sent, pause = 0, threading.Event()
        while sent < 200:
            if sender.publish_soon("line/a", bytes(100_000)):
                sent += 1
            else:
                pause.wait(0.001)
        wait_until(lambda: mailbox.figures().received == 200)
        sender.close()
        receiver.close()


def test_a_message_without_topic_ends_the_connection() -> None:
    with EmbeddedBroker() as broker:
        link = raw_client(broker, "careless")
        link.sendall(packet(0x30, text("") + b"1"))
        assert is_closed(link)
        link.close()


def test_a_persistent_session_survives_a_second_connection_of_its_client() -> None:
    with EmbeddedBroker() as broker:
        stale = socket.create_connection(("127.0.0.1", broker.port), timeout=LONG_S)
        head = text("MQTT") + b"\x04\x00" + struct.pack("!H", 60)  # no clean session
        stale.sendall(packet(0x10, head + text("device")))
        assert stale.recv(4)[:2] == b"\x20\x02"
        subscribe_by_hand(stale, "line/a", qos=1)
        device, sender = read(broker.url, "device"), join(broker.url, "sender")
        assert is_closed(stale)
        sender.publish("line/a", b"1", qos=0)
        assert numbers(store_from(device, 1)) == [1]
        device.close()
        sender.close()
        stale.close()


@pytest.fixture(scope="module")
def victim() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(limits=BrokerLimits(connect_s=0.1, packet_bytes=100_000)) as broker:
        yield broker


GOOD = connect_packet("x") + packet(0x82, b"\x00\x01" + text("a") + b"\x01")
GOOD += packet(0x32, text("a") + b"\x00\x07hello")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    raw=st.one_of(
        st.binary(max_size=200),
        st.builds(lambda n: GOOD[:n], st.integers(0, len(GOOD))),
        st.builds(
            lambda place, value: GOOD[:place] + bytes([value]) + GOOD[place + 1 :],
            st.integers(0, len(GOOD) - 1),
            st.integers(0, 255),
        ),
    )
)
def test_bytes_that_are_no_mqtt_harm_nobody_else(victim: EmbeddedBroker, raw: bytes) -> None:
    logging.disable(logging.CRITICAL)
    try:
        with socket.create_connection(("127.0.0.1", victim.port), timeout=LONG_S) as link:
            link.sendall(raw)
        bus = join(victim.url, "bystander")
        bus.publish("line/a", b"1")
        bus.close()
    finally:
        logging.disable(logging.NOTSET)


class TestStartAndStop:
    def test_the_same_port_is_taken_again(self) -> None:
        broker = EmbeddedBroker()
        broker.start()
        broker.start()
        port = broker.port
        bus = join(broker.url, "one")
        broker.stop()
        broker.stop()
        assert broker.figures().clients == 0
        broker.start()
        assert broker.port == port
        wait_until(bus.connected)
        bus.close()
        broker.stop()

    def test_a_slow_start_is_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its library takes seconds to load on a small machine, however few a limit allows."""
        broker = EmbeddedBroker()
        started = broker._started.wait
        monkeypatch.setattr(
            broker._started, "wait", lambda limit_s=None: limit_s is None and started()
        )
        broker.start()
        join(broker.url, "one").close()
        broker.stop()

    def test_a_port_in_use_says_so(self) -> None:
        with EmbeddedBroker() as first, pytest.raises(UnavailableError, match="did not start"):
            EmbeddedBroker(port=first.port).start()

    def test_outside_addresses_need_a_password_file(self) -> None:
        with pytest.raises(InvalidError, match="password file"):
            EmbeddedBroker(host="0.0.0.0")  # noqa: S104  refused is what is tested

    def test_a_password_file_lets_in_who_knows_it(self, tmp_path: Path) -> None:
        passwords = tmp_path / "passwords"
        passwords.write_text(f"line:{PasswordHash.recommended().hash('geheim')}\n")
        with EmbeddedBroker(password_file=passwords) as broker:
            known = join(f"mqtt://line:geheim@127.0.0.1:{broker.port}", "known")
            assert known.connected()
            known.close()
            for who in ("line:falsch@", "other:geheim@", ""):
                with pytest.raises(RefusedError):
                    join(f"mqtt://{who}127.0.0.1:{broker.port}", "unknown")
            assert broker.figures().refused >= 3  # a client tries again until it is closed

    def test_the_process_of_the_broker_joins_it_without_a_line_in_the_file(
        self, tmp_path: Path
    ) -> None:
        passwords = tmp_path / "passwords"
        passwords.write_text("")
        everywhere = "0.0.0.0"  # noqa: S104  the address is what is tested
        with EmbeddedBroker(host=everywhere, password_file=passwords) as broker:
            own = join(broker.own_url, "own")
            assert own.connected()
            own.close()
            with pytest.raises(RefusedError):
                join(f"mqtt://lineside-hub:@127.0.0.1:{broker.port}", "other")
