"""Figures of found boxes: precision, recall, F1, average precision, and counts made of boxes.

``f1_iou33`` and ``f1_iou50`` want the right label and an overlap above .33 or .5; ``f1_any_…`` take
any label. ``average_precision`` is the mean over labels at .5, over the boxes that were told.
``count_exact`` and ``count_mae`` are of the number of boxes; their baseline always says the
training pictures' median. The last column of the confusion is what was unsure; "nothing" stands
for objects that were missed, and in its row for boxes that met none.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.datasets import Marked
from lineside.models import Manifest, Metric
from lineside.models.result import Confusion, Mistake
from lineside.training.tasks.contract import Case
from lineside.training.tasks.metrics import (
    MOST_MISTAKES,
    TaskMetrics,
    bounded,
    mean,
    owners,
    rate,
    refused,
    slices,
    statistic,
)
from lineside.vision import BoxAnswer, Decision, PictureState
from lineside.vision.detections import box_iou
from lineside.vision.metrics import ReliabilityBin, average_precision, reliability

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """One picture's boxes and objects.

    Attributes:
        answer: (n,) label of each box, the likeliest box first.
        probability: (n,).
        truth: (m,) label of each object.
        fit: (n, m): the overlap, 0-1; 1 and less where a box holds a point, 0 where not.
    """

    answer: Places
    probability: Floats
    truth: Places
    fit: Floats

    def hits(self, *, least: float, labelled: bool) -> Places:
        """(n,) the object each box met with an overlap above ``least``, -1 for none."""
        fit = self.fit.copy()
        if labelled:
            fit[self.answer[:, None] != self.truth[None, :]] = 0.0
        hit = np.full(len(self.answer), -1, np.intp)
        for place in range(len(self.answer) if fit.shape[1] else 0):
            best = int(np.argmax(fit[place]))
            if fit[place, best] > least:
                hit[place] = best
                fit[:, best] = 0.0
        return hit


def picture_of(case: Case, *, labels: Sequence[str]) -> Picture:
    """A case's boxes and objects of the labels given."""
    boxes = sorted(
        (box for box in case.prediction.boxes if box.label in labels), key=lambda b: -b.probability
    )
    marks = [mark for mark in case.sample.marked or () if mark.label in labels]
    return Picture(
        answer=np.array([labels.index(box.label) for box in boxes], np.intp),
        probability=np.array([box.probability for box in boxes], np.float64),
        truth=np.array([labels.index(mark.label) for mark in marks], np.intp),
        fit=_fit(boxes, marks),
    )


def _fit(boxes: Sequence[BoxAnswer], marks: Sequence[Marked]) -> Floats:
    found, true = corners_of(boxes), corners_of(marks)
    dotted = np.array([mark.is_point for mark in marks], np.bool_)
    return np.where(dotted[None, :], _holding(found, true), box_iou(found, true))


def _holding(boxes: Floats, points: Floats) -> Floats:
    """1 where a point is the box's middle, falling to a half at its edge, 0 outside."""
    middle = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    half = np.maximum((boxes[:, None, 2:] - boxes[:, None, :2]) / 2, 1e-6)
    away = np.abs((points[None, :, :2] - middle) / half).max(axis=2)
    return np.where(away <= 1, 1 - 0.25 * away, 0.0)


def corners_of(boxes: Sequence[BoxAnswer] | Sequence[Marked]) -> Floats:
    """(n, 4) x0, y0, x1, y1."""
    rows = [(b.x0_px, b.y0_px, b.x1_px, b.y1_px) for b in boxes]
    return np.array(rows, np.float64).reshape(-1, 4)


_OVERLAPS = (("iou33", 0.33), ("iou50", 0.5))
_NOTHING = "nothing"

Numbers = NDArray[np.int64]


