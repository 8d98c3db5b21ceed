"""Learning curve: what a share of the training pictures would have reached.

1. Heads are fitted to 25, 50 and 75 % of the pictures that a fold learns from, and answer that
   fold's pictures. All of them is the cross-validation that the training does anyway.
2. A smaller share lies in the larger one. Groups stay whole, and of each kind of picture (a class,
   a label that holds, one that does not) about that share is kept, never less than one group.
3. Intervals are drawn again over groups, or Wilson's for each label. A gain is told from the same
   held-out pictures, answered by heads of half and of all pictures. Its interval reaches down to 0
   unless a sign test over groups rejects chance too, at 2.5 % over the number of names that are
   compared: drawing again from two pictures that both rose never draws one that did not.
4. The heads rest on the frozen network's features, which makes a point cost seconds. Where the
   network of the package is fine-tuned, its own figures are higher than the curve's last point.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from lineside.models.manifest import Metric
from lineside.models.result import CurvePoint, LearningCurve
from lineside.training.common.loop import fold_rows
from lineside.training.tasks.metrics import bounded, rate, statistic
from lineside.vision.metrics import is_below

SHARES = (0.25, 0.5, 0.75)
_HALF = SHARES.index(0.5)
_SIGNIFICANCE = 0.025

Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]
Rows = NDArray[np.intp]
AnswerPart = Callable[[Rows, Rows], Numbers]


def learning_curve(
    answer: AnswerPart,
    *,
    whole: Numbers,
    kinds: Flags,
    named: Mapping[str, Flags],
    groups: Sequence[str],
    folds: Sequence[int],
    seed: int,
    heads: str,
) -> LearningCurve:
    """Return the curve of heads on cached features.

    Args:
        answer: takes rows to learn from and rows held out; gives (held out, answers): 1 right,
            0 wrong, NaN where nothing was judged.
        whole: (pictures, answers), by heads that learned from all other folds.
        kinds: (pictures, kinds): of each a share is learned from.
        named: (pictures, answers) by class, label or region, which answers are about it.
        groups: of the pictures; those of one are learned from, or left out, together.
        folds: of the pictures.
        seed: of the order in which groups are taken.
        heads: what learned, in words.
    """
    owners = np.unique(np.array(groups), return_inverse=True)[1]
    rank = np.random.default_rng(seed).permutation(int(owners.max()) + 1)[owners]
    parts = fold_rows(folds)
    found, points = [], []
    for share in SHARES:
        right, used = np.full(whole.shape, np.nan), []
        for inside, outside in parts:
            chosen = share_of(inside, share=share, rank=rank, kinds=kinds)
            right[outside] = answer(chosen, outside)
            used.append(len(chosen))
        found.append(right)
        points.append(_point(right, share=share, used=used, named=named, owners=owners))
    used = [len(inside) for inside, _ in parts]
    points.append(_point(whole, share=1.0, used=used, named=named, owners=owners))
    rise = whole - found[_HALF]
    gains = {
        name: mean_rise(np.where(mask, rise, np.nan), owners=owners, names=len(named))
        for name, mask in named.items()
    }
    return LearningCurve(
        points=tuple(points),
        gain=mean_rise(rise, owners=owners),
        gains={name: gain for name, gain in gains.items() if gain.n},
        heads=heads,
    )


def share_of(inside: Rows, *, share: float, rank: Rows, kinds: Flags) -> Rows:
    """Return rows with that share of the groups of each kind, by the rank of their group."""
    groups: set[int] = set()
    for kind in kinds[inside].T:
        ranks = np.unique(rank[inside[kind]]).tolist()
        groups.update(ranks[: ceil(share * len(ranks) - 1e-9)])
    return inside[np.isin(rank[inside], sorted(groups))]


def _point(
    right: Numbers, *, share: float, used: Sequence[int], named: Mapping[str, Flags], owners: Rows
) -> CurvePoint:
    judged = ~np.isnan(right)
    values, whose = _judged(right, owners)
    labels = {
        name: rate((right[mask & judged] > 0.5).tolist(), baseline=0.0)
        for name, mask in named.items()
    }
    return CurvePoint(
        share=share,
        pictures=round(float(np.mean(used))),
        right=bounded(
            _mean, values, groups=whose, baseline=0.0, pictures=int(judged.any(axis=1).sum())
        ),
        labels={name: metric for name, metric in labels.items() if metric.n},
    )


def mean_rise(rise: Numbers, *, owners: Rows, names: int = 1) -> Metric:
    """The mean of (pictures, answers), above 0 for sure only where enough groups rose."""
    values, whose = _judged(rise, owners)
    found = statistic(_mean, values, groups=whose, baseline=0.0)
    sums = np.bincount(whose, weights=values)
    fell, moved = float(np.sum(sums < 0)), float(np.sum(sums != 0))
    if is_below(0.5, wrong=fell, n=moved, confidence=1 - _SIGNIFICANCE / names):
        return found
    return replace(found, low=min(found.low, 0.0))


def _judged(right: Numbers, owners: Rows) -> tuple[Numbers, Rows]:
    """Judged answers in a row, and whose group each is."""
    rows, places = np.nonzero(~np.isnan(right))
    return right[rows, places], owners[rows]


def _mean(values: Numbers) -> float:
    return float(values.mean()) if len(values) else float("nan")
