"""``/api/v1/models``: groups, numbered versions, who approved them, what follows.

``/api/v1/operating-points``: limits of an inspection, apart from its package.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from lineside.hub.api.wire import (
    Hub,
    Page,
    Requester,
    json_body,
    json_response,
    page_response,
    responds,
)
from lineside.hub.models.evidence import Evidence, version_page
from lineside.hub.models.model_service import GroupView, Registration
from lineside.hub.models.operating_points import PointProposal, Preview, PreviewRequest
from lineside.models import ModelVersion
from lineside.models.operating_point import OperatingPoint, PointVersion
from lineside.models.versions import GroupSettings

router = APIRouter(prefix="/api/v1/models", tags=["models"])

_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Body of ``…/reject``; who decides is who asks."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Body of ``…/approve``; ``inspection``: which it is for, "": the one it was trained for."""

    reason: str
    inspection: str = ""


Decided = Annotated[Decision, Depends(json_body(Decision))]
Approved = Annotated[Approval, Depends(json_body(Approval))]
Registered = Annotated[Registration, Depends(json_body(Registration))]
Settings = Annotated[GroupSettings, Depends(json_body(GroupSettings))]


@router.get("", summary="Groups of versions")
@responds(Page[GroupView])
def list_groups(hub: Hub) -> Response:
    """By name, each with its newest and its newest approved version."""
    return page_response(hub.models.all())


@router.get("/{group}", summary="One group")
@responds(GroupView)
def get_group(hub: Hub, group: str) -> Response:
    """Figures, settings, and whether a rollout may begin now."""
    return json_response(hub.models.group(group))


@router.get("/{group}/versions", summary="Its versions, all of them")
@responds(Page[ModelVersion])
def list_versions(hub: Hub, group: str) -> Response:
    """By number."""
    return page_response(hub.models.versions(group))


@router.post("/{group}/versions", summary="Register a package")
@responds(ModelVersion, status=201)
def register(hub: Hub, who: Requester, *, group: str, body: Registered) -> Response:
    """A package of the registry gets the group's next number; once registered it keeps it."""
    return json_response(hub.models.register(group, body, by=who.name), status=201)


@router.get("/{group}/versions/{number}", summary="One version")
@responds(ModelVersion)
def get_version(hub: Hub, group: str, *, number: int) -> Response:
    """With every decision about it."""
    return json_response(hub.models.one(group, number))


@router.get("/{group}/versions/{number}/report", summary="Its evidence")
@responds(Evidence)
@responds(bytes, "text/html")
def get_report(hub: Hub, group: str, *, number: int, format: str = "html") -> Response:  # noqa: A002  the parameter's name
    """One HTML page that runs nothing, or ``?format=json``."""
    evidence = hub.models.evidence(group, number, rule_of=hub.labelling.reject_rule)
    if format == "json":
        return json_response(evidence)
    headers = {"Content-Security-Policy": _REPORT_POLICY}
    return Response(version_page(evidence), media_type="text/html; charset=utf-8", headers=headers)


@router.post("/{group}/versions/{number}/compare", summary="Compare again")
@responds(ModelVersion, status=202)
def compare(hub: Hub, who: Requester, *, group: str, number: int) -> Response:
    """With what is in use now, in the background; 202."""
    return json_response(hub.models.request_comparison(group, number, by=who.name), status=202)


@router.post("/{group}/versions/{number}/approve", summary="Approve")
@responds(ModelVersion)
def approve(hub: Hub, who: Requester, *, group: str, number: int, decision: Approved) -> Response:
    """403 for who trained or registered it, and for an inspection that it cannot answer for."""
    reason, inspection = decision.reason, decision.inspection
    approved = hub.models.approve(group, number, by=who.name, reason=reason, inspection=inspection)
    return json_response(approved)


@router.post("/{group}/versions/{number}/reject", summary="Reject")
@responds(ModelVersion)
def reject(hub: Hub, who: Requester, *, group: str, number: int, decision: Decided) -> Response:
    """Also of one that was approved before."""
    return json_response(hub.models.reject(group, number, by=who.name, reason=decision.reason))


@router.get("/{group}/settings", summary="What follows an approval")
@responds(GroupSettings)
def get_settings(hub: Hub, group: str) -> Response:
    """Rollout by itself, windows, devices."""
    return json_response(hub.models.group(group).settings)


@router.post("/{group}/settings", summary="Say what follows")
@responds(GroupView)
def put_settings(hub: Hub, who: Requester, *, group: str, body: Settings) -> Response:
    """All of them at once; answers the group."""
    return json_response(hub.models.set_settings(group, body, by=who.name))


points_router = APIRouter(prefix="/api/v1/operating-points", tags=["models"])

Proposed = Annotated[PointProposal, Depends(json_body(PointProposal))]
Previewed = Annotated[PreviewRequest, Depends(json_body(PreviewRequest))]


@points_router.get("/{inspection}/versions", summary="Versions of an operating point")
@responds(Page[PointVersion])
def list_points(hub: Hub, inspection: str) -> Response:
    """By number, each with every decision about it."""
    return page_response(hub.points.versions(inspection))


@points_router.post("/{inspection}/versions", summary="Propose limits")
@responds(PointVersion, status=201)
def propose_point(hub: Hub, who: Requester, *, inspection: str, body: Proposed) -> Response:
    """The next version; it waits until another person approves it.

    400 with a fault for each limit that the package cannot decide by.
    """
    return json_response(hub.points.propose(inspection, body, by=who.name), status=201)


@points_router.get("/{inspection}/versions/{number}", summary="One version")
@responds(PointVersion)
def get_point(hub: Hub, inspection: str, *, number: int) -> Response:
    """With every decision about it."""
    return json_response(hub.points.one(inspection, number))


@points_router.get("/{inspection}/versions/{number}/content", summary="What devices decide by")
@responds(OperatingPoint)
def get_point_content(hub: Hub, inspection: str, *, number: int) -> Response:
    """The bytes that are signed, ``lineside.operating_point/1``; 404 unless it is approved."""
    return Response(hub.points.content(inspection, number), media_type="application/json")


@points_router.post("/{inspection}/versions/{number}/approve", summary="Approve")
@responds(PointVersion)
def approve_point(
    hub: Hub, who: Requester, *, inspection: str, number: int, decision: Decided
) -> Response:
    """Devices decide by it within seconds; 403 for who proposed it.

    409 where it was decided about, or a higher version is in force.
    """
    found = hub.points.approve(inspection, number, by=who.name, reason=decision.reason)
    return json_response(found)


@points_router.post("/{inspection}/versions/{number}/reject", summary="Reject")
@responds(PointVersion)
def reject_point(
    hub: Hub, who: Requester, *, inspection: str, number: int, decision: Decided
) -> Response:
    """Of one that waits; 409 for one that was decided about."""
    found = hub.points.reject(inspection, number, by=who.name, reason=decision.reason)
    return json_response(found)


@points_router.post("/{inspection}/versions/{number}/rollback", summary="Roll back to it")
@responds(PointVersion, status=201)
def roll_back_point(
    hub: Hub, who: Requester, *, inspection: str, number: int, decision: Decided
) -> Response:
    """The limits of an approved version come into force again, as a new version."""
    found = hub.points.roll_back(inspection, number, by=who.name, reason=decision.reason)
    return json_response(found, status=201)


@points_router.post("/{inspection}/preview", summary="Effect of limits")
@responds(Preview)
def preview_point(hub: Hub, inspection: str, *, body: Previewed) -> Response:
    """Effect on held-out parts and on recorded frames; nothing is written."""
    return json_response(hub.points.preview(inspection, body))
