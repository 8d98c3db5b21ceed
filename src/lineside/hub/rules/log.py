"""What rules said, found in the log by rule, action, key and time; in pages, or all of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lineside.core import (
    InvalidError,
    NotFoundError,
    Plant,
    parse_rfc3339,
    require_order,
)
from lineside.hub.views import EventView, view_of
from lineside.store import EventLog
from lineside.streams import EVENT_TYPE

ACTIONS = ("final", "change", "begun", "ended", "late")
"""What an event of a rule may be."""

_READ = 500
_READS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFilter:
    """Which events are meant; "" and None leave all through.

    Attributes:
        key: a part of what a key's values say, upper or lower case.
        since, until: bounds of the time at which it ended, the end left out.
    """

    rule: str = ""
    action: str = ""
    key: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def in_time(self, at: datetime) -> bool:
        """Whether something that ended at ``at`` may pass."""
        return not (
            (self.since is not None and at < self.since)
            or (self.until is not None and at >= self.until)
        )

    def passes(self, event: EventView) -> bool:
        """Whether it is meant; what the hub itself says by a rule's type is not."""
        data = event.event.get("data", {})
        if not isinstance(data.get("key"), Mapping) or not isinstance(data.get("values"), Mapping):
            return False
        if self.action and data.get("action") != self.action:
            return False
        if self.rule and event.subject != self.rule:
            return False
        return self.in_time(event.time) and self.key.lower() in key_words(data["key"]).lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A page of events; ``following`` is the position to go on from, 0 where the log ended."""

    events: tuple[EventView, ...]
    following: int


def rule_filter(*, rule: str, action: str, key: str, since: str, until: str) -> RuleFilter:
    """The filter as a query writes it, times by RFC 3339.

    Raises:
        InvalidError: a bound is no time, the end comes first, or no rule says ``action``.
    """
    if action and action not in ACTIONS:
        known = ", ".join(ACTIONS)
        raise InvalidError(f"no action {action!r}", where="action", fix=f"Known: {known}.")
    begin = parse_rfc3339(since.replace(" ", "+"), where="from") if since else None
    end = parse_rfc3339(until.replace(" ", "+"), where="to") if until else None
    if begin is not None and end is not None:
        require_order(begin, end, where="from, to")
    return RuleFilter(rule=rule, action=action, key=key, since=begin, until=end)


def require_rule(log: EventLog, rule: str, *, plant: Plant) -> None:
    """Refuse the name of a rule that neither stands in the plant file nor ever said anything.

    Raises:
        NotFoundError: there is no such rule; it lists the known ones.
    """
    known = [one.id for one in plant.rule]
    if not rule or rule in known or log.read(type=EVENT_TYPE, subject=rule, limit=1):
        return
    raise NotFoundError(
        f"no rule {rule!r}, in the plant file or in the log", where="rule",
        fix=f"Known: {', '.join(known) or 'none'}.",
    )  # fmt: skip


def key_words(key: Mapping[str, Any]) -> str:
    """The values of a key: ``Google, rack``."""
    return ", ".join(str(value) for value in key.values())


def page_of(
    log: EventLog, wanted: RuleFilter, *, after: int = 0, newest_first: bool = False, limit: int
) -> Found:
    """What passes of the next 5,000 of what rules said behind ``after``, at most ``limit``."""
    found: list[EventView] = []
    position = after
    for _ in range(_READS):
        read = log.read(
            after=position, type=EVENT_TYPE, subject=wanted.rule, limit=_READ,
            newest_first=newest_first,
        )  # fmt: skip
        for logged in read:
            position = logged.position
            if wanted.in_time(logged.entry.captured_at) and wanted.passes(view := view_of(logged)):
                found.append(view)
            if len(found) == limit:
                return Found(events=tuple(found), following=position)
        if len(read) < _READ:
            return Found(events=tuple(found), following=0)
    return Found(events=tuple(found), following=position)


def all_of(log: EventLog, wanted: RuleFilter) -> Iterator[EventView]:
    """Everything that passes, oldest first, a page of the log in memory at a time."""
    position = 0
    while read := log.read(after=position, type=EVENT_TYPE, subject=wanted.rule, limit=_READ):
        for logged in read:
            if wanted.in_time(logged.entry.captured_at) and wanted.passes(view := view_of(logged)):
                yield view
        position = read[-1].position
        if len(read) < _READ:
            return
