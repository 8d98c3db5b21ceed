"""Figures against their definitions, and against scikit-learn where it has them."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as reference

from lineside.core import InvalidError
from lineside.vision.metrics import (
    UNSURE,
    accuracy,
    auroc,
    average_precision,
    balanced_accuracy,
    bootstrap,
    calibration_error,
    cheapest_cut,
    conformal_cut,
    confusion,
    limit_table,
    macro_f1,
    metric_words,
    reliability,
    unsure_band,
    unsure_rate,
    wilson,
)

sizes = st.integers(2, 40)
scored = sizes.flatmap(
    lambda n: st.tuples(
        arrays(np.int64, n, elements=st.integers(0, 1)),
        arrays(np.float64, n, elements=st.integers(0, 20).map(lambda k: k / 20)),
    )
)
classed = sizes.flatmap(
    lambda n: st.tuples(
        arrays(np.int64, n, elements=st.integers(0, 3)),
        arrays(np.int64, n, elements=st.integers(0, 3)),
    )
)
Pair = tuple[np.ndarray, np.ndarray]


def test_wilson_gives_the_published_interval_of_24_of_24() -> None:
    found = wilson(24, 24)
    assert (found.value, found.high, found.n) == (1.0, 1.0, 24)
    assert found.low == pytest.approx(0.862, abs=5e-4)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(17, 24, 0.5083, 0.8509), (0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (1, 1, 0.2065, 1.0)],
)
def test_wilson_agrees_with_worked_examples(
    *, successes: int, n: int, low: float, high: float
) -> None:
    found = wilson(successes, n)
    assert found.low == pytest.approx(low, abs=1e-3)
    assert found.high == pytest.approx(high, abs=1e-3)


@given(n=st.integers(1, 500), data=st.data())
def test_wilson_holds_its_value_and_mirrors(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    found, other = wilson(k, n), wilson(n - k, n)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low == pytest.approx(1 - other.high)


def test_nothing_counted_says_nothing() -> None:
    found = wilson(0, 0)
    assert math.isnan(found.value)
    assert (found.low, found.high) == (0.0, 1.0)
    with pytest.raises(InvalidError):
        wilson(3, 2)


def test_bootstrap_covers_the_mean_and_repeats_itself() -> None:
    values = np.random.default_rng(0).normal(5, 1, 200)
    found = bootstrap(lambda each: float(each.mean()), values, seed=3)
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 / math.sqrt(200), rel=0.2)
    assert found == bootstrap(lambda each: float(each.mean()), values, seed=3)


def test_bootstrap_of_whole_groups_is_wider_when_groups_agree_inside() -> None:
    groups = np.repeat(np.arange(10), 20)
    values = np.random.default_rng(1).normal(0, 1, 10)[groups]

    def mean(each: np.ndarray) -> float:
        return float(each.mean())

    apart, together = bootstrap(mean, values), bootstrap(mean, values, groups=groups)
    assert together.high - together.low > 2 * (apart.high - apart.low)


@pytest.mark.parametrize("groups", [5, 6])
def test_bootstrap_of_few_groups_holds_the_mean_in_nine_of_ten_draws(groups: int) -> None:
    rng, owner, held = np.random.default_rng(1), np.repeat(np.arange(groups), 8), 0
    for _ in range(200):
        values = rng.normal(size=groups)[owner] + rng.normal(size=len(owner))
        found = bootstrap(lambda each: float(each.mean()), values, groups=owner, rounds=200)
        held += found.low <= 0 <= found.high
    assert held >= 180  # quantiles of 2.5 % hold it in 173


def test_bootstrap_leaves_out_rounds_without_an_answer() -> None:
    truth, scores = np.array([1, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3])
    found = bootstrap(auroc, truth, scores, rounds=200)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    nothing = bootstrap(auroc, np.array([1, 1]), np.array([0.1, 0.2]), rounds=20)
    assert math.isnan(nothing.low)


def test_bootstrap_refuses_columns_that_do_not_fit() -> None:
    with pytest.raises(InvalidError):
        bootstrap(auroc, np.zeros(3), np.zeros(4))
    with pytest.raises(InvalidError):
        bootstrap(auroc, np.zeros(3), np.zeros(3), groups=np.zeros(2))
    assert bootstrap(auroc, np.zeros(0), np.zeros(0)).n == 0


@given(pair=classed)
def test_accuracy_and_f1_are_those_of_scikit_learn(pair: Pair) -> None:
    truth, found = pair
    assert accuracy(truth, found) == pytest.approx(reference.accuracy_score(truth, found))
    wanted = reference.f1_score(truth, found, average="macro", zero_division=0)
    assert macro_f1(truth, found) == pytest.approx(wanted)


@given(pair=classed)
def test_balanced_accuracy_is_mean_recall(pair: Pair) -> None:
    truth, found = pair
    recalls = reference.recall_score(
        truth, found, average=None, labels=np.unique(truth), zero_division=0
    )
    assert balanced_accuracy(truth, found) == pytest.approx(recalls.mean())


def test_unsure_is_not_right_and_has_a_column_of_its_own() -> None:
    truth, found = np.array([0, 1, 1, 0]), np.array([0, UNSURE, 1, 1])
    assert accuracy(truth, found) == 0.5
    assert unsure_rate(found) == 0.25
    assert confusion(truth, found, classes=2).tolist() == [[1, 1, 0], [0, 1, 1]]
    assert balanced_accuracy(truth, found) == 0.5
    assert macro_f1(truth, found) == pytest.approx((2 / 3 + 2 / 4) / 2)


@given(pair=scored)
def test_auroc_is_that_of_scikit_learn(pair: Pair) -> None:
    truth, scores = pair
    assume(0 < truth.sum() < len(truth))
    assert auroc(truth, scores) == pytest.approx(reference.roc_auc_score(truth, scores))


@given(pair=scored)
def test_average_precision_is_that_of_scikit_learn(pair: Pair) -> None:
    truth, scores = pair
    assume(truth.any())
    wanted = reference.average_precision_score(truth, scores)
    assert average_precision(truth, scores) == pytest.approx(wanted)


@pytest.mark.parametrize("figure", [auroc, average_precision])
def test_curves_without_positives_are_undefined(figure: object) -> None:
    assert callable(figure)
    assert math.isnan(figure(np.zeros(5), np.linspace(0, 1, 5)))


def test_figures_of_nothing_are_undefined() -> None:
    nothing = np.zeros(0)
    figures = [
        accuracy(nothing, nothing),
        unsure_rate(nothing),
        balanced_accuracy(nothing, nothing),
        macro_f1(nothing, nothing),
        calibration_error(nothing, nothing),
    ]
    assert all(math.isnan(each) for each in figures)


def test_reliability_says_what_was_said_and_what_came_true() -> None:
    truth, chances = np.array([0, 1, 1, 1]), np.array([0.2, 0.25, 0.95, 1.0])
    low, high = reliability(truth, chances)
    assert (low.low, low.n, low.came_true) == (0.2, 2, 0.5)
    assert low.said == pytest.approx(0.225)
    assert (high.high, high.n, high.came_true) == (1.0, 2, 1.0)
    assert calibration_error(truth, chances) == pytest.approx(0.5 * 0.275 + 0.5 * 0.025)


@given(pair=scored)
def test_the_limit_table_counts_what_each_cut_loses(pair: Pair) -> None:
    truth, chances = pair
    table = limit_table(truth, chances, escape_cost=3.0, over_reject_cost=0.5)
    for row in table:
        assert row.escapes == int(((chances <= row.cut) & (truth == 1)).sum())
        assert row.over_rejects == int(((chances > row.cut) & (truth == 0)).sum())
        assert row.cost == pytest.approx(3.0 * row.escapes + 0.5 * row.over_rejects)
    cuts = [row.cut for row in table]
    assert cuts == sorted(set(cuts))
    assert (cuts[0], cuts[-1]) == (0.0, 1.0)
    assert table[-1].escapes == truth.sum()


@given(pair=scored)
def test_no_cut_is_cheaper_than_the_cheapest(pair: Pair) -> None:
    truth, chances = pair
    table = limit_table(truth, chances, escape_cost=2.0)
    cut = cheapest_cut(table)
    cost = 2.0 * ((chances <= cut) & (truth == 1)).sum() + ((chances > cut) & (truth == 0)).sum()
    assert cost <= min(row.cost for row in table)


def test_the_cheapest_cut_lies_in_the_middle_of_the_gap() -> None:
    truth, chances = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])
    assert cheapest_cut(limit_table(truth, chances)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("n", "rate", "place"), [(9, 0.1, 9), (19, 0.1, 18), (99, 0.05, 95), (10, 0.5, 6), (1, 0.9, 1)]
)
def test_the_conformal_cut_is_the_known_order_statistic(*, n: int, rate: float, place: int) -> None:
    found = conformal_cut(np.random.default_rng(0).permutation(n) + 1.0, error_rate=rate)
    assert found.cut == place
    assert found.n == n


@given(n=st.integers(1, 200), rate=st.floats(0.001, 0.9))
def test_the_rate_is_never_below_one_in_n_plus_one(n: int, rate: float) -> None:
    found = conformal_cut(np.arange(n, dtype=float), error_rate=rate)
    assert found.error_rate == max(rate, 1 / (n + 1))
    covered = (found.cut + 1) / (n + 1)
    assert covered >= 1 - found.error_rate - 1e-9


def test_a_new_score_exceeds_the_cut_at_the_stated_rate() -> None:
    rng, misses = np.random.default_rng(5), 0
    for _ in range(4000):
        scores = rng.normal(size=20)
        misses += scores[19] > conformal_cut(scores[:19], error_rate=0.1).cut
    assert misses / 4000 == pytest.approx(0.1, abs=0.015)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(InvalidError):
        conformal_cut(np.zeros(3), error_rate=rate)
    with pytest.raises(InvalidError):
        conformal_cut(np.zeros(0), error_rate=0.1)


def test_sides_that_overlap_leave_a_band_and_sides_apart_a_cut() -> None:
    truth = np.repeat([0, 1], 20)
    apart = np.concatenate([np.linspace(0.05, 0.2, 20), np.linspace(0.8, 0.95, 20)])
    found = unsure_band(truth, apart, error_rate=0.05, cut=0.5)
    assert (found.low, found.high) == (0.5, 0.5)
    mixed = np.concatenate([np.linspace(0.05, 0.6, 20), np.linspace(0.4, 0.95, 20)])
    band = unsure_band(truth, mixed, error_rate=0.05, cut=0.5)
    assert band.low < 0.5 < band.high
    assert band.error_rate == pytest.approx(0.05)


@settings(max_examples=60)
@given(pair=scored, rate=st.floats(0.05, 0.4))
def test_few_answers_are_wrong_outside_the_band(pair: Pair, rate: float) -> None:
    truth, chances = pair
    assume(0 < truth.sum() < len(truth))
    band = unsure_band(truth, chances, error_rate=rate, cut=0.5)
    ups, downs = chances[truth == 1], chances[truth == 0]
    assert (ups < band.low).mean() <= band.error_rate + 1e-9
    assert (downs > band.high).mean() <= band.error_rate + 1e-9
    assert band.low <= band.high


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("f1_any_iou50", "boxes found, whatever the label (F1 at overlap .50)"),
        ("recall_iou33/A1/dark_blue", "objects found (recall at overlap .33): A1/dark_blue"),
        ("balanced_accuracy", "balanced accuracy"),
        ("unsure_rate", "unsure answers"),
        ("ours_iou33", "ours iou33"),
    ],
)
def test_figures_are_named_in_words(name: str, words: str) -> None:
    assert metric_words(name) == words
