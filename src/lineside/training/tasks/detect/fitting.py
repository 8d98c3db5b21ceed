"""Fit a centre network to crops of training pictures."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lineside.datasets import Sample
from lineside.training.common.backbone import channels_last
from lineside.training.common.loop import LoopPlan, Parallel, Round, drawn
from lineside.training.tasks.detect.crops import Piece, draw_piece, whole_piece
from lineside.training.tasks.detect.network import CentreNetwork
from lineside.training.tasks.detect.scene import CROP_PX, Scene, Scenes
from lineside.training.tasks.detect.targets import loss_of, targets_of
from lineside.vision.prepare import normalise, with_template

_MOST_WATCHED = 8
_LARGE_SHARE = 0.4  # of a crop; above it objects are large


class ObjectStudent:
    """A centre network that learns; see ``Student``."""

    def __init__(self, plan: LoopPlan, each: Round, *, scenes: Scenes) -> None:
        network = CentreNetwork(labels=len(scenes.labels), template=scenes.template)
        self.network = channels_last(network)
        self._plan, self._scenes = plan, scenes
        self._known = tuple(scenes.scene(sample) for sample in each.learn)
        self._side_px = _side(self._known, multiple=scenes.settings.multiple)
        self._watch = each.judge[:: max(1, len(each.judge) // _MOST_WATCHED)]
        self._per_crop = self._objects_per_crop()
        boxes = np.concatenate([scene.boxes_px for scene in self._known])
        if len(boxes):
            size = np.median(np.log(np.maximum(boxes[:, 2:] - boxes[:, :2], 1)), axis=0)
            self.network.start_sizes(float(size[0]), float(size[1]))

    def learned(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        return self.network.learned_backbone(), self.network.new_layers()

    def loss(self, step: int, *, parallel: Parallel) -> tuple[Tensor | None, int]:
        chosen = drawn(len(self._known), plan=self._plan, step=step)
        own = parallel.share(list(enumerate(chosen)))
        pieces = [
            draw_piece(
                self._known[place],
                self._scenes.pixels(self._known[place].sample),
                side_px=self._side_px,
                rng=np.random.default_rng([self._plan.seed, 1, step, number]),
            )
            for number, place in own
        ]
        loss = self._loss(pieces, per_crop=self._per_crop) if pieces else None
        return loss, len(own)

    def watched(self) -> float | None:
        """Per object, on whole pictures."""
        losses = []
        for sample in self._watch:
            scene = self._scenes.scene(sample)
            pixels, multiple = self._scenes.pixels(sample), self._scenes.settings.multiple
            loss = self._loss([whole_piece(scene, pixels, multiple=multiple)], per_crop=1.0)
            losses.append(float(loss) / max(1, len(scene.label)))
        return float(np.mean(losses)) if losses else None

    def _loss(self, pieces: Sequence[Piece], *, per_crop: float) -> Tensor:
        maps = self.network(batch_of(pieces, scenes=self._scenes))
        return loss_of(maps, [targets_of(piece) for piece in pieces], per_crop=per_crop)

    def _objects_per_crop(self) -> float:
        """Of a usual crop, at least one; from crops without pixels."""
        blank = np.zeros((1, 1, 3), np.uint8)
        rng = np.random.default_rng([self._plan.seed, 0])
        numbers = []
        for _ in range(64):
            scene = self._known[int(rng.integers(len(self._known)))]
            piece = draw_piece(scene, blank, side_px=self._side_px, rng=rng)
            numbers.append(len(piece.label))
        return max(1.0, float(np.mean(numbers)))


def _side(known: Sequence[Scene], *, multiple: int) -> int:
    """Of the crops: as large as the largest picture, within the limit."""
    largest = max(max(scene.size_px) for scene in known)
    return min(_most_side(known), math.ceil(largest / multiple) * multiple)


def _most_side(known: Sequence[Scene]) -> int:
    boxes = np.concatenate([scene.boxes_px for scene in known])
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    large = len(sides) and float(np.quantile(sides, 0.95)) > _LARGE_SHARE * CROP_PX
    return CROP_PX * 3 // 2 if large else CROP_PX


def whole_batch(sample: Sample, *, scenes: Scenes) -> Tensor:
    """(1, 3 or 9, h, w): a picture as a device sees it."""
    multiple = scenes.settings.multiple
    piece = whole_piece(scenes.scene(sample), scenes.pixels(sample), multiple=multiple)
    return batch_of([piece], scenes=scenes)


def batch_of(pieces: Sequence[Piece], *, scenes: Scenes) -> Tensor:
    """(n, 3 or 9, h, w), prepared as on a device."""
    pixels = np.stack([piece.pixels for piece in pieces])
    crops = normalise(np.ascontiguousarray(pixels[..., :3]), scenes.settings)
    if scenes.template:
        template = normalise(np.ascontiguousarray(pixels[..., 3:]), scenes.settings)
        crops = with_template(crops, template)
    return torch.from_numpy(crops).contiguous(memory_format=torch.channels_last)
