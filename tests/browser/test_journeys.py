"""What people come for, from the first click to the last."""

import math
import re
import tomllib
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from lineside.hub.pages.twin import scene_view
from lineside.testing.links import wait_until
from lineside.vision import decode_picture, encode_jpeg

pytestmark = pytest.mark.browser

OUT = "The blue piece you are requesting is out of stock in the Physical Factory!"
REGIONS_TOML = "[data-toml]"
NO_WEBGL = """
    const real = HTMLCanvasElement.prototype.getContext;
    HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
        return kind.startsWith("webgl") ? null : real.call(this, kind, ...more);
    };
"""


def to_frame(lines: Page) -> None:
    """From a tile to the page of its frame."""
    lines.locator(".tile [data-frame-link] a").click()
    lines.wait_for_url("**/frames/*")
    expect(lines.get_by_role("heading", level=1)).to_contain_text("Frame")


def test_an_order_goes_through_every_station_and_leaves_the_rack(
    line: Any,  # noqa: ANN401  conftest's Line
    page: Callable[[str], Page],
) -> None:
    twin = page("/twin")
    expect(twin.locator("[data-order=red] small")).to_have_text("2 in stock")
    twin.get_by_role("button", name=re.compile("^Red")).click()
    expect(twin.locator("[data-order-said]")).to_contain_text("placed")
    order = twin.locator("[data-order-id]", has=twin.locator("[data-colour=red]"))
    expect(order.locator("li.done[data-step=SHIPPED]")).to_have_count(1)
    for station in line.hub.services.plant.twin.station:
        if station.shape != "input":
            assert order.locator(f"[data-step={station.id}].done").count() >= 1, station.id
    expect(twin.locator("[data-order=red] small")).to_have_text("1 in stock")
    red = [slot for slot in line.hub.services.ledger.state.slots.values() if slot.colour == "red"]
    assert len(red) == 1
    frame = order.locator(".steps a[href^='/frames/']").first
    frame.click()
    expect(twin.get_by_role("heading", level=1)).to_contain_text("Frame")


def test_what_is_not_there_is_refused_with_the_sentence_and_a_close_button(
    open_page: Callable[..., Any],
) -> None:
    watched = open_page("/twin")
    twin = watched.page
    blue = twin.get_by_role("button", name=re.compile("^Blue"))
    alert = twin.get_by_role("dialog")
    with twin.expect_response("**/api/v1/orders") as first:
        blue.click()
    assert first.value.status == 201
    for _ in range(4):
        with twin.expect_response("**/api/v1/orders") as answer:
            blue.click()
        if answer.value.status == 409:
            break
    expect(alert).to_be_visible()
    expect(alert.locator("p")).to_have_text(OUT)
    alert.get_by_role("button", name="Close").click()
    expect(alert).to_be_hidden()
    watched.quiet(but="409 (Conflict)")


def test_a_place_in_the_scene_shows_the_picture_its_value_rests_on(
    line: Any,  # noqa: ANN401  conftest's Line
    page: Callable[[str], Page],
) -> None:
    twin = page("/twin")
    scene = twin.locator("[data-canvas]")
    expect(scene.locator(".tag")).to_have_count(15)
    scene.locator("[data-key='slot:C1']").click()
    panel = twin.locator("[data-evidence]")
    expect(panel).to_contain_text("Evidence: place C1")
    expect(panel.locator("figure img")).to_be_visible()
    expect(panel.locator(f"a[href='/models/{line.package}']")).to_be_visible()
    scene.locator("[data-key='station:gripper']").click()
    expect(panel).to_contain_text("Vacuum gripper")


def test_the_scene_is_not_empty_and_turns_by_dragging(page: Callable[[str], Page]) -> None:
    twin = page("/twin")
    canvas = twin.locator("[data-canvas] canvas")
    expect(canvas).to_be_visible()
    expect(twin.locator("[data-canvas] .tag").first).to_be_visible()
    before = decode_picture(canvas.screenshot())
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 50
    box = canvas.bounding_box()
    assert box is not None
    low = box["y"] + box["height"] - 60  # below every label
    twin.mouse.move(box["x"] + 60, low)
    twin.mouse.down()
    twin.mouse.move(box["x"] + 260, low, steps=4)
    twin.mouse.up()

    def changed() -> float:
        now = decode_picture(canvas.screenshot())
        return float((np.abs(before.astype(int) - now.astype(int)).max(axis=2) > 20).mean())

    wait_until(lambda: changed() > 0.02)  # the scene is drawn with the next frame


