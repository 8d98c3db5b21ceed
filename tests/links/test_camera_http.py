"""A camera that is asked by HTTP: snapshots and streams, and what else may answer there."""

import base64
import hashlib
import math
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, islice
from urllib.request import parse_http_list, parse_keqv_list

import pytest

from lineside.core import Camera as CameraRecord
from lineside.core import InvalidError, LinesideError, RefusedError, UnavailableError
from lineside.core.drivers import SecretUrl
from lineside.links import Camera, open_camera
from lineside.links.camera_http import HttpSource
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, CameraContract, wait_until
from tests.links.test_cameras import TickingClock, picture

STREAM = "multipart/x-mixed-replace; boundary="
PICTURES = 200
"""A stream begins anew after so many."""


@pytest.fixture(autouse=True)
def patient_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera of this process may take as long as a test."""
    monkeypatch.setitem(vars(HttpSource)["__init__"].__kwdefaults__, "timeout_s", LONG_S)


class HttpCamera(ThreadingHTTPServer):
    """A camera with ``/snapshot.jpg`` and ``/stream``.

    Attributes:
        challenge: of a 401; "": nobody has to sign in.
        password: of the user ``me``.
        boundary: as the stream's header names it.
        has_length: whether each part of the stream says its length.
        asked: the snapshots that were asked for.
        lost: set while it answers 503 and ends its streams.
    """

    daemon_threads = False

    def __init__(
        self, *, challenge: str = "", boundary: str = "frame", has_length: bool = True
    ) -> None:  # fmt: skip
        super().__init__(("127.0.0.1", 0), HttpLink)
        self.challenge, self.boundary, self.has_length = challenge, boundary, has_length
        self.password = "p:w"  # noqa: S105  the test's
        self.asked = 0
        self.lost, self.stopping = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="camera")
        self.thread.start()

    def url(self, path: str = "/snapshot.jpg", *, user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.server_address[1]}{path}"

    def close(self) -> None:
        self.stopping.set()
        self.shutdown()
        self.thread.join(LONG_S)
        self.server_close()


class HttpLink(BaseHTTPRequestHandler):
    """One request."""

    server: HttpCamera

    def do_GET(self) -> None:
        server = self.server
        if server.lost.is_set():
            self.send_error(503)
        elif server.challenge and not self.is_signed():
            self.send_response(401)
            self.send_header("WWW-Authenticate", server.challenge)
            self.end_headers()
        elif self.path.startswith("/snapshot.jpg"):
            server.asked += 1
            self.answer("image/jpeg", picture(server.asked))
        elif self.path.startswith("/stream"):
            self.stream()
        elif self.path.startswith("/page"):
            self.answer("text/html", b"<html>sign in</html>")
        else:
            self.send_error(404)

    def answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", STREAM + self.server.boundary)
        self.end_headers()
        mark = self.server.boundary.strip('"').removeprefix("--")
        try:
            for number in count():
                body = picture(number % PICTURES)
                length = f"Content-Length: {len(body)}\r\n" if self.server.has_length else ""
                head = f"--{mark}\r\nContent-Type: image/jpeg\r\n{length}\r\n"
                self.wfile.write(head.encode() + body + b"\r\n")
                if self.server.stopping.wait(0.01) or self.server.lost.is_set():
                    return
        except OSError:
            return  # the client went

    def is_signed(self) -> bool:
        scheme, _, rest = self.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic" and self.server.challenge.startswith("Basic"):
            return base64.b64decode(rest).decode() == f"me:{self.server.password}"
        if scheme != "Digest":
            return False
        said = parse_keqv_list(parse_http_list(rest))
        algorithm = hashlib.sha256 if said.get("algorithm") == "SHA-256" else hashlib.md5

        def hashed(text: str) -> str:
            return algorithm(text.encode()).hexdigest()

        secret, request = hashed(f"me:cam:{self.server.password}"), hashed(f"GET:{self.path}")
        between = [said[name] for name in ("nc", "cnonce", "qop") if name in said]
        expected = hashed(":".join([secret, "abc", *between, request]))
        return (said["uri"], said["response"]) == (self.path, expected)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        pass


@pytest.fixture
def camera() -> Iterator[HttpCamera]:
    camera = HttpCamera()
    yield camera
    camera.close()


def record(source: str, **more: object) -> CameraRecord:
    return CameraRecord(id="rack", line="warehouse", source=SecretUrl(source), **more)  # type: ignore[arg-type]  # of its fields


class TestSnapshots(CameraContract):
    @pytest.fixture
    def opened(self, camera: HttpCamera) -> Iterator[Camera]:
        opened = open_camera(record(camera.url(), every_s=0.01), clock=TickingClock())
        yield opened
        opened.close()


@pytest.mark.parametrize("has_length", [True, False])
@pytest.mark.parametrize("boundary", ["frame", '"--frame"'])
class TestStreams(CameraContract):
    @pytest.fixture
    def opened(self, has_length: bool, boundary: str) -> Iterator[Camera]:  # noqa: FBT001  a parameter
        camera = HttpCamera(boundary=boundary, has_length=has_length)
        opened = open_camera(record(camera.url("/stream")), clock=TickingClock())
        yield opened
        opened.close()
        camera.close()


def test_pictures_stay_the_bytes_that_the_camera_sent(camera: HttpCamera, clock: FakeClock) -> None:
    opened = open_camera(record(camera.url("/stream")), clock=clock)
    shots = list(islice(opened.shots(), 3))
    opened.close()
    assert {shot.encoded for shot in shots} <= {picture(number) for number in range(PICTURES)}


def test_a_snapshot_is_asked_for_as_often_as_the_plant_file_says(
    camera: HttpCamera, clock: FakeClock
) -> None:
    grab = HttpSource(record(camera.url(), every_s=2.5), clock=clock).connect()
    first, second = grab(), grab()
    assert first is not None
    assert second is not None
    assert (first.encoded, first.next_s) == (picture(1), 2.5)
    assert (second.encoded, second.next_s) == (picture(2), 2.5)


def test_a_snapshot_on_a_trigger_is_taken_then_and_only_then(
    camera: HttpCamera, clock: FakeClock
) -> None:
    opened = open_camera(record(camera.url(), trigger="software"), clock=clock)
    shots = opened.shots()
    assert camera.asked == 1  # whether it is a camera at all
    for number in (2, 3):
        opened.trigger()
        assert next(shots).encoded == picture(number)
    assert camera.asked == 3
    opened.close()


def test_a_trigger_before_the_first_look_is_not_lost(camera: HttpCamera, clock: FakeClock) -> None:
    source = HttpSource(record(camera.url(), trigger="software"), clock=clock)
    grab = source.connect()
    source.trigger()
    taken, nothing = grab(), grab()
    assert taken is not None
    assert nothing is not None
    assert (taken.encoded, nothing.encoded) == (picture(2), b"")
    assert taken.next_s == nothing.next_s == math.inf
    source.trigger()  # for a part that has gone when the camera is back
    again = source.connect()()
    assert again is not None
    assert not again.encoded


@pytest.mark.parametrize(
    "challenge",
    [
        'Basic realm="cam"',
        'Digest realm="cam", nonce="abc"',
        'Digest realm="cam", qop="auth,auth-int", nonce="abc", opaque="x", algorithm=MD5',
        'Digest realm="cam", qop="auth", algorithm=SHA-256, nonce="abc"',
    ],
)
def test_user_and_password_are_shown_as_the_camera_asks(challenge: str, clock: FakeClock) -> None:
    camera = HttpCamera(challenge=challenge)
    for path in ("/snapshot.jpg?channel=1", "/stream"):
        opened = open_camera(record(camera.url(path, user="me:p%3Aw@")), clock=clock)
        assert next(opened.shots()).encoded
        opened.close()
    for user in ("", "me:wrong@"):
        with pytest.raises(RefusedError, match="refuses user or password") as raised:
            open_camera(record(camera.url(user=user)), clock=clock)
        assert "wrong" not in str(raised.value)
    camera.close()


def test_a_password_of_basic_is_not_shown_to_one_who_asks_for_an_unknown_digest(
    clock: FakeClock,
) -> None:
    camera = HttpCamera(challenge='Digest realm="cam", nonce="abc", algorithm=SHA-512-256')
    with pytest.raises(RefusedError):
        open_camera(record(camera.url(user="me:p%3Aw@")), clock=clock)
    camera.close()


@pytest.mark.parametrize("path", ["/snapshot.jpg", "/stream"])
def test_a_camera_that_went_is_lost_and_asked_again(camera: HttpCamera, path: str) -> None:
    every_s = {"every_s": 0.01} if path == "/snapshot.jpg" else {}
    opened = open_camera(record(camera.url(path), **every_s), clock=TickingClock())
    assert next(opened.shots()).encoded
    camera.lost.set()
    wait_until(lambda: "answers 503" in opened.fault())
    camera.lost.clear()
    wait_until(lambda: opened.fault() == "")
    assert len(list(islice(opened.shots(), 3))) == 3  # two of them may be from before the loss
    opened.close()


@pytest.mark.parametrize(
    ("path", "more", "kind", "words"),
    [
        ("/none", {}, InvalidError, "answers 404"),
        ("/page", {}, InvalidError, "answers text/html: neither JPEG nor PNG"),
        ("/snapshot.jpg", {"max_frame_bytes": 100}, InvalidError, "more than 100 bytes"),
        ("/stream", {"trigger": "software"}, InvalidError, "neither trigger nor every_s"),
        ("/a b", {}, InvalidError, "no address may have"),
    ],
)
def test_what_is_no_camera_gets_a_sentence(
    camera: HttpCamera,
    clock: FakeClock,
    path: str,
    more: dict[str, object],
    kind: type[LinesideError],
    words: str,
) -> None:
    with pytest.raises(kind, match=words) as raised:
        open_camera(
            record(camera.url(path + "?pwd=peeping", user="me:secret@"), **more), clock=clock
        )
    assert "secret" not in str(raised.value)
    assert "peeping" not in str(raised.value)


@pytest.mark.parametrize("url", ["http:///x", "http://a:b/", "http://[::1", "http://" + "a" * 70])
def test_an_address_that_can_never_work_is_refused(clock: FakeClock, url: str) -> None:
    with pytest.raises((InvalidError, UnavailableError)):
        open_camera(record(url), clock=clock)


def test_nobody_there_is_tried_again(clock: FakeClock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UnavailableError, match="does not answer"):
        open_camera(record(f"http://127.0.0.1:{port}/x"), clock=clock)


@contextmanager
def answering(head: bytes, *, drip: bytes = b"", every_s: float = 0.0) -> Iterator[str]:
    """The address of one who says ``head`` to everybody, and then ``drip`` without end."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while not stop.is_set():
            try:
                link, _ = listener.accept()
                with link:
                    link.recv(4096)
                    link.sendall(head)
                    while drip and not stop.wait(every_s):
                        link.sendall(drip)
            except OSError:
                continue  # the client went, or the test is over

    thread = threading.Thread(target=answer, name="hostile")
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/x"
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(LONG_S)


