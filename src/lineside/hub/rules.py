"""The plant's rules over the event log: one follower for all of them.

1. What a page of the log makes of a rule (its memory, the position up to which that holds, and the
   events it gives out) is one commit. A kill before it leaves the memory before and the page comes
   again; after it, the page is passed over. So each event is said once, whenever the hub dies.
2. A rule that is new, or declared otherwise than it was, begins at the end of the log.
3. What a rule says stands in the log, where rules that read it find it.
4. Memory is written only over what was read: of several hubs on one database one is first, the
   others read again what it made and go on from there.
5. When nothing arrives, a tick is written into the log, at most once in a rule's ``idle_s`` while
   it waits for time to pass: so a replay of the log decides as the hub did.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from lineside.core import (
    Clock,
    InvalidError,
    NotFoundError,
    Plant,
    Rule,
    encode,
    stable_id,
)
from lineside.hub.ledger import Ledger
from lineside.hub.topics import hub_source
from lineside.store import EventLog, Logged, Records
from lineside.streams import (
    TICK_TYPE,
    Counters,
    Difference,
    Entry,
    Event,
    RuleEngine,
    compare_rules,
    engine_of,
    expected_sources,
    explain,
    moment,
    rule_event,
)

logger = logging.getLogger(__name__)

FOLLOWER = "rules"
MOST_TRIED = 200_000
_KIND = "rule-state"
PAGE = 1000
"""Entries of the log that one commit covers at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleView:
    """A rule as it stands: what it does, how far it came, what became of its records.

    Attributes:
        explanation: in plain words, a sentence a line.
        counters: since its declaration; see ``lineside.streams.Counters``.
        told_up_to: the time up to which everything was told; None before the first record.
        held: records held back for their time.
        state_bytes: size of its kept memory.
        behind: log positions not looked at yet.
    """

    id: str
    name: str
    line: str
    step: str
    emit: str
    reads: dict[str, str]
    explanation: str
    counters: Counters
    told_up_to: datetime | None
    held: int
    state_bytes: int
    position: int
    behind: int


@dataclass(slots=True, kw_only=True)
class _Running:
    """A rule at work; ``position`` is up to which its memory holds, kept in that ``version``."""

    engine: RuleEngine
    position: int
    version: int


