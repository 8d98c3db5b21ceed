"""The plant's rules and the verdicts of its lines over the event log: one follower for all of them.

1. What rules say of a page of the log is one commit. A rule's memory, with the position up to
   which it holds, is written when the entries taken since weigh as much as the memory itself, at
   the latest after ``MOST_BEHIND`` positions: so it costs no more a record to remember ten
   thousand keys than ten.
2. After a kill a rule takes what is behind its memory once more and says the same again: it is a
   fold over the log and names its events by what they are, so the log knows those it has. Each is
   said once, whenever the hub dies.
3. A rule that is new, or declared otherwise than it was, begins at the end of the log.
4. What a rule says stands in the log, where rules that read it find it.
5. Memory is written only over what was read: of several hubs on one database one is first, the
   others read again what it made and go on from there.
6. An entry that makes a rule fail is skipped by all of them, for good: the follower lists it.
7. The verdicts of a line (``LineVerdicts``) are one more rule, which nobody declares.
8. When nothing arrives, a tick is written into the log, at most once in a rule's ``idle_s`` while
   it waits for time to pass: so a replay of the log decides as the hub did. A hub that begins
   waits that long as well: what came while no hub read is taken first, else it would be late.
"""

import logging
import zlib
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from operator import itemgetter
from typing import Any

import msgspec

from lineside.core import (
    Clock,
    InvalidError,
    LinesideError,
    NotFoundError,
    Plant,
    Rule,
    decode_json,
    encode,
    stable_id,
)
from lineside.core.clock import require_order
from lineside.hub.eventlog.followers import Follower
from lineside.hub.eventlog.ledger import Ledger
from lineside.hub.eventlog.topics import hub_source
from lineside.hub.eventlog.twin_history import span_of
from lineside.store import EventLog, Logged, Records
from lineside.streams import (
    TICK_TYPE,
    Entry,
    Event,
    LineVerdicts,
    RuleEngine,
    engine_of,
    explain,
    moment,
    rule_event,
    verdict_lines,
)
from lineside.streams.rules.engine import Counters
from lineside.streams.rules.replay import Difference, cameras_read, compare_rules, upstream

logger = logging.getLogger(__name__)

FOLLOWER = "rules"
_KIND = "rule-state"
_MOST_AT_START_US = 60_000_000
PAGE = 1000
"""Entries of the log that one commit covers at most."""
MOST_BEHIND = 20_000
"""Positions that a rule's kept memory is behind the rule at most, give or take a page."""


