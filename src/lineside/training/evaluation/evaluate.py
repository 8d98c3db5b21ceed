"""Measure a package on labelled pictures, through the code that devices run.

Pictures the package was trained on are refused by content digest; the package lists them in
``evidence/training.json``. Each picture is judged on its own: no registration is carried over from
the one before.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lineside.core import Clock, Digest, InvalidError, decode
from lineside.datasets import Leak, Sample
from lineside.datasets.leaks import crossing
from lineside.models import Metric, Package
from lineside.models.result import Confusion, Mistake
from lineside.training.evaluation.shortcuts import (
    EvaluatedPackage,
    ShortcutTests,
    run_shortcut_tests,
)
from lineside.training.source import is_labelled, leak_warning
from lineside.training.tasks.contract import MAJORITY, MOST_BYTES, Case, Files
from lineside.training.tasks.metrics import evaluator_for, judge_all, picture_words, refused
from lineside.vision import Decision, decode_picture, draw_heat, thumbnail
from lineside.vision.masks import mask_of
from lineside.vision.metrics import LimitRow, ReliabilityBin

TRAINING_FILE = "evidence/training.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Everything that an evaluation found.

    Attributes:
        metrics: figures by name; only ``refused_rate`` where no image was answered.
        per_class: ``recall/<label>`` and ``precision/<label>``.
        confusion: per label or class list.
        limits: per score, escapes against over-rejects at every cut.
        slices: by group, lighting or kind: slice → name → figure.
        controls: what a shortcut would reach on the same pictures.
        pictures: of labels, every answer.
        thumbnails: JPEG of the worst mistakes, by name of the picture; not part of the JSON.
        leaking: pairs that stand on both sides of the split.
        warnings: sentences to stand beside every figure, such as a declared leak.
    """

    metrics: Mapping[str, Metric]
    per_class: Mapping[str, Metric]
    confusion: Mapping[str, Confusion]
    slices: Mapping[str, Mapping[str, Metric]]
    limits: Mapping[str, tuple[LimitRow, ...]] = field(default_factory=dict)
    reliability: Mapping[str, tuple[ReliabilityBin, ...]] = field(default_factory=dict)
    mistakes: tuple[Mistake, ...] = ()
    controls: ShortcutTests = field(default_factory=ShortcutTests)
    pictures: tuple[object, ...] = ()
    thumbnails: Mapping[str, bytes] = field(default_factory=dict)
    leaking: int = 0
    warnings: tuple[str, ...] = ()


