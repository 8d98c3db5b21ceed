"""Upper bound of the error among the answers given, on numbers drawn here."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import encode
from lineside.models.result import ErrorBound, report_result
from lineside.training.common.methods import error_bound
from lineside.vision.metrics import is_below, upper_share


def found(wrong: list[bool], *, owners: list[int] | None = None) -> ErrorBound:
    """Of answers that were all given, the surest first."""
    n = len(wrong)
    return error_bound(
        np.linspace(0.99, 0.6, n),
        np.array(wrong),
        answered=np.ones(n, bool),
        owners=owners or list(range(n)),
        target=0.05,
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


def test_where_nothing_is_answered_that_is_said() -> None:
    none = error_bound(
        np.full(9, 0.5), np.zeros(9, bool), answered=np.zeros(9, bool), owners=list("abcdefghi"),
        target=0.05,
    )  # fmt: skip
    assert none.bound == 1.0
    assert none.words == "None of 9 pictures it had not seen was answered: all are unsure."
