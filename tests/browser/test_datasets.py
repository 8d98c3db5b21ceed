"""A dataset from its draft to a tagged version, its report and what changed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from lineside.core import digest_of
from lineside.datasets import Marked, Sample
from lineside.vision import encode_png

pytestmark = pytest.mark.browser


def picture(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    return encode_png(rng.integers(0, 256, (36, 48, 3)).astype(np.uint8))


def sample(seed: int, label: str) -> tuple[Sample, bytes]:
    encoded = picture(seed)
    box = Marked(label="hole", x0_px=5, y0_px=6, x1_px=20, y1_px=22)
    marked = (box,) if label == "bad" else ()
    name = f"{seed:03d}.png"
    return Sample(name=name, digest=digest_of(encoded), labels=(label,), marked=marked), encoded


def test_a_draft_is_parted_frozen_tagged_reported_and_compared(
    line: Any,  # noqa: ANN401  conftest's Line
    page: Callable[..., Page],
) -> None:
    library = line.hub.services.datasets._library
    library.add("tiles", [sample(n, "bad" if n % 4 == 0 else "good") for n in range(20)], by="ann")
    draft = page("/datasets/tiles")
    expect(draft.get_by_text("Split as its sources declare")).to_be_visible()
    drawn = draft.locator('.strip img[src$="/drawn"]')
    expect(drawn).to_have_count(5)
    assert drawn.first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 48

    draft.get_by_label("Train").fill("0.6")
    draft.get_by_label("Test", exact=True).fill("0.3")
    draft.get_by_role("button", name="Save split").click()
    expect(draft.get_by_text("train 0.6, valid 0.1, test 0.3, groups stay")).to_be_visible()
    draft.get_by_role("button", name="Freeze").click()
    draft.get_by_role("link", name="1", exact=True).click()
    expect(draft.get_by_text("20 of 20 pictures were compared")).to_be_visible()
    draft.get_by_label("Tag this version").fill("prod")
    draft.get_by_role("button", name="Add tag").click()
    expect(draft.get_by_role("link", name="version 1", exact=True)).to_be_visible()

    library.add("tiles", [sample(77, "bad")], by="ann")
    draft.goto(f"{line.url}/datasets/tiles")
    draft.get_by_role("button", name="Freeze").click()
    draft.get_by_role("link", name="changes").click()
    expect(draft.get_by_role("heading", name="Added, 1 picture")).to_be_visible()
    expect(draft.get_by_role("heading", name="Moved")).to_have_count(0)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_a_report_is_drawn_without_running_anything(
    *,
    line: Any,  # noqa: ANN401  conftest's Line
    page: Callable[..., Page],
    theme: str,
) -> None:
    library = line.hub.services.datasets._library
    library.add("bars", [sample(n, "bad" if n % 4 == 0 else "good") for n in range(12)], by="ann")
    library.freeze("bars", by="ann")
    report = page("/api/v1/datasets/bars/versions/1/report", theme=theme)
    expect(report.get_by_role("heading", level=1)).to_have_text("Data of bars, version 1")
    expect(report.get_by_role("img", name="Pictures of each label, by part")).to_be_visible()
    shown = report.locator("figure img")
    assert shown.count() > 5
    assert shown.first.evaluate("image => image.naturalWidth") > 0
    paper = report.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 23, 26)" if theme == "dark" else "rgb(255, 255, 255)")
