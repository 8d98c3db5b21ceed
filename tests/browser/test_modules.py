"""The modules by themselves: they compute what the server's side does."""

import json
import random
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from lineside.core import Region, decode, encode
from lineside.hub import Role
from lineside.hub.pages.twin import scene_view
from lineside.testing.clock import NOON
from lineside.testing.events import after, small_plant
from lineside.twin import LineState, Presence, SlotState
from lineside.twin.documents import difference
from lineside.twin.state import Evidence
from lineside.vision.geometry import about, apply, similarity
from lineside.vision.masks import rle_of

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "hub" / "pages"
SCRIPT = "text/javascript"


@pytest.fixture(scope="module")
def page(chromium: Browser, line: Any) -> Iterator[Page]:  # noqa: ANN401  conftest's Line
    """One page for all: what is under test keeps no state."""
    page = chromium.new_page()
    page.goto(f"{line.url}/welcome")
    yield page
    page.close()


def call(page: Page, module: str, code: str, *, argument: Any = None) -> Any:  # noqa: ANN401  JSON in and out
    """Run ``code`` with the module's exports as ``m`` and the argument as ``a``."""
    script = f"""async (a) => {{
        const base = document.querySelector('script[src*="/js/theme.js"]').src;
        const m = await import(new URL("{module}.js", base));
        return {code};
    }}"""
    return page.evaluate(script, argument)


def test_lengths_of_time_are_written_as_on_the_server(page: Page) -> None:
    cases = json.loads((CASES / "format_cases.json").read_text())
    code = "Object.fromEntries(Object.entries(a).map(([k, v]) => [k, v.map(([x]) => m[k](...x))]))"
    said = call(page, "time", code, argument={name: cases[name] for name in ("span", "age")})
    for name, texts in said.items():
        assert texts == [text.replace("_", "\u00a0") for _, text in cases[name]], name


def test_a_page_is_as_old_as_the_part_that_the_hub_cannot_make(page: Page) -> None:
    code = """(async () => {
        class Quiet extends m.Live { open() {} }
        let now = 1000;
        performance.now = () => now;
        const live = new Quiet({}, {}), ages = [];
        const hear = (stale) => {
            const header = JSON.stringify({kind: "part", href: "/x", stale});
            const text = new TextEncoder().encode(header);
            const raw = new Uint8Array(4 + text.length);
            new DataView(raw.buffer).setUint32(0, text.length);
            raw.set(text, 4);
            return live.hear(raw.buffer);
        };
        for (const stale of [true, true, undefined]) {
            await hear(stale);
            ages.push(live.age());
            now += 60;
        }
        delete performance.now;
        return ages;
    })()"""
    assert call(page, "live", code) == [0, 0.06, 0]


def test_times_and_their_fields_follow_the_reader_s_clock_and_say_its_zone(
    chromium: Browser,
    line: Any,  # noqa: ANN401  conftest's Line
) -> None:
    page = chromium.new_page(timezone_id="Asia/Kolkata")
    page.goto(f"{line.url}/welcome")
    at = "2026-01-02T20:00:05.123Z"
    told = call(page, "time", "m.moment(new Date(a), 'clock', new Date())", argument=at)
    assert told == "2026-01-03 01:30:05\u00a0GMT+5:30"
    fields = """((form) => {
        form.innerHTML = `<label>From <small data-zone></small><input data-moment="since"
            type="datetime-local" step="any"></label><input type="hidden" name="since">`;
        form.since.value = a;
        m.wireMoments(form);
        const field = form.querySelector("[data-moment]");
        const first = [field.value, form.since.value, form.querySelector("small").textContent];
        field.value = "2026-01-03T02:30";
        field.dispatchEvent(new Event("input"));
        return [...first, form.since.value];
    })(document.createElement("form"))"""
    assert call(page, "moments", fields, argument=at) == [
        "2026-01-03T01:30:05", at, "GMT+5:30", "2026-01-02T21:00:00.000Z",
    ]  # fmt: skip
    page.close()


