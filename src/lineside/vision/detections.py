"""From a centre head's maps to boxes: peaks, offsets, sizes, classes, suppression.

The network gives maps at ``stride`` network pixels per cell: objectness logits, offset and log size
of the object around a cell, and class logits (Zhou et al. 2019, "Objects as points"). Everything
here is in pixels of the network's input; the task head lays boxes back onto the picture.

1. A cell is a candidate where no neighbour (3 x 3) is likelier.
2. Its centre is the cell's middle plus the offset in cells, its size exp(log size) network pixels.
3. Of two candidates that overlap by more than ``iou_max`` the likelier stays, whatever their
   labels: one defect that looks like two kinds is one defect.
4. The label is the likeliest class; objects above ``cut`` are there.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError

LEAST_CHANCE = 0.05
"""Candidates below it are not worth listing; a count's doubt sums over the rest."""

_LARGEST_LOG = 9.0  # exp(9) is 8103 network pixels, beyond any input

Floats = NDArray[np.float32]
Numbers = NDArray[np.float64]
Maps = tuple[Floats, Floats, Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectRule:
    """Decoding of maps into boxes.

    Attributes:
        labels: class names in the order of the class logits.
        stride_px: network pixels per cell.
        cut: probability above which an object is there.
        unsure_below: objects between ``cut`` and this probability are unsure.
        iou_max: of two boxes that overlap more, the likelier stays, whatever their labels.
        slope, offset: probability = sigmoid(slope * objectness + offset).
        most: objects told at most.
    """

    labels: tuple[str, ...]
    stride_px: int
    cut: float
    unsure_below: float
    iou_max: float = 0.5
    slope: float = 1.0
    offset: float = 0.0
    most: int = 1000

    def __post_init__(self) -> None:
        if not 0 < self.cut <= self.unsure_below <= 1:
            raise InvalidError(
                "0 < cut <= unsure_below <= 1", where="cut", fix="Export the package again."
            )
        if self.stride_px < 1 or self.most < 1 or not self.labels:
            raise InvalidError(
                "a stride, a limit and labels", where="detect", fix="Export the package again."
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """Possible objects, the likeliest first; what is below the rule's cut included.

    Attributes:
        boxes_px: (n, 4) float64, x0 y0 x1 y1 in network pixels.
        objectness: (n,) float64 logits, as the network gave them.
        chance: (n,) that an object is there, calibrated.
        label: (n,) places in the rule's labels.
        label_chance: (n,) of that label, given that an object is there.
    """

    boxes_px: Numbers
    objectness: Numbers
    chance: Numbers
    label: NDArray[np.intp]
    label_chance: Numbers

    def __len__(self) -> int:
        return len(self.chance)

    def inside(self, width_px: float, *, height_px: float) -> "Candidates":
        """Those whose centre lies in a picture of that size."""
        centre = (self.boxes_px[:, :2] + self.boxes_px[:, 2:]) / 2
        within = (centre >= 0) & (centre < np.array((width_px, height_px)))
        return self.only(np.asarray(within.all(axis=1), np.bool_))

    def scaled(self, across: float, *, down: float) -> "Candidates":
        """The same on pixels that are so many times finer."""
        return replace(self, boxes_px=self.boxes_px * (across, down, across, down))

    def only(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> "Candidates":
        """Some of them."""
        return Candidates(
            boxes_px=self.boxes_px[chosen],
            objectness=self.objectness[chosen],
            chance=self.chance[chosen],
            label=self.label[chosen],
            label_chance=self.label_chance[chosen],
        )


def find_objects(maps: Maps, *, rule: DetectRule, least: float = LEAST_CHANCE) -> Candidates:
    """Every candidate of a picture after suppression.

    Args:
        maps: objectness (1, h, w) logits; geometry (4, h, w), offset x and y in cells, log width
            and log height in network pixels; classes (labels, h, w) logits.
        rule: how they are read.
        least: candidates below that probability are left out.

    Raises:
        InvalidError: maps of sizes that do not go together, or values that are no numbers.
    """
    objectness, geometry, classes = maps
    _check(maps, rule=rule)
    rows, columns = _peaks(objectness[0], rule=rule, least=least)
    logits = objectness[0, rows, columns].astype(np.float64)
    offset_x, offset_y, log_width, log_height = geometry[:, rows, columns].astype(np.float64)
    x = (columns + 0.5 + offset_x) * rule.stride_px
    y = (rows + 0.5 + offset_y) * rule.stride_px
    half_width = np.exp(np.clip(log_width, -_LARGEST_LOG, _LARGEST_LOG)) / 2
    half_height = np.exp(np.clip(log_height, -_LARGEST_LOG, _LARGEST_LOG)) / 2
    label, label_chance = _labels(classes[:, rows, columns].astype(np.float64))
    found = Candidates(
        boxes_px=np.stack(
            [x - half_width, y - half_height, x + half_width, y + half_height], axis=1
        ),
        objectness=logits,
        chance=chance_of(logits, rule=rule),
        label=label,
        label_chance=label_chance,
    )
    return found.only(suppressed(found.boxes_px, iou_max=rule.iou_max))


def chance_of(logits: Numbers, *, rule: DetectRule) -> Numbers:
    """Calibrated probability of objectness logits."""
    return np.asarray(1 / (1 + np.exp(-np.clip(rule.slope * logits + rule.offset, -60, 60))))


def box_iou(one: Numbers, other: Numbers) -> Numbers:
    """(n, 4) and (m, 4) boxes → (n, m) overlap as a share of the union; 0 where both are flat."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    area = np.prod(np.clip(one[:, 2:] - one[:, :2], 0, None), axis=1)
    area_other = np.prod(np.clip(other[:, 2:] - other[:, :2], 0, None), axis=1)
    union = area[:, None] + area_other[None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def suppressed(boxes_px: Numbers, *, iou_max: float) -> NDArray[np.intp]:
    """Places that stay of boxes ordered by falling probability."""
    overlap = box_iou(boxes_px, boxes_px) > iou_max
    gone = np.zeros(len(boxes_px), np.bool_)
    for place in range(len(boxes_px)):
        if not gone[place]:
            gone[place + 1 :] |= overlap[place, place + 1 :]
    return np.flatnonzero(~gone)


def _check(maps: Maps, *, rule: DetectRule) -> None:
    objectness, geometry, classes = maps
    size = objectness.shape[1:]
    wanted = ((1, *size), (4, *size), (len(rule.labels), *size))
    given = (objectness.shape, geometry.shape, classes.shape)
    finite = all(np.isfinite(each).all() for each in maps)
    if given != wanted or not finite:
        raise InvalidError(
            f"maps of {given}, expected {wanted}, all finite",
            where="detect",
            fix="Export the package again.",
        )


def _peaks(
    logits: Floats, *, rule: DetectRule, least: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of cells that no neighbour exceeds, the likeliest first."""
    import cv2

    highest = cv2.dilate(logits, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    worth = rule.slope * logits + rule.offset > np.log(least / (1 - least))
    rows, columns = np.nonzero((logits >= highest) & worth)
    order = np.argsort(-logits[rows, columns], kind="stable")[: rule.most]
    return rows[order], columns[order]


def _labels(logits: Numbers) -> tuple[NDArray[np.intp], Numbers]:
    """(labels, n) logits → the likeliest of each column and its softmax."""
    raw = np.exp(logits - logits.max(axis=0, keepdims=True))
    label = np.argmax(logits, axis=0)
    return label, raw[label, np.arange(logits.shape[1])] / raw.sum(axis=0)
