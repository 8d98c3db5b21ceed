"""The step ``window``: figures of stretches of time.

1. Tumbling and hopping windows are aligned to the epoch: ``start = t - (t - offset) mod every``; a
   record at exactly the end belongs to the next. A window is told when nothing earlier than its
   end comes. By the clock of a zone, they begin when that clock shows it for the first time; a
   time that the clock leaves out is the moment at which it is changed.
2. A session holds records that follow one another within ``gap_s`` (exactly the gap still joins);
   it is told when a later one can no longer join. It starts and ends with a record.
3. With ``emit = "changes"`` each record tells the window it changed, as it stands then, and nothing
   is told at its end.
4. With ``emit = "edges"`` windows of a key are judged by ``having`` in order of their end. Begun is
   the first that it holds for, ended the last one before one that it does not hold for, or that
   no record of the key lies in.
5. Where there are too many, the one unused longest is told early, with ``evicted`` true.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from lineside.core import Rule
from lineside.core.plant_rules import Scalar, WindowStep
from lineside.core.rule_check import RuleAction
from lineside.streams.rules.conditions import (
    Figure,
    Memory,
    compile_conditions,
    figures_of,
    values_of,
)
from lineside.streams.rules.contract import MOST_CAUSES, Output, Record, tested_fields
from lineside.streams.rules.keyed_state import Cell, KeyedState, KeyedStep, read_memory

Key = tuple[Scalar, ...]
_Name = tuple[Key, int]


class _Cell(Cell, kw_only=True):
    """One window of one key, named by its first record.

    ``last`` and ``frame`` are of the record that is last in time. ``after`` counts the windows told
    early before this one began: it tells a window that begins again from what was told of it.
    """

    id: str
    start_us: int
    end_us: int
    due_us: int
    after: int = 0
    count: int = 0
    revision: int = 0
    first_us: int
    last_us: int
    causes: list[str] = msgspec.field(default_factory=list)
    last: str = ""
    frame: str = ""
    figures: list[Memory] = msgspec.field(default_factory=list)

    def cause_ids(self) -> tuple[str, ...]:
        """The first records and the last one."""
        if not self.last or self.last in self.causes:
            return tuple(self.causes)
        return (*self.causes[: MOST_CAUSES - 1], self.last)


class _Edge(Cell, kw_only=True):
    """A key for which ``having`` holds, since its window of that name; ``last`` is its newest."""

    name: str
    start_us: int
    end_us: int
    due_us: int
    windows: int = 1
    values: dict[str, Scalar] = msgspec.field(default_factory=dict)
    causes: list[str] = msgspec.field(default_factory=list)


class _Memory(msgspec.Struct):
    cells: list[_Cell]
    evicted: int = 0
    edges: list[_Edge] = msgspec.field(default_factory=list)
    edges_evicted: int = 0


class _Windows(KeyedStep[_Cell]):
    """The base of all kinds of windows."""

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule, _Cell, of="a window")
        self._changes = rule.emit == "changes"
        self._figures: tuple[Figure, ...] = figures_of(rule.aggregate)
        self._feeds = tuple((place, one.feed) for place, one in enumerate(self._figures))

    def advance(self, now_us: int) -> Iterable[Output]:
        if now_us < self._cells.next_us:
            return ()
        closed = [cell for _, cell in self._cells.due(now_us)]
        return () if self._changes else [self._tell(cell) for cell in closed]

    def dump(self) -> dict[str, Any]:
        return {"cells": list(self._cells), "evicted": self._cells.evicted}

    def load(self, memory: Mapping[str, Any]) -> None:
        kept = read_memory(memory, _Memory, of="a window")
        self._cells.restore([(self._name(cell), cell) for cell in kept.cells], evicted=kept.evicted)

    def _name(self, cell: _Cell) -> Hashable:
        return cell.key, cell.start_us

    def _begin(self, record: Record, key: Key, *, span: tuple[int, int], due_us: int) -> _Cell:
        return _Cell(
            key=key, id=record.id, start_us=span[0], end_us=span[1], due_us=due_us,
            after=self._cells.evicted, first_us=record.at_us, last_us=record.at_us, causes=[],
            figures=[one.begin() for one in self._figures],
        )  # fmt: skip

    def _count(self, cell: _Cell, record: Record) -> None:
        cell.count += 1
        if len(cell.causes) < MOST_CAUSES:
            cell.causes.append(record.id)
        if record.at_us >= cell.last_us:
            cell.last_us, cell.last = record.at_us, record.id
            frame = record.fields.get("frame")
            if isinstance(frame, str):
                cell.frame = frame
        elif record.at_us < cell.first_us:
            cell.first_us = record.at_us
        for place, feed in self._feeds:
            feed(cell.figures[place], record)

    def _change(self, cell: _Cell) -> Output:
        cell.revision += 1
        return self._tell(cell, action="change", revision=cell.revision)

    def _leave(self, cell: _Cell | None) -> Iterator[Output]:
        """Return the outputs of a window that was evicted."""
        if cell is not None and not self._changes:
            yield self._tell(cell, evicted=True)

    def _tell(
        self, cell: _Cell, *, action: RuleAction = "final", revision: int = 0, evicted: bool = False
    ) -> Output:
        values: dict[str, Scalar] = {"count": cell.count}
        if self._figures:
            values |= values_of(self._figures, cell.figures)
        if cell.frame:
            values["frame"] = cell.frame
        if evicted:
            values["evicted"] = True
        again = f"/{cell.after}" if cell.after else ""
        return Output(
            name=f"{cell.start_us}{again}", key=self._key(cell),
            action=action, start_us=cell.start_us, end_us=cell.end_us, values=values,
            causes=cell.cause_ids(), revision=revision,
        )  # fmt: skip


class AlignedWindows(_Windows):
    """Tumbling and hopping windows."""

    def __init__(self, rule: Rule, declared: WindowStep) -> None:
        super().__init__(rule)
        self._size_us = round(declared.size_s * 1e6)
        hopping = declared.kind == "hopping"
        self._every_us = round(declared.every_s * 1e6) if hopping else self._size_us
        self._offset_us = round(declared.offset_s * 1e6)
        zone = declared.zone
        self._wall = WallClock(zone, self._size_us, self._offset_us) if zone else None
        self._plain = rule.emit == "final" and not hopping and self._wall is None

    def feed(self, record: Record, *, key: Key) -> Iterable[Output]:
        at_us = record.at_us
        start_us, end_us = self._span(at_us)
        found = list(self._take(record, key=key, start_us=start_us, end_us=end_us))
        while self._every_us < self._size_us and (end_us := end_us - self._every_us) > at_us:
            start_us -= self._every_us
            found += self._take(record, key=key, start_us=start_us, end_us=end_us)
        return found

    def feed_many(self, ready: Iterable[tuple[Record, Key]]) -> list[Output]:
        """``advance`` to each record's time and ``feed`` it, in one go: most records are these."""
        found: list[Output] = []
        cells, size_us, offset_us = self._cells, self._size_us, self._offset_us
        plain = self._plain
        use, count = cells.use, self._count
        for record, key in ready:
            at_us = record.at_us
            if at_us >= (cells.next_us if plain else self._due_us()):
                found += self.advance(at_us)
            cell = use((key, at_us - (at_us - offset_us) % size_us)) if plain else None
            if cell is None:
                found += self.feed(record, key=key)
            else:
                count(cell, record)
        return found

    def _due_us(self) -> int:
        """When time alone changes something."""
        return self._cells.next_us

    def _span(self, at_us: int) -> tuple[int, int]:
        """The newest window that a moment lies in."""
        if self._wall is not None:
            return self._wall.span(at_us)
        start_us = at_us - (at_us - self._offset_us) % self._every_us
        return start_us, start_us + self._size_us

    def _take(self, record: Record, *, key: Key, start_us: int, end_us: int) -> Iterable[Output]:
        name: _Name = (key, start_us)
        cell = self._cells.use(name)
        left = None
        if cell is None:
            cell = self._begin(record, key, span=(start_us, end_us), due_us=end_us)
            left = self._cells.add(name, cell)
        self._count(cell, record)
        if self._changes:
            return (self._change(cell),)
        return () if left is None else self._leave(left)


