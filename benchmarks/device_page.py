"""What the device's own page costs: memory and processor, without it, unwatched, and watched.

    python benchmarks/device_page.py [--seconds 20]

An agent in a process of its own looks at 1280 x 960 pictures ten times a second, over a broker in
this one; its package is a small wrapped network, so that the page is not lost beside it. By turns:
no page; a page that nobody watches; one viewer; five viewers, each paced as the page's own script
paces itself; and five with one more who never reads. Viewers sit in this process.

Results: ``results/device_page.json``: memory the agent holds at the end (MB), its processor time as
a share of one core, decisions taken, and pictures a viewer was given in a second.
"""

import argparse
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
from measure import write

from lineside.core import SystemClock, decode_json
from lineside.edge.deploy.deployment import DeploymentStore
from lineside.edge.messages import frame_message
from lineside.fleet.contract import Desired, DesiredPackage
from lineside.links import EmbeddedBroker, open_bus
from lineside.models import Package
from lineside.models.wrap import read_wrapping, wrapped
from lineside.testing.engines import shades
from lineside.vision import encode_jpeg, open_frame

CLOCK = SystemClock()
FPS = 10
PACE_S = 0.1
WRAPPING = """
name = "shades"
task = "classify"
labels = ["dark", "bright"]
inspection = "shade"
[licence]
weights = "MIT"
[input]
width_px = 16
height_px = 16
"""
PLANT = """
schema = "lineside.plant/1"
site = "bench"
line = [{ id = "one", name = "One" }]
camera = [{ id = "top", line = "one", source = "mqtt:b/cam" }]
inspection = [
    { id = "shade", camera = "top", task = "classify", labels = ["dark", "bright"] },
]
"""
CASES = {
    "no page": (False, 0, 0),
    "nobody watches": (True, 0, 0),
    "one viewer": (True, 1, 0),
    "five viewers": (True, 5, 0),
    "five and one who never reads": (True, 5, 1),
}


def pictures() -> list[bytes]:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(8):
        coarse = rng.integers(60, 200, (48, 64, 3), dtype=np.uint8)
        found.append(encode_jpeg(np.kron(coarse, np.ones((20, 20, 1), np.uint8))))
    return found


def settings(folder: Path, *, bus: str, page: bool) -> Path:
    (folder / "plant.toml").write_text(PLANT)
    wrapping = read_wrapping(WRAPPING.encode(), where="wrap.toml")
    archive = wrapped(shades(), wrapping, pictures=[], clock=CLOCK)
    digest = Package.read(archive).digest
    (folder / "data").mkdir()
    store = DeploymentStore(folder / "data")
    store.open()
    store.put(digest, archive)
    wanted = DesiredPackage(inspection="shade", digest=digest, url="http://away/package")
    store.keep_desired(Desired(schema="lineside.desired/1", packages=(wanted,)))
    file = folder / "edge.toml"
    file.write_text(
        f'device = "bench"\nbus = "{bus}"\nplant = "{folder}/plant.toml"\n'
        f'data_dir = "{folder}/data"\nunsigned = "allowed"\npublish_logs = false\n'
        + ('[page]\nlisten = "127.0.0.1:0"\n' if page else "")
    )
    return file


class Viewer:
    """One who watches as the page's script does."""

    def __init__(self, url: str) -> None:
        self.pictures = 0
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        after = 0
        while not self._stop.wait(PACE_S):
            address = f"{self._url}/api/live?after={after}"
            with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310  our own
                body = answer.read()
            if body:
                head = int.from_bytes(body[:4], "big")
                after = decode_json(body[8 : 8 + head], where="live")["number"]
                self.pictures += 1

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


def lazy(url: str) -> socket.socket:
    """One who asks for a stream and never reads it."""
    place = urlsplit(url)
    made = socket.create_connection((place.hostname or "", place.port or 0))
    made.sendall(b"GET /cameras/top/live.mjpeg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    return made


def measured(case: tuple[bool, int, int], *, seconds: float) -> dict[str, object]:
    page, viewers, unread = case
    shots = pictures()
    with tempfile.TemporaryDirectory() as name, EmbeddedBroker() as broker:
        folder = Path(name)
        file = settings(folder, bus=broker.url, page=page)
        line = open_bus(broker.url, client_id="line", clock=CLOCK)
        status = line.subscribe(("lineside/bench/device/bench/status",), name="status")
        agent = subprocess.Popen([sys.executable, "-m", "lineside", "edge", "--config", str(file)])
        process = psutil.Process(agent.pid)
        try:
            while not _status(status)["packages"]:
                pass
            told = folder / "data" / "page.json"
            while page and not told.exists():
                pass
            url = str(decode_json(told.read_bytes(), where="page")["url"]) if page else ""
            watching = [Viewer(url) for _ in range(viewers)]
            sockets = [lazy(url) for _ in range(unread)]
            _feed(line, shots, seconds=3)
            before, began = sum(process.cpu_times()[:2]), perf_counter()
            seen = [one.pictures for one in watching]
            _feed(line, shots, seconds=seconds)
            took = perf_counter() - began
            spent = sum(process.cpu_times()[:2]) - before
            given = [(one.pictures - was) / took for one, was in zip(watching, seen, strict=True)]
            resident = process.memory_info().rss / 1e6
            for one in watching:
                one.close()
            for lazy_one in sockets:
                lazy_one.close()
        finally:
            agent.terminate()
            agent.wait(30)
            line.close()
    return {
        "resident_mb": round(resident, 1),
        "core_share": round(spent / took, 3),
        "pictures_each_s": [round(one, 1) for one in given],
    }


def _status(mailbox: object) -> dict[str, object]:
    message = mailbox.get(timeout_s=60)  # type: ignore[attr-defined]  # a mailbox
    assert message is not None, "the device says nothing"
    found: dict[str, object] = decode_json(message.payload, where="status")
    return found


def _feed(line: object, shots: list[bytes], *, seconds: float) -> None:
    ends, number, pause = perf_counter() + seconds, 0, threading.Event()
    while perf_counter() < ends:
        number += 1
        frame = open_frame(shots[number % len(shots)], camera="top", captured_at=CLOCK.now())
        line.publish("b/cam", frame_message(frame), qos=0)  # type: ignore[attr-defined]  # a bus
        pause.wait(1 / FPS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    seconds = parser.parse_args().seconds
    found = {name: measured(case, seconds=seconds) for name, case in CASES.items()}
    write("device_page", found, answer)
    for name, figures in found.items():
        print(name, figures)


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    with_page, without = result["five viewers"], result["no page"]
    return (
        f"Five viewers: {100 * with_page['core_share']:.1f} % of a core and"
        f" {with_page['resident_mb']:.1f} MB, against {100 * without['core_share']:.1f} % and"
        f" {without['resident_mb']:.1f} MB without the page."
    )


if __name__ == "__main__":
    main()
