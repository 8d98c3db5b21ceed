"""A site of real programs for one run of faults: broker, hubs, database, device."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, TypeVar

from lineside.cli.demo.stage import Program, Programs, last_words
from lineside.core import LinesideError, SystemClock, decode_json
from lineside.library.client import HubClient
from lineside.models import build_package
from lineside.store import Logged, Records
from lineside.testing.links import LONG_S
from tests.faults.relay import Relay
from tests.links.conftest import Mosquitto, free_port
from tests.models.conftest import package_parts
from tests.store.conftest import PostgresServer

CLOCK = SystemClock()
_START_S = 15.0
DEVICE = "edge-1"
_DISK_BYTES = 96_000_000
_PAUSE = threading.Event()
_PLANT = """
schema = "lineside.plant/1"
site = "hall"
line = [{{ id = "belt", name = "Belt" }}]
[[camera]]
id = "rack"
line = "belt"
source = "http-push://127.0.0.1:{camera}/camera"
[[inspection]]
id = "stock"
camera = "rack"
view = {{ width_px = 160, height_px = 120 }}
max_age_s = 600.0
[[inspection.region]]
id = "top"
label = "disc"
box_px = {{ x0_px = 22, y0_px = 22, x1_px = 46, y1_px = 42 }}
[[inspection.region]]
id = "low"
label = "ring"
box_px = {{ x0_px = 102, y0_px = 62, x1_px = 126, y1_px = 82 }}
[[route]]
topic = "i/ldr"
kind = "sensor"
collection = "sensors"
[[route]]
topic = "ways/+"
kind = "message"
[[rule]]
id = "pairs"
read = {{ topic = "ways/qos2" }}
key = ["image"]
pair = {{}}
"""
_HUB = """
data_dir = "{folder}/{name}/data"
plant = "{folder}/plant.toml"
port = {port}
strays = false
min_free_bytes = 0
{bus}
{records}
[[webhook]]
name = "mes"
url = "{hook}"
"""
_LAB = """
[[camera]]
id = "lab"
line = "belt"
source = "mqtt:lab/cam"
[[inspection]]
id = "lab"
camera = "lab"
task = "classify"
labels = ["lit", "dark"]
[[route]]
topic = "lab/cam"
kind = "frame"
camera = "lab"
"""
_EDGE = """
device = "{device}"
bus = "{bus}"
hub = "http://127.0.0.1:{hub}"
token_file = "{folder}/a/data/tokens/device.token"
plant = "{folder}/plant.toml"
data_dir = "{folder}/{device}"
trust_root = "{trust}/root.json"
resend_after_s = 1.0
status_every_s = 1.0
publish_logs = false
[page]
listen = "127.0.0.1:{page}"
"""
_UNJUDGED = ("not taken in time", "no package")
_NOTE_COMMITS = """
CREATE TABLE committed (sequence INTEGER PRIMARY KEY, id TEXT NOT NULL);
CREATE TRIGGER note_committed AFTER INSERT ON event BEGIN
  INSERT INTO committed VALUES (new.sequence, json_extract(CAST(new.payload AS TEXT), '$.id'));
END;
"""


class BrokerKind(StrEnum):
    """Which program the broker is, and who starts it."""

    OUTSIDE = "outside mosquitto"
    SUPERVISED = "supervised mosquitto"
    AMQTT = "amqtt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a site consists of, and what goes on there; ``opcua`` needs one hub."""

    broker: BrokerKind
    hubs: int = 1
    postgres: bool = False
    device: bool = False
    kafka: bool = False
    opcua: bool = False
    training: bool = False
    rollouts: bool = False

    def __str__(self) -> str:
        more = ["device"] * self.device + ["Kafka"] * self.kafka + ["OPC UA"] * self.opcua
        more += ["training"] * self.training + ["roll-outs"] * self.rollouts
        database = "PostgreSQL" if self.postgres else "SQLite"
        return ", ".join([self.broker, f"{self.hubs} hub(s)", database, *more])


T = TypeVar("T")


def wait_for(ask: Callable[[], T | None], *, why: str, within_s: float = LONG_S) -> T:
    """Return the first answer that is true; who is away or refuses meanwhile is asked again.

    Raises:
        TimeoutError: it was not so within the time.
    """
    until_s = CLOCK.monotonic() + within_s
    while (asked_s := CLOCK.monotonic()) < until_s:
        with contextlib.suppress(LinesideError, OSError):
            if answer := ask():
                return answer
        _PAUSE.wait(max(0.05, 2 * (CLOCK.monotonic() - asked_s)))
    raise TimeoutError(f"not within {within_s:g} s: {why}")


def read_log(records: Records, kind: str = "") -> Iterator[Logged]:
    """Every entry of the log, or of a type."""
    after = 0
    while page := records.log.read(type=kind, after=after, limit=1000):
        yield from page
        after = page[-1].position


