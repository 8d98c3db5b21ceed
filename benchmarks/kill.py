"""kill -9 of hub, agent, broker and trainer at random moments, while messages are in flight.

    python benchmarks/kill.py [--runs 50] [--seed 1]

Each run kills one program, drawn by seed, after a drawn time, and starts it again; it counts as
come back when it works again by itself: hub ready, agent predicting on pictures captured after the
restart, broker reachable, training resumed and done. At the end three promises are checked against
the store: every message that /mqttingest acknowledged is there once; every prediction up to the
highest number the hub acknowledged to the device is there once; no order was sent twice. The result
goes to benchmarks/results/kill.json.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import measure
import psutil

from lineside.cli.demo.stage import example, free_port
from lineside.core import LinesideError, SystemClock, rfc3339
from lineside.library.client import HubClient
from lineside.links import open_bus
from lineside.store import open_records
from lineside.streams import PREDICTION_TYPE, decode_event

# The simulated factory's own i/ldr messages say 0 to 15000 ohm; ours are told apart by their value.
_BEYOND_ANY_SENSOR = 1_000_000
CLOCK = SystemClock()
PAUSE = threading.Event()


@dataclass(slots=True)
class Rig:
    """A plant on this machine whose programs can be killed one by one."""

    folder: Path
    hub_port: int = field(default_factory=free_port)
    bus_port: int = field(default_factory=free_port)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.hub_port}"

    @property
    def bus(self) -> str:
        return f"mqtt://127.0.0.1:{self.bus_port}"

    def token(self, name: str) -> str:
        return (self.folder / "hub" / "tokens" / f"{name}.token").read_text().strip()

    def client(self) -> HubClient:
        return HubClient(self.base, token=self.token("admin"))

    def write_settings(self) -> None:
        plant = example("warehouse", "plant.toml")
        (self.folder / "mosquitto.conf").write_text(
            f"listener {self.bus_port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {self.folder}/\nautosave_interval 1\nuser root\n"
            "set_tcp_nodelay true\n"
        )
        (self.folder / "hub.toml").write_text(
            f'data_dir = "{self.folder / "hub"}"\nplant = "{plant}"\nport = {self.hub_port}\n'
            f'bus = "{self.bus}"\n'
        )
        (self.folder / "edge.toml").write_text(
            f'device = "edge-1"\nbus = "{self.bus}"\nhub = "{self.base}"\n'
            f'token_file = "{self.folder}/hub/tokens/device.token"\nplant = "{plant}"\n'
            f'data_dir = "{self.folder / "edge"}"\nresend_after_s = 1.0\n'
            f'trust_root = "{self.folder}/hub/trust/root.json"\n'
        )

    def start(self, name: str) -> None:
        lineside = [sys.executable, "-m", "lineside"]
        mosquitto = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        commands = {
            "broker": [mosquitto, "-c", str(self.folder / "mosquitto.conf")],
            "hub": [*lineside, "hub", "--config", str(self.folder / "hub.toml")],
            "edge": [*lineside, "edge", "--config", str(self.folder / "edge.toml")],
            "line": [*lineside, "simulate", "warehouse", "--bus", self.bus, "--fps", "10",
                     "--speed", "40", "--restock-after-s", "3", "--seed", "5"],
            "teach": [*lineside, "simulate", "warehouse", "--bus", self.bus, "--fps", "20",
                      "--teach", "24", "--seed", "7"],
        }  # fmt: skip
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                commands[name], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def trainer(self) -> psutil.Process | None:
        """The hub's training child, if one is at work."""
        with contextlib.suppress(psutil.Error, KeyError):
            for child in psutil.Process(self.running["hub"].pid).children(recursive=True):
                if "train" in child.cmdline():
                    return child
        return None

    def close(self) -> None:
        for name in list(self.running):
            self.kill(name)


def wait_until(ask: Callable[[], object], *, within_s: float, what: str) -> None:
    deadline_s = CLOCK.monotonic() + within_s
    while CLOCK.monotonic() < deadline_s:
        with contextlib.suppress(LinesideError, OSError, KeyError, ValueError):
            if ask():
                return
        PAUSE.wait(0.1)
    raise TimeoutError(f"{what} did not come within {within_s:.0f} s")


