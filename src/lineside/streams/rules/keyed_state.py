"""Keyed state of steps: bounded, least recently used first, with the moment each key falls due.

1. At most ``most``: the one unused longest is taken out to make room, and counted.
2. ``due`` gives out what has fallen due by a time, in order of due time, then of birth.
3. Kept state is a list in order of use, so that a load goes on exactly as if nothing had been.

Steps that watch places (tracks and crossings) keep one view for each key.

Watermarks by the records' own times, one for each source.

1. A source's watermark is its newest time less ``lateness``. A record before it is late, and so is
   one before the time up to which the rule's step was told already.
2. Time has passed ``low`` for all: the lowest watermark of the sources that are awake.
3. A source is asleep when nothing of it arrived for ``idle``, as of the newest arrival. When all
   sleep, time is ``lateness`` before the newest record. Once ``lateness`` is over too, it is past
   that record, and goes on as arrival does; for a rule that tells nothing by time alone, it stays.
   What was passed over says only that it is that late: it moves no source and wakes none.
4. ``low`` never goes back.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from lineside.core import InvalidError, Rule
from lineside.core.plant_rules import Scalar

NEVER_US = 2**62


class KeyedCell(Protocol):
    """Something remembered of a key, with the moment at which it falls due."""

    key: tuple[Scalar, ...]
    due_us: int
    born: int


class Cell(msgspec.Struct, kw_only=True):
    """A ``KeyedCell`` that is plain JSON."""

    key: tuple[Scalar, ...]
    due_us: int = NEVER_US
    born: int = 0


C = TypeVar("C", bound=KeyedCell)
M = TypeVar("M")


class _Memory(msgspec.Struct):
    cells: list[dict[str, Any]]
    evicted: int = 0


class KeyedState(Generic[C]):
    """Cells by name."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._cells: OrderedDict[Hashable, C] = OrderedDict()
        self._order: list[tuple[int, int, Hashable]] = []
        self._born = 0
        self.next_us = NEVER_US
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._cells)

    def __iter__(self) -> Iterator[C]:
        return iter(self._cells.values())

    def use(self, name: Hashable) -> C | None:
        """The cell of that name, now the one used last; None where there is none."""
        cell = self._cells.get(name)
        if cell is not None:
            self._cells.move_to_end(name)
        return cell

    def add(self, name: Hashable, cell: C) -> C | None:
        """Keep a new cell; the one that had to leave for it."""
        self._born += 1
        cell.born = self._born
        self._cells[name] = cell
        self._wait(name, cell)
        if len(self._cells) <= self._most:
            return None
        self.evicted += 1
        return self._cells.popitem(last=False)[1]

    def move(self, name: Hashable, cell: C, *, due_us: int) -> None:
        """Let a cell fall due at another moment."""
        earlier = due_us < cell.due_us
        cell.due_us = due_us
        if earlier:  # what is put off is looked at when it would have fallen due
            self._wait(name, cell)

    def _wait(self, name: Hashable, cell: C) -> None:
        if cell.due_us < NEVER_US:
            heapq.heappush(self._order, (cell.due_us, cell.born, name))
            self.next_us = self._order[0][0]

    def keep(self, name: Hashable, cell: C) -> None:
        """Put back one that ``due`` took out; it falls due anew when its moment comes."""
        self._cells[name] = cell
        self._wait(name, cell)

    def drop(self, name: Hashable) -> C | None:
        """Forget one."""
        return self._cells.pop(name, None)

    def due(self, now_us: int) -> Iterator[tuple[Hashable, C]]:
        """Take out those that fall due at ``now_us`` or before."""
        order = self._order
        while order and order[0][0] <= now_us:
            due_us, born, name = heapq.heappop(order)
            cell = self._cells.get(name)
            if cell is None or cell.born != born:
                continue
            if cell.due_us > due_us:  # it was put off since
                heapq.heappush(order, (cell.due_us, born, name))
                continue
            del self._cells[name]
            yield name, cell
        self.next_us = order[0][0] if order else NEVER_US

    def dump(self) -> dict[str, Any]:
        """Return the state in order of use, as plain JSON."""
        kept = {"cells": list(self._cells.values()), "evicted": self.evicted}
        return msgspec.to_builtins(kept)  # type: ignore[no-any-return]  # a dict

    def load(
        self, memory: Mapping[str, Any], kind: type[C], *, of: str,
        name: Callable[[C], Hashable],
    ) -> None:  # fmt: skip
        """Take over a dump of cells of a kind; ``InvalidError`` where it is none of this step."""
        kept = read_memory(memory, _Memory, of=of)
        cells = [read_memory(cell, kind, of=of) for cell in kept.cells]
        self.restore([(name(cell), cell) for cell in cells], evicted=kept.evicted)

    def restore(self, cells: Iterable[tuple[Hashable, C]], *, evicted: int) -> None:
        """Take over what was kept, in order of use."""
        for name, cell in cells:
            self._cells[name] = cell
            self._born = max(self._born, cell.born)
            self._wait(name, cell)
        self.evicted = evicted


