"""The label page in a browser: boxes by mouse and keys, brush, undo, and two people at once."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

from lineside.core import digest_of
from lineside.datasets import Marked, Sample
from lineside.datasets.annotations import Annotation
from lineside.hub.learning.labelling import AnnotatedSample, AnnotationChange
from lineside.vision import encode_png
from tests.browser.test_modules import call
from tests.browser.test_pages import OVER, assess, settle

pytestmark = pytest.mark.browser

SQUARE = "[[0, 0], [4, 0], [4, 4], [0, 4]]"


def picture(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    return encode_png(rng.integers(60, 200, (60, 80, 3)).astype(np.uint8))


DIGEST = digest_of(picture(0))


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Press at one place of the picture, lift at the other; both as shares of it."""
    box = page.locator(".label-canvas").bounding_box()
    assert box is not None
    scale = min(box["width"] / 80, box["height"] / 60)
    left = box["x"] + (box["width"] - 80 * scale) / 2
    top = box["y"] + (box["height"] - 60 * scale) / 2
    at = [(left + x * 80 * scale, top + y * 60 * scale) for x, y in (start, end)]
    page.mouse.move(*at[0])
    page.mouse.down()
    page.mouse.move(*at[1], steps=4)
    page.mouse.up()


def saved(line: Any, name: str) -> AnnotatedSample:  # noqa: ANN401  conftest's Line
    found: AnnotatedSample = line.hub.services.labelling.one(name, DIGEST)
    return found


def open_dataset(line: Any, name: str) -> None:  # noqa: ANN401  conftest's Line
    """Three pictures of a dataset, nothing said of them, and two labels."""
    library = line.hub.services.datasets._library
    pictures = [picture(n) for n in range(3)]
    samples = [Sample(name=f"{n}.png", digest=digest_of(one)) for n, one in enumerate(pictures)]
    library.add(name, zip(samples, pictures, strict=True), by="ann")
    library.declare(name, ["dent", "scratch"])


def rename(page: Page, label: str, *, to: str) -> None:
    page.get_by_text("Rename or merge a label").click()
    form = page.locator("form[data-json$='/rename']")
    form.locator("[name=label]").select_option(label)
    form.locator("[name=name]").fill(to)
    assert assess(page) == []
    with page.expect_navigation():
        form.get_by_role("button", name="Rename").click()


UNDONE = (
    ("2", "true", "labelled"), ("Control+z", "false", "todo"), ("Control+y", "true", "labelled"),
    ("2", "false", "todo"), ("d", "false", "discuss"), ("2", "true", "discuss"),
)  # fmt: skip


