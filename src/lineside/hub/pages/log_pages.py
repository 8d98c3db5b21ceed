"""Events, refused messages, devices, search, and what stands before the sign-in."""

import json

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from lineside.core import NotFoundError, RouteKind
from lineside.hub.pages.common import Ask
from lineside.hub.pages.format import later
from lineside.hub.pages.site import LOOK
from lineside.hub.pages.views import log as views
from lineside.hub.services import Services
from lineside.streams import EVENT_TYPE, PREDICTION_TYPE

router = APIRouter()

_PAGE = 50
_TYPES = (
    PREDICTION_TYPE,
    EVENT_TYPE,
    "lineside.order.v1",
    "lineside.package.v1",
    "lineside.anchor.v1",
    *(f"lineside.plant.{kind}.v1" for kind in RouteKind),
)


@router.get("/events")
def events(ask: Ask, *, type: str = "", source: str = "",  # noqa: A002
    subject: str = "", before: int = 0,
) -> HTMLResponse:  # fmt: skip
    """The event log, newest first; the filters stand in the address."""
    query = views.EventQuery(type=type, source=source, subject=subject, before=before)
    page = ask.hub.events.page(
        after=before, kind=type, source=source, subject=subject, limit=_PAGE, newest_first=True
    )
    return ask.page(
        "events.html",
        title="Events",
        active="events",
        sub="newest first" if page else "",
        events=views.event_rows(page, query=query),
        query=query,
        filtered=query.filtered,
        types=_TYPES,
        newest=query.href(before=0) if before else "",
        older=query.href(before=page[-1].position) if len(page) == _PAGE else "",
    )


@router.get("/events/{event}")
def event_page(ask: Ask, *, event: str) -> HTMLResponse:
    """One event as it stands in the log, with its place in the chain."""
    view = ask.hub.events.one(event)
    body = json.dumps(views.shortened(view.event), indent=2, ensure_ascii=False)
    return ask.page(
        "event.html",
        active="events",
        event=view,
        body=body,
        what=views.what_happened(view),
        frame=views.frame_of(view),
        package=views.package_of(view),
        arrived=later(view.time, view.arrived_at),
    )


@router.get("/dead-letters")
def dead_letters(ask: Ask, *, before: str = "") -> HTMLResponse:
    """Followers of the log, records they set aside, and messages refused on their way in."""
    letters = ask.hub.dead_letters.page(before=before, limit=_PAGE)
    followers = views.follower_rows(ask.hub.followers.views())
    quarantined = [
        record
        for row in followers
        if row.quarantined
        for record in ask.hub.followers.quarantined(row.name, limit=_PAGE)
    ]
    return ask.page(
        "dead_letters.html",
        title="Rejected messages",
        active="dead",
        letters=letters,
        followers=followers,
        quarantined=quarantined,
        retryable={row.name for row in followers if row.retryable},
        counts=sorted(ask.hub.dead_letters.counts().items()),
        older=letters[-1].id if len(letters) == _PAGE else "",
    )


@router.get("/search")
def search(ask: Ask, *, q: str = "") -> Response:
    """Go to the one thing that is called so, or list what comes near."""
    wanted = q.strip()
    found = _find(ask.hub, wanted) if wanted else []
    if len(found) == 1:
        return RedirectResponse(found[0].href, status_code=303)
    return ask.page("search.html", title="Search", query=wanted, found=found)


def _find(hub: Services, wanted: str) -> list[views.Found]:
    exact = _by_id(hub, wanted)
    if exact is not None:
        return [exact]
    return [found for found in _names(hub) if views.comes_near(found, wanted)]


def _by_id(hub: Services, wanted: str) -> views.Found | None:
    head = wanted.partition("_")[0]
    try:
        match head:
            case "frm":
                row = hub.frames.row(wanted)
                return views.Found(kind="frame", name=row.id, href=f"/frames/{row.id}")
            case "evt":
                event = hub.events.one(wanted)
                return views.Found(kind="event", name=event.id, href=f"/events/{event.id}")
            case "run":
                run = hub.runs.one(wanted)
                return views.Found(kind="run", name=run.id, href=f"/runs/{run.id}")
            case "ord":
                return views.Found(kind="order", name=wanted, href=f"/events?subject={wanted}")
            case _:
                return None
    except NotFoundError:
        return None


def _names(hub: Services) -> list[views.Found]:
    """Everything that has a name of its own."""
    plant = hub.plant
    lines = {camera.id: camera.line or "-" for camera in plant.camera}
    found = [
        views.Found(kind="camera", name=one, href=f"/lines/{line}/{one}")
        for one, line in lines.items()
    ]
    found += [
        views.Found(
            kind="inspection", name=one.id, href=f"/lines/{lines.get(one.camera, '-')}/{one.camera}"
        )
        for one in plant.inspection
    ]
    found += [
        views.Found(kind="device", name=one, href=f"/fleet/{one}") for one in hub.devices.known()
    ]
    found += [
        views.Found(kind="package", name=one.digest, href=f"/models/{one.digest}")
        for one in hub.packages.all()
    ]
    found += [
        views.Found(kind="dataset", name=one.name, href=f"/data/{one.name}")
        for one in hub.datasets.all()
    ]
    return found


@router.get("/welcome")
def welcome(ask: Ask) -> HTMLResponse:
    """How to sign in."""
    return ask.page("welcome.html", title="Sign in", problem=None)


@router.get("/favicon.ico")
def favicon() -> FileResponse:
    """For browsers that ask for it by itself."""
    return FileResponse(LOOK / "favicon.svg", media_type="image/svg+xml")
