"""Smoothing of flickering answers: forward-backward in continuous time.

1. Hidden states: nothing (``BLANK``), something half in view (``EDGE``), and each label, its stay
   parted into three phases so that a stay much shorter than ``dwell_s`` is unlikely (Erlang).
   ``UNKNOWN`` stands among the labels: a thing that is none of them.
2. They change at rates per second, so nothing depends on the frame rate: between two frames stands
   the matrix exponential of the rates over the seconds that passed. All labels are alike to the
   rates; so eight states (nothing, edge, one label, the others) tell every entry.
3. What a frame tells is its calibrated scores seen through the flicker: the chance that a frame
   says k while i is in view. Frames closer than ``look_s`` err alike, so each counts for the share
   of ``look_s`` that passed since the one before: thirty frames in a second say no more than ten.

Rabiner, *A tutorial on hidden Markov models*, Proc. IEEE 77 (1989), equations 19 to 27. Plain
Python floats in a fixed order: the same answers give the same figures on every machine.

The scores of one frame, gathered from its records: label → share of 1.

Records of one frame follow one another and share the part of their id before ``#``. ``classify``
answers and the classes of a region shut each other out, so their probabilities are shares already.
Presence labels and boxes do not; of these, shares of "only this" and "none" are made by their odds.
The reference's own message, ``image`` and a percentage, is read too.

Sightings out of smoothed frames: runs of one label, with short absences closed.

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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

from lineside.core.plant_rules import DwellTimes, Scalar, TrackStep
from lineside.streams.rules.contract import UNKNOWN, Record

BLANK = ""
EDGE = "\x00edge"
PHASES = 3
_LUMPED = 2 + 2 * PHASES
_LEAST = 1e-12
_LONGEST_S = 1e5
# Steps of two percent: the exponentials of a camera's uneven intervals are found in the cache.
_STEP = math.log(1.02)
Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The answer of one frame.

    Attributes:
        id: of the frame's first record.
        frame: the picture's id.
        scores: label → share of 1; ``BLANK`` for nothing; what is missing to 1 says nothing.
    """

    at_us: int
    id: str
    frame: str = ""
    scores: Mapping[str, float]


