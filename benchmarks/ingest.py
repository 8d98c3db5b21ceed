"""How fast the hub stores frames from the bus, against a subscriber that only writes files.

    python benchmarks/ingest.py [--frames 600] [--messages 5000] [--runs 3]
        [--only mosquitto,embedded]

A line of its own process publishes pictures of the simulated rack (QoS 1, 320 x 240, each with
other bytes) as fast as the broker takes them. The bare subscriber is a paho client that writes
each payload to a file. The hub parses and checks each picture, keeps it under its digest, and
commits its row and its event; what comes too fast to be decoded on the spot, as here, is read to
its end and gets its thumbnail when nothing waits any more, which is not in the rate. Both come
after the same publisher on the same broker: a mosquitto, or the embedded one (for the bare
subscriber in a process of its own, for the hub inside the hub). The rate is frames by seconds
from the first one published to the last one kept. Budget: at least half of the bare rate. A
second bare subscriber calls fsync for each file, which is what the hub promises of a stored
frame; its rate stands beside.

``messages_per_s`` is the rate of small sensor messages (QoS 1) that are acknowledged to the broker
after the commit, from the first one published to the last one in the log, and ``messages_lost`` is
how many never came there. Results: ``results/ingest.json``.
"""

import argparse
import base64
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import measure

from lineside.core import SystemClock, encode, rfc3339
from lineside.core.factory import write_message
from lineside.links import FrameMessage

CLOCK = SystemClock()
PLANT = Path(__file__).parents[1] / "examples" / "warehouse" / "plant.toml"
SHARE = 0.5
CAMERA, SENSOR = "i/cam", "i/bme680"
QUIET_S = 3.0
WAIT_S = 120.0
PAUSE = threading.Event()

BROKER = """
import sys
from lineside.links import EmbeddedBroker
with EmbeddedBroker(port=int(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""

BARE = """
import os, sys
from pathlib import Path
import paho.mqtt.client as paho
port, folder, wanted = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
durable = sys.argv[4] == "durable"
kept = 0
def keep(client, data, message):
    global kept
    with (folder / f"{kept}.json").open("wb") as file:
        file.write(message.payload)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    kept += 1
    if kept == wanted:
        print("done", flush=True)
client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="bare")
client.on_message = keep
client.on_subscribe = lambda *_: print("ready", flush=True)
client.on_connect = lambda *_: client.subscribe("i/cam", qos=1)
client.connect("127.0.0.1", port)
client.loop_forever()
"""

LINE = """
import sys, threading
from pathlib import Path
from lineside.core import SystemClock
from lineside.links import open_bus
payloads = [path.read_bytes() for path in sorted(Path(sys.argv[2]).iterdir())]
bus = open_bus(f"mqtt://127.0.0.1:{sys.argv[1]}", client_id="line", clock=SystemClock())
pause = threading.Event()
print("ready", flush=True)
sys.stdin.readline()
for payload in payloads:
    while not bus.publish_soon(sys.argv[3], payload):
        pause.wait(0.0005)
