"""A thousand devices on one hub: a rollout of a 20 MB package, again as a delta, and heartbeats.

    python benchmarks/fleet.py [--devices 1000] [--per-s 1000] [--seconds 30] [--bus embedded]

The hub is the real program in a process of its own (``hub.running``: SQLite, blobs in a folder, web
server, job service), with its embedded broker or a mosquitto beside it. Devices are simulated in
two processes (``fleet_devices.py``). Of a device these parts are real: its own connection to the
bus, the talk with the job service (``fleet.Talk``), the update repository over HTTP
(``edge.HubClient``), the verifier (``fleet.UpdateClient`` with a trust folder of its own:
signatures, length, SHA-256, resume, delta), and how long it waits for a busy hub. Simulated are the
processes (two hold the connections of all; each has eight more beside it that fetch and verify, one
device each at a time, so that the bus gets its answers; their work is part of the times), the disk
(memory; an archive is deleted once it is verified; the earlier version is one file that all read),
the line (loopback, without TLS), and the loading of the package (its network is noise; nothing runs
it).

Phases, each with its time, the hub's processor time, and the hub's largest resident memory:

1. all join, listen to their jobs, and say that they are there;
2. a job for all: 20 MB each, whole; every tenth transfer is cut once and goes on by range;
3. a job for all of the next version, of which 60 % changed: what changed is fetched, no more;
4. heartbeats (``lineside/<site>/device/<d>/status``, QoS 1, retained), evenly spaced: held where
   the hub took as many as were sent, in that time and three seconds, and nothing was dropped.

Two cores do all of it, devices included. Where others use them too, run it by ``chrt -r 2``; the
result says so. Results: ``results/fleet.json``.
"""

import argparse
import hashlib
import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import measure
import psutil

from lineside.core import Box, SystemClock
from lineside.core.drivers import SecretUrl
from lineside.fleet import NewJob
from lineside.hub import HubConfig, RunningHub, running
from lineside.models import build_package
from lineside.testing.bare import NETWORK_FILE, bare_manifest
from lineside.vision import Crop, LabelRule, Prepare

PLANT = Path(__file__).parents[1] / "examples" / "warehouse" / "plant.toml"
NETWORK_BYTES = 12_000_000
PICTURES, PICTURE_BYTES = 40, 200_000
PROCESSES = 2
CUT_SHARE = 0.1
SETTLE_S = 3.0
PAUSE = threading.Event()


def archive(version: int) -> bytes:
    """20 MB; every version has another network and the same pictures."""
    network = random.Random(version).randbytes(NETWORK_BYTES)  # noqa: S311
    noise = random.Random(0)  # noqa: S311
    pictures = {
        f"pictures/{number:02}.png": b"\x89PNG\r\n\x1a\n" + noise.randbytes(PICTURE_BYTES)
        for number in range(PICTURES)
    }
    whole = Box(x0_px=0, y0_px=0, x1_px=96, y1_px=96)
    look = Prepare(crops=(Crop(region="top", box_px=whole),), width_px=96, height_px=96)
    manifest = bare_manifest("multilabel", labels=("scratch",), prepare=look, network=network)
    rule = LabelRule(
        name="scratch", region="top", label="scratch", output=0, slope=1, offset=0, floor=0.1,
        low=0.4, high=0.6, error_rate=0.1, calibration_pictures=9,
    )  # fmt: skip
    named = replace(manifest, name=f"version-{version}", inspection="stock", rules=(rule,))
    return build_package(named, {NETWORK_FILE: network, **pictures})


# ---- the hub's process


