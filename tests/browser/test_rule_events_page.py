"""What rules said, on the page: filled, in both themes, wide and narrow, filtered by hand."""

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, expect

from lineside.core import SystemClock
from lineside.hub import HubConfig, RunningHub, running
from lineside.streams import EVENT_TYPE, Event
from lineside.testing import FakeClock
from lineside.vision import encode_jpeg
from tests.browser.conftest import watch
from tests.browser.test_pages import OVER, SIZES, assess, settle
from tests.hub.conftest import PLANT, Line, scene

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

CLOCK = SystemClock()
RULE = b"""
[[rule]]
id = "seen"
name = "Socks seen"
read = { plant = "message" }
key = ["image"]
window = { size_s = 5 }
"""
SAID: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Google", {"label": "Google", "dwell_s": 2.4, "frames": 9, "probability": 0.97}),
    ("Mongo", {"count": 5}),
    ("Google", {"pair_seen": "Pair", "pairs": 3, "left_over": 1}),
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub in whose log a rule has said three things, each with its frame."""
    folder = tmp_path_factory.mktemp("told")
    (folder / "plant.toml").write_bytes(PLANT + RULE)
    config = HubConfig(
        data_dir=str(folder / "hub"), plant=str(folder / "plant.toml"), port=0, bus_port=0
    )
    with running(config, clock=CLOCK) as hub:
        line = Line(hub.services, FakeClock())
        line.send(line.camera(encode_jpeg(scene("blue", "red", seed=3))))
        frame = hub.services.frames.page(camera="rack", limit=1)[0].id
        for place, (image, values) in enumerate(SAID):
            data = {"rule": "seen", "action": "final", "key": {"image": image}, "values": values}
            hub.services.ledger.record([
                Event(
                    id=f"evt_told_{place}", source="/hall/hub", type=EVENT_TYPE, subject="seen",
                    time=CLOCK.now(), data={**data, "frame": frame},
                )
            ])  # fmt: skip
        yield hub


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_page_is_quiet_accessible_fits_and_filters(
    chromium: Browser, told: RunningHub, *, theme: Literal["dark", "light"], size: str
) -> None:  # fmt: skip
    width, height = SIZES[size]
    context = chromium.new_context(color_scheme=theme, viewport={"width": width, "height": height})
    watched = watch(context, told.url)
    page = watched.page
    page.goto(f"{told.url}/sign-in?token={told.services.auth.issue_link(name='anna')}")
    page.wait_for_url(f"{told.url}/")
    page.goto(f"{told.url}/events/rules")
    settle(page)
    rows = page.get_by_role("region", name="Events of rules").locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("Pair, 3 pairs, left over 1")
    assert rows.first.locator("img").evaluate("(img) => img.decode().then(() => img.naturalWidth)")
    assert assess(page) == []
    assert page.evaluate(OVER) <= 0
    page.get_by_label("Key").fill("mongo")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**key=mongo**")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("count 5")
    rows.locator("a[href^='/frames/']").click()
    page.wait_for_url("**/frames/frm_*")
    assert watched.complaints + watched.strangers == []
    context.close()