def test_a_picture_is_labelled_by_mouse_and_by_keys(
    line: Any,  # noqa: ANN401  conftest's Line
    open_page: Callable[..., Any],
) -> None:
    open_dataset(line, "plates")
    watched = open_page("/datasets/plates/label")
    page = watched.page
    settle(page)
    expect(page.locator("[data-where]")).to_have_text("1 of 3")
    for key, pressed, state in UNDONE:
        page.keyboard.press(key)
        for button, is_on in (("[data-name=scratch]", pressed), (f"[data-state={state}]", "true")):
            expect(page.locator(button)).to_have_attribute("aria-pressed", is_on)

    page.keyboard.press("r")
    drag(page, (0.25, 0.25), (0.5, 0.5))
    rows = page.locator("[data-shapes] li")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("Box 20, 15 to 40, 30")
    page.locator(".label-canvas").focus()
    for key in ("Enter", *["Shift+ArrowRight"] * 2, *["Shift+ArrowDown"] * 2, "Enter"):
        page.keyboard.press(key)
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_contain_text("Box 40, 30 to 60, 50")
    rows.nth(1).locator("[aria-pressed]").focus()
    page.keyboard.press("ArrowLeft")
    expect(rows.nth(1)).to_contain_text("Box 39, 30 to 59, 50")
    page.keyboard.press("Delete")
    expect(rows).to_have_count(1)
    page.keyboard.press("Control+z")
    expect(rows).to_have_count(2)

    page.keyboard.press("g")
    page.locator(".label-canvas").focus()
    for key in ("Enter", "Shift+ArrowRight", "Enter", "Shift+ArrowDown", "Enter"):
        page.keyboard.press(key)
    for key in ("Shift+ArrowUp", "Shift+ArrowLeft", "Enter"):
        page.keyboard.press(key)
    expect(rows.nth(2)).to_contain_text("Polygon, 3 corners")
    page.keyboard.press("Control+z")

    page.keyboard.press("b")
    drag(page, (0.1, 0.9), (0.6, 0.9))
    expect(rows).to_have_count(3)
    page.keyboard.press("e")
    drag(page, (0.5, 0.9), (0.6, 0.9))
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("[data-saved]")).to_contain_text("Saved")
    mask = saved(line, "plates").annotation.mask
    assert mask is not None
    assert (mask.width_px, mask.height_px) == (80, 60)
    assert call(page, "label_mask", "new m.PaintedMask({width: 80, height: 60}, a).area",
                argument={"rle": mask.rle}) > 300  # fmt: skip

    page.reload()
    expect(rows).to_have_count(3)
    expect(page.get_by_role("button", name="scratch")).to_have_attribute("aria-pressed", "true")
    assert page.locator("[data-outlines]").count() == 0
    rename(page, "dent", to="scratch")
    expect(rows).to_have_count(3)
    assert {mark.label for mark in saved(line, "plates").annotation.marked or ()} == {"scratch"}
    watched.quiet()


CANVAS = "document.querySelector('.label-canvas').toDataURL()"


def test_a_dispute_is_drawn_and_named_until_it_is_settled(
    line: Any,  # noqa: ANN401  conftest's Line
    open_page: Callable[..., Any],
) -> None:
    open_dataset(line, "two-ways")
    chip = Sample(name="0.png", digest=DIGEST, labels=("chip",), known=("chip",))
    line.hub.services.datasets._library.add("two-ways", [(chip, picture(0))], by="cy")

    def judge(by: str, label: str, left: int) -> None:
        box = Marked(label=label, x0_px=left, y0_px=10, x1_px=left + 25, y1_px=40)
        said = Sample(name="0.png", digest=DIGEST, labels=(label,), known=("dent", "scratch"),
                      marked=(box,))  # fmt: skip
        line.hub.services.datasets._library.add("two-ways", [(said, picture(0))], by=by)

    judge("ann", "dent", 10)
    judge("bob", "scratch", 40)
    page = open_page(f"/datasets/two-ways/label?picture={DIGEST}").page
    told = page.locator("[data-disputed]")
    expect(told).to_contain_text("not judged: objects, dent, scratch.")
    ann, bob = (page.get_by_role("button", name=f"{one}, 1 shape") for one in ("dent", "scratch"))
    expect(bob).to_have_attribute("aria-pressed", "true")
    assert assess(page) == []
    views = {page.evaluate(CANVAS)}
    for one in (ann, bob):
        one.click()
        views.add(page.evaluate(CANVAS))
    assert len(views) == 3
    page.keyboard.press("k")
    expect(page.locator("[data-saved]")).to_contain_text("Saved")
    expect(page.locator("[data-state=discuss]")).to_have_attribute("aria-pressed", "true")
    expect(told).to_be_visible()
    judge("dan", "dent", 20)
    page.keyboard.press("d")
    keep = page.get_by_role("button", name="Keep yours")
    expect(keep).to_be_visible()
    judgements = page.locator("[data-judgements]")
    expect(judgements).to_contain_text("dan: dent, 1 shape")
    keep.click()
    expect(page.locator("[data-saved]")).to_contain_text("Saved")
    judge("eve", "dent", 30)
    page.get_by_role("textbox", name="Comment").fill("Is it one?")
    page.get_by_role("button", name="Add comment").click()
    expect(judgements).to_contain_text("eve: dent, 1 shape")
    page.get_by_role("button", name="Take the judgement of bob").click()
    expect(page.locator("[data-state=discuss]")).to_have_attribute("aria-pressed", "true")
    expect(told).to_be_hidden()
    expect(ann).to_be_hidden()
    taken = saved(line, "two-ways").annotation
    assert {one.label for one in taken.marked or ()} == {"scratch"}
    assert set(taken.labels) == {"chip", "scratch"}  # of chip bob's judgement says nothing


