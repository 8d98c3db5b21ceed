"""Count objects: found ones where points or boxes are marked, else from the numbers alone."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError, Policy
from lineside.datasets import Sample
from lineside.models.engines import BANK_OUTPUT
from lineside.training.common.export import export, golden_of, limits_of
from lineside.training.common.loop import Round, fit_rounds
from lineside.training.common.methods import remember
from lineside.training.common.torch_backbone import open_backbone
from lineside.training.job import TrainJob
from lineside.training.tasks.contract import Trained, Work
from lineside.training.tasks.count.numbers import (
    Numbered,
    NumberStudent,
    logits_of,
    most_of,
    number_rule,
    usual_steps,
)
from lineside.training.tasks.detect.learn import (
    TrainedObjects,
    ValidationPicture,
    chances_of,
    marked_samples,
    train_objects,
)
from lineside.vision import CountRule, DetectRule, picture_health
from lineside.vision.detections import LEAST_CHANCE, doubt_of
from lineside.vision.metrics import conformal_cut

_WORTH_SCALING = 0.9  # a scaled interval has to be that much narrower to be taken
_ENOUGH_TO_SCALE = 20

Floats = NDArray[np.float64]
_Answer = tuple[NDArray[np.float32], int]
"""Logits of a picture held out, and the output that is right."""


def truth_of(each: ValidationPicture, *, counted: NDArray[np.bool_]) -> int:
    """Objects of the labels that count."""
    return int(np.sum(counted[each.scene.label]))


def found_chances(
    each: ValidationPicture, *, rule: DetectRule, counted: NDArray[np.bool_]
) -> Floats:
    """Probabilities of the candidates that count, as a device lists them."""
    chances = chances_of(each, rule=rule)
    return chances[counted[each.found.label] & (chances > LEAST_CHANCE)]


def count_rule(
    held: Sequence[ValidationPicture],
    *,
    rule: DetectRule,
    labels: Sequence[str],
    most: int,
    policy: Policy,
) -> CountRule:
    """The rule of a count of found objects.

    Args:
        held: pictures not trained on.
        rule: calibrated.
        labels: that count; empty counts all.
        most: objects on any training picture.
        policy: the error rate wished.
    """
    counted = np.array([not labels or name in labels for name in rule.labels])
    listed = [found_chances(each, rule=rule, counted=counted) for each in held]
    truth = np.array([truth_of(each, counted=counted) for each in held])
    value = np.array([int(np.sum(chances > rule.cut)) for chances in listed])
    off = np.abs(value - truth).astype(np.float64)
    doubt = np.array([doubt_of(chances) for chances in listed])
    plain = CountRule(
        most=most,
        reach=0.0,
        error_rate=policy.error_rate,
        calibration_pictures=len(held),
        labels=tuple(labels),
    )
    return reached(plain, off=off, doubt=doubt)


def reached(plain: CountRule, *, off: Floats, doubt: Floats) -> CountRule:
    """The rule with its reach: scaled by each picture's doubt where that is clearly narrower.

    The error rate becomes the one that holds: errors are whole numbers, and the narrowest interval
    is often right more often than asked.
    """
    if not plain.promises:
        return plain
    even = _reach(off, error_rate=plain.error_rate)
    scaled = _reach(off / doubt, error_rate=plain.error_rate)
    narrower = np.floor(scaled * doubt).mean() < _WORTH_SCALING * np.floor(even)
    if narrower and len(off) >= _ENOUGH_TO_SCALE:
        held = _rate(off <= np.floor(scaled * doubt + 1e-9))
        return replace(plain, reach=scaled, scaled=True, error_rate=min(plain.error_rate, held))
    held = _rate(off <= even)
    return replace(plain, reach=even, error_rate=min(plain.error_rate, held))


def _reach(off: Floats, *, error_rate: float) -> float:
    return float(np.ceil(conformal_cut(off, error_rate=error_rate).cut * 1e6) / 1e6)


def _rate(inside: NDArray[np.bool_]) -> float:
    """The error rate that so many covered pictures speak for; never below 1 / (n + 1)."""
    return float((len(inside) + 1 - inside.sum()) / (len(inside) + 1))


def no_interval(rule: CountRule) -> str:
    """The sentence of a rule that promises nothing."""
    n = rule.calibration_pictures
    least = f"{1 / (n + 1):.2f}"
    return (
        f"no interval: an error rate of {rule.error_rate:g} cannot be promised from {n} pictures, "
        f"whose least is {least}"
    )


_FOLDER = "count"


def learn(job: TrainJob, work: Work) -> Trained:
    """Learn a count; see ``Learner``.

    Raises:
        InvalidError: no picture says how many objects it shows.
    """
    marked, _ = marked_samples(work.training, template=False)
    if any(sample.marked for sample in marked):
        return _found(job, work)
    counted = [sample for sample in work.training if sample.count is not None]
    if not counted:
        raise InvalidError(
            "no picture says how many objects it shows",
            where="data",
            fix="Mark objects with points or boxes, or give a count per picture.",
        )
    return _numbered(job, work, samples=counted)


def _found(job: TrainJob, work: Work) -> Trained:
    labels, policy = job.inspection.labels, job.inspection.policy

    def counted(made: TrainedObjects) -> Trained:
        rule = count_rule(made.held, rule=made.rule, labels=labels, most=made.most, policy=policy)
        known = () if rule.promises else (no_interval(rule),)
        return replace(made.trained, count=rule, warnings=(*made.trained.warnings, *known))

    return train_objects(job, work, folder=_FOLDER, labels=labels, completed=counted)


def _numbered(job: TrainJob, work: Work, *, samples: list[Sample]) -> Trained:
    work.steps.at(2, "reading")
    backbone = open_backbone(job.backbone)
    numbered = Numbered(work, most=most_of([sample.count or 0 for sample in samples]))
    health = {sample.digest: picture_health(work.picture(sample)) for sample in samples}

    def judge(student: NumberStudent, each: Round) -> list[_Answer]:
        logits = logits_of(student.network, each.judge, numbered=numbered)
        return [(row, numbered.place(one)) for row, one in zip(logits, each.judge, strict=True)]

    def taught(student: NumberStudent, some: Sequence[Sample], held: Sequence[_Answer]) -> Trained:
        counts = [sample.count or 0 for sample in some]
        none = np.zeros((0, numbered.most + 2), np.float32)
        answer = np.stack([row for row, _ in held]) if held else none
        truth = np.array([place for _, place in held], np.intp)
        rule = number_rule(answer, truth, most=numbered.most, policy=job.inspection.policy)
        golden = golden_of(sorted(some, key=lambda sample: (sample.count or 0, sample.digest)))
        network, remembered = remember(
            student.network,
            some,
            crops=lambda one: numbered.tensor([numbered.pixels(one)]),
            steps=work.steps,
        )
        exported = export(
            network,
            [numbered.tensor([numbered.pixels(each)]).contiguous().numpy() for each in golden],
            outputs=("logits", "activation", BANK_OUTPUT),
        )
        return Trained(
            network=exported.network,
            max_abs_diff=exported.max_abs_diff,
            prepare=numbered.settings,
            health=limits_of(
                [health[sample.digest] for sample in some],
                farthest=network.farthest,
                compared=True,
            ),
            golden=tuple(golden),
            labels=job.inspection.labels,
            count=rule,
            baseline={
                "median_count": float(np.median(counts)),
                "mean_count": float(np.mean(counts)),
            },
            warnings=_warnings(rule, counts=counts),
            remembered=(remembered,),
            sections={"numbers": {"largest taught": numbered.most, "largest seen": max(counts)}},
        )

    trained, history, folds = fit_rounds(
        samples,
        job=job,
        steps=work.steps,
        folder=work.folder / _FOLDER / backbone.key[:16],
        parallel=work.parallel,
        usual=usual_steps(len(samples)),
        student=partial(NumberStudent, numbered=numbered, backbone=backbone),
        judge=judge,
        taught=taught,
    )
    return replace(trained, history=history, folds=folds)


def _warnings(rule: CountRule, *, counts: list[int]) -> tuple[str, ...]:
    sentences = []
    beyond = sum(count > rule.most for count in counts)
    if beyond:
        sentences.append(
            f"{beyond} pictures show more than {rule.most}; too few show each of those numbers, "
            "and they are told as more"
        )
    if not rule.promises:
        sentences.append(no_interval(rule))
    return tuple(sentences)
