"""From a frame on the bus to its event and to a browser, with 1, 4 and 16 cameras.

    python benchmarks/live.py [--rounds 5] [--seconds 10] [--load 1:10,4:5,16:1]

Hub (SQLite, its own mosquitto) and device are the real programs, each a process; the cameras are
this process, which also listens on the bus and has one browser's web socket open on the Lines page.
The network is EfficientNet-Lite0 at 320 pixels, on pictures of 640 x 480 as JPEG. ``--load`` names
how many cameras send and how many frames a second each.

Every round goes through: the bare way on one thread of this process (decode, prepare, ONNX Runtime;
``bare_ms`` is its median), then each load. Figures of a load:

* ``bus_to_event``: from the moment before a frame is published until its prediction event is here;
  ``ratio`` is its median as a multiple of the bare way's of the same round, the median of the
  rounds. Goal with one camera at ten frames a second: 1.2.
* ``bus_to_page``: the same until the browser has the frame with its decision. A tile takes four
  frames a second, so that not each frame of a faster camera comes.
* ``hub_processor_ms``, ``device_processor_ms``: processor time for each frame, idle time's included
  (goal of the hub at ten frames a second: 3 ms); ``lost``: frames without an event after 5 s.
* ``resident_mb``: memory of each program after the last round, the hub's broker not included.

Results: ``results/live.json``; the exit status is 1 when a frame was lost.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # noqa: TID251  read by native libraries

import measure
import numpy as np
import psutil
from fleet import Child
from page_browsers import Browser, picture_message, sign_in, watching
from serving import PEERS_SIDE, package

from lineside.core import SystemClock, decode_json, digest_of, frame_id, parse_rfc3339, rfc3339
from lineside.hub import HubConfig, running
from lineside.links import Bus, open_bus
from lineside.models import OnnxEngine, Package
from lineside.vision import decode_picture, encode_jpeg, prepare

CLOCK = SystemClock()
CAMERAS = 16
LABELS = [f"kind-{place}" for place in range(10)]
PICTURES = 24
BARE_CALLS = 60
SETTLE_S = 2.0
LATE_S = 5.0
GOAL_RATIO, GOAL_LOAD = 1.2, (1, 10.0)
READY_S = 120.0
_PAUSE = threading.Event()


def plant_text() -> str:
    """Sixteen cameras on the bus, each with an inspection."""
    head = 'schema = "lineside.plant/1"\nsite = "bench"\n[[line]]\nid = "one"\nname = "One"\n'
    return head + "\n".join(
        f'[[camera]]\nid = "cam-{number}"\nline = "one"\nsource = "mqtt:i/cam-{number}"\n'
        f'[[inspection]]\nid = "look-{number}"\ncamera = "cam-{number}"\ntask = "classify"\n'
        f"labels = {json.dumps(LABELS)}\n"
        f'[[route]]\ntopic = "i/cam-{number}"\nkind = "frame"\ncamera = "cam-{number}"\n'
        for number in range(CAMERAS)
    )


def pictures() -> list[bytes]:
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 255, (PICTURES, 60, 80, 3)).astype(np.uint8)
    return [encode_jpeg(np.repeat(np.repeat(one, 8, axis=0), 8, axis=1)) for one in coarse]


# ---- the programs


def serve(folder: Path) -> None:
    """A hub whose inspections all use the package, until its input ends."""
    config = HubConfig(
        data_dir=str(folder / "hub"), plant=str(folder / "plant.toml"), port=0, bus_port=0
    )
    with running(config, clock=CLOCK) as hub:
        packages = hub.services.packages
        held = packages.add((folder / "lite0.lspkg").read_bytes(), by="benchmark")
        for number in range(CAMERAS):
            packages.use(held.digest, inspection=f"look-{number}", by="benchmark", reason="measure")
        link = hub.services.auth.issue_link(name="page")
        told = {"hub": hub.url, "bus": hub.bus_url, "link": f"/sign-in?token={link}"}
        print(json.dumps(told), flush=True)
        sys.stdin.read()
        print("{}", flush=True)


@contextmanager
def device(folder: Path, *, hub: str, bus: str) -> Iterator[psutil.Process]:
    settings = folder / "edge.toml"
    settings.write_text(
        f'device = "edge-1"\nbus = "{bus}"\nhub = "{hub}"\nplant = "{folder}/plant.toml"\n'
        f'data_dir = "{folder}/edge"\ntoken_file = "{folder}/hub/tokens/device.token"\n'
        f'trust_root = "{folder}/hub/trust"\n'
    )
    with (folder / "edge.log").open("w") as log:
        words = [sys.executable, "-m", "lineside", "edge", "--config", str(settings)]
        process = subprocess.Popen(words, stderr=log, stdout=log)
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(30)


def wait_for_packages(bus: Bus) -> None:
    """Wait until the device says that it runs a package for every inspection."""
    status = bus.subscribe(("lineside/bench/device/edge-1/status",), name="status")
    until = monotonic() + READY_S
    while monotonic() < until:
        message = status.get(timeout_s=1.0)
        if message is not None:
            said = decode_json(message.payload, where="status")
            if len(said["packages"]) == CAMERAS:
                status.close()
                return
    raise SystemExit(f"the device runs no package for each inspection after {READY_S:g} s")


# ---- what is measured


class Bare:
    """The three steps that no program can leave out, on one thread."""

    def __init__(self, archive: bytes, *, shown: Sequence[bytes]) -> None:
        opened = Package.read(archive)
        self._settings = opened.manifest.prepare
        self._engine = OnnxEngine(
            opened.files[opened.manifest.engine.file],
            crops=(0, 3, PEERS_SIDE, PEERS_SIDE), where="bare", outputs=("logits",),
        )  # fmt: skip
        self._shown = shown

    def median_s(self) -> float:
        """Median seconds of a call."""
        numbers = iter(range(10_000))

        def call() -> None:
            picture = decode_picture(self._shown[next(numbers) % len(self._shown)])
            self._engine.run(prepare(picture, self._settings), outputs=("logits",))

        return median(measure.timed(call, times=BARE_CALLS, warm_up=5))


@dataclass(kw_only=True)
class Events:
    """Prediction events as they come, on a thread."""

    bus: Bus
    at: dict[str, float] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        mailbox = self.bus.subscribe(("lineside/bench/+/+/prediction",), size=100_000, name="seen")
        while not self.stop.is_set():
            for message in mailbox.get_many(most=1000, timeout_s=0.2):
                now = monotonic()
                event = decode_json(message.payload, where=message.topic)
                self.at.setdefault(event["data"]["frame"]["id"], now)


def send(
    bus: Bus, *, cameras: int, fps: float, seconds: float, shown: Sequence[bytes]
) -> dict[str, float]:
    """Frames of some cameras, evenly spaced; the moment of each by its id."""
    sent: dict[str, float] = {}
    began, every = monotonic(), 1 / (cameras * fps)
    for number in range(int(seconds / every)):
        _PAUSE.wait(max(0.0, began + number * every - monotonic()))
        camera, picture = f"cam-{number % cameras}", shown[number % len(shown)]
        at = parse_rfc3339(rfc3339(CLOCK.now()), where="now")  # as messages carry it
        name = frame_id(camera=camera, captured_at=at, digest=digest_of(picture))
        body = picture_message(picture, at=at)
        sent[name] = monotonic()
        bus.publish_soon(f"i/{camera}", body)
    return sent


@dataclass(kw_only=True)
class Site:
    """The programs and what listens to them."""

    url: str
    cookie: str
    bus: Bus
    events: Events
    programs: dict[str, psutil.Process]
    shown: Sequence[bytes]

    def measured(self, *, cameras: int, fps: float, seconds: float) -> dict[str, Any]:
        """One load, with a browser on the page."""
        names = tuple(f"cam-{number}" for number in range(CAMERAS))
        browser = Browser(self.url, cookie=self.cookie, cameras=names, twin=False)
        began, sent = threading.Event(), {}
        used: dict[str, float] = {}

        def line() -> None:
            began.wait()
            before = {name: used_s(one) for name, one in self.programs.items()}
            sent.update(send(self.bus, cameras=cameras, fps=fps, seconds=seconds, shown=self.shown))
            until = monotonic() + LATE_S
            while monotonic() < until and not sent.keys() <= self.events.at.keys():
                _PAUSE.wait(0.05)
            used.update({name: used_s(one) - before[name] for name, one in self.programs.items()})

        sender = threading.Thread(target=line)
        sender.start()
        asyncio.run(
            watching([browser], settle_s=SETTLE_S, seconds=seconds + LATE_S / 2, began=began)
        )
        sender.join()
        heard = {name: at - sent[name] for name, at in reversed(browser.arrivals) if name in sent}
        told = {name: self.events.at[name] - at for name, at in sent.items()
                if name in self.events.at}  # fmt: skip
        return {
            "frames": len(sent),
            "lost": len(sent) - len(told),
            "event_s": list(told.values()),
            "page_s": list(heard.values()),
            **{f"{name}_ms": 1000 * took / len(sent) for name, took in used.items()},
        }


def used_s(process: psutil.Process) -> float:
    """Processor time of a program and of those that it started."""
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


@contextmanager
def site_running(folder: Path, *, archive: bytes, shown: Sequence[bytes]) -> Iterator[Site]:
    (folder / "plant.toml").write_text(plant_text())
    (folder / "lite0.lspkg").write_bytes(archive)
    hub = Child(__file__, "--serve", str(folder))
    try:
        told = hub.answer()
        cookie = asyncio.run(sign_in(told["hub"], told["link"]))
        with (
            closing(open_bus(told["bus"], client_id="line", clock=CLOCK)) as bus,
            closing(open_bus(told["bus"], client_id="seen", clock=CLOCK)) as listening,
            device(folder, hub=told["hub"], bus=told["bus"]) as edge,
        ):
            wait_for_packages(bus)
            events = Events(bus=listening)
            listener = threading.Thread(target=events.run)
            listener.start()
            site = Site(
                url=told["hub"], cookie=cookie, bus=bus, events=events, shown=shown,
                programs={"hub_processor": hub.usage, "device_processor": edge},
            )  # fmt: skip
            # Once through every camera, so that none of those measured is a camera's first.
            site.measured(cameras=CAMERAS, fps=1, seconds=4)
            yield site
            events.stop.set()
            listener.join()
    finally:
        hub.close()


def rounds_of(
    site: Site, bare: Bare, *, loads: Sequence[tuple[int, float]], rounds: int, seconds: float
) -> dict[str, Any]:
    """Every load, round after round."""
    bares: list[float] = []
    found: dict[tuple[int, float], list[dict[str, Any]]] = {load: [] for load in loads}
    for _ in range(rounds):
        bares.append(bare.median_s())
        for cameras, fps in loads:
            one = site.measured(cameras=cameras, fps=fps, seconds=seconds)
            one["ratio"] = median(one["event_s"]) / bares[-1]
            found[cameras, fps].append(one)
            print(cameras, fps, f"{one['ratio']:.2f}", one["frames"], one["lost"], flush=True)
    return {
        "rounds": rounds,
        "bare_ms": round(1000 * median(bares), 2),
        "resident_mb": {
            name.removesuffix("_processor"): round(one.memory_info().rss / 1e6)
            for name, one in site.programs.items()
        },
        "loads": [
            {
                "cameras": cameras,
                "fps_each": fps,
                "ratio": round(median(one["ratio"] for one in each), 3),
                "ratios": [round(one["ratio"], 3) for one in each],
                "frames": sum(one["frames"] for one in each),
                "lost": sum(one["lost"] for one in each),
                "bus_to_event": measure.percentiles([s for one in each for s in one["event_s"]]),
                "bus_to_page": measure.percentiles([s for one in each for s in one["page_s"]]),
                "hub_processor_ms": round(median(one["hub_processor_ms"] for one in each), 2),
                "device_processor_ms": round(median(one["device_processor_ms"] for one in each), 2),
            }
            for (cameras, fps), each in found.items()
        ],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--load", default="1:10,4:5,16:1", help="cameras:frames a second, by comma")
    parser.add_argument("--note", default="", help="what else the machine did")
    parser.add_argument("--dry", action="store_true", help="write no results")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(Path(asked.serve))
        return 0
    pairs = [one.split(":") for one in asked.load.split(",")]
    loads = [(int(cameras), float(fps)) for cameras, fps in pairs]
    archive, shown = package(PEERS_SIDE), pictures()
    bare = Bare(archive, shown=shown)
    with (
        tempfile.TemporaryDirectory(prefix="lineside-live-") as name,
        site_running(Path(name), archive=archive, shown=shown) as site,
    ):
        result = rounds_of(
            site, bare, loads=loads, rounds=asked.rounds, seconds=asked.seconds
        )  # fmt: skip
    result = {"note": asked.note, **result}
    print(json.dumps(result, indent=2))
    if not asked.dry:
        print(measure.write("live", result, answer))
    return 1 if any(load["lost"] for load in result["loads"]) else 0


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    loads, first = result["loads"], result["loads"][0]
    event, goal = first["bus_to_event"], ""
    if (first["cameras"], first["fps_each"]) == GOAL_LOAD:
        goal = f" (goal {GOAL_RATIO}{' missed' if first['ratio'] > GOAL_RATIO else ''})"
    lost = sum(load["lost"] for load in loads)
    return (
        f"{event['p50_ms']:.1f} ms to the event (median, n {event['n']:,}), {first['ratio']:.2f}"
        f" times the bare way{goal}; {f'{lost:,}' if lost else 'none'} of"
        f" {sum(load['frames'] for load in loads):,} frames lost."
    )


if __name__ == "__main__":
    sys.exit(main())
