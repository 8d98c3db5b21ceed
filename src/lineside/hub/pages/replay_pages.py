"""A recorded span once more: how far a replay is, and what differs."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from lineside.hub.pages.common import Ask
from lineside.hub.pages.views import replays as views

router = APIRouter(prefix="/replays")


@router.get("")
def replays(ask: Ask) -> HTMLResponse:
    """Every replay, newest first, and a form for another."""
    versions = [ask.hub.models.versions(one.name)[-1].name for one in ask.hub.models.all()]
    return ask.page(
        "replays.html",
        title="Replays",
        active="models",
        replays=[views.replay_row(one) for one in ask.hub.replays.all()],
        span=views.replay_span(ask.hub.clock.now()),
        example=versions[0] if versions else "recorded",
    )


@router.get("/{replay}")
def replay_page(ask: Ask, *, replay: str) -> HTMLResponse:
    """One replay: what was tried, the counts, the first differences with their frames."""
    row = views.replay_row(ask.hub.replays.one(replay))
    return ask.page("replay.html", active="models", replay=row)


@router.get("/{replay}/progress")
def progress(ask: Ask, *, replay: str) -> HTMLResponse:
    """How far it is, read anew every second while it is at work."""
    row = views.replay_row(ask.hub.replays.one(replay))
    fragment = ask.site.fragment("replay_progress.html", replay=row)
    if not row.cancels:  # ended: the rest of the page changes with it
        fragment.headers["hx-refresh"] = "true"
    return fragment
