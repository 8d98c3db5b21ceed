"""Keyed state of steps: bounded, least recently used first, with the moment each key falls due.

1. At most ``most``: the one unused longest is taken out to make room, and counted.
2. ``due`` gives out what has fallen due by a time, in order of due time, then of birth.
3. Kept state is a list in order of use, so that a load goes on exactly as if nothing had been.

Steps that watch places (tracks and crossings) keep one view for each key.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from lineside.core import InvalidError, Scalar

NEVER_US = 2**62


class Cell(Protocol):
    """Something remembered, with the moment at which it falls due."""

    due_us: int
    born: int


C = TypeVar("C", bound=Cell)
M = TypeVar("M")


class _Memory(msgspec.Struct):
    cells: list[dict[str, Any]]
    evicted: int = 0


class Cells(Generic[C]):
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
        """What is kept, in order of use, as plain JSON."""
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
    """What a step remembered; ``InvalidError`` where it is none of this step."""
    try:
        return msgspec.convert(memory, kind)
    except msgspec.ValidationError as error:
        raise InvalidError(f"no memory of {of}: {error}", fix="Start the rule anew.") from error


class PlaceView(Cell, Protocol):
    """What passes in one place."""

    key: tuple[Scalar, ...]

    def dump(self) -> dict[str, Any]:
        """As plain JSON."""
        ...


V = TypeVar("V", bound=PlaceView)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceMemory(Generic[V]):
    """How a step's cells are kept and taken up again.

    Attributes:
        schema: of what is kept.
        of: the step, as in "none of a sighting".
        where: the rule.
        lost: what becomes of things that are in view when the rule begins anew.
        most: keys at most.
        load: a view out of what its ``dump`` gave.
    """

    schema: str
    of: str
    where: str
    lost: str
    most: int
    load: Callable[[Mapping[str, Any]], V]

    def kept(self, cells: Cells[V]) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "schema": self.schema,
            "evicted": cells.evicted,
            "keys": [view.dump() for view in cells],
        }

    def taken_up(self, memory: Mapping[str, Any]) -> Cells[V]:
        """The cells again; ``InvalidError`` where it is no memory of this step."""
        if memory.get("schema") != self.schema:
            raise self._none(f"schema {memory.get('schema')!r} is not {self.schema!r}")
        try:
            views = [self.load(one) for one in memory["keys"]]
            evicted = int(memory["evicted"])
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise self._none(repr(error)) from error
        cells: Cells[V] = Cells(self.most)
        cells.restore([(view.key, view) for view in views], evicted=evicted)
        return cells

    def _none(self, what: str) -> InvalidError:
        return InvalidError(
            f"the memory is none of a {self.of} ({what})", where=self.where,
            fix=f"Begin the rule anew; {self.lost}.",
        )  # fmt: skip
