"""Rules over recorded entries: a whole plant file, one rule, or two versions of one compared.

A rule that reads another's events is run together with it: what was recorded of the other is passed
over, because its declaration may have changed since. Nothing is written anywhere.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lineside.core import Plant, Rule, encode, to_plain
from lineside.core.webhooks import EVENT_TYPE
from lineside.streams.event import Event, encode_event
from lineside.streams.rules.contract import Step, rule_event
from lineside.streams.rules.engine import RuleEngine, disorder_s, rule_span_s
from lineside.streams.rules.records import TICK_TYPE, Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The events of one rule that another does not give over the same entries.

    Attributes:
        same: how many events both say.
        added: what only the new one says, in order.
        removed: what only the old one says.
        late, keyless, unreadable: counters of the new one.
    """

    same: int
    added: tuple[dict[str, Any], ...]
    removed: tuple[dict[str, Any], ...]
    late: int
    keyless: int
    unreadable: int


class Chain:
    """A rule with the rules it reads, over entries in log order."""

    def __init__(self, rule: Rule, *, plant: Plant) -> None:
        self._rules = RuleSet(replace(plant, rule=tuple(upstream(rule, plant))))

    @property
    def engine(self) -> RuleEngine:
        """The rule itself."""
        return self.engines[-1]

    @property
    def engines(self) -> tuple[RuleEngine, ...]:
        """The rules, the first read first and the rule itself last."""
        return self._rules.engines

    def reads(self, entry: Entry) -> bool:
        """Return whether the rules make records of an entry and did not give it out themselves."""
        roles = (engine.role(entry.type, entry.subject) for engine in self.engines)
        return not self._rules.says(entry) and "record" in roles

    def take(self, entry: Entry) -> Iterator[Event]:
        """Return the rule's events after one more entry."""
        return self._own(self._rules.take([entry]))

    def finish(self) -> Iterator[Event]:
        """Return the events when nothing arrives any more: ticks, as the hub would write them."""
        return self._own(self._rules.finish())

    def _own(self, events: Iterable[Event]) -> Iterator[Event]:
        return (event for event in events if event.subject == self.engine.rule.id)


def next_tick(engines: Sequence[RuleEngine], *, after_us: int) -> Entry | None:
    """Return the tick that a hub would write next if nothing arrived; None where none is needed."""
    due_us = [at_us for one in engines if (at_us := one.ticks_at_us()) is not None]
    if not due_us:
        return None
    every_us = round(min(one.rule.idle_s for one in engines) * 1e6)
    return _tick(max(after_us + every_us, min(due_us)))


def _tick(arrived_us: int) -> Entry:
    return Entry(type=TICK_TYPE, subject="", arrived_us=arrived_us, body=b"{}")


def closing_ticks(rule: Rule, *, plant: Plant, newest_us: int) -> Iterator[Entry]:
    """Ticks after the newest arrival, until a rule and those it reads have nothing left to tell."""
    every_s = min(one.idle_s for one in upstream(rule, plant))
    for number in range(1, math.ceil(silence_s(rule, plant) / every_s) + 2):
        yield _tick(newest_us + number * round(every_s * 1e6))


def engine_of(rule: Rule, *, plant: Plant, step: Step | None = None) -> RuleEngine:
    """A rule ready to run among the others of its plant file; ``step`` as ``RuleEngine`` has it."""
    return RuleEngine(
        rule, expected=expected_sources(rule, plant=plant), delay_s=delay_s(rule, plant),
        depth=depth_of(rule, plant), waits_s=waits_s(rule, plant), step=step,
    )  # fmt: skip


def waits_s(rule: Rule, plant: Plant) -> float:
    """Return how far a rule's record may lie behind the newest of its source, in seconds.

    That is its own ``lateness_s``, and what the events of the rules that it reads may be out of
    order: who reads other rules waits as long as those can still be late.
    """
    behind_s: dict[str, float] = {}
    wait_s = rule.lateness_s
    for one in upstream(rule, plant):
        read = (behind_s.get(name, 0.0) for name in one.read.rules)
        wait_s = one.lateness_s + max(read, default=0.0)
        behind_s[one.id] = disorder_s(one, waits_s=wait_s)
    return wait_s


