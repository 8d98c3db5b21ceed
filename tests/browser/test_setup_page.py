"""Set-up by page alone: a rule changed, tried, saved, live; a camera; a user and their role."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from lineside.core import SystemClock
from lineside.core.outputs import MessageConfig
from lineside.hub import HubConfig, Role, RunningHub, running
from lineside.testing import FakeClock
from lineside.testing.links import wait_until
from lineside.vision import encode_jpeg
from tests.browser.conftest import Watched, sign_in_by_link, watch
from tests.browser.test_modules import call
from tests.browser.test_pages import OVER, assess, settle
from tests.hub.conftest import PLANT, Line, scene

pytestmark = pytest.mark.browser
HALL = "Training hall, Hohenstein-Wartenberg, sheet metal, 2nd floor"
RULE = b"""
# What passed on the belt.
[[rule]]
id = "passed"
read = { topic = "f/i/stock" }
key = ["topic"]
window = { size_s = 5 }  # a sock takes four
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[RunningHub]:
    (tmp_path / "plant.toml").write_bytes(PLANT.replace(b"Training hall", HALL.encode()) + RULE)
    config = HubConfig(
        data_dir=str(tmp_path / "hub"), plant=str(tmp_path / "plant.toml"), port=0, bus_port=0
    )
    with running(config, clock=SystemClock()) as opened:
        line = Line(opened.services, FakeClock())
        line.send(line.camera(encode_jpeg(scene("blue", "red", seed=3))))
        yield opened


@pytest.fixture
def watched(chromium: Browser, hub: RunningHub) -> Iterator[Watched]:
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    opened = watch(context, hub.url)
    sign_in_by_link(
        opened.page, hub, name="Maximiliane von Hohenstein-Wartenberg, second shift of hall 4"
    )
    yield opened
    context.close()


CUT = """() => {
  const who = document.querySelector(".who"), role = document.createRange();
  role.selectNodeContents(who.lastChild);
  return role.getBoundingClientRect().right - who.getBoundingClientRect().right;
}"""


