"""Figures that are never bare: rates and scores with intervals, curves, cuts.

Names are those of every report: ``accuracy``, ``balanced_accuracy``, ``macro_f1``, ``auroc``,
``average_precision``, ``unsure_rate``. Classes are whole numbers from 0; ``UNSURE`` (-1) as a
prediction is never right. A figure that is undefined on the data given is NaN.

Figures of masks and heat maps: pixel F1, IoU, pixel AUROC and the per-region overlap.

1. Maps and truths are lists of pictures, each of its own size. A truth without a set pixel is a
   good picture.
2. Masks are counted exactly. Maps are counted in bins that follow the values of good and of
   defective pixels alike, so the time is linear in the pixels, a picture is a row of counts, and a
   figure of any choice of pictures (a bootstrap's) is a sum of rows. Values of one bin are ties.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError

UNSURE = -1
_OVERLAP = re.compile(r"(.+)_iou(\d\d)")
_WORDS = {
    "answered_error": "wrong among the answers given",
    "argmax_accuracy": "accuracy of the likeliest class",
    "argmax_recall": "recall of the likeliest class",
    "auroc": "AUROC",
    "count_exact": "right numbers of boxes",
    "count_mae": "mean error of the number of boxes",
    "defect_auroc": "AUROC of defects",
    "defect_average_precision": "average precision of defects",
    "empty_boxes": "boxes without an object",
    "exact": "right counts",
    "f1": "F1",
    "false_reject_rate": "good parts rejected",
    "iou": "overlap of pixels (IoU)",
    "macro_f1": "F1, mean over classes",
    "mae": "mean error of counts",
    "mae_share": "mean error of counts, as a share of the mean",
    "mislabelled_objects": "objects with another label",
    "more": "intervals without an end",
    "pixel_auroc": "AUROC of pixels",
    "pixel_f1": "F1 of pixels",
    "pixel_f1_per_picture": "F1 of pixels, mean over pictures with defects",
    "pro": "pieces covered (PRO)",
    "refused_rate": "pictures refused",
    "rmse": "root mean square error of counts",
    "set_size": "classes in a set",
    "unsure_rate": "unsure answers",
    "width": "numbers in an interval",
}
_BOX_WORDS = {
    "f1": "boxes found (F1 at overlap .{})",
    "f1_any": "boxes found, whatever the label (F1 at overlap .{})",
    "precision": "right boxes among those found (precision at overlap .{})",
    "recall": "objects found (recall at overlap .{})",
}
"""Figures by name in words, where these differ from the name with spaces."""
_HALVINGS = 32
_MOST_SIGMA, _MOST_REACH = 6.0, 40.0  # of a limit from its share: 95 % lie far inside
_MOST_TERMS = 2000
_MOST_DRAWS = 1000  # Student's interval is the normal one then
_CLOSE = 1e-12
Numbers = NDArray[np.floating] | NDArray[np.integer] | NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its 95 % interval and how many answers it rests on."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes: int, n: int, *, groups: int | None = None) -> Interval:
    """Share with its 95 % score interval (Wilson 1927); 0 of 0 is NaN with interval 0 to 1.

    Args:
        successes: of ``n``.
        n: how many were looked at.
        groups: how many parts these are of; the interval is then of so many, as if all of one part
            came out alike. None: each stands by itself.
    """
    if not 0 <= successes <= n:
        raise InvalidError(f"{successes} of {n}", fix="Count at most as many as there are.")
    if n == 0:
        return Interval(value=math.nan, low=0.0, high=1.0, n=0)
    z = 1.959963984540054
    share = successes / n
    n = n if groups is None else min(n, groups)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    low = 0.0 if successes == 0 else max(0.0, middle - reach)
    high = 1.0 if successes == n else min(1.0, middle + reach)
    return Interval(value=share, low=low, high=high, n=n)


def mid_p(successes: int, n: int) -> Interval:
    """Share with its 95 % mid-P interval (Berry and Armitage 1995); 0 of 0 is NaN with 0 to 1.

    The limits are the shares at which half the chance of this number, with that of all smaller
    (larger) ones, is 2.5 %. So 0 of n has the upper limit of the rule of three, about 3 / n, and
    the interval holds the truth in 95 % of cases on average, where that of Clopper and Pearson
    holds it more often.
    """
    if not 0 <= successes <= n:
        raise InvalidError(f"{successes} of {n}", fix="Count at most as many as there are.")
    if n == 0:
        return Interval(value=math.nan, low=0.0, high=1.0, n=0)
    low = 0.0 if successes == 0 else _mid_p_share(successes, n, chance=0.025)
    high = 1.0 if successes == n else _mid_p_share(successes, n, chance=0.975)
    return Interval(value=successes / n, low=low, high=high, n=n)


def _mid_p_share(successes: int, n: int, *, chance: float) -> float:
    """The share at which more than ``successes``, or half of as many, come with this chance."""
    logs = math.lgamma(n + 1) - math.lgamma(successes + 1) - math.lgamma(n - successes + 1)
    share = successes / n
    reach = _MOST_SIGMA * math.sqrt(share * (1.0 - share) / n) + _MOST_REACH / n
    low, high = max(0.0, share - reach), min(1.0, share + reach)
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        as_many = logs + successes * math.log(share) + (n - successes) * math.log1p(-share)
        found = _incomplete_beta(successes + 1, n - successes, share) + math.exp(as_many) / 2
        low, high = (share, high) if found < chance else (low, share)
    return (low + high) / 2


def is_below(rate: float, *, wrong: float, n: float, confidence: float) -> bool:
    """Return whether a true share of ``rate`` or more is ruled out at this confidence.

    The exact binomial test: so few, or fewer, come with a chance of at most 1 - confidence. Both
    numbers may be sums of weights.
    """
    return wrong < n and _incomplete_beta(wrong + 1, n - wrong, rate) >= confidence


def upper_share(wrong: float, n: float, *, confidence: float) -> float:
    """The largest share that is not ruled out: one-sided bound of Clopper and Pearson (1934)."""
    low, high = (wrong / n if n else 0.0), 1.0
    for _ in range(_HALVINGS if wrong < n else 0):
        share = (low + high) / 2
        ruled_out = is_below(share, wrong=wrong, n=n, confidence=confidence)
        low, high = (low, share) if ruled_out else (share, high)
    return high


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function, by its continued fraction (DLMF 8.17.22).

    It is the chance of ``a`` or more successes of ``a + b - 1``, each with chance ``x``.
    """
    if a == 0 or b == 0:
        return float(a == 0)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast below, and the other side does here
        return 1.0 - _incomplete_beta(b, a, 1.0 - x)
    logs = math.lgamma(a + b) - math.lgamma(a + 1) - math.lgamma(b)
    front = math.exp(logs + a * math.log(x) + b * math.log1p(-x)) if x > 0.0 else 0.0
    c, d = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, _MOST_TERMS):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1.0 / (1.0 + step * d), 1.0 + step / c
            fraction *= c * d
        if abs(c * d - 1.0) < _CLOSE:
            break
    return front * fraction


