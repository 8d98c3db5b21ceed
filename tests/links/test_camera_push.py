"""A camera that posts its pictures, and what else may come to its port."""

import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lineside.core import Camera as CameraRecord
from lineside.core import InvalidError, RefusedError, UnavailableError
from lineside.core.drivers import SecretUrl
from lineside.links import Camera, open_camera
from lineside.links.camera_push import PushCamera
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, CameraContract, wait_until
from tests.links.test_cameras import AT, as_message, picture


def record(source: str = "http-push://127.0.0.1:0/cam", **more: int) -> CameraRecord:
    return CameraRecord(id="rack", line="warehouse", source=SecretUrl(source), **more)  # type: ignore[arg-type]  # numbers only


def opened_at(
    clock: FakeClock, source: str = "http-push://127.0.0.1:0/cam", **more: int
) -> PushCamera:
    camera = open_camera(record(source, **more), clock=clock)
    assert isinstance(camera, PushCamera)
    return camera


def post(camera: PushCamera, body: bytes, *, path: str = "/cam", token: str = "") -> int:
    link = http.client.HTTPConnection("127.0.0.1", camera.port, timeout=LONG_S)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        link.request("POST", path, body=body, headers=headers)
        answer = link.getresponse()
        if not (said := answer.read()):
            raise http.client.IncompleteRead(said)
        return answer.status
    finally:
        link.close()


@pytest.fixture
def camera(clock: FakeClock) -> Iterator[PushCamera]:
    camera = opened_at(clock)
    yield camera
    camera.close()


class TestPushed(CameraContract):
    @pytest.fixture
    def opened(self, clock: FakeClock) -> Iterator[Camera]:
        camera = opened_at(clock)
        stop = threading.Event()

        def play() -> None:
            number = 0
            while not stop.wait(0.01):
                number += 1
                clock.advance(0.1)
                try:
                    post(camera, picture(number))
                except (OSError, http.client.HTTPException):
                    return  # the camera was closed by the test, perhaps in the middle of an answer

        player = threading.Thread(target=play, name="player")
        player.start()
        yield camera
        stop.set()
        player.join()
        camera.close()


def test_both_forms_are_taken_and_the_newest_two_wait(camera: PushCamera, clock: FakeClock) -> None:
    assert post(camera, picture(0)) == 202
    assert post(camera, picture(1)) == 202
    assert post(camera, as_message(picture(2), sequence=7, part="p-1")) == 202
    shots = camera.shots()
    bare, told = next(shots), next(shots)
    assert (bare.encoded, bare.captured_at, bare.own_time) == (picture(1), clock.now(), False)
    assert (told.captured_at, told.sequence, told.part, told.own_time) == (AT, 7, "p-1", True)
    assert camera.dropped() == 1


def test_a_posted_picture_is_rotated(clock: FakeClock) -> None:
    camera = opened_at(clock, rotate_deg=90)
    post(camera, picture(0))
    assert next(camera.shots()).open().image.shape == (32, 24, 3)
    camera.close()


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 400), (b"hello", 400), (b"{}", 400), (b"\xff\xd8\xff" * 90_000, 413)]
)
def test_what_is_no_picture_is_refused_with_a_sentence(
    clock: FakeClock, body: bytes, status: int
) -> None:
    counted: list[str] = []
    camera = open_camera(
        record(max_frame_bytes=100_000),
        clock=clock,
        refused=lambda reason, sentence: counted.append(reason),  # noqa: ARG005  the contract's form
    )
    assert isinstance(camera, PushCamera)
    assert post(camera, body) == status
    assert bool(counted) == (status == 400)
    camera.close()


def test_other_paths_and_methods_are_told_where_to_post(camera: PushCamera) -> None:
    assert post(camera, picture(), path="/other") == 404
    link = http.client.HTTPConnection("127.0.0.1", camera.port, timeout=LONG_S)
    link.request("GET", "/cam")
    assert link.getresponse().status == 405
    link.close()


def test_without_the_token_nothing_is_taken(clock: FakeClock, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    camera = opened_at(clock, f"http-push://127.0.0.1:0/cam?token_file={file}")
    assert [post(camera, picture(), token=one) for one in ("", "wrong", "secret")] == [
        401,
        401,
        202,
    ]
    file.write_text("")
    assert post(camera, picture(), token=file.name) == 401
    camera.close()


def test_an_address_that_can_never_work_is_refused(clock: FakeClock, tmp_path: Path) -> None:
    for source in (
        "http-push://0.0.0.0:1/cam", "http-push://127.0.0.1/cam", "http-push://127.0.0.1:x/",
        "http-push://127.0.0.1:0/cam?tokens=1",
    ):  # fmt: skip
        with pytest.raises(InvalidError):
            open_camera(record(source), clock=clock)
    with pytest.raises(RefusedError, match="token"):
        open_camera(record(f"http-push://0.0.0.0:0/?token_file={tmp_path}/no"), clock=clock)


def test_a_port_that_is_taken_is_tried_again(camera: PushCamera, clock: FakeClock) -> None:
    with pytest.raises(UnavailableError, match="cannot listen"):
        open_camera(record(f"http-push://127.0.0.1:{camera.port}/cam"), clock=clock)


def test_connections_that_say_nothing_keep_nobody_out_for_good(clock: FakeClock) -> None:
    camera = opened_at(clock)
    idle = [socket.create_connection(("127.0.0.1", camera.port)) for _ in range(16)]
    wait_until(lambda: len(camera._server._links) == 16)
    with pytest.raises(OSError):  # noqa: PT011  reset or closed, as the system likes
        post(camera, picture())
    for link in idle:
        link.close()
    wait_until(lambda: len(camera._server._links) == 0)
    assert post(camera, picture()) == 202
    camera.close()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(raw=st.binary(max_size=300))
def test_whatever_comes_over_the_wire_the_next_picture_is_taken(
    camera: PushCamera, raw: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", camera.port)) as link:
        link.sendall(b"POST /cam HTTP/1.1\r\n" + raw)
    assert post(camera, picture()) == 202
