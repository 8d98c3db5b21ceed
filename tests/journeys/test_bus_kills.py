"""What a broker acknowledged to its senders is in the log once: stops, kills, a store that is away.

The hub is a program of its own over a mosquitto, except where its store is locked under it.
"""

import logging
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lineside.core import SystemClock, digest_of, encode, rfc3339
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, RunningHub, running
from lineside.links import Bus, Qos, open_bus, open_session
from lineside.store import Logged, open_records
from lineside.streams import decode_event
from lineside.testing.links import LONG_S, wait_until
from lineside.vision import encode_jpeg
from tests.hub.conftest import PLANT, scene
from tests.hub.process import Process
from tests.hub.test_run import ask
from tests.links.conftest import MOSQUITTO, Mosquitto, free_port

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(900)]

CLOCK = SystemClock()
BEGAN = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=30)
ROUTES = b"""
[[route]]
topic = "sockfound"
kind = "message"
time = "arrival"
"""


@pytest.fixture
def config(tmp_path: Path) -> HubConfig:
    (tmp_path / "plant.toml").write_bytes(PLANT + ROUTES)
    return HubConfig(data_dir=str(tmp_path / "data"), plant=str(tmp_path / "plant.toml"), port=0)


@pytest.fixture(params=["3.1.1", "5"])
def broker(
    request: pytest.FixtureRequest, tmp_path: Path, absent: Callable[[str, str], None]
) -> Iterator[str]:
    """The bus address of a mosquitto that outlives the hub."""
    if MOSQUITTO is None:
        absent("service", "mosquitto is not installed")
    folder = tmp_path / "broker"
    folder.mkdir()
    server = Mosquitto(folder=folder)
    server.start()
    yield f"{server.url}?version={request.param}"
    server.stop()


@pytest.fixture
def program(tmp_path: Path, config: HubConfig, broker: str) -> Iterator[Process]:
    """A hub, not started; ended whatever a test leaves."""
    assert config.plant
    made = Process(tmp_path, bus=broker)
    yield made
    if made.process is not None:
        made.end(signal.SIGKILL)


@dataclass
class Sender:
    """Says numbered messages, each acknowledged by the broker; slowly where nobody waits."""

    url: str
    qos: Qos
    pause_s: float
    stop: threading.Event = field(default_factory=threading.Event)
    said: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    hurried: float = 1e9

    def run(self) -> None:
        with closing(open_bus(self.url, client_id=f"line-{self.qos}", clock=CLOCK)) as bus:
            while not self.stop.wait(self.pause_s if self.rounds < self.hurried else 0.05):
                self.say(bus)
                self.rounds += 1

    def say(self, bus: Bus) -> None:
        """One message with a time, one without, and from time to time a bare picture."""
        at = rfc3339(BEGAN + timedelta(milliseconds=self.rounds))
        self.hand_over(bus, "i/bme680", encode({"ts": at, "t": 20 + self.qos}))
        self.said[f"{20 + self.qos} {at}"] += 1
        self.hand_over(bus, "sockfound", encode({"line": self.qos, "number": self.rounds}))
        self.said[f"{self.qos} {self.rounds}"] += 1
        if self.rounds % 20 == 0:
            picture = encode_jpeg(scene("red", seed=10_000 * self.qos + self.rounds))
            self.hand_over(bus, "i/cam", picture)
            self.said[digest_of(picture)] += 1

    def hand_over(self, bus: Bus, topic: str, payload: bytes) -> None:
        bus.publish(topic, payload, qos=self.qos, timeout_s=LONG_S)


@contextmanager
def sending(url: str, *qualities: Qos, pause_s: float) -> Iterator[list[Sender]]:
    """Senders at work; when the block ends, the broker has acknowledged all that they said."""
    senders = [Sender(url=url, qos=qos, pause_s=pause_s) for qos in qualities]
    threads = [threading.Thread(target=one.run, name=f"line-{one.qos}") for one in senders]
    for thread in threads:
        thread.start()
    try:
        yield senders
    finally:
        for one in senders:
            one.stop.set()
        for thread in threads:
            thread.join()


class PlantLog:
    """The plant's messages in a hub's log, by what tells them apart."""

    def __init__(self, folder: Path) -> None:
        self._url = f"sqlite:///{folder / 'data' / 'records.db'}"
        self._position = 0
        self._found: Counter[str] = Counter()

    def read(self) -> Counter[str]:
        """Return all messages; reads on from where it was."""
        with open_records(self._url, clock=CLOCK) as records:
            while page := records.log.read(
                source="/hall/plant", after=self._position, limit=500
            ):  # fmt: skip
                self._position = page[-1].position
                self._found.update(_name(one) for one in page)
        return self._found


def logged(folder: Path) -> Counter[str]:
    """Every message in the log, read from its start."""
    return PlantLog(folder).read()


def _name(one: Logged) -> str:
    data = decode_event(one.entry.body, where="log").data
    match data["topic"]:
        case "i/cam":
            return str(data["digest"])
        case "sockfound":
            return f"{data['line']} {data['number']}"
        case _:
            return f"{data['t']} {data['ts']}"


def said_by(senders: list[Sender]) -> Counter[str]:
    return sum((one.said for one in senders), Counter())


