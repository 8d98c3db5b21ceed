"""Find objects or defects of several labels, alone or beside a picture of how it should look.

Answers of a network to pictures it has not seen, and the rules that follow from them:

1. A candidate is a hit when its box overlaps a free object by a third, the likelier candidate
   first; of a point, when it lies within half the point's nominal size.
2. Probability of an object: Platt scaling of the objectness over hits and misses.
3. The cut stands at a raw objectness of .37. Chosen freely on few pictures it did worse than this.
   A policy that fixes one cut has the last word.
4. An object is unsure up to the probability from which on no more answers are wrong than a rate of
   the ladder, shown by a test of all such limits (``calibrated_cut``): the policy's, else the next.
   The objects of one picture count as fewer.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lineside.core import InvalidError, Policy
from lineside.datasets import Sample
from lineside.models.engines import BANK_OUTPUT
from lineside.models.result import ErrorBound
from lineside.models.task_heads import bounded
from lineside.training.common.export import export, golden_of, limits_of
from lineside.training.common.loop import fit_rounds
from lineside.training.common.methods import (
    CONFIDENCE,
    CalibratedCut,
    calibrated_cut,
    error_bound,
    platt,
    rate_warning,
    remember,
    shown_rate,
)
from lineside.training.common.torch_backbone import open_backbone
from lineside.training.job import TrainJob
from lineside.training.tasks.contract import Trained, Work
from lineside.training.tasks.detect.network import (
    OUTPUTS,
    STRIDE_PX,
    VARIES,
    CentreNetwork,
    ObjectStudent,
    whole_batch,
)
from lineside.training.tasks.detect.scene import Scale, Scene, Scenes, scale_of
from lineside.vision import DetectRule, picture_health
from lineside.vision.detections import Candidates, box_iou, chance_of, find_objects

RAW_CUT = 0.37
_RAW_CUT_FEW = 0.30
_FEW = 10
_HIT_IOU = 1 / 3
_LEAST_LISTED = 0.01  # before calibration, which may raise it
_IOU_MAX = 0.5

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ValidationPicture:
    """A picture and what a network that had not seen it found.

    Attributes:
        hit: (candidates,) the object each one met, -1 for none.
    """

    scene: Scene
    found: Candidates
    hit: NDArray[np.intp]

    @property
    def right(self) -> NDArray[np.bool_]:
        """(candidates,) met an object of the label it says."""
        label = np.append(self.scene.label, -1)[self.hit]
        return np.asarray((self.hit >= 0) & (label == self.found.label), np.bool_)


def raw_rule(labels: Sequence[str]) -> DetectRule:
    """Before anything is calibrated."""
    return DetectRule(
        labels=tuple(labels),
        stride_px=STRIDE_PX,
        cut=RAW_CUT,
        unsure_below=RAW_CUT,
        iou_max=_IOU_MAX,
    )


def judge_held_out(
    network: CentreNetwork, samples: Sequence[Sample], *, scenes: Scenes
) -> list[ValidationPicture]:
    """Every picture with what the network finds on it."""
    rule = raw_rule(scenes.labels)
    judged = []
    for sample in samples:
        scene = scenes.scene(sample)
        with torch.inference_mode():
            maps = network(whole_batch(sample, scenes=scenes))
        objectness, geometry, classes = (each[0].contiguous().numpy() for each in maps)
        found = find_objects((objectness, geometry, classes), rule=rule, least=_LEAST_LISTED)
        found = found.inside(scene.size_px[0], height_px=scene.size_px[1])
        judged.append(
            ValidationPicture(scene=scene, found=found, hit=hits_of(found.boxes_px, scene))
        )
    return judged


def hits_of(boxes_px: Floats, scene: Scene) -> NDArray[np.intp]:
    """The object each candidate met, the likeliest candidate first; -1 for none."""
    hit = np.full(len(boxes_px), -1, np.intp)
    if not len(scene.label) or not len(boxes_px):
        return hit
    fits = np.where(
        scene.sized[None, :],
        box_iou(boxes_px, scene.boxes_px) - _HIT_IOU,
        _nearness(boxes_px, scene.boxes_px),
    )
    for place in range(len(boxes_px)):
        best = int(np.argmax(fits[place]))
        if fits[place, best] >= 0:
            hit[place] = best
            fits[:, best] = -1.0
    return hit


def _nearness(boxes_px: Floats, truth: Floats) -> Floats:
    """Zero and above where centres lie within half an object's size."""
    centre, true_centre = (boxes_px[:, :2] + boxes_px[:, 2:]) / 2, (truth[:, :2] + truth[:, 2:]) / 2
    apart = np.linalg.norm(centre[:, None] - true_centre[None], axis=2)
    reach = np.sqrt(np.prod(truth[:, 2:] - truth[:, :2], axis=1)) / 2
    return np.asarray(1 - apart / np.maximum(reach, 1e-6)[None], np.float64)


