"""Two hubs of a site share the work; one is killed, one is stopped, nothing is lost or doubled.

A camera speaks on mosquitto forty times a second. Two hubs stand at one PostgreSQL; the one
that reads the camera's session is killed with -9, started again, and later stopped and woken.
"""

import json
import re
import signal
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lineside.cli.demo.stage import Program, Programs
from lineside.core import SystemClock, decode_json, encode, rfc3339
from lineside.links import Message, open_bus
from lineside.store import open_records
from lineside.streams import EVENT_TYPE
from lineside.testing.links import LONG_S, wait_until
from tests.links.conftest import Mosquitto
from tests.links.hooks import Hooks
from tests.store.conftest import PostgresServer, postgres_server

__all__ = ["postgres_server"]
pytestmark = [pytest.mark.service, pytest.mark.slow]

MESSAGE = "lineside.plant.message.v1"
MOST_TWICE = 10
"""Posts of a webhook; what the database had not noted when a hub was killed comes again."""
CLOCK = SystemClock()
PLANT = """
schema = "lineside.plant/1"
site = "hall"
line = [{ id = "belt", name = "Belt" }]
[[route]]
topic = "i/sock"
kind = "message"
[[route]]
topic = "i/part"
kind = "message"
time = "arrival"
[[rule]]
id = "pairs"
read = { topic = "i/sock" }
key = ["image"]
pair = {}
"""
HUB = """
data_dir = "{folder}/{name}"
plant = "{folder}/plant.toml"
port = 0
bus = "{bus}"
strays = false
records = "{records}"
blobs = "file://{folder}/blobs"
trust = "{folder}/trust"
[[webhook]]
name = "mes"
url = "{hook}"
"""


class Hub:
    """One of the two programs, in its lives."""

    def __init__(self, name: str, *, folder: Path, programs: Programs) -> None:
        self.name = name
        self._folder = folder
        self._programs = programs
        self._program: Program | None = None

    def start(self) -> None:
        (self._folder / self.name / "hub.json").unlink(missing_ok=True)
        config = str(self._folder / f"{self.name}.toml")
        self._program = self._programs.start(self.name, "hub", "--config", config)
        wait_until(lambda: bool(self.parts()), why=f"{self.name} has its share")

    def signal(self, number: signal.Signals) -> None:
        assert self._program is not None
        self._program.process.send_signal(number)
        if number is signal.SIGKILL:
            self._program.process.wait()

    def ask(self, path: str, *, known_to: str = "") -> Any:  # noqa: ANN401  a document
        """As who holds the token file of this hub, or of another."""
        folder = self._folder / self.name
        token = (self._folder / (known_to or self.name) / "tokens" / "admin.token").read_text()
        url = json.loads((folder / "hub.json").read_bytes())["url"]
        asked = urllib.request.Request(  # noqa: S310  the hub of this test
            url + path, headers={"authorization": f"Bearer {token.strip()}"}
        )
        with urllib.request.urlopen(asked, timeout=LONG_S) as answer:  # noqa: S310
            return decode_json(answer.read(), where=path)

    def parts(self) -> set[str]:
        """What it does now; nothing while it does not answer."""
        try:
            told = self.ask("/api/v1/stats")["each"]["part"]["figures"]
        except (OSError, urllib.error.URLError, KeyError):
            return set()
        return {name for name, figures in told.items() if figures["held"]}

    def knows(self) -> set[str]:
        """What it could do."""
        return set(self.ask("/api/v1/stats")["each"]["part"]["figures"])


class Camera:
    """Says forty messages a second, each with a number of its own.

    Each tenth time it says that a part passed, always in the same words and without a time.
    """

    def __init__(self, url: str) -> None:
        self._bus = open_bus(url, client_id="camera", clock=CLOCK)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.said = self.parts = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._bus.close()

    def _run(self) -> None:
        while not self._stop.wait(0.025):
            body = {"ts": rfc3339(CLOCK.now()), "image": "Google", "number": self.said}
            self._bus.publish("i/sock", encode(body), qos=1, timeout_s=LONG_S)
            self.said += 1
            if self.said % 10 == 0:
                self._bus.publish("i/part", b'{"part":"lid"}', qos=1, timeout_s=LONG_S)
                self.parts += 1


@contextmanager
def listening(url: str, pattern: str) -> Iterator[list[Message]]:
    """What is said on the bus meanwhile."""
    bus = open_bus(url, client_id="listener", clock=CLOCK)
    mailbox, heard = bus.subscribe((pattern,), size=100_000), list[Message]()
    stop = threading.Event()

    def listen() -> None:
        while not stop.is_set():
            heard.extend(mailbox.get_many(most=1000, timeout_s=0.2))

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield heard
    finally:
        stop.set()
        thread.join()
        bus.close()


