"""Payloads of AWS' ``iot`` and ``iot-jobs-data`` clients: jobs and executions over HTTP. Pure.

Documents are text here, and objects over MQTT (``fleet.jobs.wire``). Times are whole seconds since
1970 UTC. Source: AWS IoT API reference.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NotRequired, TypedDict

from lineside.core import InvalidError, decode_json, encode
from lineside.fleet.contract import NewJob
from lineside.fleet.jobs.executions import Run, seconds
from lineside.fleet.jobs.repository import JobRow
from lineside.fleet.jobs.requests import arn_of, job_arn
from lineside.fleet.jobs.service import JobPage
from lineside.fleet.jobs.settings import JobCounters
from lineside.fleet.jobs.wire import process


class JobAnswer(TypedDict):
    """A job by its name."""

    jobArn: str
    jobId: str
    description: str


class DescribedJob(TypedDict):
    """A job with counts of its things."""

    job: dict[str, Any]
    documentSource: NotRequired[str]


class JobDocument(TypedDict):
    """The document of a job as text."""

    document: str


class JobsPage(TypedDict):
    """Jobs in short."""

    jobs: list[dict[str, Any]]
    nextToken: NotRequired[str]


class RunsPage(TypedDict):
    """Executions in short; a thing's client gets what is pending."""

    executionSummaries: NotRequired[list[dict[str, Any]]]
    nextToken: NotRequired[str]
    inProgressJobs: NotRequired[list[dict[str, Any]]]
    queuedJobs: NotRequired[list[dict[str, Any]]]
    timestamp: NotRequired[int]
    clientToken: NotRequired[str]


class RoleCredentials(TypedDict):
    """A key that holds for an hour."""

    credentials: dict[str, str]


class EndpointAddress(TypedDict):
    """A host's name."""

    endpointAddress: str


class DescribedDevice(TypedDict):
    """An enrolled device; its name is that of its thing."""

    DeviceArn: str
    DeviceName: str
    DeviceFleetName: str
    IotThingName: str
    RegistrationTime: int


_SETTINGS = (
    "presignedUrlConfig", "jobExecutionsRolloutConfig", "abortConfig", "timeoutConfig",
    "jobExecutionsRetryConfig", "schedulingConfig",
)  # fmt: skip
_KNOWN = (
    *_SETTINGS, "targets", "document", "documentSource", "description", "targetSelection", "tags",
)  # fmt: skip

ReadSource = Callable[[str], str]
"""The text of the object that ``documentSource`` names; ``InvalidError`` where it cannot be."""


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body, {} of an empty one; ``InvalidError`` where it is none."""
    fields = decode_json(body or b"{}", where="body")
    if not isinstance(fields, dict):
        raise InvalidError("the body is no JSON object", where="body", fix="Send an object.")
    return fields


def jobs_page(found: JobPage) -> dict[str, Any]:
    """``ListJobs``."""
    return {"jobs": [_summary_of_job(one) for one in found.items], **_following(found)}


def runs_page(found: JobPage, *, of_job: bool) -> dict[str, Any]:
    """``ListJobExecutionsForJob`` where it is of one job, else ``ListJobExecutionsForThing``."""
    runs = [
        {
            **({"thingArn": arn_of(run.thing)} if of_job else {"jobId": run.job_id}),
            "jobExecutionSummary": _summary_of_run(run),
        }
        for run in found.items
    ]
    return {"executionSummaries": runs, **_following(found)}


def _following(found: JobPage) -> dict[str, str]:
    return {"nextToken": found.following} if found.following else {}


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
        targets=read_texts(body, "targets"),
        document=_document(body, read_source=read_source),
        description=read_text(body, "description"),
        continuous=selection == "CONTINUOUS",
        settings={name: body[name] for name in _SETTINGS if body.get(name) is not None},
        tags=_tags(body),
        document_source=read_text(body, "documentSource"),
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
        **_summary_of_job(row), "forceCanceled": row.forced,
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


def _summary_of_job(row: JobRow) -> dict[str, Any]:
    """A job in a list."""
    over = {} if row.completed_at is None else {"completedAt": seconds(row.completed_at)}
    return {
        "jobArn": job_arn(row.job_id), "jobId": row.job_id, "status": row.status.value,
        "targetSelection": "CONTINUOUS" if row.continuous else "SNAPSHOT",
        "createdAt": seconds(row.created_at), "lastUpdatedAt": seconds(row.last_updated_at),
        "isConcurrent": True, **over,
    }  # fmt: skip


def _summary_of_run(run: Run) -> dict[str, Any]:
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
        **_summary_of_run(run), "jobId": run.job_id, "thingArn": arn_of(run.thing),
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
    text, source = body.get("document"), read_text(body, "documentSource")
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


def read_text(body: Mapping[str, Any], name: str) -> str:
    """A text of a body, "" where it is not given; ``InvalidError`` where it is something else."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise _wrong(name, "text")
    return value or ""


def read_texts(body: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A list of texts of a body; ``InvalidError`` where it is none."""
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
        f"{name[:80]} is not {expected}", where=name[:80],
        fix=f"Write {expected}; see docs/reference/jobs.md.",
    )  # fmt: skip