def rule_from(
    held: Sequence[ValidationPicture], *, labels: Sequence[str], policy: Policy, most: int
) -> tuple[DetectRule, CalibratedCut]:
    """The calibrated rule, and the limit of its sure answers; of nothing its rate is 1.

    Args:
        held: pictures not trained on.
        labels: in the order of the class logits.
        policy: error rate of sure answers.
        most: objects on any training picture; the rule tells four times as many, 100 at least.
    """
    raw = _RAW_CUT_FEW if len(held) <= _FEW else RAW_CUT
    logit = np.concatenate([each.found.objectness for each in held] or [np.zeros(0)])
    hit = np.concatenate([each.hit >= 0 for each in held] or [np.zeros(0, np.bool_)])
    slope, offset = (1.0, 0.0)
    if hit.any() and not hit.all():
        slope, offset = platt(logit, hit)
    rule = replace(
        raw_rule(labels), slope=round(slope, 6), offset=round(offset, 6), most=max(100, 4 * most)
    )
    raw_logit = np.array([math.log(raw / (1 - raw))])
    cut = float(np.clip(chance_of(raw_logit, rule=rule)[0], 0.001, 0.999))
    if policy.present_above is not None:
        fixed = min(max(policy.present_above, 0.001), 0.999)
        rule = replace(rule, cut=fixed, unsure_below=fixed)
        answers = outcomes_of(held, rule=rule)
        rate = shown_rate(
            answers.wrong,
            answered=answers.sureness >= fixed,
            owners=answers.owners,
            rate=policy.error_rate,
        )
        limit = CalibratedCut(fixed, rate, CONFIDENCE)
    else:
        rule = replace(rule, cut=cut, unsure_below=cut)
        answers, limit = outcomes_of(held, rule=rule), CalibratedCut(1.0, 1.0, CONFIDENCE)
        if len(answers.sureness):
            limit = calibrated_cut(
                answers.sureness, answers.wrong, owners=answers.owners, rate=policy.error_rate
            )
        unsure = 1.0 if limit.rate >= 1 else limit.cut
        rule = replace(rule, unsure_below=max(cut, unsure))
    return replace(rule, sides_px=sides_of(held, rule=rule, cut=rule.cut)), limit


def sides_of(
    held: Sequence[ValidationPicture], *, rule: DetectRule, cut: float
) -> tuple[float, float] | None:
    """Sides that the middle object of a picture may have, network pixels.

    A half more than what the network finds on held-out pictures, in both directions; None where
    fewer than five pictures show an object.
    """
    found = (replace(each.found, chance=chances_of(each, rule=rule)) for each in held)
    sides = [side for one in found if (side := one.middle_side_px(cut=cut)) is not None]
    if len(sides) < _LEAST_SIDES:
        return None
    return round(min(sides) / _OTHER_SIZE, 2), round(max(sides) * _OTHER_SIZE, 2)


def chances_of(each: ValidationPicture, *, rule: DetectRule) -> Floats:
    """Calibrated probabilities of a picture's candidates."""
    return chance_of(each.found.objectness, rule=rule)


class DetectionOutcomes(NamedTuple):
    """Objects that were found on pictures held out, one after the other.

    Attributes:
        sureness: (n,) probability that an object of the label is there.
        wrong: (n,) whether none is.
        owners: the group of each one's picture, or the picture.
    """

    sureness: Floats
    wrong: NDArray[np.bool_]
    owners: Sequence[object]


def outcomes_of(held: Sequence[ValidationPicture], *, rule: DetectRule) -> DetectionOutcomes:
    """Return the objects above the rule's cut."""
    sureness, wrong, owners = [np.zeros(0)], [np.zeros(0, np.bool_)], list[object]()
    for each in held:
        chances = chances_of(each, rule=rule)
        known = chances > rule.cut
        sureness.append((chances * each.found.label_chance)[known])
        wrong.append(~each.right[known])
        sample = each.scene.sample
        owners += [sample.group or sample.digest] * int(known.sum())
    return DetectionOutcomes(np.concatenate(sureness), np.concatenate(wrong), owners)


