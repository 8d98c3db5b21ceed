"""A recorded span once more: how far a replay is, and what differs."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from lineside.core import rfc3339, short
from lineside.hub.pages.site import Context
from lineside.hub.replay.repository import (
    AS_RECORDED,
    CANCELLED,
    DONE,
    FAILED,
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


def replay_span(now: datetime) -> tuple[str, str]:
    """The last hour up to the full minute, as a form offers it."""
    until = now.replace(second=0, microsecond=0)
    return rfc3339(until - timedelta(hours=1)), rfc3339(until)


def what_words(view: ReplayView) -> str:
    """By what the span was answered and judged."""
    answered = {"": "answers as recorded", AS_RECORDED: "the packages that answered then"}
    tried = f"{view.package_name or 'a package of a file'} {short(view.order.package)}"
    by = answered.get(view.order.package, tried)
    rules = ", other rules" if view.rules else ""
    named = f", inspection {view.order.inspection}" if view.order.inspection else ""
    return f"{by}{named}{rules}"


def replay_mark(view: ReplayView) -> Mark:
    """The state of a replay, and whether something differs."""
    if view.state in (FAILED, CANCELLED):
        return Mark(shape="bar", word=view.state, tone="bad" if view.state == FAILED else "")
    if view.state != DONE:
        return Mark(shape="ring", word=view.state, tone="")
    word = "nothing differs" if view.bit_identical else "differences"
    return Mark(shape="tick" if view.bit_identical else "diamond", word=word, tone="")


REPLAY_WORDS = {
    "replay_mark": replay_mark, "what_words": what_words, "replay_words": replay_words,
}  # fmt: skip
"""Words of templates about a replay."""


def replay_facts(view: ReplayView) -> Iterator[tuple[str, str]]:
    """Counts by name."""
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


router = APIRouter(prefix="/replays")


@router.get("")
def replays_page(context: Context) -> HTMLResponse:
    """Every replay, newest first, and a form for another."""
    versions = [context.hub.models.versions(one.name)[-1].name for one in context.hub.models.all()]
    return context.page(
        "replays.html",
        title="Replays",
        active="models",
        replays=context.hub.replays.all(),
        **REPLAY_WORDS,
        span=replay_span(context.hub.clock.now()),
        example=versions[0] if versions else "recorded",
    )


@router.get("/{replay}")
def replay_page(context: Context, *, replay: str) -> HTMLResponse:
    """One replay: what was tried, the counts, the first differences with their frames."""
    found = context.hub.replays.one(replay)
    asked = found.order.package not in ("", AS_RECORDED)
    return context.page(
        "replay.html", active="models", replay=found, package=found.order.package if asked else "",
        kinds=_KINDS, facts=replay_facts(found), **REPLAY_WORDS,
    )  # fmt: skip


@router.get("/{replay}/progress")
def replay_progress(context: Context, *, replay: str) -> HTMLResponse:
    """Progress of a replay as a part, read again every second while it runs."""
    found = context.hub.replays.one(replay)
    fragment = context.site.fragment("replay_progress.html", replay=found, **REPLAY_WORDS)
    if found.ended:  # ended: the rest of the page changes with it
        fragment.headers["hx-refresh"] = "true"
    return fragment
