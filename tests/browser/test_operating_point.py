"""An operating point on its way, by page alone: previewed, approved, decided by, undone.

The rejects that it made are exported from the page of pictures.
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
from playwright.sync_api import Browser, Page, expect

from lineside.core import FrameId, SystemClock, decode, digest_of, encode
from lineside.hub.pages import pictures as pictures_page
from lineside.links import open_bus
from lineside.store import FrameFilter
from lineside.streams import PREDICTION_TYPE, Event, read_prediction
from lineside.testing.links import wait_until
from lineside.vision import Prediction
from lineside.vision.verdict import PartVerdict
from tests.browser.conftest import add_people, person
from tests.hub.conftest import DISC_PLANT
from tests.journeys.test_rollout import Plant, package, plant_running

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ADDRESS = "/inspections/stock/operating-point"
REJECTS = FrameFilter(verdicts=(PartVerdict.REJECT,))
# A part with a disc is rejected.
REJECTING_PLANT = DISC_PLANT.replace(b'id = "stock"', b'id = "stock"\nreject = ["disc"]')


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with plant_running(tmp_path, package("first"), toml=REJECTING_PLANT, names=("edge-1",)) as made:
        add_people(made.hub.services)
        yield made


def decides_by(plant: Plant, digest: str) -> bool:
    """Whether the newest recorded answer was decided by it."""
    page = plant.hub.services.events.page(kind=PREDICTION_TYPE, newest_first=True, limit=1)
    return bool(page) and page[0].event["data"]["operating_point"] == digest


def newest_answer(plant: Plant) -> Prediction:
    page = plant.hub.services.events.page(kind=PREDICTION_TYPE, newest_first=True, limit=1)
    return read_prediction(decode(Event, page[0].event, where="newest"))


def wait_for(plant: Plant, number: int) -> str:
    """Wait until the device decides by an approved version; its digest."""
    point = plant.hub.services.points.one("stock", number).point
    assert point is not None
    wait_until(lambda: decides_by(plant, point.digest))
    return str(point.digest)


def reports(plant: Plant, digest: str) -> bool:
    """Whether the device's newest status names it."""
    packages = plant.hub.services.devices.some(["edge-1"])[0].packages
    return any(one.get("operating_point") == digest for one in packages)


def faults(plant: Plant) -> list[str]:
    return [
        str(one) for one in plant.hub.services.devices.some(["edge-1"])[0].status.get("faults", [])
    ]


def propose(page: Page, *, low: str, high: str, effect: str, reason: str) -> None:
    """Move both limits, look at what they would have done, and ask for approval."""
    page.get_by_label("Decided above, slider").fill(high)
    page.get_by_label("Review from, slider").fill(low)
    expect(page.get_by_label("Review from", exact=True)).to_have_value(low)
    expect(page.locator("[data-recorded]")).to_contain_text(effect)
    page.get_by_placeholder("Too many good plates rejected").fill(reason)
    with page.expect_navigation():
        page.get_by_role("button", name="Ask for approval").click()


def approve(page: Page, url: str, *, reason: str) -> None:
    page.goto(url + ADDRESS)
    page.get_by_label("Reason to approve").fill(reason)
    with page.expect_navigation():
        page.get_by_role("button", name="Approve").click()


def roll_back(page: Page, url: str, *, to: str) -> None:
    page.goto(url + ADDRESS)
    page.get_by_text("Roll back to these limits").click()
    page.get_by_role("listitem").filter(has_text=to).get_by_label("Reason").fill("escapes")
    with page.expect_navigation():
        page.get_by_role("button", name="Roll back").click()


def exported_rejects(page: Page, url: str) -> ZipFile:
    """Every reject of the last hour with its picture, as the page of pictures gives them."""
    page.goto(url + "/pictures")
    page.get_by_role("link", name="Last hour").click()
    page.wait_for_url("**since=*")
    page.get_by_role("group", name="Verdict").get_by_text("reject", exact=True).click()
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**verdict=reject*")
    page.locator("[data-select]").first.click()
    page.get_by_role("button", name=re.compile("^Select all")).click()
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Pictures and labels.csv (ZIP)").click()
    return ZipFile(download.value.path())


