"""Figures of masks of defects: of pictures, of pixels, of each kind of defect.

1. A picture is ranked by the mean of its map's top share, as its rule takes it. A refused picture
   counts as not right: lowest where it is defective, highest where it is good, and its mask is
   empty.
2. Figures of pixels are of pictures whose mask is known: good ones, whose mask is empty, and
   defective ones with a drawn mask. The trivial baseline sets every pixel.
3. ``pixel_f1`` and ``iou`` are of all pixels together; ``pixel_f1_per_picture`` is the mean over
   defective pictures, so that a small defect weighs as much as a large one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError
from lineside.models import Manifest, Metric
from lineside.models.result import Confusion, Mistake
from lineside.training.tasks.contract import Case
from lineside.training.tasks.metrics import (
    TaskMetrics,
    bounded,
    confusion_table,
    is_defective,
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
    worst_first,
)
from lineside.vision import Decision, PictureState
from lineside.vision.masks import mask_of
from lineside.vision.metrics import (
    PRO_LIMIT,
    UNSURE,
    auroc,
    f1_of,
    iou_of,
    pixel_counts,
    region_bins,
)

_DEFAULT_SHARE = 0.001
_POOR_F1 = 0.3
_GOOD = "good"

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Judged:
    """A case with what its figures are made of.

    Attributes:
        score: ranks pictures.
        found, truth, heat: of the picture's size; None where its mask is not known.
    """

    case: Case
    defective: bool
    score: float
    found: Mask | None = None
    truth: Mask | None = None
    heat: Floats | None = None

    @property
    def decision(self) -> Decision | None:
        """The picture's answer; None where it was refused."""
        labels = self.case.prediction.labels
        return labels[0].decision if labels else None

    @property
    def is_right(self) -> bool:
        """Return whether the answer is the true one; unsure is not."""
        return self.decision is (Decision.PRESENT if self.defective else Decision.ABSENT)

    @property
    def probability(self) -> float:
        """That it is defective; a half where it was refused."""
        labels = self.case.prediction.labels
        return labels[0].probability if labels else 0.5

    @property
    def f1(self) -> float:
        """Of its own pixels; NaN where nothing is set or known."""
        if self.found is None or self.truth is None:
            return math.nan
        return f1_of(pixel_counts([self.found], [self.truth]))


def measure(
    cases: Sequence[Case], *, manifest: Manifest, baseline: Mapping[str, float]
) -> TaskMetrics:
    """See ``Evaluator``."""
    rule = manifest.mask
    share = _DEFAULT_SHARE if rule is None else rule.top_share
    told = [(case, is_defective(case)) for case in cases]
    judged = [_judged(case, known, share=share) for case, known in told if known is not None]
    if not judged:
        raise InvalidError(
            "nobody said of any picture whether it is defective",
            where="data",
            fix="Label pictures good or by their defect, or draw masks.",
        )
    drawn = [each for each in judged if each.truth is not None]
    label = manifest.labels[0]
    return TaskMetrics(
        metrics={**_of_pictures(judged), **_of_pixels(drawn, baseline=baseline)},
        per_class=_per_class(judged),
        confusion={label: _confusion(judged, label)},
        reliability={
            label: reliability_of(
                [each.defective for each in judged], [each.probability for each in judged]
            )
        },
        limits={
            label: limits_of([each.defective for each in judged], [each.score for each in judged])
        },
        mistakes=worst_first(_mistakes(judged, label)),
        slices=_slices(judged),
        warnings=_warnings(judged, drawn),
    )


def _judged(case: Case, defective: bool, *, share: float) -> _Judged:  # noqa: FBT001  a fact, not a switch
    score = 0.0 if defective else 1.0
    if case.heat is not None:
        score = _top_mean(case.heat, share=share)
    truth = _truth(case, defective=defective)
    if truth is None:
        return _Judged(case=case, defective=defective, score=score)
    heat = np.zeros(truth.shape, np.float32) if case.heat is None else case.heat
    return _Judged(
        case=case,
        defective=defective,
        score=score,
        found=_found(case, size=truth.shape),
        truth=truth,
        heat=heat,
    )


