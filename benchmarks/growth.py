"""What a hub costs as its history grows: ingest, pages, start, ``doctor`` and the disk.

    python benchmarks/growth.py [--events 10000000] [--frames 1000000] [--decades 4]
        [--store sqlite|postgresql]
    python benchmarks/growth.py --limit 500000000 --events 300000 --frames 50000 --decades 10

A hub of the simulated warehouse, with a rule that counts a sensor's messages in windows of 5 s,
gets frames and sensor messages, ten messages a second of its history, until so many are stored:
with ``--decades 4`` first a thousandth of ``--frames`` and ``--events``, then a hundredth, a tenth,
all. They are handed to the ingest of a hub that runs in this process, 50 at a time, no two images
alike. At each decade:

* ``frame`` and ``event``: processor time of the whole hub for each that came since the decade
  before, until thumbnails, rules and all other readers of the log are done; and bytes on the disk.
  A frame has its image and its thumbnail among the blobs, and its row and its event in the
  database; an event here is a sensor's message, with the rule's events that come of it.
* ``ready``: seconds from the start of the program ``lineside hub`` on that history until
  ``/readyz``, and of the processor.
* ``pages``: of that program, from the request to the first byte: the first request after the
  start, percentiles of ``--times`` more, and the hub's processor time for each of these.
* ``doctor``: seconds of the command, and of the processor: its first run, and the one after it.

With ``--limit`` the plant file has ``[retention] max_bytes``, and the steps are equal: old images
go while new ones come, then the oldest history too. ``data_mb`` is what the data folder takes on
the disk at the end of a step; images that came in the last half minute stay in any case.

``growth`` is the processor time in the last decade as a multiple of that in the first one.
PostgreSQL is a server of its own in a temporary folder, without fsync; its processor time is not
in the figures. Results: ``results/growth.json``, with ``-postgresql`` or ``-retention`` in its
name; the exit status is 1 where a page takes more than 50 ms of the processor and more than twice
what it took in the first decade.
"""

import argparse
import http.client
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time, thread_time
from typing import Any

import measure
import numpy as np
import psutil
from ingest import CAMERA, PLANT, SENSOR, Hub, frame_payload, wait_until

from lineside.core import SystemClock, encode, rfc3339
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, Services, running
from lineside.hub.timers import folder_bytes as disk_bytes
from lineside.links import Message
from lineside.vision import decode_picture, encode_jpeg

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.store.conftest import PostgresServer, postgres_binaries

CLOCK = SystemClock()
TOGETHER, PER_S = 50, 10
MOST_WAITING = 10_000
MOST_TIMES, ENOUGH_MS = 2.0, 50.0
RULE = f"""
[[rule]]
id = "windows"
read = {{ topic = "{SENSOR}" }}
key = ["kind"]
window = {{ size_s = 5 }}
"""
PAGES = {
    "newest frame": "/api/v1/frames?limit=1",
    "pictures": "/pictures",
    "lines": "/",
    "events": "/events",
    "rule events": "/events/rules",
    "rule sums": "/api/v1/rule-events/summary",
    "twin": "/twin",
}


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where the hub and its store stand.

    Attributes:
        records: URL of its database, "" for its own SQLite file.
        database_bytes: size of the database now.
    """

    folder: Path
    plant: Path
    records: str
    database_bytes: Callable[[], int]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def blob_bytes(self) -> int:
        return folder_bytes(self.data / "blobs")

    def hub(self) -> Hub:
        """The program, once it is ready."""
        return Hub(self.folder, bus="embedded", bus_port=0, plant=self.plant, records=self.records)


@contextmanager
def site_of(store: str, *, limit: int) -> Iterator[Site]:
    """A hub's place; ``limit``: bytes of its data, 0 for any number."""
    with tempfile.TemporaryDirectory(prefix="lineside-growth-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the server of PostgreSQL runs as another user
        plant = folder / "plant.toml"
        retention = f"\n[retention]\nmax_bytes = {limit}\n" if limit else ""
        plant.write_text(PLANT.read_text() + RULE + retention)
        place = folder / "hub"
        place.mkdir()
        if store == "sqlite":
            database = place / "data" / "records.db"
            yield Site(
                folder=place, plant=plant, records="", database_bytes=lambda: file_bytes(database)
            )
            return
        with postgres_in(folder / "postgres") as server:
            url = server.fresh_database()
            yield Site(
                folder=place, plant=plant, records=url,
                database_bytes=lambda: int(server.tell("SELECT pg_database_size('test_0')")),
            )  # fmt: skip


@contextmanager
def postgres_in(folder: Path) -> Iterator[PostgresServer]:
    binaries = postgres_binaries()
    if not binaries:
        raise SystemExit("PostgreSQL is not installed; use --store sqlite")
    folder.mkdir()
    server = PostgresServer(folder=folder, binaries=binaries[0])
    server.make()
    server.start()
    try:
        yield server
    finally:
        server.stop()


def file_bytes(path: Path) -> int:
    """Size of a SQLite file, with what is written ahead of it."""
    return sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*"))


def folder_bytes(folder: Path) -> int:
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())