def evaluate_cases(
    package: Package,
    cases: Sequence[Case],
    *,
    baseline: Mapping[str, float],
    files: Files,
    clock: Clock,
    tell: Callable[[], None] = lambda: None,
    unseen: Sequence[Case],
    leaks: Sequence[Leak] = (),
) -> Evaluation:
    """Compute the figures of judged pictures, and carry the shortcut tests out.

    Args:
        package: what is measured.
        cases: at least one, with the truth that the task needs.
        baseline: facts of the training pictures (``Trained.baseline``).
        files: gives the bytes of a picture, mask or template.
        clock: for the predictor.
        tell: called now and then; it may raise to stop.
        unseen: of them those that the package has not learned from, so that it may judge them
            again; the others were judged by networks that had not seen them.
        leaks: known of the data the package was trained and is measured on.
    """
    measure = evaluator_for(package.manifest.task)
    found = measure(cases, manifest=package.manifest, baseline=baseline)
    controls = run_shortcut_tests(
        EvaluatedPackage(
            package=package,
            cases=cases,
            measured=found,
            measure=measure,
            baseline=baseline,
            files=files,
            clock=clock,
            tell=tell,
            unseen=unseen,
        )
    )
    leaking = len(crossing(leaks))
    return Evaluation(
        metrics=found.metrics,
        per_class=found.per_class,
        confusion=found.confusion,
        slices=found.slices,
        limits=found.limits,
        reliability=found.reliability,
        mistakes=found.mistakes,
        controls=controls,
        pictures=found.pictures,
        thumbnails=mistake_pictures(cases, found.mistakes, files=files),
        leaking=leaking,
        warnings=(*found.warnings, *controls.warnings, *leak_warning(leaking)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingEvidence:
    """Digests and baselines of the pictures that a package was trained on.

    Attributes:
        pictures: their digests.
        majority: of regions, the commonest truth per name.
        facts: of other tasks, what the trivial baseline is made of (``Trained.baseline``).
    """

    pictures: tuple[Digest, ...]
    majority: dict[str, int]
    facts: dict[str, float] = field(default_factory=dict)
    schema: str = "lineside.training-evidence/1"

    @property
    def baseline(self) -> dict[str, float]:
        """Everything as ``Trained.baseline`` has it."""
        return {**self.facts, **{f"{MAJORITY}{name}": n for name, n in self.majority.items()}}


def evidence_of(samples: Sequence[Sample], baseline: Mapping[str, float]) -> TrainingEvidence:
    """Return the evidence of a training, as packages carry it."""
    often = {
        n.removeprefix(MAJORITY): int(v) for n, v in baseline.items() if n.startswith(MAJORITY)
    }
    return TrainingEvidence(
        pictures=tuple(sample.digest for sample in samples),
        majority=often,
        facts={name: v for name, v in baseline.items() if not name.startswith(MAJORITY)},
    )


def evaluate(
    package: Package,
    samples: Sequence[Sample],
    *,
    files: Callable[[Digest], bytes],
    clock: Clock,
    leaks: Sequence[Leak] = (),
) -> Evaluation:
    """Judge every picture with the package and hold the answers against what is known of them.

    Args:
        package: what is measured.
        samples: labelled with the package's names; unlabelled ones are passed over.
        files: gives the bytes of a picture, mask or template.
        clock: for the predictor.
        leaks: known of the data the package was trained and is measured on.

    Raises:
        InvalidError: a picture was trained on, or nothing is labelled.
    """
    evidence = training_evidence(package)
    refuse_overlap(samples, evidence)
    known = [sample for sample in samples if is_labelled(sample)]
    if not known:
        raise _unlabelled(package)
    cases = list(judge_all(package, known, files=files, clock=clock, objects=True))
    reasons = Counter(filter(None, map(picture_words, cases)))
    if reasons.total() == len(cases):
        return _unanswered(cases, reason=reasons.most_common(1)[0][0])
    return evaluate_cases(
        package,
        cases,
        baseline=evidence.baseline,
        files=files,
        clock=clock,
        unseen=cases,
        leaks=leaks,
    )


def _unanswered(cases: Sequence[Case], *, reason: str) -> Evaluation:
    """The evaluation where no image was answered: no figure but the share that was refused."""
    told = f"none of the {len(cases)} images was answered, so nothing was measured; {reason}"
    return Evaluation(
        metrics={"refused_rate": refused(cases)}, per_class={}, confusion={}, slices={},
        warnings=(told,),
    )  # fmt: skip


def _unlabelled(package: Package) -> InvalidError:
    names = ", ".join(package.manifest.labels)
    return InvalidError(
        "none of the pictures is labelled with what this package answers",
        where="data",
        fix=f"It answers {names}." if names else f"It answers the task {package.manifest.task}.",
    )


def training_evidence(package: Package) -> TrainingEvidence:
    """Return the training evidence of a package; empty for a package without one."""
    raw = package.files.get(TRAINING_FILE)
    if raw is None:
        return TrainingEvidence(pictures=(), majority={})
    return decode(TrainingEvidence, raw, where=f"{package.manifest.name}: {TRAINING_FILE}")


def refuse_overlap(samples: Sequence[Sample], evidence: TrainingEvidence) -> None:
    """Refuse pictures that the package has seen."""
    observed = set(evidence.pictures)
    both = [sample.name for sample in samples if sample.digest in observed]
    if both:
        shown = ", ".join(both[:3]) + (" …" if len(both) > 3 else "")
        raise InvalidError(
            f"{len(both)} of {len(samples)} pictures were trained on: {shown}",
            where="data",
            fix="Name other pictures, or the part that was held out (--part test)."
            if len(both) < len(samples)
            else "Name other pictures.",
        )


_WIDTH_PX = 240
_TRUE = (44, 182, 125)
_SAID = (214, 0, 147)

Image = NDArray[np.uint8]


def mistake_pictures(
    cases: Sequence[Case], mistakes: Sequence[Mistake], *, files: Files
) -> dict[str, bytes]:
    """JPEG by picture name; names that no case has are left out."""
    by_name = {case.sample.name: case for case in cases}
    return {
        worst.picture: _picture(by_name[worst.picture], files=files)
        for worst in mistakes
        if worst.picture in by_name
    }


def _picture(case: Case, *, files: Files) -> bytes:
    image = decode_picture(files(case.sample.digest), max_bytes=MOST_BYTES)
    canvas = np.array(_heated(image, case))
    _outline(canvas, _predicted_mask(case), colour=_SAID)
    _outline(canvas, case.truth_mask, colour=_TRUE)
    for mark in case.sample.marked or ():
        _rectangle(canvas, (mark.x0_px, mark.y0_px, mark.x1_px, mark.y1_px), colour=_TRUE)
    for box in case.prediction.boxes:
        if box.decision is not Decision.ABSENT:
            _rectangle(canvas, (box.x0_px, box.y0_px, box.x1_px, box.y1_px), colour=_SAID)
    return thumbnail(canvas, width_px=_WIDTH_PX)


def _heated(image: Image, case: Case) -> Image:
    """The picture under its map, the limit (or the map's own middle) half way.

    A mask that was said is outlined instead.
    """
    if case.prediction.mask is not None or case.heat is None or case.heat.shape != image.shape[:2]:
        return image
    answer = case.prediction.anomaly
    low = 0.0 if answer is not None else float(case.heat.min())
    middle = answer.limit if answer is not None else (low + float(case.heat.max())) / 2
    if middle <= low:
        return image
    return draw_heat(image, np.asarray((case.heat - low) / (2 * (middle - low)), np.float32))


def _predicted_mask(case: Case) -> NDArray[np.bool_] | None:
    answer = case.prediction.mask
    if answer is None:
        return None
    return mask_of(answer.rle, width_px=answer.width_px, height_px=answer.height_px)


def _outline(
    canvas: Image, mask: NDArray[np.bool_] | None, *, colour: tuple[int, int, int]
) -> None:
    import cv2

    if mask is None or mask.shape != canvas.shape[:2]:
        return
    around, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, around, -1, colour, _thick(canvas))


def _rectangle(
    canvas: Image, box: tuple[float, float, float, float], *, colour: tuple[int, int, int]
) -> None:
    import cv2

    left, top, right, bottom = (round(value) for value in box)
    if (left, top) == (right, bottom):
        cv2.circle(canvas, (left, top), 3 * _thick(canvas), colour, _thick(canvas))
    else:
        cv2.rectangle(canvas, (left, top), (right - 1, bottom - 1), colour, _thick(canvas))


def _thick(canvas: Image) -> int:
    return max(1, round(int(canvas.shape[1]) / _WIDTH_PX))