def bootstrap(
    statistic: Callable[..., float],
    *columns: Numbers,
    groups: Numbers | None = None,
    rounds: int = 1000,
    seed: int = 0,
) -> Interval:
    """A statistic with its 95 % percentile interval (Efron 1979), expanded for few draws.

    Few rows, or groups, vary less among each other than they would with the mean of all. The
    quantiles are therefore further out, as far as Student's interval is wider than the normal one:
    at 0.9 % for ten, at the extremes for four (Hesterberg, The American Statistician 69, 2015).

    Args:
        statistic: takes the columns, each (n, …); may answer NaN where it is undefined, and such
            rounds are left out.
        *columns: arrays of one length.
        groups: (n,) whole numbers; whole groups are drawn, because what belongs together (a part, a
            picture) varies together. None draws single rows.
        rounds: how many resamples.
        seed: of the resampling.
    """
    n = len(columns[0])
    if any(len(column) != n for column in columns):
        raise InvalidError("columns of different lengths", fix="Give one value per answer.")
    value = float(statistic(*columns)) if n else math.nan
    if not n:
        return Interval(value=value, low=math.nan, high=math.nan, n=0)
    draw = _draw_of(groups, n)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(rounds):
        chosen = draw(rng)
        drawn.append(float(statistic(*(column[chosen] for column in columns))))
    kept = np.array(drawn)[~np.isnan(drawn)]
    tail = _tail(n if groups is None else len(np.unique(groups)))
    low, high = np.quantile(kept, [tail, 1.0 - tail]) if len(kept) else (math.nan, math.nan)
    return Interval(value=value, low=float(low), high=float(high), n=n)


