"""A camera is covered: the header, the twin and the bell say so, and somebody acknowledges it."""

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from lineside.core import SystemClock, encode, rfc3339
from lineside.hub import HubConfig, RunningHub, running
from lineside.vision import encode_jpeg
from tests.browser.conftest import PLANT
from tests.browser.test_pages import assess, faults, settle

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[RunningHub]:
    """A hub whose camera may be silent for a minute before it counts as lost."""
    camera = '[[camera]]\nid = "rack"\n'
    plant = PLANT.read_text().replace(camera, f"{camera}no_signal_after_s = 60\n", 1)
    (tmp_path / "plant.toml").write_text(plant)
    config = HubConfig(
        data_dir=str(tmp_path / "hub"), plant=str(tmp_path / "plant.toml"), port=0, bus_port=0
    )
    with running(config, clock=SystemClock()) as one:
        yield one


def send(hub: RunningHub, *, brightest: int, seed: int) -> None:
    """The camera takes a picture of noise up to this grey."""
    image = np.random.default_rng(seed).integers(0, brightest, (240, 320, 3)).astype(np.uint8)
    data = "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(image)).decode()
    at = rfc3339(hub.services.clock.now())
    hub.services.plant_ingest.take_http(encode({"topic": "i/cam", "ts": at, "data": data}))


def test_a_covered_camera_is_seen_on_every_page_and_acknowledged(
    hub: RunningHub, chromium: Browser
) -> None:
    context = chromium.new_context()
    page = context.new_page()
    send(hub, brightest=255, seed=0)
    page.goto(f"{hub.url}/sign-in?token={hub.services.auth.issue_link(name='M. Keller')}")
    page.wait_for_url(f"{hub.url}/")
    expect(page.locator("[data-cameras]")).to_have_text("1 of 1 live")
    bell = page.locator("[data-bell]")
    expect(bell).to_have_text("0 open alerts")
    for seed in (1, 2, 3):
        send(hub, brightest=4, seed=seed)
    expect(page.locator("[data-cameras]")).to_have_text("0 of 1 live")
    expect(page.locator("[data-summary]")).to_have_text("1 camera, dark")
    expect(page.locator(".tile header .state")).to_have_text("dark")
    expect(bell).to_have_text("1 open alerts")
    page.goto(f"{hub.url}/twin")
    expect(page.locator("[data-discrepancies]")).to_contain_text("Camera dark (rack)")
    bell.click()
    card = page.locator("[data-open-alerts] > section")
    expect(card).to_have_count(1)
    expect(card).to_contain_text("Check the lens cover")
    expect(card.get_by_role("img")).to_have_js_property("naturalWidth", 160)
    settle(page)
    assert faults(page) == []
    card.get_by_label("Note").fill("cover left on")
    with page.expect_navigation():
        card.get_by_role("button", name="Acknowledge").click()
    expect(card).to_contain_text("Acknowledged by M. Keller")
    expect(card).to_contain_text("cover left on")
    expect(bell).to_have_text("0 open alerts")
    assert assess(page) == []
    context.close()
