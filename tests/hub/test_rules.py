"""The plant's rules in the hub: once each whatever is killed, ticks, the API, figures."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lineside.core import (
    NotFoundError,
    Plant,
    UnavailableError,
    decode_json,
    rfc3339,
)
from lineside.hub import HubConfig, Services
from lineside.hub.eventlog.followers import Follower
from lineside.hub.rules.service import FOLLOWER, Rules, line_of, recorded_entries, rules_follower
from lineside.hub.sinks.mqtt import EventOutbox
from lineside.links import Bus, Message
from lineside.store import Logged
from lineside.streams import (
    EVENT_TYPE,
    TICK_TYPE,
    VERDICT_TYPE,
    Entry,
    Event,
    LineVerdicts,
    decode_event,
    encode_event,
    read_prediction,
    read_verdict,
)
from lineside.testing import FakeClock
from lineside.testing.rules import rule_of
from tests.hub.asyncapi import documented
from tests.hub.conftest import Line, drain, open_hub

WINDOWS = """
id = "windows"
read = { plant = "message" }
where = [{ field = "image", none_of = ["Blank"] }]
key = ["image"]
window = { size_s = 5 }
having = [{ field = "count", above = 1 }]
"""
PAIRS = 'id = "pairs"\nread = { event = "windows" }\nkey = ["image"]\npair = {}\n'


@pytest.fixture
def ruled(plant: Plant) -> Plant:
    return replace(plant, rule=(rule_of(WINDOWS), rule_of(PAIRS)))


@pytest.fixture
def hub(config: HubConfig, ruled: Plant, clock: FakeClock) -> Iterator[Services]:
    with open_hub(config, plant=ruled, clock=clock) as services:
        yield services


def follower(hub: Services, rules: Rules | None = None) -> Follower:
    """As the hub starts it."""
    own = rules or hub.rules
    return rules_follower(own, records=hub.records, ledger=hub.ledger, page=7)


def detections(begin: datetime, *images: str) -> list[Event]:
    """One a second."""
    return [
        Event(
            id=f"evt_{image}_{(begin + timedelta(seconds=place)).isoformat()}",
            source="/hall/plant", type="lineside.plant.message.v1", subject="sockfound",
            time=begin + timedelta(seconds=place), data={"image": image, "topic": "sockfound"},
        )
        for place, image in enumerate(images)
    ]  # fmt: skip


def feed(hub: Services, clock: FakeClock, *images: str) -> None:
    for event in detections(clock.now(), *images):
        hub.ledger.record([event])
        clock.advance(1.0)


def said(hub: Services, rule: str) -> list[dict[str, Any]]:
    entries = hub.records.log.read(type=EVENT_TYPE, subject=rule)
    return [decode_json(one.entry.body, where="log")["data"] for one in entries]


def socks(hub: Services, clock: FakeClock) -> None:
    """Twice a sock, nothing, another sock; the clock begins at a multiple of 5 s."""
    feed(hub, clock, *["Google"] * 5, *["Blank"] * 5, *["Google"] * 5, *["Mongo"] * 7)


def test_what_rules_say_stands_in_the_log_and_rules_read_rules(
    hub: Services, clock: FakeClock
) -> None:
    made = follower(hub)
    socks(hub, clock)
    drain(made)
    windows = [(one["key"]["image"], one["values"]["count"]) for one in said(hub, "windows")]
    assert [image for image, _ in windows[:2]] == ["Google", "Google"]
    (pair, *_) = said(hub, "pairs")
    assert pair["values"]["pair_seen"] == "Pair"
    assert pair["key"] == {"image": "Google"}


def test_a_restart_anywhere_says_the_same_and_once(config: HubConfig, ruled: Plant) -> None:
    def outcome(*, restarts: bool) -> list[dict[str, Any]]:
        own = FakeClock()
        with open_hub(config, plant=ruled, clock=own) as hub:
            made = follower(hub)
            for _ in range(4):
                feed(hub, own, "Google", "Google", "Mongo", "Google", "Blank", "Mongo")
                drain(made)
                if restarts:
                    made = follower(hub, _anew(hub))
            found = [*said(hub, "windows"), *said(hub, "pairs")]
        return [{name: one[name] for name in ("key", "values", "from", "to")} for one in found]

    assert outcome(restarts=True) == outcome(restarts=False)
    assert outcome(restarts=False)


def _anew(hub: Services) -> Rules:
    return Rules(hub.records, ledger=hub.ledger, plant=hub.plant, clock=hub.clock)


class Failing(Rules):
    """Its first commit ends in a full disk, after everything was written."""

    failed = False

    def _keep(self, *args: Any, **more: Any) -> list[tuple[int, int]]:  # noqa: ANN401  handed on
        kept = super()._keep(*args, **more)
        if not self.failed:
            self.failed = True
            raise UnavailableError("the disk is full")
        return kept


def test_an_aborted_commit_leaves_nothing_and_the_page_comes_again(
    hub: Services, clock: FakeClock
) -> None:
    rules = Failing(hub.records, ledger=hub.ledger, plant=hub.plant, clock=clock)
    made = follower(hub, rules)
    socks(hub, clock)
    before = made.position
    with pytest.raises(UnavailableError):
        drain(made)
    assert (made.position, said(hub, "windows")) == (before, [])
    drain(made)
    again = said(hub, "windows")
    drain(follower(hub, _anew(hub)))
    assert said(hub, "windows") == again
    assert len({(one["name"], str(one["key"])) for one in again}) == len(again) > 1


def recorded(hub: Services) -> list[Entry]:
    span = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
    return list(recorded_entries(hub.records.log, since=span[0], until=span[1]))


def test_a_page_that_comes_once_more_changes_nothing(hub: Services, clock: FakeClock) -> None:
    made = follower(hub)
    socks(hub, clock)
    drain(made)
    found, counted = said(hub, "windows"), hub.rules.one("windows").counters
    made.position = 0
    hub.records.documents.delete("cursor", FOLLOWER)
    drain(made)
    assert said(hub, "windows") == found
    assert hub.rules.one("windows").counters == counted


def test_a_changed_declaration_begins_at_the_end_of_the_log(
    hub: Services, clock: FakeClock, ruled: Plant
) -> None:
    made = follower(hub)
    socks(hub, clock)
    drain(made)
    changed = replace(ruled.rule[0], lateness_s=1.0)
    plant = replace(ruled, rule=(changed,))
    rules = Rules(hub.records, ledger=hub.ledger, plant=plant, clock=clock)
    rules.load()
    assert rules.one("windows").counters.read == 0
    kept = [one.id for one in hub.records.documents.page("rule-state")]
    assert kept == ["verdict/warehouse", "windows"]
    renamed = replace(changed, name="Windows")
    same = Rules(hub.records, ledger=hub.ledger, plant=replace(plant, rule=(renamed,)), clock=clock)
    assert same.load() == rules.load()


def test_a_tick_tells_what_is_open_when_nothing_comes(hub: Services, clock: FakeClock) -> None:
    made = follower(hub)
    hub.rules.tick()
    feed(hub, clock, "Google", "Google")
    drain(made)
    assert said(hub, "windows") == []
    hub.rules.tick()
    assert ticks(hub) == []
    clock.advance(9.0)
    hub.rules.tick()
    hub.rules.tick()
    assert len(ticks(hub)) == 1
    clock.advance(10.0)
    drain(made)
    hub.rules.tick()
    drain(made)
    (window,) = said(hub, "windows")
    assert window["values"]["count"] == 2


def test_ticks_end_when_nothing_is_open(hub: Services, clock: FakeClock) -> None:
    made = follower(hub)
    feed(hub, clock, "Google", "Google")
    for _ in range(100):
        clock.advance(5.0)
        drain(made)
        hub.rules.tick()
    many = len(ticks(hub))
    assert 0 < many < 12
    clock.advance(100.0)
    hub.rules.tick()
    assert len(ticks(hub)) == many


def test_what_waited_while_no_hub_read_is_taken_before_time_passes(
    hub: Services, ruled: Plant, clock: FakeClock
) -> None:
    made = follower(hub)
    feed(hub, clock, "Google")
    drain(made)
    hub.rules.keep()
    waited = detections(clock.now(), *["Google"] * 7)
    clock.advance(3600.0)
    after = Rules(hub.records, ledger=hub.ledger, plant=ruled, clock=clock)
    made = follower(hub, after)
    drain(made)
    after.tick()
    assert ticks(hub) == []
    hub.ledger.record(waited)
    drain(made)
    assert after.one("windows").counters.late == 0
    assert [one["values"]["count"] for one in said(hub, "windows")] == [5]
    clock.advance(10.0)
    after.tick()
    assert len(ticks(hub)) == 1


def ticks(hub: Services) -> list[Logged]:
    return hub.records.log.read(type=TICK_TYPE)


def test_a_frame_that_a_rule_names_does_not_age_out(hub: Services, clock: FakeClock) -> None:
    made = follower(hub)
    events = detections(clock.now(), *["Google"] * 7)
    hub.ledger.record([replace(one, data={**one.data, "frame": "frm_7"}) for one in events])
    drain(made)
    assert said(hub, "windows")[0]["frame"] == "frm_7"
    assert "frm_7" in hub.ledger._pending_pins


# ---- where it is seen


def test_the_api_says_what_rules_do_and_what_they_counted(
    hub: Services, clock: FakeClock, client: TestClient
) -> None:
    made = follower(hub)
    socks(hub, clock)
    drain(made)
    items = client.get("/api/v1/rules").json()["items"]
    assert [one["id"] for one in items] == ["windows", "pairs"]
    assert items[0]["explanation"].startswith("windows: reads the plant's messages where")
    assert items[0]["counters"]["read"] == 22
    assert items[0]["behind"] == 0
    assert items[0]["state_bytes"] > 100
    assert client.get("/api/v1/rules/pairs").json() == items[1]
    assert client.get("/api/v1/rules/pears").status_code == 404


def test_figures_are_in_the_metrics(hub: Services, clock: FakeClock) -> None:
    made = follower(hub)
    hub.stats.watch_each("rule_records", "rule", read=hub.rules.totals)
    socks(hub, clock)
    drain(made)
    text = hub.stats.exposition().decode()
    assert 'lineside_rule_records_total{outcome="read",rule="windows"} 22.0' in text
    assert 'lineside_rule_records_total{outcome="late",rule="pairs"} 0.0' in text


def test_a_rule_is_tried_on_a_recorded_span_and_the_difference_shown(
    hub: Services, clock: FakeClock, client: TestClient
) -> None:
    begin = clock.now()
    socks(hub, clock)
    span = {"since": rfc3339(begin), "until": rfc3339(clock.now())}
    same = client.post("/api/v1/rules/try", json={**span, "text": WINDOWS}).json()
    assert (same["added"], same["removed"]) == ([], [])
    assert same["same"] > 1
    strict = WINDOWS.replace("above = 1", "above = 4")
    tried = client.post("/api/v1/rules/try", json={**span, "text": "[[rule]]" + strict}).json()
    assert tried["added"] == []
    assert len(tried["removed"]) == same["same"] - tried["same"] > 0
    assert said(hub, "windows") == []


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "ends"),
        ({"since": "x", "until": "2026-01-01T00:00:00Z"}, "time"),
        ({"text": "id = 3"}, "text"),
        ({"text": "[[rule]]\n[[rule]]"}, "2 rules"),
        ({"rule": "nobody"}, "no rule"),
        ({"text": 'id = "p"\nread = { topic = "i/ldr" }\npython = "ours"'}, "no Python rule"),
    ],
)
def test_a_trial_that_cannot_be_is_told_why(
    client: TestClient, body: dict[str, str], word: str
) -> None:
    span = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-01T01:00:00Z"}
    asked = {**span, **({"rule": "windows"} if not {"text", "rule"} & body.keys() else {}), **body}
    answer = client.post("/api/v1/rules/try", json=asked)
    assert answer.status_code in {400, 404}
    assert word in answer.text


def test_events_are_said_on_the_line_of_what_the_rule_reads(ruled: Plant) -> None:
    own = replace(ruled.rule[0], line="warehouse")
    seen = rule_of('id = "s"\nread = { predictions = "stock" }\nwindow = { size_s = 1 }')
    after = rule_of('id = "t"\nread = { event = "s" }\npair = {}')
    plant = replace(ruled, rule=(own, seen, after))
    assert [line_of(one, plant) for one in plant.rule] == ["warehouse"] * 3


def test_the_outbox_says_a_rules_events_on_its_topic(
    hub: Services, clock: FakeClock, bus: Bus, factory: Bus
) -> None:
    mailbox = factory.subscribe(("lineside/hall/warehouse/event/+",))
    made = follower(hub)
    socks(hub, clock)
    drain(made)
    EventOutbox(bus, plant=hub.plant).publish(hub.records.log.read(type=EVENT_TYPE))
    messages = mailbox.get_many(most=100, timeout_s=2.0)
    assert documented(messages) == {"event"}
    assert {one.topic for one in messages} == {
        f"lineside/hall/warehouse/event/{rule}" for rule in ("windows", "pairs")
    }


def test_each_part_has_its_verdict_in_the_log_on_its_topic_and_in_the_figures(
    hub: Services, line: Line, clock: FakeClock, bus: Bus, factory: Bus, client: TestClient
) -> None:  # fmt: skip
    mailbox = factory.subscribe(("lineside/hall/warehouse/verdict",))
    made = follower(hub)
    hub.stats.watch_each("verdicts", "line", read=hub.rules.verdicts)
    for colour in ("blue", "red", "blue"):
        line.see(colour)
        clock.advance(1.0)
    drain(made)
    drain(follower(hub))
    EventOutbox(bus, plant=hub.plant).publish(hub.records.log.read(type=VERDICT_TYPE))
    said = mailbox.get_many(most=100, timeout_s=2.0)
    items = client.get("/api/v1/verdicts", params={"line": "warehouse"}).json()["items"]
    assert [one["verdict"]["verdict"] for one in items] == ["ok"] * 3
    assert [decode_json(one.payload, where="said")["id"] for one in said] == [
        one["id"] for one in items
    ]
    text = hub.stats.exposition().decode()
    assert 'lineside_verdicts_total{line="warehouse",verdict="ok"} 3.0' in text
    assert client.get("/api/v1/verdicts", params={"line": "other"}).json()["items"] == []


@pytest.mark.parametrize("order", ["VP", "PV", "P", "VVP", "PVV"])
def test_device_and_hub_give_a_part_one_verdict(
    hub: Services, line: Line, clock: FakeClock, order: str
) -> None:
    made = follower(hub)
    line.send(line.status())
    prediction = line.prediction("blue")
    event = decode_event(prediction.payload, where="prediction")
    device = LineVerdicts(hub.plant, "warehouse", device="edge-1")
    answer = device.judge(read_prediction(event), event=event.id)
    (given,) = device.add(answer, at_us=0)
    topic = "lineside/hall/warehouse/verdict"
    verdict = Message(topic=topic, payload=encode_event(given), qos=1)
    for one in order:
        line.send(verdict if one == "V" else prediction)
        drain(made)
        clock.advance(5.0)
    found = hub.records.log.read(type=VERDICT_TYPE)
    assert [one.entry.id for one in found] == [given.id]
    by = read_verdict(decode_event(found[0].entry.body, where="log")).device
    assert by == ("edge-1" if order[0] == "V" else "")
    line.send(Message(topic=topic, payload=found[0].entry.body, qos=1))
    strange = replace(given, data={**given.data, "device": "edge-9"})
    line.send(Message(topic=topic, payload=encode_event(strange), qos=1))
    assert len(hub.records.log.read(type=VERDICT_TYPE)) == 1
    assert hub.dead_letters.counts() == {"unknown device": 1}
    assert hub.rules.verdicts()["warehouse"]["late"] == 0


def test_an_unknown_rule_is_told_with_the_known_ones(hub: Services) -> None:
    with pytest.raises(NotFoundError, match="no rule 'x'"):
        hub.rules.find("x")
