"""A code printed on the hub becomes a device that speaks over TLS, and one that no longer may."""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lineside.cli.app import _run
from lineside.cli.config import load_edge
from lineside.core import LinesideError, SystemClock, decode
from lineside.edge import EdgeConfig, run
from lineside.edge.config import PageConfig
from lineside.edge.identity.enrolment import IdentityFiles, read_identity, renew_when_due
from lineside.fleet.trust.certificate_authority import read_device_certificate
from lineside.hub import HubConfig, RunningHub, init_site, running
from lineside.links import open_bus
from lineside.testing.links import LONG_S, wait_until
from tests.hub.conftest import PLANT
from tests.links.conftest import MOSQUITTO, Mosquitto, free_port

CLOCK = SystemClock()
pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A hub with its settings as a file."""

    hub: RunningHub
    config: HubConfig
    file: str
    folder: Path

    def device(self, name: str) -> Path:
        return self.folder / name

    def invite(self, capsys: pytest.CaptureFixture[str], name: str, *more: str) -> str:
        capsys.readouterr()
        assert _run(["device", "invite", "--name", name, "--config", self.file, *more]) == 0
        return capsys.readouterr().out.strip()

    def enrol(self, name: str, code: str, *, hub: str = "") -> int:
        asked = ["--hub", hub or self.hub.url, "--code", code, "--data-dir", str(self.device(name))]
        return _run(["device", "enrol", *asked])

    def settings(self, name: str) -> EdgeConfig:
        return load_edge(self.device(name) / "edge.toml").config

    def state(self, name: str) -> str:
        return next((one.state for one in self.hub.services.devices.some((name,))), "unknown")


def settings_of(tmp_path: Path, **more: object) -> HubConfig:
    (tmp_path / "plant.toml").write_bytes(PLANT)
    given = {
        "data_dir": str(tmp_path / "hub"), "plant": str(tmp_path / "plant.toml"), "port": 0,
        "bus_port": 0, "tls": "site", **more,
    }  # fmt: skip
    return decode(HubConfig, given, where="settings")


@contextlib.contextmanager
def started(config: HubConfig, tmp_path: Path) -> Iterator[Site]:
    init_site(config, password=lambda: "", clock=CLOCK)
    file = tmp_path / "hub.toml"
    lines = {"data_dir": config.data_dir, "plant": config.plant, "tls": "site"}
    file.write_text("".join(f'{key} = "{value}"\n' for key, value in lines.items()))
    with running(config, clock=CLOCK) as hub:
        yield Site(hub=hub, config=config, file=str(file), folder=tmp_path)


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Site]:
    with started(settings_of(tmp_path, bus_tls="127.0.0.1:0"), tmp_path) as site:
        yield site


@contextlib.contextmanager
def agent(config: EdgeConfig) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(
        target=run, args=(config,), kwargs={"clock": CLOCK, "stop": stop}, name="agent"
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_code_brings_a_device_onto_the_bus(
    embedded: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site = embedded
    code = site.invite(capsys, "edge-1", "--group", "canary")
    assert site.enrol("edge-1", code) == 0
    said = capsys.readouterr()
    steps = ("name:", "connection:", "clock:", "fingerprint:", "TLS:", "code:", "enrolled:", "bus:")
    told = said.err.splitlines()
    assert [line.split(" ")[0] for line in told if line.startswith(steps)] == list(steps)
    config = site.settings("edge-1")
    files = IdentityFiles(config.folder)
    assert files.pair.stat().st_mode & 0o777 == 0o600
    assert (config.folder / "plant.toml").stat().st_mode & 0o777 == 0o600
    assert config.folder.stat().st_mode & 0o777 == 0o700
    assert files.token.stat().st_mode & 0o777 == 0o600
    assert not files.waiting.exists()
    assert (config.folder / "trust").is_dir()
    assert config.bus.startswith("mqtts://127.0.0.1:")
    with agent(config):
        wait_until(lambda: site.state("edge-1") == "online")
    wait_until(lambda: site.state("edge-1") == "offline")
    assert site.hub.services.things.members("canary") == ["edge-1"]

    assert site.enrol("edge-1", code) == 0, "again is fine, here"
    assert "enrolled already as edge-1" in capsys.readouterr().err
    assert site.enrol("thief", code) == 5, "elsewhere the code is worth nothing"
    assert "this code was used already" in capsys.readouterr().err
    assert not (site.device("thief") / "edge.toml").exists()


def test_an_enrolled_devices_page_has_a_certificate_of_the_site(
    embedded: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site = embedded
    assert site.enrol("edge-1", site.invite(capsys, "edge-1")) == 0
    assert "page: certificate of the device's own page" in capsys.readouterr().err
    config = site.settings("edge-1")
    files = IdentityFiles(config.folder)
    assert files.page.stat().st_mode & 0o777 == 0o600
    token = config.folder / "page.token"
    token.write_text("sixteen characters")
    page = PageConfig(listen="0.0.0.0:0", token_file=str(token))
    with agent(replace(config, page=page)):
        told = config.folder / "page.json"
        wait_until(lambda: told.exists() and told.stat().st_size > 0)
        port = json.loads(told.read_text())["url"].rpartition(":")[2]
        trusted = ssl.create_default_context(cafile=str(files.ca))
        with (
            socket.create_connection(("127.0.0.1", int(port)), timeout=LONG_S) as raw,
            trusted.wrap_socket(raw, server_hostname="edge-1") as client,
        ):
            client.sendall(b"GET /health HTTP/1.1\r\nHost: edge-1\r\nConnection: close\r\n\r\n")
            assert client.recv(15).startswith(b"HTTP/1.1 ")


def test_a_key_that_broke_off_goes_on_and_files_are_made_again(
    embedded: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site = embedded
    code = site.invite(capsys, "edge-1")
    assert site.enrol("edge-1", code) == 0
    config = site.settings("edge-1")
    before = read_identity(Path(config.certificate))
    (config.folder / "edge.toml").unlink()
    assert site.enrol("edge-1", code) == 0
    assert read_identity(Path(config.certificate)) == before
    (config.folder / "edge.toml").write_text('device = "other"\n')
    IdentityFiles(config.folder).token.unlink()
    capsys.readouterr()
    assert site.enrol("edge-1", code) == 4
    assert "other settings stand there" in capsys.readouterr().err


def test_a_revoked_device_is_cut_off_and_refused_everywhere(
    embedded: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site = embedded
    assert site.enrol("edge-1", site.invite(capsys, "edge-1")) == 0
    config = site.settings("edge-1")
    bus = open_bus(config.bus_url, client_id="edge", clock=CLOCK)
    wait_until(bus.connected)
    gone = ["device", "revoke", "edge-1", "--reason", "stolen", "--yes", "--config", site.file]
    assert _run(gone) == 0
    wait_until(lambda: not bus.connected())
    bus.close()
    with contextlib.suppress(
        LinesideError
    ):  # mosquitto refuses the handshake, which looks like away
        again = open_bus(config.bus_url, client_id="edge", clock=CLOCK)
        assert not again.connected()
        again.close()
    capsys.readouterr()
    assert _run(["device", "renew", "--config", str(config.folder / "edge.toml")]) == 5
    assert "revoked" in capsys.readouterr().err
    assert _run(["device", "list", "--json", "--config", site.file]) == 0
    (line,) = json.loads(capsys.readouterr().out)
    assert (line["id"], line["state"]) == ("edge-1", "revoked")
    assert _run(["device", "show", "edge-1", "--config", site.file]) == 0
    assert "stolen" in capsys.readouterr().out


def test_a_certificate_is_renewed_with_a_new_key(
    embedded: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site = embedded
    assert site.enrol("edge-1", site.invite(capsys, "edge-1")) == 0
    config = site.settings("edge-1")
    path = Path(config.certificate)
    before = read_identity(path)
    assert not renew_when_due(config, clock=CLOCK)
    assert _run(["device", "renew", "--config", str(config.folder / "edge.toml")]) == 0
    after = read_identity(path)
    assert after.key != before.key
    told = read_device_certificate(after.certificate, where="new")
    assert told.device == "edge-1"
    assert site.hub.services.enrolment.inventory.one("edge-1").serial == told.serial
    with contextlib.closing(open_bus(config.bus_url, client_id="x", clock=CLOCK)) as bus:
        wait_until(bus.connected)
    assert _run(["device", "group", "edge-1", "a", "b", "--config", site.file]) == 0
    assert site.hub.services.things.groups("edge-1") == ["a", "b"]


def test_each_step_that_fails_is_named(
    embedded: Site, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    site = embedded
    code = site.invite(capsys, "edge-1")
    port = site.hub.url.rpartition(":")[2]
    cases = {
        "https://nowhere.invalid": "no address is known",
        f"https://127.0.0.1:{free_port()}": "cannot be reached",
        f"https://127.0.0.1:{site.hub.bus_url.rpartition(':')[2]}": "not by TLS",
        "http://hub.plant.lan": "sent in the open",
        "ftp://x": "no address of a hub",
        f"https://127.0.0.2:{port}": "",
    }
    for hub, sentence in cases.items():
        if sentence:
            assert site.enrol("edge-1", code, hub=hub) != 0
            assert sentence in capsys.readouterr().err
    assert site.enrol("edge-1", code[:-1] + ("A" if code[-1] != "A" else "B")) == 2
    assert "mistyped" in capsys.readouterr().err
    assert not (site.device("edge-1") / "edge.toml").exists()
    other = tmp_path / "other"
    other.mkdir()
    with started(settings_of(other, bus_tls="127.0.0.1:0"), other) as second:
        foreign = second.invite(capsys, "edge-1")
    assert site.enrol("edge-1", foreign) == 5
    assert "not the hub that the code is of" in capsys.readouterr().err
    assert site.enrol("edge-1", code) == 0
    assert site.enrol("edge-1", foreign) == 4
    assert "belongs to another site" in capsys.readouterr().err


def test_the_same_way_with_mosquitto_in_between(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], absent: Callable[[str, str], None]
) -> None:
    if MOSQUITTO is None:
        absent("service", "mosquitto is not installed")
    port, local = free_port(), free_port()
    config = settings_of(
        tmp_path, bus=f"mqtt://127.0.0.1:{local}", device_bus=f"mqtts://{{hub}}:{port}"
    )
    init_site(config, password=lambda: "", clock=CLOCK)
    broker = Mosquitto(folder=tmp_path, port=local)

    def write(file: str) -> None:
        asked = ["--to", str(tmp_path / "broker"), "--port", str(port), "--config", file]
        assert _run(["hub", "mosquitto-config", *asked]) == 0
        text = (tmp_path / "broker" / "mosquitto.conf").read_text()
        broker.whole = text.replace("listener 1883 ", f"listener {local} ")

    (tmp_path / "hub.toml").write_text(
        f'data_dir = "{config.data_dir}"\nplant = "{config.plant}"\ntls = "site"\n'
    )
    write(str(tmp_path / "hub.toml"))
    broker.start()
    try:
        with started(config, tmp_path) as site:
            assert site.enrol("edge-1", site.invite(capsys, "edge-1")) == 0
            write(site.file)
            broker.stop()
            broker.start()
            with agent(site.settings("edge-1")):
                wait_until(lambda: site.state("edge-1") == "online")
    finally:
        broker.stop()
