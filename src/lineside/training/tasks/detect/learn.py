"""Find objects or defects of several labels, alone or beside a picture of how it should look."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from lineside.core import InvalidError
from lineside.datasets import Sample
from lineside.models import HealthLimits
from lineside.training.common.export import export, golden_of, limits_of
from lineside.training.job import Steps, TrainJob
from lineside.training.tasks.contract import Parallel, Trained, Work
from lineside.training.tasks.detect.fitting import BATCH, RATE, TrainingSet, fit, whole_batch
from lineside.training.tasks.detect.held_out import (
    HeldOutPicture,
    chances_of,
    judge_held_out,
    rule_from,
)
from lineside.training.tasks.detect.loop import (
    MANY,
    Course,
    Far,
    LoopPlan,
    Round,
    fitted_again,
    rounds,
    steps_asked,
)
from lineside.training.tasks.detect.network import OUTPUTS, VARIES, CentreNetwork
from lineside.training.tasks.detect.scene import Pictures, Scale, Scenes, scale_of
from lineside.vision import DetectRule, Prepare, picture_health

_FEW_PICTURES = 10
_FEW_OBJECTS = 20


_STEPS, _STEPS_A_LABEL, _MOST_STEPS = 300, 50, 650
_FOLD_SHARE = 0.6


class ObjectsWork(Pictures, Protocol):
    """Part of ``lineside.training.tasks.Work`` that is needed here."""

    @property
    def folder(self) -> Path: ...
    @property
    def steps(self) -> Steps: ...
    @property
    def training(self) -> tuple[Sample, ...]: ...
    @property
    def parallel(self) -> Parallel: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned:
    """Network and held-out pictures of a training.

    Attributes:
        held: every picture that was held out once.
        history: of all fits, per hundred steps.
    """

    network: CentreNetwork
    held: tuple[HeldOutPicture, ...]
    history: tuple[dict[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedObjects:
    """Everything of a package but the rule of a count; fields as those of ``Trained``."""

    network: bytes
    max_abs_diff: float
    prepare: Prepare
    health: HealthLimits
    golden: tuple[Sample, ...]
    rule: DetectRule
    template: bool
    learned: Learned
    most: int
    baseline: Mapping[str, float]
    warnings: tuple[str, ...]
    figures: Mapping[str, float]
    sections: Mapping[str, object]


def train_objects(
    job: TrainJob, work: ObjectsWork, *, folder: str, labels: Sequence[str], folded: bool
) -> TrainedObjects:
    """Fit, judge, calibrate, export.

    Args:
        job: for seed and policy.
        work: samples and their files.
        folder: of checkpoints, in the job's own.
        labels: that are learned; empty takes all that are marked.
        folded: whether every picture of a small set is held out once.

    Raises:
        InvalidError: nothing is marked, or a picture and its template do not go together.
        JobCancelledError: stopped as asked.
    """
    template = any(sample.template_digest is not None for sample in work.training)
    samples, left_out = marked_samples(work.training, template=template)
    names = tuple(labels) or labels_of(samples)
    if not samples or not names:
        raise _unmarked(template=template)
    work.steps.at(2, "scaling")
    scale = scale_of(samples, labels=names, side_px=_side(work, samples))
    scenes = Scenes(work, scale=scale, labels=names, template=template)
    setting = Setting(
        scenes=scenes,
        folder=work.folder / folder,
        job=job,
        steps=work.steps,
        parallel=work.parallel,
        folded=folded,
    )
    learned = learn_objects(samples, setting)
    numbers = [_number(sample, names) for sample in samples]
    rule = rule_from(
        learned.held, labels=names, policy=job.inspection.policy, most=max(numbers, default=0)
    )
    golden = golden_of(sorted(samples, key=lambda one: (_number(one, names), one.digest)))
    exported = export(
        learned.network,
        [whole_batch(sample, scenes=scenes).contiguous().numpy() for sample in golden],
        outputs=OUTPUTS,
        varies=VARIES,
    )
    return TrainedObjects(
        network=exported.network,
        max_abs_diff=exported.max_abs_diff,
        prepare=scenes.settings,
        health=limits_of([picture_health(work.picture(sample)) for sample in samples]),
        golden=tuple(golden),
        rule=rule,
        template=template,
        learned=learned,
        most=max(numbers, default=0),
        baseline=_baseline(samples, names),
        warnings=(*left_out, *_warnings(samples, names)),
        figures=figures_of(learned.held, rule=rule),
        sections={"objects": _section(samples, names, scale=scale)},
    )


def marked_samples(
    samples: Sequence[Sample], *, template: bool
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """Samples that can teach, and sentences on those that cannot."""
    marked = tuple(sample for sample in samples if sample.marked is not None)
    beside = tuple(s for s in marked if not template or s.template_digest is not None)
    told = []
    if len(marked) < len(samples):
        told.append(f"{len(samples) - len(marked)} pictures without marks were left out")
    if len(beside) < len(marked):
        told.append(f"{len(marked) - len(beside)} pictures without a template were left out")
    return beside, tuple(told)


def _unmarked(*, template: bool) -> InvalidError:
    beside = " and has the picture beside it that shows how it should look" if template else ""
    return InvalidError(
        f"no picture of the training part has objects marked on it{beside}",
        where="data",
        fix="Mark boxes or points (boxes.csv, points.csv, COCO, YOLO, VOC), or train 'classify', "
        "which needs a label per picture alone.",
    )


def labels_of(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Every label that is marked, sorted."""
    return tuple(sorted({m.label for sample in samples for m in sample.marked or ()}))


