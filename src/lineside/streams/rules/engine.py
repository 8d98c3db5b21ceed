"""One rule over the log: a fold whose memory is one document.

1. ``take`` is handed entries in log order, whatever their chunks; what it gives out and remembers
   depends on their order and arrival times alone, never on how they were cut.
2. Records that pass ``where`` are held back until no earlier one can come (``watermark``), then
   handed to the step in order of time. Of one time: in log order where all are of one source by
   declaration, so that the newest need not wait; else in order of id, so that it does not matter
   which source was heard first. With ``emit = "changes"`` they are handed on as they come.
3. Nothing is dropped in silence: late records, those without a key, entries that cannot be read,
   and keys given up for room are counted, and the counters are part of the memory.
4. At most ``MOST_HELD`` records are held back; beyond, the oldest tenth goes on before its time.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

import msgspec

from lineside.core import InvalidError, Rule, digest_of, encode, to_plain
from lineside.core.plant_rules import STEPS, Scalar
from lineside.streams.rules.conditions import compile_conditions
from lineside.streams.rules.contract import Output, Record, Step, tested_fields
from lineside.streams.rules.keyed_state import BEGINNING_US, Watermarks, WatermarkState
from lineside.streams.rules.records import TICK_TYPE, Entry, reader_of, session_record
from lineside.streams.rules.steps import make_step

MOST_HELD = 20_000
STATE_SCHEMA = "lineside.rule-state/1"
_MOST_ROLES = 10_000
_AT_ONCE = 1000
_CLOCK_CHANGE_S = 7200.0  # by how much more than its size a window by a zone's clock lasts, at most
_PYTHON_SPAN_S = 60.0

_LATER: tuple[tuple[str, object], ...] = (
    ("repeat", None), ("join", None), ("offset_s", 0.0), ("zone", ""),
)  # fmt: skip
"""Keys of rules and steps that came after the first release, as they are by default."""

_Held = tuple[int, str, int, Record, tuple[Scalar, ...]]
_Key = Callable[[Mapping[str, Scalar]], tuple[Scalar, ...] | None]


class Counters(msgspec.Struct):
    """Counts of a rule's records since its declaration.

    Attributes:
        read: records made of entries.
        passed: of these, that ``where`` let through and that have a key.
        late: too late for their place in time.
        keyless: lacked a field of the key.
        unreadable: entries whose body could not be read.
        evicted: keys or windows given up for room.
        hurried: records handed on before their time, for room.
        given: events given out.
    """

    read: int = 0
    passed: int = 0
    late: int = 0
    keyless: int = 0
    unreadable: int = 0
    evicted: int = 0
    hurried: int = 0
    given: int = 0


class _State(msgspec.Struct):
    step: dict[str, Any]
    marks: WatermarkState
    held: list[Record]
    counters: Counters
    ticks_us: list[int] = []
    schema: str = STATE_SCHEMA


def rule_digest(rule: Rule) -> str:
    """Names what a rule does: the same text means the same memory; its names do not matter.

    Keys that the language got later do not count while they are as they are by default, so that a
    rule written before goes on with what it remembers.
    """
    document = to_plain(replace(rule, name="", line=""))
    return digest_of(encode(_without_later(document)))


def _without_later(document: dict[str, Any]) -> dict[str, Any]:
    inner = {
        name: _without_later(value) if isinstance(value, dict) and name in STEPS else value
        for name, value in document.items()
    }
    return {name: value for name, value in inner.items() if (name, value) not in _LATER}


def rule_span_s(rule: Rule) -> float:
    """Return the longest time after its last record at which a rule may give out an event."""
    return max(_spans(rule), default=_PYTHON_SPAN_S)


def _spans(rule: Rule) -> Iterator[float]:
    if rule.window is not None:
        window = rule.window
        further_s = (window.every_s or window.size_s) if rule.emit == "edges" else 0.0
        changed_s = (1 + bool(further_s)) * _CLOCK_CHANGE_S if window.zone else 0.0
        yield from (window.size_s + further_s + changed_s, window.gap_s)
    if rule.sighting is not None:
        passing = rule.sighting.habits or rule.sighting
        yield 2 * (passing.gap_s + passing.dwell_s)
    if rule.crossing is not None:
        yield 2 * rule.crossing.lost_s
    if rule.sequence is not None:
        yield rule.sequence.within_s
    if rule.hold is not None:
        yield from (rule.hold.for_s, rule.hold.gap_s)
    if rule.rate is not None:
        yield 2 * rule.rate.per_s
    if rule.pair is not None:
        yield rule.pair.within_s
    if rule.repeat is not None:
        yield rule.repeat.within_s
    if rule.join is not None:
        yield rule.join.within_s


def disorder_s(rule: Rule, *, waits_s: float) -> float:
    """Return how far a rule's next event may lie behind its newest, where it waits that long.

    What was told late, given up for room or left over by a sorting session may lie farther behind.
    """
    if rule.emit != "changes":
        return _backlog_s(rule)
    window = rule.window
    if window is None or window.kind == "session":
        return waits_s + _backlog_s(rule)
    # An event of a window has the time of the window's end, and so may be ahead of its records.
    return waits_s + window.size_s if waits_s or window.kind == "hopping" else 0.0


def _backlog_s(rule: Rule) -> float:
    """Return how long after its time a step that gets records in order may give out an event."""
    lasting = rule.hold is not None and not rule.hold.field
    alone = rule.pair is not None and rule.emit == "final"
    lacking = rule.join is not None and rule.join.incomplete
    edges = rule.emit == "edges"
    later = rule.sighting is not None or lasting or alone or lacking or edges
    return rule_span_s(rule) if later else 0.0


class RuleEngine:
    """One rule; owned by one thread.

    Args:
        rule: its declaration.
        expected: sources that time waits for from the first record on, such as cameras.
        delay_s: how long what it reads may be on its way, where that is other rules.
        depth: how many rules its records pass before it. A tick moves it so many ticks later:
            what the rules before it say because of a tick stands behind that tick in the log,
            however long the tick itself was on its way.
        waits_s: how far behind the newest of its source a record may lie; None for what the rule
            declares.
        step: does the rule's step elsewhere; None for the one that the rule declares.
    """

    def __init__(
        self, rule: Rule, *, expected: Iterable[str] = (), delay_s: float = 0.0,
        depth: int = 0, waits_s: float | None = None, step: Step | None = None,
    ) -> None:  # fmt: skip
        self.rule = rule
        self.digest = rule_digest(rule)
        self.counters = Counters()
        self._reader = reader_of(rule)
        self._step: Step = make_step(rule) if step is None else step
        lasting = rule.hold is not None and not rule.hold.field
        self._where = None if lasting else compile_conditions(rule.where)
        self._having = None if rule.emit == "edges" else compile_conditions(rule.having)
        self._key = _key_of(rule.key)
        self._idle_us = round((rule.idle_s + delay_s) * 1e6)
        self._depth = depth
        self._ticks_us: list[int] = []
        self._changes = rule.emit == "changes"
        # Of windows and pairs each change is told with the record that makes it, and nothing later.
        self._goes_on = not (self._changes and (rule.window or rule.pair))
        lateness_s = rule.lateness_s if waits_s is None else waits_s
        self._marks = Watermarks(
            lateness_us=round(lateness_s * 1e6), idle_us=self._idle_us, expected=expected,
            goes_on=self._goes_on,
        )  # fmt: skip
        self._single = _reads_one_source(rule)
        self._arrival = rule.time == "arrival"
        self._span_us = round(rule_span_s(rule) * 1e6)
        self._held: list[_Held] = []
        self._roles: dict[tuple[str, str], str] = {}
        self._given: list[Output] = []
        self._seq = 0

    def role(self, type_: str, subject: str) -> str:
        """Return the role of an entry: ``record``, ``session``, ``tick`` or "" for none."""
        role = self._roles.get((type_, subject))
        if role is None:
            if len(self._roles) >= _MOST_ROLES:
                self._roles.clear()
            role = self._roles[type_, subject] = self._role(type_, subject)
        return role

    def take(self, entries: Iterable[Entry]) -> list[Output]:
        """Take entries in log order; what the rule gives out of them."""
        roles, read = self._roles, self._reader.read
        records: list[Record] = []
        for entry in entries:
            role = roles.get((entry.type, entry.subject))
            if role is None:
                role = self.role(entry.type, entry.subject)
            if role == "record":
                try:
                    records += read(entry)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    self.counters.unreadable += 1
                if len(records) < _AT_ONCE:
                    continue
            elif not role:
                continue
            self._admit(records)
            records.clear()
            if role != "record":
                self._mark(entry, role=role)
        self._admit(records)
        self._release()
        given, self._given = self._given, []
        self.counters.given += len(given)
        return given

    @property
    def held(self) -> int:
        """Records held back now."""
        return len(self._held)

    @property
    def low_us(self) -> int | None:
        """The time up to which everything was told; None before the first record."""
        return None if self._marks.low_us == BEGINNING_US else self._marks.low_us

    def counted(self) -> Counters:
        """The counters as they stand."""
        self.counters.evicted = getattr(self._step, "evicted", 0)
        return self.counters

    def ticks_at_us(self) -> int | None:
        """From which arrival on a tick would move this rule; None where time alone brings nothing.

        A rule waits for time while it holds records back, or while its step may still give out
        something of what it was handed.
        """
        marks = self._marks
        settled = not self._held and marks.low_us > marks.newest_us + self._span_us
        never = settled or not self._goes_on or marks.newest_us == BEGINNING_US
        return None if never else marks.moves_at_us()

    def dump(self) -> dict[str, Any]:
        """The whole memory, as plain JSON."""
        return msgspec.to_builtins(self._state())  # type: ignore[no-any-return]  # a struct is a dict

    def written(self) -> bytes:
        """The same as JSON text, for which no copy of it is made."""
        return encode(self._state())

    def _state(self) -> _State:
        return _State(
            step=self._step.dump(), marks=self._marks.dump(), counters=self.counted(),
            held=[held[3] for held in self._held], ticks_us=self._ticks_us,
        )  # fmt: skip

    def load(self, memory: Mapping[str, Any]) -> None:
        """Go on from a dump, in an engine that has taken nothing yet.

        Raises:
            InvalidError: it is no memory of such a rule.
        """
        try:
            state = msgspec.convert(memory, _State)
        except msgspec.ValidationError as error:
            raise InvalidError(
                f"no memory of a rule: {error}", where=f"rule {self.rule.id}",
                fix="Forget it; the rule begins anew.",
            ) from error  # fmt: skip
        self._step.load(state.step)
        self._marks.load(state.marks)
        self.counters, self._ticks_us = state.counters, state.ticks_us
        for record in state.held:
            self._hold(record, self._key(record.fields) or ())

    # ---- admission

    def _role(self, type_: str, subject: str) -> str:
        if type_ == TICK_TYPE:
            return "tick"
        if self._reader.takes(type_, subject):
            return "record"
        return "session" if self._reader.begins(type_, subject) else ""

    def _mark(self, entry: Entry, *, role: str) -> None:
        """A tick, or the beginning of a sorting session."""
        if role == "tick":
            self._ticks_us.append(entry.arrived_us)
            if len(self._ticks_us) > self._depth:
                self._marks.tick(self._ticks_us.pop(0))
            return
        try:
            record = session_record(entry, arrival=self._arrival)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.counters.unreadable += 1
            return
        if self._changes or record.at_us < self._marks.low_us:
            self._release()
            self._feed(record, ())
        else:
            self._hold(record, ())

    def _admit(self, records: Sequence[Record]) -> None:
        """Records in log order: late, without key, handed on, or held back."""
        marks, where, key_of = self._marks, self._where, self._key
        single, changes, passed = self._single, self._changes, 0
        for record in records:
            fields = record.fields
            if where is not None and not where(fields):
                marks.tick(record.arrived_us)
                continue
            key = key_of(fields)
            if key is None:
                self.counters.keyless += 1
                marks.tick(record.arrived_us)
                continue
            passed += 1
            if marks.note(record.source, record.at_us, arrived_us=record.arrived_us):
                self._tell_late(record, key)
            elif changes:
                self._feed(record, key)
            else:
                self._seq += 1  # two records of one time and id keep their order
                tie = "" if single else record.id
                self._held.append((record.at_us, tie, self._seq, record, key))
                if len(self._held) > MOST_HELD:
                    self._hurry()
        self.counters.read += len(records)
        self.counters.passed += passed

    def _hold(self, record: Record, key: tuple[Scalar, ...]) -> None:
        self._seq += 1  # two records of one time and id keep their order
        tie = "" if self._single else record.id
        self._held.append((record.at_us, tie, self._seq, record, key))

    def _hurry(self) -> None:
        """Make room: first what is ripe, then the oldest tenth before its time."""
        self._release()
        if len(self._held) <= MOST_HELD:
            return
        low_us = self._held[len(self._held) // 10][0] + 1
        self.counters.hurried += bisect_left(self._held, low_us, key=itemgetter(0))
        self._marks.force(low_us)
        self._release()

    def _tell_late(self, record: Record, key: tuple[Scalar, ...]) -> None:
        self.counters.late += 1
        if self.rule.late != "event":
            return
        low_us = max(self._marks.low_us, self._marks.of(record.source))
        self._release()  # so that chunks do not decide what is told first
        values: dict[str, Scalar] = {"late_by_s": (low_us - record.at_us) / 1e6}
        frame = record.fields.get("frame")
        if isinstance(frame, str):
            values["frame"] = frame
        self._given.append(
            Output(
                name=f"late/{record.id}", key=dict(zip(self.rule.key, key, strict=True)),
                action="late", start_us=record.at_us, end_us=record.at_us, values=values,
                causes=(record.id,),
            )
        )  # fmt: skip

    # ---- in order of time

    def _release(self) -> None:
        low_us, held = self._marks.low_us, self._held
        if held:
            held.sort()
            ripe = bisect_left(held, (low_us + self._single,))
            self._held = held[ripe:]
            del held[ripe:]
            self._keep(self._hand_on(held))
        if low_us > BEGINNING_US:
            self._keep(self._step.advance(low_us))

    def _hand_on(self, ready: Sequence[_Held]) -> Iterable[Output]:
        """Records in their order through the step, time before each."""
        at_once = getattr(self._step, "feed_many", None)
        if at_once is not None:
            return at_once([(record, key) for _, _, _, record, key in ready])  # type: ignore[no-any-return]  # see window_steps
        advance, feed, found = self._step.advance, self._step.feed, list[Output]()
        for at_us, _, _, record, key in ready:
            found += advance(at_us)
            found += feed(record, key=key)
        return found

    def _feed(self, record: Record, key: tuple[Scalar, ...]) -> None:
        """Hand a record on as it comes."""
        if self._marks.low_us > BEGINNING_US:
            self._keep(self._step.advance(self._marks.low_us))
        self._keep(self._step.feed(record, key=key))

    def _keep(self, outputs: Iterable[Output]) -> None:
        having = self._having
        for output in outputs:
            if having is None or having(tested_fields(output)):
                self._given.append(output)


def _reads_one_source(rule: Rule) -> bool:
    """Return whether a rule's declaration lets it read one source only, whose order the log has."""
    read = rule.read
    if read.topic:
        return not {"+", "#"} & set(read.topic)
    named = (read.cameras, read.inspections, read.rules)
    return not read.plant and all(len(names) <= 1 for names in named)


def _key_of(names: tuple[str, ...]) -> _Key:
    """The key of a record's fields; None where it lacks one of them."""
    if not names:
        return lambda _fields: ()
    if len(names) == 1:
        only = names[0]

        def one(fields: Mapping[str, Scalar]) -> tuple[Scalar, ...] | None:
            value = fields.get(only)
            return None if value is None else (value,)

        return one
    pick = itemgetter(*names)

    def several(fields: Mapping[str, Scalar]) -> tuple[Scalar, ...] | None:
        try:
            return pick(fields)  # type: ignore[no-any-return]  # a tuple for two names and more
        except KeyError:
            return None

    return several
