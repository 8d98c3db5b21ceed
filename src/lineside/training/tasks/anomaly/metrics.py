"""Figures of good-only detection: how defective pictures are told from good ones, and where.

1. A refused picture counts as not right: a good one as if it scored highest, a defective one as if
   it scored lowest.
2. ``recall`` is the share of defective pictures said to be anomalous, ``false_reject_rate`` that of
   good ones; an unsure answer is neither, and its share is a figure of its own.
3. Pixel figures rest on good pictures and on defective ones whose defect was drawn. A defective
   picture without a mask is left out of them, and their n says so; one that was refused has its
   defect found nowhere.
4. How many of each kind were refused stands in a warning, with a reason.
5. Of pictures of one kind alone only what they show is told: good ones say how many are rejected,
   and a warning that nobody knows how many defects are found.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lineside.models import Manifest, Metric
from lineside.models.result import Mistake
from lineside.training.tasks.contract import Case
from lineside.training.tasks.metrics import (
    TaskMetrics,
    bounded,
    confusion_table,
    is_defective,
    limits_of,
    owners,
    picture_words,
    ranking,
    rarest,
    rate,
    refused,
    slices,
    worst_first,
)
from lineside.vision import Decision, PictureState
from lineside.vision.metrics import balanced_accuracy, region_bins

_CLASSES = ("good", "defect")
_UNSURE = -1
_SAID = {Decision.ABSENT: 0, Decision.PRESENT: 1, Decision.UNSURE: _UNSURE}
_MOST_SIDE_PX = 1024

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def measure(
    cases: Sequence[Case], *, manifest: Manifest, baseline: Mapping[str, float]
) -> TaskMetrics:
    """See ``Evaluator``."""
    del baseline  # of good parts alone, the trivial answers need no facts of the training part
    known = [case for case in cases if is_defective(case) is not None]
    if not known:
        return TaskMetrics(metrics={})
    rule = manifest.anomaly
    reason = "" if rule is None or rule.usable else f"not usable: {rule.reason}"
    return TaskMetrics(
        metrics=_figures(known) | _pixel_figures(known),
        confusion={
            "anomaly": confusion_table(
                _CLASSES, _truth(known), _answers(known), groups=owners(known)
            )
        },
        mistakes=_mistakes(known),
        slices=slices(known, _balanced),
        limits={"anomaly": limits_of(_truth(known).astype(bool).tolist(), _scores(known).tolist())},
        warnings=tuple(
            line
            for line in (reason, _one_kind(known), _refused_words(known), _unmasked_words(known))
            if line
        ),
    )


def _truth(cases: Sequence[Case]) -> Integers:
    return np.array([int(bool(is_defective(case))) for case in cases], np.int64)


def _answers(cases: Sequence[Case]) -> Integers:
    found = [case.prediction.anomaly for case in cases]
    return np.array([_UNSURE if each is None else _SAID[each.decision] for each in found], np.int64)


def _scores(cases: Sequence[Case]) -> Floats:
    """Scores, 0 and above; a refused picture's is the wrong one."""
    answer = [case.prediction.anomaly for case in cases]
    highest = max((each.score for each in answer if each is not None), default=0.0)
    wrong = [0.0 if is_defective(case) else highest + 1.0 for case in cases]
    return np.array(
        [other if each is None else each.score for each, other in zip(answer, wrong, strict=True)]
    )


def _figures(cases: Sequence[Case]) -> dict[str, Metric]:
    truth, scores, answer, owned = _truth(cases), _scores(cases), _answers(cases), owners(cases)
    found: dict[str, Metric] = {}
    if truth.any() and not truth.all():
        found = ranking(truth, scores, groups=owned)
        found["balanced_accuracy"] = _balanced(cases)
    if truth.any():
        found["recall"] = rate((answer[truth == 1] == 1).tolist(), baseline=0.0)
    if not truth.all():
        found["false_reject_rate"] = rate((answer[truth == 0] == 1).tolist(), baseline=0.0)
    found["unsure_rate"] = rate((answer == _UNSURE).tolist(), baseline=0.0)
    found["refused_rate"] = refused(cases)
    return found


