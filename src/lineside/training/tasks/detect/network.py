"""Fit a centre network to crops of training pictures.

The network that finds objects: a backbone, a small pyramid, one map of centres.

(n, 3 or 9, h, w) prepared pictures, sides multiples of 16, to maps at stride 4: ``objectness``
(n, 1, …) logits, ``geometry`` (n, 4, …) and ``classes`` (n, labels, …) logits, as
``lineside.models.Engine`` says. One map for all labels: with a map each, one object that looks like
two kinds is found twice. The 9 channels of a picture beside its template are mixed to three by a
layer of their own, which begins as the greys of picture, template and difference.

Target maps of a crop, and the loss of a network's maps against them.

Objectness has a peak of 1 in the cell of each centre and falls off as an elliptical Gaussian of
0.12 times the object's sides; its loss is the penalty-reduced focal loss (Law and Deng 2018,
eq. 1).
Offset, log size and label are taught at the centre's cell and its four neighbours, so that a peak
one cell off still gives the same box.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.datasets import Sample
from lineside.training.common.backbone import Backbone, channels_last
from lineside.training.common.export import CELLS, PICTURE
from lineside.training.common.loop import LoopPlan, Parallel, Round, drawn
from lineside.training.common.methods import DescribingNetwork
from lineside.training.tasks.detect.scene import (
    CROP_PX,
    LARGE_CROP_PX,
    Piece,
    Scene,
    Scenes,
    draw_piece,
    largest_side,
    whole_piece,
)
from lineside.vision.prepare import normalise, with_template

_SIGMA = 0.12
_LEAST_SIGMA = 0.6  # cells; below it a peak is one cell and nothing pulls towards it
_NEIGHBOURS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
_GEOMETRY_SHARE, _CLASS_SHARE = 1.0, 1.0

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """Of one crop.

    Attributes:
        heat: (rows, columns) 0-1.
        place: (k, 2) cells, row and column, that teach a box and a label.
        geometry: (k, 4) offset x, y in cells, log width, log height in network pixels.
        sized: (k,) whether the size is taught.
        label: (k,).
        objects: how many centres there are.
    """

    heat: Floats
    place: NDArray[np.intp]
    geometry: Floats
    sized: NDArray[np.bool_]
    label: NDArray[np.intp]
    objects: int


def targets_of(piece: Piece) -> Targets:
    """Targets of a crop."""
    centre = (piece.boxes_px[:, :2] + piece.boxes_px[:, 2:]) / 2 / STRIDE_PX
    size = np.maximum(piece.boxes_px[:, 2:] - piece.boxes_px[:, :2], 1.0)
    rows, columns = (side // STRIDE_PX for side in piece.pixels.shape[:2])
    cell = np.clip(np.floor(centre).astype(np.intp), 0, (columns - 1, rows - 1))
    heat = _heat(cell, size=size, grid=(rows, columns))
    taught: dict[tuple[int, int], tuple[float, int]] = {}
    for place, (at, middle) in enumerate(zip(cell, centre, strict=True)):
        _teach(taught, place, at=at, middle=middle, grid=(rows, columns))
    places = np.array(list(taught), np.intp).reshape(-1, 2)
    owner = np.array([each[1] for each in taught.values()], np.intp)
    offset = centre[owner] - places[:, ::-1] - 0.5
    return Targets(
        heat=heat,
        place=places,
        geometry=np.concatenate([offset, np.log(size[owner])], axis=1).astype(np.float32),
        sized=piece.sized[owner],
        label=piece.label[owner],
        objects=len(cell),
    )


def _teach(
    taught: dict[tuple[int, int], tuple[float, int]],
    owner: int,
    *,
    at: NDArray[np.intp],
    middle: NDArray[np.float64],
    grid: tuple[int, int],
) -> None:
    """Claim a centre's cell and its neighbours; the nearer of two centres keeps a cell."""
    for down, across in _NEIGHBOURS:
        row, column = int(at[1]) + down, int(at[0]) + across
        if not (0 <= row < grid[0] and 0 <= column < grid[1]):
            continue
        apart = float(np.hypot(column + 0.5 - middle[0], row + 0.5 - middle[1]))
        if (down or across) and apart > 1.5:
            continue
        if (row, column) not in taught or apart < taught[row, column][0]:
            taught[row, column] = (apart, owner)


def _heat(cell: NDArray[np.intp], *, size: NDArray[np.float64], grid: tuple[int, int]) -> Floats:
    rows, columns = np.arange(grid[0]), np.arange(grid[1])
    heat = np.zeros(grid, np.float32)
    for (x, y), (width, height) in zip(cell, size, strict=True):
        wide = max(_LEAST_SIGMA, _SIGMA * width / STRIDE_PX)
        high = max(_LEAST_SIGMA, _SIGMA * height / STRIDE_PX)
        across = np.exp(-((columns - x) ** 2) / (2 * wide**2))
        down = np.exp(-((rows - y) ** 2) / (2 * high**2))
        np.maximum(heat, down[:, None] * across[None, :], out=heat)
    return heat