def _truth(case: Case, *, defective: bool) -> Mask | None:
    """The true mask; empty for a good picture; None where nobody drew it."""
    mask, heat = case.truth_mask, case.heat
    if defective:
        return mask if mask is not None and mask.any() else None
    if mask is not None:
        return mask
    return None if heat is None else np.zeros(heat.shape, np.bool_)


def _found(case: Case, *, size: tuple[int, ...]) -> Mask:
    answer = case.prediction.mask
    if answer is None:
        return np.zeros(size, np.bool_)
    return mask_of(answer.rle, width_px=answer.width_px, height_px=answer.height_px)


def _top_mean(heat: Floats, *, share: float) -> float:
    flat = heat.reshape(-1)
    count = max(1, round(share * len(flat)))
    return float(np.partition(flat, len(flat) - count)[len(flat) - count :].mean())


# ---- pictures


def _of_pictures(judged: Sequence[_Judged]) -> dict[str, Metric]:
    truth = np.array([each.defective for each in judged], np.bool_)
    scores = np.array([each.score for each in judged])
    right = np.array([each.is_right for each in judged], np.bool_)
    own = owners([each.case for each in judged])
    common = max(float(truth.mean()), 1.0 - float(truth.mean()))
    return {
        **ranking(truth, scores, groups=own),
        "accuracy": rate(right.tolist(), baseline=common),
        "balanced_accuracy": bounded(
            _balanced, truth, right, groups=own, baseline=0.5, pictures=rarest(truth, own)
        ),
        "unsure_rate": rate((each.decision is Decision.UNSURE for each in judged), baseline=0.0),
        "refused_rate": refused([each.case for each in judged]),
    }


def _balanced(truth: NDArray[np.bool_], right: NDArray[np.bool_]) -> float:
    """Mean share of right answers of the sides that occur."""
    return float(np.mean([right[truth == side].mean() for side in np.unique(truth)]))


# ---- pixels


def _of_pixels(drawn: Sequence[_Judged], *, baseline: Mapping[str, float]) -> dict[str, Metric]:
    known = [(e.found, e.truth, e.heat) for e in drawn]
    found = [mask for mask, _, _ in known if mask is not None]
    truth = [mask for _, mask, _ in known if mask is not None]
    heat = [values for _, _, values in known if values is not None]
    if not any(mask.any() for mask in truth):
        return {}
    counts, bins = pixel_counts(found, truth), region_bins(heat, truth)
    own = owners([each.case for each in drawn])
    places, n = np.arange(len(drawn)), len(np.unique(own[counts.any(axis=1)]))
    share = baseline.get("pixel_share", 0.0) or _share(truth)
    marked = np.array([bool(mask.any()) for mask in truth], np.bool_)
    single, defective = np.array([each.f1 for each in drawn])[marked], len(np.unique(own[marked]))
    all_set = float(np.mean([_f1_of_all_set(mask) for mask in truth if mask.any()]))
    return {
        "pixel_f1": bounded(
            f1_of, counts, groups=own, baseline=2 * share / (1 + share), pictures=n
        ),
        "pixel_f1_per_picture": bounded(
            mean,
            single,
            groups=own[marked],
            baseline=all_set,
            pictures=len(single),
        ),
        "iou": bounded(iou_of, counts, groups=own, baseline=share, pictures=n),
        "pro": bounded(bins.pro, places, groups=own, baseline=PRO_LIMIT / 2, pictures=defective),
        "pixel_auroc": bounded(bins.auroc, places, groups=own, baseline=0.5, pictures=defective),
    }


def _share(truth: Sequence[Mask]) -> float:
    return sum(int(mask.sum()) for mask in truth) / sum(mask.size for mask in truth)


def _f1_of_all_set(mask: Mask) -> float:
    share = float(mask.mean())
    return 2 * share / (1 + share)


# ---- kinds


def _kind(each: _Judged) -> str:
    """The label that names the picture, or whether it is defective."""
    labels = each.case.sample.labels
    if labels:
        return "+".join(labels)
    return "defect" if each.defective else _GOOD


