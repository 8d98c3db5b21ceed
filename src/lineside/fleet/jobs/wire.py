"""Payloads of the job contract over MQTT, written from records. Pure.

Times are whole seconds since 1970 UTC. Sources: AWS IoT developer guide, "Jobs device MQTT API",
"Jobs notifications", "Job events". Payloads over HTTP stand in ``compat.aws.iot_jobs``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lineside.core import encode, stable_id
from lineside.fleet.contract import ExecutionStatus
from lineside.fleet.jobs.executions import Run, micros, seconds
from lineside.fleet.jobs.repository import JobRow
from lineside.fleet.jobs.requests import JobRejectedError, arn_of, jobs_topic
from lineside.fleet.jobs.settings import JobCounters

MOST_NOTIFIED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMessage:
    """One message to be said on the bus."""

    topic: str
    payload: bytes


def outgoing(topic: str, body: Mapping[str, Any]) -> JobMessage:
    """A message of a JSON object."""
    return JobMessage(topic=topic, payload=encode(body))


def accepted(topic: str, body: Mapping[str, Any], *, token: str, now: datetime) -> JobMessage:
    """A good answer to what was asked at ``topic``."""
    return outgoing(f"{topic}/accepted", {**body, **_stamp(token, now=now)})


def rejected(topic: str, error: JobRejectedError, *, now: datetime) -> JobMessage:
    """The other answer."""
    body: dict[str, Any] = {"code": error.code.value, "message": error.message}
    if error.state is not None:
        body["executionState"] = error.state
    return outgoing(f"{topic}/rejected", {**body, **_stamp(error.token, now=now)})


def _stamp(token: str, *, now: datetime) -> dict[str, Any]:
    stamp: dict[str, Any] = {"timestamp": seconds(now)}
    return {**stamp, "clientToken": token} if token else stamp


def summary(run: Run) -> dict[str, Any]:
    """An execution in a list."""
    started = {} if run.started_at is None else {"startedAt": seconds(run.started_at)}
    return {
        "jobId": run.job_id, "queuedAt": seconds(run.queued_at), **started,
        "lastUpdatedAt": seconds(run.last_updated_at), "versionNumber": run.version,
        "executionNumber": run.number,
    }  # fmt: skip


def execution(run: Run, document: Mapping[str, Any] | None) -> dict[str, Any]:
    """An execution in full; ``document`` None leaves it out."""
    body = {**summary(run), "thingName": run.thing, "status": run.status.value}
    if run.details:
        body["statusDetails"] = dict(run.details)
    if document is not None:
        body["jobDocument"] = document
    return body


def state(run: Run) -> dict[str, Any]:
    """``executionState``."""
    return {
        "status": run.status.value, "statusDetails": dict(run.details),
        "versionNumber": run.version,
    }  # fmt: skip


def pending_lists(runs: Sequence[Run]) -> dict[str, Any]:
    """Both lists of ``get/accepted``; both are always there."""
    return {
        "inProgressJobs": _of(runs, ExecutionStatus.IN_PROGRESS),
        "queuedJobs": _of(runs, ExecutionStatus.QUEUED),
    }


def notify(thing: str, runs: Sequence[Run], *, now: datetime) -> JobMessage:
    """``notify``: the pending list changed; at most ten, in progress first."""
    shown = runs[:MOST_NOTIFIED]
    jobs = {
        status.value: found
        for status in (ExecutionStatus.IN_PROGRESS, ExecutionStatus.QUEUED)
        if (found := _of(shown, status))
    }
    return outgoing(f"{jobs_topic(thing)}/notify", {"jobs": jobs, "timestamp": seconds(now)})


def notify_next(thing: str, head: dict[str, Any] | None, *, now: datetime) -> JobMessage:
    """``notify-next``: another execution is the next one; None: there is none any more."""
    body: dict[str, Any] = {"timestamp": seconds(now)}
    if head is not None:
        body["execution"] = head
    return outgoing(f"{jobs_topic(thing)}/notify-next", body)


def _of(runs: Sequence[Run], status: ExecutionStatus) -> list[dict[str, Any]]:
    return [summary(run) for run in runs if run.status is status]


def job_event(row: JobRow, counters: JobCounters, *, operation: str, now: datetime) -> JobMessage:
    """``$aws/events/job/<jobId>/<operation>``."""
    body: dict[str, Any] = {
        "eventType": "JOB",
        "eventId": stable_id("evt", row.job_id, operation, str(micros(now))),
        "timestamp": seconds(now), "operation": operation, "jobId": row.job_id,
        "status": row.status.value,
        "targetSelection": "CONTINUOUS" if row.continuous else "SNAPSHOT",
        "targets": [arn_of(target) for target in row.targets],
        "description": row.description, "createdAt": seconds(row.created_at),
        "lastUpdatedAt": seconds(row.last_updated_at), "jobProcessDetails": process(counters),
    }  # fmt: skip
    if row.completed_at is not None:
        body["completedAt"] = seconds(row.completed_at)
    return outgoing(f"$aws/events/job/{row.job_id}/{operation}", body)


def process(counters: JobCounters) -> dict[str, int]:
    """``jobProcessDetails`` of an event."""
    names = {
        "Canceled": "CANCELED", "Rejected": "REJECTED", "Failed": "FAILED", "Removed": "REMOVED",
        "Succeeded": "SUCCEEDED",
    }  # fmt: skip
    return {f"numberOf{name}Things": counters.count(status) for name, status in names.items()}


def execution_event(run: Run, *, operation: str, now: datetime) -> JobMessage:
    """``$aws/events/jobExecution/<jobId>/<operation>``."""
    body = {
        "eventType": "JOB_EXECUTION",
        "eventId": stable_id("evt", run.id, operation, str(run.version)),
        "timestamp": seconds(now), "operation": operation, "jobId": run.job_id,
        "thingArn": arn_of(run.thing), "status": run.status.value,
        "statusDetails": dict(run.details), "executionNumber": run.number,
        "versionNumber": run.version,
    }  # fmt: skip
    return outgoing(f"$aws/events/jobExecution/{run.job_id}/{operation}", body)
