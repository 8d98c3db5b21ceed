"""Masks of defects: run lengths, pieces, and how a map of probabilities becomes one."""

from dataclasses import dataclass

from lineside.core import InvalidError


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRule:
    """How a map of defect logits becomes a mask and a decision.

    Attributes:
        label: what the mask shows, a defect's name.
        cut: pixels above this probability are set.
        least_px: pieces of fewer pixels of the picture are dropped.
        present_above, absent_below: the picture's score (mean of the top ``top_share`` of its
            pixels' probabilities) above and below which the defect is present or absent; between
            them it is unsure.
        top_share: see above, 0-1.
        slope, offset: picture probability = sigmoid(slope * logit(score) + offset).
        stride_px: network pixels per cell of the map.
        error_rate: that the band was made for; never below 1 / (n + 1).
        calibration_pictures: n.
    """

    label: str
    cut: float
    least_px: int
    present_above: float
    absent_below: float
    error_rate: float
    calibration_pictures: int
    top_share: float = 0.001
    slope: float = 1.0
    offset: float = 0.0
    stride_px: int = 1

    def __post_init__(self) -> None:
        if self.absent_below > self.present_above:
            raise InvalidError(
                "at most present_above", where="absent_below", fix="Export the package again."
            )