Likelihoods = tuple[float, float, tuple[float, ...]]
"""Of BLANK, EDGE and each label; only their ratios mean something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """Chances of going from state to state within some seconds, one label speaking for all.

    Attributes:
        free: BLANK and EDGE among themselves.
        out: from BLANK and EDGE to each phase of one label.
        home: from each phase to BLANK and to EDGE.
        across: from each phase of a label to each of one other.
        more: how much likelier it is to stay with the same label than to go to one other.
    """

    free: Matrix
    out: Matrix
    home: Matrix
    across: Matrix
    more: Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """The likelihood of each state at a frame, up to a common factor.

    Attributes:
        phases: for each phase, of each label.
    """

    blank: float
    edge: float
    phases: tuple[Sequence[float], Sequence[float], Sequence[float]]

    def labels(self) -> list[float]:
        """Of each label, whatever its phase."""
        return [sum(three) for three in zip(*self.phases, strict=True)]


def first_belief(labels: int) -> Belief:
    """Before the first frame: more likely nothing than something."""
    none, some = [0.0] * labels, [0.3 / max(1, labels)] * labels
    return Belief(blank=0.6, edge=0.1, phases=(none, none, some))


def widened(belief: Belief, labels: int) -> Belief:
    """The same with labels added behind that were not known so far, and so not in view."""
    first, second, third = ([*one, *[0.0] * (labels - len(one))] for one in belief.phases)
    return Belief(blank=belief.blank, edge=belief.edge, phases=(first, second, third))


def moves(dwell_times: DwellTimes, *, seconds: float, labels: int) -> Moves:
    """Between two frames ``seconds`` apart, among so many labels."""
    steps = round(math.log(min(max(seconds, 1e-3), _LONGEST_S)) / _STEP)
    return _moves(dwell_times.dwell_s, dwell_times.gap_s, steps=steps, labels=labels)


@lru_cache(maxsize=4096)
def _moves(dwell_s: float, gap_s: float, *, steps: int, labels: int) -> Moves:
    rates = _rates(dwell_s, gap_s, labels=labels)
    chance = _exponential(rates, seconds=math.exp(steps * _STEP))
    one, rest = range(2, 2 + PHASES), range(2 + PHASES, _LUMPED)
    others = max(1, labels - 1)
    return Moves(
        free=tuple(tuple(chance[i][j] for j in (0, 1)) for i in (0, 1)),
        out=tuple(tuple(chance[i][j] for j in one) for i in (0, 1)),
        home=tuple(tuple(chance[i][j] for j in (0, 1)) for i in one),
        across=tuple(tuple(chance[i][j] / others for j in rest) for i in one),
        more=tuple(tuple(chance[i][j] - chance[i][j + PHASES] / others for j in one) for i in one),
    )


def _rates(dwell_s: float, gap_s: float, *, labels: int) -> list[list[float]]:
    """Per second: nothing lasts about two gaps, an edge a third and a stay four of a dwell."""
    come, settle, leave = 1 / (2 * gap_s), 3 / dwell_s, 1 / (2 * dwell_s)
    ripen = (PHASES - 1) / (2 * dwell_s)
    rates = [[0.0] * _LUMPED for _ in range(_LUMPED)]
    one, rest = 2, 2 + PHASES
    others = labels - 1
    for start, other, rate in ((0, 1, come), (1, 0, settle)):
        rates[start][other] += rate / 2
        rates[start][one] += rate / 2 / labels
        rates[start][rest] += rate / 2 * others / labels
    for first, away, share in ((one, rest, 1.0 if others else 0.0), (rest, one, 0.0)):
        last = first + PHASES - 1
        for phase in range(first, last):
            rates[phase][phase + 1] += ripen
        rates[last][0] += 0.4 * leave
        rates[last][1] += 0.4 * leave
        if others:
            back = share if first == one else 1 / others
            rates[last][away] += 0.2 * leave * back
            rates[last][rest] += 0.2 * leave * (1 - back)
    for state in range(_LUMPED):
        rates[state][state] -= sum(rates[state])
    return rates


def _exponential(rates: Sequence[Sequence[float]], *, seconds: float) -> list[list[float]]:
    """exp(rates * seconds): Taylor's series of a small part, squared back up."""
    size = len(rates)
    largest = max(-rates[state][state] for state in range(size)) * seconds
    halvings = max(0, math.ceil(math.log2(max(largest, _LEAST))) + 4)
    part = seconds / 2**halvings
    small = [[rate * part for rate in row] for row in rates]
    total = [[float(i == j) for j in range(size)] for i in range(size)]
    term = total
    for order in range(1, 9):
        term = [[cell / order for cell in row] for row in _product(term, small)]
        total = [
            [a + b for a, b in zip(x, y, strict=True)] for x, y in zip(total, term, strict=True)
        ]
    for _ in range(halvings):
        total = _product(total, total)
    return total


def _product(
    left: Sequence[Sequence[float]], right: Sequence[Sequence[float]]
) -> list[list[float]]:
    columns = list(zip(*right, strict=True))
    return [[math.fsum(map(float.__mul__, row, column)) for column in columns] for row in left]


def likelihoods(
    scores: Mapping[str, float], *, labels: Sequence[str], dwell_times: DwellTimes
) -> Likelihoods:
    """Return the likelihood of a frame's answer in each state, in the labels' order; above 0."""
    states = (BLANK, *(label for label in labels if label != UNKNOWN))
    known = [scores.get(state, 0.0) for state in states]
    even = max(0.0, 1.0 - sum(known)) / len(states)
    observed = dict(zip(states, (share + even for share in known), strict=True))
    something = 1.0 - observed[BLANK]
    floor = dwell_times.flicker / len(states)
    evidence_of = {
        state: _likelihood(state, observed, dwell_times=dwell_times, floor=floor)
        for state in states
    }
    evidence_of[UNKNOWN] = _unknown(
        something, labels=len(states) - 1, dwell_times=dwell_times, floor=floor
    )
    return evidence_of[BLANK], 1.0 / len(states), tuple(evidence_of[label] for label in labels)