def test_a_time_of_the_past_says_its_zone_and_a_cleared_field_changes_nothing(
    chromium: Browser,
    line: Any,  # noqa: ANN401  conftest's Line
) -> None:
    page = chromium.new_page(timezone_id="Europe/Berlin")
    page.goto(f"{line.url}/welcome")
    january, july, december = 1_767_261_600, 1_782_900_000, 1_798_712_000
    code = """((form) => {
        form.innerHTML = `<label>Time <small data-zone></small><input data-moment="at"
            type="datetime-local" step="any"></label><input type="hidden" name="at">
            <input type="range" min="${a[0]}" max="${a[2]}" step="1" value="${a[0]}" data-slide>`;
        form.at.value = new Date(a[0] * 1000).toISOString();
        const went = [];
        m.wirePast(form, (at) => went.push(at));
        const [slide, field] = ["[data-slide]", "[data-moment]"].map((s) => form.querySelector(s));
        slide.value = String(a[1]);
        slide.dispatchEvent(new Event("input"));
        field.value = "";
        field.dispatchEvent(new Event("change"));
        return [form.querySelector("small").textContent, went.length, slide.value];
    })(document.createElement("form"))"""
    zone, *rest = call(page, "twin_past", code, argument=[january, july, december])
    assert zone in ("CEST", "GMT+2")  # by the browser's language
    assert rest == [1, str(july)]
    page.close()


CONTRAST = """() => {
    const light = (text) => {
        const parts = text.match(/[\\d.]+/g).slice(0, 3).map((one) => one / 255)
            .map((one) => (one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2] + 0.05;
    };
    const {color, backgroundColor} = getComputedStyle(document.querySelector("button.main"));
    const [one, other] = [light(color), light(backgroundColor)];
    return Math.max(one, other) / Math.min(one, other);
}"""


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_a_button_stays_readable_while_it_cannot_be_pressed(
    page: Page, *, theme: Literal["dark", "light"]
) -> None:
    page.emulate_media(color_scheme=theme)
    page.locator("button.main").evaluate("(button) => { button.disabled = true; }")
    assert page.evaluate(CONTRAST) >= 4.5
    page.locator("form:has(button.main)").evaluate("(form) => { form.ariaBusy = 'true'; }")
    assert page.evaluate(CONTRAST) >= 4.5
    page.reload()


def test_a_part_takes_over_what_differs_and_keeps_the_rest(page: Page) -> None:
    code = """(() => {
        const made = (html) => Object.assign(document.createElement("div"), {innerHTML: html});
        const time = '<time datetime="x">2 s ago</time>';
        const part = made(`<p class="a"><b>1</b> of</p>${time}<i>gone</i>`);
        const kept = part.querySelector("b");
        m.become(part, made('<p id="n"><b>2</b> of</p><time datetime="x">12:00 UTC</time>'));
        return [part.innerHTML, part.querySelector("b") === kept];
    })()"""
    html, kept = call(page, "dom", code)
    assert html == '<p id="n"><b>2</b> of</p><time datetime="x">2 s ago</time>'
    assert kept


def test_a_mask_is_read_as_it_was_written(page: Page) -> None:
    mask = np.zeros((5, 4), np.bool_)
    mask[1:4, 1] = mask[4, 2] = mask[0, 3] = True
    runs = call(page, "overlay", "m.runsOf(a)", argument=rle_of(mask))
    found = np.zeros(mask.size, np.bool_)
    for start, length in runs:
        found[start : start + length] = True
    assert (mask == found.reshape(4, 5).T).all()


def document(rng: random.Random, depth: int = 3) -> Any:  # noqa: ANN401  any JSON
    kind = rng.randrange(6 if depth else 4)
    if kind == 4:
        return [document(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 5:
        keys = rng.sample(["a", "b", "c", "a/b", "m~n", "0", ""], k=rng.randrange(5))
        return {key: document(rng, depth - 1) for key in keys}
    return rng.choice([None, True, False, 0, 1, 2.5, "x", "", "ü"])


@pytest.fixture
def example(page: Page) -> Iterator[Page]:
    """The page with the reference client of the twin as a module beside it."""
    text = (ROOT / "examples" / "twin" / "twin_client.mjs").read_text()
    page.route("**/twin_client.mjs", lambda route: route.fulfill(body=text, content_type=SCRIPT))
    yield page
    page.unroute("**/twin_client.mjs")


def test_the_example_in_javascript_patches_as_the_hub_does(example: Page) -> None:
    rng = random.Random(5)  # noqa: S311  documents, not secrets
    cases = []
    for _ in range(200):
        before, then = {"root": document(rng)}, {"root": document(rng)}
        cases.append([before, list(difference(before, then)), then])
    code = """async (a) => {
        const m = await import("/twin_client.mjs");
        return a.map(([before, patch]) => m.patched(before, patch));
    }"""
    assert example.evaluate(code, cases) == [then for _, _, then in cases]


def test_the_example_in_javascript_follows_the_twin(
    example: Page,
    line: Any,  # noqa: ANN401  conftest's Line
) -> None:
    token = line.hub.services.auth.issue_token("reader", kind="api", role=Role.VIEWER)
    code = """async ([url, token]) => {
        const m = await import("/twin_client.mjs");
        const found = [];
        for await (const state of m.states(url, token)) {
            found.push([state.revision, state.schema, Object.keys(state.slots).length]);
            if (found.length === 3) return found;
        }
    }"""
    found = example.evaluate(code, [line.url, token])
    assert [one[1:] for one in found] == [["lineside.twin/1", 9]] * 3
    assert found[0][0] < found[1][0] < found[2][0]


def test_regions_lie_where_the_server_puts_them(page: Page) -> None:
    box = [53.0, 24.0, 91.0, 43.0]
    figures = {"state": "aligned", "dx_px": 8.0, "dy_px": -19.0, "rotation_deg": 3.5, "scale": 1.02}
    overlay = {"view": [320, 240], "registration": figures}
    picture = {"width": 320, "height": 240}
    said = call(page, "overlay", "m.corners(...a)", argument=[box, overlay, picture])
    turn = similarity(scale=1.02, rotation_deg=3.5, dx_px=8.0, dy_px=-19.0)
    matrix = about((159.5, 119.5), turn)
    x0, y0, x1, y1 = box
    edges = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]) - 0.5
    assert np.allclose(np.array(said) - 0.5, apply(matrix, edges), atol=1e-6)


