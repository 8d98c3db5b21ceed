"""Cameras: one contract, and what each kind does with what it should not get."""

import base64
import contextlib
import hashlib
import json
import math
import os
import socket
import socketserver
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Box, InvalidError, NotFoundError, RefusedError, UnavailableError, rfc3339
from lineside.core import Camera as CameraRecord
from lineside.core.drivers import SecretUrl
from lineside.core.factory import write_message
from lineside.links import (
    Bus,
    Camera,
    FrameMessage,
    Message,
    Shot,
    camera_folder,
    camera_rtsp,
    open_bus,
    open_camera,
)
from lineside.links.camera_folder import FolderCamera
from lineside.links.camera_mqtt import NoShotError, read_shot
from lineside.links.camera_rtsp import ask
from lineside.links.camera_video import open_v4l_camera
from lineside.links.shots import Grab, LiveCamera, Picture, say_nothing
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, CameraContract, wait_until
from lineside.vision import decode_picture, encode_jpeg

AT = datetime(2026, 1, 1, 12, 0, 0, 123000, tzinfo=UTC)


def picture(seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    return encode_jpeg(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))


def record(source: str, **more: int) -> CameraRecord:
    return CameraRecord(id="rack", line="warehouse", source=SecretUrl(source), **more)  # type: ignore[arg-type]  # numbers only


