"""Numeric methods that several tasks share: calibration, bounds, even choices, k-center selection.

Feature bank: standardised features of training pictures, and how far others are from them:

1. A bank holds vectors that lie far apart (k-center), each of one owner: a picture, or its group.
2. A training picture's own distance is that to the nearest vector of another owner. The unit is
   the 99th percentile of these distances, so that a picture like them is at about 1 or less.
3. Networks and fits divide features by ``spread`` before they compare them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count, takewhile
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.core import Digest, Policy
from lineside.datasets import Sample
from lineside.models.result import PICTURES, CoveragePoint, ErrorBound
from lineside.training.common.loop import owners_of
from lineside.training.job import Steps
from lineside.vision.metrics import (
    LimitRow,
    cheapest_cut,
    is_below,
    limit_table,
    unsure_band,
    upper_share,
)

GAP_UNSURE = 0.1
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
        error_rate: that the sides' quantiles hold, never below 1 / (n + 1); or the one that was
            tested.
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
) -> Band:
    """The band of held-out answers; where the sides do not overlap, the middle of their gap.

    Args:
        logit: uncalibrated.
        truth: of them.
        rarer: held-out pictures of the rarer side; without any, every answer is unsure.
        policy: error rate and costs.
        clamped: whether probabilities are held at the floor before they are compared.
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
        low, high = _middle_of_gap(truth, chance, rate=rate, cut=low)
    if low < high:
        low = low - _ROUNDING if low > floor or not clamped else low
        high = high + _ROUNDING if high < 1.0 - floor or not clamped else high
    return Band(
        slope=slope, offset=offset, floor=floor, low=low, high=high, error_rate=rate, table=table
    )


def _middle_of_gap(
    truth: NDArray[np.bool_], chance: Numbers, *, rate: float, cut: float
) -> tuple[float, float]:
    """The unsure middle of the gap between the two sides' conformal quantiles."""
    ups, downs = np.sort(chance[truth]), np.sort(chance[~truth])[::-1]
    lowest, highest = (float(side[_spared(len(side), rate)]) for side in (ups, downs))
    reach = GAP_UNSURE / 2 * max(lowest - highest, 0.0)
    return max(cut - reach, min(cut, highest)), min(cut + reach, max(cut, lowest))


def _spared(count: int, rate: float) -> int:
    """Place of the conformal quantile among sorted scores, the strangest first."""
    return min(count - 1, max(0, int(rate * (count + 1) + 1e-9) - 1))


def _cross_entropy(score: Numbers, target: Numbers) -> float:
    return float(np.sum(np.logaddexp(0.0, score) - target * score))


def log_sum_exp(logits: Numbers) -> Numbers:
    """(n, classes) → (n,)."""
    highest = logits.max(axis=1)
    return np.asarray(highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1)))


TEMPERATURES = np.exp(np.linspace(np.log(0.05), np.log(20.0), 241))