def _likelihood(
    state: str, observed: Mapping[str, float], *, dwell_times: DwellTimes, floor: float
) -> float:
    row = dwell_times.confusion.get(state)
    if row is None:
        return (1.0 - dwell_times.flicker) * observed[state] + floor
    return max(_LEAST, sum(share * row.get(said, _LEAST) for said, share in observed.items()))


def _unknown(something: float, *, labels: int, dwell_times: DwellTimes, floor: float) -> float:
    """A thing that is none of the labels is called each of them alike.

    Of fewer than eight it counts as of eight: it could not be told from flicker between two.
    """
    return (1.0 - dwell_times.flicker) * something / max(8, labels) + floor


def smoothed(
    start: Belief | None,
    evidence_of: Sequence[Likelihoods],
    *,
    steps_s: Sequence[float],
    dwell_times: DwellTimes,
) -> tuple[list[Belief], list[Belief]]:
    """Return the belief at each frame.

    Args:
        start: forward belief at the frame before the first; None before any.
        evidence_of: what each frame told, in order of time.
        steps_s: seconds from the frame before each; that of the first ever does not count.
        dwell_times: of what passes.

    Returns:
        Beliefs by all frames, and forward beliefs (by the frames up to each).
    """
    labels = len(evidence_of[0][2]) if evidence_of else 0
    ways = [moves(dwell_times, seconds=seconds, labels=labels) for seconds in steps_s]
    observed = [
        _weighed(one, by=weight_of(dwell_times, seconds=seconds))
        for one, seconds in zip(evidence_of, steps_s, strict=True)
    ]
    forward: list[Belief] = []
    belief = start
    for one, way in zip(observed, ways, strict=True):
        ahead = first_belief(labels) if belief is None else _backward_messages(belief, way)
        belief = _updated(ahead, one)
        forward.append(belief)
    return _backward(forward, observed, ways=ways), forward


def steps_between(times_us: Sequence[int], *, before_us: int | None) -> list[float]:
    """Seconds from frame to frame; the first ever stands alone."""
    alone = math.inf
    earlier = [before_us, *times_us[:-1]]
    return [
        alone if since is None else (at - since) / 1e6
        for at, since in zip(times_us, earlier, strict=True)
    ]


def weight_of(dwell_times: DwellTimes, *, seconds: float) -> float:
    """Return the weight of a frame that long after the previous one, 0-1."""
    return min(1.0, max(seconds, 1e-3) / dwell_times.look)


def _weighed(evidence_of: Likelihoods, *, by: float) -> Likelihoods:
    if by == 1.0:
        return evidence_of
    blank, edge, labels = evidence_of
    return blank**by, edge**by, tuple(chance**by for chance in labels)


def _backward_messages(belief: Belief, way: Moves) -> Belief:
    """The forward belief carried on to the next frame."""
    blank, edge = belief.blank, belief.edge
    sums = [sum(one) for one in belief.phases]
    flow = (blank, edge, *sums)
    free = [_into(flow, (*way.free, *way.home), column=to) for to in (0, 1)]
    drawn = [_into(flow, (*way.out, *way.across), column=to) for to in range(PHASES)]
    columns = tuple(zip(*way.more, strict=True))
    return Belief(blank=free[0], edge=free[1], phases=_mixed(belief.phases, columns, drawn=drawn))


def _into(flow: Sequence[float], rows: Matrix, *, column: int) -> float:
    """Return what flows into one state from all others."""
    return sum(amount * row[column] for amount, row in zip(flow, rows, strict=True))


def _behind(later: Belief, way: Moves) -> Belief:
    """Return the backward message of each frame: the evidence of the frames after it."""
    blank, edge = later.blank, later.edge
    sums = [sum(one) for one in later.phases]
    free = [
        blank * row[0] + edge * row[1] + sum(map(float.__mul__, sums, out))
        for row, out in zip(way.free, way.out, strict=True)
    ]
    drawn = [
        blank * home[0] + edge * home[1] + sum(map(float.__mul__, sums, row))
        for home, row in zip(way.home, way.across, strict=True)
    ]
    return Belief(blank=free[0], edge=free[1], phases=_mixed(later.phases, way.more, drawn=drawn))


