"""A recorded span once more: how far a replay is, and what differs."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from lineside.core import rfc3339
from lineside.hub.pages.site import Context
from lineside.hub.replay.repository import (
    AS_RECORDED,
    CANCELLED,
    DONE,
    FAILED,
    ReplayLine,
    ReplayView,
    replay_words,
)
from lineside.web.answers import Mark
from lineside.web.format import number

_KINDS = {
    "decision": ("Decisions changed", "Inspection", "decisions_changed"),
    "verdict": ("Parts with another verdict", "Part", "verdicts_changed"),
    "event": ("Events that differ", "Rule", "events_changed"),
    "twin": ("Places of the twin that differed", "Place", "twin_changed"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceList:
    """One kind of difference.

    Attributes:
        count: all of them; ``lines`` the first ones.
        column: heading of what differs.
    """

    title: str
    column: str
    count: str
    more: bool
    lines: tuple[ReplayLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRow:
    """A replay in words.

    Attributes:
        package: digest to link to; "" where none or several were asked.
        verdict: what it found, in a sentence; "" while it is not done.
        facts: counts by name.
    """

    id: str
    mark: Mark
    what: str
    package: str
    package_name: str
    since: datetime
    until: datetime
    asked_by: str
    asked_at: datetime
    ended_at: datetime | None
    percent: float
    reason: str
    verdict: str
    digest: str
    cancels: bool
    done: bool
    facts: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]
    differing: tuple[DifferenceList, ...]


def replay_row(view: ReplayView) -> ReplayRow:
    """A replay as a page shows it."""
    asked = view.order.package not in ("", AS_RECORDED)
    return ReplayRow(
        id=view.id, mark=_mark(view), what=what_words(view),
        package=view.order.package if asked else "", package_name=view.package_name,
        since=view.order.since, until=view.order.until, asked_by=view.asked_by,
        asked_at=view.asked_at, ended_at=view.ended_at, percent=view.percent, reason=view.reason,
        verdict=replay_words(view), digest=view.digest, cancels=not view.ended,
        done=view.state == DONE, facts=tuple(_facts(view)), remarks=view.remarks,
        differing=tuple(_difference_list(view)),
    )  # fmt: skip


def replay_span(now: datetime) -> tuple[str, str]:
    """The last hour up to the full minute, as a form offers it."""
    until = now.replace(second=0, microsecond=0)
    return rfc3339(until - timedelta(hours=1)), rfc3339(until)


def what_words(view: ReplayView) -> str:
    """By what the span was answered and judged."""
    answered = {"": "answers as recorded", AS_RECORDED: "the packages that answered then"}
    by = answered.get(view.order.package, view.package_name or "a package of a file")
    rules = ", other rules" if view.rules else ""
    named = f", {view.order.inspection}" if view.order.inspection else ""
    return f"{by}{named}{rules}"


def _mark(view: ReplayView) -> Mark:
    if view.state in (FAILED, CANCELLED):
        return Mark(shape="bar", word=view.state, tone="bad" if view.state == FAILED else "")
    if view.state != DONE:
        return Mark(shape="ring", word=view.state, tone="")
    word = "nothing differs" if view.bit_identical else "differences"
    return Mark(shape="tick" if view.bit_identical else "diamond", word=word, tone="")


def _facts(view: ReplayView) -> Iterator[tuple[str, str]]:
    counts = view.counts
    yield "Frames", number(view.frames)
    yield "Identical answers", number(counts.identical)
    yield "Same decision, other figures", number(counts.figures_moved)
    yield "Decisions changed", number(counts.decisions_changed)
    yield "Parts with another verdict", number(counts.verdicts_changed)
    yield "Largest change of a probability", f"{counts.largest_move:.4f}"
    yield "Without a picture", number(counts.frames_missing)
    yield "Not answered", number(counts.frames_damaged)
    yield "Events the same", number(counts.events_same)
    yield "Events with other figures", number(counts.events_moved)
    yield "Events that differ", number(counts.events_changed)
    yield "Places of the twin that differed", number(counts.twin_changed)
    yield "Entries of the log", number(counts.entries)


def _difference_list(view: ReplayView) -> Iterator[DifferenceList]:
    for kind, (title, column, name) in _KINDS.items():
        lines = tuple(line for line in view.lines if line.kind == kind)
        count = int(getattr(view.counts, name))
        if lines:
            yield DifferenceList(
                title=title, column=column, count=number(count), more=count > len(lines),
                lines=lines,
            )  # fmt: skip


router = APIRouter(prefix="/replays")


@router.get("")
def replays_page(context: Context) -> HTMLResponse:
    """Every replay, newest first, and a form for another."""
    versions = [context.hub.models.versions(one.name)[-1].name for one in context.hub.models.all()]
    return context.page(
        "replays.html",
        title="Replays",
        active="models",
        replays=[replay_row(one) for one in context.hub.replays.all()],
        span=replay_span(context.hub.clock.now()),
        example=versions[0] if versions else "recorded",
    )


@router.get("/{replay}")
def replay_page(context: Context, *, replay: str) -> HTMLResponse:
    """One replay: what was tried, the counts, the first differences with their frames."""
    row = replay_row(context.hub.replays.one(replay))
    return context.page("replay.html", active="models", replay=row)


@router.get("/{replay}/progress")
def replay_progress(context: Context, *, replay: str) -> HTMLResponse:
    """Progress of a replay as a part, read again every second while it runs."""
    row = replay_row(context.hub.replays.one(replay))
    fragment = context.site.fragment("replay_progress.html", replay=row)
    if not row.cancels:  # ended: the rest of the page changes with it
        fragment.headers["hx-refresh"] = "true"
    return fragment