def rounds(senders: list[Sender], count: int) -> Callable[[], bool]:
    """Whether each sender came so far from here on."""
    for one in senders:
        one.hurried = one.rounds + count + 50  # what a test does next, it does while they hurry
    return lambda: all(one.rounds >= one.hurried - 50 for one in senders)


def test_a_planned_restart_loses_nothing_that_was_said_meanwhile(
    tmp_path: Path, program: Process, broker: str
) -> None:
    program.start()
    with sending(broker, 1, pause_s=0.002) as senders:
        wait_until(rounds(senders, 200))
        assert program.end(signal.SIGTERM) == 0
        wait_until(rounds(senders, 500))  # nobody reads
        program.start()
        wait_until(rounds(senders, 100))
    log = PlantLog(tmp_path)
    wait_until(lambda: log.read().total() >= said_by(senders).total())
    assert program.end(signal.SIGTERM) == 0
    assert logged(tmp_path) == said_by(senders)


@pytest.mark.parametrize("broker", ["5"], indirect=True)
def test_kill_9_under_load_loses_and_doubles_nothing(
    tmp_path: Path, program: Process, broker: str
) -> None:
    program.start()  # from here on the broker keeps what is said
    with sending(broker, 1, 2, pause_s=0.001) as senders:
        for number in range(2):
            wait_until(rounds(senders, 150 + 40 * number))
            program.end(signal.SIGKILL)
            program.start()
    log = PlantLog(tmp_path)
    wait_until(lambda: log.read().total() >= said_by(senders).total())
    assert program.end(signal.SIGTERM) == 0
    assert logged(tmp_path) == said_by(senders)


@pytest.mark.parametrize("broker", ["5"], indirect=True)
def test_while_the_store_is_away_the_broker_keeps_all_but_quality_0(
    tmp_path: Path, config: HubConfig, broker: str, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("lineside.store.sqlite.PATIENCE_S", 0.5)  # for other writers
    with running(replace(config, bus=SecretUrl(broker)), clock=CLOCK) as hub:
        with closing(sqlite3.connect(tmp_path / "data" / "records.db")) as store:
            store.execute("BEGIN IMMEDIATE")  # nobody else can write
            with sending(broker, 1, 2, pause_s=0.001) as senders:
                wait_until(rounds(senders, 300))
            with sending(broker, 0, pause_s=0.0001) as strays:
                wait_until(lambda: dropped(hub) > 50)
            wait_until(lambda: "away, trying again" in caplog.text)
            store.execute("ROLLBACK")
        kept, log = said_by(senders), PlantLog(tmp_path)
        wait_until(lambda: not kept - log.read())
        wait_until(lambda: "find room again" in caplog.text)
        assert 'lineside_mailbox_dropped_total{mailbox="plant"}' in metrics(hub)
    found = logged(tmp_path)
    assert {found[name] for name in kept} == {1}
    assert sum(found.values()) < sum(kept.values()) + sum(said_by(strays).values())
    assert caplog.text.count("messages of quality 0 are dropped") == 1


def test_what_the_plant_file_has_no_more_is_unsubscribed_at_the_next_start(
    tmp_path: Path, config: HubConfig, broker: str
) -> None:
    joined = replace(config, bus=SecretUrl(broker))
    with closing(open_bus(broker, client_id="line", clock=CLOCK)) as line:
        with running(joined, clock=CLOCK):
            line.publish("sockfound", encode({"line": 1, "number": 1}))
            wait_until(lambda: len(logged(tmp_path)) == 1)
        (tmp_path / "plant.toml").write_bytes(PLANT)
        with running(joined, clock=CLOCK) as hub:
            line.publish("sockfound", encode({"line": 1, "number": 2}))
            line.publish("i/bme680", encode({"ts": rfc3339(BEGAN), "t": 1}))
            wait_until(lambda: len(logged(tmp_path)) == 2)
            assert hub.services.dead_letters.counts() == {}


def test_what_the_broker_drops_is_said(
    tmp_path: Path, config: HubConfig, absent: Callable[[str, str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    if MOSQUITTO is None:
        absent("service", "mosquitto is not installed")
    folder = tmp_path / "broker"
    folder.mkdir()
    few = "allow_anonymous true\nsys_interval 1\nmax_queued_messages 10\n"
    port = free_port()
    server = Mosquitto(folder=folder, port=port, whole=f"listener {port} 127.0.0.1\n{few}")
    server.start()
    with closing(open_session(
        server.url, client_id="absent", patterns=("line/a",), clock=CLOCK
    )) as session:  # fmt: skip
        wait_until(session.connected)
    with (
        running(replace(config, bus=SecretUrl(server.url)), clock=CLOCK) as hub,
        closing(open_bus(server.url, client_id="line", clock=CLOCK)) as line,
    ):

        def is_said() -> bool:
            line.publish("line/a", b"1")
            return "the broker drops messages" in caplog.text

        wait_until(is_said)
        wait_until(lambda: gauges(hub)["broker_dropped"] >= 1)
    server.stop()


def gauges(hub: RunningHub) -> dict[str, float]:
    found: dict[str, float] = ask(hub, "/api/v1/stats")["gauges"]
    return found


def dropped(hub: RunningHub) -> int:
    return int(ask(hub, "/api/v1/stats")["each"]["mailbox"]["figures"]["plant"]["dropped"])


def metrics(hub: RunningHub) -> str:
    return hub.services.stats.exposition().decode()
