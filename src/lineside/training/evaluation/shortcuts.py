"""Controls for shortcuts: could a figure come from something other than what it is taken for?

1. Alone: what trivial figures reach on the same pictures (``evaluation.baselines``). A figure of
   the package that a trivial one matches is warned of.
2. Gain normalised: every picture is brought to one mean grey and one contrast and judged again. A
   figure that falls below its own interval, by a tenth of what it has over the baseline, rested on
   the light.
3. Erased: the marked defect or object is painted over from its surroundings and the picture judged
   again. What is still found, or still tells defective pictures from good ones, is not the defect.

A trivial figure that matches is no shortcut where the package does without it: mean grey and
contrast where the figure of normalised pictures holds, any where erased defects are surely lost.

At most ``MOST_JUDGED`` pictures, evenly spread, are judged again, and ``MOST_ERASED`` erased.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lineside.core import Clock, Digest
from lineside.datasets import Sample
from lineside.models import Metric, Package
from lineside.models.result import TrivialFigure
from lineside.training.common.methods import spread
from lineside.training.evaluation.baselines import (
    TOGETHER,
    Question,
    erased,
    inpainter_of,
    marked_area,
    reached,
    trivial_figures,
)
from lineside.training.tasks.contract import MOST_BYTES, Case, Files
from lineside.training.tasks.metrics import (
    Evaluator,
    TaskMetrics,
    bounded,
    good_class,
    is_defective,
    judge_all,
    owners,
    rarest,
    rate,
)
from lineside.vision import Decision, decode_picture, encode_png, grey_of
from lineside.vision.metrics import auroc, metric_words

LOWER_IS_BETTER = frozenset(
    {
        "mae",
        "count_mae",
        "rmse",
        "calibration_error",
        "refused_rate",
        "unsure_rate",
        "answered_error",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasedTest:
    """Answers of the package when the marked defects are painted over.

    Attributes:
        pictures: that were erased.
        still: share of those answered right before that are answered so still; its baseline is
            the share of pictures without a mark that are answered so.
        before, after: AUROC of marked pictures against those without a mark; None without those.
    """

    pictures: int
    still: Metric
    before: Metric | None = None
    after: Metric | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortcutTests:
    """All controls of one evaluation.

    Attributes:
        gain_normalised: figures of the same package on normalised pictures.
        gain_plain: the same figures on the same pictures as they are.
        by_metric: what speaks for a shortcut, by the figure it is about.
        conclusion: all of it in one sentence without figures, and what to do about it; also where
            nothing speaks for one; "" where nothing could be controlled.
        warnings: the conclusion where something speaks for a shortcut.
    """

    alone: tuple[TrivialFigure, ...] = ()
    gain_normalised: Mapping[str, Metric] = field(default_factory=dict)
    gain_plain: Mapping[str, Metric] = field(default_factory=dict)
    erased: ErasedTest | None = None
    by_metric: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    conclusion: str = ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence at most."""
        return (self.conclusion,) if self.by_metric else ()


_SPOKEN = {
    "mean_grey": "brightness (mean grey)",
    "picture_size": "the picture's size",
    "file_size": "the file's size",
    "time_of_day": "the time of day",
    "order": "the order of pictures",
    "together": "grey, contrast, sharpness and size together",
}
_LIGHT = frozenset({"mean_grey", "contrast"})
_OTHER_LIGHT = "take more under other light"
_ADVICE = {
    "picture_size": "take pictures of every label with the same camera and settings",
    "file_size": "take pictures of every label with the same camera and settings",
    "time_of_day": "take pictures of every label on several days",
    "order": "take pictures of every label on several days",
}
_LOST_SHARE = 0.1


def with_sentences(found: ShortcutTests) -> ShortcutTests:
    """The controls with what follows from them."""
    by_metric: dict[str, tuple[str, ...]] = {}
    first: dict[str, tuple[str, ...]] = {}  # of each control; its others say the same again
    for control, metric, sentence, pieces in _suspicions(found):
        by_metric[metric] = (*by_metric.get(metric, ()), sentence)
        first.setdefault(control, pieces)
    plain = dict.fromkeys(piece for pieces in first.values() for piece in pieces)
    conclusion = f"a shortcut may explain the figures: {'; '.join(plain)}"
    return replace(
        found, by_metric=by_metric, conclusion=conclusion if first else _acquittal(found)
    )


