"""``http://user:password@host/path``, ``https://…``: a network camera's snapshots or MJPEG stream.

1. The camera's answer says which: the parts of ``multipart/x-mixed-replace`` are the pictures of a
   stream; any other answer is a snapshot, which is asked for every ``every_s`` of the camera, or
   at each trigger.
2. A picture stays the bytes that the camera sent, at most ``max_frame_bytes`` of them.
3. Each picture has a time limit, however slowly the other side speaks.
4. Basic and Digest (RFC 7617, RFC 7616). No redirect is followed: user and password go where the
   source says, and nowhere else.
5. Certificates are always verified, against the machine's authorities.
"""

import base64
import hashlib
import http.client
import math
import secrets
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import parse_http_list

from lineside.core import Camera as CameraRecord
from lineside.core import Clock, InvalidError, LinesideError, RefusedError, UnavailableError
from lineside.links.contract import Bus, Refused
from lineside.links.shots import Grab, LiveCamera, Picture
from lineside.links.webhook import deadline, shut_down
from lineside.vision.picture import picture_size

CHECK_CABLE = "Check cable and address."
_TIMEOUT_S = 5.0
_EVERY_S = 1.0
_MOST_LINE_BYTES = 65_536
_MOST_DIGITS = 18
_STREAM = "multipart/x-mixed-replace"
_HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}
_WRITE = "Write http://host/path of the camera's snapshot or MJPEG stream."


def authorization(
    challenges: Sequence[str], *, user: str, password: str, method: str, uri: str
) -> str:
    """The header ``Authorization`` that answers a 401; "" where no challenge is one of ours.

    Digest is taken where it is offered, else Basic.

    Args:
        challenges: of the headers ``WWW-Authenticate``.
        user: as text, not encoded for a URL.
        password: the same.
        method: of the request.
        uri: of the request, as it stands in its first line.
    """
    for challenge in challenges:
        scheme, _, rest = challenge.strip().partition(" ")
        pairs = (item.partition("=") for item in parse_http_list(rest))
        fields = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
        if scheme.lower() == "digest" and fields.get("algorithm", "MD5").upper() in _HASHES:
            return _digest(fields, user=user, password=password, method=method, uri=uri)
    if any(challenge.strip().lower().startswith("basic") for challenge in challenges):
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    return ""


def _digest(challenge: dict[str, str], *, user: str, password: str, method: str, uri: str) -> str:
    algorithm = challenge.get("algorithm", "MD5")

    def hashed(text: str) -> str:
        return _HASHES[algorithm.upper()](text.encode(), usedforsecurity=False).hexdigest()

    realm, nonce = challenge.get("realm", ""), challenge.get("nonce", "")
    fields = {"username": user, "realm": realm, "nonce": nonce, "uri": uri}
    fields |= {name: challenge[name] for name in ("opaque",) if name in challenge}
    secret, request = hashed(f"{user}:{realm}:{password}"), hashed(f"{method}:{uri}")
    more = f", algorithm={algorithm}" if "algorithm" in challenge else ""
    if "auth" in [one.strip() for one in challenge.get("qop", "").split(",")]:
        count, fields["cnonce"] = "00000001", secrets.token_hex(8)
        fields["response"] = hashed(f"{secret}:{nonce}:{count}:{fields['cnonce']}:auth:{request}")
        more += f", qop=auth, nc={count}"
    else:
        fields["response"] = hashed(f"{secret}:{nonce}:{request}")
    return "Digest " + ", ".join(f'{name}="{value}"' for name, value in fields.items()) + more


def check_status(status: int, *, where: str) -> None:
    """Return where a camera's answer is 200.

    Raises:
        RefusedError: user or password are wrong (401, 403).
        UnavailableError: the camera is overloaded (5xx).
        InvalidError: anything else, such as no such path.
    """
    if status in (401, 403):
        raise RefusedError(
            "the camera refuses user or password", where=where, fix="Correct them in the source."
        )
    if 500 <= status < 600:
        raise UnavailableError(f"the camera answers {status}", where=where, fix="Try later.")
    if status != 200:
        raise InvalidError(
            f"the camera answers {status}",
            where=where,
            fix="Look up the path in the camera's manual.",
        )


