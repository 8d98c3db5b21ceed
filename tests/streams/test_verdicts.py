"""Verdicts on parts: one for each, whatever the order, the doubles and the gaps of its answers."""

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import Plant, decode_json, encode, parse_plant
from lineside.streams import (
    TICK_TYPE,
    VERDICT_TYPE,
    Entry,
    Event,
    LineVerdicts,
    encode_event,
    encode_prediction_event,
    prediction_id,
    read_verdict,
    verdict_lines,
)
from lineside.streams.verdicts import InspectionAnswer, VerdictData
from lineside.testing.bare import PACKAGE
from lineside.testing.events import PARTS, SIDES, part_prediction
from lineside.vision import Prediction
from lineside.vision.verdict import Judgement, PartVerdict, judge_part

SECOND_US = 1_000_000
NAMES = SIDES
TEXT = 'schema = "lineside.plant/1"\nsite = "werk"\n' + PARTS
PLANT = parse_plant(TEXT.encode(), where="plant.toml")
prediction = part_prediction


def verdicts(plant: Plant = PLANT, *, expect: tuple[str, ...] = NAMES) -> LineVerdicts:
    found = LineVerdicts(plant, "press")
    found.expect(expect)
    return found


def entry(of: Prediction, *, arrived_s: float = 0.0) -> Entry:
    body = encode_prediction_event(of, site="werk", device="edge-1", sequence=1, first=1)
    return Entry(
        type="lineside.prediction.v1", subject=of.inspection,
        arrived_us=round(arrived_s * SECOND_US), body=body,
    )  # fmt: skip


def tick(arrived_s: float) -> Entry:
    return Entry(
        type=TICK_TYPE, subject="", arrived_us=round(arrived_s * SECOND_US), body=b"{}"
    )  # fmt: skip


def data(events: list[Event]) -> list[VerdictData]:
    return [read_verdict(event) for event in events]


def test_last_answer_brings_the_verdict() -> None:
    line = verdicts()
    rejecting = prediction("side", "p1", verdict="reject", at_s=0.2)
    assert line.take([entry(prediction("back", "p1")), entry(rejecting)]) == []
    (event,) = line.take([entry(prediction("top", "p1", at_s=0.1))])
    assert (event.type, event.subject, event.source) == (VERDICT_TYPE, "press", "/werk/line/press")
    assert event.time == rejecting.frame.captured_at
    (found,) = data([event])
    assert (found.part, found.verdict) == ("p1", PartVerdict.REJECT)
    assert found.reasons == ("not like good parts: 2.41, limit 1.10",)
    assert [one.inspection for one in found.answers] == list(NAMES)
    assert found.frames == tuple(one.frame for one in found.answers)
    assert found.answers[1].operating_point == {"anomaly_limit": 1.1}
    assert {one.package for one in found.answers} == {PACKAGE}


def test_time_alone_ends_the_wait() -> None:
    line = verdicts()
    assert line.take([entry(prediction("top", "p1"), arrived_s=10)]) == []
    assert line.ticks_at_us() == 12 * SECOND_US
    assert line.take([tick(11.9)]) == []
    (found,) = data(line.take([tick(12)]))
    assert (found.verdict, found.missing) == (PartVerdict.INCOMPLETE, ("side", "back"))
    assert found.reasons == ("no answer of side", "no answer of back")
    assert line.ticks_at_us() is None
    assert line.take([entry(prediction("side", "p1", at_s=1), arrived_s=13)]) == []
    assert line.counted().late == 1


def test_rejected_part_stays_rejected_where_an_answer_is_missing() -> None:
    line = verdicts(expect=("top", "side"))
    line.take([entry(prediction("top", "p1", verdict="reject"))])
    (found,) = data(line.take([tick(60)]))
    assert (found.verdict, found.missing) == (PartVerdict.REJECT, ("side",))


def test_inspection_that_never_answered_keeps_nobody_waiting() -> None:
    line = verdicts(expect=())
    assert len(line.take([entry(prediction("top", "p1"))])) == 1
    assert line.take([entry(prediction("side", "p1"))]) == []  # late for the first part alone
    assert line.take([entry(prediction("top", "p2"))]) == []
    assert len(line.take([entry(prediction("side", "p2"))])) == 1


