"""From an empty hub to an own inspection that answers, by page alone and in minutes."""

import io
import os
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect

from lineside.core import SystemClock
from lineside.hub import HubConfig, Role, RunningHub, running
from lineside.vision import decode_picture, encode_jpeg
from tests.browser.conftest import add_people, sign_in, watch
from tests.browser.test_pages import OVER, assess, settle

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

EMPTY = 'schema = "lineside.plant/1"\nsite = "hall"\nname = "Hall"\n'
OF_EACH = 5


@pytest.fixture
def screws(absent: Callable[[str, str], None], tmp_path: Path) -> Path:
    """Photos of screws on wood, small: ``gut`` where all four are there, else ``schlecht``."""
    data = Path(os.environ.get("LINESIDE_DATA", ""), "screw-presence", "images")  # noqa: TID251
    if not data.is_dir():
        absent("data", "no screw-presence below LINESIDE_DATA")
    found = sorted(data.glob("*.jpg"))
    kinds = {"gut": "_1111", "schlecht": "_00"}
    for name, ending in kinds.items():
        (tmp_path / "screws" / name).mkdir(parents=True)
        for file in [one for one in found if ending in one.stem][:OF_EACH]:
            small = decode_picture(file.read_bytes())[::3, ::3].copy()
            (tmp_path / "screws" / name / file.name).write_bytes(encode_jpeg(small))
    return tmp_path / "screws"


def zipped(folder: Path) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for file in sorted(folder.rglob("*.jpg")):
            archive.write(file, file.relative_to(folder).as_posix())
    return held.getvalue()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[RunningHub]:
    """A hub whose plant file names nothing, and no device."""
    plant = tmp_path / "plant.toml"
    plant.write_text(EMPTY)
    config = HubConfig(
        data_dir=str(tmp_path / "hub"), plant=str(plant), port=0, bus_port=0, single_person=True
    )
    with running(config, clock=SystemClock()) as opened:
        yield opened


def ask_and_show(page: Page, screws: Path) -> None:
    """From the empty page of lines to labelled pictures."""
    page.locator("#content").get_by_role("link", name="New inspection").click()
    page.get_by_role("link", name="Is the part good or bad?").click()
    page.get_by_label("Name of the inspection").fill("screws")
    page.get_by_label("Answers (comma-separated)").fill("gut, schlecht")
    page.get_by_role("button", name="Begin").click()
    page.wait_for_url("**/inspections/new/screws")
    upload = FilePayload(name="s.zip", mimeType="application/zip", buffer=zipped(screws))
    page.get_by_label("Files or a ZIP").set_input_files(upload)
    with page.expect_navigation():
        page.get_by_role("button", name="Keep 10 pictures").click()
    page.get_by_role("navigation", name="Steps").get_by_role("link", name="Labels").click()
    expect(page.get_by_role("row", name="schlecht")).to_contain_text("49")
    page.get_by_role("link", name="Label", exact=True).click()
    page.get_by_role("link", name="Back to New inspection").click()
    page.wait_for_url("**/inspections/new/screws?step=labels")


def confirm_good(page: Page) -> None:
    """The label of a good part is a guess until somebody confirms it."""
    expect(page.locator("[data-guess]")).to_contain_text("gut is taken for the label of a good")
    page.get_by_role("checkbox", name="gut").uncheck()
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("alert")).to_contain_text("Tick one or more")
    page.get_by_role("checkbox", name="gut").check()
    with page.expect_navigation():
        page.get_by_role("button", name="Confirm").click()
    expect(page.locator("[data-guess]")).to_have_count(0)


def put_in_use(page: Page, source: str) -> None:
    """From a result to a package in use on a camera and a line of its own."""
    page.get_by_label("Reason to approve").fill("Looks right")
    with page.expect_navigation():
        page.get_by_role("button", name="Approve").click()
    page.get_by_label("Id of the camera").fill("top")
    page.get_by_label("Source").fill(source)
    page.get_by_label("Line").fill("Line 1")
    page.get_by_label("Reason of the change").fill("First inspection")
    with page.expect_navigation():
        page.get_by_role("button", name="Add camera and inspection").click()
    page.get_by_label("Reason of the change").fill("First inspection")
    with page.expect_navigation():
        page.get_by_role("button", name="Put in use").click()
    with page.expect_navigation():
        page.get_by_role("button", name="Inspect on this machine").click()


def wait_for_answer(page: Page, *, picture: Path, line: Path) -> None:
    """A part passes the camera each time somebody looks, until it is answered."""
    pause = threading.Event()
    for number in range(200):
        if page.locator("[data-answer]").count():
            break
        (line / f"{number}.jpg").write_bytes(picture.read_bytes())
        pause.wait(0.3)
        page.get_by_role("link", name="Look again").click()
    expect(page.locator("[data-answer]")).to_be_visible()


def test_an_empty_hub_gets_an_inspection_of_its_own_that_answers(
    chromium: Browser, hub: RunningHub, screws: Path, tmp_path: Path
) -> None:
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light")
    watched = watch(context, hub.url)
    page = watched.page
    add_people(hub.services, people={"M. Keller": Role.ADMIN})
    sign_in(page, hub.url, name="M. Keller")

    ask_and_show(page, screws)
    page.get_by_role("link", name="Go on to the training").click()
    page.get_by_role("button", name="Train").click()
    expect(page.get_by_role("progressbar")).to_be_visible()
    expect(page.get_by_text("What it answered")).to_be_visible(timeout=500_000)
    expect(page.locator(".ni-headline")).to_contain_text("Of 100 bad parts")
    confirm_good(page)
    expect(page.locator(".ni-headline")).to_contain_text("Of 100 bad parts")
    settle(page)
    assert assess(page) == []
    (line := tmp_path / "line").mkdir()
    put_in_use(page, f"folder:{line}")
    wait_for_answer(page, picture=next((screws / "schlecht").iterdir()), line=line)

    assert "[[line]]" in Path(hub.services.config.plant).read_text()
    settle(page)
    assert assess(page) == []
    for width in (390, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(OVER) <= 0
    watched.quiet()
    context.close()