print("sent", flush=True)
sys.stdin.read()
bus.close()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@contextmanager
def child(code: str, *words: str) -> "Iterator[subprocess.Popen[str]]":
    """A Python program that says ``ready``; ended when the block ends."""
    command = [sys.executable, "-c", code, *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        late = threading.Timer(WAIT_S, process.kill)  # a lost message must not mean for ever
        late.start()
        try:
            expect(process, "ready")
            yield process
        finally:
            late.cancel()
            process.kill()


def expect(process: "subprocess.Popen[str]", word: str) -> None:
    line = process.stdout.readline() if process.stdout is not None else ""
    if line.strip() != word:
        raise SystemExit(f"a program ended before it said {word!r}")


@contextmanager
def mosquitto(folder: Path) -> Iterator[int]:
    binary = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if binary is None:
        raise SystemExit("mosquitto is not installed; use --only embedded")
    port = free_port()
    config = folder / f"mosquitto-{port}.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nset_tcp_nodelay true\n"
        "max_queued_messages 100000\n"
    )
    process = subprocess.Popen([binary, "-c", str(config)], stderr=subprocess.DEVNULL)
    wait_until(lambda: can_connect(port))
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def can_connect(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(holds: Any) -> None:  # noqa: ANN401  a function without arguments
    deadline_s = CLOCK.monotonic() + WAIT_S
    while not holds():
        if CLOCK.monotonic() > deadline_s:
            raise SystemExit("did not happen in time")
        PAUSE.wait(0.01)


def write_frames(folder: Path, *, count: int) -> None:
    """Messages of the camera, each a picture of its own by a comment in the JPEG (T.81, B.2)."""
    import loop  # renders; imported late because it sets threads for its own measurement

    pictures = [picture.encoded for picture in loop.shown(16, seed=3, drift_px=4)]
    folder.mkdir()
    start = CLOCK.now() - timedelta(milliseconds=count)
    for number in range(count):
        at = start + timedelta(milliseconds=number)
        payload = frame_payload(pictures[number % 16], number, at=at)
        (folder / f"{number:06d}.json").write_bytes(payload)


def frame_payload(encoded: bytes, number: int, *, at: datetime) -> bytes:
    """A camera's message with a JPEG of its own bytes: the number stands in a comment."""
    mark = f"{number:08d}".encode()
    unique = encoded[:2] + b"\xff\xfe" + (len(mark) + 2).to_bytes(2, "big") + mark + encoded[2:]
    text = "data:image/jpeg;base64," + base64.b64encode(unique).decode()
    return write_message(FrameMessage(ts=rfc3339(at), data=text))


def write_messages(folder: Path, *, count: int) -> None:
    """Messages of a sensor, no two alike."""
    folder.mkdir()
    start = CLOCK.now() - timedelta(milliseconds=count)
    for number in range(count):
        at = rfc3339(start + timedelta(milliseconds=number))
        payload = encode({"ts": at, "t": 20 + number % 7})
        (folder / f"{number:06d}.json").write_bytes(payload)


def bare_rate(port: int, *, frames: Path, folder: Path, count: int, durable: bool) -> float:
    """Frames a second of the subscriber that writes files."""
    folder.mkdir()
    kind = "durable" if durable else "quick"
    with (
        child(BARE, str(port), str(folder), str(count), kind) as subscriber,
        line(port, frames) as sender,
    ):
        start = begin(sender)
        expect(subscriber, "done")
        return count / (perf_counter() - start)


@contextmanager
def line(port: int, frames: Path, *, topic: str = CAMERA) -> "Iterator[subprocess.Popen[str]]":
    with child(LINE, str(port), str(frames), topic) as process:
        yield process


def begin(sender: "subprocess.Popen[str]") -> float:
    assert sender.stdin is not None
    sender.stdin.write("go\n")
    sender.stdin.flush()
    return perf_counter()


class Hub:
    """A hub program, asked for its figures."""

    def __init__(
        self, folder: Path, *, bus: str, bus_port: int, plant: Path = PLANT, records: str = ""
    ) -> None:
        self.port = free_port()
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.config = folder / "hub.toml"
        self.config.write_text(
            f'data_dir = "{folder / "data"}"\nplant = "{plant}"\nport = {self.port}\n'
            f'bus = "{bus}"\nbus_port = {bus_port}\nrecords = "{records}"\n'
        )
        log = (folder / "hub.log").open("wb")
        command = [sys.executable, "-m", "lineside", "hub", "--config", str(self.config)]
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        wait_until(self.ready)

    def ready(self) -> bool:
        try:
            self.get("/readyz")
        except (OSError, urllib.error.URLError):
            return False
        return True

    @property
    def headers(self) -> dict[str, str]:
        """Of a request by the administrator, once the hub has made the token."""
        token = self.folder / "data" / "tokens" / "admin.token"
        return {"Authorization": f"Bearer {token.read_text().strip()}"} if token.exists() else {}

    def get(self, path: str) -> Any:  # noqa: ANN401  JSON
        address = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(address, headers=self.headers)
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  loopback
            text = answer.read()
        return json.loads(text) if text.startswith(b"{") else None

    def stored(self) -> int:
        stats = self.get("/api/v1/stats")
        if stats["frames_dropped"]:
            raise SystemExit(f"frames were dropped: {stats['frames_dropped']}")
        return int(stats["frames_stored"])

    def events(self) -> int:
        return int(self.get("/api/v1/stats")["events"])

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def hub_rate(hub: Hub, port: int, *, frames: Path, count: int) -> float:
    """Frames a second of the hub, until the last one is kept."""
    with line(port, frames) as sender:
        start = begin(sender)
        wait_until(lambda: hub.stored() >= count)
        return count / (perf_counter() - start)


def message_rate(hub: Hub, port: int, *, messages: Path, count: int) -> tuple[float, int]:
    """Messages a second until the last one is in the log, and how many never came there."""
    before = hub.events()
    with line(port, messages, topic=SENSOR) as sender:
        start = last = begin(sender)
        found = 0
        while found < count and perf_counter() - last < QUIET_S:
            now = hub.events() - before
            last = perf_counter() if now > found else last
            found = now
            PAUSE.wait(0.02)
    return found / (last - start), count - found


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Frames and messages a second of one run on one broker."""

    bare: float
    durable: float
    hub: float
    messages: float
    lost: int


def measure_broker(name: str, *, frames: Path, messages: Path, folder: Path) -> Rates:
    """Each in turn, on one kind of broker."""
    count = len(list(frames.iterdir()))
    with ExitStack() as stack:
        port = stack.enter_context(mosquitto(folder)) if name == "mosquitto" else free_port()
        with nullcontext() if name == "mosquitto" else child(BROKER, str(port)):
            bare, durable = (
                bare_rate(port, frames=frames, folder=folder / kind, count=count, durable=synced)
                for kind, synced in (("quick", False), ("durable", True))
            )
        bus = f"mqtt://127.0.0.1:{port}" if name == "mosquitto" else "embedded"
        hub = Hub(folder / "hub", bus=bus, bus_port=port)
        stack.callback(hub.close)
        rate = hub_rate(hub, port, frames=frames, count=count)
        small, lost = message_rate(
            hub, port, messages=messages, count=len(list(messages.iterdir()))
        )
        return Rates(bare=bare, durable=durable, hub=rate, messages=small, lost=lost)


def measure_ingest(names: list[str], *, count: int, messages: int, runs: int) -> dict[str, Any]:
    """Medians of several runs, each with fresh folders, and the share of the bare rate."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        frames = Path(temporary) / "frames"
        write_frames(frames, count=count)
        small = Path(temporary) / "messages"
        write_messages(small, count=messages)
        for name in names:
            rates = []
            for run in range(runs):
                folder = Path(temporary) / f"{name}-{run}"
                folder.mkdir()
                rates.append(measure_broker(name, frames=frames, messages=small, folder=folder))
                shutil.rmtree(folder)
            found[name] = {
                "bare_per_s": round(median(each.bare for each in rates), 1),
                "bare_with_fsync_per_s": round(median(each.durable for each in rates), 1),
                "hub_per_s": round(median(each.hub for each in rates), 1),
                "messages_per_s": round(median(each.messages for each in rates), 1),
                "messages_lost": sum(each.lost for each in rates),
                "share": round(median(each.hub / each.bare for each in rates), 3),
                "share_with_fsync": round(median(each.hub / each.durable for each in rates), 3),
                "runs": [asdict(each) for each in rates],
                "budget_share": SHARE,
            }
    return {"frames": count, "messages": messages, **found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="mosquitto,embedded")
    options = parser.parse_args()
    names = options.only.split(",")
    result = measure_ingest(
        names, count=options.frames, messages=options.messages, runs=options.runs
    )
    print(measure.write("ingest", result, answer).read_text())
    return 0 if all(result[name]["share"] >= SHARE for name in names) else 1


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    brokers = {"mosquitto": "mosquitto", "embedded": "the embedded broker"}
    found = [(shown, result[name]) for name, shown in brokers.items() if name in result]
    (first, one), *others = found
    shares = [
        f"{one['share']:.2f} of the rate of a bare subscriber with {first}",
        *(f"{other['share']:.2f} with {shown}" for shown, other in others),
    ]
    missed = any(each["share"] < each["budget_share"] for _, each in found)
    return (
        f"At {', '.join(shares)} ({len(one['runs'])} runs of {result['frames']:,} frames;"
        f" budget {one['budget_share']}{' missed' if missed else ''})."
    )


if __name__ == "__main__":
    sys.exit(main())
