"""Roll-out rate, abort criteria and retries of a job. Pure.

1. A minute begins when the first thing is told in it; within a minute at most the rate is told.
2. The exponential rate is fixed when a minute begins: base x factor^k, k = things counted / n,
   and never above ``maximumPerMinute``.
3. Executed things are those whose last try ended as SUCCEEDED, FAILED, REJECTED or TIMED_OUT; a
   thing that tries again is not executed yet. (That the percentage is of these is deduced.)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from lineside.fleet.contract import ExecutionStatus
from lineside.fleet.jobs.executions import Run
from lineside.fleet.jobs.settings import Abort, AbortCriterion, Retry, Rollout, Schedule, open_since

MINUTE = timedelta(minutes=1)
_EXECUTED = ("SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT")
_FAILURES = ("FAILED", "REJECTED", "TIMED_OUT")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCounters:
    """Counts of a job's executions by status, and how far its roll-out is.

    Attributes:
        counts: things by the state of their last try.
        waiting: things that were not told yet.
        notified: things told so far.
        minute_at, minute_rate, minute_used: of the minute under way.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0
    notified: int = 0
    minute_at: datetime | None = None
    minute_rate: int = 0
    minute_used: int = 0

    def count(self, status: str) -> int:
        """Things in this state."""
        return self.counts.get(status, 0)

    @property
    def pending(self) -> int:
        """Things that have still to do something."""
        return self.count("QUEUED") + self.count("IN_PROGRESS")

    def shifted(
        self, before: ExecutionStatus | None, after: ExecutionStatus | None
    ) -> "JobCounters":
        """With a thing moved from one state to another; None: not among the job's things."""
        counts = dict(self.counts)
        if before is not None:
            counts[before.value] = counts.get(before.value, 0) - 1
        if after is not None:
            counts[after.value] = counts.get(after.value, 0) + 1
        return replace(self, counts={key: count for key, count in counts.items() if count})


def rate_of(rollout: Rollout, counters: JobCounters) -> int:
    """Things a minute, for a minute that begins now."""
    rising = rollout.exponential_rate
    if rising is None:
        return rollout.maximum_per_minute
    needed = rising.rate_increase_criteria
    if needed.number_of_notified_things is not None:
        raises = counters.notified // needed.number_of_notified_things
    else:
        raises = counters.count("SUCCEEDED") // (needed.number_of_succeeded_things or 1)
    rate, most = float(rising.base_rate_per_minute), rollout.maximum_per_minute
    for _ in range(raises):
        if rate >= most:
            break
        rate *= rising.increment_factor
    return max(1, min(most, int(rate)))


def in_minute(rollout: Rollout, counters: JobCounters, *, now: datetime) -> JobCounters:
    """The tally in the minute that is under way, a new one where the last is over."""
    if counters.minute_at is not None and now < counters.minute_at + MINUTE:
        return counters
    return replace(counters, minute_at=now, minute_rate=rate_of(rollout, counters), minute_used=0)


def count_notified(counters: JobCounters, count: int) -> JobCounters:
    """After so many more things were told."""
    return replace(
        counters,
        waiting=counters.waiting - count,
        notified=counters.notified + count,
        minute_used=counters.minute_used + count,
    )


def is_open(schedule: Schedule, *, now: datetime) -> bool:
    """Return whether a roll-out may go on now: inside a maintenance window, if there are any."""
    windows = schedule.maintenance_windows
    return not windows or any(
        open_since(window.cron, minutes=window.duration_in_minutes, now=now) for window in windows
    )


def tries_again(retry: Retry, run: Run) -> bool:
    """Return whether this failed try is followed by another."""
    for one in retry.criteria_list:
        if one.failure_type == "ALL" and run.status.value in ("FAILED", "TIMED_OUT"):
            return run.attempts < one.number_of_retries
        if one.failure_type == run.status.value:
            return run.retries.get(run.status.value, 0) < one.number_of_retries
    return False


def abort_reason(abort: Abort, counters: JobCounters) -> str:
    """The sentence of the first criterion that is met; empty: none is."""
    executed = sum(counters.count(name) for name in _EXECUTED)
    for one in abort.criteria_list:
        failed = _failed(one, counters)
        enough = executed >= one.min_number_of_executed_things
        if enough and failed and 100 * failed >= one.threshold_percentage * executed:
            return (
                f"{failed} of {executed} executed things {_named(one)}, "
                f"at least {one.threshold_percentage:g} %"
            )
    return ""


def _named(criterion: AbortCriterion) -> str:
    every = criterion.failure_type == "ALL"
    return "FAILED, REJECTED or TIMED_OUT" if every else criterion.failure_type


def _failed(criterion: AbortCriterion, counters: JobCounters) -> int:
    kinds = _FAILURES if criterion.failure_type == "ALL" else (criterion.failure_type,)
    return sum(counters.count(name) for name in kinds)