class Rules:
    """Handler of a follower over the whole log; owned by its thread, looked at by others."""

    def __init__(self, records: Records, *, ledger: Ledger, plant: Plant, clock: Clock) -> None:
        self._records = records
        self._ledger = ledger
        self._plant = plant
        self._clock = clock
        self._source = hub_source(plant.site)
        self._running: dict[str, _Running] = {}
        self._ticked_us = 0
        self._doubtful = False
        self.position = 0

    def load(self) -> int:
        """Bring every rule up from its kept memory; the position from which to follow."""
        self._running = {rule.id: self._load(rule) for rule in self._plant.rule}
        self._forget_others()
        self._doubtful = False
        return min((one.position for one in self._running.values()), default=0)

    def take(self, page: Sequence[Logged]) -> None:
        """One page of the log, in one commit."""
        if self._doubtful:
            self.load()
        self._doubtful = True  # until the commit, what is in memory may not be what is kept
        self._take(page)
        self._doubtful = False
        self.position = page[-1].position

    def tick(self) -> None:
        """Write a tick where a rule waits for time and nothing comes; called by the timers."""
        now_us = _microseconds(self._clock.now())
        waits = [
            (due_us, one.engine.rule.idle_s)
            for one in list(self._running.values())
            if (due_us := one.engine.ticks_at_us()) is not None
        ]
        if not waits or self.position < self._ledger.position:
            return
        least_us = round(min(idle_s for _, idle_s in waits) * 1e6)
        if now_us < min(due_us for due_us, _ in waits) or now_us - self._ticked_us < least_us:
            return
        self._ticked_us = now_us
        self._ledger.record([self._tick_event(now_us)])

    def all(self) -> list[RuleView]:
        """Every rule of the plant file, in its order."""
        return [self._view(rule) for rule in self._plant.rule]

    def one(self, rule_id: str) -> RuleView:
        """``NotFoundError`` if there is none."""
        return self._view(self.find(rule_id))

    def find(self, rule_id: str) -> Rule:
        """The declaration; ``NotFoundError`` lists the known ones."""
        for rule in self._plant.rule:
            if rule.id == rule_id:
                return rule
        known = ", ".join(rule.id for rule in self._plant.rule) or "none"
        raise NotFoundError(f"no rule {rule_id!r}", where="plant file", fix=f"Known: {known}.")

    def attempt(self, new: Rule, *, since: datetime, until: datetime) -> Difference:
        """What a declaration would have said of a recorded span, against the one in use.

        Raises:
            InvalidError: the span holds more than ``MOST_TRIED`` entries, or ends before it begins.
        """
        if until <= since:
            raise InvalidError(
                f"the span ends at {until.isoformat()}", where="until", fix="Let it end later."
            )
        span = recorded_entries(self._records.log, since=since, until=until)
        entries = list(islice(span, MOST_TRIED + 1))
        if len(entries) > MOST_TRIED:
            raise InvalidError(
                f"the span holds more than {MOST_TRIED} entries", where="until",
                fix="Try a shorter span.",
            )  # fmt: skip
        old = next((rule for rule in self._plant.rule if rule.id == new.id), None)
        return compare_rules(new, old, entries=entries, plant=self._plant)

    def totals(self) -> dict[str, dict[str, float]]:
        """For each rule its counters, and what it holds, for ``/metrics``."""
        found: dict[str, dict[str, float]] = {}
        for name, one in list(self._running.items()):
            counted = one.engine.counted()
            figures = {field: getattr(counted, field) for field in counted.__struct_fields__}
            behind = max(0, self._ledger.position - self.position)
            found[name] = {**figures, "held": one.engine.held, "behind": behind}
        return found

    # ---- the page

    def _take(self, page: Sequence[Logged]) -> None:
        events: list[Event] = []
        moved: list[_Running] = []
        entries: dict[int, Entry] = {}
        for one in self._running.values():
            mine = [
                entries.get(logged.position) or entries.setdefault(
                    logged.position, entry_of_log(logged)
                )
                for logged in page
                if logged.position > one.position
                and one.engine.role(logged.entry.type, logged.entry.subject)
            ]  # fmt: skip
            if mine:
                events += self._events(one.engine, mine)
                moved.append(one)
        if not moved:
            return
        end = page[-1].position
        versions: list[int] = []
        self._ledger.record(events, within=lambda _logged: versions.extend(self._keep(moved, end)))
        for one, version in zip(moved, versions, strict=True):
            one.position, one.version = end, version

    def _events(self, engine: RuleEngine, entries: Sequence[Entry]) -> list[Event]:
        return [
            rule_event(engine.rule, output, digest=engine.digest, source=self._source)
            for output in engine.take(entries)
        ]

    def _keep(self, moved: Sequence[_Running], position: int) -> list[int]:
        """Write the memory of each; the versions it has then."""
        return [
            self._records.documents.put(
                _KIND, one.engine.rule.id, body=_body(one.engine, position), expect=one.version
            ).version
            for one in moved
        ]

    # ---- memory

    def _load(self, rule: Rule) -> _Running:
        engine = engine_of(rule, plant=self._plant)
        try:
            kept = self._records.documents.get(_KIND, rule.id)
        except NotFoundError:
            return self._begin(engine, reason="new")
        body = kept.body
        if body["digest"] != engine.digest:
            return self._begin(engine, reason="declared anew")
        engine.load(body["state"])
        return _Running(engine=engine, position=int(body["position"]), version=kept.version)

    def _begin(self, engine: RuleEngine, *, reason: str) -> _Running:
        """A rule begins at the end of the log, and that is kept at once."""
        newest = self._records.log.read(newest_first=True, limit=1)
        position = newest[0].position if newest else 0
        kept = self._records.documents.put(_KIND, engine.rule.id, body=_body(engine, position))
        logger.info("rule begins rule=%s position=%d reason=%s", engine.rule.id, position, reason)
        return _Running(engine=engine, position=position, version=kept.version)

    def _forget_others(self) -> None:
        """The memory of rules that the plant file no longer has."""
        for document in self._records.documents.page(_KIND, limit=1000):
            if document.id not in self._running:
                self._records.documents.delete(_KIND, document.id)
                logger.info("rule forgotten rule=%s", document.id)

    # ---- views

    def _view(self, rule: Rule) -> RuleView:
        one = self._running.get(rule.id)
        engine = one.engine if one is not None else RuleEngine(rule)
        position = max(self.position, one.position if one is not None else 0)
        read = rule.read
        reads = {"predictions": read.predictions, "event": read.event, "plant": read.plant,
                 "topic": read.topic}  # fmt: skip
        low_us = engine.low_us
        return RuleView(
            id=rule.id, name=rule.name or rule.id, line=line_of(rule, self._plant),
            step=rule.step, emit=rule.emit,
            reads={name: value for name, value in reads.items() if value},
            explanation=explain(rule), counters=engine.counted(),
            told_up_to=None if low_us is None else moment(low_us), held=engine.held,
            state_bytes=self._state_bytes(rule), position=position,
            behind=max(0, self._ledger.position - self.position),
        )  # fmt: skip

    def _state_bytes(self, rule: Rule) -> int:
        try:
            return len(encode(self._records.documents.get(_KIND, rule.id).body))
        except NotFoundError:
            return 0

    def _tick_event(self, now_us: int) -> Event:
        return Event(
            id=stable_id("evt", TICK_TYPE, str(now_us)), source=self._source, type=TICK_TYPE,
            subject=FOLLOWER, time=moment(now_us), data={},
        )  # fmt: skip