def data_url(encoded: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(encoded).decode()


def as_message(encoded: bytes, *, at: datetime = AT, sequence: int = 0, part: str = "") -> bytes:
    return write_message(
        FrameMessage(ts=rfc3339(at), data=data_url(encoded), sequence=sequence, part=part)
    )


@pytest.fixture
def bus(clock: FakeClock) -> Iterator[Bus]:
    bus = open_bus("memory://cameras", client_id="plant", clock=clock)
    yield bus
    bus.close()


class TestOnTheBus(CameraContract):
    @pytest.fixture
    def opened(self, bus: Bus, clock: FakeClock) -> Iterator[Camera]:
        camera = open_camera(record("mqtt:i/cam"), clock=clock, bus=bus)
        stop = threading.Event()

        def play() -> None:
            number = 0
            while not stop.wait(0.01):
                number += 1
                at = AT + timedelta(seconds=number)
                bus.publish("i/cam", as_message(picture(number), at=at), qos=0)

        player = threading.Thread(target=play, name="player")
        player.start()
        yield camera
        stop.set()
        player.join()
        camera.close()


class TestInAFolder(CameraContract):
    @pytest.fixture
    def opened(self, tmp_path: Path, clock: FakeClock) -> Camera:
        for number in range(3):
            path = tmp_path / f"{number}.jpg"
            path.write_bytes(picture(number))
            os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
        return open_camera(record(f"folder:{tmp_path}"), clock=clock)


class TestInAVideoFile(CameraContract):
    @pytest.fixture
    def opened(self, tmp_path: Path, clock: FakeClock) -> Camera:
        import cv2

        path = tmp_path / "film.avi"
        writer = cv2.VideoWriter(
            str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (32, 24)
        )
        for number in range(5):
            writer.write(np.full((24, 32, 3), 40 * number, np.uint8))
        writer.release()
        os.utime(path, (1_700_000_000, 1_700_000_000))
        return open_camera(record(f"video:{path}"), clock=clock)

    def test_capture_times_follow_the_position_in_the_video(self, opened: Camera) -> None:
        times = [shot.captured_at for shot in opened.shots()]
        begun = datetime.fromtimestamp(1_700_000_000, tz=UTC)
        assert times == [begun + timedelta(milliseconds=100 * number) for number in range(5)]
        opened.close()


class Source:
    """A live source in the test's hand: gives pictures, can be lost and found again."""

    def __init__(self) -> None:
        self.number = 0
        self.lost = threading.Event()
        self.refuses = 0
        self.released = 0
        self.pace = threading.Event()
        self.can_end = threading.Event()
        self.can_end.set()

    def connect(self) -> Grab:
        if self.refuses:
            self.refuses -= 1
            raise UnavailableError("away")
        self.lost.clear()
        return self.grab

    def grab(self) -> Picture | None:
        self.pace.wait(0.005)
        if self.lost.is_set():
            return None
        self.number += 1
        return Picture(image=np.full((24, 32, 3), self.number % 250, np.uint8))

    def release(self) -> None:
        self.released += 1
        assert self.can_end.wait(LONG_S)


class TickingClock(FakeClock):
    """Each look at the time of day is a millisecond later."""

    def now(self) -> datetime:
        self.advance(0.001)
        return super().now()


def live(source: Source) -> LiveCamera:
    camera = LiveCamera(
        record("v4l:0"),
        clock=TickingClock(),
        refused=say_nothing,
        connect=source.connect,
        release=source.release,
    )
    camera.start(source.connect())
    return camera


class TestLive(CameraContract):
    @pytest.fixture
    def opened(self) -> Iterator[Camera]:
        camera = live(Source())
        yield camera
        camera.close()

    def test_the_newest_pictures_wait_and_older_ones_are_counted(self) -> None:
        source = Source()
        camera = live(source)
        wait_until(lambda: source.number >= 10)
        shot = next(camera.shots())
        assert shot.sequence >= 8
        assert camera.dropped() >= 7
        camera.close()
        assert source.released == 1

    @pytest.mark.parametrize(("trigger", "taken"), [("", 1), ("software", 2)])
    def test_a_trigger_is_for_cameras_that_wait_for_it(self, trigger: str, taken: int) -> None:
        source, grabs, asked = Source(), threading.Semaphore(0), []

        def grab() -> Picture | None:
            picture = source.grab()
            grabs.release()
            return replace(picture, next_s=math.inf) if picture is not None else None

        camera = LiveCamera(
            replace(record("aravis:gate"), trigger=trigger), clock=TickingClock(),
            refused=say_nothing, connect=lambda: grab, release=source.release,
            trigger=lambda: asked.append(1),
        )  # fmt: skip
        camera.start(grab)
        assert grabs.acquire(timeout=LONG_S)
        camera.trigger()
        assert grabs.acquire(timeout=LONG_S if taken > 1 else 0.1) == (taken > 1)
        camera.close()
        assert (source.number, len(asked)) == (taken, taken - 1)

    def test_a_lost_source_is_opened_again_and_said_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "lineside.links.shots")
        source = Source()
        camera = live(source)
        before = next(camera.shots()).sequence
        source.refuses = 2
        source.lost.set()
        wait_until(lambda: not source.lost.is_set())
        wait_until(lambda: next(camera.shots()).sequence > before)
        wait_until(lambda: "regained" in caplog.text)
        camera.close()
        said = [message.split(" camera=")[0] for message in caplog.messages]
        assert said == ["camera lost", "camera regained"]

    def test_a_lost_source_says_why_no_pictures_come(self) -> None:
        source = Source()
        camera = live(source)
        assert camera.fault() == ""
        source.refuses = 1_000
        source.can_end.clear()
        source.lost.set()
        wait_until(lambda: camera.fault() == "no pictures come")  # before what it had is freed
        source.can_end.set()
        wait_until(lambda: camera.fault() == "no pictures come: away")
        source.refuses = 0
        wait_until(lambda: camera.fault() == "")
        camera.close()

    def test_a_loss_that_was_over_before_anybody_asked_is_told_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = Source()
        camera = live(source)
        source.lost.set()
        with caplog.at_level("INFO"):
            wait_until(lambda: "regained" in caplog.text)
        assert [camera.fault(), camera.fault()] == ["no pictures come", ""]
        camera.close()

    def test_a_source_that_refuses_after_a_loss_is_asked_again(self) -> None:
        source = Source()
        refusals = iter([RefusedError("wrong password")])

        def connect() -> Grab:
            for refusal in refusals:
                raise refusal
            return source.connect()

        camera = LiveCamera(
            record("v4l:0"), clock=TickingClock(), refused=say_nothing, connect=connect,
            release=source.release,
        )  # fmt: skip
        camera.start(source.connect())
        before = next(camera.shots()).sequence
        source.lost.set()
        wait_until(lambda: next(camera.shots()).sequence > before + 2)
        camera.close()


