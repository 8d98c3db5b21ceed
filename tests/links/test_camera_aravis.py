"""GigE Vision cameras: the fake one of Aravis on a real socket."""

import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from lineside.cli.app import app
from lineside.core import Camera as CameraRecord
from lineside.core import InvalidError, SystemClock, UnavailableError
from lineside.core.drivers import SecretUrl
from lineside.core.errors import MissingExtraError
from lineside.links import Camera, open_camera
from lineside.links import camera_aravis as driver
from lineside.links.camera_aravis import AravisSource, StampClock, read_pixels
from lineside.links.shots import say_nothing
from lineside.testing.links import LONG_S, CameraContract, wait_until
from tests.links.gige_camera import PROGRAM, SOURCE, FakeCamera, gige_port, scene_camera
from tests.models.conftest import scene

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def fake(absent: Callable[[str, str], None]) -> Iterator[FakeCamera]:
    with gige_port(absent):
        camera = FakeCamera()
        yield camera
        camera.unplug()


def record(source: str = SOURCE, **more: object) -> CameraRecord:
    return CameraRecord(id="rack", line="warehouse", source=SecretUrl(source), **more)  # type: ignore[arg-type]  # of its fields


def opened_at(**more: object) -> Camera:
    return open_camera(record(SOURCE, **more), clock=SystemClock())


class TestAravis(CameraContract):
    @pytest.fixture
    def opened(self, fake: FakeCamera) -> Iterator[Camera]:  # noqa: ARG002  it runs meanwhile
        opened = open_camera(record("aravis://Aravis-Fake-T1"), clock=SystemClock())
        yield opened
        opened.close()


@pytest.mark.usefixtures("fake")
def test_an_image_comes_at_each_trigger_and_at_no_other_time() -> None:
    clock = SystemClock()

    def again(_reason: str, _sentence: str) -> None:
        opened.trigger()  # the network may lose an image: it is taken once more

    with closing(open_camera(record(trigger="software"), clock=clock, refused=again)) as opened:
        shots = opened.shots()
        for number in (1, 2):
            before = clock.now()
            opened.trigger()
            shot = next(shots)
            assert shot.sequence == number
            assert shot.captured_at - before >= timedelta(milliseconds=-1)


@pytest.mark.usefixtures("fake")
def test_a_stream_has_room_for_images_without_any_right(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, widen = list[int](), driver.widen_buffer

    def widened(number: int, size: int) -> int:
        kept.append(widen(number, size))
        return kept[-1]

    monkeypatch.setattr(driver, "widen_buffer", widened)
    with closing(opened_at()):
        own = {str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()}
        lines = Path("/proc/net/packet").read_text().splitlines()[1:]
    limited, stream = kept
    assert stream == limited
    if limited >= 2 * 512 * 512:
        assert not own & {f"socket:[{line.split()[-1]}]" for line in lines}
        assert not caplog.text
    else:
        assert "raise net.core.rmem_max to 1048576 camera=rack" in caplog.text


def test_exposure_is_that_of_the_plant_file(fake: FakeCamera) -> None:
    grey = []
    for exposure_us in (1000.0, 20_000.0):
        with closing(opened_at(exposure_us=exposure_us)) as opened:
            image = next(opened.shots()).image
        assert image is not None
        grey.append(image.mean())
        fake.unplug()
        fake.plug_in()  # it takes nobody else until the one before is silent for 3 s
    assert grey[0] < grey[1]


@pytest.mark.usefixtures("fake")
def test_gain_and_rate_are_those_of_the_plant_file() -> None:
    with closing(opened_at(gain=3.0, every_s=0.2)) as opened:  # by itself 25 images a second
        times = [shot.captured_at for shot in islice(opened.shots(), 5)]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    assert max(gaps) > 0.15, gaps


@pytest.mark.usefixtures("fake")
def test_what_a_camera_cannot_do_is_said_with_its_key() -> None:
    with pytest.raises(InvalidError, match=r"does not take trigger: .*'Line77' not an entry"):
        opened_at(trigger="Line77")


def test_a_camera_that_nobody_knows_may_come_later(absent: Callable[[str, str], None]) -> None:
    if shutil.which(PROGRAM) is None:
        absent("service", f"{PROGRAM} is not installed (Debian: aravis-tools)")
    with pytest.raises(UnavailableError, match="does not answer"):
        open_camera(record("aravis://Nobody-1"), clock=SystemClock())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lose", "regain"),
    [(FakeCamera.unplug, FakeCamera.plug_in), (FakeCamera.cut, FakeCamera.mend)],
    ids=["power", "cable"],
)
def test_a_camera_that_is_unplugged_is_lost_and_opened_again(
    fake: FakeCamera, lose: Callable[[FakeCamera], None], regain: Callable[[FakeCamera], None]
) -> None:
    with closing(opened_at()) as opened:
        before = next(opened.shots()).sequence
        lose(fake)
        wait_until(lambda: "nothing came within 1.6 s" in opened.fault())
        regain(fake)
        wait_until(lambda: opened.fault() == "")
        wait_until(lambda: next(opened.shots()).sequence > before + 2)