def bound_of(
    answers: DetectionOutcomes, *, rule: DetectRule, limit: CalibratedCut, target: float
) -> tuple[ErrorBound | None, tuple[str, ...]]:
    """The error among the sure objects, None where none was found, and what warns of it.

    Args:
        answers: on pictures held out.
        rule: of the package.
        limit: of its sure answers, and the rate shown for it.
        target: error rate of the policy.
    """
    if not len(answers.sureness):
        sentence = (
            "no object was found on pictures held out, so that nothing shows how many are wrong"
            f"{': every box is unsure' * (rule.unsure_below >= 1)}; add pictures of other parts"
            " (groups)"
        )
        return None, (sentence,) if limit.rate >= 1 else ()
    bound = error_bound(
        answers.sureness,
        answers.wrong,
        answered=answers.sureness >= rule.unsure_below,
        owners=answers.owners,
        target=target,
        confidence=limit.confidence,
        shown=limit.rate,
        noun="objects found on pictures",
    )
    return bound, (rate_warning(bound),) if limit.rate > target else ()


_LEAST_SIDES = 5
_OTHER_SIZE = 1.5
_FEW_PICTURES = 10
_FEW_OBJECTS = 20
_STEPS, _STEPS_A_LABEL, _MOST_STEPS = 300, 50, 650


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedObjects:
    """A network of found objects, and what a count needs beyond it.

    Attributes:
        limit: of the rule's sure answers, and the rate shown for it.
        held: pictures that were held out, from which the rule follows.
        most: objects on any training picture.
    """

    trained: Trained
    rule: DetectRule
    limit: CalibratedCut
    held: Sequence[ValidationPicture]
    most: int


def train_objects(
    job: TrainJob,
    work: Work,
    *,
    folder: str,
    labels: Sequence[str],
    completed: Callable[[TrainedObjects], Trained],
) -> Trained:
    """Fit, judge, calibrate, export.

    Args:
        job: for seed and policy.
        work: samples and their files.
        folder: of checkpoints, in the job's own.
        labels: that are learned; empty takes all that are marked.
        completed: adds what the task needs beyond objects.

    Raises:
        InvalidError: nothing is marked, or a picture and its template do not go together.
        JobCancelledError: stopped as asked.
    """
    template = any(sample.template_digest is not None for sample in work.training)
    samples, left_out = marked_samples(work.training, template=template)
    backbone = open_backbone(job.backbone)
    names = tuple(labels) or labels_of(samples)
    if not samples or not names:
        raise _unmarked(template=template)
    work.steps.at(2, "scaling")
    scale = scale_of(samples, labels=names, side_px=_side(work, samples))
    scenes = Scenes(work, scale=scale, labels=names, template=template)
    if not any(len(scenes.scene(sample).label) for sample in samples):
        raise InvalidError(
            "no object of these labels is marked on any training picture",
            where="data",
            fix=f"Mark {', '.join(names) or 'objects'} with boxes or points.",
        )
    health = {sample.digest: picture_health(work.picture(sample)) for sample in samples}

    def taught(
        student: ObjectStudent, some: Sequence[Sample], held: Sequence[ValidationPicture]
    ) -> Trained:
        numbers = [_number(sample, names) for sample in some]
        most = max(numbers, default=0)
        rule, limit = rule_from(held, labels=names, policy=job.inspection.policy, most=most)
        golden = golden_of(sorted(some, key=lambda one: (_number(one, names), one.digest)))
        network, remembered = remember(
            student.network,
            some,
            crops=lambda one: torch.from_numpy(bounded(whole_batch(one, scenes=scenes).numpy())),
            steps=work.steps,
        )
        exported = export(
            network,
            [whole_batch(sample, scenes=scenes).contiguous().numpy() for sample in golden],
            outputs=(*OUTPUTS, BANK_OUTPUT),
            varies=VARIES,
        )
        trained = Trained(
            network=exported.network,
            max_abs_diff=exported.max_abs_diff,
            prepare=scenes.settings,
            health=limits_of(
                [health[sample.digest] for sample in some],
                farthest=network.farthest,
                compared=True,
            ),
            golden=tuple(golden),
            labels=rule.labels,
            detect=rule,
            template=template,
            baseline=_baseline(some, names),
            warnings=(*left_out, *_warnings(some, names, scale=scale)),
            remembered=(remembered,),
            sections={"objects": _section(some, names, scale=scale)},
        )
        return completed(
            TrainedObjects(trained=trained, rule=rule, limit=limit, held=held, most=most)
        )

    trained, history, folds = fit_rounds(
        samples,
        job=job,
        steps=work.steps,
        folder=work.folder / folder / backbone.key[:16],
        parallel=work.parallel,
        usual=min(_MOST_STEPS, _STEPS + _STEPS_A_LABEL * len(names)),
        student=partial(ObjectStudent, scenes=scenes, backbone=backbone),
        judge=lambda one, each: judge_held_out(one.network, each.judge, scenes=scenes),
        taught=taught,
    )
    return replace(trained, history=history, folds=folds)


