"""Plan of the heads of an inspection, and their fit to grid features.

* Each presence region has a head of its own.
* Regions that answer the same class list share one head, so that few pictures teach each class from
  every place it stands in, and a class seen in one place is known in all.
* Without regions one head answers every label on the whole picture.

A head has one linear output per label or class, each fitted by itself (one against the rest) by
L2-regularised logistic regression with balanced classes. A picture's variants together weigh as
much as one picture.

The network of a package: frozen trunk, features on a grid per region, linear heads, a distance.

For each region's crop the features at strides 8 and 16 are averaged over a 3 x 3 grid. A head is
linear in those means, standardisation folded in, so that

* ``logits`` (regions, outputs) = sum of weight x mean over channels and cells, plus bias;
* ``activation`` (regions, outputs, rows, columns), at stride 8: the same weights on the features
  themselves, less the training pictures' mean, so that its average plus the logit of an average
  training picture is the logit;
* ``distance`` (regions,): Euclidean distance of the crop's mean features, standardised, to the
  nearest of the training pictures' (``bank``), in units of their own distances.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.core import Inspection, InvalidError
from lineside.datasets import Sample
from lineside.training.common.backbone import Backbone
from lineside.training.common.methods import (
    bank_distances,
    k_center,
    own_distances,
    usual_distance,
)

Floats = NDArray[np.float32]

GRID = 3
CELLS = GRID * GRID


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Heads:
    """Learned weights, per region row; all float32.

    Attributes:
        weight: (regions, outputs, features): on raw grid features, standardisation folded in.
        bias: (regions, outputs).
        mean: (regions, features): of the training pictures' grid features.
        bank: (regions, k, channels): standardised mean features of training pictures.
        spread: (regions, channels): divides mean features before they are compared with the bank.
        unit: (regions,): divides the distance.
    """

    weight: Floats
    bias: Floats
    mean: Floats
    bank: Floats
    spread: Floats
    unit: Floats


def grid_of(flat: Floats) -> Floats:
    """(…, features) → (…, channels, 3, 3), the channels of the map at stride 8 first."""
    return flat.reshape(*flat.shape[:-1], -1, GRID, GRID)


def pooled_of(flat: Floats) -> Floats:
    """(…, features) grid features → (…, channels) means over the grid."""
    return np.asarray(grid_of(flat).mean(axis=(-2, -1)), np.float32)


def grid_features(crops: Floats, *, backbone: Backbone) -> Floats:
    """(n, 3, h, w) float32 prepared crops → (n, features) float32 on the frozen trunk.

    Features are channels of both maps x cells of the grid: 152 x 9 of the published network.
    """
    with torch.inference_mode():
        x = torch.from_numpy(crops).contiguous(memory_format=torch.channels_last)
        fine, coarse = (_grid(tap) for tap in backbone.at_strides(x, 8, 16))
        flat = torch.cat([fine.flatten(1), coarse.flatten(1)], dim=1)
    return np.asarray(flat.contiguous().numpy(), np.float32)


def _grid(tap: Tensor) -> Tensor:
    cell = (int(tap.shape[2]) // GRID, int(tap.shape[3]) // GRID)
    return nn.functional.avg_pool2d(tap, cell)


class RegionNetwork(nn.Module):
    """Prepared crops of all regions → logits, activation, distance, bank distances."""

    def __init__(self, heads: Heads, *, backbone: Backbone) -> None:
        super().__init__()
        self.trunk = backbone
        weight, fine = grid_of(heads.weight), backbone.channels_at(8)[0]
        centre = grid_of((heads.weight * heads.mean[:, None, :]).astype(np.float32))
        offset = (centre[:, :, :fine].sum(axis=2) + centre[:, :, fine:].sum(axis=2)) * CELLS
        for name, value in (
            ("fine", weight[:, :, :fine]),
            ("coarse", weight[:, :, fine:]),
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

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        fine, coarse = self.trunk.at_strides(crops, 8, 16)
        fine_grid, coarse_grid = _grid(fine), _grid(coarse)
        logits = (
            (fine_grid[:, None] * self.fine).sum(dim=(2, 3, 4))
            + (coarse_grid[:, None] * self.coarse).sum(dim=(2, 3, 4))
            + self.bias
        )
        pooled = torch.cat([fine_grid.mean(dim=(2, 3)), coarse_grid.mean(dim=(2, 3))], dim=1)
        apart = bank_distances(pooled, bank=self.bank, spread=self.spread, unit=self.unit)
        return logits, self.activation(fine, coarse), apart.amin(dim=1), apart

    def activation(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Evidence per place of the stride 8 map, in logits."""
        low = (coarse[:, None] * _spread_over(self.coarse, coarse.shape[-1])).sum(dim=2)
        high = (fine[:, None] * _spread_over(self.fine, fine.shape[-1])).sum(dim=2)
        low = nn.functional.interpolate(low, scale_factor=2.0, mode="nearest")
        return (high + low) * CELLS - _spread_over(self.offset, fine.shape[-1])