def _per_class(judged: Sequence[_Judged]) -> dict[str, Metric]:
    """Per kind the share of right answers, how well it is told from good ones, its pixels."""
    good = [each for each in judged if not each.defective]
    found: dict[str, Metric] = {}
    for kind in sorted({_kind(each) for each in judged}):
        some = [each for each in judged if _kind(each) == kind]
        found[f"recall/{kind}"] = rate((each.is_right for each in some), baseline=0.5)
        if not some[0].defective:
            continue
        if good:
            found[f"auroc/{kind}"] = _auroc_of(some, good)
        drawn = [each for each in some if each.truth is not None]
        if drawn:
            found[f"pixel_f1_per_picture/{kind}"] = bounded(
                mean,
                np.array([each.f1 for each in drawn]),
                groups=owners([each.case for each in drawn]),
                baseline=float(
                    np.mean([_f1_of_all_set(e.truth) for e in drawn if e.truth is not None])
                ),
                pictures=len(drawn),
            )
    return found


def _auroc_of(some: Sequence[_Judged], good: Sequence[_Judged]) -> Metric:
    both = [*some, *good]
    return bounded(
        auroc,
        np.array([each.defective for each in both], np.bool_),
        np.array([each.score for each in both]),
        groups=owners([each.case for each in both]),
        baseline=0.5,
        pictures=len(both),
    )


def _confusion(judged: Sequence[_Judged], label: str) -> Confusion:
    places = {Decision.ABSENT: 0, Decision.PRESENT: 1}
    answers = [places.get(each.decision, UNSURE) if each.decision else UNSURE for each in judged]
    truth = [int(each.defective) for each in judged]
    own = owners([each.case for each in judged])
    return confusion_table((_GOOD, label), truth, answers, groups=own)


def _mistakes(judged: Sequence[_Judged], label: str) -> list[Mistake]:
    found = []
    for each in judged:
        truth = _kind(each)
        if not each.is_right:
            surer = 1.0 - each.probability if each.defective else each.probability
            found.append(
                _worst(each, truth=truth, name=_answer_words(each, label), probability=surer)
            )
        elif each.defective and each.f1 < _POOR_F1:
            answer = f"{label}, its pixels at F1 {each.f1:.2f}"
            found.append(_worst(each, truth=truth, name=answer, probability=0.5 * (1 - each.f1)))
    return found


def _worst(each: _Judged, *, truth: str, name: str, probability: float) -> Mistake:
    return Mistake(
        picture=each.case.sample.name,
        truth=truth,
        said=name,
        probability=probability,
        reason=picture_words(each.case),
    )


def _answer_words(each: _Judged, label: str) -> str:
    if each.decision is None:
        return str(each.case.prediction.state)
    if each.decision is Decision.UNSURE:
        return "unsure"
    return label if each.decision is Decision.PRESENT else _GOOD


def _slices(judged: Sequence[_Judged]) -> dict[str, dict[str, Metric]]:
    right = {id(each.case): each.is_right for each in judged}
    cases = [each.case for each in judged]

    def figure(some: Sequence[Case]) -> Metric:
        return rate((right[id(case)] for case in some), baseline=0.5)

    return slices(cases, figure, kinds={"label": [_kind(each) for each in judged]})


def _warnings(judged: Sequence[_Judged], drawn: Sequence[_Judged]) -> tuple[str, ...]:
    sentences = []
    if all(each.defective for each in judged):
        sentences.append("no good picture was measured: nothing is known of false alarms")
    if not any(each.defective for each in judged):
        sentences.append("no defective picture was measured: nothing is known of escapes")
    bare = sum(each.defective for each in judged) - sum(each.defective for each in drawn)
    if bare:
        sentences.append(
            f"{bare} defective pictures have no mask: figures of pixels leave them out"
        )
    lost = sum(each.case.prediction.state is not PictureState.OK for each in judged)
    if lost:
        sentences.append(f"{lost} of {len(judged)} pictures were refused and count as not right")
    return tuple(sentences)