def test_without_registration_regions_scale_with_the_picture(page: Page) -> None:
    overlay = {"view": [320, 240], "registration": {"state": "none"}}
    arguments = [[10, 20, 30, 40], overlay, {"width": 640, "height": 480}]
    said = call(page, "overlay", "m.corners(...a)", argument=arguments)
    assert said == [[20, 40], [60, 40], [60, 80], [20, 80]]


def test_the_printed_toml_is_what_was_drawn(page: Page) -> None:
    regions = [
        {"id": "A1", "label": "", "classes": ["empty", 'blue "x"'], "box": [1, 2, 30, 40]},
        {"id": "B-2", "label": "red\\", "classes": [], "box": [50, 60, 70, 80]},
    ]
    text = call(page, "regions_model", "m.toml(a, {width: 320, height: 240})", argument=regions)
    tables = tomllib.loads("[[inspection]]\n" + text)["inspection"][0]
    assert tables["view"] == {"width_px": 320, "height_px": 240}
    read = [decode(Region, table, where="drawn") for table in tables["region"]]
    assert [(one.id, one.label, list(one.classes)) for one in read] == [
        (one["id"], one["label"], one["classes"]) for one in regions
    ]
    assert [one.box_px.x1_px for one in read] == [30.0, 70.0]


def test_ticks_are_a_list_also_below_a_key_and_pairs_keep_their_later_signs(page: Page) -> None:
    code = """((form) => {
        const tick = (name, value) => `<input type="checkbox" name="${name}" value="${value}"
            data-type="list" ${value === "c" ? "" : "checked"}>`;
        form.innerHTML = ["a", "b", "c", ""].map((one) => tick(a, one)).join("");
        return m.readForm(form);
    })(document.createElement("form"))"""
    assert call(page, "forms", code, argument="good") == {"good": ["a", "b"]}
    below = {"values": {"expected": ["a", "b"]}}
    assert call(page, "forms", code, argument="values.expected") == below
    none = "m.valueOf({value: '[]', dataset: {kind: 'words'}})"
    assert call(page, "setup", none) == []
    pairs = {"image": "label", "note": "x=y"}
    assert call(page, "setup", "m.pairsOf(a)", argument="image = label, note=x=y,") == pairs


def test_a_limit_that_is_shown_rounded_is_sent_as_it_is_until_it_is_changed(page: Page) -> None:
    code = """["0.06214", "0.07"].map((typed) => {
        const form = document.createElement("form");
        form.append(document.createElement("input"));
        const [input] = form.elements;
        Object.assign(input, {name: "high", value: typed});
        Object.assign(input.dataset, {shown: "0.06214", exact: a});
        return String(m.queryOf(form));
    })"""
    exact = "0.062137549182698294"
    assert call(page, "operating_point", code, argument=exact) == [f"high={exact}", "high=0.07"]


def test_a_region_never_leaves_its_picture(page: Page) -> None:
    code = """a.map(([x, y, dx, dy]) => {
        const size = {width: 100, height: 80};
        const box = m.tidy([x, y, x + 30, y + 20], size);
        return [box, m.moved(box, dx, dy, size), m.resized(box, dx, dy, size)];
    })"""
    rng = random.Random(3)  # noqa: S311  boxes, not secrets
    moves = [[rng.uniform(-200, 200) for _ in range(4)] for _ in range(100)]
    for boxes in call(page, "regions_model", code, argument=moves):
        for x0, y0, x1, y1 in boxes:
            assert 0 <= x0 < x1 <= 100
            assert 0 <= y0 < y1 <= 80
        drawn, moved, _ = boxes
        assert drawn[2] - drawn[0] == moved[2] - moved[0]


