"""What a step that watches places keeps: one view for each key, in order of use.

Shared by sightings and crossings; the views know what is in them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from lineside.core import InvalidError, Scalar
from lineside.streams.cells import Cell, Cells


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
