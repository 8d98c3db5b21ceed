"""Pictures that the hub's own broker acknowledged are there after kill -9, and after restarts."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from lineside.core import Digest, digest_of
from lineside.testing.links import wait_until
from tests.hub.conftest import PLANT
from tests.hub.process import Process
from tests.hub.test_run import Pictures, camera_message
from tests.links.conftest import MOSQUITTO, free_port

EACH_S = 0.04
BETWEEN_S = 0.6
MOST_WAITING = 20


class Camera:
    """A sender that goes on whatever happens, and knows what it was acknowledged."""

    def __init__(self, port: int, *, qos: int, picture: Callable[[int], bytes]) -> None:
        self.sent: dict[int, Digest] = {}
        self.acknowledged: set[Digest] = set()
        self._qos = qos
        self._picture = picture
        self._stop = threading.Event()
        # Without a session mosquitto forgets what came with quality 2 and is not released.
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"camera-{qos}", clean_session=False
        )
        self.client.reconnect_delay_set(1, 1)
        self.client.on_publish = lambda *given: self.acknowledged.add(self.sent[given[2]])
        self.client.connect_async("127.0.0.1", port)
        self._thread = threading.Thread(target=self._run, name="camera")

    def start(self) -> None:
        self.client.loop_start()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def end(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(EACH_S):
            if len(self.sent) - len(self.acknowledged) >= MOST_WAITING:
                continue  # a hub takes seconds to start
            number += 1
            picture = self._picture(number)
            message = camera_message(picture)
            # The number that paho gives next: an answer may be there before publish returns.
            self.sent[self.client._last_mid + 1] = digest_of(picture)
            self.client.publish("i/cam", message, qos=self._qos)


@pytest.fixture
def port(tmp_path: Path) -> int:
    (tmp_path / "plant.toml").write_bytes(PLANT)
    return free_port()


@pytest.fixture(params=["amqtt", "mosquitto"])
def hub(
    request: pytest.FixtureRequest, tmp_path: Path, port: int, absent: Callable[[str, str], None]
) -> Iterator[Process]:
    if request.param == "mosquitto" and MOSQUITTO is None:
        absent("service", "mosquitto is not installed")
    made = Process(tmp_path, bus="embedded")
    with (tmp_path / "hub.toml").open("a") as settings:
        settings.write(f'bus_port = {port}\nbus_broker = "{request.param}"\n')
    yield made
    if made.process is not None:
        made.end(signal.SIGTERM)


def lost(hub: Process, camera: Camera) -> set[Digest]:
    """What was acknowledged and is not there when everything has come to rest."""
    camera.stop()
    wait_until(lambda: len(camera.acknowledged) == len(camera.sent))

    def missing() -> set[Digest]:
        stored: set[Digest] = set()
        before = ""
        while page := hub.ask(f"/api/v1/frames?limit=1000&before={before}")["items"]:
            stored |= {frame["digest"] for frame in page}
            before = page[-1]["id"]
        return camera.acknowledged - stored

    with suppress(AssertionError):  # mosquitto may hold some that the hub has yet to store
        wait_until(lambda: not missing())
    return missing()


def camera_of(port: int, *, qos: int, jpeg: Pictures) -> Camera:
    """A camera whose images no other one sends."""
    return Camera(port, qos=qos, picture=lambda number: jpeg("red", seed=1000 * qos + number))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("ends", "times"), [("SIGKILL", 2), ("SIGTERM", 1)])
def test_no_acknowledged_picture_is_lost(
    hub: Process, port: int, jpeg: Pictures, ends: str, times: int
) -> None:
    """Two cameras send at once, one for each quality of service."""
    cameras = [camera_of(port, qos=qos, jpeg=jpeg) for qos in (1, 2)]
    hub.start()
    for camera in cameras:
        camera.start()
    pause = threading.Event()
    try:
        for round_ in range(times):
            pause.wait(BETWEEN_S + 0.13 * round_)
            hub.end(signal.Signals[ends])
            hub.start()
        pause.wait(BETWEEN_S)
        for camera in cameras:
            gone = lost(hub, camera)
            assert camera.sent, "nothing was sent"
            assert gone == set()
    finally:
        for camera in cameras:
            camera.stop()
            camera.end()
