"""``/api/v1/replays``: a recorded span by another package or other rules, in the background."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from lineside.core import parse_rfc3339
from lineside.hub.api.wire import (
    Hub,
    Page,
    Requester,
    json_body,
    json_response,
    page_response,
    responds,
)
from lineside.hub.replay.repository import ReplayOrder, ReplayView
from lineside.hub.replay.service import ReplayRequest

router = APIRouter(prefix="/api/v1/replays", tags=["replays"])


@router.get("", summary="Replays, newest first")
@responds(Page[ReplayView])
def list_replays(hub: Hub, package: str = "") -> Response:
    """Each with its span, counts and first differences; ``package``: those of one digest."""
    found = hub.replays.all()
    return page_response([one for one in found if package in ("", one.order.package)])


@router.post("", summary="Replay a recorded span")
@responds(ReplayView, status=202)
def ask(
    hub: Hub, who: Requester, *, body: Annotated[ReplayRequest, Depends(json_body(ReplayRequest))]
) -> Response:
    """Made in the background, one at a time; nothing but the replay itself is written; 202."""
    order = ReplayOrder(
        since=parse_rfc3339(body.since, where="since"),
        until=parse_rfc3339(body.until, where="until"),
        package=body.package.strip(), inspection=body.inspection, warm_up_s=body.warm_up_s,
    )  # fmt: skip
    return json_response(hub.replays.ask(order, rules=body.rules, by=who.name), status=202)


@router.get("/{replay}", summary="One replay")
@responds(ReplayView)
def get_replay(hub: Hub, replay: str) -> Response:
    """Its progress, or its result in counts and first differences."""
    return json_response(hub.replays.one(replay))


@router.get("/{replay}/result", summary="All that a replay found")
@responds(dict[str, Any])
def get_result(hub: Hub, replay: str) -> Response:
    """As ``lineside replay --json`` prints it; 404 while it is not done."""
    return json_response(hub.replays.book.result(replay))


@router.post("/{replay}/cancel", summary="Cancel a replay")
@responds(ReplayView)
def cancel(hub: Hub, who: Requester, *, replay: str) -> Response:
    """409 where it ended already."""
    return json_response(hub.replays.cancel(replay, by=who.name))
