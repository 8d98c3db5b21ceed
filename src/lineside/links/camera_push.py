"""``http-push://host:port/path?token_file=FILE``: a camera that posts its pictures to this machine.

1. ``POST`` of JPEG or PNG bytes, or of the factory's JSON (as on ``mqtt:``); bare bytes are dated
   when they arrive. 202: taken. 400, 413: no picture of ours, with a sentence. 401: no token.
2. The newest two pictures wait; older ones are dropped and counted, as of every live source.
3. Whoever may reach the port may post: beyond loopback a token is asked for
   (``Authorization: Bearer …``; its file is read for each request).
4. At most 16 connections, each with 10 s to say what it has; a length must be said beforehand.
"""

import contextlib
import hmac
import socket
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from lineside.core import Camera as CameraRecord
from lineside.core import Clock, InvalidError, RefusedError, UnavailableError, encode
from lineside.core.config import LOOPBACK
from lineside.core.drivers import SecretUrl
from lineside.core.worker import Worker
from lineside.links.camera_mqtt import NoShotError, most_bytes, read_shot
from lineside.links.contract import Bus, Message, Refused, Shot
from lineside.links.shots import WAITING, ShotCamera

_TIMEOUT_S = 10.0
_MOST_CONNECTIONS = 16
_POLL_S = 0.05


def open_push_camera(
    camera: CameraRecord,
    *,
    clock: Clock,
    bus: Bus | None,  # noqa: ARG001  every opener takes the same
    refused: Refused,
    folder: Path | None = None,  # noqa: ARG001
) -> "PushCamera":
    """Listen where the camera will post to."""
    return PushCamera(camera, clock=clock, refused=refused)


class PushCamera(ShotCamera):
    """Newest pictures that were posted."""

    def __init__(self, camera: CameraRecord, *, clock: Clock, refused: Refused) -> None:
        """Listen.

        Raises:
            InvalidError: the address can never work, or asks for no token beyond loopback.
            RefusedError: the token's file cannot be read.
            UnavailableError: the port is taken.
        """
        super().__init__(refused=refused)
        self._camera = camera
        self._clock = clock
        self._waiting: deque[Shot] = deque(maxlen=WAITING)
        self._changed = threading.Condition()
        self._closed = False
        self._dropped = 0
        host, port, self.path, self._token_file = _address(camera.source)
        self.token()
        try:
            self._server = _Server((host, port), camera=self)
        except OSError as error:
            raise UnavailableError(
                f"cannot listen: {error.strerror}", where=camera.source, fix="Take a free port."
            ) from error
        self.port = int(self._server.server_address[1])
        self._worker = Worker(
            f"push-{camera.id}", lambda: self._server.serve_forever(_POLL_S), every_s=None
        )
        self._worker.start()

    def shots(self) -> Iterator[Shot]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                shot = self._waiting.popleft()
            yield shot

    def dropped(self) -> int:
        return self._dropped

    def close(self) -> None:
        """End ``shots`` and free the port."""
        with self._changed:
            first, self._closed = not self._closed, True
            self._changed.notify_all()
        if first:
            self._server.end()
            self._worker.join()

    @property
    def most_bytes(self) -> int:
        """Longest body that is taken."""
        return most_bytes(self._camera, bare=False)

    def token(self) -> str:
        """Return the required token; "": none. ``RefusedError`` where the file cannot be read."""
        if not self._token_file:
            return ""
        try:
            token = Path(self._token_file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise RefusedError(
                f"the token cannot be read: {error}", where=self._token_file, fix="Write it there."
            ) from error
        if not token:
            raise RefusedError("the token is empty", where=self._token_file, fix="Write one.")
        return token

    def take(self, body: bytes) -> None:
        """Queue what was posted; ``NoShotError`` where it is no picture."""
        arrived = Message(topic=self.path, payload=body, arrived_s=self._clock.monotonic())
        try:
            shot = replace(
                read_shot(arrived, camera=self._camera, clock=self._clock),
                rotate_deg=self._camera.rotate_deg, crop_px=self._camera.crop_px,
            )  # fmt: skip
        except NoShotError as error:
            self._refused(error.reason, str(error))
            raise
        with self._changed:
            if len(self._waiting) == WAITING:
                self._dropped += 1
            self._waiting.append(shot)
            self._changed.notify_all()


class _Server(ThreadingHTTPServer):
    """One camera's; ends every connection when it ends."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, address: tuple[str, int], *, camera: PushCamera) -> None:
        self.camera = camera
        self._links: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]  # a plain socket
        with self._lock:
            full = len(self._links) >= _MOST_CONNECTIONS
            self._links.add(request)
        if full:
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]  # a plain socket
        with self._lock:
            self._links.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that breaks off is no fault of ours."""

    def end(self) -> None:
        """Stop, and let nobody hold it up."""
        self.shutdown()
        with self._lock:
            links = list(self._links)
        for link in links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT_S
    server: _Server

    def do_POST(self) -> None:
        """Take a picture."""
        camera, length = self.server.camera, self.headers.get("Content-Length", "")
        if self.path.partition("?")[0] != camera.path:
            self._say(HTTPStatus.NOT_FOUND, f"post to {camera.path}")
        elif not self._may():
            self._say(HTTPStatus.UNAUTHORIZED, "show the camera's token: Authorization: Bearer …")
        elif not length.isdigit():
            self._say(HTTPStatus.LENGTH_REQUIRED, "say Content-Length")
        elif int(length) > camera.most_bytes:
            self._say(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {camera.most_bytes} bytes are taken"
            )
        else:
            self._take(int(length))

    def do_GET(self) -> None:
        """There is nothing to get."""
        self._say(HTTPStatus.METHOD_NOT_ALLOWED, "post pictures here")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        """The camera counts what it refuses."""

    def _may(self) -> bool:
        try:
            token = self.server.camera.token()
        except RefusedError:
            return False
        shown = self.headers.get("Authorization", "")
        return not token or hmac.compare_digest(shown.encode(), f"Bearer {token}".encode())

    def _take(self, length: int) -> None:
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return
        try:
            self.server.camera.take(body)
        except NoShotError as error:
            self._say(HTTPStatus.BAD_REQUEST, str(error), read=True)
        else:
            self._say(HTTPStatus.ACCEPTED, "taken", read=True)

    def _say(self, status: HTTPStatus, sentence: str, *, read: bool = False) -> None:
        """Answer; where the body was left unread, the connection ends."""
        body = encode({"status": int(status), "detail": sentence})
        self.close_connection = self.close_connection or not read
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def _address(source: SecretUrl) -> tuple[str, int, str, str]:
    """Host, port, path and the token's file of a source."""
    parts = urlsplit(source.reveal())
    options = dict(parse_qsl(parts.query))
    try:
        port = parts.port
    except ValueError:
        port = None
    if not parts.hostname or port is None or not set(options) <= {"token_file"}:
        raise InvalidError(
            "not an address to listen at",
            where=source,
            fix="Write http-push://127.0.0.1:8088/camera, with ?token_file=FILE beyond loopback.",
        )
    token_file = options.get("token_file", "")
    if parts.hostname not in LOOPBACK and not token_file:
        raise InvalidError(
            "anybody on the network could post pictures",
            where=source,
            fix="Add ?token_file=FILE, or listen at 127.0.0.1.",
        )
    return parts.hostname, port, parts.path or "/", token_file