def read_memory(memory: Mapping[str, Any], kind: type[M], *, of: str) -> M:
    """Convert a step's memory; ``InvalidError`` where it is none of this step."""
    try:
        return msgspec.convert(memory, kind)
    except msgspec.ValidationError as error:
        raise InvalidError(f"no memory of {of}: {error}", fix="Start the rule anew.") from error


K = TypeVar("K", bound=KeyedCell)


class KeyedStep(Generic[K]):
    """The base of steps whose whole memory is cells by key."""

    def __init__(self, rule: Rule, kind: type[K], *, of: str) -> None:
        """``of``: the step, for a memory that is none of it."""
        self._names, self._kind, self._of = rule.key, kind, of
        self._cells: KeyedState[K] = KeyedState(rule.most_keys)

    @property
    def evicted(self) -> int:
        """Number of cells that were forgotten to make room."""
        return self._cells.evicted

    def dump(self) -> dict[str, Any]:
        return self._cells.dump()

    def load(self, memory: Mapping[str, Any]) -> None:
        self._cells.load(memory, self._kind, of=self._of, name=self._name)

    def _name(self, cell: K) -> Hashable:
        return cell.key

    def _key(self, cell: KeyedCell) -> dict[str, Scalar]:
        return dict(zip(self._names, cell.key, strict=True))


class GroupCell(Cell, kw_only=True):
    """A cell that waits for others of its key, named by the record that began it."""

    id: str


W = TypeVar("W", bound=GroupCell)


class GroupStep(KeyedStep[W]):
    """The base of steps in which several cells of one key may wait."""

    def __init__(self, rule: Rule, kind: type[W], *, of: str) -> None:
        super().__init__(rule, kind, of=of)
        self._waiting: dict[tuple[Scalar, ...], list[W]] = {}

    def load(self, memory: Mapping[str, Any]) -> None:
        super().load(memory)
        for cell in sorted(self._cells, key=lambda cell: cell.born):
            self._waiting.setdefault(cell.key, []).append(cell)

    def _name(self, cell: W) -> Hashable:
        return cell.key, cell.id

    def _forget(self, cell: W) -> None:
        others = [other for other in self._waiting[cell.key] if other is not cell]
        if others:
            self._waiting[cell.key] = others
        else:
            del self._waiting[cell.key]


class PlaceView(KeyedCell, Protocol):
    """The objects in view at one place."""

    def dump(self) -> dict[str, Any]:
        """As plain JSON."""
        ...


V = TypeVar("V", bound=PlaceView)


class ViewStep(Generic[V]):
    """The base of steps that watch places: one view for each key."""

    def __init__(
        self, rule: Rule, *, schema: str, of: str, lost: str,
        load: Callable[[Mapping[str, Any]], V],
    ) -> None:  # fmt: skip
        """Start with no view.

        Args:
            rule: whose step it is.
            schema: of the dump.
            of: the step, as in "none of a sighting".
            lost: what becomes of things that are in view when the rule begins anew.
            load: a view out of what its ``dump`` gave.
        """
        self._names, self._most, self._where = rule.key, rule.most_keys, f"rule {rule.id}"
        self._schema, self._of, self._lost, self._load_view = schema, of, lost, load
        self._cells: KeyedState[V] = KeyedState(rule.most_keys)

    @property
    def evicted(self) -> int:
        """Number of keys that were forgotten to make room."""
        return self._cells.evicted

    def dump(self) -> dict[str, Any]:
        return {
            "schema": self._schema,
            "evicted": self._cells.evicted,
            "keys": [view.dump() for view in self._cells],
        }

    def load(self, memory: Mapping[str, Any]) -> None:
        if memory.get("schema") != self._schema:
            raise self._none(f"schema {memory.get('schema')!r} is not {self._schema!r}")
        try:
            views = [self._load_view(one) for one in memory["keys"]]
            evicted = int(memory["evicted"])
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise self._none(repr(error)) from error
        self._cells = KeyedState(self._most)
        self._cells.restore([(view.key, view) for view in views], evicted=evicted)

    def _none(self, what: str) -> InvalidError:
        return InvalidError(
            f"the memory is none of a {self._of} ({what})", where=self._where,
            fix=f"Begin the rule anew; {self._lost}.",
        )  # fmt: skip


BEGINNING_US = -(2**62)


class Source(msgspec.Struct):
    """A source's newest time, and when it was last heard."""

    newest_us: int
    heard_us: int


class WatermarkState(msgspec.Struct):
    """The memory of ``Watermarks``."""

    sources: dict[str, Source]
    low_us: int
    arrived_us: int
    begun_us: int


