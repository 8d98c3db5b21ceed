"""Where things stand: the high-bay rack in millimetres, and the camera that looks at it.

Rack coordinates: x to the right along the rack, y downwards from the top rail, z away from the
viewer; origin at the left end of the top rail. The camera is a pinhole fixed to fit twelve points
of the training factory's rack (root mean square 1.2 px), so that the simulated view is as oblique
as the real one: uprights lean, discs are 25-36 px wide and 10-21 high.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import SLOTS, Box

WIDTH_PX, HEIGHT_PX = 320, 240

LEVEL_MM = 80.0
UPRIGHTS_MM = ((-12.0, 10.0), (100.0, 144.0), (212.0, 256.0), (318.0, 340.0))
COLUMNS_MM = (46.0, 176.0, 284.0)
DEPTH_MM = 60.0
DISC_RADIUS_MM, DISC_HEIGHT_MM = 17.0, 6.0
TRAY_HALF_MM, TRAY_HEIGHT_MM = 22.0, 9.0
SEAT_MM = -4.0
DISC_Z_MM = 26.0

_FOCAL_PX = 360.0
_CENTRE_PX = (160.0, 120.0)
_TURN = (0.37656376, 0.53679076, 0.10626734)
_SHIFT_MM = (-175.51723424, -101.34938666, 485.25289172)


def _rotation(vector: tuple[float, float, float]) -> NDArray[np.float64]:
    """Rotation matrix of an axis-angle vector (Rodrigues)."""
    turn = np.asarray(vector)
    angle = float(np.linalg.norm(turn))
    x, y, z = turn / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turned = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    return np.asarray(turned, dtype=np.float64)


_MATRIX = _rotation(_TURN)


def project(points_mm: Sequence[Sequence[float]] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels of the unmoved view, (n, 2), of (n, 3) rack points."""
    seen = np.asarray(points_mm, dtype=np.float64) @ _MATRIX.T + np.asarray(_SHIFT_MM)
    pixels = _FOCAL_PX * seen[:, :2] / seen[:, 2:] + np.asarray(_CENTRE_PX)
    return np.asarray(pixels, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Where a slot's tray stands: its middle, on the tray's floor."""

    slot: str
    x_mm: float
    y_mm: float
    z_mm: float = DISC_Z_MM


def _seat(place: int) -> Seat:
    level, column = divmod(place, 3)
    return Seat(slot=SLOTS[place], x_mm=COLUMNS_MM[column], y_mm=level * LEVEL_MM + SEAT_MM)


SEATS = tuple(_seat(place) for place in range(len(SLOTS)))


def disc_ring(seat: Seat, *, height_mm: float, share: float = 1.0) -> NDArray[np.float64]:
    """Pixels (48, 2) of a circle round the disc's axis, ``height_mm`` above the tray's top."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    y_mm = np.full_like(turn, seat.y_mm - TRAY_HEIGHT_MM - height_mm)
    x_mm = seat.x_mm + share * DISC_RADIUS_MM * np.cos(turn)
    z_mm = seat.z_mm + share * DISC_RADIUS_MM * np.sin(turn)
    return project(np.stack([x_mm, y_mm, z_mm], axis=1))


def disc_box(seat: Seat) -> Box:
    """The disc's own outline in the unmoved view."""
    points = np.concatenate(
        [disc_ring(seat, height_mm=0), disc_ring(seat, height_mm=DISC_HEIGHT_MM)]
    )
    return _around(points)


def tray_box(seat: Seat) -> Box:
    """The outline of tray and disc together in the unmoved view."""
    half = TRAY_HALF_MM
    corners = [
        (seat.x_mm + x, y, seat.z_mm + z)
        for x in (-half, half)
        for z in (-half, half)
        for y in (seat.y_mm, seat.y_mm - TRAY_HEIGHT_MM)
    ]
    return _around(np.concatenate([project(corners), disc_ring(seat, height_mm=DISC_HEIGHT_MM)]))


def _around(points_px: NDArray[np.float64]) -> Box:
    (x0, y0), (x1, y1) = points_px.min(axis=0), points_px.max(axis=0)
    return Box(x0_px=float(x0), y0_px=float(y0), x1_px=float(x1), y1_px=float(y1))


def slot_boxes(*, margin_px: float = 5.0) -> dict[str, Box]:
    """The nine regions of ``examples/warehouse/plant.toml``: each disc's outline and a margin."""
    return {seat.slot: _grown(disc_box(seat), margin_px) for seat in SEATS}


def _grown(box: Box, margin_px: float) -> Box:
    return Box(
        x0_px=float(np.floor(box.x0_px - margin_px)),
        y0_px=float(np.floor(box.y0_px - margin_px)),
        x1_px=float(np.ceil(box.x1_px + margin_px)),
        y1_px=float(np.ceil(box.y1_px + margin_px)),
    )
