"""Answers of a network to pictures it has not seen, and the rules that follow from them.

1. A candidate is a hit when its box overlaps a free object by a third, the likelier candidate
   first; of a point, when it lies within half the point's nominal size.
2. Probability of an object: Platt scaling of the objectness over hits and misses.
3. The cut stands at a raw objectness of .37. Chosen freely on few pictures it did worse than this.
   A policy that fixes one cut has the last word.
4. An object is unsure up to the probability above which as many answers are wrong as the policy
   allows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from lineside.core import Policy
from lineside.datasets import Sample
from lineside.training.common.methods import platt
from lineside.training.tasks.detect.fitting import whole_batch
from lineside.training.tasks.detect.network import STRIDE_PX, CentreNetwork
from lineside.training.tasks.detect.scene import Scene, Scenes
from lineside.vision import DetectRule
from lineside.vision.detections import Candidates, box_iou, chance_of, find_objects

RAW_CUT = 0.37
_RAW_CUT_FEW = 0.30
_FEW = 10
_HIT_IOU = 1 / 3
_LEAST_LISTED = 0.01  # before calibration, which may raise it
_IOU_MAX = 0.5

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldOutPicture:
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
) -> list[HeldOutPicture]:
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
        judged.append(HeldOutPicture(scene=scene, found=found, hit=met(found.boxes_px, scene)))
    return judged


def met(boxes_px: Floats, scene: Scene) -> NDArray[np.intp]:
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
    held: Sequence[HeldOutPicture], *, labels: Sequence[str], policy: Policy, most: int
) -> DetectRule:
    """The calibrated rule.

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
        return replace(rule, cut=fixed, unsure_below=fixed)
    unsure = _unsure_below(held, rule=rule, cut=cut, error_rate=policy.error_rate)
    return replace(rule, cut=cut, unsure_below=max(cut, unsure))


def chances_of(each: HeldOutPicture, *, rule: DetectRule) -> Floats:
    """Calibrated probabilities of a picture's candidates."""
    return chance_of(each.found.objectness, rule=rule)


def _unsure_below(
    held: Sequence[HeldOutPicture], *, rule: DetectRule, cut: float, error_rate: float
) -> float:
    """The least probability above which at most ``error_rate`` of held-out answers are wrong."""
    chance = np.concatenate([chances_of(each, rule=rule) for each in held] or [np.zeros(0)])
    said = chance * np.concatenate([each.found.label_chance for each in held] or [np.zeros(0)])
    right = np.concatenate([each.right for each in held] or [np.zeros(0, np.bool_)])
    told = chance > cut
    if not told.any():
        return 1.0
    order = np.argsort(-said[told], kind="stable")
    ranked, wrong = said[told][order], np.cumsum(~right[told][order])
    fine = np.flatnonzero(wrong <= error_rate * np.arange(1, len(ranked) + 1))
    return float(ranked[fine[-1]]) if len(fine) else 1.0
