"""The job service over records: what devices ask, what operators order, what time brings.

1. Every call is one transaction, or a row of them that the next ``due`` goes on with when the
   process ends in between; asking twice does nothing twice.
2. What is to be said is handed out after the commit only, in the order of the commits: whoever
   calls ``answers`` holds ``turn`` until it has said them; all else goes to ``deliver``, which is
   called under it. Long work lets others in between its steps.
3. No thread, no socket, no clock but the one handed in.
4. A thing that asks too often is refused before its request is read; operators and what time
   brings are not.

The rate limit of each thing, so that one that misbehaves does not slow the others:

5. A thing has an allowance of requests that refills evenly: ``burst`` at once, ``per_s`` a second
   for ever. What goes beyond is refused (``RequestThrottled``), and changes nothing.
6. Refusals have an allowance too, a tenth as large: what goes beyond that is passed over without an
   answer, so that a flood does not become one of answers. It is counted.
7. Things are remembered up to ``most_things``; the one that was silent longest is forgotten, and
   has its whole allowance when it asks again. What is no name of a thing shares one allowance.

Sources: AWS IoT developer guide, "ErrorResponse" (``RequestThrottled``); AWS limits an account
(200 requests a second of each kind) and not a thing; the figures here are our own.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain
from typing import Any, TypeVar, assert_never

from lineside.core import (
    Clock,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from lineside.core.errors import retry_stale
from lineside.fleet.contract import Execution, ExecutionStatus, Job, JobStatus, NewJob
from lineside.fleet.jobs import wire
from lineside.fleet.jobs.change import Change
from lineside.fleet.jobs.executions import Run, detailed, execution_of, moved, stepped
from lineside.fleet.jobs.repository import (
    CHUNK,
    JobRepository,
    JobRow,
    ThingDirectory,
    job_of,
)
from lineside.fleet.jobs.requests import (
    NEXT,
    Code,
    Describe,
    GetPending,
    JobRejectedError,
    JobRequest,
    JobTransitionError,
    JobVersionError,
    Place,
    StartNext,
    Update,
    check_job_id,
    check_reason,
    check_text,
    is_name,
    place_of,
    read_details,
    read_request,
    read_token,
    target_of,
)
from lineside.fleet.jobs.rollout import advance, make, new_row, target_names, things_of
from lineside.fleet.jobs.settings import JobCounters, ObjectLinks
from lineside.fleet.jobs.wire import JobMessage
from lineside.store import Records

_SHARE = 0.1
_WARN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """Limits on the requests of one thing.

    Attributes:
        per_s: requests of one thing a second, in the long run.
        burst: requests of one thing at once.
        most_things: how many are remembered.
    """

    per_s: float = 10.0
    burst: int = 100
    most_things: int = 20_000


class Passage(StrEnum):
    """Outcome of a request: served, refused with an answer, or ignored."""

    SERVED = "served"
    REFUSED = "refused"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Remaining allowance of a thing.

    Attributes:
        requests: 0 to ``burst``.
        refusals: 0 to a tenth of it.
        at_s: of the monotonic clock, when it was counted.
    """

    requests: float
    refusals: float
    at_s: float


def full_allowance(limits: RateLimits, *, now_s: float) -> Allowance:
    """Of a thing that did not ask lately."""
    return Allowance(requests=limits.burst, refusals=max(1.0, _SHARE * limits.burst), at_s=now_s)


def spend(left: Allowance, limits: RateLimits, *, now_s: float) -> tuple[Passage, Allowance]:
    """Return the outcome of one more request and the allowance after it."""
    most, since_s = full_allowance(limits, now_s=now_s), max(0.0, now_s - left.at_s)
    left = Allowance(
        requests=min(most.requests, left.requests + limits.per_s * since_s),
        refusals=min(most.refusals, left.refusals + _SHARE * limits.per_s * since_s),
        at_s=max(now_s, left.at_s),
    )
    if left.requests >= 1:
        return Passage.SERVED, replace(left, requests=left.requests - 1)
    if left.refusals >= 1:
        return Passage.REFUSED, replace(left, refusals=left.refusals - 1)
    return Passage.IGNORED, left