def measure(
    cases: Sequence[Case], *, manifest: Manifest, baseline: Mapping[str, float]
) -> TaskMetrics:
    """See ``Evaluator``; cases on which nobody marked anything are passed over."""
    known = [case for case in cases if case.sample.marked is not None]
    labels = manifest.labels
    if not known:
        return TaskMetrics(metrics={}, warnings=("no picture with marked objects to measure on",))
    pictures = [picture_of(case, labels=labels) for case in known]
    groups = owners(known)
    judged = _Judged(pictures=pictures, groups=groups)
    metrics = _scores(judged)
    per_class: dict[str, Metric] = {}
    for place, name in enumerate(labels):
        own = [_of_label(picture, place) for picture in pictures]
        only = _Judged(pictures=own, groups=groups)
        per_class |= {f"{key}/{name}": value for key, value in _scores_of_label(only).items()}
    metrics["average_precision"] = _mean_precision(judged, labels=len(labels))
    metrics["refused_rate"] = refused(known)
    rows = _confusions(known, pictures, labels=labels)
    metrics |= _object_shares(judged, rows)
    table = tuple(tuple(row) for row in rows.sum(axis=0).tolist())
    counts, counts_per_class, warnings = _counts(judged, labels=labels, baseline=baseline)
    return TaskMetrics(
        metrics=metrics | counts,
        per_class=per_class | counts_per_class,
        confusion={"objects": Confusion(classes=(*labels, _NOTHING), rows=table)},
        reliability=_reliability(pictures),
        mistakes=_mistakes(known, pictures, labels=labels),
        slices=slices(known, lambda own: _slice(own, labels=labels)),
        warnings=warnings,
    )


def _of_label(picture: Picture, place: int) -> Picture:
    answer, truth = picture.answer == place, picture.truth == place
    return Picture(
        answer=picture.answer[answer],
        probability=picture.probability[answer],
        truth=picture.truth[truth],
        fit=picture.fit[answer][:, truth],
    )


def _box_counts(pictures: Sequence[Picture], *, least: float, labelled: bool) -> Numbers:
    """(pictures, 3): boxes that met an object, boxes, objects."""
    return np.array(
        [
            (int(np.sum(p.hits(least=least, labelled=labelled) >= 0)), len(p.answer), len(p.truth))
            for p in pictures
        ],
        np.int64,
    )


def _f1(counts: Numbers) -> float:
    hits, answer, truth = counts.sum(axis=0)
    return 2 * hits / (answer + truth) if answer + truth else math.nan


def _precision(counts: Numbers) -> float:
    hits, answer, _ = counts.sum(axis=0)
    return hits / answer if answer else math.nan


def _recall(counts: Numbers) -> float:
    hits, _, truth = counts.sum(axis=0)
    return hits / truth if truth else math.nan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Judged:
    """Pictures, and which of them belong together (``shared.owners``)."""

    pictures: Sequence[Picture]
    groups: Numbers

    def rate(
        self, figure: Callable[[Numbers], float], counts: Numbers, *, baseline: float = 0.0
    ) -> Metric:
        """A share over boxes, its interval over groups of pictures; finding nothing has none.

        It rests on the groups that have something to count: others say nothing of it.
        """
        telling = [not math.isnan(figure(own[None])) for own in counts]
        own = len(np.unique(self.groups[telling]))
        return bounded(figure, counts, groups=self.groups, baseline=baseline, pictures=own)


def _scores(judged: _Judged) -> dict[str, Metric]:
    found, pictures = {}, judged.pictures
    for name, least in _OVERLAPS:
        tally = _box_counts(pictures, least=least, labelled=True)
        found[f"f1_{name}"] = judged.rate(_f1, tally)
        found[f"precision_{name}"] = judged.rate(_precision, tally)
        found[f"recall_{name}"] = judged.rate(_recall, tally)
    for name, least in _OVERLAPS:
        tally = _box_counts(pictures, least=least, labelled=False)
        found[f"f1_any_{name}"] = judged.rate(_f1, tally)
    return found