def test_frames_without_part_are_parts_of_their_camera() -> None:
    text = TEXT.replace('trigger = { on = "part" }', 'trigger = { on = "frame" }')
    text += '\n[[inspection]]\nid = "top-2"\ncamera = "top"\ntask = "anomaly"'
    text += '\n[[inspection]]\nid = "now-and-then"\ncamera = "top"\ntask = "anomaly"\n'
    text += 'trigger = { on = "interval", interval_s = 10 }'
    plant = parse_plant(text.encode(), where="plant.toml")
    names = (*NAMES, "top-2", "now-and-then")
    line = verdicts(plant, expect=names)
    assert len(line.take([entry(prediction("side", ""))])) == 1
    assert line.take([entry(prediction("top", ""))]) == []
    (seldom,) = line.take([entry(prediction("now-and-then", "", camera="top"))])
    (both,) = line.take([entry(prediction("top-2", "", camera="top"))])
    assert [one.inspection for one in read_verdict(both).answers] == ["top", "top-2"]
    assert read_verdict(seldom).frames == read_verdict(both).frames
    assert seldom.id != both.id
    assert line.take([entry(prediction("top", ""))]) == []  # the same once more


def test_part_id_that_comes_again_is_another_part() -> None:
    line = verdicts(expect=("top",))
    (first,) = line.take([entry(prediction("top", "bin-1"))])
    for at_s in (30, 60, 120):  # it stands in view
        assert line.take([entry(prediction("top", "bin-1", at_s=at_s))]) == []
    (second,) = line.take([entry(prediction("top", "bin-1", at_s=181))])
    assert first.id != second.id


def test_verdict_of_a_device_ends_the_wait() -> None:
    other = LineVerdicts(PLANT, "press", device="edge-1")
    other.expect(["top"])
    (given,) = other.take([entry(prediction("top", "p1"))])
    line = verdicts()
    line.take([entry(prediction("side", "p1"))])
    said = Entry(type=VERDICT_TYPE, subject="press", arrived_us=0, body=encode_event(given))
    assert line.take([said, entry(prediction("top", "p1")), tick(99)]) == []
    assert line.given["ok"] == 1


def test_inspection_that_does_not_count_is_passed_over() -> None:
    text = TEXT.replace('id = "back"\ncamera', 'id = "back"\nverdict = false\ncamera')
    plant = parse_plant(text.encode(), where="plant.toml")
    line = verdicts(plant, expect=("top",))
    assert line.role("lineside.prediction.v1", "back") == ""
    none = parse_plant(
        TEXT.replace('task = "anomaly"', 'task = "anomaly"\nverdict = false').encode(),
        where="plant.toml",
    )
    assert (verdict_lines(plant), verdict_lines(none)) == (("press",), ())


def test_bodies_that_cannot_be_read_are_counted() -> None:
    line = verdicts()
    bad = Entry(type="lineside.prediction.v1", subject="top", arrived_us=0, body=b'{"data":1}')
    assert line.take([bad]) == []
    assert line.counted().unreadable == 1


def test_line_without_room_tells_early() -> None:
    line = LineVerdicts(PLANT, "press", most=20)
    line.expect(NAMES)
    told = [len(line.add(answer(line, f"p{number}", "top"), at_us=0)) for number in range(25)]
    assert (sum(told), line.held, line.counted().evicted) == (5, 20, 5)


def test_memory_of_an_inspection_that_is_gone_is_left_out() -> None:
    line = verdicts()
    line.take([entry(prediction("back", "p1")), entry(prediction("top", "p2"))])
    plant = replace(PLANT, inspection=PLANT.inspection[:2])
    later = verdicts(plant)
    later.load(decode_json(line.written(), where="memory"))
    (found,) = data(later.take([tick(99)]))
    assert (found.part, found.missing) == ("p2", ("side",))


# ---- properties