def serve(folder: Path, *, bus: str) -> None:
    """A hub that is told by lines of JSON what people would do on its pages."""
    config = HubConfig(
        data_dir=str(folder / "hub"), plant=str(PLANT), port=0, bus=SecretUrl(bus), bus_port=0
    )
    with running(config, clock=SystemClock()) as hub:
        print(json.dumps({"hub": hub.url, "bus": hub.bus_url}), flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            print(json.dumps(ORDERS[asked.pop("do")](hub, **asked)), flush=True)


def add_things(hub: RunningHub, *, names: list[str]) -> dict[str, Any]:
    with hub.services.records.transaction():
        for name in names:
            hub.services.things.add(name)
    return {}


def begin(hub: RunningHub, *, job: str, path: str, names: list[str]) -> dict[str, Any]:
    """Sign a package and ask all for it."""
    services, data = hub.services, Path(path).read_bytes()
    digest = services.packages.add(data, by="anna").digest
    services.releases.used(digest, inspection="stock", leaving=())
    target = services.releases.target_of(digest)
    assert target is not None
    document = {
        "type": "new_model", "model_name": target.custom["group"],
        "model_version": target.custom["version"], "model_package_bucket": "lineside",
        "model_package_key": target.path, "inspection": "stock", "target": target.path,
        "digest": target.custom["digest"], "sha256": target.sha256, "size_bytes": len(data),
    }  # fmt: skip
    before_s = perf_counter()
    service = services.job_requests.service
    service.create(NewJob(job_id=job, targets=tuple(names), document=document))
    return {"create_s": perf_counter() - before_s}


def standing(hub: RunningHub, *, job: str) -> dict[str, Any]:
    service = hub.services.job_requests.service
    found = Counter(one.status.value for one in service.executions(job))
    return {"executions": found, "status": service.job(job).status.value}


def figures(hub: RunningHub) -> dict[str, Any]:
    return hub.services.stats.plain()


ORDERS: dict[str, Callable[..., dict[str, Any]]] = {
    "things": add_things, "begin": begin, "standing": standing, "figures": figures,
}  # fmt: skip


# ---- processes


class Child:
    """A process that is told what to do by lines of JSON."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.usage = psutil.Process(self._process.pid)

    def tell(self, do: str, **more: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a process of the benchmark ended")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, do: str, **more: object) -> dict[str, Any]:
        self.tell(do, **more)
        return self.answer()

    def end(self) -> dict[str, Any]:
        """Close its input; its last answer."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        found = self.answer()
        self._process.wait(30)
        return found

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def mosquitto(folder: Path) -> Iterator[str]:
    """A broker beside the hub; its URL."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        raise SystemExit("mosquitto is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = folder / "mosquitto.conf"
    path.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
    process = subprocess.Popen([program, "-c", str(path)], stderr=subprocess.DEVNULL)
    PAUSE.wait(1.0)
    try:
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


class Watched:
    """The hub's memory and processor time over a phase."""

    def __init__(self, usage: psutil.Process) -> None:
        self._usage = usage
        self._stop = threading.Event()
        self.most_bytes = 0

    def __enter__(self) -> Self:
        self._began_s, self._used_s = perf_counter(), self._seconds()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.seconds = perf_counter() - self._began_s
        self.processor_s = self._seconds() - self._used_s

    def _seconds(self) -> float:
        times = self._usage.cpu_times()
        return float(times.user + times.system)

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            self.most_bytes = max(self.most_bytes, self._usage.memory_info().rss)

    def told(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 1),
            "hub_processor_s": round(self.processor_s, 1),
            "hub_most_rss_mb": round(self.most_bytes / 1e6, 1),
        }


# ---- phases