class Throttle:
    """Every thing's allowance; safe from several threads."""

    def __init__(self, limits: RateLimits, *, clock: Clock) -> None:
        """Nobody has asked yet."""
        self.limits = limits
        self.refused = 0
        self.ignored = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._left: OrderedDict[str, Allowance] = OrderedDict()
        self._warned_s: float | None = None

    def take(self, thing: str) -> Passage:
        """Count a request of this thing."""
        now_s, thing = self._clock.monotonic(), thing if is_name(thing) else ""
        with self._lock:
            left = self._left.pop(thing, None) or full_allowance(self.limits, now_s=now_s)
            passage, self._left[thing] = spend(left, self.limits, now_s=now_s)
            while len(self._left) > self.limits.most_things:
                self._left.popitem(last=False)
            self.refused += passage is Passage.REFUSED
            self.ignored += passage is Passage.IGNORED
            if passage is not Passage.SERVED:
                self._warn(thing, now_s=now_s)
        return passage

    def _warn(self, thing: str, *, now_s: float) -> None:
        if self._warned_s is None or now_s - self._warned_s >= _WARN_S:
            self._warned_s = now_s
            logger.warning(
                "a thing asks for jobs too often thing=%s refused=%d ignored=%d",
                thing, self.refused, self.ignored,
            )  # fmt: skip


_MOST_LISTED = 1_000

AnswerBody = wire.ListBody | wire.ExecutionBody | wire.UpdateBody


def carry_out(change: Change, request: JobRequest, *, directory: ThingDirectory) -> AnswerBody:
    """The body of the answer.

    Raises:
        JobRejectedError: with the code of the contract and the client's token.
    """
    if not directory.has(request.thing):
        raise JobRejectedError(
            Code.RESOURCE_NOT_FOUND, f"no thing {request.thing!r}", token=request.token
        )
    try:
        match request.request:
            case GetPending():
                return wire.pending_lists(
                    change.repository.pending(request.thing, limit=_MOST_LISTED)
                )
            case StartNext():
                return _start_next(change, request.thing, request=request.request)
            case Describe():
                return _describe(change, request.thing, request=request.request)
            case Update():
                return _update(change, request.thing, request=request.request)
            case _:
                assert_never(request.request)
    except NotFoundError as error:
        raise JobRejectedError(
            Code.RESOURCE_NOT_FOUND, error.message, token=request.token
        ) from error
    except JobRejectedError as error:
        raise JobRejectedError(
            error.code, error.message, token=request.token, state=error.state
        ) from error


def _start_next(change: Change, thing: str, *, request: StartNext) -> wire.ExecutionBody:
    run = change.head(thing)
    if run is None:
        return {}
    if run.status is ExecutionStatus.QUEUED:
        begun = moved(run, ExecutionStatus.IN_PROGRESS, now=change.now)
        begun = stepped(detailed(begun, request.details), request.step_minutes, now=change.now)
        change.step(run, begun)
        run = begun
    return {"execution": change.shown(run)}


def _describe(change: Change, thing: str, *, request: Describe) -> wire.ExecutionBody:
    if request.job_id == NEXT:
        run = change.head(thing)
        if run is None:
            return {}
    else:
        run = change.run(thing, request.job_id, number=request.number)
    if not run.open:
        raise JobRejectedError(
            Code.TERMINAL_STATE_REACHED, f"the execution is over: {run.status.value}"
        )
    document = change.document(change.job(run.job_id)) if request.with_document else None
    return {"execution": wire.execution(run, document)}


def _update(change: Change, thing: str, *, request: Update) -> wire.UpdateBody:
    run = change.run(thing, request.job_id, number=request.number)
    _check(run, request)
    after = detailed(moved(run, request.status, now=change.now), request.details)
    if after.open:
        after = stepped(after, request.step_minutes, now=change.now)
    body: wire.UpdateBody = {}
    if request.with_document:
        body["jobDocument"] = change.document(change.job(run.job_id))
    change.step(run, after)
    if request.with_state:
        body["executionState"] = wire.state(after)
    return body


