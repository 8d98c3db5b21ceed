"""One job on one thing: its state, and every step it can take. Pure.

1. ``QUEUED`` and ``IN_PROGRESS`` are open; every other state is final and stays.
2. Each step raises the version by one.
3. The in-progress deadline is set when work begins and never moves; the step deadline is replaced
   by each new one; what comes first counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from lineside.fleet.contract import Execution, ExecutionStatus
from lineside.fleet.jobs.requests import CANCEL_STEP

OPEN = (ExecutionStatus.QUEUED, ExecutionStatus.IN_PROGRESS)
_ZERO = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Execution):
    """One execution as it is kept.

    Attributes:
        order: which job of the service it was, counted; breaks ties of ``queued_at``.
        timeout_minutes: of the job's in-progress timer; 0: none.
        due_at: when the in-progress timer ends.
        step_at: when the step timer ends.
        forced: cancelled while it was under way.
        retries: how often a try was made again, by the failure that it followed.
    """

    order: int
    status: ExecutionStatus = ExecutionStatus.QUEUED
    timeout_minutes: int = 0
    due_at: datetime | None = None
    step_at: datetime | None = None
    forced: bool = False
    retries: Mapping[str, int] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        """Return whether a device has still to do something."""
        return self.status in OPEN

    @property
    def deadline(self) -> datetime | None:
        """Return the time of its time-out; None: never."""
        if self.status is not ExecutionStatus.IN_PROGRESS:
            return None
        ends = [moment for moment in (self.due_at, self.step_at) if moment is not None]
        return min(ends, default=None)

    @property
    def id(self) -> str:
        """Its document: by thing, job and number."""
        return f"{self.thing}/{self.job_id}/{self.number:06d}"

    @property
    def place(self) -> str:
        """Of an open one, its place in the thing's list: in progress first, then by queue time."""
        rank = 0 if self.status is ExecutionStatus.IN_PROGRESS else 1
        return f"{self.thing}/{rank}/{micros(self.queued_at):017d}/{self.order:010d}/{self.number}"

    @property
    def attempts(self) -> int:
        """Return the number of retries before it."""
        return sum(self.retries.values())


def moved(run: Run, status: ExecutionStatus, *, now: datetime) -> Run:
    """In another state, or the same one told again."""
    begins = status is ExecutionStatus.IN_PROGRESS and run.started_at is None
    due_at = run.due_at
    if begins and run.timeout_minutes:
        due_at = now + timedelta(minutes=run.timeout_minutes)
    return replace(
        run,
        status=status,
        version=run.version + 1,
        last_updated_at=now,
        started_at=now if begins else run.started_at,
        due_at=due_at,
    )


def detailed(run: Run, details: Mapping[str, str] | None) -> Run:
    """With other details; None leaves them."""
    return run if details is None else replace(run, details=dict(details))


def stepped(run: Run, minutes: int | None, *, now: datetime) -> Run:
    """With a new step timer; None leaves the old one, -1 takes it away."""
    if minutes is None:
        return run
    if minutes == CANCEL_STEP:
        return replace(run, step_at=None)
    return replace(run, step_at=now + timedelta(minutes=minutes))


def again(run: Run, *, now: datetime, after: ExecutionStatus) -> Run:
    """The next try of a thing that failed."""
    retries = {**run.retries, after.value: run.retries.get(after.value, 0) + 1}
    return Run(
        job_id=run.job_id, thing=run.thing, number=run.number + 1, order=run.order,
        queued_at=now, last_updated_at=now, timeout_minutes=run.timeout_minutes, retries=retries,
    )  # fmt: skip


def execution_of(run: Run) -> Execution:
    """As the fleet's contract has it."""
    return Execution(**{name: getattr(run, name) for name in Execution.__dataclass_fields__})


def micros(moment: datetime) -> int:
    """Whole microseconds since 1970 UTC."""
    return (moment - _ZERO) // _MICROSECOND


def seconds(moment: datetime) -> int:
    """Whole seconds since 1970 UTC, as the wire has times."""
    return micros(moment) // 1_000_000


def moment_of(count: int) -> datetime:
    """The other way round."""
    return _ZERO + timedelta(microseconds=count)
