"""Fit scorers to good patches; the same patches and seed give the same scorer.

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

from lineside.training.common.backbone import STRIDE_8_CHANNELS
from lineside.training.tasks.anomaly.scorers import (
    NEAREST,
    Contrast,
    Linear,
    LocalNeighbours,
    Mahalanobis,
    Memory,
)

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

COARSE = slice(STRIDE_8_CHANNELS, None)

Floats = NDArray[np.float32]
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
    kept = axes[:, ::-1][:, :channels].T
    kept *= np.sign(kept[np.arange(len(kept)), np.abs(kept).argmax(axis=1)])[:, None]
    weight = kept / deviation
    return Linear(weight.astype(np.float32), -(weight @ mean).astype(np.float32))


def _standard(rows: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    wide = rows.astype(np.float64)
    return wide.mean(axis=0), wide.std(axis=0) + 1e-3


# ---- places


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedLocalNeighbours:
    """A scorer of places with the picture that each of its patches is of, (places, patches)."""

    scorer: LocalNeighbours
    owners: NDArray[np.int64]

    def without(self, picture: int, features: Halves) -> Floats:
        """(rows, columns): the map of a picture, its own patches left aside."""
        with torch.inference_mode():
            squares = self.scorer.squares(_tensor(features))
            own = torch.from_numpy(self.owners == picture)
            squares = squares.masked_fill(own, torch.inf)
            nearest = torch.topk(squares, min(NEAREST, squares.shape[1]), dim=1, largest=False)[0]
            return np.asarray(self.scorer.spread(nearest)[0, 0].numpy(), np.float32)


def fit_local_neighbours(
    features: Sequence[Halves], *, cells: NDArray[np.bool_], seed: int
) -> FittedLocalNeighbours:
    """The scorer of places.

    Args:
        features: (channels, rows, columns) of each picture, all of one size.
        cells: where parts are.
        seed: chooses among very many pictures.
    """
    chosen = _chosen(len(features), seed=seed)
    few = [features[number] for number in chosen]
    project = projection(drawn(few, most=_DRAWN, seed=seed).rows, channels=_CHANNELS)
    with torch.inference_mode():
        seen = torch.cat([project(_tensor(grid)) for grid in few])
    places = np.argwhere(cells)
    each = MOST_BANK_BYTES // (2 * _CHANNELS * max(1, len(places)))
    each = min(max(each, _LEAST_PER_PLACE), _MOST_PER_PLACE, 9 * len(few))
    bank, owners = [], []
    for start in range(0, len(places), _AT_ONCE):
        part = places[start : start + _AT_ONCE]
        rows, taken = _cores(_windows(seen, part), each)
        bank.append(rows)
        owners.append(np.asarray(chosen)[taken % len(few)])
    return FittedLocalNeighbours(
        scorer=LocalNeighbours(project, bank=np.concatenate(bank), cells=cells),
        owners=np.concatenate(owners),
    )


def _chosen(count: int, *, seed: int) -> list[int]:
    if count <= _MOST_COMPARED:
        return list(range(count))
    rng = np.random.default_rng(seed)
    return sorted(rng.choice(count, _MOST_COMPARED, replace=False).tolist())


def _windows(seen: Tensor, places: NDArray[np.int64]) -> Tensor:
    """(places, 9 x pictures, channels): patches within one cell, edges repeated."""
    padded = nn.functional.pad(seen, (1, 1, 1, 1), mode="replicate")
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
    found = []
    for _ in range(count):
        found.append(taken)
        centre = patches[places, taken][:, None]
        nearest = torch.minimum(nearest, (patches - centre).square().sum(dim=2))
        taken = nearest.argmax(dim=1)
    order = torch.stack(found, dim=1)
    rows = torch.gather(patches, 1, order[:, :, None].expand(-1, -1, patches.shape[2]))
    return np.asarray(rows.numpy(), np.float16), order.numpy()


# ---- anywhere


def fit_memory(features: Sequence[Halves], *, seed: int) -> Memory:
    """A bank of patches from anywhere."""
    rows = drawn(features, most=_MEMORY_DRAWN, seed=seed).rows
    project = projection(rows, channels=_MEMORY_CHANNELS)
    with torch.inference_mode():
        seen = project(torch.from_numpy(rows.T[None, :, :, None].copy()))[0, :, :, 0].T
    bank, _ = _cores(seen[None], min(_MEMORY, len(rows)))
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
        said = net[1:](torch.cat([good, good + noise]))[:, 0]
        loss = (0.5 - said[:batch]).relu().mean() + (0.5 + said[batch:]).relu().mean()
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


def map_of(scorer: nn.Module, features: Halves) -> Floats:
    """(rows, columns) of one picture."""
    with torch.inference_mode():
        return np.asarray(scorer(_tensor(features))[0, 0].numpy(), np.float32)


def _tensor(features: Halves) -> Tensor:
    return torch.from_numpy(features.astype(np.float32))[None]
