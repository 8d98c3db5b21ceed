"""Lay a part that stands before a plain ground into one canonical place.

1. Silhouette: what differs from the ground, whose grey is a plane through the picture's border.
2. Start: the silhouette's centre, and its main axis (second moments) laid level. An axis has two
   directions, a round part has none: each candidate turn is held against the template.
3. Refinement: the similarity under which edge strengths agree best, first on a reduced picture,
   where a start some pixels off is near enough (``CoarseToFine``).
4. Refused, with a sentence: no silhouette, one that leaves the picture, one of another size than
   the good parts', a place in which the part looks unlike all good ones.

Training and devices call the same functions; the template travels in the package.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError
from lineside.vision.geometry import (
    Matrix,
    compose,
    identity,
    invert,
    resize_matrix,
    rotation_of,
    rounded,
    scale_of,
    similarity,
)
from lineside.vision.prediction import RegistrationFigures
from lineside.vision.registration import CoarseToFine, resized

WORK_PX = 256
_BORDER_SHARE = 0.04
_TURNS = 24
_LEAST_AREA, _MOST_AREA = 0.003, 0.75
_LEAST_APART = 0.7
_MOST_ON_EDGE = 0.3
_ROUND = 1.25
_SHADOW = 0.6
_TILE_PX = 96
_MOST_REDUCTION = 16

Grey = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Settings of the search for a part, and limits of its acceptance.

    Attributes:
        template_file: PNG of the package, of the canonical frame's size: red is the mean good
            picture's grey, green is above 127 where good parts are.
        zoom: network pixels per picture pixel.
        area_low, area_high: square root of the silhouette's area in network pixels; outside of it
            the part is refused.
        correlation_min: of edge strength with the template; below it the part is refused.
        reductions: how many times smaller the pictures are whose edges are compared, coarse to
            fine; packages that do not say compare at full size alone.
    """

    template_file: str
    zoom: float
    area_low: float
    area_high: float
    correlation_min: float
    reductions: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        if not (
            self.zoom > 0
            and 0 <= self.area_low <= self.area_high
            and self.template_file
            and self.reductions
            and all(1 <= each <= _MOST_REDUCTION for each in self.reductions)
        ):
            raise InvalidError(
                "a template, a zoom above 0, area_low at most area_high, reductions from 1 to "
                f"{_MOST_REDUCTION}",
                where="pose",
                fix="Export the package again.",
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Silhouette:
    """A part's outline and how it lies.

    Attributes:
        mask: (height, width) bool at working size.
        factor: working pixels per picture pixel.
        centre: (x, y) in picture pixels.
        axis_deg: of the main axis, clockwise as seen, -90 to 90.
        elongation: length over width of the ellipse of equal moments; 1 is round.
        side_px: square root of the area, in picture pixels.
    """

    mask: NDArray[np.bool_]
    factor: float
    centre: tuple[float, float]
    axis_deg: float
    elongation: float
    side_px: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Posed:
    """Where a part lies.

    Attributes:
        matrix: canonical frame px → picture px; None where it is refused.
        reason: why it is refused; "" otherwise.
    """

    figures: RegistrationFigures
    matrix: Matrix | None
    reason: str = ""


def silhouette(grey: Grey) -> Silhouette | str:
    """The part in a picture, or the sentence that says why there is none.

    Args:
        grey: (height, width) uint8.
    """
    import cv2

    factor = min(1.0, WORK_PX / max(grey.shape))
    size = (max(8, round(grey.shape[1] * factor)), max(8, round(grey.shape[0] * factor)))
    small = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
    small = np.asarray(cv2.GaussianBlur(small, (0, 0), 1.0), np.float32)
    apart = np.abs(small - _background(small))
    mask = _foreground(apart)
    if mask is None:
        return "nothing stands out from the ground"
    share = float(mask.mean())
    if not _LEAST_AREA <= share <= _MOST_AREA:
        return f"what stands out from the ground covers {share:.1%} of the picture"
    edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    if edge.sum() > _MOST_ON_EDGE * math.sqrt(mask.sum()):
        return "the part reaches over the picture's edge"
    return _described(mask, size[0] / grey.shape[1])


def _background(small: NDArray[np.float32]) -> NDArray[np.float32]:
    """The plane through the picture's border, by two rounds of least squares."""
    height, width = small.shape
    band = max(2, round(_BORDER_SHARE * min(height, width)))
    border = np.ones((height, width), bool)
    border[band:-band, band:-band] = False
    rows, columns = np.nonzero(border)
    terms = np.stack([np.ones(len(rows)), columns / width - 0.5, rows / height - 0.5], axis=-1)
    values = small[border].astype(np.float64)
    plane = _plane(terms, values)
    error = np.abs(values - terms @ plane)
    kept = error <= 2.5 * np.median(error) + 1.0
    level, across, down = _plane(terms[kept], values[kept])
    x = across * (np.arange(width) / width - 0.5)
    y = down * (np.arange(height) / height - 0.5)
    return np.asarray((level + y)[:, None] + x, np.float32)


def _plane(terms: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """By the normal equations: three terms of like size, seen on two sides at least."""
    found = np.linalg.solve(terms.T @ terms, terms.T @ values)
    return np.asarray(found, np.float64)


def _foreground(apart: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """The largest piece above Otsu's threshold, holes filled; None where two kinds do not part."""
    import cv2

    levels = np.asarray(np.clip(apart, 0, 255), np.uint8)
    cut, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    above = levels > cut
    if above.any():  # a shadow is fainter than the part that throws it
        above = levels > max(cut, _SHADOW * float(np.median(levels[above])))
    if not above.any() or above.all() or _parted(apart, above) < _LEAST_APART:
        return None
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(above.astype(np.uint8))
    if count < 2:
        return None
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    outlines, _ = cv2.findContours(
        (pieces == largest).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    filled = np.zeros(levels.shape, np.uint8)
    cv2.drawContours(filled, outlines, -1, 1, thickness=-1)
    return filled > 0


def _parted(apart: NDArray[np.float32], above: NDArray[np.bool_]) -> float:
    """Share of all variance that lies between the two sides (Otsu 1979, eq. 12)."""
    share = float(above.mean())
    between = share * (1 - share) * float(apart[above].mean() - apart[~above].mean()) ** 2
    return between / max(float(apart.var()), 1e-9)


def _described(mask: NDArray[np.bool_], factor: float) -> Silhouette:
    rows, columns = np.nonzero(mask)
    centre = (float(columns.mean()), float(rows.mean()))
    x, y = columns - centre[0], rows - centre[1]
    spread = np.array([[np.mean(x * x), np.mean(x * y)], [np.mean(x * y), np.mean(y * y)]])
    lengths, axes = np.linalg.eigh(spread)
    axis = math.degrees(math.atan2(axes[1, 1], axes[0, 1]))
    return Silhouette(
        mask=mask,
        factor=factor,
        centre=((centre[0] + 0.5) / factor - 0.5, (centre[1] + 0.5) / factor - 0.5),
        axis_deg=(axis + 90) % 180 - 90,
        elongation=math.sqrt(float(lengths[1]) / max(float(lengths[0]), 1e-9)),
        side_px=math.sqrt(len(rows)) / factor,
    )


def laid_level(
    found: Silhouette, *, width_px: int, height_px: int, zoom: float, turn_deg: float = 0.0
) -> Matrix:
    """Canonical frame px → picture px: the part's centre in the middle, its axis level.

    Args:
        found: where the part is.
        width_px: of the canonical frame.
        height_px: likewise.
        zoom: network pixels per picture pixel.
        turn_deg: turned further by so much.
    """
    to_middle = similarity(dx_px=-(width_px - 1) / 2, dy_px=-(height_px - 1) / 2)
    turned = similarity(scale=1 / zoom, rotation_deg=found.axis_deg + turn_deg)
    to_place = similarity(dx_px=found.centre[0], dy_px=found.centre[1])
    return compose(to_place, compose(turned, to_middle))


class PoseEstimator:
    """Finds parts like the template's; the same picture always lies the same."""

    def __init__(self, pose: Pose, template: NDArray[np.uint8]) -> None:
        """``template``: (height, width, 3) uint8 RGB, as ``Pose.template_file``."""
        self._pose = pose
        self._grey = np.ascontiguousarray(template[..., 0])
        self._size = (template.shape[1], template.shape[0])
        self._refiner = CoarseToFine(self._grey, reductions=pose.reductions)
        self._tile = _tile(self._grey)

    def find(self, grey: Grey) -> Posed:
        """Where the part lies in a (height, width) uint8 picture."""
        found = silhouette(grey)
        if isinstance(found, str):
            return _refused(found)
        side = found.side_px * self._pose.zoom
        if not self._pose.area_low <= side <= self._pose.area_high:
            low, high = self._pose.area_low, self._pose.area_high
            return _refused(
                f"the part's outline has a side of {side:.0f} px, good parts' {low:.0f}-{high:.0f}"
            )
        start = self._start(grey, found)
        frame = self._frame(grey, start)
        fine = self._refiner.refine(frame, identity())
        matrix = rounded(compose(start, fine.matrix))
        figures = self._figures(matrix, fine.matrix, correlation=fine.correlation)
        least = self._pose.correlation_min
        if fine.correlation < least:
            return _refused(
                f"the part's edges agree with good ones by {fine.correlation:.2f}, {least:.2f} is "
                "needed",
                figures=figures,
            )
        return Posed(figures=figures, matrix=matrix)

    def _start(self, grey: Grey, found: Silhouette) -> Matrix:
        """Of the candidate turns the one under which the part looks most like the template."""
        angles_deg: tuple[float, ...] = (0.0, 180.0)
        if found.elongation < _ROUND:
            angles_deg = tuple(360.0 * place / _TURNS for place in range(_TURNS))
        width, height = self._size
        ways = [
            laid_level(found, width_px=width, height_px=height, zoom=self._pose.zoom, turn_deg=turn)
            for turn in angles_deg
        ]
        sketch = _Sketch(grey, zoom=self._pose.zoom, size=self._size)
        scores = [_similarity(self._tile, sketch.tile(way)) for way in ways]
        return ways[int(np.argmax(scores))]

    def _frame(self, grey: Grey, matrix: Matrix) -> Grey:
        import cv2

        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(grey, matrix, self._size, flags=flags, borderMode=cv2.BORDER_REPLICATE),
            np.uint8,
        )

    def _figures(self, matrix: Matrix, fine: Matrix, *, correlation: float) -> RegistrationFigures:
        width, height = self._size
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        x, y = matrix[:, :2] @ centre + matrix[:, 2]
        return RegistrationFigures(
            state="aligned",
            dx_px=round(float(x), 2),
            dy_px=round(float(y), 2),
            rotation_deg=round(rotation_of(matrix), 2),
            scale=round(scale_of(fine), 4),
            correlation=round(correlation, 4),
        )


class _Sketch:
    """A picture so small that a tile of it needs no averaging."""

    def __init__(self, grey: Grey, *, zoom: float, size: tuple[int, int]) -> None:
        self._frame, self._tile = size, _tile_size(size)
        height, width = grey.shape
        factor = min(1.0, zoom * self._tile[0] / size[0])
        small = (max(1, round(width * factor)), max(1, round(height * factor)))
        self._small = resized(grey, small)
        self._to_small = invert(resize_matrix(width / small[0], height / small[1]))

    def tile(self, way: Matrix) -> NDArray[np.float32]:
        """Return what ``way`` (canonical frame px → image px) shows, as ``_tile`` of its frame."""
        import cv2

        across, down = (f / t for f, t in zip(self._frame, self._tile, strict=True))
        laid = compose(self._to_small, compose(way, resize_matrix(across, down)))
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        tile = cv2.warpAffine(
            self._small, laid, self._tile, flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        return _of_length_one(np.asarray(tile, np.float32))


def _tile_size(size: tuple[int, int]) -> tuple[int, int]:
    factor = min(1.0, _TILE_PX / max(size))
    return max(4, round(size[0] * factor)), max(4, round(size[1] * factor))


def _tile(grey: Grey) -> NDArray[np.float32]:
    """A small copy, without its mean, of length 1."""
    small = resized(grey, _tile_size((grey.shape[1], grey.shape[0])))
    return _of_length_one(small.astype(np.float32))


def _of_length_one(small: NDArray[np.float32]) -> NDArray[np.float32]:
    small = small - small.mean()
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-6), np.float32)


def _similarity(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    # Rounded, so that the order in which a processor sums decides nothing.
    return round(float((one.astype(np.float64) * other).sum()), 6)


def _refused(reason: str, *, figures: RegistrationFigures | None = None) -> Posed:
    figures = figures or RegistrationFigures(state="moved")
    return Posed(
        figures=RegistrationFigures(
            state="moved",
            dx_px=figures.dx_px,
            dy_px=figures.dy_px,
            rotation_deg=figures.rotation_deg,
            scale=figures.scale,
            correlation=figures.correlation,
            reason=reason,
        ),
        matrix=None,
        reason=reason,
    )
