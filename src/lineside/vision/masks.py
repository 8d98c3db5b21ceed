"""Masks of defects: run lengths, pieces, and how a map of logits becomes a mask and a decision.

1. A network's map is laid on the picture's pixels bilinearly, as logits; a pixel is set when its
   probability is above the rule's cut. Masks themselves are never interpolated.
2. Pieces (8 neighbours) of fewer pixels than the rule says are dropped.
3. The picture's score is the mean of its largest cells' probabilities; the score decides, by a band
   made from pictures not trained on. Where it decides that the defect is absent, the mask is empty.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError, Policy
from lineside.vision.geometry import invert
from lineside.vision.prediction import Decision, LabelAnswer, MaskAnswer
from lineside.vision.prepare import Prepare, crop_matrix, fitted

MOST_AREAS = 100
_MOST_PX = 1 << 28
_LONGEST_WORD = 9
_EDGE = 1e-6
_FIX = "Export the package again."

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRule:
    """Decoding of a map of defect logits into a mask and a decision.

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
        error_rate: shown among the answers; of older packages that of each side.
        calibration_pictures: n.
        floor: the picture probability is never nearer to 0 or 1, 1 / (n + 2) of the rarer side.
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
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.absent_below > self.present_above:
            raise InvalidError("at most present_above", where="absent_below", fix=_FIX)
        if not (0 < self.cut < 1 and 0 < self.top_share <= 1 and 0 <= self.floor <= 0.5):
            raise InvalidError(
                "cut and top_share between 0 and 1, floor between 0 and 0.5",
                where="mask",
                fix=_FIX,
            )


def rle_of(mask: Mask) -> str:
    """Run lengths in COCO's uncompressed order: columns first, beginning with a run of zeros."""
    flat = mask.T.reshape(-1)
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], ends, [len(flat)]]))
    first = [0] if len(flat) and flat[0] else []
    return " ".join(map(str, [*first, *runs.tolist()]))


def mask_of(rle: str, *, width_px: int, height_px: int) -> Mask:
    """(height_px, width_px) bool from ``rle_of``'s text.

    Raises:
        InvalidError: something that is no run length, or runs that do not add up to the size.
    """
    if not (width_px >= 0 and height_px >= 0 and width_px * height_px <= _MOST_PX):
        raise InvalidError(
            f"a mask of {width_px} x {height_px} pixels", where="rle", fix=f"At most {_MOST_PX}."
        )
    words = rle.split()
    for word in words:
        if not (word.isascii() and word.isdigit() and len(word) <= _LONGEST_WORD):
            raise InvalidError(
                f"{word[:20]!r} is no run length", where="rle", fix="Write numbers and blanks."
            )
    total = sum(map(int, words))
    if total != width_px * height_px:
        raise InvalidError(
            f"runs of {total} pixels for {width_px} x {height_px}",
            where="rle",
            fix="Give every pixel, columns first.",
        )
    runs = np.array([int(word) for word in words], np.int64)
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(flat.reshape(width_px, height_px).T)


def without_small(mask: Mask, *, least_px: int) -> tuple[Mask, tuple[int, ...]]:
    """The mask without pieces (8 neighbours) below a size, and the areas left, largest first."""
    import cv2

    if not mask.any():
        return mask, ()
    _, numbers, figures, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = figures[:, cv2.CC_STAT_AREA]
    kept = areas >= least_px
    kept[0] = False  # what is not set
    found = mask if kept[1:].all() else np.asarray(kept[numbers], np.bool_)
    return found, tuple(sorted((int(area) for area in areas[kept]), reverse=True))


def pieces_of(mask: Mask) -> tuple[Floats, Mask]:
    """The pieces (8 neighbours) of a mask, largest first, at most ``MOST_AREAS``.

    Returns:
        Their boxes (n, 4), x0, y0, x1, y1 in pixels, x1 and y1 outside, and masks (n, height,
        width).
    """
    import cv2

    if not mask.any():  # OpenCV ends the process for an image without pixels
        return np.zeros((0, 4), np.float32), np.zeros((0, *mask.shape), np.bool_)
    _, numbers, figures, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    sizes = figures[1:, cv2.CC_STAT_AREA].astype(np.int64)  # without what is not set
    largest = 1 + np.argsort(-sizes, kind="stable")[:MOST_AREAS]
    x, y, width, height = figures[largest, :4].T
    boxes = np.stack([x, y, x + width, y + height], axis=1).astype(np.float32)
    return boxes, numbers == largest[:, None, None]


