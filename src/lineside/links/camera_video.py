"""``video:<file>``: the pictures of a video file through OpenCV; then it ends.

The file's modification time is the capture time of its first picture; the others follow by their
position in the video.
"""

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lineside.core import Camera as CameraRecord
from lineside.core import Clock, InvalidError, NotFoundError, RefusedError, UnavailableError, need
from lineside.links.contract import Bus, Refused, Shot
from lineside.links.shots import Grab, LiveCamera, ShotCamera, grab_from, whole_ms
from lineside.vision.picture import new_capture


def open_video_camera(
    camera: CameraRecord,
    *,
    clock: Clock,
    bus: Bus | None,  # noqa: ARG001  every opener takes the same
    refused: Refused,
    folder: Path | None = None,  # noqa: ARG001
) -> "VideoCamera":
    """Open the file."""
    cv2 = need("cv2", extra="edge")
    path = Path(camera.source.reveal().removeprefix("video:"))
    if not path.is_file():
        raise NotFoundError("no such file", where=str(path), fix="Name a video file.")
    capture = new_capture()
    if not capture.open(str(path), cv2.CAP_FFMPEG):
        raise InvalidError("no video that can be read", where=str(path), fix="Convert it to MP4.")
    begun = datetime.fromtimestamp(path.stat().st_mtime, tz=UTC)
    return VideoCamera(camera, capture=capture, begun=begun, clock=clock, refused=refused)


class VideoCamera(ShotCamera):
    """Each picture of the video once, as fast as they are taken."""

    def __init__(
        self,
        camera: CameraRecord,
        *,
        capture: Any,  # noqa: ANN401  cv2.VideoCapture carries no type
        begun: datetime,
        clock: Clock,
        refused: Refused,
    ) -> None:
        super().__init__(refused=refused)
        self._camera = camera
        self._capture = capture
        self._begun = begun
        self._clock = clock
        self._lock = threading.Lock()

    def shots(self) -> Iterator[Shot]:
        cv2 = need("cv2", extra="edge")
        number = 0
        while True:
            with self._lock:
                good, image = self._capture.read()
                position_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC) if good else 0.0
            if not good:
                return
            number += 1
            yield Shot(
                camera=self._camera.id,
                captured_at=whole_ms(self._begun + timedelta(milliseconds=max(0.0, position_ms))),
                image=cv2.cvtColor(image, cv2.COLOR_BGR2RGB),
                sequence=number,
                arrived_s=self._clock.monotonic(),
                max_bytes=self._camera.max_frame_bytes,
                rotate_deg=self._camera.rotate_deg,
                crop_px=self._camera.crop_px,
            )

    def close(self) -> None:
        """End ``shots`` and free the file."""
        with self._lock:
            self._capture.release()


DEVICES = Path("/dev")


def open_v4l_camera(
    camera: CameraRecord,
    *,
    clock: Clock,
    bus: Bus | None,  # noqa: ARG001  every opener takes the same
    refused: Refused,
    folder: Path | None = None,  # noqa: ARG001
    devices: Path = DEVICES,
) -> LiveCamera:
    """Open the device.

    Raises:
        InvalidError: not a number.
        RefusedError: this user may not read the device.
        UnavailableError: unplugged, or in use by another program.
    """
    cv2 = need("cv2", extra="edge")
    number = camera.source.reveal().removeprefix("v4l:")
    if not number.isdigit():
        raise InvalidError(f"{number!r} is no number", where=camera.source, fix="Write v4l:0.")
    device = devices / f"video{number}"
    capture = new_capture()

    def connect() -> Grab:
        if not device.exists():
            raise UnavailableError("not plugged in", where=str(device), fix="Plug the camera in.")
        if not os.access(device, os.R_OK | os.W_OK):
            raise RefusedError(
                "may not be used", where=str(device), fix="Add this user to the group video."
            )
        if not capture.open(str(device), cv2.CAP_V4L2):
            raise UnavailableError(
                "does not open", where=str(device), fix="Close the program that uses it."
            )
        return grab_from(capture)

    live = LiveCamera(
        camera, clock=clock, refused=refused, connect=connect, release=capture.release
    )
    live.start(connect())
    return live
