"""Trivial baselines: guesses from an image's brightness, size, format or time alone.

1. Figures: ``mean_grey``, ``contrast`` (deviation of grey), ``sharpness``, ``picture_size`` and
   ``file_size``, ``time_of_day`` and ``order`` where they are known, and all of them ``together``.
   A figure that is the same for every picture is left out.
2. Order is by time of capture, else by the number in names that differ in it alone.
3. Each is read by a small tree (and, of yes or no, by its order too), learned by cross-validation
   on the very pictures the package is measured on, with groups kept whole; so a figure that says
   nothing reaches no more than the baseline.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lineside.datasets import Sample
from lineside.models import Metric
from lineside.training.tasks.contract import MOST_BYTES, Files
from lineside.training.tasks.metrics import bounded, rate, statistic
from lineside.vision import decode_picture, grey_of, picture_health
from lineside.vision.metrics import auroc, balanced_accuracy

TOGETHER = "together"
_FOLDS = 5
_LEAVES = 4
_DAY_S = 86_400

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """Question about each picture that trivial figures are asked.

    Attributes:
        kind: ``yes`` (0 or 1), ``class`` (places of classes) or ``count``.
        of: the label, where the figures are named after one.
        truth: (n,) whole numbers; -1 where it is not known.
        owners: (n,) number of each picture's group.
    """

    kind: Literal["yes", "class", "count"]
    truth: Integers
    owners: Integers
    of: str = ""


def trivial_figures(samples: Sequence[Sample], *, files: Files) -> dict[str, Floats]:
    """Figure → (samples,) values; those that are unknown or alike for all are left out."""
    rows = [_of_picture(files(sample.digest)) for sample in samples]
    found = {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else {})}
    times = [sample.captured_at for sample in samples]
    if all(times):
        stamps = np.array([time.timestamp() for time in times if time is not None])
        found["time_of_day"] = stamps % _DAY_S
        found["order"] = _ranks(stamps)
    elif (numbers := _numbered(samples)) is not None:
        found["order"] = _ranks(numbers)
    return {name: column for name, column in found.items() if np.ptp(column) > 0}


def _of_picture(encoded: bytes) -> dict[str, float]:
    image = decode_picture(encoded, max_bytes=MOST_BYTES)
    health = picture_health(image)
    return {
        "mean_grey": health.mean_grey,
        "contrast": float(grey_of(image).std()),
        "sharpness": health.sharpness,
        "picture_size": float(image.shape[0] * image.shape[1]),
        "file_size": float(len(encoded)),
    }


def _ranks(values: Floats) -> Floats:
    return np.unique(values, return_inverse=True)[1].astype(np.float64)


def _numbered(samples: Sequence[Sample]) -> Floats | None:
    """The last number of each name, where names differ in it alone."""
    parts = [re.fullmatch(r"(.*?)(\d+)(\D*)", sample.name) for sample in samples]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts) or len({(part[1], part[3]) for part in found}) != 1:
        return None
    return np.array([float(part[2][-15:]) for part in found])


def reached(question: Question, figures: Mapping[str, Floats]) -> Iterator[tuple[str, str, Metric]]:
    """(figure, metric, what it reaches) of every figure and of all together.

    Metrics are named as the package's own: ``auroc``, ``accuracy``, ``balanced_accuracy``,
    ``exact``, ``mae``. Nothing where the pictures are too few or too alike to learn from.
    """
    known = question.truth >= 0
    if question.kind == "class":  # a class shown once cannot be learned and tested
        known &= np.isin(question.truth, _often(question.truth[known]))
    asked = Question(
        kind=question.kind,
        truth=question.truth[known],
        owners=question.owners[known],
        of=question.of,
    )
    folds = _folds(asked)
    if not folds or not figures:
        return
    columns = {name: column[known][:, None] for name, column in figures.items()}
    if len(columns) > 1:
        columns[TOGETHER] = np.concatenate(list(columns.values()), axis=1)
    for name, column in columns.items():
        for metric, value in _READERS[asked.kind](
            _Reading(question=asked, column=column, folds=folds)
        ):
            yield name, metric, value


def _often(truth: Integers) -> Integers:
    values, counts = np.unique(truth, return_counts=True)
    return values[counts > 1]


Fold = tuple[NDArray[np.intp], NDArray[np.intp]]


def _folds(question: Question) -> list[Fold]:
    """(training, tested) rows; no group on both sides. Empty where it cannot be done."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    truth, owners = question.truth, question.owners
    if len(np.unique(truth)) < 2:
        return []
    groups = len(np.unique(owners))
    if groups < 4:  # too few to keep whole: single pictures
        owners, groups = np.arange(len(truth)), len(truth)
    rows = np.zeros((len(truth), 1))
    if question.kind == "count":
        cut = GroupKFold(n_splits=min(_FOLDS, groups))
        return [(a, b) for a, b in cut.split(rows, truth, owners)] if groups >= 4 else []
    rarest = min(Counter(truth.tolist()).values())
    splits = min(_FOLDS, groups, rarest)
    if splits < 2:
        return []
    dealt = StratifiedGroupKFold(n_splits=splits, shuffle=True, random_state=0)
    folds = [(a, b) for a, b in dealt.split(rows, truth, owners)]
    return [(a, b) for a, b in folds if len(b) and len(np.unique(truth[a])) > 1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Reading:
    """A question, what is looked at, (n, figures), and the folds."""

    question: Question
    column: Floats
    folds: Sequence[Fold]


def _leaf(rows: int) -> int:
    return max(2, rows // 40)


def _read_yes(reading: _Reading) -> Iterator[tuple[str, Metric]]:
    question, column, folds = reading.question, reading.column, reading.folds
    truth = question.truth
    tested = np.sort(np.concatenate([b for _, b in folds]))
    readings = [_by_tree(truth, column, folds=folds)]
    if column.shape[1] == 1:
        readings.append(_by_order(truth, column[:, 0], folds=folds))
    best = max(readings, key=lambda scores: _known(auroc(truth[tested], scores[tested])))
    yield (
        "auroc",
        bounded(
            auroc,
            truth[tested],
            best[tested],
            groups=question.owners[tested],
            baseline=0.5,
            pictures=len(tested),
        ),
    )


def _known(value: float) -> float:
    return 0.5 if np.isnan(value) else value


def _by_order(truth: Integers, column: Floats, *, folds: Sequence[Fold]) -> Floats:
    """The figure itself, upwards or downwards as the other folds say."""
    scores = np.zeros(len(truth))
    for learned, tested in folds:
        upwards = _known(auroc(truth[learned], column[learned])) >= 0.5
        scores[tested] = column[tested] if upwards else -column[tested]
    return scores


def _by_tree(truth: Integers, column: Floats, *, folds: Sequence[Fold]) -> Floats:
    from sklearn.tree import DecisionTreeClassifier

    scores = np.zeros(len(truth))
    for learned, tested in folds:
        tree = DecisionTreeClassifier(
            max_leaf_nodes=_LEAVES * min(2, column.shape[1]),
            min_samples_leaf=_leaf(len(learned)),
            class_weight="balanced",
            random_state=0,
        ).fit(column[learned], truth[learned])
        scores[tested] = tree.predict_proba(column[tested])[:, 1]
    return scores


def _read_class(reading: _Reading) -> Iterator[tuple[str, Metric]]:
    question, column, folds = reading.question, reading.column, reading.folds
    from sklearn.tree import DecisionTreeClassifier

    _, truth = np.unique(question.truth, return_inverse=True)
    classes = int(truth.max()) + 1
    often = np.bincount(truth).max() / len(truth)
    said: dict[str, Integers] = {}
    for name, weight in (("accuracy", None), ("balanced_accuracy", "balanced")):
        said[name] = np.full(len(truth), -1, np.int64)
        for learned, tested in folds:
            tree = DecisionTreeClassifier(
                max_leaf_nodes=2 * classes,
                min_samples_leaf=_leaf(len(learned)),
                class_weight=weight,
                random_state=0,
            ).fit(column[learned], truth[learned])
            said[name][tested] = tree.predict(column[tested])
    yield "accuracy", rate((truth == said["accuracy"]).tolist(), baseline=float(often))
    yield (
        "balanced_accuracy",
        bounded(
            balanced_accuracy,
            truth,
            said["balanced_accuracy"],
            groups=question.owners,
            baseline=1 / classes,
            pictures=len(truth),
        ),
    )


def _read_count(reading: _Reading) -> Iterator[tuple[str, Metric]]:
    question, column, folds = reading.question, reading.column, reading.folds
    from sklearn.tree import DecisionTreeRegressor

    truth = question.truth
    said = np.zeros(len(truth))
    for learned, tested in folds:
        tree = DecisionTreeRegressor(
            max_leaf_nodes=2 * _LEAVES,
            min_samples_leaf=_leaf(len(learned)),
            random_state=0,
        ).fit(column[learned], truth[learned])
        said[tested] = tree.predict(column[tested])
    whole = said.round().astype(np.int64)
    often = np.bincount(truth).max() / len(truth)
    middle = float(np.abs(truth - np.median(truth)).mean())
    yield "exact", rate((truth == whole).tolist(), baseline=float(often))
    yield (
        "mae",
        statistic(
            lambda a, b: float(np.abs(a - b).mean()),
            truth,
            whole,
            groups=question.owners,
            baseline=middle,
        ),
    )


Reader = Callable[[_Reading], Iterator[tuple[str, Metric]]]

_READERS: Mapping[str, Reader] = {
    "yes": _read_yes,
    "class": _read_class,
    "count": _read_count,
}
