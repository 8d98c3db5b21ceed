"""A line runs, and its last minute is replayed from the package's page, then as evidence.

The pictures are registered against a reference view while the camera drifts, so what the device
remembered of the camera when it answered is part of every answer.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from lineside.core import parse_rfc3339, rfc3339
from lineside.hub import Registration
from lineside.hub.replay.repository import ReplayOrder
from lineside.models import Package, build_package
from lineside.store import Logged
from lineside.streams import PREDICTION_TYPE
from lineside.testing.links import wait_until
from tests.browser.test_pages import SIZES, faults, settle

pytestmark = pytest.mark.browser

FRAMES = 12
SET = "(field, text) => { field.value = text; field.dispatchEvent(new Event('input')); }"


@pytest.fixture(scope="module")
def span(line: Any) -> tuple[str, str]:  # noqa: ANN401  conftest's Line
    """From an early answer of the device to a later one."""
    log = line.hub.services.records.log

    def answers() -> list[Logged]:
        return list(log.read(type=PREDICTION_TYPE, limit=1000))[3:]

    wait_until(lambda: len(answers()) > FRAMES)
    page = answers()
    ends = page[-1].arrived_at + timedelta(milliseconds=1)
    return rfc3339(page[0].arrived_at), rfc3339(ends)


@pytest.fixture(scope="module")
def shy(line: Any) -> str:  # noqa: ANN401  conftest's Line
    """A package that is never sure of a white piece."""
    package = Package.read(line.hub.services.packages.content(line.package))
    rules = tuple(
        replace(rule, low=0.3, high=0.9999999) if rule.label == "white" else rule
        for rule in package.manifest.rules
    )
    manifest = replace(package.manifest, name="shy", rules=rules)
    files = {name: data for name, data in package.files.items() if name != "manifest.json"}
    return str(line.hub.services.packages.add(build_package(manifest, files), by="Ada").digest)


@pytest.fixture(scope="module")
def replayed(line: Any, span: tuple[str, str], shy: str) -> str:  # noqa: ANN401  conftest's Line
    """The stretch by that package, which is then registered; the replay's id."""
    since, until_ = (parse_rfc3339(text, where="span") for text in span)
    services = line.hub.services
    order = ReplayOrder(since=since, until=until_, package=shy)
    asked = services.replays.ask(order, rules="", by="Ada")
    wait_until(lambda: services.replays.one(asked.id).ended)
    services.models.register("whites", Registration(package=shy), by="Ada")
    return str(asked.id)


def ask(page: Page, span: tuple[str, str]) -> None:
    form = page.locator("form[data-json='/api/v1/replays']")
    for field, text in zip(("From", "To"), span, strict=True):
        local = (
            parse_rfc3339(text, where="span").astimezone().isoformat(timespec="milliseconds")[:23]
        )
        form.get_by_label(field).evaluate(SET, local)
    form.get_by_role("button", name="Replay").click()
    page.wait_for_url("**/replays/rpl_*")


def test_the_line_s_own_package_repeats_the_stretch_to_the_last_bit(
    line: Any,  # noqa: ANN401  conftest's Line
    open_page: Callable[..., Any],
    span: tuple[str, str],
) -> None:
    watched = open_page(f"/models/{line.package}", theme="dark", size=SIZES["wide"])
    page = watched.page
    ask(page, span)
    expect(page.get_by_text("nothing differs, to the last bit")).to_be_visible(timeout=120_000)
    name = page.url.rpartition("/")[2]
    result = line.hub.services.replays.book.result(name)
    assert result["frames"] == result["counts"]["identical"] >= FRAMES
    assert result["bit_identical"]
    assert {result["counts"][kind] for kind in ("decisions_changed", "figures_moved")} == {0}
    watched.quiet()


def test_another_package_s_differences_lead_to_their_frames_and_to_the_approver(
    line: Any,  # noqa: ANN401  conftest's Line
    open_page: Callable[..., Any],
    replayed: str,
) -> None:
    watched = open_page(f"/replays/{replayed}", theme="light", size=SIZES["wide"])
    page = watched.page
    expect(page.get_by_text("Decisions changed:")).to_be_visible()
    change = line.hub.services.replays.book.result(replayed)["decisions_changed"][0]
    expect(page.locator(f"table a[href='/frames/{change['frame']}']").first).to_be_visible()
    page.goto(f"{line.url}/models/groups/whites/1")
    expect(page.locator("[data-replays]")).to_contain_text("decided otherwise")
    watched.quiet()


def test_its_pages_are_quiet_accessible_and_fit(
    open_page: Callable[..., Any], shy: str, replayed: str
) -> None:
    ours = (f"/replays/{replayed}", "/replays", f"/models/{shy}", "/models/groups/whites/1")
    for address in ours:
        watched = open_page(address)
        settle(watched.page)
        assert faults(watched.page, of=address) == []
        watched.quiet()
        watched.page.close()