def test_two_people_choose_and_go_on(
    line: Any,  # noqa: ANN401  conftest's Line
    open_page: Callable[..., Any],
) -> None:
    open_dataset(line, "disputed")
    labelling = line.hub.services.labelling
    square = Marked(label="dent", x0_px=10, y0_px=10, x1_px=30, y1_px=30)
    first = Annotation(labels=("scratch",), marked=(square,))
    labelling.save("disputed", DIGEST, AnnotationChange(revision=1, annotation=first), by="ann")
    watched = open_page(f"/datasets/disputed/label?picture={DIGEST}")
    page = watched.page
    rows = page.locator("[data-shapes] li")
    expect(rows).to_have_count(1)
    labelling.comment("disputed", DIGEST, "is it one?", by="Eve")
    page.keyboard.press("1")
    expect(page.get_by_role("button", name="dent")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("[data-saved]")).to_contain_text("Saved")
    now = saved(line, "disputed")
    other = AnnotationChange(revision=now.revision, annotation=replace(first, count=3))
    labelling.save("disputed", DIGEST, other, by="Eve")
    page.get_by_role("button", name="None of these").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Eve saved 0.png while you were working on it.")
    assert assess(page) == []
    assert saved(line, "disputed").annotation.count == 3
    dialog.get_by_role("button", name="Keep yours").click()
    expect(page.locator("[data-saved]")).to_contain_text("Saved")
    assert saved(line, "disputed").annotation == replace(
        first, labels=(), known=("dent", "scratch")
    )

    page.keyboard.press("n")
    expect(page.locator("[data-where]")).to_have_text("2 of 3")
    page.keyboard.press("c")
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Checked").click()
    page.get_by_role("textbox", name="Comment").fill("Please look at the lower edge.")
    page.get_by_role("button", name="Add comment").click()
    expect(page.locator("[data-comments] li")).to_contain_text("Please look at the lower edge.")
    watched.quiet(but="409")
    page.close()
    for size in ((1920, 1080), (390, 844)):
        narrow = open_page(f"/datasets/disputed/label?picture={DIGEST}", theme="light", size=size)
        expect(narrow.page.locator("[data-shapes] li")).to_have_count(1)
        assert narrow.page.evaluate(OVER) <= 0
        assert assess(narrow.page) == []
        narrow.quiet()
        narrow.page.close()


def held_back(page: Page, waiting: list[Route]) -> Route:
    """The one request that waits, or comes to; it is heard of only while the page is asked."""
    while not waiting:
        page.wait_for_timeout(10)
    (route,) = waiting
    waiting.clear()
    return route


