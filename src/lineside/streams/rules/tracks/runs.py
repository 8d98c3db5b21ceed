"""Sightings out of smoothed frames: runs of one label, with short absences closed.

1. A run begins as a candidate; it becomes the open sighting once the frames around it leave room
   for ``dwell_s``: less is no thing, whatever was said. A sighting that was open ends then;
   but where neither can be named, both are of one thing, and what cannot be named must be the
   surer to have been there.
2. Frames of nothing, or of another label that never becomes a sighting, do not end a sighting
   unless its own label is away for ``gap_s``.
3. The label is that of the most evidence over the whole stretch, flickering frames included.
   Frames of one thing err together more than chance would have it, so n looks count as
   n / (1 + (n - 1) r), r = 0.2 (Kish, *Survey Sampling*, 1965, section 8.2): at most five.


The best frame of an object is the surest; of equals the one nearest the middle of its stay.
Many packages are equally sure of most frames, and at entry and exit a thing is half in view. Where
the middle lies is known at the end only, so equals are kept: at most ``MOST_EQUAL``, evenly spread
over the stay, and so one within a ``MOST_EQUAL``-th of the stay of the nearest.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lineside.streams.rules.contract import UNKNOWN

MOST_EQUAL = 64
_DECIMALS = 6  # as the score is told; what is less is noise of the arithmetic


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One frame: when, the id of its record, the picture's id."""

    at_us: int
    id: str
    frame: str


@dataclass(slots=True, kw_only=True)
class BestFrame:
    """Fed frame by frame, in order of time.

    Attributes:
        score: the highest so far, 0-1; below 0 before the first.
        equals: how many frames had it.
        every: each how-manieth of them is kept.
        looks: those kept, in order of time.
    """

    score: float = -1.0
    equals: int = 0
    every: int = 1
    looks: list[Look] = field(default_factory=list)

    def see(self, look: Look, *, score: float) -> None:
        """One frame more."""
        told = round(score, _DECIMALS)
        if told < self.score:
            return
        if told > self.score:
            self.score, self.equals, self.every, self.looks = told, 0, 1, []
        if self.equals % self.every == 0:
            self.looks.append(look)
        self.equals += 1
        self._thin()

    def absorb(self, later: "BestFrame") -> None:
        """The frames of another, all of them later."""
        if later.score > self.score:
            self.score, self.equals, self.every = later.score, later.equals, later.every
            self.looks = later.looks
        elif later.score == self.score:
            self.equals += later.equals
            self.every = max(self.every, later.every)
            self.looks = self.looks + later.looks
            self._thin()

    def chosen(self, *, first_us: int, last_us: int) -> Look:
        """Of a stay from ``first_us`` to ``last_us``; at least one frame was seen.

        Of two equally near the middle the earlier.
        """
        return min(self.looks, key=lambda one: (abs(2 * one.at_us - first_us - last_us), one.at_us))

    @classmethod
    def loaded(cls, memory: Mapping[str, Any]) -> "BestFrame":
        """From ``dataclasses.asdict``."""
        return cls(**{**memory, "looks": [Look(**one) for one in memory["looks"]]})

    def _thin(self) -> None:
        while len(self.looks) > MOST_EQUAL:
            self.looks, self.every = self.looks[::2], 2 * self.every


ALIKE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothedFrame:
    """One frame after smoothing.

    Attributes:
        answer: a label, ``BLANK`` or ``EDGE``.
        present: chance that a thing was in view.
        weight: how much the frame counts, 0-1.
        evidence: label → weighed logarithm of its likelihood over that of one not said at all.
        scores: label → share of 1, as the frame said it.
    """

    at_us: int
    id: str
    frame: str
    answer: str
    present: float
    weight: float
    evidence: Mapping[str, float]
    scores: Mapping[str, float]


@dataclass(slots=True, kw_only=True)
class Totals:
    """Evidence of some frames."""

    frames: int = 0
    weight: float = 0.0
    evidence: dict[str, float] = field(default_factory=dict)

    def add(self, seen: SmoothedFrame) -> None:
        """One frame more."""
        self.frames += 1
        self.weight += seen.weight
        for label, found in seen.evidence.items():
            self.evidence[label] = self.evidence.get(label, 0.0) + found

    def absorb(self, other: "Totals") -> None:
        """All frames of another."""
        self.frames += other.frames
        self.weight += other.weight
        for label, found in other.evidence.items():
            self.evidence[label] = self.evidence.get(label, 0.0) + found


