"""``/api/v1/alerts``: what is wrong at the site now, what was, and who looks after it."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response

from lineside.hub.alerts.service import Acknowledgement
from lineside.hub.api.wire import (
    Hub,
    Limit,
    Page,
    Requester,
    json_body,
    json_response,
    next_cursor,
    page_response,
    responds,
)
from lineside.streams.alerts import Alert

router = APIRouter(prefix="/api/v1/alerts", tags=["line"])

State = Annotated[
    Literal["open", "closed"], Query(description="open: whose cause holds; closed: the history")
]
After = Annotated[str, Query(description="of the history, what is behind this alert (its id)")]
_OPEN = {
    "id": "alr_01KTESTALERT00000000000001", "cause": "camera dark", "object": "rack",
    "since": "2026-01-01T12:00:00.000Z",
    "reason": "Rack camera: mean grey 2.1 is below 12.0",
    "consequence": "Parts pass this camera without a usable picture.",
    "remedy": "Check the lens cover, the lighting and the exposure of the camera.",
    "line": "warehouse", "frame": "frm_01KTESTFRAME", "times": 1, "ended_at": None,
    "acknowledged_by": "", "acknowledged_at": None, "note": "",
}  # fmt: skip
_ACKNOWLEDGED = {
    **_OPEN, "acknowledged_by": "m.keller", "acknowledged_at": "2026-01-01T12:01:00.000Z",
    "note": "cover was left on after cleaning",
}  # fmt: skip


@router.get("", summary="Alerts, open or over")
@responds(Page[Alert], example={"items": [_OPEN], "next": None, "cursor": "after"})
def list_alerts(
    hub: Hub, *, state: State = "open", after: After = "", limit: Limit = 100
) -> Response:
    """Open: all, those that nobody acknowledged first; closed: newest first."""
    if state == "open":
        return page_response(hub.alerts.open())
    found = hub.alerts.history(before=after, limit=limit)
    return page_response(found, following=next_cursor(found, limit, key=lambda one: one.id))


@router.get("/{alert}", summary="One alert")
@responds(Alert, example=_OPEN)
def get_alert(hub: Hub, alert: str) -> Response:
    """As it stands now."""
    return json_response(hub.alerts.one(alert))


@router.post("/{alert}/acknowledge", summary="Say that somebody looks after an alert")
@responds(Alert, example=_ACKNOWLEDGED)
def acknowledge_alert(
    hub: Hub, who: Requester, alert: str, *,
    given: Annotated[Acknowledgement, Depends(json_body(Acknowledgement))],
) -> Response:  # fmt: skip
    """409 where it was acknowledged before. Drift and a rollback are over with that."""
    return json_response(hub.alerts.acknowledge(alert, given, by=who.name))
