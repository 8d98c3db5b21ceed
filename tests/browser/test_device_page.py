"""The device's own page in a browser: both themes, wide and narrow, live, lost, signed in."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from lineside.core import SystemClock, rfc3339
from lineside.edge import write_page_password
from lineside.edge.page.facts import HubContact, RunningUpdate
from lineside.testing.links import wait_until
from tests.browser.conftest import Watched, watch
from tests.browser.test_pages import SIZES, assess, faults, settle
from tests.edge.page.pages import Shown, classified, counted, odd, segmented, shown

pytestmark = pytest.mark.browser

PASSWORD = "four words of nobody"  # noqa: S105  of the tests
MAGENTA = """(canvas) => {
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let n = 0;
    for (let i = 0; i < data.length; i += 4)
        n += data[i] - data[i + 1] > 60 && data[i + 2] - data[i + 1] > 40;
    return n / (data.length / 4);
}"""


@contextmanager
def live(page: Shown) -> Iterator[None]:
    """Pictures come, five a second, while the block runs."""
    stop = threading.Event()

    def feed() -> None:
        seed = 0
        while not stop.wait(0.2):
            seed += 1
            frame, other = page.frame(seed=seed), page.frame("bin", seed=seed)
            page.see(frame, classified(frame), segmented(frame))
            page.see(other, counted(other), odd(other))

    thread = threading.Thread(target=feed, name="line")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Shown]:
    with shown(tmp_path, clock=SystemClock()) as served:
        yield served


@pytest.fixture
def opened(chromium: Browser) -> Iterator[Callable[..., Watched]]:
    contexts = []

    def one(url: str, *, theme: str = "dark", size: str = "wide") -> Watched:
        width, height = SIZES[size]
        context = chromium.new_context(
            color_scheme="dark" if theme == "dark" else "light",
            viewport={"width": width, "height": height},
        )
        contexts.append(context)
        watched = watch(context, url)
        watched.page.goto(url)
        return watched

    yield one
    for context in contexts:
        context.close()


def busy(device: Shown) -> None:
    """A device that has something to say in every place."""
    now = rfc3339(device.clock.now())
    device.faults.append("camera bin: cannot be opened: no route to host")
    device.contact.append(HubContact(connected=False, heard_at=now, clock_offset_s=2.0))
    details = {"step": "fetching", "bytes": "3400000", "bytes_total": "9800000"}
    device.jobs.append(RunningUpdate(job="job-17", model="unet", version="1.3", details=details))


def fits(watched: Watched) -> None:
    assert faults(watched.page) == []
    watched.quiet()


def test_the_page_is_quiet_accessible_and_fits_busy_or_empty(
    device: Shown, opened: Callable[..., Watched]
) -> None:
    watched = opened(device.url)
    page = watched.page
    settle(page)
    expect(page.locator("[data-camera=surface] .state").first).to_have_text("no picture yet")
    expect(page.locator("[data-inspection=defect] .answer")).to_have_text(
        "No image classification result available"
    )
    expect(page.locator("[data-inspection=where] .answer")).to_have_text(
        "No segmentation mask available"
    )
    fits(watched)
    busy(device)
    with live(device):
        expect(page.locator("[data-inspection=defect] .answer")).to_have_text("anomalous")
        expect(page.locator("[data-faults]")).to_be_visible()
        fits(watched)


def test_what_the_line_does_is_shown_with_confidence_latency_and_mask(
    device: Shown, opened: Callable[..., Watched]
) -> None:
    busy(device)
    page = opened(device.url).page
    with live(device):
        expect(page.locator("[data-summary]")).to_have_text("2 cameras, all live")
        defect = page.locator("[data-inspection=defect]")
        expect(defect.locator(".confidence")).to_contain_text("anomalous 0.98")
        expect(defect).to_contain_text("Latency: 12")
        expect(page.locator("[data-inspection=where] .answer")).to_contain_text("scratch on")
        expect(page.locator("[data-inspection=fill] .answer")).to_have_text("3 (3 to 4)")
        expect(page.locator("[data-inspection=odd] .answer")).to_contain_text("differs from good")
        assert page.locator("[data-camera=surface] canvas").evaluate(MAGENTA) > 0.01
        assert page.locator("[data-camera=bin] canvas").evaluate(MAGENTA) == 0
        models = page.locator("[data-models] tr").first
        for text in ("img-classification", "1.2", "img-classification-1-2", "ab12ab"):
            expect(models).to_contain_text(text)
        expect(page.locator("[data-updates]")).to_contain_text("3.4\u00a0MB of 9.8\u00a0MB")
        expect(page.locator("[data-hub]")).to_contain_text("away")
        expect(page.locator("[data-hub]")).to_contain_text("ahead by 2.0\u00a0s")
        expect(page.locator("[data-recent] tr")).to_have_count(20)
        defect.get_by_role("button").click()
        expect(defect.locator("figure")).to_contain_text("no longer in use")


def test_a_line_that_stands_still_looks_so(device: Shown, opened: Callable[..., Watched]) -> None:
    page = opened(device.url).page
    with live(device):
        expect(page.locator("[data-summary]")).to_have_text("2 cameras, all live")
    quiet = page.locator("[data-camera=surface]")
    expect(quiet.locator("header .state").first).to_contain_text("no picture for")
    expect(quiet.locator("canvas")).to_have_css("filter", "grayscale(1)")
    expect(page.locator("[data-summary]")).to_have_text("2 cameras, 2 without signal")


def test_a_device_that_is_gone_is_told_and_found_again(
    tmp_path: Path, opened: Callable[..., Watched]
) -> None:
    with shown(tmp_path, clock=SystemClock()) as first:
        address = first.url.removeprefix("http://")
        page: Page = opened(first.url).page
        with live(first):
            expect(page.locator("[data-summary]")).to_have_text("2 cameras, all live")
    expect(page.locator("[data-lost]")).to_contain_text("has not answered for")
    expect(page.locator("[data-summary]")).to_have_text("does not answer")
    with shown(tmp_path, clock=SystemClock(), listen=address) as second, live(second):
        expect(page.locator("[data-lost]")).to_be_hidden()
        expect(page.locator("[data-summary]")).to_have_text("2 cameras, all live")


def test_more_viewers_than_may_are_told_so(tmp_path: Path, opened: Callable[..., Watched]) -> None:
    with shown(tmp_path, clock=SystemClock(), most_viewers=1) as device:
        both = [opened(device.url).page.locator("[data-lost]") for _ in range(2)]
        # The one that asked first watches.
        wait_until(lambda: any("1 watch already" in one.inner_text() for one in both))


def test_a_password_opens_the_page(tmp_path: Path, opened: Callable[..., Watched]) -> None:
    path = tmp_path / "password"
    write_page_password(PASSWORD, path=path)
    settings: dict[str, Any] = {"password_file": str(path)}
    with shown(tmp_path, clock=SystemClock(), **settings) as device, live(device):
        watched = opened(device.url)
        page = watched.page
        expect(page).to_have_url(f"{device.url}/sign-in")
        fits(watched)
        page.get_by_label("Password of this page").fill("not the password")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("not the page's password")
        assert assess(page) == []
        page.get_by_label("Password of this page").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("[data-summary]")).to_have_text("2 cameras, all live")
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_url(f"{device.url}/sign-in")
        watched.quiet(but=("403 (Forbidden)", "401 (Unauthorized)"))
