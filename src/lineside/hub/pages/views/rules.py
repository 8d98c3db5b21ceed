"""What rules said, in words: the thing, how many, how long, which pair."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from lineside.core import parse_rfc3339
from lineside.hub.pages.format import counted, number, probability
from lineside.hub.views import EventView

_FIRST = ("label", "count", "pair_seen", "pairs", "left_over", "dwell_s", "probability")
_SHOWN = 6


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

    def href(self, *, before: int) -> str:
        """The page with the same filters from another position on."""
        moved = replace(self, before=before)
        fields = {"rule": moved.rule, "action": moved.action, "key": moved.key,
                  "from": moved.since, "to": moved.until, "before": moved.before}  # fmt: skip
        kept = {name: value for name, value in fields.items() if value}
        return f"/events/rules?{urlencode(kept)}" if kept else "/events/rules"

    @property
    def filtered(self) -> bool:
        """Whether anything narrows the list."""
        return bool(self.rule or self.action or self.key or self.since or self.until)

    def test(self) -> Callable[[EventView], bool]:
        """Whether an event passes; ``InvalidError`` for a bound that is no time."""
        since = parse_rfc3339(self.since, where="from") if self.since else None
        until = parse_rfc3339(self.until, where="to") if self.until else None

        def passes(event: EventView) -> bool:
            data = event.event.get("data", {})
            if "rule" not in data or (self.action and data.get("action") != self.action):
                return False
            if (since and event.time < since) or (until and event.time >= until):
                return False
            return self.key.lower() in key_words(data.get("key", {})).lower()

        return passes


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleEventRow:
    """One event of a rule; ``what`` names what was seen, ``frame`` shows it ("" for none)."""

    id: str
    time: datetime
    rule: str
    action: str
    key: str
    what: str
    frame: str


def rule_event_row(event: EventView) -> RuleEventRow:
    """An event of a rule in words."""
    data = event.event.get("data", {})
    return RuleEventRow(
        id=event.id, time=event.time, rule=event.subject, action=str(data.get("action", "")),
        key=key_words(data.get("key", {})), what=values_words(data.get("values", {})),
        frame=str(data.get("frame") or ""),
    )  # fmt: skip


def rule_words(data: Mapping[str, Any]) -> str:
    """What an event of a rule says, in a line."""
    parts = (key_words(data.get("key", {})), values_words(data.get("values", {})))
    told = ", ".join(part for part in parts if part)
    action = str(data.get("action", ""))
    return f"{action}: {told}" if told else action


def key_words(key: Mapping[str, Any]) -> str:
    """The values of a key: ``Google, rack``."""
    return ", ".join(str(value) for value in key.values())


def values_words(values: Mapping[str, Any]) -> str:
    """The likeliest to be asked for first: label, count, pair, dwell; six at most."""
    names = [name for name in _FIRST if name in values]
    names += [name for name in values if name not in _FIRST]
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
