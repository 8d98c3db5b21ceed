"""A canvas larger than the view, painted at four times its resolution.

A pixel has four channels: red, green, blue of the surface, and ``shine``, the share of the light
behind the scene that it sends to the camera (255: a window). The lighting is applied later, so
that the same scene can be seen by any light. ``cover`` says which pixels were painted.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineside.simulator.warehouse.rack import HEIGHT_PX, WIDTH_PX, project

MARGIN_PX = 28
FINE = 4
_SHIFT = 3

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paint:
    """A surface: its colour 0-255 and its shine 0-255."""

    red: float
    green: float
    blue: float
    shine: float = 0.0

    def shade(self, factor: float) -> "Paint":
        """The same surface turned away from (below 1) or towards the light."""
        return replace(
            self,
            red=min(255.0, self.red * factor),
            green=min(255.0, self.green * factor),
            blue=min(255.0, self.blue * factor),
        )

    @property
    def channels(self) -> tuple[float, float, float, float]:
        """As OpenCV takes a colour."""
        return (self.red, self.green, self.blue, self.shine)


class Brush:
    """Paints on a rectangle of the view, given in pixels of the view, margins included."""

    def __init__(
        self, *, x0_px: int = -MARGIN_PX, y0_px: int = -MARGIN_PX, width_px: int, height_px: int
    ) -> None:
        self.origin_px = np.array([x0_px, y0_px], dtype=np.float64)
        self.pixels = np.zeros((height_px * FINE, width_px * FINE, 4), dtype=np.uint8)
        self.cover = np.zeros((height_px * FINE, width_px * FINE), dtype=np.uint8)

    @classmethod
    def whole(cls) -> "Brush":
        """A canvas of the whole view with its margins."""
        return cls(width_px=WIDTH_PX + 2 * MARGIN_PX, height_px=HEIGHT_PX + 2 * MARGIN_PX)

    def polygon(self, points_px: Points, paint: Paint) -> None:
        """Fill a polygon given in pixels of the view."""
        import cv2

        corners = (np.asarray(points_px) - self.origin_px + 0.5) * FINE - 0.5
        fixed = [np.round(corners * (1 << _SHIFT)).astype(np.int32)]
        cv2.fillPoly(self.pixels, fixed, paint.channels, shift=_SHIFT)
        cv2.fillPoly(self.cover, fixed, (255,), shift=_SHIFT)

    def quad(self, corners_mm: list[tuple[float, float, float]], paint: Paint) -> None:
        """Fill a polygon given in rack coordinates."""
        self.polygon(project(corners_mm), paint)

    def bar(self, low: tuple[float, float, float], high: tuple[float, float, float], *,
            paint: Paint, faces: str = "top right front") -> None:  # fmt: skip
        """The faces of an upright cuboid that this camera sees: top, right side, front."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        if "top" in faces:
            top = [(x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)]
            self.quad(top, replace(paint.shade(1.25), shine=paint.shine + 26))
        if "right" in faces:
            self.quad([(x1, y0, z0), (x1, y0, z1), (x1, y1, z1), (x1, y1, z0)], paint.shade(0.7))
        if "front" in faces:
            self.quad([(x0, y0, z0), (x1, y0, z0), (x1, y1, z0), (x0, y1, z0)], paint)

    def disc(
        self, centre_mm: tuple[float, float, float], *, radius_mm: float, paint: Paint
    ) -> None:
        """A flat round thing that faces the viewer, such as the head of a rivet."""
        turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        x, y, z = centre_mm
        ring = np.stack(
            [x + radius_mm * np.cos(turn), y + radius_mm * np.sin(turn), np.full_like(turn, z)],
            axis=1,
        )
        self.polygon(project(ring), paint)
