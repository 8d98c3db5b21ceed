"""Pages of the event log, dead letters, followers, search and sign-in."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from lineside.core import Json, NotFoundError, RouteKind, decode
from lineside.hub.eventlog.followers import FollowerState, FollowerView
from lineside.hub.pages.rules import rule_words
from lineside.hub.pages.site import Context
from lineside.hub.services import Services
from lineside.hub.views import EventView
from lineside.store import FrameFilter
from lineside.streams import (
    EVENT_TYPE,
    PREDICTION_TYPE,
    VERDICT_TYPE,
    Event,
    read_prediction,
)
from lineside.vision import Decision, PictureState, Prediction
from lineside.web.answers import SHARED_STATIC, Mark, finding_text
from lineside.web.format import counted, later, number, probability, span


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """The filters of the log page, as its address carries them. ``before`` is a position."""

    type: str = ""
    source: str = ""
    subject: str = ""
    before: int = 0

    def href(self, **change: str | int) -> str:
        """The page with some filters changed."""
        fields = {
            "type": self.type,
            "source": self.source,
            "subject": self.subject,
            "before": self.before,
        }
        kept = {key: value for key, value in {**fields, **change}.items() if value}
        return f"/events?{urlencode(kept)}" if kept else "/events"

    @property
    def filtered(self) -> bool:
        """True where any filter is set."""
        return bool(self.type or self.source or self.subject)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchHit:
    """Something the search found."""

    kind: str
    name: str
    href: str


_FOLLOWER_MARKS = {
    FollowerState.RUNNING: Mark(shape="ring", word="running"),
    FollowerState.WAITING: Mark(shape="triangle", word="waiting", tone="warn"),
    FollowerState.STANDBY: Mark(shape="dot", word="on another hub"),
    FollowerState.STOPPED: Mark(shape="bar", word="stopped", tone="bad"),
}


def follower_lag(one: FollowerView) -> str:
    """Return how far behind the log a follower is."""
    if not one.lag:
        return "none"
    return f"{counted(one.lag, 'record')}, {span(one.lag_s)}"


def short_type(kind: str) -> str:
    """``lineside.plant.stock.v1`` reads ``plant.stock``."""
    return kind.removeprefix("lineside.").rpartition(".v")[0] or kind


def frame_of(event: EventView) -> str:
    """The frame an event names; "" for none."""
    data = event.event.get("data", {})
    frame = data.get("frame", "")
    if event.type == VERDICT_TYPE:
        frame = next(iter(data.get("frames", ())), "")
    if isinstance(frame, Mapping):
        return str(frame.get("id", ""))
    return frame if isinstance(frame, str) and frame.startswith("frm_") else ""


def package_of(event: EventView) -> str:
    """The package an event names; "" for none."""
    data = event.event.get("data", {})
    named = data.get("package") or data.get("digest") or ""
    return named if isinstance(named, str) and event.type != "lineside.plant.frame.v1" else ""


def what_happened(event: EventView) -> str:
    """One line for an event of any type."""
    data = event.event.get("data", {})
    kind = short_type(event.type)
    if kind == "prediction":
        return prediction_words(read_prediction(decode(Event, event.event, where=event.id)))
    if kind == "anchor":
        return "heads of all chains written down"
    if kind == "plant.frame":
        return f"picture of {data.get('camera', 'a camera')}"
    if kind.startswith("plant."):
        return _message(data)
    if "rule" in data and "values" in data:
        return rule_words(data)
    return verdict_words(data) if kind == "verdict" else _message_words(data)


def _message_words(data: Mapping[str, Any]) -> str:
    names = ("action", "role", "colour", "sentence", "reason", "answer")
    text = ", ".join(str(data[name]) for name in names if data.get(name))
    return f"{text}, by {data['by']}" if text and data.get("by") else text or _message(data)


def verdict_words(data: Mapping[str, Any]) -> str:
    """A verdict in a line: ``reject: scratch 0.94 (part A-17)``."""
    reasons = f": {', '.join(data['reasons'])}" if data["reasons"] else ""
    return f"{data['verdict']}{reasons}" + (f" (part {data['part']})" if data["part"] else "")


def prediction_words(prediction: Prediction) -> str:
    """An answer of any task in a line."""
    if prediction.state is not PictureState.OK:
        return f"{prediction.state}: {prediction.reason or 'not judged'}"
    if found := finding_text(prediction):
        return found
    held = [label for label in prediction.labels if label.decision is Decision.PRESENT]
    unsure = sum(label.decision is Decision.UNSURE for label in prediction.labels)
    named = [f"{label.name} {probability(label.probability)}" for label in held[:3]]
    more = [f"{len(held) - 3} more"] if len(held) > 3 else []
    doubt = [f"{unsure} unsure"] if unsure else []
    return ", ".join([*named, *more, *doubt]) or "nothing present"


_LONGEST = 90
_NOT_SHOWN = ("ts", "topic", "data", "schema", "_partition")


def _message(data: Mapping[str, Any]) -> str:
    """A message's plain values in a line; nested ones are counted."""
    parts = []
    for key, value in data.items():
        if key in _NOT_SHOWN or value in ("", None):
            continue
        if isinstance(value, Mapping | list):
            parts.append(f"{key}: {len(value)}")
        else:
            parts.append(f"{key} {value}")
    text = ", ".join(parts)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


