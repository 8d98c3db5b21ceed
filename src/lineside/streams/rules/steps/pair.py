"""The step ``pair``: every second record of a key makes a pair with the one before it.

1. ``final``: one event for each pair; one with ``pair_seen = "Un-matched"`` for a record whose
   partner can no longer come (``within_s`` has passed, or the session ended).
2. ``changes``: one event for each record, with the counts as they stand then.
3. An event of a rule that refines one already seen (same ``name``, later ``revision``) is the same
   thing again: in ``changes`` it is told again with the counts unchanged, else passed over. A name
   is known as long as a record of its time may come, and the last ``_LEAST_NAMES`` longer.
4. A message on the topic ``session`` tells what is left over and begins new counts.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from lineside.core import Rule
from lineside.core.plant_rules import PairStep, Scalar
from lineside.streams.rules.contract import Output, Record, frame_of
from lineside.streams.rules.keyed_state import NEVER_US, KeyedState, KeyedStep, read_memory
from lineside.streams.rules.records import SESSION
from lineside.streams.rules.watermark import BEGINNING_US

Key = tuple[Scalar, ...]
_LEAST_NAMES, _MOST_NAMES = 16, 10_000
PAIR, ALONE = "Pair", "Un-matched"


class _Cell(msgspec.Struct, kw_only=True):
    """The counts of one key.

    ``waiting`` is the record without partner, "" for none. ``after`` counts the keys forgotten
    before this one came: it tells a key that comes back from what it was. ``known`` are the names
    that may still be refined, in order of use, each with the newest time of a record of it.
    ``names`` is what memories had in its place before; it is empty once loaded.
    """

    key: Key
    due_us: int = NEVER_US
    born: int = 0
    seen: int = 0
    pairs: int = 0
    waiting: str = ""
    waiting_us: int = 0
    frame: str = ""
    known: dict[str, int] = {}
    names: list[str] = []
    revisions: int = 0
    after: int = 0


class _Memory(msgspec.Struct):
    cells: list[_Cell]
    evicted: int = 0
    session: str = ""


class Pairs(KeyedStep[_Cell]):
    """Counts by key within one sorting session."""

    def __init__(self, rule: Rule, declared: PairStep) -> None:
        super().__init__(rule, _Cell, of="pairs")
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
            cell = _Cell(key=key, known={}, after=self._cells.evicted)
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
        kept = _Memory(cells=list(self._cells), evicted=self._cells.evicted, session=self._session)
        return msgspec.to_builtins(kept)  # type: ignore[no-any-return]  # a struct is a dict

    def load(self, memory: Mapping[str, Any]) -> None:
        kept = read_memory(memory, _Memory, of="pairs")
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

    def _known(self, cell: _Cell, record: Record) -> bool:
        """Return whether the record refines a thing that was counted already."""
        name = record.fields.get("name")
        if "revision" not in record.fields or not isinstance(name, str):
            return False
        newest_us = cell.known.pop(name, None)
        cell.known[name] = record.at_us if newest_us is None else max(newest_us, record.at_us)
        if newest_us is None:
            self._forget_names(cell)
        return newest_us is not None

    def _forget_names(self, cell: _Cell) -> None:
        """Those used longest ago, as far as nothing of their time can come."""
        known = cell.known
        while len(known) > _LEAST_NAMES:
            first = next(iter(known))
            if known[first] >= self._now_us and len(known) <= _MOST_NAMES:
                break
            del known[first]

    def _count(self, cell: _Cell, record: Record) -> list[Output]:
        found: list[Output] = []
        if cell.waiting and self._too_far(cell, record):
            found += self._alone(cell)
        cell.seen += 1
        cell.revisions = 0
        if cell.waiting:
            return found + self._pair(cell, record)
        cell.waiting, cell.waiting_us = record.id, record.at_us
        cell.frame = frame_of(record)
        if self._within_us:
            self._cells.move(cell.key, cell, due_us=record.at_us + self._within_us + 1)
        return [*found, self._tell(cell, record, state=ALONE)] if self._changes else found

    def _too_far(self, cell: _Cell, record: Record) -> bool:
        return bool(self._within_us) and abs(record.at_us - cell.waiting_us) > self._within_us

    def _pair(self, cell: _Cell, record: Record) -> list[Output]:
        cell.pairs += 1
        told = self._tell(cell, record, state=PAIR)
        cell.waiting, cell.due_us = "", NEVER_US
        return [told]

    def _alone(self, cell: _Cell | None) -> Iterator[Output]:
        """Return the outputs of a record whose partner will not come."""
        if cell is None or not cell.waiting:
            return
        waiting = cell.waiting
        cell.waiting, cell.due_us = "", NEVER_US
        if not self._changes:
            yield self._output(
                cell, state=ALONE, span=(cell.waiting_us, cell.waiting_us), causes=(waiting,)
            )

    def _tell(self, cell: _Cell, record: Record, *, state: str) -> Output:
        cell.frame = frame_of(record) or cell.frame
        cell.revisions += 1
        start_us = min(cell.waiting_us, record.at_us) if cell.waiting else record.at_us
        causes = tuple(dict.fromkeys(one for one in (cell.waiting, record.id) if one))
        return self._output(cell, state=state, span=(start_us, record.at_us), causes=causes)

    def _output(
        self, cell: _Cell, *, state: str, span: tuple[int, int], causes: tuple[str, ...]
    ) -> Output:
        values: dict[str, Scalar] = {
            "seen": cell.seen, "pairs": cell.pairs, "left_over": cell.seen - 2 * cell.pairs,
            "pair_seen": state,
        }  # fmt: skip
        if self._session:
            values["session"] = self._session
        if cell.frame:
            values["frame"] = cell.frame
        again = f"{cell.after}." if cell.after else ""
        return Output(
            name=f"{self._session}#{again}{cell.seen}",
            key=self._key(cell),
            action="change" if self._changes else "final", start_us=span[0], end_us=span[1],
            values=values, causes=causes, revision=cell.revisions if self._changes else 0,
        )  # fmt: skip