OK = b"HTTP/1.1 200 OK\r\n"
MIXED = OK + b"Content-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "drip", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"", "no HTTP server"),
        (b"", b"", "connection broke"),
        (OK + b"X: ", b"x" * 9000, "no HTTP server.*65536"),
        (OK, b"X: y\r\n" * 50, "no HTTP server.*100 headers"),
        (OK, b"", "neither JPEG nor PNG"),
        (OK + b"Content-Type: multipart/x-mixed-replace\r\n\r\n", b"", "no boundary"),
        (OK + b"Content-Length: 9000000\r\n\r\n", b"", "more than 8000000 bytes"),
        (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", b"", "neither JPEG nor PNG"),
        (OK + b"Content-Length: 9\r\n\r\nshort", b"", "ended early"),
        (OK + b"\r\n", b"x" * 100_000, "more than 8000000 bytes"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"", "neither JPEG nor PNG"),
        (MIXED, b"--b\r\nContent-Length: 9000000\r\n\r\n", "more than 8000000 bytes"),
        (MIXED, b"--b\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n", "more than 8000000 bytes"),
        (MIXED + b"--b\r\n\r\n", b"x" * 100_000, "more than 8000000 bytes"),
        (MIXED + b"--b\r\n", b"X: y\r\n" * 50, "no HTTP server.*100 headers"),
    ],
)  # fmt: skip
def test_a_hostile_answer_gets_a_sentence(
    clock: FakeClock, head: bytes, drip: bytes, words: str
) -> None:
    with answering(head, drip=drip) as url:
        source = HttpSource(record(url), clock=clock)
        with pytest.raises(LinesideError, match=words):
            source.connect()()
        source.close()


