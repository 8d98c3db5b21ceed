"""From maps of pictures held out to a rule: the pixels' cut, the least piece, the picture's band.

1. The cut is the one of the best pixel F1: the mean of F1 over all pixels together and of F1
   picture by picture, so that neither large defects nor many small ones decide alone.
2. Pieces are dropped below the size that serves the same figure best, never above half of what
   nineteen of twenty drawn pieces have.
3. The picture's score takes the top share that ranks defective pictures best; among equals the
   usual one.
4. Probability and band as of labels (``common.methods``): Platt scaling, conformal
   quantiles per side, never below 1 / (n + 1); a gap between the sides is unsure in its middle.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import Policy
from lineside.training.common.methods import platt
from lineside.training.tasks.multilabel.calibrate import GAP_UNSURE
from lineside.training.tasks.segment.network import STRIDE_PX
from lineside.training.tasks.segment.training_set import Facts
from lineside.vision import MaskRule
from lineside.vision.masks import top_mean
from lineside.vision.metrics import (
    auroc,
    average_precision,
    cheapest_cut,
    f1_of,
    limit_table,
    pixel_counts,
    unsure_band,
)

USUAL_SHARE = 0.001
_SHARES = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.03)
_BETTER = 0.02
_CUTS = tuple(round(0.1 + 0.05 * step, 2) for step in range(17))
_EDGE = 1e-6
_FEWEST_AREAS = 5

Floats = NDArray[np.float32]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldOutMap:
    """Answer of the network to a held-out picture.

    Attributes:
        tops: mean probability of the top cells, one per share of ``_SHARES``.
        logits: (height, width) on the picture's pixels; None where the mask is not known, or enough
            others are kept.
        truth: (height, width) bool; None likewise.
    """

    facts: Facts
    tops: tuple[float, ...]
    logits: NDArray[np.float16] | None = None
    truth: NDArray[np.bool_] | None = None


def tops_of(cells: Floats) -> tuple[float, ...]:
    """The scores of a picture's cells, one per share."""
    return tuple(top_mean(cells, share=share) for share in _SHARES)


def score_of(held: HeldOutMap, rule: MaskRule) -> float:
    """The score by a rule's share."""
    return held.tops[_SHARES.index(rule.top_share)]


def mask_rule(
    held: Sequence[HeldOutMap], *, areas_px: Sequence[int], label: str, policy: Policy
) -> MaskRule:
    """The rule that follows from pictures held out.

    Args:
        held: of every picture held out.
        areas_px: of the pieces drawn in the pictures learned from.
        label: what the masks show.
        policy: error rate and costs.
    """
    truth = np.array([each.facts.defective for each in held], np.bool_)
    place = _share(np.array([each.tops for each in held]), truth)
    cut = _cut(held)
    picture = _picture_rule(np.array([each.tops[place] for each in held]), truth, policy=policy)
    return MaskRule(
        label=label,
        cut=cut,
        least_px=_least(held, cut=cut, areas_px=areas_px),
        present_above=picture.high,
        absent_below=picture.low,
        error_rate=picture.error_rate,
        calibration_pictures=len(held),
        top_share=_SHARES[place],
        slope=picture.slope,
        offset=picture.offset,
        stride_px=STRIDE_PX,
        floor=picture.floor,
    )


def _share(tops: Numbers, truth: NDArray[np.bool_]) -> int:
    """Place of the share whose scores rank best."""
    usual = _SHARES.index(USUAL_SHARE)
    if truth.all() or not truth.any():
        return usual
    worth = [auroc(truth, scores) + average_precision(truth, scores) for scores in tops.T]
    return usual if max(worth) < worth[usual] + _BETTER else int(np.argmax(worth))


# ---- pixels


def drawn_maps(held: Sequence[HeldOutMap]) -> list[tuple[Floats, NDArray[np.bool_]]]:
    """Maps and masks of the pictures whose masks are known."""
    return [
        (np.asarray(each.logits, np.float32), each.truth)
        for each in held
        if each.logits is not None and each.truth is not None
    ]


def _worth(counts: NDArray[np.int64]) -> float:
    """Mean of F1 of all pixels and of F1 by picture; counts as of ``pixel_counts``."""
    marked = [row[None] for row in counts if row[0] + row[2]]
    if not marked:
        return 0.0
    return (f1_of(counts) + float(np.mean([f1_of(row) for row in marked]))) / 2