def _suspicions(found: ShortcutTests) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Signs of a shortcut: control, figure, sentence; the same in plain words, and advice."""
    for metric, charged in unexplained(found).items():
        best = charged[0]
        sentence = (
            f"{spoken(best.figure)} alone reaches {_figure(best.reached)} "
            f"({metric_words(metric)}), the package {_figure(best.package)}"
        )
        yield (
            "alone",
            metric,
            sentence,
            (
                f"{spoken(best.figure)} alone answers these pictures as well as this model",
                _ADVICE.get(best.figure, _OTHER_LIGHT),
            ),
        )
    for metric, after in found.gain_normalised.items():
        if _leans(metric, found):
            sentence = (
                f"with brightness and contrast normalised the package reaches {_figure(after)} "
                f"({metric_words(metric)}) instead of {found.gain_plain[metric].value:.3f}, so "
                "that it leans on the light"
            )
            yield "normalised", metric, sentence, (
                "the model depends on brightness and contrast", _OTHER_LIGHT
            )  # fmt: skip
    if found.erased is not None and _survives(found.erased):
        yield "erased", "erased", (words := _erased_words(found.erased)), (words,)


def _acquittal(found: ShortcutTests) -> str:
    matching = [one for some in _matching(found.alone).values() for one in some]
    if matching:
        best = matching[0]
        of = metric_words(best.metric)
        alone = f"{spoken(best.figure)} alone reaches {best.reached.value:.3f} ({of}) too"
        if found.erased is not None and _is_lost(found.erased):
            return f"no shortcut: {alone}, but without the marked defects the package finds none"
        after = found.gain_normalised[best.metric]
        return (
            f"no shortcut: {alone}, but with brightness and contrast normalised the package still "
            f"reaches {after.value:.3f}"
        )
    if not found.alone and not found.gain_normalised and found.erased is None:
        return ""
    near = (
        " both surely beats guessing and comes near the package"
        if found.alone
        else " was there to compare with"
    )
    return f"no shortcut was found: no trivial figure of the same pictures{near}"


def unexplained(found: ShortcutTests) -> dict[str, list[TrivialFigure]]:
    """The trivial figures that match and that the other controls do not acquit, by metric."""
    is_lost = found.erased is not None and _is_lost(found.erased)
    charged = {}
    for metric, matching in _matching(found.alone).items():
        if is_lost and not _leans(metric, found):
            continue
        single = [one for one in matching if one.figure != TOGETHER]
        left = [one for one in single if not (one.figure in _LIGHT and _holds(metric, found))]
        if left or not single:
            charged[metric] = left + [one for one in matching if one.figure == TOGETHER]
    return charged


def _leans(metric: str, found: ShortcutTests) -> bool:
    """Return whether a figure falls on normalised pictures."""
    after, lower = found.gain_normalised.get(metric), metric in LOWER_IS_BETTER
    return after is not None and _falls(found.gain_plain[metric], after, lower=lower)


def _holds(metric: str, found: ShortcutTests) -> bool:
    """Return whether a figure stays as it is, and above the baseline, on normalised pictures."""
    after = found.gain_normalised.get(metric)
    if after is None or _leans(metric, found):
        return False
    is_lower = metric in LOWER_IS_BETTER
    return after.high < after.baseline if is_lower else after.low > after.baseline


def _is_lost(found: ErasedTest) -> bool:
    """Return whether the package surely misses the defects that are erased."""
    if found.before is not None and found.after is not None:
        return found.after.low <= 0.5 and found.after.high < found.before.low
    return found.still.n > 0 and found.still.high < 0.5


def _matching(alone: Sequence[TrivialFigure]) -> dict[str, list[TrivialFigure]]:
    """The trivial figures that match, by metric, the best first; single ones before all."""
    found: dict[str, list[TrivialFigure]] = {}
    for one in alone:
        if one.matched:
            found.setdefault(one.metric, []).append(one)
    return {metric: best_first(some) for metric, some in found.items()}


def best_first(some: Sequence[TrivialFigure]) -> list[TrivialFigure]:
    """Trivial figures of one metric, the best first; single ones before all together."""
    return sorted(
        some,
        key=lambda one: (
            one.figure == TOGETHER,
            one.reached.value if one.metric in LOWER_IS_BETTER else -one.reached.value,
        ),
    )


def spoken(figure: str) -> str:
    """A trivial figure in words."""
    return _SPOKEN.get(figure, figure)


def _figure(metric: Metric) -> str:
    return f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f}, n {metric.n})"


def _falls(before: Metric, after: Metric, *, lower: bool) -> bool:
    """Return whether the figure leaves its interval and loses a tenth of its lead."""
    outside = after.value > before.high if lower else after.value < before.low
    lost = abs(before.value - after.value)
    return outside and lost > _LOST_SHARE * abs(before.value - before.baseline)


def _survives(found: ErasedTest) -> bool:
    """Return whether the package goes on without the defect."""
    if found.before is not None and found.after is not None:
        stored = found.after.value - 0.5 > 0.5 * (found.before.value - 0.5)
        return found.before.low > 0.5 and found.after.low > 0.5 and stored
    return found.still.n > 0 and found.still.low > max(0.5, found.still.baseline)


def _erased_words(found: ErasedTest) -> str:
    if found.before is not None and found.after is not None:
        return (
            f"with the marked defect erased, pictures are still told from good ones by AUROC "
            f"{_figure(found.after)}, {found.before.value:.3f} with it; it is not the defect alone "
            "that is seen"
        )
    return (
        f"with what was marked erased, {found.still.value:.0%} of {found.still.n} pictures are "
        "still answered as before; it is not the marked place alone that is seen"
    )


MOST_JUDGED = 150
MOST_ERASED = 60
MOST_LOOKED_AT = 2000
_MOST_EACH = 12
_NORMALISED = (
    "auroc",
    "average_precision",
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "f1",
    "pixel_f1",
    "exact",
    "mae",
    "count_exact",
    "count_mae",
)
_OVERLAP = "f1_iou"
_MOST_LABELS = 8

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvaluatedPackage:
    """A package's evaluation, to be controlled.

    Attributes:
        measure: computes the figures of the task again.
        baseline: facts of the training pictures.
        tell: called now and then; it may raise to stop.
        unseen: cases that the package has not learned from; it judges no others again.
    """

    package: Package
    cases: Sequence[Case]
    measured: TaskMetrics
    measure: Evaluator
    baseline: Mapping[str, float]
    files: Files
    clock: Clock
    tell: Callable[[], None] = lambda: None
    unseen: Sequence[Case]


def run_shortcut_tests(judged: EvaluatedPackage) -> ShortcutTests:
    """Carry every control out that the pictures allow."""
    alone = tuple(_alone(judged))
    if not judged.unseen:
        return with_sentences(ShortcutTests(alone=alone))
    judged.tell()
    plain, normalised_figures = _normalised(judged)
    judged.tell()
    found = ShortcutTests(
        alone=alone,
        gain_plain=plain,
        gain_normalised=normalised_figures,
        erased=_erased(judged),
    )
    return with_sentences(found)


# ---- alone


def questions_of(
    task: str, cases: Sequence[Case], *, labels: Sequence[str], good: Collection[str] = ()
) -> list[Question]:
    """Return the questions that trivial figures are asked about the pictures."""
    owned = owners(cases)
    if task in ("anomaly", "segment"):
        known = [is_defective(case) for case in cases]
        truth = np.array([-1 if one is None else int(one) for one in known])
        return [Question(kind="yes", truth=truth, owners=owned)]
    if task in ("count", "detect"):
        counts = [_count(case.sample) for case in cases]
        truth = np.array([-1 if one is None else one for one in counts])
        return [Question(kind="count", truth=truth, owners=owned)]
    if task == "multilabel":
        return [
            Question(kind="yes", truth=_presence(cases, label), owners=owned, of=label)
            for label in labels[:_MOST_LABELS]
        ]
    places = {label: place for place, label in enumerate(labels)}
    named = [[places[name] for name in case.sample.labels if name in places] for case in cases]
    truth = np.array([some[0] if len(some) == 1 else -1 for some in named])
    return [
        Question(kind="class", truth=truth, owners=owned),
        *_yes_or_no(truth, labels, owned=owned, good=good),
    ]


def _presence(cases: Sequence[Case], label: str) -> NDArray[np.int64]:
    """Return whether each picture shows a label; -1 where nobody judged it."""
    samples = [case.sample for case in cases]
    return np.array([int(label in s.labels) if label in s.known else -1 for s in samples])


def _yes_or_no(
    truth: NDArray[np.int64], labels: Sequence[str], *, owned: NDArray[np.int64],
    good: Collection[str],
) -> list[Question]:  # fmt: skip
    """Return whether anything is wrong, where one class means none; of two classes which."""
    fine = good_class(labels, good=good)
    if fine is not None:
        yes, of = truth != fine, labels[1 - fine] if len(labels) == 2 else ""
    elif len(labels) == 2:
        yes, of = truth == 1, labels[1]
    else:
        return []
    requested = np.where(truth < 0, -1, yes.astype(np.int64))
    return [Question(kind="yes", truth=requested, owners=owned, of=of)]


def _count(sample: Sample) -> int | None:
    if sample.count is not None:
        return sample.count
    return None if sample.marked is None else len(sample.marked)


def _alone(judged: EvaluatedPackage) -> list[TrivialFigure]:
    cases = spread(judged.cases, MOST_LOOKED_AT)
    manifest = judged.package.manifest
    labels = manifest.classes.labels if manifest.classes is not None else manifest.labels
    if manifest.rules:
        labels = tuple(rule.name for rule in manifest.rules if not rule.is_class)
    requested = questions_of(manifest.task, cases, labels=labels, good=manifest.good)
    figures = trivial_figures([case.sample for case in cases], files=judged.files)
    return [
        found
        for question in requested
        for found in against(question, figures=figures, metrics=judged.measured.metrics)
    ]


def against(
    question: Question,
    *,
    figures: Mapping[str, NDArray[np.float64]],
    metrics: Mapping[str, Metric],
) -> list[TrivialFigure]:
    """Return the results of trivial figures on a question beside the package's metrics."""
    found = []
    for figure, metric, value in reached(question, figures):
        names = (metric, f"{metric}/{question.of}", f"count_{metric}")
        name = next((one for one in names if one in metrics), "")
        if not name:
            continue
        package = metrics[name]
        found.append(
            TrivialFigure(
                figure=figure,
                metric=name,
                reached=value,
                package=package,
                matched=_matches(value, package, lower=metric in LOWER_IS_BETTER),
            )
        )
    return found