def answer(
    line: LineVerdicts, part: str, inspection: str, verdict: str = "ok", at_s: float = 0.0
) -> InspectionAnswer:
    of = prediction(inspection, part, verdict=verdict, at_s=at_s)
    return line.judge(of, event=prediction_id(of))


Rows = list[tuple[str, str, str, float]]


@st.composite
def plans(draw: st.DrawFn) -> tuple[Rows, Rows]:
    """Answers in the order of arrival (part, inspection, verdict, arrival), with what is late."""
    rows: Rows = []
    late: Rows = []
    for number in range(draw(st.integers(1, 12))):
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1)):
            row = (f"p{number}", name, draw(st.sampled_from(("ok", "reject", "review"))), 0.0)
            rows.append(row)
            rows += [row] * draw(st.integers(0, 2))
        if draw(st.booleans()):
            late.append((f"p{number}", draw(st.sampled_from(NAMES)), "reject", 30.0))
    return draw(st.permutations(rows)), draw(st.permutations(late))


@settings(max_examples=60, deadline=None)
@given(plan=plans(), cuts=st.lists(st.integers(0, 60), max_size=5), data_seed=st.integers(0, 99))
def test_each_part_gets_one_verdict_that_of_a_direct_fold(
    plan: tuple[Rows, Rows], cuts: list[int], data_seed: int
) -> None:
    rows, late = plan
    entries = [entry(prediction(name, part, verdict=said), arrived_s=at_s)
               for part, name, said, at_s in rows]  # fmt: skip
    entries += [tick(10.0)]
    entries += [entry(prediction(name, part, verdict=said, at_s=1.0), arrived_s=at_s)
                for part, name, said, at_s in late]  # fmt: skip
    line, told = verdicts(), list[Event]()
    places = sorted({min(cut, len(entries)) for cut in cuts} | {0, len(entries)})
    for begin, end in pairwise(places):
        told += line.take(entries[begin:end])
        if random.Random(data_seed + end).random() < 0.5:  # noqa: S311  a kill after a commit
            kept = decode_json(line.written(), where="memory")
            line = verdicts()
            line.load(kept)
    found = {one.part: one for one in data(told)}
    assert Counter(one.part for one in data(told)) == dict.fromkeys(found, 1)
    assert {event.id for event in told} == {
        event.id for event in verdicts().take([*sorted(entries[: len(rows)], key=_body), tick(10)])
    }
    for part in {row[0] for row in rows}:
        said = {(name, PartVerdict(verdict)) for of, name, verdict, _ in rows if of == part}
        direct = judge_part(
            [Judgement(verdict=verdict) for _, verdict in said],
            missing=[name for name in NAMES if name not in {one for one, _ in said}],
        )
        assert found[part].verdict is direct.verdict


def _body(of: Entry) -> bytes:
    return of.body


@pytest.mark.parametrize("count", [1000])
def test_thousands_of_parts_get_one_verdict_each(count: int) -> None:
    """``benchmarks/verdicts.py`` does the same with 100,000."""
    rng = random.Random(7)  # noqa: S311  nothing secret
    line = verdicts()
    waiting: list[tuple[int, InspectionAnswer]] = []
    for number in range(count):
        for name in NAMES:
            if name != "top" and rng.random() < 0.01:
                continue
            late_us = 10 * SECOND_US if name != "top" and rng.random() < 0.01 else 0
            at_us = number * 100_000 + rng.randrange(SECOND_US) + late_us
            verdict = rng.choice(("ok", "ok", "ok", "reject", "review"))
            told = answer(line, f"p{number}", name, verdict, at_s=number / 10)
            waiting += [(at_us, told)] * (1 + (rng.random() < 0.05))
    waiting.sort(key=lambda one: one[0])
    events = [event for at_us, told in waiting for event in line.add(told, at_us=at_us)]
    events += line.advance(2**60)
    parts = Counter(one.part for one in data(events))
    assert len(parts) == count
    assert set(parts.values()) == {1}
    assert len({event.id for event in events}) == count
    assert encode(line.given) == encode(Counter(str(one.verdict) for one in data(events)))
