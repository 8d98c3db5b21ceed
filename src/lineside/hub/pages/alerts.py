"""Page of the alerts: the open ones with cause, picture, consequence and remedy; the history."""

from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from lineside.hub.pages.line_figures import uninspected
from lineside.hub.pages.site import Context
from lineside.hub.services import Services
from lineside.streams.alerts import Alert, AlertCause
from lineside.web.answers import Mark

router = APIRouter()
_SHOWN = 50
_PLACES = {
    AlertCause.REJECT_RATE: ("/lines/{}", "Line"),
    AlertCause.UNSURE_RATE: ("/review", "Review"),
    AlertCause.DRIFT: ("/review", "Review"),
    AlertCause.DEVICE_LOST: ("/devices", "Devices"),
    AlertCause.SINK_STALLED: ("/rejected-messages#followers", "Followers of the log"),
    AlertCause.DISK: ("/setup", "Set-up"),
    AlertCause.CERTIFICATE: ("/setup", "Set-up"),
    AlertCause.ROLLBACK: ("/rollouts", "Rollouts"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertCard:
    """An alert as the page shows it.

    Attributes:
        title: cause and object in words.
        cost: parts that went uninspected; "" where none are known.
        href, place: where the cause is looked into.
    """

    alert: Alert
    title: str
    mark: Mark
    cost: str
    href: str
    place: str


def alert_card(hub: Services, alert: Alert) -> AlertCard:
    """Return an alert with its mark, what it cost so far, and where to go."""
    cause, cost = alert.cause, ""
    name, href, place = alert.object, *_PLACES.get(cause, ("", ""))
    camera = next((one for one in hub.plant.camera if one.id == alert.object), None)
    if cause.of_camera and camera is not None:
        name = camera.name or camera.id
        href, place = f"/lines/{camera.line or '-'}/{camera.id}", "Camera"
        cost = uninspected(hub, hub.cameras.one(camera.id)) if alert.open else ""
    return AlertCard(
        alert=alert, title=f"{str(cause).capitalize()}: {name}", mark=alert_mark(alert), cost=cost,
        href=href.format(alert.object), place=place,
    )  # fmt: skip


def alert_mark(alert: Alert) -> Mark:
    """Return the state of an alert in shape and word."""
    if not alert.open:
        return Mark(shape="ring", word="over")
    if alert.acknowledged_at is not None:
        return Mark(shape="dot", word="acknowledged", tone="ink")
    return Mark(shape="triangle", word="open", tone="warn")


@router.get("/alerts")
def alerts_page(context: Context, *, before: str = "") -> HTMLResponse:
    """Open alerts first, then those that are over, newest first."""
    hub = context.hub
    found = hub.alerts.history(before=before, limit=_SHOWN + 1)
    return context.page(
        "alerts.html",
        title="Alerts",
        active="alerts",
        opened=[alert_card(hub, one) for one in hub.alerts.open()],
        over=[alert_card(hub, one) for one in found[:_SHOWN]],
        older=found[_SHOWN - 1].id if len(found) > _SHOWN else "",
    )
