"""The bin counter in a browser: choose, upload, compare, correct; every failure in words."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from lineside.core import SystemClock
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, RunningHub, running
from lineside.hub.config import FunctionConfig
from tests.browser.conftest import Watched, sign_in_by_link, watch
from tests.browser.test_pages import SIZES, faults, settle
from tests.hub.counting.squares import PLANT, bin_jpeg, count_package, write_store

pytestmark = pytest.mark.browser


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A hub that counts, and a way to sign in to it."""

    hub: RunningHub
    folder: Path

    def signed_in(self, browser: Browser, name: str, **options: Any) -> BrowserContext:  # noqa: ANN401  Playwright's own
        context = browser.new_context(**options)
        page = context.new_page()
        sign_in_by_link(page, self.hub, name=name)
        page.close()
        return context


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("store")
    (folder / "plant.toml").write_bytes(PLANT)
    pictures = write_store(folder / "amazon-bin-images-sub")
    function = FunctionConfig(
        name="serve-cv-object-counter",
        endpoint="bin-counter",
        store=SecretUrl(pictures.as_uri()),
        prefix="bin-images/",
        records="metadata/",
    )
    config = HubConfig(
        data_dir=str(folder / "hub"),
        plant=str(folder / "plant.toml"),
        port=0,
        bus_port=0,
        function=(function,),
    )
    with running(config, clock=SystemClock()) as hub:
        digest = hub.services.packages.add(count_package(), by="test").digest
        hub.services.packages.use(digest, inspection="contents", by="M. Keller", reason="first")
        yield Store(hub=hub, folder=pictures)


@pytest.fixture
def open_count(chromium: Browser, store: Store) -> Iterator[Callable[..., Watched]]:
    """The counter's page for somebody, in a context of their own."""
    contexts: list[BrowserContext] = []

    def opened(name: str = "M. Keller", *, theme: str = "dark", size: str = "wide") -> Watched:
        width, height = SIZES[size]
        options = {"color_scheme": theme, "viewport": {"width": width, "height": height}}
        contexts.append(store.signed_in(chromium, name, **options))
        watched = watch(contexts[-1], store.hub.url)
        watched.page.goto(f"{store.hub.url}/count")
        settle(watched.page)
        return watched

    yield opened
    for context in contexts:
        context.close()


def choose(page: Page, picture: str) -> None:
    page.get_by_role("combobox", name="Picture").fill(picture)
    page.get_by_role("button", name="Count objects", exact=True).click()


def upload(page: Page, data: bytes) -> None:
    picture = {"name": "bin.jpg", "mimeType": "image/jpeg", "buffer": data}
    page.locator("input[type=file]").set_input_files(picture)  # type: ignore[arg-type]  # Playwright's own
    page.get_by_role("button", name="Count objects in it").click()


def test_a_chosen_picture_shows_count_chances_and_agreement(
    open_count: Callable[..., Watched],
) -> None:
    watched = open_count()
    page = watched.page
    choose(page, "4")
    expect(page.get_by_role("heading", level=1)).to_have_text("3 objects")
    expect(page.get_by_text("The record says 3 objects, and so does the picture.")).to_be_visible()
    expect(page.locator(".chances tbody tr")).to_have_count(7)
    image = page.get_by_role("img", name="The picture that was counted")
    assert image.evaluate("(one) => one.decode().then(() => one.naturalWidth)") == 64
    watched.quiet()


def test_where_the_package_looked_lies_over_the_picture(
    open_count: Callable[..., Watched],
) -> None:
    watched = open_count()
    page = watched.page
    choose(page, "4")
    page.get_by_label("Activation map").check()
    layer = page.get_by_role("img", name="Activation map")
    expect(layer).to_be_visible()
    page.wait_for_function("() => document.querySelector('img.heat').naturalWidth === 64")
    page.get_by_label("Activation map").uncheck()
    expect(layer).to_be_hidden()
    watched.quiet()


def test_stepping_through_the_pictures_on_offer(open_count: Callable[..., Watched]) -> None:
    page = open_count().page
    field = page.get_by_role("combobox", name="Picture")
    expect(field).to_have_value("00001.jpg")
    page.get_by_role("button", name="Previous picture").click()
    expect(field).to_have_value("00001.jpg")
    for _ in range(5):
        page.get_by_role("button", name="Next picture").click()
    expect(field).to_have_value("00006.jpg")
    page.get_by_role("button", name="Count objects", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("5 objects")
    expect(page.get_by_text("the picture rules that out. Count the bin.")).to_be_visible()


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        ("00008.jpg", "a JPEG without a frame header"),
        ("00999.jpg", "is not among the pictures on offer"),
        ("../metadata/00001.json", "is not among the pictures on offer"),
    ],
)
def test_an_unreadable_and_a_missing_picture_are_errors_in_words(
    open_count: Callable[..., Watched], picture: str, said: str
) -> None:
    watched = open_count("Nobody Yet")
    page = watched.page
    choose(page, picture)
    alert = page.get_by_role("alert")
    expect(alert).to_be_visible()
    assert said in (alert.text_content() or "")
    assert page.url.endswith("/count")
    assert "1 object" not in (page.locator("main").text_content() or "")
    watched.quiet(but="Failed to load resource")


def test_an_uploaded_picture_and_what_is_no_picture(open_count: Callable[..., Watched]) -> None:
    page = open_count().page
    upload(page, b"GIF89a no picture")
    expect(page.get_by_role("alert")).to_contain_text("neither JPEG nor PNG")
    upload(page, bin_jpeg(2, seed=4))
    expect(page.get_by_role("heading", level=1)).to_have_text("2 objects")


def test_a_correction_goes_into_a_dataset_and_into_the_history(
    open_count: Callable[..., Watched], store: Store
) -> None:
    page = open_count().page
    choose(page, "5")
    expect(page.get_by_role("heading", level=1)).to_have_text("4 objects")
    page.get_by_label("How many do you see?").fill("3")
    page.get_by_role("combobox", name="Dataset").fill("seen")
    page.get_by_role("button", name="Add to the dataset").click()
    expect(page.get_by_text("M. Keller counted 3")).to_be_visible()
    (sample,) = store.hub.services.datasets.draft("seen").samples
    assert sample.count == 3
    page.get_by_role("link", name="Count another").click()
    expect(page.get_by_role("link", name="00005.jpg").first).to_be_visible()


def test_the_pages_are_accessible_and_fit(
    open_count: Callable[..., Watched], request: pytest.FixtureRequest
) -> None:
    watched = open_count()
    page = watched.page
    folder = request.config.getoption("--basetemp", None)
    for picture in ("", "6", "7", "9"):
        if picture:
            page.goto(page.url.partition("/count")[0] + "/count")
            choose(page, picture)
            page.locator(".crumbs").wait_for()
            settle(page)
        assert faults(page) == []
        if folder:
            page.screenshot(path=f"{folder}/count-{picture or 'start'}.png")
    watched.quiet()
