"""``/api/v1/rules`` and ``/api/v1/rule-events``: rules, trials of them, and their events.

Rule events come by the page, as a file, or added up.
"""

from dataclasses import dataclass
from typing import Annotated, TypedDict

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response, StreamingResponse

from lineside.core import parse_rfc3339
from lineside.hub.api.wire import (
    Hub,
    Limit,
    Page,
    json_body,
    json_response,
    page_response,
    responds,
    whole_number,
)
from lineside.hub.rules.log import (
    MEDIA,
    RuleFilter,
    RuleSums,
    page_of,
    require_rule,
    rule_events_file,
    rule_filter,
)
from lineside.hub.rules.service import RuleView, run_trial
from lineside.hub.rules.text import read_rule
from lineside.hub.services import Services
from lineside.hub.views import LoggedEvent, plain
from lineside.streams.rules.replay import Difference

router = APIRouter(prefix="/api/v1", tags=["rules"])


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTrial:
    """Body of ``POST /rules/try``.

    Attributes:
        since, until: RFC 3339; entries that arrived in between, the end left out.
        text: a ``[[rule]]`` table as TOML.
        rule: id of a rule of the plant file, where no text is given.
    """

    since: str
    until: str
    text: str = ""
    rule: str = ""


@router.get("/rules", summary="Rules, in the plant file's order")
@responds(Page[RuleView])
def list_rules(hub: Hub) -> Response:
    """Each with what it does in plain words, its counters, and how much it remembers."""
    return page_response(hub.rules.all())


@router.post("/rules/try", summary="Try a rule on a recorded span")
@responds(Difference)
def try_rule(hub: Hub, *, trial: Annotated[RuleTrial, Depends(json_body(RuleTrial))]) -> Response:
    """Its events, against those of the rule of that id in use; nothing is written."""
    since = parse_rfc3339(trial.since, where="since")
    until = parse_rfc3339(trial.until, where="until")
    plant = hub.plant
    rule = read_rule(trial.text, plant=plant) if trial.text else hub.rules.find(trial.rule)
    return json_response(
        run_trial(rule, plant=plant, log=hub.records.log, since=since, until=until)
    )


@router.get("/rules/{rule}", summary="One rule")
@responds(RuleView)
def get_rule(hub: Hub, rule: str) -> Response:
    """As in the list."""
    return json_response(hub.rules.one(rule))


class Summary(TypedDict):
    """Rule events added up; ``all``: none waits to be added."""

    sums: RuleSums
    all: bool


def wanted_of(
    hub: Hub, *, rule: str = "", action: str = "", key: str = "",
    since: Annotated[str, Query(alias="from")] = "",
    until: Annotated[str, Query(alias="to")] = "",
) -> RuleFilter:  # fmt: skip
    """The filters that every route here takes."""
    wanted = rule_filter(rule=rule, action=action, key=key, since=since, until=until)
    require_rule(hub.records.log, rule, plant=hub.plant)
    return wanted


Wanted = Annotated[RuleFilter, Depends(wanted_of)]


@router.get("/rule-events", summary="Events of rules")
@responds(Page[LoggedEvent])
@responds(bytes, *(one.partition(";")[0] for one in MEDIA.values()))
def list_rule_events(
    hub: Hub, wanted: Wanted, *, after: str = "", newest_first: bool = False, limit: Limit = 100,
    form: Annotated[str, Query(alias="format")] = "json",
) -> Response:  # fmt: skip
    """A page as JSON; with ``format`` ``csv``, ``jsonl`` or ``parquet`` all of it as a file."""
    if form != "json":
        return _file(hub, wanted, form=form)
    position = whole_number(after, name="after")
    found = page_of(hub.records.log, wanted, after=position, newest_first=newest_first, limit=limit)
    following = str(found.following) if found.following else ""
    return page_response([plain(view) for view in found.events], following=following)


@router.get("/rule-events/summary", summary="Counts of rule events")
@responds(Summary)
def get_summary(hub: Hub, wanted: Wanted) -> Response:
    """Of all that pass: by rule and key, pairs, counts over time."""
    whole = hub.rule_counts.is_whole()
    return json_response({"sums": hub.rule_counts.sums(wanted), "all": whole})


def _file(hub: Services, wanted: RuleFilter, *, form: str) -> Response:
    """Sent as it is made; what cannot be made is refused before the first byte."""
    pieces = rule_events_file(hub.records.log, wanted, plant=hub.plant, form=form)
    known = any(one.id == wanted.rule for one in hub.plant.rule)
    of = wanted.rule if known else "all"
    headers = {"Content-Disposition": f'attachment; filename="rule-events-{of}.{form}"'}
    return StreamingResponse(pieces, media_type=MEDIA[form], headers=headers)
