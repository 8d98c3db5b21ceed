"""Count objects: found ones where points or boxes are marked, else from the numbers alone."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError, Policy
from lineside.datasets import Sample
from lineside.models.engines import BANK_OUTPUT
from lineside.models.result import ErrorBound
from lineside.training.common.export import export, golden_of, limits_of
from lineside.training.common.loop import Round, fit_rounds, owners_of
from lineside.training.common.methods import (
    CONFIDENCE,
    calibrated_limit,
    error_bound,
    rate_warning,
    remember,
)
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

_WORTH_SCALING = 0.9  # a scaled interval has to be that much narrower to be taken
_ENOUGH_TO_SCALE = 20

Floats = NDArray[np.float64]
_Answer = tuple[NDArray[np.float32], int, Sample]
"""Logits of a picture held out, the output that is right, and the picture."""


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
) -> tuple[CountRule, NDArray[np.bool_]]:
    """The rule of a count of found objects, and which intervals miss the count.

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
        error_rate=1.0,
        calibration_pictures=len(held),
        labels=tuple(labels),
    )
    owners = owners_of([each.scene.sample for each in held])
    return reached(plain, off=off, doubt=doubt, owners=owners, target=policy.error_rate)


def reached(
    plain: CountRule, *, off: Floats, doubt: Floats, owners: Sequence[object], target: float
) -> tuple[CountRule, NDArray[np.bool_]]:
    """The rule with its reach and the rate shown for it, and which intervals miss the count.

    The reach is scaled by each picture's doubt where that is clearly narrower: a choice of two by
    the same errors, which favours them little.

    Args:
        plain: the rule without a reach; it stays where no picture was held out.
        off: (n,) errors of counts of pictures held out.
        doubt: (n,) of these pictures.
        owners: whose each picture is, such as its group.
        target: error rate that is wished.
    """
    if not len(off):
        return plain, np.zeros(0, np.bool_)
    limit = calibrated_limit(off, owners=owners, rate=target)
    scaled = calibrated_limit(off / doubt, owners=owners, rate=target)
    units = np.ones(len(off))
    narrower = np.floor(scaled.cut * doubt).mean() < _WORTH_SCALING * np.floor(limit.cut)
    if narrower and len(off) >= _ENOUGH_TO_SCALE:
        limit, units = scaled, doubt
    reach = float(np.ceil(limit.cut * 1e6) / 1e6)
    rule = replace(plain, reach=reach, scaled=units is doubt, error_rate=limit.rate)
    return rule, off > np.floor(reach * units + 1e-9)


def bound_of(
    rule: CountRule, missed: NDArray[np.bool_], *, owners: Sequence[object], target: float
) -> tuple[ErrorBound | None, tuple[str, ...]]:
    """The error among the intervals, None where no picture was held out, and what warns of it.

    Args:
        rule: of the package.
        missed: (n,) whether the interval of a picture held out misses the count.
        owners: whose each picture is, such as its group.
        target: error rate that is wished.
    """
    if not len(missed):
        return None, ("no interval: no picture could be held out; add other parts (groups)",)
    bound = error_bound(
        np.zeros(len(missed)),
        missed,
        answered=np.full(len(missed), rule.promises),
        owners=owners,
        target=target,
        confidence=CONFIDENCE,  # how many may miss was set before
        shown=rule.error_rate,
        by_limit=True,
        noun="intervals of counts",
    )
    warnings = (rate_warning(bound),) if rule.error_rate > target else ()
    return replace(bound, curve=()), warnings  # every picture gets an interval


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
        rule, missed = count_rule(
            made.held, rule=made.rule, labels=labels, most=made.most, policy=policy
        )
        owners = owners_of([each.scene.sample for each in made.held])
        bound, warnings = bound_of(rule, missed, owners=owners, target=policy.error_rate)
        return replace(
            made.trained,
            count=rule,
            error_bound=bound,
            warnings=(*made.trained.warnings, *warnings),
        )

    return train_objects(job, work, folder=_FOLDER, labels=labels, completed=counted)


def _numbered(job: TrainJob, work: Work, *, samples: list[Sample]) -> Trained:
    work.steps.at(2, "reading")
    backbone, policy = open_backbone(job.backbone), job.inspection.policy
    numbered = Numbered(work, most=most_of([sample.count or 0 for sample in samples]))
    health = {sample.digest: picture_health(work.picture(sample)) for sample in samples}

    def judge(student: NumberStudent, each: Round) -> list[_Answer]:
        logits = logits_of(student.network, each.judge, numbered=numbered)
        return [
            (row, numbered.place(one), one) for row, one in zip(logits, each.judge, strict=True)
        ]

    def taught(student: NumberStudent, some: Sequence[Sample], held: Sequence[_Answer]) -> Trained:
        counts = [sample.count or 0 for sample in some]
        none = np.zeros((0, numbered.most + 2), np.float32)
        owners = owners_of([sample for _, _, sample in held])
        rule, missed = number_rule(
            np.stack([row for row, _, _ in held]) if held else none,
            np.array([place for _, place, _ in held], np.intp),
            most=numbered.most,
            owners=owners,
            policy=policy,
        )
        bound, known = bound_of(rule, missed, owners=owners, target=policy.error_rate)
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
            error_bound=bound,
            warnings=(*_warnings(rule, counts=counts), *known),
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
    return tuple(sentences)