def delay_s(rule: Rule, plant: Plant) -> float:
    """Return how long after its time an event of the rules that are read may come.

    When all is silent, a rule tells after its sources fell asleep, at the next tick, all that time
    alone can still bring; a rule that reads rules, one tick later for each before it.
    """
    delay_s: dict[str, float] = {}
    wait_s = 0.0
    for one in upstream(rule, plant):
        wait_s = max((delay_s.get(name, 0.0) for name in one.read.rules), default=0.0)
        idle_s = (2 + depth_of(one, plant)) * one.idle_s
        delay_s[one.id] = wait_s + idle_s + waits_s(one, plant) + rule_span_s(one)
    return wait_s


def silence_s(rule: Rule, plant: Plant) -> float:
    """Return how long after the newest arrival a rule may still give out an event, in seconds.

    Each rule on the way may wait for all that it waits for once more, from what it was given last.
    """
    return math.fsum(
        delay_s(one, plant)
        + (2 + depth_of(one, plant)) * one.idle_s
        + waits_s(one, plant)
        + rule_span_s(one)
        for one in upstream(rule, plant)
    )


def depth_of(rule: Rule, plant: Plant) -> int:
    """Return how many rules a record passes before this one, at most."""
    depth: dict[str, int] = {}
    for one in upstream(rule, plant):
        depth[one.id] = max((depth.get(name, -1) + 1 for name in one.read.rules), default=0)
    return depth[rule.id]


def entry_of(event: Event, *, arrived_us: int) -> Entry:
    """An event as rules take it."""
    body = encode_event(event)
    return Entry(type=event.type, subject=event.subject, arrived_us=arrived_us, body=body)


def run_rule(rule: Rule, entries: Iterable[Entry], *, plant: Plant) -> Iterator[Event]:
    """Everything a rule says of recorded entries, up to when nothing arrives any more."""
    chain = Chain(rule, plant=plant)
    for entry in entries:
        yield from chain.take(entry)
    yield from chain.finish()


def compare_rules(
    new: Rule, old: Rule | None, *, entries: Sequence[Entry], plant: Plant
) -> Difference:
    """Compare two declarations; ``old`` None: there was no such rule."""
    chain = Chain(new, plant=plant)
    own_events = [*(event for entry in entries for event in chain.take(entry)), *chain.finish()]
    before = [] if old is None else list(run_rule(old, entries, plant=plant))
    known, now = (
        {_comparable(event) for event in before},
        {_comparable(event) for event in own_events},
    )
    counted = chain.engine.counted()
    return Difference(
        same=len(known & now),
        added=tuple(to_plain(one.data) for one in own_events if _comparable(one) not in known),
        removed=tuple(to_plain(one.data) for one in before if _comparable(one) not in now),
        late=counted.late, keyless=counted.keyless, unreadable=counted.unreadable,
    )  # fmt: skip


def expected_sources(rule: Rule, *, plant: Plant) -> tuple[str, ...]:
    """Sources that are known ahead: the cameras a rule's predictions come from.

    Of several inspections, or rules, each is a source of its own.
    """
    read = rule.read
    if len(read.rules) > 1:
        return read.rules
    if len(read.inspections) <= 1:
        return cameras_read(rule, plant=plant)
    cameras = {one.id: one.camera for one in plant.inspection}
    return tuple(
        name for name in read.inspections
        if not read.cameras or cameras.get(name) in read.cameras
    )  # fmt: skip


def cameras_read(rule: Rule, *, plant: Plant) -> tuple[str, ...]:
    """The cameras whose predictions a rule reads; none where it reads something else."""
    names = rule.read.inspections
    if names and rule.read.cameras:
        return rule.read.cameras
    return tuple(one.camera for one in plant.inspection if one.id in names)


