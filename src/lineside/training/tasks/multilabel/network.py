"""The network of a package: frozen trunk, features on a grid per region, linear heads, a distance.

For each region's crop the features at strides 8 and 16 are averaged over a 3 x 3 grid. A head is
linear in those means, standardisation folded in, so that

* ``logits`` (regions, outputs) = sum of weight x mean over channels and cells, plus bias;
* ``activation`` (regions, outputs, rows, columns), at stride 8: the same weights on the features
  themselves, less the training pictures' mean, so that its average plus the logit of an average
  training picture is the logit;
* ``distance`` (regions,): Euclidean distance of the crop's mean features, standardised, to the
  nearest of the training pictures' (``bank``), in units of their own distances.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.training.common.backbone import (
    STRIDE_8_CHANNELS,
    STRIDE_16_CHANNELS,
    Lite0Backbone,
    fast_backbone,
)
from lineside.training.common.feature_bank import distance_to

GRID = 3
CELLS = GRID * GRID
FEATURES = (STRIDE_8_CHANNELS + STRIDE_16_CHANNELS) * CELLS
POOLED = STRIDE_8_CHANNELS + STRIDE_16_CHANNELS
CROP_STEP_PX = 16 * GRID
"""Crops are multiples of this, so that the grid divides both feature maps evenly."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Heads:
    """Learned weights, per region row; all float32.

    Attributes:
        weight: (regions, outputs, FEATURES): on raw grid features, standardisation folded in.
        bias: (regions, outputs).
        mean: (regions, FEATURES): of the training pictures' grid features.
        bank: (regions, k, POOLED): standardised mean features of training pictures.
        spread: (regions, POOLED): divides mean features before they are compared with the bank.
        unit: (regions,): divides the distance.
    """

    weight: Floats
    bias: Floats
    mean: Floats
    bank: Floats
    spread: Floats
    unit: Floats


def split_taps(flat: Floats) -> tuple[Floats, Floats]:
    """(…, FEATURES) → (…, 40, 3, 3) and (…, 112, 3, 3)."""
    edge = STRIDE_8_CHANNELS * CELLS
    fine = flat[..., :edge].reshape(*flat.shape[:-1], STRIDE_8_CHANNELS, GRID, GRID)
    coarse = flat[..., edge:].reshape(*flat.shape[:-1], STRIDE_16_CHANNELS, GRID, GRID)
    return fine, coarse


def pooled_of(flat: Floats) -> Floats:
    """(…, FEATURES) grid features → (…, POOLED) means over the grid."""
    fine, coarse = split_taps(flat)
    return np.concatenate([fine.mean(axis=(-2, -1)), coarse.mean(axis=(-2, -1))], axis=-1)


def grid_features(crops: Floats, *, trunk: Lite0Backbone | None = None) -> Floats:
    """(n, 3, h, w) float32 prepared crops → (n, FEATURES) float32 on the frozen trunk."""
    trunk = trunk or fast_backbone()
    with torch.inference_mode():
        x = torch.from_numpy(crops).contiguous(memory_format=torch.channels_last)
        fine, coarse = (_grid(tap) for tap in trunk(x))
        flat = torch.cat([fine.flatten(1), coarse.flatten(1)], dim=1)
    return np.asarray(flat.contiguous().numpy(), np.float32)


def _grid(tap: Tensor) -> Tensor:
    cell = (tap.shape[2] // GRID, tap.shape[3] // GRID)
    return nn.functional.avg_pool2d(tap, cell)


class RegionNetwork(nn.Module):
    """Prepared crops of all regions → logits, activation, distance; see the module."""

    def __init__(self, heads: Heads, *, trunk: Lite0Backbone) -> None:
        super().__init__()
        self.trunk = trunk
        fine, coarse = split_taps(heads.weight)
        centre = (heads.weight * heads.mean[:, None, :]).astype(np.float32)
        centre_fine, centre_coarse = split_taps(centre)
        offset = (centre_fine.sum(axis=2) + centre_coarse.sum(axis=2)) * CELLS
        for name, value in (
            ("fine", fine),
            ("coarse", coarse),
            ("bias", heads.bias),
            ("offset", offset),
            ("bank", heads.bank),
            ("spread", heads.spread),
            ("unit", heads.unit),
        ):
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value, np.float32)))

    fine: Tensor
    coarse: Tensor
    bias: Tensor
    offset: Tensor
    bank: Tensor
    spread: Tensor
    unit: Tensor

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine, coarse = self.trunk(crops)
        fine_grid, coarse_grid = _grid(fine), _grid(coarse)
        logits = (
            (fine_grid[:, None] * self.fine).sum(dim=(2, 3, 4))
            + (coarse_grid[:, None] * self.coarse).sum(dim=(2, 3, 4))
            + self.bias
        )
        return logits, self.activation(fine, coarse), self.distance(fine_grid, coarse_grid)

    def activation(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Evidence per place of the stride 8 map, in logits."""
        low = (coarse[:, None] * _spread_over(self.coarse, coarse.shape[-1])).sum(dim=2)
        high = (fine[:, None] * _spread_over(self.fine, fine.shape[-1])).sum(dim=2)
        low = nn.functional.interpolate(low, scale_factor=2.0, mode="nearest")
        return (high + low) * CELLS - _spread_over(self.offset, fine.shape[-1])

    def distance(self, fine_grid: Tensor, coarse_grid: Tensor) -> Tensor:
        """Return the distance from the nearest training picture."""
        pooled = torch.cat([fine_grid.mean(dim=(2, 3)), coarse_grid.mean(dim=(2, 3))], dim=1)
        return distance_to(pooled, bank=self.bank, spread=self.spread, unit=self.unit)


def _spread_over(grid: Tensor, length: int) -> Tensor:
    """Repeat the last two axes of a grid so that they cover a square map."""
    flat = grid.reshape(1, -1, GRID, GRID)
    grown = nn.functional.interpolate(flat, scale_factor=float(length // GRID), mode="nearest")
    return grown.reshape(*grid.shape[:-2], length, length)
