"""Every page in both themes and three sizes: quiet console, no other host, no axe finding."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from lineside.core import FrameId
from lineside.core.shifts import Shift
from lineside.hub.pages.site import STATIC
from lineside.store import FrameAnswer
from lineside.streams import PREDICTION_TYPE, VERDICT_TYPE, Event
from lineside.vision.verdict import PartVerdict

pytestmark = pytest.mark.browser

AXE = (Path(__file__).parent / "vendor" / "axe-4.14.1.min.js").read_text()
THEMES: tuple[Literal["dark", "light"], ...] = ("dark", "light")
SIZES = {"wide": (1440, 900), "full": (1920, 1080), "narrow": (390, 844)}
RUN_AXE = """async (rules) => {
    if (rules?.length === 0) return [];
    const only = rules ? {runOnly: rules} : {};
    const asked = {resultTypes: ["violations"], preload: false, ...only};
    const answer = await axe.run(document, asked);
    const places = (v) => v.nodes.slice(0, 3).map((n) => n.html).join(" | ");
    const found = answer.violations.map((v) => `${v.id}: ${v.help}: ${places(v)}`);
    if (!rules && answer.passes.length < 10) found.push("axe looked at next to nothing");
    return found;
}"""
# The rules of axe that a theme can change: it changes colours alone.
COLOURS = ["color-contrast", "link-in-text-block"]
# Theme, size and rules (None: all); no style tells a window of 1920 px from one of 1440 px.
LOOKS: tuple[tuple[Literal["dark", "light"], str, list[str] | None], ...] = (
    ("dark", "full", []), ("dark", "wide", None), ("dark", "narrow", None),
    ("light", "wide", COLOURS), ("light", "narrow", COLOURS),
)  # fmt: skip
# Two frames were drawn; a browser that draws none, which a loaded machine's may for minutes, is not
# waited for: what axe reads is the layout, which stands without.
DRAWN = """() => new Promise((done) => {
    requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done)));
    setTimeout(done, 5000);
})"""
OVER = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


def addresses(line: Any) -> Iterator[str]:  # noqa: ANN401  conftest's Line
    services = line.hub.services
    frame = services.frames.page(camera="rack", limit=1)[0].id
    event = services.events.page(kind="lineside.prediction.v1", newest_first=True, limit=1)[0].id
    yield from (
        "/", "/lines?wall=1", "/lines/warehouse/rack", "/twin", f"/frames/{frame}", "/datasets",
        "/datasets/rack", "/datasets/rack/label", "/datasets/rack/versions/1", "/training",
        "/training/run_01J9ZQ00000000000000000001", "/training/run_01J9ZQ00000000000000000002",
        "/models", f"/models/{line.package}", "/try",
        f"/regions?frame={frame}", "/review", "/pictures", "/events",
        "/events/rules", "/events/rules/try", f"/events/{event}", "/rejected-messages", "/devices",
        "/devices/edge-1", "/setup", "/setup/camera", "/setup/text", "/setup/history",
        "/setup/settings", "/setup/users", "/setup/password", "/inspections/new",
        "/inspections/stock/operating-point",
        "/search?q=edge", "/search?q=nothing-like-it", "/welcome",
    )  # fmt: skip


SHOTS = {
    "/": "lines", "/lines?wall=1": "wall", "/lines/warehouse/rack": "camera", "/twin": "twin",
    "/frames/": "frame", "/datasets/rack/label": "label",
    "/training/run_01J9ZQ00000000000000000001": "run", "/models/": "model",
    "/regions?": "regions", "/pictures": "pictures", "/events": "events",
    "/devices": "devices", "/setup/camera": "set-up", "/setup/users": "users",
    "/inspections/new": "new-inspection",
    "/inspections/stock/operating-point": "operating-point",
}  # fmt: skip
SHOT_THEMES: dict[str, tuple[Literal["dark", "light"], ...]] = {"twin": THEMES, "wall": ("dark",)}
MOST_SHOT_BYTES = 140_000


def take_shots(page: Page, address: str, *, folder: Path) -> None:
    """Keep pictures of a main page, if it is one."""
    name = next((SHOTS[key] for key in SHOTS if address == key), "") or next(
        (SHOTS[key] for key in SHOTS if key.endswith(("s/", "?")) and address.startswith(key)), ""
    )
    page.wait_for_load_state("networkidle")
    if name:
        take_shot(page, name, folder=folder)


def take_shot(page: Page, name: str, *, folder: Path | None) -> None:
    """Keep a picture of a page, 1440 x 900, light or as ``SHOT_THEMES`` says, in few colours.

    ``folder``: of ``--screenshots``; None where none are wanted.
    """
    if folder is None:
        return
    for theme in SHOT_THEMES.get(name, ("light",)):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        page.evaluate(DRAWN)
        path = folder / f"{name}{'-dark' if theme == 'dark' else ''}.png"
        with Image.open(BytesIO(page.screenshot())) as shot:
            for colours in (256, 128, 64):  # noise of a camera compresses badly
                few = shot.convert("RGB").quantize(
                    colours, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE
                )
                few.save(path, optimize=True)
                if path.stat().st_size < MOST_SHOT_BYTES:
                    break


def settle(page: Page) -> None:
    """Fonts and modules are there, and what the page opens first is open."""
    page.wait_for_load_state("load")
    page.evaluate("() => document.fonts.ready.then(() => true)")
    expect(page.locator("[aria-busy]")).to_have_count(0)


def assess(page: Page) -> list[str]:
    """What axe finds on the page as it stands."""
    page.evaluate(AXE)
    return list(page.evaluate(RUN_AXE))


def assess_themes(page: Page) -> list[str]:
    """The same in the light theme, and of its colours in the dark one."""
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    found = assess(page)
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    return found + list(page.evaluate(RUN_AXE, COLOURS))


def faults(page: Page, *, of: str = "") -> list[str]:
    """What axe finds and what does not fit in both themes while the window takes every size."""
    page.evaluate(AXE)
    found: list[str] = []
    before = page.viewport_size
    assert before is not None
    for theme, name, rules in LOOKS:
        width, height = SIZES[name]
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": height})
        page.evaluate(DRAWN)
        found += [f"{of} {theme} {name}: {finding}" for finding in page.evaluate(RUN_AXE, rules)]
        found += [
            f"{of} {name}: {over} px wider than the window"
            for over in [page.evaluate(OVER)]
            if over > 0
        ]
    page.set_viewport_size(before)
    return found


@pytest.mark.parametrize("part", range(4))
def test_every_page_is_quiet_accessible_and_fits(
    line: Any,  # noqa: ANN401  conftest's Line
    open_page: Callable[..., Any],
    pytestconfig: pytest.Config,
    *,
    part: int,
) -> None:
    found, shots = [], pytestconfig.getoption("--screenshots")
    for address in list(addresses(line))[part::4]:
        watched = open_page(address)
        settle(watched.page)
        if shots:
            take_shots(watched.page, address, folder=shots)
        found += faults(watched.page, of=address)
        found += [f"{address}: {said}" for said in watched.complaints + watched.strangers]
        watched.page.close()
    assert not found, "\n".join(found)


def test_what_a_click_brings_is_accessible_too(
    line: Any,  # noqa: ANN401  conftest's Line
    open_page: Callable[..., Any],
) -> None:
    twin = open_page("/twin").page
    twin.get_by_role("button", name="White").click()
    twin.locator("[data-orders] .steps li").first.wait_for()
    twin.locator("[data-select='slot:A1']").click()
    twin.locator("[data-evidence] figure").wait_for()
    assert assess_themes(twin) == []
    twin.evaluate("() => document.querySelector('dialog').showModal()")
    twin.locator("[data-alert-text]").evaluate("(p) => { p.textContent = 'Out of stock'; }")
    assert assess_themes(twin) == []
    twin.close()

    frames = line.hub.services.frames
    frame = frames.page(camera="rack", limit=1)[0].id
    tried = open_page("/try").page
    tried.locator("input[type=file]").set_input_files(
        {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": frames.picture(frame).data}
    )
    tried.get_by_role("button", name="Ask").click()
    tried.locator("[data-result] table").wait_for()
    assert assess_themes(tried) == []
    tried.close()

    regions = open_page("/regions?camera=rack").page
    regions.locator("[data-id=B2]").focus()
    assert assess_themes(regions) == []
    silent = open_page("/").page
    silent.locator(".tile").first.evaluate("(one) => { one.dataset.state = 'no signal'; }")
    assert assess_themes(silent) == []
    silent.close()

    model = open_page(f"/models/{line.package}").page
    model.locator("summary").first.click()
    assert assess_themes(model) == []
    shown = open_page(f"/frames/{frame}").page
    shown.get_by_role("button", name="Verify audit trail").click()
    shown.locator("#provenance [role=status]").wait_for()
    assert assess_themes(shown) == []


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


def reject_part(line: Any) -> None:  # noqa: ANN401  conftest's Line
    """A rejected and an incomplete part more, with the newest picture of the rack."""
    services = line.hub.services
    for number, (verdict, reason) in enumerate(
        [("incomplete", "no answer of top"), ("reject", "scratch 0.93")]
    ):
        entry = services.events.page(kind=PREDICTION_TYPE, newest_first=True, limit=1)[0]
        data = entry.event["data"]
        answer = {
            "inspection": data["inspection"], "event": entry.id, "camera": "rack",
            "frame": data["frame"]["id"], "captured_at": data["frame"]["captured_at"],
            "package": data["package"], "verdict": verdict, "reasons": [reason],
        }  # fmt: skip
        given = {
            "schema": "lineside.verdict/1", "line": "warehouse", "part": f"plate-{number}",
            "verdict": verdict, "reasons": [reason], "frames": [answer["frame"]],
            "answers": [answer], "missing": [], "device": "",
        }  # fmt: skip
        event = Event(
            id=f"evt_part{number}", source=f"/{services.plant.site}/line/warehouse",
            type=VERDICT_TYPE, subject="warehouse", time=services.clock.now(),
            dataschema="lineside.verdict/1", data=given,
        )  # fmt: skip
        services.ledger.record([event])
        services.records.frames.answer(
            [
                FrameAnswer(
                    frame=FrameId(answer["frame"]), camera="rack", captured_at=entry.time,
                    inspection="look", package=answer["package"], verdict=PartVerdict.REJECT,
                    label="scratch", labels=("scratch",), score=0.93,
                )
            ]
        )  # fmt: skip


FITS = """() => {
  const root = document.documentElement;
  const small = [...document.querySelectorAll(".wall *")].filter((one) =>
    [...one.childNodes].some((node) => node.nodeType === 3 && node.nodeValue.trim())
    && one.checkVisibility() && !one.closest(".visually-hidden"));
  return {
    over: [root.scrollWidth - innerWidth, root.scrollHeight - innerHeight],
    least: Math.min(...small.map((one) => parseFloat(getComputedStyle(one).fontSize)))
      / innerHeight,
    outside: small.filter((one) => one.getBoundingClientRect().bottom > innerHeight + 1).length,
  };
}"""


def test_lines_and_their_wall_say_what_a_shift_made(
    line: Any,  # noqa: ANN401  conftest's Line
    open_page: Callable[..., Any],
) -> None:
    plant = line.hub.services.plant
    declared = replace(plant.line[0], limit_reject=1e-4, goal_yield=0.9)
    plant.become(
        replace(plant, line=(declared,), shift=(Shift(name="Day", begin="00:00", end="00:00"),))
    )
    reject_part(line)
    for size in ((1440, 900), (1920, 1080), (390, 844)):
        watched = open_page("/lines?span=shift", size=size)
        page = watched.page
        settle(page)
        rate = page.locator(".figures a", has_text="Reject rate")
        expect(rate.locator("small")).to_contain_text("Above the limit 0.0")
        expect(page.locator(".lines-strip li").first).to_contain_text("scratch")
        expect(page.locator(".lines-reasons tbody th").first).to_have_text("scratch")
        expect(page.locator(".lines-trend .over").first).to_be_attached()
        assert page.evaluate(OVER) <= 0
        assert assess_themes(page) == []
        watched.quiet()
        page.close()
    for size in ((1920, 1080), (3840, 2160), (390, 844)):
        watched = open_page("/lines?wall=1", size=size)
        page = watched.page
        settle(page)
        expect(page.locator(".wall-verdict .state")).to_be_visible()
        expect(page.locator(".wall-rejects li").first).to_contain_text("scratch")
        found = page.evaluate(FITS)
        if size[0] > 1000:
            assert (found["over"], found["outside"]) == ([0, 0], 0)
            assert found["least"] >= 36 / 1080 - 1e-3
        assert assess_themes(page) == []
        if size[0] == 1920:
            parts = page.locator(".wall-figures b").nth(1)
            expect(parts).not_to_have_text(parts.inner_text())
            others = tuple(replace(declared, id=f"line-{n}", name=f"Line {n}") for n in range(3))
            plant.become(replace(plant, line=(declared, *others)))
            expect(page.locator(".wall-line")).to_have_count(4)
            found = page.evaluate(FITS)
            assert (found["over"], found["outside"]) == ([0, 0], 0)
            assert assess_themes(page) == []
            plant.become(replace(plant, line=(declared,)))
            expect(page.locator(".wall-verdict .state")).to_have_count(1)
        watched.quiet()
        page.close()


def test_pages_of_the_manual_fit_a_narrow_window_show_plain_bars_and_need_no_network(
    chromium: Browser, tmp_path: Path
) -> None:
    build = (sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path))
    subprocess.run(build, check=True, cwd=Path(__file__).parents[2])
    page = chromium.new_page(viewport={"width": 390, "height": 844})
    wrong = []
    for built in sorted(tmp_path.rglob("index.html")):
        page.goto(built.as_uri())
        wrong += [built.parent.name] if page.evaluate(OVER) > 0 else []
        wrong += re.findall(r"<code>[^<]*\\\|[^<]*", built.read_text())
        wrong += re.findall(r"(?:src=|<link[^>]+href=)\"(?:https?:)?//[^\"]+", built.read_text())
    for style in tmp_path.rglob("*.css"):
        wrong += re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^\"')]+", style.read_text())
    page.close()
    assert wrong == []