@lru_cache(maxsize=256)
def _tail(drawn: int) -> float:
    """The share of resamples on each side that a 95 % interval of so many draws leaves out."""
    freedom = min(drawn, _MOST_DRAWS) - 1
    if freedom < 1:
        return 0.0
    low, high = 0.0, 1.0  # x = freedom / (freedom + t²), of which the tails of Student's t hold 5 %
    for _ in range(_HALVINGS):
        x = (low + high) / 2
        low, high = (low, x) if _incomplete_beta(freedom / 2, 0.5, x) > 0.05 else (x, high)
    return NormalDist().cdf(-math.sqrt((freedom + 1) * (1.0 - low) / low))


def _draw_of(groups: Numbers | None, n: int) -> Callable[[np.random.Generator], NDArray[np.intp]]:
    """Draws the rows of one resample."""
    if groups is None:
        return lambda rng: rng.integers(n, size=n)
    rows = _rows_of_groups(groups, n)
    if len(rows) == n:  # groups of one
        single = np.concatenate(rows)
        return lambda rng: single[rng.integers(n, size=n)]
    return lambda rng: np.concatenate(
        [rows[one] for one in rng.integers(len(rows), size=len(rows))]
    )


def _rows_of_groups(groups: Numbers, n: int) -> list[NDArray[np.intp]]:
    if len(groups) != n:
        raise InvalidError("groups of another length", fix="Give one group per answer.")
    return [np.flatnonzero(groups == each) for each in np.unique(groups)]


def accuracy(truth: Numbers, predicted: Numbers) -> float:
    """Share of right answers; unsure is not right."""
    return float(np.mean(truth == predicted)) if len(truth) else math.nan


def unsure_rate(predicted: Numbers) -> float:
    """Share of answers that are unsure."""
    return float(np.mean(predicted == UNSURE)) if len(predicted) else math.nan


def metric_words(name: str) -> str:
    """A figure's name for people: ``f1_iou33/dent`` is "boxes found (F1 at overlap .33): dent"."""
    bare, _, label = name.partition("/")
    if (parts := _OVERLAP.fullmatch(bare)) and parts[1] in _BOX_WORDS:
        words = _BOX_WORDS[parts[1]].format(parts[2])
    else:
        words = _WORDS.get(bare, bare.replace("_", " "))
    return f"{words}: {label}" if label else words


def balanced_accuracy(truth: Numbers, predicted: Numbers) -> float:
    """Mean recall over the classes that occur in the truth."""
    recalls = [float(np.mean(predicted[truth == each] == each)) for each in np.unique(truth)]
    return float(np.mean(recalls)) if recalls else math.nan


def macro_f1(truth: Numbers, predicted: Numbers) -> float:
    """Mean F1 over the classes that occur in truth or answers."""
    classes = [each for each in np.union1d(truth, predicted) if each != UNSURE]
    scores = [_f1(truth == each, predicted == each) for each in classes]
    return float(np.mean(scores)) if scores else math.nan


