"""Verdicts on parts by one prediction: which answers reject, and which go to review."""

from dataclasses import replace

import pytest

from lineside.testing.bare import bare_label, bare_prediction
from lineside.vision import (
    AnomalyAnswer,
    BoxAnswer,
    CountAnswer,
    Decision,
    PictureState,
    Prediction,
)
from lineside.vision.verdict import RejectRule, judge_prediction, reason_group

BARE = bare_prediction(inspection="look")


def labels(task: str = "classify", **decisions: str) -> Prediction:
    answers = tuple(bare_label(name, 0.5, decision) for name, decision in decisions.items())
    return replace(BARE, task=task, labels=answers)


def box(decision: str = "present") -> Prediction:
    found = BoxAnswer(
        label="dent", x0_px=0, y0_px=0, x1_px=9, y1_px=9, probability=0.9,
        decision=Decision(decision),
    )  # fmt: skip
    return replace(BARE, task="detect", boxes=(found,))


def counted(low: int, high: int, *, more: bool = False) -> Prediction:
    decision = Decision.PRESENT if low == high and not more else Decision.UNSURE
    answer = CountAnswer(value=low, low=low, high=high, more=more, decision=decision)
    return replace(BARE, task="count", count=answer)


def distant(decision: str) -> Prediction:
    answer = AnomalyAnswer(score=2.41, limit=1.1, decision=Decision(decision))
    return replace(BARE, task="anomaly", anomaly=answer)


def presence(**decisions: str) -> Prediction:
    return labels("multilabel", **decisions)


ROWS: list[tuple[str, Prediction, RejectRule, str, str]] = [
    ("good class", labels(good="present", dent="absent"), RejectRule(), "ok", ""),
    ("bad class", labels(good="absent", dent="present"), RejectRule(), "reject", "dent 0.50"),
    ("unsure class", labels(good="unsure", dent="unsure"), RejectRule(), "review",
     "dent unsure 0.50"),
    ("named good", labels(blank="present"), RejectRule(good=("blank",)), "ok", ""),
    ("not named good", labels(good="present"), RejectRule(good=("i.O.",)), "reject", "good 0.50"),
    ("named to reject", labels(dent="present"), RejectRule(reject=("hole",)), "ok", ""),
    ("mask", labels("segment", defect="present"), RejectRule(), "reject", "defect 0.50"),
    ("box unnamed", box(), RejectRule(), "ok", ""),
    ("box named", box(), RejectRule(reject=("dent",)), "reject", "dent 0.90"),
    ("box unsure", box("unsure"), RejectRule(reject=("dent",)), "review", "dent 0.90"),
    ("above limit", distant("present"), RejectRule(), "reject",
     "not like good parts: 2.41, limit 1.10"),
    ("near limit", distant("unsure"), RejectRule(), "review",
     "not like good parts: 2.41, limit 1.10"),
    ("below limit", distant("absent"), RejectRule(), "ok", ""),
    ("count free", counted(5, 5), RejectRule(), "ok", ""),
    ("count right", counted(5, 5), RejectRule(expected_count=5), "ok", ""),
    ("count wrong", counted(4, 4), RejectRule(expected_count=5), "reject",
     "4 counted, 5 expected"),
    ("count possible", counted(4, 6), RejectRule(expected_count=5), "review",
     "4 to 6 counted, 5 expected"),
    ("count impossible", counted(1, 3), RejectRule(expected_count=5), "reject",
     "1 to 3 counted, 5 expected"),
    ("count or more", counted(1, 3, more=True), RejectRule(expected_count=5), "review",
     "1 to 3 or more counted, 5 expected"),
    ("presence free", presence(screw="absent"), RejectRule(), "ok", ""),
    ("presence right", presence(screw="present"), RejectRule(expected_labels=("screw",)), "ok",
     ""),
    ("missing", presence(screw="absent"), RejectRule(expected_labels=("screw",)), "reject",
     "screw absent"),
    ("too much", presence(oil="present"), RejectRule(expected_labels=()), "reject",
     "oil present"),
    ("presence unsure", presence(screw="unsure"), RejectRule(expected_labels=("screw",)),
     "review", "screw unsure 0.50"),
    ("presence rejects", presence(oil="present"), RejectRule(reject=("oil",)), "reject",
     "oil 0.50"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("prediction", "rule", "verdict", "reason"),
    [row[1:] for row in ROWS],
    ids=[row[0] for row in ROWS],
)
def test_verdict_and_reason(
    prediction: Prediction, rule: RejectRule, verdict: str, reason: str
) -> None:
    judged = judge_prediction(prediction, rule)
    assert (judged.verdict, "; ".join(judged.reasons)) == (verdict, reason)


def test_a_reject_outweighs_what_is_unsure() -> None:
    judged = judge_prediction(labels(hole="present", dent="unsure"), RejectRule())
    assert (judged.verdict, judged.reasons) == ("reject", ("hole 0.50",))


@pytest.mark.parametrize("state", [one for one in PictureState if one is not PictureState.OK])
def test_an_image_in_which_nothing_can_be_said_is_for_review(state: PictureState) -> None:
    refused = replace(labels(dent="present"), state=state, reason="see the log")
    judged = judge_prediction(refused, RejectRule())
    assert (judged.verdict, judged.reasons) == ("review", (f"{state}: see the log",))


@pytest.mark.parametrize(
    ("said", "expected", "verdict"),
    [(12, None, "ok"), (12, 12, "ok"), (12, 13, "reject"), (11, 11, "ok"), (11, None, "reject")],
)
def test_the_number_of_the_message_stands_before_that_of_the_plant_file(
    said: int, expected: int | None, verdict: str
) -> None:
    one = counted(said, said)
    assert one.count is not None
    one = replace(one, count=replace(one.count, expected=expected))
    assert judge_prediction(one, RejectRule(expected_count=12)).verdict == verdict


@pytest.mark.parametrize(
    ("reason", "group"),
    [
        ("scratch 0.93", "scratch"), ("dent unsure 0.52", "dent unsure"), ("M3 screw absent", ""),
        ("not like good parts: 2.41, limit 1.10", "not like good parts"),
        ("5 counted, 4 expected", "count"), ("3 to 5 or more counted", "count"),
        ("camera moved: by 40 px", "camera moved"), ("no answer of top", ""), ("black", ""),
        (": 3", ""),
    ],
)  # fmt: skip
def test_parts_are_counted_by_a_reason_without_its_figures(reason: str, group: str) -> None:
    assert reason_group(reason) == (group or reason)
