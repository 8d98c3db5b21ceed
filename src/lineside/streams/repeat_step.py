"""The step ``repeat``: so many of the last records of a key match.

1. The last ``last`` records of each key are looked at, and of these only those that lie at most
   ``within_s`` before the newest (exactly so long is taken; 0: any time). With ``last`` left out it
   is as many as ``times``: so many in a row.
2. Begun is told by the record that makes ``times`` of them match; ended by the record that makes
   them fewer, or when time alone does.
3. At most ``last`` records of a key are remembered. A key whose records are all too old is
   forgotten; without ``within_s`` it stays, up to ``most_keys``.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from lineside.core import RepeatStep, Rule, Scalar
from lineside.streams.cells import NEVER_US, Cells
from lineside.streams.conditions import compile_conditions
from lineside.streams.contract import MOST_CAUSES, Output, Record, frame_of

Key = tuple[Scalar, ...]


class _Look(msgspec.Struct, array_like=True):
    """A record that is looked at."""

    at_us: int
    matches: bool
    id: str


class _Cell(msgspec.Struct, kw_only=True):
    """The last records of one key, oldest first; ``begun`` is the record that began it, or ""."""

    key: Key
    due_us: int = NEVER_US
    born: int = 0
    looks: list[_Look] = []
    begun: str = ""
    begun_us: int = 0
    since_us: int = 0
    frame: str = ""


class Repeats:
    """Records of each key, the last of them judged anew with each."""

    def __init__(self, rule: Rule, declared: RepeatStep) -> None:
        self._names = rule.key
        self._times = declared.times
        self._last = declared.last or declared.times
        self._within_us = round(declared.within_s * 1e6)
        match = compile_conditions(declared.match)
        assert match is not None  # noqa: S101  the record of the step needs it
        self._match = match
        self._cells: Cells[_Cell] = Cells(rule.most_keys)

    @property
    def evicted(self) -> int:
        """How many keys were forgotten to make room."""
        return self._cells.evicted

    def feed(self, record: Record, *, key: Key) -> Iterable[Output]:
        found = list(self.advance(record.at_us))
        cell = self._cells.use(key)
        if cell is None:
            cell = _Cell(key=key, looks=[])
            left = self._cells.add(key, cell)
            if left is not None and left.begun:
                found.append(self._end(left, at_us=left.looks[-1].at_us))
        cell.looks.append(_Look(record.at_us, self._match(record.fields), record.id))
        del cell.looks[: -self._last]
        self._forget_old(cell, record.at_us)
        cell.frame = frame_of(record) or cell.frame
        found += self._judge(cell, at_us=record.at_us, by=record.id)
        self._cells.move(key, cell, due_us=self._next(cell))
        return found

    def advance(self, now_us: int) -> Iterable[Output]:
        if now_us < self._cells.next_us:
            return ()
        found: list[Output] = []
        for name, cell in self._cells.due(now_us):
            at_us = cell.due_us - 1
            self._forget_old(cell, cell.due_us)
            found += self._judge(cell, at_us=at_us)
            if cell.looks:
                cell.due_us = self._next(cell)
                self._cells.keep(name, cell)
        return found

    def dump(self) -> dict[str, Any]:
        return self._cells.dump()

    def load(self, memory: Mapping[str, Any]) -> None:
        self._cells.load(memory, _Cell, of="a repeat", name=lambda cell: cell.key)

    def _forget_old(self, cell: _Cell, now_us: int) -> None:
        if self._within_us:
            oldest_us = now_us - self._within_us
            cell.looks = [look for look in cell.looks if look.at_us >= oldest_us]

    def _next(self, cell: _Cell) -> int:
        """When the oldest record is too old to be looked at."""
        if not self._within_us or not cell.looks:
            return NEVER_US
        return min(look.at_us for look in cell.looks) + self._within_us + 1

    def _judge(self, cell: _Cell, *, at_us: int, by: str = "") -> list[Output]:
        matching = [look for look in cell.looks if look.matches]
        if (len(matching) >= self._times) is bool(cell.begun):
            return []
        if cell.begun:
            ended = self._end(cell, at_us=at_us)
            cell.begun = ""
            return [ended]
        cell.begun, cell.begun_us, cell.since_us = by, at_us, matching[0].at_us
        return [self._tell(cell, "begun", at_us=at_us)]

    def _end(self, cell: _Cell, *, at_us: int) -> Output:
        return self._tell(cell, "ended", at_us=at_us)

    def _tell(self, cell: _Cell, action: str, *, at_us: int) -> Output:
        matching = [look.id for look in cell.looks if look.matches]
        values: dict[str, Scalar] = {
            "matches": len(matching), "records": len(cell.looks),
            "lasted_s": (at_us - cell.begun_us) / 1e6,
        }  # fmt: skip
        if cell.frame:
            values["frame"] = cell.frame
        last = [look.id for look in cell.looks[-1:]]
        causes = dict.fromkeys((*matching[: MOST_CAUSES - 1], *last))
        return Output(
            name=f"{cell.begun}/{action}", key=dict(zip(self._names, cell.key, strict=True)),
            action=action, start_us=cell.since_us, end_us=at_us, values=values,
            causes=tuple(causes),
        )  # fmt: skip