def _matches(value: Metric, package: Metric, *, lower: bool) -> bool:
    if lower:
        return value.high < value.baseline and value.value <= package.high
    return value.low > value.baseline and value.value >= package.low


# ---- gain normalised


def normalised(image: Image, *, mean: float, deviation: float) -> Image:
    """The picture at that mean grey and deviation, one gain and offset for all of it."""
    grey = grey_of(image)
    gain = deviation / max(1.0, float(grey.std()))
    return np.asarray(
        np.clip((image.astype(np.float32) - float(grey.mean())) * gain + mean, 0, 255).round(),
        np.uint8,
    )


def gain_normaliser(samples: Sequence[Sample], *, files: Files) -> Callable[[Digest], bytes]:
    """Bytes of these samples' pictures and templates at their common light; others as they are."""
    greys = [grey_of(decode_picture(files(s.digest), max_bytes=MOST_BYTES)) for s in samples]
    mean = float(np.median([grey.mean() for grey in greys]))
    deviation = float(np.median([grey.std() for grey in greys]))
    pictures = {sample.digest for sample in samples}
    pictures |= {s.template_digest for s in samples if s.template_digest is not None}

    def read(digest: Digest) -> bytes:
        encoded = files(digest)
        if digest not in pictures:
            return encoded
        image = decode_picture(encoded, max_bytes=MOST_BYTES)
        return encode_png(normalised(image, mean=mean, deviation=deviation))

    return read