class WindowEdges(AlignedWindows):
    """Windows of which begin and end of what ``having`` says are told."""

    def __init__(self, rule: Rule, declared: WindowStep) -> None:
        super().__init__(rule, declared)
        having = compile_conditions(rule.having)
        assert having is not None  # noqa: S101  the record of the rule needs it
        self._having = having
        self._edges: KeyedState[_Edge] = KeyedState(rule.most_keys)

    @property
    def evicted(self) -> int:
        return self._cells.evicted + self._edges.evicted

    def advance(self, now_us: int) -> Iterable[Output]:
        found: list[Output] = []
        if now_us < self._due_us():
            return found
        for _, cell in self._cells.due(now_us):
            found += self._expire(cell.end_us - 1)
            found += self._judge(cell)
        return found + self._expire(now_us)

    def dump(self) -> dict[str, Any]:
        return {
            "cells": list(self._cells), "evicted": self._cells.evicted,
            "edges": list(self._edges), "edges_evicted": self._edges.evicted,
        }  # fmt: skip

    def load(self, memory: Mapping[str, Any]) -> None:
        super().load(memory)
        kept = read_memory(memory, _Memory, of="edges of windows")
        self._edges.restore([(edge.key, edge) for edge in kept.edges], evicted=kept.edges_evicted)

    def _due_us(self) -> int:
        return min(self._cells.next_us, self._edges.next_us)

    def _leave(self, cell: _Cell | None) -> Iterator[Output]:
        if cell is not None:
            yield from self._judge(cell, evicted=True)

    def _judge(self, cell: _Cell, *, evicted: bool = False) -> Iterator[Output]:
        output = self._tell(cell, evicted=evicted)
        edge = self._edges.use(cell.key)
        if not self._having(tested_fields(output)):
            if edge is not None:
                self._edges.drop(cell.key)
                yield self._end(edge)
            return
        hopping = self._every_us < self._size_us
        next_us = cell.start_us + self._every_us if hopping else cell.end_us
        due_us = self._span(next_us)[1]
        if edge is None:
            edge = _Edge(key=cell.key, name=output.name, start_us=output.start_us,
                         end_us=output.end_us, due_us=due_us)  # fmt: skip
            left = self._edges.add(cell.key, edge)
            if left is not None:
                yield self._end(left)
            yield replace(
                output, name=f"{output.name}/begun", action="begun",
                values={**output.values, "windows": 1},
            )  # fmt: skip
        else:
            edge.windows, edge.end_us = edge.windows + 1, output.end_us
            self._edges.move(cell.key, edge, due_us=due_us)
        edge.values, edge.causes = dict(output.values), list(output.causes)

    def _expire(self, now_us: int) -> list[Output]:
        """Those whose next window had no record."""
        return [self._end(edge) for _, edge in self._edges.due(now_us)]

    def _end(self, edge: _Edge) -> Output:
        return Output(
            name=f"{edge.name}/ended", key=self._key(edge),
            action="ended", start_us=edge.start_us, end_us=edge.end_us,
            values={**edge.values, "windows": edge.windows}, causes=tuple(edge.causes),
        )  # fmt: skip


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_A_YEAR_US = 366 * 86_400_000_000
_FIRST_US = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1) + _A_YEAR_US
_LAST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1) - _A_YEAR_US


