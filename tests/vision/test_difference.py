"""Two answers to one frame, compared for every task."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.testing.bare import bare_label, bare_prediction
from lineside.vision import (
    AnomalyAnswer,
    BoxAnswer,
    CountAnswer,
    Decision,
    MaskAnswer,
    PictureState,
    Prediction,
)
from lineside.vision.decide import says_good
from lineside.vision.difference import difference, score_of

PRESENT, ABSENT, UNSURE = Decision.PRESENT, Decision.ABSENT, Decision.UNSURE


def answer(task: str = "multilabel", **more: Any) -> Prediction:  # noqa: ANN401  fields of the record
    return bare_prediction(task=task, **more)


def anomaly(score: float, decision: Decision) -> Prediction:
    return answer("anomaly", anomaly=AnomalyAnswer(score=score, limit=2.0, decision=decision))


def test_what_is_found_lost_and_left_undecided_is_told_apart() -> None:
    old = answer(labels=(bare_label("dent", 0.9, PRESENT), bare_label("scratch", 0.5, UNSURE)))
    new = answer(labels=(bare_label("dent", 0.1, ABSENT), bare_label("scratch", 0.9, PRESENT)))
    seen = difference(old, new)
    assert (seen.changed, seen.found_before, seen.gained, seen.lost) == (True, True, True, True)
    assert (seen.unsure_before, seen.unsure_gained) == (True, False)
    assert difference(new, old).unsure_gained
    assert seen.score == pytest.approx(-0.2)


def test_a_picture_that_cannot_be_judged_is_found_and_scores_nothing() -> None:
    refused = answer(state=PictureState.BLURRED)
    seen = difference(anomaly(1.0, ABSENT), refused)
    assert (seen.changed, seen.gained, seen.lost) == (True, True, False)
    assert score_of(refused) == 0.0


@pytest.mark.parametrize(
    ("one", "score"),
    [
        (answer(labels=(bare_label("a", 0.2, ABSENT), bare_label("b", 0.6, PRESENT))), 0.4),
        (
            answer(
                "classify", labels=(bare_label("ok", 0.7, PRESENT), bare_label("bad", 0.3, ABSENT))
            ),
            0.3,
        ),
        (
            answer(
                labels=(
                    bare_label("red", 0.2, ABSENT, region="A1"),
                    bare_label("blue", 0.3, ABSENT, region="A1"),
                    bare_label("none", 0.5, PRESENT, region="A1"),
                )
            ),
            0.65,
        ),
        (anomaly(2.0, ABSENT), 0.5),
        (anomaly(6.0, PRESENT), 0.75),
        (answer("segment", mask=MaskAnswer(rle="", width_px=1, height_px=1, share=0.25)), 0.5),
        (answer("detect"), 0.0),
        (
            answer(
                "detect",
                boxes=(BoxAnswer(label="a", x0_px=0, y0_px=0, x1_px=1, y1_px=1, probability=0.8),),
            ),
            0.8,
        ),
        (answer("count", count=CountAnswer(value=3, low=3, high=3)), 0.75),
        (answer("count", count=CountAnswer(value=1, low=1, high=1, chances=(0.0, 0.5, 0.5))), 0.75),
        (answer("count"), 0.0),
    ],
)
def test_an_answer_is_one_number(one: Prediction, score: float) -> None:
    assert score_of(one) == pytest.approx(score)
    same = difference(one, one)
    assert (same.changed, same.gained, same.lost, same.unsure_gained) == (False,) * 4
    assert same.score == 0.0


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.sampled_from(list(Decision)))
def test_scores_stay_within_zero_and_one(score: float, limit: float, decision: Decision) -> None:
    one = answer("anomaly", anomaly=AnomalyAnswer(score=score, limit=limit, decision=decision))
    assert 0.0 <= score_of(one) <= 1.0


@pytest.mark.parametrize(
    "found",
    [
        answer("count", count=CountAnswer(value=3, low=3, high=3, decision=PRESENT)),
        answer("segment", mask=MaskAnswer(rle="", width_px=1, height_px=1, share=0.1)),
        answer(
            "detect",
            boxes=(BoxAnswer(label="a", x0_px=0, y0_px=0, x1_px=1, y1_px=1, probability=0.8),),
        ),
        anomaly(5.0, PRESENT),
    ],
)
def test_each_task_finds_something_of_its_own(found: Prediction) -> None:
    seen = difference(answer(found.task), found)
    assert (seen.gained, seen.lost, seen.found_before) == (True, False, False)


def classified(normal: float) -> Prediction:
    said = PRESENT if normal > 0.5 else ABSENT
    other = ABSENT if normal > 0.5 else PRESENT
    return answer(
        "classify",
        labels=(bare_label("normal", normal, said), bare_label("anomalous", 1.0 - normal, other)),
    )


def test_a_good_part_is_no_rejection() -> None:
    good, bad = classified(0.9), classified(0.2)
    assert not difference(good, good).found_before
    worse = difference(good, bad)
    assert (worse.changed, worse.found_before, worse.gained, worse.lost) == (
        True, False, True, False,
    )  # fmt: skip
    better = difference(bad, good)
    assert (better.changed, better.found_before, better.gained, better.lost) == (
        True, True, False, True,
    )  # fmt: skip


def test_which_labels_are_good_is_the_inspections_word() -> None:
    first = answer("classify", labels=(bare_label("type-a", 0.9, PRESENT),))
    second = answer("classify", labels=(bare_label("type-b", 0.9, PRESENT),))
    told = difference(first, second, good=("type-a",))
    assert (told.changed, told.found_before, told.gained, told.lost) == (True, False, True, False)
    assert difference(classified(0.9), classified(0.9), good=("type-a",)).found_before
    both = difference(first, second, good=("type-a", "type-b"))
    assert (both.changed, both.found_before, both.gained, both.lost) == (True, False, False, False)


@pytest.mark.parametrize(
    ("name", "named", "good"),
    [
        ("Normal", (), True), ("OK", (), True), ("anomalous", (), False), ("x", ("x",), True),
        ("normal", ("x",), False),
    ],
)  # fmt: skip
def test_a_label_says_good_by_name_or_by_word(
    name: str, named: tuple[str, ...], *, good: bool
) -> None:
    assert says_good(name, named=named) is good


def test_a_box_that_is_good_is_no_rejection() -> None:
    box = BoxAnswer(label="ok", x0_px=0, y0_px=0, x1_px=1, y1_px=1, probability=0.8)
    assert not difference(answer("detect", boxes=(box,)), answer("detect")).found_before
    bad = replace(box, label="dent")
    assert difference(answer("detect", boxes=(bad,)), answer("detect")).lost