def test_the_twin_goes_back_to_a_time_of_the_past(
    line: Any,  # noqa: ANN401  conftest's Line
    open_page: Callable[..., Any],
) -> None:
    watched = open_page("/twin", size=(390, 844))
    twin = watched.page
    tags = twin.locator("[data-canvas] .tag")
    expect(tags).to_have_count(15)
    boxes = [box for box in (tag.bounding_box() for tag in tags.all()) if box]
    for n, box in enumerate(boxes):
        for other in boxes[:n]:
            apart_x = not -other["width"] < other["x"] - box["x"] < box["width"]
            assert apart_x or not -other["height"] < other["y"] - box["y"] < box["height"]
    tags.first.focus()
    twin.keyboard.press("ArrowDown")
    expect(twin.locator("[data-canvas] .tag:focus")).to_have_count(1)
    begin = line.hub.services.records.log.read(limit=1)[0].arrived_at
    with twin.expect_navigation():
        twin.get_by_role("link", name="Replay").click()
    slide = twin.get_by_role("slider", name="Time of the past")
    expect(twin.get_by_role("heading", name="Order a piece")).to_have_count(0)
    slide.focus()
    with twin.expect_response("**/twin?part=1&at=*"):
        twin.keyboard.press("Home")
    assert f"at={begin:%Y-%m-%dT%H}" in twin.url
    state, at = line.hub.services.twin(parse_qs(urlsplit(twin.url).query)["at"][0])
    shown = scene_view(state, line.hub.services.plant, now=at)
    for slot in shown.slots.values():
        expect(twin.locator(f"[data-slot={slot.id}] [data-word]")).to_have_text(slot.word)
    with twin.expect_navigation():
        twin.get_by_role("link", name="Table").click()
    expect(twin.locator("[data-canvas]")).to_have_count(0)
    expect(slide).to_have_value(str(math.ceil(begin.timestamp())))
    watched.quiet()


def test_without_webgl_the_tables_say_the_same(
    line: Any,  # noqa: ANN401  conftest's Line
    signed_in: str,
    chromium: Browser,
) -> None:
    context = chromium.new_context(storage_state=signed_in)
    context.add_init_script(NO_WEBGL)
    twin = context.new_page()
    twin.goto(f"{line.url}/twin")
    expect(twin.locator("[data-canvas]")).to_be_hidden()
    expect(twin.locator("[data-slot=C1] [data-word]")).to_have_text(re.compile("red|empty"))
    twin.locator("[data-select='slot:C1']").click()
    expect(twin.locator("[data-evidence]")).to_contain_text("Evidence: place C1")
    context.close()


def test_a_tile_draws_the_answers_on_the_very_picture(page: Callable[[str], Page]) -> None:
    lines = page("/lines")
    tile = lines.locator(".tile")
    expect(tile.locator(".state").first).to_have_text("ok")
    expect(tile.locator("[data-said] li")).to_have_count(9)
    expect(lines.locator("[data-summary]")).to_have_text("1 camera, live")
    lines.wait_for_function("() => document.querySelector('.tile canvas').width > 300")
    frame = tile.locator("[data-frame-link] a").get_attribute("href")
    expect(tile.locator("[data-frame-link] a")).not_to_have_attribute("href", str(frame))

    def tag_px() -> int:
        picture = decode_picture(tile.locator("canvas").screenshot())
        return int((np.abs(picture.astype(int) - np.array([17, 23, 30])).max(axis=2) < 6).sum())

    wait_until(lambda: tag_px() > 2000)  # a picture may be shown before its answers came


def test_every_value_leads_to_its_frame_and_on_to_the_package_and_its_data(
    line: Any,  # noqa: ANN401  conftest's Line
    page: Callable[[str], Page],
) -> None:
    lines = page("/lines")
    to_frame(lines)
    expect(lines.locator("#provenance li")).to_have_count(5)
    lines.get_by_text("Probabilities and thresholds").click()
    expect(lines.get_by_role("table")).to_contain_text("A1")
    lines.get_by_role("button", name="Verify audit trail").click()
    expect(lines.locator("#provenance [role=status]")).to_have_text("Every hash on the way holds")
    lines.locator(f"a[href='/models/{line.package}']").first.click()
    expect(lines.get_by_role("heading", level=1)).to_contain_text("colours")
    expect(lines.get_by_role("table", name=re.compile("95 % interval"))).to_contain_text("540")
    lines.locator("a[href='/datasets/rack/versions/1']").click()
    expect(lines.get_by_role("heading", level=1)).to_have_text("rack")