class Bench:
    """A hub and its devices."""

    def __init__(self, folder: Path, *, hub: Child, fleet: list[Child], names: list[str]) -> None:
        self._folder = folder
        self._hub = hub
        self._fleet = fleet
        self._names = names

    def _all(self, do: str, **more: object) -> list[dict[str, Any]]:
        for child in self._fleet:
            child.tell(do, **more)
        return [child.answer() for child in self._fleet]

    def join(self) -> dict[str, Any]:
        with Watched(self._hub.usage) as watched:
            self._all("join")
        gauges = self._hub.ask("figures")["gauges"]
        clients = gauges.get("broker_clients", "elsewhere")
        return {**watched.told(), "broker_clients": clients}

    def roll_out(self, job: str, *, version: int, delta: bool) -> dict[str, Any]:
        path, before = (self._folder / f"{each}.lspkg" for each in (version, version - 1))
        path.write_bytes(archive(version))
        previous = str(before) if delta else ""
        self._all("prepare", previous=previous, cut_share=0.0 if delta else CUT_SHARE)
        with Watched(self._hub.usage) as watched:
            made = self._hub.ask("begin", job=job, path=str(path), names=self._names)
            found = self._all("finish")
        told = self._hub.ask("standing", job=job)
        received = sum(one["bytes"] for one in found)
        size = path.stat().st_size
        return {
            "package_bytes": size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            **watched.told(),
            "job": told,
            "create_s": round(made["create_s"], 2),
            "received_bytes": received,
            "received_share": round(received / size / len(self._names), 3),
            "mb_per_s": round(received / 1e6 / watched.seconds, 1),
            "went_on_by_range": sum(one["went_on_by_range"] for one in found),
            "sent_away_busy": sum(one["sent_away_busy"] for one in found),
            "other_tries": sum(one["other_tries"] for one in found),
            "lost_connections": sum(one["lost_connections"] for one in found),
            "device_by_process": [one["device"] for one in found],
            "every_device_verified": told["executions"] == {"SUCCEEDED": len(self._names)}
            and sum(one["outcomes"].get("SUCCEEDED", 0) for one in found) == len(self._names),
        }

    def heartbeats(self, *, per_s: float, seconds: float) -> dict[str, Any]:
        before = self._hub.ask("figures")
        with Watched(self._hub.usage) as watched:
            for child in self._fleet:
                child.tell("beat", per_s=per_s / len(self._fleet), seconds=seconds)
            waiting = self._waiting(seconds)
            found = [child.answer() for child in self._fleet]
            sent = sum(one["sent"] for one in found)
            count = self._taken(sent, since=before["status_messages"])
        dropped = self._mailbox()["dropped"]
        held = count >= sent and not dropped and watched.seconds <= seconds + SETTLE_S
        return {
            "asked_per_s": per_s, "for_s": seconds, "sent": sent, "taken_by_hub": count,
            "lost_on_the_way": sum(one["lost"] for one in found),
            "taken_per_s": round(count / max(seconds, watched.seconds), 1), **watched.told(),
            "hub_processor_ms_each": round(1000 * watched.processor_s / max(1, count), 3),
            "simulator_behind_s": round(max(one["behind_s"] for one in found), 2),
            "acknowledged_by_process": [one["acknowledged"] for one in found],
            "waiting_in_hub": waiting, "dropped": dropped, "held": held,
        }  # fmt: skip

    def _taken(self, sent: int, *, since: int) -> int:
        """How many status messages the hub took, once it took all or took no more."""
        count, before = 0, -1
        while before < count < sent:
            before = count
            PAUSE.wait(1.0 if count else 0.05)
            count = self._hub.ask("figures")["status_messages"] - since
        return count

    def _waiting(self, seconds: float) -> list[int]:
        """What waits in the hub's mailbox, about six times."""
        found = []
        for _ in range(6):
            PAUSE.wait(seconds / 6)
            found.append(int(self._mailbox()["waiting"]))
        return found

    def _mailbox(self) -> dict[str, float]:
        """What waits in the hub for its reader of devices, and what was dropped."""
        found: dict[str, float] = self._hub.ask("figures")["each"]["mailbox"]["figures"]["devices"]
        return found


def devices_of(
    told: dict[str, Any], names: list[str], *, folders: tuple[Path, Path]
) -> list[Child]:
    """The simulator's processes."""
    hub, memory = folders
    shared = {
        **told, "site": "demo", "folder": str(memory), "root": str(hub / "trust" / "root.json"),
        "token": (hub / "tokens" / "device.token").read_text().strip(),
    }  # fmt: skip
    program = str(Path(__file__).with_name("fleet_devices.py"))
    return [
        Child(program, json.dumps({**shared, "names": names[number::PROCESSES]}))
        for number in range(PROCESSES)
    ]


