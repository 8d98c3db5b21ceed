"""A frozen picture must not look like a healthy line: hub frozen, hub killed, camera silent."""

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from lineside.core import SystemClock
from lineside.hub import HubConfig, sign_in_link
from lineside.links import open_bus
from lineside.simulator import SimulateSettings, simulate
from lineside.testing.links import wait_until

pytestmark = pytest.mark.browser

PLANT = Path(__file__).parents[2] / "examples" / "warehouse" / "plant.toml"
SILENT = re.compile(r"no signal for \d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A hub as a program of its own."""

    process: subprocess.Popen[bytes]
    url: str
    bus: str
    link: str


@contextmanager
def hub_program(folder: Path) -> Iterator[Program]:
    config = folder / "hub.toml"
    config.write_text(f'data_dir = "{folder / "hub"}"\nplant = "{PLANT}"\nport = 0\nbus_port = 0\n')
    command = [sys.executable, "-m", "lineside", "hub", "--config", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = wait_for(folder / "hub" / "hub.json")
        settings = HubConfig(data_dir=str(folder / "hub"), plant=str(PLANT))
        link = sign_in_link(settings, name="anna", clock=SystemClock())
        yield Program(process=process, url=str(address["url"]), bus=str(address["bus"]), link=link)
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def wait_for(path: Path) -> dict[str, object]:
    wait_until(path.exists, why="the hub did not start")
    told: dict[str, object] = json.loads(path.read_text())
    return told


@contextmanager
def pictures(bus: str) -> Iterator[threading.Event]:
    """The factory's camera, until the event is set."""
    stop, clock = threading.Event(), SystemClock()

    def run() -> None:
        with closing(open_bus(bus, client_id="factory", clock=clock)) as opened:
            simulate(SimulateSettings(seed=4, fps=3.0), bus=opened, clock=clock, stop=stop)

    thread = threading.Thread(target=run, name="factory")
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join()


def says_silence(page: Page) -> None:
    """Tile, picture and heading agree that nothing comes."""
    expect(page.locator(".tile .state").first).to_have_text(SILENT)
    expect(page.locator("[data-summary]")).to_have_text("1 camera, without signal")
    expect(page.locator(".tile canvas")).to_have_css("filter", "grayscale(1)")


def says_life(page: Page) -> None:
    expect(page.locator("[data-summary]")).to_have_text("1 camera, live")
    expect(page.locator(".tile canvas")).to_have_css("filter", "none")


def test_a_silent_hub_and_a_silent_camera_are_told_apart_and_both_are_seen(
    chromium: Browser, tmp_path: Path
) -> None:
    with hub_program(tmp_path) as hub:
        page = chromium.new_page()
        page.goto(hub.link)
        page.wait_for_url(f"{hub.url}/")
        expect(page.locator(".tile")).to_have_attribute("data-tone", "")  # its script has run
        expect(page.locator(".tile .state").first).to_have_text("no picture yet")
        with pictures(hub.bus) as stop:
            says_life(page)

            hub.process.send_signal(signal.SIGSTOP)
            says_silence(page)
            expect(page.get_by_role("alert")).to_contain_text("No update from the hub for")
            hub.process.send_signal(signal.SIGCONT)
            says_life(page)
            expect(page.get_by_role("alert")).to_be_hidden()

            stop.set()
            says_silence(page)
            expect(page.get_by_role("alert")).to_be_hidden()

            hub.process.kill()
            expect(page.get_by_role("alert")).to_contain_text("No update from the hub for")
            says_silence(page)
        page.close()
