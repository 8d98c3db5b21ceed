"""Distances of a patch from good ones; each scorer becomes standard nodes of the network.

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

from lineside.training.common.export import Graph

NEAREST = 3
FLOOR = 1e-2
"""Added to squared distances: the root of a difference of large numbers near 0 is mostly noise."""

Floats = NDArray[np.float32]


class Linear(nn.Module):
    """A frozen 1 x 1 convolution."""

    def __init__(self, weight: Floats, bias: Floats) -> None:
        super().__init__()
        self.register_buffer("weight", torch.from_numpy(np.ascontiguousarray(weight, np.float32)))
        self.register_buffer("bias", torch.from_numpy(np.ascontiguousarray(bias, np.float32)))

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight[:, :, None, None], self.bias)

    def write(self, graph: Graph, x: str) -> str:
        """The same as an ONNX node; returns the output's name."""
        weight = graph.constant(self.weight.numpy()[:, :, None, None])
        return graph.add("Conv", x, weight, graph.constant(self.bias.numpy()), kernel_shape=[1, 1])


class Scorer(nn.Module):
    """A part of the network; see the module."""

    def forward(self, features: Tensor) -> Tensor:
        raise NotImplementedError

    def write(self, graph: Graph, x: str) -> str:
        """Add nodes that do the same to the features named ``x``; returns the map's name."""
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
        self.halves = bank
        wide = bank.astype(np.float32)
        self.shape = cells.shape
        number = np.full(cells.size, len(bank), np.int64)
        number[np.flatnonzero(cells)] = np.arange(len(bank))
        for name, value in (
            ("bank", wide),
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
        dots = torch.bmm(self.bank, seen[:, :, None])[:, :, 0]
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

    def write(self, graph: Graph, x: str) -> str:
        channels = self.bank.shape[2]
        count = min(NEAREST, self.bank.shape[1])
        few = self.project.write(graph, x)
        flat = graph.add("Reshape", few, graph.axes(channels, -1))
        rows = graph.add("Transpose", flat, perm=[1, 0])
        seen = graph.add("Gather", rows, graph.constant(self.places.numpy()), axis=0)
        bank = graph.add("Cast", graph.constant(self.halves), to=1)
        dots = graph.add("MatMul", bank, graph.add("Unsqueeze", seen, graph.axes(2)))
        dots = graph.add("Squeeze", dots, graph.axes(2))
        squared = _squares(graph, seen, axis=1, lengths=self.lengths.numpy(), dots=dots)
        graph.nodes.append(_topk(squared, count=graph.axes(count), name=f"{squared}t"))
        distance = _rooted(graph, f"{squared}t")
        mean = graph.add("ReduceMean", distance, axes=[1], keepdims=0)
        padded = graph.add("Concat", mean, graph.constant(np.zeros(1, np.float32)), axis=0)
        whole = graph.add("Gather", padded, graph.constant(self.number.numpy()), axis=0)
        return graph.add("Reshape", whole, graph.axes(1, 1, *self.shape))


class Memory(Scorer):
    """The nearest of a few good patches."""

    def __init__(self, project: Linear, *, bank: NDArray[np.float16]) -> None:
        """``bank``: (patches, channels)."""
        super().__init__()
        self.project = project
        self.halves = bank
        wide = bank.astype(np.float32)
        self.register_buffer("bank", torch.from_numpy(wide))
        self.register_buffer("lengths", torch.from_numpy((wide**2).sum(axis=1)))

    bank: Tensor
    lengths: Tensor

    def squares(self, features: Tensor) -> Tensor:
        """(1, rows, columns, patches)."""
        seen = self.project(features).permute(0, 2, 3, 1)
        dots = seen @ self.bank.T
        found: Tensor = seen.square().sum(dim=3, keepdim=True) + self.lengths - 2 * dots
        return found

    def forward(self, features: Tensor) -> Tensor:
        nearest = self.squares(features).amin(dim=3)
        distance: Tensor = (nearest.clamp(min=0) + FLOOR).sqrt()
        return distance[:, None]

    def write(self, graph: Graph, x: str) -> str:
        seen = graph.add("Transpose", self.project.write(graph, x), perm=[0, 2, 3, 1])
        bank = graph.add("Cast", graph.constant(np.ascontiguousarray(self.halves.T)), to=1)
        dots = graph.add("MatMul", seen, bank)
        squared = _squares(graph, seen, axis=3, lengths=self.lengths.numpy(), dots=dots)
        nearest = graph.add("ReduceMin", squared, axes=[3], keepdims=1)
        return graph.add("Transpose", _rooted(graph, nearest), perm=[0, 3, 1, 2])


class Mahalanobis(Scorer):
    """Mahalanobis distance; ``whiten`` brings good patches to mean 0 and covariance 1."""

    def __init__(self, whiten: Linear) -> None:
        super().__init__()
        self.whiten = whiten

    def forward(self, features: Tensor) -> Tensor:
        white: Tensor = self.whiten(features)
        return (white.square().sum(dim=1, keepdim=True) + FLOOR).sqrt()

    def write(self, graph: Graph, x: str) -> str:
        white = self.whiten.write(graph, x)
        squared = graph.add("ReduceSumSquare", white, axes=[1], keepdims=1)
        return _rooted(graph, squared)


class Contrast(Scorer):
    """Two layers after a learned change of channels; low where patches look good."""

    def __init__(self, layers: Sequence[Linear]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, features: Tensor) -> Tensor:
        adapt, hidden, out = self.layers
        seen = nn.functional.leaky_relu(hidden(adapt(features)), 0.2)
        return nn.functional.softplus(-out(seen))

    def write(self, graph: Graph, x: str) -> str:
        adapt, hidden, out = (each for each in self.layers if isinstance(each, Linear))
        seen = graph.add("LeakyRelu", hidden.write(graph, adapt.write(graph, x)), alpha=0.2)
        return graph.add("Softplus", graph.add("Neg", out.write(graph, seen)))


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

    def write(self, graph: Graph, x: str) -> str:
        parts = []
        for member, mean, unit in zip(self.members, self.means, self.units, strict=True):
            if not isinstance(member, Scorer):
                raise TypeError(type(member))
            away = graph.add("Sub", member.write(graph, x), _number(graph, mean))
            parts.append(graph.add("Div", away, _number(graph, unit)))
        return graph.add("Softplus", graph.add("Mean", *parts))


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

    def write(self, graph: Graph, x: str) -> str:
        return graph.add("Mul", self.inner.write(graph, x), graph.constant(self.cover.numpy()))


class ScaledScorer(Scorer):
    """A scorer's map as a multiple of ``unit``, which is above 0."""

    def __init__(self, inner: Scorer, *, unit: float) -> None:
        super().__init__()
        self.inner = inner
        self.unit = unit

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.inner(features)
        return found / self.unit

    def write(self, graph: Graph, x: str) -> str:
        return graph.add("Div", self.inner.write(graph, x), _number(graph, self.unit))


def _number(graph: Graph, value: float) -> str:
    return graph.constant(np.array(value, np.float32))


def _squares(graph: Graph, seen: str, *, axis: int, lengths: Floats, dots: str) -> str:
    own = graph.add("ReduceSumSquare", seen, axes=[axis], keepdims=1)
    both = graph.add("Add", own, graph.constant(lengths))
    return graph.add("Sub", both, graph.add("Mul", dots, _number(graph, 2.0)))


def _rooted(graph: Graph, squared: str) -> str:
    held = graph.add("Max", squared, _number(graph, 0.0))
    return graph.add("Sqrt", graph.add("Add", held, _number(graph, FLOOR)))


def _topk(values: str, *, count: str, name: str) -> object:
    from onnx import helper

    return helper.make_node(
        "TopK", [values, count], [name, f"{name}i"], axis=1, largest=0, sorted=1
    )
