"""Every page in both themes, wide and narrow: quiet console, no other host, no axe finding."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from lineside.hub.pages.site import STATIC

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

AXE = (Path(__file__).parent / "vendor" / "axe-4.14.1.min.js").read_text()
SIZES = {"wide": (1440, 900), "narrow": (390, 844)}
RUN_AXE = """async () => {
    const answer = await axe.run(document, {resultTypes: ["violations"]});
    const places = (v) => v.nodes.slice(0, 3).map((n) => n.html).join(" | ");
    const found = answer.violations.map((v) => `${v.id}: ${v.help}: ${places(v)}`);
    if (answer.passes.length < 10) found.push("axe looked at next to nothing");
    return found;
}"""
OVER = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


def addresses(line: Any) -> Iterator[str]:  # noqa: ANN401  conftest's Line
    services = line.hub.services
    frame = services.frames.page(camera="rack", limit=1)[0].id
    event = services.events.page(kind="lineside.prediction.v1", newest_first=True, limit=1)[0].id
    yield from (
        "/", "/lines?wall=1", "/lines/warehouse/rack", "/twin", f"/frames/{frame}", "/data",
        "/data/rack", "/data/rack/label", "/data/rack/versions/1", "/runs",
        "/runs/run_01J9ZQ00000000000000000001", "/runs/run_01J9ZQ00000000000000000002",
        "/models", f"/models/{line.package}", "/try",
        f"/regions?frame={frame}", "/pictures", "/events",
        "/events/rules", "/events/rules/try", f"/events/{event}", "/dead-letters", "/fleet",
        "/fleet/edge-1",
        "/search?q=edge", "/search?q=nothing-like-it", "/welcome",
    )  # fmt: skip


def settle(page: Page) -> None:
    """Fonts and modules are there and the first text of the live parts stands."""
    page.wait_for_load_state("load")
    page.evaluate("() => document.fonts.ready.then(() => true)")


def assess(page: Page) -> list[str]:
    """What axe finds on the page as it stands."""
    page.evaluate(AXE)
    found: list[str] = page.evaluate(RUN_AXE)
    return found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_every_page_is_quiet_accessible_and_fits(
    line: Any,  # noqa: ANN401  conftest's Line
    open_page: Callable[..., Any],
    *,
    theme: str,
    size: str,
) -> None:
    found = []
    for address in addresses(line):
        watched = open_page(address, theme=theme, size=SIZES[size])
        page = watched.page
        settle(page)
        found += [f"{address}: {finding}" for finding in assess(page)]
        over = page.evaluate(OVER)
        found += [f"{address}: {over} px wider than the window"] if over > 0 else []
        found += [f"{address}: {said}" for said in watched.complaints + watched.strangers]
        page.close()
    assert not found, "\n".join(found)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_what_a_click_brings_is_accessible_too(
    line: Any,  # noqa: ANN401  conftest's Line
    open_page: Callable[..., Any],
    *,
    theme: str,
) -> None:
    twin = open_page("/twin", theme=theme).page
    twin.get_by_role("button", name="White").click()
    twin.locator("[data-orders] .steps li").first.wait_for()
    twin.locator("[data-select='slot:A1']").click()
    twin.locator("[data-evidence] figure").wait_for()
    assert assess(twin) == []
    twin.evaluate("() => document.querySelector('dialog').showModal()")
    twin.locator("[data-alert-text]").evaluate("(p) => { p.textContent = 'Out of stock'; }")
    assert assess(twin) == []
    twin.close()

    frames = line.hub.services.frames
    frame = frames.page(camera="rack", limit=1)[0].id
    tried = open_page("/try", theme=theme).page
    picture = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": frames.picture(frame).data}
    tried.locator("input[type=file]").set_input_files(picture)
    tried.get_by_role("button", name="Ask").click()
    tried.locator("[data-result] table").wait_for()
    assert assess(tried) == []
    tried.close()

    regions = open_page("/regions?camera=rack", theme=theme).page
    regions.locator("[data-id=B2]").focus()
    assert assess(regions) == []
    regions.close()

    model = open_page(f"/models/{line.package}", theme=theme).page
    model.locator("summary").first.click()
    assert assess(model) == []
    shown = open_page(f"/frames/{frame}", theme=theme).page
    shown.get_by_role("button", name="Verify audit trail").click()
    shown.locator("#provenance [role=status]").wait_for()
    assert assess(shown) == []


def test_every_file_a_page_loads_is_kept_for_ever_and_no_page_is(
    line: Any,  # noqa: ANN401  conftest's Line
    open_page: Callable[..., Any],
) -> None:
    watched = open_page("/welcome")
    page = watched.page
    seen: list[tuple[str, str]] = []
    page.on(
        "response",
        lambda answer: seen.append((answer.url, answer.headers.get("cache-control", ""))),
    )
    page.goto(f"{line.url}/lines")
    settle(page)
    files = [kept for url, kept in seen if "/static/" in url]
    assert len(files) >= 10
    assert all("immutable" in kept for kept in files)
    assert next(kept for url, kept in seen if url.endswith("/lines")) == "no-store"


def test_the_largest_page_needs_no_file_that_is_not_shipped() -> None:
    assert (STATIC / "vendor" / "three-0.187.0.subset.min.js").stat().st_size < 700_000
