"""Figures of classes: the decisions, and beside them what the likeliest class alone is worth.

1. ``accuracy`` and ``balanced_accuracy`` are of decisions: unsure is not right. ``argmax_accuracy``
   and ``macro_f1`` are of the forced choice, the likeliest class, whatever was decided; a refused
   picture has none and is not right.
2. ``coverage`` is the share of judged pictures whose truth is present or among the unsure ones; the
   rule promises it. ``set_size`` says at what price.
3. ``auroc`` and ``average_precision`` of two classes are those of the rarer one. With more classes
   ``auroc`` is the mean of one class against the rest; each stands beside it.
4. Where one of the classes means that nothing is wrong, ``defect_auroc`` and
   ``defect_average_precision`` rank pictures by the probability of all others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError
from lineside.models import Manifest, Metric
from lineside.models.result import Mistake
from lineside.training.tasks.contract import Case
from lineside.training.tasks.metrics import (
    TaskMetrics,
    bounded,
    confusion_table,
    good_class,
    limits_of,
    mean,
    owners,
    picture_words,
    ranking,
    rarest,
    rate,
    refused,
    reliability_of,
    slices,
    statistic,
    worst_first,
)
from lineside.vision import Decision, PictureState
from lineside.vision.metrics import (
    UNSURE,
    LimitRow,
    auroc,
    balanced_accuracy,
    calibration_error,
    macro_f1,
)

_FEWEST = 10

Numbers = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Table:
    """Judged pictures as arrays; a row per picture.

    Attributes:
        truth, decided, likeliest: places in ``labels``; -1 for unsure, or refused.
        chances: (pictures, classes); of a refused picture all alike.
        inside: (pictures, classes), which classes belong to the set.
        judged: which pictures were not refused.
        owner: number of each picture's group.
    """

    labels: tuple[str, ...]
    truth: Places
    decided: Places
    likeliest: Places
    chances: Numbers
    inside: NDArray[np.bool_]
    judged: NDArray[np.bool_]
    owner: Places
    majority: int

    @property
    def share(self) -> Numbers:
        """Of each class among the pictures."""
        return np.bincount(self.truth, minlength=len(self.labels)) / len(self.truth)


def measure(
    cases: Sequence[Case], *, manifest: Manifest, baseline: Mapping[str, float]
) -> TaskMetrics:
    """See ``Evaluator``."""
    stored = [case for case in cases if _truth(case, manifest.labels) is not None]
    if not stored:
        raise InvalidError(
            "none of the pictures shows exactly one of the package's classes",
            where="data",
            fix=f"It answers {', '.join(manifest.labels)}.",
        )
    table = _table(stored, labels=manifest.labels, majority=int(baseline.get("majority", 0)))
    good = good_class(manifest.labels, good=manifest.good)
    figure = partial(_accuracy, labels=manifest.labels, majority=table.majority)
    return TaskMetrics(
        metrics={
            **_decisions(table),
            **_forced(table),
            **_sets(table),
            "refused_rate": refused(stored),
            **_rankings(table, good=good),
        },
        per_class=_per_class(table),
        confusion={
            manifest.inspection: confusion_table(
                table.labels, table.truth, table.decided, groups=table.owner
            )
        },
        reliability={
            label: reliability_of(
                (table.truth == place)[table.judged], table.chances[table.judged, place]
            )
            for place, label in enumerate(table.labels)
        },
        limits=_limits(table, good=good),
        mistakes=_mistakes(stored, table),
        slices=slices(stored, figure),
        warnings=_warnings(table, left_out=len(cases) - len(stored)),
    )


def _truth(case: Case, labels: Sequence[str]) -> int | None:
    held = [place for place, label in enumerate(labels) if label in case.sample.labels]
    return held[0] if len(held) == 1 else None


def _table(cases: Sequence[Case], *, labels: tuple[str, ...], majority: int) -> _Table:
    truth = np.array([_truth(case, labels) for case in cases], np.int64)
    observed = np.array([case.prediction.state is PictureState.OK for case in cases])
    chances = np.full((len(cases), len(labels)), 1 / len(labels))
    inside = np.zeros(chances.shape, bool)
    decided = np.full(len(cases), UNSURE, np.int64)
    for row, case in enumerate(cases):
        for answer in case.prediction.labels:
            place = labels.index(answer.label)
            chances[row, place] = answer.probability
            inside[row, place] = answer.decision is not Decision.ABSENT
            if answer.decision is Decision.PRESENT:
                decided[row] = place
    likeliest = np.where(observed, chances.argmax(axis=1), UNSURE)
    return _Table(
        labels=labels,
        truth=truth,
        decided=decided,
        likeliest=likeliest,
        chances=chances,
        inside=inside,
        judged=observed,
        owner=owners(cases),
        majority=majority,
    )


def _accuracy(cases: Sequence[Case], *, labels: tuple[str, ...], majority: int) -> Metric:
    table = _table(cases, labels=labels, majority=majority)
    return rate(table.truth == table.decided, baseline=float(np.mean(table.truth == majority)))


def _decisions(table: _Table) -> dict[str, Metric]:
    constant = np.full(len(table.truth), table.majority)
    answered = table.decided != UNSURE
    unsure = table.judged & ~answered
    return {
        "accuracy": rate(
            table.truth == table.decided,
            baseline=float(np.mean(table.truth == constant)),
            groups=table.owner,
        ),
        "balanced_accuracy": bounded(
            balanced_accuracy,
            table.truth,
            table.decided,
            groups=table.owner,
            baseline=balanced_accuracy(table.truth, constant),
            pictures=rarest(table.truth, table.owner),
        ),
        "unsure_rate": rate(unsure, baseline=0.0, groups=table.owner),
        "answered_error": rate(
            (table.truth != table.decided)[answered],
            baseline=float(np.mean(table.truth != constant)),
            groups=table.owner[answered],
        ),
    }


def _forced(table: _Table) -> dict[str, Metric]:
    constant = np.full(len(table.truth), table.majority)
    return {
        "argmax_accuracy": rate(
            table.truth == table.likeliest,
            baseline=float(np.mean(table.truth == constant)),
            groups=table.owner,
        ),
        "macro_f1": bounded(
            macro_f1,
            table.truth,
            table.likeliest,
            groups=table.owner,
            baseline=macro_f1(table.truth, constant),
            pictures=rarest(table.truth, table.owner),
        ),
    }


def _sets(table: _Table) -> dict[str, Metric]:
    if not table.judged.any():
        return {}
    inside, truth = table.inside[table.judged], table.truth[table.judged]
    held = inside[np.arange(len(truth)), truth]
    sizes = inside.sum(axis=1).astype(np.float64)
    owner = table.owner[table.judged]
    return {
        "coverage": rate(held, baseline=1.0, groups=owner),
        "set_size": statistic(mean, sizes, groups=owner, baseline=float(len(table.labels))),
    }


def _rankings(table: _Table, *, good: int | None) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for place, label in enumerate(table.labels):
        truth, score = table.truth == place, table.chances[:, place]
        if truth.any() and not truth.all():
            found |= ranking(truth, score, groups=table.owner, ending=f"/{label}")
            found[f"calibration_error/{label}"] = bounded(
                calibration_error,
                truth,
                score,
                groups=table.owner,
                baseline=abs(0.5 - float(truth.mean())),
                pictures=len(truth),
            )
    if len(table.labels) == 2:
        rarer = table.labels[int(np.argmin(table.share))]
        both = ("auroc", "average_precision")
        return {n: found[f"{n}/{rarer}"] for n in both if f"{n}/{rarer}" in found} | found
    return _mean_auroc(table) | _defects(table, good=good) | found


def _mean_auroc(table: _Table) -> dict[str, Metric]:
    if len(np.unique(table.truth)) < 2:
        return {}
    classes = np.arange(len(table.labels))
    area = bounded(
        partial(_one_against_rest, classes=classes),
        table.truth,
        table.chances,
        groups=table.owner,
        baseline=0.5,
        pictures=rarest(table.truth, table.owner),
    )
    return {"auroc": area}


def _one_against_rest(truth: Places, chances: Numbers, *, classes: Places) -> float:
    areas = [auroc(truth == each, chances[:, each]) for each in classes]
    stored = [area for area in areas if not np.isnan(area)]
    return float(np.mean(stored)) if stored else float("nan")


def _defects(table: _Table, *, good: int | None) -> dict[str, Metric]:
    if good is None:
        return {}
    truth, score = table.truth != good, 1.0 - table.chances[:, good]
    if truth.all() or not truth.any():
        return {}
    found = ranking(truth, score, groups=table.owner)
    return {f"defect_{name}": metric for name, metric in found.items()}


def _per_class(table: _Table) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for place, label in enumerate(table.labels):
        share = float(table.share[place])
        right = table.truth == table.decided
        found[f"recall/{label}"] = rate(right[table.truth == place], baseline=share)
        found[f"precision/{label}"] = rate(right[table.decided == place], baseline=share)
        found[f"argmax_recall/{label}"] = rate(
            (table.likeliest == place)[table.truth == place], baseline=share
        )
    return found


def _limits(table: _Table, *, good: int | None) -> dict[str, tuple[LimitRow, ...]]:
    observed = table.judged
    if good is not None:
        score = 1.0 - table.chances[observed, good]
        return {"defect": limits_of((table.truth != good)[observed].tolist(), score.tolist())}
    if len(table.labels) != 2:
        return {}
    rarer = int(np.argmin(table.share))
    truth = (table.truth == rarer)[observed].tolist()
    return {table.labels[rarer]: limits_of(truth, table.chances[observed, rarer].tolist())}


def _mistakes(cases: Sequence[Case], table: _Table) -> tuple[Mistake, ...]:
    wrong = np.flatnonzero(table.truth != table.decided).tolist()
    return worst_first(
        Mistake(
            picture=cases[row].sample.name,
            truth=table.labels[int(table.truth[row])],
            said="unsure"
            if table.decided[row] == UNSURE
            else table.labels[int(table.decided[row])],
            probability=float(table.chances[row].max()),
            reason=picture_words(cases[row]),
        )
        for row in wrong
    )


def _warnings(table: _Table, *, left_out: int) -> tuple[str, ...]:
    found = []
    if left_out:
        found.append(
            f"{left_out} pictures show none or several of the classes and were not measured"
        )
    counts = np.bincount(table.truth, minlength=len(table.labels))
    few = [label for label, n in zip(table.labels, counts, strict=True) if n < _FEWEST]
    if few:
        found.append(
            f"fewer than {_FEWEST} pictures measured of {', '.join(few)}:"
            " their figures say little by themselves"
        )
    forced = float(np.mean(table.truth == table.likeliest))
    if forced <= float(np.mean(table.truth == table.majority)):
        found.append("the likeliest class is not right more often than the commonest class alone")
    return tuple(found)
