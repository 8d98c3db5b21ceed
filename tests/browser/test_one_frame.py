"""Picture and answers are of one frame: pictures carry their number, and so do their answers.

The number stands in the picture as eight bars, white for 1, and in the answer as a count. Whatever
a page shows at any moment has to be the same number twice.
"""

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from lineside.core import SystemClock, digest_of, encode, frame_id, rfc3339
from lineside.hub import HubConfig, RunningHub, running
from lineside.links import Message
from lineside.streams import encode_event, prediction_event
from lineside.testing.bare import bare_prediction
from lineside.testing.links import wait_until
from lineside.vision import (
    BoxAnswer,
    CountAnswer,
    Decision,
    FrameRef,
    Prediction,
    encode_jpeg,
    open_frame,
)
from tests.browser.conftest import Watched, sign_in_by_link, watch
from tests.edge.page.pages import Shown, said_of, shown
from tests.hub.counting.squares import count_package

pytestmark = pytest.mark.browser

CLOCK = SystemClock()
PACKAGE = digest_of(b"package")
NOTHING = "\N{EN DASH}"
PLANT = """
schema = "lineside.plant/1"
site = "numbers"
name = "Numbers"
[[line]]
id = "l"
name = "Line"
[[camera]]
id = "cam"
name = "Camera"
line = "l"
source = "mqtt:cam"
[[camera]]
id = "beside"
name = "Camera beside it"
line = "l"
source = "mqtt:beside"
[[inspection]]
id = "contents"
camera = "cam"
task = "count"
[[inspection]]
id = "again"
camera = "cam"
task = "count"
[[route]]
topic = "cam"
kind = "frame"
camera = "cam"
"""
SEEN = """async ({seconds, canvas, places}) => {
    const number = (drawn) => {
        const { width, height } = drawn, pixels = drawn.getContext("2d");
        const shown = Math.min(width / 160, height / 120);
        let found = 0;
        for (let bar = 0; bar < 8; bar++) {
            const x = (width - 160 * shown) / 2 + (20 * bar + 10) * shown;
            const [grey] = pixels.getImageData(Math.round(x), Math.round(height * 0.8), 1, 1).data;
            found = 2 * found + (grey > 128 ? 1 : 0);
        }
        return found;
    };
    const seen = [];
    const ends = performance.now() + seconds * 1000;
    while (performance.now() < ends) {
        await new Promise((done) => { requestAnimationFrame(done); setTimeout(done, 500); });
        const drawn = document.querySelector(canvas);
        if (!drawn || !drawn.width) continue;
        const words = places.map((each) => document.querySelector(each)?.textContent ?? "");
        seen.push([number(drawn), ...words]);
    }
    return seen;
}"""


EDGES = """async ({place, edges}) => {
    const drawn = document.querySelector(place), pixels = drawn.getContext("2d");
    const shown = Math.min(drawn.width / 1280, drawn.height / 960);
    const left = (drawn.width - 1280 * shown) / 2, top = (drawn.height - 960 * shown) / 2;
    return edges.map(([x, y]) => {
        const at = [Math.round(left + x * shown) - 3, Math.round(top + y * shown) - 3, 7, 7];
        return Math.max(...pixels.getImageData(...at).data.filter((_, n) => n % 4 < 3));
    });
}"""


MOST = 252
"""Numbers begin again after so many, which 7 and 18 divide; 0 is a canvas without a picture."""


def numbered(number: int) -> bytes:
    """A picture of 160 x 120 px whose eight bars are the number's bits."""
    image = np.zeros((120, 160, 3), np.uint8)
    for bar, bit in enumerate(f"{number:08b}"):
        image[:, 20 * bar : 20 * bar + 20] = 255 if bit == "1" else 0
    return encode_jpeg(image, quality=95)


def counted(ref: FrameRef, number: int, *, inspection: str, package: str = PACKAGE) -> Prediction:
    count = CountAnswer(value=number, low=number, high=number, decision=Decision.PRESENT)
    return bare_prediction(
        ref, inspection=inspection, task="count", count=count, package=package, device="edge-1"
    )