def temperature_of(
    logits: Numbers,
    truth: NDArray[np.intp],
    *,
    among: Numbers = TEMPERATURES,
    smoothing: float = 0.0,
) -> float:
    """The temperature at which held-out truths are likeliest (Guo et al. 2017); 1 without any.

    Args:
        logits: (n, classes).
        truth: (n,).
        among: temperatures to choose from.
        smoothing: share of each truth that is spread evenly over all classes.
    """
    if not len(truth):
        return 1.0
    own = logits[np.arange(len(truth)), truth]
    own = (1.0 - smoothing) * own + smoothing * logits.mean(axis=1)
    losses = [float(np.mean(log_sum_exp(logits / each) - own / each)) for each in among.tolist()]
    return float(among[int(np.argmin(losses))])


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many, evenly over the order given."""
    places = np.linspace(0, len(items) - 1, min(len(items), most)).round().astype(np.intp)
    return [items[place] for place in places.tolist()]


CONFIDENCE = 0.9
_MOST_POINTS = 41
_MOST_TIMES = 1000.0
_LEAST_RATE = 0.001
_R10 = (1.0, 1.25, 1.6, 2.0, 2.5, 3.15, 4.0, 5.0, 6.3, 8.0)
_LEVELS = (1.0 - CONFIDENCE) * np.geomspace(1.0 / 64.0, 1.0, 49)


@lru_cache(maxsize=64)
def confidence_of_each(parts: float, *, rate: float) -> float:
    """Return the confidence of one cut's test with which the cuts hold together at ``CONFIDENCE``.

    Learn then test (Angelopoulos et al. 2021): of the many cuts that are tried on the same answers
    some pass by luck. Here answers come one after the other, the surest first, each wrong with the
    chance ``rate``, and the level of a test is the largest at which any cut passes with a chance of
    at most 1 - ``CONFIDENCE``. Where surer answers are not more often wrong, nothing is worse: up
    to the last cut that holds the rate the mistakes are those of single draws at that rate, and
    those beyond it are more.

    Args:
        parts: that the answers of any cut are worth at most; a fraction is left out.
        rate: error rate that is tested, or the least that so many parts can show.
    """
    n = int(parts)
    rate = max(rate, upper_share(0, n, confidence=CONFIDENCE))
    most = min(n, int(rate * n + 8.0 * math.sqrt(rate * n)) + 8)
    # Chances of each number of mistakes: by level of sequences that no cut passed, then of all.
    rows = np.tile(np.eye(1, most + 1), (len(_LEVELS) + 1, 1))
    for _ in range(n):
        moved = rate * rows
        rows -= moved
        rows[:, 1:] += moved[:, :-1]
        rows[:, -1] += moved[:, -1]
        rows[:-1][rows[-1].cumsum() <= _LEVELS[:, None] + _ROUNDING] = 0.0
    fine = 1.0 - rows[:-1].sum(axis=1) <= 1.0 - CONFIDENCE + _ROUNDING
    return 1.0 - float(_LEVELS[fine].max(initial=_LEVELS[0]))


class _Prefix(NamedTuple):
    """The surest answers: how many, their share of wrong ones, and their effective number."""

    answered: int
    error: float
    parts: float

    def shows(self, rate: float, *, confidence: float) -> bool:
        """Return whether the true share is below the rate."""
        return is_below(rate, wrong=self.error * self.parts, n=self.parts, confidence=confidence)


def _prefixes(
    sureness: Numbers, wrong: NDArray[np.bool_], *, owners: Sequence[object]
) -> list[_Prefix]:
    """Return the answers of every cut, the surest first.

    The effective number of m pictures of each owner is (sum m)^2 / sum m^2, as of ``error_bound``.
    """
    order = np.argsort(-sureness, kind="stable")
    whose = np.unique(np.array(owners), return_inverse=True)[1][order]
    by_owner = np.argsort(whose, kind="stable")
    earlier = np.empty(len(order), np.intp)  # of the same owner
    earlier[by_owner] = np.arange(len(order)) - np.searchsorted(whose[by_owner], whose[by_owner])
    answered = np.arange(1, len(order) + 1)
    errors = np.cumsum(wrong[order]) / answered
    parts = answered**2 / np.cumsum(2 * earlier + 1)
    ends = np.append(np.flatnonzero(np.diff(sureness[order])), len(order) - 1).tolist()
    return [_Prefix(end + 1, float(errors[end]), float(parts[end])) for end in ends]


class CalibratedCut(NamedTuple):
    """Least sureness of an answer that is given, and the error rate shown for it.

    Attributes:
        confidence: of one cut's test, with which all of them hold together at ``CONFIDENCE``.
    """

    cut: float
    rate: float
    confidence: float


def rate_ladder(rate: float) -> tuple[float, ...]:
    """Return the rates below 1 that are tested one after the other, the wished one first.

    Each is about a quarter above the one before: the preferred numbers R10 (ISO 3).
    """
    first = max(rate, _LEAST_RATE)
    steps = (round(first * 10**power * step, 9) for power in count() for step in _R10)
    return tuple(takewhile(lambda one: one < 1.0, steps))


def calibrated_cut(
    sureness: Numbers, wrong: NDArray[np.bool_], *, owners: Sequence[object], rate: float
) -> CalibratedCut:
    """Return the cut that answers most, at the first rate of the ladder that any cut was shown.

    The rates do not depend on the answers. A cut that passes at one rate passes at the next too, so
    that a stated rate is wrong only where a cut passed by luck at the last rate below the true one.
    Where no rate below 1 is shown, all are answered.

    Args:
        sureness: (n,) of answers to pictures that the network had not seen, one or more.
        wrong: (n,) whether the likeliest answer is wrong.
        owners: whose each picture is, such as its group.
        rate: wished error rate among the answers given.
    """
    cuts = _prefixes(sureness, wrong, owners=owners)
    parts = max(each.parts for each in cuts)
    lowest = np.append(np.sort(sureness)[::-1], 0.0)
    for tested in rate_ladder(rate):
        # No confidence is below this one, which costs less than the right one.
        passed = [each for each in cuts if each.shows(tested, confidence=CONFIDENCE)]
        confidence = confidence_of_each(parts, rate=tested) if passed else CONFIDENCE
        passed = [each for each in passed if each.shows(tested, confidence=confidence)]
        if passed:
            end = passed[-1].answered
            return CalibratedCut(float(lowest[end - 1] + lowest[end]) / 2, tested, confidence)
    return CalibratedCut(float(lowest[-2]) / 2, 1.0, confidence_of_each(parts, rate=rate))


def _given(
    wrong: NDArray[np.bool_], *, answered: NDArray[np.bool_], owners: Sequence[object]
) -> _Prefix:
    """The answers given, all of one cut."""
    whose = [owner for owner, one in zip(owners, answered.tolist(), strict=True) if one]
    return (
        _prefixes(np.zeros(len(whose)), wrong[answered], owners=whose)[-1]
        if whose
        else _Prefix(0, 0.0, 0.0)
    )


def shown_rate(
    wrong: NDArray[np.bool_],
    *,
    answered: NDArray[np.bool_],
    owners: Sequence[object],
    rate: float,
    confidence: float = CONFIDENCE,
) -> float:
    """Return the first rate of the ladder that the answers given show; 1 where they show none.

    Args:
        wrong: (n,) on pictures that the network had not seen.
        answered: (n,) whether it is given.
        owners: whose each picture is, such as its group.
        rate: wished error rate among the answers given.
        confidence: of the test; another one where these answers chose which are given.
    """
    given = _given(wrong, answered=answered, owners=owners)
    passed = (one for one in rate_ladder(rate) if given.shows(one, confidence=confidence))
    return next(passed, 1.0)


def calibrated_limit(scores: Numbers, *, owners: Sequence[object], rate: float) -> CalibratedCut:
    """Return the least limit that was shown to be exceeded no more often than a rate of the ladder.

    How many of the given scores may exceed it follows from their number and the rate alone, so that
    it is one test (Wilks, *Determination of sample sizes for setting tolerance limits*, 1941).

    Args:
        scores: (n,) of good pictures that were scored as held out, one or more.
        owners: whose each picture is, such as its group.
        rate: wished share of exceptions.
    """
    n, highest = len(scores), np.sort(scores)[::-1]
    parts = _prefixes(np.zeros(n), np.zeros(n, np.bool_), owners=owners)[-1].parts
    for tested in rate_ladder(rate):
        above = 0
        while above < n and _Prefix(n, above / n, parts).shows(tested, confidence=CONFIDENCE):
            above += 1
        if above:
            return CalibratedCut(float(highest[above - 1]), tested, CONFIDENCE)
    return CalibratedCut(float(highest[0]), 1.0, CONFIDENCE)


def error_bound(
    sureness: Numbers,
    wrong: NDArray[np.bool_],
    *,
    answered: NDArray[np.bool_],
    owners: Sequence[object],
    target: float,
    confidence: float,
    shown: float = 0.0,
    by_limit: bool = False,
    noun: str = PICTURES,
) -> ErrorBound:
    """Return how many of the answers given are wrong at most, by the exact binomial bound.

    It assumes of scores only that surer answers are not more often wrong (the selective risk of
    Geifman and El-Yaniv, NeurIPS 2017), and that future pictures are drawn like these. The share is
    that of pictures. Those of one owner are often right or wrong together, so that the test takes
    fewer of them than there are: the effective sample size of Kish (Survey Sampling, 1965), as if
    they always were.

    Args:
        sureness: (n,) of answers to pictures that the network had not seen.
        wrong: (n,) whether the likeliest answer is wrong.
        answered: (n,) whether it is given.
        owners: whose each picture is, such as its group.
        target: error rate among the answers given.
        confidence: of each test, that of ``calibrated_cut`` where the cut was chosen by these
            answers.
        shown: rate that was shown for the cut, 1 where none was: the bound is never below it, so
            that a report and its package state one rate.
        by_limit: whether ``calibrated_limit`` set how many are wrong: more pictures would let fewer
            be, so that what is needed is told of none.
        noun: of what is answered, in the plural.
    """
    pictures, groups = len(sureness), len(set(owners))
    last = _given(wrong, answered=answered, owners=owners)
    bound = max(shown, upper_share(last.error * last.parts, last.parts, confidence=confidence))
    needed = last._replace(error=0.0) if by_limit else last
    times = _times(needed, target=target, confidence=confidence) if bound > target else 1.0
    return ErrorBound(
        target=target,
        bound=bound,
        confidence=CONFIDENCE,
        pictures=pictures,
        answered=last.answered,
        wrong=int((answered & wrong).sum()),
        more=math.ceil(pictures * (times - 1.0)),
        more_groups=math.ceil(groups * (times - 1.0)) if groups < pictures else 0,
        curve=tuple(
            CoveragePoint(
                answered=each.answered / pictures,
                error=each.error,
                bound=upper_share(each.error * each.parts, each.parts, confidence=confidence),
            )
            for each in spread(_prefixes(sureness, wrong, owners=owners), _MOST_POINTS)
        ),
        noun=noun,
    )


def limit_bound(
    scores: Numbers,
    *,
    limit: float,
    unsure_above: float,
    owners: Sequence[object],
    target: float,
    shown: float,
) -> ErrorBound:
    """Return how many good pictures are rejected at most, of those that are not unsure.

    Args:
        scores: (n,) that made the limit by ``calibrated_limit``.
        limit: above it a picture is rejected.
        unsure_above: from there to the limit it is unsure.
        owners: whose each picture is, such as its group.
        target: share of rejected good pictures that was wished.
        shown: the share that was shown for the limit.
    """
    above = scores > limit
    return replace(
        error_bound(
            -scores,
            above,
            answered=above | (scores <= unsure_above),
            owners=owners,
            target=target,
            confidence=CONFIDENCE,  # how many are above was set before
            shown=shown,
            by_limit=True,
            noun="good pictures",
        ),
        curve=(),  # the surest answers are at both ends
    )


def rate_warning(bound: ErrorBound) -> str:
    """The sentence on a wished error rate that was not shown."""
    need = f"; {bound.need}" if bound.answered and bound.need else ""
    sure = f"with {CONFIDENCE:.0%} confidence"
    if bound.bound >= 1:
        then = ": any share of them may be wrong" if bound.answered else ", so that all are unsure"
        return f"no error rate among the answers could be shown {sure}{then}{need}"
    return (
        f"an error rate of {bound.target:g} among the answers could not be shown {sure}:"
        f" the package states {bound.bound:.3g}{need}"
    )


def _times(answers: _Prefix, *, target: float, confidence: float) -> float:
    """Return how many times the groups show the target rate at these shares; 1 where none do."""
    low, high = 1.0, _MOST_TIMES

    def shows(times: float) -> bool:
        more = answers._replace(parts=answers.parts * times)
        return more.shows(target, confidence=confidence)

    if not shows(high):
        return 1.0
    while high - low > 1e-3 * low:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if shows(middle) else (middle, high)
    return high


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


_MOST_COMPARED = 256
_REMEMBERED = 64
_LEAST_SPREAD = 0.02


def picture_bank(means: NDArray[np.floating], *, owners: Sequence[object]) -> FeatureBank:
    """The pictures that lie farthest apart by their mean features (n, features).

    A feature that hardly differs between pictures is not blown up, and neither are pictures that
    hardly differ: engines round differently. ``owners`` names whose each picture is.
    """
    spread = np.maximum(means.std(axis=0), _LEAST_SPREAD)
    found = feature_bank(means, spread=spread, owners=owners, size=_REMEMBERED)
    unit = max(found.unit, 1.0)
    return replace(found, unit=unit, farthest=found.farthest * found.unit / unit)


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


class PictureBank(nn.Module):
    """Distances of a picture's features from those of remembered pictures."""

    def __init__(self, known: FeatureBank) -> None:
        super().__init__()
        self.register_buffer("bank", torch.from_numpy(known.bank))
        self.register_buffer("spread", torch.from_numpy(known.spread))
        self.register_buffer("unit", torch.tensor(known.unit))

    bank: Tensor
    spread: Tensor
    unit: Tensor

    def forward(self, features: Tensor) -> Tensor:
        return bank_distances(features, bank=self.bank, spread=self.spread, unit=self.unit)