def _check(run: Run, request: Update) -> None:
    if request.expected_version is not None and request.expected_version != run.version:
        raise JobRejectedError(
            Code.VERSION_MISMATCH,
            f"the execution is at version {run.version}, not {request.expected_version}",
            state=wire.state(run),
        )
    if not run.open:
        raise JobRejectedError(
            Code.INVALID_STATE_TRANSITION,
            f"{run.status.value} is final; it does not become {request.status.value}",
            state=wire.state(run),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """Part of a list; ``following`` is where the next part begins, empty at the end."""

    items: tuple[Any, ...]
    following: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery:
    """Filter and page of a list."""

    limit: int = 250
    after: str = ""
    status: str = ""
    selection: str = ""
    target: str = ""


def page_of(rows: Iterator[tuple[str, Any]], wanted: JobQuery) -> JobPage:
    """The first rows that fit the page."""
    items: list[Any] = []
    last = ""
    for place, row in rows:
        if len(items) == wanted.limit:
            return JobPage(items=tuple(items), following=last)
        items.append(row)
        last = place
    return JobPage(items=tuple(items), following="")


def fits_job(row: JobRow, wanted: JobQuery) -> bool:
    """Return whether a job passes the filter."""
    selection = "CONTINUOUS" if row.continuous else "SNAPSHOT"
    return (
        wanted.status in ("", row.status.value)
        and wanted.selection in ("", selection)
        and (not wanted.target or wanted.target in row.targets)
    )


def fits_run(run: Run, wanted: JobQuery) -> bool:
    """Return whether an execution passes the filter; ``target`` is its job."""
    return wanted.status in ("", run.status.value) and wanted.target in ("", run.job_id)


logger = logging.getLogger(__name__)

T = TypeVar("T")
Deliver = Callable[[Sequence[JobMessage]], None]
Succeeded = Callable[[str, str, Mapping[str, Any]], None]
"""Told of a thing, its job and the job's document, in the transaction of the success."""


_ReceivedMessage = tuple[Place, bytes, Passage]


@dataclass(slots=True, kw_only=True)
class _Outbox:
    """Result of a change: messages to publish and jobs to advance."""

    messages: list[JobMessage] = field(default_factory=list)
    stirred: set[str] = field(default_factory=set)


class JobService:
    """The job service for operators and devices; safe from several threads."""

    def __init__(
        self,
        records: Records,
        *,
        clock: Clock,
        directory: ThingDirectory,
        deliver: Deliver = lambda _: None,
        links: ObjectLinks | None = None,
        limits: RateLimits | None = None,
    ) -> None:
        """Take the parts.

        Args:
            records: where everything is kept.
            clock: of every time.
            directory: things and groups.
            deliver: is handed what operators' calls and time bring about; must not block.
            links: makes short-lived links; None: documents that ask for them are refused.
            limits: how often a thing may ask; None: as ``RateLimits`` has it.
        """
        self._records = records
        self._clock = clock
        self._directory = directory
        self._links = links
        self.throttle = Throttle(limits or RateLimits(), clock=clock)
        self._book = JobRepository(records.documents)
        self._revision = ""
        self.deliver = deliver
        self.on_success: Succeeded = lambda _thing, _job, _document: None
        self.turn = threading.RLock()

    # ---- devices

    def answer(self, topic: str, payload: bytes) -> list[JobMessage]:
        """Answer one message of the jobs namespace; answers and foreign topics say nothing."""
        return self.answers([(topic, payload)])

    def answers(self, messages: Sequence[tuple[str, bytes]]) -> list[JobMessage]:
        """Answer several, in order, for the price of one commit; each stands or falls alone."""
        heard = [one for topic, payload in messages for one in self._heard(topic, payload)]
        if not heard:
            return []
        with self.turn:
            said = _Outbox()
            try:
                with self._records.transaction():
                    for one in heard:
                        said.messages += self._answered(one, outbox=said)
            except UnavailableError as error:
                failed = JobRejectedError(Code.INTERNAL_ERROR, error.message)
                now = self._clock.now()
                return [wire.rejected(place.topic, failed, now=now) for place, *_ in heard]
            return [*said.messages, *chain.from_iterable(self._steps(said.stirred))]

    def ask(self, request: JobRequest) -> AnswerBody:
        """Answer a device's request by HTTP; others are notified of what it changes.

        Raises:
            JobRejectedError: with the code of the contract.
        """
        if self.throttle.take(request.thing) is not Passage.SERVED:
            raise self._too_often(request.token)
        return self._act(lambda change: carry_out(change, request, directory=self._directory))

    def due(self) -> None:
        """Handle what is due by time or directory: time-outs, rollouts, windows, ends."""
        while self._expire():
            pass
        now, revision = self._clock.now(), self._directory.revision()
        moved_on = revision != self._revision
        self._go_on({
            job_id
            for job_id, next_at in self._book.active().items()
            if moved_on or (next_at is not None and next_at <= now)
        })  # fmt: skip
        self._revision = revision

    def again(self) -> Iterator[list[JobMessage]]:
        """The pending list and the next job of every thing that has one, for after a restart."""
        for thing in list(self._book.things_pending()):
            with self.turn, self._records.transaction():
                change = self._change()
                runs = self._book.pending(thing, limit=wire.MOST_NOTIFIED)
                if runs:
                    yield [
                        wire.notify(thing, runs, now=change.now),
                        wire.notify_next(thing, change.shown(runs[0]), now=change.now),
                    ]

    # ---- operators: jobs

    def create(self, job: NewJob) -> Job:
        """Make a job; the same id with the same content is the same job.

        Raises:
            InvalidError: a limit of the contract is broken.
            ConflictError: the id is taken by another job.
            NotFoundError: a target is unknown.
        """
        row = new_row(job, now=self._clock.now())
        self._act(lambda change: make(change, row, directory=self._directory, links=self._links))
        return self.job(row.job_id)

    def job(self, job_id: str) -> Job:
        """Return a job; ``NotFoundError`` if there is none."""
        return job_of(self._book.job(check_job_id(job_id))[0])

    def look(self, job_id: str) -> tuple[JobRow, JobCounters]:
        """A job with its figures; ``NotFoundError``."""
        row, _ = self._book.job(check_job_id(job_id))
        return row, self._book.counters(job_id)[0]

    def cancel(self, job_id: str, *, reason: str = "", code: str = "", force: bool = False) -> Job:
        """Cancel what is queued, with ``force`` what is under way too; twice is once.

        Raises:
            JobTransitionError: the job is completed, or is being deleted.
        """
        check_text(reason, where="comment")
        check_reason(code)

        def act(change: Change) -> None:
            row = change.job(check_job_id(job_id))
            if row.status in (JobStatus.COMPLETED, JobStatus.DELETION_IN_PROGRESS):
                raise JobTransitionError(
                    f"the job is {row.status.value}", where=job_id, fix="There is nothing to stop."
                )
            if row.status is not JobStatus.CANCELED or (force and not row.forced):
                change.cancel(row, forced=force, code=code, comment=reason)

        self._act(act)
        return self.job(job_id)

    def delete(self, job_id: str, *, force: bool = False) -> None:
        """Delete a job and its executions.

        Raises:
            JobTransitionError: it is not over and ``force`` was not given.
        """

        def act(change: Change) -> None:
            row = change.job(check_job_id(job_id))
            over = row.finished and not row.sweeping and not change.counters(job_id).pending
            if not over and not force and row.status is not JobStatus.DELETION_IN_PROGRESS:
                raise JobTransitionError(
                    "the job is not over", where=job_id, fix="Cancel it first, or use force."
                )
            change.set_job(replace(row, status=JobStatus.DELETION_IN_PROGRESS))
            change.repository.put_active(job_id, next_at=change.now)
            change.stirred.add(job_id)
            change.tell_job(job_id, "deletion_in_progress")

        self._act(act)

    def associate(self, job_id: str, targets: Sequence[str]) -> Job:
        """Add targets to a continuous job.

        Raises:
            InvalidError: it is none, or is not in progress.
        """
        names = target_names(targets)

        def act(change: Change) -> None:
            row = change.job(check_job_id(job_id))
            if not row.continuous or row.status is not JobStatus.IN_PROGRESS:
                raise InvalidError(
                    "only a CONTINUOUS job in progress takes further targets", where=job_id,
                    fix="Make a new job.",
                )  # fmt: skip
            things_of(names, directory=self._directory)
            joined = tuple(dict.fromkeys((*row.targets, *names)))
            change.set_job(replace(row, targets=joined, revision=""))
            change.stirred.add(job_id)

        self._act(act)
        return self.job(job_id)

    def jobs(self, wanted: JobQuery) -> JobPage:
        """Jobs, newest first."""

        def rows() -> Iterator[tuple[str, JobRow]]:
            for place, job_id in self._book.job_ids(after=wanted.after):
                row = self._book.job(job_id)[0]
                if fits_job(row, wanted):
                    yield place, row

        return page_of(rows(), wanted)

    # ---- operators: executions

    def executions(self, job_id: str) -> list[Execution]:
        """The last try of each thing, by thing."""
        self._book.job(check_job_id(job_id))
        last = {run.thing: run for _, run in self._book.runs_of_job(job_id)}
        return [execution_of(run) for run in last.values()]

    def execution(self, thing: str, job_id: str, *, number: int | None = None) -> Run:
        """The latest one without a number; ``NotFoundError`` if there is none."""
        return self._book.run(thing, check_job_id(job_id), number=number)[0]

    def runs_of_job(self, job_id: str, wanted: JobQuery) -> JobPage:
        """Every execution of a job, by thing and number."""
        self._book.job(check_job_id(job_id))
        found = self._book.runs_of_job(job_id, after=wanted.after)
        return page_of((one for one in found if fits_run(one[1], wanted)), wanted)

    def runs_of_thing(self, thing: str, wanted: JobQuery) -> JobPage:
        """Every execution of a thing, by job and number."""
        if not self._directory.has(thing):
            things_of((target_of(thing),), directory=self._directory)
        found = self._book.runs_of_thing(thing, after=wanted.after)
        return page_of((one for one in found if fits_run(one[1], wanted)), wanted)

    def cancel_execution(
        self, thing: str, job_id: str, *, force: bool = False,
        expected_version: int | None = None, details: Mapping[str, Any] | None = None,
    ) -> Run:  # fmt: skip
        """Cancel the latest execution of a job on a thing.

        Raises:
            JobTransitionError: it is over, or is under way and ``force`` was not given.
            JobVersionError: it is at another version.
        """
        checked = read_details({"statusDetails": details})

        def act(change: Change) -> Run:
            run = change.run(thing, check_job_id(job_id))
            if expected_version not in (None, run.version):
                raise JobVersionError(
                    f"the execution is at version {run.version}, not {expected_version}",
                    where=run.id, fix="Read it again, then redo.",
                )  # fmt: skip
            under_way = run.status is ExecutionStatus.IN_PROGRESS
            if not run.open or (under_way and not force):
                raise JobTransitionError(
                    f"the execution is {run.status.value}", where=run.id,
                    fix="Use force for one that is under way.",
                )  # fmt: skip
            ended = moved(run, ExecutionStatus.CANCELED, now=change.now)
            ended = replace(detailed(ended, checked), forced=under_way)
            change.step(run, ended)
            return ended

        return self._act(act)

    def delete_execution(
        self, thing: str, job_id: str, *, number: int | None = None, force: bool = False
    ) -> None:
        """Delete one execution.

        Raises:
            JobTransitionError: it is under way and ``force`` was not given.
        """

        def act(change: Change) -> None:
            run = change.run(thing, check_job_id(job_id), number=number)
            if run.status is ExecutionStatus.IN_PROGRESS and not force:
                raise JobTransitionError(
                    "the execution is under way", where=run.id, fix="Cancel it, or use force."
                )
            change.forget(run)
            change.tell_run(run, "deleted")

        self._act(act)

    # ---- inside

    def _heard(self, topic: str, payload: bytes) -> list[_ReceivedMessage]:
        """Return the message to answer; none of our own, foreign and surplus ones."""
        place = place_of(topic)
        passage = Passage.IGNORED
        if place is not None and not place.answers:
            passage = self.throttle.take(place.thing)
        if place is None or passage is Passage.IGNORED:
            return []
        return [(place, payload, passage)]

    def _answered(self, heard: _ReceivedMessage, *, outbox: _Outbox) -> list[JobMessage]:
        (place, payload, passage), now = heard, self._clock.now()
        topic = place.topic
        if passage is Passage.REFUSED:
            error = self._too_often(read_token(payload))
            return [wire.rejected(topic, error, now=now)]
        try:
            asked = read_request(place, payload)
            body, left = self._changed(
                lambda change: carry_out(change, asked, directory=self._directory)
            )
        except JobRejectedError as error:
            return [wire.rejected(topic, error, now=now)]
        except UnavailableError:
            raise
        except Exception:  # boundary: one request must not take the others with it
            logger.exception("request failed topic=%s", topic)
            told = JobRejectedError(Code.INTERNAL_ERROR, "something failed that nobody foresaw")
            return [wire.rejected(topic, told, now=now)]
        outbox.stirred |= left.stirred
        return [wire.accepted(topic, body, token=asked.token, now=now), *left.messages]

    def _too_often(self, token: str) -> JobRejectedError:
        limits = self.throttle.limits
        return JobRejectedError(
            Code.REQUEST_THROTTLED,
            f"more than {limits.per_s:g} requests a second, {limits.burst} at once; wait, then ask "
            "again",
            token=token,
        )

    def _change(self) -> Change:
        return Change(self._book, now=self._clock.now(), links=self._links)

    @retry_stale
    def _changed(self, act: Callable[[Change], T]) -> tuple[T, _Outbox]:
        """One transaction; again from the start where somebody else wrote meanwhile."""
        with self._records.transaction():
            change = self._change()
            result = act(change)
            for run in change.succeeded:
                self.on_success(run.thing, run.job_id, change.job(run.job_id).document)
            messages = change.finish()
        return result, _Outbox(messages=messages, stirred=change.stirred)

    def _act(self, act: Callable[[Change], T]) -> T:
        with self.turn:
            result, said = self._changed(act)
            self._say(said.messages)
        self._go_on(said.stirred)
        return result

    def _say(self, messages: Sequence[JobMessage]) -> None:
        if messages:
            self.deliver(messages)

    def _go_on(self, jobs: set[str]) -> None:
        """Every step that these jobs can take now; others get their turn in between."""
        steps = self._steps(jobs)
        while True:
            with self.turn:
                messages = next(steps, None)
                if messages is None:
                    return
                self._say(messages)

    def _steps(self, jobs: set[str]) -> Iterator[list[JobMessage]]:
        waiting = sorted(jobs)
        while waiting:
            job_id = waiting.pop(0)
            after: str | None = ""
            while after is not None:
                after, said = self._step(job_id, after=after)
                yield said.messages
                waiting += sorted(said.stirred - {job_id})
                if after is None and job_id in said.stirred:
                    after = ""

    def _step(self, job_id: str, *, after: str) -> tuple[str | None, _Outbox]:
        return self._changed(
            lambda change: advance(change, job_id, directory=self._directory, after=after)
        )

    def _expire(self) -> bool:
        """End what is overdue, a chunk at a time; whether there was any."""
        overdue = self._book.overdue(now=self._clock.now(), limit=CHUNK)

        def act(change: Change) -> None:
            for run in overdue:
                change.expire(run)

        if overdue:
            self._act(act)
        return bool(overdue)
