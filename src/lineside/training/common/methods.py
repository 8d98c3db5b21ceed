"""Numeric methods that several tasks share: calibration, bounds, even choices, k-center selection.

Feature bank: standardised features of training pictures, and how far others are from them:

1. A bank holds vectors that lie far apart (k-center), each of one owner: a picture, or its group.
2. A training picture's own distance is that to the nearest vector of another owner. The unit is
   the 99th percentile of these distances, so that a picture like them is at about 1 or less.
3. Networks and fits divide features by ``spread`` before they compare them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lineside.core import Policy
from lineside.models.result import CoveragePoint, ErrorBound
from lineside.vision.metrics import (
    LimitRow,
    cheapest_cut,
    is_below,
    limit_table,
    unsure_band,
    upper_share,
)

_STEPS = 100
_LEAST_SLOPE = 1e-3
# An answer at a limit is unsure, also where another library rounds the exponential otherwise.
_ROUNDING = 1e-12

Numbers = NDArray[np.float64]
T = TypeVar("T")


def platt(logit: Numbers, truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope >= 0.001 and offset of sigmoid(slope x logit + offset), by damped Newton steps."""
    ups, downs = int(truth.sum()), int((~truth).sum())
    target = np.where(truth, (ups + 1) / (ups + 2), 1 / (downs + 2))
    scale = max(float(np.abs(logit).max()), 1e-6)
    x = np.stack([logit / scale, np.ones_like(logit)])
    beta = np.array([0.0, np.log((ups + 1) / (downs + 1))])
    loss = _cross_entropy(beta @ x, target)
    for _ in range(_STEPS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(beta @ x, -60, 60)))
        slope = x @ (chance - target)
        curve = (x * (chance * (1 - chance))) @ x.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(curve, slope)
        size = 1.0
        while size > 1e-6 and _cross_entropy((beta - size * step) @ x, target) > loss:
            size /= 2
        beta = beta - size * step
        last, loss = loss, _cross_entropy(beta @ x, target)
        if last - loss < 1e-10:
            break
    if beta[0] / scale < _LEAST_SLOPE:
        # Held-out answers run against the labels: say the base rate, which the band makes unsure.
        return _LEAST_SLOPE, float(np.log((ups + 1) / (downs + 1)))
    return float(beta[0] / scale), float(beta[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Calibration of a yes-or-no answer and the probabilities between which it is unsure.

    Attributes:
        floor: no probability is nearer to 0 or 1.
        error_rate: that the band holds; never below 1 / (n + 1).
        table: costs at every cut; empty where one side was never held out.
    """

    slope: float = 1.0
    offset: float = 0.0
    floor: float
    low: float = 0.0
    high: float = 1.0
    error_rate: float
    table: tuple[LimitRow, ...] = ()


def unsure_between(
    logit: Numbers,
    truth: NDArray[np.bool_],
    *,
    rarer: int,
    policy: Policy,
    clamped: bool,
    gap: Callable[..., tuple[float, float]],
) -> Band:
    """The band of held-out answers.

    Args:
        logit: uncalibrated.
        truth: of them.
        rarer: held-out pictures of the rarer side; without any, every answer is unsure.
        policy: error rate and costs.
        clamped: whether probabilities are held at the floor before they are compared.
        gap: divides the gap where the sides do not overlap: takes truth, probabilities, the error
            ``rate`` and the ``cut``.
    """
    floor, rate = 1.0 / (rarer + 2), max(policy.error_rate, 1.0 / (rarer + 1))
    if not rarer:
        return Band(floor=floor, error_rate=rate)
    slope, offset = platt(logit, truth)
    chance = 1.0 / (1.0 + np.exp(-np.clip(slope * logit + offset, -60.0, 60.0)))
    if clamped:
        chance = np.clip(chance, floor, 1.0 - floor)
    table = limit_table(
        truth, chance, escape_cost=policy.escape_cost, over_reject_cost=policy.over_reject_cost
    )
    band = unsure_band(truth, chance, error_rate=min(rate, 0.5), cut=cheapest_cut(table))
    low, high = band.low, band.high
    if low == high:
        low, high = gap(truth, chance, rate=rate, cut=low)
    if low < high:
        low = low - _ROUNDING if low > floor else low
        high = high + _ROUNDING if high < 1.0 - floor else high
    return Band(
        slope=slope, offset=offset, floor=floor, low=low, high=high, error_rate=rate, table=table
    )


def _cross_entropy(score: Numbers, target: Numbers) -> float:
    return float(np.sum(np.logaddexp(0.0, score) - target * score))


def log_sum_exp(logits: Numbers) -> Numbers:
    """(n, classes) → (n,)."""
    highest = logits.max(axis=1)
    return np.asarray(highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1)))


TEMPERATURES = np.exp(np.linspace(np.log(0.05), np.log(20.0), 241))


def temperature_of(
    logits: Numbers, truth: NDArray[np.intp], *, among: Numbers = TEMPERATURES
) -> float:
    """The temperature at which held-out truths are likeliest (Guo et al. 2017); 1 without any."""
    if not len(truth):
        return 1.0
    own = logits[np.arange(len(truth)), truth]
    losses = [float(np.mean(log_sum_exp(logits / each) - own / each)) for each in among.tolist()]
    return float(among[int(np.argmin(losses))])


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many, evenly over the order given."""
    places = np.linspace(0, len(items) - 1, min(len(items), most)).round().astype(np.intp)
    return [items[place] for place in places.tolist()]


CONFIDENCE = 0.9
_MOST_POINTS = 41
_MOST_TIMES = 1000.0


def error_bound(
    sureness: Numbers,
    wrong: NDArray[np.bool_],
    *,
    answered: NDArray[np.bool_],
    owners: Sequence[object],
    target: float,
) -> ErrorBound:
    """Return how many of the answers given are wrong at most, by the exact binomial bound.

    It assumes nothing of scores and classes (the selective risk of Geifman and El-Yaniv, NeurIPS
    2017), only that future pictures are drawn like these. The share is that of pictures. Those of
    one owner are often right or wrong together, so that the test takes fewer of them than there
    are: the effective sample size of Kish (Survey Sampling, 1965), as if they always were.

    Args:
        sureness: (n,) of answers to pictures that the network had not seen.
        wrong: (n,) whether the likeliest answer is wrong.
        answered: (n,) whether it is given.
        owners: whose each picture is, such as its group.
        target: error rate among the answers given.
    """
    numbers = np.unique(np.array(owners), return_inverse=True)[1]
    share, parts = _of_owners(wrong[answered], numbers[answered])
    order = np.argsort(-sureness, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(sureness[order])), len(order) - 1).tolist()
    bound = upper_share(share * parts, parts, confidence=CONFIDENCE)
    return ErrorBound(
        target=target,
        bound=bound,
        confidence=CONFIDENCE,
        pictures=len(order),
        answered=int(answered.sum()),
        wrong=int((answered & wrong).sum()),
        more=_more(share * parts, parts, pictures=len(order), target=target)
        if bound > target
        else 0,
        curve=tuple(
            CoveragePoint(
                answered=(end + 1) / len(order),
                error=error,
                bound=upper_share(error * n, n, confidence=CONFIDENCE),
            )
            for end in spread(ends, _MOST_POINTS)
            for error, n in [_of_owners(wrong[order[: end + 1]], numbers[order[: end + 1]])]
        ),
    )


def _of_owners(wrong: NDArray[np.bool_], numbers: NDArray[np.intp]) -> tuple[float, float]:
    """Return the share of wrong pictures, and their effective number: (sum m)^2 / sum m^2."""
    if not len(wrong):
        return 0.0, 0.0
    counts = np.bincount(numbers)
    return float(wrong.mean()), float(len(numbers) ** 2 / np.sum(counts**2))


def _more(lost: float, parts: float, *, pictures: int, target: float) -> int:
    """Return the number of further pictures that show the target rate at these shares."""
    low, high = 1.0, _MOST_TIMES

    def shows(times: float) -> bool:
        return is_below(target, wrong=lost * times, n=parts * times, confidence=CONFIDENCE)

    if not shows(high):
        return 0
    while high - low > 1e-3 * low:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if shows(middle) else (middle, high)
    return math.ceil(pictures * (high - 1.0))


def k_center(vectors: NDArray[np.float32], *, count: int) -> NDArray[np.intp]:
    """Rows of (n, k) vectors, at most ``count``, chosen greedily (k-centre).

    The first, then always the one farthest from those chosen: Gonzalez, *Clustering to minimize the
    maximum intercluster distance*, Theoretical Computer Science 38 (1985).
    """
    if len(vectors) <= count:
        return np.arange(len(vectors))
    chosen = [0]
    nearest = np.linalg.norm(vectors - vectors[0], axis=1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(vectors - vectors[chosen[-1]], axis=1))
    return np.array(chosen)


_USUAL = 0.99
_LEAST_UNIT = 1e-6
_ROWS = 1024

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeatureBank:
    """Features that a picture's are compared with.

    Attributes:
        bank: (k, features) divided by ``spread``.
        spread: (features,): divides features before they are compared.
        unit: of the distance.
        farthest: the training pictures' largest own distance, in that unit; 0 where none has one.
        rows: (k,): which of the given features each vector is.
    """

    bank: Floats
    spread: Floats
    unit: float
    farthest: float
    rows: NDArray[np.intp]


def feature_bank(
    features: NDArray[np.floating],
    *,
    spread: NDArray[np.floating],
    owners: Sequence[object],
    size: int,
) -> FeatureBank:
    """The bank of (n, features), at most ``size`` of them; ``owners`` names whose each is."""
    vectors = np.asarray(features / spread, np.float32)
    chosen = k_center(vectors, count=size)
    numbers = np.unique(np.array(owners), return_inverse=True)[1]
    own = own_distances(vectors, vectors[chosen], owners=numbers, bank_owners=numbers[chosen])
    unit = usual_distance(own)
    return FeatureBank(
        bank=vectors[chosen],
        spread=spread.astype(np.float32),
        unit=unit,
        farthest=float(own.max()) / unit if len(own) else 0.0,
        rows=chosen,
    )


def own_distances(
    vectors: Floats, bank: Floats, *, owners: NDArray[np.intp], bank_owners: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Distances to the nearest of the bank that is another owner's, of those that have one."""
    other = bank.astype(np.float64)
    lengths, nearest = (other**2).sum(axis=1), np.empty(len(vectors))
    for start in range(0, len(vectors), _ROWS):
        rows = slice(start, start + _ROWS)
        one = vectors[rows].astype(np.float64)
        squares = (one**2).sum(axis=1)[:, None] + lengths - 2 * one @ other.T
        apart = np.sqrt(np.maximum(squares, 0.0))
        apart[owners[rows, None] == bank_owners] = np.inf
        nearest[rows] = apart.min(axis=1)
    return nearest[np.isfinite(nearest)]


def usual_distance(own: NDArray[np.float64]) -> float:
    """The unit: the 99th percentile of own distances; 1 where there are none."""
    return max(float(np.quantile(own, _USUAL)), _LEAST_UNIT) if len(own) else 1.0


def bank_distances(features: Tensor, *, bank: Tensor, spread: Tensor, unit: Tensor) -> Tensor:
    """(n, k): distances of (n, features) from a bank, or from banks of their own, in the unit."""
    apart = (features / spread)[:, None] - bank
    return apart.square().sum(dim=2).sqrt() / unit.reshape(-1, 1)