class Factory:
    """Sends numbered pictures, and their answers as a device does."""

    def __init__(self, hub: RunningHub) -> None:
        self._hub = hub
        self._told = 0
        status = {
            "schema": "lineside.device/1", "device": "edge-1", "state": "online",
            "version": "0.1.0", "at": rfc3339(CLOCK.now()), "packages": [], "spool_depth": 0,
        }  # fmt: skip
        topic = "lineside/numbers/device/edge-1/status"
        hub.services.device_ingest.take([Message(topic=topic, payload=encode(status))])

    def send(
        self, number: int, *, at: datetime, answers: tuple[str, ...], package: str = PACKAGE
    ) -> None:
        ref = self._see(numbered(number), at=at)
        for inspection in answers:
            self._answer(counted(ref, number, inspection=inspection, package=package))

    def show(self, picture: bytes, *, box: tuple[float, float, float, float], at: datetime) -> None:
        """A picture on which one object was found."""
        x0, y0, x1, y1 = box
        found = BoxAnswer(label="o", x0_px=x0, y0_px=y0, x1_px=x1, y1_px=y1, probability=0.9)
        answer = counted(self._see(picture, at=at), 1, inspection="contents")
        self._answer(replace(answer, boxes=(found,)))

    def _see(self, picture: bytes, *, at: datetime) -> FrameRef:
        data = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
        body = encode({"ts": rfc3339(at), "data": data})
        at = datetime.fromisoformat(rfc3339(at))
        self._hub.services.plant_ingest.take([Message(topic="cam", payload=body)])
        digest = digest_of(picture)
        name = frame_id(camera="cam", captured_at=at, digest=digest)
        return FrameRef(id=name, camera="cam", captured_at=at, digest=digest)

    def _answer(self, answer: Prediction) -> None:
        self._told += 1
        event = prediction_event(
            answer, site="numbers", device="edge-1", sequence=self._told, first=1
        )
        topic = "lineside/numbers/l/cam/prediction"
        self._hub.services.device_ingest.take(
            [Message(topic=topic, payload=encode_event(event), qos=1)]
        )


@contextmanager
def repeated(act: Callable[[int], None], *, every_s: float) -> Iterator[None]:
    """``act(1)``, ``act(2)``, … while the block runs."""
    stop = threading.Event()

    def work() -> None:
        number = 0
        while not stop.wait(every_s):
            number += 1
            act(number)

    thread = threading.Thread(target=work, name="line")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[RunningHub]:
    (tmp_path / "plant.toml").write_text(PLANT)
    config = HubConfig(
        data_dir=str(tmp_path / "hub"), plant=str(tmp_path / "plant.toml"), port=0, bus_port=0
    )
    with running(config, clock=CLOCK) as started:
        yield started


