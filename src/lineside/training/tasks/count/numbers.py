"""Learn a number from pictures of which only the number is known.

1. No change of a training picture takes an object out of it: it is mirrored, lit anew and shown a
   little smaller, never cut.
2. ``most`` is the largest number that three pictures show; what shows more is taught as "more".
3. Neighbouring numbers cost less: the loss adds to the cross-entropy the squared distance of the
   cumulative distributions, and the distance of the density's sum.
4. Temperature and the cut of the interval come from pictures held out.

The network that tells a number without ever having been shown an object.

A density over the picture, at stride 8, sums to a number S. The logit of the number k is
-a (k - S)^2 / 2, that of "more than most" -a max(0, most + 1 - S)^2 / 2, so that neighbours of the
likeliest number are the next likely; a linear layer on the picture's mean features corrects them.
``activation`` is the density.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.core import Box, Policy
from lineside.datasets import Sample
from lineside.training.common.backbone import Backbone, channels_last
from lineside.training.common.cache import MemoryCache
from lineside.training.common.loop import BATCH, LoopPlan, Parallel, Round, drawn
from lineside.training.common.methods import (
    DescribingNetwork,
    calibrated_limit,
    temperature_of,
)
from lineside.training.tasks.contract import Work
from lineside.vision import CountRule, Crop, Prepare
from lineside.vision.detections import number_chances, shortest_run
from lineside.vision.prepare import cut, normalise

STRIDE_PX = 8
_WIDTH = 64


class NumberNetwork(DescribingNetwork):
    """(n, 3, h, w) → logits (n, most + 2), activation (n, 1, h / 8, w / 8)."""

    def __init__(self, *, backbone: Backbone, most: int) -> None:
        super().__init__()
        self.trunk = backbone.learning(after=4)
        self.at_8, self.at_16 = (
            nn.Conv2d(channels, _WIDTH, 1) for channels in backbone.channels_at(8, 16)
        )
        self.shared = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.density = nn.Conv2d(_WIDTH, 1, 1)
        self.correction = nn.Linear(_WIDTH, most + 2)
        self.sharpness = nn.Parameter(torch.zeros(1))
        self.register_buffer("numbers", torch.arange(most + 2, dtype=torch.float32))
        self.register_buffer("is_more", (torch.arange(most + 2) == most + 1).float())
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)
        nn.init.normal_(self.density.weight, std=0.01)

    numbers: Tensor
    is_more: Tensor

    def start_number(self, mean: float, *, cells: int) -> None:
        """Begin with that number on a picture of so many cells."""
        each = max(mean, 0.1) / cells
        with torch.no_grad():
            bias = self.density.bias
            if bias is not None:
                bias.fill_(math.log(math.expm1(each)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.describe(x)[0]

    def describe(self, x: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        fine, coarse = self.trunk.at_strides(x, 8, 16)
        grown = nn.functional.interpolate(self.at_16(coarse), scale_factor=2.0, mode="nearest")
        observed = torch.relu(self.shared(torch.relu(self.at_8(fine) + grown)))
        density = nn.functional.softplus(self.density(observed))
        total = density.sum(dim=(1, 2, 3)).unsqueeze(1)
        apart = self.numbers - total
        apart = apart * (1 - self.is_more) + torch.relu(apart) * self.is_more
        likely = -torch.exp(self.sharpness) * apart * apart / 2
        features = observed.mean(dim=(2, 3))
        return (likely + self.correction(features), density), features


SIDE_PX = 192
_LARGEST = 253
_ENOUGH_OF_ONE = 3
_FEW = 30
_LEAST_STEPS, _MOST_STEPS, _TURNS = 300, 1600, 12
_SMALLEST, _GAIN, _CAST = 0.88, 1.25, 0.06
_NEIGHBOUR = 0.05
_TEMPERATURES = np.geomspace(0.25, 8.0, 61)
_MOST_PIXEL_BYTES = 1_000_000_000

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]


def number_prepare() -> Prepare:
    """The whole picture in a square, the rest black."""
    whole = Box(x0_px=0.0, y0_px=0.0, x1_px=float(SIDE_PX), y1_px=float(SIDE_PX))
    return Prepare(
        crops=(Crop(region="", box_px=whole),),
        width_px=SIDE_PX,
        height_px=SIDE_PX,
        fit="pad",
        border="black",
    )


def most_of(counts: Sequence[int]) -> int:
    """The largest number that pictures enough show: three, or one where there are few pictures."""
    enough = _ENOUGH_OF_ONE if len(counts) >= _FEW else 1
    often = Counter(counts)
    supported = [count for count, times in often.items() if times >= enough]
    return min(_LARGEST, max(supported, default=max(counts)))


class Numbered:
    """Pictures with their numbers; pixels are kept up to a limit and read again beyond it."""

    def __init__(self, work: Work, *, most: int) -> None:
        self.settings = number_prepare()
        self.most = most
        self._work = work
        self._shown = MemoryCache[Image](most_bytes=_MOST_PIXEL_BYTES)

    def pixels(self, sample: Sample) -> Image:
        """(SIDE_PX, SIDE_PX, 3) uint8."""
        return self._shown.get(
            sample.digest, lambda: cut(self._work.picture(sample), self.settings)[0]
        )

    def place(self, sample: Sample) -> int:
        """Return the index of the right output."""
        return min(sample.count or 0, self.most + 1)

    def tensor(self, pixels: Sequence[Image]) -> Tensor:
        """The network's input."""
        crops = normalise(np.stack(pixels), self.settings)
        return torch.from_numpy(crops).contiguous(memory_format=torch.channels_last)