def test_a_disc_turns_to_an_outline_when_its_time_is_over_though_the_server_is_silent(
    page: Page,
) -> None:
    start = "2026-01-01T12:00:00.000Z"
    places = {
        "A1": {"show": "disc", "stale_at": "2026-01-01T12:00:10.000Z"},
        "A2": {"show": "empty", "stale_at": None},
    }
    code = """[9, 11].map((s) =>
        m.placesAt(a, m.timeOf(a) + 1000 * s).map((one) => one.show))"""
    shown = call(page, "twin_model", code, argument={"at": start, "slots": places})
    assert shown == [["disc", "empty"], ["outline", "empty"]]


def test_an_outline_has_the_age_of_its_picture_and_a_disc_none(page: Page) -> None:
    seen = SlotState(id="A1", seen=Presence.PRESENT, colour="blue", evidence=Evidence(at=NOON))
    state, code = LineState(slots={"A1": seen}), "m.placeNote(...a)"

    def note(late_s: float) -> str:
        view = scene_view(state, small_plant(), now=after(late_s)).slots["A1"]
        now_ms = after(late_s).timestamp() * 1000
        return str(call(page, "twin_model", code, argument=[json.loads(encode(view)), now_ms]))

    assert note(1) == ""
    assert note(42).replace("\u00a0", " ") == "42 s"


@pytest.mark.parametrize(("width", "count"), [(390, 60), (358, 33), (1440, 120)])
def test_no_label_covers_another_or_leaves_the_picture(
    page: Page, *, width: int, count: int
) -> None:
    rng = random.Random(count)  # noqa: S311  places, not secrets
    size = {"width": width, "height": 432}
    legend = {"x": 16, "y": 390, "width": width - 32, "height": 36}
    labels: list[dict[str, Any]] = [
        {
            "key": str(n), "width": 110 if n < 6 else rng.choice([22, 48]), "height": 24,
            "x": rng.uniform(0.2, 0.8) * width, "y": rng.uniform(60, 300), "above": n < 6,
        }
        for n in range(count)
    ]  # fmt: skip
    placed = call(page, "twin_layout", "m.placeLabels(...a)", argument=[labels, size, [legend]])
    assert [one["key"] for one in placed] == [one["key"] for one in labels]
    boxes = [
        {**label, "x": at["x"], "y": at["y"]} for label, at in zip(labels, placed, strict=True)
    ]
    for n, box in enumerate(boxes):
        assert 0 <= box["x"] <= width - box["width"]
        assert 0 <= box["y"] <= 432 - box["height"]
        for other in (legend, *boxes[:n]):
            apart_x = (
                box["x"] >= other["x"] + other["width"] or other["x"] >= box["x"] + box["width"]
            )
            apart_y = (
                box["y"] >= other["y"] + other["height"] or other["y"] >= box["y"] + box["height"]
            )
            assert apart_x or apart_y, (box, other)
    for label, at in zip(labels, placed, strict=True):
        far = abs(at["x"] + label["width"] / 2 - label["x"]) > label["width"] / 2 + 12
        assert at["leader"] is not None or not far
        assert at["leader"] is None or at["leader"][:2] == [label["x"], label["y"]]


def test_a_label_stays_where_it_belongs_while_there_is_room_and_is_left_out_without(
    page: Page,
) -> None:
    one = {"key": "A1", "x": 100, "y": 100, "width": 40, "height": 20, "above": False}
    above = {**one, "key": "press", "above": True}
    code = "m.placeLabels(...a)"
    roomy = call(page, "twin_layout", code, argument=[[one, above], {"width": 300, "height": 300}])
    assert [(at["x"], at["y"], at["leader"]) for at in roomy] == [(80, 101, None), (80, 80, None)]
    tight = call(page, "twin_layout", code, argument=[[one, above], {"width": 44, "height": 30}])
    assert [at["key"] for at in tight] == ["A1"]


def test_arrow_keys_lead_from_label_to_label(page: Page) -> None:
    placed = [{"key": f"{r}{c}", "x": 40 * c, "y": 30 * r} for r in range(3) for c in range(3)]
    code = "a[0].map(([key, from]) => m.nextLabel(key, from, a[1]))"
    pressed = [["ArrowRight", "11"], ["ArrowLeft", "11"], ["ArrowUp", "11"], ["ArrowDown", "21"]]
    assert call(page, "twin_layout", code, argument=[pressed, placed]) == ["12", "10", "01", "21"]