def _spread_over(grid: Tensor, length: int) -> Tensor:
    """Repeat the last two axes of a grid so that they cover a square map."""
    flat = grid.reshape(1, -1, GRID, GRID)
    grown = nn.functional.interpolate(flat, scale_factor=float(length // GRID), mode="nearest")
    return grown.reshape(*grid.shape[:-2], length, length)


UNKNOWN = -1
_STRENGTH = 0.1
_LARGEST_BANK = 64
_LEAST_SPREAD = 0.25
_FEWEST = 2

Truth = NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One answer of one region: its row, its place in the row, its names."""

    row: int
    place: int
    name: str
    region: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Outputs that are learned together.

    Attributes:
        rows: region rows that share the head.
        labels: one per output.
        exclusive: whether exactly one of the labels holds (classes of a region).
    """

    rows: tuple[int, ...]
    labels: tuple[str, ...]
    exclusive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPlan:
    """Every head of an inspection, and every output in the order of the label names."""

    heads: tuple[Head, ...]
    outputs: tuple[Output, ...]
    regions: tuple[str, ...]

    @property
    def width(self) -> int:
        """Outputs of the widest head: the columns of the logits."""
        return max(len(head.labels) for head in self.heads)


def plan_heads(inspection: Inspection) -> HeadPlan:
    """The heads of an inspection."""
    if not inspection.region:
        head = Head(rows=(0,), labels=inspection.labels, exclusive=False)
        outputs = tuple(
            Output(row=0, place=place, name=label, region="", label=label)
            for place, label in enumerate(inspection.labels)
        )
        return HeadPlan(heads=(head,), outputs=outputs, regions=("",))
    shared: dict[tuple[str, ...], list[int]] = {}
    heads: list[Head] = []
    found: list[Output] = []
    for row, region in enumerate(inspection.region):
        if region.classes:
            shared.setdefault(region.classes, []).append(row)
        else:
            heads.append(Head(rows=(row,), labels=(region.label,), exclusive=False))
        for place, label in enumerate(region.answers):
            name = f"{region.id}/{label}" if region.classes else label
            found.append(Output(row=row, place=place, name=name, region=region.id, label=label))
    heads += [Head(rows=tuple(rows), labels=c, exclusive=True) for c, rows in shared.items()]
    regions = tuple(region.id for region in inspection.region)
    return HeadPlan(heads=tuple(heads), outputs=tuple(found), regions=regions)


def truth_of(plan: HeadPlan, samples: Sequence[Sample]) -> Truth:
    """(samples, regions, outputs) int8: 1 holds, 0 does not, -1 was not judged.

    A class that holds rules the other classes of its region out, whether they were judged or not.
    """
    exclusive = {row for head in plan.heads if head.exclusive for row in head.rows}
    truth = np.full((len(samples), len(plan.regions), plan.width), UNKNOWN, np.int8)
    for place, sample in enumerate(samples):
        held, known = set(sample.labels), set(sample.known)
        decided = {o.row for o in plan.outputs if o.row in exclusive and o.name in held}
        for output in plan.outputs:
            judged = output.row in decided or (output.name in known and output.row not in exclusive)
            if judged:
                truth[place, output.row, output.place] = int(output.name in held)
    return truth


def check_enough(plan: HeadPlan, truth: Truth) -> None:
    """Refuse a training in which an answer has fewer than two pictures on either side.

    Raises:
        InvalidError: names every answer and what it lacks.
    """
    lacking: list[str] = []
    for head in plan.heads:
        for place, label in enumerate(head.labels):
            values = truth[:, list(head.rows), place]
            shown = int((values == 1).any(axis=1).sum())
            without = int((values == 0).any(axis=1).sum())
            if min(shown, without) < _FEWEST:
                lacking.append(f"{label}: {shown} pictures show it, {without} do not")
    if lacking:
        raise InvalidError(
            f"too few pictures to learn and to test from: {'; '.join(lacking)}",
            where="data",
            fix=f"Label at least {_FEWEST} pictures that show each, and {_FEWEST} that do not.",
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """Heads fitted to some pictures.

    Attributes:
        loss: mean cross-entropy of the fit.
        owners: (regions, k): which picture each vector of the bank is of.
    """

    heads: Heads
    loss: float
    owners: NDArray[np.intp]


def fit_heads(plan: HeadPlan, features: Sequence[Floats], *, truth: Truth) -> Fitted:
    """Fit every head.

    Args:
        plan: what to fit.
        features: per picture (copies, regions, features), the picture itself first.
        truth: (pictures, regions, outputs).
    """
    regions, width = len(plan.regions), plan.width
    count = features[0].shape[-1]
    weight = np.zeros((regions, width, count), np.float32)
    bias = np.zeros((regions, width), np.float32)
    mean = np.zeros((regions, count), np.float32)
    losses: list[float] = []
    for head in plan.heads:
        rows = list(head.rows)
        x, y, share, _ = _stacked(features, truth, rows=rows)
        centre, spread = _standard(x)
        mean[rows] = centre
        for place in range(len(head.labels)):
            slope, offset, loss = _logistic((x - centre) / spread, y[:, place], share=share)
            folded = slope / spread
            weight[rows, place] = folded
            bias[rows, place] = offset - folded @ centre
            losses.append(loss)
    bank, spread_pooled, unit, owners = _feature_bank(plan, features)
    heads = Heads(weight=weight, bias=bias, mean=mean, bank=bank, spread=spread_pooled, unit=unit)
    return Fitted(heads=heads, loss=float(np.mean(losses)), owners=owners)


def logits_of(heads: Heads, features: Floats) -> Floats:
    """(…, regions, features) → (…, regions, outputs), as the network computes them."""
    scores = np.einsum("...rf,rof->...ro", features, heads.weight, optimize=True) + heads.bias
    return np.asarray(scores, np.float32)


def distances_of(heads: Heads, features: Floats) -> Floats:
    """(…, regions, features) → (…, regions) distance, as the network computes it."""
    pooled = pooled_of(features) / heads.spread
    apart = np.linalg.norm(pooled[..., None, :] - heads.bank, axis=-1)
    return np.asarray(apart.min(axis=-1) / heads.unit, np.float32)


def _stacked(
    features: Sequence[Floats], truth: Truth, *, rows: Sequence[int]
) -> tuple[Floats, Truth, NDArray[np.float64], NDArray[np.intp]]:
    """Features, truth and weight of every judged crop of these rows, and its picture."""
    xs, ys, shares, owners = [], [], [], []
    for place, copies in enumerate(features):
        for row in rows:
            judged = truth[place, row]
            if (judged == UNKNOWN).all():
                continue
            xs.append(copies[:, row])
            ys.append(np.repeat(judged[None], len(copies), axis=0))
            shares.append(np.full(len(copies), 1.0 / len(copies)))
            owners.append(np.full(len(copies), place))
    return np.concatenate(xs), np.concatenate(ys), np.concatenate(shares), np.concatenate(owners)


def _standard(x: Floats) -> tuple[Floats, Floats]:
    """Mean and spread per feature; a feature that hardly moves is not blown up."""
    deviation = x.std(axis=0)
    least = _LEAST_SPREAD * float(np.median(deviation)) + 1e-6
    return x.mean(axis=0), np.maximum(deviation, np.float32(least))


def _logistic(
    x: Floats, y: NDArray[np.int8], *, share: NDArray[np.float64]
) -> tuple[Floats, float, float]:
    """Weights, intercept and mean cross-entropy of one output."""
    from sklearn.linear_model import LogisticRegression

    judged = y != UNKNOWN
    x, y, share = x[judged], y[judged], share[judged]
    if len(np.unique(y)) < 2:
        # A fold may lack a side; the output then says what it saw, weakly, and nothing more.
        return np.zeros(x.shape[1], np.float32), 2.0 if y.any() else -2.0, 0.13
    model = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=500, tol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stopping at max_iter is a fit like any other
        model.fit(x.astype(np.float64), y, sample_weight=share)
    slope, offset = model.coef_[0], float(model.intercept_[0])
    score = x @ slope + offset
    loss = np.logaddexp(0.0, np.where(y == 1, -score, score))
    return slope.astype(np.float32), offset, float(np.average(loss, weights=share))


def _feature_bank(
    plan: HeadPlan, features: Sequence[Floats]
) -> tuple[Floats, Floats, Floats, NDArray[np.intp]]:
    """Bank, spread, unit and the bank's owners; regions that share a head share them."""
    regions = len(plan.regions)
    pooled = [pooled_of(copies[0]) for copies in features]
    size = min(_LARGEST_BANK, max(len(head.rows) for head in plan.heads) * len(features))
    bank = np.zeros((regions, size, pooled[0].shape[-1]), np.float32)
    spread = np.ones((regions, bank.shape[2]), np.float32)
    unit = np.ones(regions, np.float32)
    owned = np.zeros((regions, size), np.intp)
    for head in plan.heads:
        rows = list(head.rows)
        owners = np.repeat(np.arange(len(pooled)), len(rows))
        vectors = np.concatenate([each[rows] for each in pooled])
        _, wide = _standard(vectors)
        vectors = np.asarray(vectors / wide, np.float32)
        chosen = np.resize(k_center(vectors, count=size), size)
        bank[rows], owned[rows] = vectors[chosen], owners[chosen]
        spread[rows] = wide
        own = own_distances(vectors, vectors, owners=owners, bank_owners=owners)
        unit[rows] = usual_distance(own)
    return bank, spread, unit, owned