class Watermarks:
    """The watermarks of one rule's sources.

    ``expected`` are sources known ahead: time waits for them until ``idle`` after the first record.
    ``goes_on``: whether time passes without records too.
    """

    def __init__(
        self, *, lateness_us: int, idle_us: int, expected: Iterable[str] = (), goes_on: bool = True
    ) -> None:
        self._lateness_us = lateness_us
        self._idle_us = idle_us
        self._goes_on = goes_on
        self._expected = frozenset(expected)
        self._missing = set(self._expected)
        self._sources: dict[str, Source] = {}
        self._laggard = ""
        self._asleep_at_us = BEGINNING_US
        self._begun_us = 0
        self._alone = ""
        self._only = Source(BEGINNING_US, BEGINNING_US)
        self.arrived_us = BEGINNING_US
        self.low_us = BEGINNING_US

    def note(self, source: str, at_us: int, *, arrived_us: int) -> bool:
        """Take note of a record; whether it came too late."""
        if source != self._alone:
            return self._note(source, at_us, arrived_us=arrived_us)
        # The only source there is: nothing but its own newest time moves what follows.
        known = self._only
        if arrived_us > self.arrived_us:  # noqa: PLR1730  max() takes twice as long, for each record
            self.arrived_us = arrived_us
        known.heard_us = self.arrived_us
        if at_us <= known.newest_us:
            return at_us < self.low_us
        late = at_us < self.low_us
        known.newest_us = at_us
        if at_us - self._lateness_us > self.low_us:  # noqa: PLR1730  as above
            self.low_us = at_us - self._lateness_us
        return late

    def _note(self, source: str, at_us: int, *, arrived_us: int) -> bool:
        known = self._sources.get(source)
        late = at_us < self.low_us
        arrived_us = self.arrived_us = max(arrived_us, self.arrived_us)
        if known is None:
            self._begun_us = self._begun_us or arrived_us
            self._missing.discard(source)
            self._sources[source] = Source(at_us, arrived_us)
        else:
            late = late or at_us < known.newest_us - self._lateness_us
            known.heard_us = arrived_us
            known.newest_us = max(known.newest_us, at_us)
            # A source that is not the slowest cannot move time, while no other falls asleep.
            if source != self._laggard and arrived_us < self._asleep_at_us:
                return late
        self._settle()
        return late

    def tick(self, arrived_us: int) -> None:
        """Time has passed, by arrival, without a record."""
        if arrived_us > self.arrived_us:
            self.arrived_us = arrived_us
            if arrived_us >= self._asleep_at_us:
                self._settle()

    @property
    def newest_us(self) -> int:
        """The newest time of all sources; others may ask while sources come."""
        return max((one.newest_us for one in list(self._sources.values())), default=BEGINNING_US)

    @property
    def _heard_us(self) -> int:
        """When a source was heard last."""
        return max((one.heard_us for one in list(self._sources.values())), default=BEGINNING_US)

    def moves_at_us(self) -> int:
        """From which arrival on time moves by itself, where all sources stay silent."""
        waits = self.low_us >= self.newest_us - self._lateness_us
        silent_us = self._heard_us + self._lateness_us * waits
        return max(self.arrived_us, silent_us) + self._idle_us

    def of(self, source: str) -> int:
        """The watermark of one source; the beginning of time where it is not known."""
        known = self._sources.get(source)
        return BEGINNING_US if known is None else known.newest_us - self._lateness_us

    def force(self, at_us: int) -> None:
        """Let time be at least so far, because no more can be held back."""
        self.low_us = max(self.low_us, at_us)

    def dump(self) -> WatermarkState:
        """All that is remembered."""
        return WatermarkState(
            sources=self._sources, low_us=self.low_us, arrived_us=self.arrived_us,
            begun_us=self._begun_us,
        )  # fmt: skip

    def load(self, state: WatermarkState) -> None:
        """Go on from there."""
        self._sources, self.low_us, self.arrived_us = state.sources, state.low_us, state.arrived_us
        self._begun_us = state.begun_us
        self._missing = set(self._expected - state.sources.keys())
        self._laggard, self._asleep_at_us, self._alone = "", BEGINNING_US, ""

    def _settle(self) -> None:
        """Find the slowest source that is awake, and when the next one falls asleep."""
        now_us, idle_us = self.arrived_us, self._idle_us
        slowest, lowest_us, asleep_at_us = "", 2**62, 2**62
        for name, one in self._sources.items():
            if now_us - one.heard_us >= idle_us:
                continue
            asleep_at_us = min(asleep_at_us, one.heard_us + idle_us)
            if one.newest_us < lowest_us:
                slowest, lowest_us = name, one.newest_us
        if self._missing and self._sources:
            if now_us - self._begun_us < idle_us:
                self._laggard, self._asleep_at_us = "", BEGINNING_US
                return
            self._missing.clear()
        # Where all sleep, the next arrival moves time again, whosever it is.
        self._laggard, self._asleep_at_us = slowest, asleep_at_us if slowest else BEGINNING_US
        self._alone = ""
        if len(self._sources) == 1:
            ((self._alone, self._only),) = self._sources.items()
        if slowest:
            self.force(lowest_us - self._lateness_us)
        elif self._sources:
            passed_us = now_us - self._heard_us - idle_us - self._lateness_us
            moves = self._goes_on and passed_us >= 0
            self.force(self.newest_us + (max(passed_us, 1) if moves else -self._lateness_us))
