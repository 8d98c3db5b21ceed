"""Refine a transform by the pictures' edge strength, to a fraction of a pixel.

The similarity that maximises the correlation of two pictures, gain and offset free, in the inverse
compositional form (Baker and Matthews 2004, section 3.2; the criterion is that of Evangelidis and
Psarakis 2008): derivatives are those of the reference and are computed once. Pixels that do not fit
(a piece that came, a hand) lose weight. It needs a start within a few pixels; on pictures reduced
first (``CoarseToFine``) within a few of theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineside.vision.features import resized
from lineside.vision.geometry import Matrix, compose, invert, resize_matrix

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
            seen, here = self._warped(edges, matrix)
            step = self._step(seen, here)
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
        seen, here = self._warped(edges, matrix)
        overlap = float(here.sum() / max(1.0, self._inner.sum()))
        return Refined(
            matrix=matrix,
            correlation=_correlation(self._edges.ravel(), seen, weight=here),
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
        self, seen: NDArray[np.float32], here: NDArray[np.float32]
    ) -> NDArray[np.float64] | None:
        """One Gauss-Newton step in (scale, turn, x, y), all in px; None where there is none."""
        count = float(here.sum())
        if count < 64:
            return None
        wanted = self._edges.ravel() * here
        wanted -= here * (wanted.sum() / count)
        found = seen - here * (seen.sum() / count)
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