def test_a_moved_limit_decides_on_the_device_within_seconds_and_goes_back(
    chromium: Browser, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures_page, "_PAGE", 6)
    url, frames = plant.hub.url, plant.hub.services.records.frames
    wait_until(lambda: decides_by(plant, ""))
    with person(chromium, url, "Ada Engine") as ada, person(chromium, url, "Eve Approve") as eve:
        ada.page.goto(url + ADDRESS)
        propose(ada.page, low="0", high="1", effect="more reviews", reason="see all")
        expect(ada.page.get_by_role("button", name="Approve")).to_be_disabled()
        expect(ada.page.get_by_text("Requires the role approver or admin.")).to_be_visible()
        approve(eve.page, url, reason="saw the preview")
        first = wait_for(plant, 1)
        said = newest_answer(plant)
        assert {one.name: one.decision for one in said.labels}["disc"] == "unsure"
        assert plant.runs() == {"edge-1": plant.versions[0]}
        wait_until(lambda: bool(frames.find(FrameFilter(frames=(said.frame.id,))).frames))
        eve.page.goto(f"{url}/frames/{said.frame.id}")
        eve.page.get_by_text("Inspection details: stock").click()
        expect(eve.page.get_by_text("decided by operating point 1")).to_be_visible()

        # Forged on the bus: the bytes are nobody's, and the former point stays.
        def say(digest: str) -> None:
            wanted = {
                "inspection": "stock", "digest": plant.versions[0], "url": f"{url}/x",
                "operating_point": {"digest": digest, "url": f"{url}/x"},
            }  # fmt: skip
            desired = encode({"schema": "lineside.desired/1", "packages": [wanted]})
            bus.publish("lineside/hall/device/edge-1/desired", desired, qos=1)

        bus = open_bus(plant.hub.bus_url, client_id="intruder", clock=SystemClock())
        say(digest_of(b"forged"))
        wait_until(lambda: any("is not signed for this device" in one for one in faults(plant)))
        assert decides_by(plant, first)

        propose(ada.page, low="0.001", high="0.002", effect="more rejects", reason="less")
        approve(eve.page, url, reason="better")
        second = wait_for(plant, 2)
        wait_until(lambda: frames.count(REJECTS).frames > pictures_page._PAGE)
        roll_back(eve.page, url, to="Version 1")
        back = wait_for(plant, 3)
        assert plant.hub.services.points.one("stock", 3).limits == (
            plant.hub.services.points.one("stock", 1).limits
        )
        wait_until(lambda: reports(plant, back))  # the page does not update by itself
        eve.page.goto(f"{url}/devices/edge-1")
        expect(eve.page.get_by_role("link", name="version 3")).to_be_visible()

        # Every part before this one is in the pictures then, and none after it is a reject.
        last = FrameFilter(frames=(newest_answer(plant).frame.id,), verdicts=(PartVerdict.REVIEW,))
        wait_until(lambda: bool(frames.find(last).frames))
        found = exported_rejects(eve.page, url)
        rows = list(csv.DictReader(io.StringIO(found.read("labels.csv").decode())))
        assert len(rows) == frames.count(REJECTS).frames > pictures_page._PAGE
        assert {(row["verdict"], row["label"]) for row in rows} == {("reject", "disc")}
        for row in rows:
            assert digest_of(found.read(row["file"])) == frames.get(FrameId(row["frame"])).digest

        # An older signed one, said again by somebody on the bus, is refused.
        say(second)
        wait_until(lambda: any("is older than" in one for one in faults(plant)))
        assert decides_by(plant, back)
        bus.close()
        ada.quiet()
        eve.quiet()
