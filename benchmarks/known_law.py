"""The best count there can be: what somebody makes of the frames who knows the belt's own law.

The likeliest history of a simulated belt, exactly: Viterbi's algorithm over whole stretches of time
(explicit durations: Rabiner, *A tutorial on hidden Markov models*, Proc. IEEE 77 (1989), section
IV.D) on a grid of a fortieth of the shortest stay, with the belt's shortest and longest stays and
gaps, its share of things that touch, its flicker and how long errors last, and the law of its
scores. No rule on a line knows any of these; what this cannot count, the frames do not say.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.testing.belts import BLANK, Belt, BeltFrame, Passed, frames_of

_PARTS = 40
_NEVER = -1e18
_LEAST = 1e-9
Figures = NDArray[np.float64]
Places = NDArray[np.intp]


def likeliest(belt: Belt) -> list[Passed]:
    """What passed, most likely."""
    told = list(frames_of(belt))
    grid_s = belt.dwell_s[0] / _PARTS
    heard = _heard(told, belt, grid_s=grid_s)
    return _traced(_searched(heard, belt, grid_s=grid_s), belt, grid_s=grid_s)


@dataclass(frozen=True, kw_only=True)
class _Heard:
    """Logarithms of likelihoods up to each time of the grid; the first state is nothing.

    Attributes:
        upto: of all frames before it.
        head, tail: what is different in the first and last moments of a thing that begins, or ends,
            there.
    """

    upto: Figures
    head: Figures
    tail: Figures


@dataclass(frozen=True, kw_only=True)
class _Search:
    """For each time: how likely the best history is up to there, and where it came from.

    Attributes:
        ends: histories in which a thing of a label ends there; ``since``: where it began.
        before: of a thing that begins there: the label that touches it, -1 for a gap.
        gap_since: where the gap began that ends there; -1 for the beginning of all.
    """

    ends: Figures
    since: Places
    before: Places
    gap_since: Places
    heard: _Heard


def _heard(told: list[BeltFrame], belt: Belt, *, grid_s: float) -> _Heard:
    times = np.array([one.at_s for one in told])
    inside, edge = _likelihoods(told, belt)
    sums = np.vstack([np.zeros((1, inside.shape[1])), np.cumsum(inside, axis=0)])
    more = np.vstack([np.zeros((1, inside.shape[1])), np.cumsum(edge - inside, axis=0)])
    at = np.arange(int(np.ceil(times[-1] / grid_s)) + 2) * grid_s
    place = np.searchsorted(times, at, side="left")
    after = np.searchsorted(times, at + belt.edge_s, side="left")
    back = np.searchsorted(times, at - belt.edge_s, side="right")
    return _Heard(upto=sums[place], head=more[after] - more[place], tail=more[place] - more[back])


def _likelihoods(told: list[BeltFrame], belt: Belt) -> tuple[Figures, Figures]:
    """Of each frame in each state: in the middle of it, and in its first or last moments."""
    states = (BLANK, *belt.labels)
    best = [max(one.scores, key=one.scores.__getitem__) for one in told]
    score = np.array([one.scores[label] for one, label in zip(told, best, strict=True)])
    said = np.array([states.index(label) for label in best])
    step_s = np.diff([one.at_s for one in told], prepend=-np.inf)
    fade = np.exp(-step_s / (belt.burst_s * (1 - belt.flicker)))
    right = np.where((score >= 0.5) & (score <= 0.98), 1 / 0.48, _LEAST)
    wrong = np.where((score >= 0.35) & (score <= 0.9), 1 / 0.55, _LEAST)
    inside, edge = np.empty((2, len(told), len(states)))
    count = len(belt.labels)
    for state in range(len(states)):
        told_right, before = said == state, np.roll(said, 1)
        erred = (before != state).astype(float)
        errs = belt.flicker + (erred - belt.flicker) * fade
        goes_on = np.where(erred > 0, fade * (said == before) + (1 - fade) / count, 1 / count)
        inside[:, state] = np.log(np.where(told_right, (1 - errs) * right, errs * goes_on * wrong))
        any_label = np.where(told_right, 2 * right, wrong) / (count + 1)
        edge[:, state] = np.log(np.where(said == 0, _LEAST, any_label))
    return inside, edge


def _searched(heard: _Heard, belt: Belt, *, grid_s: float) -> _Search:
    size, count = len(heard.upto), len(belt.labels)
    stays = np.arange(_PARTS, round(belt.dwell_s[1] / grid_s) + 1)
    gaps = np.arange(round(belt.gap_s[0] / grid_s), round(belt.gap_s[1] / grid_s) + 1)
    touch = _touching(count) + np.log(belt.touching)
    apart = np.log(1 - belt.touching) - np.log(len(gaps))
    nothing, labels = heard.upto[:, 0], heard.upto[:, 1:]
    ends, begins = np.full((2, size, count), _NEVER)
    since, before = np.zeros((2, size, count), np.intp)
    gap_since, every = np.full(size, -1, np.intp), np.arange(count)
    for at in range(size):
        if (began := at - stays[stays <= at]).size:
            best = begins[began].argmax(axis=0)
            ends[at] = begins[began[best], every] + labels[at] + heard.tail[at, 1:]
            ends[at] -= np.log(len(stays))
            since[at] = began[best]
        gap = nothing[at] - np.log(len(gaps)) if at in gaps else _NEVER
        if (over := at - gaps[gaps <= at]).size:
            chances = ends[over].max(axis=1) - nothing[over] + nothing[at] + apart
            if chances.max() > gap:
                gap, gap_since[at] = chances.max(), over[chances.argmax()]
        touched = ends[at][:, None] + touch
        start = np.maximum(touched.max(axis=0), gap - np.log(count))
        before[at] = np.where(start > gap - np.log(count), touched.argmax(axis=0), -1)
        begins[at] = start - labels[at] + heard.head[at, 1:]
    return _Search(ends=ends, since=since, before=before, gap_since=gap_since, heard=heard)


def _touching(count: int) -> Figures:
    """Of the label that touches another: never the same, the next one twice as often."""
    chances = np.full((count, count), 1 / count) + np.roll(np.eye(count), 1, axis=1) / count
    np.fill_diagonal(chances, _LEAST)
    return np.asarray(np.log(chances))


def _traced(search: _Search, belt: Belt, *, grid_s: float) -> list[Passed]:
    """From the end, which lies twice the longest gap after the last thing, back to the first."""
    last = len(search.ends) - 1 - round(2 * belt.gap_s[1] / grid_s)
    near = np.arange(max(0, last - 4), last + 5)
    nothing = search.heard.upto[:, 0]
    end = int(near[(search.ends[near].max(axis=1) - nothing[near]).argmax()])
    label, passed = int(search.ends[end].argmax()), list[Passed]()
    while end >= 0:
        begin = int(search.since[end, label])
        name = belt.labels[label]
        passed.append(Passed(label=name, begin_s=begin * grid_s, end_s=end * grid_s))
        if (touches := int(search.before[begin, label])) >= 0:
            end, label = begin, touches
        else:
            end = int(search.gap_since[begin])
            label = int(search.ends[end].argmax())
    return passed[::-1]