def _normalised(judged: EvaluatedPackage) -> tuple[dict[str, Metric], dict[str, Metric]]:
    """(plain, normalised) figures of the same pictures."""
    cases = spread(judged.unseen, MOST_JUDGED)
    samples = [case.sample for case in cases]
    read = gain_normaliser(samples, files=judged.files)
    again = list(judge_all(judged.package, samples, files=read, clock=judged.clock))
    manifest, baseline = judged.package.manifest, judged.baseline
    whole = len(cases) == len(judged.cases)
    before = (
        judged.measured if whole else judged.measure(cases, manifest=manifest, baseline=baseline)
    )
    after = judged.measure(again, manifest=manifest, baseline=baseline)
    return remaining_figures(before.metrics), remaining_figures(after.metrics)


def remaining_figures(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """The figures that are compared: those of all labels together, or else of each."""
    found = {
        name: metric
        for name, metric in metrics.items()
        if name in _NORMALISED or name.startswith(_OVERLAP)
    }
    each = {
        name: metric
        for name, metric in metrics.items()
        if "/" in name
        and name.partition("/")[0] in _NORMALISED
        and name.partition("/")[0] not in found
    }
    return found | dict(list(each.items())[:_MOST_EACH])


# ---- erased


def _erased(judged: EvaluatedPackage) -> ErasedTest | None:
    marked = [case for case in judged.unseen if marked_area(case) is not None]
    if not marked:
        return None
    before = spread(marked, MOST_ERASED)
    changed: dict[Digest, Case] = {case.sample.digest: case for case in before}
    unmarked = [case for case in judged.unseen if is_defective(case) is False]
    erase: Callable[[bytes, Case], bytes] = erased
    if judged.package.manifest.task == "anomaly":  # paint would be an anomaly of its own
        erase = inpainter_of(judged.package, unmarked, files=judged.files)

    def read(digest: Digest) -> bytes:
        encoded = judged.files(digest)
        return erase(encoded, changed[digest]) if digest in changed else encoded

    samples = [case.sample for case in before]
    after = list(judge_all(judged.package, samples, files=read, clock=judged.clock))
    good = _good_labels(judged.unseen)
    return ErasedTest(
        pictures=len(before),
        still=_still(before, after, unmarked=unmarked, good=good),
        before=_against_unmarked(before, unmarked, good=good),
        after=_against_unmarked(after, unmarked, good=good),
    )


def _good_labels(cases: Sequence[Case]) -> frozenset[str]:
    """Labels that no marked picture has."""
    marked = {name for c in cases if marked_area(c) is not None for name in c.sample.labels}
    return frozenset({name for case in cases for name in case.sample.labels} - marked)


def _still(
    before: Sequence[Case],
    after: Sequence[Case],
    *,
    unmarked: Sequence[Case],
    good: frozenset[str],
) -> Metric:
    pairs = [(old, new) for old, new in zip(before, after, strict=True) if _finds(old, good=good)]
    so_anyway = [_finds(case, good=good) for case in unmarked]
    return rate(
        [_finds(new, good=good) for _, new in pairs],
        baseline=float(np.mean(so_anyway)) if so_anyway else 0.0,
    )


def _finds(case: Case, *, good: frozenset[str]) -> bool:
    """Return whether the package says that there is what was marked."""
    answer = case.prediction
    if answer.anomaly is not None:
        return answer.anomaly.decision is Decision.PRESENT
    if answer.mask is not None and not answer.labels:
        return answer.mask.share > 0
    if answer.count is not None:
        return answer.count.value > 0
    if answer.boxes or not answer.labels:
        return any(box.decision is Decision.PRESENT for box in answer.boxes)
    return any(
        label.decision is Decision.PRESENT and label.name not in good for label in answer.labels
    )


def defect_score(case: Case, *, good: frozenset[str]) -> float | None:
    """Return how defective a package calls a picture, in the task's own unit, or None."""
    answer = case.prediction
    if answer.anomaly is not None:
        return answer.anomaly.score
    if answer.mask is not None:
        return answer.labels[0].probability if answer.labels else answer.mask.share
    if answer.labels and good:
        return 1.0 - sum(label.probability for label in answer.labels if label.name in good)
    return None


def _against_unmarked(
    cases: Sequence[Case], unmarked: Sequence[Case], *, good: frozenset[str]
) -> Metric | None:
    scored = [(defect_score(case, good=good), 1) for case in cases]
    scored += [(defect_score(case, good=good), 0) for case in unmarked]
    stored = [(score, truth) for score, truth in scored if score is not None]
    truth = np.array([truth for _, truth in stored])
    if not truth.any() or truth.all():
        return None
    scores = np.array([score for score, _ in stored])
    return bounded(auroc, truth, scores, baseline=0.5, pictures=rarest(truth))
