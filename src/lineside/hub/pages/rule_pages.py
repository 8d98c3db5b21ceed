"""What the plant's rules said, how each rule stands, and a rule tried before it goes live."""

from collections.abc import Iterable
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query
from fastapi.responses import HTMLResponse

from lineside.core import NotFoundError, parse_rfc3339, rfc3339
from lineside.hub.pages.common import Ask, Asked
from lineside.hub.pages.views import rules as views
from lineside.hub.rules.log import page_of
from lineside.hub.rules.sums import sums_of
from lineside.hub.rules.text import read_rule, rule_toml
from lineside.hub.rules.trial import attempt, compared

router = APIRouter(prefix="/events/rules")

_PAGE = 50
_SUMMED = 5000
_TRIED = 100
_ACTIONS = ("final", "change", "begun", "ended", "late")


def query_of(
    *, rule: str = "", action: str = "", key: str = "",
    since: Annotated[str, Query(alias="from")] = "",
    until: Annotated[str, Query(alias="to")] = "",
    before: Annotated[int, Query(ge=0, lt=2**63)] = 0,
) -> views.RuleQuery:  # fmt: skip
    """The filters in the address."""
    return views.RuleQuery(
        rule=rule, action=action, key=key, since=since, until=until, before=before
    )


Asking = Annotated[views.RuleQuery, Depends(query_of)]


@router.get("")
def rule_events(ask: Ask, query: Asking) -> HTMLResponse:
    """Events of rules, newest first, added up, with each rule's explanation and counters."""
    return ask.page(
        "rule_events.html", title="Rule events", active="events", actions=_ACTIONS,
        **(_rows(ask, query) | _sums(ask, query)),
    )  # fmt: skip


@router.get("/rows")
def rows(ask: Ask, query: Asking) -> HTMLResponse:
    """The list alone, for a page that reads it anew."""
    return ask.site.fragment("rule_rows.html", **_rows(ask, query))


@router.get("/sums")
def sums(ask: Ask, query: Asking) -> HTMLResponse:
    """Sums and rules alone, for a page that reads them anew."""
    may = ask.may("/events/rules/try")
    return ask.site.fragment("rule_sums.html", may=lambda _: may, **_sums(ask, query))


@router.get("/try")
def try_page(ask: Ask, *, rule: str = "") -> HTMLResponse:
    """A rule's declaration to be changed, and the span to try it on."""
    hub = ask.hub
    found = next((one for one in hub.plant.rule if one.id == rule), None)
    newest = hub.records.log.read(newest_first=True, limit=1)
    since, until = views.hour_to_try(
        hub.clock.now(), newest=newest[0].arrived_at if newest else None
    )
    return ask.page(
        "rule_try.html", title="Try a rule", active="events", rules=hub.plant.rule, rule=rule,
        text=rule_toml(found) if found is not None else "", since=rfc3339(since),
        until=rfc3339(until), known=found is not None,
    )  # fmt: skip


@router.post("/try")
def tried(
    ask: Ask, *, text: Annotated[str, Form()] = "",
    since: Annotated[str, Form()] = "", until: Annotated[str, Form()] = "",
) -> HTMLResponse:  # fmt: skip
    """What the declaration would have said in that span, against the one in use, as a part."""
    plant = ask.hub.plant
    rule = read_rule(text, plant=plant)
    found = attempt(
        rule, plant=plant, log=ask.hub.records.log, since=parse_rfc3339(since, where="from"),
        until=parse_rfc3339(until, where="to"),
    )  # fmt: skip
    told, known = compared(found), _known(ask)

    def rows(events: Iterable[dict[str, Any]]) -> list[views.RuleEventRow]:
        some = islice(events, _TRIED)
        return [
            views.row_of(one, at=parse_rfc3339(one["to"], where="to"), known=known) for one in some
        ]

    return ask.site.fragment(
        "rule_tried.html", found=found, told=told, rule=rule.id, most=_TRIED,
        in_use=any(one.id == rule.id for one in plant.rule),
        was=rows(old for old, _ in told.otherwise), now=rows(new for _, new in told.otherwise),
        added=rows(told.added), removed=rows(told.removed),
    )  # fmt: skip


def _rows(ask: Asked, query: views.RuleQuery) -> dict[str, Any]:
    found = page_of(
        ask.hub.records.log, query.wanted(), after=query.before, newest_first=True, limit=_PAGE
    )
    known = _known(ask)
    return {
        "query": query, "events": [views.rule_event_row(one, known=known) for one in found.events],
        "newest": query.href() if query.before else "",
        "older": query.href(before=found.following) if found.following else "",
    }  # fmt: skip


def _sums(ask: Asked, query: views.RuleQuery) -> dict[str, Any]:
    found = page_of(ask.hub.records.log, query.wanted(), newest_first=True, limit=_SUMMED)
    rules = ask.hub.rules.all()
    shown = views.sums_view(
        sums_of(found.events), query=query, rules=rules, whole=not found.following
    )
    chosen = [one for one in rules if query.rule in {"", one.id}]
    return {"query": query, "sums": shown, "rules": rules, "chosen": chosen,
            "figures": views.FIGURES, "figures_of": views.figures_of}  # fmt: skip


def _known(ask: Asked) -> views.Known:
    """Whether there is such a frame here; each is looked for once."""
    seen: dict[str, bool] = {}

    def known(frame: str) -> bool:
        if frame not in seen:
            try:
                seen[frame] = bool(ask.hub.frames.row(frame))
            except NotFoundError:
                seen[frame] = False
        return seen[frame]

    return known
