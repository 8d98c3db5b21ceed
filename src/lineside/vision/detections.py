"""From a centre head's maps to boxes: peaks, offsets, sizes, classes, suppression.

The network gives maps at ``stride`` network pixels per cell: objectness logits, offset and log size
of the object around a cell, and class logits (Zhou et al. 2019, "Objects as points"). Everything
here is in pixels of the network's input; the task head lays boxes back onto the picture.

1. A cell is a candidate where no neighbour (3 x 3) is likelier.
2. Its centre is the cell's middle plus the offset in cells, its size exp(log size) network pixels.
3. Of two candidates that overlap by more than ``iou_max`` the likelier stays, whatever their
   labels: one defect that looks like two kinds is one defect.
4. The label is the likeliest class; objects above ``cut`` are there.

From found objects, or from a distribution over numbers, to a count with its interval.

1. Of found objects: value = objects above the cut; [value - reach, value + reach], the reach being
   an error on pictures not trained on that a test showed to be exceeded no more often than
   ``error_rate``, times the picture's own doubt where the rule says so. Where no rate was shown,
   there is no such interval, and ``low`` = 0, ``more`` = True say so.
2. Of a distribution: the smallest run of numbers around the likeliest whose probability reaches
   a cut that was tested in the same way. The last output means "more than ``most``".
3. Where the interval passes ``most``, the largest number that was trained, ``high`` is ``most`` and
   ``more`` is True; ``value`` stays what was found.
4. ``chances`` are those of the distribution, or, of found objects, of how many of the candidates
   are there when each is by its own chance (a Poisson binomial distribution).
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError
from lineside.vision.prediction import CountAnswer, Decision

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
        sides_px: least and largest side (square root of the area, network pixels) that the middle
            object of a picture may have; None where training measured none.
    """

    labels: tuple[str, ...]
    stride_px: int
    cut: float
    unsure_below: float
    iou_max: float = 0.5
    slope: float = 1.0
    offset: float = 0.0
    most: int = 1000
    sides_px: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.cut <= self.unsure_below <= 1:
            raise InvalidError(
                "0 < cut <= unsure_below <= 1", where="cut", fix="Export the package again."
            )
        if self.stride_px < 1 or self.most < 1 or not self.labels:
            raise InvalidError(
                "a stride, a limit and labels", where="detect", fix="Export the package again."
            )

    def unfamiliar(self, found: "Candidates", *, scale: float = 1.0) -> str:
        """Return in a sentence that objects are of another size than trained; "" where they fit.

        Args:
            found: on network pixels.
            scale: network pixels per picture pixel, for the sentence.
        """
        side = found.middle_side_px(cut=self.cut)
        if self.sides_px is None or side is None or self.sides_px[0] <= side <= self.sides_px[1]:
            return ""
        least, most = (each / scale for each in self.sides_px)
        return (
            f"Objects are about {side / scale:.0f} px large, trained were {least:.0f} to "
            f"{most:.0f} px"
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

    def middle_side_px(self, *, cut: float) -> float | None:
        """The median side of the objects above a cut; None where there is none."""
        sizes = (self.boxes_px[:, 2:] - self.boxes_px[:, :2])[self.chance > cut]
        return float(np.median(np.sqrt(sizes.prod(axis=1)))) if len(sizes) else None

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


_LEAST_DOUBT = 0.3
_MOST_CHANCES = 256
_DIGITS = 6
_ROUNDING = 1e-9  # a run that reaches the cut but for the last digit reaches it


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRule:
    """Decoding of a count.

    Attributes:
        most: the largest number the training pictures support; above it the answer is "more".
        reach: of the interval, in objects (in units of the picture's own doubt if ``scaled``).
        scaled: whether the reach is multiplied by sqrt(sum of p (1 - p)) + 0.3.
        temperature: of a distribution's logits; 1 where objects are found.
        cut: of a distribution: numbers are taken, likeliest first, until their probability reaches
            it; 0 where objects are found.
        error_rate: shown for the interval: the one wished, or the first larger one that was; 1, or
            in older packages a rate below 1 / (n + 1), where none was, and no interval is told.
        calibration_pictures: n.
        labels: of the objects that are counted; empty counts all.
    """

    most: int
    reach: float
    error_rate: float
    calibration_pictures: int
    scaled: bool = False
    temperature: float = 1.0
    cut: float = 0.0
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.most < 0 or self.reach < 0 or not 0 < self.error_rate <= 1:
            raise InvalidError(
                "a largest number, a reach and an error rate above 0",
                where="count",
                fix="Export the package again.",
            )
        if not self.temperature > 0 or not 0 <= self.cut <= 1:
            raise InvalidError(
                "a temperature above 0 and a cut from 0 to 1",
                where="count",
                fix="Export the package again.",
            )

    @property
    def promises(self) -> bool:
        """Return whether there is an interval: its error rate was shown."""
        shown = self.error_rate * (self.calibration_pictures + 1) >= 1 - _ROUNDING
        return shown and self.error_rate < 1


def doubt_of(chances: NDArray[np.float64]) -> float:
    """Return the uncertainty of a count: sqrt(sum of p (1 - p)) + 0.3 over its candidates."""
    return math.sqrt(float(np.sum(chances * (1 - chances)))) + _LEAST_DOUBT


def count_found(chances: NDArray[np.float64], *, cut: float, rule: CountRule) -> CountAnswer:
    """A count of found objects.

    Args:
        chances: (candidates,) calibrated, those below the cut included.
        cut: objects above it are counted.
        rule: of the interval.
    """
    reach = rule.reach * (doubt_of(chances) if rule.scaled else 1.0)
    return _reaching(
        int(np.sum(chances > cut)), math.floor(reach + _ROUNDING), rule=rule,
        chances=found_chances(chances, rule),
    )  # fmt: skip


def count_again(answer: CountAnswer, *, value: int, rule: CountRule) -> CountAnswer:
    """A recorded count of found objects as it is with another number of them above the cut.

    The reach is that of its time, which no cut changes: it rests on all candidates. A scaled one
    whose interval was cut off at both ends is told by the distribution, which ends at ``most``: an
    estimate where there were more than ``most`` + 1 candidates.

    Args:
        answer: as it was recorded.
        value: objects above the other cut.
        rule: of the interval.
    """
    spare = math.floor(rule.reach + _ROUNDING)
    if rule.scaled and 0 < answer.low < rule.most:
        spare = answer.value - answer.low
    elif rule.scaled and not answer.more:
        spare = answer.high - answer.value
    elif rule.scaled:  # both ends are cut off: the distribution has the same doubt
        numbers, chances = np.arange(len(answer.chances)), np.array(answer.chances)
        mean = float(numbers @ chances)
        doubt = math.sqrt(max(0.0, float((numbers - mean) ** 2 @ chances))) + _LEAST_DOUBT
        spare = math.floor(rule.reach * doubt + _ROUNDING)
    told = _reaching(value, spare, rule=rule, chances=np.array(answer.chances))
    return replace(told, chances=answer.chances, expected=answer.expected)


def _reaching(
    value: int, spare: int, *, rule: CountRule, chances: NDArray[np.float64]
) -> CountAnswer:
    if not rule.promises:
        return _answer(value, low=0, high=rule.most, more=True, chances=chances)
    high = value + spare
    return _answer(
        value,
        low=min(max(0, value - spare), rule.most),
        high=min(high, rule.most),
        more=high > rule.most,
        chances=chances,
    )


def number_chances(logits: NDArray[np.float32], rule: CountRule) -> NDArray[np.float64]:
    """(most + 2,) logits → probabilities of 0, 1, …, most, and of more.

    Raises:
        InvalidError: another number of logits, or one that is no number.
    """
    if logits.shape != (rule.most + 2,) or not np.isfinite(logits).all():
        raise InvalidError(
            f"{logits.shape} logits for the numbers to {rule.most} and more, all finite",
            where="logits",
            fix="Export the package again.",
        )
    scaled = np.asarray(logits, np.float64) / rule.temperature
    raw = np.exp(scaled - scaled.max())
    return np.asarray(raw / raw.sum(), np.float64)


def count_likely(logits: NDArray[np.float32], rule: CountRule) -> CountAnswer:
    """A count of a distribution's (most + 2,) logits."""
    chances = number_chances(logits, rule)
    value = int(np.argmax(chances))
    if not rule.promises:
        return _answer(min(value, rule.most), low=0, high=rule.most, more=True, chances=chances)
    low, high = shortest_run(chances, reaching=rule.cut)
    return _answer(
        min(value, rule.most),
        low=min(low, rule.most),
        high=min(high, rule.most),
        more=high > rule.most,
        chances=chances,
    )


def found_chances(chances: NDArray[np.float64], rule: CountRule) -> NDArray[np.float64]:
    """(candidates,) chances → (most + 2,) probabilities of 0, 1, …, most, and of more."""
    told = np.zeros(rule.most + 2)
    told[0] = 1.0
    for chance in chances:
        there = told * chance
        told -= there
        told[1:] += there[:-1]
        told[-1] += there[-1]  # more stays more
    return told


def shortest_run(chances: NDArray[np.float64], *, reaching: float) -> tuple[int, int]:
    """First and last place of the run around the likeliest whose sum reaches so much.

    The run grows by its likelier neighbour, the upper one where both are alike.
    """
    low = high = int(np.argmax(chances))
    total = float(chances[low])
    while total < reaching - _ROUNDING and high - low + 1 < len(chances):
        below = chances[low - 1] if low else -1.0
        above = chances[high + 1] if high + 1 < len(chances) else -1.0
        low, high = (low, high + 1) if above >= below else (low - 1, high)
        total += float(max(below, above))
    return low, high


def _answer(
    value: int, *, low: int, high: int, more: bool, chances: NDArray[np.float64]
) -> CountAnswer:
    sure = low == high and not more
    told = np.clip(chances, 0, 1).round(_DIGITS).tolist() if len(chances) <= _MOST_CHANCES else ()
    return CountAnswer(
        value=value,
        low=low,
        high=high,
        more=more,
        decision=Decision.PRESENT if sure else Decision.UNSURE,
        chances=tuple(told),
    )