def test_a_change_while_the_next_picture_loads_is_made_on_neither(
    line: Any,  # noqa: ANN401  conftest's Line
    open_page: Callable[..., Any],
) -> None:
    open_dataset(line, "quick")
    watched = open_page("/datasets/quick/label")
    labelling, page = line.hub.services.labelling, watched.page
    settle(page)
    where, said = page.locator("[data-where]"), page.locator("[data-said]")
    for n in range(3):  # from the last one on to the first that is left
        expect(where).to_have_text(f"{n + 1} of 3")
        page.keyboard.press("n")
        settle(page)
    expect(where).to_have_text("1 of 3")
    waiting: list[Route] = []

    def stored() -> list[tuple[tuple[str, ...], int]]:
        return [
            (one.annotation.labels, one.revision)
            for one in (
                line.hub.services.labelling.one("quick", digest_of(picture(n))) for n in range(2)
            )
        ]

    def hold(route: Route) -> None:
        waiting.append(route)

    page.route(re.compile("/api/v1/datasets/quick/samples/sha256:"), hold)
    page.keyboard.press("1")
    page.keyboard.press("n")
    page.keyboard.press("2")
    expect(said).to_have_text("The picture is still loading: nothing was changed.")
    post = held_back(page, waiting)
    assert post.request.method == "POST"
    with page.expect_request(re.compile(f"samples/{digest_of(picture(1))}")):
        post.continue_()
    page.keyboard.press("2")
    page.get_by_role("button", name="scratch").click()
    page.get_by_role("button", name="Checked").click()
    expect(page.get_by_role("button", name="scratch")).to_have_attribute("aria-pressed", "false")
    held_back(page, waiting).continue_()
    expect(where).to_have_text("2 of 3")
    page.unroute_all()
    expect(page.get_by_role("button", name="dent")).to_have_attribute("aria-pressed", "false")
    assert stored() == [(("dent",), 2), ((), 1)]
    page.keyboard.press("2")
    expect(page.locator("[data-saved]")).to_contain_text("Saved")
    expect(page.locator(".head")).to_contain_text("draft: 1 of 3 pictures left")
    page.keyboard.press("n")
    expect(where).to_have_text("3 of 3")

    page.evaluate("scrollTo(0, 0)")
    page.keyboard.press("b")
    drag(page, (0.2, 0.2), (0.4, 0.2))
    page.mouse.down()
    page.keyboard.press("N")
    expect(said).to_have_text("Finish what you are drawing first.")
    page.mouse.up()
    page.keyboard.press("N")
    expect(where).to_have_text("2 of 3")
    assert stored() == [(("dent",), 2), (("scratch",), 2)]
    assert labelling.one("quick", digest_of(picture(2))).annotation.mask is not None
    expect(page.locator(".head")).to_contain_text("nothing left to do, 3 pictures")
    watched.quiet()


def test_the_modules_of_the_label_page(
    open_page: Callable[..., Any],
) -> None:
    page = open_page("/welcome").page
    assert call(page, "label_keys", "m.actionOf({key: 'z', ctrlKey: true})") == "undo"
    assert call(page, "label_keys", "m.actionOf({key: 'B'})") == "tool-brush"
    assert call(page, "label_keys", "m.actionOf({key: '3'})") == "label-3"
    mask = "(() => { const k = new m.PaintedMask({width: 6, height: 5});"
    assert call(page, "label_mask", f"{mask} k.fill({SQUARE}); return k.encode(); }})()") == {
        "rle": "0 4 1 4 1 4 1 4 11", "width_px": 6, "height_px": 5,
    }  # fmt: skip
    assert call(page, "label_mask", f"{mask} return k.encode(); }})()") is None
    assert call(page, "label_rail", "m.answered(['A1/red', 'ok'], 'A1', 'A1/blue')") == [
        "ok", "A1/blue",
    ]  # fmt: skip
    assert call(page, "label_regions", "m.overlayOf(...a)", argument=OUTLINED)["regions"] == [
        {"box": [0, 0, 9, 9], "decision": "present", "text": "A1 blue"},
        {"box": [9, 0, 20, 9], "decision": "absent", "text": "top"},
    ]  # fmt: skip
    page.close()


OUTLINED = [
    {"view": [20, 9], "regions": [
        {"id": "A1", "box": [0, 0, 9, 9], "names": ["A1/red", "A1/blue"]},
        {"id": "top", "box": [9, 0, 20, 9], "names": ["disc"]},
    ]},
    {"labels": ["A1/blue"], "known": None}, {"state": "none"},
]  # fmt: skip
BOXED = {"label": "dent", "x0_px": 10, "y0_px": 10, "x1_px": 30, "y1_px": 20}
DRAWN = {
    "labels": [], "known": [], "mask": None, "count": None,
    "marked": [BOXED, BOXED | {"x1_px": 10, "y1_px": 10}],
    "polygons": [[[40, 10], [50, 10], [50, 20]]],
}  # fmt: skip


