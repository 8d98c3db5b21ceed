"""Upper bound of the error among the answers given, on numbers drawn here."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import encode
from lineside.models.result import ErrorBound, report_result
from lineside.training.common.methods import (
    CONFIDENCE,
    calibrated_cut,
    confidence_of_each,
    error_bound,
    rate_ladder,
    rate_warning,
)
from lineside.vision.metrics import is_below, upper_share


def found(wrong: list[bool], *, owners: list[int] | None = None, shown: float = 0.0) -> ErrorBound:
    """Of answers that were all given, the surest first."""
    n = len(wrong)
    return error_bound(
        np.linspace(0.99, 0.6, n),
        np.array(wrong),
        answered=np.ones(n, bool),
        owners=owners or list(range(n)),
        target=0.05,
        confidence=CONFIDENCE,
        shown=shown,
    )


def test_the_bound_without_a_mistake_follows_from_the_number_alone() -> None:
    assert upper_share(0, 30, confidence=0.9) == pytest.approx(1 - 0.1 ** (1 / 30), abs=1e-6)
    assert upper_share(30, 30, confidence=0.9) == 1.0
    assert is_below(0.05, wrong=0, n=45, confidence=0.9)
    assert not is_below(0.05, wrong=0, n=44, confidence=0.9)


@given(st.integers(0, 40), st.integers(1, 200))
def test_the_bound_is_where_the_test_turns(wrong: int, more: int) -> None:
    bound = upper_share(wrong, wrong + more, confidence=0.9)
    assert wrong / (wrong + more) < bound
    assert is_below(bound + 1e-6, wrong=wrong, n=wrong + more, confidence=0.9)
    assert not is_below(bound - 1e-6, wrong=wrong, n=wrong + more, confidence=0.9)


def test_the_bound_is_exceeded_in_one_of_ten_sets_at_most() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.binomial(200, 0.05, 400).tolist()
    assert np.mean([upper_share(k, 200, confidence=0.9) < 0.05 for k in drawn]) <= 0.1


def test_few_pictures_say_how_many_more_would_show_the_target_rate() -> None:
    few = found([False] * 30)
    assert few.bound == pytest.approx(1 - 0.1 ** (1 / 30), abs=1e-6)
    assert abs(few.more - 15) <= 1  # 45 without a mistake show 5 % at 90 %
    assert "about 15 more pictures" in few.words
    assert found([False] * 60).more == 0
    assert "was the target" not in found([False] * 60).words
    assert "too many answers were wrong" in found([True, False] * 30).words


def test_pictures_of_one_part_widen_the_bound_and_leave_the_share() -> None:
    one_part = [True] * 20 + [False] * 60
    together = found(one_part, owners=[0] * 20 + list(range(1, 61)))
    apart = found(one_part)
    assert together.curve[-1].error == apart.curve[-1].error == pytest.approx(20 / 80)
    assert together.bound > apart.bound > 20 / 80
    assert together.curve[-1].bound == together.bound
    assert together.wrong == apart.wrong == 20
    pairs = found([False] * 60, owners=[number // 2 for number in range(60)])
    assert pairs.bound == found([False] * 30).bound
    assert abs(pairs.more - 30) <= 1  # of two pictures each, as the 45 single ones that show 5 %
    assert pairs.more_groups == found([False] * 30).more
    assert f"about {pairs.more_groups} more parts (groups) with {pairs.more} more" in pairs.words


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=1, max_size=60))
def test_groups_never_make_the_bound_smaller(answers: list[tuple[bool, int]]) -> None:
    wrong = [one for one, _ in answers]
    together, apart = found(wrong, owners=[owner for _, owner in answers]), found(wrong)
    assert together.bound >= apart.bound - 1e-9
    assert together.bound >= together.wrong / together.answered - 1e-9
    assert all(point.error <= point.bound + 1e-9 for point in together.curve)


def test_the_curve_answers_the_surest_first() -> None:
    curve = found([False] * 50 + [True] * 10).curve
    assert [point.answered for point in curve] == sorted(point.answered for point in curve)
    assert curve[0].error == 0.0
    assert curve[-1].error == pytest.approx(10 / 60)
    assert all(point.error <= point.bound for point in curve)


def test_the_result_of_a_report_says_the_bound_and_an_older_one_nothing() -> None:
    body = {
        "task": "classify",
        "confusion": {"": {"classes": ["a", "b"], "rows": [[9, 1, 0], [0, 10, 0]]}},
        "validation_pictures": 20,
    }
    bound = found([False] * 60)
    said = report_result(encode({**body, "error_bound": bound}))
    older = report_result(encode(body))
    assert said is not None
    assert older is not None
    assert bound.words in said.words
    assert older.bounded == ""


def test_answers_of_one_picture_are_named_and_count_as_fewer() -> None:
    right = np.zeros(90, bool)
    bound = error_bound(
        np.linspace(0.99, 0.6, 90), right, answered=~right, owners=[n // 3 for n in range(90)],
        target=0.05, confidence=CONFIDENCE, noun="labels on pictures",
    )  # fmt: skip
    assert bound.bound == found([False] * 30).bound
    assert (
        "of 90 labels on pictures held back in training 90 were answered, 0 of them" in bound.words
    )
    assert f"about {bound.more_groups} more pictures, each of another part, would" in bound.words


def test_where_nothing_is_answered_that_is_said() -> None:
    none = error_bound(
        np.full(9, 0.5), np.zeros(9, bool), answered=np.zeros(9, bool), owners=list("abcdefghi"),
        target=0.05, confidence=CONFIDENCE,
    )  # fmt: skip
    assert none.bound == 1.0
    assert none.words == "None of 9 pictures held back in training was answered: all are unsure."


def risk(doubt: np.ndarray, *, kind: str) -> np.ndarray:
    """Chance of a wrong answer, by its place among all from the surest (0) on."""
    return {
        "steep": 0.5 * doubt**2,
        "step": np.where(doubt < 0.4, 0.1, 0.3),
    }[kind]


@pytest.mark.parametrize("kind", ["steep", "step"])
@pytest.mark.parametrize("each", [1, 3])
def test_the_stated_rate_holds_in_nine_of_ten_draws(kind: str, each: int) -> None:
    rng = np.random.default_rng(3)
    places = (np.arange(1000) + 0.5) / 1000
    true = np.cumsum(risk(places, kind=kind)) / np.arange(1, 1001)
    held = []
    for _ in range(50):
        doubt = rng.random(90)
        wrong = np.repeat(rng.random(90) < risk(doubt, kind=kind), each)
        owners = np.repeat(np.arange(90), each)
        sureness = 1 - np.repeat(doubt, each) - rng.uniform(0, 1e-9, 90 * each)
        chosen = calibrated_cut(sureness, wrong, owners=owners.tolist(), rate=0.1)
        held.append(np.interp(1 - chosen.cut, places, true) <= chosen.rate)
        assert chosen.rate in {*rate_ladder(0.1), 1.0}
        reported = error_bound(
            sureness, wrong, answered=sureness >= chosen.cut, owners=owners.tolist(), target=0.1,
            confidence=chosen.confidence, shown=chosen.rate,
        )  # fmt: skip
        assert reported.bound == pytest.approx(chosen.rate, abs=1e-6)
    assert np.mean(held) >= 0.9


def test_pictures_of_one_part_are_one_in_the_test() -> None:
    sureness = np.linspace(0.99, 0.6, 60)
    right = np.zeros(60, bool)
    assert calibrated_cut(sureness, right, owners=range(60), rate=0.05)[:2] == (0.3, 0.05)
    pairs = calibrated_cut(sureness, right, owners=[n // 2 for n in range(60)], rate=0.05)
    assert pairs.rate == 0.08  # the first of the ladder above 1 - 0.1 ** (1 / 30)


def test_the_rates_that_are_tested_do_not_depend_on_the_answers() -> None:
    assert rate_ladder(0.05) == (
        0.05, 0.0625, 0.08, 0.1, 0.125, 0.1575, 0.2, 0.25, 0.315, 0.4, 0.5, 0.625, 0.8,
    )  # fmt: skip
    assert rate_ladder(0.0)[0] == 0.001
    assert rate_ladder(1.0) == ()
    everything = calibrated_cut(-np.arange(9.0), np.ones(9, bool), owners=range(9), rate=0.05)
    assert everything[:2] == (-4.0, 1.0)


def test_a_large_group_among_the_least_sure_takes_no_confidence_from_the_test() -> None:
    wrong, owners = np.zeros(1150, bool), [*range(150), *[150] * 1000]
    found = calibrated_cut(np.linspace(0.99, 0.5, 1150), wrong, owners=owners, rate=0.05)
    assert found.confidence == confidence_of_each(151, rate=0.05) > CONFIDENCE


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=30))
def test_answers_of_every_cut_are_counted_as_by_their_definition(
    answers: list[tuple[bool, int]],
) -> None:
    wrong = [one for one, _ in answers]
    curve = found(wrong, owners=[owner for _, owner in answers]).curve
    for n, point in enumerate(curve, start=1):
        counts = np.bincount([owner for _, owner in answers[:n]])
        parts = n**2 / np.sum(counts**2)
        assert point.error == pytest.approx(np.mean(wrong[:n]))
        bound = upper_share(point.error * parts, parts, confidence=CONFIDENCE)
        assert point.bound == pytest.approx(bound, abs=1e-9)


def test_a_warning_says_how_many_more_would_show_the_wished_rate() -> None:
    stated = found([False] * 30, shown=0.08)
    assert rate_warning(stated).endswith(
        "the package states 0.08; about 15 more pictures like these would show it"
    )
    assert stated.words.startswith("Of the answers given at most 8 % are wrong, with 90 %")
    none = found([True] * 5, shown=1.0)
    assert none.words.startswith(
        "No share of wrong answers could be shown with 90 % confidence: of"
    )
    nothing = rate_warning(none)
    assert nothing.startswith("no error rate among the answers could be shown with 90% confidence")
    assert nothing.endswith("may be wrong; more pictures alone would not show it, because too many"
                            " answers were wrong")  # fmt: skip


def test_many_cuts_on_the_same_answers_do_not_pass_by_luck() -> None:
    rng = np.random.default_rng(4)
    drawn = rng.random((60, 150)) < 0.05
    rates = [
        calibrated_cut(-np.arange(150.0), wrong, owners=range(150), rate=0.05).rate
        for wrong in drawn
    ]
    single = [
        any(is_below(0.05, wrong=wrong[:n].sum(), n=n, confidence=0.9) for n in range(45, 151))
        for wrong in drawn
    ]
    assert np.mean(np.array(rates) == 0.05) <= 0.1 < np.mean(single)
