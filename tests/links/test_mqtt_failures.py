"""What goes wrong with a broker, and what the client says of it."""

import gc
import logging
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

import pytest

from lineside.core import InvalidError, RefusedError, SystemClock, UnavailableError
from lineside.links import Bus, EmbeddedBroker, open_bus
from lineside.links.mqtt import MqttBus, parse_address
from lineside.testing.links import LONG_S, take, wait_until


class Server(Protocol):
    folder: Path
    port: int
    settings: tuple[str, ...]

    @property
    def url(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


def join(url: str, client_id: str = "one") -> Bus:
    return open_bus(url, client_id=client_id, clock=SystemClock())


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port where nobody listens, held for a broker of this test."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def test_a_broker_that_is_away_is_waited_for(nobody: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lineside.links.mqtt")
    bus = join(f"mqtt://127.0.0.1:{nobody}")
    mailbox = bus.subscribe(("line/a",))
    assert not bus.connected()
    assert not bus.publish_soon("line/a", b"1")
    with pytest.raises(UnavailableError, match="away"):
        bus.publish("line/a", b"1", timeout_s=0.05)
    with EmbeddedBroker(port=nobody):
        wait_until(bus.connected)
        bus.publish("line/a", b"2")
        assert [m.payload for m in take(mailbox, 1)] == [b"2"]
        bus.close()
    levels = [record.levelname for record in caplog.records if record.name.endswith("mqtt")]
    assert levels == ["WARNING", "INFO"]


def test_loss_and_return_are_logged_once_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lineside.links.mqtt")
    broker = EmbeddedBroker()
    broker.start()
    bus = join(broker.url)
    mailbox = bus.subscribe(("line/a",))
    broker.stop()
    wait_until(lambda: not bus.connected())
    threading.Event().wait(0.5)  # several attempts fail meanwhile
    broker.start()
    wait_until(bus.connected)
    bus.publish("line/a", b"after")
    assert [m.payload for m in take(mailbox, 1)] == [b"after"]
    bus.close()
    broker.stop()
    said = [r.getMessage().split(" client=")[0] for r in caplog.records if "mqtt" in r.name]
    assert said == ["bus lost", "bus regained"]


def test_a_message_under_way_when_the_broker_died_is_sent_after_its_return() -> None:
    broker = EmbeddedBroker()
    broker.start()
    sender, receiver = join(broker.url, "sender"), join(broker.url, "receiver")
    mailbox = receiver.subscribe(("line/a",))
    broker.stop()
    wait_until(lambda: not sender.connected() and not receiver.connected())
    outcome: list[Exception | None] = []

    def send() -> None:
        try:
            sender.publish("line/a", b"late", timeout_s=LONG_S)
            outcome.append(None)
        except UnavailableError as error:
            outcome.append(error)

    thread = threading.Thread(target=send, name="sender")
    thread.start()
    broker.start()
    thread.join()
    assert outcome == [None]
    sender.close()
    receiver.close()
    broker.stop()
    assert mailbox.figures().received <= 1


def test_closing_while_the_broker_is_away_ends_at_once(nobody: int) -> None:
    bus = join(f"mqtt://127.0.0.1:{nobody}")
    clock = SystemClock()
    began_s = clock.monotonic()
    bus.close()
    assert clock.monotonic() - began_s < LONG_S / 2


def test_a_second_client_of_the_same_name_throws_out_the_first() -> None:
    with EmbeddedBroker() as broker:
        first = join(broker.url, "twin")
        sock = cast("MqttBus", first)._client.socket()
        second = join(broker.url, "twin")
        wait_until(lambda: cast("MqttBus", first)._client.socket() is not sock)
        first.close()
        second.close()


@pytest.mark.slow
def test_a_broker_that_stops_closes_what_it_accepted_a_moment_ago() -> None:
    for _ in range(20):
        broker = EmbeddedBroker()
        broker.start()
        clients = [socket.socket() for _ in range(8)]
        for client in clients:
            client.settimeout(0)
            client.connect_ex(("127.0.0.1", broker.port))
        broker.stop()
        for client in clients:
            client.close()
        gc.collect()  # a socket that nobody closed is a warning here, and so a failure


@pytest.mark.service
class TestCredentials:
    @pytest.fixture
    def guarded(self, mosquitto: Server, tmp_path: Path) -> Server:
        passwords = tmp_path / "passwords"
        command = ["mosquitto_passwd", "-b", "-c", str(passwords), "line", "geheim"]
        subprocess.run(command, check=True, capture_output=True)
        mosquitto.stop()
        mosquitto.settings = ("allow_anonymous false", f"password_file {passwords}")
        mosquitto.start()
        return mosquitto

    def test_the_right_password_is_taken(self, guarded: Server) -> None:
        bus = join(f"mqtt://line:geheim@127.0.0.1:{guarded.port}")
        assert bus.connected()
        bus.close()

    @pytest.mark.parametrize("who", ["", "line:falsch@", "nobody:geheim@"])
    @pytest.mark.parametrize("version", ["3.1.1", "5"])
    def test_another_is_refused_without_showing_it(
        self, guarded: Server, who: str, version: str
    ) -> None:
        with pytest.raises(RefusedError) as raised:
            join(f"mqtt://{who}127.0.0.1:{guarded.port}?version={version}")
        assert "falsch" not in str(raised.value)
        assert "geheim" not in str(raised.value)