def test_a_frame_shows_where_the_network_looked(page: Callable[[str], Page]) -> None:
    lines = page("/lines")
    to_frame(lines)
    lines.locator("[data-heat]").select_option("B1/blue")
    heat = lines.locator("img.heat")
    expect(heat).to_be_visible()
    lines.wait_for_function("() => document.querySelector('img.heat').naturalWidth === 320")
    lines.get_by_label("Answers on the picture").uncheck()
    expect(lines.locator("[data-overlay] > canvas")).to_be_hidden()


def test_a_frame_is_taught_from_its_page_and_frozen(
    line: Any,  # noqa: ANN401  conftest's Line
    page: Callable[[str], Page],
) -> None:
    lines = page("/lines")
    to_frame(lines)
    lines.get_by_label("Dataset").fill("taught-here")
    for region in ("A1", "A2", "A3", "B1", "B2", "B3", "C2", "C3"):
        lines.locator(f"select[name={region}]").select_option("")
    lines.locator("select[name=C1]").select_option("C1/white")
    lines.get_by_role("button", name="Add", exact=True).click()
    expect(lines.locator("form [role=status]")).to_contain_text("Added")
    sample = line.hub.services.datasets.draft("taught-here").samples[0]
    assert sample.labels == ("C1/white",)
    assert sample.known == ("C1/blue", "C1/empty", "C1/red", "C1/white")
    lines.goto(f"{line.url}/datasets/taught-here")
    expect(lines.locator(".strip img")).to_have_count(1)
    lines.get_by_role("button", name="Freeze").click()
    lines.get_by_role("link", name="1", exact=True).click()
    expect(lines.get_by_text("No near-duplicates were found.")).to_be_visible()


def test_nothing_judged_is_not_sent(page: Callable[[str], Page]) -> None:
    lines = page("/lines")
    to_frame(lines)
    for select in lines.locator(".label-grid select").all():
        select.select_option("")
    lines.get_by_role("button", name="Add", exact=True).click()
    expect(lines.get_by_role("alert")).to_contain_text("Nothing judged")


def some_picture(line: Any) -> bytes:  # noqa: ANN401  conftest's Line
    frames = line.hub.services.frames
    data: bytes = frames.picture(frames.page(camera="rack", limit=1)[0].id).data
    return data


def test_any_picture_is_tried_on_a_package(
    line: Any,  # noqa: ANN401  conftest's Line
    page: Callable[[str], Page],
) -> None:
    tried = page("/try")
    tried.locator("input[type=file]").set_input_files(
        {"name": "rack.jpg", "mimeType": "image/jpeg", "buffer": some_picture(line)}
    )
    tried.get_by_role("button", name="Ask").click()
    result = tried.locator("[data-result]")
    expect(result.locator("table tbody tr")).to_have_count(36)
    result.get_by_label("Activation map").select_option("A1/empty")
    expect(result.locator("img.heat")).to_be_visible()


def test_a_picture_of_something_else_gets_a_sentence(page: Callable[[str], Page]) -> None:
    noise = np.random.default_rng(2).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    tried = page("/try")
    tried.locator("input[type=file]").set_input_files(
        {"name": "noise.jpg", "mimeType": "image/jpeg", "buffer": encode_jpeg(noise)}
    )
    tried.get_by_role("button", name="Ask").click()
    expect(tried.locator("[data-result] .state").first).to_have_text("camera moved")


def drawn(page: Page) -> dict[str, Any]:
    text = page.locator(REGIONS_TOML).inner_text()
    table: dict[str, Any] = tomllib.loads("[[inspection]]\n" + text)["inspection"][0]
    return table


