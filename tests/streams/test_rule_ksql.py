"""The reference's two statements as rules: its worked stream, its table, and its defects, repaired.

Section numbers are those of the reference's page; examples/socks/ksql.toml has the rules.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lineside.core import Plant, Rule, decode_json, encode, load_plant, rfc3339
from lineside.streams import Entry, Event, RuleEngine, entry_of, moment, read_entries, rule_event
from lineside.streams.rules.replay import run_rule
from lineside.testing.rules import START_S, message, rule_of, tick
from tests.streams import ksql_oracle as oracle
from tests.streams.test_rule_watch import said

PLANT = Path(__file__).parents[2] / "examples" / "socks" / "ksql.toml"
WINDOWS, SEEN, PAIRS = "sock-stream-smoothed", "socks-seen", "sock-pairs"
HELD_S = (2, 3, 6, 10)
STARTS_S = (0.0, 2.5, 3.0, 3.5, 4.0)
GRACE_MS = 86_400_000
HOUR_MS = 3_600_000
ODD: tuple[dict[str, Any], ...] = (
    {}, {"image": None}, {"Image": "Google"}, {"image": ["Google"]}, {"image": {"name": "Google"}},
    {"image": "Mongo", "probability": "high"}, {"image": "Google", "boxes": [{"x": 1}, None]},
)  # fmt: skip
TABLE = ((1, 1, 1, 1, 0), (1, 1, 1, 2, 1), (1, 2, 2, 2, 1), (2, 3, 3, 3, 2))


@pytest.fixture(scope="module")
def plant() -> Plant:
    return load_plant(PLANT)


def seen(at_s: float, image: str, *, percent: float = 97.3, topic: str = "sockfound") -> Entry:
    return message(topic, {"image": image, "probability": percent}, at_s=at_s)


def spread(begin_s: float, images: Sequence[str], *, end_s: float) -> Iterator[Entry]:
    """Messages spread evenly over a stretch."""
    step = (end_s - begin_s) / len(images)
    for place, image in enumerate(images):
        yield seen(begin_s + step * (place + 0.5), image)


def worked() -> list[Entry]:
    """Section 6.2."""
    return [
        *spread(0, ["Blank"] * 8 + ["Mongo"] + ["Google"] * 3, end_s=5),
        *spread(5, ["Google"] * 8 + ["Mongo"], end_s=10),
        *spread(10, ["Blank"] * 14, end_s=15),
        *spread(15, ["Google"] * 9, end_s=20),
        *spread(20, ["Mongo"] * 4, end_s=25),
    ]


def held(start_s: float, *, for_s: float) -> list[Entry]:
    """Section 6.3: one sock in view at 3 detections a second."""
    return [seen(start_s + place / 3, "Google") for place in range(round(3 * for_s))]


def second(data: dict[str, Any], name: str = "from") -> float:
    return float(
        (moment(0).fromisoformat(data[name]) - moment(START_S * 1_000_000)).total_seconds()
    )


def test_the_worked_stream_gives_the_table_of_the_reference(plant: Plant) -> None:
    rows = [
        (data["key"]["image"], second(data), data["values"]["count"])
        for data in said(plant, WINDOWS, worked())
    ]
    assert rows == [
        *(("Google", 5, count) for count in range(4, 9)),
        *(("Google", 15, count) for count in range(4, 10)),
        ("Mongo", 20, 4),
    ]


def test_the_worked_stream_gives_the_final_query_of_the_reference(plant: Plant) -> None:
    rows = [
        (data["key"]["image"], data["values"]["seen"], data["values"]["pair_seen"])
        for data in said(plant, SEEN, worked())
    ]
    assert rows == [
        *[("Google", 1, "Un-matched")] * 5, *[("Google", 2, "Pair")] * 6,
        ("Mongo", 1, "Un-matched"),
    ]  # fmt: skip


@pytest.mark.parametrize(("row", "for_s"), list(enumerate(HELD_S)))
@pytest.mark.parametrize(("column", "start_s"), list(enumerate(STARTS_S)))
def test_every_cell_of_the_table(
    plant: Plant, row: int, for_s: float, column: int, start_s: float
) -> None:
    told = said(plant, SEEN, held(start_s, for_s=for_s))
    assert (told[-1]["values"]["seen"] if told else 0) == TABLE[row][column]


@pytest.mark.parametrize("for_s", HELD_S)
@pytest.mark.parametrize("start_s", STARTS_S)
def test_by_sessions_every_cell_is_one_sock(plant: Plant, for_s: float, start_s: float) -> None:
    assert len(said(plant, "sock-sessions", held(start_s, for_s=for_s))) == 1


def test_defect_16_alignment_decides_windows_but_not_sessions(plant: Plant) -> None:
    early, late = held(0.0, for_s=6), held(2.5, for_s=6)
    assert [said(plant, SEEN, one)[-1]["values"]["seen"] for one in (early, late)] == [1, 2]
    assert [len(said(plant, "sock-sessions", one)) for one in (early, late)] == [1, 1]


def test_defect_17_blank_is_compared_exactly(plant: Plant) -> None:
    """``blank`` is no label: written so, Blank itself would end up paired; here nobody is."""
    entries = [seen(place / 3, "Blank") for place in range(60)]
    assert said(plant, SEEN, entries) == []
    assert said(plant, PAIRS, entries) == []
    careless = replace(plant, rule=tuple(_spelled(one) for one in plant.rule))
    assert said(careless, SEEN, entries)[-1]["values"]["pair_seen"] == "Pair"


def _spelled(rule: Rule) -> Rule:
    tests = tuple(replace(one, none_of=("blank",)) if one.none_of else one for one in rule.where)
    return replace(rule, where=tests)


def test_defect_18_times_are_whole_and_the_end_of_the_last_seen(plant: Plant) -> None:
    """No 12-hour clock: an afternoon's event says so; ``to`` is the last detection, not a start."""
    (sock,) = said(plant, "sock-sessions", held(3.5, for_s=3))
    assert second(sock) == 3.5
    assert second(sock, "to") == pytest.approx(3.5 + 8 / 3, abs=1e-5)
    assert sock["from"].startswith("2023-11-14T22:13:23.5")
    assert rfc3339(moment(0).fromisoformat(sock["from"])).endswith("Z")


