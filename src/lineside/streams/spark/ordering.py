"""The part of a rule that Spark cannot do: records in order of time, steps other than windows.

1. ``Turn`` is one rule, with those it reads, over further entries of the log: the same engines as
   embedded, so watermarks, lateness, sleep and ticks are the same by being the same code. Its
   memory is one text, which Spark keeps in its state store with the place in the log.
2. Of a rule whose windows Spark makes itself (``spark_sql``), it gives the records that the step
   would be handed, in that order, each with its number; then how far time has come (a *mark*).
   Since they come in order of time, Spark's watermark follows them without any allowance: nothing
   comes before what came already, so Spark never drops a record.
3. Of any other rule it gives the events.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from lineside.core import Plant, Rule, decode_json, encode
from lineside.core.plant_rules import Scalar
from lineside.core.webhooks import EVENT_TYPE
from lineside.streams.event import encode_event
from lineside.streams.rules.conditions import is_figure
from lineside.streams.rules.contract import Output, Record, rule_event
from lineside.streams.rules.records import Entry
from lineside.streams.rules.replay import engine_of, entry_of, upstream

Key = tuple[Scalar, ...]
Row = tuple[Any, ...]
UNREADABLE = "unreadable"
"""Type of an entry whose line could not be read; it is counted."""
COLUMNS = ("event", "at_us", "seq", "id", "frame", "shown", "late", "keyless", "unreadable")
"""The columns of every row, before those of the rule's fields; the last three are counters, told
with each mark."""
_NOTHING: Row = (None,) * len(COLUMNS)


class Handed:
    """The step of a rule whose windows are made elsewhere: it keeps what it is handed."""

    def __init__(self) -> None:
        self.records: list[tuple[Record, Key]] = []

    def feed(self, record: Record, *, key: Key) -> Iterable[Output]:
        self.records.append((record, key))
        return ()

    def feed_many(self, ready: Iterable[tuple[Record, Key]]) -> list[Output]:
        """Many at once."""
        self.records += ready
        return []

    def advance(self, now_us: int) -> Iterable[Output]:  # noqa: ARG002  a step is told the time
        return ()

    def dump(self) -> dict[str, Any]:
        return {}

    def load(self, memory: Mapping[str, Any]) -> None:
        """There is nothing to remember."""


class Turn:
    """A rule with the rules it reads, from one batch of entries to the next.

    Args:
        rule: whose events or records are wanted.
        plant: what else it needs of the plant file.
        columns: of the records, beside ``COLUMNS``; None where it does its step itself.
    """

    def __init__(self, rule: Rule, *, plant: Plant, columns: Sequence[str] | None) -> None:
        self._source = f"/{plant.site}/hub"
        self._handed = None if columns is None else Handed()
        *others, last = upstream(rule, plant)
        self._engines = [engine_of(one, plant=plant) for one in others]
        self._engines.append(engine_of(last, plant=plant, step=self._handed))
        self._own = frozenset(engine.rule.id for engine in self._engines)
        self._key = rule.key
        self._cells = [cell_of(name) for name in columns or ()]
        self._empty: Row = (None,) * len(self._cells)
        self._seq = self._unreadable = self._low_us = 0

    def take(self, entries: Iterable[Entry]) -> Iterator[Row]:
        """Return the output for further entries of the log, in its order."""
        told = [entry for entry in entries if self._reads(entry)]
        # A rule that reads others is handed each of their events with the entry that made it.
        parts = [told] if len(self._engines) == 1 else [[one] for one in told]
        # What is told of late records passes the windows too, at a time not over there yet.
        self._low_us = self._engines[-1].low_us or 0
        for part in parts:
            yield from self._events(part)
        if self._handed is not None:
            yield from self._records(self._handed)
            yield self._mark()

    def dump(self) -> str:
        """The memory of all engines, as JSON."""
        kept = [engine.dump() for engine in self._engines]
        return encode([self._seq, self._unreadable, kept]).decode()

    def load(self, memory: str) -> None:
        """Go on from there."""
        self._seq, self._unreadable, kept = decode_json(memory.encode(), where="memory")
        for engine, one in zip(self._engines, kept, strict=True):
            engine.load(one)

    def _reads(self, entry: Entry) -> bool:
        """Return whether an entry is for the rules: what they said themselves is said anew."""
        self._unreadable += entry.type == UNREADABLE
        return entry.type != EVENT_TYPE or entry.subject not in self._own

    def _events(self, entries: list[Entry]) -> Iterator[Row]:
        for engine in self._engines:
            said = [
                rule_event(engine.rule, output, digest=engine.digest, source=self._source)
                for output in engine.take(entries)
            ]
            if engine is self._engines[-1]:
                rest = (self._low_us, *_NOTHING[2:], *self._empty)
                yield from ((encode_event(event).decode(), *rest) for event in said)
            elif said:
                arrived_us = entries[0].arrived_us
                entries = [*entries, *(entry_of(event, arrived_us=arrived_us) for event in said)]

    def _records(self, handed: Handed) -> Iterator[Row]:
        cells, seq = self._cells, self._seq
        for record, key in handed.records:
            seq += 1
            fields = record.fields
            frame = fields.get("frame")
            yield (
                None, record.at_us, seq, record.id, frame if isinstance(frame, str) else None,
                encode(key).decode(), None, None, None, *(cell(fields) for cell in cells),
            )  # fmt: skip
        handed.records, self._seq = [], seq

    def _mark(self) -> Row:
        """Return the mark: the watermark, and the count of what was left out."""
        engine = self._engines[-1]
        counted = engine.counted()
        counters = counted.late, counted.keyless, counted.unreadable + self._unreadable
        return (None, engine.low_us, None, None, None, None, *counters, *self._empty)


Fields = Mapping[str, Scalar]


def cell_of(column: str) -> Callable[[Fields], Any]:
    """Return the function that makes a column ``<field> as <kind>`` of a record's fields."""
    name, _, kind = column.rpartition(" as ")
    made = _KINDS[kind]
    return lambda fields: None if (value := fields.get(name)) is None else made(value)


def _number(value: Scalar) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def _text(value: Scalar) -> str | None:
    return value if isinstance(value, str) else None


def _truth(value: Scalar) -> bool | None:
    return value if isinstance(value, bool) else None


def _json(value: Scalar) -> str:
    return encode(value).decode()


def _group(value: Scalar) -> str:
    """One text for values that are one key: 1, 1.0 and true are."""
    return _json(value if isinstance(value, str) else float(value))


def _apart(value: Scalar) -> str:
    """One text for values that ``distinct`` does not tell apart."""
    return repr(float(value)) if is_figure(value) else repr(value)


_KINDS: Mapping[str, Callable[[Scalar], Any]] = {
    "number": _number, "text": _text, "truth": _truth, "json": _json, "key": _group,
    "apart": _apart,
}  # fmt: skip
SQL_TYPES: Mapping[str, str] = {"number": "double", "truth": "boolean"}
"""Types of the columns by their kind; text where it is not here."""
