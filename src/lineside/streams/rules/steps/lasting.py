"""The steps ``repeat`` and ``rate``, which count the records of a key.

The step ``repeat``: so many of the last records of a key match.

1. The last ``last`` records of each key are looked at, and of these only those that lie at most
   ``within_s`` before the newest (exactly so long is taken; 0: any time). With ``last`` left out it
   is as many as ``times``: so many in a row.
2. Begun is told by the record that makes ``times`` of them match; ended by the record that makes
   them fewer, or when time alone does.
3. At most ``last`` records of a key are remembered. A key whose records are all too old is
   forgotten; without ``within_s`` it stays, up to ``most_keys``.

The step ``rate``: more than ``above``, or fewer than ``below``, records in any ``per_s``.

Counted is the stretch that ends now, its beginning left out: ``(now - per_s, now]``. A record at
``now - per_s`` has left and one at ``now`` is in before either limit is judged: what time alone
changes is judged when every record of that moment was taken.

1. ``above``: begun with the record that makes them too many, ended when enough have left the
   stretch again.
2. ``below``: a key is watched from its first record on, and judged when ``per_s`` have passed
   since; begun when too many have left the stretch, ended by the record that makes them enough. A
   key that is never seen is never missed.
3. Only as many times are kept as the limit needs. A key that ran out of records is forgotten
   under ``above``; under ``below`` it stays, up to ``most_keys``.

The step ``hold``: something has lasted.

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

import math
from bisect import insort
from collections.abc import Iterable, Mapping

import msgspec

from lineside.core import Rule
from lineside.core.plant_rules import HoldStep, RateStep, RepeatStep, Scalar
from lineside.core.rule_check import RuleAction
from lineside.streams.rules.conditions import compile_conditions, same
from lineside.streams.rules.contract import MOST_CAUSES, Output, Record, frame_of
from lineside.streams.rules.keyed_state import NEVER_US, Cell, KeyedStep

Key = tuple[Scalar, ...]


class _Look(msgspec.Struct, array_like=True):
    """A record that is looked at."""

    at_us: int
    matches: bool
    id: str


class _RepeatCell(Cell, kw_only=True):
    """The last records of one key, oldest first; ``begun`` is the record that began it, or ""."""

    looks: list[_Look] = msgspec.field(default_factory=list)
    begun: str = ""
    begun_us: int = 0
    since_us: int = 0
    frame: str = ""


class Repeats(KeyedStep[_RepeatCell]):
    """Records of each key, the last of them judged anew with each."""

    def __init__(self, rule: Rule, declared: RepeatStep) -> None:
        super().__init__(rule, _RepeatCell, of="a repeat")
        self._times = declared.times
        self._last = declared.last or declared.times
        self._within_us = round(declared.within_s * 1e6)
        match = compile_conditions(declared.match)
        assert match is not None  # noqa: S101  the record of the step needs it
        self._match = match

    def feed(self, record: Record, *, key: Key) -> Iterable[Output]:
        found = list(self.advance(record.at_us))
        cell = self._cells.use(key)
        if cell is None:
            cell = _RepeatCell(key=key, looks=[])
            left = self._cells.add(key, cell)
            if left is not None and left.begun:
                found.append(self._tell(left, "ended", at_us=left.looks[-1].at_us))
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

    def _forget_old(self, cell: _RepeatCell, now_us: int) -> None:
        if self._within_us:
            oldest_us = now_us - self._within_us
            cell.looks = [look for look in cell.looks if look.at_us >= oldest_us]

    def _next(self, cell: _RepeatCell) -> int:
        """When the oldest record is too old to be looked at."""
        if not self._within_us or not cell.looks:
            return NEVER_US
        return min(look.at_us for look in cell.looks) + self._within_us + 1

    def _judge(self, cell: _RepeatCell, *, at_us: int, by: str = "") -> list[Output]:
        matching = [look for look in cell.looks if look.matches]
        if (len(matching) >= self._times) is bool(cell.begun):
            return []
        if cell.begun:
            ended = self._tell(cell, "ended", at_us=at_us)
            cell.begun = ""
            return [ended]
        cell.begun, cell.begun_us, cell.since_us = by, at_us, matching[0].at_us
        return [self._tell(cell, "begun", at_us=at_us)]

    def _tell(self, cell: _RepeatCell, action: RuleAction, *, at_us: int) -> Output:
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
            name=f"{cell.begun}/{action}", key=self._key(cell),
            action=action, start_us=cell.since_us, end_us=at_us, values=values,
            causes=tuple(causes),
        )  # fmt: skip


class _RateCell(Cell, kw_only=True):
    """The last times of one key, oldest first; ``begun_us`` 0: not too many, not too few."""

    times: list[int] = msgspec.field(default_factory=list)
    ids: list[str] = msgspec.field(default_factory=list)
    begun_us: int = 0
    judged_us: int = 0
    frame: str = ""


class Rates(KeyedStep[_RateCell]):
    """Records of each key, counted over a stretch that moves on."""

    def __init__(self, rule: Rule, declared: RateStep) -> None:
        super().__init__(rule, _RateCell, of="a rate")
        self._per_us = round(declared.per_s * 1e6)
        self._above = declared.above is not None
        limit = declared.above if declared.above is not None else declared.below
        assert limit is not None  # noqa: S101  the record of the step needs one of the two
        # So many records within the stretch decide: one more than ``above``, or ``below`` of them.
        self._needed = math.floor(limit) + 1 if self._above else max(1, math.ceil(limit))

    def feed(self, record: Record, *, key: Key) -> Iterable[Output]:
        found = list(self.advance(record.at_us))
        cell = self._cells.use(key)
        if cell is None:
            cell = _RateCell(key=key, times=[], ids=[], judged_us=record.at_us + self._per_us)
            found += self._leave(self._cells.add(key, cell), record.at_us)
        self._count(cell, record)
        found += self._begin_above(cell) if self._above else self._end_below(cell)
        self._cells.move(key, cell, due_us=self._next(cell))
        return found

    def advance(self, now_us: int) -> Iterable[Output]:
        if now_us < self._cells.next_us:
            return ()
        found: list[Output] = []
        for name, cell in self._cells.due(now_us):
            found += self._end_above(cell) if self._above else self._begin_below(cell)
            cell.due_us = self._next(cell)
            if cell.due_us < NEVER_US or not self._above:
                self._cells.keep(name, cell)
        return found

    def _count(self, cell: _RateCell, record: Record) -> None:
        insort(cell.times, record.at_us)
        del cell.times[: -self._needed]
        cell.ids = [*cell.ids, record.id][-MOST_CAUSES:]
        cell.frame = frame_of(record) or cell.frame

    def _enough(self, cell: _RateCell) -> bool:
        """Return whether the needed records lie within one stretch that ends with their last."""
        times = cell.times
        return len(times) == self._needed and times[-1] - times[0] < self._per_us

    def _leaves(self, cell: _RateCell) -> int:
        """When there are no longer as many as needed, without a further record."""
        if len(cell.times) < self._needed:
            return NEVER_US
        return cell.times[0] + self._per_us

    def _next(self, cell: _RateCell) -> int:
        """When time alone changes something: the next moment, for more records of this may come."""
        if self._above:
            at_us = self._leaves(cell) if cell.begun_us else self._runs_out(cell)
        else:
            at_us = NEVER_US if cell.begun_us else self._lacks(cell)
        return min(NEVER_US, at_us + 1)

    def _runs_out(self, cell: _RateCell) -> int:
        """When the last record leaves the stretch, so that nothing is left to remember."""
        return cell.times[-1] + self._per_us if cell.times else NEVER_US

    def _lacks(self, cell: _RateCell) -> int:
        """When there are too few, without a further record."""
        leaves = self._leaves(cell)
        return max(cell.judged_us, 0 if leaves == NEVER_US else leaves)

    def _leave(self, cell: _RateCell | None, now_us: int) -> list[Output]:
        """Return the outputs of a key that was evicted."""
        begun = cell is not None and cell.begun_us
        return [self._tell(cell, "ended", at_us=now_us)] if cell is not None and begun else []

    def _begin_above(self, cell: _RateCell) -> list[Output]:
        if cell.begun_us or not self._enough(cell):
            return []
        cell.begun_us = cell.times[-1]
        return [self._tell(cell, "begun", at_us=cell.begun_us)]

    def _end_above(self, cell: _RateCell) -> list[Output]:
        if not cell.begun_us:
            cell.times = []
            return []
        ended = self._tell(cell, "ended", at_us=self._leaves(cell))
        cell.begun_us = 0
        return [ended]

    def _begin_below(self, cell: _RateCell) -> list[Output]:
        cell.begun_us = self._lacks(cell)
        return [self._tell(cell, "begun", at_us=cell.begun_us)]

    def _end_below(self, cell: _RateCell) -> list[Output]:
        if not cell.begun_us or not self._enough(cell):
            return []
        ended = self._tell(cell, "ended", at_us=cell.times[-1])
        cell.begun_us = 0
        return [ended]

    def _tell(self, cell: _RateCell, action: RuleAction, *, at_us: int) -> Output:
        oldest_us = at_us - self._per_us
        values: dict[str, Scalar] = {
            "records": sum(oldest_us < time <= at_us for time in cell.times),
            "per_s": self._per_us / 1e6, "lasted_s": (at_us - cell.begun_us) / 1e6,
        }  # fmt: skip
        if cell.frame:
            values["frame"] = cell.frame
        return Output(
            name=f"{cell.begun_us}/{action}", key=self._key(cell),
            action=action, start_us=cell.begun_us, end_us=at_us, values=values,
            causes=tuple(cell.ids),
        )  # fmt: skip


class _HoldCell(Cell, kw_only=True):
    """State of one key; ``reported``, ``told`` in memories: its present stretch has an event."""

    value: Scalar = ""
    given: Scalar | None = None
    began_us: int = 0
    last_us: int = 0
    first: str = ""
    last: str = ""
    reported: bool = msgspec.field(default=False, name="told")
    failed_us: int = 0
    frame: str = ""


class _Holds(KeyedStep[_HoldCell]):
    """The base of both kinds."""

    def __init__(self, rule: Rule, declared: HoldStep) -> None:
        super().__init__(rule, _HoldCell, of="a hold")
        self._for_us = round(declared.for_s * 1e6)

    def _tell(
        self, cell: _HoldCell, action: RuleAction, *, until_us: int, more: Mapping[str, Scalar]
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
            cell = _HoldCell(key=key, value=value, began_us=record.at_us, first=record.id)
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
        return [self._end(cell) for _, cell in self._cells.due(now_us) if cell.reported]

    def _holds(self, cell: _HoldCell | None, record: Record, *, key: Key) -> list[Output]:
        found: list[Output] = []
        if cell is None:
            cell = _HoldCell(key=key, began_us=record.at_us, first=record.id, last_us=record.at_us)
            left = self._cells.add(key, cell)
            found += [self._end(left)] if left is not None and left.reported else []
        cell.last_us, cell.last, cell.failed_us = record.at_us, record.id, 0
        cell.frame = frame_of(record) or cell.frame
        self._put_off(cell)
        if cell.reported or record.at_us - cell.began_us < self._for_us:
            return found
        cell.reported = True
        return [*found, self._tell(cell, "begun", until_us=record.at_us, more={})]

    def _end(self, cell: _HoldCell) -> Output:
        return self._tell(cell, "ended", until_us=cell.last_us, more={})

    def _put_off(self, cell: _HoldCell) -> None:
        """When it ends unless a record holds before.

        A record that failed ends it at the next later moment, so that another of the same time
        may still hold.
        """
        silent = cell.last_us + self._silent_us + 1
        failed = max(cell.failed_us, cell.last_us + self._gap_us) + 1
        due_us = min(silent, failed) if cell.failed_us else silent
        self._cells.move(cell.key, cell, due_us=due_us)