def run(asked: argparse.Namespace, *, stack: ExitStack) -> dict[str, Any]:
    names = [f"edge-{number:04}" for number in range(asked.devices)]
    disk = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lineside-fleet-")))
    memory = Path(
        stack.enter_context(tempfile.TemporaryDirectory(prefix="lineside-fleet-", dir=asked.memory))
    )
    bus = "embedded" if asked.bus == "embedded" else stack.enter_context(mosquitto(disk))
    hub = Child(__file__, "--serve", str(disk), "--bus", bus)
    stack.callback(hub.close)
    told = hub.answer()
    begins_mb = round(hub.usage.memory_info().rss / 1e6, 1)
    hub.ask("things", names=names)
    fleet = devices_of(told, names, folders=(disk / "hub", memory))
    for child in fleet:
        stack.callback(child.close)
    for child in fleet:
        child.answer()  # it has started
    bench = Bench(memory, hub=hub, fleet=fleet, names=names)
    found: dict[str, Any] = {"hub_rss_mb_at_start": begins_mb}
    for name, phase in (
        ("join", bench.join),
        ("whole", lambda: bench.roll_out("whole", version=1, delta=False)),
        ("delta", lambda: bench.roll_out("delta", version=2, delta=True)),
        ("heartbeats", lambda: [
            bench.heartbeats(per_s=per_s, seconds=asked.seconds) for per_s in asked.per_s
        ]),
    ):  # fmt: skip
        if name in asked.phases:
            found[name] = phase()
            print(json.dumps({name: found[name]}, indent=2), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--per-s", type=float, nargs="+", default=[1000.0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--bus", default="embedded", help="embedded, or mosquitto")
    parser.add_argument("--memory", default="/dev/shm", help="where devices keep archives")  # noqa: S108
    parser.add_argument("--phases", nargs="+", default=["join", "whole", "delta", "heartbeats"])
    parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(Path(asked.serve), bus=asked.bus)
        return
    result: dict[str, Any] = {
        "at": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "devices": asked.devices, "bus": asked.bus,
    }  # fmt: skip
    with ExitStack() as stack:
        result |= run(asked, stack=stack)
    print(measure.write("fleet", result, answer))


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    said = []
    if "whole" in result:
        whole = result["whole"]
        said.append(
            f"{whole['package_bytes'] / 1e6:.0f} MB {_reached(whole)} in {whole['seconds']:.0f} s"
        )
    if "delta" in result:
        delta = result["delta"]
        reached = "" if delta["every_device_verified"] else f" {_reached(delta)}"
        said.append(
            f"the next version{reached} in {delta['seconds']:.0f} s"
            f" with {100 * delta['received_share']:.0f} % of the bytes"
        )
    beats = [_beats(one) for one in result.get("heartbeats", ())]
    both = [*([", ".join(said)] if said else []), *beats] or ["no roll-out and no heartbeats"]
    sentence = "; ".join(both)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _reached(phase: dict[str, Any]) -> str:
    """Which devices a roll-out came to."""
    if phase["every_device_verified"]:
        return "to each"
    return f"to {phase['job']['executions'].get('SUCCEEDED', 0):,} devices, not each verified it"


def _beats(one: dict[str, Any]) -> str:
    """What became of the heartbeats at one rate."""
    taken = "all" if one["taken_by_hub"] >= one["sent"] else f"{one['taken_by_hub']:,}"
    said = f"{taken} of {one['sent']:,} heartbeats taken at {one['asked_per_s']:,.0f}/s"
    if one["held"]:
        return said
    return f"{said} (not held: {one['seconds']:.0f} s, {one['dropped']:,} dropped)"


if __name__ == "__main__":
    main()
