"""The twin over a recorded span, raising anew what it raises; two of them against each other.

1. What the twin raised when the span was recorded (a picture that could not be judged,
   discrepancies) is passed over, because it followed from the answers: the fold raises it anew.
   What time brings is asked at the arrival of each entry.
2. What people and the factory did stands as recorded, orders and their releases included.
3. Two states are held against each other place by place, in what they say; probabilities and the
   names of events and packages are left aside.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from lineside.core import Plant
from lineside.streams import EVENT_TYPE, Event
from lineside.twin.fold import apply
from lineside.twin.orders import due
from lineside.twin.state import Evidence, LineState

_RAISED = ("picture", "discrepancy")
_MOST_ROUNDS = 10

Facet = tuple[Any, Evidence]


def raised_anew(kind: str, subject: str) -> bool:
    """Return whether an entry of the log is what the twin itself raised."""
    return kind == EVENT_TYPE and subject in _RAISED


class TwinRun:
    """One twin over recorded events."""

    def __init__(self, state: LineState, *, plant: Plant) -> None:
        self.state = state
        self._plant = plant

    def take(self, event: Event, *, arrived_at: datetime) -> list[Event]:
        """Fold an event; what the twin raises before it, by time, and because of it."""
        brought = due(self.state, now=arrived_at, plant=self._plant)
        raised = [one for one in brought if one.type == EVENT_TYPE]
        raised = [*raised, *self._fold(raised)]
        return [*raised, *self._fold([event])]

    def fold(self, event: Event) -> None:
        """Fold an event of the record as it stands, what the twin raised then among them."""
        self.state = apply(self.state, event, plant=self._plant).state

    def _fold(self, events: list[Event]) -> list[Event]:
        found: list[Event] = []
        for _ in range(_MOST_ROUNDS):
            fresh: list[Event] = []
            for event in events:
                applied = apply(self.state, event, plant=self._plant)
                self.state = applied.state
                fresh += applied.raised
            if not fresh:
                break
            found += fresh
            events = fresh
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinChange:
    """A place of the twin that two runs did not agree about.

    Attributes:
        path: as ``lineside trace`` and ``/api/v1/twin`` take it, ``slots/A1``.
        first_at: capture time of what first set them apart.
        before, after: what each said then; None where there was nothing.
        before_evidence, after_evidence: event, frame and package that each led back to.
        times: stretches in which they differed.
        stands: whether they still differ at the end of the span.
    """

    path: str
    first_at: datetime
    before: Any
    after: Any
    before_evidence: Evidence
    after_evidence: Evidence
    times: int = 1
    stands: bool = True


@dataclass(slots=True, kw_only=True)
class TwinDifferences:
    """Two states as they go on, place by place."""

    _found: dict[str, TwinChange] = field(default_factory=dict)
    _apart: set[str] = field(default_factory=set)
    _last_states: tuple[LineState, LineState] | None = None

    def look(self, before: LineState, after: LineState, *, at: datetime) -> None:
        """Hold two states against each other after an event of capture time ``at``."""
        if (
            self._last_states is not None
            and self._last_states[0] is before
            and self._last_states[1] is after
        ):
            return
        self._last_states = (before, after)
        one, other = dict(facets(before)), dict(facets(after))
        apart = {
            path
            for path in one.keys() | other.keys()
            if _value_at(one, path) != _value_at(other, path)
        }
        for path in sorted(apart - self._apart):
            self._note(path, one=one.get(path, _NOTHING), other=other.get(path, _NOTHING), at=at)
        self._apart = apart

    def finish(self) -> tuple[TwinChange, ...]:
        """Every place they did not agree about, in order of time."""
        found = [replace(one, stands=path in self._apart) for path, one in self._found.items()]
        return tuple(sorted(found, key=lambda one: (one.first_at, one.path)))

    def _note(self, path: str, *, one: Facet, other: Facet, at: datetime) -> None:
        known = self._found.get(path)
        if known is not None:
            self._found[path] = replace(known, times=known.times + 1)
            return
        self._found[path] = TwinChange(
            path=path,
            first_at=at,
            before=one[0],
            after=other[0],
            before_evidence=one[1],
            after_evidence=other[1],
        )


_NOTHING: Facet = (None, Evidence())


def _value_at(facets_: dict[str, Facet], path: str) -> Any:  # noqa: ANN401  JSON of any shape
    return facets_.get(path, _NOTHING)[0]


def facets(state: LineState) -> Iterator[tuple[str, Facet]]:
    """Yield the values of the twin by path, each with its evidence."""
    yield "picture", ({"state": state.picture.state}, state.picture.evidence)
    for slot in state.slots.values():
        told = {"seen": slot.seen.value, "colour": slot.colour, "possible": list(slot.possible)}
        yield f"slots/{slot.id}", ({k: v for k, v in told.items() if v}, slot.evidence)
    for colour in state.colours.values():
        stock = {"seen": colour.seen.value, "present": colour.present}
        yield f"colours/{colour.colour}", (stock, colour.evidence)
    for order in state.orders:
        steps = [step.name for step in order.steps]
        last = order.steps[-1] if order.steps else None
        evidence = Evidence(at=last.at, event=last.event, frame=last.frame) if last else Evidence()
        lived = {"status": order.status.value, "slot": order.slot, "steps": steps}
        yield f"orders/{order.id}", (lived, evidence)
    for item in state.discrepancies:
        slot_state = state.slots.get(item.slot)
        evidence = slot_state.evidence if slot_state else Evidence()
        yield (
            f"discrepancies/{item.slot or item.camera}",
            ({"seen": item.seen, "reported": item.reported}, evidence),
        )
