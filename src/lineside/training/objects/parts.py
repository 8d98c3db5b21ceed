"""One training of objects from samples to everything a package needs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from lineside.core import InvalidError
from lineside.datasets import Sample
from lineside.models import HealthLimits
from lineside.training.job import TrainJob
from lineside.training.objects.export import exported, golden_of, limits_of
from lineside.training.objects.held_out import HeldOut, chances_of, rule_from
from lineside.training.objects.learning import Learned, Setting, learn_objects
from lineside.training.objects.scene import Pictures, Scale, Scenes, scale_of
from lineside.training.parallel import Parallel
from lineside.training.steps import Steps
from lineside.vision import DetectRule, Prepare, picture_health

_FEW_PICTURES = 10
_FEW_OBJECTS = 20


class ObjectsWork(Pictures, Protocol):
    """What is needed of ``lineside.training.tasks.Work``."""

    @property
    def folder(self) -> Path: ...
    @property
    def steps(self) -> Steps: ...
    @property
    def training(self) -> tuple[Sample, ...]: ...
    @property
    def parallel(self) -> Parallel: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectsTrained:
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
) -> ObjectsTrained:
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
    golden = golden_of(samples, numbers=numbers)
    network, worst = exported(learned.network, golden, scenes=scenes)
    return ObjectsTrained(
        network=network,
        max_abs_diff=worst,
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


def figures_of(held: Sequence[HeldOut], *, rule: DetectRule) -> dict[str, float]:
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
