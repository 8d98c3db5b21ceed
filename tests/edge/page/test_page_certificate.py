"""The page's certificate: the site's, for the device's names, renewed while it runs."""

import hashlib
import socket
import ssl
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lineside.core import InvalidError, NotFoundError, RefusedError, SystemClock, UnavailableError
from lineside.core.drivers import SecretUrl
from lineside.edge import EdgeConfig
from lineside.edge.config import PageConfig
from lineside.edge.identity.enrolment import (
    IdentityFiles,
    check_holds,
    page_certificate_path,
    page_settings,
    wants_site,
)
from lineside.fleet import CertificateAuthority, device_request
from lineside.fleet.enrolment import page_hosts
from lineside.fleet.trust.certificates import new_device_key
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, wait_until
from tests.edge.page.pages import shown

DAY_S = 86_400.0


def shown_certificate(url: str, *, ca: bytes, host: str) -> bytes:
    """What a client that believes the site's authority is shown; ``ssl.SSLError`` otherwise."""
    place = urlsplit(url)
    context = ssl.create_default_context(cadata=ca.decode())
    with (
        socket.create_connection((place.hostname or "", place.port or 0), timeout=LONG_S) as raw,
        context.wrap_socket(raw, server_hostname=host) as client,
    ):
        found = client.getpeercert(binary_form=True)
        assert found is not None
        return found


def certified(authority: CertificateAuthority, path: Path, *, host: str = "edge-1") -> bytes:
    """A page's file, as a device keeps it; its certificate's SHA-256."""
    key = new_device_key()
    made = authority.sign_page(device_request(key, device="edge-1"), device="edge-1", hosts=(host,))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(key + made + authority.certificate)
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(made.decode())).digest()


def enrolled(folder: Path, **page: object) -> EdgeConfig:
    pair = IdentityFiles(folder).pair
    return EdgeConfig(
        device="edge-1", bus=SecretUrl(""), plant="", data_dir=str(folder), hub="https://127.0.0.1:9",
        certificate=str(pair), key=str(pair), ca="",
        page=PageConfig(**{"listen": "0.0.0.0:8080", "token_file": "t", **page}),  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_page_takes_a_certificate_that_was_renewed_while_it_runs(tmp_path: Path) -> None:
    authority = CertificateAuthority.create(tmp_path / "ca", site="hall", clock=SystemClock())
    path = tmp_path / "identity" / "page.pem"
    first = certified(authority, path)
    with shown(tmp_path, clock=SystemClock(), tls_cert=str(path), tls_key=str(path)) as page:
        ask = {"ca": authority.certificate, "host": "edge-1"}

        def seen() -> bytes:
            return hashlib.sha256(shown_certificate(page.url, **ask)).digest()  # type: ignore[arg-type]  # by name

        assert seen() == first
        with pytest.raises(ssl.SSLError):
            shown_certificate(page.url, ca=authority.certificate, host="hub.plant.lan")
        second = certified(authority, path)
        wait_until(lambda: seen() == second)
        path.write_text("no certificate")
        assert seen() == second, "what was loaded goes on"


def test_an_enrolled_device_that_others_reach_wants_the_sites(tmp_path: Path) -> None:
    config = enrolled(tmp_path)
    assert wants_site(config)
    assert not wants_site(replace(config, page=PageConfig(listen="8080")))
    assert not wants_site(replace(config, page=PageConfig()))
    assert not wants_site(replace(config, certificate="", key=""))
    assert not wants_site(enrolled(tmp_path, tls="off"))
    assert not wants_site(enrolled(tmp_path, tls_cert="a", tls_key="b"))


def test_without_a_certificate_and_without_the_hub_there_is_a_sentence(
    tmp_path: Path, clock: FakeClock
) -> None:
    authority = CertificateAuthority.create(tmp_path / "ca", site="hall", clock=clock)
    config = enrolled(tmp_path)
    key = new_device_key()
    made = authority.sign_device(device_request(key, device="edge-1"), device="edge-1")
    Path(config.certificate).parent.mkdir()
    Path(config.certificate).write_bytes(key + made)
    with pytest.raises(UnavailableError):
        page_settings(config, clock=clock)
    certified(authority, page_certificate_path(config))
    found = page_settings(config, clock=clock)
    assert found.tls_cert == found.tls_key == str(page_certificate_path(config))
    clock.advance(DAY_S * 300)
    assert page_settings(config, clock=clock) == found, "due, the hub is away: it goes on"
    clock.advance(DAY_S * 600)
    with pytest.raises(InvalidError, match=r"holds from 20\d\d-\d\d-\d\d to 20") as told:
        page_settings(config, clock=clock)
    assert "lineside hub certificate" in told.value.fix


def test_a_named_certificate_that_is_over_or_missing_is_refused(
    tmp_path: Path, clock: FakeClock
) -> None:
    authority = CertificateAuthority.create(tmp_path / "ca", site="hall", clock=clock)
    path = tmp_path / "page.pem"
    with pytest.raises(NotFoundError, match="cannot be read"):
        check_holds(path, clock=clock)
    certified(authority, path)
    config = enrolled(tmp_path, tls_cert=str(path), tls_key=str(path))
    assert page_settings(config, clock=clock) == config.page
    clock.advance(DAY_S * 900)
    with pytest.raises(InvalidError, match="certificate holds from"):
        page_settings(config, clock=clock)


def test_plain_http_that_others_reach_is_warned_of(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    page_settings(replace(enrolled(tmp_path), certificate="", key=""), clock=clock)
    assert "its password can be read on the way" in caplog.text


@pytest.mark.parametrize(
    ("device", "address", "taken", "hosts"),
    [
        ("edge-1", "10.0.0.9", ("hub.lan",), ("edge-1", "edge-1.local", "10.0.0.9")),
        ("Edge_1", "fe80::1", (), ("edge-1", "edge-1.local", "fe80::1")),
        ("hub.lan", "10.0.0.1", ("HUB.lan", "10.0.0.1"), ("hub.lan.local",)),
        ("edge-1", "testclient", ("127.0.0.1",), ("edge-1", "edge-1.local")),
    ],
)
def test_a_page_is_for_its_devices_names_and_never_the_hubs(
    device: str, address: str, taken: tuple[str, ...], hosts: tuple[str, ...]
) -> None:
    assert page_hosts(device, address=address, names=taken) == hosts


def test_a_pages_certificate_is_no_devices(tmp_path: Path, clock: FakeClock) -> None:
    authority = CertificateAuthority.create(tmp_path / "ca", site="hall", clock=clock)
    path = tmp_path / "page.pem"
    certified(authority, path)
    text = path.read_bytes()
    leaf = text[text.index(b"-----BEGIN CERTIFICATE") :]
    with pytest.raises(RefusedError, match="not a device's"):
        authority.check(leaf)