@pytest.fixture
def seeing(absent: Callable[[str, str], None], tmp_path: Path) -> Iterator[FakeCamera]:
    """A camera that sees a scene, and does what a test says."""
    with gige_port(absent):
        camera = scene_camera(tmp_path / "images.npz", {"scene": scene()})
        yield camera
        camera.unplug()


def test_a_camera_that_obeys_nobody_any_more_is_lost_and_opened_again(seeing: FakeCamera) -> None:
    with closing(opened_at(trigger="software")) as opened:
        seeing.say("leave")  # as after a pause of the device for 3 s: it still answers
        wait_until(lambda: "takes no orders from this device" in opened.fault())
        wait_until(lambda: opened.fault() == "")
        opened.trigger()
        assert next(opened.shots()).sequence == 1


def test_images_that_came_in_part_or_not_at_all_are_refused(seeing: FakeCamera) -> None:
    refused = list[str]()
    with closing(
        open_camera(
            record(every_s=0.02), clock=SystemClock(), refused=lambda why, _: refused.append(why)
        )
    ) as opened:
        for share, reason in (("0.02", "picture cannot be read"), ("0.99", "image lost")):
            next(opened.shots())
            seeing.say(f"lose {share}")
            before, _ = seeing.sent()
            wait_until(lambda: seeing.sent()[0] > before + 0.5)  # noqa: B023
            seeing.say("lose 0")
            wait_until(lambda: reason in refused)  # noqa: B023
        assert set(refused) == {"picture cannot be read", "image lost"}
        next(opened.shots())
        sequence = next(opened.shots()).sequence
    assert sequence > 0


@pytest.mark.usefixtures("fake")
def test_cameras_are_found_by_command_also_without_the_library_for_onvif(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "wsdiscovery", None)
    found = CliRunner().invoke(app, ["camera", "list", "--json"])
    assert {
        "source": "aravis://Aravis-Fake-T1", "address": "127.0.0.1", "protocol": "GigEVision",
        "name": "Fake", "services": [],
    } in json.loads(found.stdout)  # fmt: skip
    assert found.stderr == (
        "ONVIF cameras were not searched for: wsdiscovery is not installed."
        ' pip install "lineside[onvif]"\n'
    )
    found = CliRunner().invoke(app, ["camera", "list"])
    assert "aravis://Aravis-Fake-T1" in found.stdout
    assert "PASSWORD" not in found.stdout


def test_without_the_library_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_LIBRARY", "libaravis-none.so.0")
    driver._library.cache_clear()
    with pytest.raises(MissingExtraError, match=r"apt install libaravis-0\.8-0"):
        open_camera(record(), clock=SystemClock())
    driver._library.cache_clear()


def test_a_library_that_is_too_old_is_said(
    monkeypatch: pytest.MonkeyPatch, absent: Callable[[str, str], None]
) -> None:
    if shutil.which(PROGRAM) is None:
        absent("service", f"{PROGRAM} is not installed (Debian: aravis-tools)")
    monkeypatch.setitem(driver._TYPES, "arv_camera_of_tomorrow", (None, ()))
    driver._library.cache_clear()
    with pytest.raises(MissingExtraError, match=r"older than Aravis 0\.8\.25"):
        open_camera(record(), clock=SystemClock())
    driver._library.cache_clear()


def test_a_trigger_keeps_nobody_waiting_and_ends_before_the_camera_is_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, answered, order = threading.Event(), threading.Event(), list[str]()

    class Library:
        def g_object_unref(self, _: int) -> None:
            order.append("freed")

    def call(name: str, *_: object) -> None:
        if name == "arv_camera_software_trigger":
            begun.set()
            assert answered.wait(LONG_S)
            order.append("triggered")

    monkeypatch.setattr(driver, "_call", call)
    monkeypatch.setattr(driver, "_library", Library)
    source = AravisSource(record(trigger="software"), clock=SystemClock(), refused=say_nothing)
    source._device, source._is_acquiring = 1, True
    source._asker.start()
    source.trigger()
    assert begun.wait(LONG_S)
    source.trigger()
    close = threading.Thread(target=source.close)
    close.start()
    close.join(0.1)
    answered.set()
    close.join(LONG_S)
    assert order == ["triggered", "freed"]
    source.trigger()
    assert order == ["triggered", "freed"]