def loss_of(
    maps: tuple[Tensor, Tensor, Tensor], targets: Sequence[Targets], *, per_crop: float
) -> Tensor:
    """Mean loss over crops.

    Args:
        maps: as the network gives them, (n, …).
        targets: of the n crops.
        per_crop: objects that a crop of this data holds on average; divides, so that the weight of
            a crop does not depend on which others stand beside it.
    """
    objectness, geometry, classes = maps
    heat = torch.from_numpy(np.stack([each.heat for each in targets]))
    total = _focal(objectness[:, 0], heat)
    batch = np.repeat(np.arange(len(targets)), [len(each.place) for each in targets])
    place = np.concatenate([each.place for each in targets])
    if len(place):
        rows, columns = torch.from_numpy(place[:, 0]), torch.from_numpy(place[:, 1])
        at = torch.from_numpy(batch)
        wanted = torch.from_numpy(np.concatenate([each.geometry for each in targets]))
        sized = torch.from_numpy(np.concatenate([each.sized for each in targets]))
        apart = (geometry[at, :, rows, columns] - wanted).abs()
        boxes = apart[:, :2].sum() + (apart[:, 2:] * sized[:, None]).sum()
        label = torch.from_numpy(np.concatenate([each.label for each in targets]))
        named = torch.nn.functional.cross_entropy(
            classes[at, :, rows, columns], label, reduction="sum"
        )
        total = total + (_GEOMETRY_SHARE * boxes + _CLASS_SHARE * named) / len(_NEIGHBOURS)
    return total / (len(targets) * per_crop)


def _focal(logits: Tensor, heat: Tensor) -> Tensor:
    answer = torch.nn.functional.logsigmoid(logits)
    denied = torch.nn.functional.logsigmoid(-logits)
    chance = torch.sigmoid(logits)
    centres = heat == 1
    there = torch.where(centres, (1 - chance) ** 2 * answer, 0.0)
    elsewhere = torch.where(centres, 0.0, (1 - heat) ** 4 * chance**2 * denied)
    return -(there.sum() + elsewhere.sum())


STRIDE_PX = 4
TEMPLATE_CHANNELS = 9
OUTPUTS = ("objectness", "geometry", "classes")
VARIES = {"crops": PICTURE, **dict.fromkeys(OUTPUTS, CELLS)}
_WIDTH = 64
_RARE = -4.0  # logit of a cell before anything is learned: one in fifty
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601


class CentreNetwork(DescribingNetwork):
    """See the module; backbone layers up to stride 4 stay as published."""

    def __init__(self, *, backbone: Backbone, labels: int, template: bool) -> None:
        super().__init__()
        self.mix = _mix() if template else None
        self.trunk = backbone.learning(after=4)
        self.at_4, self.at_8, self.at_16 = (
            nn.Conv2d(channels, _WIDTH, 1) for channels in backbone.channels_at(4, 8, 16)
        )
        self.smooth = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.shared = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.objectness = nn.Conv2d(_WIDTH, 1, 1)
        self.geometry = nn.Conv2d(_WIDTH, 4, 1)
        self.classes = nn.Conv2d(_WIDTH, labels, 3, padding=1)
        for head in (self.objectness, self.geometry, self.classes):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(_bias(head))
        nn.init.constant_(_bias(self.objectness), _RARE)

    def start_sizes(self, log_width: float, log_height: float) -> None:
        """Begin with boxes of that size."""
        with torch.no_grad():
            _bias(self.geometry)[2:] = torch.tensor([log_width, log_height])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.describe(x)[0]

    def describe(self, x: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        if self.mix is not None:
            x = self.mix(x)
        finest, fine, coarse = self.trunk.at_strides(x, 4, 8, 16)
        merged = self.at_8(fine) + _grown(self.at_16(coarse))
        merged = self.at_4(finest) + _grown(merged)
        observed = torch.relu(self.shared(torch.relu(self.smooth(merged))))
        maps = self.objectness(observed), self.geometry(observed), self.classes(observed)
        return maps, observed.mean(dim=(2, 3))


def _mix() -> nn.Conv2d:
    mix = nn.Conv2d(TEMPLATE_CHANNELS, 3, 1)
    with torch.no_grad():
        mix.weight.zero_()
        _bias(mix).zero_()
        for place in range(3):
            mix.weight[place, 3 * place : 3 * place + 3, 0, 0] = torch.tensor(_GREY)
    return mix


def _bias(conv: nn.Conv2d) -> Tensor:
    value = conv.bias
    assert value is not None  # noqa: S101  every convolution here has one
    return value


def _grown(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


_MOST_WATCHED = 8
_LARGE_SHARE = 0.4  # of a crop; where one in twenty objects is above it, they are large
_LARGE_LABEL_SHARE = 0.6  # likewise of one object in ten of a label


class ObjectStudent:
    """A centre network that learns; see ``Student``."""

    def __init__(self, plan: LoopPlan, each: Round, *, scenes: Scenes, backbone: Backbone) -> None:
        network = CentreNetwork(
            backbone=backbone, labels=len(scenes.labels), template=scenes.template
        )
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
    sides = boxes[:, 2:] - boxes[:, :2]
    label = np.concatenate([scene.label for scene in known])
    large = len(sides) and (
        float(np.quantile(sides.max(axis=1), 0.95)) > _LARGE_SHARE * CROP_PX
        or largest_side(sides, label=label) > _LARGE_LABEL_SHARE * CROP_PX
    )
    return LARGE_CROP_PX if large else CROP_PX


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
