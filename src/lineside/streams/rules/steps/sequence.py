"""The step ``sequence``: A then B with the same key; or A, and no B after it.

1. B answers every A of its key that waits and lies at most ``within_s`` before it; an A that waits
   longer is given up. One event for each B: from the earliest of those A to B.
2. ``missing``: one event for each A that no B answered, when B can no longer come.
3. A record that is both ends what waits first, then begins anew. An A and a B of the same time
   follow the order of their ids.
"""

from collections.abc import Iterable

import msgspec

from lineside.core import Rule
from lineside.core.plant_rules import Scalar, SequenceStep
from lineside.streams.rules.conditions import compile_conditions
from lineside.streams.rules.contract import MOST_CAUSES, Output, Record, frame_of
from lineside.streams.rules.keyed_state import GroupStep

Key = tuple[Scalar, ...]
_Name = tuple[Key, str]


class _Cell(msgspec.Struct, kw_only=True):
    """One A that waits."""

    key: Key
    id: str
    at_us: int
    due_us: int
    born: int = 0
    frame: str = ""


class Sequences(GroupStep[_Cell]):
    """The step ``sequence`` of one rule."""

    def __init__(self, rule: Rule, declared: SequenceStep) -> None:
        super().__init__(rule, _Cell, of="a sequence")
        self._missing = declared.missing
        self._within_us = round(declared.within_s * 1e6)
        first, then = compile_conditions(declared.first), compile_conditions(declared.then)
        assert first is not None  # noqa: S101  the record of the step needs both
        assert then is not None  # noqa: S101
        self._first, self._then = first, then

    def feed(self, record: Record, *, key: Key) -> Iterable[Output]:
        found = list(self.advance(record.at_us))
        if self._then(record.fields):
            found += self._answer(record, key)
        if self._first(record.fields):
            self._wait(record, key)
        return found

    def advance(self, now_us: int) -> Iterable[Output]:
        if now_us < self._cells.next_us:
            return ()
        gone = [cell for _, cell in self._cells.due(now_us)]
        for cell in gone:
            self._forget(cell)
        return [self._absent(cell) for cell in gone] if self._missing else ()

    def _wait(self, record: Record, key: Key) -> None:
        cell = _Cell(
            key=key, id=record.id, at_us=record.at_us, due_us=record.at_us + self._within_us + 1,
            frame=frame_of(record),
        )  # fmt: skip
        self._waiting.setdefault(key, []).append(cell)
        name: _Name = (key, record.id)
        left = self._cells.add(name, cell)
        if left is not None:
            self._forget(left)

    def _answer(self, record: Record, key: Key) -> list[Output]:
        waiting = [
            cell for cell in self._waiting.get(key, ())
            if abs(record.at_us - cell.at_us) <= self._within_us
        ]  # fmt: skip
        for cell in waiting:
            self._cells.drop((cell.key, cell.id))
            self._forget(cell)
        return [] if self._missing or not waiting else [self._met(waiting, record)]

    def _met(self, waiting: list[_Cell], record: Record) -> Output:
        earliest, latest = min(waiting, key=_time), max(waiting, key=_time)
        values: dict[str, Scalar] = {
            "after_s": (record.at_us - latest.at_us) / 1e6, "waiting": len(waiting),
        }  # fmt: skip
        frame = frame_of(record) or latest.frame
        if frame:
            values["frame"] = frame
        causes = [cell.id for cell in waiting[: MOST_CAUSES - 1]]
        return Output(
            name=record.id, key=self._key(latest), action="final",
            start_us=earliest.at_us, end_us=max(record.at_us, latest.at_us), values=values,
            causes=(*causes, record.id),
        )  # fmt: skip

    def _absent(self, cell: _Cell) -> Output:
        values: dict[str, Scalar] = {"after_s": self._within_us / 1e6, "waiting": 1}
        if cell.frame:
            values["frame"] = cell.frame
        return Output(
            name=cell.id, key=self._key(cell), action="final",
            start_us=cell.at_us, end_us=cell.at_us + self._within_us, values=values,
            causes=(cell.id,),
        )  # fmt: skip


def _time(cell: _Cell) -> int:
    return cell.at_us