class DescribingNetwork(nn.Module, ABC):
    """A network that also says what it sees of a whole picture."""

    @abstractmethod
    def describe(self, x: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Its outputs, and (n, features)."""


class RememberingNetwork(nn.Module):
    """A network with one output more, the distances from pictures that it remembers."""

    def __init__(self, network: DescribingNetwork, known: FeatureBank) -> None:
        super().__init__()
        self.network = network
        self.known = PictureBank(known)
        self.farthest = known.farthest

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outputs, features = self.network.describe(x)
        return *outputs, self.known(features)


def remember(
    network: DescribingNetwork,
    samples: Sequence[Sample],
    *,
    crops: Callable[[Sample], Tensor],
    steps: Steps,
) -> tuple[RememberingNetwork, tuple[Digest, ...]]:
    """Return the network with the output ``bank_distances``, and whose features it compares.

    Raises:
        JobCancelledError: stopped as asked, after the picture under way.
    """
    chosen, means = spread(samples, _MOST_COMPARED), []
    for sample in chosen:
        steps.at(88, "remembering pictures")
        with torch.inference_mode():
            means.append(network.describe(crops(sample))[1].numpy())
    known = picture_bank(np.concatenate(means), owners=owners_of(chosen))
    return RememberingNetwork(network, known), tuple(chosen[row].digest for row in known.rows)