def require_fair(watched: Watched) -> None:
    """Nothing that axe finds, nothing wider than the window, the role whole, a quiet console."""
    page = watched.page
    settle(page)
    assert assess(page) == []
    expect(page.locator(".plant")).to_have_attribute("title", HALL)
    for width in (390, 768, 1001, 1200, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        assert (page.evaluate(OVER) <= 0, page.evaluate(CUT) < 1) == (True, True)
    assert watched.strangers == []


def go(page: Page, hub: RunningHub, path: str) -> None:
    page.goto(f"{hub.url}{path}")
    settle(page)


def test_a_rule_is_changed_tried_saved_and_live_without_a_restart(
    watched: Watched, hub: RunningHub
) -> None:
    page, services = watched.page, hub.services
    page.get_by_role("link", name="Set-up").click()
    page.get_by_role("link", name="Rules 1").click()
    page.locator("summary", has_text="passed").click()
    page.get_by_role("link", name="Try it on recorded data").click()
    text = page.locator("textarea")
    expect(text).to_have_value(RULE.decode().partition("belt.\n")[2])
    text.fill(text.input_value().replace("size_s = 5", "size_s = 4"))
    page.get_by_role("button", name="Try it").click()
    expect(page.get_by_role("heading", name="Against the one in use: passed")).to_be_visible()
    page.get_by_label("Reason of the change").fill("Socks are faster now")
    page.get_by_role("button", name="Save and use it").click()
    page.wait_for_url(f"{hub.url}/setup/rule")
    rule = services.rules.find("passed")
    assert rule.window is not None
    assert rule.window.size_s == 4
    kept = Path(services.config.plant).read_text()
    assert "# What passed on the belt.\n[[rule]]" in kept
    assert "window = { size_s = 4 }  # a sock takes four" in kept
    wait_until(lambda: services.rules._running["passed"].engine.rule == rule)
    go(page, hub, "/setup/history/2")
    expect(page.get_by_role("region", name="Difference")).to_contain_text("+window = { size_s = 4")
    go(page, hub, "/setup/history/1")
    page.get_by_label("Reason").fill("They are not")
    page.get_by_role("button", name="Roll back to version 1").click()
    page.wait_for_url(f"{hub.url}/setup/history/3")
    assert services.rules.find("passed").window != rule.window
    require_fair(watched)
    assert watched.complaints == []


def test_a_camera_is_mended_where_its_fault_is_shown_and_its_picture_is_measured(
    watched: Watched, hub: RunningHub
) -> None:
    page, services = watched.page, hub.services
    go(page, hub, "/setup/camera")
    entry = page.locator("details", has_text="Rack camera")
    entry.locator("summary").click()
    expect(entry.locator("[data-figures]").first).to_contain_text("Focus")
    entry.get_by_role("button", name="Test picture").click()
    expect(entry.locator("[data-test-said]")).to_contain_text("Save the camera")
    entry.get_by_label("No signal after (s)").fill("-1")
    entry.get_by_label("Reason of the change").fill("Slow link")
    entry.get_by_role("button", name="Save").click()
    expect(entry.locator(".field-fault")).to_contain_text("Expected")
    assert all("Failed to load resource" in one for one in watched.complaints)  # what is refused
    entry.get_by_label("No signal after (s)").fill("9")
    with page.expect_navigation():  # what is saved is read anew
        entry.get_by_role("button", name="Save").click()
    expect(page.locator(".field-fault")).to_have_count(0)
    wait_until(lambda: services.plant.find_camera("rack").no_signal_after_s == 9)
    page.locator("details", has_text="Rack camera").locator("summary").click()
    require_fair(watched)
    flat = "{data: new Uint8ClampedArray(4 * 100).fill(255), width: 10, height: 10}"
    assert call(page, "sharpness", f"m.measure({flat})") == {
        "focus": 0, "mean": 255, "dark": 0, "bright": 1,
    }  # fmt: skip


def test_the_message_of_an_output_is_set_on_its_page_and_other_changes_keep_it(
    watched: Watched, hub: RunningHub
) -> None:
    page, services = watched.page, hub.services
    go(page, hub, "/setup/output")
    entry = page.locator("form[data-section=output]").last
    for field, text in (
        ("Id", "gate"), ("URL", "mqtt:"), ("Switch", "west/gate"), ("Fail safe", "1"),
        ("Message on", '{"gate": ["up", "!"]}'), ("Message off", "shut"), ("Message qos", "0"),
        ("Reason of the change", "A reject gate"),
    ):  # fmt: skip
        entry.get_by_label(field, exact=True).fill(text)
    entry.get_by_label("Line", exact=True).select_option("warehouse")
    entry.get_by_label("Message retain").select_option("no")
    with page.expect_navigation():
        entry.get_by_role("button", name="Add").click()
    first = MessageConfig(on='{"gate": ["up", "!"]}', off="shut", qos=0, retain=False)
    assert [one.message for one in services.plant.output] == [first]
    text = services.plants.text()
    assert "\n[output.message]\n" in text
    lines = text.replace('off = "shut"', 'off = "shut\\n"  # a line of its own')
    services.plants.change(text=lines, by="anna", reason="The gate reads lines")
    wanted = replace(first, off="shut\n")
    for section, name, field, value in (
        ("output", "gate", "Pulse (s)", "0.2"), ("output", "gate", "Message qos", "1"),
        ("line", "Warehouse", "Name", "Hall"), ("inspection", "stock", "Audit", "0.01"),
    ):  # fmt: skip
        go(page, hub, f"/setup/{section}")
        entry = page.locator("details", has_text=name).first
        entry.locator("summary").first.click()
        entry.get_by_label(field, exact=True).fill(value)
        entry.get_by_label("Reason of the change").fill("Other things")
        with page.expect_navigation():
            entry.get_by_role("button", name="Save").click()
        wanted = replace(wanted, qos=1) if field == "Message qos" else wanted
        assert [one.message for one in services.plant.output] == [wanted], field
    assert 'off = "shut\\n"  # a line of its own\n' in services.plants.text()
    assert watched.complaints == []


def test_places_of_the_twin_are_rows_and_settings_are_to_be_read(
    watched: Watched, hub: RunningHub
) -> None:
    page, services = watched.page, hub.services
    go(page, hub, "/setup/twin")
    page.locator("summary", has_text="Twin").click()
    page.get_by_label("Slot 1: Id").fill("")
    page.get_by_label("Slot 1: Region").fill("")
    page.get_by_label("Slot 1: Colour").fill("")
    page.get_by_label("Slot 4: Id").fill("D1")
    page.get_by_label("Slot 4: Region").fill("nowhere")
    page.get_by_label("Slot 4: Colour").fill("blue")
    page.get_by_label("Reason of the change").fill("The rack was turned")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("[data-field=slot] .field-fault")).to_contain_text("a declared region")
    page.get_by_label("Slot 4: Region").fill("top")
    with page.expect_navigation():
        page.get_by_role("button", name="Save").click()
    twin = services.plant.twin
    assert twin is not None
    assert [(one.id, one.region) for one in twin.slot][::2] == [("B1", "middle"), ("D1", "top")]
    assert [one.name for one in twin.station] == ["High-bay warehouse"]
    page.locator("summary", has_text="Twin").click()
    require_fair(watched)
    go(page, hub, "/setup/settings")
    expect(page.get_by_role("region", name="Retention")).to_contain_text("retention.max_bytes")
    page.get_by_role("link", name="webhook").click()
    for field, text in (
        ("Name", "mes"), ("URL", "https://mes.plant.lan/in"), ("Authorities", "/etc/ca.pem"),
        ("Headers", "X-Line = 4"), ("Reason of the change", "The MES wants pairs"),
    ):  # fmt: skip
        page.get_by_label(field, exact=True).fill(text)
    page.get_by_role("button", name="Add").click()
    expect(page.locator("[data-field=ca] .field-fault")).to_contain_text(
        "folder secrets/mes.plant.lan"
    )
    page.get_by_label("Authorities", exact=True).fill("mes.pem")
    with page.expect_navigation():
        page.get_by_role("button", name="Add").click()
    (hook,) = services.webhooks
    assert (hook.headers, hook.ca) == (
        {"X-Line": "4"}, str(services.config.secrets_folder / "mes.plant.lan" / "mes.pem"),
    )  # fmt: skip
    page.locator("summary", has_text="mes").click()
    require_fair(watched)


