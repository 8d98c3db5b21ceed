"""Figures of counts: exact, MAE, RMSE, and whether intervals hold what they promise.

``exact`` counts a refused picture as wrong; ``mae`` and ``rmse`` are over the pictures that were
judged; ``refused_rate`` says how many were not. ``mae_share`` is MAE over the mean true count.
``coverage`` is the share of intervals that hold the truth, its baseline what was promised;
``width`` is how many numbers an interval has, over those that end; ``more`` the share that do not.
``limits`` has for each limit on the objects how many pictures are counted too low (``escapes``) and
too high (``over_rejects``); at 0 and at 1 each counts as wrong, so that both are of all pictures.
Baselines of the rest always say the training pictures' median (``rmse``: their mean).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.datasets import Sample
from lineside.models import Manifest, Metric
from lineside.models.operating_point import OBJECTS
from lineside.models.result import Confusion, Mistake
from lineside.training.common.methods import spread
from lineside.training.tasks.contract import Case
from lineside.training.tasks.metrics import (
    MOST_LIMITS,
    MOST_MISTAKES,
    TaskMetrics,
    mean,
    owners,
    rate,
    slices,
    statistic,
)
from lineside.vision import CountAnswer, PictureState
from lineside.vision.detections import LEAST_CHANCE
from lineside.vision.metrics import LimitRow

_MOST_ROWS = 60

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """A picture with a known count; ``answer`` is None where it was refused."""

    case: Case
    truth: int
    answer: CountAnswer | None

    @property
    def exact(self) -> bool:
        return self.answer is not None and self.answer.value == self.truth

    @property
    def covered(self) -> bool:
        if self.answer is None:
            return False
        return self.answer.low <= self.truth and (
            self.answer.more or self.truth <= self.answer.high
        )

    @property
    def off(self) -> float:
        return math.nan if self.answer is None else float(abs(self.answer.value - self.truth))


def true_count(sample: Sample, *, labels: Sequence[str]) -> int | None:
    """Marked objects of the labels (of any where none is named), else the number that was given."""
    if sample.marked is not None:
        return sum(not labels or mark.label in labels for mark in sample.marked)
    return sample.count


def measure(
    cases: Sequence[Case], *, manifest: Manifest, baseline: Mapping[str, float]
) -> TaskMetrics:
    """See ``Evaluator``; cases whose count nobody knows are passed over."""
    labels = manifest.count.labels if manifest.count is not None else ()
    known = [
        _Counted(case=case, truth=truth, answer=_answer(case))
        for case in cases
        if (truth := true_count(case.sample, labels=labels)) is not None
    ]
    if not known:
        return TaskMetrics(metrics={}, warnings=("no picture with a known count to measure on",))
    promised = 1 - manifest.count.error_rate if manifest.count is not None else math.nan
    metrics = _figures(known, baseline=baseline, promised=promised)
    return TaskMetrics(
        metrics=metrics,
        per_class=_per_count(known, baseline=baseline),
        confusion=_confusion(known),
        limits=_limits(known),
        mistakes=_mistakes(known),
        slices=slices([each.case for each in known], lambda own: _exact(own, labels=labels)),
        warnings=_warnings(metrics),
    )


def _limits(known: Sequence[_Counted]) -> dict[str, tuple[LimitRow, ...]]:
    listed = [
        (one.truth, np.sort(one.case.objects)) for one in known if one.case.objects is not None
    ]
    n = len(listed)
    if not n:
        return {}
    chances = np.unique(np.concatenate([[LEAST_CHANCE, 1.0], *(found for _, found in listed)]))
    rows = [LimitRow(cut=0.0, escapes=0, over_rejects=n, cost=float(n))]
    for cut in spread(((chances[:-1] + chances[1:]) / 2).tolist(), MOST_LIMITS):
        off = [
            len(found) - int(np.searchsorted(found, cut, side="right")) - truth
            for truth, found in listed
        ]
        low = sum(one < 0 for one in off)
        high = sum(one > 0 for one in off)
        rows.append(LimitRow(cut=cut, escapes=low, over_rejects=high, cost=float(low + high)))
    return {OBJECTS: (*rows, LimitRow(cut=1.0, escapes=n, over_rejects=0, cost=float(n)))}


def _answer(case: Case) -> CountAnswer | None:
    return case.prediction.count if case.prediction.state is PictureState.OK else None


def _figures(
    answers: Sequence[_Counted], *, baseline: Mapping[str, float], promised: float
) -> dict[str, Metric]:
    truth = np.array([each.truth for each in answers], np.float64)
    median = baseline.get("median_count", 0.0)
    average = baseline.get("mean_count", median)
    off = np.array([each.off for each in answers])
    known = ~np.isnan(off)
    guessed = np.abs(truth - median)
    groups = owners([each.case for each in answers])[known]
    pairs = np.stack([off[known], truth[known]], axis=1)
    guess = np.stack([guessed, truth], axis=1)
    found = {
        "exact": rate((e.exact for e in answers), baseline=float(np.mean(guessed == 0))),
        "mae": statistic(mean, off[known], groups=groups, baseline=mean(guessed), flawed=float),
        "rmse": statistic(
            _root, off[known], groups=groups, baseline=_root(truth - average), flawed=math.sqrt
        ),
        "mae_share": statistic(
            _share,
            pairs,
            groups=groups,
            baseline=_share(guess),
            flawed=lambda wrong: wrong / max(mean(truth[known]), 1.0),
        ),
        "coverage": rate((e.covered for e in answers), baseline=promised),
        "refused_rate": rate((e.answer is None for e in answers), baseline=0.0),
    }
    return found | _width(answers)


def _width(counted: Sequence[_Counted]) -> dict[str, Metric]:
    answers = [each.answer for each in counted if each.answer is not None]
    ended = np.array([a.high - a.low + 1 for a in answers if not a.more], np.float64)
    found = {"more": rate((answer.more for answer in answers), baseline=0.0)}
    if len(ended):
        found["width"] = statistic(mean, ended, baseline=1.0)
    return found


def _root(values: Numbers) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else math.nan


def _share(pairs: Numbers) -> float:
    """Mean error over mean truth."""
    total = float(pairs[:, 1].sum())
    return float(pairs[:, 0].sum()) / total if total else math.nan


def _exact(cases: Sequence[Case], *, labels: Sequence[str]) -> Metric:
    """Exact counts of some of the pictures; the baseline is the commonest count among them."""
    truth = [true_count(case.sample, labels=labels) for case in cases]
    often = max(truth.count(each) for each in truth) / len(truth)
    answer = [_answer(case) for case in cases]
    rights = [a is not None and a.value == b for a, b in zip(answer, truth, strict=True)]
    return rate(rights, baseline=often)


def _per_count(answers: Sequence[_Counted], *, baseline: Mapping[str, float]) -> dict[str, Metric]:
    """Per true count; where there are many different ones, those seen most often."""
    often = _often([each.truth for each in answers])
    found = {}
    for count in often:
        own = [each for each in answers if each.truth == count]
        off = np.array([each.off for each in own if each.answer is not None])
        guess = abs(count - baseline.get("median_count", 0.0))
        found[f"exact/{count}"] = rate((e.exact for e in own), baseline=float(guess == 0))
        found[f"mae/{count}"] = statistic(mean, off, baseline=guess, flawed=float)
    return found


def _often(counts: Sequence[int]) -> list[int]:
    values, times = np.unique(np.array(counts), return_counts=True)
    chosen = np.argsort(-times, kind="stable")[:_MOST_ROWS]
    return sorted(int(values[place]) for place in chosen)


def _confusion(answers: Sequence[_Counted]) -> dict[str, Confusion]:
    """Counts 0, 1, …; the last column is what was refused or lies beyond the table."""
    top = max(each.truth for each in answers)
    if top >= _MOST_ROWS:
        return {}
    rows = np.zeros((top + 1, top + 2), np.int64)
    for each in answers:
        value = top + 1 if each.answer is None else min(each.answer.value, top + 1)
        rows[each.truth, value] += 1
    classes = tuple(str(count) for count in range(top + 1))
    table = tuple(tuple(int(v) for v in row) for row in rows)
    return {"count": Confusion(classes=classes, rows=table)}


def _mistakes(answers: Sequence[_Counted]) -> tuple[Mistake, ...]:
    wrong = [each for each in answers if not each.exact]
    wrong.sort(key=lambda e: (-(math.inf if e.answer is None else e.off), e.case.sample.name))
    return tuple(
        Mistake(
            picture=each.case.sample.name,
            truth=str(each.truth),
            said=str(each.case.prediction.state) if each.answer is None else in_words(each.answer),
            probability=0.0,
            reason="inside the interval" if each.covered else "outside the interval",
        )
        for each in wrong[:MOST_MISTAKES]
    )


def in_words(answer: CountAnswer) -> str:
    """``4``, ``4 (3 to 5)``, ``12 (9 or more)``."""
    if answer.more:
        return f"{answer.value} ({answer.low} or more)"
    return (
        str(answer.value)
        if answer.low == answer.high
        else f"{answer.value} ({answer.low} to {answer.high})"
    )


def _warnings(metrics: Mapping[str, Metric]) -> tuple[str, ...]:
    mae, coverage = metrics["mae"], metrics["coverage"]
    sentences = []
    if mae.value >= mae.baseline:
        sentences.append(
            f"counts do not beat always saying the median: they are off by {mae.value:.2f} on "
            f"average, that guess by {mae.baseline:.2f}"
        )
    if coverage.high < coverage.baseline:
        sentences.append(
            f"intervals hold the truth on {coverage.value:.0%} of pictures, fewer than the "
            f"{coverage.baseline:.0%} they promise: these pictures differ from those learned from"
        )
    return tuple(sentences)
