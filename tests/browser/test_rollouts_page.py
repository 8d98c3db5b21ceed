"""Rollouts on the page: one from its canary to done, one that goes back by itself."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from lineside.core import SystemClock, encode, rfc3339
from lineside.fleet import RolloutOrder
from lineside.hub import HubConfig, Registration, RunningHub, running
from lineside.hub.rollouts.rollout_service import NewRollout
from tests.browser.conftest import Watched, add_people, sign_in, watch
from tests.browser.test_pages import SIZES, faults, settle, take_shot
from tests.hub.conftest import PLANT
from tests.hub.test_rollouts import NAMES, Fleet, variant

pytestmark = pytest.mark.browser

CLOCK = SystemClock()
ASKED = 200  # frames of a step, by default


class Line(Fleet):
    """Devices that report now; what a release does on them is asked for by the test."""

    def told(self, name: str, digest: str, **more: str) -> None:
        self.runs[name] = digest
        packages = [{"inspection": "stock", "digest": digest, "loaded_at": "", **more}]
        status = {
            "schema": "lineside.device/1", "device": name, "state": "online", "version": "1",
            "at": rfc3339(CLOCK.now()), "packages": packages, "spool_depth": 0,
        }  # fmt: skip
        self.hub.devices.take_status(name, encode(status))

    def report(self, name: str, document: dict[str, Any], **figures: Any) -> None:  # noqa: ANN401  of Evidence
        """As many frames as a step asks for; a bad release says otherwise on half of them."""
        changed = ASKED // 2 if document["digest"] in self.bad else 1
        told = {
            "frames": ASKED, "changed": changed, "rejects_gained": changed, "score_sum": 0.4,
            "score_squares": 0.1, "latency_ms_old": 4.1, "latency_ms_new": 4.3,
        }  # fmt: skip
        super().report(name, document, **{**told, **figures})

    def add(self, name: str, archive: bytes) -> str:
        """Another package; its digest."""
        return self.hub.packages.add(variant(archive, name), by="ada").digest

    def work_on(self) -> None:
        """Every device does what it was given, until nobody has anything to do."""
        while True:
            before = len(self.taken)
            self.work()
            if len(self.taken) == before:
                return


@dataclass(frozen=True, kw_only=True)
class Site:
    """A running hub with three devices and three approved versions, the first in use."""

    hub: RunningHub
    line: Line
    digests: tuple[str, ...]


@contextmanager
def site_running(folder: Path, *, archive: bytes) -> Iterator[Site]:
    (folder / "plant.toml").write_bytes(PLANT)
    config = HubConfig(
        data_dir=str(folder / "hub"), plant=str(folder / "plant.toml"), port=0, bus_port=0,
        device_silent_s=3600.0,
    )  # fmt: skip
    with running(config, clock=CLOCK) as hub:
        services = hub.services
        add_people(services)
        line, digests = Line(services), []
        for number, name in enumerate(("first", "second", "third"), start=1):
            digest = line.add(name, archive)
            services.models.register("discs", Registration(package=digest), by="ada")
            approved = services.models.approve("discs", number, by="eve", reason="good")
            services.releases.publish(services.models.release(approved))
            digests.append(digest)
        services.packages.use(digests[0], inspection="stock", by="eve", reason="good")
        for name in NAMES:
            line.told(name, digests[0])
            services.things.add(name, groups=("hall",))
        yield Site(hub=hub, line=line, digests=tuple(digests))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, archive: bytes) -> Iterator[Site]:
    """Each of its tests ends the rollout that it began; the first version runs then."""
    with site_running(tmp_path_factory.mktemp("site"), archive=archive) as found:
        yield found


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, archive: bytes) -> Iterator[Site]:
    """A site with a rollout that is done, one that went back, and one that waits for devices."""
    with site_running(tmp_path_factory.mktemp("ended"), archive=archive) as found:
        rollouts = found.hub.services.rollouts
        found.line.bad.add(found.digests[2])
        pause = threading.Event()
        for version, wanted in ((2, "done"), (3, "rolled back")):
            asked = NewRollout(group="discs", version=version, reason="fewer escapes on line 2")
            begun = rollouts.start(asked, by="Eve Approve").id
            while rollouts.one(begun).state != wanted:
                found.line.work_on()
                pause.wait(0.1)
        found.hub.services.models.register(
            "discs", Registration(package=found.line.add("fourth", archive)), by="ada"
        )
        approved = found.hub.services.models.approve("discs", 4, by="eve", reason="good")
        found.hub.services.releases.publish(found.hub.services.models.release(approved))
        rollouts.start(NewRollout(group="discs", version=4, reason="again"), by="Eve Approve")
        while not rollouts.all()[0].devices:
            pause.wait(0.1)
        yield found


@pytest.fixture
def look(chromium: Browser) -> Iterator[Callable[..., Watched]]:
    """A page of somebody who signs in by name."""
    contexts = []

    def opened(
        site: Site,
        address: str,
        *,
        name: str = "Eve Approve",
        theme: str = "light",
        size: str = "wide",
    ) -> Watched:
        width, height = SIZES[size]
        context = chromium.new_context(
            color_scheme="dark" if theme == "dark" else "light",
            viewport={"width": width, "height": height},
        )
        contexts.append(context)
        watched = watch(context, site.hub.url)
        page = watched.page
        sign_in(page, site.hub.url, name=name)
        page.wait_for_url(site.hub.url + "/")
        page.goto(site.hub.url + address)
        return watched

    yield opened
    for context in contexts:
        context.close()


def begin(watched: Watched, *, version: str) -> None:
    """Start a rollout by the form; its page stands then."""
    page = watched.page
    page.get_by_label("Version").select_option(f"discs/{version}")
    page.get_by_label("Reason", exact=True).fill("fewer escapes on line 2")
    page.get_by_role("button", name="Start rollout").click()
    page.wait_for_url("**/rollouts/*")
    expect(page.locator("h1")).to_have_text(f"discs {version}")


def plan_in_waves(watched: Watched) -> None:
    """Fill the plan in: a fault stands at its field, the preview names the devices of each wave."""
    page = watched.page
    page.get_by_label("Version").select_option("discs/2")
    page.get_by_role("button", name="Remove wave 2").click()
    page.get_by_label("Latency p95, at most (ms)").fill("500")
    page.get_by_label("Rejects, at most (%)").fill("60")
    page.get_by_label("Rejects, at least (%)").fill("70")
    windows = page.get_by_label("Maintenance windows")
    windows.fill("sat sun 22:00 to 4")
    page.get_by_role("button", name="Preview").click()
    fault = page.locator("[data-field='plan.limits.rejects_most']")
    expect(fault.get_by_role("alert")).to_contain_text("Expected above the least share, 70 %")
    page.get_by_label("Rejects, at least (%)").fill("")
    page.get_by_role("button", name="Preview").click()
    fault = page.locator("[data-field='plan.windows']")
    expect(fault.get_by_role("alert")).to_contain_text("Expected a time of day, HH:MM")
    windows.fill("every day 00:00 to 12:00\nmon tue wed thu fri sat sun 12:00 to 00:00")
    page.locator("[data-key=failure_type]").select_option("REJECTED")
    page.get_by_label("At least (%)", exact=True).fill("50")
    page.get_by_role("button", name="Preview").click()
    shown = page.get_by_role("region", name="Preview")
    expect(shown).to_contain_text("3 devices in 2 waves. It begins at once.")
    expect(shown.get_by_role("link", name="edge-1")).to_be_visible()
    expect(shown).to_contain_text("Waves begin only in every day 00:00 to 12:00; mon tue wed")
    expect(shown).to_contain_text("once 50 % of the devices that ended their job, 1 or more, rejec")
    expect(page.locator(".field-fault")).to_have_count(0)


def followed(watched: Watched, line: Line, *, until: str) -> None:
    """Devices work while somebody looks on; nobody reads the page anew by hand."""
    state = watched.page.locator("[data-standing] .state")
    for _ in range(60):
        line.work_on()
        if state.inner_text() == until:
            return
        watched.page.wait_for_timeout(250)
    expect(state).to_have_text(until)


def test_a_good_release_goes_from_its_canary_to_all_while_somebody_looks_on(
    look: Callable[..., Watched], tmp_path: Path, archive: bytes
) -> None:
    with site_running(tmp_path, archive=archive) as site:
        watched = look(site, "/rollouts")
        page = watched.page
        page.get_by_role("link", name="New rollout").first.click()
        plan_in_waves(watched)
        begin(watched, version="2")
        expect(page.locator("[data-guard]")).to_contain_text("rejects leave 0-60 %, p95 > 500 ms")
        rows = page.get_by_role("region", name="Devices").locator("tbody tr")
        expect(rows).to_have_count(3)
        expect(page.locator(".rollout-steps li").first).to_contain_text("0 of 1 device")
        expect(page.locator(".rollout-steps li[aria-current=step]")).to_have_count(1)
        expect(rows.first).to_contain_text("discs 1 → discs 2")
        for words in ("Pause", "Abort", "Roll back all"):
            expect(page.get_by_role("button", name=words)).to_be_visible()
        followed(watched, site.line, until="done")
        expect(rows.first.locator("td").nth(7)).to_have_text("200")
        page.get_by_role("link", name="Latency p95").click()
        expect(page.locator("[aria-sort=ascending]")).to_have_text("Latency p95")
        expect(page.locator(".rollout-steps")).to_contain_text("of 1 device")
        expect(page.get_by_role("button", name="Pause")).to_have_count(0)
        expect(page.get_by_role("button", name="Roll back all")).to_be_visible()
        assert site.line.runs == dict.fromkeys(NAMES, site.digests[1])
        watched.quiet(but="400 (Bad Request)")


def test_a_bad_release_goes_back_from_its_canary_and_the_page_says_why(
    look: Callable[..., Watched], site: Site
) -> None:
    site.line.bad.add(site.digests[2])
    watched = look(site, "/rollouts/new")
    page = watched.page
    begin(watched, version="3")
    followed(watched, site.line, until="rolled back")
    expect(page.locator("[data-standing]")).to_contain_text("decide otherwise")
    expect(page.get_by_role("region", name="Devices")).to_contain_text("limit exceeded")
    expect(page.locator(".rollout-steps li").first).to_contain_text("taken back")
    expect(page.locator(".steps")).to_contain_text("going back")
    assert site.line.runs == dict.fromkeys(NAMES, site.digests[0])
    watched.quiet()


def test_a_person_pauses_and_goes_on_with_a_reason(
    look: Callable[..., Watched], site: Site
) -> None:
    watched = look(site, "/rollouts/new")
    page = watched.page
    begin(watched, version="3")
    page.get_by_label("Reason to pause").fill("shift change")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("[data-standing] .state")).to_have_text("paused")
    expect(page.locator("[data-why]")).to_contain_text("shift change")
    page.get_by_label("Reason to abort").fill("another one comes")
    page.get_by_role("button", name="Abort").click()
    expect(page.locator("[data-standing] .state")).to_have_text("aborted")
    watched.quiet()


def test_a_preview_goes_with_its_plan_and_a_plan_starts_once(
    look: Callable[..., Watched], site: Site
) -> None:
    before = len(site.hub.services.rollouts.all())
    watched = look(site, "/rollouts/new")
    page = watched.page
    page.get_by_label("Version").select_option("discs/2")
    shown = page.get_by_role("region", name="Preview")
    preview, frames = page.get_by_role("button", name="Preview"), page.get_by_label("Frames judged")
    preview.click()
    expect(shown).to_contain_text("It begins at once")
    expect(preview).to_be_focused()
    page.get_by_label("Reason", exact=True).fill("fewer escapes on line 2")
    expect(shown).to_be_visible()
    frames.fill("0")
    expect(shown).to_have_count(0)
    preview.click()
    expect(frames).to_be_focused()  # the browser says what is wrong, and nothing is sent
    frames.fill("200")
    preview.click()
    expect(shown).to_be_visible()
    page.get_by_role("button", name="Add a wave").click()
    expect(shown).to_have_count(0)
    page.get_by_role("button", name="Remove wave 4").click()
    page.get_by_role("button", name="Start rollout").dblclick()
    page.wait_for_url("**/rollouts/rol_*")
    rollouts = site.hub.services.rollouts
    assert len(rollouts.all()) == before + 1
    rollouts.order(rollouts.all()[0].id, RolloutOrder.ABORT, by="eve", reason="over")
    watched.quiet()


def test_who_may_look_only_sees_everything_and_orders_nothing(
    look: Callable[..., Watched], site: Site
) -> None:
    asked = NewRollout(group="discs", version=2, reason="fewer escapes")
    newest = site.hub.services.rollouts.start(asked, by="eve").id
    page = look(site, f"/rollouts/{newest}", name="Vic View").page
    expect(page.get_by_role("region", name="Devices")).to_be_visible()
    expect(page.locator("form[data-json]")).to_have_count(0)
    expect(page.locator("[data-why-not]")).to_contain_text("Requires the role")
    page.goto(site.hub.url + "/rollouts")
    expect(page.locator("form[data-json]")).to_have_count(0)
    site.hub.services.rollouts.order(newest, RolloutOrder.ABORT, by="eve", reason="over")


def test_the_pages_are_quiet_accessible_and_fit(
    look: Callable[..., Watched], ended: Site, pytestconfig: pytest.Config
) -> None:
    moving, back, _done = (one.id for one in ended.hub.services.rollouts.all())
    watched = look(ended, "/rollouts")
    for address in ("/rollouts", "/rollouts/new", f"/rollouts/{moving}", f"/rollouts/{back}"):
        watched.page.goto(ended.hub.url + address)
        settle(watched.page)
        if address.endswith(back):
            folder = pytestconfig.getoption("--screenshots")
            take_shot(watched.page, "rollout", folder=folder)
        assert faults(watched.page, of=address) == []
    width, height = SIZES["narrow"]
    watched.page.set_viewport_size({"width": width, "height": height})
    devices = watched.page.get_by_role("region", name="Devices")
    assert devices.evaluate("one => one.scrollWidth - one.clientWidth") == 0
    watched.quiet()
