"""Open a bus or a camera by its address."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

from lineside.core import Camera as CameraRecord
from lineside.core import Clock
from lineside.core.drivers import SecretUrl, find_driver
from lineside.links.contract import Bus, BusSession, Camera, Refused, WillSource
from lineside.links.shots import say_nothing

BUSES = {
    "memory": "lineside.links.memory:open_memory",
    "mqtt": "lineside.links.mqtt:open_mqtt",
    "mqtts": "lineside.links.mqtt:open_mqtt",
}

SESSIONS = {
    "memory": "lineside.links.memory:open_memory_session",
    "mqtt": "lineside.links.mqtt_session:open_mqtt_session",
    "mqtts": "lineside.links.mqtt_session:open_mqtt_session",
}

CAMERAS = {
    "aravis": "lineside.links.camera_aravis:open_aravis_camera",
    "folder": "lineside.links.camera_folder:open_folder_camera",
    "http": "lineside.links.camera_http:open_http_camera",
    "http-push": "lineside.links.camera_push:open_push_camera",
    "https": "lineside.links.camera_http:open_http_camera",
    "mqtt": "lineside.links.camera_mqtt:open_mqtt_camera",
    "rtsp": "lineside.links.camera_rtsp:open_rtsp_camera",
    "v4l": "lineside.links.camera_video:open_v4l_camera",
    "video": "lineside.links.camera_video:open_video_camera",
}


def open_bus(url: str, *, client_id: str, clock: Clock, will: WillSource = None) -> Bus:
    """Join a message bus; the caller closes it.

    Args:
        url: ``mqtt://user:password@host:1883``, ``mqtts://…``, ``memory://name``.
        client_id: one per client and broker; a second of the same name throws out the first.
        clock: gives ``Message.arrived_s``.
        will: what the broker says for us when we vanish; a function gives the one of each
            connection, and is given how many there were before.

    Raises:
        InvalidError: the address can never work.
        RefusedError: the broker refuses the credentials.
        MissingExtraError: the client library is not installed.
    """
    opener = find_driver("bus", url, table=BUSES)
    return cast("Bus", opener(SecretUrl(url).reveal(), client_id=client_id, clock=clock, will=will))


def open_session(
    url: str,
    *,
    client_id: str,
    patterns: tuple[str, ...],
    clock: Clock,
    former: tuple[str, ...] = (),
    may_join: Callable[[], bool] = lambda: True,
) -> BusSession:
    """Go on with a session of a message bus, or begin it; the caller closes it.

    Args:
        url: as for ``open_bus``.
        client_id: names the session that the broker keeps; the same at each start.
        patterns: of the topics that it is for.
        clock: gives ``Message.arrived_s``.
        former: patterns that the session was opened with before; those that are not among
            ``patterns`` any more are unsubscribed.
        may_join: asked before each connection: whoever joins takes the session from its reader.

    Raises:
        InvalidError: the address can never work, or a pattern is none.
        RefusedError: the broker refuses credentials or subscription.
        MissingExtraError: the client library is not installed.
    """
    opener = find_driver("sessions", url, table=SESSIONS)
    return cast(
        "BusSession",
        opener(
            SecretUrl(url).reveal(),
            client_id=client_id,
            patterns=patterns,
            clock=clock,
            former=former,
            may_join=may_join,
        ),
    )


def open_camera(
    camera: CameraRecord,
    *,
    clock: Clock,
    bus: Bus | None = None,
    refused: Refused = say_nothing,
    folder: Path | None = None,
) -> Camera:
    """Open a camera of the plant file; the caller closes it.

    Args:
        camera: its ``source`` chooses the adapter.
        clock: gives capture times where the source has none.
        bus: where ``mqtt:`` cameras publish; stays open when the camera is closed.
        refused: told of each message that gave no picture.
        folder: where an adapter may keep what it has to remember over a restart.

    Raises:
        UnavailableError, RefusedError, InvalidError: see ``contract.Camera``.
    """
    opener = find_driver("cameras", camera.source, table=CAMERAS)
    return cast("Camera", opener(camera, clock=clock, bus=bus, refused=refused, folder=folder))
