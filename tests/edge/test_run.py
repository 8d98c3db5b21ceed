"""The whole program: with a real package, and killed while it works."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import (
    ConflictError,
    Digest,
    InvalidError,
    NotFoundError,
    SystemClock,
    decode_json,
    encode,
)
from lineside.core.drivers import SecretUrl
from lineside.edge import EdgeConfig, run
from lineside.edge.machine import sole_user
from lineside.edge.messages import frame_message
from lineside.links import Bus, EmbeddedBroker, Mailbox, open_bus
from lineside.models import Package
from lineside.streams import Event, decode_event, read_prediction
from lineside.testing.links import LONG_S, wait_until
from lineside.vision import PictureState, encode_jpeg, open_frame
from tests.edge.conftest import DEVICE, PREDICTION, PackageServer
from tests.links.chunk_camera import CHUNK_SOURCE, ChunkCamera
from tests.links.gige_camera import SOURCE, gige_port, scene_camera
from tests.links.modbus_plc import ModbusPlc, modbus_plc
from tests.links.output_peers import patient_outputs
from tests.models.conftest import scene

PLANT = """
schema = "lineside.plant/1"
site = "demo"
line = [{ id = "warehouse", name = "Warehouse" }]

[[camera]]
id = "rack"
line = "warehouse"
source = "mqtt:i/cam"

[[inspection]]
id = "stock"
camera = "rack"
view = { width_px = 160, height_px = 120 }

[[inspection.region]]
id = "top"
label = "disc"
box_px = { x0_px = 22, y0_px = 22, x1_px = 46, y1_px = 42 }

