"""Score of a variant: one metric a task, computed on the same images as its original.

1. multilabel and classify: ``accuracy`` (unsure is not right); detect: ``f1_iou33``; count:
   ``exact``; segment: ``pixel_f1``, ``accuracy`` where nobody drew a mask; anomaly: ``auroc``,
   ``accuracy`` where the pictures are all good or all defective.
2. The loss is original - variant. Its interval draws pictures, or whole groups of them, again for
   both at once (paired bootstrap), so that what is hard for both counts for neither.
3. A refused picture counts as not right.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError
from lineside.models import Manifest, Metric, Package
from lineside.models.manifest import Loss
from lineside.training.evaluation.evaluate import training_evidence
from lineside.training.tasks.contract import Case
from lineside.training.tasks.count.metrics import true_count
from lineside.training.tasks.detect.metrics import picture_of
from lineside.training.tasks.metrics import is_defective, owners
from lineside.training.tasks.multilabel.metrics import answered_pictures
from lineside.training.tasks.table import evaluator_for
from lineside.vision import Decision, Prediction
from lineside.vision.masks import mask_of
from lineside.vision.metrics import auroc, bootstrap, f1_of, pixel_counts

_OVERLAP = 0.33

Rows = NDArray[np.float64]
Figure = Callable[[Rows], float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """A metric with what it is made of.

    Attributes:
        rows: (pictures, k), of each picture that the metric speaks of.
        places: (pictures,) which cases these are.
        figure: rows → value; NaN where it is undefined.
    """

    metric: str
    rows: Rows
    places: NDArray[np.intp]
    figure: Figure


def paired_loss(original: Sequence[Case], variant: Sequence[Case], *, manifest: Manifest) -> Loss:
    """Return the loss of the variant; both judged the same pictures in the same order.

    Raises:
        InvalidError: no picture tells what the metric needs.
    """
    one, other = scored(original, manifest), scored(variant, manifest)
    if not len(one.rows):
        raise InvalidError(
            f"none of the pictures tells what {one.metric} needs",
            where="data",
            fix="Label pictures that the package was not trained on.",
        )
    figure = one.figure
    found = bootstrap(
        lambda first, second: figure(first) - figure(second),
        one.rows,
        other.rows,
        groups=owners([original[place] for place in one.places]),
    )
    return Loss(
        metric=one.metric,
        original=_number(figure(one.rows)),
        variant=_number(figure(other.rows)),
        value=_number(found.value),
        low=_number(found.low),
        high=_number(found.high),
        n=found.n,
        changed=_changed(original, variant, places=one.places),
    )


def scored(cases: Sequence[Case], manifest: Manifest) -> Scored:
    """The metric of the manifest's task over judged pictures."""
    match manifest.task:
        case "multilabel":
            return _of_labels(cases, manifest)
        case "classify":
            return _rights(cases, "accuracy", right=_class_right)
        case "detect":
            return _of_boxes(cases, labels=manifest.labels)
        case "count":
            counted = () if manifest.count is None else manifest.count.labels
            return _rights(cases, "exact", right=lambda case: _count_right(case, counted))
        case "segment":
            return _of_masks(cases)
        case _:
            return _of_anomalies(cases)


def right_or_not(cases: Sequence[Case], manifest: Manifest) -> list[bool | None]:
    """Of each picture, whether everything that was said of it is right; None where nobody knows.

    Labels: every answer; boxes: each object met and no other box; counts: the number; masks and
    anomalies: whether there is a defect at all.
    """
    match manifest.task:
        case "multilabel":
            judged = answered_pictures(cases, manifest)
            return [each.exact if each.answers else None for each in judged]
        case "classify":
            return [_class_right(case) for case in cases]
        case "detect":
            return [_boxes_right(case, labels=manifest.labels) for case in cases]
        case "count":
            counted = () if manifest.count is None else manifest.count.labels
            return [_count_right(case, counted) for case in cases]
        case _:
            return [_defect_right(case) for case in cases]


def changed_answers(original: Sequence[Case], variant: Sequence[Case]) -> list[bool]:
    """Of each picture, whether a line would act otherwise on what the two said."""
    pairs = zip(original, variant, strict=True)
    return [_answer(one.prediction) != _answer(other.prediction) for one, other in pairs]


def _number(value: float) -> float:
    if not math.isfinite(value):
        raise InvalidError(
            "the metric is not defined on these pictures",
            where="data",
            fix="Test on pictures of every kind: good and defective, with and without objects.",
        )
    return round(float(value), 6)


def _rights(cases: Sequence[Case], metric: str, *, right: Callable[[Case], bool | None]) -> Scored:
    """A share of right answers; None leaves a picture out."""
    told = [
        (place, found) for place, case in enumerate(cases) if (found := right(case)) is not None
    ]
    return Scored(
        metric=metric,
        rows=np.array([[found] for _, found in told], np.float64).reshape(len(told), 1),
        places=np.array([place for place, _ in told], np.intp),
        figure=lambda rows: float(rows.mean()) if len(rows) else math.nan,
    )