class TestMessages:
    def read(self, payload: bytes, clock: FakeClock, **limits: int) -> Shot:
        message = Message(topic="i/cam", payload=payload, arrived_s=3.0)
        return read_shot(message, camera=record("mqtt:i/cam", **limits), clock=clock)

    def test_the_factorys_message_becomes_a_shot(self, clock: FakeClock) -> None:
        encoded = picture()
        shot = self.read(as_message(encoded, sequence=7, part="p-1"), clock)
        assert (shot.encoded, shot.captured_at, shot.own_time) == (encoded, AT, True)
        assert (shot.sequence, shot.part, shot.arrived_s) == (7, "p-1", 3.0)

    def test_bare_bytes_get_the_time_of_arrival_and_say_so(self, clock: FakeClock) -> None:
        shot = self.read(picture(), clock)
        assert (shot.captured_at, shot.own_time) == (clock.now(), False)

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            (b"", "fields not as documented"),
            (b"{", "fields not as documented"),
            (b"[]", "fields not as documented"),
            (b'{"data":"data:image/jpeg;base64,/9j/"}', "fields not as documented"),
            (b'{"ts":"yesterday","data":"x"}', "fields not as documented"),
            (b'{"ts":"2026-01-01T12:00:00Z","data":"hello"}', "picture cannot be read"),
            (b'{"ts":"2026-01-01T12:00:00Z","data":5}', "fields not as documented"),
            (b'{"ts":"2026-01-01T12:00:00Z","data":"data:image/jpeg;base64,=="}',
             "picture cannot be read"),
            (b'{"ts":"2026-01-01T12:00:00Z","data":"data:image/jpeg;base64,\xc3\xa4"}',
             "picture cannot be read"),
            (b'{"ts":"2026-01-01T12:00:00Z","data":"","sequence":-1}', "fields not as documented"),
            (b"\xff\xd8\xff" + bytes(2000), "too large"),
            (b'{"ts":"' + b"0" * 9000, "too large"),
            (b"[" * 4000, "fields not as documented"),
        ],
    )  # fmt: skip
    def test_what_is_no_picture_is_refused_with_its_reason(
        self, clock: FakeClock, payload: bytes, reason: str
    ) -> None:
        with pytest.raises(NoShotError) as raised:
            self.read(payload, clock, max_frame_bytes=1000)
        assert raised.value.reason == reason
        assert raised.value.fix

    @given(cut=st.integers(0, 2000), value=st.integers(0, 255))
    def test_damaged_messages_are_refused_or_read(self, cut: int, value: int) -> None:
        raw = bytearray(as_message(picture()))
        raw[cut % len(raw)] = value
        for damaged in (bytes(raw), bytes(raw[:cut])):
            with contextlib.suppress(InvalidError):
                self.read(damaged, FakeClock()).open()

    def test_the_stream_goes_on_after_refusals(self, bus: Bus, clock: FakeClock) -> None:
        reasons: list[str] = []
        camera = open_camera(
            record("mqtt:i/cam"), clock=clock, bus=bus, refused=lambda why, _: reasons.append(why)
        )
        frames = camera.frames()
        for payload in (b"nonsense", b"\xff\xd8\xff broken"):
            bus.publish("i/cam", payload)
            threading.Timer(0.05, bus.publish, ("i/cam", as_message(picture()))).start()
            assert next(frames).captured_at == AT
        assert reasons == ["fields not as documented", "picture cannot be read"]
        camera.close()

    def test_a_burst_leaves_the_newest_two(self, bus: Bus, clock: FakeClock) -> None:
        camera = open_camera(record("mqtt:i/cam"), clock=clock, bus=bus)
        for number in range(5):
            bus.publish("i/cam", as_message(picture(), sequence=number))
        shots = camera.shots()
        assert [next(shots).sequence, next(shots).sequence] == [3, 4]
        assert camera.dropped() == 3
        camera.close()


