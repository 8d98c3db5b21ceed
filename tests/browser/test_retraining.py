"""From an unsure part to a better version in use, by page alone.

Reviewed, its defect painted, trained on, compared, approved by another person, tried on a canary.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from lineside.core import digest_of
from lineside.datasets import Sample
from lineside.datasets.annotations import Annotation
from lineside.hub.learning.labelling import AnnotationChange
from lineside.hub.services import Services
from lineside.models import build_package
from lineside.streams import PREDICTION_TYPE
from lineside.testing.links import wait_until
from lineside.vision import encode_png
from tests.browser.conftest import add_people, person
from tests.browser.test_label_page import drag
from tests.journeys.test_rollout import Plant, plant_running
from tests.models import test_mask_head as bright_spots

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]

NAMES = ("edge-1", "edge-2")
TOML = b"""
schema = "lineside.plant/1"
site = "hall"
[[line]]
id = "line-1"
name = "Line 1"
[[camera]]
id = "top"
line = "line-1"
source = "mqtt:i/cam"
[[inspection]]
id = "spots"
camera = "top"
task = "segment"
labels = ["good", "spot"]
[[route]]
topic = "i/cam"
kind = "frame"
camera = "top"
"""
WIDTH, HEIGHT = 80, 60
SPOT = ((32.0, 24.0), (48.0, 24.0), (48.0, 36.0), (32.0, 36.0))


def part(seed: int, *, spot: bool) -> bytes:
    """Dark grain; the spot is so dim that the first package cannot tell."""
    image = np.random.default_rng(seed).integers(30, 70, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    if spot:
        image[24:36, 32:48] = 128
    return encode_png(image)


def archive() -> bytes:
    """A package that calls what is bright a spot."""
    made = bright_spots.package(bright_spots.network())
    files = {name: made.files[name] for name in ("network.onnx", "golden/0.png")}
    return build_package(replace(made.manifest, name="spots", inspection="spots"), files)


def teach(services: Services) -> None:
    """The dataset that the first package is of: good parts, and painted spots."""
    for seed in range(100, 116):
        picture, is_spot = part(seed, spot=seed % 2 == 0), seed % 2 == 0
        sample = Sample(name=f"{seed}.png", digest=digest_of(picture))
        services.datasets._library.add("spots", [(sample, picture)], by="ann")
        revision = services.labelling.one("spots", sample.digest).revision
        annotation = (
            Annotation(labels=("spot",), polygons=(SPOT,))
            if is_spot
            else Annotation(labels=("good",))
        )
        change = AnnotationChange(revision=revision, annotation=annotation)
        services.labelling.save("spots", sample.digest, change, by="ann")


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    pictures = [part(seed, spot=seed % 2 == 0) for seed in range(20)]
    with plant_running(
        tmp_path, archive(), toml=TOML, names=NAMES, inspection="spots", group="spots",
        pictures=pictures,
    ) as made:  # fmt: skip
        add_people(made.hub.services)
        teach(made.hub.services)
        yield made


def review(page: Page, url: str) -> None:
    """Answer the part that the package is unsure of, for the dataset, and open it to draw."""
    page.goto(url + "/review")
    expect(page.get_by_text("Why it is here")).to_be_visible()
    page.get_by_label("Also add to dataset").select_option("spots")
    page.get_by_role("button", name="spot").click()
    expect(page.get_by_role("status").first).to_contain_text("Answered spot, added to spots.")
    page.get_by_role("link", name="Draw on it").click()


def paint(page: Page) -> None:
    """Paint the defect and go on to the training."""
    expect(page.locator("[data-where]")).to_contain_text("of 17")
    expect(page.locator("[data-name='spot']")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("b")
    drag(page, (0.45, 0.5), (0.55, 0.5))
    expect(page.locator("[data-shapes] li")).to_have_count(1)
    expect(page.locator("[data-saved]")).to_contain_text("Saved")
    page.get_by_role("link", name="Train", exact=True).click()


def train(page: Page) -> None:
    """Train with what learns from any of the parts, and open the version that comes of it."""
    page.get_by_text("Settings of the learner").click()
    page.get_by_label("Settings", exact=False).last.fill("steps = 40, side_px = 32, zoom = 1")
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.get_by_role("progressbar")).to_be_visible()
    expect(page.locator(".ni-result")).to_be_visible(timeout=500_000)
    page.get_by_role("link", name="version 2 of spots").click()


def roll_out(page: Page) -> None:
    """To one device, then to all; the answers may well be others."""
    page.get_by_role("link", name="Roll out").click()
    page.get_by_label("Reason", exact=True).fill("It was unsure of dim spots")
    page.get_by_role("button", name="Remove wave 2").click()
    page.get_by_label("Frames judged on each device").fill("10")
    page.get_by_text("Limits of the comparison with the version before").click()
    for name in ("Decided otherwise", "New findings", "Lost findings", "Newly unsure"):
        page.get_by_label(name).fill("99")
    page.get_by_label("Mean score moved by").fill("0.99")
    page.get_by_label("But always allowed slower (ms)").fill("5000")
    page.get_by_role("button", name="Start rollout").click()
    page.wait_for_url("**/rollouts/rol_*")
    expect(page.locator("[data-standing] .state")).to_have_text("done", timeout=200_000)


def newest_package(services: Services) -> str:
    """The package of the newest recorded answer."""
    newest = services.events.page(kind=PREDICTION_TYPE, newest_first=True, limit=1)[0]
    return str(newest.event["data"]["package"])


def test_an_unsure_part_leads_to_a_better_version_in_use(chromium: Browser, plant: Plant) -> None:
    url, services = plant.hub.url, plant.hub.services
    wait_until(lambda: services.reviews.count() > 0)
    with person(chromium, url, "Ada Engine") as ada, person(chromium, url, "Eve Approve") as eve:
        review(ada.page, url)
        paint(ada.page)
        train(ada.page)
        expect(ada.page.get_by_role("button", name="Approve")).to_be_disabled()
        version = services.models.one("spots", 2)
        wait_until(lambda: services.models.comparison(version) is not None)
        eve.page.goto(f"{url}/models/groups/spots/2")
        expect(eve.page.locator("[data-comparison]")).to_contain_text("which is in use")
        expect(eve.page.locator("[data-comparison]")).to_contain_text(re.compile("Right on [1-9]"))
        eve.page.get_by_label("Reason to approve").fill("It sees dim spots")
        with eve.page.expect_navigation():
            eve.page.get_by_role("button", name="Approve").click()
        roll_out(eve.page)
        eve.page.goto(f"{url}/models/groups/spots/2")
        expect(eve.page.get_by_text("in use for spots")).to_be_visible()
        ada.quiet()
        eve.quiet()
    assert services.packages.in_use("spots") == version.digest
    assert services.runs.all()[0].started_by == "Ada Engine"
    wait_until(lambda: plant.runs() == dict.fromkeys(NAMES, str(version.digest)))
    wait_until(lambda: newest_package(services) == version.digest)
