"""From a PLC's trigger to a coil: the way through a running device's outputs, without a network.

    python benchmarks/outputs.py [--parts 200]

A real Modbus server (pymodbus, its own thread of this process) is the PLC, on loopback. Measured:
from the verdict to the coil (``verdict_to_coil``), and in the same way to a subscriber of a
mosquitto (``verdict_to_mqtt``, QoS 1) and to a node of an OPC UA server (``verdict_to_opcua``,
asyncua, as the PLC); how far from its due time a delayed verdict is written (``delay_error``);
from the trigger of a handshake to the result and ``done``, beside a judge that answers at once
(``trigger_to_done``); and from an image's capture to the coil with a real package
(``capture_to_coil``): decode, register, network, verdict, write.
``camera_to_coil`` goes through the running program: a GigE Vision camera (Aravis' fake one, its own
process, 160 x 120 RGB, each image of the other kind than the one before), ``lineside edge`` with
that package, the server. It is measured from when the camera begins to send an image, at several
rates, and with parts that change the image so much that each is placed anew on the reference view,
beside a loop of a few lines in a process of its own that grabs, runs the package's network
and writes the coil (``bare``); the two take turns. ``ratio`` is that of the medians, with the 95 %
interval of a bootstrap; ``missed`` are images that did not switch the coil within two periods.
Needs mosquitto, Aravis' fake camera (Debian: aravis-tools) and the extras modbus and opcua.
Results: ``results/outputs.json``.
"""

import argparse
import ctypes
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, Self

import measure
import numpy as np

from lineside.core import SystemClock, parse_plant
from lineside.core.drivers import SecretUrl
from lineside.core.outputs import HandshakeConfig, OutputConfig
from lineside.edge.delivery.outputs import LineOutputs
from lineside.edge.messages import Counters
from lineside.links import open_bus
from lineside.models import Package, Predictor, build_package
from lineside.streams import LineVerdicts, prediction_id, read_verdict
from lineside.streams.verdicts import InspectionAnswer, VerdictData
from lineside.vision import encode_jpeg, open_frame
from lineside.vision.verdict import PartVerdict

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.edge.conftest import PackageServer
from tests.edge.test_run import GATE, REJECTING, desired
from tests.links.conftest import Mosquitto
from tests.links.gige_camera import SOURCE, FakeCamera, gige_port, scene_camera
from tests.links.modbus_plc import ModbusPlc, modbus_plc
from tests.links.output_peers import Peer, broker_peer, opcua_peer
from tests.models.conftest import package_parts, scene

