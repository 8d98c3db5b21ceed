"""Where a picture lies against the reference view, or why that cannot be said.

1. Coarse: SIFT features whose best match is clearly better than the second best, then the
   similarity that most of them agree on (RANSAC).
2. Fine: the similarity that maximises the correlation of edge strength (``refine``).
3. Judged: scale, rotation, shift, overlap, correlation, number of agreeing features, and every box
   of the inspection inside the picture. One failed rule refuses the picture, with its sentence.
4. A camera that stands still is only checked: the picture is compared with the one of the last full
   registration (``still``), and registered again when it does not lie where that one lay.

All work is done on grey pictures reduced to at most ``WORK_PIXELS``. Features are looked for on
those reduced further to ``FEATURE_PIXELS``: they cost by the pixel, and refinement makes up for it.
Figures are in pixels of the reference view.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineside.core import Box, InvalidError, View
from lineside.vision.geometry import (
    Matrix,
    apply,
    compose,
    identity,
    resize_matrix,
    rotation_of,
    scale_of,
    scaled,
    share_inside,
    transform_box,
)
from lineside.vision.health import grey_of
from lineside.vision.prediction import RegistrationFigures
from lineside.vision.refine import Refiner
from lineside.vision.still import StillCheck

WORK_PIXELS = 80_000
FEATURE_PIXELS = 45_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationLimits:
    """What a transform must fulfil to be used."""

    scale_min: float = 0.8
    scale_max: float = 1.25
    overlap_min: float = 0.5
    box_seen_min: float = 0.6
    correlation_min: float = 0.3
    inliers_min: int = 12
    inliers_least: int = 4
    correlation_alone: float = 0.45


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Registered:
    """The answer for one picture.

    Attributes:
        matrix: (2, 3) float64, reference px → picture px; None when refused.
    """

    figures: RegistrationFigures
    matrix: Matrix | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Coarse:
    matrix: Matrix
    inliers: int
    residual_px: float


class Registrar:
    """Registers the pictures of one camera against one reference view, one after the other.

    It keeps the last good registration, so it belongs to one camera and one thread.
    """

    def __init__(
        self,
        view: View,
        reference: NDArray[np.uint8],
        *,
        boxes: Sequence[Box] = (),
        limits: RegistrationLimits | None = None,
    ) -> None:
        """Prepare the reference once.

        Args:
            view: its size must be the reference's.
            reference: (height, width, 3) uint8 RGB.
            boxes: regions on the view; each must be in the picture by ``box_seen_min``.
            limits: when to refuse.
        """
        if reference.shape[:2] != (view.height_px, view.width_px):
            raise InvalidError(
                f"the reference picture is {reference.shape[1]} x {reference.shape[0]}",
                where="view",
                fix=f"Give a picture of {view.width_px} x {view.height_px}, or mend the view.",
            )
        self._view = view
        self._boxes = tuple(boxes)
        self._limits = limits or RegistrationLimits()
        self._factor = min(1.0, math.sqrt(WORK_PIXELS / (view.width_px * view.height_px)))
        grey = _resized(grey_of(reference), self._work_size)
        self._features = _Features(grey, limits=self._limits, turn_max_deg=view.max_rotation_deg)
        self._refiner = Refiner(grey)
        self._still: StillCheck | None = None
        self._last: Registered | None = None

    @property
    def _work_size(self) -> tuple[int, int]:
        return (
            round(self._view.width_px * self._factor),
            round(self._view.height_px * self._factor),
        )

    def register(self, image: NDArray[np.uint8]) -> Registered:
        """Say where (height, width, 3) uint8 RGB lies; a refusal is an answer, not an error."""
        return self.register_grey(grey_of(image))

    def register_grey(self, grey: NDArray[np.uint8]) -> Registered:
        """The same from (height, width) uint8 grey, for callers that have it already."""
        size = (grey.shape[1], grey.shape[0])
        if not self._view.register:
            return Registered(
                figures=RegistrationFigures(state="none"), matrix=self._to_picture(identity(), size)
            )
        work = _resized(grey, self._work_size)
        if self._last is not None and self._still is not None and self._still.holds(work):
            return replace(self._last, figures=replace(self._last.figures, state="still"))
        return self._anew(work, size)

    def forget(self) -> None:
        """Register the next picture in full, whatever was before."""
        self._still, self._last = None, None

    def _anew(self, work: NDArray[np.uint8], size: tuple[int, int]) -> Registered:
        self.forget()
        coarse = self._features.match(work)
        if coarse is None:
            return _refused(RegistrationFigures(state="moved"), "too few features match")
        reason = self._out_of_range(coarse.matrix)
        if reason:
            return _refused(self._figures(coarse, matrix=coarse.matrix, correlation=0.0), reason)
        fine = self._refiner.refine(work, coarse.matrix)
        fine = replace(fine, matrix=_rounded(fine.matrix))
        figures = self._figures(coarse, matrix=fine.matrix, correlation=fine.correlation)
        reason = self._out_of_range(fine.matrix) or self._unlike(figures, fine.overlap)
        if reason:
            return _refused(figures, reason)
        answer = Registered(figures=figures, matrix=self._to_picture(fine.matrix, size))
        self._still, self._last = StillCheck(work), answer
        return answer

    def _to_picture(self, matrix: Matrix, size: tuple[int, int]) -> Matrix:
        """From working pixels of both pictures to pixels of the view and of the picture given."""
        work = self._work_size
        to_work = resize_matrix(work[0] / self._view.width_px, work[1] / self._view.height_px)
        to_picture = resize_matrix(size[0] / work[0], size[1] / work[1])
        return compose(to_picture, compose(matrix, to_work))

    def _figures(
        self, coarse: _Coarse, *, matrix: Matrix, correlation: float
    ) -> RegistrationFigures:
        shift = _centre_shift(matrix, self._work_size) / self._factor
        return RegistrationFigures(
            state="aligned",
            dx_px=round(float(shift[0]), 4),
            dy_px=round(float(shift[1]), 4),
            rotation_deg=round(rotation_of(matrix), 4),
            scale=round(scale_of(matrix), 6),
            residual_px=round(coarse.residual_px / self._factor, 4),
            inliers=coarse.inliers,
            correlation=round(correlation, 4),
        )

    def _out_of_range(self, matrix: Matrix) -> str:
        limits, view = self._limits, self._view
        scale, turn = scale_of(matrix), rotation_of(matrix)
        width, height = self._work_size
        dx, dy = _centre_shift(matrix, self._work_size)
        if not limits.scale_min <= scale <= limits.scale_max:
            return f"scale {scale:.2f} lies outside {limits.scale_min} to {limits.scale_max}"
        if abs(turn) > view.max_rotation_deg:
            return f"turned by {turn:.1f} degrees, at most {view.max_rotation_deg:g} are allowed"
        if abs(dx) > view.max_shift_share * width or abs(dy) > view.max_shift_share * height:
            across, down = round(dx / self._factor), round(dy / self._factor)
            most = f"{view.max_shift_share:.0%} of the view"
            return f"shifted by {across} px across and {down} px down, at most {most} is allowed"
        return self._boxes_outside(matrix)

    def _boxes_outside(self, matrix: Matrix) -> str:
        width, height = self._work_size
        for box in self._boxes:
            small = Box(
                x0_px=box.x0_px * self._factor,
                y0_px=box.y0_px * self._factor,
                x1_px=box.x1_px * self._factor,
                y1_px=box.y1_px * self._factor,
            )
            seen = share_inside(transform_box(matrix, small), width_px=width, height_px=height)
            if seen < self._limits.box_seen_min:
                return f"a region lies outside the picture: only {seen:.0%} of it is seen"
        return ""

    def _unlike(self, figures: RegistrationFigures, overlap: float) -> str:
        limits = self._limits
        if overlap < limits.overlap_min:
            return f"only {overlap:.0%} of the view is in the picture"
        if figures.correlation < limits.correlation_min:
            return f"edges agree by {figures.correlation:.2f}, {limits.correlation_min} is needed"
        few = figures.inliers < limits.inliers_min
        if few and figures.correlation < limits.correlation_alone:
            return f"{figures.inliers} features agree, {limits.inliers_min} are needed"
        if figures.inliers < limits.inliers_least:
            return f"{figures.inliers} features agree, {limits.inliers_least} are needed"
        return ""


def _rounded(matrix: Matrix) -> Matrix:
    """To far less than a pixel: the last bits of a sum depend on where arrays lie in memory."""
    return np.hstack([np.round(matrix[:, :2], 7), np.round(matrix[:, 2:], 4)])


def _refused(figures: RegistrationFigures, reason: str) -> Registered:
    return Registered(figures=replace(figures, state="moved", reason=reason), matrix=None)


def _centre_shift(matrix: Matrix, size: tuple[int, int]) -> NDArray[np.float64]:
    centre = np.array([[(size[0] - 1) / 2, (size[1] - 1) / 2]])
    return np.asarray((apply(matrix, centre) - centre)[0])


def _resized(grey: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    import cv2

    if (grey.shape[1], grey.shape[0]) == size:
        return grey
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Keys:
    """Features of one picture: (n, 2) points, (n,) directions and sizes, (n, 128) descriptors."""

    points: NDArray[np.float32]
    angles_deg: NDArray[np.float32]
    log_sizes: NDArray[np.float32]
    descriptors: NDArray[np.float32]


class _Features:
    """The reference's SIFT features (Lowe 2004), matched against a picture's.

    Features whose own direction or size says that the camera turned or approached by more than is
    allowed are not compared: most wrong matches are of that kind.
    """

    COUNT = 500
    # A third of the usual contrast: plain surfaces such as wood have no others.
    CONTRAST = 0.015
    RATIO = 0.8
    RANSAC_PX = 2.5
    SLACK_DEG = 15.0
    SLACK_SIZE = 1.3

    def __init__(
        self, reference: NDArray[np.uint8], *, limits: RegistrationLimits, turn_max_deg: float
    ) -> None:
        import cv2

        height, width = reference.shape
        self._factor = min(1.0, math.sqrt(FEATURE_PIXELS / (width * height)))
        self._size = (round(width * self._factor), round(height * self._factor))
        self._detector = cv2.SIFT.create(self.COUNT, 3, self.CONTRAST)
        self._turn_max_deg = turn_max_deg + self.SLACK_DEG
        grow = max(limits.scale_max, 1 / max(limits.scale_min, 1e-3))
        self._grow_max = math.log(grow * self.SLACK_SIZE)
        self._keys = self._describe(reference)

    def _describe(self, grey: NDArray[np.uint8]) -> _Keys:
        small = _resized(grey, self._size)
        keys, descriptors = self._detector.detectAndCompute(small, None)
        none = np.empty((0, 128), np.float32)
        return _Keys(
            points=np.array([key.pt for key in keys], np.float32).reshape(-1, 2),
            angles_deg=np.array([key.angle for key in keys], np.float32),
            log_sizes=np.log(np.array([key.size for key in keys], np.float32)),
            descriptors=np.asarray(descriptors, np.float32) if keys else none,
        )

    def match(self, grey: NDArray[np.uint8]) -> _Coarse | None:
        """The transform most matches agree on; None where fewer than three agree."""
        import cv2

        keys = self._describe(grey)
        pairs = self._pairs(keys)
        if len(pairs) < 3:
            return None
        source, target = self._keys.points[pairs[:, 0]], keys.points[pairs[:, 1]]
        cv2.setRNGSeed(0)
        found, agree = cv2.estimateAffinePartial2D(
            source, target, method=cv2.RANSAC, ransacReprojThreshold=self.RANSAC_PX
        )
        matrix = np.asarray(found, np.float64)
        if matrix.shape != (2, 3):  # None where no three agree; the stubs do not say so
            return None
        chosen = np.asarray(agree).ravel().astype(bool)
        distance = np.linalg.norm(apply(matrix, source[chosen]) - target[chosen], axis=1)
        residual = float(np.median(distance)) if len(distance) else 0.0
        return _Coarse(
            matrix=scaled(matrix, target=1 / self._factor, source=1 / self._factor),
            inliers=int(chosen.sum()),
            residual_px=residual / self._factor,
        )

    def _pairs(self, keys: _Keys) -> NDArray[np.intp]:
        """(n, 2) indices of features whose best match is clearly better than the second best."""
        own = self._keys
        if len(own.points) < 2 or len(keys.points) < 2:
            return np.empty((0, 2), np.intp)
        distance = _square_distances(own.descriptors, keys.descriptors)
        turn = np.abs(keys.angles_deg - own.angles_deg[:, None])
        turn = np.minimum(turn, 360 - turn)
        grow = np.abs(keys.log_sizes - own.log_sizes[:, None])
        distance[(turn > self._turn_max_deg) | (grow > self._grow_max)] = np.inf
        best = distance.argmin(axis=1)
        two = np.partition(distance, 1, axis=1)[:, :2]
        good = np.flatnonzero((two[:, 0] < self.RATIO**2 * two[:, 1]) & np.isfinite(two[:, 0]))
        return np.column_stack([good, best[good]])


def _square_distances(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> NDArray[np.float32]:
    lengths = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)
    return np.asarray(lengths - 2 * first @ second.T, np.float32)
