"""Mutual TLS on the bus: the embedded broker and mosquitto, with real certificates."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lineside.core import InvalidError, LinesideError, SystemClock
from lineside.fleet import CertificateAuthority
from lineside.fleet.trust.certificates import device_certificate
from lineside.links import (
    AuthenticatedDevice,
    Bus,
    DeviceListener,
    EmbeddedBroker,
    Will,
    device_access,
    open_bus,
)
from lineside.links.bus_access import access_list
from lineside.links.mosquitto import MosquittoBroker
from lineside.testing.links import LONG_S, take, wait_until
from tests.links.conftest import MOSQUITTO
from tests.links.test_topic_access import PLANT

CLOCK = SystemClock()
LINES = {"edge-1": ("a",), "edge-2": ("b",)}
STATUS = "lineside/hall/device/edge-1/status"
DESIRED = "lineside/hall/device/edge-1/desired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A private key with what is asked for it."""

    key: ec.EllipticCurvePrivateKey

    def request(self, name: str) -> bytes:
        builder = x509.CertificateSigningRequestBuilder().subject_name(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )  # fmt: skip


def new_key() -> Key:
    return Key(key=ec.generate_private_key(ec.SECP256R1()))


class Site:
    """An authority with its broker's files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.authority = CertificateAuthority.create(folder / "ca", site="hall", clock=CLOCK)
        pair = self.authority.issue_server(("localhost", "127.0.0.1"))
        (folder / "server.crt").write_bytes(pair.certificate)
        (folder / "server.key").write_bytes(pair.key)
        (folder / "ca.pem").write_bytes(self.authority.certificate)

    def device(self, name: str) -> Path:
        """Key and certificate of a device that was enrolled."""
        key = new_key()
        made = self.authority.sign_device(key.request(name), device=name)
        return self.keep(name, key.pem() + made)

    def forced(self, name: str, *, days_ago: int = 0) -> Path:
        """A certificate that the authority would not sign for this name, or that is over."""
        key = new_key()
        made = device_certificate(
            self.authority._signer, key=key.key.public_key(), device=name,
            now=CLOCK.now() - timedelta(days=days_ago),
        )  # fmt: skip
        return self.keep(f"forced-{days_ago}", key.pem() + made)

    def keep(self, name: str, content: bytes) -> Path:
        path = self.folder / f"{name.replace('/', '_')}.pem"
        path.write_bytes(content)
        return path

    def admit(self, certificate: bytes) -> AuthenticatedDevice:
        told = self.authority.check(ssl.DER_cert_to_PEM_cert(certificate).encode())
        access = device_access(PLANT, device=told.device, lines=LINES.get(told.device, ()))
        return AuthenticatedDevice(
            identity=told.device, serial=told.serial, ends_at=told.ends_at, access=access
        )


@dataclass
class Served:
    """A broker with a door for devices and one for the hub."""

    site: Site
    port: int
    hub_url: str
    refresh: Callable[[], None]

    def url(self, identity: Path | None) -> str:
        named = {"ca": str(self.site.folder / "ca.pem")}
        if identity is not None:
            named |= {"certificate": str(identity), "key": str(identity)}
        return f"mqtts://127.0.0.1:{self.port}?{urlencode(named)}"

    def join(self, identity: Path | None, *, will: Will | None = None, name: str = "one") -> Bus:
        return open_bus(self.url(identity), client_id=name, clock=CLOCK, will=will)

    def hub(self) -> Bus:
        return open_bus(self.hub_url, client_id="hub", clock=CLOCK)

    def gets_in(self, identity: Path | None) -> bool:
        """Whether the broker welcomes a client (MQTT 3.1.1, 3.2), with nothing waited for."""
        context = ssl.create_default_context(cafile=str(self.site.folder / "ca.pem"))
        if identity is not None:
            context.load_cert_chain(identity)
        hello = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04test"
        address = ("127.0.0.1", self.port)
        try:
            with (
                socket.create_connection(address, timeout=LONG_S) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
            ):
                secured.sendall(hello)
                return secured.recv(4) == b"\x20\x02\x00\x00"
        except OSError:
            return False


@contextmanager
def embedded(site: Site) -> Iterator[Served]:
    folder = site.folder
    door = DeviceListener(
        host="127.0.0.1", port=0, certificate=folder / "server.crt", key=folder / "server.key",
        ca_file=folder / "ca.pem", admit=site.admit, revoked=folder / "crl.pem",
        access_list=lambda: access_list(PLANT, devices=LINES),
    )  # fmt: skip
    with EmbeddedBroker(devices=door, answered=("$aws/things/+/jobs/#",)) as broker:

        def refresh() -> None:
            revoked = {one.serial for one in site.authority.issued() if one.revoked}
            broker.cut_off(lambda admitted: admitted.serial in revoked)

        yield Served(site=site, port=broker.device_port, hub_url=broker.url, refresh=refresh)


@contextmanager
def mosquitto(site: Site) -> Iterator[Served]:
    folder = site.folder
    assert MOSQUITTO is not None
    (folder / "crl.pem").write_bytes(site.authority.crl())
    door = DeviceListener(
        host="127.0.0.1", port=0, certificate=folder / "server.crt", key=folder / "server.key",
        ca_file=folder / "ca.pem", admit=site.admit, revoked=folder / "crl.pem",
        access_list=lambda: access_list(PLANT, devices=LINES),
    )  # fmt: skip
    with MosquittoBroker(MOSQUITTO, folder=folder / "bus", devices=door) as broker:

        def refresh() -> None:
            (folder / "crl.pem").write_bytes(site.authority.crl())
            broker.reload()
            broker.end_sessions({one.device for one in site.authority.issued() if one.revoked})

        yield Served(site=site, port=broker.device_port, hub_url=broker.url, refresh=refresh)


@pytest.fixture(params=["embedded", "mosquitto"])
def served(
    request: pytest.FixtureRequest, tmp_path: Path, absent: Callable[[str, str], None]
) -> Iterator[Served]:
    if request.param == "mosquitto" and MOSQUITTO is None:
        absent("service", "mosquitto is not installed")
    made = {"embedded": embedded, "mosquitto": mosquitto}[request.param]
    with made(Site(tmp_path / "site")) as started:
        yield started


def test_a_device_says_and_hears_what_is_its_own(served: Served) -> None:
    identity = served.site.device("edge-1")
    with closing(served.hub()) as hub, closing(served.join(identity)) as device:
        told, wished = hub.subscribe((STATUS,)), device.subscribe((DESIRED, "i/cam"))
        device.publish(STATUS, b"here")
        hub.publish(DESIRED, b"run this")
        assert [m.payload for m in take(told, 1)] == [b"here"]
        assert [m.payload for m in take(wished, 1)] == [b"run this"]


def test_what_is_another_devices_is_neither_said_nor_heard(served: Served) -> None:
    hub, device = served.hub(), served.join(served.site.device("edge-1"))
    everything = hub.subscribe(("lineside/#", "$aws/things/+/jobs/#", "edge-manager-app/#"))
    others = "lineside/hall/device/edge-2/status"
    for topic in (
        others, "lineside/hall/b/gate/prediction", "lineside/hall/b/verdict",
        "$aws/things/edge-2/jobs/get",
    ):  # fmt: skip
        with contextlib.suppress(LinesideError):
            device.publish(topic, b"forged")
    with contextlib.suppress(LinesideError):
        heard = device.subscribe(("lineside/hall/device/+/status", "#", "f/i/left/arrived"))
        hub.publish(others, b"not for you", retain=True)
        hub.publish("f/i/left/arrived", b"not for you")
        threading.Event().wait(0.3)
        assert heard.get_many(most=9, timeout_s=0) == []
    device.publish(STATUS, b"last")
    said = take(everything, 1)
    while said[-1].payload == b"not for you":
        said[-1:] = take(everything, 1)
    said += everything.get_many(most=9, timeout_s=0.3)
    assert [(m.topic, m.payload) for m in said] == [(STATUS, b"last")]
    device.close()
    hub.close()


def test_a_device_publishes_the_verdicts_of_its_line(served: Served) -> None:
    identity = served.site.device("edge-2")
    with closing(served.hub()) as hub, closing(served.join(identity)) as device:
        told = hub.subscribe(("lineside/hall/+/verdict",))
        device.publish("lineside/hall/b/verdict", b"ok")
        assert [m.payload for m in take(told, 1)] == [b"ok"]


def test_a_last_will_needs_the_same_right(served: Served) -> None:
    hub = served.hub()
    everything = hub.subscribe(("lineside/#",))
    forged = Will(topic="lineside/hall/device/edge-2/status", payload=b"forged")
    other = served.join(served.site.device("edge-1"), will=forged)
    vanish(other)
    own = served.join(served.site.device("edge-1"), will=Will(topic=STATUS, payload=b"gone"))
    vanish(own)
    assert [(m.topic, m.payload) for m in take(everything, 1)] == [(STATUS, b"gone")]
    assert everything.get_many(most=9, timeout_s=0.2) == []
    hub.close()


def vanish(bus: Bus) -> None:
    """Without a goodbye."""
    wait_until(bus.connected)
    inner = bus._client  # type: ignore[attr-defined]  # of paho
    bus._stop.set()  # type: ignore[attr-defined]  # it does not come back
    inner._sock_close()
    bus.close()


def test_nobody_gets_in_without_a_certificate(served: Served) -> None:
    assert not served.gets_in(None)


def test_a_certificate_of_another_authority_is_refused(served: Served, tmp_path: Path) -> None:
    stranger = Site(tmp_path / "stranger").device("edge-1")
    assert not served.gets_in(stranger)


def test_a_certificate_that_is_over_is_refused(served: Served) -> None:
    assert not served.gets_in(served.site.forced("edge-1", days_ago=366))
    assert served.gets_in(served.site.device("edge-1"))


def test_a_servers_certificate_is_no_devices(served: Served) -> None:
    pair = served.site.authority.issue_server(("edge-1",))
    assert not served.gets_in(served.site.keep("server-as-device", pair.key + pair.certificate))


def test_a_revoked_certificate_is_refused_and_its_connection_cut(served: Served) -> None:
    identity = served.site.device("edge-1")
    bus = served.join(identity)
    wait_until(bus.connected)
    served.site.authority.revoke("edge-1", reason="stolen")
    served.refresh()
    wait_until(lambda: not bus.connected())
    bus.close()
    assert not served.gets_in(identity)
    assert served.gets_in(served.site.device("edge-1")), "enrolled anew it comes in"


@pytest.mark.parametrize("name", ["+", "#", "edge-1/#", "+/status"])
def test_a_name_with_wildcards_opens_nothing(served: Served, name: str) -> None:
    """Even if an authority signed it."""
    hub = served.hub()
    everything = hub.subscribe(("lineside/#", "$aws/things/+/jobs/#"))
    try:
        device = served.join(served.site.forced(name))
    except LinesideError:
        hub.close()
        return
    for topic in (STATUS, f"lineside/hall/device/{name}/status", "$aws/things/edge-1/jobs/get"):
        with contextlib.suppress(LinesideError):
            device.publish(topic, b"forged", timeout_s=0.3)
    with contextlib.suppress(LinesideError):
        heard = device.subscribe((DESIRED, f"lineside/hall/device/{name}/desired"))
        hub.publish(DESIRED, b"secret")
        assert heard.get_many(most=9, timeout_s=0.3) == []
    assert [m for m in everything.get_many(most=9, timeout_s=0.2) if m.payload == b"forged"] == []
    device.close()
    hub.close()


def test_a_devices_session_cannot_be_taken_by_another(served: Served) -> None:
    """The client id that somebody writes does not count."""
    first = served.join(served.site.device("edge-1"), name="agent")
    second = served.join(served.site.device("edge-2"), name="agent")
    wait_until(second.connected)
    threading.Event().wait(0.3)
    assert first.connected()
    assert second.connected()
    first.close()
    second.close()


def test_a_renewed_certificate_counts_from_the_next_connection(served: Served) -> None:
    path = served.site.device("edge-1")
    bus = served.join(path)
    wait_until(bus.connected)
    served.site.authority.revoke("edge-1", reason="its key may be known")
    served.site.device("edge-1")  # into the same file
    served.refresh()
    wait_until(lambda: bus._connections > 1 and bus.connected())  # type: ignore[attr-defined]  # of MqttBus
    bus.publish(STATUS, b"here again", timeout_s=LONG_S)
    bus.close()


def test_answers_reach_the_device_that_asked(tmp_path: Path) -> None:
    """The embedded broker's own service for clients that do not subscribe."""
    with (
        embedded(Site(tmp_path / "site")) as served,
        closing(served.hub()) as hub,
        closing(served.join(served.site.device("edge-1"))) as device,
    ):
        asked = hub.subscribe(("$aws/things/+/jobs/get",))
        heard = device.subscribe(("$aws/things/edge-1/jobs/notify",))
        device.publish("$aws/things/edge-1/jobs/get", b"{}")
        assert len(take(asked, 1)) == 1
        hub.publish("$aws/things/edge-1/jobs/notify", b"1")
        assert len(take(heard, 1)) == 1


def test_a_certificate_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("nothing")
    url = f"mqtts://127.0.0.1:1?{urlencode({'certificate': str(tmp_path / 'x.pem')})}"
    with pytest.raises(InvalidError, match="no certificate with its key"):
        open_bus(url, client_id="x", clock=CLOCK)
