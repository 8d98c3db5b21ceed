"""The way to a hub that speaks HTTPS: whom the device believes, and what it shows."""

import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lineside.core import RefusedError, SystemClock, UnavailableError
from lineside.edge import HubClient
from lineside.edge.hub_client import Access
from lineside.fleet import CertificateAuthority, device_request
from lineside.fleet.trust.certificates import new_device_key


@dataclass(frozen=True, kw_only=True)
class Secure:
    """A hub that wants a certificate of its site from whoever asks."""

    url: str
    ca: str
    cert: str
    key: str
    other_ca: str

    def access(self, **changes: str) -> Access:
        return Access(**{"ca": self.ca, "cert": self.cert, "key": self.key, **changes})


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"bytes")

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Whoever is refused is."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder, clock = tmp_path_factory.mktemp("site"), SystemClock()
    site = CertificateAuthority.create(folder / "site", site="demo", clock=clock)
    other = CertificateAuthority.create(folder / "other", site="demo", clock=clock)
    pair, key = site.issue_server(["127.0.0.1"]), new_device_key()
    kept = {
        "hub.crt": pair.certificate,
        "hub.key": pair.key,
        "ca.pem": site.certificate,
        "other.pem": other.certificate,
        "device.key": key,
        "device.crt": site.sign_device(device_request(key, device="edge-1"), device="edge-1"),
    }
    for name, data in kept.items():
        (folder / name).write_bytes(data)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(folder / "hub.crt", folder / "hub.key")
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="secure-hub")
    thread.start()
    yield Secure(
        url=f"https://127.0.0.1:{server.server_address[1]}",
        ca=str(folder / "ca.pem"),
        cert=str(folder / "device.crt"),
        key=str(folder / "device.key"),
        other_ca=str(folder / "other.pem"),
    )
    server.shutdown()
    thread.join()
    server.server_close()


def test_both_sides_show_certificates_of_the_site(hub: Secure) -> None:
    access = hub.access()
    assert HubClient(hub.url, tls=access.tls).fetch("/x") == b"bytes"
    source = HubClient(hub.url, token=access.token, tls=access.tls)
    with source.open("metadata/timestamp.json") as part:
        assert b"".join(part.chunks) == b"bytes"


def test_a_hub_of_another_authority_is_not_believed(hub: Secure) -> None:
    with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        HubClient(hub.url, tls=hub.access(ca=hub.other_ca).tls).fetch("/x")


def test_a_device_without_a_certificate_gets_nothing(hub: Secure) -> None:
    for _ in range(10):  # the refusal comes as an alert, or as an end of the connection
        with pytest.raises(UnavailableError):
            HubClient(hub.url, tls=hub.access(cert="", key="").tls).fetch("/x")


def test_files_that_are_none_are_refused_with_their_name(hub: Secure, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    for bad in (
        hub.access(ca=str(tmp_path / "none.pem")),
        hub.access(ca=str(tmp_path / "bad.pem")),
        hub.access(key=hub.cert),
    ):
        with pytest.raises(RefusedError, match="certificates cannot be used"):
            bad.tls()
    assert Access().tls() is None
