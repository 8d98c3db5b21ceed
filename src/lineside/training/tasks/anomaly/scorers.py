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

A scorer takes (1, channels, rows, columns) and gives (1, 1, rows, columns), 0 and above.

Fit scorers to good patches; the same patches and seed give the same scorer:

1. A bank is a greedy coreset (Sener and Savarese 2018): each next patch is the one farthest from
   those taken, so that rare looks of good parts stay in it.
2. ``owners`` names the picture each banked patch is of: a picture is judged as held out by leaving
   its own patches aside.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.training.common.backbone import Backbone
from lineside.training.common.methods import FeatureBank, PictureBank, picture_bank
from lineside.training.tasks.anomaly.scene import taps

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
        observed = self.project(features).flatten(2)[0].T[self.places]
        dots = torch.bmm(self.bank.float(), observed[:, :, None])[:, :, 0]
        found: Tensor = observed.square().sum(dim=1, keepdim=True) + self.lengths - 2 * dots
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
        observed = self.project(features).permute(0, 2, 3, 1)
        dots = observed @ self.bank.float().T
        found: Tensor = observed.square().sum(dim=3, keepdim=True) + self.lengths - 2 * dots
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
        observed = nn.functional.leaky_relu(hidden(adapt(features)), 0.2)
        return nn.functional.softplus(-out(observed))


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


class AnomalyNetwork(nn.Module):
    """(1, 3, height, width) prepared crops → map of distances, distances from good pictures.

    The map is (1, 1, height / 8, width / 8). The other output compares the mean patch with those of
    remembered pictures: (1, pictures); no score rests on it.
    """

    def __init__(self, scorer: Scorer, *, backbone: Backbone, known: FeatureBank) -> None:
        super().__init__()
        self.trunk = backbone
        self.scorer = scorer
        self.known = PictureBank(known)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        features = taps(self.trunk, crops)
        return self.scorer(features), self.known(features.mean(dim=(2, 3)))


MOST_BANK_BYTES = 24_000_000
_CHANNELS = 96
_MOST_PER_PLACE = 128
_LEAST_PER_PLACE = 24
_MOST_COMPARED = 150
_MEMORY = 1000
_MEMORY_CHANNELS = 64
_MEMORY_DRAWN = 10_000
_AT_ONCE = 48
_RIDGE = 0.01
_DRAWN = 120_000

Halves = NDArray[np.float16]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """Patches drawn evenly from pictures: (n, channels), and the picture each is of."""

    rows: Floats
    owners: NDArray[np.int64]


