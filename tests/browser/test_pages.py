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
    return {found, passed: answer.passes.length};
}"""
OVER = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


def addresses(line: Any) -> Iterator[str]:  # noqa: ANN401  conftest's Line
    services = line.hub.services
    frame = services.frames.page(camera="rack", limit=1)[0].id
    event = services.events.page(kind="lineside.prediction.v1", newest_first=True, limit=1)[0].id
    yield from (
        "/", "/lines?wall=1", "/lines/warehouse/rack", "/twin", f"/frames/{frame}", "/data",
        "/data/rack", "/data/rack/versions/1", "/runs", "/runs/run_01J9ZQ00000000000000000001",
        "/runs/run_01J9ZQ00000000000000000002", "/models", f"/models/{line.package}", "/try",
        f"/regions?frame={frame}", "/events", f"/events/{event}", "/dead-letters", "/fleet",
        "/search?q=edge", "/search?q=nothing-like-it", "/welcome",
    )  # fmt: skip


def settle(page: Page) -> None:
    """Fonts and modules are there and the first text of the live parts stands."""
    page.wait_for_load_state("load")
    page.evaluate("() => document.fonts.ready.then(() => true)")


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
        page.evaluate(AXE)
        answer = page.evaluate(RUN_AXE)
        assert answer["passed"] > 10
        found += [f"{address}: {finding}" for finding in answer["found"]]
        over = page.evaluate(OVER)
        found += [f"{address}: {over} px wider than the window"] if over > 0 else []
        found += [f"{address}: {said}" for said in watched.complaints + watched.strangers]
        page.close()
    assert not found, "\n".join(found)


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
