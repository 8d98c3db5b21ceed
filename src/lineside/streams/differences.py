"""Differences of two runs over the same recording: answers to frames, and events.

1. An answer is *identical* where all that is said of the picture is the same to the last bit; which
   package said it, from which data, and how long it took are left aside.
2. A *decision* differs where the picture's state, a label's verdict, a count, the limit an anomaly
   passes, or a box differs. Figures that move without that are counted, not listed.
3. Two events are the same thing where rule, key, name, revision and action agree; of the hub's own
   (no name) where subject, action, slot and time do. Ids and causes, which name packages, are left
   aside. Of another package fractions such as a mean probability move with every event: those that
   differ in nothing else are counted as figures.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np

from lineside.core import Digest, encode, to_plain
from lineside.streams.event import Event
from lineside.vision import BoxAnswer, Prediction, StageTimes
from lineside.vision.detections import box_iou

MOST_WAITING = 50_000
"""Events of one side that wait for their counterpart; beyond, the oldest has none."""

_SAME_BOX = 0.5
_NAMES_PACKAGES = ("causes", "cause", "package", "evidence", "report")


class Similarity(StrEnum):
    """The similarity of two answers to one frame."""

    IDENTICAL = "identical"
    FIGURES = "figures"
    DECISION = "decision"


class Kind(StrEnum):
    """The counterpart of an event on the other side."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    FIGURES = "figures"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedEvent:
    """An event of one side."""

    id: str
    at: datetime
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventChange:
    """An event that one side says and the other does not, or otherwise.

    Attributes:
        before: as it is with what was recorded; None for what is added.
        after: as it is with what is tried; None for what is removed.
    """

    rule: str
    change: Kind
    before: ComparedEvent | None = None
    after: ComparedEvent | None = None

    @property
    def at(self) -> datetime:
        """The end of the stretch it speaks of."""
        told = self.after or self.before
        assert told is not None  # noqa: S101  one of them is always there
        return told.at


def similarity(before: Prediction, after: Prediction) -> Similarity:
    """Return the similarity of two answers to one frame by the rules of the module."""
    if _comparable(before) == _comparable(after):
        return Similarity.IDENTICAL
    if _verdicts(before) != _verdicts(after) or not _same_boxes(before.boxes, after.boxes):
        return Similarity.DECISION
    return Similarity.FIGURES


def largest_move(before: Prediction, after: Prediction) -> float:
    """The largest difference of a label's probability that both name; 0 where there is none."""
    known = {answer.name: answer.probability for answer in before.labels}
    moves = [abs(a.probability - known[a.name]) for a in after.labels if a.name in known]
    return max(moves, default=0.0)


def decided(prediction: Prediction) -> dict[str, Any]:
    """Return the decisions of a prediction as plain JSON, without empty fields."""
    fields: dict[str, Any] = {"state": prediction.state.value, "reason": prediction.reason}
    fields["labels"] = [
        {"name": one.name, "decision": one.decision.value, "probability": one.probability}
        for one in prediction.labels
    ]
    fields["boxes"] = [to_plain(box) for box in prediction.boxes]
    if prediction.count is not None:
        count = to_plain(prediction.count)
        fields["count"] = {
            name: count[name] for name in ("value", "low", "high", "more", "decision")
        }
    if prediction.mask is not None:
        fields["mask"] = {"share": prediction.mask.share}
    if prediction.anomaly is not None:
        fields["anomaly"] = to_plain(prediction.anomaly)
    return {name: value for name, value in fields.items() if value not in ("", [])}


def _comparable(prediction: Prediction) -> bytes:
    return encode(replace(prediction, latency_ms=StageTimes(), package=Digest(""), dataset=""))


def _verdicts(prediction: Prediction) -> tuple[object, ...]:
    anomaly = prediction.anomaly
    return (
        prediction.state,
        {answer.name: answer.decision for answer in prediction.labels},
        prediction.count,
        None if anomaly is None else anomaly.decision,
    )