def end(program: Program, number: signal.Signals) -> int:
    """End a program and return its exit code.

    Raises:
        TimeoutError: it did not end in time; what its threads did then stands in its log, where
            ``PYTHONFAULTHANDLER`` is set.
    """
    program.process.send_signal(number)
    try:
        return program.process.wait(LONG_S)
    except subprocess.TimeoutExpired as late:
        program.process.send_signal(signal.SIGABRT)
        program.process.wait(LONG_S)
        raise TimeoutError(f"{program.name} did not end on {number.name}") from late


def note_commits(spool: Path) -> None:
    """Let a device's spool note, within each of its transactions, which events it takes."""
    with closing(sqlite3.connect(spool, timeout=LONG_S)) as link:
        link.executescript(_NOTE_COMMITS)


def spooled(spool: Path) -> tuple[dict[int, str], set[int]]:
    """The id of each event that a spool took, by its number, and the numbers that still wait."""
    with closing(sqlite3.connect(spool, timeout=LONG_S)) as link:
        waiting = {number for (number,) in link.execute("SELECT sequence FROM event")}
        return dict(link.execute("SELECT sequence, id FROM committed")), waiting


@dataclass
class Hub:
    """One hub program, in its lives."""

    name: str
    folder: Path
    programs: Programs
    port: int = field(default_factory=free_port)
    program: Program | None = None
    started_s: float = 0.0
    starts_on_full_disk: bool = False

    @property
    def data(self) -> Path:
        return self.folder / self.name / "data"

    def start(self) -> None:
        self.program = self.programs.start(
            self.name, "hub", "--config", str(self.folder / f"{self.name}.toml")
        )
        self.started_s = CLOCK.monotonic()

    def is_starting(self) -> bool:
        """It answers nobody yet, or has not for long: its sign-in link may still be made."""
        if CLOCK.monotonic() - self.started_s < _START_S:
            return True
        with contextlib.suppress(LinesideError, OSError):
            return not self.is_ready()
        return True

    def tell(self, number: signal.Signals) -> None:
        assert self.program is not None
        self.program.process.send_signal(number)

    def end(self, number: signal.Signals) -> int:
        """Its exit code; a hub that does not end within its time fails the run."""
        assert self.program is not None
        return end(self.program, number)

    def is_ready(self) -> bool:
        if self.program is not None and self.program.process.poll() is not None:
            if self.starts_on_full_disk:  # it ends with a sentence; its service manager starts it
                self.starts_on_full_disk = False
                self.start()
                return False
            raise RuntimeError(f"hub {self.name} ended by itself: {last_words(self.program.log)}")
        return self.client().ready()

    def client(self) -> HubClient:
        # All hubs of a database take the token that the first of them made.
        token = (self.folder / "a" / "data" / "tokens" / "admin.token").read_text().strip()
        return HubClient(f"http://127.0.0.1:{self.port}", token=token)