def read_parts(
    stream: http.client.HTTPResponse, *, boundary: str, max_bytes: int
) -> Iterator[bytes]:
    """The pictures of a multipart stream (RFC 2046) as they come, until it ends.

    A part whose type is not ``image/…`` is passed over; one that names no type is taken. The
    length that a part says is believed, so that its picture does not wait for the next part.

    Raises:
        InvalidError: a part is longer than ``max_bytes``.
        http.client.HTTPException: the headers of a part are too many or too long.
        OSError: the connection broke.
    """
    name = boundary.encode("latin-1", "replace")
    marks = {b"--" + name, name} if name.startswith(b"--") else {b"--" + name}
    ends = {mark + b"--" for mark in marks}
    line = stream.readline(_MOST_LINE_BYTES)
    while line and line.strip() not in ends:
        if line.strip() not in marks:
            line = stream.readline(_MOST_LINE_BYTES)
            continue
        headers = http.client.parse_headers(stream)
        length = headers.get("content-length", "").strip()
        if length.isdecimal():
            _check_length(length, max_bytes=max_bytes)
            body, line = stream.read(int(length)), b"\r\n"
            if len(body) < int(length):
                return
        else:
            body, line = _read_to(stream, marks | ends, max_bytes=max_bytes)
        if headers.get("content-type", "image/").strip().lower().startswith("image/"):
            yield body


def _read_to(
    stream: http.client.HTTPResponse, marks: set[bytes], *, max_bytes: int
) -> tuple[bytes, bytes]:
    """Bytes before the next mark, and the mark's line; b"" where the stream ended."""
    body = bytearray()
    while (line := stream.readline(_MOST_LINE_BYTES)) and line.strip() not in marks:
        body += line
        _check_length(str(len(body)), max_bytes=max_bytes)
    return bytes(body.removesuffix(b"\n").removesuffix(b"\r")), line


def _check_length(length: str, *, max_bytes: int) -> None:
    if len(length) > _MOST_DIGITS or int(length) > max_bytes:
        raise InvalidError(
            f"the camera sends more than {max_bytes} bytes for one picture",
            fix="Have it send smaller ones, or raise max_frame_bytes of the camera.",
        )