def marked_samples(
    samples: Sequence[Sample], *, template: bool
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """Samples that can teach, and sentences on those that cannot."""
    marked = tuple(sample for sample in samples if sample.marked is not None)
    beside = tuple(s for s in marked if not template or s.template_digest is not None)
    known = []
    if len(marked) < len(samples):
        known.append(f"{len(samples) - len(marked)} pictures without marks were left out")
    if len(beside) < len(marked):
        known.append(f"{len(marked) - len(beside)} pictures without a template were left out")
    return beside, tuple(known)


def _unmarked(*, template: bool) -> InvalidError:
    beside = " and has the picture beside it that shows how it should look" if template else ""
    return InvalidError(
        f"no picture of the training part has objects marked on it{beside}",
        where="data",
        fix="Mark boxes or points (boxes.csv, points.csv, COCO, YOLO, VOC, labelme, CVAT), or "
        "train 'classify', which needs a label per picture alone.",
    )


def labels_of(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Every label that is marked, sorted."""
    return tuple(sorted({m.label for sample in samples for m in sample.marked or ()}))


def _number(sample: Sample, labels: Sequence[str]) -> int:
    return sum(m.label in labels for m in sample.marked or ())


def _side(work: Work, samples: Sequence[Sample]) -> float:
    """A usual side of the pictures: of the first one, since a set comes from one camera."""
    return float(max(work.picture(samples[0]).shape[:2])) if samples else 1.0


def _baseline(samples: Sequence[Sample], labels: Sequence[str]) -> dict[str, float]:
    found = {}
    for name, only in (("", labels), *((f"/{label}", (label,)) for label in labels)):
        numbers = [_number(sample, only) for sample in samples]
        found[f"median_count{name}"] = float(np.median(numbers))
        found[f"mean_count{name}"] = float(np.mean(numbers))
    return found


def _warnings(samples: Sequence[Sample], labels: Sequence[str], *, scale: Scale) -> tuple[str, ...]:
    sentences = []
    if scale.too_large:
        sentences.append(
            f"most large objects of {', '.join(scale.too_large)} may not be found, because others "
            "are much smaller; learn them by an inspection of their own"
        )
    if len(samples) <= _FEW_PICTURES:
        sentences.append(f"few pictures: {len(samples)} were learned from; mark 20 or more")
    each = Counter(m.label for sample in samples for m in sample.marked or ())
    few = [f"{name} ({each[name]})" for name in labels if each[name] < _FEW_OBJECTS]
    if few:
        sentences.append(f"few marked objects of {', '.join(few)}")
    if all(_number(sample, labels) for sample in samples):
        sentences.append(
            "no empty picture was among those learned from: what else lies there may be taken for "
            "an object; add pictures without objects"
        )
    return tuple(sentences)


def _section(
    samples: Sequence[Sample], labels: Sequence[str], *, scale: Scale
) -> dict[str, object]:
    each = Counter(m.label for sample in samples for m in sample.marked or ())
    return {
        "marked": {name: each[name] for name in labels},
        "network pixels per picture pixel": scale.zoom,
        "pictures": len(samples),
    }


def learn(job: TrainJob, work: Work) -> Trained:
    """Learn boxes; see ``Learner``."""

    def bounded_error(made: TrainedObjects) -> Trained:
        bound, warnings = bound_of(
            outcomes_of(made.held, rule=made.rule),
            rule=made.rule,
            limit=made.limit,
            target=job.inspection.policy.error_rate,
        )
        return replace(
            made.trained, error_bound=bound, warnings=(*made.trained.warnings, *warnings)
        )

    labels = job.inspection.labels
    return train_objects(job, work, folder="detect", labels=labels, completed=bounded_error)