@dataclass
class Site:
    """Everything that runs; ``with`` ends it."""

    shape: Shape
    folder: Path
    hook: str
    postgres: PostgresServer | None
    kafka: str = ""
    stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.programs = self.stack.enter_context(Programs(self.folder))
        self.hubs = [Hub(name, self.folder, self.programs) for name in "ab"[: self.shape.hubs]]
        self.camera_port = free_port()
        self.page_port = free_port()
        self.broker: Mosquitto | None = None
        self.has_own_disk = False
        self.device: Program | None = None
        self.package = ""
        self.packages: set[str] = set()
        self.opcua = f"opc.tcp://127.0.0.1:{free_port()}" if self.shape.opcua else ""
        self.records = f"sqlite:///{self.hubs[0].data / 'records.db'}"
        if self.shape.postgres:
            assert self.postgres is not None
            self.records = self.postgres.fresh_database()
        self.bus_port = free_port()
        # Between senders and broker, between each hub and an outside broker, in front of each hub.
        self.line = self._relay(self.bus_port)
        self.hub_lines = [self._relay(self.bus_port) for _ in self.hubs]
        self.doors = [self._relay(hub.port) for hub in self.hubs]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for hub in self.hubs:
            with contextlib.suppress(ProcessLookupError, AssertionError):
                hub.tell(signal.SIGCONT)
        self.stack.close()
        self._unmount_disk()

    def _relay(self, port: int) -> Relay:
        return self.stack.enter_context(Relay(port))

    def begin(self) -> None:
        """Start all of it, with a package in use where there is a device."""
        plant = _PLANT.format(camera=self.camera_port)
        (self.folder / "plant.toml").write_text(plant + _LAB * self.shape.training)
        if self.shape.broker is BrokerKind.OUTSIDE:
            self._start_broker()
        for hub, line in zip(self.hubs, self.hub_lines, strict=True):
            self._write_settings(hub, line)
        self._mount_disk()
        for hub in self.hubs:
            hub.start()
            # One after the other: the first makes the tokens and the update repository.
            wait_for(hub.is_ready, why=f"hub {hub.name} is ready")
        if self.shape.device:
            self._deploy()

    def _start_broker(self) -> None:
        folder = self.folder / "broker"
        folder.mkdir()
        lines = (
            f"listener {self.bus_port} 127.0.0.1", "user root", "allow_anonymous true",
            "persistence true", f"persistence_location {folder}/", "set_tcp_nodelay true",
            "max_queued_messages 100000",
            # Else mosquitto 2.0.11 loses messages of QoS 2 whose sender was cut off before.
            "max_inflight_messages 0",
        )  # fmt: skip
        self.broker = Mosquitto(folder=folder, port=self.bus_port, whole="\n".join(lines) + "\n")
        self.broker.start()
        self.stack.callback(self.broker.stop)

    def stop_broker(self) -> None:
        """End the outside broker as a service manager does: it saves what waits."""
        assert self.broker is not None
        assert self.broker.process is not None
        self.broker.process.terminate()
        self.broker.process.wait(LONG_S)

    def _write_settings(self, hub: Hub, line: Relay) -> None:
        bus = {
            BrokerKind.OUTSIDE: f'bus = "mqtt://127.0.0.1:{line.port}"',
            BrokerKind.SUPERVISED: f'bus_broker = "mosquitto"\nbus_port = {self.bus_port}',
            BrokerKind.AMQTT: f'bus_broker = "amqtt"\nbus_port = {self.bus_port}',
        }[self.shape.broker]
        records = f'records = "{self.records}"' if self.shape.postgres else ""
        if self.opcua:
            records += f'\nopcua = "{self.opcua}"\nopcua_anonymous = true'
        if len(self.hubs) > 1:
            records += f'\nblobs = "file://{self.folder}/blobs"\ntrust = "{self.folder}/trust"'
        kafka = ""
        if self.shape.kafka:
            kafka = (
                f'[kafka]\nbrokers = "{self.kafka}"\n'
                # The cluster hands on after so long what a killed hub took.
                'options = { "session.timeout.ms" = "3000", "heartbeat.interval.ms" = "300" }\n'
                '[[kafka.take]]\ntopic = "numbers"\nroute = "ways/kafka"\n'
            )
        written = _HUB.format(
            folder=self.folder, name=hub.name, port=hub.port, bus=bus, records=records,
            hook=self.hook,
        )  # fmt: skip
        (self.folder / f"{hub.name}.toml").write_text(written + kafka)

    def _mount_disk(self) -> None:
        """Give the first hub a small disk of its own, where this machine lets us."""
        folder = self.hubs[0].folder / self.hubs[0].name
        folder.mkdir()
        mount = shutil.which("mount")
        if self.shape.postgres or os.geteuid() != 0 or mount is None:
            return
        command = [mount, "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)]
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:
            self.has_own_disk = True

    def _unmount_disk(self) -> None:
        """Keep what the log and the tokens are, and give the disk back."""
        if not self.has_own_disk:
            return
        folder = self.hubs[0].folder / self.hubs[0].name
        kept = self.folder / "kept"
        shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("full", "blobs"))
        subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607  of the system
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        self.has_own_disk = False

    # ---- device

    def _deploy(self) -> None:
        client = self.hubs[0].client()
        self.package = client.upload("/packages", build_package(*package_parts()))["digest"]
        self.packages.add(self.package)
        client.post(f"/packages/{self.package}/use", {"inspection": "stock", "reason": "faults"})
        written = _EDGE.format(
            device=DEVICE, bus=f"mqtt://127.0.0.1:{self.line.port}", hub=self.hubs[0].port,
            folder=self.folder, page=self.page_port,
            trust=self.folder / ("trust" if len(self.hubs) > 1 else "a/data/trust"),
        )  # fmt: skip
        (self.folder / f"{DEVICE}.toml").write_text(written)
        self.start_device()
        wait_for(self.device_runs, why="the device runs the package")
        note_commits(self.spool)

    @property
    def spool(self) -> Path:
        return self.folder / DEVICE / "spool.db"

    def start_device(self) -> None:
        config = str(self.folder / f"{DEVICE}.toml")
        self.device = self.programs.start(DEVICE, "edge", "--config", config)

    def end_device(self, number: signal.Signals) -> None:
        assert self.device is not None
        end(self.device, number)

    def device_let_go(self) -> int:
        """Pictures that the device took and did not judge since its start, by its own counts.

        None where the device does not answer, as one that starts.
        """
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.page_port}/api/status") as answer:
                refused = decode_json(answer.read(), where="page of the device")["refused"]
        except OSError:
            return 0
        return sum(int(refused.get(reason, 0)) for reason in _UNJUDGED)

    def device_runs(self) -> bool:
        """Whether the device says that it runs one of the site's packages."""
        return bool({one["digest"] for one in self.device_packages()} & self.packages)

    def device_packages(self) -> list[dict[str, Any]]:
        """The packages that the device says it runs."""
        return list(self.hubs[0].client().get(f"/devices/{DEVICE}")["told"]["packages"])
