"""From logits to decisions."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError, Policy
from lineside.vision import Decision, LabelRule
from lineside.vision.decide import calibrated, decide, decide_probabilities, probabilities

PRESENT, ABSENT, UNSURE = Decision.PRESENT, Decision.ABSENT, Decision.UNSURE
CUT = Policy(present_above=0.85)
chance = st.floats(0, 1)


def rule(name: str, region: str, **changes: Any) -> LabelRule:  # noqa: ANN401  any field
    settings: dict[str, Any] = {
        "name": name,
        "region": region,
        "label": name.rpartition("/")[2],
        "output": 0,
        "slope": 1.0,
        "offset": 0.0,
        "floor": 0.0,
        "low": 0.4,
        "high": 0.6,
        "error_rate": 0.05,
        "calibration_pictures": 16,
    }
    return LabelRule(**settings | changes)


BLUE = rule("blue", "top")
SLOT = tuple(rule(f"A1/{kind}", "A1", output=n) for n, kind in enumerate(("empty", "blue", "red")))


def verdicts(chances: list[float], rules: tuple[LabelRule, ...], policy: Policy) -> list[Decision]:
    answers = decide_probabilities(np.array(chances), rules, policy=policy)
    return [answer.decision for answer in answers]


@pytest.mark.parametrize(
    ("probability", "verdict"),
    [
        (0.39, ABSENT),
        (0.4, UNSURE),
        (0.5, UNSURE),
        (0.6, UNSURE),
        (math.nextafter(0.6, 1), PRESENT),
        (math.nextafter(0.4, 0), ABSENT),
        (0.0, ABSENT),
        (1.0, PRESENT),
    ],
)
def test_both_ends_of_the_band_are_unsure(probability: float, verdict: Decision) -> None:
    assert verdicts([probability], (BLUE,), Policy()) == [verdict]


@pytest.mark.parametrize(
    ("probability", "verdict"),
    [(0.85, ABSENT), (math.nextafter(0.85, 1), PRESENT), (0.5, ABSENT), (0.1, ABSENT)],
)
def test_one_fixed_cut_is_strict_and_knows_no_unsure(probability: float, verdict: Decision) -> None:
    assert verdicts([probability], (BLUE,), CUT) == [verdict]


@pytest.mark.parametrize(
    ("chances", "expected"),
    [
        ([0.9, 0.1, 0.1], [PRESENT, ABSENT, ABSENT]),
        ([0.1, 0.1, 0.9], [ABSENT, ABSENT, PRESENT]),
        ([0.9, 0.5, 0.1], [UNSURE, UNSURE, ABSENT]),
        ([0.9, 0.9, 0.1], [UNSURE, UNSURE, ABSENT]),
        ([0.5, 0.1, 0.1], [UNSURE, ABSENT, ABSENT]),
        ([0.3, 0.2, 0.1], [UNSURE, UNSURE, ABSENT]),
        ([0.1, 0.2, 0.3], [ABSENT, UNSURE, UNSURE]),
        ([0.5, 0.5, 0.5], [UNSURE, UNSURE, UNSURE]),
    ],
)
def test_a_region_of_classes_has_one_answer_or_is_unsure(
    chances: list[float], expected: list[Decision]
) -> None:
    assert verdicts(chances, SLOT, Policy()) == expected


@pytest.mark.parametrize(
    ("chances", "expected"),
    [
        ([0.9, 0.95, 0.1], [ABSENT, PRESENT, ABSENT]),
        ([0.9, 0.9, 0.1], [UNSURE, UNSURE, ABSENT]),
        ([0.85, 0.1, 0.1], [ABSENT, ABSENT, ABSENT]),
    ],
)
def test_a_fixed_cut_leaves_a_region_the_likeliest_class(
    chances: list[float], expected: list[Decision]
) -> None:
    assert verdicts(chances, SLOT, CUT) == expected


@given(chances=st.lists(chance, min_size=3, max_size=3), cut=st.one_of(st.none(), chance))
def test_at_most_one_class_is_present_and_then_none_is_unsure(
    chances: list[float], cut: float | None
) -> None:
    found = verdicts(chances, SLOT, Policy(present_above=cut))
    assert found.count(PRESENT) <= 1
    assert not (PRESENT in found and UNSURE in found)
    if PRESENT in found:
        assert chances[found.index(PRESENT)] == max(chances)
    if cut is None:
        assert set(found) != {ABSENT}


@given(chances=st.lists(chance, min_size=4, max_size=4))
def test_presence_labels_do_not_know_of_each_other(chances: list[float]) -> None:
    rules = (BLUE, *SLOT)
    apart = verdicts(chances[:1], (BLUE,), Policy()) + verdicts(chances[1:], SLOT, Policy())
    assert verdicts(chances, rules, Policy()) == apart


def test_labels_of_the_whole_picture_are_not_classes() -> None:
    rules = (rule("blue", ""), rule("red", ""))
    assert verdicts([0.9, 0.9], rules, Policy()) == [PRESENT, PRESENT]
    assert not any(each.is_class for each in rules)
    assert all(each.is_class for each in SLOT)


@given(logit=st.floats(-1e6, 1e6), slope=st.floats(-10, 10), offset=st.floats(-10, 10))
def test_confidence_is_bounded_by_the_number_of_pictures(
    *, logit: float, slope: float, offset: float
) -> None:
    bounded = rule("blue", "top", slope=slope, offset=offset, floor=0.1)
    found = float(calibrated(np.array([logit]), [bounded])[0])
    assert 0.1 <= found <= 0.9


def test_calibration_is_the_logistic_of_the_scaled_logit() -> None:
    scaled = rule("blue", "top", slope=2.0, offset=-1.0)
    found = calibrated(np.array([0.75]), [scaled])[0]
    assert found == pytest.approx(1 / (1 + math.exp(-0.5)))


def test_each_rule_reads_its_own_row_and_output() -> None:
    logits = np.array([[0.0, 5.0, -5.0], [1.0, 2.0, 3.0]], np.float32)
    rules = (rule("white", "low", output=2), *SLOT)
    found = probabilities(logits, rules, regions=["A1", "low"])
    wanted = [1 / (1 + math.exp(-x)) for x in (3.0, 0.0, 5.0, -5.0)]
    assert np.allclose(found, wanted)


def test_answers_carry_names_and_probabilities() -> None:
    logits = np.array([[-4.0, 4.0, -4.0]], np.float32)
    answers = decide(logits, SLOT, regions=["A1"], policy=Policy())
    assert [(each.name, each.region, each.label) for each in answers] == [
        ("A1/empty", "A1", "empty"),
        ("A1/blue", "A1", "blue"),
        ("A1/red", "A1", "red"),
    ]
    assert [each.decision for each in answers] == [ABSENT, PRESENT, ABSENT]
    assert answers[1].probability == pytest.approx(0.982, abs=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_logit_that_is_no_number_is_no_decision(bad: float) -> None:
    with pytest.raises(InvalidError, match="no number"):
        decide(np.array([[bad]], np.float32), (BLUE,), regions=["top"], policy=Policy())


@pytest.mark.parametrize("stray", [rule("x", "attic"), rule("x", "top", output=7)])
def test_a_rule_for_something_that_is_not_there_is_refused(stray: LabelRule) -> None:
    with pytest.raises(InvalidError, match="a rule names"):
        decide(np.zeros((1, 1), np.float32), (stray,), regions=["top"], policy=Policy())


@pytest.mark.parametrize("changes", [{"low": 0.7}, {"floor": 0.6}, {"floor": -0.1}, {"output": -1}])
def test_a_rule_that_cannot_be_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(InvalidError):
        rule("blue", "top", **changes)
