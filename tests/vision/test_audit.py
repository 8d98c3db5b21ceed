"""Figures of a random audit: mid-P intervals, strata of different shares, agreement."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError
from lineside.vision.audit import AuditStratum, agreement, audit_figures
from lineside.vision.metrics import mid_p


def chance_of_fewer(k: int, n: int, share: float) -> float:
    """Of fewer than ``k``, and half of that of ``k``, summed term by term."""
    terms = [comb(n, i) * share**i * (1.0 - share) ** (n - i) for i in range(k + 1)]
    return sum(terms) - terms[-1] / 2


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_limits_are_the_shares_at_which_half_the_tail_is_left(counted: tuple[int, int]) -> None:
    k, n = counted
    found = mid_p(k, n)
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    if k:
        assert 1.0 - chance_of_fewer(k, n, found.low) == pytest.approx(0.025, abs=1e-6)
    if k < n:
        assert chance_of_fewer(k, n, found.high) == pytest.approx(0.025, abs=1e-6)
    other = mid_p(n - k, n)
    assert (1.0 - other.high, 1.0 - other.low) == pytest.approx((found.low, found.high), abs=1e-9)


def test_nothing_found_in_214_parts_still_leaves_1_4_percent() -> None:
    none = mid_p(0, 214)
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(0.0139, abs=5e-5)
    assert mid_p(0, 0).n == 0
    with pytest.raises(InvalidError, match="3 of 2"):
        mid_p(3, 2)


def test_rates_have_both_denominators_and_weigh_the_strata_by_their_shares() -> None:
    found = audit_figures(
        passed=AuditStratum(good=990, bad=10, parts=100_000),
        rejected=AuditStratum(good=20, bad=180, parts=2_000),
    )
    assert found.escape is not None
    assert (found.escape.value, found.escape.n) == (0.01, 1000)
    assert found.false_reject is not None
    assert (found.false_reject.value, found.false_reject.n) == (0.1, 200)
    # 1,000 bad parts pass and 1,800 are rejected; 99,000 good ones pass and 200 are rejected.
    assert found.missed is not None
    assert found.missed.value == pytest.approx(1_000 / 2_800)
    assert found.missed.low < found.missed.value < found.missed.high
    assert found.over_reject is not None
    assert found.over_reject.value == pytest.approx(200 / 99_200)


def test_a_figure_without_a_part_to_rest_on_is_none() -> None:
    passed = audit_figures(
        passed=AuditStratum(good=95, bad=5, parts=10_000), rejected=AuditStratum()
    )
    assert (passed.false_reject, passed.missed, passed.over_reject) == (None, None, None)
    assert passed.escape is not None
    rejected = audit_figures(passed=AuditStratum(), rejected=AuditStratum(good=1, bad=9, parts=10))
    assert (rejected.escape, rejected.missed, rejected.over_reject) == (None, None, None)
    assert rejected.false_reject is not None
    good = AuditStratum(good=5, parts=5)
    assert audit_figures(passed=good, rejected=good).missed is None


@pytest.mark.slow
def test_the_stated_interval_holds_the_truth_of_a_thousand_lines() -> None:
    """``benchmarks/audit.py`` does the same with ten thousand, and with small audits."""
    rng = np.random.default_rng(1)
    held = dict.fromkeys(("escape", "false_reject", "missed", "over_reject"), 0)
    for _ in range(1_000):
        bad, missed, over = np.exp(
            rng.uniform(np.log([0.01, 0.02, 0.002]), np.log([0.1, 0.2, 0.05]))
        )
        shares = np.exp(rng.uniform(np.log([0.02, 0.05]), np.log([0.2, 1.0])))
        passed = np.array([(1 - bad) * (1 - over), bad * missed])
        rejected = np.array([(1 - bad) * over, bad * (1 - missed)])
        counts = rng.multinomial(int(rng.integers(10_000, 200_000)), [*passed, *rejected])
        good_p, bad_p, good_r, bad_r = map(int, rng.binomial(counts, np.repeat(shares, 2)))
        found = audit_figures(
            passed=AuditStratum(good=good_p, bad=bad_p, parts=(good_p + bad_p) / shares[0]),
            rejected=AuditStratum(good=good_r, bad=bad_r, parts=(good_r + bad_r) / shares[1]),
        )
        truths = (passed[1] / passed.sum(), rejected[0] / rejected.sum(), missed, over)
        for name, truth in zip(held, truths, strict=True):
            stated = getattr(found, name)
            held[name] += stated.low <= truth <= stated.high
    assert all(930 <= count <= 970 for count in held.values()), held


def test_agreement_is_a_share_and_kappa() -> None:
    # Cohen 1960: 20 of 50 both yes, 15 both no, 5 and 10 apart; kappa is 0.4.
    both = [("yes", "yes")] * 20 + [("no", "no")] * 15
    found = agreement([*both, *[("yes", "no")] * 5, *[("no", "yes")] * 10])
    assert found is not None
    assert (found.share.value, found.share.n) == (0.7, 50)
    assert found.kappa == pytest.approx(0.4)
    alike = agreement([("ok", "ok")] * 3)
    assert alike is not None
    assert (alike.share.value, alike.kappa) == (1.0, None)
    assert agreement([]) is None
