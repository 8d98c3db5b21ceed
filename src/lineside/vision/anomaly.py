"""From distances of patches to an anomaly's score, its heat map and its decision.

1. A network's map holds a distance per cell; cells that no part can be at hold 0. Distances are
   divided by the rule's unit and smoothed over neighbouring cells.
2. The score is the mean of the largest cells: a defect is local, and one cell alone is noise.
3. Above the limit is anomalous; a little below it is unsure. Where good pictures vary as much as
   defects do, every answer is unsure and the rule says why.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError
from lineside.vision.geometry import Matrix
from lineside.vision.masks import inside_picture
from lineside.vision.prediction import AnomalyAnswer, Decision
from lineside.vision.prepare import Prepare, activation_on_picture, fitted

_HIGHEST = 1e6

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyRule:
    """Decoding of a map of patch distances into a score and a decision.

    Attributes:
        limit: above it the picture is anomalous; from good pictures alone.
        unsure_above: scores from here to ``limit`` are unsure.
        unit: divides distances, so that good pictures score about 1.
        top_share: the score is the mean of so great a share of the largest distances.
        false_reject_rate: share of good pictures above the limit at most, with 90 % confidence; in
            older packages the one that a conformal limit was made for.
        calibration_pictures: n good pictures, each scored by what was learned without it.
        stride_px: network pixels per cell of the map.
        usable: False where good pictures vary as much as defects do; ``reason`` says so, and every
            answer is unsure.
        blur_cells: distances are smoothed by a Gaussian of so many cells.
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
    blur_cells: float = 0.0

    def __post_init__(self) -> None:
        if not (
            self.unit > 0
            and 0 < self.top_share <= 1
            and self.unsure_above <= self.limit
            and self.blur_cells >= 0
        ):
            raise InvalidError(
                "a unit above 0, a share above 0, unsure_above at most limit, blur_cells from 0",
                where="anomaly",
                fix="Export the package again.",
            )


def anomaly_cells(
    grid: Floats, rule: AnomalyRule, *, settings: Prepare, width_px: int, height_px: int
) -> Floats:
    """A network's map in the rule's unit, smoothed; only cells that lie in the picture.

    Args:
        grid: (rows, columns) distances, 0 and above.
        rule: of the manifest.
        settings: of the manifest.
        width_px: of the picture.
        height_px: likewise.
    """
    if settings.fit == "zoom":
        grid = inside_picture(grid, settings, width_px=width_px, height_px=height_px)
    return smoothed_cells(grid, rule)


def smoothed_cells(grid: Floats, rule: AnomalyRule) -> Floats:
    """(rows, columns) distances in the rule's unit, smoothed."""
    import cv2

    cells = np.ascontiguousarray(grid, np.float32) / np.float32(rule.unit)
    if rule.blur_cells <= 0:
        return cells
    held = np.asarray(cells > 0, np.float32)
    soft, weight = (
        cv2.GaussianBlur(each, (0, 0), rule.blur_cells, borderType=cv2.BORDER_REPLICATE)
        for each in (cells, held)
    )
    # Where no part can be there is no distance: neighbours there do not count.
    return np.asarray(held * soft / np.maximum(weight, np.float32(1e-6)), np.float32)


def anomaly_score(cells: Floats, rule: AnomalyRule) -> float:
    """Mean of the largest cells' distances; the share is of the cells that hold any."""
    flat = cells[cells > 0]
    if not flat.size:
        return 0.0
    count = max(1, round(rule.top_share * len(flat)))
    top = np.partition(flat, len(flat) - count)[len(flat) - count :]
    return float(top.mean(dtype=np.float64))


def decide_anomaly(score: float, rule: AnomalyRule) -> AnomalyAnswer:
    """The picture's answer; always unsure where the rule is not usable."""
    if not rule.usable:
        decision = Decision.UNSURE
    elif score > rule.limit:
        decision = Decision.PRESENT
    else:
        decision = Decision.UNSURE if score > rule.unsure_above else Decision.ABSENT
    return AnomalyAnswer(
        score=min(score, _HIGHEST),
        limit=rule.limit,
        decision=decision,
        reason="" if rule.usable else rule.reason,
    )


def heat_on_picture(
    cells: Floats,
    rule: AnomalyRule,
    *,
    settings: Prepare,
    width_px: int,
    height_px: int,
    matrix: Matrix | None = None,
) -> Floats:
    """Cells of ``anomaly_cells`` laid back on the picture's pixels, bilinearly.

    Args:
        cells: of one picture.
        rule: of the manifest.
        settings: of the manifest.
        width_px: of the picture.
        height_px: likewise.
        matrix: canonical frame px → picture px, where the part was posed.

    Returns:
        (height_px, width_px) float32; 0 outside the part's frame.
    """
    own = fitted(settings, width_px=width_px, height_px=height_px)
    rows, columns = own.height_px // rule.stride_px, own.width_px // rule.stride_px
    lacking = (max(0, rows - cells.shape[0]), max(0, columns - cells.shape[1]))
    whole = np.pad(cells, ((0, lacking[0]), (0, lacking[1])), mode="edge")
    return activation_on_picture(
        whole, own.crops[0], width_px=width_px, height_px=height_px, matrix=matrix
    )
