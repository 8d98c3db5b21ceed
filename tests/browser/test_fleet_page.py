"""Devices on the page: a code is made, a device is looked at, put into a group and revoked."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from lineside.core import SystemClock, encode, rfc3339
from lineside.fleet import CertificateAuthority, EnrolledDevice
from lineside.fleet.enrolment import read_code
from lineside.hub import HubConfig, RunningHub, running
from tests.browser.conftest import Watched, sign_in_by_link, watch
from tests.browser.test_pages import faults, settle
from tests.hub.conftest import PLANT

pytestmark = pytest.mark.browser

CLOCK = SystemClock()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub with sixty devices of which one reports."""
    folder: Path = tmp_path_factory.mktemp("fleet")
    (folder / "plant.toml").write_bytes(PLANT)
    config = HubConfig(
        data_dir=str(folder / "hub"),
        plant=str(folder / "plant.toml"),
        port=0,
        bus_port=0,
        device_silent_s=3600.0,
    )
    CertificateAuthority.create(config.ca_folder, site="hall", clock=CLOCK)
    with running(config, clock=CLOCK) as hub:
        now = CLOCK.now()
        for number in range(60):
            row = EnrolledDevice(
                device=f"gate-{number:02}", lines=("warehouse",), enrolled_at=now,
                enrolled_by="test", serial=f"{number:x}", ends_at=now + timedelta(days=300),
                key="k",
            )  # fmt: skip
            hub.services.enrolment.inventory.enrol(row, groups=("canary",) if number < 3 else ())
        told = {
            "schema": "lineside.device/1", "device": "gate-00", "state": "online",
            "at": rfc3339(CLOCK.now() - timedelta(seconds=30)), "version": "0.1.0",
            "spool_depth": 4,
            "packages": [{"inspection": "stock", "digest": "sha256:" + "ab" * 32}],
        }  # fmt: skip
        hub.services.devices.take_status("gate-00", encode(told))
        yield hub


@pytest.fixture
def look(chromium: Browser, fleet: RunningHub) -> Iterator[Callable[..., Watched]]:
    """A page of somebody who administers."""
    contexts = []

    def opened(
        address: str, *, theme: str = "light", size: tuple[int, int] = (1440, 900)
    ) -> Watched:
        context = chromium.new_context(
            color_scheme="dark" if theme == "dark" else "light",
            viewport={"width": size[0], "height": size[1]},
        )
        contexts.append(context)
        watched = watch(context, fleet.url)
        sign_in_by_link(watched.page, fleet, name="M. Keller")
        watched.page.goto(fleet.url + address)
        return watched

    yield opened
    for context in contexts:
        context.close()


def test_a_code_is_made_on_the_page_and_shown_once(look: Callable[..., Watched]) -> None:
    page = look("/devices").page
    form = page.locator("form[data-show]")
    form.get_by_label("Name").fill("packing-1")
    form.get_by_label("Groups (comma-separated)").fill("canary, late")
    form.get_by_role("button", name="Make a code").click()
    code = page.locator(".once code").first
    expect(code).to_have_text(re.compile(r"^([A-Z2-7]{6}-){7}[A-Z2-7]{6}$"))
    assert read_code(code.inner_text()).secret
    shown = page.locator(".once")
    expect(shown).to_contain_text("Works once, until")
    expect(shown).to_contain_text(
        f"lineside device enrol --hub {page.url.partition('/devices')[0]}"
    )
    page.reload()
    codes = page.get_by_role("region", name="Open codes")
    expect(codes).to_contain_text("packing-1")
    expect(page.locator(".once")).to_have_count(0)
    with page.expect_navigation():
        codes.get_by_role("button", name="Revoke the code for packing-1").click()
    expect(page.get_by_role("region", name="Open codes")).to_have_count(0)
    expect(page.get_by_role("region", name="Last enrolments")).to_contain_text("code taken back")


def test_a_name_that_works_already_is_refused_in_the_form(look: Callable[..., Watched]) -> None:
    page = look("/devices").page
    form = page.locator("form[data-show]")
    form.get_by_label("Name").fill("gate-05")
    form.get_by_role("button", name="Make a code").click()
    expect(form.get_by_role("alert")).to_contain_text("enrolled already")


def test_the_list_is_filtered_and_goes_on(look: Callable[..., Watched]) -> None:
    page = look("/devices").page
    rows = page.get_by_role("region", name="Devices").locator("tbody tr")
    expect(rows).to_have_count(50)
    page.get_by_role("link", name="Further").click()
    expect(rows).to_have_count(10)
    page.locator("select[name=group]").select_option("canary")
    page.get_by_role("button", name="Filter").click()
    expect(rows).to_have_count(3)
    page.locator("select[name=state]").select_option("online")
    page.get_by_role("button", name="Filter").click()
    expect(rows).to_have_count(1)
    page.get_by_role("link", name="Show all").click()
    expect(rows).to_have_count(50)


def test_the_list_follows_its_devices(look: Callable[..., Watched], fleet: RunningHub) -> None:
    page = look("/devices?q=gate-03").page
    row = page.locator("[data-device=gate-03]")
    expect(row.locator("[data-state]")).to_have_text("never reported")
    told = {
        "schema": "lineside.device/1", "device": "gate-03", "state": "online",
        "at": rfc3339(CLOCK.now()), "version": "0.1.0", "spool_depth": 0, "packages": [],
    }  # fmt: skip
    fleet.services.devices.take_status("gate-03", encode(told))
    expect(row.locator("[data-state]")).to_have_text("online")
    expect(row.locator("[data-heard] time")).to_have_count(1)
    expect(page.locator("[data-devices]")).to_have_text("2 of 2 reporting")


def test_a_device_is_grouped_and_revoked_on_its_page(look: Callable[..., Watched]) -> None:
    page = look("/devices/gate-07").page
    page.get_by_label("Groups (comma-separated)").fill("north, canary")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("link", name="north")).to_be_visible()
    page.get_by_label("Reason").fill("stolen")
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator("main")).to_contain_text("stolen")
    expect(page.get_by_role("button", name="Revoke")).to_have_count(0)
    page.goto(page.url.replace("gate-07", "gate-06"))
    expect(page.get_by_role("button", name="Revoke")).to_have_count(1)


def test_a_clock_that_is_off_is_told(look: Callable[..., Watched]) -> None:
    page = look("/devices/gate-00").page
    expect(page.locator("main")).to_contain_text(re.compile(r"[3-9]\d\.\d\ss behind"))


@pytest.mark.parametrize("address", ["/devices", "/devices/gate-00"])
def test_both_pages_are_quiet_accessible_and_fit(
    look: Callable[..., Watched], *, address: str
) -> None:
    watched = look(address)
    settle(watched.page)
    assert faults(watched.page) == []
    watched.quiet()