def _scores_of_label(judged: _Judged) -> dict[str, Metric]:
    found, pictures = {}, judged.pictures
    for name, least in _OVERLAPS:
        tally = _box_counts(pictures, least=least, labelled=True)
        found[f"f1_{name}"] = judged.rate(_f1, tally)
    tally = _box_counts(pictures, least=_OVERLAPS[0][1], labelled=True)
    found["precision"], found["recall"] = (
        judged.rate(_precision, tally),
        judged.rate(_recall, tally),
    )
    found["average_precision"] = _mean_precision(judged, labels=0)
    return found


def _mean_precision(judged: _Judged, *, labels: int) -> Metric:
    """Average precision at an overlap of .5, the mean over labels; of all where it is 0."""
    pictures = judged.pictures
    split = [[_of_label(p, place) for p in pictures] for place in range(labels)] or [list(pictures)]
    hits = [[p.hits(least=0.5, labelled=True) >= 0 for p in each] for each in split]

    def precision(chosen: NDArray[np.intp]) -> float:
        values = [
            _precision_of(each, hit, chosen=chosen) for each, hit in zip(split, hits, strict=True)
        ]
        known = [value for value in values if not math.isnan(value)]
        return float(np.mean(known)) if known else math.nan

    return judged.rate(precision, np.arange(len(pictures)))


def _precision_of(
    pictures: Sequence[Picture], hits: Sequence[NDArray[np.bool_]], *, chosen: NDArray[np.intp]
) -> float:
    """Of the boxes told; objects that no box met count as never found."""
    total = sum(len(pictures[place].truth) for place in chosen)
    hit = np.concatenate([hits[place] for place in chosen])
    chance = np.concatenate([pictures[place].probability for place in chosen])
    if not total:
        return math.nan
    if not hit.any():
        return 0.0
    return average_precision(hit, chance) * float(hit.sum()) / total


def _counts(
    judged: _Judged, *, labels: Sequence[str], baseline: Mapping[str, float]
) -> tuple[dict[str, Metric], dict[str, Metric], tuple[str, ...]]:
    """Counts made of boxes, over all and per label, with what does not beat the median guess."""
    overall: dict[str, Metric] = {}
    per_class: dict[str, Metric] = {}
    warnings = []
    for place, name in ((-1, ""), *enumerate(labels)):
        pairs = np.array(
            [(_number(p.answer, place), _number(p.truth, place)) for p in judged.pictures],
            np.float64,
        )
        guess = baseline.get(f"median_count/{name}" if name else "median_count", 0.0)
        off, guessed = np.abs(pairs[:, 0] - pairs[:, 1]), np.abs(pairs[:, 1] - guess)
        key = f"/{name}" if name else ""
        into = per_class if name else overall
        into[f"count_mae{key}"] = statistic(
            mean, off, groups=judged.groups, baseline=mean(guessed), flawed=float
        )
        into[f"count_exact{key}"] = rate(off == 0, baseline=mean(guessed == 0))
        if mean(off) >= mean(guessed):
            what = f"of {name}" if name else "of all boxes"
            warnings.append(
                f"counts {what} do not beat always saying {guess:g}: they are off by "
                f"{mean(off):.2f} on average, that guess by {mean(guessed):.2f}"
            )
    return overall, per_class, tuple(warnings)


def _number(labels: NDArray[np.intp], place: int) -> int:
    return len(labels) if place < 0 else int(np.sum(labels == place))


def _confusions(
    cases: Sequence[Case], pictures: Sequence[Picture], *, labels: Sequence[str]
) -> Numbers:
    """(pictures, labels + 1, labels + 2): truth down, answers across, then nothing and unsure."""
    rows = np.zeros((len(pictures), len(labels) + 1, len(labels) + 2), np.int64)
    for case, picture, own in zip(cases, pictures, rows, strict=True):
        hit = picture.hits(least=_OVERLAPS[0][1], labelled=False)
        unsure = _unsure(case, labels=labels)
        for place, answer in enumerate(picture.answer):
            row = picture.truth[hit[place]] if hit[place] >= 0 else len(labels)
            own[row, -1 if unsure[place] else answer] += 1
        for truth in np.delete(picture.truth, hit[hit >= 0]):
            own[truth, len(labels)] += 1
    return rows


