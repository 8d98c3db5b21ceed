"""Target maps of a crop, and the loss of a network's maps against them.

Objectness has a peak of 1 in the cell of each centre and falls off as an elliptical Gaussian of
0.12 times the object's sides; its loss is the penalty-reduced focal loss (Law and Deng 2018,
eq. 1).
Offset, log size and label are taught at the centre's cell and its four neighbours, so that a peak
one cell off still gives the same box.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lineside.training.tasks.detect.crops import Piece
from lineside.training.tasks.detect.network import STRIDE_PX

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
    said = torch.nn.functional.logsigmoid(logits)
    denied = torch.nn.functional.logsigmoid(-logits)
    chance = torch.sigmoid(logits)
    centres = heat == 1
    there = torch.where(centres, (1 - chance) ** 2 * said, 0.0)
    elsewhere = torch.where(centres, 0.0, (1 - heat) ** 4 * chance**2 * denied)
    return -(there.sum() + elsewhere.sum())
