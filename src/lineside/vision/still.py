"""Whether a camera still stands where it stood: a check that costs a fraction of a registration.

The picture is compared with the one kept, both reduced and high-passed. Two figures decide: their
correlation, and the motion that one linear step explains. The step is blind to large motions
and the correlation to small ones; together they notice both.
"""

import math

import numpy as np
from numpy.typing import NDArray

_SMALL_PIXELS = 20_000


class StillCheck:
    """Keeps one picture and says of others whether they lie on it."""

    def __init__(
        self,
        kept: NDArray[np.uint8],
        *,
        correlation_min: float = 0.8,
        motion_max_px: float = 0.7,
    ) -> None:
        """``kept``: (height, width) uint8 grey, the picture that was registered in full."""
        self._correlation_min = correlation_min
        height, width = kept.shape
        factor = min(1.0, math.sqrt(_SMALL_PIXELS / (width * height)))
        self._size = (max(8, round(width * factor)), max(8, round(height * factor)))
        self._motion_max = motion_max_px * self._size[0] / width
        self._kept = self._reduced(kept)
        self._norm = float(np.linalg.norm(self._kept))
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
        kept = self._kept.reshape(height, width)
        across = cv2.Sobel(kept, cv2.CV_32F, 1, 0, scale=1 / 8)
        down = cv2.Sobel(kept, cv2.CV_32F, 0, 1, scale=1 / 8)
        x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / (width / 2)
        y = (np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2) / (width / 2)
        rows = [across, down, across * x + down * y, down * x - across * y]
        return np.stack(rows).astype(np.float32).reshape(4, -1)

    def motion(self, grey: NDArray[np.uint8]) -> tuple[float, float]:
        """Correlation with the kept picture, and the motion seen, in px of the reduced picture."""
        now = self._reduced(grey)
        agreement = float(now @ self._kept)
        length = float(np.linalg.norm(now))
        if length * self._norm <= 1e-6 or agreement <= 0:
            return 0.0, math.inf
        gain = agreement / self._norm**2
        step = self._solver @ (self._jacobian @ (now / gain - self._kept)).astype(np.float64)
        shift = math.hypot(step[0], step[1]) + math.hypot(step[2], step[3])
        return agreement / (length * self._norm), shift

    def holds(self, grey: NDArray[np.uint8]) -> bool:
        """True while the camera has not moved by more than the limit at any edge of the view."""
        correlation, shift = self.motion(grey)
        return correlation >= self._correlation_min and shift <= self._motion_max
