"""From class logits to one class, several, or none."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lineside.core import InvalidError
from lineside.vision import ClassRule, Decision
from lineside.vision.decide import class_probabilities, decide_classes

RULE = ClassRule(
    labels=("a", "b", "c"),
    temperature=1.0,
    floor=0.05,
    cuts=(0.3, 0.3, 0.3),
    error_rate=0.1,
    class_conditional=True,
    calibration_pictures=60,
)
LOGITS = arrays.arrays(np.float32, (3,), elements=st.floats(-50, 50, width=32))


def decisions(*logits: float, rule: ClassRule = RULE) -> tuple[str, ...]:
    answers = decide_classes(np.array(logits, np.float32), rule)
    return tuple(str(answer.decision) for answer in answers)


def test_one_class_above_its_cut_is_present() -> None:
    assert decisions(5, 0, 0) == ("present", "absent", "absent")


def test_several_classes_above_their_cuts_are_all_unsure() -> None:
    assert decisions(2, 2, -5) == ("unsure", "unsure", "absent")


def test_where_no_class_reaches_its_cut_the_two_likeliest_are_unsure() -> None:
    shy = replace(RULE, cuts=(0.9, 0.9, 0.9))
    assert decisions(0.2, 0.1, 0.0, rule=shy) == ("unsure", "unsure", "absent")


def test_a_cut_below_the_floor_does_not_let_every_class_in() -> None:
    loose = replace(RULE, floor=0.2, cuts=(0.01, 0.01, 0.01))
    assert decisions(9, 0, 0, rule=loose) == ("present", "absent", "absent")


def test_a_higher_temperature_makes_answers_less_sure() -> None:
    logits = np.array([3, 0, 0], np.float32)
    cool, warm = (class_probabilities(logits, replace(RULE, temperature=t)) for t in (1.0, 4.0))
    assert cool[0] > warm[0] > 1 / 3


@given(LOGITS)
def test_a_probability_is_never_nearer_to_certainty_than_the_floor(
    logits: np.ndarray,
) -> None:
    chances = class_probabilities(logits, RULE)
    assert (chances >= RULE.floor).all()
    assert (chances <= 1 - RULE.floor).all()
    assert class_probabilities(logits, replace(RULE, floor=0.0)).sum() == pytest.approx(1)


@given(LOGITS)
def test_exactly_one_class_is_present_or_at_least_two_are_unsure(logits: np.ndarray) -> None:
    said = [answer.decision for answer in decide_classes(logits, RULE)]
    present, unsure = said.count(Decision.PRESENT), said.count(Decision.UNSURE)
    assert (present == 1 and not unsure) or (present == 0 and unsure >= 2)


@given(LOGITS, st.floats(-20, 20, width=32))
def test_what_is_added_to_all_logits_changes_nothing(logits: np.ndarray, added: float) -> None:
    moved = class_probabilities((logits + np.float32(added)).astype(np.float32), RULE)
    assert np.allclose(moved, class_probabilities(logits, RULE), atol=1e-3)


@pytest.mark.parametrize(
    "logits", [[1.0, 2.0], [[1.0, 2.0, 3.0]], [1.0, np.nan, 0.0], [np.inf] * 3]
)
def test_logits_that_cannot_be_are_refused(logits: list[float]) -> None:
    with pytest.raises(InvalidError):
        decide_classes(np.array(logits, np.float32), RULE)


@pytest.mark.parametrize(
    "change",
    [{"labels": ("a",), "cuts": (0.3,)}, {"labels": ("a", "a", "b")}, {"cuts": (0.3,)},
     {"temperature": 0.0}],
)  # fmt: skip
def test_a_rule_that_cannot_work_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidError):
        replace(RULE, **change)  # type: ignore[arg-type]  # broken on purpose
