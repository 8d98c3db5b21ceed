"""Find one picture in another by features, however far it moved."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.vision.geometry import Matrix, apply, scaled


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
        import cv2

        height, width = reference.shape
        self._factor = min(1.0, math.sqrt(search.pixels / (width * height)))
        self._size = (round(width * self._factor), round(height * self._factor))
        self._detector = cv2.SIFT.create(search.count, 3, search.contrast)
        self._ratio = search.ratio
        self._turn_max_deg = turn_max_deg + self.SLACK_DEG
        self._grow_max = math.log(grow_max * self.SLACK_SIZE)
        self._keys = self._describe(reference)

    def _describe(self, grey: NDArray[np.uint8]) -> _Keys:
        small = resized(grey, self._size)
        keys, descriptors = self._detector.detectAndCompute(small, None)
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
        clear = (two[:, 0] < self._ratio**2 * two[:, 1]) & np.isfinite(two[:, 0])
        good = np.flatnonzero(clear & (back[best] == np.arange(len(best))))
        return np.column_stack([good, best[good]])


def _square_distances(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> NDArray[np.float32]:
    lengths = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)
    return np.asarray(lengths - 2 * first @ second.T, np.float32)