@dataclass(slots=True)
class Traffic:
    """Messages over HTTP and orders, and a note of everything that was acknowledged."""

    rig: Rig
    acknowledged: set[int] = field(default_factory=set)
    sent: int = 0
    acked_sequence: int = 0
    commands: Counter[bytes] = field(default_factory=Counter)
    stop: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for work in (self._post, self._order, self._listen):
            thread = threading.Thread(target=work, name=work.__name__)
            self.threads.append(thread)
            thread.start()

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _post(self) -> None:
        token = self.rig.token("ingest")
        while not self.stop.wait(0.05):
            self.sent += 1
            number = _BEYOND_ANY_SENSOR + self.sent
            body = {"topic": "i/ldr", "ts": rfc3339(CLOCK.now()), "ldr": number, "br": "84.3"}
            request = urllib.request.Request(  # noqa: S310  loopback
                f"{self.rig.base}/mqttingest",
                data=json.dumps(body).encode(),
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            )
            with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                if answer.status < 300:
                    self.acknowledged.add(number)

    def _order(self) -> None:
        place = 0
        while not self.stop.wait(1.0):
            place += 1
            with contextlib.suppress(LinesideError):
                colour = ("blue", "red", "white")[place % 3]
                self.rig.client().post("/orders", {"colour": colour})

    def _listen(self) -> None:
        bus = open_bus(self.rig.bus, client_id="kill-listener", clock=CLOCK)
        try:
            box = bus.subscribe(("lineside/+/device/+/ack", "f/o/order"), size=10_000)
            while not self.stop.is_set():
                message = box.get(timeout_s=0.2)
                if message is None:
                    continue
                if message.topic == "f/o/order":
                    self.commands[message.payload] += 1
                else:
                    sequence = int(json.loads(message.payload)["sequence"])
                    self.acked_sequence = max(self.acked_sequence, sequence)
        finally:
            bus.close()


def prepare(rig: Rig) -> None:
    """Teach, train and take into use, so that the agent predicts."""
    rig.write_settings()
    rig.start("broker")
    wait_until(lambda: reachable(rig.bus_port), within_s=10, what="the broker")
    rig.start("hub")
    wait_until(lambda: rig.client().ready(), within_s=60, what="the hub")
    since = rfc3339(CLOCK.now())
    rig.start("teach")
    rig.running.pop("teach").wait()
    wait_until(
        lambda: len(rig.client().items("/frames", since=since)) >= 24, within_s=30, what="frames"
    )
    rig.client().post(
        "/datasets/rack/samples", {"camera": "rack", "since": since, "labels_from": "f/i/stock"}
    )
    rig.client().post("/datasets/rack/freeze")
    run = start_training(rig)
    wait_until(lambda: state(rig, run) == "done", within_s=180, what="the first training")
    digest = rig.client().get(f"/runs/{run}")["package"]
    body = {"inspection": "stock", "reason": "kill test"}
    rig.client().post(f"/packages/{digest}/use", body)
    rig.start("edge")
    rig.start("line")
    wait_until(lambda: predicted_after(rig, ""), within_s=60, what="the first prediction")


def start_training(rig: Rig) -> str:
    body = {"task": "multilabel", "dataset": "rack", "inspection": "stock", "seed": 7}
    return str(rig.client().post("/runs", body)["id"])


def state(rig: Rig, run: str) -> str:
    return str(rig.client().get(f"/runs/{run}")["state"])