def _number(sample: Sample, labels: Sequence[str]) -> int:
    return sum(m.label in labels for m in sample.marked or ())


def _side(work: Pictures, samples: Sequence[Sample]) -> float:
    """A usual side of the pictures: of the first one, since a set comes from one camera."""
    return float(max(work.picture(samples[0]).shape[:2])) if samples else 1.0


def _baseline(samples: Sequence[Sample], labels: Sequence[str]) -> dict[str, float]:
    found = {}
    for name, only in (("", labels), *((f"/{label}", (label,)) for label in labels)):
        numbers = [_number(sample, only) for sample in samples]
        found[f"median_count{name}"] = float(np.median(numbers))
        found[f"mean_count{name}"] = float(np.mean(numbers))
    return found


def _warnings(samples: Sequence[Sample], labels: Sequence[str]) -> tuple[str, ...]:
    told = []
    if len(samples) <= _FEW_PICTURES:
        told.append(f"few pictures: {len(samples)} were learned from; mark 20 or more")
    each = Counter(m.label for sample in samples for m in sample.marked or ())
    few = [f"{name} ({each[name]})" for name in labels if each[name] < _FEW_OBJECTS]
    if few:
        told.append(f"few marked objects of {', '.join(few)}")
    if all(_number(sample, labels) for sample in samples):
        told.append(
            "no empty picture was among those learned from: what else lies there may be taken for "
            "an object; add pictures without objects"
        )
    return tuple(told)


def _section(
    samples: Sequence[Sample], labels: Sequence[str], *, scale: Scale
) -> dict[str, object]:
    each = Counter(m.label for sample in samples for m in sample.marked or ())
    return {
        "marked": {name: each[name] for name in labels},
        "network pixels per picture pixel": scale.zoom,
        "pictures": len(samples),
    }


def figures_of(held: Sequence[HeldOutPicture], *, rule: DetectRule) -> dict[str, float]:
    """F1 of held-out pictures at the cut, boxes overlapping by a third, with and without label."""
    if not held:
        return {}
    told = [chances_of(each, rule=rule) > rule.cut for each in held]
    said = sum(int(above.sum()) for above in told)
    truth = sum(len(each.scene.label) for each in held)
    met = sum(int((each.hit >= 0)[above].sum()) for each, above in zip(held, told, strict=True))
    right = sum(int(each.right[above].sum()) for each, above in zip(held, told, strict=True))
    whole = max(1, said + truth)
    return {
        "f1_iou33": 2 * right / whole,
        "f1_any_iou33": 2 * met / whole,
        "pictures": float(len(held)),
    }