def _mixed(
    phases: tuple[Sequence[float], Sequence[float], Sequence[float]],
    rows: Matrix,
    *,
    drawn: Sequence[float],
) -> tuple[list[float], list[float], list[float]]:
    """For each phase: what is drawn from everywhere, and more from the label's own phases."""
    first, second, third = (
        [from_all + x * row[0] + y * row[1] + z * row[2] for x, y, z in zip(*phases, strict=True)]
        for row, from_all in zip(rows, drawn, strict=True)
    )
    return first, second, third


def _updated(belief: Belief, evidence_of: Likelihoods) -> Belief:
    blank, edge, labels = evidence_of
    first, second, third = (list(map(float.__mul__, one, labels)) for one in belief.phases)
    return _scaled(belief.blank * blank, belief.edge * edge, phases=(first, second, third))


def _scaled(
    blank: float, edge: float, *, phases: tuple[list[float], list[float], list[float]]
) -> Belief:
    total = blank + edge + sum(map(sum, phases)) or 1.0
    first, second, third = ([chance / total for chance in one] for one in phases)
    return Belief(blank=blank / total, edge=edge / total, phases=(first, second, third))


def _backward(
    forward: Sequence[Belief], observed: Sequence[Likelihoods], *, ways: Sequence[Moves]
) -> list[Belief]:
    if not forward:
        return []
    ones = [1.0] * len(observed[0][2])
    later = Belief(blank=1.0, edge=1.0, phases=(ones, ones, ones))
    beliefs = [forward[-1]]
    for place in range(len(forward) - 2, -1, -1):
        later = _behind(_updated(later, observed[place + 1]), ways[place + 1])
        beliefs.append(_joined(forward[place], later))
    return beliefs[::-1]


def _joined(forward: Belief, later: Belief) -> Belief:
    first, second, third = (
        list(map(float.__mul__, mine, other))
        for mine, other in zip(forward.phases, later.phases, strict=True)
    )
    blank, edge = forward.blank * later.blank, forward.edge * later.edge
    return _scaled(blank, edge, phases=(first, second, third))


MOST_LABELS = 64
_LARGEST = 0.9999


def frame_id(record: Record) -> str:
    """Return the part of the id that the records of one frame share."""
    return record.id.partition("#")[0]


def label_and_score(record: Record) -> tuple[str, float] | None:
    """A record's label and its probability, 0-1; None where it names none."""
    fields = record.fields
    if "label" in fields or "image" not in fields:
        label, unit = fields.get("label"), 1.0
    else:
        label, unit = fields["image"], 100.0
    if "score" in fields and "probability" not in fields:
        score, unit = fields["score"], 1.0
    else:
        score = fields.get("probability", unit)
    if not isinstance(label, str) or not label or isinstance(score, bool | str):
        return None
    share = score / unit
    return (label, min(1.0, max(0.0, share))) if share == share else None  # noqa: PLR0124  NaN


def shuts_out(fields: Mapping[str, Scalar]) -> bool:
    """Return whether the labels of its frame are classes, of which only one can be right."""
    if fields.get("answer") in {"box", "none"}:
        return False
    named = fields.get("name", fields.get("label")) != fields.get("label")
    return fields.get("task", "classify") == "classify" or named


def shows_nothing(fields: Mapping[str, Scalar]) -> bool:
    """Return whether its frame could be judged and showed nothing: no box, say."""
    return fields.get("answer") == "none" and fields.get("state", "ok") == "ok"