def test_a_corner_that_is_dragged_leaves_the_opposite_one_and_the_picture_s_edge(
    open_page: Callable[..., Any],
) -> None:
    page = open_page("/welcome").page
    code = """a[1].map(([kind, n, at, by]) => {
        const shape = {kind, n};
        const handle = m.handleAt(a[0], shape, at, 3);
        if (handle < 0) return handle;
        const {marked, polygons} = m.reshaped(a[0], shape, handle, by, {width: 60, height: 40});
        return kind === "mark" ? Object.values(marked[n]).slice(1) : polygons[n];
    })"""
    steps = [
        ["mark", 0, [11, 11], [-4, 3]], ["mark", 0, [30, 9], [5, -5]],
        ["mark", 0, [30, 20], [99, 99]], ["mark", 0, [10, 20], [30, 5]],
        ["mark", 0, [20, 15], [1, 1]], ["mark", 1, [10, 10], [1, 1]],
        ["polygon", 0, [49, 19], [99, -3]], ["mask", 0, [0, 0], [1, 1]],
    ]  # fmt: skip
    assert call(page, "label_handles", code, argument=[DRAWN, steps]) == [
        [6, 13, 30, 20], [10, 5, 35, 20], [10, 10, 60, 40], [30, 10, 40, 25],
        -1, -1, [[40, 10], [50, 10], [60, 17]], -1,
    ]  # fmt: skip
    keys = "[0, 1].map((n) => m.stepped(a, {kind: 'mark', n}, [10, 0], {width: 60, height: 40}, 1))"
    moved = call(page, "label_handles", f"{keys}.map((one) => one.marked)", argument=DRAWN)
    assert [[one["x0_px"], one["x1_px"]] for one in (moved[0][0], moved[1][1])] == [
        [10, 40], [20, 20],
    ]  # fmt: skip
    page.close()


def test_files_are_looked_at_before_they_are_kept(
    line: Any,  # noqa: ANN401  conftest's Line
    open_page: Callable[..., Any],
    tmp_path: Path,
) -> None:
    for name, seed in (("good/1.png", 11), ("dent/2.png", 12), ("dent/3.png", 13)):
        path = tmp_path / "parts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(seed))
    (tmp_path / "parts" / "dent" / "4.png").write_bytes(b"no picture")
    watched = open_page("/datasets")
    page = watched.page
    page.get_by_label("Into dataset").fill("dropped")
    page.get_by_label("or a folder").set_input_files(tmp_path / "parts")
    report = page.locator("[data-report]")
    expect(report).to_contain_text("3 pictures read as folders, 3 of them new.")
    expect(report).to_contain_text("Labels: dent 2, good 1.")
    expect(report).to_contain_text("4.png")
    assert "dropped" not in [one.name for one in line.hub.services.datasets.all()]
    assert assess(page) == []
    report.get_by_role("button", name="Keep 3 pictures").click()
    page.wait_for_url(f"{line.url}/datasets/dropped")
    assert line.hub.services.datasets.one("dropped").labels == {"dent": 2, "good": 1}
    watched.quiet()


def test_a_package_suggests_and_its_answer_is_accepted(
    line: Any,  # noqa: ANN401  conftest's Line
    open_page: Callable[..., Any],
) -> None:
    watched = open_page("/datasets/rack/label")
    page = watched.page
    expect(page.locator("[data-where]")).to_have_text("1 of 2")
    expect(page.get_by_label("Regions on the picture")).to_have_value("stock")
    page.locator("[data-region=A1]").focus()
    page.locator("[data-where]").click()
    page.keyboard.press("s")
    expect(page.locator("[data-suggestion]")).to_contain_text("Accept it, then mend it.")
    page.keyboard.press("a")
    expect(page.locator("[data-saved]")).to_contain_text("Saved")
    labels = line.hub.services.labelling.rows("rack")[0].labels
    assert len(labels) >= 7
    assert page.locator("[data-region=A1]").input_value() in {"", *labels}
    files = "performance.getEntriesByType('resource').filter((e) => e.name.includes('/static/'))"
    sizes = page.evaluate(f"{files}.map((e) => e.transferSize)")
    whole = sum(sizes) + len(page.context.request.get(page.url).body())
    assert whole < 250_000
    watched.quiet()
