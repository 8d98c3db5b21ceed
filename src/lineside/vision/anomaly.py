"""From distances of patches to an anomaly's score, its heat map and its decision."""

from dataclasses import dataclass

from lineside.core import InvalidError


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyRule:
    """How a map of patch distances becomes a score and a decision.

    Attributes:
        limit: above it the picture is anomalous; from good pictures alone.
        unsure_above: scores from here to ``limit`` are unsure.
        unit: divides distances, so that good pictures score about 1.
        top_share: the score is the mean of so great a share of the largest distances.
        false_reject_rate: the share of good pictures that the limit was made for; never below
            1 / (n + 1).
        calibration_pictures: n good pictures, each scored by what was learned without it.
        stride_px: network pixels per cell of the map.
        usable: False where good pictures vary as much as defects do; ``reason`` says so, and every
            answer is unsure.
    """

    limit: float
    unsure_above: float
    unit: float
    false_reject_rate: float
    calibration_pictures: int
    top_share: float = 0.01
    stride_px: int = 8
    usable: bool = True
    reason: str = ""

    def __post_init__(self) -> None:
        if not (self.unit > 0 and 0 < self.top_share <= 1 and self.unsure_above <= self.limit):
            raise InvalidError(
                "a unit above 0, a share above 0, unsure_above at most limit",
                where="anomaly",
                fix="Export the package again.",
            )
