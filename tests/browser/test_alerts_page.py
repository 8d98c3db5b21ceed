"""A camera is added by RTSP and then covered: every page says so, and somebody acknowledges it."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from lineside.core import SystemClock, encode, rfc3339
from lineside.core.drivers import SecretUrl
from lineside.edge import EdgeConfig
from lineside.edge import run as run_edge
from lineside.hub import HubConfig, RunningHub, running
from lineside.vision import encode_jpeg
from tests.browser.conftest import PLANT, sign_in_by_link
from tests.browser.test_pages import assess, faults, settle, take_shot
from tests.links.test_cameras import RtspServer, data_url

pytestmark = pytest.mark.browser
CLOCK = SystemClock()


class Scene:
    """Pictures of noise; a cover leaves little of it."""

    def __init__(self) -> None:
        self.brightest = 255
        self._random = np.random.default_rng(0)

    def picture(self) -> bytes:
        noise = self._random.integers(0, self.brightest, (240, 320, 3))
        return encode_jpeg(noise.astype(np.uint8))


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def rtsp(scene: Scene) -> Iterator[str]:
    """The address of a camera that shows the scene to who knows its password."""
    server = RtspServer(user="eye", password="p:w", picture=scene.picture)  # noqa: S106  the test's
    yield f"rtsp://eye:p%3Aw@127.0.0.1:{server.port}/dock"
    server.close()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[RunningHub]:
    """A hub with a device that follows its plant file; its first camera may be silent for long."""
    limit, path = "no_signal_after_s = ", tmp_path / "plant.toml"
    path.write_text(PLANT.read_text().replace(f"{limit}4\n", f"{limit}600\n", 1))
    shutil.copy(path, tmp_path / "edge.toml")
    folder = tmp_path / "hub"
    config = HubConfig(data_dir=str(folder), plant=str(path), port=0, bus_port=0)
    stop = threading.Event()
    with running(config, clock=CLOCK) as one:
        edge = EdgeConfig(
            device="edge-1", bus=SecretUrl(one.bus_url), plant=str(tmp_path / "edge.toml"),
            hub=one.url,
            data_dir=str(tmp_path / "edge"), trust_root=str(folder / "trust"),
            token_file=str(folder / "tokens" / "device.token"),
        )  # fmt: skip
        device = threading.Thread(
            target=run_edge, args=(edge,), kwargs={"clock": CLOCK, "stop": stop}, name="edge"
        )
        device.start()
        try:
            yield one
        finally:
            stop.set()
            device.join()


def fill(page: Page, entry: str, *, reason: str, **values: str) -> Locator:
    """Fill the form of an entry, "" for a new one; ``__`` stands for the dot of a key."""
    if entry:
        page.locator(f"#entry-{entry} summary").click()
    form = page.locator(f"form[data-id='{entry}']" if entry else "form:not([data-id]).setup-form")
    for key, value in values.items():
        field = form.locator(f"[name='{key.replace('__', '.')}']")
        if field.evaluate("one => one.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
    form.get_by_label("Reason of the change").fill(reason)
    return form


def test_a_camera_added_by_rtsp_is_covered_seen_on_every_page_and_acknowledged(
    hub: RunningHub, chromium: Browser, scene: Scene, rtsp: str, pytestconfig: pytest.Config
) -> None:
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    hub.services.plant_ingest.take_http(
        encode({"topic": "i/cam", "ts": rfc3339(CLOCK.now()), "data": data_url(scene.picture())})
    )
    sign_in_by_link(page, hub, name="M. Keller")
    expect(page.locator("[data-cameras]")).to_have_text("1 of 1 live")
    bell = page.locator("[data-bell]")
    expect(bell).to_have_text("0 open alerts")

    page.goto(f"{hub.url}/setup/camera")
    dock = {
        "id": "dock", "name": "Dock camera", "line": "warehouse", "source": rtsp,
        "no_signal_after_s": "600",  # a machine that stands still for a while is no silent camera
    }  # fmt: skip
    form = fill(page, "", reason="It sees more of the rack", **dock)
    form.get_by_role("button", name="Test picture").click()
    picture = form.get_by_role("img", name="Test picture")
    expect(picture).to_have_js_property("naturalWidth", 320)
    for word in ("Focus", "Brightness", "in range"):
        expect(form.locator("[data-figures]")).to_contain_text(word)
    with page.expect_navigation():
        form.get_by_role("button", name="Add").click()
    page.goto(f"{hub.url}/")
    expect(page.locator("[data-cameras]")).to_have_text("2 of 2 live")
    page.goto(f"{hub.url}/setup/inspection")
    often = {"trigger__on": "interval", "trigger__interval_s": "0.2"}
    form = fill(page, "stock", camera="dock", reason="By the new camera", **often)
    with page.expect_navigation():
        form.get_by_role("button", name="Save").click()
    page.goto(f"{hub.url}/")
    expect(page.locator("[data-cameras]")).to_have_text("2 of 2 live")

    scene.brightest = 4
    expect(page.locator("[data-cameras]")).to_have_text("1 of 2 live")
    expect(page.locator("[data-summary]")).to_have_text("2 cameras, 1 dark")
    tile = page.locator(".tile", has_text="Dock camera")
    expect(tile.locator("header .state")).to_have_text("dark")
    expect(bell).to_have_text("1 open alerts")
    page.goto(f"{hub.url}/twin")
    expect(page.locator("[data-discrepancies]")).to_contain_text("Camera dark (dock)")
    bell.click()
    card = page.locator("[data-open-alerts] > section")
    expect(card).to_have_count(1)
    expect(card).to_contain_text("Check the lens cover")
    expect(card.get_by_role("img")).to_have_js_property("naturalWidth", 160)
    settle(page)
    take_shot(page, "alerts", folder=pytestconfig.getoption("--screenshots"))
    assert faults(page) == []
    card.get_by_label("Note").fill("cover left on")
    with page.expect_navigation():
        card.get_by_role("button", name="Acknowledge").click()
    expect(card).to_contain_text("Acknowledged by M. Keller")
    expect(card).to_contain_text("cover left on")
    expect(bell).to_have_text("0 open alerts")
    assert assess(page) == []
    context.close()
