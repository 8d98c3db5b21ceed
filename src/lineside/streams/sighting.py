"""The step ``sighting``: one event for each thing that passes.

Each key has its own memory (``sighting_view``). A sighting is given out when nothing can change it
any more: its label was away for ``gap_s``, or another one opened. With ``emit = "changes"`` it is
told when it opens (``begun``, revision 1) and when it is over (``ended``, revision 2).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lineside.core import Habits, InvalidError, Rule, Scalar, SightingStep
from lineside.streams.cells import Cells
from lineside.streams.contract import Output, Record
from lineside.streams.place_memory import PlaceMemory
from lineside.streams.sighting_runs import Run, verdict
from lineside.streams.sighting_view import Told, View

_MEMORY = "lineside.sighting-memory/2"
Key = tuple[Scalar, ...]


class Sightings:
    """See the module; of one rule."""

    def __init__(self, rule: Rule, declared: SightingStep) -> None:
        """Raise ``InvalidError`` where the rule names a learned file that nobody has read."""
        if declared.learned and declared.habits is None:
            raise InvalidError(
                f"what {declared.learned!r} says is not known", where=f"rule {rule.id}",
                fix="Read the plant file with its folder, or write dwell_s and gap_s.",
            )  # fmt: skip
        set_by_hand = Habits(dwell_s=declared.dwell_s, gap_s=declared.gap_s)
        self._habits = declared.habits or set_by_hand
        self._names, self._step = rule.key, declared
        self._changes = rule.emit == "changes"
        self._cells: Cells[View] = Cells(rule.most_keys)
        self._memory = PlaceMemory(
            schema=_MEMORY, of="sighting", where=f"rule {rule.id}", most=rule.most_keys,
            lost="what was in view then is told twice or not at all",
            load=lambda one: View(self._step, self._habits).loaded(one),
        )  # fmt: skip

    @property
    def evicted(self) -> int:
        """How many keys were forgotten to make room."""
        return self._cells.evicted

    def feed(self, record: Record, *, key: Key) -> Iterable[Output]:
        """Take one record."""
        made = list(self.advance(record.at_us))
        view = self._cells.use(key)
        if view is None:
            view = View(self._step, self._habits, key=key)
            made += self._forgotten(self._cells.add(key, view))
        made += self._told(view.take(record), key=key)
        self._cells.move(key, view, due_us=view.next_us())
        return made

    def advance(self, now_us: int) -> Iterable[Output]:
        """Decide what no later frame can change."""
        if now_us < self._cells.next_us:
            return ()
        made: list[Output] = []
        for name, view in self._cells.due(now_us):
            made += self._told(view.advance(view.due_us), key=view.key)
            view.due_us = view.next_us()
            self._cells.keep(name, view)
        return made

    def dump(self) -> dict[str, Any]:
        """Its memory, keys in order of use."""
        return self._memory.kept(self._cells)

    def load(self, memory: Mapping[str, Any]) -> None:
        """Go on from a dump."""
        self._cells = self._memory.taken_up(memory)

    def _forgotten(self, view: View | None) -> Iterator[Output]:
        """What is told of a key that had to make room."""
        if view is not None:
            yield from self._told(view.finish(), key=view.key)

    def _told(self, told: Iterable[Told], *, key: Key) -> Iterator[Output]:
        for action, run in told:
            if self._changes:
                yield self._output(run, key=key, action=action)
            elif action == "ended":
                yield self._output(run, key=key, action="final")

    def _output(self, run: Run, *, key: Key, action: str) -> Output:
        return Output(
            name=str(run.first_us),
            key=dict(zip(self._names, key, strict=True)),
            action=action,
            start_us=run.first_us,
            end_us=run.last_us,
            values=self._values(run),
            causes=tuple(dict.fromkeys((run.first_id, run.best_look().id, run.last_id))),
            revision=("final", "begun", "ended").index(action),
        )

    def _values(self, run: Run) -> dict[str, Scalar]:
        found = verdict(run, least=self._step.least_probability)
        best = run.best_look()
        return {
            "label": found.label,
            "probability": round(found.probability, 6),
            "runner_up": found.runner_up,
            "runner_up_probability": round(found.runner_up_probability, 6),
            "dwell_s": (run.last_us - run.first_us) / 1e6,
            "frames": run.inside.frames,
            "frame": best.frame,
            "first_frame": run.first_frame,
            "last_frame": run.last_frame,
            "best_score": run.best.score,
            "best_after_s": (best.at_us - run.first_us) / 1e6,
        }