def test_defect_19_counts_survive_a_restart_and_can_be_begun_anew(plant: Plant) -> None:
    """Neither counted again nor forgotten: the memory goes on; a session begins new counts."""
    (rule,) = (one for one in plant.rule if one.id == PAIRS)
    sessions = list(_sessions(plant))
    engine, told = RuleEngine(rule), list[dict[str, Any]]()
    for place, entry in enumerate(sessions):
        if place == len(sessions) // 2:
            kept = decode_json(encode(engine.dump()), where="dump")
            engine = RuleEngine(rule)
            engine.load(kept)
        told += [dict(one.values) for one in engine.take([entry])]
    told += [dict(one.values) for one in engine.take([tick(1000.0)])]
    assert [(one["pair_seen"], one["pairs"]) for one in told] == [
        ("Pair", 1), ("Un-matched", 1), ("Pair", 1),
    ]  # fmt: skip
    assert told[-1]["session"] == "afternoon"


def _sessions(plant: Plant) -> Iterator[Entry]:
    """Three socks, a new session, two socks."""
    (rule,) = (one for one in plant.rule if one.id == "sock-sessions")
    first = [entry for start in (0, 10, 20) for entry in held(start, for_s=2)]
    second_ = [entry for start in (50, 60) for entry in held(start, for_s=2)]
    yield from (_as_entry(event) for event in run_rule(rule, first, plant=plant))
    yield message("sorting/session", {"session": "afternoon"}, at_s=40.0)
    yield from (_as_entry(event) for event in run_rule(rule, second_, plant=plant))


def _as_entry(event: Event) -> Entry:
    return entry_of(event, arrived_us=round(event.time.timestamp() * 1e6))


def test_defect_20_one_result_for_each_sock(plant: Plant) -> None:
    assert len(said(plant, WINDOWS, held(0.0, for_s=2))) == 3
    assert len(said(plant, "sock-sessions", held(0.0, for_s=2))) == 1


def test_defect_21_four_socks_are_two_pairs(plant: Plant) -> None:
    entries = [entry for start in (0, 10, 20, 30) for entry in held(start, for_s=2)]
    assert [one["values"]["pairs"] for one in said(plant, PAIRS, entries)] == [1, 2]


def test_defect_22_a_pair_is_an_event_that_others_can_act_on(plant: Plant) -> None:
    (rule,) = (one for one in plant.rule if one.id == PAIRS)
    entries = [entry for start in (0, 10) for entry in held(start, for_s=2)]
    (event,) = run_rule(rule, entries, plant=plant)
    assert (event.type, event.subject) == ("lineside.event.v1", PAIRS)
    assert len(event.data["causes"]) == 2
    (again,) = run_rule(rule, entries, plant=plant)
    assert again.id == event.id


