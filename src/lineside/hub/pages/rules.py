"""Pages of the plant's rules: their events, their state, and a trial of a changed rule."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query
from fastapi.responses import HTMLResponse

from lineside.core import LinesideError, NotFoundError, Rule, parse_rfc3339, rfc3339
from lineside.core.rule_check import ACTIONS
from lineside.hub.pages.site import Context, PageContext
from lineside.hub.rules.log import (
    MEDIA,
    KeySum,
    RuleFilter,
    RuleSums,
    key_words,
    page_of,
    rule_filter,
)
from lineside.hub.rules.service import RuleView, pair_changes, run_trial
from lineside.hub.rules.text import read_rule, rule_toml
from lineside.hub.services import Services
from lineside.hub.setup.toml_edit import entry_text
from lineside.hub.views import EventView
from lineside.web.format import counted, number, probability, span

Known = Callable[[str], bool]

_FIRST = ("label", "count", "pair_seen", "pairs", "left_over", "dwell_s", "probability")
_SHOWN = 6
_MOST_KEYS = 40
FIGURES = (
    ("read", "Read", "records made from arriving events"),
    ("passed", "Passed", "of these, let through by the rule and with a key"),
    ("given", "Emitted", "events that the rule emitted"),
    ("late", "Late", "came after their time was final, and are left out"),
    ("keyless", "Without key", "lack a field of the key, and are left out"),
    ("unreadable", "Unreadable", "entries that could not be read"),
    ("evicted", "Emitted early", "evicted for room, so emitted before their end"),
    ("hurried", "Processed early", "processed before their time, because too many waited"),
    ("held", "Held back", "wait until nothing earlier can come"),
    ("behind", "Backlog", "entries of the log still to be read"),
)
"""Counters of a rule: name, as it is called, and what it means."""
_WRONG = (
    ("Late", ("late",), "came after their time was final; left out"),
    ("Dropped", ("keyless", "unreadable"), "without key, or unreadable"),
    ("Early", ("evicted", "hurried"), "emitted or processed early, for lack of room"),
)
"""What may go wrong, as the strip adds it up over the rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleQuery:
    """The filters of the page, as its address carries them.

    Attributes:
        key: a part of what a key's values say, upper or lower case.
        since, until: RFC 3339; what ended in between, the end left out. "" for no bound.
        before: position in the log.
    """

    rule: str = ""
    action: str = ""
    key: str = ""
    since: str = ""
    until: str = ""
    before: int = 0

    def href(self, *, before: int = 0, part: str = "") -> str:
        """The page, or a part of it, with the same filters from another position on."""
        moved = {"before": before} if before else {}
        kept = urlencode({**self._fields(), **moved})
        return f"/events/rules{part}?{kept}" if kept else f"/events/rules{part}"

    def narrowed(self, **change: str) -> str:
        """The page with some filters changed."""
        return replace(self, **change, before=0).href()

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """Names and addresses of the files of what passes."""
        fields = self._fields()
        return tuple(
            (name, f"/api/v1/rule-events?{urlencode({**fields, 'format': form})}")
            for name, form in zip(("CSV", "JSON Lines", "Parquet"), MEDIA, strict=True)
        )

    @property
    def filtered(self) -> bool:
        """True where any filter is set."""
        return bool(self._fields())

    def wanted(self) -> RuleFilter:
        """Return the filter of the events; ``InvalidError`` for a bound that is no time."""
        return rule_filter(
            rule=self.rule, action=self.action, key=self.key, since=self.since, until=self.until
        )

    def _fields(self) -> dict[str, str]:
        fields = {"rule": self.rule, "action": self.action, "key": self.key, "from": self.since,
                  "to": self.until}  # fmt: skip
        return {name: value for name, value in fields.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleEventRow:
    """One event of a rule; ``what`` names what was seen, ``frame`` shows it ("" for none).

    ``thumbnail``: whether the frame is known here, so that there is a picture to show.
    """

    id: str
    time: datetime
    rule: str
    action: str
    key: str
    what: str
    frame: str
    thumbnail: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSumsView:
    """Sums as the page shows them.

    Attributes:
        figures: name, value, what it means, where it leads, tone.
        chart: for ``chart.js``; None for fewer than two bars.
        bars: the same as a table, newest first.
        more: keys that are not shown.
    """

    figures: tuple[tuple[str, str, str, str, str], ...]
    chart: dict[str, Any] | None
    width: str
    series: tuple[str, ...]
    bars: tuple[tuple[datetime, tuple[int, ...]], ...]
    keys: tuple[KeySum, ...]
    more: int


def rule_event_row(event: EventView, *, known: Known) -> RuleEventRow:
    """An event of a rule in words; ``known`` says whether there is such a frame."""
    row = row_of(event.event.get("data", {}), at=event.time, known=known)
    return replace(row, id=event.id, rule=event.subject)


def row_of(data: Mapping[str, Any], *, at: datetime, known: Known) -> RuleEventRow:
    """The words of what an event says."""
    frame = str(data.get("frame") or "")
    return RuleEventRow(
        id="", time=at, rule=str(data.get("rule", "")), action=str(data.get("action", "")),
        key=key_words(data.get("key", {})), what=values_words(data.get("values", {})),
        frame=frame, thumbnail=bool(frame) and known(frame),
    )  # fmt: skip


def sums_view(
    sums: RuleSums, *, query: RuleQuery, rules: Sequence[RuleView], whole: bool
) -> RuleSumsView:
    """Sums in words; ``whole``: no event waits to be added."""
    times = [datetime.fromtimestamp(at, UTC) for at in sums.begins_s]
    counts = list(zip(*(one.counts for one in sums.series), strict=True))
    series = tuple(one.name for one in sums.series)
    points = [[at, *row] for at, row in zip(sums.begins_s, counts, strict=True)] if counts else []
    chart = {"series": [[name, ""] for name in series], "points": points}
    return RuleSumsView(
        figures=tuple(_figures(sums, query=query, rules=rules, whole=whole)),
        chart=chart if len(points) > 1 else None, width=span(sums.width_s), series=series,
        bars=tuple(row for row in list(zip(times, counts, strict=True))[::-1] if any(row[1]))
        if counts else (),
        keys=sums.keys, more=sums.key_count - len(sums.keys),
    )  # fmt: skip


def _figures(
    sums: RuleSums, *, query: RuleQuery, rules: Sequence[RuleView], whole: bool
) -> Sequence[tuple[str, str, str, str, str]]:
    """The strip above: what was told, pairs, and what went wrong."""
    of = "with these filters" if query.filtered else "of all rules"
    told, tone = (of, "") if whole else ("more are being added up", "adding")
    found = [("Events", number(sums.events), told, "#said", tone)]
    if sums.pair_events:
        alone = "no partner yet, or none came"
        found += [("Pairs", number(sums.pairs), "as they stood last", "#by-key", ""),
                  ("Unpaired", number(sums.unpaired), alone, "#by-key", "")]  # fmt: skip
    counters = [figures_of(one) for one in rules if query.rule in {"", one.id}]
    for title, names, meaning in _WRONG:
        value = sum(one[name] for one in counters for name in names)
        found.append((title, number(value), meaning, "#rules", "warn" if value else ""))
    return found


def figures_of(rule: RuleView) -> dict[str, int]:
    """Every counter of a rule by name, with what it holds back and has not looked at."""
    counters = {name: getattr(rule.counters, name) for name in rule.counters.__struct_fields__}
    return {**counters, "held": rule.held, "behind": rule.behind}


def hour_to_try(now: datetime, *, newest: datetime | None) -> tuple[datetime, datetime]:
    """The hour that ends now; where nothing arrived in it, the hour up to what came last."""
    hour = timedelta(hours=1)
    end = now
    if newest is not None and now - newest > hour:
        end = newest + timedelta(seconds=1)
    return end - hour, end


def rule_words(data: Mapping[str, Any]) -> str:
    """Return an event of a rule as one line."""
    parts = (key_words(data.get("key", {})), values_words(data.get("values", {})))
    told = ", ".join(part for part in parts if part)
    action = str(data.get("action", ""))
    return f"{action}: {told}" if told else action


def values_words(values: Mapping[str, Any]) -> str:
    """The likeliest to be asked for first: label, count, pair, dwell; six at most, no frames."""
    names = [name for name in _FIRST if name in values]
    names += [name for name in values if name not in _FIRST and not name.endswith("frame")]
    return ", ".join(_value(name, values[name]) for name in names[:_SHOWN])


def _value(name: str, value: object) -> str:
    if name in ("label", "pair_seen"):
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{_plain(name)} {value}"
    if name == "pairs":
        return counted(int(value), "pair")
    if name.endswith("_s"):
        return f"{_plain(name.removesuffix('_s'))} {number(value, digits=1)}\u00a0s"
    if name.endswith("probability"):
        return f"{_plain(name)} {probability(value)}"
    return f"{_plain(name)} {number(value, digits=0 if float(value).is_integer() else 2)}"


def _plain(name: str) -> str:
    return name.replace("_", " ")


router = APIRouter(prefix="/events/rules")

_PAGE = 50
_TRIED = 100


def query_of(
    *, rule: str = "", action: str = "", key: str = "",
    since: Annotated[str, Query(alias="from")] = "",
    until: Annotated[str, Query(alias="to")] = "",
    before: Annotated[int, Query(ge=0, lt=2**63)] = 0,
) -> RuleQuery:  # fmt: skip
    """The filters in the address."""
    return RuleQuery(rule=rule, action=action, key=key, since=since, until=until, before=before)


Asking = Annotated[RuleQuery, Depends(query_of)]


@router.get("")
def rule_events_page(context: Context, query: Asking) -> HTMLResponse:
    """Events of rules, newest first, added up, with each rule's explanation and counters."""
    return context.page(
        "rule_events.html", title="Rule events", active="events", actions=ACTIONS,
        **(_rows(context, query) | _sums(context, query)),
    )  # fmt: skip


@router.get("/rows")
def rows_part(context: Context, query: Asking) -> HTMLResponse:
    """The list alone, for a page that reads it anew."""
    return context.site.fragment("rule_rows.html", **_rows(context, query))


@router.get("/sums")
def sums_part(context: Context, query: Asking) -> HTMLResponse:
    """Sums and rules alone, for a page that reads them anew."""
    may = context.may("/events/rules/try")
    return context.site.fragment("rule_sums.html", may=lambda _: may, **_sums(context, query))


@router.get("/try")
def try_rule_page(context: Context, *, rule: str = "") -> HTMLResponse:
    """A rule's declaration to be changed, and the span to try it on."""
    hub = context.hub
    found = next((one for one in hub.plant.rule if one.id == rule), None)
    newest = hub.records.log.read(newest_first=True, limit=1)
    since, until = hour_to_try(hub.clock.now(), newest=newest[0].arrived_at if newest else None)
    return context.page(
        "rule_try.html", title="Try a rule", active="events", rules=hub.plant.rule, rule=rule,
        text=_declaration(hub, found) if found is not None else "", since=rfc3339(since),
        until=rfc3339(until), known=found is not None, base=hub.plants.newest().number,
    )  # fmt: skip


def _declaration(hub: Services, rule: Rule) -> str:
    """The rule as the plant file has it, with its comments."""
    try:
        return entry_text(hub.plants.text(), "rule", rule.id)
    except LinesideError:  # written in one line, or a file of another plant
        return rule_toml(rule)


@router.post("/try")
def rule_trial_page(
    context: Context, *, text: Annotated[str, Form()] = "",
    since: Annotated[str, Form()] = "", until: Annotated[str, Form()] = "",
) -> HTMLResponse:  # fmt: skip
    """Compare the declaration with the rule in use on the span, as a part."""
    plant = context.hub.plant
    rule = read_rule(text, plant=plant)
    found = run_trial(
        rule, plant=plant, log=context.hub.records.log, since=parse_rfc3339(since, where="from"),
        until=parse_rfc3339(until, where="to"),
    )  # fmt: skip
    told, known = pair_changes(found), _known(context)

    def rows(events: Iterable[dict[str, Any]]) -> list[RuleEventRow]:
        some = islice(events, _TRIED)
        return [row_of(one, at=parse_rfc3339(one["to"], where="to"), known=known) for one in some]

    return context.site.fragment(
        "rule_tried.html", found=found, told=told, rule=rule.id, most=_TRIED,
        in_use=any(one.id == rule.id for one in plant.rule),
        was=rows(old for old, _ in told.otherwise), now=rows(new for _, new in told.otherwise),
        added=rows(told.added), removed=rows(told.removed),
    )  # fmt: skip


def _rows(context: PageContext, query: RuleQuery) -> dict[str, Any]:
    found = page_of(
        context.hub.records.log, query.wanted(), after=query.before, newest_first=True, limit=_PAGE
    )
    known = _known(context)
    return {
        "query": query, "events": [rule_event_row(one, known=known) for one in found.events],
        "newest": query.href() if query.before else "",
        "older": query.href(before=found.following) if found.following else "",
    }  # fmt: skip


def _sums(context: PageContext, query: RuleQuery) -> dict[str, Any]:
    hub, rules = context.hub, context.hub.rules.all()
    whole = hub.rule_counts.is_whole()
    since = None if query.filtered else hub.rule_counts.newest_since()
    bounded = replace(query, since=rfc3339(since)) if since else query
    sums = hub.rule_counts.sums(bounded.wanted(), most=_MOST_KEYS)
    shown = sums_view(sums, query=query, rules=rules, whole=whole)
    chosen = [one for one in rules if query.rule in {"", one.id}]
    return {
        "query": query, "bounded": bounded, "since": since, "sums": shown, "rules": rules,
        "chosen": chosen, "figures": FIGURES, "figures_of": figures_of,
    }  # fmt: skip


def _known(context: PageContext) -> Known:
    """Return a cached check whether a frame is stored here."""
    cached: dict[str, bool] = {}

    def known(frame: str) -> bool:
        if frame not in cached:
            try:
                cached[frame] = bool(context.hub.frames.row(frame))
            except NotFoundError:
                cached[frame] = False
        return cached[frame]

    return known
