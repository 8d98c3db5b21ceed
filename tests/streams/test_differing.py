"""What two runs say differently: answers to one frame, and events as they come."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import digest_of
from lineside.streams import EVENT_TYPE, Event
from lineside.streams.differences import (
    EventDifferences,
    Kind,
    Similarity,
    largest_move,
    similarity,
)
from lineside.testing.events import prediction_of
from lineside.vision import (
    AnomalyAnswer,
    BoxAnswer,
    CountAnswer,
    Decision,
    PictureState,
    Prediction,
    StageTimes,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
SEEN = prediction_of({"A1": "blue"}, at_s=0.0)
BOX = BoxAnswer(label="sock", x0_px=0.0, y0_px=0.0, x1_px=10.0, y1_px=10.0, probability=0.9)
ANOMALY = AnomalyAnswer(score=0.4, limit=0.5, decision=Decision.ABSENT)


def said(name: str, *, count: int = 1, mean: float = 0.5, package: str = "p") -> Event:
    data = {
        "rule": "windows", "action": "final", "name": name, "key": {"label": "blue"},
        "values": {"count": count, "mean": mean}, "causes": [package], "from": "a", "to": "b",
    }  # fmt: skip
    at = START + timedelta(seconds=len(name))
    return Event(
        id=f"evt_{name}{package}", source="/hall/hub", type=EVENT_TYPE, subject="windows",
        time=at, data=data,
    )  # fmt: skip


def test_package_and_times_are_left_aside() -> None:
    other = replace(SEEN, latency_ms=StageTimes(total=99.0), package=digest_of(b"another"))
    assert similarity(SEEN, other) is Similarity.IDENTICAL


def moved(prediction: Prediction, by: float) -> Prediction:
    labels = tuple(replace(one, probability=one.probability + by) for one in prediction.labels)
    return replace(prediction, labels=labels)


def test_figures_that_move_are_no_decision_and_the_largest_is_told() -> None:
    other = moved(SEEN, 0.004)
    assert similarity(SEEN, other) is Similarity.FIGURES
    assert largest_move(SEEN, other) == pytest.approx(0.004)


@pytest.mark.parametrize(
    "other",
    [
        prediction_of({"A1": "red"}, at_s=0.0),
        prediction_of({"A1": "?"}, at_s=0.0),
        prediction_of({}, at_s=0.0, state=PictureState.BLACK),
        replace(SEEN, boxes=(BOX,)),
        replace(SEEN, count=CountAnswer(value=3, low=3, high=3)),
        replace(SEEN, anomaly=ANOMALY),
    ],
)
def test_another_verdict_is_another_decision(other: Prediction) -> None:
    assert similarity(SEEN, other) is similarity(other, SEEN) is Similarity.DECISION


def test_a_box_is_the_same_where_half_of_it_overlaps() -> None:
    before = replace(SEEN, boxes=(BOX, replace(BOX, x0_px=50.0, x1_px=60.0)))
    near = replace(SEEN, boxes=(replace(BOX, x0_px=51.0, x1_px=61.0), BOX))
    far = replace(SEEN, boxes=(BOX, replace(BOX, x0_px=58.0, x1_px=68.0)))
    assert similarity(before, near) is Similarity.FIGURES
    assert similarity(before, far) is Similarity.DECISION


def test_an_anomalys_verdict_decides_and_its_score_does_not() -> None:
    before = replace(SEEN, anomaly=ANOMALY)
    assert (
        similarity(before, replace(SEEN, anomaly=replace(ANOMALY, score=0.45)))
        is Similarity.FIGURES
    )
    passed = replace(ANOMALY, score=0.6, decision=Decision.PRESENT)
    assert similarity(before, replace(SEEN, anomaly=passed)) is Similarity.DECISION


def differences(before: Sequence[Event], after: Sequence[Event]) -> EventDifferences:
    found = EventDifferences(most=100)
    found.take(before=before, after=after)
    return found


def test_an_event_is_found_again_though_its_id_and_causes_name_another_package() -> None:
    found = differences([said("a", package="p")], [said("a", package="q")])
    assert (found.finish(), found.same) == ((), 1)


def test_what_one_side_alone_says_and_what_it_says_otherwise() -> None:
    before = [said("a"), said("bb", count=2), said("ccc")]
    found = differences(before, [said("a"), said("bb", count=3), said("dddd")])
    assert [(one.change, one.at) for one in found.finish()] == [
        (Kind.CHANGED, START + timedelta(seconds=2)),
        (Kind.REMOVED, START + timedelta(seconds=3)),
        (Kind.ADDED, START + timedelta(seconds=4)),
    ]
    assert (found.same, found.changed) == (1, 3)


def test_fractions_alone_are_counted_where_they_move_with_every_package() -> None:
    found = EventDifferences(most=100, fractions=Kind.FIGURES)
    found.take(before=[said("a", mean=0.5), said("b")], after=[said("a", mean=0.6), said("b")])
    assert (found.finish(), found.counts[Kind.FIGURES], found.changed, found.same) == ((), 1, 0, 1)
    assert differences([said("a", mean=0.5)], [said("a", mean=0.6)]).finish()


def test_all_are_counted_and_the_first_are_listed() -> None:
    found = EventDifferences(most=2)
    found.take(before=[said("x" * length) for length in range(1, 6)], after=[])
    assert len(found.finish()) == 2
    assert found.changed == 5


@given(
    before=st.lists(
        st.tuples(st.sampled_from("abcde"), st.integers(0, 2)), unique_by=lambda x: x[0]
    ),
    after=st.lists(
        st.tuples(st.sampled_from("abcde"), st.integers(0, 2)), unique_by=lambda x: x[0]
    ),
    cuts=st.lists(st.integers(0, 5), max_size=4),
)
def test_how_they_come_makes_no_difference(
    before: list[tuple[str, int]], after: list[tuple[str, int]], cuts: list[int]
) -> None:
    one = [said(name, count=count) for name, count in before]
    other = [said(name, count=count) for name, count in after]
    whole = differences(one, other)
    torn = EventDifferences(most=100)
    places = [0, *sorted(cuts), 5]
    for start, end in pairwise(places):
        torn.take(before=one[start:end], after=[])
        torn.take(before=[], after=other[start:end])
    key = [(one.rule, one.change, one.before, one.after) for one in whole.finish()]
    same = [(one.rule, one.change, one.before, one.after) for one in torn.finish()]
    assert sorted(map(repr, key)) == sorted(map(repr, same))
    oracle = dict(before), dict(after)
    names = oracle[0].keys() | oracle[1].keys()
    assert whole.changed == sum(oracle[0].get(n) != oracle[1].get(n) for n in names)