@dataclass(slots=True, kw_only=True)
class Run:
    """A thing in view, or what may become one.

    Attributes:
        before_us: the frame before it; None where there was none.
        around_us: the latest time at which it may still have been in view.
        best: which frame shows it best.
        inside, since: frames from first to last, and those after the last.
    """

    label: str
    first_us: int
    last_us: int
    first_id: str
    last_id: str
    first_frame: str
    last_frame: str
    before_us: int | None
    around_us: int
    ended: bool = False
    present: float = 0.0
    best: BestFrame = field(default_factory=BestFrame)
    inside: Totals = field(default_factory=Totals)
    since: Totals = field(default_factory=Totals)

    def extend(self, seen: SmoothedFrame) -> None:
        """Its label was seen once more."""
        self.since.add(seen)
        self.inside.absorb(self.since)
        self.since = Totals()
        self.last_us, self.last_id, self.last_frame = seen.at_us, seen.id, seen.frame
        self.around_us, self.ended = seen.at_us, False
        self.present = max(self.present, seen.present)
        look = Look(at_us=seen.at_us, id=seen.id, frame=seen.frame)
        self.best.see(look, score=_score(seen, label=self.label))

    def pass_by(self, seen: SmoothedFrame) -> None:
        """A frame that shows nothing or something else."""
        self.since.add(seen)
        if not self.ended:
            self.around_us, self.ended = seen.at_us, True

    def join(self, other: "Run") -> None:
        """Another run turned out to be of the same thing, which has no name."""
        self.label = UNKNOWN
        self.inside.absorb(other.inside)
        self.since = other.since
        self.last_us, self.last_id, self.last_frame = other.last_us, other.last_id, other.last_frame
        self.around_us, self.ended = other.around_us, other.ended
        self.present = max(self.present, other.present)
        self.best.absorb(other.best)

    def best_look(self) -> Look:
        """The frame that shows it best, as far as is known now."""
        return self.best.chosen(first_us=self.first_us, last_us=self.last_us)

    def span_s(self) -> float:
        """Seconds in which it may have been in view."""
        if self.before_us is None:
            return math.inf
        return (self.around_us - self.before_us) / 1e6

    def dump(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @classmethod
    def loaded(cls, memory: Mapping[str, Any]) -> "Run":
        """From a dump."""
        totals = {name: Totals(**memory[name]) for name in ("inside", "since")}
        return cls(**{**memory, **totals, "best": BestFrame.loaded(memory["best"])})


def _score(seen: SmoothedFrame, *, label: str) -> float:
    if label != UNKNOWN:
        return seen.scores.get(label, 0.0)
    return max((score for name, score in seen.scores.items() if name), default=0.0)


def begun(seen: SmoothedFrame, *, before_us: int | None) -> Run:
    """A candidate of one frame."""
    run = Run(
        label=seen.answer, first_us=seen.at_us, last_us=seen.at_us, first_id=seen.id,
        last_id=seen.id, first_frame=seen.frame, last_frame=seen.frame, before_us=before_us,
        around_us=seen.at_us,
    )  # fmt: skip
    run.extend(seen)
    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The label of a run, its probability, and the runner-up."""

    label: str
    probability: float
    runner_up: str
    runner_up_probability: float


def verdict(run: Run, *, least: float) -> Verdict:
    """The label of most evidence, ``unknown`` where it is less sure than ``least``."""
    chances = _chances(run.inside)
    ranked = sorted(chances, key=lambda label: (-chances[label], label))
    first = ranked[0] if ranked else UNKNOWN
    sure = run.present * chances.get(first, 0.0)
    if run.label == UNKNOWN or sure < least or not ranked:
        return Verdict(
            label=UNKNOWN, probability=run.present, runner_up=first if ranked else "",
            runner_up_probability=sure,
        )  # fmt: skip
    second = ranked[1] if len(ranked) > 1 else ""
    return Verdict(
        label=first, probability=sure, runner_up=second,
        runner_up_probability=run.present * chances.get(second, 0.0),
    )  # fmt: skip


def _chances(totals: Totals) -> dict[str, float]:
    """Label → chance, given that it is one of them."""
    if not totals.evidence:
        return {}
    shrunk = 1.0 / (1.0 + max(0.0, totals.weight - 1.0) * ALIKE)
    top = max(totals.evidence.values())
    raised = {label: math.exp((found - top) * shrunk) for label, found in totals.evidence.items()}
    whole = sum(raised.values())
    return {label: one / whole for label, one in raised.items()}
