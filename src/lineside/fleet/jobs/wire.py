"""Payloads of the job contract: what goes over the wire, written from records. Pure.

Times are whole seconds since 1970 UTC. Sources: AWS IoT developer guide, "Jobs device MQTT API",
"Jobs notifications", "Job events".

The operator's side over HTTP has the shapes of AWS' ``iot`` and ``iot-jobs-data`` clients;
documents are text there, and objects over MQTT.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lineside.core import InvalidError, decode_json, encode, stable_id
from lineside.fleet.contract import ExecutionStatus, NewJob
from lineside.fleet.jobs.executions import Run, micros, seconds
from lineside.fleet.jobs.repository import JobRow
from lineside.fleet.jobs.requests import JobRejectedError, arn_of, job_arn, jobs_topic
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


_SETTINGS = (
    "presignedUrlConfig", "jobExecutionsRolloutConfig", "abortConfig", "timeoutConfig",
    "jobExecutionsRetryConfig", "schedulingConfig",
)  # fmt: skip
_KNOWN = (
    *_SETTINGS, "targets", "document", "documentSource", "description", "targetSelection", "tags",
)  # fmt: skip

ReadSource = Callable[[str], str]
"""The text of the object that ``documentSource`` names; ``InvalidError`` where it cannot be."""


def new_job(job_id: str, body: Mapping[str, Any], *, read_source: ReadSource) -> NewJob:
    """``CreateJob``'s body; a ``documentSource`` is read once, now.

    Raises:
        InvalidError: a field is not what it may be, or is not served here.
    """
    unknown = sorted(set(body) - set(_KNOWN))
    if unknown:
        raise _wrong(unknown[0], f"one of {', '.join(_KNOWN)}")
    selection = body.get("targetSelection", "SNAPSHOT")
    if selection not in ("SNAPSHOT", "CONTINUOUS"):
        raise _wrong("targetSelection", "SNAPSHOT or CONTINUOUS")
    return NewJob(
        job_id=job_id,
        targets=_texts(body, "targets"),
        document=_document(body, read_source=read_source),
        description=_text(body, "description"),
        continuous=selection == "CONTINUOUS",
        settings={name: body[name] for name in _SETTINGS if body.get(name) is not None},
        tags=_tags(body),
        document_source=_text(body, "documentSource"),
    )


def job_answer(row: JobRow) -> dict[str, Any]:
    """Return the answer to creating, cancelling and associating a job."""
    return {"jobArn": job_arn(row.job_id), "jobId": row.job_id, "description": row.description}


def described_job(row: JobRow, counters: JobCounters) -> dict[str, Any]:
    """``DescribeJob``."""
    optional = {
        "reasonCode": row.reason_code, "comment": row.comment, "description": row.description,
    }  # fmt: skip
    job = {
        **summary_of_job(row), "forceCanceled": row.forced,
        "targets": [arn_of(target) for target in row.targets],
        **{name: text for name, text in optional.items() if text}, **row.settings,
        "jobProcessDetails": {
            **process(counters), "numberOfTimedOutThings": counters.count("TIMED_OUT"),
            "numberOfQueuedThings": counters.count("QUEUED") + counters.waiting,
            "numberOfInProgressThings": counters.count("IN_PROGRESS"),
            "processingTargets": [arn_of(one) for one in row.targets] if counters.waiting else [],
        },
    }  # fmt: skip
    source = {"documentSource": row.document_source} if row.document_source else {}
    return {**source, "job": job}


def summary_of_job(row: JobRow) -> dict[str, Any]:
    """A job in a list."""
    over = {} if row.completed_at is None else {"completedAt": seconds(row.completed_at)}
    return {
        "jobArn": job_arn(row.job_id), "jobId": row.job_id, "status": row.status.value,
        "targetSelection": "CONTINUOUS" if row.continuous else "SNAPSHOT",
        "createdAt": seconds(row.created_at), "lastUpdatedAt": seconds(row.last_updated_at),
        "isConcurrent": True, **over,
    }  # fmt: skip


def summary_of_run(run: Run) -> dict[str, Any]:
    """An execution in a list."""
    begun = {} if run.started_at is None else {"startedAt": seconds(run.started_at)}
    return {
        "status": run.status.value, "queuedAt": seconds(run.queued_at), **begun,
        "lastUpdatedAt": seconds(run.last_updated_at), "executionNumber": run.number,
        "retryAttempt": run.attempts,
    }  # fmt: skip


def described_run(run: Run, *, now: datetime) -> dict[str, Any]:
    """``DescribeJobExecution``, the operator's form."""
    body = {
        **summary_of_run(run), "jobId": run.job_id, "thingArn": arn_of(run.thing),
        "versionNumber": run.version, "statusDetails": {"detailsMap": dict(run.details)},
        "forceCanceled": run.forced, **_left(run, now=now),
    }  # fmt: skip
    del body["retryAttempt"]
    return {"execution": body}


def reported_run(body: Mapping[str, Any], run: Run, *, now: datetime) -> dict[str, Any]:
    """A device's answer with the time that is left, which MQTT leaves out."""
    return with_text({**body, "execution": {**body["execution"], **_left(run, now=now)}})


def with_text(body: Mapping[str, Any]) -> dict[str, Any]:
    """A device's answer with its document as text."""
    found = dict(body)
    if "jobDocument" in found:
        found["jobDocument"] = encode(found["jobDocument"]).decode()
    if "execution" in found:
        found["execution"] = with_text(found["execution"])
    return found


def _left(run: Run, *, now: datetime) -> dict[str, int]:
    if run.deadline is None:
        return {}
    left_s = int((run.deadline - now).total_seconds())
    return {"approximateSecondsBeforeTimedOut": max(0, left_s)}


def _document(body: Mapping[str, Any], *, read_source: ReadSource) -> Mapping[str, object]:
    text, source = body.get("document"), _text(body, "documentSource")
    name = "documentSource" if source else "document"
    if source and text is not None:
        raise InvalidError(
            "document and documentSource", where=name, fix="Give one of the two, not both."
        )
    if source:
        text = read_source(source)
    if not isinstance(text, str):
        raise _wrong(name, "JSON as text")
    document = decode_json(text, where=name)
    if not isinstance(document, dict):
        raise _wrong(name, "a JSON object")
    return document


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise _wrong(name, "text")
    return value or ""


def _texts(body: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = body.get(name)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _wrong(name, "a list of texts")
    return tuple(value)


def _tags(body: Mapping[str, Any]) -> tuple[Mapping[str, str], ...]:
    tags = body.get("tags") or []
    if not isinstance(tags, list) or len(tags) > 50:
        raise _wrong("tags", "a list of at most 50")
    for tag in tags:
        if not isinstance(tag, dict) or not all(isinstance(one, str) for one in tag.values()):
            raise _wrong("tags", "a list of Key and Value")
    return tuple(tags)


def _wrong(name: str, expected: str) -> InvalidError:
    return InvalidError(
        f"{name[:80]} is not {expected}", where=name[:80], fix="See docs/reference/jobs.md."
    )
