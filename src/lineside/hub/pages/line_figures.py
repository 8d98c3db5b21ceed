"""Figures of lines on pages: the strip, newest rejects, reasons, the trend, and the wall."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from math import ceil
from typing import Annotated
from urllib.parse import parse_qsl, urlencode

from fastapi import Depends, Query

from lineside.core import Json, NotFoundError, Plant, decode, rfc3339
from lineside.core.shifts import Period, day_at
from lineside.hub.frame_filter import FrameQuery
from lineside.hub.ingest.answers import ANOMALY
from lineside.hub.ingest.line_figures import (
    ALL,
    DAY,
    HOUR,
    SHIFT,
    SPANS,
    LineFigures,
    ReasonCount,
)
from lineside.hub.page_parts import PartSource
from lineside.hub.pages.frames import heat_href
from lineside.hub.pages.pictures import PictureCard, labels_of, picture_card, places_of
from lineside.hub.pages.site import Site, inspections_of
from lineside.hub.pages.twin import open_orders
from lineside.hub.review.service import MOST_COUNTED
from lineside.hub.services import Services
from lineside.hub.views import CameraView
from lineside.store import FrameFilter
from lineside.streams import VERDICT_TYPE, Event, read_prediction, verdict_data
from lineside.streams.verdicts import VerdictData
from lineside.vision.verdict import ANOMALY_REASON, PartVerdict
from lineside.web.answers import Mark, overlay_of, verdict_mark
from lineside.web.format import DASH, at_most, counted, milliseconds, number, percent

_STRIP = 10
_WALL_STRIP = 4
_REASONS = 8
_WALL_LINES = 8
_TONES = ("bad", "warn", "ink", "ok", "")
_LOOKED_AT = 100
_EVERY_S = 2.0  # a page that opens is sent the part as it was made last
_TOPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_PLOT = (28.0, 10.0, 288.0, 110.0)
_MOST_TICKS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class FiguresQuery:
    """A line, "" for every one, and a period, as addresses carry them.

    Attributes:
        span: ``shift``, ``hour`` or ``today``; "" for the shift.
        at: RFC 3339, the moment that the period belongs to; "" for now.
    """

    line: str = ""
    span: str = ""
    at: str = ""

    def href(self, path: str, **more: str) -> str:
        """An address with this query and more parameters."""
        pairs = {"line": self.line, "span": self.span, "at": self.at, **more}
        text = urlencode({name: value for name, value in pairs.items() if value})
        return f"{path}?{text}" if text else path

    def period(self, hub: Services) -> Period:
        """Return the period; ``InvalidError`` or ``NotFoundError`` where it names none."""
        return hub.counts.period_of(self.line, span=self.span, at=self.at, now=hub.clock.now())[1]


def figures_query(
    *, line: Annotated[str, Query()] = "", span: Annotated[str, Query()] = "",
    at: Annotated[str, Query()] = "",
) -> FiguresQuery:  # fmt: skip
    """The line and period that pages of figures take."""
    return FiguresQuery(line=line, span=span, at=at)


FiguresParameters = Annotated[FiguresQuery, Depends(figures_query)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of the strip; ``tone`` is ``bad`` past a limit, and then the note says which."""

    name: str
    value: str
    note: str
    href: str
    tone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinFigures:
    """Figures of a twin: discrepancies, open orders; ``unseen``: its camera gives no picture."""

    discrepancies: int
    waiting: int
    unseen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendBar:
    """A bar of the trend in units of the drawing; ``over``: its part above the limit."""

    x: float
    y: float
    width: float
    height: float
    over: float
    tick: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Reject rate over a period: bars, the axis (height and text), the limit's height and text."""

    bars: tuple[TrendBar, ...]
    axis: tuple[tuple[float, str], ...]
    limit: tuple[float, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraProblem:
    """A camera without images: what, since when, the consequence, what to do."""

    title: str
    since: datetime | None
    cost: str
    href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LineCard:
    """A line with the verdict on its newest part, and the image that speaks most for it.

    ``limit``: the limit of the reject rate in words; ``share`` and ``limit_share``: of the bar
    (0-100); ``cameras``: how many of it have answered.
    """

    id: str
    name: str
    mark: Mark
    reason: str
    part: str
    at: datetime | None
    frame: str
    overlay: Json
    heat: str
    event: str
    rate: str
    limit: str
    is_over: bool
    share: float
    limit_share: float
    parts: str
    yields: str
    cameras: int
    rejects: tuple[PictureCard, ...] = ()
    problems: tuple[CameraProblem, ...] = ()


def clock_span(period: Period, *, zone: tzinfo) -> str:
    """Return name and local times, ``Early, 06:00`` to ``14:00``; of a whole day its date."""
    if period == day_at(period.begin, zone=zone):
        return period.name
    begin, end = (f"{at.astimezone(zone):%H:%M}" for at in (period.begin, period.end))
    return f"{period.name}, {begin}{DASH}{end}"


def pictures_href(line: str, period: Period, *verdicts: PartVerdict) -> str:
    """The gallery of a line's pictures in a period."""
    return FrameQuery(
        line=line, since=rfc3339(period.begin), until=rfc3339(period.end),
        verdict=tuple(map(str, verdicts)),
    ).href("/pictures")  # fmt: skip


def is_over(found: LineFigures) -> bool:
    """Return True where more parts were rejected than the limit allows."""
    return (
        found.reject_rate is not None
        and found.limit_reject is not None
        and found.reject_rate > found.limit_reject
    )


def figures(
    found: LineFigures, *, period: Period, zone: tzinfo, dropped: Mapping[str, int],
    waiting: int = 0,
    twin: TwinFigures | None = None,
) -> tuple[Figure, ...]:  # fmt: skip
    """The strip of figures; each leads to what it counts. Without a twin nothing speaks of one."""
    strip = [
        Figure(
            name="Parts", value=number(found.parts), note=clock_span(period, zone=zone),
            href=f"/events?type={VERDICT_TYPE}",
        ),
        _rejected(found, period=period),
        _first_pass(found, period=period),
        _review(found, waiting=waiting),
        _latency(found),
    ]  # fmt: skip
    if dropped:
        strip.append(_refused(dropped))
    if twin is not None:
        strip.append(_discrepancies(twin))
    return tuple(strip)


def _rejected(found: LineFigures, *, period: Period) -> Figure:
    rejected = counted(found.verdicts[PartVerdict.REJECT], "part")
    if found.limit_reject is not None:
        limit = f"limit {percent(found.limit_reject)}"
        rejected = f"Above the {limit}, {rejected}" if is_over(found) else f"{limit}, {rejected}"
    return Figure(
        name="Reject rate", value=_share(found.reject_rate), tone="bad" if is_over(found) else "",
        note=rejected if found.parts else "no part yet",
        href=pictures_href(found.line, period, PartVerdict.REJECT),
    )  # fmt: skip


def _first_pass(found: LineFigures, *, period: Period) -> Figure:
    rate, goal = found.first_pass_yield, found.goal_yield
    note = "ok at their first verdict"
    if goal is not None:
        below = rate is not None and rate < goal
        note = f"Below the goal of {percent(goal)}" if below else f"goal {percent(goal)}"
    return Figure(
        name="First-pass yield", value=_share(rate), note=note,
        href=pictures_href(found.line, period, PartVerdict.OK),
    )  # fmt: skip


def _review(found: LineFigures, *, waiting: int) -> Figure:
    incomplete = found.verdicts[PartVerdict.INCOMPLETE]
    note = f"{_share(found.review_share)} of parts for review"
    note += f", {number(incomplete)} incomplete" if incomplete else ""
    return Figure(
        name="Open reviews", value=at_most(waiting, MOST_COUNTED - 1),
        note=note if found.parts else "no part yet",
        href=FiguresQuery(line=found.line).href("/review"),
    )  # fmt: skip


def _latency(found: LineFigures) -> Figure:
    p99, limit = found.latency_p99_ms, found.limit_latency_ms
    over = p99 is not None and limit is not None and p99 > limit
    middle = "" if found.latency_p50_ms is None else f"half below {_ms(found.latency_p50_ms)}"
    told = "" if limit is None else f"{'Above the ' if over else ''}limit {milliseconds(limit)}"
    return Figure(
        name="Capture to verdict (p99)", value=_ms(p99),
        note=", ".join(filter(None, (told, middle))) or "no part yet",
        href="/events?type=lineside.prediction.v1", tone="bad" if over else "",
    )  # fmt: skip


def _refused(dropped: Mapping[str, int]) -> Figure:
    count = sum(dropped.values())
    return Figure(
        name="Refused messages", value=number(count), note=", ".join(sorted(dropped)),
        href="/rejected-messages", tone="warn",
    )  # fmt: skip


def _discrepancies(twin: TwinFigures) -> Figure:
    differ = twin.discrepancies
    differs = "no usable picture of its places" if twin.unseen else "picture and stock differ"
    return Figure(
        name="Discrepancies", value=number(differ),
        note=differs if differ else counted(twin.waiting, "open order"),
        href="/twin", tone="warn" if differ else "",
    )  # fmt: skip


def _share(share: float | None) -> str:
    return DASH if share is None else percent(share)


def _ms(value_ms: float | None) -> str:
    return DASH if value_ms is None else milliseconds(value_ms)


def reason_rows(found: LineFigures) -> tuple[ReasonCount, ...]:
    """Reasons of rejects, most frequent first; the last row sums up those that have no own."""
    rejects = [one for one in found.reasons if one.verdict is PartVerdict.REJECT]
    shown, rest = rejects[:_REASONS], rejects[_REASONS:]
    if rest:
        parts, share = sum(one.parts for one in rest), sum(one.share for one in rest)
        name = f"{len(rest)} other reasons"
        shown.append(ReasonCount(verdict=PartVerdict.REJECT, reason=name, parts=parts, share=share))
    return tuple(shown)


def reason_href(plant: Plant, line: str, period: Period, *, reason: str) -> str:
    """The gallery of rejects with the label of a reason; "" where it is no label."""
    cameras = [one.id for one in plant.camera if line in ("", one.line)]
    label = ANOMALY if reason == ANOMALY_REASON else reason
    if label not in (ANOMALY, *labels_of(plant, cameras)):
        return ""
    return FrameQuery(
        line=line, since=rfc3339(period.begin), until=rfc3339(period.end),
        verdict=(str(PartVerdict.REJECT),), label=label,
    ).href("/pictures")  # fmt: skip


def trend_of(found: LineFigures, *, zone: tzinfo) -> Trend:
    """Return the reject rate by step as a drawing of 320 x 140 units."""
    left, upper, wide, high = _PLOT
    limit = found.limit_reject
    most = max([one.reject_rate or 0.0 for one in found.steps] + [(limit or 0.0) * 1.2])
    top = next((one for one in _TOPS if one >= most), 1.0)
    each = wide / max(1, len(found.steps))
    short = found.end - found.begin <= timedelta(hours=1)
    every = ceil(len(found.steps) / (_MOST_TICKS // 2 if short else _MOST_TICKS)) or 1
    bars = []
    for place, one in enumerate(found.steps):
        rate, clock = one.reject_rate or 0.0, f"{one.begin.astimezone(zone):%H:%M}"
        over = max(0.0, rate - limit) if limit is not None else 0.0
        told = f"{_share(one.reject_rate)}, {number(one.rejects)} of {counted(one.parts, 'part')}"
        bars.append(
            TrendBar(
                x=round(left + each * (place + 0.15), 1), width=round(each * 0.7, 1),
                y=round(upper + high * (1 - rate / top), 1), height=round(high * rate / top, 1),
                over=round(high * over / top, 1), text=f"{clock}: {told}",
                tick="" if place % every else clock if short else clock[:2],
            )
        )  # fmt: skip
    axis = tuple(
        (round(upper + high * (1 - share), 1), f"{top * share * 100:g}") for share in (0, 0.5, 1)
    )
    told_limit = None
    if limit is not None:
        told_limit = (round(upper + high * (1 - limit / top), 1), f"limit {percent(limit)}")
    return Trend(bars=tuple(bars), axis=axis, limit=told_limit)


# ---- what needs the hub


def strip_of(hub: Services, query: FiguresQuery) -> tuple[Figure, ...]:
    """The strip of a line and period, as it is now."""
    period = query.period(hub)
    line = "" if query.line == ALL else query.line
    state = hub.ledger.state
    twin = TwinFigures(
            discrepancies=len(state.discrepancies), waiting=open_orders(state),
            unseen=any(one.camera for one in state.discrepancies),
        )  # fmt: skip
    return figures(
        hub.counts.figures(line, period), period=period, zone=hub.counts.zone,
        dropped=hub.stats.dropped(), waiting=hub.reviews.count(line),
        twin=twin if hub.plant.twin is not None else None,
    )  # fmt: skip


def panels_of(hub: Services, query: FiguresQuery) -> dict[str, object]:
    """Newest rejects, reasons and trend of a line and period, and its cameras without images."""
    period = query.period(hub)
    line = "" if query.line == ALL else query.line
    found = hub.counts.figures(line, period)
    lines = [one.id for one in hub.plant.line if line in ("", one.id)]
    cameras = [one for one in hub.cameras.all() if not line or one.line == line]
    return {
        "rejects": newest_rejects(hub, line, period, limit=_STRIP),
        "rejects_href": pictures_href(line, period, PartVerdict.REJECT),
        "found": found,
        "period": clock_span(period, zone=hub.counts.zone),
        "reasons": [
            (one, reason_href(hub.plant, line, period, reason=one.reason))
            for one in reason_rows(found)
        ],
        "trend": trend_of(found, zone=hub.counts.zone),
        "problems": tuple(camera_problems(hub, cameras)),
        "cards": tuple(line_card(hub, one, query) for one in lines if _cameras(hub, one) > 1),
        "table_href": FiguresQuery(span=query.span, at=query.at).href(
            f"/api/v1/lines/{line or ALL}/figures", format="csv"
        ),
    }


def newest_rejects(
    hub: Services, line: str, period: Period, *, limit: int
) -> tuple[PictureCard, ...]:  # fmt: skip
    """The newest rejected frames of a line in a period; none of a line without cameras."""
    cameras = tuple(one.id for one in hub.plant.camera if line in ("", one.line))
    if not cameras:
        return ()
    wanted = FrameFilter(
        cameras=cameras, since=period.begin, until=period.end, verdicts=(PartVerdict.REJECT,)
    )
    places = places_of(hub.plant)
    found = hub.frames.find(wanted, limit=limit).frames
    return tuple(picture_card(one, places=places) for one in found)


def camera_problems(hub: Services, cameras: Sequence[CameraView]) -> Iterator[CameraProblem]:
    """The cameras that send no usable images, with the parts that were judged without them."""
    for one in cameras:
        if one.state not in {"live", "never"}:
            word = one.fault.state if one.fault else "no picture"
            yield CameraProblem(
                title=f"{one.name or one.id}: {word}", since=one.since,
                cost=uninspected(hub, one), href=f"/lines/{one.line or '-'}/{one.id}",
            )  # fmt: skip


def uninspected(hub: Services, camera: CameraView) -> str:
    """``31 parts without this camera's inspection``; "" where no other camera sees them.

    Of the line's newest ``_LOOKED_AT`` verdicts; a rejected part, and one without a part id, which
    is a frame of its own, does not count.
    """
    if not camera.line or not camera.inspections:
        return ""
    count, more = 0, "at least "
    page = hub.events.page(
        kind=VERDICT_TYPE, subject=camera.line, newest_first=True, limit=_LOOKED_AT
    )
    for entry in page:
        if camera.since is None or entry.time < camera.since:
            more = ""
            break
        given = verdict_data(entry.event["data"], where=entry.id)
        elsewhere = all(answer.camera != camera.id for answer in given.answers)
        count += bool(given.part) and given.verdict is not PartVerdict.REJECT and elsewhere
    more = more if len(page) == _LOOKED_AT else ""
    return f"{more}{counted(count, 'part')} without this camera's inspection" if count else ""


def line_card(hub: Services, line: str, query: FiguresQuery) -> LineCard:
    """A line with its newest verdict and the figures of a period."""
    period = query.period(hub)
    found = hub.counts.figures(line, period)
    over, limit = is_over(found), found.limit_reject
    scale = 2 * limit if limit else max(found.reject_rate or 0.0, 0.1)
    newest = hub.events.page(kind=VERDICT_TYPE, subject=line, newest_first=True, limit=1)
    given, event = None, newest[0].id if newest else ""
    if newest:
        given = verdict_data(newest[0].event["data"], where=event)
    frame, overlay, heat = _speaking(hub, given)
    rejected = counted(found.verdicts[PartVerdict.REJECT], "part")
    return LineCard(
        id=line,
        name=next(one.name for one in hub.plant.line if one.id == line),
        mark=verdict_mark(given.verdict) if given else Mark(shape="bar", word="no part yet"),
        reason=", ".join(given.reasons) if given else "",
        part=given.part if given else "",
        at=newest[0].time if newest else None,
        frame=frame,
        overlay=overlay,
        heat=heat if given and given.verdict is PartVerdict.REJECT else "",
        event=event,
        rate=_share(found.reject_rate),
        limit=f"{'above the ' if over else ''}limit {percent(limit)}, {rejected}"
        if limit is not None
        else rejected,
        is_over=over,
        share=min(100.0, 100 * (found.reject_rate or 0.0) / scale),
        limit_share=100 * limit / scale if limit else 0.0,
        parts=number(found.parts),
        yields=_share(found.first_pass_yield),
        cameras=len({answer.camera for answer in given.answers}) if given else 0,
    )


def _speaking(hub: Services, given: VerdictData | None) -> tuple[str, Json, str]:
    """The frame that made the verdict, what is drawn on it and the address of its map.

    "" where no picture is kept.
    """
    if given is None or not given.answers:
        return "", None, ""
    rank, inspections = list(PartVerdict), inspections_of(hub)
    answer = min(given.answers, key=lambda one: rank.index(one.verdict))
    try:
        row = hub.frames.row(answer.frame)
        said = hub.events.one(answer.event).event
    except NotFoundError:
        return "", None, ""
    prediction = read_prediction(decode(Event, dict(said), where=answer.event))
    drawn = overlay_of(prediction, inspections.get(answer.inspection))
    if row.aged_out_at is not None:
        return "", None, ""
    return row.id, drawn, heat_href(prediction, inspections.get(answer.inspection))


def _cameras(hub: Services, line: str) -> int:
    return sum(one.line == line for one in hub.plant.camera)


def wall_cards(hub: Services, query: FiguresQuery) -> tuple[LineCard, ...]:
    """Every line asked for as the wall shows it: problems, newest rejects, newest verdict."""
    period, views = query.period(hub), hub.cameras.all()
    cards = []
    for line in hub.plant.line:
        if query.line in ("", ALL, line.id):
            cameras = [one for one in views if one.line == line.id]
            cards.append(
                replace(
                    line_card(hub, line.id, query),
                    rejects=newest_rejects(hub, line.id, period, limit=_WALL_STRIP),
                    problems=tuple(camera_problems(hub, cameras)),
                )
            )
    return tuple(cards)


def picker_of(hub: Services, query: FiguresQuery) -> dict[str, object]:
    """Lines and spans to choose from, and what is chosen."""
    shift = replace(query, span=SHIFT).period(hub)
    spans = {SHIFT: clock_span(shift, zone=hub.counts.zone), DAY: SPANS[DAY], HOUR: SPANS[HOUR]}
    if not hub.plant.shift:
        del spans[SHIFT]
    return {
        "query": query,
        "chosen": query.span or next(iter(spans)),
        "lines": [(one.id, one.name) for one in hub.plant.line],
        "spans": spans,
    }


def _read_query(text: str) -> FiguresQuery:
    given = dict(parse_qsl(text))
    return FiguresQuery(
        line=given.get("line", ""), span=given.get("span", ""), at=given.get("at", "")
    )


def live_parts(site: Site, hub: Services) -> dict[str, PartSource]:
    """Parts of the Lines page and the wall, which the live feed sends to those who show them."""

    def part(template: str, context: Callable[[FiguresQuery], Mapping[str, object]]) -> PartSource:
        def html(text: str) -> str:
            return site.text(template, context(_read_query(text)))

        return PartSource(html, every_s=_EVERY_S, ages_s=_EVERY_S, check=check)

    def check(text: str) -> None:
        with suppress(NotFoundError):  # a line that was removed, which may be back
            _read_query(text).period(hub)

    return {
        "/lines/figures": part(
            "figures.html", lambda query: {"figures": strip_of(hub, query), "query": query}
        ),
        "/lines/panels": part("line_panels.html", lambda query: panels_of(hub, query)),
        "/lines/wall": part("wall_lines.html", lambda query: wall_context(hub, query)),
    }  # fmt: skip


def wall_context(hub: Services, query: FiguresQuery) -> dict[str, object]:
    """Everything that the wall shows."""
    period, cards = query.period(hub), wall_cards(hub, query)
    worst = sorted(cards, key=lambda one: _TONES.index(one.mark.tone))
    return {
        "cards": cards if len(cards) <= _WALL_LINES else worst[:_WALL_LINES],
        "more": max(0, len(cards) - _WALL_LINES), "query": query, "now": hub.clock.now(),
        "period": clock_span(period, zone=hub.counts.zone),
    }  # fmt: skip