@pytest.fixture
def tile(chromium: Browser, hub: RunningHub) -> Iterator[Watched]:
    """The camera's own page, signed in."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    watched = watch(context, hub.url)
    sign_in_by_link(watched.page, hub, name="ada")
    watched.page.goto(f"{hub.url}/lines/l/cam")
    yield watched
    context.close()


Samples = list[list[Any]]


def seen(
    page: Page, *, canvas: str, places: list[str], enough: Callable[[Samples], bool]
) -> Samples:
    """What each frame of six seconds shows, and of further six until that is enough."""
    found: Samples = []

    def has_enough() -> bool:
        asked = {"seconds": 6.0, "canvas": canvas, "places": places}
        found.extend(one for one in page.evaluate(SEEN, asked) if one[0])
        return enough(found)

    wait_until(has_enough)
    return found


def silent(number: int) -> bool:
    """Half a second in every one and a half in which nothing answers."""
    return number % 18 >= 12


def test_a_tile_never_shows_a_picture_with_the_answers_to_another(
    hub: RunningHub, tile: Watched
) -> None:
    """Every fifth frame has no second answer, and some have none at all."""
    factory, began = Factory(hub), CLOCK.now()

    def send(number: int) -> None:
        # The first silent one is later than an answer stands for: it is shown without one.
        late = timedelta(seconds=5) * ((number + 6) // 18) + timedelta(milliseconds=80) * number
        answers = ("contents", "again")[: 2 - (number % 5 == 0)]
        shown = number % MOST
        factory.send(shown, at=began + late, answers=() if silent(number) else answers)

    def enough(samples: Samples) -> bool:
        answered = {number for number, answer, *_ in samples if answer != NOTHING}
        return len(answered) > 5 and any(silent(number) for number, *_ in samples)

    with repeated(send, every_s=0.08):
        there = seen(
            tile.page, canvas=".tile canvas", enough=enough,
            places=["[data-answer]", "[data-beside]", "[data-unsure]"],
        )  # fmt: skip
    for number, answer, beside, unsure in there:
        # After a gap a picture is shown at once, and again as soon as it is answered.
        assert answer in ((NOTHING,) if silent(number) else (NOTHING, str(number))), number
        assert beside.removeprefix("again") in ("", NOTHING, str(number)), (number, beside)
        assert unsure == (NOTHING if answer == NOTHING else "0")
    tile.quiet(but="willReadFrequently")


def test_a_frame_opened_before_its_answer_shows_it_by_itself(
    hub: RunningHub, tile: Watched
) -> None:
    services, at = hub.services, CLOCK.now()
    package = services.packages.add(count_package(), by="ada").digest
    services.packages.use(package, inspection="contents", by="ada", reason="test")
    factory = Factory(hub)
    factory.send(7, at=at, answers=())
    frame = services.frames.page(camera="cam", limit=1)[0].id
    tile.page.goto(f"{hub.url}/frames/{frame}")
    expect(tile.page.locator("[data-awaited]")).to_contain_text("No result yet")
    factory.send(7, at=at, answers=("contents",), package=package)
    expect(tile.page.locator("h2", has_text="Inspection contents")).to_be_visible()
    expect(tile.page.locator("[data-awaited]")).to_have_count(0)
    expect(tile.page.locator("main")).to_contain_text("Likeliest number")
    tile.quiet()


def test_the_device_s_page_shows_each_picture_with_its_own_answers(
    chromium: Browser, tmp_path: Path
) -> None:
    with shown(tmp_path, clock=CLOCK) as device:
        began = CLOCK.now()

        def see(number: int) -> None:
            frame = open_frame(
                numbered(number % MOST), camera="bin",
                captured_at=began + timedelta(milliseconds=80) * number,
            )  # fmt: skip
            value = number % MOST
            count = CountAnswer(value=value, low=value, high=value, decision=Decision.PRESENT)
            said = replace(said_of(frame, "fill", task="count"), count=count)
            device.see(frame, *([] if number % 7 == 0 else [said]))

        samples = _device_samples(chromium, device, see)
    for number, answer in samples:
        wanted = number % 7 != 0
        assert (answer == str(number)) == wanted, (number, answer)


@pytest.mark.parametrize("address", ["/", "/lines/l/cam"])
def test_a_tile_draws_an_object_where_it_is_whatever_the_image_s_size(
    hub: RunningHub, tile: Watched, address: str
) -> None:
    """Among others a camera is sent as a small image, on its own page as the frame it is."""
    told: list[int] = []
    tile.page.on("websocket", lambda one: one.on("framereceived", lambda it: told.append(len(it))))
    tile.page.goto(f"{hub.url}{address}")
    grain = np.random.default_rng(1).integers(0, 60, (960, 1280, 3)).astype(np.uint8)
    picture, box = encode_jpeg(grain, quality=95), (640.0, 480.0, 960.0, 720.0)
    Factory(hub).show(picture, box=box, at=CLOCK.now())
    canvas = '[data-camera="cam"] canvas'
    expect(tile.page.locator('[data-camera="cam"] [data-answer]')).to_have_text("1")
    edges = [(640, 600), (960, 600), (800, 720), (800, 600), (320, 300), (480, 360)]
    seen = tile.page.evaluate(EDGES, {"place": canvas, "edges": edges})
    assert [value > 110 for value in seen] == [True, True, True, False, False, False], seen
    assert (max(told) < len(picture) / 3) == (address == "/"), (max(told), len(picture))
    tile.quiet(but="willReadFrequently")


def _device_samples(chromium: Browser, device: Shown, see: Callable[[int], None]) -> Samples:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(device.url)
    with repeated(see, every_s=0.08):
        page.wait_for_selector('[data-camera="bin"] canvas')
        found = seen(
            page, canvas='[data-camera="bin"] canvas',
            enough=lambda samples: len({number for number, _ in samples}) > 8,
            places=['[data-camera="bin"] [data-inspection="fill"] .answer'],
        )  # fmt: skip
    context.close()
    return found