class Gathered:
    """The records of one frame so far."""

    def __init__(self, record: Record) -> None:
        """``record``: the first."""
        self.at_us = record.at_us
        self.id, self.cause = frame_id(record), record.id
        self.frame = str(record.fields.get("frame", ""))
        self.classes = shuts_out(record.fields)
        self.empty = shows_nothing(record.fields)
        self.scores: dict[str, float] = {}
        self.take(record)

    def take(self, record: Record) -> None:
        """Add a record; of two boxes of one label the likelier counts."""
        found = label_and_score(record)
        if found is not None:
            label, score = found
            self.scores[label] = max(score, self.scores.get(label, 0.0))

    def says(self) -> bool:
        """Return whether the frame has an answer; an image that could not be judged has none."""
        return self.empty or bool(self.scores)

    def observation(self, step: TrackStep) -> Observation:
        """Its shares; labels that cannot be seen by this rule say nothing."""
        scores = pooled(self.scores, step=step)
        shares = as_classes(scores) if self.classes else as_presence(scores)
        return Observation(at_us=self.at_us, id=self.cause, frame=self.frame, scores=shares)

    def dump(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "at_us": self.at_us, "id": self.id, "cause": self.cause, "frame": self.frame,
            "classes": self.classes, "empty": self.empty, "scores": self.scores,
        }  # fmt: skip

    @classmethod
    def loaded(cls, memory: Mapping[str, Any]) -> "Gathered":
        """From a dump."""
        made = cls.__new__(cls)
        made.at_us, made.id = int(memory["at_us"]), str(memory["id"])
        made.cause = str(memory["cause"])
        made.frame = str(memory["frame"])
        made.classes, made.empty = bool(memory["classes"]), bool(memory["empty"])
        made.scores = {str(label): float(score) for label, score in memory["scores"].items()}
        return made


def pooled(scores: Mapping[str, float], *, step: TrackStep) -> dict[str, float]:
    """Blank labels become ``BLANK``; where the rule lists labels, others are left out."""
    pool: dict[str, float] = {}
    for label in sorted(scores):
        name = BLANK if label in step.blank else label
        if name == BLANK or not step.labels or label in step.labels:
            pool[name] = pool.get(name, 0.0) + scores[label]
    return pool


def as_classes(scores: Mapping[str, float]) -> dict[str, float]:
    """Shares of 1 as they are, made smaller where they come to more."""
    total = max(1.0, sum(scores.values()))
    return {label: score / total for label, score in scores.items()}


def as_presence(scores: Mapping[str, float]) -> dict[str, float]:
    """Each label alone in view, or none, given that two are not: by the odds."""
    odds = {
        label: min(score, _LARGEST) / (1.0 - min(score, _LARGEST))
        for label, score in scores.items()
    }
    total = sum(odds.values()) + (0.0 if BLANK in odds else 1.0)
    shares = {label: one / total for label, one in odds.items()}
    return {**shares, BLANK: shares.get(BLANK, 1.0 / total)}


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

    def add(self, frame: SmoothedFrame) -> None:
        """One frame more."""
        self.frames += 1
        self.weight += frame.weight
        for label, found in frame.evidence.items():
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
        around_us: the latest time at which it may still have been in view; a key of memories.
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

    def extend(self, frame: SmoothedFrame) -> None:
        """Its label was seen once more."""
        self.since.add(frame)
        self.inside.absorb(self.since)
        self.since = Totals()
        self.last_us, self.last_id, self.last_frame = frame.at_us, frame.id, frame.frame
        self.around_us, self.ended = frame.at_us, False
        self.present = max(self.present, frame.present)
        look = Look(at_us=frame.at_us, id=frame.id, frame=frame.frame)
        self.best.see(look, score=_score(frame, label=self.label))

    def pass_by(self, frame: SmoothedFrame) -> None:
        """A frame that shows nothing or something else."""
        self.since.add(frame)
        if not self.ended:
            self.around_us, self.ended = frame.at_us, True

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


def _score(frame: SmoothedFrame, *, label: str) -> float:
    if label != UNKNOWN:
        return frame.scores.get(label, 0.0)
    return max((score for name, score in frame.scores.items() if name), default=0.0)


def begun(frame: SmoothedFrame, *, before_us: int | None) -> Run:
    """A candidate of one frame."""
    run = Run(
        label=frame.answer, first_us=frame.at_us, last_us=frame.at_us, first_id=frame.id,
        last_id=frame.id, first_frame=frame.frame, last_frame=frame.frame, before_us=before_us,
        around_us=frame.at_us,
    )  # fmt: skip
    run.extend(frame)
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
