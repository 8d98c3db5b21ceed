"""Payloads of the job contract over MQTT, written from records. Pure.

Times are whole seconds since 1970 UTC. Sources: AWS IoT developer guide, "Jobs device MQTT API",
"Jobs notifications", "Job events". Payloads over HTTP stand in ``compat.aws.iot_jobs``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired, TypedDict, get_args

from msgspec import Meta

from lineside.core import encode, stable_id
from lineside.fleet.contract import ExecutionStatus, JobStatus
from lineside.fleet.jobs.executions import Run, micros, seconds
from lineside.fleet.jobs.repository import JobRow
from lineside.fleet.jobs.requests import Code, ExecutionState, JobRejectedError, arn_of, jobs_topic
from lineside.fleet.jobs.settings import JobCounters

MOST_NOTIFIED = 10

_OpenStatus = Literal["IN_PROGRESS", "QUEUED"]
JobOperation = Literal[
    "completed", "canceled", "deleted", "cancellation_in_progress", "deletion_in_progress"
]
ExecutionOperation = Literal[
    "succeeded", "failed", "timed_out", "rejected", "canceled", "removed", "deleted"
]


class ExecutionSummary(TypedDict):
    """An execution in a list."""

    jobId: str
    queuedAt: int
    startedAt: NotRequired[int]
    lastUpdatedAt: int
    versionNumber: int
    executionNumber: int


class FullExecution(ExecutionSummary):
    """An execution in full."""

    thingName: str
    status: ExecutionStatus
    statusDetails: NotRequired[dict[str, str]]
    jobDocument: NotRequired[Mapping[str, Any]]


class ListBody(TypedDict):
    """Open executions of a thing."""

    inProgressJobs: list[ExecutionSummary]
    queuedJobs: list[ExecutionSummary]


class ExecutionBody(TypedDict):
    """One execution, where there is one."""

    execution: NotRequired[FullExecution]


class UpdateBody(TypedDict):
    """State and document of an updated execution, where they were asked for."""

    executionState: NotRequired[ExecutionState]
    jobDocument: NotRequired[Mapping[str, Any]]


class Stamp(TypedDict):
    """Fields of every answer."""

    timestamp: int
    clientToken: NotRequired[str]


class ListAnswer(ListBody, Stamp):
    """Open executions of a thing, at most 1,000 together."""


class ExecutionAnswer(ExecutionBody, Stamp):
    """The execution that was started or asked for; without it there is nothing to do."""


class UpdateAnswer(UpdateBody, Stamp):
    """The update is stored."""


class Rejection(Stamp):
    """The request was rejected."""

    code: Code
    message: str
    executionState: NotRequired[ExecutionState]


class JobNotice(TypedDict):
    """Open executions of a thing after one came or went, those in progress first."""

    jobs: Annotated[
        dict[_OpenStatus, list[ExecutionSummary]],
        Meta(extra_json_schema={"propertyNames": {"enum": [*get_args(_OpenStatus)]}}),
    ]
    timestamp: int


class NextJobNotice(ExecutionBody):
    """Another execution is the next one; without it there is none any more."""

    timestamp: int


class ProcessDetails(TypedDict):
    """Counts of things by the end of their execution."""

    numberOfCanceledThings: int
    numberOfRejectedThings: int
    numberOfFailedThings: int
    numberOfRemovedThings: int
    numberOfSucceededThings: int


class JobEvent(TypedDict):
    """A job came to another state."""

    eventType: Literal["JOB"]
    eventId: str
    timestamp: int
    operation: JobOperation
    jobId: str
    status: JobStatus
    targetSelection: Literal["CONTINUOUS", "SNAPSHOT"]
    targets: list[str]
    description: str
    createdAt: int
    lastUpdatedAt: int
    completedAt: NotRequired[int]
    jobProcessDetails: ProcessDetails


class ExecutionEvent(TypedDict):
    """An execution came to its end, or was deleted."""

    eventType: Literal["JOB_EXECUTION"]
    eventId: str
    timestamp: int
    operation: ExecutionOperation
    jobId: str
    thingArn: str
    status: ExecutionStatus
    statusDetails: dict[str, str]
    executionNumber: int
    versionNumber: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMessage:
    """One message to be said on the bus."""

    topic: str
    payload: bytes


def outgoing(topic: str, body: Mapping[str, object]) -> JobMessage:
    """A message of a JSON object."""
    return JobMessage(topic=topic, payload=encode(body))


def accepted(topic: str, body: Mapping[str, object], *, token: str, now: datetime) -> JobMessage:
    """A good answer to what was asked at ``topic``."""
    stamp: Stamp = {"timestamp": seconds(now)}
    if token:
        stamp["clientToken"] = token
    return outgoing(f"{topic}/accepted", {**body, **stamp})


def rejected(topic: str, error: JobRejectedError, *, now: datetime) -> JobMessage:
    """The other answer."""
    body: Rejection = {
        "code": error.code, "message": error.message, "timestamp": seconds(now),
    }  # fmt: skip
    if error.token:
        body["clientToken"] = error.token
    if error.state is not None:
        body["executionState"] = error.state
    return outgoing(f"{topic}/rejected", body)


def summary(run: Run) -> ExecutionSummary:
    """An execution in a list."""
    body: ExecutionSummary = {
        "jobId": run.job_id, "queuedAt": seconds(run.queued_at),
        "lastUpdatedAt": seconds(run.last_updated_at), "versionNumber": run.version,
        "executionNumber": run.number,
    }  # fmt: skip
    if run.started_at is not None:
        body["startedAt"] = seconds(run.started_at)
    return body


def execution(run: Run, document: Mapping[str, Any] | None) -> FullExecution:
    """An execution in full; ``document`` None leaves it out."""
    body: FullExecution = {
        "jobId": run.job_id, "thingName": run.thing, "status": run.status,
        "queuedAt": seconds(run.queued_at), "lastUpdatedAt": seconds(run.last_updated_at),
        "versionNumber": run.version, "executionNumber": run.number,
    }  # fmt: skip
    if run.started_at is not None:
        body["startedAt"] = seconds(run.started_at)
    if run.details:
        body["statusDetails"] = dict(run.details)
    if document is not None:
        body["jobDocument"] = document
    return body


def state(run: Run) -> ExecutionState:
    """``executionState``."""
    return {
        "status": run.status, "statusDetails": dict(run.details),
        "versionNumber": run.version,
    }  # fmt: skip


def pending_lists(runs: Sequence[Run]) -> ListBody:
    """Both lists of ``get/accepted``; both are always there."""
    return {
        "inProgressJobs": _of(runs, ExecutionStatus.IN_PROGRESS),
        "queuedJobs": _of(runs, ExecutionStatus.QUEUED),
    }


def notify(thing: str, runs: Sequence[Run], *, now: datetime) -> JobMessage:
    """``notify``: the pending list changed; at most ten, in progress first."""
    shown = runs[:MOST_NOTIFIED]
    body: JobNotice = {"jobs": {}, "timestamp": seconds(now)}
    for status in get_args(_OpenStatus):
        if found := _of(shown, ExecutionStatus(status)):
            body["jobs"][status] = found
    return outgoing(f"{jobs_topic(thing)}/notify", body)


def notify_next(thing: str, head: FullExecution | None, *, now: datetime) -> JobMessage:
    """``notify-next``: another execution is the next one; None: there is none any more."""
    body: NextJobNotice = {"timestamp": seconds(now)}
    if head is not None:
        body["execution"] = head
    return outgoing(f"{jobs_topic(thing)}/notify-next", body)


def _of(runs: Sequence[Run], status: ExecutionStatus) -> list[ExecutionSummary]:
    return [summary(run) for run in runs if run.status is status]


def job_event(
    row: JobRow, counters: JobCounters, *, operation: JobOperation, now: datetime
) -> JobMessage:
    """``$aws/events/job/<jobId>/<operation>``."""
    body: JobEvent = {
        "eventType": "JOB",
        "eventId": stable_id("evt", row.job_id, operation, str(micros(now))),
        "timestamp": seconds(now), "operation": operation, "jobId": row.job_id,
        "status": row.status,
        "targetSelection": "CONTINUOUS" if row.continuous else "SNAPSHOT",
        "targets": [arn_of(target) for target in row.targets],
        "description": row.description, "createdAt": seconds(row.created_at),
        "lastUpdatedAt": seconds(row.last_updated_at), "jobProcessDetails": process(counters),
    }  # fmt: skip
    if row.completed_at is not None:
        body["completedAt"] = seconds(row.completed_at)
    return outgoing(f"$aws/events/job/{row.job_id}/{operation}", body)


def process(counters: JobCounters) -> ProcessDetails:
    """``jobProcessDetails`` of an event."""
    return {
        "numberOfCanceledThings": counters.count("CANCELED"),
        "numberOfRejectedThings": counters.count("REJECTED"),
        "numberOfFailedThings": counters.count("FAILED"),
        "numberOfRemovedThings": counters.count("REMOVED"),
        "numberOfSucceededThings": counters.count("SUCCEEDED"),
    }


def execution_event(run: Run, *, operation: ExecutionOperation, now: datetime) -> JobMessage:
    """``$aws/events/jobExecution/<jobId>/<operation>``."""
    body: ExecutionEvent = {
        "eventType": "JOB_EXECUTION",
        "eventId": stable_id("evt", run.id, operation, str(run.version)),
        "timestamp": seconds(now), "operation": operation, "jobId": run.job_id,
        "thingArn": arn_of(run.thing), "status": run.status,
        "statusDetails": dict(run.details), "executionNumber": run.number,
        "versionNumber": run.version,
    }  # fmt: skip
    return outgoing(f"$aws/events/jobExecution/{run.job_id}/{operation}", body)