class RuleView(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as it stands: what it does, how far it came, what became of its records.

    Attributes:
        explanation: in plain words, a sentence a line.
        counters: since its declaration.
        watermark: the time up to which everything was told, ``told_up_to`` in JSON; None before the
            first record.
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
    watermark: datetime | None = msgspec.field(name="told_up_to")
    held: int
    state_bytes: int
    position: int
    behind: int


@dataclass(slots=True, kw_only=True)
class _Running:
    """A rule at work.

    Attributes:
        position: up to which what it remembers holds.
        stored: the same of its memory as it was written last, in that ``version``.
        stored_bytes: size of that.
        read_bytes: size of the entries it read since.
    """

    engine: RuleEngine | LineVerdicts
    position: int
    stored: int
    version: int
    stored_bytes: int
    read_bytes: int = 0

    @property
    def is_unsaved(self) -> bool:
        """True where it processed entries that its stored memory does not have."""
        return self.position > self.stored

    def due(self, end: int, *, more_bytes: int) -> bool:
        """Return True where its memory is due at that position, after so many bytes."""
        if not more_bytes and not self.is_unsaved:
            return False
        weighs = self.read_bytes + more_bytes >= self.stored_bytes
        return weighs or end - self.stored >= MOST_BEHIND

    def noted(self, end: int, *, version: int, size_bytes: int) -> None:
        """Its memory as of ``end`` was written."""
        self.position = self.stored = end
        self.version, self.stored_bytes, self.read_bytes = version, size_bytes, 0


def rules_follower(
    rules: "Rules", *, records: Records, ledger: Ledger, page: int = PAGE
) -> Follower:
    """The rules' reader of the log, standing where the first of them needs to go on."""
    return Follower(
        FOLLOWER, records=records, ledger=ledger, handle=rules.take,
        page=page, note_every=page, settled=lambda: rules.settled, skip=rules.skip,
        resume=rules.resume,
    )  # fmt: skip


class Rules:
    """Handler of a follower over the whole log; owned by its thread, looked at by others."""

    def __init__(self, records: Records, *, ledger: Ledger, plant: Plant, clock: Clock) -> None:
        self._records = records
        self._ledger = ledger
        self._plant = plant
        self._clock = clock
        self._source = hub_source(plant.site)
        self._running: dict[str, _Running] = {}
        self._ticked_us = self._began_us = 0
        self._doubtful = False
        self._outdated = False
        self.position = 0

    def declare(self) -> None:
        """Let the rules of a changed plant take over from the next entry of the log on.

        A tick is that entry, so that nothing has to arrive first.
        """
        self._outdated = True
        self._ledger.record([self._tick_event(_microseconds(self._clock.now()))])

    def load(self) -> int:
        """Bring every rule up from its kept memory; the position from which to follow."""
        engines: list[RuleEngine | LineVerdicts] = [
            *(engine_of(rule, plant=self._plant) for rule in self._plant.rule),
            *(LineVerdicts(self._plant, line) for line in verdict_lines(self._plant)),
        ]
        running = {engine.rule.id: self._load(engine) for engine in engines}
        self._forget_others(running)
        self._running = running
        self._doubtful = False
        return min((one.position for one in running.values()), default=0)

    def resume(self, position: int) -> int:
        """Go on from a follower's position, or from what the kept memories have if that is more."""
        self.position = max(position, self.load())
        self._began_us = _microseconds(self._clock.now())
        return self.position

    @property
    def settled(self) -> int:
        """The position up to which the kept memories have everything that rules read."""
        behind = (one.stored for one in self._running.values() if one.is_unsaved)
        return min(behind, default=self.position)

    def take(self, page: Sequence[Logged]) -> None:
        """One page of the log; what rules say of it is one commit."""
        if self._outdated:
            self._outdated = False
            self.keep()
            self._doubtful = True
        if self._doubtful:
            self._go_back(upto=page[0].position - 1)
        self._doubtful = True  # until the commit, what is in memory may not be what was said
        self._take(page)
        self._doubtful = False
        self.position = page[-1].position

    def skip(self, logged: Logged) -> None:
        """Go past an entry that failed: every memory is as if it had not been, and that is kept.

        So neither a restart nor a way back to the kept memory comes to this entry again.
        """
        end = logged.position
        self._go_back(upto=end - 1)
        self._commit((), [one for one in self._running.values() if one.position < end], end=end)
        self._doubtful = False
        self.position = end

    def keep(self) -> None:
        """Write every memory that is behind, so that the next start has nothing to take again."""
        ahead = [one for one in self._running.values() if one.is_unsaved]
        if self._doubtful or not ahead:
            return
        try:
            self._commit((), ahead, end=self.position)
        except LinesideError as error:
            logger.info("memory not kept, the log is read again reason=%s", error)

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
        idles_us = [round(idle_s * 1e6) for _, idle_s in waits]
        if now_us - self._began_us < min(max(idles_us), _MOST_AT_START_US):
            return
        if now_us < min(due_us for due_us, _ in waits) or now_us - self._ticked_us < min(idles_us):
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

    def totals(self) -> dict[str, dict[str, float]]:
        """For each rule its counters, and what it holds, for ``/metrics``."""
        found: dict[str, dict[str, float]] = {}
        declared = {rule.id for rule in self._plant.rule}
        for name, one in list(self._running.items()):
            if name not in declared:
                continue
            counted = one.engine.counted()
            figures = {field: getattr(counted, field) for field in counted.__struct_fields__}
            behind = max(0, self._ledger.position - self.position)
            found[name] = {**figures, "held": one.engine.held, "behind": behind}
        return found

    def verdicts(self) -> dict[str, dict[str, int]]:
        """For each line how many parts got which verdict since the first, for ``/metrics``."""
        engines = [one.engine for one in list(self._running.values())]
        return {
            one.line: {**one.given, "waiting": one.held, "late": one.counters.late}
            for one in engines
            if isinstance(one, LineVerdicts)
        }

    def watermark(self, rule_id: str) -> datetime | None:
        """The time up to which everything was told; None before the first record."""
        one = self._running.get(rule_id)
        low_us = None if one is None else one.engine.low_us
        return None if low_us is None else moment(low_us)

    # ---- the page

    def _take(self, page: Sequence[Logged]) -> None:
        events: list[Event] = []
        read_bytes: dict[str, int] = {}
        entries: dict[int, Entry] = {}
        for name, one in self._running.items():
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
                read_bytes[name] = sum(len(entry.body) for entry in mine)
        end = page[-1].position
        due = [
            one for name, one in self._running.items()
            if one.due(end, more_bytes=read_bytes.get(name, 0))
        ]  # fmt: skip
        self._commit(events, due, end=end)
        for name, size_bytes in read_bytes.items():
            one = self._running[name]
            one.read_bytes += 0 if one.stored == end else size_bytes
            one.position = end

    def _go_back(self, *, upto: int) -> None:
        """Load what is kept, and take again what follows it up to where the page in hand begins."""
        place = self.settled
        self.load()
        self._doubtful = True
        self.position = place
        while self.position < upto:
            page = self._records.log.read(after=self.position, limit=PAGE)
            again = [logged for logged in page if logged.position <= upto]
            if not again:
                break
            self._take(again)
            self.position = again[-1].position

    def _commit(self, events: Sequence[Event], due: Sequence[_Running], *, end: int) -> None:
        """Record the rules' events and the due memories in one transaction."""
        if not events and not due:
            return
        written: list[tuple[int, int]] = []
        self._ledger.record(events, within=lambda _logged: written.extend(self._keep(due, end)))
        for one, (version, size_bytes) in zip(due, written, strict=True):
            one.noted(end, version=version, size_bytes=size_bytes)

    def _events(self, engine: RuleEngine | LineVerdicts, entries: Sequence[Entry]) -> list[Event]:
        if isinstance(engine, LineVerdicts):
            return engine.take(entries)
        return [
            rule_event(engine.rule, output, digest=engine.digest, source=self._source)
            for output in engine.take(entries)
        ]

    def _keep(self, due: Sequence[_Running], end: int) -> list[tuple[int, int]]:
        """Write the memory of each; the versions and sizes it has then."""
        return [self._written(one.engine, position=end, expect=one.version) for one in due]

    # ---- memory

    def _load(self, engine: RuleEngine | LineVerdicts) -> _Running:
        rule = engine.rule
        try:
            kept = self._records.documents.get(_KIND, rule.id)
        except NotFoundError:
            return self._begin(engine, reason="new")
        body = kept.body
        if body["digest"] != engine.digest or "memory" not in body:
            return self._begin(engine, reason="declared anew")
        state = _unpacked(body["memory"])
        engine.load(decode_json(state, where=f"memory of {rule.id}"))
        position = int(body["position"])
        return _Running(
            engine=engine, position=position, stored=position, version=kept.version,
            stored_bytes=len(state),
        )  # fmt: skip

    def _begin(self, engine: RuleEngine | LineVerdicts, *, reason: str) -> _Running:
        """A rule begins at the end of the log, and that is kept at once."""
        newest = self._records.log.read(newest_first=True, limit=1)
        position = newest[0].position if newest else 0
        version, size_bytes = self._written(engine, position=position)
        logger.info("rule begins rule=%s position=%d reason=%s", engine.rule.id, position, reason)
        return _Running(
            engine=engine, position=position, stored=position, version=version,
            stored_bytes=size_bytes,
        )  # fmt: skip

    def _written(
        self, engine: RuleEngine | LineVerdicts, *, position: int, expect: int | None = None
    ) -> tuple[int, int]:
        """Write what a rule remembers as of a position; the version it has then, and its size."""
        state = engine.written()
        body = {"digest": engine.digest, "position": position, "memory": _packed(state)}
        kept = self._records.documents.put(_KIND, engine.rule.id, body=body, expect=expect)
        return kept.version, len(state)

    def _forget_others(self, declared: Mapping[str, object]) -> None:
        """The memory of rules that the plant file no longer has."""
        for document in self._records.documents.page(_KIND, limit=1000):
            if document.id not in declared:
                self._records.documents.delete(_KIND, document.id)
                logger.info("rule forgotten rule=%s", document.id)

    # ---- views

    def _view(self, rule: Rule) -> RuleView:
        one = self._running.get(rule.id)
        engine = one.engine if one is not None else RuleEngine(rule)
        position = max(self.position, one.position if one is not None else 0)
        return RuleView(
            id=rule.id, name=rule.name or rule.id, line=line_of(rule, self._plant),
            step=rule.step, emit=rule.emit,
            reads=dict([rule.read.source]),
            explanation=explain(rule), counters=engine.counted(),
            watermark=self.watermark(rule.id), held=engine.held,
            state_bytes=one.stored_bytes if one is not None else 0, position=position,
            behind=max(0, self._ledger.position - self.position),
        )  # fmt: skip

    def _tick_event(self, now_us: int) -> Event:
        return Event(
            id=stable_id("evt", TICK_TYPE, str(now_us)), source=self._source, type=TICK_TYPE,
            subject=FOLLOWER, time=moment(now_us), data={},
        )  # fmt: skip


def _packed(state: bytes) -> str:
    """A memory as text a tenth as long and less, which a commit with it need not wait for."""
    return b64encode(zlib.compress(state, 1)).decode()


def _unpacked(text: str) -> bytes:
    return zlib.decompress(b64decode(text))


def entry_of_log(logged: Logged) -> Entry:
    """An entry of the log as rules take it."""
    entry = logged.entry
    arrived_us = _microseconds(logged.arrived_at)
    return Entry(type=entry.type, subject=entry.subject, arrived_us=arrived_us, body=entry.body)


def recorded_entries(log: EventLog, *, since: datetime, until: datetime) -> Iterator[Entry]:
    """The same as rules take them."""
    return map(entry_of_log, span_of(log, since=since, until=until))


def line_of(rule: Rule, plant: Plant) -> str:
    """Whose topic a rule's events are said on: its own line, that of what it reads, the first."""
    for one in reversed(upstream(rule, plant)):
        if one.line:
            return one.line
        cameras = one.read.cameras or cameras_read(one, plant=plant)
        lines = [camera.line for camera in plant.camera if camera.id in cameras]
        if lines:
            return lines[0]
    return plant.line[0].id if plant.line else "line"


def _microseconds(at: datetime) -> int:
    return round(at.timestamp() * 1e6)


EventData = dict[str, Any]

MOST_TRIED = 200_000
"""Entries of a span at most."""


def run_trial(
    new: Rule, *, plant: Plant, log: EventLog, since: datetime, until: datetime
) -> Difference:
    """Compare the events of a declaration on a recorded span with those of the rule in use.

    Args:
        new: the declaration.
        plant: has the one in use, if there is one of that id, and the rules that are read.
        log: where the span stands.
        since: entries that arrived from here on,
        until: and before this.

    Raises:
        InvalidError: the span holds more than ``MOST_TRIED`` entries, or ends before it begins.
    """
    require_order(since, until, where="since, until")
    span = recorded_entries(log, since=since, until=until)
    entries = list(islice(span, MOST_TRIED + 1))
    if len(entries) > MOST_TRIED:
        raise InvalidError(
            f"the span holds more than {MOST_TRIED} entries", where="until",
            fix="Try a shorter span.",
        )  # fmt: skip
    old = next((rule for rule in plant.rule if rule.id == new.id), None)
    return compare_rules(new, old, entries=entries, plant=plant)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleComparison:
    """A difference as people read it.

    Attributes:
        otherwise: told by both of the same key and a stretch that overlaps, but not alike: what
            the one in use says, and what the new one does.
        added: what only the new one says, in order.
        removed: what only the one in use says.
    """

    otherwise: tuple[tuple[EventData, EventData], ...]
    added: tuple[EventData, ...]
    removed: tuple[EventData, ...]


def pair_changes(found: Difference) -> RuleComparison:
    """Take together what is the same thing told otherwise, of each key in order of time."""
    waiting: dict[bytes, deque[EventData]] = {}
    for one in sorted(found.added, key=itemgetter("from", "to")):
        waiting.setdefault(_kind(one), deque()).append(one)
    pairs: list[tuple[EventData, EventData]] = []
    removed: list[EventData] = []
    for old in sorted(found.removed, key=itemgetter("from", "to")):
        new = _overlapping(old, waiting.get(_kind(old)))
        if new is None:
            removed.append(old)
        else:
            pairs.append((old, new))
    taken = {id(new) for _, new in pairs}
    added = (one for one in found.added if id(one) not in taken)
    return RuleComparison(otherwise=tuple(pairs), added=tuple(added), removed=tuple(removed))


def _overlapping(old: EventData, waiting: deque[EventData] | None) -> EventData | None:
    """The first that does not end before ``old`` begins, if it begins before ``old`` ends."""
    while waiting and waiting[0]["to"] < old["from"]:
        waiting.popleft()
    return waiting.popleft() if waiting and waiting[0]["from"] <= old["to"] else None


def _kind(data: EventData) -> bytes:
    return encode([data["key"], data["action"]])
