"""The device on the hub's machine: what the page and the API say of it, and what keeps it away."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from lineside.core import LinesideError, Plant, RefusedError, UnavailableError
from lineside.fleet import CertificateAuthority, EnrolledDevice
from lineside.hub.config import HubConfig
from lineside.hub.devices.local_device import LocalDevice
from lineside.hub.run import create_app
from lineside.hub.services import Services
from lineside.testing import FakeClock
from lineside.testing.links import wait_until
from tests.hub.conftest import serve_hub

STAYS_AWAY = (sys.executable, "-c", "import sys; sys.exit('the hub does not answer')")
FAILS = (sys.executable, "-c", "import sys; sys.exit('error: the disk is full.\\nfix: Free it.')")
SLEEPS = (sys.executable, "-c", "import time; time.sleep(600)")
URL = "http://127.0.0.1:8080"
OWN = "hub-here"
New = Callable[..., LocalDevice]


@pytest.fixture
def new(hub: Services, config: HubConfig, plant: Plant, clock: FakeClock) -> Iterator[New]:
    """Makes one with some program in place of ``lineside``."""
    CertificateAuthority.create(config.ca_folder, site="hall", clock=clock)
    made = []

    def make(
        command: tuple[str, ...] = STAYS_AWAY, *, id_: str = "hub_1", **settings: object
    ) -> LocalDevice:
        made.append(
            LocalDevice(
                hub.enrolment, devices=hub.devices, config=replace(config, **settings),  # type: ignore[arg-type]
                plant=plant, documents=hub.records.documents, hub=id_, plant_text=lambda _: "",
                make_ca=lambda: None, clock=clock, command=command,
            )
        )  # fmt: skip
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def device(new: New) -> LocalDevice:
    """One whose program fails at once."""
    made = new()
    made.begin(URL)
    return made


def enrol(
    hub: Services, clock: FakeClock, name: str, *, by: str = "hub", days: int = 300
) -> EnrolledDevice:
    row = EnrolledDevice(
        device=name, lines=("warehouse",), enrolled_at=clock.now(), enrolled_by=by, serial="1",
        ends_at=clock.now() + timedelta(days=days), key="k",
    )  # fmt: skip
    hub.enrolment.inventory.enrol(row, groups=())
    return row


def enrol_here(hub: Services, config: HubConfig, clock: FakeClock, *, days: int = 300) -> None:
    """As it was enrolled from here before."""
    enrol(hub, clock, OWN, days=days)
    (config.folder / "device").mkdir(parents=True)
    (config.folder / "device" / "edge.toml").write_text(f'device = "{OWN}"\nmine = 1\n')


def test_one_that_cannot_be_enrolled_says_why_and_keeps_one_code_open(
    hub: Services, device: LocalDevice
) -> None:
    assert device.state().state == "off"
    with ThreadPoolExecutor(8) as many:
        found = [*many.map(lambda _: device.start(by="anna").state, range(8))]
    assert set(found) <= {"starting", "failing"}
    assert [one.name for one in threading.enumerate()].count("local-device") == 1
    wait_until(lambda: device._program._worker.failures > 1)
    told = device.state()
    assert (told.state, "the hub does not answer" in told.reason) == ("failing", True)
    assert [one.device for one in hub.enrolment.invitations()] == [told.device]
    assert device.stop().state == "off"


def test_the_page_offers_it_for_the_lines_of_nobody_else(hub: Services, clock: FakeClock) -> None:
    who = {"Authorization": f"Bearer {hub.auth.issue_token('tester', kind='api')}"}
    with TestClient(create_app(hub), base_url="http://127.0.0.1", headers=who) as client:
        page = client.get("/devices").text
        assert "It gets the lines that no other enrolled device has: warehouse." in page
        assert client.get("/api/v1/local-device").json()["state"] == "off"
        assert client.post("/api/v1/local-device/stop").json()["state"] == "off"
        enrol(hub, clock, "edge-1", by="anna")
        assert "No line with a camera is left for it." in client.get("/devices").text
        refused = client.post("/api/v1/local-device/start")
        assert (refused.status_code, "revoke the device" in refused.json()["fix"]) == (404, True)


def test_the_page_starts_one_that_fails_again_where_the_settings_start_it(
    hub: Services, new: New
) -> None:
    failing = new(device_here=True)
    failing.begin(URL)
    wait_until(lambda: failing.state().state == "failing")
    who = {"Authorization": f"Bearer {hub.auth.issue_token('tester', kind='api')}"}
    app = create_app(replace(hub, local_device=failing))
    with TestClient(app, base_url="http://127.0.0.1", headers=who) as client:
        page = client.get("/devices").text
        assert "/api/v1/local-device/start" in page
        assert "/api/v1/local-device/stop" not in page


def test_it_runs_when_the_hub_has_heard_it(
    hub: Services, config: HubConfig, clock: FakeClock, new: New
) -> None:
    enrol_here(hub, config, clock)
    device = new(SLEEPS)
    device.begin(URL)
    assert device.start(by="anna").state == "starting"
    wait_until(lambda: device._program.pid > 0)
    assert device.state().state == "starting"
    clock.advance(61.0)
    told = device.state()
    assert (told.state, "does not report on the bus" in told.reason) == ("failing", True)


def test_the_reason_is_the_programs_own_sentence_with_what_helps(
    hub: Services, config: HubConfig, clock: FakeClock, new: New
) -> None:
    enrol_here(hub, config, clock)
    device = new(FAILS)
    device.begin(URL)
    device.start(by="anna")
    wait_until(lambda: device.state().reason == "the disk is full. Free it")


def test_a_revocation_by_the_hub_itself_keeps_nothing_away(
    hub: Services, config: HubConfig, clock: FakeClock, new: New
) -> None:
    enrol_here(hub, config, clock, days=-1)
    device = new(device_here=True)
    device.begin(URL)
    wait_until(lambda: device._program._worker.failures > 1)
    row = hub.enrolment.inventory.one(OWN)
    assert (row.active, row.reason) == (False, "it is enrolled anew")
    assert "the hub does not answer" in device.state().reason
    assert "mine = 1" in (config.folder / "device" / "edge.toml.before").read_text()


def test_of_two_hubs_devices_the_first_has_a_line(
    hub: Services, config: HubConfig, clock: FakeClock, new: New
) -> None:
    assert new(id_="hub_01aaaaaa").state().device != new(id_="hub_01bbbbbb").state().device
    enrol_here(hub, config, clock)
    device = new(SLEEPS, device_here=True)
    clock.advance(1.0)
    enrol(hub, clock, "hub-a", by="hub")
    assert device.state().lines == ("warehouse",)
    hub.enrolment.inventory.enrol(
        replace(hub.enrolment.inventory.one(OWN), enrolled_at=clock.now()), groups=()
    )
    device.begin(URL)
    wait_until(lambda: "no camera is left" in device.state().reason)
    assert hub.enrolment.inventory.one(OWN).lines == ()
    hub.enrolment.revoke("hub-a", by="anna", reason="moved")
    wait_until(lambda: hub.enrolment.inventory.one(OWN).lines == ("warehouse",))


def test_it_is_started_once_the_hub_answers_and_until_it_stops(new: New) -> None:
    device = new()
    with pytest.raises(UnavailableError, match="the hub starts"):
        device.start(by="anna")
    device.begin(URL)
    device.close()
    with pytest.raises(UnavailableError, match="the hub stops"):
        device.start(by="anna")
    assert device.state().state == "off"


def test_a_bus_that_asks_for_passwords_needs_a_listener_for_certificates(new: New) -> None:
    device = new(bus_password_file="bus.passwords")  # noqa: S106  a path
    device.begin(URL)
    with pytest.raises(RefusedError, match="comes in by certificate only"):
        device.start(by="anna")


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, "127.0.0.1"), ({"bus_host": "::1"}, "[::1]"),
        ({"bus_tls": "0.0.0.0:8883"}, "127.0.0.1"), ({"bus_tls": "10.0.0.5:8883"}, "10.0.0.5"),
        ({"bus": "mqtt://broker"}, "hub.lan"),
    ],
)  # fmt: skip
def test_it_finds_the_bus_where_the_bus_listens(
    hub: Services, new: New, settings: dict[str, str], wanted: str
) -> None:
    hub.enrolment.bus_url = "mqtt://{hub}:1883"
    device = new(**settings)
    device.begin("https://hub.lan:8443")
    assert device._environment()["LINESIDE_EDGE__BUS"] == f"mqtt://{wanted}:1883"


def test_two_listeners_have_two_ports(config: HubConfig) -> None:
    with pytest.raises(LinesideError, match="a port of its own, bus_tls has this one"):
        replace(config, bus_tls="0.0.0.0:8883", iot_jobs_tls="0.0.0.0:8883")
    replace(config, bus_tls="127.0.0.1:0", iot_jobs_tls="127.0.0.1:0")
    replace(config, bus_tls="127.0.0.1:8883", iot_jobs_tls="127.0.0.2:8883")


def test_commands_start_and_stop_it(
    hub: Services, device: LocalDevice, lineside: Callable[..., Any]
) -> None:
    with serve_hub(replace(hub, local_device=device)) as url:
        assert lineside("local-device", "show", at=url)["state"] == "off"
        assert lineside("local-device", "show", at=url, text=True).endswith("\nlines: warehouse")
        assert lineside("local-device", "start", at=url)["state"] in ("starting", "failing")
        wait_until(lambda: device.state().state == "failing")
        assert "does not answer" in lineside("local-device", "show", at=url, text=True)
        assert lineside("local-device", "stop", at=url)["state"] == "off"