class WallClock:
    """Tumbling windows by the clock of a zone, one of which every moment lies in."""

    def __init__(self, zone: str, size_us: int, offset_us: int) -> None:
        self._zone = ZoneInfo(zone)
        self._size_us, self._offset_us = size_us, offset_us
        self._newest = (0, 0)

    def span(self, at_us: int) -> tuple[int, int]:
        """Begin and end of the window that a moment lies in."""
        start_us, end_us = self._newest
        if not start_us <= at_us < end_us:
            self._newest = start_us, end_us = self._find(at_us)
        return start_us, end_us

    def _find(self, at_us: int) -> tuple[int, int]:
        size_us, offset_us = self._size_us, self._offset_us
        number = (at_us + self._utc_offset_us(at_us) - offset_us) // size_us
        while self._moment_us(offset_us + number * size_us) > at_us:
            number -= 1
        while (end_us := self._moment_us(offset_us + (number + 1) * size_us)) <= at_us:
            number += 1
        return self._moment_us(offset_us + number * size_us), end_us

    def _moment_us(self, shown_us: int) -> int:
        """The first moment at which the clock shows a time, or one behind it."""
        if not _FIRST_US <= shown_us <= _LAST_US:
            return shown_us
        shown = (_EPOCH + timedelta(microseconds=shown_us)).replace(tzinfo=self._zone)
        early_us = shown_us - _microseconds(shown.utcoffset())
        if self._utc_offset_us(early_us) == shown_us - early_us:
            return early_us
        # The clock never shows it. It is changed between what either reading of it says.
        low_us, high_us = shown_us - _microseconds(shown.replace(fold=1).utcoffset()), early_us
        before_us = self._utc_offset_us(low_us)
        while high_us - low_us > 1:
            middle_us = (low_us + high_us) // 2
            if self._utc_offset_us(middle_us) == before_us:
                low_us = middle_us
            else:
                high_us = middle_us
        return high_us

    def _utc_offset_us(self, at_us: int) -> int:
        """Return the zone's offset from UTC."""
        if not _FIRST_US <= at_us <= _LAST_US:
            return 0
        return _microseconds(
            (_EPOCH + timedelta(microseconds=at_us)).astimezone(self._zone).utcoffset()
        )


