"""``/api/v1/replays``: a recorded span by another package or other rules, in the background."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from lineside.core import parse_rfc3339
from lineside.hub.api.wire import Hub, Page, Who, answer, body_of, gives, listed
from lineside.hub.replay.records import ReplayOrder
from lineside.hub.replay.repository import ReplayView
from lineside.hub.replay.service import ReplayWish

router = APIRouter(prefix="/api/v1/replays", tags=["replays"])


@router.get("", summary="Replays, newest first")
@gives(Page[ReplayView])
def list_replays(hub: Hub, package: str = "") -> Response:
    """Each with its span, counts and first differences; ``package``: those of one digest."""
    found = hub.replays.all()
    return listed([one for one in found if package in ("", one.order.package)])


@router.post("", summary="Replay a recorded span")
@gives(ReplayView, status=202)
def ask(
    hub: Hub, who: Who, *, wish: Annotated[ReplayWish, Depends(body_of(ReplayWish))]
) -> Response:
    """Made in the background, one at a time; nothing but the replay itself is written; 202."""
    order = ReplayOrder(
        since=parse_rfc3339(wish.since, where="since"),
        until=parse_rfc3339(wish.until, where="until"),
        package=wish.package.strip(), inspection=wish.inspection, warm_up_s=wish.warm_up_s,
    )  # fmt: skip
    return answer(hub.replays.ask(order, rules=wish.rules, by=who.name), status=202)


@router.get("/{replay}", summary="One replay")
@gives(ReplayView)
def get_replay(hub: Hub, replay: str) -> Response:
    """How far it is, or what it found in counts and first differences."""
    return answer(hub.replays.one(replay))


@router.get("/{replay}/result", summary="All that a replay found")
@gives(dict[str, Any])
def get_result(hub: Hub, replay: str) -> Response:
    """As ``lineside replay --json`` prints it; 404 while it is not done."""
    return answer(hub.replays.book.result(replay))


@router.post("/{replay}/cancel", summary="Cancel a replay")
@gives(ReplayView)
def cancel(hub: Hub, who: Who, *, replay: str) -> Response:
    """409 where it ended already."""
    return answer(hub.replays.cancel(replay, by=who.name))
