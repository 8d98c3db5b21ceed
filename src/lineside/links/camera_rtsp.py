"""``rtsp://user:password@host/path``: a network camera through OpenCV (FFmpeg).

OpenCV only says whether a stream opened. So the camera is asked first by RTSP itself (RFC 2326,
DESCRIBE, with Basic or Digest credentials), and its answer tells a camera that is away from one
that refuses the password and from one that has no such stream.
"""

import re
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lineside.core import Camera as CameraRecord
from lineside.core import Clock, InvalidError, UnavailableError, need
from lineside.core.drivers import SecretUrl
from lineside.links.camera_http import CHECK_CABLE, authorization, check_status
from lineside.links.contract import Bus, Refused
from lineside.links.shots import Grab, LiveCamera, grab_from
from lineside.vision.picture import new_capture

_MOST_BYTES = 64_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    challenges: tuple[str, ...]


def ask(url: str, *, timeout_s: float) -> None:
    """Return when the stream is there and the credentials are taken.

    Raises:
        InvalidError: the server has no such stream, or is no RTSP server.
        RefusedError: user or password are wrong.
        UnavailableError: nobody answers in time, or the server is overloaded.
    """
    parts, shown = urlsplit(url), SecretUrl(url)
    if not parts.hostname:
        raise InvalidError("no host", where=shown, fix="Write rtsp://host/path.")
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        address = (parts.hostname, parts.port or 554)
        with socket.create_connection(address, timeout=timeout_s) as link:
            answer = _describe(link, bare, sequence=1, credentials="")
            if answer.status == 401 and parts.username:
                credentials = authorization(
                    answer.challenges, user=unquote(parts.username),
                    password=unquote(parts.password or ""), method="DESCRIBE", uri=bare,
                )  # fmt: skip
                answer = _describe(link, bare, sequence=2, credentials=credentials)
    except OSError as error:
        raise UnavailableError(
            f"the camera does not answer: {error}", where=shown, fix=CHECK_CABLE
        ) from error
    if not answer.status:
        raise InvalidError("no RTSP server there", where=shown, fix="Check port and path.")
    check_status(answer.status, where=shown)


def _describe(link: socket.socket, uri: str, *, sequence: int, credentials: str) -> _Answer:
    lines = [f"DESCRIBE {uri} RTSP/1.0", f"CSeq: {sequence}", "Accept: application/sdp"]
    if credentials:
        lines.append(f"Authorization: {credentials}")
    link.sendall("\r\n".join([*lines, "", ""]).encode())
    received = b""
    while b"\r\n\r\n" not in received and len(received) < _MOST_BYTES:
        part = link.recv(4096)
        if not part:
            break
        received += part
    head = received.partition(b"\r\n\r\n")[0].decode("latin-1")
    match = re.match(r"RTSP/1\.\d (\d{3})", head)
    challenges = re.findall(r"(?im)^www-authenticate:\s*(.+)$", head)
    return _Answer(status=int(match[1]) if match else 0, challenges=tuple(challenges))


_TIMEOUT_MS = 5000


def open_rtsp_camera(
    camera: CameraRecord,
    *,
    clock: Clock,
    bus: Bus | None,  # noqa: ARG001  every opener takes the same
    refused: Refused,
    folder: Path | None = None,  # noqa: ARG001
) -> LiveCamera:
    """Open the stream.

    Raises:
        InvalidError: no such stream, or no RTSP server.
        RefusedError: user or password are wrong.
        UnavailableError: nobody answers.
    """
    cv2 = need("cv2", extra="edge")
    capture = new_capture()
    limits = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT_MS,
    ]  # fmt: skip

    def connect() -> Grab:
        ask(camera.source.reveal(), timeout_s=_TIMEOUT_MS / 1000)
        if not capture.open(camera.source.reveal(), cv2.CAP_FFMPEG, limits):
            raise UnavailableError(
                "the stream does not open",
                where=str(camera.source),
                fix="Look whether another player opens it.",
            )
        return grab_from(capture)

    live = LiveCamera(
        camera, clock=clock, refused=refused, connect=connect, release=capture.release
    )
    live.start(connect())
    return live