def _microseconds(span: timedelta | None) -> int:
    return 0 if span is None else span // timedelta(microseconds=1)


class SessionWindows(_Windows):
    """Windows as long as records follow one another."""

    def __init__(self, rule: Rule, declared: WindowStep) -> None:
        super().__init__(rule)
        self._gap_us = round(declared.gap_s * 1e6)
        self._open: dict[Key, list[_Cell]] = {}

    def advance(self, now_us: int) -> Iterable[Output]:
        if now_us < self._cells.next_us:
            return ()
        closed = [cell for _, cell in self._cells.due(now_us)]
        for cell in closed:
            self._forget(cell)
        return () if self._changes else [self._tell(cell) for cell in closed]

    def feed(self, record: Record, *, key: Key) -> Iterable[Output]:
        at_us, gap_us = record.at_us, self._gap_us
        near = [
            cell for cell in self._open.get(key, ())
            if cell.start_us - gap_us <= at_us <= cell.end_us + gap_us
        ]  # fmt: skip
        left = None
        if near:
            cell = self._joined(near)
            self._cells.use(self._name(cell))
        else:
            due_us = at_us + gap_us + 1
            cell = self._begin(record, key, span=(at_us, at_us), due_us=due_us)
            left = self._keep(cell)
        self._stretch(cell, at_us)
        self._count(cell, record)
        if self._changes:
            return (self._change(cell),)
        return () if left is None else self._leave(left)

    def load(self, memory: Mapping[str, Any]) -> None:
        super().load(memory)
        for cell in self._cells:
            self._open.setdefault(cell.key, []).append(cell)

    def _name(self, cell: _Cell) -> Hashable:
        return cell.key, cell.id

    def _keep(self, cell: _Cell) -> _Cell | None:
        self._open.setdefault(cell.key, []).append(cell)
        left = self._cells.add(self._name(cell), cell)
        if left is not None:
            self._forget(left)
        return left

    def _forget(self, cell: _Cell) -> None:
        kept = [other for other in self._open[cell.key] if other is not cell]
        if kept:
            self._open[cell.key] = kept
        else:
            del self._open[cell.key]

    def _stretch(self, cell: _Cell, at_us: int) -> None:
        cell.start_us = min(cell.start_us, at_us)
        cell.end_us = max(cell.end_us, at_us)
        cell.due_us = cell.end_us + self._gap_us + 1

    def _joined(self, near: list[_Cell]) -> _Cell:
        """Sessions that a record between them makes one; the oldest goes on."""
        first, *others = sorted(near, key=lambda cell: cell.born)
        for other in others:
            self._cells.drop(self._name(other))
            self._forget(other)
            self._merge(first, other)
        return first

    def _merge(self, cell: _Cell, other: _Cell) -> None:
        cell.count += other.count
        cell.causes = (cell.causes + other.causes)[:MOST_CAUSES]
        if other.last_us >= cell.last_us:
            cell.last_us, cell.last, cell.frame = other.last_us, other.last, other.frame
        cell.first_us = min(cell.first_us, other.first_us)
        self._stretch(cell, other.start_us)
        self._stretch(cell, other.end_us)
        for figure, memory, more in zip(self._figures, cell.figures, other.figures, strict=True):
            figure.join(memory, more)
