"""The engine of rules: order, chunks and kills make no difference; nothing is lost in silence."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import InvalidError, Rule, decode_json, encode
from lineside.core.plant_rules import Scalar
from lineside.streams import Entry, RuleEngine, engine_of, read_entries
from lineside.streams.rules.contract import Output
from lineside.streams.rules.engine import MOST_HELD, rule_digest
from lineside.testing.rules import START_S, message, outputs_of, rule_of, since_start_s, tick
from tests.streams.spark_cases import cases

CAMERAS = ("cam/a", "cam/b", "cam/c")
READ = 'read = { topic = "cam/+" }\nwhere = [{ field = "label", none_of = ["blank"] }]\n'
RULES = {
    "tumbling": 'id = "r"\nkey = ["label"]\nwindow = { size_s = 2 }\n'
    'aggregate = [{ name = "m", of = "mean", field = "v" }]\n' + READ,
    "sessions": 'id = "r"\nkey = ["label"]\nwindow = { kind = "session", gap_s = 1 }\n' + READ,
    "pairs": 'id = "r"\nkey = ["label"]\npair = { within_s = 3 }\n' + READ,
    "rate": 'id = "r"\nkey = ["label"]\nrate = { per_s = 2, above = 3 }\n' + READ,
    "hold": 'id = "r"\nkey = ["label"]\nhold = { for_s = 1, field = "v" }\n' + READ,
    "repeat": 'id = "r"\nrepeat = { times = 2, last = 3, within_s = 2, match = [{ field = "label", '
    'equals = "x" }] }\n' + READ,
    "missing": 'id = "r"\n[sequence]\nwithin_s = 1\nmissing = true\n'
    'first = [{ field = "label", equals = "x" }]\nthen = [{ field = "label", equals = "y" }]\n',
}  # fmt: skip


def rule(name: str, *, lateness_s: float = 0.0) -> Rule:
    head = f"lateness_s = {lateness_s}\nidle_s = 100\n"
    text = RULES[name]
    return rule_of(head + (READ + text if name == "missing" else text))


@st.composite
def streams(draw: st.DrawFn) -> dict[str, list[Entry]]:
    """For each camera its messages in order of its own time; arrival is set by the interleaving."""
    found: dict[str, list[Entry]] = {}
    for camera in CAMERAS:
        steps = draw(st.lists(st.integers(0, 1500), min_size=1, max_size=12))
        labels = draw(
            st.lists(st.sampled_from(["x", "y", "blank"]), min_size=len(steps), max_size=len(steps))
        )
        at_ms, entries = 0, list[Entry]()
        for place, (step, label) in enumerate(zip(steps, labels, strict=True)):
            at_ms += step
            fields: dict[str, Scalar] = {"label": label, "v": place % 3}
            name = f"{camera}-{place:03d}"
            entries.append(message(camera, fields, at_s=at_ms / 1000, arrived_s=50.0, name=name))
        found[camera] = entries
    return found


def ends() -> list[Entry]:
    """Each camera says something much later, so that time passes for all."""
    return [message(camera, {"label": "end"}, at_s=200.0, arrived_s=50.0) for camera in CAMERAS]


def interleaved(draws: random.Random, lanes: Iterable[Sequence[Entry]]) -> list[Entry]:
    waiting = [list(lane) for lane in lanes]
    found = []
    while waiting := [lane for lane in waiting if lane]:
        found.append(draws.choice(waiting).pop(0))
    return found


def beginning() -> list[Entry]:
    """All cameras are heard before anything is seen, so that time waits for each."""
    return [message(one, {"label": "begin"}, at_s=0.0, arrived_s=50.0) for one in CAMERAS]


def run(declared: Rule, entries: Sequence[Entry], *, cuts: Sequence[int] = ()) -> list[Output]:
    """All outputs, with a dump and a load at each cut."""
    engine, found, begin = RuleEngine(declared), list[Output](), 0
    for cut in [*sorted(cuts), len(entries)]:
        found += engine.take(entries[begin:cut])
        begin = cut
        kept = decode_json(encode(engine.dump()), where="dump")
        engine = RuleEngine(declared)
        engine.load(kept)
    return found


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=25, deadline=None)
@given(lanes=streams(), draws=st.randoms(use_true_random=False), cuts=st.lists(st.integers(0, 36)))
def test_neither_interleaving_nor_chunks_nor_kills_can_be_seen(
    name: str, lanes: dict[str, list[Entry]], draws: random.Random, cuts: list[int]
) -> None:
    declared = rule(name)
    plain = [*beginning(), *(one for lane in lanes.values() for one in lane), *ends()]
    mixed = [*beginning(), *interleaved(draws, lanes.values()), *ends()]
    expected = run(declared, plain)
    assert run(declared, mixed) == expected
    assert run(declared, mixed, cuts=[cut for cut in cuts if cut < len(mixed)]) == expected
    assert outputs_of(declared, mixed) == expected


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=25, deadline=None)
@given(lanes=streams(), draws=st.randoms(use_true_random=False))
def test_what_is_late_within_the_allowance_changes_nothing(
    name: str, lanes: dict[str, list[Entry]], draws: random.Random
) -> None:
    declared = rule(name, lateness_s=2.0)
    lane = lanes[CAMERAS[0]]
    # Each is put off by less than the allowance, so that none is more than 2 s behind the newest.
    late = sorted(lane, key=lambda one: at_us(one) + draws.randint(0, 1_999_999))
    closing = ends()
    assert run(declared, [*late, *closing]) == run(declared, [*lane, *closing])
    engine = RuleEngine(declared)
    engine.take(late)
    assert engine.counted().late == 0


def at_us(entry: Entry) -> int:
    from datetime import datetime

    text = decode_json(entry.body, where="entry")["time"]
    return round(datetime.fromisoformat(text).timestamp() * 1e6)


@settings(max_examples=60, deadline=None)
@given(
    times=st.lists(st.integers(0, 20_000), min_size=1, max_size=40),
    lateness_ms=st.integers(0, 3000),
)
def test_every_record_is_in_a_window_or_counted_as_late(times: list[int], lateness_ms: int) -> None:
    declared = rule_of(
        'id = "r"\nread = { topic = "cam/+" }\nlate = "event"\nidle_s = 100\n'
        f"lateness_s = {lateness_ms / 1000}\nwindow = {{ size_s = 2 }}"
    )
    entries = [
        message("cam/a", {}, at_s=at / 1000, arrived_s=1.0, name=f"e{place}")
        for place, at in enumerate(times)
    ]
    entries.append(message("cam/a", {}, at_s=100.0, arrived_s=1.0))
    engine = RuleEngine(declared)
    found = engine.take(entries)
    within = sum(int(one.values["count"]) for one in found if one.action == "final")
    late = [one for one in found if one.action == "late"]
    assert within + len(late) == len(times)
    assert engine.counted().late == len(late)
    newest = 0
    expected = 0
    for at in times:
        expected += at < newest - lateness_ms
        newest = max(newest, at)
    assert len(late) == expected


def test_a_late_record_is_told_with_how_late_it_is() -> None:
    declared = rule_of(
        'id = "r"\nread = { topic = "cam/a" }\nlate = "event"\nwindow = { size_s = 2 }'
    )
    entries = [message("cam/a", {"frame": "f"}, at_s=at) for at in (5.0, 3.0)]
    (late,) = outputs_of(declared, entries)
    assert (late.action, late.values) == ("late", {"late_by_s": 2.0, "frame": "f"})
    assert late.causes


def test_time_waits_for_the_slowest_camera_that_is_awake() -> None:
    declared = rule_of('id = "r"\nread = { topic = "cam/+" }\nwindow = { size_s = 2 }\nidle_s = 10')
    engine = RuleEngine(declared)
    found = engine.take(
        [message("cam/a", {}, at_s=0.0), message("cam/b", {}, at_s=0.0),
         message("cam/a", {}, at_s=9.0)]
    )  # fmt: skip
    assert found == []
    found = engine.take([message("cam/a", {}, at_s=10.5)])
    assert [(since_start_s(one.end_us), one.values["count"]) for one in found] == [(2, 2), (10, 1)]


def test_a_tick_tells_what_is_open_when_all_are_silent() -> None:
    declared = rule_of('id = "r"\nread = { topic = "cam/a" }\nwindow = { size_s = 2 }\nidle_s = 3')
    engine = RuleEngine(declared)
    assert engine.ticks_at_us() is None
    assert engine.take([message("cam/a", {}, at_s=1.0)]) == []
    assert engine.ticks_at_us() == (START_S + 4) * 1_000_000
    assert engine.take([tick(3.9)]) == []
    assert engine.take([tick(4.5)]) == []
    (told,) = engine.take([tick(7.0)])
    assert told.values["count"] == 1
    assert engine.take([tick(12.0)]) == []
    assert engine.ticks_at_us() is None


def test_a_pause_makes_no_record_late_that_lateness_admits() -> None:
    """One camera: nothing is told until none of its late records can come any more."""
    declared = rule_of(
        'id = "r"\nread = { topic = "cam/a" }\nwindow = { size_s = 50 }\n'
        "lateness_s = 60\nidle_s = 3"
    )
    engine = RuleEngine(declared)
    assert engine.take([message("cam/a", {}, at_s=100.0), tick(130.0), tick(160.0)]) == []
    assert engine.take([message("cam/a", {}, at_s=41.0, arrived_s=160.0)]) == []
    assert engine.ticks_at_us() == (START_S + 160 + 3 + 60) * 1_000_000
    (before,) = engine.take([tick(222.9), tick(223.0)])
    (last,) = engine.take([tick(250.0), tick(273.0)])
    assert [(since_start_s(one.end_us), one.values["count"]) for one in (before, last)] == [
        (50, 1), (150, 1),
    ]  # fmt: skip
    assert engine.counted().late == 0


def test_a_pause_makes_nothing_late_of_a_camera_whose_clock_is_slow() -> None:
    """An hour behind the hub, before the pause as after it: its records come in order."""
    declared = rule_of('id = "r"\nread = { topic = "cam/a" }\nwindow = { size_s = 2 }\nidle_s = 3')
    engine = RuleEngine(declared)
    entries = [message("cam/a", {}, at_s=at, arrived_s=3600.0 + at) for at in (1.0, 11.0, 12.0)]
    found = engine.take([entries[0], tick(3605.0), tick(3610.0), *entries[1:]])
    assert [since_start_s(one.end_us) for one in found] == [2, 12]
    assert engine.counted().late == 0


@pytest.mark.parametrize("step", ["window = { size_s = 2 }", "pair = { within_s = 1 }"])
def test_a_pause_moves_no_rule_that_tells_each_change_with_its_record(step: str) -> None:
    engine = RuleEngine(rule_of(f'id = "r"\nread = {{ topic = "a" }}\nemit = "changes"\n{step}'))
    found = engine.take([message("a", {}, at_s=0.0), tick(9000.0), message("a", {}, at_s=0.5)])
    assert (len(found), engine.ticks_at_us()) == (2, None)


def test_time_goes_on_when_all_were_silent_and_come_back() -> None:
    declared = rule_of('id = "r"\nread = { topic = "cam/+" }\nwindow = { size_s = 2 }\nidle_s = 3')
    engine = RuleEngine(declared)
    engine.take([message(one, {}, at_s=1.0) for one in CAMERAS[:2]])
    assert len(engine.take([tick(5.0), tick(9.0)])) == 1
    found = engine.take([message(one, {}, at_s=at) for at in (20, 23) for one in CAMERAS[:2]])
    assert [(since_start_s(one.end_us), one.values["count"]) for one in found] == [(22, 2)]


@pytest.mark.parametrize("fields", [{"k": 1, "label": "blank"}, {"label": "x"}])
def test_what_is_passed_over_moves_no_watermark(fields: dict[str, Scalar]) -> None:
    """What ``where`` rejects, or has no key, makes nothing late and wakes no source."""
    text = 'id = "r"\nkey = ["k"]\nwindow = { size_s = 2 }\nidle_s = 3\n'
    engine = RuleEngine(rule_of(text + READ))
    taken: dict[str, Scalar] = {"k": 1, "label": "x"}
    found = engine.take(
        [message("cam/a", taken, at_s=1.0), message("cam/a", fields, at_s=9.0, arrived_s=1.1),
         message("cam/a", taken, at_s=1.5)]
    )  # fmt: skip
    assert (found, engine.counted().late) == ([], 0)
    (told,) = engine.take([message("cam/a", fields, at_s=at) for at in (3.0, 4.4, 5.1)])
    assert (since_start_s(told.end_us), told.values["count"]) == (2, 2)
    assert engine.low_us == round((START_S + 2.1) * 1e6)


def test_cameras_named_are_waited_for_before_they_are_heard() -> None:
    declared = rule_of('id = "r"\nread = { topic = "cam/+" }\nwindow = { size_s = 2 }\nidle_s = 10')
    engine = RuleEngine(declared, expected=CAMERAS[:2])
    assert engine.take([message("cam/a", {}, at_s=at) for at in (0.0, 3.0, 6.0)]) == []
    found = engine.take([message("cam/b", {}, at_s=7.0)])
    assert [since_start_s(one.end_us) for one in found] == [2.0, 4.0]


def test_what_has_no_key_or_cannot_be_read_is_counted() -> None:
    declared = rule_of('id = "r"\nread = { topic = "a" }\nkey = ["k"]\nwindow = { size_s = 2 }')
    engine = RuleEngine(declared)
    broken = Entry(type="lineside.plant.message.v1", subject="a", arrived_us=1, body=b"{")
    zoneless = Entry(
        type="lineside.plant.message.v1", subject="a", arrived_us=1,
        body=b'{"id":"x","time":"2026-01-01T00:00:00","data":{}}',
    )  # fmt: skip
    engine.take([message("a", {}, at_s=0.0), message("a", {"k": 1}, at_s=0.0), broken, zoneless])
    counted = engine.counted()
    assert (counted.read, counted.passed, counted.keyless, counted.unreadable) == (2, 1, 1, 2)


@pytest.mark.parametrize("beyond", [10**400, 1.7e308], ids=["long", "large"])
@pytest.mark.parametrize("step", ["window = { size_s = 2 }", "sighting = { dwell_s = 1 }"])
def test_no_number_stops_a_rule_or_spoils_its_memory(step: str, beyond: float) -> None:
    figures = ", ".join(
        f'{{ name = "{of}", of = "{of}", field = "score" }}' for of in ("mean", "sum", "distinct")
    )
    added = f"\naggregate = [{figures}]" if "window" in step else ""
    declared = rule_of(f'id = "r"\nidle_s = 100\nread = {{ topic = "t" }}\n{step}{added}')
    scores = [0.5, beyond, beyond, -beyond, 0.5, 0.5]
    entries = [
        message(
            "t", {"label": "x", "score": score}, at_s=place / 4, arrived_s=50.0, name=f"{place}"
        )
        for place, score in enumerate(scores)
    ]
    entries.append(message("t", {"label": "x"}, at_s=9.0, arrived_s=50.0, name="end"))
    assert run(declared, entries, cuts=range(1, len(entries))) == run(declared, entries)


def test_what_is_held_back_is_bounded_and_hurried_on() -> None:
    declared = rule_of(
        'id = "r"\nread = { topic = "cam/+" }\nlateness_s = 1000\nidle_s = 5000\n'
        "window = { size_s = 1 }"
    )
    engine = RuleEngine(declared)
    entries = [message("cam/a", {}, at_s=place / 100) for place in range(MOST_HELD + 50)]
    found = engine.take(entries)
    assert engine.held <= MOST_HELD
    assert engine.counted().hurried > 0
    assert sum(int(one.values["count"]) for one in found) <= engine.counted().hurried


def test_memory_of_another_form_is_refused_with_its_rule() -> None:
    with pytest.raises(InvalidError, match="no memory of a rule"):
        RuleEngine(rule("tumbling")).load({"step": 3})


def test_a_python_rule_that_is_not_installed_is_named() -> None:
    with pytest.raises(InvalidError, match="no Python rule 'ours' is installed"):
        RuleEngine(rule_of('id = "r"\nread = { topic = "a" }\npython = "ours"'))


KEPT: dict[str, Any] = decode_json(
    (Path(__file__).parents[1] / "data" / "formats" / "rule-state-1.json").read_bytes(),
    where="kept state",
)


@pytest.mark.parametrize("name", KEPT)
def test_what_a_rule_of_the_first_release_remembers_is_still_opened(name: str) -> None:
    """Keys that the language got since change neither a rule's digest nor what it remembers."""
    case = cases(1)[name]
    assert rule_digest(case.rule) == KEPT[name]["digest"]
    engine = engine_of(case.rule, plant=case.plant)
    engine.load(KEPT[name]["memory"])
    entries = read_entries(case.lines[70:], plant=case.plant, where="lines")
    said = engine.take(entries)
    assert bool(said) is not bool(case.rule.read.event)  # the lines hold no events of rules