def test_regions_are_drawn_by_mouse_and_keyboard_and_printed(
    line: Any,  # noqa: ANN401  conftest's Line
    page: Callable[[str], Page],
) -> None:
    regions = page("/regions")
    regions.locator("[data-file]").set_input_files(
        {"name": "rack.jpg", "mimeType": "image/jpeg", "buffer": some_picture(line)}
    )
    expect(regions.locator("[data-said]")).to_contain_text("320 x 240")
    canvas = regions.locator("[data-drawing] canvas")
    box = canvas.bounding_box()
    assert box is not None
    scale = box["width"] / 320
    regions.mouse.move(box["x"] + 40 * scale, box["y"] + 30 * scale)
    regions.mouse.down()
    regions.mouse.move(box["x"] + 100 * scale, box["y"] + 70 * scale, steps=3)
    regions.mouse.up()
    first = drawn(regions)["region"][0]["box_px"]
    assert abs(first["x0_px"] - 40) <= 1
    assert abs(first["y1_px"] - 70) <= 1
    regions.get_by_role("button", name="Add a region").click()
    regions.keyboard.press("Shift+ArrowRight")
    regions.keyboard.press("Alt+ArrowDown")
    regions.get_by_label("one of several classes").check()
    regions.get_by_label("Label or classes").fill("empty, blue")
    regions.get_by_label("Label or classes").press("Tab")
    second = drawn(regions)["region"][1]
    assert second["classes"] == ["empty", "blue"]
    assert second["box_px"] == {"x0_px": 138, "y0_px": 96, "x1_px": 202, "y1_px": 145}
    regions.locator("[data-id=R1]").focus()
    regions.keyboard.press("Delete")
    assert [one["id"] for one in drawn(regions)["region"]] == ["R2"]
    regions.get_by_role("button", name="Undo").click()
    assert [one["id"] for one in drawn(regions)["region"]] == ["R1", "R2"]


def test_a_region_is_dragged_and_resized_with_the_mouse(page: Callable[[str], Page]) -> None:
    regions = page("/regions?camera=rack")
    expect(regions.locator(".region")).to_have_count(9)
    before = drawn(regions)["region"][8]["box_px"]
    handle = regions.locator("[data-id=C3]")
    box = handle.bounding_box()
    assert box is not None
    regions.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    regions.mouse.down()
    regions.mouse.move(box["x"] + box["width"] / 2 - 60, box["y"] + box["height"] / 2, steps=3)
    regions.mouse.up()
    after = drawn(regions)["region"][8]["box_px"]
    assert after["x0_px"] < before["x0_px"] - 10
    assert after["x1_px"] - after["x0_px"] == before["x1_px"] - before["x0_px"]
    corner = handle.locator("i").bounding_box()
    assert corner is not None
    regions.mouse.move(corner["x"] + 7, corner["y"] + 7)
    regions.mouse.down()
    regions.mouse.move(corner["x"] + 47, corner["y"] + 7, steps=3)
    regions.mouse.up()
    wider = drawn(regions)["region"][8]["box_px"]
    assert wider["x1_px"] > after["x1_px"] + 5
    assert wider["x0_px"] == after["x0_px"]


def test_a_package_is_taken_into_use_with_a_reason(
    line: Any,  # noqa: ANN401  conftest's Line
    page: Callable[[str], Page],
) -> None:
    model = page(f"/models/{line.package}")
    model.get_by_label("Reason").fill("tried on the floor")
    model.get_by_role("button", name="Use for stock").click()
    expect(model.get_by_text("approved by M. Keller")).to_contain_text("tried on the floor")
    event = line.hub.services.events.page(kind="lineside.package.v1", newest_first=True, limit=1)[0]
    assert event.event["data"]["reason"] == "tried on the floor"


def test_the_search_key_leads_to_the_thing_itself(
    line: Any,  # noqa: ANN401  conftest's Line
    page: Callable[[str], Page],
) -> None:
    frame = line.hub.services.frames.page(camera="rack", limit=1)[0].id
    fleet = page("/devices")
    fleet.keyboard.press("/")
    fleet.keyboard.type(frame)
    fleet.keyboard.press("Enter")
    fleet.wait_for_url(f"**/frames/{frame}")


def test_the_theme_is_switched_and_kept(page: Callable[[str], Page]) -> None:
    lines = page("/devices")
    ground = "() => getComputedStyle(document.documentElement).backgroundColor"
    dark = lines.evaluate(ground)
    lines.get_by_role("button", name="Switch between light and dark").click()
    light = lines.evaluate(ground)
    assert dark != light
    lines.reload()
    assert lines.evaluate(ground) == light
    lines.get_by_role("button", name="Switch between light and dark").click()
    assert lines.evaluate(ground) == dark


def test_figures_are_read_anew_without_a_reload(page: Callable[[str], Page]) -> None:
    lines = page("/lines")
    parts = lines.locator(".figures a").first.locator("b")
    before = parts.inner_text()
    expect(parts).not_to_have_text(before)