_LONGEST_VALUE = 2000


def shortened(value: Json) -> Json:
    """The same with long texts (pictures as base64) cut and their length said."""
    if isinstance(value, dict):
        return {key: shortened(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shortened(inner) for inner in value]
    if isinstance(value, str) and len(value) > _LONGEST_VALUE:
        return f"{value[:60]}… ({number(len(value))} characters)"
    return value


def comes_near(found: SearchHit, wanted: str) -> bool:
    """Return True where a name contains the query; digests match by their first digits."""
    name, asked = found.name.lower(), wanted.lower().removeprefix("sha256:")
    if found.kind == "package":
        return len(asked) >= 4 and name.removeprefix("sha256:").startswith(asked)
    return asked in name


router = APIRouter()

_PAGE = 50
_TYPES = (
    VERDICT_TYPE,
    PREDICTION_TYPE,
    EVENT_TYPE,
    *(f"lineside.{kind}.v1" for kind in (
        "alert", "device", "follower", "model", "operating_point", "order", "package",
        "plant_file", "replay", "review", "rollout", "token", "user", "webhook", "anchor",
    )),
    *(f"lineside.plant.{kind}.v1" for kind in RouteKind),
)  # fmt: skip


@router.get("/events")
def events_page(context: Context, *, type: str = "", source: str = "",  # noqa: A002
    subject: str = "", before: int = 0,
) -> HTMLResponse:  # fmt: skip
    """The event log, newest first; the filters stand in the address."""
    query = EventQuery(type=type, source=source, subject=subject, before=before)
    page = context.hub.events.page(
        after=before, kind=type, source=source, subject=subject, limit=_PAGE, newest_first=True
    )
    return context.page(
        "events.html",
        title="Events",
        active="events",
        sub="newest first" if page else "",
        events=page,
        short_type=short_type,
        what_happened=what_happened,
        frame_of=frame_of,
        query=query,
        filtered=query.filtered,
        types=dict.fromkeys((*_TYPES, *filter(None, [type]))),
        newest=query.href(before=0) if before else "",
        older=query.href(before=page[-1].position) if len(page) == _PAGE else "",
    )


@router.get("/events/{event}")
def event_page(context: Context, *, event: str) -> HTMLResponse:
    """One event as it stands in the log, with its place in the chain."""
    view = context.hub.events.one(event)
    body = json.dumps(shortened(view.event), indent=2, ensure_ascii=False)
    return context.page(
        "event.html",
        active="events",
        event=view,
        body=body,
        what=what_happened(view),
        frame=frame_of(view),
        package=package_of(view),
        arrived=later(view.time, view.arrived_at),
    )


@router.get("/rejected-messages")
def dead_letters_page(context: Context, *, before: str = "") -> HTMLResponse:
    """Followers of the log, records they set aside, and messages refused on their way in."""
    letters = context.hub.dead_letters.page(before=before, limit=_PAGE)
    followers = context.hub.followers.views()
    quarantined = [
        record
        for row in followers
        if row.quarantined
        for record in context.hub.followers.quarantined(row.name, limit=_PAGE)
    ]
    return context.page(
        "dead_letters.html",
        title="Rejected messages",
        active="dead",
        letters=letters,
        followers=followers,
        follower_marks=_FOLLOWER_MARKS,
        follower_lag=follower_lag,
        quarantined=quarantined,
        retryable={row.name for row in followers if row.retryable},
        counts=sorted(context.hub.dead_letters.counts().items()),
        older=letters[-1].id if len(letters) == _PAGE else "",
    )


@router.get("/search")
def search_page(context: Context, *, q: str = "") -> Response:
    """Go to the one thing that is called so, or list what comes near."""
    wanted = q.strip()
    found = _find(context.hub, wanted) if wanted else []
    if len(found) == 1:
        return RedirectResponse(found[0].href, status_code=303)
    return context.page("search.html", title="Search", query=wanted, found=found)


def _find(hub: Services, wanted: str) -> list[SearchHit]:
    exact = _by_id(hub, wanted)
    if exact is not None:
        return [exact]
    return [*_parts(hub, wanted), *(one for one in _names(hub) if comes_near(one, wanted))]


def _parts(hub: Services, wanted: str) -> list[SearchHit]:
    """The part of that id, where a frame shows it."""
    if "\0" in wanted or not hub.frames.find(FrameFilter(part=wanted), limit=1).frames:
        return []
    href = f"/pictures?{urlencode({'part': wanted})}"
    return [SearchHit(kind="part", name=wanted, href=href)]


def _by_id(hub: Services, wanted: str) -> SearchHit | None:
    head = wanted.partition("_")[0]
    try:
        match head:
            case "frm":
                row = hub.frames.row(wanted)
                return SearchHit(kind="frame", name=row.id, href=f"/frames/{row.id}")
            case "evt":
                event = hub.events.one(wanted)
                return SearchHit(kind="event", name=event.id, href=f"/events/{event.id}")
            case "run":
                run = hub.runs.one(wanted)
                return SearchHit(kind="run", name=run.id, href=f"/training/{run.id}")
            case "ord":
                return SearchHit(kind="order", name=wanted, href=f"/events?subject={wanted}")
            case _:
                return None
    except NotFoundError:
        return None


def _names(hub: Services) -> list[SearchHit]:
    """Everything that has a name of its own."""
    plant = hub.plant
    lines = {camera.id: camera.line or "-" for camera in plant.camera}
    found = [
        SearchHit(kind="camera", name=one, href=f"/lines/{line}/{one}")
        for one, line in lines.items()
    ]
    found += [
        SearchHit(
            kind="inspection", name=one.id, href=f"/lines/{lines.get(one.camera, '-')}/{one.camera}"
        )
        for one in plant.inspection
    ]
    found += [
        SearchHit(kind="device", name=one, href=f"/devices/{one}") for one in hub.devices.known()
    ]
    found += [
        SearchHit(kind="package", name=one.digest, href=f"/models/{one.digest}")
        for one in hub.packages.all()
    ]
    found += [
        SearchHit(kind="dataset", name=one.name, href=f"/datasets/{one.name}")
        for one in hub.datasets.all()
    ]
    return found


@router.get("/welcome")
def welcome_page(
    context: Context, *, onward: Annotated[str, Query(alias="next", max_length=2000)] = ""
) -> HTMLResponse:
    """Sign-in page; ``next`` is the page that was asked for."""
    return context.page("welcome.html", title="Sign in", problem=None, next=onward)


@router.get("/favicon.ico")
def favicon() -> FileResponse:
    """For browsers that ask for it by itself."""
    return FileResponse(SHARED_STATIC / "favicon.svg", media_type="image/svg+xml")