def _class_right(case: Case) -> bool | None:
    if not case.sample.labels:
        return None
    said = [each.label for each in case.prediction.labels if each.decision is Decision.PRESENT]
    return len(said) == 1 and said[0] in case.sample.labels


def _count_right(case: Case, labels: Sequence[str]) -> bool | None:
    truth, said = true_count(case.sample, labels=labels), case.prediction.count
    if truth is None:
        return None
    return said is not None and said.value == truth


def _defect_right(case: Case) -> bool | None:
    truth, said = is_defective(case), case.prediction
    if truth is None:
        return None
    wanted = Decision.PRESENT if truth else Decision.ABSENT
    if said.anomaly is not None:
        return said.anomaly.decision is wanted
    return bool(said.labels) and said.labels[0].decision is wanted


def _share(rows: Rows) -> float:
    """Rows of (part, whole)."""
    part, whole = rows.sum(axis=0)
    return float(part / whole) if whole else math.nan


def _of_labels(cases: Sequence[Case], manifest: Manifest) -> Scored:
    answered = answered_pictures(cases, manifest)
    rows = [(sum(a.right for a in each.answers), len(each.answers)) for each in answered]
    return _scored_where("accuracy", rows, figure=_share, told=[bool(row[1]) for row in rows])


def metrics_of(package: Package, cases: Sequence[Case]) -> dict[str, Metric]:
    """The figures of the task, of these answers; unlike a training's without controls."""
    evidence = training_evidence(package)
    manifest = package.manifest
    measured = evaluator_for(manifest.task)(cases, manifest=manifest, baseline=evidence.baseline)
    return dict(measured.metrics)


def _boxes_right(case: Case, *, labels: Sequence[str]) -> bool | None:
    if case.sample.marked is None:
        return None
    picture = picture_of(case, labels=labels)
    met = int(np.sum(picture.met(least=_OVERLAP, labelled=True) >= 0))
    return met == len(picture.said) == len(picture.truth)


def _of_boxes(cases: Sequence[Case], *, labels: Sequence[str]) -> Scored:
    rows = []
    for case in cases:
        picture = picture_of(case, labels=labels)
        met = int(np.sum(picture.met(least=_OVERLAP, labelled=True) >= 0))
        rows.append((2 * met, len(picture.said) + len(picture.truth)))
    told = [case.sample.marked is not None for case in cases]
    return _scored_where("f1_iou33", rows, figure=_share, told=told)


def _of_masks(cases: Sequence[Case]) -> Scored:
    drawn = [case.truth_mask is not None for case in cases]
    if not any(case.truth_mask is not None and case.truth_mask.any() for case in cases):
        return _rights(cases, "accuracy", right=_defect_right)
    rows = [_pixels(case) for case in cases]
    return _scored_where(
        "pixel_f1",
        rows,
        figure=lambda every: f1_of(every.astype(np.int64)),
        told=drawn,
    )


def _pixels(case: Case) -> tuple[float, ...]:
    truth, said = case.truth_mask, case.prediction.mask
    if truth is None:
        return (0.0, 0.0, 0.0)
    found = np.zeros(truth.shape, np.bool_)
    if said is not None:
        found = mask_of(said.rle, width_px=said.width_px, height_px=said.height_px)
    return tuple(pixel_counts([found], [truth])[0].astype(float).tolist())


def _of_anomalies(cases: Sequence[Case]) -> Scored:
    truth = [is_defective(case) for case in cases]
    known = {found for found in truth if found is not None}
    if len(known) < 2:
        return _rights(cases, "accuracy", right=_defect_right)
    said = [case.prediction.anomaly for case in cases]
    highest = max((each.score for each in said if each is not None), default=0.0)
    rows = [
        (
            float(bool(defective)),
            (0.0 if defective else highest + 1.0) if each is None else each.score,
        )
        for defective, each in zip(truth, said, strict=True)
    ]
    told = [found is not None for found in truth]
    return _scored_where(
        "auroc", rows, figure=lambda every: auroc(every[:, 0] > 0, every[:, 1]), told=told
    )


def _scored_where(
    metric: str, rows: Sequence[Sequence[float]], *, figure: Figure, told: Sequence[bool]
) -> Scored:
    places = np.flatnonzero(np.array(told, np.bool_))
    kept = np.array(rows, np.float64)[places] if len(rows) else np.zeros((0, 2))
    return Scored(metric=metric, rows=kept, places=places, figure=figure)


def _changed(original: Sequence[Case], variant: Sequence[Case], *, places: NDArray[np.intp]) -> int:
    changed = changed_answers(original, variant)
    return sum(changed[place] for place in places.tolist())


def _answer(said: Prediction) -> tuple[object, ...]:
    """Return what a line would act on, without its digits."""
    return (
        said.state,
        tuple((each.name, each.decision) for each in said.labels),
        tuple(sorted((each.label, each.decision) for each in said.boxes)),
        None if said.count is None else (said.count.value, said.count.decision),
        None if said.anomaly is None else said.anomaly.decision,
    )
