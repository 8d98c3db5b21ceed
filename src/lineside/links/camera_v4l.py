"""``v4l:<number>``: a USB camera of this machine through OpenCV."""

import os
from pathlib import Path

from lineside.core import Camera as CameraRecord
from lineside.core import Clock, InvalidError, RefusedError, UnavailableError, need
from lineside.links.contract import Bus, Refused
from lineside.links.shots import Grab, LiveCamera, grab_from
from lineside.vision.picture import new_capture

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
    number = camera.source.removeprefix("v4l:")
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
