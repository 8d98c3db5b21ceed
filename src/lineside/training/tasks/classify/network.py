"""The network of a package: Lite0 at one or two scales, pooled, a linear head, a distance.

The maps at strides 8, 16 and 32 and the last convolution's are pooled over the whole picture, each
by its mean and by its maximum. The head is linear in these numbers, standardisation folded in:

* ``logits`` (1, classes) = weight x pooled + bias;
* ``activation`` (1, classes, h/8, w/8): what each place adds, so that its average plus the logit of
  an average training picture is the logit. A mean's share lies where the map is strong, a maximum's
  where it is reached;
* ``distance`` (1,): Euclidean distance of the first scale's means, standardised, to the nearest of
  the training pictures' (``bank``), in units of their own distances.
"""

from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.training.common.backbone import TAP_CHANNELS, TAP_STRIDES, Lite0Full
from lineside.training.common.feature_bank import distance_to

MEANS = sum(TAP_CHANNELS)
PER_SCALE = 2 * MEANS
FINEST = TAP_STRIDES[0]

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassHead:
    """Learned weights beyond the backbone; all float32.

    Attributes:
        weight: (classes, scales x PER_SCALE): on pooled features, standardisation folded in.
        bias: (classes,).
        mean: (scales x PER_SCALE,): of the training pictures' pooled features.
        bank: (k, MEANS): standardised means of training pictures.
        spread: (MEANS,): divides means before they are compared with the bank.
        unit: divides the distance.
    """

    weight: Floats
    bias: Floats
    mean: Floats
    bank: Floats
    spread: Floats
    unit: float

    @property
    def scales(self) -> int:
        """At how many scales the network looks."""
        return len(self.mean) // PER_SCALE


def tap_slices() -> tuple[slice, ...]:
    """Where each map's channels lie in (MEANS,)."""
    return tuple(slice(*ends) for ends in pairwise(accumulate(TAP_CHANNELS, initial=0)))


def halved(crops: Tensor) -> Tensor:
    """Every two by two pixels averaged."""
    return nn.functional.avg_pool2d(crops, 2)


def maps_of(trunk: Lite0Full, crops: Tensor, *, scales: int) -> list[tuple[Tensor, ...]]:
    """The four maps of each scale, the input itself first."""
    found = []
    for scale in range(scales):
        crops = halved(crops) if scale else crops
        found.append(trunk(crops))
    return found


def pooled_of(maps: list[tuple[Tensor, ...]]) -> Tensor:
    """(n, scales x PER_SCALE): per scale the means of all maps, then their maxima."""
    parts = []
    for taps in maps:
        parts += [tap.mean(dim=(2, 3)) for tap in taps]
        parts += [tap.amax(dim=(2, 3)) for tap in taps]
    return torch.cat(parts, dim=1)


class FeatureNetwork(nn.Module):
    """(n, 3, h, w) prepared pictures → (n, scales x PER_SCALE) pooled features."""

    def __init__(self, trunk: Lite0Full, *, scales: int) -> None:
        super().__init__()
        self.trunk, self.scales = trunk, scales

    def forward(self, crops: Tensor) -> Tensor:
        return pooled_of(maps_of(self.trunk, crops, scales=self.scales))


class ClassNetwork(nn.Module):
    """(n, 3, h, w) prepared pictures → logits, activation, distance; see the module."""

    def __init__(self, head: ClassHead, *, trunk: Lite0Full) -> None:
        super().__init__()
        self.trunk = trunk
        self.scales = head.scales
        for name, value in (
            ("weight", head.weight),
            ("bias", head.bias),
            ("mean", head.mean),
            ("bank", head.bank),
            ("spread", head.spread),
            ("unit", np.array(head.unit)),
        ):
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value, np.float32)))

    weight: Tensor
    bias: Tensor
    mean: Tensor
    bank: Tensor
    spread: Tensor
    unit: Tensor

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = maps_of(self.trunk, crops, scales=self.scales)
        pooled = pooled_of(maps)
        logits = nn.functional.linear(pooled, self.weight, self.bias)
        return logits, self.activation(maps), self.distance(pooled)

    def activation(self, maps: list[tuple[Tensor, ...]]) -> Tensor:
        """Evidence per place of the finest map, in logits."""
        parts = []
        for scale, taps in enumerate(maps):
            for tap, stride, place in zip(taps, TAP_STRIDES, tap_slices(), strict=True):
                grid = self._evidence(tap, scale, place)
                parts.append(_grown(grid, times=stride * 2**scale // FINEST))
        return sum(parts[1:], parts[0])

    def _evidence(self, tap: Tensor, scale: int, place: slice) -> Tensor:
        first = scale * PER_SCALE
        mean, peak = (
            slice(first + offset + place.start, first + offset + place.stop)
            for offset in (0, MEANS)
        )
        spread_out = tap - self.mean[mean, None, None]
        highest = tap.amax(dim=(2, 3), keepdim=True)
        reached = (tap == highest).to(tap.dtype)
        share = reached * (tap.shape[2] * tap.shape[3]) / reached.sum(dim=(2, 3), keepdim=True)
        peaks = share * (highest - self.mean[peak, None, None])
        return nn.functional.conv2d(
            spread_out, self.weight[:, mean, None, None]
        ) + nn.functional.conv2d(peaks, self.weight[:, peak, None, None])

    def distance(self, pooled: Tensor) -> Tensor:
        """Return the distance from the nearest training picture."""
        return distance_to(pooled[:, :MEANS], bank=self.bank, spread=self.spread, unit=self.unit)


def _grown(grid: Tensor, *, times: int) -> Tensor:
    """Repeat each place."""
    return nn.functional.interpolate(grid, scale_factor=float(times), mode="nearest")
