"""Events of rules in the log: found by rule, action, key and time.

Events as a file, CSV, JSON Lines or Parquet, written piece by piece:

1. The columns follow from the declarations, not from what happens to be in the log: first those of
   every event, then ``key.…`` and ``values.…`` of the rules that are asked for. ``key`` and
   ``values`` hold all of it as JSON besides, so nothing is lost that has no column.
2. Tables are written as ``hub.tables`` says.
3. A line of JSON Lines is the event as it was published, with ``arrivedat``: what
   ``lineside rule run --events`` reads.

Sums by rule and key, pairs, counts over time:

1. A window that was emitted several times counts as it was emitted last.
2. A window counts with its records (its figure ``count``), any other event counts once.
3. Pairs count as they stood at the end of the time that is looked at, each sorting session by
   itself.
4. Late records that were emitted as events are counted apart, and nowhere else.
5. A follower adds each event to a table, in log order; see ``store.sums``. An event is in the sums
   about a second after it is in the log. An empty table is filled from the log.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeGuard

import msgspec

from lineside.core import (
    Clock,
    InvalidError,
    NotFoundError,
    Plant,
    Rule,
    decode_json,
    encode,
    parse_rfc3339,
)
from lineside.core.clock import require_order
from lineside.core.rule_check import ACTIONS, values_given
from lineside.hub.tables import Column, Kind, csv_table, parquet_table
from lineside.hub.views import EventView, view_of
from lineside.store import EventLog, Logged, Records
from lineside.store.contract import check_name
from lineside.store.sums import MOST_LISTED, EventSums, PairCount, SumEvent
from lineside.streams import EVENT_TYPE, written_time

LATE = "late"

_READ = 500
_READS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFilter:
    """Filter of rule events; "" and None match everything.

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
        """Return True where the end ``at`` lies within the bounds."""
        return not (
            (self.since is not None and at < self.since)
            or (self.until is not None and at >= self.until)
        )

    def passes(self, event: EventView) -> bool:
        """Return True where the event matches; the hub's own events of a rule's type do not."""
        data = event.event.get("data", {})
        if not isinstance(data.get("key"), Mapping) or not isinstance(data.get("values"), Mapping):
            return False
        if self.action and data.get("action") != self.action:
            return False
        if self.rule and event.subject != self.rule:
            return False
        return self.in_time(event.time) and self.key.lower() in key_words(data["key"]).lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleEventPage:
    """A page of events; ``following`` is the position to go on from, 0 where the log ended."""

    events: tuple[EventView, ...]
    following: int


def rule_filter(*, rule: str, action: str, key: str, since: str, until: str) -> RuleFilter:
    """The filter as a query writes it, times by RFC 3339.

    Raises:
        InvalidError: a bound is no time, the end comes first, no rule says ``action``, or none can
            have that name.
    """
    check_name(rule, what="rule", empty=True)
    check_name(key, what="part of a key", empty=True)
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
) -> RuleEventPage:
    """Return at most ``limit`` matches of the next 5,000 rule events behind ``after``."""
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
                return RuleEventPage(events=tuple(found), following=position)
        if len(read) < _READ:
            return RuleEventPage(events=tuple(found), following=0)
    return RuleEventPage(events=tuple(found), following=position)


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


MEDIA: Mapping[str, str] = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
}
"""The forms a file may have, and what each is called on the wire."""

_TEXTS = frozenset(
    {"label", "runner_up", "first_frame", "last_frame", "direction", "pair_seen", "session"}
)
_WHOLE = frozenset(
    {"frames", "seen", "pairs", "left_over", "matches", "waiting", "records", "track"}
)
_MEASURED = frozenset({"apart_s", "probability", "score", "seconds", "dwell_s"})
_FIGURES: Mapping[str, Kind] = {
    "count": "whole", "distinct": "whole", "first": "text", "last": "text",
}  # fmt: skip


def rule_events_file(
    log: EventLog, wanted: RuleFilter, *, plant: Plant, form: str
) -> Iterator[bytes]:
    """Everything that passes as a file in pieces, with the columns of the rules asked for."""
    rules = [one for one in plant.rule if wanted.rule in {"", one.id}]
    return file_of(all_of(log, wanted), columns_of(rules), form=form)


def columns_of(rules: Iterable[Rule]) -> tuple[Column[EventView], ...]:
    """The columns of what these rules say."""
    keys: dict[str, Kind] = {}
    values: dict[str, Kind] = {}
    for rule in rules:
        keys |= dict.fromkeys(rule.key, "text")
        for name in values_given(rule) or ():
            kind = _kind(rule, name)
            values[name] = kind if values.get(name, kind) == kind else "text"
    values.pop("frame", None)  # it has a column of its own
    return (
        *_FIXED,
        *(Column(name=f"key.{name}", kind=kind, of=_inner("key", name))
          for name, kind in keys.items()),
        *(Column(name=f"values.{name}", kind=kind, of=_inner("values", name))
          for name, kind in values.items()),
    )  # fmt: skip