def reachable(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def predicted_after(rig: Rig, moment: str) -> bool:
    """Whether the hub has a decision on a picture captured after the moment (RFC 3339)."""
    events = rig.client().get("/events", type=PREDICTION_TYPE, newest_first=True, limit=1)["items"]
    return bool(events) and events[0]["time"] > moment


def one_run(rig: Rig, *, draw: random.Random) -> tuple[str, float]:
    """Kill one program, start it again, wait until it works; how long that took."""
    victim = draw.choices(["hub", "edge", "broker", "trainer"], weights=[3, 3, 3, 1])[0]
    run = ""
    if victim == "trainer":
        run = start_training(rig)
        wait_until(rig.trainer, within_s=20, what="the trainer")
    PAUSE.wait(draw.uniform(0.2, 2.5))
    began = CLOCK.monotonic()
    if victim == "trainer":
        child = rig.trainer()
        if child is not None:
            child.kill()
        wait_until(lambda: state(rig, run) != "running", within_s=30, what="the run's end")
        if state(rig, run) != "done":
            rig.client().post(f"/runs/{run}/resume")
        wait_until(lambda: state(rig, run) == "done", within_s=180, what="the resumed training")
        return victim, CLOCK.monotonic() - began
    rig.kill(victim)
    PAUSE.wait(draw.uniform(0.0, 1.0))
    rig.start(victim)
    restarted = rfc3339(CLOCK.now())
    wait_until(lambda: rig.client().ready(), within_s=60, what="the hub")
    wait_until(lambda: predicted_after(rig, restarted), within_s=60, what="a new prediction")
    return victim, CLOCK.monotonic() - began


def check(rig: Rig, traffic: Traffic) -> dict[str, Any]:
    """Hold the store against what was acknowledged."""
    with open_records(f"sqlite:///{rig.folder}/hub/records.db", clock=CLOCK) as records:
        posted: Counter[int] = Counter()
        sequences: Counter[int] = Counter()
        for logged in every(records):
            event = decode_event(logged.entry.body, where=logged.entry.id)
            if event.type == "lineside.plant.sensor.v1" and event.data.get("topic") == "i/ldr":
                posted[int(event.data["ldr"])] += 1
            if event.deviceseq:
                sequences[event.deviceseq] += 1
        chains = [records.log.verify(source) for source in records.log.heads()]
    low = min(sequences)
    promised = range(low, traffic.acked_sequence + 1)
    return {
        "posts_acknowledged": len(traffic.acknowledged),
        "posts_lost": sum(1 for number in traffic.acknowledged if not posted[number]),
        "posts_doubled": sum(1 for number in traffic.acknowledged if posted[number] > 1),
        "predictions_acknowledged": len(promised),
        "predictions_lost": sum(1 for number in promised if not sequences[number]),
        "predictions_doubled": sum(1 for count in sequences.values() if count > 1),
        "orders_sent": len(traffic.commands),
        "orders_doubled": sum(1 for count in traffic.commands.values() if count > 1),
        "chains_hold": all(chain.ok for chain in chains),
    }


def every(records: Any) -> Iterator[Any]:  # noqa: ANN401  Records
    after = 0
    while page := records.log.read(after=after, limit=1000):
        yield from page
        after = page[-1].position


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", default="kill")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)  # noqa: S311  repeatable, not secret
    with tempfile.TemporaryDirectory(prefix="lineside-kill-") as folder:
        rig = Rig(folder=Path(folder))
        traffic = Traffic(rig=rig)
        back: dict[str, list[float]] = {}
        try:
            prepare(rig)
            traffic.start()
            for number in range(arguments.runs):
                victim, took = one_run(rig, draw=draw)
                back.setdefault(victim, []).append(took)
                print(
                    f"{number + 1}/{arguments.runs} {victim}: back after {took:.1f} s", flush=True
                )
            traffic.end()
            PAUSE.wait(5)
        except BaseException:
            traffic.end()
            for log in sorted(Path(folder).glob("*.log")):
                print(f"--- {log.name}\n" + "\n".join(log.read_text().splitlines()[-15:]))
            raise
        finally:
            rig.close()
        result = check(rig, traffic)
    result["runs"] = {victim: len(took) for victim, took in back.items()}
    result["back_after_s"] = {victim: measure.percentiles(took) for victim, took in back.items()}
    result["seed"] = arguments.seed
    result["at"] = datetime.now(tz=UTC).isoformat(timespec="seconds")
    measure.write(arguments.out, result, answer)
    print(json.dumps(result, indent=2, default=str))
    broken = [key for key in result if key.endswith(("_lost", "_doubled")) and result[key]]
    return 1 if broken or not result["chains_hold"] else 0


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    posts, predictions = result["posts_acknowledged"], result["predictions_acknowledged"]
    kinds = ("posts_lost", "posts_doubled", "predictions_lost", "predictions_doubled",
             "orders_doubled")  # fmt: skip
    broken = [f"{result[kind]:,} {kind.replace('_', ' ')}" for kind in kinds if result[kind]]
    said = f"{', '.join(broken) or 'None'} of {posts:,} posts and {predictions:,} predictions"
    said += f" in {sum(result['runs'].values()):,} kills"
    if back := result["back_after_s"].get("hub"):
        said += f"; the hub is back after {back['p50_ms'] / 1000:.1f} s (median, n {back['n']})"
    return said + ("." if result["chains_hold"] else "; a chain of events is broken.")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # noqa: TID251  for the children
    raise SystemExit(main())
