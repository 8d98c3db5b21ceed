"""``/api/v1/models``: groups, numbered versions, who approved them, what follows."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from lineside.hub.api.wire import Hub, Page, Who, answer, body_of, gives, listed
from lineside.hub.models.evidence import Evidence, version_page
from lineside.hub.models.model_service import GroupView, Registration
from lineside.models import GroupSettings, ModelVersion

router = APIRouter(prefix="/api/v1/models", tags=["models"])

_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Body of ``…/approve`` and ``…/reject``; who decides is who asks."""

    reason: str


Decided = Annotated[Decision, Depends(body_of(Decision))]
Registered = Annotated[Registration, Depends(body_of(Registration))]
Settings = Annotated[GroupSettings, Depends(body_of(GroupSettings))]


@router.get("", summary="Groups of versions")
@gives(Page[GroupView])
def list_groups(hub: Hub) -> Response:
    """By name, each with its newest and its newest approved version."""
    return listed(hub.models.all())


@router.get("/{group}", summary="One group")
@gives(GroupView)
def get_group(hub: Hub, group: str) -> Response:
    """Figures, settings, and whether a roll-out may begin now."""
    return answer(hub.models.group(group))


@router.get("/{group}/versions", summary="Its versions, all of them")
@gives(Page[ModelVersion])
def list_versions(hub: Hub, group: str) -> Response:
    """By number."""
    return listed(hub.models.versions(group))


@router.post("/{group}/versions", summary="Register a package")
@gives(ModelVersion, status=201)
def register(hub: Hub, who: Who, *, group: str, wished: Registered) -> Response:
    """A package of the registry gets the group's next number; once registered it keeps it."""
    return answer(hub.models.register(group, wished, by=who.name), status=201)


@router.get("/{group}/versions/{number}", summary="One version")
@gives(ModelVersion)
def get_version(hub: Hub, group: str, *, number: int) -> Response:
    """With every decision about it."""
    return answer(hub.models.one(group, number))


@router.get("/{group}/versions/{number}/report", summary="Its evidence")
@gives(Evidence)
@gives(bytes, "text/html")
def get_report(hub: Hub, group: str, *, number: int, format: str = "html") -> Response:  # noqa: A002  the parameter's name
    """One HTML page that runs nothing, or ``?format=json``."""
    evidence = hub.models.evidence(group, number)
    if format == "json":
        return answer(evidence)
    headers = {"Content-Security-Policy": _REPORT_POLICY}
    return Response(version_page(evidence), media_type="text/html; charset=utf-8", headers=headers)


@router.post("/{group}/versions/{number}/compare", summary="Compare again")
@gives(ModelVersion, status=202)
def compare(hub: Hub, who: Who, *, group: str, number: int) -> Response:
    """With what is in use now, in the background; 202."""
    return answer(hub.models.ask_comparison(group, number, by=who.name), status=202)


@router.post("/{group}/versions/{number}/approve", summary="Approve")
@gives(ModelVersion)
def approve(hub: Hub, who: Who, *, group: str, number: int, decision: Decided) -> Response:
    """403 for who trained or registered it."""
    return answer(hub.models.approve(group, number, by=who.name, reason=decision.reason))


@router.post("/{group}/versions/{number}/reject", summary="Reject")
@gives(ModelVersion)
def reject(hub: Hub, who: Who, *, group: str, number: int, decision: Decided) -> Response:
    """Also of one that was approved before."""
    return answer(hub.models.reject(group, number, by=who.name, reason=decision.reason))


@router.get("/{group}/settings", summary="What follows an approval")
@gives(GroupSettings)
def get_settings(hub: Hub, group: str) -> Response:
    """Roll-out by itself, windows, devices."""
    return answer(hub.models.group(group).settings)


@router.post("/{group}/settings", summary="Say what follows")
@gives(GroupView)
def put_settings(hub: Hub, who: Who, *, group: str, wished: Settings) -> Response:
    """All of them at once; answers the group."""
    return answer(hub.models.set_settings(group, wished, by=who.name))
