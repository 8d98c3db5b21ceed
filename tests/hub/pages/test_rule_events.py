"""The page of what rules said: words, filters in the address, paging, counters."""

import html
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lineside.core import Plant, rfc3339
from lineside.hub import HubConfig, Services
from lineside.hub.pages.rules import RuleQuery, hour_to_try, rule_words, values_words
from lineside.hub.rules import log
from lineside.hub.rules.text import rule_toml
from lineside.streams import EVENT_TYPE, Event
from lineside.testing import FakeClock
from lineside.testing.rules import rule_of
from tests.hub.conftest import open_hub
from tests.hub.pages.test_pages import read, words

SEEN = 'id = "seen"\nread = { plant = "message" }\nkey = ["image"]\nwindow = { size_s = 5 }\n'
PAIRS = 'id = "pairs"\nread = { event = "seen" }\nkey = ["image"]\npair = {}\n'


@pytest.fixture
def hub(config: HubConfig, plant: Plant, clock: FakeClock) -> Iterator[Services]:
    ruled = replace(plant, rule=(rule_of(SEEN), rule_of(PAIRS)))
    with open_hub(config, plant=ruled, clock=clock) as services:
        yield services


def say(hub: Services, clock: FakeClock, *, rule: str, image: str, **values: Any) -> None:  # noqa: ANN401  plain values
    data = {"rule": rule, "action": "final", "key": {"image": image}, "values": values}
    hub.ledger.record([
        Event(
            id=f"evt_{rule}_{clock.now().timestamp()}", source="/hall/hub", type=EVENT_TYPE,
            subject=rule, time=clock.now(), data=data,
        )
    ])  # fmt: skip
    hub.rule_counts.take(hub.records.log.read(type=EVENT_TYPE))
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
        ({"first_frame": "frm_1", "frames": 3, "last_frame": "frm_2"}, "frames 3"),
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


def test_pairs_show_also_where_their_key_is_not_among_those_listed(
    browser: TestClient, hub: Services, clock: FakeClock
) -> None:
    say(hub, clock, rule="pairs", image="Google", pairs=3, left_over=2)
    for number in range(40):
        say(hub, clock, rule="seen", image=str(number), count=7)
    text = words(browser.get("/events/rules").text)
    assert "Pairs 3 as they stood last" in text
    assert "And 1 key more" in " ".join(text.split())


def test_each_rule_says_what_it_does_and_what_became_of_its_records(browser: TestClient) -> None:
    text = words(browser.get("/events/rules").text)
    for rule in browser.get("/api/v1/rules").json()["items"]:
        assert " ".join(rule["explanation"].split()) in text
    assert "Late 0 came after their time was final" in text
    assert "Held back 0 wait until nothing earlier can come" in text


def test_a_bound_that_is_no_time_gets_a_sentence(browser: TestClient) -> None:
    answer = browser.get("/events/rules?from=noon", headers={"accept": "text/html"})
    assert answer.status_code == 400
    assert "noon" in answer.text


@pytest.mark.parametrize("place", ["9" * 30, "\u00b2", "-1"], ids=["long", "squared", "below"])
def test_a_place_that_the_log_cannot_have_is_refused(browser: TestClient, place: str) -> None:
    for address in (
        "/events/rules?before=",
        "/events/rules/rows?before=",
        "/api/v1/rule-events?after=",
    ):
        assert browser.get(f"{address}{place}").status_code == 400, address


def test_what_was_typed_is_shown_as_text(browser: TestClient) -> None:
    answer = browser.get("/events/rules", params={"key": "<script>alert(1)</script>"})
    assert "<script>alert" not in answer.text


def test_the_page_adds_up_pairs_and_counts_and_offers_files_of_what_passes(
    browser: TestClient, hub: Services, clock: FakeClock
) -> None:
    say(hub, clock, rule="seen", image="Google", count=8)
    say(hub, clock, rule="seen", image="Google", count=4)
    say(hub, clock, rule="pairs", image="Google", pair_seen="Un-matched", pairs=3, left_over=1)
    page = browser.get("/events/rules").text
    text = words(page)
    for told in ("Events 3 of all rules", "Pairs 3 as they stood", "Unpaired 1 no partner"):
        assert told in text
    assert "seen Google 12 \u2013" in text
    assert "pairs Google 1 3 1" in text
    files = [one["href"] for one in read(page).all("a") if "format=" in one.get("href", "")]
    assert [one.rpartition("=")[2] for one in files] == ["csv", "jsonl", "parquet"]
    narrowed = browser.get("/events/rules", params={"rule": "seen", "key": "goog"}).text
    assert "Events 2 with these filters" in words(narrowed)
    (csv, *_) = [one["href"] for one in read(narrowed).all("a") if "format=" in one.get("href", "")]
    assert csv == "/api/v1/rule-events?rule=seen&key=goog&format=csv"
    assert len(browser.get(csv).text.splitlines()) == 3
    assert "Pairs" not in words(browser.get("/events/rules?rule=seen").text).partition("By key")[0]