# ---- what is stored


class Source:
    """Messages of a camera and a sensor, in the order of their time, up to now."""

    def __init__(self, *, frames: int, events: int) -> None:
        import loop  # renders; imported late because it sets threads for its own measurement

        shown = loop.shown(16, seed=3, drift_px=4)
        self._images = [decode_picture(one.encoded) for one in shown]
        self.image_bytes = 0
        self._start = CLOCK.now() - timedelta(seconds=events / PER_S)
        self._frame_s = events / PER_S / frames

    def at(self, seconds: float) -> datetime:
        return self._start + timedelta(seconds=seconds)

    def frame(self, number: int) -> Message:
        """An image moved by so many pixels: equal thumbnails would be stored once."""
        at, turn = self.at(number * self._frame_s), number // len(self._images)
        image = self._images[number % len(self._images)]
        height, width, _ = image.shape
        encoded = encode_jpeg(np.roll(image, (turn % height, turn // height % width), axis=(0, 1)))
        self.image_bytes += len(encoded)
        payload = frame_payload(encoded, number, at=at)
        return Message(topic=CAMERA, payload=payload, qos=1)

    def event(self, number: int) -> Message:
        said = {"ts": rfc3339(self.at(number / PER_S)), "kind": number % 7, "t": 20 + number % 5}
        return Message(topic=SENSOR, payload=encode(said), qos=1)


def added(site: Site, make: Callable[[int], Message], numbers: range) -> dict[str, float]:
    """Store messages in a hub that runs in this process; what each took."""
    database, blobs = site.database_bytes(), site.blob_bytes()
    config = HubConfig(
        data_dir=str(site.data),
        plant=str(site.plant),
        port=0,
        bus_port=0,
        records=SecretUrl(site.records),
    )
    with running(config, clock=CLOCK) as hub:
        settle(hub.services)
        begun, used, made = perf_counter(), process_time(), 0.0
        for first in range(numbers.start, numbers.stop, TOGETHER):
            before = thread_time()
            batch = [make(one) for one in range(first, min(first + TOGETHER, numbers.stop))]
            made += thread_time() - before
            hub.services.plant_ingest.take(batch)
            if first // TOGETHER % 50 == 0:
                wait_until(lambda: hub.services.thumbnails.waiting < MOST_WAITING)
        settle(hub.services)
        used_s, took_s = process_time() - used - made, perf_counter() - begun
    count = len(numbers)
    return {
        "added": count,
        "processor_ms": round(used_s / count * 1e3, 3),
        "per_s": round(count / took_s, 1),
        "database_bytes": round((site.database_bytes() - database) / count, 1),
        "blob_bytes": round((site.blob_bytes() - blobs) / count, 1),
    }


def settle(hub: Services) -> None:
    """Wait until no thumbnail is to be made and every reader of the log has come to its end."""

    def waiting() -> int:
        return hub.thumbnails.waiting + sum(one.lag for one in hub.followers.views())

    while left := waiting():
        wait_until(lambda: waiting() < left)


# ---- what is asked


def asked(site: Site, *, times: int) -> dict[str, Any]:
    """Start of the program, and its pages."""
    begun = perf_counter()
    hub = site.hub()
    ready = {"seconds": round(perf_counter() - begun, 2), "processor_s": processor_s(hub)}
    try:
        pages = {name: page(hub, path, times=times) for name, path in PAGES.items()}
    finally:
        hub.close()
    return {"ready": ready, "pages": pages}


def processor_s(hub: Hub) -> float:
    """Of the program so far; the system counts hundredths of a second."""
    used = psutil.Process(hub.process.pid).cpu_times()
    return round(float(used.user + used.system), 2)


def page(hub: Hub, path: str, *, times: int) -> dict[str, float]:
    connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=120)

    def first_byte_s() -> float:
        begun = perf_counter()
        connection.request("GET", path, headers=hub.headers)
        response = connection.getresponse()
        took_s = perf_counter() - begun
        text = response.read()
        if response.status != 200:
            raise SystemExit(f"{path}: {response.status} {text[:200]!r}")
        return took_s

    first_s, before_s = first_byte_s(), processor_s(hub)
    taken = [first_byte_s() for _ in range(times)]
    used_s = processor_s(hub) - before_s
    connection.close()
    return {
        "first_ms": round(first_s * 1e3, 2), **measure.percentiles(taken),
        "processor_ms": round(used_s / times * 1e3, 2),
    }  # fmt: skip


def doctor(site: Site) -> dict[str, float]:
    """Seconds of the command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = perf_counter()
    command = [sys.executable, "-m", "lineside", "doctor", "--json", "--config"]
    done = subprocess.run(
        [*command, str(site.folder / "hub.toml")], check=False, capture_output=True
    )
    took_s = perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    failed = [one for one in json.loads(done.stdout)["checks"] if not one["ok"]]
    if any("chain" in json.dumps(one) for one in failed):
        raise SystemExit(f"doctor: {failed}")
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(took_s, 2), "processor_s": round(used_s, 2)}


def decade(
    site: Site, source: Source, *, frames: range, events: range, times: int
) -> dict[str, Any]:
    """One step of the history, and what the whole of it costs then."""
    found: dict[str, Any] = {
        "frames": frames.stop,
        "events": events.stop,
        "frame": added(site, source.frame, frames),
        "event": added(site, source.event, events),
        **asked(site, times=times),
        "doctor": {"first": doctor(site), "again": doctor(site)},
        "database_mb": round(site.database_bytes() / 1e6, 1),
        "blobs_mb": round(site.blob_bytes() / 1e6, 1),
        "data_mb": round(disk_bytes(site.data) / 1e6, 1),
    }
    print(json.dumps(found), flush=True)
    return found


def figures(one: dict[str, Any]) -> dict[str, float]:
    """The processor times of a decade, by name."""
    return {
        **{name: one[name]["processor_ms"] for name in ("frame", "event")},
        "ready": one["ready"]["processor_s"],
        **{f"doctor, {name}": run["processor_s"] for name, run in one["doctor"].items()},
        **{name: page["processor_ms"] for name, page in one["pages"].items()},
    }


def grown(first: dict[str, Any], last: dict[str, Any]) -> list[str]:
    """Pages that became slow with the history, in words."""
    before, now = figures(first), figures(last)
    return [
        f"{name}: {now[name]} ms of the processor, with {first['events']} events {before[name]} ms"
        for name in PAGES
        if now[name] > max(ENOUGH_MS, MOST_TIMES * before[name])
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--decades", type=int, default=4)
    parser.add_argument("--store", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--limit", type=int, default=0, help="bytes; equal steps, with retention")
    parser.add_argument("--times", type=int, default=20, help="requests of each page")
    parser.add_argument("--note", default="", help="what else the machine did")
    parser.add_argument("--dry", action="store_true", help="write no results")
    given = parser.parse_args()
    source = Source(frames=given.frames, events=given.events)
    decades: list[dict[str, Any]] = []
    frames = events = 0
    steps = [1 / 10**number for number in reversed(range(given.decades))]
    if given.limit:
        steps = [(number + 1) / given.decades for number in range(given.decades)]
    with site_of(given.store, limit=given.limit) as site:
        for share in steps:
            upto = round(given.frames * share), round(given.events * share)
            decades.append(
                decade(
                    site, source, frames=range(frames, upto[0]), events=range(events, upto[1]),
                    times=given.times,
                )
            )  # fmt: skip
            frames, events = upto
    before = figures(decades[0])
    growth = {
        name: round(now / before[name], 2)
        for name, now in figures(decades[-1]).items()
        if before[name]
    }
    missed = grown(decades[0], decades[-1])
    result = {
        "store": given.store, "limit": given.limit, "note": given.note,
        "image_bytes": round(source.image_bytes / frames),
        "decades": decades, "growth": growth, "missed": missed,
    }  # fmt: skip
    print(json.dumps(growth, indent=2))
    if not given.dry:
        name = "growth" if given.store == "sqlite" else "growth-postgresql"
        name += "-retention" if given.limit else ""
        print(measure.write(name, result, answer))
    print("\n".join(missed) or "no page grew slow")
    return 1 if missed else 0


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    last, growth = result["decades"][-1], result["growth"]
    page = max((name for name in PAGES if name in growth), key=lambda name: growth[name])
    most = f"a request at most {growth[page]:.2f} ({page})"
    store = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[result["store"]]
    note = result["note"].partition(":")[0]
    if result.get("limit"):
        data_mb = max(one["data_mb"] for one in result["decades"])
        return (
            f"With {result['limit'] / 1e6:,.0f} MB allowed, {last['frames']:,} frames and"
            f" {last['events']:,} messages leave {last['data_mb']:,.0f} MB, at most {data_mb:,.0f}"
            f" after a step; a frame takes {growth['frame']:.2f} times the processor time of the"
            f" first step, {most} ({store}{', ' if note else ''}{note})."
        )
    return (
        f"At {last['frames']:,} frames and {last['events']:,} messages a frame takes"
        f" {growth['frame']:.2f} times the processor time, {most}"
        f"{' (limit missed)' if result['missed'] else ''}, the first `doctor`"
        f" {growth['doctor, first']:.1f} ({store}{', ' if note else ''}{note})."
    )


if __name__ == "__main__":
    sys.exit(main())