def logged(url: str, kind: str) -> list[dict[str, Any]]:
    with open_records(url, clock=CLOCK) as records:
        found, after = [], 0
        while page := records.log.read(type=kind, after=after, limit=1000):
            found += [decode_json(one.entry.body, where="log") for one in page]
            after = page[-1].position
        assert all(records.log.verify(source).ok for source in records.log.heads())
    return found


def does_all(hub: Hub, parts: set[str]) -> bool:
    return hub.parts() == parts


def only_reader(hubs: list[Hub]) -> Hub:
    """The hub that reads the camera's session; while it passes on there is none, or two."""
    found: list[Hub] = []

    def is_one() -> bool:
        found[:] = [hub for hub in hubs if "plant" in hub.parts()]
        return len(found) == 1

    wait_until(is_one, why="one hub reads")
    return found[0]


def test_two_hubs_share_the_work_and_take_over_from_one_another(
    tmp_path: Path, mosquitto: Mosquitto, hooks: Hooks, postgres_server: PostgresServer
) -> None:
    url = postgres_server.fresh_database()
    (tmp_path / "plant.toml").write_text(PLANT)
    for name in ("a", "b"):
        settings = HUB.format(
            folder=tmp_path, name=name, bus=mosquitto.url, records=url, hook=hooks.url
        )
        (tmp_path / f"{name}.toml").write_text(settings)
    with Programs(tmp_path) as programs, listening(mosquitto.url, "lineside/+/+/event/#") as heard:
        hubs = [Hub(name, folder=tmp_path, programs=programs) for name in ("a", "b")]
        for hub in hubs:
            hub.start()
        everything = hubs[0].knows()

        def is_shared() -> bool:
            held = [hub.parts() for hub in hubs]
            return set.union(*held) == everything and min(map(len, held)) >= len(everything) // 2

        wait_until(is_shared, why="both have their share")
        assert hubs[0].ask("/api/v1/twin", known_to="b") == hubs[1].ask("/api/v1/twin")
        camera = Camera(mosquitto.url)
        camera.start()
        try:
            for fault in (signal.SIGKILL, signal.SIGSTOP):
                wait_until(is_shared, why="both have their share")
                threading.Event().wait(2)
                reader = only_reader(hubs)
                (other,) = (hub for hub in hubs if hub is not reader)
                reader.signal(fault)
                wait_until(
                    partial(does_all, other, everything), why=f"taken over after {fault.name}"
                )
                threading.Event().wait(2)
                if fault is signal.SIGKILL:
                    reader.start()
                else:
                    reader.signal(signal.SIGCONT)
            wait_until(is_shared, why="both have their share again")
        finally:
            camera.stop()
        wait_until(
            lambda: len(logged(url, MESSAGE)) >= camera.said + camera.parts, why="all is stored"
        )
        wait_until(
            lambda: len(logged(url, EVENT_TYPE)) >= camera.said // 2, why="every pair is told"
        )
        ids = {event["id"] for event in logged(url, EVENT_TYPE)}
        wait_until(
            lambda: {decode_json(one.payload, where="bus")["id"] for one in list(heard)} == ids,
            why="every pair is said on the bus",
        )
        wait_until(lambda: set(hooks.ids) == ids, why="every pair is posted")
        states = [hub.ask("/api/v1/twin") for hub in hubs]
        assert states[0] == states[1]
    numbers = Counter(event["data"].get("number", -1) for event in logged(url, MESSAGE))
    assert numbers.pop(-1) == camera.parts
    assert numbers == dict.fromkeys(range(camera.said), 1)
    pairs = logged(url, EVENT_TYPE)
    assert len(pairs) == camera.said // 2
    assert len(ids) == len(pairs)
    # Each in its order; at a hand-over at most as many come twice as were under way.
    order = list(dict.fromkeys(hooks.ids))
    assert order == [event["id"] for event in pairs]
    assert len(hooks.ids) - len(order) <= MOST_TWICE
    check_broker_log(tmp_path / "mosquitto.log")


def check_broker_log(path: Path) -> None:
    """A session passes once from the stopped hub to the other; nobody else is thrown out."""
    thrown = Counter(re.findall(r"Client (\S+) already connected", path.read_text()))
    assert all(re.fullmatch(r"hub-hall-(plant|devices|jobs|evidence)", name) for name in thrown)
    assert max(thrown.values(), default=0) <= 1
