"""``/api/v1/jobs``: jobs of the fleet, for pages and programs of ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, TypedDict

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from lineside.fleet import Execution, Job, JobQuery, JobStatus, NewJob
from lineside.fleet.jobs.repository import JobRow
from lineside.fleet.jobs.settings import JobCounters
from lineside.hub.api.wire import (
    Hub,
    Limit,
    Page,
    json_body,
    json_response,
    page_response,
    responds,
)

router = APIRouter(prefix="/api/v1", tags=["jobs"])


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """Body of ``POST /jobs``; ``settings`` are the contract's own objects by name."""

    job_id: str
    targets: tuple[str, ...]
    document: dict[str, Any]
    description: str = ""
    continuous: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """Body of the cancel routes."""

    reason: str = ""
    force: bool = False


class JobSummary(TypedDict):
    """A job in a list; ``things``: their number by state."""

    job_id: str
    status: JobStatus
    targets: tuple[str, ...]
    description: str
    continuous: bool
    created_at: datetime
    completed_at: datetime | None
    reason: str
    things: Mapping[str, int]
    waiting: int


class JobDetails(JobSummary):
    """A job with its document."""

    document: Mapping[str, Any]
    settings: Mapping[str, Any]
    tags: Sequence[Mapping[str, str]]


@router.get("/jobs", summary="Jobs, newest first")
@responds(Page[JobSummary])
def list_jobs(hub: Hub, *, after: str = "", status: str = "", limit: Limit = 100) -> Response:
    """With the number of things in each state."""
    page = hub.job_requests.service.jobs(JobQuery(limit=limit, after=after, status=status))
    shown = [_shown(hub, row) for row in page.items]
    return page_response(shown, following=page.following)


@router.post("/jobs", summary="Make a job")
@responds(Job, status=201)
def create_job(
    hub: Hub, *, order: Annotated[JobRequest, Depends(json_body(JobRequest))]
) -> Response:
    """The same id with the same content is the same job."""
    new = NewJob(
        job_id=order.job_id, targets=order.targets, document=order.document,
        description=order.description, continuous=order.continuous, settings=order.settings,
    )  # fmt: skip
    return json_response(hub.job_requests.service.create(new), status=201)


@router.get("/jobs/{job}", summary="One job")
@responds(JobDetails)
def get_job(hub: Hub, *, job: str) -> Response:
    """With its document."""
    row, _ = hub.job_requests.service.look(job)
    details = JobDetails(
        **_shown(hub, row), document=row.document, settings=row.settings, tags=row.tags
    )
    return json_response(details)


@router.get("/jobs/{job}/executions", summary="The last try of each thing")
@responds(Page[Execution])
def list_executions(hub: Hub, *, job: str) -> Response:
    """By thing."""
    return page_response(hub.job_requests.service.executions(job))


@router.post("/jobs/{job}/cancel", summary="Cancel a job")
@responds(Job)
def cancel_job(
    hub: Hub, *, job: str, how: Annotated[Cancellation, Depends(json_body(Cancellation))]
) -> Response:
    """Cancel queued executions; with ``force`` those under way too."""
    return json_response(hub.job_requests.service.cancel(job, reason=how.reason, force=how.force))


@router.post(
    "/jobs/{job}/executions/{thing}/cancel",
    summary="Cancel a job on one thing",
)
@responds(Page[Execution])
def cancel_execution(
    hub: Hub,
    *,
    job: str,
    thing: str,
    how: Annotated[Cancellation, Depends(json_body(Cancellation))],
) -> Response:
    """One that is under way needs ``force``."""
    details = {"reason": how.reason} if how.reason else None
    hub.job_requests.service.cancel_execution(thing, job, force=how.force, details=details)
    return list_executions(hub, job=job)


def _shown(hub: Hub, row: JobRow) -> JobSummary:
    counts: JobCounters = hub.job_requests.service.look(row.job_id)[1]
    return {
        "job_id": row.job_id, "status": row.status, "targets": row.targets,
        "description": row.description, "continuous": row.continuous,
        "created_at": row.created_at, "completed_at": row.completed_at,
        "reason": row.comment or row.reason_code, "things": counts.counts,
        "waiting": counts.waiting,
    }  # fmt: skip
