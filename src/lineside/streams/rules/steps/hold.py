"""The step ``hold``: something has lasted.

With ``field`` (debounce): a value that stayed the same for ``for_s`` is told once, by the record
that confirms it, from the time at which it began; the value told last is not told again, however
often others flickered in between.

Without: the rule's own ``where`` must hold, and the step is handed the records that fail it too.

1. Begun is told by the first record that holds ``for_s`` or more after the first that held.
2. It ends when a record of the key fails and none held since more than ``gap_s``, or when none
   came that held for longer than ``gap_s`` (with ``gap_s = 0``: longer than ``for_s``), whichever
   is first. Records of one time are one look: one that holds is enough.
3. Ended is told where begun was, with the time of the last record that held.
"""

from collections.abc import Iterable, Mapping

import msgspec

from lineside.core import Rule
from lineside.core.plant_rules import HoldStep, Scalar
from lineside.streams.rules.conditions import compile_conditions, same
from lineside.streams.rules.contract import Output, Record, frame_of
from lineside.streams.rules.keyed_state import NEVER_US, KeyedStep

Key = tuple[Scalar, ...]


class _Cell(msgspec.Struct, kw_only=True):
    """The state of one key; ``told``: an event of its present stretch was given out."""

    key: Key
    due_us: int = NEVER_US
    born: int = 0
    value: Scalar = ""
    given: Scalar | None = None
    began_us: int = 0
    last_us: int = 0
    first: str = ""
    last: str = ""
    told: bool = False
    failed_us: int = 0
    frame: str = ""


class _Holds(KeyedStep[_Cell]):
    """The base of both kinds."""

    def __init__(self, rule: Rule, declared: HoldStep) -> None:
        super().__init__(rule, _Cell, of="a hold")
        self._for_us = round(declared.for_s * 1e6)

    def _tell(
        self, cell: _Cell, action: str, *, until_us: int, more: Mapping[str, Scalar]
    ) -> Output:
        values: dict[str, Scalar] = {
            "for_s": self._for_us / 1e6, "lasted_s": (until_us - cell.began_us) / 1e6, **more,
        }  # fmt: skip
        if cell.frame:
            values["frame"] = cell.frame
        return Output(
            name=f"{cell.began_us}/{action}", key=self._key(cell),
            action=action, start_us=cell.began_us, end_us=until_us, values=values,
            causes=tuple(dict.fromkeys((cell.first, cell.last))),
        )  # fmt: skip


class SteadyValues(_Holds):
    """A field whose value must stay."""

    def __init__(self, rule: Rule, declared: HoldStep) -> None:
        super().__init__(rule, declared)
        self._field = declared.field

    def feed(self, record: Record, *, key: Key) -> Iterable[Output]:
        value = record.fields.get(self._field)
        if value is None:
            return ()
        cell = self._cells.use(key)
        if cell is None:
            cell = _Cell(key=key, value=value, began_us=record.at_us, first=record.id)
            self._cells.add(key, cell)
        elif not same(value, cell.value):
            cell.value, cell.began_us, cell.first = value, record.at_us, record.id
        cell.last = record.id
        if record.at_us - cell.began_us < self._for_us or same(value, cell.given):
            return ()
        cell.given, cell.frame = value, frame_of(record)
        return (self._tell(cell, "final", until_us=record.at_us, more={self._field: value}),)

    def advance(self, now_us: int) -> Iterable[Output]:
        del now_us  # time alone confirms no value
        return ()


class LastingConditions(_Holds):
    """The rule's ``where``, which must hold."""

    def __init__(self, rule: Rule, declared: HoldStep) -> None:
        super().__init__(rule, declared)
        test = compile_conditions(rule.where)
        self._test = test or (lambda _fields: True)
        self._gap_us = round(declared.gap_s * 1e6)
        self._silent_us = self._gap_us or self._for_us

    def feed(self, record: Record, *, key: Key) -> Iterable[Output]:
        found = list(self.advance(record.at_us))
        cell = self._cells.use(key)
        if self._test(record.fields):
            return found + self._holds(cell, record, key=key)
        if cell is not None and not cell.failed_us and record.at_us > cell.last_us:
            cell.failed_us = record.at_us
            self._put_off(cell)
        return found

    def advance(self, now_us: int) -> Iterable[Output]:
        if now_us < self._cells.next_us:
            return ()
        return [self._end(cell) for _, cell in self._cells.due(now_us) if cell.told]

    def _holds(self, cell: _Cell | None, record: Record, *, key: Key) -> list[Output]:
        found: list[Output] = []
        if cell is None:
            cell = _Cell(key=key, began_us=record.at_us, first=record.id, last_us=record.at_us)
            left = self._cells.add(key, cell)
            found += [self._end(left)] if left is not None and left.told else []
        cell.last_us, cell.last, cell.failed_us = record.at_us, record.id, 0
        cell.frame = frame_of(record) or cell.frame
        self._put_off(cell)
        if cell.told or record.at_us - cell.began_us < self._for_us:
            return found
        cell.told = True
        return [*found, self._tell(cell, "begun", until_us=record.at_us, more={})]

    def _end(self, cell: _Cell) -> Output:
        return self._tell(cell, "ended", until_us=cell.last_us, more={})

    def _put_off(self, cell: _Cell) -> None:
        """When it ends unless a record holds before.

        A record that failed ends it at the next later moment, so that another of the same time
        may still hold.
        """
        silent = cell.last_us + self._silent_us + 1
        failed = max(cell.failed_us, cell.last_us + self._gap_us) + 1
        due_us = min(silent, failed) if cell.failed_us else silent
        self._cells.move(cell.key, cell, due_us=due_us)