def test_of_a_long_history_the_page_adds_up_the_newest_and_offers_all(
    browser: TestClient, hub: Services, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "QUICK", 2)
    for count in (100, 10, 1):
        say(hub, clock, rule="seen", image="Google", count=count)
        clock.advance(60.0)
    page = browser.get("/events/rules").text
    assert "seen Google 11 \u2013" in words(page)
    assert "The newest events, from " in words(page)
    links = [one["href"] for one in read(page).all("a") if "from=" in one.get("href", "")]
    everything, one_key = (html.unescape(one) for one in links)
    assert "seen Google 111 \u2013" in words(browser.get(everything).text)
    assert "seen Google 11 \u2013" in words(browser.get(one_key).text)
    assert "seen Google 11 \u2013" in words(browser.get("/events/rules/sums").text)
    assert "The newest events" not in words(browser.get("/events/rules?rule=seen").text)


def test_an_event_without_a_frame_that_is_here_says_so_and_shows_no_broken_picture(
    browser: TestClient, hub: Services, clock: FakeClock
) -> None:
    say(hub, clock, rule="seen", image="Google", count=8)
    data = {"rule": "seen", "action": "final", "key": {}, "values": {}, "frame": "frm_gone"}
    hub.ledger.record([
        Event(id="evt_gone", source="/hall/hub", type=EVENT_TYPE, subject="seen",
              time=clock.now(), data=data)
    ])  # fmt: skip
    page = browser.get("/events/rules").text
    assert not read(page).all("img")
    assert ("no frame" in words(page), "frame not kept here" in words(page)) == (True, True)


def test_parts_of_the_page_are_read_anew_with_its_filters(
    browser: TestClient, hub: Services, clock: FakeClock
) -> None:
    say(hub, clock, rule="seen", image="Google", count=8)
    say(hub, clock, rule="pairs", image="Google", pair_seen="Pair", pairs=1, left_over=0)
    (root,) = [
        one for one in read(browser.get("/events/rules?rule=seen").text).all("div")
        if "data-rule-events" in one
    ]  # fmt: skip
    rows, sums = browser.get(root["data-rows"]).text, browser.get(root["data-sums"]).text
    assert ("count 8" in words(rows), "1 pair" in words(rows)) == (True, False)
    assert "<html" not in rows + sums
    assert [one.get("data-part") for one in read(sums).all("div") if "data-part" in one] == [
        "sums", "rules"
    ]  # fmt: skip


def test_a_declaration_is_offered_to_be_changed_and_tried(
    browser: TestClient, hub: Services, clock: FakeClock
) -> None:
    begin = clock.now()
    for second in range(12):
        data = {"image": "Google", "topic": "sockfound"}
        hub.ledger.record([
            Event(id=f"evt_{second}", source="/hall/plant", type="lineside.plant.message.v1",
                  subject="sockfound", time=clock.now(), data=data)
        ])  # fmt: skip
        clock.advance(1.0)
    page = browser.get("/events/rules/try?rule=seen").text
    assert rule_toml(hub.plant.rule[0]) in html.unescape(page)
    asked = {"text": rule_toml(hub.plant.rule[0]).replace("size_s = 5", "size_s = 4"),
             "since": rfc3339(begin), "until": rfc3339(clock.now())}  # fmt: skip
    own = {"Origin": "http://127.0.0.1"}
    answer = browser.post("/events/rules/try", data=asked, headers=own)
    assert answer.status_code == 200
    text = words(answer.text)
    for part in (
        "Against the one in use: seen",
        "Unchanged 0 in both Changed 3 same key and time, different result",
        "Added 0 only in this one Removed 0 only in the one in use",
        "Google count 4",
        "was count 5",
    ):
        assert part in text
    same = {**asked, "text": rule_toml(hub.plant.rule[0])}
    assert "Nothing would change." in browser.post("/events/rules/try", data=same, headers=own).text
    bad = browser.post("/events/rules/try", data={**asked, "text": "id = 3"}, headers=own)
    assert (bad.status_code, bad.json()["faults"][0]["path"]) == (400, "line 1, id")
    assert browser.post("/events/rules/try", data=asked).status_code == 403


@pytest.mark.parametrize(
    ("newest", "ends"),
    [(None, 0.0), (timedelta(minutes=59), 0.0), (timedelta(days=3), -3 * 86400 + 1.0)],
)
def test_the_hour_to_try_is_the_last_one_that_holds_anything(
    clock: FakeClock, newest: timedelta | None, ends: float
) -> None:
    now = clock.now()
    since, until = hour_to_try(now, newest=None if newest is None else now - newest)
    assert ((until - now).total_seconds(), until - since) == (ends, timedelta(hours=1))
