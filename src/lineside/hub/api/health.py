"""Health and readiness of the hub, figures, and the followers of its log."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NotRequired, TypedDict

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from lineside.core import InvalidError
from lineside.hub.api.wire import (
    Hub,
    Limit,
    Page,
    Requester,
    json_response,
    next_cursor,
    page_response,
    responds,
    whole_number,
)
from lineside.hub.eventlog.dead_letters import QuarantinedRecord
from lineside.hub.eventlog.followers import FollowerState, FollowerView

router = APIRouter(tags=["machines"])
log_router = APIRouter(prefix="/api/v1", tags=["line"])


class FollowerFigures(TypedDict):
    """A follower in short."""

    name: str
    state: FollowerState
    position: int
    lag: int
    lag_s: float
    since: datetime | None
    quarantined: int


class Readiness(TypedDict):
    """Readiness of the hub, with the parts that are away."""

    ready: bool
    away: Sequence[str]
    followers: list[FollowerFigures]
    fix: NotRequired[str]


@router.get("/healthz", summary="The process answers")
@responds(bytes, "text/plain")
async def healthz() -> Response:
    """Nothing is looked at, and no thread is waited for."""
    return PlainTextResponse("ok\n")


@router.get("/readyz", summary="The hub can do its work")
@responds(Readiness)
@responds(Readiness, status=503)
async def readyz(hub: Hub) -> Response:
    """503 with what is away: the store, the bus, room on the disk, a follower that stopped.

    Neither the store nor a thread is waited for: a thread of its own asks the store every second.

    A sink that is away makes no hub unready, because its records wait in the log; it is listed.
    """
    away, views = hub.away(), hub.followers.views()
    followers: list[FollowerFigures] = [
        {
            "name": view.name, "state": view.state, "position": view.position, "lag": view.lag,
            "lag_s": view.lag_s, "since": view.since, "quarantined": view.quarantined,
        }
        for view in views
    ]  # fmt: skip
    readiness = Readiness(ready=not away, away=away, followers=followers)
    if "disk" in away:
        readiness["fix"] = (
            f"{hub.config.free_bytes / 1e9:.2f} GB are free where the hub keeps its data, at least"
            f" {hub.config.min_free_bytes / 1e9:.2f} GB must be (min_free_bytes). Free some, or set"
            " retention.max_bytes."
        )
    return json_response(readiness, status=503 if away else 200)


@router.get("/metrics", summary="Figures for Prometheus")
@responds(bytes, "text/plain")
def metrics(hub: Hub) -> Response:
    """Text format 0.0.4."""
    return Response(hub.stats.exposition(), media_type="text/plain; version=0.0.4")


# ---- followers of the log


@log_router.get("/followers", summary="What follows the log")
@responds(Page[FollowerView])
def list_followers(hub: Hub) -> Response:
    """Each with its position, its lag, its state, and how many records it set aside."""
    return page_response(hub.followers.views())


@log_router.get(
    "/followers/{follower}/quarantine", summary="Records a follower set aside, oldest first"
)
@responds(Page[QuarantinedRecord])
def list_quarantine(
    hub: Hub, follower: str, *, after: str = "", limit: Limit = 100
) -> Response:  # fmt: skip
    """Each with its position in the log, its event, and why it failed."""
    page = hub.followers.quarantined(follower, after=whole_number(after, name="after"), limit=limit)
    return page_response(page, following=next_cursor(page, limit, key=lambda one: one.position))


@log_router.post("/followers/{follower}/quarantine/retry", summary="Try all its records again")
@responds(FollowerView, status=202)
def retry_all(hub: Hub, who: Requester, *, follower: str) -> Response:
    """202: tried within a second; what fails again stays. 409 for a follower that only skips."""
    hub.followers.retry(follower, by=who.name)
    return json_response(hub.followers.one(follower).view(), status=202)


@log_router.post("/followers/{follower}/quarantine/discard", summary="Discard all its records")
@responds(FollowerView)
def discard_all(hub: Hub, who: Requester, *, follower: str) -> Response:
    """The events stay in the log."""
    hub.followers.discard(follower, by=who.name)
    return json_response(hub.followers.one(follower).view())


@log_router.post(
    "/followers/{follower}/quarantine/{position}/retry", summary="Try one record again"
)
@responds(FollowerView, status=202)
def retry_one(hub: Hub, who: Requester, *, follower: str, position: str) -> Response:
    """202: tried within a second; if it fails again it stays, with the new reason."""
    hub.followers.retry(follower, position=_position(position), by=who.name)
    return json_response(hub.followers.one(follower).view(), status=202)


@log_router.post(
    "/followers/{follower}/quarantine/{position}/discard", summary="Discard one record"
)
@responds(FollowerView)
def discard_one(hub: Hub, who: Requester, *, follower: str, position: str) -> Response:
    """The event stays in the log."""
    hub.followers.discard(follower, position=_position(position), by=who.name)
    return json_response(hub.followers.one(follower).view())


def _position(text: str) -> int:
    position = whole_number(text, name="position")
    if not position:
        raise InvalidError(
            f"{text!r} is no position", where="position", fix="Take one of the quarantine's list."
        )
    return position


@log_router.get("/stats", summary="Counters and latencies")
@responds(dict[str, Any])
def get_stats(hub: Hub) -> Response:
    """Since the hub started."""
    return json_response(hub.stats.plain())