def file_of(
    events: Iterable[EventView], columns: Sequence[Column[EventView]], *, form: str
) -> Iterator[bytes]:
    """The file in pieces; it is never whole in memory.

    Raises:
        InvalidError: no such form.
        MissingExtraError: Parquet, and pyarrow is not installed.
    """
    if form == "csv":
        return csv_table(events, columns)
    if form == "jsonl":
        return map(_line, events)
    if form == "parquet":
        return parquet_table(events, columns)
    raise InvalidError(f"no form {form!r}", where="format", fix=f"Known: {', '.join(MEDIA)}.")


def _line(event: EventView) -> bytes:
    return encode({**event.event, "arrivedat": written_time(event.arrived_at)}) + b"\n"


def _kind(rule: Rule, name: str) -> Kind:
    """Return the kind of a rule's figure; ``aggregate`` names its own."""
    if rule.window is not None:
        made = {one.name: one.of for one in rule.aggregate}.get(name, "count")
        return _FIGURES.get(made, "number")
    if rule.join is not None:
        return "number" if name.rpartition(".")[2] in _MEASURED else "text"
    if name in _TEXTS or (rule.hold is not None and name == rule.hold.field):
        return "text"
    return "whole" if name in _WHOLE else "number"


def _of_data(name: str) -> Callable[[EventView], object]:
    return lambda event: event.event.get("data", {}).get(name)


def _inner(outer: str, name: str) -> Callable[[EventView], object]:
    return lambda event: event.event.get("data", {}).get(outer, {}).get(name)


def _written(name: str) -> Callable[[EventView], object]:
    return lambda event: encode(event.event.get("data", {}).get(name)).decode()


def _late(event: EventView) -> object:
    return event.event.get("data", {}).get("values", {}).get("late_by_s")


_FIXED: tuple[Column[EventView], ...] = (
    Column(name="position", kind="whole", of=lambda event: event.position),
    Column(name="id", kind="text", of=lambda event: event.id),
    Column(name="rule", kind="text", of=lambda event: event.subject),
    Column(name="action", kind="text", of=_of_data("action")),
    Column(name="name", kind="text", of=_of_data("name")),
    Column(name="revision", kind="whole", of=_of_data("revision")),
    Column(name="time", kind="time", of=lambda event: event.event.get("time")),
    Column(name="arrived_at", kind="time", of=lambda event: written_time(event.arrived_at)),
    Column(name="from", kind="time", of=_of_data("from")),
    Column(name="to", kind="time", of=_of_data("to")),
    Column(name="seconds", kind="number", of=_of_data("seconds")),
    Column(name="late_by_s", kind="number", of=_late),
    Column(name="frame", kind="text", of=_of_data("frame")),
    Column(name="key", kind="text", of=_written("key")),
    Column(name="values", kind="text", of=_written("values")),
    Column(name="causes", kind="text", of=_written("causes")),
)


# ---- sums

MOST_BARS = 60
MOST_SERIES = 4
QUICK = 20_000
"""Events that are added up in about 20 ms of the processor."""
_MOST_COUNT = 10**12
_MOST_KEY = 10_000
_YEAR_1_S = -62_135_596_800
LAG = timedelta(seconds=10)
"""Sums are said to be whole while no event has waited for longer."""
_WIDTHS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)


class KeySum(msgspec.Struct, frozen=True, kw_only=True):
    """One key of one rule.

    Attributes:
        events: later ones of the same among them; ``told`` in JSON.
        counted: see the module.
        pairs, unpaired: None where the rule makes no pairs.
        last: when the newest ended.
    """

    rule: str
    key: str
    events: int = msgspec.field(name="told")
    counted: int
    pairs: int | None
    unpaired: int | None
    last: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Counts of one key in each bar; ``name`` is its rule and key."""

    name: str
    counts: tuple[int, ...]


class RuleSums(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of some events.

    Attributes:
        events: how many; ``told`` in JSON.
        late: of them, late records.
        pair_events: of them, those that say pairs.
        keys: the one that counted most first, 5,000 at most.
        key_count: how many there are.
        begins_s: where each bar begins, seconds since the epoch.
        width_s: how long a bar is.
        series: of the keys that counted most, ``MOST_SERIES`` at most.
    """

    events: int = msgspec.field(name="told")
    late: int
    pair_events: int
    pairs: int
    unpaired: int
    keys: tuple[KeySum, ...]
    key_count: int
    begins_s: tuple[int, ...]
    width_s: int
    series: tuple[Series, ...]


