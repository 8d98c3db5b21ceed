"""Where a picture lies against the reference view, or why that cannot be said.

1. Coarse: SIFT features that match each other best and clearly so, then the similarity that most
   of them agree on (RANSAC).
2. Fine: the similarity that maximises the correlation of edge strength (``refine``).
3. Judged: scale, rotation, shift, overlap, correlation, number of agreeing features, and every box
   of the inspection inside the picture. One failed rule refuses the picture, with its sentence.
4. ``Registrar`` carries nothing from one picture to the next: the same picture, the same answer.
5. ``CameraRegistrar`` follows one camera. While it stands still it is only checked: the picture is
   compared with the one of the last full registration (``still``), and registered again when it
   does not lie where that one lay.

All work is done on grey pictures reduced to at most ``WORK_PIXELS``. Features are looked for
quickly first; where too few agree, once more and thoroughly, before a picture is refused. Figures
are in pixels of the reference view.

Refine a transform by the pictures' edge strength, to a fraction of a pixel.

The similarity that maximises the correlation of two pictures, gain and offset free, in the inverse
compositional form (Baker and Matthews 2004, section 3.2; the criterion is that of Evangelidis and
Psarakis 2008): derivatives are those of the reference and are computed once. Pixels that do not fit
(a piece that came, a hand) lose weight. It needs a start within a few pixels; on pictures reduced
first (``CoarseToFine``) within a few of theirs.
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
    invert,
    resize_matrix,
    rotation_of,
    rounded,
    scale_of,
    scaled,
    share_inside,
    transform_box,
)
from lineside.vision.picture import grey_of
from lineside.vision.prediction import RegistrationFigures


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coarse:
    """A similarity that ``inliers`` matches agree on, at a median distance of ``residual_px``."""

    matrix: Matrix
    inliers: int
    residual_px: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Settings of the search for features.

    Attributes:
        pixels: pictures are reduced to at most so many.
        count: the strongest so many are kept.
        contrast: weaker ones are not (SIFT's usual value is 0.04; plain surfaces such as wood have
            none above it).
        ratio: how much nearer than the second best the best match must be (Lowe 2004, section 7.1).
    """

    pixels: int
    count: int
    contrast: float
    ratio: float


