"""Distances of a patch from good ones; each scorer is a part of the network.

* ``LocalNeighbours``: mean distance to the three nearest good patches within one cell of the same
  place.
* ``Memory``: distance to the nearest of a few good patches from anywhere (Roth et al. 2022).
* ``Mahalanobis``: distance from the mean good patch in units of their covariance (Mahalanobis).
* ``Contrast``: a small head that learned to tell good patches from good patches with noise added in
  feature space (Liu et al. 2023, SimpleNet).
* ``ScorerMean``: the mean of several, each brought to the same scale on held-out good patches.
* ``ScaledScorer``: any of them, as a share of what good pictures score. What runs is one: features
  of pictures that hardly differ are stretched most, and so is what engines round differently.

A scorer takes (1, CHANNELS, rows, columns) and gives (1, 1, rows, columns), 0 and above.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

NEAREST = 3
FLOOR = 1e-2
"""Added to squared distances: the root of a difference of large numbers near 0 is mostly noise."""

Floats = NDArray[np.float32]


class Linear(nn.Module):
    """A frozen 1 x 1 convolution."""

    def __init__(self, weight: Floats, bias: Floats) -> None:
        super().__init__()
        square = np.ascontiguousarray(weight[:, :, None, None], np.float32)
        self.register_buffer("weight", torch.from_numpy(square))
        self.register_buffer("bias", torch.from_numpy(np.ascontiguousarray(bias, np.float32)))

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight, self.bias)


class Scorer(nn.Module):
    """A part of the network; see the module."""

    def forward(self, features: Tensor) -> Tensor:
        raise NotImplementedError


class LocalNeighbours(Scorer):
    """Nearest good patches of the same place, only at cells where parts are.

    The bank holds float16 and is widened once, when the network is loaded.
    """

    def __init__(
        self, project: Linear, *, bank: NDArray[np.float16], cells: NDArray[np.bool_]
    ) -> None:
        """Take the parts.

        Args:
            project: to few channels.
            bank: (places, patches, channels), a place per True cell in reading order.
            cells: (rows, columns), True where parts are.
        """
        super().__init__()
        self.project = project
        wide = bank.astype(np.float32)
        self.shape = cells.shape
        number = np.full(cells.size, len(bank), np.int64)
        number[np.flatnonzero(cells)] = np.arange(len(bank))
        for name, value in (
            ("bank", bank),
            ("lengths", (wide**2).sum(axis=2)),
            ("places", np.flatnonzero(cells).astype(np.int64)),
            ("number", number),
        ):
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)))

    bank: Tensor
    lengths: Tensor
    places: Tensor
    number: Tensor

    def squares(self, features: Tensor) -> Tensor:
        """(places, patches) squared distances of one picture."""
        seen = self.project(features).flatten(2)[0].T[self.places]
        dots = torch.bmm(self.bank.float(), seen[:, :, None])[:, :, 0]
        found: Tensor = seen.square().sum(dim=1, keepdim=True) + self.lengths - 2 * dots
        return found

    def spread(self, nearest: Tensor) -> Tensor:
        """(places, NEAREST) squared distances → the map; 0 where parts are not."""
        distance = (nearest.clamp(min=0) + FLOOR).sqrt().mean(dim=1)
        whole = torch.cat([distance, distance.new_zeros(1)])[self.number]
        laid: Tensor = whole.reshape(1, 1, *self.shape)
        return laid

    def forward(self, features: Tensor) -> Tensor:
        count = min(NEAREST, self.bank.shape[1])
        nearest = torch.topk(self.squares(features), count, dim=1, largest=False)[0]
        found: Tensor = self.spread(nearest)
        return found


class Memory(Scorer):
    """The nearest of a few good patches."""

    def __init__(self, project: Linear, *, bank: NDArray[np.float16]) -> None:
        """``bank``: (patches, channels)."""
        super().__init__()
        self.project = project
        wide = bank.astype(np.float32)
        self.register_buffer("bank", torch.from_numpy(bank))
        self.register_buffer("lengths", torch.from_numpy((wide**2).sum(axis=1)))

    bank: Tensor
    lengths: Tensor

    def squares(self, features: Tensor) -> Tensor:
        """(1, rows, columns, patches)."""
        seen = self.project(features).permute(0, 2, 3, 1)
        dots = seen @ self.bank.float().T
        found: Tensor = seen.square().sum(dim=3, keepdim=True) + self.lengths - 2 * dots
        return found

    def forward(self, features: Tensor) -> Tensor:
        nearest = self.squares(features).amin(dim=3)
        distance: Tensor = (nearest.clamp(min=0) + FLOOR).sqrt()
        return distance[:, None]


class Mahalanobis(Scorer):
    """Mahalanobis distance; ``whiten`` brings good patches to mean 0 and covariance 1."""

    def __init__(self, whiten: Linear) -> None:
        super().__init__()
        self.whiten = whiten

    def forward(self, features: Tensor) -> Tensor:
        white: Tensor = self.whiten(features)
        return (white.square().sum(dim=1, keepdim=True) + FLOOR).sqrt()


class Contrast(Scorer):
    """Two layers after a learned change of channels; low where patches look good."""

    def __init__(self, layers: Sequence[Linear]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, features: Tensor) -> Tensor:
        adapt, hidden, out = self.layers
        seen = nn.functional.leaky_relu(hidden(adapt(features)), 0.2)
        return nn.functional.softplus(-out(seen))


class ScorerMean(Scorer):
    """The mean of several scorers' maps, each first brought to one scale, cut at 0."""

    def __init__(
        self, members: Sequence[Scorer], *, means: Sequence[float], units: Sequence[float]
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.means, self.units = tuple(means), tuple(units)

    def forward(self, features: Tensor) -> Tensor:
        parts = [
            (member(features) - mean) / unit
            for member, mean, unit in zip(self.members, self.means, self.units, strict=True)
        ]
        return nn.functional.softplus(torch.stack(parts).mean(dim=0))


class MaskedScorer(Scorer):
    """A scorer's map where parts are, and 0 elsewhere."""

    def __init__(self, inner: Scorer, *, cells: NDArray[np.bool_]) -> None:
        """``cells``: (rows, columns), True where parts are."""
        super().__init__()
        self.inner = inner
        self.register_buffer("cover", torch.from_numpy(cells.astype(np.float32))[None, None])

    cover: Tensor

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.inner(features)
        return found * self.cover


class ScaledScorer(Scorer):
    """A scorer's map as a multiple of ``unit``, which is above 0."""

    def __init__(self, inner: Scorer, *, unit: float) -> None:
        super().__init__()
        self.inner = inner
        self.unit = unit

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.inner(features)
        return found / self.unit
