"""The page of what rules said: words, filters in the address, paging, counters."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lineside.core import Plant
from lineside.hub import HubConfig, Services, build_services
from lineside.hub.pages.views.rules import RuleQuery, rule_words, values_words
from lineside.store import open_blobs, open_records
from lineside.streams import EVENT_TYPE, Event
from lineside.testing import FakeClock
from lineside.testing.rules import rule_of
from tests.hub.pages.test_pages import read, words

SEEN = 'id = "seen"\nread = { plant = "message" }\nkey = ["image"]\nwindow = { size_s = 5 }\n'
PAIRS = 'id = "pairs"\nread = { event = "seen" }\nkey = ["image"]\npair = {}\n'


@pytest.fixture
def hub(config: HubConfig, plant: Plant, clock: FakeClock) -> Iterator[Services]:
    ruled = replace(plant, rule=(rule_of(SEEN), rule_of(PAIRS)))
    with open_records("memory://", clock=clock) as records:
        blobs = open_blobs("memory://", clock=clock)
        services = build_services(config, plant=ruled, records=records, blobs=blobs, clock=clock)
        services.load()
        yield services
        services.runs.close()
        blobs.close()


def say(hub: Services, clock: FakeClock, *, rule: str, image: str, **values: Any) -> None:  # noqa: ANN401  plain values
    data = {"rule": rule, "action": "final", "key": {"image": image}, "values": values}
    hub.ledger.record([
        Event(
            id=f"evt_{rule}_{clock.now().timestamp()}", source="/hall/hub", type=EVENT_TYPE,
            subject=rule, time=clock.now(), data=data,
        )
    ])  # fmt: skip
    clock.advance(1.0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"frames": 9, "dwell_s": 2.04, "label": "Google"}, "Google, dwell 2.0\u00a0s, frames 9"),
        ({"pairs": 1, "left_over": 0, "pair_seen": "Pair"}, "Pair, 1 pair, left over 0"),
        ({"pairs": 3, "left_over": 1, "pair_seen": "Un-matched"},
         "Un-matched, 3 pairs, left over 1"),
        ({"count": 8, "mean": 0.25}, "count 8, mean 0.25"),
        ({"probability": 0.999}, "probability 0.99"),
        ({"stuck": True}, "stuck True"),
        ({}, ""),
    ],
)  # fmt: skip
def test_values_name_the_thing_first(values: dict[str, Any], said: str) -> None:
    assert values_words(values) == said


def test_an_event_with_nothing_to_name_says_its_action() -> None:
    assert rule_words({"action": "begun", "key": {}, "values": {}}) == "begun"


def test_the_address_carries_what_was_asked() -> None:
    query = RuleQuery(rule="seen", since="2026-11-20T14:00:00Z", before=9)
    assert query.href(before=4) == (
        "/events/rules?rule=seen&from=2026-11-20T14%3A00%3A00Z&before=4"
    )
    assert RuleQuery().href(before=0) == "/events/rules"


def test_events_are_filtered_by_what_the_address_says(
    browser: TestClient, hub: Services, clock: FakeClock
) -> None:
    say(hub, clock, rule="seen", image="Google", count=8)
    between = clock.now().isoformat().replace("+00:00", "Z")
    say(hub, clock, rule="seen", image="Mongo", count=5)
    say(hub, clock, rule="pairs", image="Google", pair_seen="Pair", pairs=1)
    for asked, shown in (
        ({}, {"count 8", "count 5", "Pair, 1 pair"}),
        ({"rule": "seen"}, {"count 8", "count 5"}),
        ({"key": "goog"}, {"count 8", "Pair, 1 pair"}),
        ({"action": "begun"}, set()),
        ({"from": between}, {"count 5", "Pair, 1 pair"}),
        ({"to": between}, {"count 8"}),
    ):
        text = words(browser.get("/events/rules", params=asked).text)
        found = {one for one in ("count 8", "count 5", "Pair, 1 pair") if one in text}
        assert found == shown, asked
    assert "Google, count 8" in words(browser.get("/events").text)


def test_pages_follow_one_another_without_gap_or_repetition(
    browser: TestClient, hub: Services, clock: FakeClock
) -> None:
    for count in range(120):
        say(hub, clock, rule="seen", image="Google", count=1000 + count)
    path, seen = "/events/rules?key=google", []
    while path:
        found = read(browser.get(path).text)
        links = [one["href"] for one in found.all("a")]
        seen += [one for one in links if one.startswith("/events/evt_")]
        older = [one for one in links if "before=" in one]
        path = older[-1] if older else ""
        assert "key=google" in path or not path
    assert len(seen) == len(set(seen)) == 120


def test_each_rule_says_what_it_does_and_what_became_of_its_records(browser: TestClient) -> None:
    text = words(browser.get("/events/rules").text)
    for rule in browser.get("/api/v1/rules").json()["items"]:
        assert " ".join(rule["explanation"].split()) in text
    assert "Late 0 came after their time was told" in text
    assert "Held back 0 wait until nothing earlier can come" in text


def test_a_bound_that_is_no_time_gets_a_sentence(browser: TestClient) -> None:
    answer = browser.get("/events/rules?from=noon", headers={"accept": "text/html"})
    assert answer.status_code == 400
    assert "noon" in answer.text


def test_what_was_typed_is_shown_as_text(browser: TestClient) -> None:
    answer = browser.get("/events/rules", params={"key": "<script>alert(1)</script>"})
    assert "<script>alert" not in answer.text
