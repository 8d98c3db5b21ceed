"""When the memory of rules is written, and what follows where it is behind."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import ConflictError, Plant, UnavailableError, decode_json, parse_plant
from lineside.hub.eventlog.followers import Follower
from lineside.hub.eventlog.ledger import Ledger
from lineside.hub.rules import service as hub_rules
from lineside.hub.rules.service import FOLLOWER, Rules, rules_follower
from lineside.store import Records, open_records
from lineside.streams import EVENT_TYPE, Entry, Event, LineVerdicts, RuleEngine
from lineside.testing import FakeClock
from tests.hub.conftest import drain

PLANT = b"""
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
[[rule]]
id = "doors"
read = { topic = "door" }
window = { size_s = 2 }
"""
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Hub:
    """Ledger, rules and their follower; ``again`` is what comes after a kill."""

    def __init__(self, records: Records, plant: Plant) -> None:
        self.records, self.plant, self.clock = records, plant, FakeClock(BEGIN)
        self.ledger = Ledger(records, plant=plant, clock=self.clock)
        self.ledger.rebuild()
        self.rules = Rules(records, ledger=self.ledger, plant=plant, clock=self.clock)
        self.follower: Follower = rules_follower(
            self.rules, records=records, ledger=self.ledger, page=3
        )

    def again(self) -> "Hub":
        return Hub(self.records, self.plant)

    def see(self, place: int, *, image: str, topic: str = "sockfound") -> None:
        at = BEGIN + timedelta(seconds=place / 4)
        event = Event(
            id=f"evt_{place}", source="/hall/plant", type="lineside.plant.message.v1",
            subject=topic, time=at, data={"image": image, "topic": topic},
        )  # fmt: skip
        self.ledger.record([event])

    def drain(self) -> None:
        drain(self.follower)

    def said(self) -> list[dict[str, Any]]:
        page = self.records.log.read(type=EVENT_TYPE)
        return [decode_json(one.entry.body, where="log")["data"] for one in page]

    def kept(self, rule: str) -> int:
        return int(self.records.documents.get("rule-state", rule).body["position"])

    def cursor(self) -> int:
        return int(self.records.documents.get("cursor", FOLLOWER).body["position"])


@contextmanager
def opened() -> Iterator[Hub]:
    with open_records("memory://", clock=FakeClock(BEGIN)) as records:
        yield Hub(records, parse_plant(PLANT, where="plant"))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with opened() as one:
        yield one


def many_keys(hub: Hub, count: int = 300) -> None:
    """As many open windows: a memory of some tens of kilobytes, written."""
    for number in range(count):
        hub.ledger.record([seen_at_once(number)])
    hub.drain()
    hub.rules.keep()


def seen_at_once(number: int) -> Event:
    return Event(
        id=f"evt_key_{number}", source="/hall/plant", type="lineside.plant.message.v1",
        subject="sockfound", time=BEGIN, data={"image": f"k{number}", "topic": "sockfound"},
    )  # fmt: skip


def test_a_large_memory_is_not_written_at_each_page(hub: Hub) -> None:
    many_keys(hub)
    before = hub.kept("windows")
    versions = [hub.records.documents.get("rule-state", "windows").version]
    for place in range(90):
        hub.see(0, image="k1") if place == 0 else hub.ledger.record([seen_at_once(1000 + place)])
        hub.drain()
        versions.append(hub.records.documents.get("rule-state", "windows").version)
    assert versions[-1] - versions[0] <= 1
    assert hub.rules.settled <= max(hub.kept("windows"), before)
    assert hub.cursor() <= hub.kept("windows")
    hub.rules.keep()
    assert hub.kept("windows") == hub.rules.position == hub.rules.settled


def test_a_small_memory_is_behind_by_little(hub: Hub) -> None:
    for place in range(200):
        hub.see(place, image="Google")
        hub.drain()
    assert hub.rules.position - hub.kept("windows") < 60


def test_a_memory_is_never_behind_by_more_than_it_may(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_rules, "MOST_BEHIND", 20)
    many_keys(hub)
    for place in range(200):
        hub.see(1, image="k1", topic="door") if place == 0 else hub.ledger.record(
            [seen_at_once(5000 + place)]
        )
        hub.drain()
        for rule in ("windows", "doors"):
            running = hub.rules._running[rule]
            assert not running.is_unsaved or hub.rules.position - running.stored <= 20 + 3
    assert hub.rules.position - hub.cursor() <= 20 + 2 * 3


@settings(max_examples=15, deadline=None)
@given(
    draws=st.randoms(use_true_random=False),
    kills=st.sets(st.integers(0, 29), max_size=6),
    weight=st.integers(0, 3000),
)
def test_kills_anywhere_are_not_seen_however_far_the_memory_is_behind(
    draws: random.Random, kills: set[int], weight: int
) -> None:
    images = [draws.choice(("Google", "Mongo", "Github")) for _ in range(30)]

    def outcome(stops: set[int]) -> tuple[list[dict[str, Any]], object]:
        with opened() as hub:
            for place, image in enumerate(images):
                hub.see(place, image=image)
                hub.rules._running["windows"].stored_bytes += weight
                if place % 4 == 0:
                    hub.follower.step()
                if place in stops:
                    hub = hub.again()  # noqa: PLW2901  a kill leaves the records alone
            hub.drain()
            return hub.said(), hub.rules.one("windows").counters

    whole, torn = outcome(set()), outcome(kills)
    assert sorted(map(str, torn[0])) == sorted(map(str, whole[0]))
    assert torn[1] == whole[1]
    assert whole[0]


class Brittle(Rules):
    """It fails at one image, after a rule took it in."""

    def _events(self, engine: RuleEngine | LineVerdicts, entries: Sequence[Entry]) -> list[Event]:
        found = super()._events(engine, entries)
        if any(b"Broken" in entry.body for entry in entries):
            raise ValueError("a rule cannot take this")
        return found


@pytest.mark.parametrize("place", [0, 7, 19])
def test_an_entry_that_makes_a_rule_fail_is_as_if_it_had_not_been(hub: Hub, place: int) -> None:
    rules = Brittle(hub.records, ledger=hub.ledger, plant=hub.plant, clock=hub.clock)
    follower = rules_follower(rules, records=hub.records, ledger=hub.ledger, page=3)
    for number in range(20):
        hub.see(number, image="Google" if number != place else "Broken")
        rules._running["windows"].stored_bytes += 1000
        if number % 4 == 0:
            follower.step()
    drain(follower)
    (record,) = follower.quarantine.page()
    assert record.event == f"evt_{place}"
    again = hub.again()
    again.see(30, image="Google")
    again.drain()
    with opened() as other:
        for number in range(20):
            if number != place:
                other.see(number, image="Google")
        other.see(30, image="Google")
        other.drain()
        assert sorted(map(str, again.said())) == sorted(map(str, other.said()))
    assert again.follower.view().quarantined == 1


class Full(Rules):
    """Its commits end in a full disk when told to, after everything was written."""

    fails = 0

    def _commit(self, *args: Any, **more: Any) -> None:  # noqa: ANN401  handed on
        if self.fails:
            self.fails -= 1
            with self._records.transaction():
                super()._commit(*args, **more)
                raise UnavailableError("the disk is full")
        super()._commit(*args, **more)


@pytest.mark.parametrize("fails", [1, 2, 3])
def test_a_full_disk_takes_rules_back_to_what_is_kept_and_forward_again(
    hub: Hub, fails: int
) -> None:
    rules = Full(hub.records, ledger=hub.ledger, plant=hub.plant, clock=hub.clock)
    follower = rules_follower(rules, records=hub.records, ledger=hub.ledger, page=3)
    for place in range(40):
        hub.see(place, image="Google")
    rules._running["windows"].stored_bytes = 5000
    for _ in range(6):
        follower.step()
    assert rules._running["windows"].is_unsaved
    rules.fails = fails
    for _ in range(fails):
        with pytest.raises(UnavailableError):
            drain(follower)
    drain(follower)
    with opened() as other:
        for place in range(40):
            other.see(place, image="Google")
        other.drain()
        assert hub.said() == other.said()
        assert rules.one("windows").counters == other.rules.one("windows").counters
        assert rules.position > 40


@settings(max_examples=15, deadline=None)
@given(turns=st.lists(st.integers(0, 2), min_size=20, max_size=20), weight=st.integers(0, 2000))
def test_hubs_that_are_behind_by_different_lengths_say_everything_once(
    turns: list[int], weight: int
) -> None:
    images = [("Google", "Mongo", "Github")[place * 7 % 3] for place in range(40)]
    with opened() as alone:
        for place, image in enumerate(images):
            alone.see(place, image=image)
        alone.drain()
        expected = sorted(map(str, alone.said()))
    with opened() as first:
        hubs = [first, first.again()]
        for place, image in enumerate(images):
            first.see(place, image=image)
            turn = turns[place // 2]
            if turn < 2:
                hubs[turn].rules._running["windows"].stored_bytes += weight
                _step(hubs[turn])
        for _ in range(3):
            for hub in hubs:
                while _step(hub):
                    pass
        assert sorted(map(str, first.said())) == expected
        assert len(expected) > 10


def _step(hub: Hub) -> int:
    """A page; one that another hub overtook comes again."""
    try:
        return hub.follower.step()
    except ConflictError:
        return hub.follower.step() + 1