def _object_shares(judged: _Judged, rows: Numbers) -> dict[str, Metric]:
    """Mistakes of the confusion as shares of objects and of boxes."""
    objects, answers = rows[:, :-1], np.delete(rows, -2, axis=2)
    there, found = objects.sum(axis=(1, 2)), answers.sum(axis=(1, 2))
    named = objects[:, :, :-2]
    wrong = named.sum(axis=(1, 2)) - named.trace(axis1=1, axis2=2)
    shares = {
        "missed_objects": (objects[:, :, -2].sum(axis=1), there, 1.0),
        "mislabelled_objects": (wrong, there, 0.0),
        "empty_boxes": (answers[:, -1].sum(axis=1), found, 0.0),
    }
    return {
        name: judged.rate(_part, np.stack([part, whole], axis=1), baseline=trivial)
        for name, (part, whole, trivial) in shares.items()
        if whole.sum() and (name != "mislabelled_objects" or named.shape[1] > 1)
    }


def _part(counts: Numbers) -> float:
    part, whole = counts.sum(axis=0)
    return part / whole if whole else math.nan


def _unsure(case: Case, *, labels: Sequence[str]) -> list[bool]:
    boxes = sorted(
        (box for box in case.prediction.boxes if box.label in labels), key=lambda b: -b.probability
    )
    return [box.decision is Decision.UNSURE for box in boxes]


def _reliability(pictures: Sequence[Picture]) -> dict[str, tuple[ReliabilityBin, ...]]:
    right = [p.hits(least=_OVERLAPS[0][1], labelled=True) >= 0 for p in pictures]
    chances = np.concatenate([p.probability for p in pictures])
    if not len(chances):
        return {}
    return {"objects": reliability(np.concatenate(right), chances)}


def _mistakes(
    cases: Sequence[Case], pictures: Sequence[Picture], *, labels: Sequence[str]
) -> tuple[Mistake, ...]:
    found = []
    for case, picture in zip(cases, pictures, strict=True):
        hit = picture.hits(least=_OVERLAPS[0][1], labelled=True)
        missed, wrong = len(picture.truth) - int(np.sum(hit >= 0)), hit < 0
        if not missed and not wrong.any():
            continue
        unjudged = case.prediction.state is not PictureState.OK
        worst = Mistake(
            picture=case.sample.name,
            truth=_in_words(picture.truth, labels=labels),
            said=str(case.prediction.state)
            if unjudged
            else _in_words(picture.answer, labels=labels),
            probability=float(picture.probability[wrong].max()) if wrong.any() else 0.0,
            reason=f"{missed} missed, {int(wrong.sum())} wrong",
        )
        found.append((missed + int(wrong.sum()), worst))
    found.sort(key=lambda each: (-each[0], -each[1].probability, each[1].picture))
    return tuple(worst for _, worst in found[:MOST_MISTAKES])


def _in_words(places: NDArray[np.intp], *, labels: Sequence[str]) -> str:
    each = [f"{int(np.sum(places == p))} {name}" for p, name in enumerate(labels) if p in places]
    return ", ".join(each) or _NOTHING


def _slice(cases: Sequence[Case], *, labels: Sequence[str]) -> Metric:
    """F1 at .33 with the label of some of the pictures."""
    pictures = [picture_of(case, labels=labels) for case in cases]
    judged = _Judged(pictures=pictures, groups=owners(cases))
    return judged.rate(_f1, _box_counts(pictures, least=_OVERLAPS[0][1], labelled=True))
