"""The device on the hub's machine: what the page and the API say of it, and what keeps it away."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from lineside.core import Plant
from lineside.fleet import CertificateAuthority, EnrolledDevice
from lineside.hub.config import HubConfig
from lineside.hub.devices.local_device import LocalDevice
from lineside.hub.run import create_app
from lineside.hub.services import Services
from lineside.testing import FakeClock
from lineside.testing.links import wait_until

STAYS_AWAY = (sys.executable, "-c", "import sys; sys.exit('the hub does not answer')")


@pytest.fixture
def device(
    hub: Services, config: HubConfig, plant: Plant, clock: FakeClock
) -> Iterator[LocalDevice]:
    """One whose program fails at once."""
    CertificateAuthority.create(config.ca_folder, site="hall", clock=clock)
    made = LocalDevice(
        hub.enrolment, config=config, plant=plant, documents=hub.records.documents, hub="hub_1",
        plant_text=lambda _: "", make_ca=lambda: None, clock=clock, command=STAYS_AWAY,
    )  # fmt: skip
    made.begin("http://127.0.0.1:8080")
    yield made
    made.close()


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
        row = EnrolledDevice(
            device="edge-1", lines=("warehouse",), enrolled_at=clock.now(), enrolled_by="anna",
            serial="1", ends_at=clock.now() + timedelta(days=300), key="k",
        )  # fmt: skip
        hub.enrolment.inventory.enrol(row, groups=())
        assert "No line with a camera is left for it." in client.get("/devices").text
        refused = client.post("/api/v1/local-device/start")
        assert (refused.status_code, "revoke the device" in refused.json()["fix"]) == (404, True)
