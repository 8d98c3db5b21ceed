"""The step ``pair``: every second record of a key makes a pair with the one before it.

1. ``final``: one event for each pair; one with ``pair_seen = "Un-matched"`` for a record whose
   partner can no longer come (``within_s`` has passed, or the session ended).
2. ``changes``: one event for each record, with the counts as they stand then.
3. An event of a rule that refines one already seen (same ``name``, later ``revision``) is the same
   thing again: in ``changes`` it is told again with the counts unchanged, else passed over. A name
   is known as long as a record of its time may come, and the last ``_LEAST_NAMES`` longer.
4. A message on the topic ``session`` tells what is left over and begins new counts.

The step ``sequence``: A then B with the same key; or A, and no B after it.

1. B answers every A of its key that waits and lies at most ``within_s`` before it; an A that waits
   longer is given up. One event for each B: from the earliest of those A to B.
2. ``missing``: one event for each A that no B answered, when B can no longer come.
3. A record that is both ends what waits first, then begins anew. An A and a B of the same time
   follow the order of their ids.

The step ``join``: one record of each inspection, or of each rule, that belong together.

1. They belong together where they have the same key and lie at most ``within_s`` apart (exactly so
   far still does). A record joins the group of its key that began first, still lacks one of its
   side, and is not too old; else it begins a group of its own.
2. A group is told by the record that completes it, named by the one that began it. With
   ``incomplete``, a group that lacks one is told when that one can no longer come.
3. At most ``most_keys`` groups wait; the one unused longest makes room, told as one that is
   incomplete.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from lineside.core import Rule
from lineside.core.plant_rules import JoinStep, PairStep, Scalar, SequenceStep
from lineside.streams.rules.conditions import compile_conditions, same
from lineside.streams.rules.contract import MOST_CAUSES, Output, Record, frame_of
from lineside.streams.rules.keyed_state import (
    BEGINNING_US,
    NEVER_US,
    Cell,
    GroupCell,
    GroupStep,
    KeyedState,
    KeyedStep,
    read_memory,
)
from lineside.streams.rules.records import SESSION

Key = tuple[Scalar, ...]
_LEAST_NAMES, _MOST_NAMES = 16, 10_000
PAIR, ALONE = "Pair", "Un-matched"


class _PairCell(Cell, kw_only=True):
    """The counts of one key.

    ``records`` (``seen`` in memories) is their number; ``waiting`` is the one without partner, ""
    for none. ``after`` counts the keys forgotten before this one came: it tells a key that comes
    back from what it was. ``known`` are the names that may still be refined, in order of use, each
    with the newest time of a record of it.
    ``names`` is what memories had in its place before; it is empty once loaded.
    """

    records: int = msgspec.field(default=0, name="seen")
    pairs: int = 0
    waiting: str = ""
    waiting_us: int = 0
    frame: str = ""
    known: dict[str, int] = msgspec.field(default_factory=dict)
    names: list[str] = msgspec.field(default_factory=list)
    revisions: int = 0
    after: int = 0


class _PairMemory(msgspec.Struct):
    cells: list[_PairCell]
    evicted: int = 0
    session: str = ""


class Pairs(KeyedStep[_PairCell]):
    """Counts by key within one sorting session."""

    def __init__(self, rule: Rule, declared: PairStep) -> None:
        super().__init__(rule, _PairCell, of="pairs")
        self._changes = rule.emit == "changes"
        self._within_us = round(declared.within_s * 1e6)
        self._most = rule.most_keys
        self._session = ""
        self._now_us = BEGINNING_US

    def feed(self, record: Record, *, key: Key) -> Iterable[Output]:
        if record.source == SESSION:
            return self._begin(record)
        cell = self._cells.use(key)
        found: list[Output] = []
        if cell is None:
            cell = _PairCell(key=key, known={}, after=self._cells.evicted)
            found += self._alone(self._cells.add(key, cell))
        if self._known(cell, record):
            state = ALONE if cell.waiting else PAIR
            return [*found, self._tell(cell, record, state=state)] if self._changes else found
        return found + self._count(cell, record)

    def advance(self, now_us: int) -> Iterable[Output]:
        self._now_us = now_us
        if now_us < self._cells.next_us:
            return ()
        found: list[Output] = []
        for name, cell in self._cells.due(now_us):
            found += self._alone(cell)
            self._cells.keep(name, cell)
        return found

    def dump(self) -> dict[str, Any]:
        kept = _PairMemory(
            cells=list(self._cells), evicted=self._cells.evicted, session=self._session
        )
        return msgspec.to_builtins(kept)  # type: ignore[no-any-return]  # a struct is a dict

    def load(self, memory: Mapping[str, Any]) -> None:
        kept = read_memory(memory, _PairMemory, of="pairs")
        self._session = kept.session
        for cell in kept.cells:
            cell.known, cell.names = dict.fromkeys(cell.names, BEGINNING_US) | cell.known, []
        self._cells.restore([(cell.key, cell) for cell in kept.cells], evicted=kept.evicted)

    def _begin(self, record: Record) -> list[Output]:
        """A new session: what is left over is told, and counting begins anew."""
        found = [output for cell in self._cells for output in self._alone(cell)]
        evicted = self._cells.evicted
        self._cells = KeyedState(self._most)
        self._cells.restore((), evicted=evicted)
        self._session = str(record.fields[SESSION])
        return found

    def _known(self, cell: _PairCell, record: Record) -> bool:
        """Return whether the record refines a thing that was counted already."""
        name = record.fields.get("name")
        if "revision" not in record.fields or not isinstance(name, str):
            return False
        newest_us = cell.known.pop(name, None)
        cell.known[name] = record.at_us if newest_us is None else max(newest_us, record.at_us)
        if newest_us is None:
            self._forget_names(cell)
        return newest_us is not None

    def _forget_names(self, cell: _PairCell) -> None:
        """Those used longest ago, as far as nothing of their time can come."""
        known = cell.known
        while len(known) > _LEAST_NAMES:
            first = next(iter(known))
            if known[first] >= self._now_us and len(known) <= _MOST_NAMES:
                break
            del known[first]

    def _count(self, cell: _PairCell, record: Record) -> list[Output]:
        found: list[Output] = []
        if cell.waiting and self._too_far(cell, record):
            found += self._alone(cell)
        cell.records += 1
        cell.revisions = 0
        if cell.waiting:
            return found + self._pair(cell, record)
        cell.waiting, cell.waiting_us = record.id, record.at_us
        cell.frame = frame_of(record)
        if self._within_us:
            self._cells.move(cell.key, cell, due_us=record.at_us + self._within_us + 1)
        return [*found, self._tell(cell, record, state=ALONE)] if self._changes else found

    def _too_far(self, cell: _PairCell, record: Record) -> bool:
        return bool(self._within_us) and abs(record.at_us - cell.waiting_us) > self._within_us

    def _pair(self, cell: _PairCell, record: Record) -> list[Output]:
        cell.pairs += 1
        told = self._tell(cell, record, state=PAIR)
        cell.waiting, cell.due_us = "", NEVER_US
        return [told]

    def _alone(self, cell: _PairCell | None) -> Iterator[Output]:
        """Return the outputs of a record whose partner will not come."""
        if cell is None or not cell.waiting:
            return
        waiting = cell.waiting
        cell.waiting, cell.due_us = "", NEVER_US
        if not self._changes:
            yield self._output(
                cell, state=ALONE, span=(cell.waiting_us, cell.waiting_us), causes=(waiting,)
            )

    def _tell(self, cell: _PairCell, record: Record, *, state: str) -> Output:
        cell.frame = frame_of(record) or cell.frame
        cell.revisions += 1
        start_us = min(cell.waiting_us, record.at_us) if cell.waiting else record.at_us
        causes = tuple(dict.fromkeys(one for one in (cell.waiting, record.id) if one))
        return self._output(cell, state=state, span=(start_us, record.at_us), causes=causes)

    def _output(
        self, cell: _PairCell, *, state: str, span: tuple[int, int], causes: tuple[str, ...]
    ) -> Output:
        values: dict[str, Scalar] = {
            "seen": cell.records, "pairs": cell.pairs, "left_over": cell.records - 2 * cell.pairs,
            "pair_seen": state,
        }  # fmt: skip
        if self._session:
            values["session"] = self._session
        if cell.frame:
            values["frame"] = cell.frame
        again = f"{cell.after}." if cell.after else ""
        return Output(
            name=f"{self._session}#{again}{cell.records}",
            key=self._key(cell),
            action="change" if self._changes else "final", start_us=span[0], end_us=span[1],
            values=values, causes=causes, revision=cell.revisions if self._changes else 0,
        )  # fmt: skip


_SequenceName = tuple[Key, str]


class _SequenceCell(GroupCell, kw_only=True):
    """One A that waits."""

    at_us: int
    due_us: int
    frame: str = ""


class Sequences(GroupStep[_SequenceCell]):
    """The step ``sequence`` of one rule."""

    def __init__(self, rule: Rule, declared: SequenceStep) -> None:
        super().__init__(rule, _SequenceCell, of="a sequence")
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
        cell = _SequenceCell(
            key=key, id=record.id, at_us=record.at_us, due_us=record.at_us + self._within_us + 1,
            frame=frame_of(record),
        )  # fmt: skip
        self._waiting.setdefault(key, []).append(cell)
        name: _SequenceName = (key, record.id)
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

    def _met(self, waiting: list[_SequenceCell], record: Record) -> Output:
        earliest, latest = min(waiting, key=_begin_us), max(waiting, key=_begin_us)
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

    def _absent(self, cell: _SequenceCell) -> Output:
        values: dict[str, Scalar] = {"after_s": self._within_us / 1e6, "waiting": 1}
        if cell.frame:
            values["frame"] = cell.frame
        return Output(
            name=cell.id, key=self._key(cell), action="final",
            start_us=cell.at_us, end_us=cell.at_us + self._within_us, values=values,
            causes=(cell.id,),
        )  # fmt: skip


def _begin_us(cell: _SequenceCell) -> int:
    return cell.at_us


class _Side(msgspec.Struct, kw_only=True):
    """The record of one side: when it was, and what is told of it."""

    name: str
    id: str
    at_us: int
    fields: dict[str, Scalar]
    frame: str = ""


class _JoinCell(GroupCell, kw_only=True):
    """A group, named by the record that began it; sides in order of coming."""

    due_us: int
    sides: list[_Side] = msgspec.field(default_factory=list)


class Joins(GroupStep[_JoinCell]):
    """Groups that wait for their other sides."""

    def __init__(self, rule: Rule, declared: JoinStep) -> None:
        super().__init__(rule, _JoinCell, of="a join")
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
            cell = _JoinCell(key=key, id=record.id, due_us=due_us, sides=[])
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

    def _fits(self, cell: _JoinCell, side: str, record: Record) -> bool:
        times = [record.at_us, *(one.at_us for one in cell.sides)]
        lacks = all(one.name != side for one in cell.sides)
        return lacks and max(times) - min(times) <= self._within_us

    def _give_up(self, cell: _JoinCell | None, *, evicted: bool = False) -> Iterator[Output]:
        """A group whose other sides cannot come any more."""
        if cell is None:
            return
        self._forget(cell)
        if self._incomplete:
            yield self._tell(cell, evicted=evicted)

    def _tell(self, cell: _JoinCell, *, evicted: bool = False) -> Output:
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