class HttpSource:
    """One camera's address; read by one thread, others may ``interrupt`` and ``trigger``."""

    def __init__(
        self, camera: CameraRecord, *, clock: Clock, timeout_s: float = _TIMEOUT_S
    ) -> None:
        """Connect to nothing yet.

        Args:
            camera: its source and bounds, and when a snapshot is asked for.
            clock: of the time between snapshots.
            timeout_s: for joining, for the beginning of an answer, and for each picture.
        """
        self._camera = camera
        self._clock = clock
        self._timeout_s = timeout_s
        self._parts = urlsplit(camera.source.reveal())
        self._where = str(camera.source)
        self._challenges: list[str] = []
        self._answer: http.client.HTTPResponse | None = None
        self._socket: socket.socket | None = None
        self._is_stopped = False
        self._trigger = threading.Event()

    def connect(self) -> Grab:
        """Ask for the first picture; returns what gives it and those after it.

        Raises:
            InvalidError: an address without host, an answer that is no picture, or too long.
            RefusedError: user or password are wrong, or nobody vouches for the certificate.
            UnavailableError: nobody answers, or not in time.
        """
        self._trigger.clear()  # what was triggered while the camera was away has passed
        try:
            answer = self._ask()
            if answer.headers.get_content_type() == _STREAM:
                return self._parts_of(answer)
            first = self._picture(answer)
        except LinesideError:
            self.close()
            raise
        waiting = [] if self._camera.trigger else [first]

        def grab() -> Picture:
            if self._camera.trigger:
                if not self._trigger.is_set():
                    return Picture(next_s=math.inf)
                self._trigger.clear()
            return waiting.pop() if waiting else self._picture(self._ask())

        return grab

    def trigger(self) -> None:
        """Take a picture at the next call of the function that ``connect`` returned."""
        self._trigger.set()

    def close(self) -> None:
        """Leave the camera."""
        if self._answer is not None:
            self._answer.close()

    def interrupt(self) -> None:
        """End the request in hand and refuse further ones."""
        self._is_stopped = True
        if self._socket is not None:
            shut_down(self._socket)

    def _parts_of(self, answer: http.client.HTTPResponse) -> Grab:
        boundary = answer.headers.get_boundary()
        if not boundary:
            raise InvalidError(
                "the camera names no boundary between the pictures of its stream",
                where=self._where, fix="Name the address of its snapshot.",
            )  # fmt: skip
        if self._camera.trigger or self._camera.every_s is not None:
            raise InvalidError(
                "the camera sends a stream, which neither trigger nor every_s can pace",
                where=self._where, fix="Name the address of its snapshot, or remove the two.",
            )  # fmt: skip
        most = self._camera.max_frame_bytes
        parts = read_parts(answer, boundary=boundary, max_bytes=most)

        def grab() -> Picture | None:
            with self._in_time():
                encoded = next(parts, None)
            return None if encoded is None else Picture(encoded=encoded)

        return grab

    def _picture(self, answer: http.client.HTTPResponse) -> Picture:
        """The answer's picture, if it is one, and how long to wait for the next."""
        most = self._camera.max_frame_bytes
        with self._in_time():
            _check_length(str(answer.length or 0), max_bytes=most)
            encoded = answer.read(most + 1)
        if answer.length:
            raise UnavailableError("the picture ended early", where=self._where)
        self.close()
        _check_length(str(len(encoded)), max_bytes=most)
        try:
            picture_size(encoded)
        except InvalidError as error:
            raise InvalidError(
                f"the camera answers {answer.headers.get_content_type()}: {error.message}",
                where=self._where, fix="Name the address of a JPEG snapshot or MJPEG stream.",
            ) from error  # fmt: skip
        every_s = _EVERY_S if self._camera.every_s is None else self._camera.every_s
        wait_s = max(0.0, self._asked_s + every_s - self._clock.monotonic())
        return Picture(encoded=encoded, next_s=math.inf if self._camera.trigger else wait_s)

    def _ask(self) -> http.client.HTTPResponse:
        self._asked_s = self._clock.monotonic()
        user = self._parts.username
        answer = self._request()
        if answer.status == HTTPStatus.UNAUTHORIZED and user is not None:
            self._challenges = answer.headers.get_all("www-authenticate", [])
            answer = self._request()
        check_status(answer.status, where=self._where)
        return answer

    def _request(self) -> http.client.HTTPResponse:
        """The beginning of the answer to one request, on a connection of its own."""
        self.close()
        target = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        headers = {"Connection": "close", "User-Agent": "lineside"}
        header = authorization(
            self._challenges, user=unquote(self._parts.username or ""),
            password=unquote(self._parts.password or ""), method="GET", uri=target,
        )  # fmt: skip
        if header:
            headers["Authorization"] = header
        connection = self._connect()
        try:
            with self._in_time():
                connection.request("GET", target, headers=headers)
                self._answer = connection.getresponse()
        except (ValueError, http.client.InvalidURL) as error:
            raise InvalidError(
                "characters that no address may have", where=self._where, fix=_WRITE
            ) from error
        finally:
            connection.close()  # the answer keeps the socket
        return self._answer

    def _connect(self) -> http.client.HTTPConnection:
        try:
            host, port = self._parts.hostname or "", self._parts.port
            if self._parts.scheme == "https":
                connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                    host, port, timeout=self._timeout_s, context=ssl.create_default_context()
                )
            else:
                connection = http.client.HTTPConnection(host, port, timeout=self._timeout_s)
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise RefusedError(
                f"nobody vouches for the camera's certificate: {error.verify_message}",
                where=self._where, fix="Add its authority to those of this machine.",
            ) from error  # fmt: skip
        except OSError as error:
            raise UnavailableError(
                f"the camera does not answer: {error}", where=self._where, fix=CHECK_CABLE
            ) from error
        except ValueError as error:
            raise InvalidError("not an address", where=self._where, fix=_WRITE) from error
        self._socket = connection.sock
        if self._is_stopped:  # looked at after the socket is set: ``interrupt`` sets it first
            shut_down(self._socket)
        return connection

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """End what is read when it takes too long, and say what went wrong."""
        assert self._socket is not None  # noqa: S101  who reads has joined
        try:
            with deadline(self._socket, self._timeout_s):
                yield
        except TimeoutError as error:
            raise UnavailableError(
                f"no picture within {self._timeout_s:g} s", where=self._where, fix=CHECK_CABLE
            ) from error
        except (OSError, http.client.IncompleteRead) as error:
            raise UnavailableError(
                f"the connection broke: {error}", where=self._where, fix=CHECK_CABLE
            ) from error
        except http.client.InvalidURL:
            raise
        except http.client.HTTPException as error:
            raise InvalidError(
                f"no HTTP server there, or a faulty one: {error}", where=self._where, fix=_WRITE
            ) from error


def open_http_camera(
    camera: CameraRecord,
    *,
    clock: Clock,
    bus: Bus | None,  # noqa: ARG001  every opener takes the same
    refused: Refused,
    folder: Path | None = None,  # noqa: ARG001
) -> LiveCamera:
    """Open the address; errors as of ``HttpSource.connect``."""
    source = HttpSource(
        camera, clock=clock, timeout_s=max(_TIMEOUT_S, camera.no_signal_after_s or 0.0)
    )
    live = LiveCamera(
        camera,
        clock=clock,
        refused=refused,
        connect=source.connect,
        release=source.close,
        interrupt=source.interrupt,
        trigger=source.trigger,
    )
    live.start(source.connect())
    return live