def _cut(held: Sequence[HeldOutMap]) -> float:
    """The probability of the best pixel F1; the middle where no mask is known."""
    maps = drawn_maps(held)
    worth = [_worth(_counts(maps, limit=math.log(cut / (1 - cut)))) for cut in _CUTS]
    return _CUTS[int(np.argmax(worth))] if max(worth) > 0 else 0.5


def _counts(maps: Sequence[tuple[Floats, NDArray[np.bool_]]], *, limit: float) -> NDArray[np.int64]:
    found = [logits > limit for logits, _ in maps]
    return pixel_counts(found, [truth for _, truth in maps])


def _least(held: Sequence[HeldOutMap], *, cut: float, areas_px: Sequence[int]) -> int:
    """Size below which pieces are dropped."""
    if len(areas_px) < _FEWEST_AREAS:
        return 1
    most = max(1, int(np.quantile(areas_px, 0.05) / 2))
    sizes = sorted({1, *(max(1, most >> shift) for shift in range(4))})
    pieces = [_piece_counts(*each, limit=math.log(cut / (1 - cut))) for each in drawn_maps(held)]
    worth = [_worth(np.array([_kept(*each, least=least) for each in pieces])) for least in sizes]
    return sizes[int(np.argmax(worth))] if pieces else 1


def _piece_counts(
    logits: Floats, truth: NDArray[np.bool_], *, limit: float
) -> tuple[NDArray[np.int64], int]:
    """((pieces, 2) size and rightly set pixels of each piece found, pixels truly defect)."""
    import cv2

    mask = (logits > limit).astype(np.uint8)
    count, numbers = cv2.connectedComponents(mask, connectivity=8)
    sizes = np.bincount(numbers.reshape(-1), minlength=count)[1:]
    hits = np.bincount(numbers[truth], minlength=count)[1:]
    return np.stack([sizes, hits], axis=1), int(truth.sum())


def _kept(pieces: NDArray[np.int64], truth: int, *, least: int) -> tuple[int, int, int]:
    sizes, hits = pieces[pieces[:, 0] >= least].sum(axis=0).tolist()
    return hits, sizes - hits, truth - hits


# ---- pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class _PictureRule:
    """Fields as of ``MaskRule``; ``low`` and ``high`` are scores."""

    slope: float
    offset: float
    floor: float
    low: float
    high: float
    error_rate: float


def _picture_rule(scores: Numbers, truth: NDArray[np.bool_], *, policy: Policy) -> _PictureRule:
    rarer = int(min(truth.sum(), (~truth).sum()))
    floor, rate = 1.0 / (rarer + 2), max(policy.error_rate, 1.0 / (rarer + 1))
    if not rarer:
        # One side was never held out: no cut can be defended, every answer is unsure.
        return _PictureRule(slope=1.0, offset=0.0, floor=floor, low=0.0, high=1.0, error_rate=rate)
    values = logit(scores)
    slope, offset = platt(values, truth)
    chances = 1.0 / (1.0 + np.exp(-np.clip(slope * values + offset, -60.0, 60.0)))
    table = limit_table(
        truth,
        chances,
        escape_cost=policy.escape_cost,
        over_reject_cost=policy.over_reject_cost,
    )
    band = unsure_band(truth, chances, error_rate=min(rate, 0.5), cut=cheapest_cut(table))
    low, high = band.low, band.high
    if low == high:
        low, high = _middle_of_gap(truth, chances, cut=low)
    return _PictureRule(
        slope=slope,
        offset=offset,
        floor=floor,
        low=_score_at(low, slope=slope, offset=offset),
        high=_score_at(high, slope=slope, offset=offset),
        error_rate=rate,
    )


def _middle_of_gap(
    truth: NDArray[np.bool_], chances: Numbers, *, cut: float
) -> tuple[float, float]:
    """A tenth of the gap between the sides, around the cut; the cut alone where there is none."""
    below = chances[~truth & (chances <= cut)].max(initial=0.0)
    above = chances[truth & (chances >= cut)].min(initial=1.0)
    reach = GAP_UNSURE / 2 * max(0.0, float(above - below))
    return cut - reach, cut + reach


def logit(chances: Numbers) -> Numbers:
    """Log odds, held between those of 1e-6 and of 1 - 1e-6."""
    held = np.clip(chances, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(held / (1 - held)), np.float64)


def _score_at(chance: float, *, slope: float, offset: float) -> float:
    """The score whose calibrated probability is this one."""
    value = (float(logit(np.array(chance))) - offset) / slope
    return 1.0 / (1.0 + math.exp(-min(max(value, -60.0), 60.0)))