[[inspection.region]]
id = "low"
label = "ring"
box_px = { x0_px = 102, y0_px = 62, x1_px = 126, y1_px = 82 }
"""

REJECTING = PLANT.replace('camera = "rack"', 'camera = "rack"\nreject = ["disc"]')
GATE = """
[[output]]
id = "gate"
line = "warehouse"
url = "PLC"
switch = "coil/12"
on = ["reject"]
fail_safe = 1
pulse_s = "3 s"
max_age_s = 30
heartbeat = "coil/13"
heartbeat_s = 0.1
"""


@pytest.fixture
def plant_file(tmp_path: Path) -> Path:
    path = tmp_path / "plant.toml"
    path.write_text(PLANT)
    return path


def desired(digest: Digest, url: str) -> bytes:
    wanted = {"inspection": "stock", "digest": digest, "url": url}
    return encode({"schema": "lineside.desired/1", "packages": [wanted]})


def shown(*, lit: bool = True, seed: int = 3) -> bytes:
    """A camera message of this moment."""
    frame = open_frame(
        encode_jpeg(scene(lit=lit, seed=seed), quality=95),
        camera="rack",
        captured_at=SystemClock().now(),
    )
    return frame_message(frame)


def part(*, lit: bool) -> NDArray[np.uint8]:
    """A part that is bright where the disc is looked for, or not."""
    image = scene(lit=False)
    image[20:44, 20:48] = 245 if lit else 60
    return image


def next_event(mailbox: Mailbox) -> Event:
    message = mailbox.get(timeout_s=LONG_S)
    assert message is not None
    return decode_event(message.payload, where=message.topic)


def test_a_real_package_is_fetched_and_judges_real_frames(
    archive: bytes, packages: PackageServer, plant_file: Path, tmp_path: Path
) -> None:
    digest = Package.read(archive).digest
    packages.answers["/package"] = (200, archive, {})
    token = tmp_path / "token"
    token.write_text("tok_1\n")
    clock, stop = SystemClock(), threading.Event()
    with EmbeddedBroker() as broker:
        hub = open_bus(broker.url, client_id="hub", clock=clock)
        said = hub.subscribe((PREDICTION,), name="said")
        status = hub.subscribe((f"{DEVICE}/status",), name="status")
        hub.publish(f"{DEVICE}/desired", desired(digest, "http://x/package"), retain=True)
        config = EdgeConfig(
            device="edge-1",
            bus=SecretUrl(broker.url),
            plant=str(plant_file),
            data_dir=str(tmp_path / "edge"),
            hub=packages.url,
            token_file=str(token),
            unsigned="allowed",
        )
        program = threading.Thread(
            target=run, args=(config,), kwargs={"clock": clock, "stop": stop}, name="program"
        )
        program.start()
        while message := status.get(timeout_s=LONG_S):
            if decode_json(message.payload, where="status")["packages"]:
                break
        answers = []
        for lit in (True, False):
            hub.publish("i/cam", shown(lit=lit), retain=True)  # also for a later camera
            answers.append(read_prediction(next_event(said)))
        hub.publish("i/cam", shown(seed=99))
        strange = read_prediction(next_event(said))
        stop.set()
        program.join(LONG_S)
        assert not program.is_alive()
        hub.close()
    assert [found.state for found in answers] == [PictureState.OK] * 2
    bright, dark = ({item.name: item.probability for item in each.labels} for each in answers)
    assert bright["disc"] > dark["disc"] + 0.1
    assert bright["ring"] == pytest.approx(dark["ring"], abs=0.02)
    assert [found.package for found in answers] == [digest, digest]
    assert strange.state is PictureState.CAMERA_MOVED
    assert packages.requests == [("/package", "Bearer tok_1")]


@contextmanager
def gate_at(
    plant: str, *, archive: bytes, packages: PackageServer, folder: Path
) -> Iterator["_Gate"]:
    """The gate of a device with a package, for the length of a ``with``; then it is fail-safe."""
    packages.answers["/package"] = (200, archive, {})
    stop, clock, plant_file = threading.Event(), SystemClock(), folder / "plant.toml"
    with EmbeddedBroker() as broker, modbus_plc() as plc:
        plant_file.write_text(plant.replace("PLC", plc.url))
        hub = open_bus(broker.url, client_id="hub", clock=clock)
        digest = Package.read(archive).digest
        hub.publish(f"{DEVICE}/desired", desired(digest, "http://x/package"), retain=True)
        config = EdgeConfig(
            device="edge-1", bus=SecretUrl(broker.url), plant=str(plant_file), hub=packages.url,
            data_dir=str(folder / "edge"), unsigned="allowed",
        )  # fmt: skip
        program = threading.Thread(
            target=run, args=(config,), kwargs={"clock": clock, "stop": stop}, name="program"
        )
        program.start()
        gate = _Gate(plc, hub)
        try:
            gate.moves(1, says="loaded_at")  # fail-safe from the start: nothing was judged yet
            yield gate
        finally:
            stop.set()
            program.join(LONG_S)
            hub.close()
        assert plc.value("coil/12") == 1


@pytest.mark.slow
def test_a_verdict_switches_a_coil_that_is_fail_safe_whenever_the_line_cannot_be_relied_on(
    archive: bytes, packages: PackageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient_outputs(monkeypatch)
    images, count = tmp_path / "images", itertools.count(1)
    images.mkdir()

    def show(*, lit: bool, exposure: float = 1.0) -> None:
        """A part passes the camera: one that is bright where the disc is looked for is a reject."""
        (images / f"{next(count)}.jpg").write_bytes(
            encode_jpeg((part(lit=lit) * exposure).clip(0, 255).astype(np.uint8), quality=95)
        )

    plant = REJECTING.replace("mqtt:i/cam", f"folder:{images}") + GATE
    with gate_at(plant, archive=archive, packages=packages, folder=tmp_path) as gate:
        show(lit=False)
        gate.moves(0)
        show(lit=True)
        gate.moves(1, 0, says="follows")
        shutil.move(images, tmp_path / "unplugged")
        gate.moves(1, says="camera rack is lost")
        shutil.move(tmp_path / "unplugged", images)
        gate.says("it waits for a verdict")
        show(lit=False)
        gate.moves(0)
        for exposure, fault in ((0.1, "dark"), (8.0, "overexposed")):
            show(lit=False, exposure=exposure)
            gate.moves(1, says=f"camera rack is {fault}")
            show(lit=False)
            gate.moves(0, says="follows")
        gate.plc.switch_off()
        gate.was.clear()
        gate.says("away")
        gate.plc.switch_on()
        gate.moves(1)
        show(lit=False)
        gate.moves(0)
        wait_until(lambda: gate.plc.values("coil/13")[-2:] in ([0, 1], [1, 0]))


def test_a_trigger_of_a_gige_camera_leads_to_a_verdict_that_switches_a_coil(
    archive: bytes, packages: PackageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    absent: Callable[[str, str], None],
) -> None:  # fmt: skip
    patient_outputs(monkeypatch)
    plant = REJECTING.replace('"mqtt:i/cam"', f'"{SOURCE}"\ntrigger = "software"') + GATE
    plant = plant.replace('camera = "rack"', 'camera = "rack"\ntrigger = {on="topic", topic="go"}')
    scenes = {"good": part(lit=False), "bad": part(lit=True)}
    with (
        gige_port(absent),
        closing(scene_camera(tmp_path / "scenes.npz", scenes)) as camera,
        gate_at(plant, archive=archive, packages=packages, folder=tmp_path) as gate,
    ):
        for shown, values in (("good", [0]), ("bad", [1, 0])):
            camera.say(shown)
            gate.hub.publish("go", b"")
            gate.moves(*values, says="follows")
        camera.say("leave")
        gate.moves(1, says="camera rack is lost")
        gate.says("it waits for a verdict")
        camera.say("good")
        gate.was.append(0)

        def follows() -> bool:
            """Of triggers until the camera is ready for one."""
            gate.hub.publish("go", b"")
            return gate.plc.values("coil/12") == gate.was

        wait_until(follows)
        gate.says("follows")


def test_parts_that_a_light_barrier_counts_are_told_apart_by_their_ids(
    archive: bytes, packages: PackageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    absent: Callable[[str, str], None],
) -> None:  # fmt: skip
    patient_outputs(monkeypatch)
    source = f'"{CHUNK_SOURCE}"\ntrigger = "Line1"\npart_id = "ChunkCounterValue"'
    plant = REJECTING.replace('"mqtt:i/cam"', source) + GATE
    with (
        gige_port(absent),
        closing(ChunkCamera()) as camera,
        gate_at(plant, archive=archive, packages=packages, folder=tmp_path) as gate,
    ):
        said = gate.hub.subscribe((PREDICTION,), name="said")
        wait_until(lambda: camera.is_set("Acquisition"))
        for lit, values in ((False, [0]), (True, [1, 0])):
            camera.scene = part(lit=lit)
            camera.edge()
            gate.moves(*values, says="follows")
        camera.chunks = {"CounterValue": None}
        camera.edge()
        gate.moves(1, says="inspection stock failed on an image: part id cannot be read")
        camera.chunks, camera.scene = {}, part(lit=False)
        camera.edge()
        gate.moves(0, says="follows")
        discs = dict[str, float]()
        while "4" not in discs:  # what no hub confirms is said again
            found = read_prediction(next_event(said))
            discs[found.frame.part] = next(
                one.probability for one in found.labels if one.name == "disc"
            )
    assert discs.keys() == {"1", "2", "4"}
    assert discs["2"] > max(discs["1"], discs["4"]) + 0.1


class _Gate:
    """A coil as the PLC sees it, and what the device says of it."""

    def __init__(self, plc: ModbusPlc, hub: Bus) -> None:
        self.plc, self.hub, self.was = plc, hub, list[int]()
        self._heard = hub.subscribe((f"{DEVICE}/status",), name="status")

    def moves(self, *values: int, says: str = "") -> None:
        self.was.extend(values)
        wait_until(lambda: self.plc.values("coil/12") == self.was, why=f"not {self.was}")
        if says:
            self.says(says)

    def says(self, text: str) -> None:
        wait_until(lambda: text in self._status())

    def _status(self) -> str:
        """The next one."""
        found = self._heard.get(timeout_s=LONG_S)
        assert found is not None
        return found.payload.decode()


def test_a_folder_has_one_user(tmp_path: Path) -> None:
    with sole_user(tmp_path), pytest.raises(ConflictError), sole_user(tmp_path):
        pass
    with sole_user(tmp_path):
        pass


def test_a_plant_file_that_is_not_there_ends_the_program(tmp_path: Path) -> None:
    config = EdgeConfig(
        device="e",
        bus=SecretUrl("memory://x"),
        plant=str(tmp_path / "none"),
        data_dir=str(tmp_path),
    )
    with pytest.raises(NotFoundError):
        run(config, clock=SystemClock(), stop=threading.Event())


@pytest.mark.parametrize(
    "changes",
    [{"device": "a/b"}, {"device": ""}, {"hub": "ftp://x"}, {"spool_max_bytes": 10},
     {"max_loaded_packages": 0}, {"resend_after_s": 0.0}],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidError):
        EdgeConfig(**{"device": "e", "bus": SecretUrl(""), "plant": "", "data_dir": "", **changes})  # type: ignore[arg-type]  # wrong on purpose


CHILD = """
import sys, threading
from lineside.core import SystemClock
from lineside.edge import EdgeConfig, run
device, bus, plant, folder, hub = sys.argv[1:]
config = EdgeConfig(device=device, bus=bus, plant=plant, data_dir=folder, hub=hub,
                    resend_after_s=0.5, status_every_s=1.0, unsigned="allowed")
