"""``/api/v1/rollouts``: releases on their way to devices."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, TypedDict

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from lineside.core import to_plain
from lineside.fleet import Release, Rollout, RolloutOrder, RolloutPlan, RolloutState
from lineside.fleet.evidence import Verdict
from lineside.fleet.rollout import RolloutEvent
from lineside.hub.access.permissions import Identity
from lineside.hub.api.wire import (
    Hub,
    Page,
    Requester,
    json_body,
    json_response,
    page_response,
    responds,
)
from lineside.hub.rollouts.rollout_service import NewRollout, RolloutDevice, RolloutView
from lineside.hub.services import Services

router = APIRouter(prefix="/api/v1/rollouts", tags=["rollouts"])


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """Body of an order; who orders is who asks."""

    reason: str = ""


Order = Annotated[OrderRequest, Depends(json_body(OrderRequest))]


class RolloutFigures(TypedDict):
    """A ``Rollout`` with ids of its jobs, the newest as ``job``; ``point``: limits it brings."""

    id: str
    release: Release
    plan: RolloutPlan
    by: str
    reason: str
    created_at: datetime
    state: RolloutState
    previous: Release | None
    shares: tuple[tuple[str, ...], ...]
    step: int
    step_at: datetime | None
    jobs: list[str]
    job: str
    held: RolloutState | None
    completed: bool
    settled: bool
    rollback: bool
    history: tuple[RolloutEvent, ...]
    point: int
    why: str


class RolloutSummary(RolloutFigures):
    """A rollout in a list; ``devices``: how many it has."""

    devices: int


class RolloutDetails(RolloutFigures):
    """A rollout with its devices, and what it waits for; ``guard``: its limits as a sentence.

    ``operating_point``: number of the version that the package decides by on the devices; 0: its
    own limits.
    """

    guard: str
    devices: tuple[RolloutDevice, ...]
    waits: str
    waits_until: datetime | None
    operating_point: int
    may: tuple[RolloutOrder, ...]
    verdict: Verdict
    reasons: tuple[str, ...]


@router.get("", summary="Rollouts, newest first")
@responds(Page[RolloutSummary])
def list_rollouts(hub: Hub) -> Response:
    """Without their devices."""
    return page_response([_summary(one) for one in hub.rollouts.all()])


@router.post("", summary="Start a rollout")
@responds(RolloutSummary, status=201)
def start(
    hub: Hub, who: Requester, *, body: Annotated[NewRollout, Depends(json_body(NewRollout))]
) -> Response:
    """Of a package, or of limits; 403 for a version that nobody approved, 409 for one in use."""
    return json_response(_summary(hub.rollouts.start(body, by=who.name)), status=201)


@router.post("/preview", summary="What a rollout would do")
@responds(RolloutDetails)
def preview(
    hub: Hub, who: Requester, *, body: Annotated[NewRollout, Depends(json_body(NewRollout))]
) -> Response:
    """``shares`` and ``devices`` as the start would choose them now; nothing is kept.

    Refused as the start would be.
    """
    return json_response(_shown(hub, hub.rollouts.preview(body, by=who.name)))


@router.get("/{rollout}", summary="One rollout")
@responds(RolloutDetails)
def get_rollout(hub: Hub, rollout: str) -> Response:
    """With its devices, their evidence, and what it waits for."""
    return json_response(_shown(hub, hub.rollouts.view(rollout)))


@router.post("/{rollout}/pause", summary="Pause")
@responds(RolloutDetails)
def pause(hub: Hub, who: Requester, *, rollout: str, how: Order) -> Response:
    """No further device begins; what is under way goes on."""
    return _ordered(hub, who, rollout=rollout, order=RolloutOrder.PAUSE, how=how)


@router.post("/{rollout}/resume", summary="Resume")
@responds(RolloutDetails)
def resume(hub: Hub, who: Requester, *, rollout: str, how: Order) -> Response:
    """From where it was paused."""
    return _ordered(hub, who, rollout=rollout, order=RolloutOrder.RESUME, how=how)


@router.post("/{rollout}/abort", summary="Abort")
@responds(RolloutDetails)
def abort(hub: Hub, who: Requester, *, rollout: str, how: Order) -> Response:
    """Nobody else gets it; devices keep what they have."""
    return _ordered(hub, who, rollout=rollout, order=RolloutOrder.ABORT, how=how)


@router.post("/{rollout}/rollback", summary="Roll back")
@responds(RolloutDetails)
def rollback(hub: Hub, who: Requester, *, rollout: str, how: Order) -> Response:
    """All devices that were asked go back to the package before, by a signed way."""
    return _ordered(hub, who, rollout=rollout, order=RolloutOrder.ROLLBACK, how=how)


def _ordered(
    hub: Services, who: Identity, *, rollout: str, order: RolloutOrder, how: OrderRequest
) -> Response:
    hub.rollouts.order(rollout, order, by=who.name, reason=how.reason)
    return json_response(_shown(hub, hub.rollouts.view(rollout)))


def _summary(one: Rollout) -> dict[str, object]:
    jobs = [job.job_id for job in one.jobs]
    return {
        **to_plain(one), "job": jobs[-1] if jobs else "", "jobs": jobs, "why": one.why,
        "devices": len(one.devices),
    }  # fmt: skip


def _shown(hub: Services, view: RolloutView) -> Mapping[str, object]:
    release = view.rollout.release
    point = hub.points.in_force(release.inspection, release.digest)
    in_force = point.number if point is not None else 0
    return {
        "operating_point": view.rollout.point or in_force,
        **_summary(view.rollout), "guard": view.rollout.plan.limits.sentence,
        "waits": view.waits, "waits_until": view.waits_until, "devices": view.devices,
        "may": view.may, "verdict": view.judged.verdict, "reasons": view.judged.reasons,
    }  # fmt: skip
