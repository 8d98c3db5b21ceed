"""From a centre head's maps to boxes: peaks, offsets, sizes, classes, suppression.

The network gives maps at ``stride`` network pixels per cell: objectness logits, offset and log size
of the object around a cell, and class logits. Everything here is in pixels of the network's input;
the predictor lays boxes back onto the picture.
"""

from dataclasses import dataclass

from lineside.core import InvalidError


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectRule:
    """How maps become boxes.

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
