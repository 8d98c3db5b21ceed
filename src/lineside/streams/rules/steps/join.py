"""The step ``join``: one record of each inspection, or of each rule, that belong together.

1. They belong together where they have the same key and lie at most ``within_s`` apart (exactly so
   far still does). A record joins the group of its key that began first, still lacks one of its
   side, and is not too old; else it begins a group of its own.
2. A group is told by the record that completes it, named by the one that began it. With
   ``incomplete``, a group that lacks one is told when that one can no longer come.
3. At most ``most_keys`` groups wait; the one unused longest makes room, told as one that is
   incomplete.
"""

from collections.abc import Iterable, Iterator

import msgspec

from lineside.core import Rule
from lineside.core.plant_rules import JoinStep, Scalar
from lineside.streams.rules.conditions import same
from lineside.streams.rules.contract import Output, Record, frame_of
from lineside.streams.rules.keyed_state import GroupStep

Key = tuple[Scalar, ...]


class _Side(msgspec.Struct, kw_only=True):
    """The record of one side: when it was, and what is told of it."""

    name: str
    id: str
    at_us: int
    fields: dict[str, Scalar]
    frame: str = ""


class _Cell(msgspec.Struct, kw_only=True):
    """A group, named by the record that began it; sides in order of coming."""

    key: Key
    id: str
    due_us: int
    born: int = 0
    sides: list[_Side] = []


class Joins(GroupStep[_Cell]):
    """Groups that wait for their other sides."""

    def __init__(self, rule: Rule, declared: JoinStep) -> None:
        super().__init__(rule, _Cell, of="a join")
        self._sides = rule.read.inspections or rule.read.rules
        self._side = "inspection" if rule.read.inspections else "rule"
        self._fields = declared.fields
        self._incomplete = declared.incomplete
        self._within_us = round(declared.within_s * 1e6)

    def feed(self, record: Record, *, key: Key) -> Iterable[Output]:
        found = list(self.advance(record.at_us))
        side = record.fields.get(self._side)
        if not isinstance(side, str) or side not in self._sides:
            return found
        cell = next((one for one in self._waiting.get(key, ()) if self._fits(one, side, record)),
                    None)  # fmt: skip
        if cell is None:
            due_us = record.at_us + self._within_us + 1
            cell = _Cell(key=key, id=record.id, due_us=due_us, sides=[])
            self._waiting.setdefault(key, []).append(cell)
            found += self._give_up(self._cells.add((key, record.id), cell), evicted=True)
        told = {name: record.fields[name] for name in self._fields if name in record.fields}
        cell.sides.append(
            _Side(name=side, id=record.id, at_us=record.at_us, fields=told, frame=frame_of(record))
        )
        self._cells.use((key, cell.id))
        if len(cell.sides) == len(self._sides):
            self._cells.drop((key, cell.id))
            self._forget(cell)
            found.append(self._tell(cell))
        return found

    def advance(self, now_us: int) -> Iterable[Output]:
        if now_us < self._cells.next_us:
            return ()
        return [told for _, cell in self._cells.due(now_us) for told in self._give_up(cell)]

    def _fits(self, cell: _Cell, side: str, record: Record) -> bool:
        times = [record.at_us, *(one.at_us for one in cell.sides)]
        lacks = all(one.name != side for one in cell.sides)
        return lacks and max(times) - min(times) <= self._within_us

    def _give_up(self, cell: _Cell | None, *, evicted: bool = False) -> Iterator[Output]:
        """A group whose other sides cannot come any more."""
        if cell is None:
            return
        self._forget(cell)
        if self._incomplete:
            yield self._tell(cell, evicted=evicted)

    def _tell(self, cell: _Cell, *, evicted: bool = False) -> Output:
        came, times = cell.sides, [one.at_us for one in cell.sides]
        lacking = [name for name in self._sides if all(one.name != name for one in came)]
        values: dict[str, Scalar] = {
            f"{one.name}.{name}": value for one in came for name, value in one.fields.items()
        }
        values |= {"apart_s": (max(times) - min(times)) / 1e6, "complete": not lacking}
        if lacking:
            values["missing"] = ", ".join(lacking)
        else:
            first, *others = [one.fields.get(self._fields[0]) for one in came]
            values["agree"] = all(same(first, other) for other in others)
        frames = [one.frame for one in came if one.frame]
        if frames:
            values["frame"] = frames[-1]
        if evicted:
            values["evicted"] = True
        return Output(
            name=cell.id, key=self._key(cell), action="final",
            start_us=min(times), end_us=max(times), values=values,
            causes=tuple(one.id for one in came),
        )  # fmt: skip
