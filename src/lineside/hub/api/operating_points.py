"""``/api/v1/operating-points``: limits of an inspection, apart from its package."""

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from lineside.hub.api.models import Decided
from lineside.hub.api.wire import (
    Hub,
    Page,
    Requester,
    json_body,
    json_response,
    page_response,
    responds,
)
from lineside.hub.models.operating_points import (
    PointProposal,
    Preview,
    PreviewRequest,
)
from lineside.models.operating_point import OperatingPoint, PointVersion

router = APIRouter(prefix="/api/v1/operating-points", tags=["models"])


Proposed = Annotated[PointProposal, Depends(json_body(PointProposal))]
Previewed = Annotated[PreviewRequest, Depends(json_body(PreviewRequest))]


@router.get("/{inspection}/versions", summary="Versions of an operating point")
@responds(Page[PointVersion])
def list_points(hub: Hub, inspection: str) -> Response:
    """By number, each with every decision about it."""
    return page_response(hub.points.versions(inspection))


@router.post("/{inspection}/versions", summary="Propose limits")
@responds(PointVersion, status=201)
def propose_point(hub: Hub, who: Requester, *, inspection: str, body: Proposed) -> Response:
    """The next version; it waits until another person approves it."""
    return json_response(hub.points.propose(inspection, body, by=who.name), status=201)


@router.get("/{inspection}/versions/{number}", summary="One version")
@responds(PointVersion)
def get_point(hub: Hub, inspection: str, *, number: int) -> Response:
    """With every decision about it."""
    return json_response(hub.points.one(inspection, number))


@router.get("/{inspection}/versions/{number}/content", summary="What devices decide by")
@responds(OperatingPoint)
def get_point_content(hub: Hub, inspection: str, *, number: int) -> Response:
    """The bytes that are signed, ``lineside.operating_point/1``; 404 unless it is approved."""
    return Response(hub.points.content(inspection, number), media_type="application/json")


@router.post("/{inspection}/versions/{number}/approve", summary="Approve")
@responds(PointVersion)
def approve_point(
    hub: Hub, who: Requester, *, inspection: str, number: int, decision: Decided
) -> Response:
    """403 for who proposed it; devices decide by it within seconds."""
    found = hub.points.approve(inspection, number, by=who.name, reason=decision.reason)
    return json_response(found)


@router.post("/{inspection}/versions/{number}/reject", summary="Reject")
@responds(PointVersion)
def reject_point(
    hub: Hub, who: Requester, *, inspection: str, number: int, decision: Decided
) -> Response:
    """Of one that waits; 409 for one that was decided about."""
    found = hub.points.reject(inspection, number, by=who.name, reason=decision.reason)
    return json_response(found)


@router.post("/{inspection}/versions/{number}/rollback", summary="Roll back to it")
@responds(PointVersion, status=201)
def roll_back_point(
    hub: Hub, who: Requester, *, inspection: str, number: int, decision: Decided
) -> Response:
    """The limits of an approved version come into force again, as a new version."""
    found = hub.points.roll_back(inspection, number, by=who.name, reason=decision.reason)
    return json_response(found, status=201)


@router.post("/{inspection}/preview", summary="Effect of limits")
@responds(Preview)
def preview_point(hub: Hub, inspection: str, *, body: Previewed) -> Response:
    """Effect on held-out parts and on recorded frames; nothing is written."""
    return json_response(hub.points.preview(inspection, body))
