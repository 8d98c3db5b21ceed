"""``rtsp://user:password@host/path``: a network camera through OpenCV (FFmpeg).

OpenCV only says whether a stream opened. So the camera is asked first by RTSP itself (RFC 2326,
DESCRIBE, with Basic or Digest credentials), and its answer tells a camera that is away from one
that refuses the password and from one that has no such stream.
"""

from pathlib import Path

from lineside.core import Camera as CameraRecord
from lineside.core import Clock, UnavailableError, need, without_secret
from lineside.links.contract import Bus, Refused
from lineside.links.rtsp_ask import ask
from lineside.links.shots import Grab, LiveCamera, grab_from
from lineside.vision.video import new_capture

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
        ask(camera.source, timeout_s=_TIMEOUT_MS / 1000)
        if not capture.open(camera.source, cv2.CAP_FFMPEG, limits):
            raise UnavailableError(
                "the stream does not open",
                where=without_secret(camera.source),
                fix="Look whether another player opens it.",
            )
        return grab_from(capture)

    live = LiveCamera(
        camera, clock=clock, refused=refused, connect=connect, release=capture.release
    )
    live.start(connect())
    return live
