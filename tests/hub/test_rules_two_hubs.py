"""Two hubs at the rules of one database, either killed with -9: every event is there once."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest

from lineside.core import decode_json, encode
from lineside.hub.eventlog.ledger import to_entry
from lineside.store import Records, open_records
from lineside.streams import EVENT_TYPE, VERDICT_TYPE, Event
from lineside.testing import FakeClock
from lineside.testing.events import SIDES, part_event
from lineside.testing.links import wait_until
from tests.store.conftest import PostgresServer, postgres_server

__all__ = ["postgres_server"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# What arrives is dated by the test; what rules say is dated by clocks that stand still, so that it
# makes no difference which hub says it.
HUB = """
import select
import sys
from lineside.core import ConflictError, LinesideError, parse_plant
from lineside.hub.eventlog.ledger import Ledger
from lineside.hub.rules.service import Rules, rules_follower
from lineside.store import open_records
from lineside.testing import FakeClock
from lineside.testing.events import PARTS

PLANT = b'''
schema = "lineside.plant/1"
site = "hall"
[[rule]]
id = "windows"
read = { topic = "sockfound" }
key = ["image"]
window = { size_s = 2 }
[[rule]]
id = "pairs"
read = { event = "windows" }
key = ["image"]
pair = {}
'''
clock = FakeClock()
plant = parse_plant(PLANT + PARTS.encode(), where="plant")
with open_records(sys.argv[1], clock=clock) as records:
    ledger = Ledger(records, plant=plant, clock=clock)
    ledger.rebuild()
    rules = Rules(records, ledger=ledger, plant=plant, clock=clock)
    made = rules_follower(rules, records=records, ledger=ledger, page=7)
    print("begun", flush=True)
    quiet, over = 0, False
    while not (over and quiet > 2):
        try:
            handled = made.step()
            if handled:
                print("moved", flush=True)
            quiet = 0 if handled else quiet + 1
        except ConflictError:
            print("overtaken", flush=True)
        except LinesideError as error:
            print(f"away {error}", flush=True)
        waits_s = 0 if over or not quiet else 0.01
        over = over or bool(select.select([sys.stdin], [], [], waits_s)[0])
"""
TOTAL = 300
CHUNK = 10
KILLS = {9: 0, 19: 1}
"""After how many chunks which hub is killed."""


@dataclass
class Hub:
    """One of the two, in its lives."""

    url: str
    heard: Counter[str] = field(default_factory=Counter)
    process: "subprocess.Popen[str] | None" = None
    reader: threading.Thread = field(default_factory=threading.Thread)

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HUB, self.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "begun\n"
        self.reader = threading.Thread(target=self._hear, args=(self.process.stdout,))
        self.reader.start()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self._end()

    def abandon(self) -> None:
        """End it, whatever became of the test."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self._end()

    def finish(self) -> None:
        """Let it come to the end of the log."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._end()
        assert self.process.returncode == 0

    def _end(self) -> None:
        assert self.process is not None
        self.reader.join()
        with self.process:
            """Its pipes are closed, its end is waited for."""

    def _hear(self, lines: IO[str]) -> None:
        for line in lines:
            self.heard[line.split()[0]] += 1


@contextmanager
def hubs(url: str, *, count: int) -> Iterator[list[Hub]]:
    with ExitStack() as stack:
        made = [Hub(url) for _ in range(count)]
        for hub in made:
            stack.callback(hub.abandon)
            hub.start()
        yield made


def speak(records: Records, clock: FakeClock, *, first: int) -> None:
    """Messages of a camera, four a second by their own time and by arrival."""
    for place in range(first, first + CHUNK):
        clock.advance(0.25)
        event = Event(
            id=f"evt_{place}", source="/hall/plant", type="lineside.plant.message.v1",
            subject="sockfound", time=clock.now(),
            data={"image": ("Google", "Mongo", "Github")[place * 7 % 3], "topic": "sockfound"},
        )  # fmt: skip
        answers = [
            part_event(side, f"p{place - number}", at_s=place / 4)
            for number, side in enumerate(SIDES)
            if place >= number and (place % 7 or number)
        ]
        records.log.append([to_entry(one) for one in (event, *answers)])


def said(records: Records) -> list[dict[str, Any]]:
    read = records.log.read
    page = [*read(type=EVENT_TYPE, limit=10_000), *read(type=VERDICT_TYPE, limit=10_000)]
    assert records.log.verify("/hall/hub").ok
    found = [decode_json(one.entry.body, where="log")["data"] for one in page]
    return sorted(found, key=encode)


def has_moved(hub: Hub, *, above: int) -> bool:
    return hub.heard["moved"] > above


def outcome(url: str, *, count: int, kills: dict[int, int]) -> tuple[list[Any], list[Hub]]:
    clock = FakeClock()
    clock.advance(timedelta(days=1).total_seconds())
    with open_records(url, clock=clock) as records, hubs(url, count=count) as running:
        for number, first in enumerate(range(0, TOTAL, CHUNK)):
            if number not in kills:
                speak(records, clock, first=first)
                continue
            killed, other = running[kills[number]], running[1 - kills[number]]
            killed.kill()
            moves = other.heard["moved"]
            speak(records, clock, first=first)
            wait_until(partial(has_moved, other, above=moves))
            killed.start()
        for hub in running:
            hub.finish()
        return said(records), running


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What one hub says that nobody disturbs."""
    found, _ = outcome(f"sqlite:///{tmp_path_factory.mktemp('quiet')}/q.db", count=1, kills={})
    assert len(found) > TOTAL / 4
    assert {one["rule"] for one in found if "rule" in one} == {"windows", "pairs"}
    parts = Counter(one["part"] for one in found if "part" in one)
    assert {f"p{number}" for number in range(TOTAL - 10)} <= parts.keys()
    assert set(parts.values()) == {1}
    return found


def check(url: str, alone: list[Any]) -> None:
    together, running = outcome(url, count=2, kills=KILLS)
    assert together == alone
    assert all(hub.heard["moved"] for hub in running), [hub.heard for hub in running]


def test_two_hubs_on_sqlite_say_what_one_says(tmp_path: Path, alone: list[Any]) -> None:
    check(f"sqlite:///{tmp_path}/records.db", alone)


@pytest.mark.service
def test_two_hubs_on_postgresql_say_what_one_says(
    postgres_server: PostgresServer, alone: list[Any]
) -> None:
    check(postgres_server.fresh_database(), alone)
