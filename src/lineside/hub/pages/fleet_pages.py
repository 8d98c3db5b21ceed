"""The fleet: every device in a list, and one device."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from lineside.hub.devices.inventory import DeviceQuery
from lineside.hub.pages.common import Ask
from lineside.hub.pages.views import fleet as views

router = APIRouter(prefix="/fleet")

_PAGE = 50


@router.get("")
def fleet(
    ask: Ask,
    *,
    q: str = "",
    group: str = "",
    state: str = "",
    after: Annotated[str, Query(description="the cursor of the page before")] = "",
) -> HTMLResponse:
    """Devices by name, with filters; fifty a page."""
    query = DeviceQuery(after=after, group=group, state=state, text=q, limit=_PAGE)
    page = ask.hub.fleet.page(query)
    now = ask.hub.clock.now()
    online, known = ask.hub.devices.count()
    return ask.page(
        "fleet.html",
        title="Devices",
        active="fleet",
        sub=f"{online} of {known} reporting",
        devices=[views.entry_of(one, now=now) for one in page.items],
        marks=views.MARKS,
        query=query,
        filtered=bool(q or group or state or after),
        states=views.FILTERS,
        groups=ask.hub.things.all_groups(),
        further=views.list_address(query, after=page.following) if page.following else "",
        first=views.list_address(query, after="") if after else "",
        invitations=ask.hub.enrolment.invitations(),
        lines=ask.hub.plant.line,
    )


@router.get("/{device}")
def device(ask: Ask, *, device: str) -> HTMLResponse:
    """One device: certificate, packages, jobs, clock, groups."""
    found = ask.hub.fleet.one(device)
    return ask.page(
        "device.html",
        title=device,
        active="fleet",
        found=found,
        shown=views.facts_of(found, now=ask.hub.clock.now()),
    )