def _f1(truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> float:
    both = int(np.sum(truth & found))
    return 2 * both / (int(truth.sum()) + int(found.sum()))


def confusion(truth: Numbers, predicted: Numbers, *, classes: int) -> NDArray[np.int64]:
    """(classes, classes + 1) counts: rows are the truth, the last column is unsure."""
    table = np.zeros((classes, classes + 1), np.int64)
    columns = np.where(predicted == UNSURE, classes, predicted).astype(np.intp)
    np.add.at(table, (truth.astype(np.intp), columns), 1)
    return table


def auroc(truth: Numbers, scores: Numbers) -> float:
    """Area under the receiver operating curve; ties count half. NaN with one class only."""
    positive = truth.astype(bool)
    ups, downs = int(positive.sum()), int((~positive).sum())
    if not ups or not downs:
        return math.nan
    ordered, those = np.sort(scores[~positive]), scores[positive]
    below = np.searchsorted(ordered, those), np.searchsorted(ordered, those, side="right")
    return float(np.sum(below) / (2 * ups * downs))


def average_precision(truth: Numbers, scores: Numbers) -> float:
    """Sum of precision times the step in recall; equals are one step. NaN if none is true."""
    positive = truth.astype(bool)
    if not positive.any():
        return math.nan
    order = np.argsort(-scores.astype(np.float64), kind="stable")
    ranked, hits = scores[order], np.cumsum(positive[order])
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    recall = hits[ends] / positive.sum()
    return float(np.sum(np.diff(recall, prepend=0.0) * hits[ends] / (ends + 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Answers of similar probability: its mean (``said`` in reports), what came true, how many."""

    low: float
    high: float
    said: float
    came_true: float
    n: int


def reliability(truth: Numbers, chances: Numbers, *, bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Bins of equal width over 0-1; empty bins are left out."""
    place = np.minimum((chances.astype(np.float64) * bins).astype(np.intp), bins - 1)
    return tuple(
        ReliabilityBin(
            low=each / bins,
            high=(each + 1) / bins,
            said=float(np.mean(chances[place == each])),
            came_true=float(np.mean(truth[place == each])),
            n=int(np.sum(place == each)),
        )
        for each in np.unique(place).tolist()
    )


def calibration_error(truth: Numbers, chances: Numbers, *, bins: int = 10) -> float:
    """Expected calibration error: the bins' |said - came true|, weighted by their counts."""
    place = np.minimum((chances.astype(np.float64) * bins).astype(np.intp), bins - 1)
    apart = np.bincount(place, weights=chances.astype(np.float64) - truth)
    return float(np.abs(apart).sum() / len(truth)) if len(truth) else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRow:
    """One cut of a label's limit table: what escapes, what is rejected too much, and the cost.

    Positives at or below the cut escape; negatives above it are over-rejects.
    """

    cut: float
    escapes: int
    over_rejects: int
    cost: float


def limit_table(
    truth: Numbers, chances: Numbers, *, escape_cost: float = 1.0, over_reject_cost: float = 1.0
) -> tuple[LimitRow, ...]:
    """A row per cut that changes an answer, ascending; "positive" is ``chance > cut``.

    Cuts lie midway between neighbouring probabilities, and at 0 and 1.
    """
    positive = truth.astype(bool)
    values = np.unique(np.append(chances.astype(np.float64), [0.0, 1.0]))
    cuts = np.unique(np.concatenate([[0.0], (values[:-1] + values[1:]) / 2, [1.0]]))
    ups, downs = np.sort(chances[positive]), np.sort(chances[~positive])
    escapes = np.searchsorted(ups, cuts, side="right")
    over = len(downs) - np.searchsorted(downs, cuts, side="right")
    cost = escapes * escape_cost + over * over_reject_cost
    return tuple(
        LimitRow(cut=float(cut), escapes=int(lost), over_rejects=int(extra), cost=float(price))
        for cut, lost, extra, price in zip(cuts, escapes, over, cost, strict=True)
    )


def cheapest_cut(table: Sequence[LimitRow]) -> float:
    """The cut of least cost; among equals the middle of the widest run of neighbours."""
    least = min(row.cost for row in table)
    runs: list[list[float]] = [[]]
    for row in table:
        if row.cost == least:
            runs[-1].append(row.cut)
        elif runs[-1]:
            runs.append([])
    widest = max((run for run in runs if run), key=lambda run: run[-1] - run[0])
    return (widest[0] + widest[-1]) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformalCut:
    """A bound that a new score exceeds at most at ``error_rate``.

    Attributes:
        cut: scores at or below it are expected.
        error_rate: the rate that holds: as wished, or 1 / (n + 1) where n scores cannot do better.
        n: scores it rests on.
    """

    cut: float
    error_rate: float
    n: int


def conformal_cut(scores: Numbers, *, error_rate: float) -> ConformalCut:
    """The ceil((1 - rate)(n + 1))-th smallest score (Vovk et al. 2005), rate floored to 1/(n+1).

    Args:
        scores: (n,) of held-out data; larger is stranger.
        error_rate: wished share of exceptions, strictly between 0 and 1.

    Raises:
        InvalidError: no scores, or a rate outside (0, 1).
    """
    n = len(scores)
    if not n:
        raise InvalidError("no scores to calibrate on", fix="Hold some pictures back.")
    if not 0 < error_rate < 1:
        raise InvalidError(f"an error rate of {error_rate}", fix="Give a share between 0 and 1.")
    held = max(error_rate, 1 / (n + 1))
    # The small amount keeps (1/(n+1)) * (n+1) from falling below 1 by rounding.
    spared = math.floor(held * (n + 1) + 1e-9)
    place = min(n, max(1, n + 1 - spared))
    return ConformalCut(cut=float(np.sort(scores)[place - 1]), error_rate=held, n=n)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsureBand:
    """Cuts of one label: present above ``high``, absent below ``low``, unsure between.

    ``error_rate`` is the larger of the two sides' rates that hold.
    """

    low: float
    high: float
    error_rate: float


def unsure_band(truth: Numbers, chances: Numbers, *, error_rate: float, cut: float) -> UnsureBand:
    """Class-conditional conformal sets turned into two cuts (Vovk et al. 2005, ch. 4.5).

    A probability is unsure when both answers are expected of it. Where the two sides do not overlap
    there is no such probability, and both cuts are ``cut`` held between the sides.

    Args:
        truth: (n,) whether the label holds.
        chances: (n,) held-out probabilities.
        error_rate: wished, per side.
        cut: preferred where both sides are apart, such as the cheapest of the limit table.
    """
    positive = truth.astype(bool)
    ups = conformal_cut(-chances[positive].astype(np.float64), error_rate=error_rate)
    downs = conformal_cut(chances[~positive], error_rate=error_rate)
    held = max(ups.error_rate, downs.error_rate)
    lowest_up, highest_down = -ups.cut, downs.cut
    if lowest_up <= highest_down:
        return UnsureBand(low=lowest_up, high=highest_down, error_rate=held)
    between = min(max(cut, highest_down), lowest_up)
    return UnsureBand(low=between, high=between, error_rate=held)


PRO_LIMIT = 0.3
_BINS = 2048
_MOST_SAMPLES = 1 << 20
_LEAST_SAMPLES = 256

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]


def pixel_counts(found: Sequence[Mask], truths: Sequence[Mask]) -> Counts:
    """(pictures, 3) pixels: rightly set, wrongly set, missed."""
    _check(found, truths)
    rows = []
    for mask, truth in zip(found, truths, strict=True):
        hits = int(np.count_nonzero(mask & truth))
        rows.append((hits, int(mask.sum()) - hits, int(truth.sum()) - hits))
    return np.array(rows, np.int64).reshape(-1, 3)


def f1_of(counts: Counts) -> float:
    """F1 of (n, 3) pixel counts taken together; NaN where nothing is set anywhere."""
    hits, wrong, missed = counts.sum(axis=0)
    return _ratio(2 * int(hits), 2 * int(hits) + int(wrong) + int(missed))


def iou_of(counts: Counts) -> float:
    """Intersection over union of (n, 3) pixel counts taken together; NaN like ``f1_of``."""
    hits, wrong, missed = counts.sum(axis=0)
    return _ratio(int(hits), int(hits) + int(wrong) + int(missed))


def pixel_f1(found: Sequence[Mask], truths: Sequence[Mask]) -> float:
    """F1 over all pixels of all pictures together."""
    return f1_of(pixel_counts(found, truths))


def pixel_auroc(maps: Sequence[Map], truths: Sequence[Mask]) -> float:
    """AUROC of every pixel of every picture; NaN without a defective or a good pixel."""
    return region_bins(maps, truths).auroc()


def pro(maps: Sequence[Map], truths: Sequence[Mask], *, limit: float = PRO_LIMIT) -> float:
    """Per-region overlap up to a false positive rate (Bergmann et al. 2021, section 5.2).

    The mean share of each connected piece (8 neighbours) that is found, whatever its size,
    integrated over the share of good pixels that are found too, from 0 to ``limit``, and divided by
    it. NaN without a piece or a good pixel.
    """
    return region_bins(maps, truths).pro(limit=limit)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RegionBins:
    """Pictures' pixels counted by the value of their map, a row a picture, bins ascending.

    Attributes:
        edges: (bins - 1,) ascending; a value on an edge belongs to the bin above it.
        good: (pictures, bins) good pixels.
        defect: (pictures, bins) defective pixels.
        overlap: (pictures, bins) defective pixels, each divided by its piece's size.
        pieces: (pictures,) connected pieces.
    """

    edges: NDArray[np.float32]
    good: Counts
    defect: Counts
    overlap: NDArray[np.float64]
    pieces: Counts

    def auroc(self, rows: NDArray[np.integer] | None = None) -> float:
        """Pixel AUROC of the pictures given (repeated as often as they stand there), or of all."""
        good, defect = (_summed(each, rows) for each in (self.good, self.defect))
        goods, defects = int(good.sum()), int(defect.sum())
        if not goods or not defects:
            return math.nan
        below = np.cumsum(good) - good / 2
        return float((below * defect).sum() / (goods * defects))

    def pro(self, rows: NDArray[np.integer] | None = None, *, limit: float = PRO_LIMIT) -> float:
        """Per-region overlap of the pictures given, or of all; see ``pro``."""
        good, overlap = _summed(self.good, rows), _summed(self.overlap, rows)
        pieces, goods = int(_summed(self.pieces, rows)), int(good.sum())
        if not goods or not pieces:
            return math.nan
        false = np.append(0.0, np.cumsum(good[::-1]) / goods)
        found = np.append(0.0, np.cumsum(overlap[::-1]) / pieces)
        at_limit = float(np.interp(limit, false, found))
        kept = false < limit
        x, y = np.append(false[kept], limit), np.append(found[kept], at_limit)
        return float(np.trapezoid(y, x) / limit)


def region_bins(maps: Sequence[Map], truths: Sequence[Mask], *, bins: int = _BINS) -> RegionBins:
    """Count maps against truths; at most ``bins`` bins, from quantiles of the values themselves.

    Raises:
        InvalidError: a map and its truth are of different sizes, or a value is no number.
    """
    _check(maps, truths)
    edges = _edges(maps, truths, bins=bins)
    size = (len(maps), len(edges) + 1)
    good, defect = np.zeros(size, np.int64), np.zeros(size, np.int64)
    overlap, pieces = np.zeros(size), np.zeros(len(maps), np.int64)
    for row, (values, truth) in enumerate(zip(maps, truths, strict=True)):
        places = np.searchsorted(edges, values.reshape(-1), side="right")
        numbers = _pieces(truth).reshape(-1)
        inside = numbers > 0
        pieces[row] = int(numbers.max(initial=0))
        good[row] = np.bincount(places[~inside], minlength=size[1])
        defect[row] = np.bincount(places[inside], minlength=size[1])
        shares = 1.0 / np.maximum(np.bincount(numbers), 1)
        overlap[row] = np.bincount(
            places[inside], weights=shares[numbers[inside]], minlength=size[1]
        )
    return RegionBins(edges=edges, good=good, defect=defect, overlap=overlap, pieces=pieces)


def _pieces(truth: Mask) -> NDArray[np.int32]:
    """The number of each pixel's piece, from 1; 0 where it is good."""
    import cv2

    if not truth.any():
        return np.zeros(truth.shape, np.int32)
    _, numbers = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
    return np.asarray(numbers, np.int32)


def _edges(maps: Sequence[Map], truths: Sequence[Mask], *, bins: int) -> NDArray[np.float32]:
    """Quantiles of the values of good and of defective pixels, half of the edges each."""
    each = max(_LEAST_SAMPLES, _MOST_SAMPLES // max(1, len(maps)))
    found = []
    for inside in (False, True):
        drawn = [
            _sample(values[truth == inside], each)
            for values, truth in zip(maps, truths, strict=True)
        ]
        values = np.concatenate([*drawn, np.empty(0, np.float32)])
        if len(values):
            shares = np.linspace(0.0, 1.0, max(2, bins // 2))
            found.append(np.quantile(values, shares, method="nearest"))
    return np.unique(np.concatenate([*found, np.empty(0)])).astype(np.float32)[1:]


def _sample(values: Map, most: int) -> Map:
    return values[:: max(1, -(-len(values) // most))]


def _summed(counts: NDArray[np.number], rows: NDArray[np.integer] | None) -> NDArray[np.float64]:
    """Sum over the pictures chosen, each as often as it stands there."""
    if rows is None:
        return np.asarray(counts.sum(axis=0), np.float64)
    times = np.bincount(rows.astype(np.intp), minlength=len(counts))
    return np.asarray(times @ counts, np.float64)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _check(maps: Sequence[NDArray[np.generic]], truths: Sequence[Mask]) -> None:
    if len(maps) != len(truths):
        raise InvalidError(
            f"{len(maps)} maps for {len(truths)} truths", fix="Give one truth per picture."
        )
    for place, (values, truth) in enumerate(zip(maps, truths, strict=True)):
        if values.shape != truth.shape or values.ndim != 2:
            raise InvalidError(
                f"a map of {values.shape} for a truth of {truth.shape}",
                where=f"picture {place}",
                fix="Lay both on the picture's own pixels.",
            )
        if not np.isfinite(values).all():
            raise InvalidError("a value is no number", where=f"picture {place}")
