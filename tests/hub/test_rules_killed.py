"""Rules and verdicts over SQLite, the process killed with -9: every event is there once."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lineside.core import decode_json, encode
from lineside.store import open_records
from lineside.streams import EVENT_TYPE, VERDICT_TYPE
from lineside.testing import FakeClock

# The clock is moved by what the log holds, so that a killed run meets the same times again.
VICTIM = """
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from lineside.core import parse_plant
from lineside.hub.eventlog.ledger import Ledger
from lineside.hub.rules.service import Rules, rules_follower
from lineside.store import open_records
from lineside.streams import Event
from lineside.testing import FakeClock
from lineside.testing.events import PARTS, SIDES, part_event

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
url, total = sys.argv[1], int(sys.argv[2])
begin = datetime(2026, 1, 1, tzinfo=UTC)
clock = FakeClock(begin)
plant = parse_plant(PLANT + PARTS.encode(), where="plant")
with open_records(url, clock=clock) as records:
    ledger = Ledger(records, plant=plant, clock=clock)
    ledger.rebuild()
    rules = Rules(records, ledger=ledger, plant=plant, clock=clock)
    made = rules_follower(rules, records=records, ledger=ledger, page=5)
    head = records.log.heads().get("/hall/plant")
    place = head.source_position if head else 0
    while place < total:
        at = begin + timedelta(seconds=place / 4)
        image = ("Google", "Mongo", "Github")[place * 7 % 3]
        event = Event(
            id=f"evt_{place}", source="/hall/plant", type="lineside.plant.message.v1",
            subject="sockfound", time=at, data={"image": image, "topic": "sockfound"},
        )
        clock.advance((at - clock.now()).total_seconds())
        verdict = ("ok", "ok", "reject", "review")[place % 4]
        answers = [
            part_event(side, f"p{part}", verdict=verdict, at_s=place / 4)
            for number, side in enumerate(SIDES)
            for part in (place - number, place - 20)  # one side after the other; late ones too
            if part >= 0 and (part % 7 or number)  # of some parts one side never answers
        ]
        ledger.record([event, *answers])
        place += 1
        if place % 3 == 0:
            made.step()
            print(place, flush=True)
    while made.step():
        pass
"""
TOTAL = 90


def victim(url: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", VICTIM, url, str(TOTAL)], stdout=subprocess.PIPE)


def said(url: str) -> list[dict[str, Any]]:
    with open_records(url, clock=FakeClock()) as records:
        page = [*records.log.read(type=EVENT_TYPE), *records.log.read(type=VERDICT_TYPE)]
        assert records.log.verify("/hall/hub").ok
    found = [decode_json(one.entry.body, where="log")["data"] for one in page]
    return sorted(found, key=encode)


@pytest.mark.slow
def test_killed_anywhere_the_rules_say_the_same(tmp_path: Path) -> None:
    whole, torn = (f"sqlite:///{tmp_path / name}" for name in ("whole.db", "torn.db"))
    with victim(whole) as quiet:
        assert quiet.wait() == 0 if quiet.stdout and quiet.stdout.read() else False
    for lines in (3, 9):
        with victim(torn) as running:
            assert running.stdout is not None
            for _ in range(lines):
                running.stdout.readline()
            running.kill()
    with victim(torn) as last:
        assert last.stdout is not None
        last.stdout.read()
        assert last.wait() == 0
    assert said(torn) == said(whole)
    parts = Counter(one["part"] for one in said(whole) if "part" in one)
    assert len(said(whole)) - len(parts) > TOTAL / 4
    assert {f"p{number}" for number in range(TOTAL - 10)} <= parts.keys()
    assert set(parts.values()) == {1}