def test_a_user_is_added_and_gets_another_role(watched: Watched, hub: RunningHub) -> None:
    page = watched.page
    go(page, hub, "/setup/users")
    form = page.locator("form[data-json='/api/v1/users']")
    form.get_by_label("Name").fill("Eve Adams")
    form.get_by_label("Role").select_option("engineer")
    form.get_by_label("Password").fill("correct horse battery")
    form.get_by_role("button", name="Add user").click()
    page.get_by_label("Role of Eve Adams", exact=True).select_option("approver")
    with page.expect_navigation():
        page.get_by_role("button", name="Change the role of Eve Adams").click()
    expect(page.get_by_label("Role of Eve Adams", exact=True)).to_have_value("approver")
    require_fair(watched)
    assert watched.complaints == []


def test_somebody_changes_their_own_password(watched: Watched, hub: RunningHub) -> None:
    page, words = watched.page, "correct horse battery"
    hub.services.accounts.add("Eve Adams", role=Role.VIEWER, password=words, by="test")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Name").fill("Eve Adams")
    page.get_by_label("Password").fill(words)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Signed in Eve Adams").click()
    page.get_by_label("New password").fill("staple table lantern")
    page.get_by_label("Current password").fill("wrong")
    page.get_by_role("button", name="Change password").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong name or password. Try again.")
    page.get_by_label("Current password").fill(words)
    page.get_by_role("button", name="Change password").click()
    expect(page.get_by_role("status")).to_have_text("Changed")
    require_fair(watched)
    page.reload()
    expect(page.locator(".who b")).to_have_text("Eve Adams")
    assert all("403" in one for one in watched.complaints)
