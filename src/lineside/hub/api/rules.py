"""``/api/v1/rules``: what each rule does and how it stands; a rule tried on a recorded span."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from lineside.core import parse_rfc3339
from lineside.hub.api.wire import Hub, Page, answer, body_of, gives, listed
from lineside.hub.rules.service import RuleView
from lineside.hub.rules.text import read_rule
from lineside.hub.rules.trial import attempt
from lineside.streams import Difference

router = APIRouter(prefix="/api/v1", tags=["rules"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
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
@gives(Page[RuleView])
def list_rules(hub: Hub) -> Response:
    """Each with what it does in plain words, its counters, and how much it remembers."""
    return listed(hub.rules.all())


@router.post("/rules/try", summary="Try a rule on a recorded span")
@gives(Difference)
def try_rule(hub: Hub, *, trial: Annotated[Trial, Depends(body_of(Trial))]) -> Response:
    """What it would have said, against the rule of that id in use; nothing is written."""
    since = parse_rfc3339(trial.since, where="since")
    until = parse_rfc3339(trial.until, where="until")
    plant = hub.plant
    rule = read_rule(trial.text, plant=plant) if trial.text else hub.rules.find(trial.rule)
    return answer(attempt(rule, plant=plant, log=hub.records.log, since=since, until=until))


@router.get("/rules/{rule}", summary="One rule")
@gives(RuleView)
def get_rule(hub: Hub, rule: str) -> Response:
    """As in the list."""
    return answer(hub.rules.one(rule))