def drawn(features: Sequence[Halves], *, most: int, seed: int) -> Drawn:
    """At most ``most`` patches of all pictures, by chance."""
    rng = np.random.default_rng(seed)
    each = max(1, most // len(features))
    rows, owners = [], []
    for number, grid in enumerate(features):
        flat = grid.reshape(grid.shape[0], -1)
        places = np.arange(flat.shape[1])
        if len(places) > each:
            places = np.sort(rng.choice(len(places), each, replace=False))
        rows.append(flat[:, places].T.astype(np.float32))
        owners.append(np.full(len(places), number, np.int64))
    return Drawn(rows=np.concatenate(rows), owners=np.concatenate(owners))


def projection(rows: Floats, *, channels: int) -> Linear:
    """Standardised, then turned to the ``channels`` directions of most variance."""
    mean, deviation = _standard(rows)
    scaled = ((rows - mean) / deviation).astype(np.float64)
    _, axes = np.linalg.eigh(np.cov(scaled.T))
    stored = axes[:, ::-1][:, :channels].T
    stored *= np.sign(stored[np.arange(len(stored)), np.abs(stored).argmax(axis=1)])[:, None]
    weight = stored / deviation
    return Linear(weight.astype(np.float32), -(weight @ mean).astype(np.float32))


def _standard(rows: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    wide = rows.astype(np.float64)
    return wide.mean(axis=0), wide.std(axis=0) + 1e-3


# ---- places


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedLocalNeighbours:
    """A scorer of places, and whose its patches are.

    Attributes:
        owners: (places, patches) the picture that each patch is of.
        groups: (pictures,) number of each one's group.
    """

    scorer: LocalNeighbours
    owners: NDArray[np.int64]
    groups: NDArray[np.intp]

    def part(self, cells: tuple[slice, slice]) -> "FittedLocalNeighbours":
        """The same for some rows and columns of the map."""
        number = self.scorer.number.numpy().reshape(self.scorer.shape)[cells]
        here = number < len(self.owners)
        return FittedLocalNeighbours(
            scorer=LocalNeighbours(
                self.scorer.project, bank=self.scorer.bank.numpy()[number[here]], cells=here
            ),
            owners=self.owners[number[here]],
            groups=self.groups,
        )

    def without(self, picture: int, features: Halves) -> Floats:
        """(rows, columns): the map of a picture, the patches of its group left aside.

        Where hardly a patch of another group is remembered, its own alone are.
        """
        own = self.groups[self.owners] == self.groups[picture]
        few = (~own).sum(axis=1, keepdims=True) < NEAREST
        own = np.where(few, self.owners == picture, own)
        with torch.inference_mode():
            squares = self.scorer.squares(_tensor(features))
            squares = squares.masked_fill(torch.from_numpy(own), torch.inf)
            nearest = torch.topk(squares, min(NEAREST, squares.shape[1]), dim=1, largest=False)[0]
            return np.asarray(self.scorer.spread(nearest)[0, 0].numpy(), np.float32)


def fit_local_neighbours(
    features: Sequence[Halves], *, cells: NDArray[np.bool_], owners: Sequence[object], seed: int
) -> FittedLocalNeighbours:
    """The scorer of places.

    Args:
        features: (channels, rows, columns) of each picture, all of one size.
        cells: where parts are.
        owners: whose each picture is, such as its group.
        seed: chooses among very many pictures.
    """
    chosen = _chosen(len(features), seed=seed)
    few = [features[number] for number in chosen]
    project = projection(drawn(few, most=_DRAWN, seed=seed).rows, channels=_CHANNELS)
    with torch.inference_mode():
        observed = torch.cat([project(_tensor(grid)) for grid in few])
    places = np.argwhere(cells)
    each = MOST_BANK_BYTES // (2 * _CHANNELS * max(1, len(places)))
    each = min(max(each, _LEAST_PER_PLACE), _MOST_PER_PLACE, 9 * len(few))
    bank, pictures = [], []
    for start in range(0, len(places), _AT_ONCE):
        part = places[start : start + _AT_ONCE]
        rows, taken = _cores(_windows(observed, part), each)
        bank.append(rows)
        pictures.append(np.asarray(chosen)[taken % len(few)])
    return FittedLocalNeighbours(
        scorer=LocalNeighbours(project, bank=np.concatenate(bank), cells=cells),
        owners=np.concatenate(pictures),
        groups=np.unique(np.array(owners), return_inverse=True)[1],
    )


def _chosen(count: int, *, seed: int) -> list[int]:
    if count <= _MOST_COMPARED:
        return list(range(count))
    rng = np.random.default_rng(seed)
    return sorted(rng.choice(count, _MOST_COMPARED, replace=False).tolist())


def _windows(image: Tensor, places: NDArray[np.int64]) -> Tensor:
    """(places, 9 x pictures, channels): patches within one cell, edges repeated."""
    padded = nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
    rows, columns = torch.from_numpy(places[:, 0]), torch.from_numpy(places[:, 1])
    found = [
        padded[:, :, rows + down, columns + across].permute(2, 0, 1)
        for down in range(3)
        for across in range(3)
    ]
    return torch.cat(found, dim=1)


def _cores(patches: Tensor, count: int) -> tuple[Halves, NDArray[np.int64]]:
    """Greedy coresets of several places at once: (places, count, channels) and which were taken."""
    places = torch.arange(len(patches))
    away = (patches - patches.mean(dim=1, keepdim=True)).square().sum(dim=2)
    taken = away.argmin(dim=1)
    nearest = torch.full_like(away, torch.inf)
    gap = torch.empty_like(patches)  # a new one at each step leaves holes that malloc keeps
    order = torch.empty((len(patches), count), dtype=torch.int64)
    for step in range(count):
        order[:, step] = taken
        torch.sub(patches, patches[places, taken][:, None], out=gap)
        torch.minimum(nearest, torch.sum(gap.square_(), dim=2, out=away), out=nearest)
        taken = nearest.argmax(dim=1)
    rows = torch.gather(patches, 1, order[:, :, None].expand(-1, -1, patches.shape[2]))
    return np.asarray(rows.numpy(), np.float16), order.numpy()


# ---- anywhere


def fit_memory(features: Sequence[Halves], *, seed: int) -> Memory:
    """A bank of patches from anywhere."""
    rows = drawn(features, most=_MEMORY_DRAWN, seed=seed).rows
    project = projection(rows, channels=_MEMORY_CHANNELS)
    with torch.inference_mode():
        observed = project(torch.from_numpy(rows.T[None, :, :, None].copy()))[0, :, :, 0].T
    bank, _ = _cores(observed[None], min(_MEMORY, len(rows)))
    return Memory(project, bank=bank[0])


def fit_mahalanobis(features: Sequence[Halves], *, channels: slice, seed: int) -> Mahalanobis:
    """Mean and covariance of some channels, the rest ignored."""
    rows = drawn(features, most=_DRAWN, seed=seed).rows
    wide = rows[:, channels].astype(np.float64)
    covariance = np.cov(wide.T)
    size = len(covariance)
    covariance += _RIDGE * np.trace(covariance) / size * np.eye(size)
    root = np.linalg.cholesky(np.linalg.inv(covariance)).T / np.sqrt(size)
    weight = np.zeros((size, rows.shape[1]))
    weight[:, channels] = root
    return Mahalanobis(
        Linear(weight.astype(np.float32), -(root @ wide.mean(axis=0)).astype(np.float32))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastPlan:
    """Length of the head's learning.

    Attributes:
        batch: patches a step; of few patches a sixteenth, at least ``least_batch``.
        noise: deviation added to standardised features.
    """

    steps: int = 250
    batch: int = 2048
    least_batch: int = 256
    noise: float = 0.5
    hidden: int = 128
    learning_rate: float = 1e-3


def fit_contrast(
    features: Sequence[Halves],
    *,
    seed: int,
    plan: ContrastPlan,
) -> Contrast:
    """A head that tells good patches from good patches with noise."""
    rows = drawn(features, most=_DRAWN, seed=seed).rows
    mean, deviation = _standard(rows)
    table = torch.from_numpy(((rows - mean) / deviation).astype(np.float32))
    generator = torch.Generator().manual_seed(seed)
    net = _head(rows.shape[1], hidden=plan.hidden, generator=generator)
    fitter = torch.optim.AdamW(net.parameters(), plan.learning_rate, weight_decay=1e-4)
    batch = min(plan.batch, max(plan.least_batch, len(table) // 16))
    for _ in range(plan.steps):
        places = torch.randint(len(table), (batch,), generator=generator)
        good = net[0](table[places])
        noise = torch.randn(good.shape, generator=generator) * plan.noise
        answer = net[1:](torch.cat([good, good + noise]))[:, 0]
        loss = (0.5 - answer[:batch]).relu().mean() + (0.5 + answer[batch:]).relu().mean()
        fitter.zero_grad()
        loss.backward()
        fitter.step()
    return _exported(net.eval(), mean=mean, deviation=deviation)


def _head(channels: int, *, hidden: int, generator: torch.Generator) -> nn.Sequential:
    net = nn.Sequential(
        nn.Linear(channels, channels),
        nn.Linear(channels, hidden),
        nn.BatchNorm1d(hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, 1),
    )
    for layer in net:
        if isinstance(layer, nn.Linear):
            reach = 1.0 / layer.in_features**0.5
            nn.init.uniform_(layer.weight, -reach, reach, generator=generator)
            nn.init.uniform_(layer.bias, -reach, reach, generator=generator)
    return net


def _exported(
    net: nn.Sequential, *, mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> Contrast:
    """Standardisation and batch normalisation folded into the layers."""
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    norm = next(layer for layer in net if isinstance(layer, nn.BatchNorm1d))
    weights = [layer.weight.detach().numpy().astype(np.float64) for layer in layers]
    biases = [layer.bias.detach().numpy().astype(np.float64) for layer in layers]
    weights[0] = weights[0] / deviation
    biases[0] = biases[0] - weights[0] @ mean
    if norm.running_mean is None or norm.running_var is None:
        raise TypeError("a normalisation without running figures")
    scale = (norm.weight.detach() / (norm.running_var + norm.eps).sqrt()).numpy()
    shift = norm.bias.detach().numpy() - scale * norm.running_mean.numpy()
    weights[1], biases[1] = weights[1] * scale[:, None], biases[1] * scale + shift
    return Contrast(
        [
            Linear(weight.astype(np.float32), bias.astype(np.float32))
            for weight, bias in zip(weights, biases, strict=True)
        ]
    )


def remembered_pictures(features: Sequence[Halves]) -> FeatureBank:
    """The pictures that lie farthest apart by their mean patch."""
    means = np.stack([grid.astype(np.float32).mean(axis=(1, 2)) for grid in features])
    return picture_bank(means, owners=range(len(means)))


def map_of(scorer: nn.Module, features: Halves) -> Floats:
    """(rows, columns) of one picture."""
    with torch.inference_mode():
        return np.asarray(scorer(_tensor(features))[0, 0].numpy(), np.float32)


def _tensor(features: Halves) -> Tensor:
    return torch.from_numpy(features.astype(np.float32))[None]