_FOLDER = "detect"


def learn(job: TrainJob, work: Work) -> Trained:
    """Learn boxes; see ``Learner``."""
    made = train_objects(job, work, folder=_FOLDER, labels=job.inspection.labels, folded=False)
    return trained_of(made)


def trained_of(made: TrainedObjects) -> Trained:
    """Everything that a package of found objects needs, but the rule of a count."""
    return Trained(
        network=made.network,
        max_abs_diff=made.max_abs_diff,
        prepare=made.prepare,
        health=made.health,
        golden=made.golden,
        labels=made.rule.labels,
        detect=made.rule,
        template=made.template,
        baseline=made.baseline,
        warnings=made.warnings,
        held_out=made.figures,
        history=made.learned.history,
        sections=made.sections,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setting:
    """Shared parts of all fits of a job.

    Attributes:
        folder: for checkpoints.
        job: for seed and settings: ``steps`` (of the package's fit; those of a fold are three
            fifths), ``learning_rate``, ``batch_size``.
        folded: whether every picture of a small set is to be held out once, as intervals need.
    """

    scenes: Scenes
    folder: Path
    job: TrainJob
    steps: Steps
    parallel: Parallel
    folded: bool


def learn_objects(samples: Sequence[Sample], setting: Setting) -> Learned:
    """A network and what networks say of pictures they had not seen.

    Raises:
        InvalidError: no object on any picture.
        JobCancelledError: stopped as asked.
    """
    if not any(len(setting.scenes.scene(sample).label) for sample in samples):
        raise InvalidError(
            "no object of these labels is marked on any training picture",
            where="data",
            fix=f"Mark {', '.join(setting.scenes.labels) or 'objects'} with boxes or points.",
        )
    planned = rounds(samples, seed=setting.job.seed, folded=setting.folded)
    again = fitted_again(planned, pictures=len(samples))
    usual = min(_MOST_STEPS, _STEPS + _STEPS_A_LABEL * len(setting.scenes.labels))
    batch = _batch(setting)
    whole = steps_asked(setting.job, usual=usual, batch=batch, pictures=len(samples))
    part = max(1, round(whole * _FOLD_SHARE)) if again else whole
    far = Far(steps=setting.steps, total=len(planned) * part + again * whole)
    held: list[HeldOutPicture] = []
    found = None
    for place, each in enumerate(planned):
        found = _fit(each, setting, seed=place + 1, steps=part, far=far)
        held += judge_held_out(found, each.judge, scenes=setting.scenes)
    if again or found is None:
        everything = Round(name="all", learn=tuple(samples), judge=())
        found = _fit(everything, setting, seed=0, steps=whole, far=far)
    return Learned(network=found, held=tuple(held), history=far.history)


def _batch(setting: Setting) -> int:
    return max(1, round(setting.job.setting("batch_size", BATCH)))


def _fit(each: Round, setting: Setting, *, seed: int, steps: int, far: Far) -> CentreNetwork:
    plan = LoopPlan(
        name=each.name,
        seed=setting.job.seed * 1000 + seed,
        steps=steps,
        rate=setting.job.setting("learning_rate", RATE),
        batch=_batch(setting),
        best=each.name == "part" and len(each.learn) + len(each.judge) >= MANY,
    )
    course = Course(
        folder=setting.folder,
        told=lambda done, loss: far.at(done, loss, stage=each.stage),
        epoch=far.epoch,
        parallel=setting.parallel,
    )
    lesson = TrainingSet(scenes=setting.scenes, learn=each.learn, watch=each.judge)
    network, history = fit(plan, lesson, course=course)
    far.ended(history, steps=steps)
    return network