@pytest.mark.parametrize(
    ("head", "drip"),
    [
        (b"", b""),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"X: ", b"x"),
        (OK + b"\r\n", b"x"),
        (MIXED, b"--b\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\nx\r\n"),
        (MIXED + b"--b\r\nContent-Length: 500\r\n\r\n", b"x"),
        (MIXED + b"--b\r\n\r\n", b"x\n"),
    ],
)
def test_one_who_speaks_slowly_is_left_at_the_time_limit(
    clock: FakeClock, head: bytes, drip: bytes
) -> None:
    with answering(head, drip=drip or b" " * bool(head), every_s=0.02) as url:
        source = HttpSource(record(url), clock=clock, timeout_s=0.2)
        with pytest.raises(UnavailableError, match=r"no picture within 0\.2 s|connection broke"):
            source.connect()()
        source.close()


@pytest.mark.parametrize(
    "body",
    [b"", b"--b--\r\n", b"--b\r\n", b"--b\r\nContent-Length: 5\r\n\r\nabc", b"--c\r\n\r\nx\r\n--c"],
)
def test_a_stream_that_ends_is_lost(clock: FakeClock, body: bytes) -> None:
    with answering(MIXED + body) as url:
        source = HttpSource(record(url), clock=clock)
        found = source.connect()()
        assert found is None or not found.encoded
        source.close()


def test_closing_ends_a_request_in_hand(clock: FakeClock) -> None:
    head = MIXED + b"--b\r\nContent-Length: 5\r\n\r\nabcde\r\n"
    with answering(head, drip=b" ", every_s=0.05) as url:
        opened = open_camera(record(url, no_signal_after_s=600), clock=clock)
        assert next(opened.shots()).encoded == b"abcde"
        opened.close()  # nothing else ends it before the test's own limit
        assert opened.fault() == ""