PLANT = parse_plant(
    b"""
schema = "lineside.plant/1"
site = "werk"
line = [{ id = "belt", name = "Belt" }]
camera = [{ id = "rack", line = "belt", source = "mqtt:i/cam" }]
inspection = [{ id = "stock", camera = "rack", reject = ["disc"], labels = ["disc", "ring"] }]
""",
    where="plant.toml",
)
CLOCK = SystemClock()
PATIENCE_S = 120.0
WARM_UP = 20
SHAKE = HandshakeConfig(trigger="input/1", acknowledge="coil/2", done="coil/3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=200)
    parser.add_argument("--bare", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    parts = arguments.parts
    if arguments.bare:
        run_bare(int(arguments.bare[0]), every_s=float(arguments.bare[1]))
        return
    with (
        TemporaryDirectory() as folder, modbus_plc() as plc, opcua_peer() as server,
        broker_peer(Mosquitto(folder=Path(folder))) as broker,
    ):  # fmt: skip
        result = {
            "parts": parts,
            "verdict_to_coil": measure.percentiles(at_once(plc, parts)),
            "verdict_to_mqtt": measure.percentiles(at_once(broker, parts)),
            "verdict_to_opcua": measure.percentiles(at_once(server, parts)),
            "delay_error": measure.percentiles(delayed(plc, parts // 3)),
            "trigger_to_done": measure.percentiles(asked(plc, parts)),
            "capture_to_coil": measure.percentiles(judged(plc, parts)),
            "camera_to_coil": from_camera(plc, broker.broker.url, parts, folder=Path(folder)),
        }
    print(result)
    measure.write("outputs", result, answer)


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    coil, node = result["verdict_to_coil"], result["verdict_to_opcua"]
    slow = result["camera_to_coil"]["10 a second"]
    return (
        f"Its coil after {coil['p50_ms']:.2f} ms (median; p99 {coil['p99_ms']:.2f} ms, "
        f"n {coil['n']:,}), an OPC UA node after {node['p50_ms']:.2f} ms, on one machine; from a"
        f" GigE camera {slow['device']['p50_ms']:.1f} ms (p99 {slow['device']['p99_ms']:.1f} ms,"
        f" n {slow['device']['n']:,}), {slow['ratio']:.1f} times a bare loop."
    )


class Device:
    """The outputs of a device, beside a line that can be relied on."""

    def __init__(self, peer: Peer, **changes: object) -> None:
        self.switch, _ = peer.points
        fields: dict[str, object] = {
            "id": "gate", "line": "belt", "url": SecretUrl(peer.url), "switch": self.switch,
            "fail_safe": 0, "on": ("reject",),
        }  # fmt: skip
        config = OutputConfig(**fields | changes)  # type: ignore[arg-type]  # as the plant file has it
        self.peer, self.triggered = peer, threading.Event()
        self.outputs = LineOutputs(
            replace(PLANT, output=(config,)), device="edge-1", bus="", inspections=("stock",),
            untrusted=lambda _: "", triggered=lambda _: self.triggered.set(), counters=Counters(),
            clock=CLOCK,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self.peer.writes.clear()
        self.outputs.start()
        wait(lambda: self.peer.values(self.switch)[-1:] == [0])
        self.give("ok")
        return self

    def __exit__(self, *_: object) -> None:
        self.outputs.close()

    def give(self, verdict: str) -> float:
        """A verdict on an image of now; the moment of it."""
        at_s = monotonic()
        answer = InspectionAnswer(
            inspection="stock", event="evt", camera="rack", frame="frm", package="p",
            captured_at=CLOCK.now(), verdict=PartVerdict(verdict),
        )  # fmt: skip
        self.outputs.take(
            VerdictData(
                line="belt", part="", verdict=answer.verdict, reasons=(), frames=("frm",),
                answers=(answer,),
            )
        )  # fmt: skip
        return at_s

    def risen(self, point: str = "") -> float:
        """When the other side got the next 1 of a point; the switch is then 0 again."""
        point = point or self.switch
        wait(lambda: self.peer.values(point)[-1:] == [1])
        at_s = next(at for at, name, value in self.peer.writes if (name, value) == (point, 1))
        if point == self.switch:
            self.give("ok")
            wait(lambda: self.peer.values(point)[-1:] == [0])
            self.peer.writes.clear()
        return at_s


def wait(holds: Callable[[], object]) -> None:
    pause, until_s = threading.Event(), monotonic() + PATIENCE_S
    while not holds():
        assert monotonic() < until_s, "did not happen in time"
        pause.wait(0.0005)


def at_once(peer: Peer, parts: int) -> list[float]:
    with Device(peer) as device:
        return [-(device.give("reject") - device.risen()) for _ in range(parts)]


def delayed(plc: ModbusPlc, parts: int) -> list[float]:
    with Device(plc, delay_s=0.1) as device:
        return [-(device.give("reject") + 0.1 - device.risen()) for _ in range(parts)]


def asked(plc: ModbusPlc, parts: int) -> list[float]:
    found = []
    with Device(plc, handshake=SHAKE) as device:
        for _ in range(parts):
            device.triggered.clear()
            plc.writes.clear()
            began_s = monotonic()
            plc.put("input/1", 1)
            assert device.triggered.wait(PATIENCE_S)
            device.give("ok")
            found.append(device.risen("coil/3") - began_s)
            plc.put("coil/2", 1)
            wait(lambda: plc.value("coil/3") == 0)
            plc.put("input/1", 0)
            plc.put("coil/2", 0)
            threading.Event().wait(0.05)  # the device sees that nothing is asked
    return found


def judged(plc: ModbusPlc, parts: int) -> list[float]:
    """From the capture of a 160 x 120 JPEG to the coil, judged by a small network."""
    predictor = Predictor(Package.read(build_package(*package_parts())), clock=CLOCK)
    image = scene(lit=False)
    image[20:44, 20:48] = 245
    line, found = LineVerdicts(PLANT, "belt"), []
    with Device(plc) as device:
        for number in range(parts + 20):
            image[80:90, 20:30] = number % 200  # the same bytes again are a frozen camera
            encoded = encode_jpeg(image, quality=95)
            began_s = monotonic()
            frame = open_frame(encoded, camera="rack", captured_at=CLOCK.now())
            prediction = predictor.predict(frame)
            answer = line.judge(prediction, event=prediction_id(prediction))
            for event in line.add(answer, at_us=round(monotonic() * 1e6)):
                device.outputs.take(read_verdict(event))
            taken_s = device.risen() - began_s
            if number >= 20:  # the first search for the image's place, caches
                found.append(taken_s)
    return found


def from_camera(plc: ModbusPlc, bus: str, parts: int, *, folder: Path) -> dict[str, Any]:
    """From a camera through the running device to the coil, beside a bare loop, by rate."""
    archive, packages, found = build_package(*package_parts()), PackageServer(), {}
    digest = Package.read(archive).digest
    packages.answers["/package"] = (200, archive, {})
    hub = open_bus(bus, client_id="hub", clock=CLOCK)
    hub.publish("lineside/demo/device/edge-1/desired", desired(digest, "/package"), retain=True)
    (folder / "edge.toml").write_text(
        f'device = "edge-1"\nbus = "{bus}"\nplant = "{folder}/plant.toml"\nunsigned = "allowed"\n'
        f'hub = "{packages.url}"\ndata_dir = "{folder}/edge"\npublish_logs = false\n'
    )
    for name, rate, rest in (
        ("10 a second", 10, 90), ("25 a second", 25, 90), ("50 a second", 50, 90),
        ("10 a second, placed anew", 10, 20),
    ):  # fmt: skip
        good, bad = scene(lit=False), scene(lit=False)
        good[22:42, 22:46], bad[22:42, 22:46] = rest, 245
        plant = REJECTING.replace('"mqtt:i/cam"', f'"{SOURCE}"\nevery_s = {1 / rate}')
        gate = GATE.replace("PLC", plc.url).replace('pulse_s = "3 s"', "")
        (folder / "plant.toml").write_text(plant + gate)
        commands = {
            "bare": [__file__, "--bare", str(plc.port), str(1 / rate)],
            "device": ["-m", "lineside", "edge", "--config", str(folder / "edge.toml")],
        }
        times: dict[str, list[float]] = {each: [] for each in commands}
        with (
            gige_port(absent),
            closing(scene_camera(folder / "scenes.npz", {"good": good, "bad": bad})) as camera,
        ):
            camera.say("turn")
            for each in (*commands, *commands):
                with running([sys.executable, *commands[each]], folder / f"{each}.log"):
                    times[each] += until_coil(plc, camera, parts // 2, rate=rate)
        print(name, file=sys.stderr)
        found[name] = beside(times, parts=parts // 2 * 2)
    hub.close()
    packages.close()
    return found


def absent(_kind: str, reason: str) -> None:
    raise SystemExit(reason)


@contextmanager
def running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def until_coil(plc: ModbusPlc, camera: FakeCamera, parts: int, *, rate: int) -> list[float]:
    """Of images that switched the coil: seconds from when they were sent until then."""
    plc.writes.clear()
    wait(lambda: len(plc.values("coil/12")) > WARM_UP)
    begun_s = monotonic()
    sent = [camera.sent()]
    while len(sent) < parts:
        sent = [one for one in (*sent, camera.sent()) if one[0] > begun_s]
    threading.Event().wait(0.5)
    changed, before = list[tuple[float, int]](), -1
    for at_s, point, value in list(plc.writes):
        if point == "coil/12" and value != before:
            changed.append((at_s, value))
            before = value
    found = []
    for at_s, name in sent:
        value = int(name == "bad")
        took = (one - at_s for one, stands in changed if one > at_s and stands == value)
        if (taken_s := next(took, 9.0)) < 2 / rate:
            found.append(taken_s)
    return found


def beside(times: dict[str, list[float]], *, parts: int) -> dict[str, Any]:
    """Percentiles of both, and the ratio of their medians with its interval."""
    rng = np.random.default_rng(1)
    drawn = [
        np.median(rng.choice(times["device"], len(times["device"])))
        / np.median(rng.choice(times["bare"], len(times["bare"])))
        for _ in range(2000)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    ratio = np.median(times["device"]) / np.median(times["bare"])
    return {
        **{
            name: {**measure.percentiles(each), "missed": parts - len(each)}
            for name, each in times.items()
        },
        "ratio": round(float(ratio), 3), "ratio_95": [round(float(low), 3), round(float(high), 3)],
    }  # fmt: skip


def run_bare(port: int, *, every_s: float) -> None:
    """Grab, resize, network, coil: what the way costs without lineside."""
    import cv2
    import onnxruntime
    from pymodbus.client import ModbusTcpClient

    from lineside.links import camera_aravis as aravis

    library, call = aravis._library(), aravis._call  # noqa: SLF001  the table of the library
    cv2.setNumThreads(1)  # as the device has it
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(package_parts()[1]["network.onnx"], options)
    plc: Any = ModbusTcpClient("127.0.0.1", port=port)
    plc.connect()
    camera = call("arv_camera_new", b"127.0.0.1")
    call("arv_camera_set_frame_rate", camera, 1 / every_s)
    size = call("arv_camera_get_payload", camera)
    stream = call("arv_camera_create_stream", camera, None, None)
    for _ in range(4):
        library.arv_stream_push_buffer(stream, library.arv_buffer_new_allocate(size))
    call("arv_camera_start_acquisition", camera)
    before, got = -1, ctypes.c_size_t()
    with suppress(KeyboardInterrupt):
        while True:
            buffer = library.arv_stream_timeout_pop_buffer(stream, 1_000_000)
            if buffer is None:
                continue
            data = library.arv_buffer_get_image_data(buffer, ctypes.byref(got))
            image = np.frombuffer(ctypes.string_at(data, got.value), np.uint8)
            image = image.reshape(120, 160, 3)
            library.arv_stream_push_buffer(stream, buffer)
            crops = [
                cv2.resize(image[y : y + 20, x : x + 24], (16, 16))
                for x, y in ((22, 22), (102, 62))
            ]
            batch = np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32) / 255
            logits: Any = session.run(["logits"], {"crops": batch})[0]
            value = int(logits[0, 0] > 2.0)  # half as bright as can be
            if value != before:
                plc.write_coil(12, bool(value), device_id=1)
                before = value


if __name__ == "__main__":
    main()
