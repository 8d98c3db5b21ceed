"""What rules said, on the page, while rules run: both themes, wide and narrow, live, tried."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from playwright.sync_api import APIResponse, Browser, BrowserContext, Page, Route, expect

from lineside.core import SystemClock
from lineside.hub import HubConfig, RunningHub, running
from lineside.links import Message
from lineside.testing import FakeClock
from lineside.testing.links import wait_until
from lineside.vision import encode_jpeg
from tests.browser.conftest import Watched, sign_in_by_link, watch
from tests.browser.test_modules import call
from tests.browser.test_pages import SIZES, assess, faults, settle
from tests.hub.conftest import PLANT, Line, scene

pytestmark = pytest.mark.browser

CLOCK = SystemClock()
RULES = b"""
[[route]]
topic = "sockfound"
kind = "message"
time = "arrival"
[[rule]]
id = "passed"
name = "Socks that passed"
read = { topic = "sockfound" }
key = ["image"]
window = { size_s = 0.2 }
aggregate = [{ name = "share", of = "mean", field = "probability" }]
idle_s = 0.2
[[rule]]
id = "pairs"
name = "Pairs of socks"
read = { event = "passed" }
key = ["image"]
pair = {}
emit = "changes"
idle_s = 0.2
"""


@dataclass(slots=True, kw_only=True)
class Belt:
    """A hub with two rules at work, and what passes before it."""

    hub: RunningHub
    frame: str
    pause: threading.Event = field(default_factory=threading.Event)

    def passes(self, image: str, *, frame: str = "") -> None:
        """One message of the plant, whose window ends before the next one comes."""
        body: dict[str, Any] = {"image": image, "probability": 97.5}
        body |= {"frame": frame} if frame else {}
        self.hub.services.plant_ingest.take(
            [Message(topic="sockfound", payload=json.dumps(body).encode())]
        )
        self.pause.wait(0.25)

    def open(self, context: BrowserContext, path: str) -> Watched:
        watched = watch(context, self.hub.url)
        page = watched.page
        sign_in_by_link(page, self.hub, name="anna")
        page.goto(f"{self.hub.url}{path}")
        settle(page)
        return watched


@pytest.fixture(scope="module")
def belt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Belt]:
    """Rules that have told windows and pairs, one with its frame, one with a frame that is gone."""
    folder = tmp_path_factory.mktemp("told")
    (folder / "plant.toml").write_bytes(PLANT + RULES)
    config = HubConfig(
        data_dir=str(folder / "hub"), plant=str(folder / "plant.toml"), port=0, bus_port=0
    )
    with running(config, clock=CLOCK) as hub:
        line = Line(hub.services, FakeClock())
        line.send(line.camera(encode_jpeg(scene("blue", "red", seed=3))))
        frame = hub.services.frames.page(camera="rack", limit=1)[0].id
        made = Belt(hub=hub, frame=frame)
        for image, seen in (("Google", frame), ("Google", "frm_gone"), ("Mongo", "")):
            made.passes(image, frame=seen)
            made.pause.wait(1.0)  # each in a stretch of its own, so that there is a chart
        wait_until(lambda: len(hub.services.events.page(kind="lineside.event.v1")) == 6)
        yield made


@pytest.fixture
def context(chromium: Browser) -> Iterator[Callable[..., BrowserContext]]:
    opened: list[BrowserContext] = []

    def make(theme: Literal["dark", "light"] = "dark", size: str = "wide") -> BrowserContext:
        width, height = SIZES[size]
        opened.append(
            chromium.new_context(
                color_scheme=theme, viewport={"width": width, "height": height},
                accept_downloads=True,
            )
        )  # fmt: skip
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def rows_of(page: Page) -> Any:  # noqa: ANN401  a locator
    return page.get_by_role("region", name="Events of rules").locator("tbody tr")


def test_the_page_is_quiet_accessible_and_fits_with_everything_on_it(
    belt: Belt, context: Callable[..., BrowserContext]
) -> None:
    watched = belt.open(context(), "/events/rules")
    page = watched.page
    picture = rows_of(page).locator("img").first
    picture.scroll_into_view_if_needed()
    assert picture.evaluate("(img) => img.decode().then(() => img.naturalWidth)")
    expect(rows_of(page).filter(has_text="frame not kept here").first).to_be_visible()
    page.get_by_text("As a table").click()
    assert faults(page) == []
    page.goto(f"{belt.hub.url}/events/rules/try?rule=passed")
    settle(page)
    page.get_by_role("button", name="Try it").click()
    expect(page.get_by_text("Nothing would change.")).to_be_visible()
    declared = page.get_by_label("A [[rule]] table")
    declared.fill(declared.input_value().replace("size_s = 0.2", "size_s = 60"))
    page.get_by_role("button", name="Try it").click()
    otherwise = page.get_by_role("region", name="Changed")
    expect(otherwise.locator("tbody tr").first).to_be_visible()
    assert faults(page) == []
    watched.quiet()


def test_filters_stand_in_the_address_and_a_frame_leads_to_its_page(
    belt: Belt, context: Callable[..., BrowserContext]
) -> None:
    watched = belt.open(context(), "/events/rules")
    page = watched.page
    page.get_by_role("textbox", name="Key").fill("google")
    page.get_by_role("combobox", name="Rule").select_option("passed")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**rule=passed**key=google**")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == "rule-events-passed.csv"
    lines = download.value.path().read_text().splitlines()
    expect(rows_of(page)).to_have_count(len(lines) - 1)
    assert all("Google" in line for line in lines[1:])
    rows_of(page).locator("a[href^='/frames/']").first.click()
    page.wait_for_url("**/frames/frm_*")
    watched.quiet()


def test_what_a_rule_says_appears_by_itself_where_the_filters_let_it_through(
    belt: Belt, context: Callable[..., BrowserContext]
) -> None:
    watched = belt.open(context(), "/events/rules?key=zigzag")
    page = watched.page
    expect(page.get_by_text("No event matches")).to_be_visible()
    read = page.locator("[data-rule=passed] [data-figure=read]")
    before = int(read.inner_text())
    belt.passes("Zigzag", frame=belt.frame)
    belt.passes("Other")
    expect(rows_of(page)).to_have_count(2)
    expect(rows_of(page).filter(has_text="Zigzag")).to_have_count(2)
    expect(read).to_have_text(str(before + 2))
    first = rows_of(page).last
    link = first.locator("a[href^='/events/evt_']")
    link.focus()
    slow: list[tuple[Route, APIResponse]] = []
    page.route("**/rows?*", lambda route: slow.append((route, route.fetch())), times=1)
    belt.passes("Other")
    while not slow:
        page.wait_for_timeout(50)
    belt.passes("Zigzag")  # while the list is read, for longer than a few statuses
    page.wait_for_timeout(4000)
    slow[0][0].fulfill(response=slow[0][1])
    expect(rows_of(page)).to_have_count(4)
    expect(link).to_be_focused()
    expect(rows_of(page).first).to_contain_text("1 pair")
    watched.quiet()


def test_new_rows_wait_while_the_reader_is_further_down(
    belt: Belt, context: Callable[..., BrowserContext]
) -> None:
    for place in range(6):
        belt.passes(f"Many {place % 2}")
    watched = belt.open(context(size="narrow"), "/events/rules?key=many")
    page = watched.page
    expect(rows_of(page)).to_have_count(12)
    rows_of(page).last.scroll_into_view_if_needed()
    seen = page.evaluate("() => scrollY")
    belt.passes("Many 0")
    show = page.get_by_role("button", name="Show 2 new")
    expect(show).to_be_attached()
    assert page.evaluate("() => scrollY") == seen
    expect(rows_of(page)).to_have_count(12)
    assert assess(page) == []
    show.focus()
    page.keyboard.press("Enter")
    expect(rows_of(page)).to_have_count(14)
    expect(show).to_be_hidden()
    watched.quiet()


def test_each_fault_of_a_declaration_is_told_with_its_line_and_nothing_goes_live(
    belt: Belt, context: Callable[..., BrowserContext]
) -> None:
    watched = belt.open(context(), "/events/rules/try?rule=passed")
    page = watched.page
    declared = page.get_by_label("A [[rule]] table")
    text = declared.input_value()
    declared.fill(text.replace("size_s = 0.2", "size_s = -1").replace('id = "passed"', "id = 3"))
    declared.press("Tab")
    page.get_by_role("button", name="Try it").press("Enter")
    told = page.get_by_role("alert").locator("li")
    expect(told).to_have_text([
        "line 2, id: 3 is not text. Write text.",
        "line 6, window.size_s: -1.0 is not above 0. Write a number above 0.",
    ])  # fmt: skip
    assert assess(page) == []
    declared.fill(text.replace('["image"]', '["image", "shade"]'))
    page.get_by_role("button", name="Try it").click()
    expect(page.locator("[data-tried]").get_by_text("Without key")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    assert belt.hub.services.rules.find("passed").key == ("image",)
    watched.quiet(but="400 (Bad Request)")


def test_the_modules_tell_what_is_new(belt: Belt, context: Callable[..., BrowserContext]) -> None:
    page = belt.open(context(), "/welcome").page
    said = call(page, "rule_events", "[m.news(['c','b','a'], ['a']), m.news([], ['a'])]")
    assert said == [["c", "b"], []]
    told = call(page, "rule_try", "[m.faultLines({detail: 'x', fix: 'Y.'}), m.faultLines({})]")
    assert told == [["x. Y."], [""]]
