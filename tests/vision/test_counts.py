"""Counts with intervals, from found objects and from distributions."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError
from lineside.vision import CountRule, Decision
from lineside.vision.detections import (
    count_found,
    count_likely,
    doubt_of,
    found_chances,
    number_chances,
    shortest_run,
)

RULE = CountRule(most=10, reach=1.0, error_rate=0.1, calibration_pictures=40)


def likely(number: int, *, most: int = 6, sharp: float = 2.0) -> np.ndarray:
    """Logits around a number."""
    return (-sharp * np.abs(np.arange(most + 2) - number)).astype(np.float32)


def test_a_count_is_what_lies_above_the_cut_with_its_reach_on_both_sides() -> None:
    said = count_found(np.array([0.9, 0.8, 0.7, 0.2]), cut=0.4, rule=RULE)
    assert (said.value, said.low, said.high, said.more) == (3, 2, 4, False)
    assert said.decision is Decision.UNSURE


def test_an_interval_of_one_number_is_sure() -> None:
    rule = CountRule(most=10, reach=0.0, error_rate=0.1, calibration_pictures=40)
    said = count_found(np.array([0.9, 0.8]), cut=0.4, rule=rule)
    assert (said.value, said.low, said.high) == (2, 2, 2)
    assert said.decision is Decision.PRESENT


def test_no_interval_goes_below_nothing() -> None:
    assert count_found(np.zeros(0), cut=0.4, rule=RULE).low == 0


def test_beyond_what_was_trained_the_answer_is_more() -> None:
    said = count_found(np.full(14, 0.9), cut=0.4, rule=RULE)
    assert (said.value, said.low, said.high, said.more) == (14, 10, 10, True)
    assert said.decision is Decision.UNSURE
    edge = count_found(np.full(10, 0.9), cut=0.4, rule=RULE)
    assert (edge.low, edge.high, edge.more) == (9, 10, True)


@pytest.mark.parametrize(("pictures", "promised"), [(8, False), (9, True)])
def test_below_the_honest_floor_there_is_no_interval(pictures: int, *, promised: bool) -> None:
    rule = CountRule(most=10, reach=1.0, error_rate=0.1, calibration_pictures=pictures)
    said = count_found(np.array([0.9]), cut=0.4, rule=rule)
    assert rule.promises == promised
    assert (said.low, said.more) == ((0, False) if promised else (0, True))
    assert said.high == (2 if promised else 10)


def test_a_scaled_interval_follows_the_pictures_own_doubt() -> None:
    rule = CountRule(most=50, reach=2.0, error_rate=0.1, calibration_pictures=40, scaled=True)
    clear = count_found(np.full(9, 0.999), cut=0.4, rule=rule)
    vague = count_found(np.full(9, 0.6), cut=0.4, rule=rule)
    assert clear.high - clear.low < vague.high - vague.low
    assert doubt_of(np.zeros(0)) == pytest.approx(0.3)


@given(st.lists(st.floats(0.01, 0.99), max_size=6), st.integers(0, 4))
def test_chances_of_numbers_are_those_of_all_ways_to_be_there(
    chances: list[float], most: int
) -> None:
    wanted = np.zeros(most + 2)
    for there in product([0, 1], repeat=len(chances)):
        way = np.prod([c if t else 1 - c for c, t in zip(chances, there, strict=True)])
        wanted[min(sum(there), most + 1)] += way
    rule = CountRule(most=most, reach=0.0, error_rate=0.1, calibration_pictures=40)
    np.testing.assert_allclose(found_chances(np.array(chances), rule), wanted, atol=1e-12)


def test_above_254_numbers_their_chances_are_not_told() -> None:
    rule = CountRule(most=255, reach=0.0, error_rate=0.1, calibration_pictures=40)
    assert count_found(np.full(3, 0.5), cut=0.4, rule=rule).chances == ()
    assert len(count_found(np.full(3, 0.5), cut=0.4, rule=RULE).chances) == RULE.most + 2


@given(st.integers(0, 7), st.floats(0.3, 4.0), st.floats(0.0, 1.0))
def test_a_distribution_gives_a_run_around_its_likeliest_number(
    number: int, sharp: float, cut: float
) -> None:
    rule = CountRule(most=6, reach=0.0, error_rate=0.1, calibration_pictures=40, cut=cut)
    said = count_likely(likely(number, sharp=sharp), rule)
    assert said.value == min(number, 6)
    assert said.low <= said.value <= said.high
    chances = np.array(said.chances)
    assert chances.sum() == pytest.approx(1.0, abs=1e-4)
    told = chances[said.low : said.high + 1 + said.more].sum()
    assert told >= cut - 1e-4


def test_the_output_after_the_last_number_means_more() -> None:
    rule = CountRule(most=6, reach=0.0, error_rate=0.1, calibration_pictures=40, cut=0.5)
    said = count_likely(likely(7), rule)
    assert (said.value, said.low, said.high, said.more) == (6, 6, 6, True)
    assert said.decision is Decision.UNSURE


def test_too_few_pictures_give_a_distribution_no_interval_either() -> None:
    rule = CountRule(most=6, reach=0.0, error_rate=0.1, calibration_pictures=3, cut=0.5)
    said = count_likely(likely(2), rule)
    assert (said.value, said.low, said.high, said.more) == (2, 0, 6, True)


@given(
    st.lists(st.floats(0.001, 1.0), min_size=1, max_size=9),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_runs_grow_with_what_they_have_to_reach(raw: list[float], one: float, other: float) -> None:
    chances = np.array(raw) / np.sum(raw)
    small, large = sorted((one, other))
    low, high = shortest_run(chances, reaching=small)
    wide_low, wide_high = shortest_run(chances, reaching=large)
    assert wide_low <= low <= int(np.argmax(chances)) <= high <= wide_high
    assert chances[wide_low : wide_high + 1].sum() >= large - 1e-6


@pytest.mark.parametrize("logits", [np.zeros(7, np.float32), np.full(8, np.nan, np.float32)])
def test_logits_that_fit_no_rule_are_refused(logits: np.ndarray) -> None:
    rule = CountRule(most=6, reach=0.0, error_rate=0.1, calibration_pictures=40, cut=0.5)
    with pytest.raises(InvalidError):
        number_chances(logits, rule)


@pytest.mark.parametrize(
    "wrong",
    [{"most": -1}, {"reach": -1.0}, {"error_rate": 0.0}, {"temperature": 0.0}, {"cut": 1.5}],
)
def test_a_rule_that_cannot_work_is_refused(wrong: dict[str, float]) -> None:
    usual = {"most": 6, "reach": 0.0, "error_rate": 0.1, "calibration_pictures": 40}
    with pytest.raises(InvalidError):
        CountRule(**{**usual, **wrong})  # type: ignore[arg-type]
