"""The modules by themselves: they compute what the server's side does."""

import json
import random
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonpatch
import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from lineside.core import Region, decode
from lineside.hub.pages.twin import scene_plan
from lineside.testing.events import small_plant
from lineside.vision.geometry import about, apply, similarity
from lineside.vision.masks import rle_of

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

CASES = Path(__file__).parents[1] / "hub" / "pages"


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


def test_patches_give_what_they_give_on_the_server(page: Page) -> None:
    rng = random.Random(5)  # noqa: S311  documents, not secrets
    cases = []
    for _ in range(200):
        before, then = {"root": document(rng)}, {"root": document(rng)}
        cases.append([before, jsonpatch.make_patch(before, then).patch, then])
    said = call(page, "patch", "a.map(([d, p]) => m.applyPatch(d, p))", argument=cases)
    assert said == [then for _, _, then in cases]


def test_a_patch_does_not_change_the_document_it_is_applied_to(page: Page) -> None:
    code = """(() => {
        const before = {a: {b: [1, 2]}, kept: {}};
        const then = m.applyPatch(before, [{op: "add", path: "/a/b/0", value: 0}]);
        return [before, then, before.kept === then.kept];
    })()"""
    before, then, shared = call(page, "patch", code)
    assert (before["a"], then["a"], shared) == ({"b": [1, 2]}, {"b": [0, 1, 2]}, True)


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/missing", "value": 1},
        {"op": "remove", "path": "/list/7"},
        {"op": "add", "path": "/list/9", "value": 1},
        {"op": "add", "path": "/list/-1", "value": 1},
        {"op": "replace", "path": "/list/01", "value": 1},
        {"op": "test", "path": "/list/0", "value": "other"},
        {"op": "add", "path": "no-slash", "value": 1},
        {"op": "invent", "path": "/list"},
    ],
)
def test_a_patch_that_does_not_fit_is_refused(page: Page, operation: dict[str, Any]) -> None:
    code = """(() => {
        try { m.applyPatch({list: [1]}, [a]); return "taken"; } catch { return "no"; }
    })()"""
    assert call(page, "patch", code, argument=operation) == "no"


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


def seen(**changes: Any) -> dict[str, Any]:  # noqa: ANN401  fields of a place
    place: dict[str, Any] = {
        "id": "A1", "seen": "present", "colour": "blue", "possible": [], "reported": None,
        "differs_since": None, "reserved_by": "", "evidence": {"at": "2026-01-01T12:00:00.000Z"},
    }  # fmt: skip
    return {**place, **changes}


def scene(page: Page, place: dict[str, Any], *, late_s: float = 0, orders: Any = ()) -> Any:  # noqa: ANN401  JSON
    plan = scene_plan(small_plant(slots=("A1",)))
    stations = {one["id"]: {"active": None} for one in plan["stations"]}  # type: ignore[index, call-overload, union-attr]  # JSON
    state = {"slots": {"A1": place}, "stations": stations, "orders": list(orders)}
    code = "m.sceneOf(a.state, a.plan, new Date('2026-01-01T12:00:00Z').getTime() + a.late)"
    told = {"state": state, "plan": plan, "late": late_s * 1000}
    return call(page, "twin_model", code, argument=told)


@pytest.mark.parametrize(
    ("place", "late_s", "shown"),
    [
        (seen(), 1, ("disc", "blue")),
        (seen(), 11, ("outline", "blue")),
        (seen(seen="absent", colour=""), 1, ("empty", "")),
        (seen(seen="absent", colour="", reported="red"), 1, ("outline", "red")),
        (seen(seen="unsure", colour="", possible=["red"]), 1, ("unsure", "red")),
        (seen(seen="unknown", colour="", evidence={"at": None}), 1, ("unknown", "")),
        (seen(seen="unknown", reported="red", evidence={"at": None}), 1, ("outline", "red")),
    ],
)
def test_a_place_shows_no_more_than_is_known(
    page: Page, *, place: dict[str, Any], late_s: float, shown: tuple[str, str]
) -> None:
    view = scene(page, place, late_s=late_s)["slots"][0]
    assert (view["show"], view["colour"]) == shown


@pytest.mark.parametrize(
    ("steps", "status", "parts"),
    [
        ([], "Order Submitted", []),
        (["placed", "sent"], "Order Submitted", []),
        (["placed", "sent", "hbw"], "ORDERED", [("vgr", "outline")]),
        (["placed", "sent", "hbw", "fetched"], "ORDERED", [("hbw", "disc"), ("vgr", "outline")]),
        (["placed", "sent", "fetched", "mpo"], "IN_PROCESS", [("mpo", "disc"), ("sld", "outline")]),
        (["placed", "sent", "hbw", "fetched", "dso"], "IN_PROCESS", [("dso", "disc")]),
        (["placed", "sent", "dso", "SHIPPED"], "SHIPPED", []),
        (["placed", "sent", "RELEASED"], "RELEASED", []),
    ],
)  # fmt: skip
def test_a_part_stands_where_a_station_was_seen_to_work_on_it(
    page: Page, *, steps: list[str], status: str, parts: list[tuple[str, str]]
) -> None:
    order = {
        "id": "ord_1", "colour": "red", "status": status,
        "steps": [{"name": name} for name in steps],
    }  # fmt: skip
    found = scene(page, seen(), orders=[order])["parts"]
    assert [(part["station"], part["show"]) for part in found] == parts
