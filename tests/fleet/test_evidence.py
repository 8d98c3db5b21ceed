import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError
from lineside.fleet import Evidence
from lineside.fleet.evidence import LiveLimits, Verdict, judge_evidence, rate_fortune, score_fortune

LIMITS = LiveLimits()
QUIET = Evidence(
    device="edge-1", inspection="surface", frames=500, changed=10, rejects_old=40, rejects_gained=4,
    rejects_lost=3, unsure_old=20, unsure_gained=5, score_sum=2.0, score_squares=5.0,
    latency_ms_old=10.0, latency_ms_new=11.0, verdicts=500, verdict_rejects_old=40,
    verdict_rejects_new=41,
)  # fmt: skip


def verdict(*found: Evidence, devices: int = 1) -> Verdict:
    return judge_evidence(found, LIMITS, devices=devices).verdict


def test_a_release_within_its_tolerances_goes_on() -> None:
    assert verdict(QUIET) is Verdict.GO_ON


def test_without_enough_frames_on_every_device_it_waits() -> None:
    assert verdict() is Verdict.WAIT
    assert verdict(QUIET, replace(QUIET, device="edge-2", frames=199, verdicts=199)) is Verdict.WAIT


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"changed": 150}, "150 of 500 frames (30.0%) decide otherwise, 10.0% may"),
        ({"rejects_gained": 120}, "120 of 500 frames (24.0%) have new findings, 5.0% may"),
        ({"rejects_lost": 120}, "lose findings"),
        ({"unsure_gained": 120}, "are newly unsure"),
        ({"score_sum": 250.0, "score_squares": 150.0}, "scores moved by +0.500 on average"),
        ({"score_sum": -250.0, "score_squares": 150.0}, "scores moved by -0.500 on average"),
        ({"latency_ms_new": 21.0}, "answers take 21.0 ms instead of 10.0 ms"),
        ({"crashes": 1}, "1 crashes since it runs, 0 are allowed"),
        ({"latency_p95_ms": 51.0}, "the latency's p95 is 51.0 ms, 50 ms is allowed"),
        ({"latency_ms_new": 50.5, "latency_ms_old": 49.0}, "the latency's p95 is 50.5 ms"),
        ({"verdict_rejects_new": 0}, "0 of 500 frames (0.0%) are"),
        (
            {"verdicts": 400, "verdict_rejects_new": 150},
            "150 of 400 frames (37.5%) are rejected, 4.0% to 12.0% may",
        ),
    ],
)
def test_each_figure_takes_a_release_back_with_its_sentence(
    change: dict[str, float], words: str
) -> None:
    changed = {**change}
    if "rejects_gained" in change or "rejects_lost" in change or "unsure_gained" in change:
        changed["changed"] = 120
    limits = replace(LIMITS, latency_p95_ms=50.0, rejects_least=0.04, rejects_most=0.12)
    found = judge_evidence([replace(QUIET, **changed)], limits, devices=3)  # type: ignore[arg-type]
    assert found.verdict is Verdict.GO_BACK
    assert any(words in reason for reason in found.reasons)


def test_the_band_of_rejects_needs_verdicts_and_counts_no_findings() -> None:
    limits = LiveLimits(rejects_least=0.04, rejects_lost=0.9, changed=0.9)
    alone = Evidence(device="d", inspection="i", frames=500)
    older = replace(
        alone, latency_ms_old=1.0, latency_ms_new=1.0, changed=400, rejects_old=500,
        rejects_lost=400,
    )  # fmt: skip
    # {dent, scratch} became {dent}: something is found no longer, and the part is rejected still.
    still = replace(older, rejects_lost=440, verdicts=500, verdict_rejects_new=500)
    for found in (alone, older, still):
        assert judge_evidence([found], limits, devices=1).verdict is Verdict.GO_ON
    beside = replace(older, verdicts=500)
    assert judge_evidence([beside], limits, devices=1).verdict is Verdict.GO_BACK


@pytest.mark.parametrize(
    "figures",
    [{"verdicts": 6}, {"verdicts": 3, "verdict_rejects_new": 4}, {"verdict_rejects_old": 1}],
)
def test_verdicts_that_no_frames_can_give_are_refused(figures: dict[str, int]) -> None:
    with pytest.raises(InvalidError, match="no frames can give"):
        Evidence(device="d", inspection="i", frames=5, **figures)


def test_the_guard_says_what_takes_a_release_back_and_when_a_share_counts() -> None:
    limits = LiveLimits(rejects_least=0.008, rejects_most=0.022, latency_p95_ms=50.0)
    start = "Goes back by itself if rejects leave 0.8-2.2 %, p95 > 50 ms, "
    assert limits.sentence.startswith(start)
    assert (
        "scores move by more than 0.1 or it crashes. Shares and scores of a few" in limits.sentence
    )
    assert limits.sentence.endswith("(false alarms in at most 0.1 % of rollouts).")
    assert "rejects leave" not in LIMITS.sentence


def test_every_fault_of_the_limits_is_told_with_its_key() -> None:
    with pytest.raises(InvalidError) as caught:
        LiveLimits(frames=0, rejects_least=0.3, rejects_most=0.2, latency_p95_ms=-1.0)
    assert [one.path for one in caught.value.faults] == ["rejects_most", "frames", "latency_p95_ms"]


def test_a_bad_release_is_found_within_few_frames() -> None:
    bad = Evidence(device="d", inspection="i", frames=30, changed=24, rejects_gained=24)
    assert verdict(bad, devices=40) is Verdict.GO_BACK


def test_looking_after_every_frame_alarms_no_more_often_than_promised() -> None:
    rng = np.random.default_rng(5)
    needed, alarms, runs = math.log(1 / 0.05), 0, 150
    for _ in range(runs):
        happened = np.cumsum(rng.random(200) < 0.05)
        alarms += any(
            rate_fortune(int(count), frames=place + 1, tolerance=0.05) >= needed
            for place, count in enumerate(happened)
        )
    assert alarms / runs <= 0.05


def test_scores_at_their_tolerance_alarm_no_more_often_than_promised() -> None:
    rng = np.random.default_rng(6)
    needed, alarms, runs = math.log(1 / 0.05), 0, 150
    for _ in range(runs):
        steps = 0.1 + rng.uniform(-0.6, 0.6, 200)
        totals, squares = np.cumsum(steps), np.cumsum(steps**2)
        alarms += any(
            score_fortune(float(t), squares=float(s), frames=n + 1, tolerance=0.1) >= needed
            for n, (t, s) in enumerate(zip(totals, squares, strict=True))
        )
    assert alarms / runs <= 0.05


@given(st.integers(0, 400), st.integers(1, 400), st.floats(0.01, 0.9))
def test_a_share_within_its_tolerance_never_wins(count: int, frames: int, share: float) -> None:
    happened = min(count, int(frames * share))
    assert rate_fortune(happened, frames=frames, tolerance=share) <= 0.7


@given(st.integers(1, 300), st.floats(0.02, 0.5))
def test_what_happens_more_often_never_speaks_less_for_it(frames: int, share: float) -> None:
    grown = [rate_fortune(k, frames=frames, tolerance=share) for k in range(frames + 1)]
    assert all(later >= sooner for sooner, later in pairwise(grown))


def test_wrong_figures_get_a_sentence() -> None:
    with pytest.raises(InvalidError, match="5 of 4 frames"):
        rate_fortune(5, frames=4, tolerance=0.1)
    with pytest.raises(InvalidError, match="a share above 0 and below 1"):
        LiveLimits(changed=1.0)
    with pytest.raises(InvalidError, match="from 1 to 100000"):
        LiveLimits(frames=0)