def on_picture(grid: Floats, settings: Prepare, *, width_px: int, height_px: int) -> Floats:
    """A network's map of a whole picture, laid on its pixels bilinearly.

    Args:
        grid: (rows, columns), evenly spread over the one crop of the fitted settings, which covers
            the picture.
        settings: of the manifest.
        width_px: of the picture.
        height_px: likewise.
    """
    import cv2

    own = fitted(settings, width_px=width_px, height_px=height_px)
    rows, columns = grid.shape
    to_picture = crop_matrix(own.crops[0].box_px, width_px=columns, height_px=rows)
    laid = cv2.warpAffine(
        np.asarray(grid, np.float32),
        invert(to_picture),
        (width_px, height_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(laid, np.float32)


def inside_picture(grid: Floats, settings: Prepare, *, width_px: int, height_px: int) -> Floats:
    """The cells of such a map whose centres lie in the picture."""
    own = fitted(settings, width_px=width_px, height_px=height_px)
    box, (rows, columns) = own.crops[0].box_px, grid.shape
    down = math.ceil(height_px / (box.y1_px - box.y0_px) * rows - 0.5)
    across = math.ceil(width_px / (box.x1_px - box.x0_px) * columns - 0.5)
    return grid[: max(1, down), : max(1, across)]


def mask_score(cells: Floats, rule: MaskRule) -> float:
    """The picture's score: mean probability of the top share of its cells, at least one."""
    return top_mean(cells, share=rule.top_share)


def top_mean(cells: Floats, *, share: float) -> float:
    """Mean probability of the largest logits."""
    flat = cells.reshape(-1)
    count = max(1, round(share * len(flat)))
    top = np.partition(flat, len(flat) - count)[len(flat) - count :]
    return float(np.mean(1.0 / (1.0 + np.exp(-np.clip(top.astype(np.float64), -60.0, 60.0)))))


def score_probability(score: float, rule: MaskRule) -> float:
    """Calibrated probability that the picture shows the defect."""
    held = min(max(score, _EDGE), 1.0 - _EDGE)
    value = rule.slope * math.log(held / (1.0 - held)) + rule.offset
    chance = 1.0 / (1.0 + math.exp(-min(max(value, -60.0), 60.0)))
    return min(max(chance, rule.floor), 1.0 - rule.floor)


def probability_score(chance: float, rule: MaskRule) -> float:
    """Return the score whose probability this is, 0-1; the inverse of ``score_probability``."""
    held = min(max(chance, _EDGE), 1.0 - _EDGE)
    value = (math.log(held / (1.0 - held)) - rule.offset) / rule.slope
    return 1.0 / (1.0 + math.exp(-min(max(value, -60.0), 60.0)))


def decide_score(score: float, rule: MaskRule, *, policy: Policy) -> LabelAnswer:
    """The picture's answer; a cut that the policy fixes stands above the rule's band."""
    chance = score_probability(score, rule)
    if policy.present_above is not None:
        decision = Decision.PRESENT if chance > policy.present_above else Decision.ABSENT
    elif score > rule.present_above:
        decision = Decision.PRESENT
    else:
        decision = Decision.ABSENT if score < rule.absent_below else Decision.UNSURE
    return LabelAnswer(
        name=rule.label, region="", label=rule.label, probability=chance, decision=decision
    )


def set_pixels(logits: Floats, rule: MaskRule) -> tuple[Mask, tuple[int, ...]]:
    """The pixels above the rule's cut in pieces large enough, and the pieces' areas.

    Args:
        logits: (height, width) on the picture's pixels.
        rule: of the manifest.
    """
    limit = np.float32(math.log(rule.cut / (1.0 - rule.cut)))
    return without_small(np.asarray(logits > limit, np.bool_), least_px=rule.least_px)


def mask_answer(mask: Mask, areas: tuple[int, ...]) -> MaskAnswer:
    """A mask as it stands in a prediction."""
    height, width = mask.shape
    return MaskAnswer(
        rle=rle_of(mask),
        width_px=width,
        height_px=height,
        share=float(mask.mean()) if mask.size else 0.0,
        areas_px=areas[:MOST_AREAS],
    )