run(config, clock=SystemClock(), stop=threading.Event())
"""


class Plant:
    """The line and the hub: frames go out, events are stored once, acknowledged like the hub's."""

    def __init__(self, url: str) -> None:
        clock = SystemClock()
        self.bus = open_bus(url, client_id="hub", clock=clock)
        self.said = self.bus.subscribe((PREDICTION,), size=100_000, name="said")
        self.stored: dict[int, str] = {}
        self.doubled: list[tuple[int, str, str]] = []
        self.acked = 0
        self.stop = threading.Event()
        self.threads = [
            threading.Thread(target=self.show, name="line"),
            threading.Thread(target=self.store, name="hub"),
        ]

    def show(self) -> None:
        number = 0
        while not self.stop.wait(0.03):
            number += 1
            self.bus.publish_soon("i/cam", shown(lit=number % 2 == 0))

    def store(self) -> None:
        while not self.stop.is_set():
            for message in self.said.get_many(most=20, timeout_s=0.1):
                event = decode_event(message.payload, where="said")
                before = self.stored.setdefault(event.deviceseq, event.id)
                if before != event.id:
                    self.doubled.append((event.deviceseq, before, event.id))
                self.acked = max(self.acked, event.devicefirst - 1)
            while self.acked + 1 in self.stored:
                self.acked += 1
            ack = {"schema": "lineside.ack/1", "device": "edge-1", "sequence": self.acked}
            self.bus.publish_soon(f"{DEVICE}/ack", encode(ack))

    def close(self) -> None:
        self.stop.set()
        for thread in self.threads:
            if thread.ident is not None:
                thread.join()
        self.bus.close()


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


