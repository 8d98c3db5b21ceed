"""Signing in by name, and a version that one person registers and another approves."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import add_people, person, sign_in, watch
from tests.browser.test_pages import OVER, assess, faults, settle, take_shot

pytestmark = pytest.mark.browser

VERSION = "/models/groups/stock/1"


@pytest.fixture(scope="module")
def people(line: Any) -> None:  # noqa: ANN401  conftest's Line
    add_people(line.hub.services)


@pytest.fixture(scope="module")
def as_person(chromium: Browser, line: Any, people: None) -> Callable[[str], Any]:  # noqa: ANN401  conftest's Line
    """A browser of its own in which somebody signs in by name and password."""
    assert people is None
    return partial(person, chromium, line.url)


@pytest.fixture(scope="module")
def version(line: Any, as_person: Callable[[str], Any]) -> str:  # noqa: ANN401  conftest's Line
    """Address of the one version, which an engineer registered on the package's page."""
    with as_person("Ada Engine") as ada:
        page = ada.page
        page.goto(f"{line.url}/models/{line.package}")
        page.get_by_role("button", name="Register as a version").click()
        page.wait_for_url("**" + VERSION)
        ada.quiet()
    return VERSION


def test_a_wrong_password_is_told_in_the_form_and_the_right_one_goes_on(
    chromium: Browser,
    line: Any,  # noqa: ANN401  conftest's Line
    people: None,
) -> None:
    assert people is None
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    watched = watch(context, line.url)
    page = watched.page
    sign_in(page, line.url, name="Ada Engine", password="something else")  # noqa: S106  wrong
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Wrong name or password. Try again.")
    assert page.evaluate(OVER) <= 0
    assert assess(page) == []
    sign_in(page, line.url, name="ada engine")
    page.wait_for_url(line.url + "/")
    page.set_viewport_size({"width": 1440, "height": 900})
    expect(page.locator(".who")).to_contain_text("engineer")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/welcome")
    page.goto(line.url + "/twin")
    page.wait_for_url("**/welcome?next=%2Ftwin")
    watched.quiet(but="403 (Forbidden)")
    context.close()


def test_one_registers_another_approves_and_who_may_not_sees_why(
    line: Any,  # noqa: ANN401  conftest's Line
    as_person: Callable[[str], Any],
    version: str,
) -> None:
    with as_person("Ada Engine") as ada:
        page = ada.page
        page.goto(line.url + version)
        expect(page.locator("[data-why-not]")).to_contain_text(
            "Requires the role approver or admin."
        )
        expect(page.get_by_role("button", name="Approve")).to_be_disabled()
        compared = re.compile("Not compared yet|Nothing is in use for its inspection")
        expect(page.locator("[data-comparison]")).to_contain_text(compared)  # the hub is at it
        ada.quiet()
    with as_person("Eve Approve") as eve:
        page = eve.page
        page.goto(line.url + "/models")
        page.get_by_role("link", name="stock", exact=True).first.click()
        page.get_by_label("Devices").fill("hall-2")
        page.get_by_label("Windows, one per line").fill(
            "sat sun 22:00 to 04:00\nevery day 12:00 to 13:00"
        )
        page.get_by_label("Begin a rollout when a version is approved").check()
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("Rollout to hall-2, sat sun 22:00 to 04:00")).to_be_visible()
        page.get_by_role("link", name="1", exact=True).click()
        page.get_by_label("Reason to approve").fill("fewer escapes")
        page.get_by_role("button", name="Approve").click()
        expect(page.locator(".head .state")).to_have_text("approved")
        expect(page.get_by_text("Approved by Eve Approve")).to_be_visible()
        eve.quiet()
    event = line.hub.services.events.page(kind="lineside.model.v1", newest_first=True, limit=1)[0]
    assert (event.event["data"]["by"], event.event["data"]["own"]) == ("Eve Approve", False)


def test_the_pages_of_versions_are_quiet_accessible_and_fit(
    line: Any,  # noqa: ANN401  conftest's Line
    open_page: Callable[..., Any],
    pytestconfig: pytest.Config,
    version: str,
) -> None:
    found, shots = [], pytestconfig.getoption("--screenshots")
    for address in ("/models", f"/models/{line.package}", "/models/groups/stock", version):
        watched = open_page(address)
        settle(watched.page)
        if address == version:
            take_shot(watched.page, "version", folder=shots)
        found += faults(watched.page, of=address)
        found += [f"{address}: {said}" for said in watched.complaints + watched.strangers]
        watched.page.close()
    assert not found, "\n".join(found)
