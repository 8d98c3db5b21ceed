"""The page of pictures in a browser: choose with the keyboard, label, export."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.test_modules import call
from tests.browser.test_pages import assess, settle

pytestmark = pytest.mark.browser


def test_chosen_pictures_are_labelled_and_exported(
    line: Any,  # noqa: ANN401  conftest's Line
    open_page: Callable[..., Any],
) -> None:
    page = open_page("/pictures?camera=rack").page
    settle(page)
    boxes = page.locator("[data-select]")
    expect(page.locator("[data-bar]")).to_be_hidden()
    boxes.nth(0).click()
    boxes.nth(2).click(modifiers=["Shift"])
    expect(page.locator("[data-chosen]")).to_have_text("3 pictures selected")
    page.keyboard.press("e")
    with page.expect_download() as download:
        page.get_by_role("link", name="Table as CSV").click()
    assert download.value.path().read_text().count("\n") == 4
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    assert assess(page) == []
    page.get_by_label("Dataset").last.fill("chosen")
    page.keyboard.press("Enter")
    expect(page.locator("[data-chosen]")).to_have_text("Added to chosen.")
    assert line.hub.services.datasets.one("chosen").draft_samples == 3
    first = page.locator("[data-gallery] li > a").first
    first.focus()
    page.keyboard.press("End")
    expect(page.locator("[data-gallery] li > a").last).to_be_focused()
    page.keyboard.press("x")
    expect(page.locator("[data-chosen]")).to_have_text("1 picture selected")
    page.keyboard.press("Escape")
    expect(page.locator("[data-bar]")).to_be_hidden()
    query = "verdict=reject&verdict=review&label=dent&sort=doubt"
    wish = call(page, "pictures_request", "m.bodyOf([], a)", argument=query)
    assert wish == {"where": {"verdict": ["reject", "review"], "label": "dent", "sort": "doubt"}}
    assert call(page, "pictures", "m.neighbour('ArrowDown', 1, 4, 7)") == 5
    assert call(page, "pictures", "m.neighbour('ArrowDown', 4, 4, 7)") == 4
    page.locator("[data-menu] summary").click()
    assert assess(page) == []
    page.locator("[data-menu] label", has_text="white").click()
    expect(page.locator("[data-menu] summary")).to_contain_text("white")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**label=white*")
    page.close()
