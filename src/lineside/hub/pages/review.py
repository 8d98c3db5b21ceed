"""Page of the review queue: one picture, its answers by key, and the quality by the audit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from lineside.core import Inspection, Json, NotFoundError, decode
from lineside.core.plant import Task
from lineside.hub.pages.frames import map_names
from lineside.hub.pages.pictures import places_of
from lineside.hub.pages.site import Context
from lineside.hub.review.items import ReviewStatus
from lineside.hub.review.service import (
    MOST_COUNTED,
    ReviewFinding,
    ReviewQuality,
    ReviewView,
)
from lineside.hub.services import Services
from lineside.streams import Event, read_prediction
from lineside.vision.metrics import Interval
from lineside.web.answers import Mark, overlay_of
from lineside.web.format import DASH, at_most, counted, number, probability

_STRIP = 11
_KEYS = 9
_DAYS = 7
_SPANS = (1, 7, 30, 90)
_LIKELIEST = 3
_AUDIT = Mark(shape="ring", word="random audit")
_DISAGREEMENT = Mark(shape="triangle", word="disagreement", tone="warn")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewSuggestion:
    """An inspection's answer as the rail beside the picture shows it.

    Attributes:
        answer: the choice that it suggests; "" for none.
        scores: the likeliest labels with their probabilities.
        heat: address of the activation map; "" where there is none.
        overlay: what is drawn on the picture.
    """

    title: str
    answer: str = ""
    scores: str
    heat: str
    overlay: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class RateBar:
    """A rate in words, and where it and its interval lie on a bar from 0 to 100."""

    value: str
    text: str
    range: str
    at: float
    low: float
    high: float


def item_mark(view: ReviewView) -> Mark:
    """Return why a picture is in review; of an audited one nothing more than that."""
    if view.status is ReviewStatus.DISAGREEMENT:
        return _DISAGREEMENT
    if view.audit or view.finding is None:
        return _AUDIT
    score = f" {probability(view.finding.score)}" if view.finding.score else ""
    return Mark(shape="triangle", word=f"{view.finding.label or 'in doubt'}{score}", tone="warn")


def suggestion_of(hub: Services, finding: ReviewFinding) -> ReviewSuggestion:
    """Return what the rail shows of a finding; only its label where its event was pruned.

    Of a class both likeliest labels are in question, and the first one is suggested.
    """
    title = f"{finding.label}?" if finding.score else finding.label or "In doubt"
    try:
        event = hub.events.one(finding.event).event
    except NotFoundError:
        return ReviewSuggestion(title=title, scores="", heat="", overlay=None)
    prediction = read_prediction(decode(Event, event, where=finding.event))
    inspection: Inspection | None = next(
        (one for one in hub.plant.inspection if one.id == prediction.inspection), None
    )
    maps = map_names(prediction)
    heat = ""
    if maps:
        label = finding.label if finding.label in maps else maps[0]
        named = urlencode({"label": label, "package": finding.package})
        heat = f"/api/v1/frames/{finding.frame}/activation?{named}"
    ranked = sorted(prediction.labels, key=lambda one: -one.probability)[:_LIKELIEST]
    is_class = prediction.task == Task.CLASSIFY and ranked
    return ReviewSuggestion(
        title=f"{' or '.join(one.name for one in ranked[:2])}?" if is_class else title,
        answer=ranked[0].name if is_class else finding.label,
        scores=", ".join(f"{one.name} {probability(one.probability)}" for one in ranked),
        heat=heat,
        overlay=overlay_of(prediction, inspection),
    )


def rate_bars(quality: ReviewQuality) -> tuple[RateBar, ...]:
    """Return the rates that the audit gives, in words; none where nothing was audited."""
    found = quality.figures
    rates = (
        (found.false_reject, "of rejects are good"),
        (found.escape, "of passed parts are bad"),
        (found.missed, "of bad parts decided without a person slip through"),
    )
    widest = max((one.high for one, _ in rates if one is not None), default=1.0)
    return tuple(_bar(one, text, widest=widest) for one, text in rates if one is not None)


def _bar(rate: Interval, text: str, *, widest: float) -> RateBar:
    value, low, high = (_percent(one) for one in (rate.value, rate.low, rate.high))
    at, start, end = (round(100.0 * one / widest, 1) for one in (rate.value, rate.low, rate.high))
    return RateBar(
        value=f"{value}\u00a0%", text=text, range=f"{low}{DASH}{high}", at=at, low=start, high=end
    )


def _percent(share: float) -> str:
    """Percent with two digits below 1, so that a small rate does not round to none."""
    return number(share * 100, digits=2 if 0 < share < 0.01 else 1)


def quality_text(quality: ReviewQuality) -> str:
    """``From 214 passed and 84 rejected pictures audited, last 7 days. 95 % intervals.``."""
    passed, rejected = quality.passed.judged, quality.rejected.judged
    days = round((quality.until - quality.since).total_seconds() / 86_400)
    return (
        f"From {number(passed)} passed and {counted(rejected, 'rejected picture')} audited, last"
        f" {counted(days, 'day')}. Bars: 95 % intervals."
    )


def waiting_text(waits: int) -> str:
    """``1 picture waits``, ``99+ pictures wait``; "" for none."""
    if not waits:
        return ""
    return f"{at_most(waits, MOST_COUNTED - 1)} picture{' waits' if waits == 1 else 's wait'}"


def disagreement_text(quality: ReviewQuality) -> str:
    """``2 open disagreements on audited pictures, not in the rates.``; "" without any."""
    if not quality.disagreements:
        return ""
    open_ = counted(quality.disagreements, "open disagreement")
    return f"{open_} on audited pictures, not in the rates."


def agreement_text(quality: ReviewQuality) -> str:
    """``Two people agree on 93.5 % (82.1-98.3) of 46 pictures, kappa 0.86.``; "" without any."""
    found = quality.agreement
    if found is None:
        return ""
    share = found.share
    kappa = "" if found.kappa is None else f", kappa {number(found.kappa, digits=2)}"
    return (
        f"Two people agree on {_percent(share.value)} % ({_percent(share.low)}{DASH}"
        f"{_percent(share.high)}) of {counted(share.n, 'picture')}{kappa}."
    )


def _href(narrowed: Mapping[str, str], **more: str) -> str:
    named = {name: value for name, value in {**narrowed, **more}.items() if value}
    return f"/review?{urlencode(named)}" if named else "/review"


router = APIRouter()


@router.get("/review")
def review_page(
    context: Context, *, line: str = "", inspection: str = "", after: str = "", item: str = "",
    days: Annotated[int, Query(ge=1, le=366, description="span of the figures")] = 7,
) -> HTMLResponse:  # fmt: skip
    """The picture at the head of the queue, or the one named; what comes next as a strip."""
    hub, by = context.hub, context.who.name
    asked = {"line": line, "inspection": inspection}
    narrowed = asked | ({"days": str(days)} if days != _DAYS else {})
    current = hub.reviews.one(item, by=by) if item else None
    place = (current.cursor if current else "") or after
    waiting = hub.reviews.page(by=by, after=place, limit=_STRIP, **asked).items
    following: Sequence[ReviewView] = waiting
    if current is None and waiting:
        current, following = waiting[0], waiting[1:]
    finding = current.finding if current else None
    quality = hub.reviews.quality(
        line="" if current else line, inspection=current.inspection if current else inspection,
        since=hub.clock.now() - timedelta(days=days),
    )  # fmt: skip
    known = {one.id: one for one in hub.plant.inspection}
    waits = hub.reviews.count(**asked)
    return context.page(
        "review.html",
        title="Review",
        active="review",
        sub=waiting_text(waits),
        query=asked,
        days=days,
        spans=sorted({*_SPANS, days}),
        lines=[(one.id, one.name) for one in hub.plant.line],
        inspections=[one.id for one in hub.plant.inspection],
        current=current,
        mark=item_mark(current) if current else None,
        suggestion=suggestion_of(hub, finding) if finding else None,
        finding=finding,
        places=places_of(hub.plant),
        keys=_KEYS,
        reviewers=known[current.inspection].reviewers if current else 1,
        strip=[(one, item_mark(one), _href(narrowed, item=one.id)) for one in following],
        here=_href(narrowed, after=place),
        following=_href(narrowed, after=current.cursor) if current and current.cursor else "",
        start=_href(narrowed),
        skipped=bool(after),
        quality=[(one, rate_bars(one)) for one in quality],
        quality_text=quality_text,
        agreement_text=agreement_text,
        disagreement_text=disagreement_text,
        datasets=[one.name for one in hub.datasets.all()],
    )
