"""A clock that stands still until the test moves it."""

from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


class FakeClock:
    """Time of day and monotonic count, both moved by ``advance`` only."""

    def __init__(self, start: datetime = NOON) -> None:
        self._now = start
        self._monotonic_s = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Move both forward."""
        self._now += timedelta(seconds=seconds)
        self._monotonic_s += seconds
