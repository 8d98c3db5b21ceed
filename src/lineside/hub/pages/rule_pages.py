"""What the plant's rules said, and how each rule stands."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from lineside.hub.events import Events
from lineside.hub.pages.common import Ask
from lineside.hub.pages.views import rules as views
from lineside.hub.views import EventView
from lineside.streams import EVENT_TYPE

router = APIRouter(prefix="/events/rules")

_PAGE = 50
_READ = 500
_READS = 10
_ACTIONS = ("final", "change", "begun", "ended", "late")


@router.get("")
def rule_events(
    ask: Ask, *, rule: str = "", action: str = "", key: str = "",
    since: Annotated[str, Query(alias="from")] = "",
    until: Annotated[str, Query(alias="to")] = "",
    before: Annotated[int, Query(ge=0)] = 0,
) -> HTMLResponse:  # fmt: skip
    """Events of rules, newest first, with each rule's explanation and counters."""
    query = views.RuleQuery(
        rule=rule, action=action, key=key, since=since, until=until, before=before
    )
    found, older = _page(ask.hub.events, query=query, passes=query.test())
    return ask.page(
        "rule_events.html",
        title="What rules said",
        active="events",
        rules=ask.hub.rules.all(),
        events=[views.rule_event_row(one) for one in found],
        actions=_ACTIONS,
        query=query,
        newest=query.href(before=0) if before else "",
        older=query.href(before=older) if older else "",
    )


def _page(
    log: Events, *, query: views.RuleQuery, passes: Callable[[EventView], bool]
) -> tuple[list[EventView], int]:
    """What passes of the next 5,000 events, a page at most; the position to go on before, or 0."""
    found: list[EventView] = []
    position = query.before
    for _ in range(_READS):
        read = log.page(
            after=position, kind=EVENT_TYPE, subject=query.rule, limit=_READ, newest_first=True
        )
        for one in read:
            position = one.position
            found += [one] if passes(one) else []
            if len(found) == _PAGE:
                return found, position
        if len(read) < _READ:
            return found, 0
    return found, position