def usual_steps(pictures: int) -> int:
    """Return the steps of the package's fit where the job names none."""
    return int(np.clip(_TURNS * pictures / BATCH, _LEAST_STEPS, _MOST_STEPS))


def logits_of(
    network: NumberNetwork, samples: Sequence[Sample], *, numbered: Numbered
) -> NDArray[np.float32]:
    """(pictures, most + 2)."""
    found = []
    with torch.inference_mode():
        for sample in samples:
            logits, _ = network(numbered.tensor([numbered.pixels(sample)]))
            found.append(logits[0].numpy())
    return np.stack(found).astype(np.float32)


class NumberStudent:
    """A number network that learns; see ``Student``."""

    def __init__(
        self, plan: LoopPlan, each: Round, *, numbered: Numbered, backbone: Backbone
    ) -> None:
        self.network = channels_last(NumberNetwork(backbone=backbone, most=numbered.most))
        self._plan, self._each, self._numbered = plan, each, numbered
        self._watch = each.judge[:: max(1, len(each.judge) // 64)]
        mean = float(np.mean([numbered.place(sample) for sample in each.learn]))
        self.network.start_number(mean, cells=(SIDE_PX // STRIDE_PX) ** 2)

    def loss(self, step: int, *, parallel: Parallel) -> tuple[Tensor | None, int]:
        chosen = drawn(len(self._each.learn), plan=self._plan, step=step)
        own = parallel.share(list(enumerate(chosen)))
        if not own:
            return None, 0
        changed = [
            change(
                self._numbered.pixels(self._each.learn[place]),
                rng=np.random.default_rng([self._plan.seed, 1, step, number]),
            )
            for number, place in own
        ]
        return self._loss(changed, [self._each.learn[place] for _, place in own]), len(own)

    def watched(self) -> float | None:
        losses = [
            float(self._loss([self._numbered.pixels(sample)], [sample])) for sample in self._watch
        ]
        return float(np.mean(losses)) if losses else None

    def _loss(self, pixels: Sequence[Image], samples: Sequence[Sample]) -> Tensor:
        places = [self._numbered.place(sample) for sample in samples]
        logits, density = self.network(self._numbered.tensor(pixels))
        return number_loss(logits, density.sum(dim=(1, 2, 3)), truth=torch.tensor(places))


def number_loss(logits: Tensor, total: Tensor, *, truth: Tensor) -> Tensor:
    """Mean over pictures; see the module.

    Args:
        logits: (n, most + 2).
        total: (n,) sums of the density.
        truth: (n,) outputs that are right.
    """
    outputs = logits.shape[1]
    apart = (torch.arange(outputs)[None, :] - truth[:, None]).abs()
    wanted = (apart == 0).float() + _NEIGHBOUR * (apart == 1).float()
    wanted = wanted / wanted.sum(dim=1, keepdim=True)
    crossed = -(wanted * torch.log_softmax(logits, dim=1)).sum(dim=1)
    answer = torch.softmax(logits, dim=1).cumsum(dim=1)
    moved = (answer - wanted.cumsum(dim=1)).square().sum(dim=1)
    off = nn.functional.smooth_l1_loss(total, truth.float(), reduction="none")
    return (crossed + moved + 0.3 * off).mean()


def change(pixels: Image, *, rng: np.random.Generator) -> Image:
    """A training picture mirrored, a little smaller, in other light; nothing leaves it."""
    import cv2

    turn, share = int(rng.integers(4)), float(rng.uniform(_SMALLEST, 1.0))
    if turn & 1:
        pixels = pixels[:, ::-1]
    if turn & 2:
        pixels = pixels[::-1]
    side = pixels.shape[0]
    spare = side * (1 - share)
    dx, dy = rng.uniform(0, spare, 2)
    matrix = np.array([[share, 0, dx + (share - 1) / 2], [0, share, dy + (share - 1) / 2]])
    shown = cv2.warpAffine(np.ascontiguousarray(pixels), matrix, (side, side))
    gain = np.exp(rng.uniform(-1, 1) * np.log(_GAIN)) * rng.uniform(1 - _CAST, 1 + _CAST, 3)
    table = np.clip(np.arange(256)[:, None] * gain, 0, 255).astype(np.uint8)
    return np.stack([table[shown[..., each], each] for each in range(3)], axis=-1)


def number_rule(
    logits: NDArray[np.float32],
    truth: NDArray[np.intp],
    *,
    most: int,
    owners: Sequence[object],
    policy: Policy,
) -> tuple[CountRule, NDArray[np.bool_]]:
    """Temperature, cut and the rate shown for it, and which runs of numbers miss the right one.

    Args:
        logits: (held-out pictures, most + 2), by networks that had not seen them.
        truth: (held-out pictures,) outputs that are right.
        most: the largest number.
        owners: whose each picture is, such as its group.
        policy: the error rate wished.
    """
    rule = CountRule(
        most=most,
        reach=0.0,
        error_rate=1.0,
        calibration_pictures=len(truth),
        temperature=round(temperature_of(logits.astype(np.float64), truth, among=_TEMPERATURES), 6),
    )
    if not len(truth):
        return rule, np.zeros(0, np.bool_)
    chances = [number_chances(row, rule) for row in logits]
    needed = np.array([_needed(row, place) for row, place in zip(chances, truth, strict=True)])
    limit = calibrated_limit(needed, owners=owners, rate=policy.error_rate)
    cut = min(1.0, limit.cut)
    runs = [shortest_run(row, reaching=cut) for row in chances]
    missed = [not low <= place <= high for (low, high), place in zip(runs, truth, strict=True)]
    return replace(rule, cut=cut, error_rate=limit.rate), np.array(missed)


def _needed(chances: Floats, place: np.intp) -> float:
    """The mass of the smallest run that holds a number, less its last member's."""
    low = high = int(np.argmax(chances))
    total = 0.0
    while not low <= place <= high:
        total = float(chances[low : high + 1].sum())
        low, high = shortest_run(chances, reaching=total + 1e-6)
    return total + 1e-6 if total else 0.0