class TestSetUpFailures:
    def test_a_camera_on_the_bus_needs_a_bus(self, clock: FakeClock) -> None:
        with pytest.raises(InvalidError, match="needs a bus"):
            open_camera(record("mqtt:i/cam"), clock=clock)

    def test_an_unknown_source_names_the_known_ones(self, clock: FakeClock) -> None:
        with pytest.raises(
            InvalidError, match="aravis, folder, http, http-push, https, mqtt, rtsp, v4l, video"
        ):
            open_camera(record("gige:1"), clock=clock)

    @pytest.mark.parametrize("source", ["folder:/does/not/exist", "video:/does/not/exist.mp4"])
    def test_what_is_not_there_is_not_found(self, clock: FakeClock, source: str) -> None:
        with pytest.raises(NotFoundError):
            open_camera(record(source), clock=clock)

    def test_a_file_that_is_no_video_is_hopeless(self, clock: FakeClock, tmp_path: Path) -> None:
        path = tmp_path / "film.mp4"
        path.write_text("no film")
        with pytest.raises(InvalidError, match="no video"):
            open_camera(record(f"video:{path}"), clock=clock)

    def test_an_unplugged_camera_may_come_later(self, clock: FakeClock, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError, match="plugged"):
            open_v4l_camera(
                record("v4l:0"), clock=clock, bus=None, refused=say_nothing, devices=tmp_path
            )

    def test_a_device_that_is_no_camera_may_be_in_use(
        self, clock: FakeClock, tmp_path: Path
    ) -> None:
        (tmp_path / "video0").touch()
        with pytest.raises(UnavailableError, match="open"):
            open_v4l_camera(
                record("v4l:0"), clock=clock, bus=None, refused=say_nothing, devices=tmp_path
            )

    def test_a_number_is_asked_for(self, clock: FakeClock) -> None:
        with pytest.raises(InvalidError, match="number"):
            open_camera(record("v4l:front"), clock=clock)