def _body(engine: RuleEngine, position: int) -> dict[str, Any]:
    return {"digest": engine.digest, "position": position, "state": engine.dump()}


def entry_of_log(logged: Logged) -> Entry:
    """An entry of the log as rules take it."""
    entry = logged.entry
    arrived_us = _microseconds(logged.arrived_at)
    return Entry(type=entry.type, subject=entry.subject, arrived_us=arrived_us, body=entry.body)


def span_of(log: EventLog, *, since: datetime, until: datetime) -> Iterator[Logged]:
    """Entries that arrived from ``since`` on and before ``until``, in log order."""
    after = _position_before(log, since)
    while page := log.read(after=after, limit=PAGE):
        for logged in page:
            if logged.arrived_at >= until:
                return
            if logged.arrived_at >= since:
                yield logged
        after = page[-1].position


def recorded_entries(log: EventLog, *, since: datetime, until: datetime) -> Iterator[Entry]:
    """The same as rules take them."""
    return map(entry_of_log, span_of(log, since=since, until=until))


def _position_before(log: EventLog, since: datetime) -> int:
    """A position behind which everything that arrived from ``since`` on stands.

    Positions grow with arrival but for clocks set back, hence the minute's grace.
    """
    newest = log.read(newest_first=True, limit=1)
    low, high = 0, newest[0].position if newest else 0
    wanted = since - timedelta(minutes=1)
    while low < high:
        middle = (low + high) // 2
        found = log.read(after=middle, limit=1)
        if found and found[0].arrived_at < wanted:
            low = found[0].position
        else:
            high = middle
    return low


def line_of(rule: Rule, plant: Plant) -> str:
    """Whose topic a rule's events are said on: its own line, that of what it reads, the first."""
    by_id = {one.id: one for one in plant.rule}
    seen: set[str] = set()
    while rule.id not in seen:
        seen.add(rule.id)
        if rule.line:
            return rule.line
        cameras = rule.read.cameras or expected_sources(rule, plant=plant)
        lines = [camera.line for camera in plant.camera if camera.id in cameras]
        if lines:
            return lines[0]
        rule = by_id.get(rule.read.event, rule)
    return plant.line[0].id if plant.line else "line"


def _microseconds(at: datetime) -> int:
    return round(at.timestamp() * 1e6)
