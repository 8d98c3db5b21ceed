"""Figures of masks and heat maps: pixel F1, IoU, pixel AUROC and the per-region overlap.

1. Maps and truths are lists of pictures, each of its own size. A truth without a set pixel is a
   good picture.
2. Masks are counted exactly. Maps are counted in bins that follow the values of good and of
   defective pixels alike, so the time is linear in the pixels, a picture is a row of counts, and a
   figure of any choice of pictures (a bootstrap's) is a sum of rows. Values of one bin are ties.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError

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


def pixel_iou(found: Sequence[Mask], truths: Sequence[Mask]) -> float:
    """Intersection over union over all pixels of all pictures together."""
    return iou_of(pixel_counts(found, truths))


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
