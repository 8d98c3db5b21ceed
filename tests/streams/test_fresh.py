"""The rule of freshness: by capture time, with its two edges."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.streams import NotFresh, freshness
from lineside.streams.event import Fresh
from lineside.testing.clock import NOON


@pytest.mark.parametrize(
    ("age_s", "reason"),
    [
        (0.0, ""),
        (59.999, ""),
        (60.0, ""),
        (60.001, "too old"),
        (60.1, "too old"),
        (86_400.0, "too old"),
        (-5.0, ""),
        (-5.001, "from the future"),
        (-3600.0, "from the future"),
    ],
)
def test_sixty_seconds_run_and_a_hair_more_does_not(age_s: float, reason: str) -> None:
    captured = NOON - timedelta(seconds=age_s)
    answer = freshness(captured, NOON, max_age_s=60.0, max_skew_s=5.0)
    match answer:
        case Fresh():
            assert reason == ""
        case NotFresh():
            assert answer.reason == reason
    assert answer.age_s == pytest.approx(age_s, abs=1e-6)


def test_a_refusal_says_age_and_limit() -> None:
    old = freshness(NOON - timedelta(seconds=75), NOON, max_age_s=60, max_skew_s=5)
    ahead = freshness(NOON + timedelta(seconds=9), NOON, max_age_s=60, max_skew_s=5)
    assert isinstance(old, NotFresh)
    assert isinstance(ahead, NotFresh)
    assert old.sentence == "captured 75.0 s ago at 2026-01-01T11:58:45.000Z, limit 60 s"
    assert "9.0 s in the future" in ahead.sentence
    assert "set the sender's clock" in ahead.sentence


@given(st.timedeltas(timedelta(days=-1), timedelta(days=1)))
def test_only_the_difference_counts_whatever_the_zone(age: timedelta) -> None:
    zone = NOON.astimezone().tzinfo
    here = freshness(NOON - age, NOON, max_age_s=60, max_skew_s=5)
    there = freshness((NOON - age).astimezone(zone), NOON, max_age_s=60, max_skew_s=5)
    assert here.age_s == there.age_s
    assert type(here) is type(there)