def resized(grey: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Averaged down (or up) to (width, height); the picture itself where it has that size."""
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


class Features:
    """The reference's SIFT features (Lowe 2004), matched against a picture's.

    Features whose own direction or size says that the camera turned or approached by more than is
    allowed are not compared: most wrong matches are of that kind.
    """

    RANSAC_PX = 2.5
    SLACK_DEG = 15.0
    SLACK_SIZE = 1.3

    def __init__(
        self,
        reference: NDArray[np.uint8],
        *,
        search: Search,
        turn_max_deg: float,
        grow_max: float,
    ) -> None:
        """Describe the reference once.

        Args:
            reference: (height, width) uint8 grey.
            search: how hard to look.
            turn_max_deg: how far the camera may turn, either way.
            grow_max: by which factor scale may change, either way.
        """
        height, width = reference.shape
        self._factor = min(1.0, math.sqrt(search.pixels / (width * height)))
        self._size = (round(width * self._factor), round(height * self._factor))
        self._search = search
        self._turn_max_deg = turn_max_deg + self.SLACK_DEG
        self._grow_max = math.log(grow_max * self.SLACK_SIZE)
        self._keys = self._describe(reference)

    @property
    def count(self) -> int:
        """Features of the reference."""
        return len(self._keys.points)

    def _describe(self, grey: NDArray[np.uint8]) -> _Keys:
        import cv2

        small = resized(grey, self._size)
        # Made anew: OpenCV does not promise that several threads may share a detector.
        detector = cv2.SIFT.create(self._search.count, 3, self._search.contrast)
        keys, descriptors = detector.detectAndCompute(small, None)
        none = np.empty((0, 128), np.float32)
        return _Keys(
            points=np.array([key.pt for key in keys], np.float32).reshape(-1, 2),
            angles_deg=np.array([key.angle for key in keys], np.float32),
            log_sizes=np.log(np.array([key.size for key in keys], np.float32)),
            descriptors=np.asarray(descriptors, np.float32) if keys else none,
        )

    def match(self, grey: NDArray[np.uint8]) -> Coarse | None:
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
        return Coarse(
            matrix=scaled(matrix, target=1 / self._factor, source=1 / self._factor),
            inliers=int(chosen.sum()),
            residual_px=residual / self._factor,
        )

    def _pairs(self, keys: _Keys) -> NDArray[np.intp]:
        """(n, 2) indices of features that match each other best, and clearly so."""
        own = self._keys
        if len(own.points) < 2 or len(keys.points) < 2:
            return np.empty((0, 2), np.intp)
        distance = _square_distances(own.descriptors, keys.descriptors)
        turn = np.abs(keys.angles_deg - own.angles_deg[:, None])
        turn = np.minimum(turn, 360 - turn)
        grow = np.abs(keys.log_sizes - own.log_sizes[:, None])
        distance[(turn > self._turn_max_deg) | (grow > self._grow_max)] = np.inf
        best, back = distance.argmin(axis=1), distance.argmin(axis=0)
        two = np.partition(distance, 1, axis=1)[:, :2]
        clear = (two[:, 0] < self._search.ratio**2 * two[:, 1]) & np.isfinite(two[:, 0])
        good = np.flatnonzero(clear & (back[best] == np.arange(len(best))))
        return np.column_stack([good, best[good]])


def _square_distances(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> NDArray[np.float32]:
    lengths = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)
    return np.asarray(lengths - 2 * first @ second.T, np.float32)


_OBJECT = Search(pixels=80_000, count=500, contrast=0.015, ratio=0.8)
_OBJECT_TURN_DEG = 20.0
_OBJECT_GROW = 1.25
_FEWEST_FEATURES = 20
_SAME_SHARE = 0.3


def work_grey(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(height, width) uint8 grey, reduced to at most ``WORK_PIXELS``."""
    height, width = grey.shape
    factor = min(1.0, math.sqrt(WORK_PIXELS / (width * height)))
    return resized(grey, (round(width * factor), round(height * factor)))


def is_same_object(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Return whether two pictures that look alike show the same object.

    The same one has its scratches, grains and edges at the same places: of the local features of
    that picture which has fewer, a share of ``_SAME_SHARE`` agrees on one shift, turn and scale.
    Where there are too few of them nothing speaks against it.

    Args:
        one: (height, width) uint8 grey.
        other: likewise, perhaps of another size.
    """
    features = [
        Features(grey, search=_OBJECT, turn_max_deg=_OBJECT_TURN_DEG, grow_max=_OBJECT_GROW)
        for grey in (one, other)
    ]
    fewer = min(each.count for each in features)
    if fewer < _FEWEST_FEATURES:
        return True
    coarse = features[0].match(other)
    return coarse is not None and coarse.inliers >= _SAME_SHARE * fewer


_BORDER_PX = 4
_MOST_STEPS = 12
_SMALL_STEP_PX = 0.02
_SMALL_REDUCED_STEP_PX = 0.05
_OUTLIER_DEVIATIONS = 2.0


def edge_strength(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(height, width) float32: square root of the smoothed gradient's length.

    Light changes grey values more than it changes where they change; the root keeps few strong
    edges from deciding alone.
    """
    import cv2

    soft = cv2.GaussianBlur(grey, (0, 0), 1.0)
    across = cv2.Sobel(soft, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    # Not cv2.magnitude: its last bit depends on where the result lies in memory, and equal pictures
    # must give equal transforms.
    return np.asarray(np.sqrt(np.sqrt(across * across + down * down)), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Refined:
    """The refined transform, the edge correlation under it, the share of the reference seen."""

    matrix: Matrix
    correlation: float
    overlap: float


class Refiner:
    """Holds the reference's edges and their derivatives."""

    def __init__(
        self, reference: NDArray[np.uint8], *, small_step_px: float = _SMALL_STEP_PX
    ) -> None:
        """Prepare the reference once.

        Args:
            reference: (height, width) uint8 grey.
            small_step_px: a step below it is the last.
        """
        self._small_step = small_step_px
        self._edges = edge_strength(reference)
        height, width = self._edges.shape
        self._size = (width, height)
        self._reach = max(width, height) / 2
        self._jacobian = self._derivatives()
        inner = np.zeros((height, width), np.float32)
        inner[_BORDER_PX:-_BORDER_PX, _BORDER_PX:-_BORDER_PX] = 1.0
        self._inner = inner.ravel()

    def _derivatives(self) -> NDArray[np.float32]:
        """(4, pixels): change of edge strength by scale, turn (both at ``reach``), x, y."""
        import cv2

        across = cv2.Sobel(self._edges, cv2.CV_32F, 1, 0, scale=1 / 8)
        down = cv2.Sobel(self._edges, cv2.CV_32F, 0, 1, scale=1 / 8)
        width, height = self._size
        x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / np.float32(self._reach)
        y = (np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2) / np.float32(
            self._reach
        )
        rows = [across * x + down * y, down * x - across * y, across, down]
        return np.stack(rows).astype(np.float32).reshape(4, -1)

    def refine(self, grey: NDArray[np.uint8], start: Matrix) -> Refined:
        """Improve ``start`` (reference px → picture px); returns it unchanged if that fails."""
        edges = edge_strength(grey)
        matrix = start
        for _ in range(_MOST_STEPS):
            warped, here = self._warped(edges, matrix)
            step = self._step(warped, here)
            if step is None:
                break
            matrix = compose(matrix, invert(self._as_matrix(step)))
            if np.abs(step).max() < self._small_step:
                break
        return self._better(edges, start=start, matrix=matrix)

    def _better(self, edges: NDArray[np.float32], *, start: Matrix, matrix: Matrix) -> Refined:
        refined, coarse = self._judged(edges, matrix), self._judged(edges, start)
        return refined if refined.correlation >= coarse.correlation else coarse

    def _judged(self, edges: NDArray[np.float32], matrix: Matrix) -> Refined:
        warped, here = self._warped(edges, matrix)
        overlap = float(here.sum() / max(1.0, self._inner.sum()))
        return Refined(
            matrix=matrix,
            correlation=_correlation(self._edges.ravel(), warped, weight=here),
            overlap=overlap,
        )

    def _warped(
        self, edges: NDArray[np.float32], matrix: Matrix
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The picture's edges on the reference, and a weight of 1 where there is picture."""
        import cv2

        # Edge strength is never negative, so a border of -1 marks what the picture does not show.
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(
            edges, matrix, self._size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=-1e4
        ).ravel()
        here = self._inner * (warped >= 0)
        return warped * here, here

    def _step(
        self, warped: NDArray[np.float32], here: NDArray[np.float32]
    ) -> NDArray[np.float64] | None:
        """One Gauss-Newton step in (scale, turn, x, y), all in px; None where there is none."""
        count = float(here.sum())
        if count < 64:
            return None
        wanted = self._edges.ravel() * here
        wanted -= here * (wanted.sum() / count)
        found = warped - here * (warped.sum() / count)
        gain = float(wanted @ found) / max(float(wanted @ wanted), 1e-9)
        if gain <= 1e-6:
            return None
        error = found / gain - wanted
        weight = here / (1 + (error / (_OUTLIER_DEVIATIONS * _spread(error[here > 0]))) ** 2)
        weighted = self._jacobian * weight
        normal = (weighted @ self._jacobian.T).astype(np.float64)
        try:
            return np.linalg.solve(normal, (weighted @ error).astype(np.float64))
        except np.linalg.LinAlgError:
            return None

    def _as_matrix(self, step: NDArray[np.float64]) -> Matrix:
        a, b = 1 + step[0] / self._reach, step[1] / self._reach
        width, height = self._size
        x, y = (width - 1) / 2, (height - 1) / 2
        shift_x = step[2] + x - a * x + b * y
        shift_y = step[3] + y - b * x - a * y
        return np.array([[a, -b, shift_x], [b, a, shift_y]])


class CoarseToFine:
    """Refines on reduced pictures one after the other; the last one judges.

    A step sees as far as edges are wide. On a picture reduced to a quarter they are four times as
    wide, and a step costs a sixteenth.
    """

    def __init__(self, reference: NDArray[np.uint8], *, reductions: Sequence[int]) -> None:
        """Prepare the reference once.

        Args:
            reference: (height, width) uint8 grey.
            reductions: how many times smaller, coarse to fine; 1 is the picture itself.
        """
        self._rungs = [
            (
                each,
                Refiner(
                    _reduced(reference, each),
                    small_step_px=_SMALL_STEP_PX if each == 1 else _SMALL_REDUCED_STEP_PX,
                ),
            )
            for each in reductions
        ]

    def refine(self, grey: NDArray[np.uint8], start: Matrix) -> Refined:
        """Improve ``start`` (reference px → picture px); see ``Refiner.refine``."""
        found = Refined(matrix=start, correlation=0.0, overlap=0.0)
        for reduction, refiner in self._rungs:
            larger = resize_matrix(reduction, reduction)
            smaller = invert(larger)
            begin = compose(smaller, compose(found.matrix, larger))
            fine = refiner.refine(_reduced(grey, reduction), begin)
            matrix = compose(larger, compose(fine.matrix, smaller))
            found = replace(fine, matrix=matrix)
        return found


def _reduced(grey: NDArray[np.uint8], reduction: int) -> NDArray[np.uint8]:
    """Averaged over squares of ``reduction`` pixels; what fills no square is left out."""
    height, width = (max(1, length // reduction) for length in grey.shape)
    whole = grey[: height * reduction, : width * reduction]
    return resized(whole, (width, height))


def _spread(error: NDArray[np.float32]) -> float:
    """Deviation from the median of absolute errors, on every fourth pixel."""
    return 1.4826 * float(np.median(np.abs(error[::4]))) + 1e-6


def _correlation(
    first: NDArray[np.float32], second: NDArray[np.float32], *, weight: NDArray[np.float32]
) -> float:
    count = float(weight.sum())
    if count < 64:
        return 0.0
    one = first * weight
    one -= weight * (one.sum() / count)
    other = second * weight
    other -= weight * (other.sum() / count)
    scale = float(np.sqrt(float(one @ one) * float(other @ other)))
    return float(one @ other) / scale if scale > 1e-9 else 0.0


_SMALL_PIXELS = 20_000


class StillCheck:
    """Keeps one picture and says of others whether they lie on it."""

    def __init__(
        self,
        still: NDArray[np.uint8],
        *,
        correlation_min: float = 0.8,
        motion_max_px: float = 0.7,
    ) -> None:
        """``still``: (height, width) uint8 grey, the picture that was registered in full."""
        self._correlation_min = correlation_min
        height, width = still.shape
        factor = min(1.0, math.sqrt(_SMALL_PIXELS / (width * height)))
        self._size = (max(8, round(width * factor)), max(8, round(height * factor)))
        self._motion_max = motion_max_px * self._size[0] / width
        self._still = self._reduced(still)
        self._norm = float(np.linalg.norm(self._still))
        self._jacobian = self._derivatives()
        normal = (self._jacobian @ self._jacobian.T).astype(np.float64)
        self._solver = np.linalg.pinv(normal)

    def _reduced(self, grey: NDArray[np.uint8]) -> NDArray[np.float32]:
        import cv2

        small = cv2.resize(grey, self._size, interpolation=cv2.INTER_AREA).astype(np.float32)
        fine = cv2.GaussianBlur(small, (0, 0), 0.8) - cv2.GaussianBlur(small, (0, 0), 4.0)
        flat = np.asarray(fine, np.float32).ravel()
        return np.asarray(flat - flat.mean(), np.float32)

    def _derivatives(self) -> NDArray[np.float32]:
        """(4, pixels): change of the kept picture by x, y, scale and turn at half the width."""
        import cv2

        width, height = self._size
        plane = self._still.reshape(height, width)
        across = cv2.Sobel(plane, cv2.CV_32F, 1, 0, scale=1 / 8)
        down = cv2.Sobel(plane, cv2.CV_32F, 0, 1, scale=1 / 8)
        x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / (width / 2)
        y = (np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2) / (width / 2)
        rows = [across, down, across * x + down * y, down * x - across * y]
        return np.stack(rows).astype(np.float32).reshape(4, -1)

    def motion(self, grey: NDArray[np.uint8]) -> tuple[float, float]:
        """Correlation with the kept picture, and the motion seen, in px of the reduced picture."""
        now = self._reduced(grey)
        agreement = float(now @ self._still)
        length = float(np.linalg.norm(now))
        if length * self._norm <= 1e-6 or agreement <= 0:
            return 0.0, math.inf
        gain = agreement / self._norm**2
        step = self._solver @ (self._jacobian @ (now / gain - self._still)).astype(np.float64)
        shift = math.hypot(step[0], step[1]) + math.hypot(step[2], step[3])
        return agreement / (length * self._norm), shift

    def holds(self, grey: NDArray[np.uint8]) -> bool:
        """True while the camera has not moved by more than the limit at any edge of the view."""
        correlation, shift = self.motion(grey)
        return correlation >= self._correlation_min and shift <= self._motion_max


WORK_PIXELS = 80_000
# Features cost by the pixel, and refinement makes up for few of them: on pictures of 320 x 240 the
# quick search takes two thirds of the time of one on all pixels and finds the same places.
QUICK = Search(pixels=45_000, count=500, contrast=0.015, ratio=0.8)
THOROUGH = Search(pixels=WORK_PIXELS, count=1000, contrast=0.008, ratio=0.87)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationLimits:
    """Conditions that a transform must fulfil to be used.

    Attributes:
        overlap_min: share of the view that the picture must show.
        box_seen_min: share of each region's area that must lie in the picture.
        correlation_min: of edge strength, always needed.
        inliers_min: features that must agree, unless edges agree by ``correlation_alone``; then
            ``inliers_least`` are enough.
    """

    scale_min: float = 0.8
    scale_max: float = 1.25
    overlap_min: float = 0.5
    box_inside_min: float = 0.6
    correlation_min: float = 0.3
    inliers_min: int = 12
    inliers_least: int = 4
    correlation_alone: float = 0.4

    def __post_init__(self) -> None:
        if not 0 < self.scale_min <= 1 <= self.scale_max:
            raise InvalidError(
                "scale_min above 0 and at most 1", where="scale_min", fix="Write 0.8 and 1.25, say."
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Registered:
    """The answer for one picture.

    Attributes:
        matrix: (2, 3) float64, reference px → picture px; None when refused.
    """

    figures: RegistrationFigures
    matrix: Matrix | None


class Registrar:
    """Registers single pictures against one reference view; safe from several threads."""

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
            boxes: regions on the view; each must be in the picture by ``box_inside_min``.
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
        grey = resized(grey_of(reference), self._work_size)
        self._features = [
            Features(
                grey,
                search=search,
                turn_max_deg=view.max_rotation_deg,
                grow_max=max(self._limits.scale_max, 1 / self._limits.scale_min),
            )
            for search in (QUICK, THOROUGH)
        ]
        self._refiner = Refiner(grey)

    @property
    def view(self) -> View:
        """The reference view."""
        return self._view

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
        work = self.reduced(grey)
        answer = self._attempt(work, self._features[0])
        if answer.matrix is None and answer.figures.inliers < self._limits.inliers_min:
            answer = self._attempt(work, self._features[1])
        if answer.matrix is None:
            return answer
        return replace(answer, matrix=self._to_picture(answer.matrix, size))

    def reduced(self, grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A grey picture in the size that is worked on."""
        return resized(grey, self._work_size)

    def _attempt(self, work: NDArray[np.uint8], features: Features) -> Registered:
        """Coarse, fine, judged; the matrix is still that of working pixels."""
        coarse = features.match(work)
        if coarse is None:
            return _refused(RegistrationFigures(state="moved"), "too few features match")
        reason = self._out_of_range(coarse.matrix)
        if reason:
            return _refused(self._figures(coarse, matrix=coarse.matrix, correlation=0.0), reason)
        fine = self._refiner.refine(work, coarse.matrix)
        matrix = rounded(fine.matrix)
        figures = self._figures(coarse, matrix=matrix, correlation=fine.correlation)
        reason = self._out_of_range(matrix) or self._unlike(figures, fine.overlap)
        return _refused(figures, reason) if reason else Registered(figures=figures, matrix=matrix)

    def _to_picture(self, matrix: Matrix, size: tuple[int, int]) -> Matrix:
        """From working pixels of both pictures to pixels of the view and of the picture given."""
        work = self._work_size
        to_work = resize_matrix(work[0] / self._view.width_px, work[1] / self._view.height_px)
        to_picture = resize_matrix(size[0] / work[0], size[1] / work[1])
        return compose(to_picture, compose(matrix, to_work))

    def _figures(
        self, coarse: Coarse, *, matrix: Matrix, correlation: float
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
            share = share_inside(transform_box(matrix, small), width_px=width, height_px=height)
            if share < self._limits.box_inside_min:
                return f"a region lies outside the picture: only {share:.0%} of it is seen"
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


class CameraRegistrar:
    """Registers the pictures of one camera, one after the other, over a shared ``Registrar``.

    It keeps the last good registration, so it belongs to one camera and one thread.
    """

    def __init__(self, registrar: Registrar) -> None:
        self._registrar = registrar
        self._still: StillCheck | None = None
        self._last: Registered | None = None

    def register(self, image: NDArray[np.uint8]) -> Registered:
        """As ``Registrar.register``; state ``still`` where the last registration still holds."""
        return self.register_grey(grey_of(image))

    def register_grey(self, grey: NDArray[np.uint8]) -> Registered:
        """The same from (height, width) uint8 grey, for callers that have it already."""
        if not self._registrar.view.register:
            return self._registrar.register_grey(grey)
        work = self._registrar.reduced(grey)
        if self._last is not None and self._still is not None and self._still.holds(work):
            return replace(self._last, figures=replace(self._last.figures, state="still"))
        self.forget()
        answer = self._registrar.register_grey(grey)
        if answer.matrix is not None:
            self._still, self._last = StillCheck(work), answer
        return answer

    def forget(self) -> None:
        """Register the next picture in full, whatever was before."""
        self._still, self._last = None, None


def _refused(figures: RegistrationFigures, reason: str) -> Registered:
    return Registered(figures=replace(figures, state="moved", reason=reason), matrix=None)


def _centre_shift(matrix: Matrix, size: tuple[int, int]) -> NDArray[np.float64]:
    centre = np.array([[(size[0] - 1) / 2, (size[1] - 1) / 2]])
    return np.asarray((apply(matrix, centre) - centre)[0])
