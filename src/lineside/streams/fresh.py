"""Whether a record is young enough to act on: by capture time, never by arrival.

A record of exactly ``max_age_s`` is still taken; one from the future is taken up to
``max_skew_s``, which is the difference of clocks a site allows.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from lineside.core import rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """Take it. ``age_s`` is negative for a time within the allowed skew ahead."""

    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFresh:
    """Leave it, count it under ``reason`` and say ``sentence``."""

    age_s: float
    reason: Literal["too old", "from the future"]
    sentence: str


def freshness(
    captured_at: datetime, now: datetime, *, max_age_s: float, max_skew_s: float
) -> Fresh | NotFresh:
    """Compare a capture time with now; both are aware."""
    age = now - captured_at
    age_s = age.total_seconds()
    # Compared as durations: 60.0 s as a float sum may come out a hair above 60.
    if age > timedelta(seconds=max_age_s):
        sentence = f"captured {age_s:.1f} s ago at {rfc3339(captured_at)}, limit {max_age_s:g} s"
        return NotFresh(age_s=age_s, reason="too old", sentence=sentence)
    if -age > timedelta(seconds=max_skew_s):
        sentence = f"captured {-age_s:.1f} s in the future at {rfc3339(captured_at)}, limit "
        sentence += f"{max_skew_s:g} s; set the sender's clock"
        return NotFresh(age_s=age_s, reason="from the future", sentence=sentence)
    return Fresh(age_s=age_s)
