"""From a PLC's trigger to a coil: the way through a running device's outputs, without a network.

    python benchmarks/outputs.py [--parts 200]

A real Modbus server (pymodbus, its own thread of this process) is the PLC, on loopback. Measured:
from the verdict to the coil (``verdict_to_coil``), and in the same way to a subscriber of a
mosquitto (``verdict_to_mqtt``, QoS 1) and to a node of an OPC UA server (``verdict_to_opcua``,
asyncua, as the PLC); how far from its due time a delayed verdict is written (``delay_error``);
from the trigger of a handshake to the result and ``done``, beside a judge that answers at once
(``trigger_to_done``); and from an image's capture to the coil with a real package
(``capture_to_coil``): decode, register, network, verdict, write.
Needs mosquitto and the extras modbus and opcua. Results: ``results/outputs.json``.
"""

import argparse
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, Self

import measure

from lineside.core import SystemClock, parse_plant
from lineside.core.drivers import SecretUrl
from lineside.core.outputs import HandshakeConfig, OutputConfig
from lineside.edge.delivery.outputs import LineOutputs
from lineside.edge.messages import Counters
from lineside.models import Package, Predictor, build_package
from lineside.streams import LineVerdicts, prediction_id, read_verdict
from lineside.streams.verdicts import InspectionAnswer, VerdictData
from lineside.vision import encode_jpeg, open_frame
from lineside.vision.verdict import PartVerdict

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.links.conftest import Mosquitto
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
PATIENCE_S = 10.0
SHAKE = HandshakeConfig(trigger="input/1", acknowledge="coil/2", done="coil/3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=200)
    parts = parser.parse_args().parts
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
        }
    print(result)
    measure.write("outputs", result, answer)


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    coil, node = result["verdict_to_coil"], result["verdict_to_opcua"]
    return (
        f"Its coil after {coil['p50_ms']:.2f} ms (median; p99 {coil['p99_ms']:.2f} ms, "
        f"n {coil['n']:,}), an OPC UA node after {node['p50_ms']:.2f} ms, on one machine."
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


if __name__ == "__main__":
    main()
