"""All rules of a plant file over recorded entries, each handed what those it reads say.

What was recorded of a rule of the set is passed over, because its declaration may have changed
since: the set says it anew. Nothing is written anywhere.
"""

import math
from collections.abc import Iterator, Sequence

from lineside.core import Plant, Rule
from lineside.streams.engine import rule_span_s
from lineside.streams.event import EVENT_TYPE, Event
from lineside.streams.outputs import rule_event
from lineside.streams.records import TICK_TYPE, Entry
from lineside.streams.trying import delay_s, engine_of, entry_of, upstream, waits_s


class RuleSet:
    """Rules at work, those that others read first; owned by one thread."""

    def __init__(self, plant: Plant) -> None:
        self._source = f"/{plant.site}/hub"
        self._engines = [engine_of(rule, plant=plant) for rule in reading_order(plant)]
        self._ids = frozenset(engine.rule.id for engine in self._engines)
        self._newest_us = 0
        self._wait_s = memory_s(plant)

    def says(self, entry: Entry) -> bool:
        """Whether an entry is what a rule of this set said when it was recorded."""
        return entry.type == EVENT_TYPE and entry.subject in self._ids

    def take(self, entries: Sequence[Entry]) -> list[Event]:
        """What the rules say after further entries of the log, in their order."""
        told = [entry for entry in entries if not self.says(entry)]
        if not told or not self._engines:
            return []
        self._newest_us = max(self._newest_us, *(entry.arrived_us for entry in told))
        said: list[Event] = []
        for engine in self._engines:
            events = [
                rule_event(engine.rule, output, digest=engine.digest, source=self._source)
                for output in engine.take(told)
            ]
            told += [entry_of(event, arrived_us=self._newest_us) for event in events]
            said += events
        return said

    def finish(self) -> Iterator[Event]:
        """What comes when nothing arrives any more: ticks, as the hub would write them."""
        if not self._engines:
            return
        every_s = min(engine.rule.idle_s for engine in self._engines)
        for _ in range(math.ceil(self._wait_s / every_s) + 1):
            if all(engine.ticks_at_us() is None for engine in self._engines):
                return
            self._newest_us += round(every_s * 1e6)
            body = b"{}"
            yield from self.take(
                [Entry(type=TICK_TYPE, subject="", arrived_us=self._newest_us, body=body)]
            )


def reading_order(plant: Plant) -> list[Rule]:
    """The rules of a plant file, each behind those whose events it reads."""
    found: dict[str, Rule] = {}
    for rule in plant.rule:
        for one in upstream(rule, plant):
            found.setdefault(one.id, one)
    return list(found.values())


def memory_s(plant: Plant) -> float:
    """How far back, in seconds, what rules say now may rest on what came before, at most.

    Counts that a rule keeps from its beginning on, such as those of pairs, reach further.
    """
    return max(
        (
            delay_s(rule, plant) + 2 * rule.idle_s + waits_s(rule, plant) + 2 * rule_span_s(rule)
            for rule in plant.rule
        ),
        default=0.0,
    )
