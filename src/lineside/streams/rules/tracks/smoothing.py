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
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lineside.core.plant_rules import Habits
from lineside.streams.rules.contract import UNKNOWN

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


def moves(habits: Habits, *, seconds: float, labels: int) -> Moves:
    """Between two frames ``seconds`` apart, among so many labels."""
    steps = round(math.log(min(max(seconds, 1e-3), _LONGEST_S)) / _STEP)
    return _moves(habits.dwell_s, habits.gap_s, steps=steps, labels=labels)


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
    scores: Mapping[str, float], *, labels: Sequence[str], habits: Habits
) -> Likelihoods:
    """Return the likelihood of a frame's answer in each state, in the labels' order; above 0."""
    states = (BLANK, *(label for label in labels if label != UNKNOWN))
    known = [scores.get(state, 0.0) for state in states]
    even = max(0.0, 1.0 - sum(known)) / len(states)
    seen = dict(zip(states, (share + even for share in known), strict=True))
    something = 1.0 - seen[BLANK]
    floor = habits.flicker / len(states)
    told = {state: _likelihood(state, seen, habits=habits, floor=floor) for state in states}
    told[UNKNOWN] = _unknown(something, labels=len(states) - 1, habits=habits, floor=floor)
    return told[BLANK], 1.0 / len(states), tuple(told[label] for label in labels)


def _likelihood(state: str, seen: Mapping[str, float], *, habits: Habits, floor: float) -> float:
    row = habits.confusion.get(state)
    if row is None:
        return (1.0 - habits.flicker) * seen[state] + floor
    return max(_LEAST, sum(share * row.get(said, _LEAST) for said, share in seen.items()))


def _unknown(something: float, *, labels: int, habits: Habits, floor: float) -> float:
    """A thing that is none of the labels is called each of them alike.

    Of fewer than eight it counts as of eight: it could not be told from flicker between two.
    """
    return (1.0 - habits.flicker) * something / max(8, labels) + floor


def smoothed(
    start: Belief | None, told: Sequence[Likelihoods], *, steps_s: Sequence[float], habits: Habits
) -> tuple[list[Belief], list[Belief]]:
    """Return the belief at each frame.

    Args:
        start: forward belief at the frame before the first; None before any.
        told: what each frame told, in order of time.
        steps_s: seconds from the frame before each; that of the first ever does not count.
        habits: of what passes.

    Returns:
        Beliefs by all frames, and forward beliefs (by the frames up to each).
    """
    labels = len(told[0][2]) if told else 0
    ways = [moves(habits, seconds=seconds, labels=labels) for seconds in steps_s]
    seen = [
        _weighed(one, by=weight_of(habits, seconds=seconds))
        for one, seconds in zip(told, steps_s, strict=True)
    ]
    forward: list[Belief] = []
    belief = start
    for one, way in zip(seen, ways, strict=True):
        ahead = first_belief(labels) if belief is None else _backward_messages(belief, way)
        belief = _updated(ahead, one)
        forward.append(belief)
    return _backward(forward, seen, ways=ways), forward


def steps_between(times_us: Sequence[int], *, before_us: int | None) -> list[float]:
    """Seconds from frame to frame; the first ever stands alone."""
    alone = math.inf
    earlier = [before_us, *times_us[:-1]]
    return [
        alone if since is None else (at - since) / 1e6
        for at, since in zip(times_us, earlier, strict=True)
    ]


def weight_of(habits: Habits, *, seconds: float) -> float:
    """Return the weight of a frame that long after the previous one, 0-1."""
    return min(1.0, max(seconds, 1e-3) / habits.look)


def _weighed(told: Likelihoods, *, by: float) -> Likelihoods:
    if by == 1.0:
        return told
    blank, edge, labels = told
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


def _updated(belief: Belief, told: Likelihoods) -> Belief:
    blank, edge, labels = told
    first, second, third = (list(map(float.__mul__, one, labels)) for one in belief.phases)
    return _scaled(belief.blank * blank, belief.edge * edge, phases=(first, second, third))


def _scaled(
    blank: float, edge: float, *, phases: tuple[list[float], list[float], list[float]]
) -> Belief:
    total = blank + edge + sum(map(sum, phases)) or 1.0
    first, second, third = ([chance / total for chance in one] for one in phases)
    return Belief(blank=blank / total, edge=edge / total, phases=(first, second, third))


def _backward(
    forward: Sequence[Belief], seen: Sequence[Likelihoods], *, ways: Sequence[Moves]
) -> list[Belief]:
    if not forward:
        return []
    ones = [1.0] * len(seen[0][2])
    later = Belief(blank=1.0, edge=1.0, phases=(ones, ones, ones))
    beliefs = [forward[-1]]
    for place in range(len(forward) - 2, -1, -1):
        later = _behind(_updated(later, seen[place + 1]), ways[place + 1])
        beliefs.append(_joined(forward[place], later))
    return beliefs[::-1]


def _joined(forward: Belief, later: Belief) -> Belief:
    first, second, third = (
        list(map(float.__mul__, mine, other))
        for mine, other in zip(forward.phases, later.phases, strict=True)
    )
    blank, edge = forward.blank * later.blank, forward.edge * later.edge
    return _scaled(blank, edge, phases=(first, second, third))