class TestFolder:
    def test_unreadable_files_are_refused_and_passed_over(
        self, clock: FakeClock, tmp_path: Path
    ) -> None:
        (tmp_path / "a.jpg").write_bytes(b"no picture")
        (tmp_path / "b.jpg").write_bytes(picture())
        (tmp_path / "c.png").write_bytes(b"")
        (tmp_path / "d.jpeg").write_bytes(bytes(2000))
        (tmp_path / "e.txt").write_text("passed over")
        (tmp_path / "f.jpg").symlink_to(tmp_path / "gone.jpg")
        reasons: list[str] = []

        def refused(_: str, sentence: str) -> None:
            reasons.append(sentence)
            if len(reasons) == 4:
                camera.close()

        camera = open_camera(
            record(f"folder:{tmp_path}", max_frame_bytes=1900), clock=clock, refused=refused
        )
        assert [frame.encoded for frame in camera.frames()] == [picture()]

    def test_pictures_that_are_put_there_later_are_taken_once_they_are_whole(
        self, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        camera = open_camera(record(f"folder:{tmp_path}"), clock=clock)
        assert isinstance(camera, FolderCamera)
        shots, whole = camera.shots(), picture(1)
        (tmp_path / "early.jpg").write_bytes(picture(2))
        assert next(shots).encoded == picture(2)
        size = 1 + len(whole) // 4
        pieces = [whole[place : place + size] for place in range(0, len(whole), size)]
        look, looks, ticks = camera._complete, count(), count(step=0.001)
        monkeypatch.setattr(camera_folder, "monotonic", lambda: next(ticks))

        def write_and_look() -> object:
            """The file grows, and stands still for several looks, until it is whole."""
            if pieces and next(looks) % 4 == 0:
                with (tmp_path / "slow.jpg").open("ab") as file:
                    file.write(pieces.pop(0))
            return look()

        monkeypatch.setattr(camera, "_complete", write_and_look)
        assert next(shots).encoded == whole
        camera.close()

    def test_a_file_that_is_written_anew_is_another_picture(
        self, clock: FakeClock, tmp_path: Path
    ) -> None:
        camera = open_camera(record(f"folder:{tmp_path}"), clock=clock)
        shots = camera.shots()
        for seed in (1, 2):
            (tmp_path / "newest.jpg").write_bytes(picture(seed))
            assert next(shots).encoded == picture(seed)
        camera.close()

    def test_what_was_taken_is_remembered_over_a_restart(
        self, clock: FakeClock, tmp_path: Path
    ) -> None:
        watched, data = tmp_path / "in", tmp_path / "data"
        watched.mkdir()
        data.mkdir()
        strange = "a\nb \udcff.jpg"
        for name in ("1.jpg", strange):
            write_at(watched / name, picture(len(name)), second=len(name))

        def taken(count: int) -> list[bytes]:
            camera = open_camera(record(f"folder:{watched}"), clock=clock, folder=data)
            write_at(watched / "new.jpg", picture(99), second=99)
            found = [shot.encoded for shot in islice(camera.shots(), count)]
            camera.close()
            (watched / "new.jpg").unlink()
            return found

        assert taken(3) == [picture(5), picture(9), picture(99)]
        assert taken(1) == [picture(99)]
        (data / "camera-rack.taken").write_text('["cut of')
        camera = open_camera(record(f"folder:{watched}"), clock=clock, folder=data)
        assert next(camera.shots()).encoded == picture(5)
        camera.close()

    def test_what_was_dealt_with_is_moved_away(self, clock: FakeClock, tmp_path: Path) -> None:
        done = tmp_path / "done"
        done.mkdir()
        (done / "1.jpg").write_bytes(b"an earlier one")
        for number in (1, 2, 3):
            write_at(tmp_path / f"{number}.jpg", picture(number), second=number)
        camera = open_camera(record(f"folder:{tmp_path}?move=done"), clock=clock)
        shots = camera.shots()
        assert [next(shots).encoded for _ in range(3)] == [picture(n) for n in (1, 2, 3)]
        assert sorted(path.name for path in tmp_path.glob("*.jpg")) == ["3.jpg"]
        assert sorted(path.name for path in done.iterdir()) == ["1-1.jpg", "1.jpg", "2.jpg"]
        camera.close()

    def test_a_folder_that_vanishes_is_a_lost_camera_until_it_is_back(
        self, clock: FakeClock, tmp_path: Path
    ) -> None:
        watched = tmp_path / "share"
        watched.mkdir()
        camera = open_camera(record(f"folder:{watched}"), clock=clock)
        found: list[bytes] = []
        reader = threading.Thread(
            target=lambda: found.append(next(camera.shots()).encoded), name="reader"
        )
        reader.start()
        watched.rename(tmp_path / "away")
        wait_until(lambda: "cannot be read" in camera.fault())
        (tmp_path / "away").rename(watched)
        wait_until(lambda: camera.fault() == "")
        (watched / "1.jpg").write_bytes(picture())
        reader.join(LONG_S)
        assert found == [picture()]
        camera.close()

    @pytest.mark.parametrize("options", ["?move=", "?done=x", "?"])
    def test_an_unknown_option_is_refused(
        self, clock: FakeClock, tmp_path: Path, options: str
    ) -> None:
        if options == "?":
            open_camera(record(f"folder:{tmp_path}{options}"), clock=clock).close()
            return
        with pytest.raises(InvalidError, match="option"):
            open_camera(record(f"folder:{tmp_path}{options}"), clock=clock)


def write_at(path: Path, encoded: bytes, *, second: int) -> None:
    path.write_bytes(encoded)
    os.utime(path, (1_700_000_000 + second, 1_700_000_000 + second))


@pytest.mark.parametrize("kind", ["folder", "video", "live"])
def test_a_picture_is_rotated_and_cropped_as_the_plant_file_says(
    kind: str, clock: FakeClock, tmp_path: Path
) -> None:
    import cv2

    image = np.zeros((24, 32, 3), np.uint8)
    image[:8, :8] = (255, 0, 0)  # at the top left: at the top right after a quarter of a turn
    crop = Box(x0_px=12, y0_px=0, x1_px=24, y1_px=16)
    source = {
        "folder": f"folder:{tmp_path}",
        "video": f"video:{tmp_path}/film.avi",
        "live": "v4l:0",
    }
    camera = replace(record(source[kind]), rotate_deg=90, crop_px=crop)
    if kind == "live":
        live = LiveCamera(
            camera, clock=clock, refused=say_nothing, connect=lambda: lambda: None,
            release=lambda: None,
        )  # fmt: skip
        live.start(lambda: Picture(image=image, next_s=math.inf))
        opened: Camera = live
    else:
        if kind == "folder":
            (tmp_path / "1.jpg").write_bytes(encode_jpeg(image))
            os.utime(tmp_path / "1.jpg", (1_700_000_000, 1_700_000_000))
        else:
            code = cv2.VideoWriter.fourcc(*"MJPG")
            writer = cv2.VideoWriter(
                str(tmp_path / "film.avi"), cv2.CAP_FFMPEG, code, 10.0, (32, 24)
            )
            writer.write(np.ascontiguousarray(image[..., ::-1]))
            writer.release()
        opened = open_camera(camera, clock=clock)
    shot = next(iter(opened.shots()))
    opened.close()
    frame = shot.open()
    assert frame.image.shape == (16, 12, 3)
    assert np.array_equal(decode_picture(frame.encoded), frame.image)
    red, rest = frame.image[1:7, 5:11].astype(int), frame.image[9:].astype(int)
    assert red[..., 0].min() > 180
    assert rest.max() < 60
    beyond = replace(shot, crop_px=replace(crop, x1_px=25))
    with pytest.raises(
        InvalidError, match="a crop to x1_px 25 and y1_px 16 of a picture of 24 x 32"
    ) as told:
        beyond.open()
    assert told.value.where == "rack"


def test_damaged_videos_and_cameras_that_are_away_print_nothing(tmp_path: Path) -> None:
    import cv2

    path = tmp_path / "film.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 64))
    rng = np.random.default_rng(0)
    for _ in range(30):
        writer.write(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    writer.release()
    damaged = bytearray(path.read_bytes())
    for place in range(3000, 20000, 97):
        damaged[place] ^= 0xFF
    path.write_bytes(damaged)
    code = f"""
import cv2
from lineside.vision.picture import new_capture
capture = new_capture()
assert capture.open({str(path)!r}, cv2.CAP_FFMPEG)
while capture.read()[0]:
    pass
assert not capture.open("rtsp://127.0.0.1:1/x", cv2.CAP_FFMPEG)
assert not capture.open("/dev/video97", cv2.CAP_V4L2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == (b"", b"")


class RtspServer(socketserver.ThreadingTCPServer):
    """A camera that speaks RTSP and, where it has a ``picture``, plays it (RFC 2435) on the link.

    ``picture`` gives the next JPEG: 4:2:0, the sides divisible by 8, as ``encode_jpeg`` writes it;
    ``fps`` of them a second.
    """

    def __init__(
        self, *, user: str = "", password: str = "", scheme: str = "digest", status: int = 200,
        picture: Callable[[], bytes] | None = None, fps: int = 40,
    ) -> None:  # fmt: skip
        super().__init__(("127.0.0.1", 0), RtspLink)
        self.user, self.password, self.scheme, self.status = user, password, scheme, status
        self.picture, self.fps = picture, fps
        self.port: int = self.socket.getsockname()[1]
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="rtsp")
        self.thread.start()

    def answer(self, request: Sequence[str]) -> str:
        method, uri, _ = request[0].split(" ")
        (sequence,) = (one for one in request if one.startswith("CSeq"))
        status, more, body = self.status, "Session: 1", ""
        if self.user and not self.is_signed(method, uri, request):
            challenges = {"digest": 'Digest realm="cam", nonce="abc"', "basic": 'Basic realm="cam"'}
            status, more = 401, f"WWW-Authenticate: {challenges[self.scheme]}"
        elif method == "SETUP":
            more += "\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1"
        elif method == "DESCRIBE" and self.picture is not None:
            body = "v=0\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:0\r\n"
            more = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}"
        return f"RTSP/1.0 {status} Fine\r\n{sequence}\r\n{more}\r\n\r\n{body}"

    def is_signed(self, method: str, uri: str, request: Sequence[str]) -> bool:
        if self.scheme == "basic":
            secret = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            return f"Authorization: Basic {secret}" in request

        def md5(text: str) -> str:
            return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

        first = md5(f"{self.user}:cam:{self.password}")
        response = f'response="{md5(f"{first}:abc:" + md5(f"{method}:{uri}"))}"'
        return any(response in one for one in request)

    def close(self) -> None:
        self.stopping.set()
        self.shutdown()
        self.thread.join(LONG_S)
        self.server_close()


class RtspLink(socketserver.StreamRequestHandler):
    """One client: its requests are answered until it lets the camera play, or goes."""

    server: RtspServer

    def handle(self) -> None:
        request: list[str] = []
        with contextlib.suppress(OSError):  # the client went
            for line in self.rfile:
                request.append(line.decode().strip())
                if request[-1]:
                    continue
                self.wfile.write(self.server.answer(request).encode())
                if request[0].startswith("PLAY"):
                    return self.play()
                request = []
        return None

    def play(self) -> None:
        assert self.server.picture is not None
        sequence, fps = 0, self.server.fps
        for number in count():
            payloads = rtp_payloads(self.server.picture())
            for place, payload in enumerate(payloads, start=1):
                kind = 26 | (place == len(payloads)) << 7  # the last one is marked
                head = struct.pack(
                    ">BBHII", 0x80, kind, sequence & 0xFFFF, number * 90_000 // fps, 1
                )
                frame = struct.pack(">cBH", b"$", 0, len(head + payload)) + head + payload
                self.wfile.write(frame)
                sequence += 1
            if self.server.stopping.wait(1 / fps):  # as its times say
                return


def rtp_payloads(jpeg: bytes) -> list[bytes]:
    """The payloads of one JPEG as RFC 2435 has them: no headers but its size and its tables."""
    tables, sides, at = b"", (0, 0), 2
    while at < len(jpeg):
        marker, length = struct.unpack(">xBH", jpeg[at : at + 4])
        body, at = jpeg[at + 4 : at + 2 + length], at + 2 + length
        if marker == 0xDB:
            tables += b"".join(body[start : start + 64] for start in range(1, len(body), 65))
        elif marker == 0xC0:
            height, width = struct.unpack(">HH", body[1:5])
            sides = (width // 8, height // 8)
        elif marker == 0xDA:
            break
    scan, most = jpeg[at:-2], 1400
    head = struct.pack(">HH", 0, len(tables)) + tables
    return [
        struct.pack(">IBBBB", start, 1, 255, *sides)
        + (b"" if start else head) + scan[start : start + most]
        for start in range(0, len(scan), most)
    ]  # fmt: skip


class TestRtsp:
    @pytest.mark.parametrize("scheme", ["digest", "basic"])
    def test_the_right_password_is_taken(self, scheme: str) -> None:
        server = RtspServer(user="me", password="p:w", scheme=scheme)  # noqa: S106  the test's
        ask(f"rtsp://me:p%3Aw@127.0.0.1:{server.port}/live", timeout_s=LONG_S)
        server.close()

    @pytest.mark.parametrize("who", ["", "me:wrong@"])
    def test_another_is_refused_without_showing_it(self, who: str) -> None:
        server = RtspServer(user="me", password="right", scheme="digest")  # noqa: S106  the test's
        with pytest.raises(RefusedError) as raised:
            ask(f"rtsp://{who}127.0.0.1:{server.port}/live", timeout_s=LONG_S)
        assert "wrong" not in str(raised.value)
        server.close()

    @pytest.mark.parametrize(
        ("status", "kind"), [(404, InvalidError), (503, UnavailableError), (454, InvalidError)]
    )
    def test_other_answers_are_told_apart(self, status: int, kind: type[Exception]) -> None:
        server = RtspServer(user="", password="", scheme="basic", status=status)
        with pytest.raises(kind):
            ask(f"rtsp://127.0.0.1:{server.port}/live", timeout_s=LONG_S)
        server.close()

    def test_a_camera_that_plays_gives_its_pictures(
        self, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(camera_rtsp, "_TIMEOUT_MS", int(LONG_S * 1000))
        grey = encode_jpeg(np.full((48, 64, 3), 90, np.uint8))
        server = RtspServer(user="me", password="p:w", picture=lambda: grey)  # noqa: S106  the test's
        camera = open_camera(record(f"rtsp://me:p%3Aw@127.0.0.1:{server.port}/live"), clock=clock)
        frame = next(camera.shots()).open()
        assert frame.image.shape == (48, 64, 3)
        assert abs(frame.image.mean() - 90) < 2
        camera.close()
        server.close()

    def test_nobody_there_is_unavailable(self, clock: FakeClock) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(UnavailableError, match="does not answer"):
            open_camera(record(f"rtsp://me:secret@127.0.0.1:{port}/live"), clock=clock)

    def test_no_rtsp_server_is_hopeless(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

            def babble() -> None:
                link, _ = listener.accept()
                with link:
                    link.recv(4096)
                    link.sendall(b"HTTP/1.0 200 OK\r\n\r\n")

            thread = threading.Thread(target=babble, name="babble")
            thread.start()
            with pytest.raises(InvalidError, match="no RTSP server"):
                ask(f"rtsp://127.0.0.1:{port}/", timeout_s=LONG_S)
            thread.join()

    def test_an_address_without_host_is_hopeless(self) -> None:
        with pytest.raises(InvalidError):
            ask("rtsp:///live", timeout_s=1)


def test_a_written_frame_message_is_what_the_factory_sends() -> None:
    document = json.loads(as_message(b"\xff\xd8\xff"))
    assert document == {"ts": "2026-01-01T12:00:00.123Z", "data": "data:image/jpeg;base64,/9j/"}