class RuleCounts:
    """Keeps the sums of rule events as they come out of the event log."""

    def __init__(self, records: Records, *, clock: Clock) -> None:
        self._log, self._index = records.log, records.rule_sums
        self._clock = clock

    # ---- the fold

    def take(self, entries: Sequence[Logged]) -> None:
        """Add a page of rule events; twice is as once."""
        found = {logged.position: _sum_event(logged) for logged in entries}
        events = [event for event in found.values() if event is not None]
        left_out = [position for position, event in found.items() if event is None]
        self._index.add(events, left_out=left_out)

    def skip(self, logged: Logged) -> None:
        """Go past an event that no sum takes."""
        self._index.add([], left_out=[logged.position])

    def resume(self, position: int) -> int:
        """Go on behind what was added, wherever the follower was."""
        del position
        return self._index.position()

    def forget(self) -> None:
        """Take events that the log forgot out of the sums."""
        self._index.forget()

    # ---- reading

    def is_whole(self) -> bool:
        """Return whether every event is in the sums that came more than ``LAG`` ago."""
        waiting = self._log.read(type=EVENT_TYPE, after=self._index.position(), limit=1)
        return not waiting or waiting[0].arrived_at > self._clock.now() - LAG

    def newest_since(self) -> datetime | None:
        """Return the full minute from which on the newest events are quick to add up.

        None where all of them are.
        """
        since = self._index.newest_since(QUICK)
        return None if since is None else since.replace(second=0, microsecond=0)

    def sums(self, wanted: RuleFilter, *, most: int = MOST_LISTED) -> RuleSums:
        """Add up everything that passes; ``most``: keys that are listed."""
        found = self._index.find(
            rule=wanted.rule, action=wanted.action, key=wanted.key, since=wanted.since,
            until=wanted.until, most=most,
        )  # fmt: skip
        begins, width_s = _bars(found)
        shown = found.series[:MOST_SERIES]
        bars = self._index.bars(
            [one.series for one in shown], begins_s=begins, width_s=width_s,
            action=wanted.action, since=wanted.since, until=wanted.until,
        )  # fmt: skip
        alike = len({one.rule for one in shown}) == 1
        keys = [
            KeySum(
                rule=one.rule, key=one.key, events=one.events, counted=one.counted, last=one.last,
                pairs=one.pairs if one.pair_events else None,
                unpaired=one.unpaired if one.pair_events else None,
            )
            for one in found.series
        ]  # fmt: skip
        return RuleSums(
            events=found.events + found.late, late=found.late, keys=tuple(keys),
            key_count=found.keys, pair_events=found.pair_events, pairs=found.pairs,
            unpaired=found.unpaired, begins_s=begins, width_s=width_s,
            series=tuple(
                Series(
                    name=one.key or one.rule if alike else f"{one.rule} {one.key}".strip(),
                    counts=tuple(bars[one.series]),
                )
                for one in shown
            ),
        )  # fmt: skip


def _sum_event(logged: Logged) -> SumEvent | None:
    """An entry as sums take it; None for the hub's own events of a rule's type."""
    event = decode_json(logged.entry.body, where=f"log position {logged.position}")
    data = event.get("data", {})
    key, values = data.get("key"), data.get("values")
    if not isinstance(key, Mapping) or not isinstance(values, Mapping):
        return None
    words = key_words(key).replace("\x00", "\ufffd")[:_MOST_KEY]  # no column takes a NUL
    action, count = data.get("action"), values.get("count")
    made, unpaired = values.get("pairs"), values.get("left_over")
    pairs = None
    if _is_count(made) and _is_count(unpaired):
        pairs = PairCount(str(values.get("session", "")), made, unpaired)
    return SumEvent(
        rule=logged.entry.subject, key=words, name=str(data.get("name") or event["id"]),
        action=action if action in ACTIONS else "", at=logged.entry.captured_at,
        position=logged.position, late=action == LATE,
        counted=count if _is_count(count) else 1, pairs=pairs,
    )  # fmt: skip


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MOST_COUNT


def _bars(found: EventSums) -> tuple[tuple[int, ...], int]:
    """Bars aligned to the epoch, from the first time to the last."""
    if found.first is None or found.last is None:
        return (), 1
    first, last = (int(at.timestamp() // 1) for at in (found.first, found.last))
    fits = (one for one in _WIDTHS_S if last // one - first // one < MOST_BARS)
    width_s = next(fits, (last - first) // (MOST_BARS - 1) + 1)
    begin = max(first - first % width_s, _YEAR_1_S)
    return tuple(range(begin, last + 1, width_s)), width_s