def _comparable(event: Event) -> bytes:
    """An event without its id and its causes' ids, by which two versions are compared."""
    data: Mapping[str, Any] = {name: event.data[name] for name in event.data if name != "causes"}
    return encode({**data, "rule": ""})


def entries_read(rule: Rule, entries: Iterable[Entry], *, plant: Plant) -> Iterator[Entry]:
    """Yield the recorded entries that a rule and those it reads need for the same result.

    That is what they read, the ticks, and at last the newest entry of all, whatever it is: how far
    time had come is known by it.
    """
    chain = upstream(rule, plant)
    own, engines = {one.id for one in chain}, [engine_of(one, plant=plant) for one in chain]
    newest: Entry | None = None
    for entry in entries:
        own_events = entry.type == EVENT_TYPE and entry.subject in own  # they say it again
        read = not own_events and any(one.role(entry.type, entry.subject) for one in engines)
        if newest is None or entry.arrived_us >= newest.arrived_us:
            newest = None if read else entry
        if read:
            yield entry
    if newest is not None:
        yield newest


def upstream(rule: Rule, plant: Plant) -> list[Rule]:
    """The rule and those it reads, each behind those that it reads itself."""
    by_id: dict[str, Rule] = {one.id: one for one in plant.rule} | {rule.id: rule}
    found: dict[str, Rule] = {}

    def visit(one: Rule, above: tuple[str, ...]) -> None:
        for name in one.read.rules:
            if name in by_id and name not in (*above, *found):
                visit(by_id[name], (*above, name))
        found.setdefault(one.id, one)

    visit(rule, (rule.id,))
    return list(found.values())


class RuleSet:
    """Rules at work, those that others read first; owned by one thread.

    Attributes:
        engines: the rules in that order.
    """

    def __init__(self, plant: Plant) -> None:
        self._source = f"/{plant.site}/hub"
        self.engines = tuple(engine_of(rule, plant=plant) for rule in reading_order(plant))
        self._ids = frozenset(engine.rule.id for engine in self.engines)
        self._newest_us = 0

    def says(self, entry: Entry) -> bool:
        """Return whether an entry is what a rule of this set gave out when it was recorded."""
        return entry.type == EVENT_TYPE and entry.subject in self._ids

    def take(self, entries: Sequence[Entry]) -> list[Event]:
        """Return the rules' events after further entries of the log, in their order."""
        incoming = [entry for entry in entries if not self.says(entry)]
        arrived_us = max((entry.arrived_us for entry in incoming), default=0)
        self._newest_us = max(self._newest_us, arrived_us)
        own_events: list[Event] = []
        for engine in self.engines:
            events = [
                rule_event(engine.rule, output, digest=engine.digest, source=self._source)
                for output in engine.take(incoming)
            ]
            incoming += [entry_of(event, arrived_us=arrived_us) for event in events]
            own_events += events
        return own_events

    def finish(self) -> Iterator[Event]:
        """Return the events when nothing arrives any more: ticks, as the hub would write them."""
        while tick := next_tick(self.engines, after_us=self._newest_us):
            yield from self.take([tick])


def reading_order(plant: Plant) -> list[Rule]:
    """The rules of a plant file, each behind those whose events it reads."""
    found: dict[str, Rule] = {}
    for rule in plant.rule:
        for one in upstream(rule, plant):
            found.setdefault(one.id, one)
    return list(found.values())


def memory_s(plant: Plant) -> float:
    """Return how far back, in seconds, the rules' present output may depend on entries, at most.

    Counts that a rule keeps from its beginning on, such as those of pairs, reach further.
    """
    return max(
        (
            delay_s(rule, plant)
            + (2 + depth_of(rule, plant)) * rule.idle_s
            + waits_s(rule, plant)
            + 2 * rule_span_s(rule)
            for rule in plant.rule
        ),
        default=0.0,
    )
