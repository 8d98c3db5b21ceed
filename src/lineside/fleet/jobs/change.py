"""One transaction on jobs and executions, and the messages to publish once it is stored.

1. ``notify`` is said of a thing when an execution entered or left its list of open ones,
   ``notify-next`` when the head of that list is another than before the change.
2. A job is completed when nobody waits and nobody has anything to do; it is aborted when one of
   its criteria is met.
3. Nothing is said before ``finish``, and whoever calls it says nothing before the commit.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from lineside.core import NotFoundError
from lineside.fleet.contract import ExecutionStatus, JobStatus
from lineside.fleet.jobs import wire
from lineside.fleet.jobs.executions import Run, again, moved
from lineside.fleet.jobs.repository import JobRepository, JobRow
from lineside.fleet.jobs.settings import (
    JobCounters,
    ObjectLinks,
    abort_reason,
    asks_for_links,
    tries_again,
    with_links,
)
from lineside.fleet.jobs.wire import ExecutionOperation, FullExecution, JobMessage, JobOperation

ABORTED = "ABORTED"
_ENDS: Mapping[ExecutionStatus, ExecutionOperation] = {
    ExecutionStatus.SUCCEEDED: "succeeded",
    ExecutionStatus.FAILED: "failed",
    ExecutionStatus.TIMED_OUT: "timed_out",
    ExecutionStatus.REJECTED: "rejected",
    ExecutionStatus.CANCELED: "canceled",
    ExecutionStatus.REMOVED: "removed",
}
_MAY_RETRY = (ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT)


class Change:
    """Made for one transaction, thrown away after it."""

    def __init__(
        self, repository: JobRepository, *, now: datetime, links: ObjectLinks | None
    ) -> None:
        self.repository = repository
        self.now = now
        self.stirred: set[str] = set()
        """Jobs that have more to do at once."""
        self.succeeded: list[Run] = []
        """Executions that ended well in this change."""
        self._links = links
        self._jobs: dict[str, tuple[JobRow, int]] = {}
        self._tallies: dict[str, tuple[JobCounters, int]] = {}
        self._dirty_jobs: set[str] = set()
        self._dirty_tallies: set[str] = set()
        self._versions: dict[str, int] = {}
        self._heads: dict[str, str] = {}
        self._relisted: dict[str, None] = {}
        self._settled: set[str] = set()
        self._events: list[JobMessage] = []

    # ---- jobs

    def job(self, job_id: str) -> JobRow:
        """``NotFoundError`` if there is none."""
        if job_id not in self._jobs:
            self._jobs[job_id] = self.repository.job(job_id)
        return self._jobs[job_id][0]

    def set_job(self, row: JobRow) -> None:
        """Keep a job in another state."""
        row = replace(row, last_updated_at=self.now)
        self.job(row.job_id)
        self._jobs[row.job_id] = (row, self._jobs[row.job_id][1])
        self._dirty_jobs.add(row.job_id)

    def counters(self, job_id: str) -> JobCounters:
        """The job's figures as they stand in this change."""
        if job_id not in self._tallies:
            self._tallies[job_id] = self.repository.counters(job_id)
        return self._tallies[job_id][0]

    def set_counters(self, job_id: str, counters: JobCounters) -> None:
        """Keep other figures."""
        if counters == self.counters(job_id):
            return
        self._tallies[job_id] = (counters, self._tallies[job_id][1])
        self._dirty_tallies.add(job_id)

    def document(self, row: JobRow) -> Mapping[str, Any]:
        """The job's document as a device gets it."""
        if self._links is None or not asks_for_links(row.document):
            return row.document
        seconds = row.plan.presigned_url_config.expires_in_sec
        found: dict[str, Any] = with_links(row.document, self._links, seconds=seconds)
        return found

    def cancel(self, row: JobRow, *, forced: bool, code: str, comment: str) -> None:
        """Cancel a job; its executions follow, chunk by chunk."""
        row = replace(
            row, status=JobStatus.CANCELED, forced=forced, sweeping=True, reason_code=code,
            comment=comment,
        )  # fmt: skip
        self.set_job(row)
        self.repository.put_active(row.job_id, next_at=self.now)
        self.stirred.add(row.job_id)
        self.tell_job(row.job_id, "cancellation_in_progress")

    def settle(self, job_id: str) -> None:
        """Look, when the change ends, whether the job is over."""
        self._settled.add(job_id)

    def tell_job(self, job_id: str, operation: JobOperation) -> None:
        """An event of a job."""
        row, counters = self.job(job_id), self.counters(job_id)
        self._events.append(wire.job_event(row, counters, operation=operation, now=self.now))

    # ---- executions

    def run(self, thing: str, job_id: str, *, number: int | None = None) -> Run:
        """An execution, to be stepped in this change; the latest without a number."""
        run, version = self.repository.run(thing, job_id, number=number)
        self._versions[run.id] = version
        return run

    def head(self, thing: str) -> Run | None:
        """The next one of a thing."""
        run_id = self.repository.head(thing)
        if not run_id:
            return None
        run, self._versions[run_id] = self.repository.named(run_id)
        return run

    def begin(self, row: JobRow, thing: str) -> None:
        """Queue the job for a thing; once more, where it had it and lost it."""
        number, was = 1, None
        try:
            last, _ = self.repository.run(thing, row.job_id)
        except NotFoundError:
            pass
        else:
            number, was = last.number + 1, last.status
        minutes = row.plan.timeout_config.in_progress_timeout_in_minutes or 0
        run = Run(
            job_id=row.job_id, thing=thing, number=number, order=row.order, queued_at=self.now,
            last_updated_at=self.now, timeout_minutes=minutes,
        )  # fmt: skip
        self._enter(run, instead_of=was)

    def step(self, before: Run, after: Run) -> None:
        """An execution taken one step on."""
        if before.status is not after.status:
            self._touch(before.thing)
        self.repository.put_run(after, before=before, expect=self._versions[before.id])
        self._versions[after.id] += 1
        if before.status is after.status:
            return
        self._shift(after.job_id, before=before.status, after=after.status)
        if after.status is ExecutionStatus.SUCCEEDED:
            self.succeeded.append(after)
        if not after.open:
            self._end(after)

    def expire(self, run: Run) -> None:
        """Its time is up."""
        fresh = self.run(run.thing, run.job_id, number=run.number)
        if fresh.deadline is not None and fresh.deadline <= self.now:
            self.step(fresh, moved(fresh, ExecutionStatus.TIMED_OUT, now=self.now))

    def forget(self, run: Run) -> None:
        """Delete an execution."""
        self._touch(run.thing)
        last, _ = self.repository.run(run.thing, run.job_id)
        self.repository.forget_run(run)
        if run.open:
            self._relisted[run.thing] = None
        if last.number != run.number:
            return
        try:
            earlier: ExecutionStatus | None = self.repository.run(run.thing, run.job_id)[0].status
        except NotFoundError:
            earlier = None
        self._shift(run.job_id, before=run.status, after=earlier)
        self._settled.add(run.job_id)

    def tell_run(self, run: Run, operation: ExecutionOperation) -> None:
        """An event of an execution."""
        self._events.append(wire.execution_event(run, operation=operation, now=self.now))

    # ---- the end

    def finish(self) -> list[JobMessage]:
        """Write what is left; what is to be said after the commit."""
        for job_id in sorted(self._settled):
            self._decide(job_id)
        for job_id in sorted(self._dirty_jobs):
            row, version = self._jobs[job_id]
            self.repository.put_job(row, expect=version)
        for job_id in sorted(self._dirty_tallies):
            counters, version = self._tallies[job_id]
            self.repository.put_counters(job_id, counters, expect=version)
        notices = [one for thing in self._heads for one in self._notices(thing)]
        return [*notices, *self._events]

    def gone(self, job_id: str) -> None:
        """A job that was deleted is not written any more."""
        for jobs in (self._dirty_jobs, self._dirty_tallies, self._settled, self.stirred):
            jobs.discard(job_id)

    def _decide(self, job_id: str) -> None:
        row, counters = self.job(job_id), self.counters(job_id)
        if row.status is not JobStatus.IN_PROGRESS:
            return
        if reason := abort_reason(row.plan.abort_config, counters):
            self.cancel(row, forced=False, code=ABORTED, comment=reason)
        elif (row.stopped or not row.continuous) and not counters.waiting and not counters.pending:
            self.set_job(replace(row, status=JobStatus.COMPLETED, completed_at=self.now))
            self.repository.drop_active(job_id)
            self.tell_job(job_id, "completed")

    def _end(self, run: Run) -> None:
        """An execution came to its end."""
        self._relisted[run.thing] = None
        self._settled.add(run.job_id)
        self.tell_run(run, _ENDS[run.status])
        if run.status in _MAY_RETRY:
            row = self.job(run.job_id)
            running = row.status is JobStatus.IN_PROGRESS
            if running and tries_again(row.plan.job_executions_retry_config, run):
                self._enter(again(run, now=self.now, after=run.status), instead_of=run.status)

    def _enter(self, run: Run, *, instead_of: ExecutionStatus | None) -> None:
        self._touch(run.thing)
        self.repository.put_run(run, before=None, expect=0)
        self._versions[run.id] = 1
        self._relisted[run.thing] = None
        self._shift(run.job_id, before=instead_of, after=run.status)

    def _shift(
        self, job_id: str, *, before: ExecutionStatus | None, after: ExecutionStatus | None
    ) -> None:
        self.set_counters(job_id, self.counters(job_id).shifted(before, after))

    def _touch(self, thing: str) -> None:
        if thing not in self._heads:
            self._heads[thing] = self.repository.head(thing)

    def _notices(self, thing: str) -> list[JobMessage]:
        notices: list[JobMessage] = []
        if thing in self._relisted:
            runs = self.repository.pending(thing, limit=wire.MOST_NOTIFIED)
            notices.append(wire.notify(thing, runs, now=self.now))
        if self.repository.head(thing) == self._heads[thing]:
            return notices
        head = self.head(thing)
        shown = None if head is None else self.shown(head)
        return [*notices, wire.notify_next(thing, shown, now=self.now)]

    def shown(self, run: Run) -> FullExecution:
        """An execution in full, with its document."""
        return wire.execution(run, self.document(self.job(run.job_id)))