@pytest.mark.parametrize("per_s", [0.6, 3.0, 30.0])
def test_defect_23_the_frame_rate_decides_nothing_where_time_does(
    plant: Plant, per_s: float
) -> None:
    """In view for 6 s: windows at 0.7 frames/s never hold four; dwell in seconds sees the sock."""
    entries = [seen(place / per_s, "Google") for place in range(round(6 * per_s))]
    windows = said(plant, SEEN, entries)
    assert bool(windows) == (per_s > 1)
    table = """
    id = "steady"
    read = { topic = "sockfound" }
    hold = { for_s = 1.2, field = "image" }
    """
    steady = rule_of(table)
    (one,) = run_rule(steady, entries, plant=plant)
    assert one.data["values"]["image"] == "Google"
    flicker = [seen(place / 30, "Mongo") for place in range(4)]
    assert list(run_rule(steady, flicker, plant=plant)) == []


def test_defect_24_what_cannot_be_read_is_counted_not_fatal(plant: Plant) -> None:
    """``Hello from deeplens`` among the answers: counted, and the rest is read."""
    (rule,) = (one for one in plant.rule if one.id == WINDOWS)
    hello = Entry(
        type="lineside.plant.message.v1", subject="sockfound", arrived_us=0,
        body=b"Hello from deeplens",
    )  # fmt: skip
    engine = RuleEngine(rule)
    found = engine.take([hello, *held(0.0, for_s=2)])
    assert len(found) == 3
    assert engine.counted().unreadable == 1


def test_events_of_a_rule_are_those_of_its_declaration(plant: Plant) -> None:
    (rule,) = (one for one in plant.rule if one.id == WINDOWS)
    engine = RuleEngine(rule)
    (first, *_) = engine.take(worked())
    same = rule_event(rule, first, digest=engine.digest, source="/s/hub")
    named = rule_event(
        replace(rule, name="other"), first,
        digest=RuleEngine(replace(rule, name="other")).digest, source="/s/hub",
    )  # fmt: skip
    other = rule_event(
        rule, first, digest=RuleEngine(replace(rule, lateness_s=1)).digest, source="/s/hub"
    )
    assert same.id == named.id != other.id


def detections(mode: str, seed: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Messages in order of the log: milliseconds of arrival, and payload; with pauses."""
    draws = random.Random(f"{mode} {seed}")  # noqa: S311  the same stream each time
    now = START_S * 1000
    for _ in range(draws.randrange(20, 150)):
        now += draws.choice((0, 100, 300, 300, 300, 300, 700, 2000, draws.choice((15_000, 62_000))))
        at = now
        if mode != "in order":
            at -= draws.choice((0, 0, 0, 300, 2000, 9000, 70_000))
        if mode == "far-off times" and draws.random() < 0.06:
            at += draws.choice((-1, 1)) * draws.choice((1, 20, 30, 240, 7200)) * HOUR_MS
        payload = {"image": draws.choice(("Google", "Google", "Mongo", "Blank", "blank"))}
        if mode == "out of order, odd fields" and draws.random() < 0.3:
            payload = draws.choice(ODD)
        yield at, payload


def seen_by_ksqldb(sent: Sequence[tuple[int, dict[str, Any]]]) -> list[tuple[str, int, str]]:
    """The final query's rows."""
    rows = [
        oracle.Row(
            at=at, key=image if isinstance(image := payload.get("image"), str) else None,
            value=None, kind="rejected" if image == "Blank" else "", partition="sockfound",
        )
        for at, payload in sent
    ]  # fmt: skip
    taken = oracle.still_taken(rows, size=5000, grace=GRACE_MS)
    return [
        (image, seen, "Un-matched" if seen % 2 else "Pair")
        for image, seen in oracle.windows_seen(taken, size=5000, above=3)
    ]


@pytest.mark.parametrize(
    "mode", ["in order", "out of order", "out of order, odd fields", "far-off times"]
)
@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(25), id="100"),
        pytest.param(range(25, 500), id="1900", marks=pytest.mark.slow),
    ],
)
def test_both_statements_agree_with_ksqldb_on_random_streams(
    plant: Plant, mode: str, seeds: range
) -> None:
    """A pause, told by what ``where`` rejects, makes no record late within a grace of 24 h."""
    unequal = []
    for seed in seeds:
        sent = list(detections(mode, seed))
        lines = [
            encode({"topic": "sockfound", "payload": payload, "time": rfc3339(moment(at * 1000))})
            for at, payload in sent
        ]
        entries = list(read_entries(lines, plant=plant, where="log"))
        rows = [
            (one["key"]["image"], one["values"]["seen"], one["values"]["pair_seen"])
            for one in said(plant, SEEN, entries)
        ]
        if rows != seen_by_ksqldb(sent):
            unequal.append(seed)
    assert unequal == []