def test_a_trigger_that_a_camera_refuses_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = list[str]()

    def call(*_: object) -> NoReturn:
        raise OSError(4, "access denied")

    monkeypatch.setattr(driver, "_call", call)
    source = AravisSource(
        record(trigger="software"), clock=SystemClock(), refused=lambda why, _: refused.append(why)
    )
    source._is_acquiring = True
    source.trigger()
    source._ask_all()
    assert refused == ["trigger failed"]


@given(
    ways_ms=st.lists(st.integers(0, 400), min_size=1, max_size=300), start_ns=st.integers(1, 10**18)
)
def test_stamps_become_utc_by_the_shortest_way(ways_ms: list[int], start_ns: int) -> None:
    clock, begun, last = StampClock(), AT - timedelta(days=3), None
    for number, way_ms in enumerate(ways_ms):
        taken = begun + timedelta(milliseconds=500 * number)
        at = clock.utc(
            start_ns + 500_000_000 * number, arrived=taken + timedelta(milliseconds=way_ms)
        )
        shortest = timedelta(milliseconds=min(ways_ms[max(0, number - 255) : number + 1]))
        assert timedelta(0) <= at - taken <= timedelta(milliseconds=way_ms, microseconds=2)
        assert at - taken >= shortest - timedelta(microseconds=2)
        assert last is None or at >= last
        last = at


def test_clocks_that_part_do_not_shift_the_times_of_a_slow_line() -> None:
    clock, way = StampClock(), timedelta(milliseconds=20)
    for number in range(300):  # an image each 10 s, by a clock that loses 50 us a second
        taken = AT + timedelta(seconds=10 * number)
        at = clock.utc(10**9 + round(number * 10e9 * (1 - 50e-6)), arrived=taken + way)
        assert timedelta(milliseconds=16) < at - taken <= way


def test_a_clock_that_is_set_begins_the_mapping_anew() -> None:
    clock = StampClock()
    assert clock.utc(5_000_000, arrived=AT) == AT
    assert clock.utc(6_000_000, arrived=AT + timedelta(hours=1)) == AT + timedelta(hours=1)
    assert clock.utc(7_000_000, arrived=AT) == AT
    assert clock.utc(0, arrived=AT) == AT


def test_pixel_formats_become_rgb() -> None:
    red = np.zeros((6, 8, 3), np.uint8)
    red[..., 0] = 200
    for form, row, column in ((0x08, 0, 1), (0x09, 0, 0), (0x0A, 1, 0), (0x0B, 1, 1)):
        mosaic = np.zeros((6, 8), np.uint8)
        mosaic[row::2, column::2] = 200
        found = read_pixels(mosaic.tobytes(), width=8, height=6, form=0x01080000 + form, where="c")
        assert np.array_equal(found[2:4, 2:6], red[2:4, 2:6]), hex(form)
    for form, raw in (
        (0x02180014, red.tobytes()),
        (0x02180015, red[..., ::-1].tobytes()),
    ):
        assert np.array_equal(read_pixels(raw, width=8, height=6, form=form, where="c"), red)
        rows = np.pad(np.frombuffer(raw, np.uint8).reshape(6, 24), ((0, 0), (0, 4)))
        found = read_pixels(rows.tobytes(), width=8, height=6, form=form, where="c", padding=4)
        assert np.array_equal(found, red)
    rows = np.pad(np.full((6, 7), 9, np.uint8), ((0, 0), (0, 1)))
    odd = read_pixels(rows.tobytes(), width=7, height=6, form=0x01080001, where="c", padding=1)
    assert np.array_equal(odd, np.full((6, 7, 3), 9, np.uint8))
    grey = read_pixels(bytes([7] * 48), width=8, height=6, form=0x01080001, where="c")
    assert np.array_equal(grey, np.full((6, 8, 3), 7, np.uint8))


@pytest.mark.parametrize(
    ("raw", "width", "height", "form", "words"),
    [
        (bytes(48), 8, 6, 0x01100003, "pixel format"),
        (bytes(47), 8, 6, 0x01080001, "47 bytes"),
        (bytes(48), 0, 6, 0x01080001, "0 x 6"),
        (bytes(48), -8, -6, 0x01080001, "-8 x -6"),
    ],
)
def test_what_is_no_image_gets_a_sentence(
    raw: bytes, width: int, height: int, form: int, words: str
) -> None:
    with pytest.raises(InvalidError, match=words):
        read_pixels(raw, width=width, height=height, form=form, where="c")