@pytest.mark.service
class TestAccessLists:
    @pytest.fixture
    def limited(self, mosquitto: Server, tmp_path: Path) -> Server:
        rules = tmp_path / "acl"
        rules.write_text("topic readwrite open/#\n")
        rules.chmod(0o600)
        mosquitto.stop()
        mosquitto.settings = ("allow_anonymous true", f"acl_file {rules}")
        mosquitto.start()
        return mosquitto

    def test_a_publication_that_is_not_allowed_is_refused_by_version_5(
        self, limited: Server
    ) -> None:
        bus = join(f"{limited.url}?version=5")
        bus.publish("open/a", b"1")
        with pytest.raises(RefusedError, match="refused the message"):
            bus.publish("closed/a", b"1")
        bus.close()

    def test_what_is_allowed_arrives_and_the_rest_does_not(self, limited: Server) -> None:
        bus = join(limited.url)
        mailbox = bus.subscribe(("#",))
        bus.publish("closed/a", b"1")  # version 3.1.1 has no word for a refusal
        bus.publish("open/a", b"2")
        assert [m.payload for m in take(mailbox, 1)] == [b"2"]
        bus.close()


def test_a_subscription_the_broker_refuses_is_refused() -> None:
    with EmbeddedBroker() as broker:
        bus = join(broker.url)
        client = cast("MqttBus", bus)
        client._granted = dict.fromkeys(range(1, 50), False)
        with pytest.raises(RefusedError, match="line"):
            bus.subscribe(("line/a",), name="line")
        bus.close()


def test_no_more_than_the_window_is_under_way_unanswered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        links: list[socket.socket] = []

        def accept() -> None:
            link, _ = listener.accept()
            link.recv(4096)
            link.sendall(b"\x20\x02\x00\x00")  # a broker that connects and then says nothing
            links.append(link)

        thread = threading.Thread(target=accept, name="silent")
        thread.start()
        bus = join(f"mqtt://127.0.0.1:{port}")
        thread.join()
        answers = [bus.publish_soon("line/a", b"1") for _ in range(300)]
        assert [one and one() for one in answers] == [False] * 256 + [None] * 44
        with pytest.raises(UnavailableError, match="under way"):
            bus.publish("line/a", b"1", timeout_s=0.05)
        with pytest.raises(UnavailableError):
            cast("MqttBus", bus).publish("line/a", b"1", qos=1, timeout_s=0.0)
        bus.close()
        with pytest.raises(UnavailableError, match="closed"):
            bus.publish("line/a", b"1")
        links[0].close()


@pytest.mark.service
class TestEncryption:
    @pytest.fixture
    def certificates(self, tmp_path: Path) -> Path:
        openssl = shutil.which("openssl")
        assert openssl is not None
        command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
        more = "-addext subjectAltName=DNS:localhost -keyout key.pem -out ca.pem"
        words = f"{command} {more}".split()
        subprocess.run([openssl, *words], check=True, cwd=tmp_path, capture_output=True)
        return tmp_path

    @pytest.fixture
    def encrypted(self, mosquitto: Server, certificates: Path) -> Server:
        mosquitto.stop()
        key, ca = certificates / "key.pem", certificates / "ca.pem"
        mosquitto.settings = ("allow_anonymous true", f"certfile {ca}", f"keyfile {key}")
        mosquitto.start()
        return mosquitto

    def test_messages_pass_when_the_authority_is_known(
        self, encrypted: Server, certificates: Path
    ) -> None:
        bus = join(f"mqtts://localhost:{encrypted.port}?ca={certificates / 'ca.pem'}")
        mailbox = bus.subscribe(("line/a",))
        bus.publish("line/a", b"1")
        assert len(take(mailbox, 1)) == 1
        bus.close()

    def test_an_unknown_authority_is_refused(self, encrypted: Server) -> None:
        with pytest.raises(RefusedError, match="certificate"):
            join(f"mqtts://localhost:{encrypted.port}")

    def test_a_ca_file_that_is_none_is_invalid(self, encrypted: Server, tmp_path: Path) -> None:
        bad = tmp_path / "bad.pem"
        bad.write_text("nothing")
        with pytest.raises(InvalidError, match="authorities"):
            join(f"mqtts://localhost:{encrypted.port}?ca={bad}")


def test_a_ca_file_that_is_absent_is_invalid(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="authorities"):
        join(f"mqtts://localhost:1?ca={tmp_path / 'none.pem'}")


def test_an_embedded_broker_refuses_version_5_as_hopeless() -> None:
    with EmbeddedBroker() as broker, pytest.raises(InvalidError, match=r"version"):
        join(f"{broker.url}?version=5")


@pytest.mark.parametrize(
    "url",
    ["mqtt://", "mqtt://host:x", "mqtt://host?keepalive=a", "mqtt://host?colour=red",
     "mqtt://host?version=4", "mqtt://host:99999"],
)  # fmt: skip
def test_an_address_that_can_never_work_is_invalid(url: str) -> None:
    with pytest.raises(InvalidError):
        join(url)


def test_an_unknown_scheme_names_the_known_ones() -> None:
    with pytest.raises(InvalidError, match="mqtt, mqtts"):
        join("amqp://host")


def test_an_address_is_taken_apart() -> None:
    address = parse_address("mqtts://me%40site:p%3Aw@host.example?ca=/etc/ca.pem&version=5")
    assert (address.user, address.password) == ("me@site", "p:w")
    assert (address.host, address.port, address.tls, address.version) == (
        "host.example",
        8883,
        True,
        5,
    )
    assert address.ca == Path("/etc/ca.pem")
    assert "p%3Aw" not in address.shown


def test_the_system_has_a_default_tls_context() -> None:
    assert ssl.create_default_context().verify_mode is ssl.CERT_REQUIRED
