import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lineside.core import Box, Inspection, Policy, Region, View
from lineside.training.common.methods import GAP_UNSURE, platt
from lineside.training.tasks.multilabel.heads import UNKNOWN, plan_heads
from lineside.training.tasks.multilabel.held_out import rules_for
from lineside.vision import Decision, LabelRule
from lineside.vision.decide import decide

PLAN = plan_heads(
    Inspection(
        id="i",
        camera="c",
        view=View(width_px=32, height_px=32),
        region=(
            Region(
                id="lid",
                label="closed",
                box_px=Box(x0_px=0.0, y0_px=0.0, x1_px=8.0, y1_px=8.0),
            ),
        ),
    )
)


def rule(ups: list[float], downs: list[float], *, policy: Policy | None = None) -> LabelRule:
    logits = np.array([*ups, *downs], np.float32).reshape(-1, 1, 1)
    truth = np.array([1] * len(ups) + [0] * len(downs), np.int8).reshape(-1, 1, 1)
    chosen = range(len(logits))
    return rules_for(PLAN, logits, truth=truth, policy=policy or Policy(), pictures=chosen)[0]


def said(made: LabelRule, logit: float) -> Decision:
    scores = np.array([[logit]], np.float32)
    return decide(scores, [made], regions=["lid"], policy=Policy())[0].decision


def test_probabilities_are_bounded_by_the_number_of_pictures() -> None:
    made = rule([5, 6, 7, 8, 9, 9, 9, 9], [-5] * 8)
    assert made.floor == pytest.approx(1 / 10)
    assert made.error_rate == pytest.approx(1 / 9)
    assert made.calibration_pictures == 16


def test_a_gap_between_the_sides_is_divided_and_only_its_middle_is_unsure() -> None:
    made = rule([3.0, 3.5, 4.0, 4.5, 5, 5, 5, 5], [-3.0, -3.5, -4.0, -4.5, -5, -5, -5, -5])
    assert said(made, 1.0) is Decision.PRESENT
    assert said(made, -1.0) is Decision.ABSENT
    assert said(made, 0.0) is Decision.UNSURE
    assert 0 < made.high - made.low <= GAP_UNSURE


def test_where_the_sides_overlap_everything_that_could_be_either_is_unsure() -> None:
    made = rule([-1.0, 0.5, 2, 3, 3, 3, 3, 3], [1.0, -0.5, -2, -3, -3, -3, -3, -3])
    assert [said(made, x) for x in (-0.9, 0.0, 0.9)] == [Decision.UNSURE] * 3
    assert said(made, 3.0) is Decision.PRESENT
    assert said(made, -3.0) is Decision.ABSENT


def test_many_pictures_allow_the_wished_error_rate_and_forgive_an_outlier() -> None:
    ups = [*np.linspace(2, 5, 99), -4.0]
    made = rule([float(x) for x in ups], [float(-x) for x in np.linspace(2, 5, 100)])
    assert made.error_rate == 0.05
    assert said(made, 2.5) is Decision.PRESENT


def test_a_dear_escape_lowers_the_cut() -> None:
    rng = np.random.default_rng(0)
    ups, downs = rng.normal(1, 1, 60).tolist(), rng.normal(-1, 1, 60).tolist()
    cheap, dear = rule(ups, downs), rule(ups, downs, policy=Policy(escape_cost=20.0))
    least_cheap = min(cheap.limits, key=lambda row: row.cost)
    least_dear = min(dear.limits, key=lambda row: row.cost)
    assert least_dear.cut < least_cheap.cut
    assert least_dear.escapes <= least_cheap.escapes


def test_without_a_held_out_answer_on_one_side_everything_is_unsure() -> None:
    made = rule([1.0, 2.0, 3.0], [])
    assert {said(made, x) for x in (-50.0, 0.0, 50.0)} == {Decision.UNSURE}


def test_heads_that_run_against_the_labels_are_made_unsure() -> None:
    made = rule([-2.0] * 10, [2.0] * 10)
    assert made.slope == pytest.approx(1e-3)
    assert {said(made, x) for x in (-2.0, 0.0, 2.0)} == {Decision.UNSURE}


def test_unjudged_answers_take_no_part() -> None:
    logits = np.array([[3.0], [4.0], [-3.0], [-4.0], [99.0]], np.float32)[:, None]
    truth = np.array([1, 1, 0, 0, UNKNOWN], np.int8)[:, None, None]
    made = rules_for(PLAN, logits, truth=truth, policy=Policy(), pictures=range(5))[0]
    assert made.calibration_pictures == 4


@given(
    st.lists(st.floats(-20, 20), min_size=1, max_size=30),
    st.lists(st.floats(-20, 20), min_size=1, max_size=30),
)
def test_a_rule_is_always_usable_and_rises_with_the_logit(
    ups: list[float], downs: list[float]
) -> None:
    made = rule(ups, downs)
    assert made.slope > 0
    assert 0 < made.floor <= 1 / 3
    assert made.floor <= made.low <= made.high <= 1 - made.floor
    assert made.error_rate >= 1 / (min(len(ups), len(downs)) + 1) - 1e-12
    order = [Decision.ABSENT, Decision.UNSURE, Decision.PRESENT]
    places = [order.index(said(made, x)) for x in np.linspace(-30, 30, 25)]
    assert places == sorted(places)


@example([0.0] * 7 + [-4.03515625] * 2, [0.0] * 9)
@given(
    st.lists(st.floats(-8, 8), min_size=9, max_size=40),
    st.lists(st.floats(-8, 8), min_size=9, max_size=40),
)
def test_no_more_calibration_answers_are_wrong_than_the_rate_allows(
    ups: list[float], downs: list[float]
) -> None:
    made = rule(ups, downs)
    allowed = made.error_rate * (len(ups) + 1), made.error_rate * (len(downs) + 1)
    assert sum(said(made, x) is Decision.ABSENT for x in ups) <= allowed[0] + 1e-9
    assert sum(said(made, x) is Decision.PRESENT for x in downs) <= allowed[1] + 1e-9


def test_calibration_of_known_chances_is_recovered() -> None:
    rng = np.random.default_rng(1)
    logit = rng.normal(0, 3, 4000)
    truth = rng.random(4000) < 1 / (1 + np.exp(-(0.7 * logit - 0.4)))
    slope, offset = platt(logit, truth)
    assert slope == pytest.approx(0.7, abs=0.06)
    assert offset == pytest.approx(-0.4, abs=0.1)