@pytest.mark.slow
def test_kill_9_of_device_and_broker_loses_and_doubles_nothing(
    archive: bytes,
    packages: PackageServer,
    plant_file: Path,
    tmp_path: Path,
    broker: EmbeddedBroker,
) -> None:
    rng = random.Random(7)  # noqa: S311  a fixed seed
    packages.answers["/package"] = (200, archive, {})
    plant = Plant(broker.url)
    wish = desired(Package.read(archive).digest, "/package")
    plant.bus.publish(f"{DEVICE}/desired", wish, retain=True)
    for thread in plant.threads:
        thread.start()
    words = ["edge-1", broker.url, str(plant_file), str(tmp_path / "edge"), packages.url]
    pause = threading.Event()
    for turn in range(6):
        child = subprocess.Popen([sys.executable, "-c", CHILD, *words])
        before = len(plant.stored)
        wait_until(lambda sent=before: len(plant.stored) > sent + 3)  # type: ignore[misc]  # a default of a lambda
        if turn % 2:
            broker.stop()
            pause.wait(rng.uniform(0.1, 0.8))
            broker.start()
            plant.bus.publish(f"{DEVICE}/desired", wish, retain=True, timeout_s=LONG_S)
        pause.wait(rng.uniform(0.0, 0.7))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    child = subprocess.Popen([sys.executable, "-c", CHILD, *words])
    before = len(plant.stored)
    wait_until(lambda: len(plant.stored) > before + 5)
    plant.stop.set()
    wait_until(lambda: plant.acked == max(plant.stored))
    child.kill()
    child.wait()
    plant.close()
    assert plant.doubled == []
    assert sorted(plant.stored) == list(range(1, max(plant.stored) + 1))
    assert len(set(plant.stored.values())) == len(plant.stored)