def _same_boxes(before: Iterable[BoxAnswer], after: Iterable[BoxAnswer]) -> bool:
    """Return whether each box has its own of the same label and verdict at the same place."""
    left = list(after)
    for box in before:
        found = next((one for one in left if _same_box(box, one)), None)
        if found is None:
            return False
        left.remove(found)
    return not left


def _same_box(one: BoxAnswer, other: BoxAnswer) -> bool:
    alike = (one.label, one.decision) == (other.label, other.decision)
    return alike and bool(box_iou(_corners(one), _corners(other))[0, 0] >= _SAME_BOX)


def _corners(box: BoxAnswer) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([[box.x0_px, box.y0_px, box.x1_px, box.y1_px]], np.float64)


@dataclass(slots=True, kw_only=True)
class EventDifferences:
    """Events of both sides as they come, each matched with its counterpart.

    Attributes:
        most: changes that are listed; all are counted.
        fractions: what an event is that differs in fractions alone: ``changed``, or ``figures``,
            which are counted and not listed.
    """

    most: int
    fractions: Kind = Kind.CHANGED
    same: int = 0
    counts: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    listed: list[EventChange] = field(default_factory=list)
    _before: dict[bytes, Event] = field(default_factory=dict)
    _after: dict[bytes, Event] = field(default_factory=dict)

    def take(self, *, before: Iterable[Event], after: Iterable[Event]) -> None:
        """The events of both sides after the same entry."""
        for event in before:
            name = _name(event)
            other = self._after.pop(name, None)
            if other is None:
                self._before[name] = event
            else:
                self._settle(event, other)
        for event in after:
            name = _name(event)
            other = self._before.pop(name, None)
            if other is None:
                self._after[name] = event
            else:
                self._settle(other, event)
        self._evict()

    def finish(self) -> tuple[EventChange, ...]:
        """Nothing more comes; the changes that are listed, in order of time."""
        for event in self._before.values():
            self._settle(event, None)
        for event in self._after.values():
            self._settle(None, event)
        self._before, self._after = {}, {}
        return tuple(sorted(self.listed, key=lambda one: (one.at, one.rule)))

    @property
    def changed(self) -> int:
        """Number of differences, listed or not, figures aside."""
        return sum(self.counts.values()) - self.counts[Kind.FIGURES]

    def _evict(self) -> None:
        while len(self._before) > MOST_WAITING:
            self._settle(self._before.pop(next(iter(self._before))), None)
        while len(self._after) > MOST_WAITING:
            self._settle(None, self._after.pop(next(iter(self._after))))

    def _settle(self, before: Event | None, after: Event | None) -> None:
        if before is not None and after is not None:
            if _values(before) == _values(after):
                self.same += 1
                return
            alike = _values(before, fractions=False) == _values(after, fractions=False)
            kind = self.fractions if alike else Kind.CHANGED
        else:
            kind = Kind.ADDED if before is None else Kind.REMOVED
        self.counts[kind] += 1
        if kind is not Kind.FIGURES and len(self.listed) < self.most:
            rule = next(one.subject for one in (after, before) if one is not None)
            self.listed.append(
                EventChange(
                    rule=rule, change=kind, before=_compared(before), after=_compared(after)
                )
            )


def _compared(event: Event | None) -> ComparedEvent | None:
    if event is None:
        return None
    return ComparedEvent(id=event.id, at=event.time, data=to_plain(event.data))


def _name(event: Event) -> bytes:
    """By which an event is found on the other side."""
    data = event.data
    facts: list[Any] = [event.subject, data.get("action"), data.get("revision")]
    if "name" in data:
        facts += [data["name"], data.get("key")]
    else:
        facts += [data.get("slot"), data.get("since"), event.time.isoformat()]
    return encode(facts)


def _values(event: Event, *, fractions: bool = True) -> bytes:
    told = {name: value for name, value in event.data.items() if name not in _NAMES_PACKAGES}
    if not fractions and isinstance(values := told.get("values"), Mapping):
        told["values"] = {k: v for k, v in values.items() if not isinstance(v, float)}
    return encode(told)