def _balanced(cases: Sequence[Case]) -> Metric:
    truth, own = _truth(cases), owners(cases)
    return bounded(
        balanced_accuracy,
        truth,
        _answers(cases),
        groups=own,
        baseline=0.5,
        pictures=rarest(truth, own),
    )


def _one_kind(cases: Sequence[Case]) -> str:
    """A sentence where no defect, or nothing good, was among what was measured."""
    truth = _truth(cases)
    if not truth.any():
        return (
            f"all {len(cases)} pictures measured are good: how many are rejected is known, how "
            "many defects are found is not; label some defects to learn it"
        )
    if truth.all():
        return (
            f"all {len(cases)} pictures measured show defects: how many are found is known, how "
            "many good ones are rejected is not; label some good ones to learn it"
        )
    return ""


def _pixel_figures(cases: Sequence[Case]) -> dict[str, Metric]:
    """Pixel AUROC and per-region overlap, drawn again over pictures."""
    drawn = [case for case in cases if _mask(case) is not None]
    if not any(is_defective(case) for case in drawn) or all(is_defective(c) for c in drawn):
        return {}
    pairs = [_reduced(case) for case in drawn]
    bins = region_bins([heat for heat, _ in pairs], [mask for _, mask in pairs])
    rows, owned = np.arange(len(drawn)), owners(drawn)
    figures: tuple[tuple[str, Callable[[Integers], float]], ...] = (
        ("pixel_auroc", bins.auroc),
        ("pro", bins.pro),
    )
    return {
        name: bounded(figure, rows, groups=owned, baseline=baseline, pictures=len(drawn))
        for (name, figure), baseline in zip(figures, (0.5, 0.15), strict=True)
    }


def _mask(case: Case) -> NDArray[np.bool_] | None:
    """Return the defect pixels; None where they are not known, or a good image was refused."""
    if not is_defective(case):
        heat = case.heat
        return None if heat is None else np.zeros(heat.shape, np.bool_)
    mask = case.truth_mask
    return mask if mask is not None and mask.any() else None


def _reduced(case: Case) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Heat and truth, every n-th pixel of very large pictures."""
    mask = _mask(case)
    if mask is None:
        raise AssertionError(case.sample.name)
    heat = np.zeros(mask.shape, np.float32) if case.heat is None else case.heat
    step = max(1, max(heat.shape) // _MOST_SIDE_PX)
    return heat[::step, ::step], mask[::step, ::step]


def _mistakes(cases: Sequence[Case]) -> tuple[Mistake, ...]:
    found = []
    for case, truth, said in zip(
        cases, _truth(cases).tolist(), _answers(cases).tolist(), strict=True
    ):
        if said == truth:
            continue
        answer = case.prediction.anomaly
        words = "unsure" if said == _UNSURE else _CLASSES[said]
        found.append(
            Mistake(
                picture=case.sample.name,
                truth=_CLASSES[truth],
                said=words,
                probability=0.0 if answer is None else _sureness(answer.score, answer.limit),
                reason=picture_words(case),
            )
        )
    return worst_first(found)


def _sureness(score: float, limit: float) -> float:
    """0 at the limit, towards 1 far from it on either side."""
    return abs(score - limit) / max(score + limit, 1e-9)


def _refused_words(cases: Sequence[Case]) -> str:
    """A sentence where pictures were refused: how many of each kind, and what that did."""
    lost = [case for case in cases if case.prediction.state is not PictureState.OK]
    if not lost:
        return ""
    bad = sum(bool(is_defective(case)) for case in lost)
    first = lost[0]
    ranked = (
        ""
        if _one_kind(cases)
        else ("; auroc and average_precision rank each of them on the wrong side")
    )
    return (
        f"{len(lost)} of {len(cases)} pictures were refused ({len(lost) - bad} good, {bad} "
        f"defective), such as {first.sample.name}: {picture_words(first)}{ranked}"
    )


def _unmasked_words(cases: Sequence[Case]) -> str:
    """A sentence where nothing was drawn on defective pictures, so that no place was checked."""
    bad = [case for case in cases if is_defective(case)]
    lacking = sum(_mask(case) is None for case in bad)
    if not bad or not lacking:
        return ""
    return f"{lacking} of {len(bad)} defective pictures have no mask; pixel figures leave them out"
