"""Scene before the camera: the room, the rack, the trays and the discs in them.

Painted once in three layers: ``behind`` (room, side faces, rear rails, brackets), the slots'
contents, ``before`` (front faces, front rails, fittings, the controller at the bottom). A slot's
patch is its piece of ``behind``, tray and disc, and ``before`` over them.

Images of the rack: the scene from a slightly wandering camera, with noise, as JPEG.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lineside.core import Box
from lineside.core.factory import SLOTS

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
    camera_mm = np.asarray(points_mm, dtype=np.float64) @ _MATRIX.T + np.asarray(_SHIFT_MM)
    pixels = _FOCAL_PX * camera_mm[:, :2] / camera_mm[:, 2:] + np.asarray(_CENTRE_PX)
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
    return _bounds(points)


def tray_box(seat: Seat) -> Box:
    """The outline of tray and disc together in the unmoved view."""
    half = TRAY_HALF_MM
    corners = [
        (seat.x_mm + x, y, seat.z_mm + z)
        for x in (-half, half)
        for z in (-half, half)
        for y in (seat.y_mm, seat.y_mm - TRAY_HEIGHT_MM)
    ]
    return _bounds(np.concatenate([project(corners), disc_ring(seat, height_mm=DISC_HEIGHT_MM)]))


def _bounds(points_px: NDArray[np.float64]) -> Box:
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
            paint: Paint, sides: str = "top right front") -> None:  # fmt: skip
        """The faces of an upright cuboid that this camera sees: top, right side, front."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        if "top" in sides:
            top = [(x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)]
            self.quad(top, replace(paint.shade(1.25), shine=paint.shine + 26))
        if "right" in sides:
            self.quad([(x1, y0, z0), (x1, y0, z1), (x1, y1, z1), (x1, y1, z0)], paint.shade(0.7))
        if "front" in sides:
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


BLACK = Paint(red=33, green=37, blue=42)
SLIT = Paint(red=14, green=15, blue=17)
ORANGE = Paint(red=182, green=66, blue=50)
STEEL = Paint(red=158, green=156, blue=150, shine=20)
PLATE = Paint(red=60, green=65, blue=60)
_BOTTOM_MM = 300.0
_FLOOR_MM = 232.0
_ROOM_SEED = 20230515


class Content(StrEnum):
    """Content of a slot: a tray with a disc, an empty tray, or no tray at all."""

    BLUE = "blue"
    RED = "red"
    WHITE = "white"
    EMPTY = "empty"
    BARE = "bare"


DISCS = {
    Content.BLUE: Paint(red=38, green=98, blue=196, shine=46),
    Content.RED: Paint(red=196, green=44, blue=38, shine=46),
    Content.WHITE: Paint(red=226, green=224, blue=214, shine=46),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patch:
    """A piece of the canvas at fine resolution; the place in pixels of the view."""

    x0_px: int
    y0_px: int
    pixels: NDArray[np.uint8]


class Scene:
    """The painted layers of one room; ``clutter`` is what happens to stand behind the glass."""

    def __init__(self, clutter: np.random.Generator) -> None:
        self._behind = Brush.whole()
        self._before = Brush.whole()
        _paint_background(self._behind, clutter)
        _paint_behind(self._behind)
        _paint_before(self._before)
        for layer in (self._behind, self._before):
            _roughen(layer)

    def without_discs(self) -> Patch:
        """The whole canvas with nine empty trays."""
        front = self._before.cover[..., None] > 0
        pixels = np.where(front, self._before.pixels, self._behind.pixels)
        whole = Patch(x0_px=-MARGIN_PX, y0_px=-MARGIN_PX, pixels=pixels)
        for seat in SEATS:
            lay(whole, self.slot(seat, Content.EMPTY))
        return whole

    def slot(self, seat: Seat, content: Content) -> Patch:
        """One slot's piece of the canvas with this content."""
        box = tray_box(seat)
        x0, y0 = int(box.x0_px) - 2, int(box.y0_px) - 2
        brush = Brush(
            x0_px=x0, y0_px=y0, width_px=int(box.x1_px) + 3 - x0, height_px=int(box.y1_px) + 3 - y0
        )
        height, width = brush.cover.shape
        top, left = (y0 + MARGIN_PX) * FINE, (x0 + MARGIN_PX) * FINE
        piece = np.s_[top : top + height, left : left + width]
        brush.pixels[:] = self._behind.pixels[piece]
        if content is not Content.BARE:
            _paint_tray(brush, seat)
        if content in DISCS:
            _paint_disc(brush, seat, paint=DISCS[content])
        front = self._before.cover[piece] > 0
        brush.pixels[front] = self._before.pixels[piece][front]
        return Patch(x0_px=x0, y0_px=y0, pixels=brush.pixels)


def lay(whole: Patch, piece: Patch) -> None:
    """Put a piece in its place on the whole canvas."""
    height, width, _ = piece.pixels.shape
    top, left = (piece.y0_px - whole.y0_px) * FINE, (piece.x0_px - whole.x0_px) * FINE
    whole.pixels[top : top + height, left : left + width] = piece.pixels


def _paint_tray(brush: Brush, seat: Seat) -> None:
    half, top, floor = TRAY_HALF_MM, seat.y_mm - TRAY_HEIGHT_MM, seat.y_mm
    low, high = (
        (seat.x_mm - half, top, seat.z_mm - half),
        (seat.x_mm + half, floor, seat.z_mm + half),
    )
    brush.bar(low, high, paint=BLACK.shade(0.8))
    brush.polygon(disc_ring(seat, height_mm=-1.0, share=1.12), SLIT)


def _paint_disc(brush: Brush, seat: Seat, *, paint: Paint) -> None:
    """A short cylinder: its side as rings, darker; its top with a rim and a lit half."""
    brush.polygon(disc_ring(seat, height_mm=0.0, share=1.06), SLIT)
    for height in np.linspace(0.0, DISC_HEIGHT_MM, 7):
        side = paint.shade(0.52 + 0.2 * height / DISC_HEIGHT_MM)
        brush.polygon(disc_ring(seat, height_mm=float(height)), Paint(
            red=side.red, green=side.green, blue=side.blue, shine=8))  # fmt: skip
    brush.polygon(disc_ring(seat, height_mm=DISC_HEIGHT_MM, share=0.98), paint)
    ring = disc_ring(seat, height_mm=DISC_HEIGHT_MM, share=0.8)
    brush.polygon(ring, paint.shade(0.86))
    brush.polygon(disc_ring(seat, height_mm=DISC_HEIGHT_MM, share=0.74), paint.shade(1.02))
    glare = disc_ring(seat, height_mm=DISC_HEIGHT_MM, share=0.74)
    light_scene = glare[glare[:, 0] > glare[:, 0].mean()]
    bright = Paint(red=paint.red, green=paint.green, blue=paint.blue, shine=paint.shine + 28)
    brush.polygon(
        light_scene[np.argsort(np.arctan2(*(light_scene - glare.mean(axis=0)).T))], bright
    )


def _paint_behind(brush: Brush) -> None:
    _paint_plate(brush)
    for level in range(3):
        y_mm = level * LEVEL_MM
        brush.bar((-12, y_mm - 2, DEPTH_MM - 6), (340, y_mm + 7, DEPTH_MM), paint=BLACK.shade(0.7))
    for left, right in UPRIGHTS_MM:
        brush.bar((left, -12, 0), (right, _BOTTOM_MM, DEPTH_MM), paint=BLACK, sides="top right")
        for y_mm in np.arange(2, _FLOOR_MM, 15):
            for z_mm in (16.0, 42.0):
                _slit(brush, (right, float(y_mm), z_mm), along="z", shine=90 if z_mm > 20 else 0)
    for level in range(3):
        for column in range(3):
            _paint_brackets(brush, column=column, y_mm=level * LEVEL_MM + SEAT_MM)


def _paint_brackets(brush: Brush, *, column: int, y_mm: float) -> None:
    """The two orange supports of a slot, each with a groove."""
    left, right = UPRIGHTS_MM[column][1], UPRIGHTS_MM[column + 1][0]
    centre = COLUMNS_MM[column]
    for x0, x1 in ((left, centre - 9), (centre + 12, right)):
        brush.bar((x0, y_mm, 2), (x1, y_mm + 11, 50), paint=ORANGE)
        brush.bar((x0 + 2, y_mm + 11, 6), (x1 - 4, y_mm + 24, 46), paint=ORANGE.shade(0.8))
        groove = [(x0, y_mm + 6, 2), (x1, y_mm + 6, 2), (x1, y_mm + 8, 2), (x0, y_mm + 8, 2)]
        brush.quad([(float(x), float(y), float(z)) for x, y, z in groove], ORANGE.shade(0.4))


def _paint_plate(brush: Brush) -> None:
    """The perforated base plate, a red frame member and two steel shafts on it."""
    y = _FLOOR_MM
    brush.quad([(-260, y, -210), (520, y, -210), (520, y, 190), (-260, y, 190)], PLATE)
    for z in np.arange(-200, 185, 22):
        shift = 12 if round(float(z)) % 44 else 0
        for x in np.arange(-250, 510, 24):
            here = float(x + shift)
            slot = [(here, y, z), (here + 11, y, z), (here + 11, y, z + 6), (here, y, z + 6)]
            brush.quad([(float(a), float(b), float(c)) for a, b, c in slot], SLIT.shade(1.3))
    for z_mm in (78.0, 96.0):
        brush.bar((-60, y - 22, z_mm), (420, y - 17, z_mm + 5), paint=STEEL)
    brush.bar((-60, y - 30, 110), (60, y, 150), paint=ORANGE.shade(0.9))
    brush.bar((330, y - 60, 70), (430, y, 130), paint=ORANGE)


def _paint_before(brush: Brush) -> None:
    rng = np.random.default_rng(_ROOM_SEED + 1)
    for left, right in UPRIGHTS_MM:
        brush.bar((left, -12, 0), (right, _BOTTOM_MM, 0.1), paint=BLACK, sides="front")
        posts = 1 if right - left < 30 else 2
        width = (right - left) / posts
        for post in range(posts):
            x_mm = left + width * (post + 0.5)
            _seam(brush, left + width * post)
            for y_mm in np.arange(-4, _FLOOR_MM, 15):
                shine = float(rng.choice([0, 0, 60, 170]))
                _slit(brush, (x_mm, float(y_mm), 0.0), along="x", shine=shine)
    for level in range(3):
        _paint_front_rail(brush, y_mm=level * LEVEL_MM)
    _paint_controller(brush)


def _seam(brush: Brush, x_mm: float) -> None:
    line = [
        (x_mm, -12, 0),
        (x_mm + 1.2, -12, 0),
        (x_mm + 1.2, _BOTTOM_MM, 0),
        (x_mm, _BOTTOM_MM, 0),
    ]
    brush.quad([(x, float(y), float(z)) for x, y, z in line], SLIT)


def _slit(brush: Brush, centre: tuple[float, float, float], *, along: str, shine: float) -> None:
    x, y, z = centre
    dx, dz = (2.2, 0.0) if along == "x" else (0.0, 3.0)
    hole = [
        (x - dx, y, z - dz),
        (x + dx, y, z + dz),
        (x + dx, y + 7, z + dz),
        (x - dx, y + 7, z - dz),
    ]
    brush.quad(hole, Paint(red=SLIT.red, green=SLIT.green, blue=SLIT.blue, shine=shine))


def _paint_front_rail(brush: Brush, *, y_mm: float) -> None:
    rng = np.random.default_rng(round(y_mm) + 3)
    brush.bar((-14, y_mm - 3, -2), (342, y_mm + 8, 1), paint=BLACK.shade(1.05), sides="top front")
    for x_mm in np.arange(22, 330, 15.0):
        shine = float(rng.choice([0, 0, 90, 200]))
        hole = Paint(red=SLIT.red, green=SLIT.green, blue=SLIT.blue, shine=shine)
        brush.disc((float(x_mm), y_mm + 2.5, -2.1), radius_mm=3.0, paint=hole)
    for left, right in UPRIGHTS_MM:
        for x_mm in {left + 7, right - 7}:
            brush.disc((x_mm, y_mm + 2.5, -3), radius_mm=4.6, paint=ORANGE)
            brush.disc((x_mm, y_mm + 2.5, -3.1), radius_mm=2.2, paint=ORANGE.shade(0.75))


def _paint_controller(brush: Brush) -> None:
    """The controller's board, its display, terminals and wires, and a motor beside it."""
    board = np.array([[44, 262], [70, 214], [140, 232], [150, 290], [30, 290]], dtype=np.float64)
    brush.polygon(board, Paint(red=32, green=40, blue=36))
    display = np.array([[58, 262], [74, 228], [112, 238], [118, 270]], dtype=np.float64)
    brush.polygon(display, Paint(red=40, green=84, blue=150, shine=30))
    for place in range(7):
        x, y = 84 + 8 * place, 214 + 3 * place
        plug = np.array([[x, y], [x + 5, y + 1], [x + 5, y + 10], [x, y + 9]], dtype=np.float64)
        brush.polygon(plug, ORANGE.shade(0.8 + 0.06 * place))
        brush.polygon(plug - [0, 4], Paint(red=60, green=110, blue=52))
    for x, y in ((6, 196), (-14, 226), (8, 232)):
        crate = np.array(
            [[x, y], [x + 20, y - 10], [x + 26, y + 4], [x + 6, y + 16]], dtype=np.float64
        )
        brush.polygon(crate, ORANGE.shade(0.9))
    turn = np.linspace(0, 2 * np.pi, 30)
    for radius in (13.0, 10.0, 7.0, 4.0):
        ring = np.stack([5 + radius * np.cos(turn), 190 + 0.9 * radius * np.sin(turn)], axis=1)
        brush.polygon(ring, STEEL.shade(0.5 if radius in {13.0, 7.0} else 1.1))


def _paint_background(brush: Brush, clutter: np.random.Generator) -> None:
    """Wall, glass doors with frames, and blurred things behind the glass."""
    import cv2

    rng = np.random.default_rng(_ROOM_SEED)
    wall = Paint(red=52, green=54, blue=48)
    _block(brush, (-40, -40, 400, 320), paint=wall)
    _block(brush, (82, -40, 400, 150), paint=Paint(red=250, green=252, blue=250, shine=250))
    for source, count, size in ((rng, 90, 9.0), (clutter, 16, 9.0)):
        _scatter(brush, source, count=count, size_px=size)
    for x0, x1 in ((94, 112), (188, 197), (228, 246), (296, 304)):
        slanted = np.array([[x0, -40], [x1, -40], [x1 - 6, 190], [x0 - 6, 190]], dtype=np.float64)
        brush.polygon(slanted, Paint(red=46, green=48, blue=56, shine=10))
    floor = np.array([[82, 128], [400, 100], [400, 320], [82, 320]], dtype=np.float64)
    brush.polygon(floor, Paint(red=206, green=192, blue=168, shine=150))
    for shift in (0.0, 26.0, 60.0):
        edge = np.array([[82, 132 + shift], [400, 106 + 1.6 * shift], [400, 110 + 1.6 * shift],
                         [82, 135 + shift]])  # fmt: skip
        brush.polygon(edge, Paint(red=110, green=96, blue=80, shine=60))
    brush.pixels[:] = cv2.GaussianBlur(brush.pixels, (0, 0), 1.3 * FINE)
    _paint_crane(brush)


def _scatter(brush: Brush, rng: np.random.Generator, *, count: int, size_px: float) -> None:
    """Things that happen to stand behind the glass and along the wall."""
    for _ in range(count):
        middle = rng.uniform((-30, -30), (350, 130))
        corners = middle + rng.normal(0, size_px, (int(rng.integers(3, 7)), 2))
        grey = float(rng.uniform(30, 235))
        tint = rng.normal(0, 9, 3)
        behind_glass = middle[0] > 90
        shine = float(rng.uniform(110, 250)) if behind_glass else 0.0
        red, green, blue = np.clip((grey if behind_glass else 0.4 * grey) + tint, 0, 255)
        hull = corners[np.argsort(np.arctan2(*(corners - corners.mean(axis=0)).T))]
        brush.polygon(hull, Paint(red=red, green=green, blue=blue, shine=shine))


def _paint_crane(brush: Brush) -> None:
    """The crane's mast behind the rack, with its orange carriages and bright profiles."""
    for x in (40.0, 50.0, 60.0):
        _block(brush, (x, -40, x + 6, 200), paint=STEEL.shade(0.72 + 0.004 * x))
        _block(brush, (x + 6, -40, x + 8, 200), paint=SLIT)
    for box in (
        (22, 2, 36, 12),
        (44, 4, 56, 17),
        (66, -6, 78, 14),
        (56, 26, 96, 33),
        (96, 22, 106, 40),
    ):
        _block(brush, box, paint=ORANGE.shade(0.85))
    for box in ((38, 24, 52, 40), (78, 34, 92, 44)):
        _block(brush, box, paint=BLACK)
    _block(brush, (-40, 98, 20, 168), paint=ORANGE)
    _block(brush, (-40, 90, 34, 112), paint=ORANGE.shade(1.2))
    _block(brush, (18, 112, 40, 136), paint=BLACK.shade(0.7))
    x, y = project([(318, -12, 0)])[0]
    _block(brush, (x - 4, y - 26, x + 18, y - 2), paint=BLACK.shade(1.1))
    _block(brush, (x - 18, y - 52, x, y - 26), paint=Paint(red=222, green=176, blue=42))
    _block(brush, (x, y - 54, x + 9, y - 26), paint=ORANGE)


def _roughen(brush: Brush) -> None:
    """Wear, dust and the grain of plastic: surfaces differ by some percent from place to place."""
    import cv2

    rng = np.random.default_rng(_ROOM_SEED + 2)
    height, width = (side // 6 for side in brush.cover.shape)
    grain = rng.normal(1.0, 0.08, (height, width)).astype(np.float32)
    wide = cv2.resize(grain, brush.cover.shape[::-1], interpolation=cv2.INTER_CUBIC)
    rough = brush.pixels[..., :3] * wide[..., None]
    brush.pixels[..., :3] = np.clip(rough, 0, 255).astype(np.uint8)


def _block(brush: Brush, box: tuple[float, float, float, float], *, paint: Paint) -> None:
    x0, y0, x1, y1 = box
    brush.polygon(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64), paint)


Lighting = Literal["dark", "light", "neutral"]
_Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """Factors per channel: on surfaces, of what shines, and of the veil over the picture.

    ``veil`` is the share of light scattered in the lens; ``gamma`` below 1 lifts the shadows.
    """

    surface: _Triple
    window: _Triple
    veil: float
    floor: _Triple
    gamma: float


LIGHTS: dict[Lighting, Light] = {
    "dark": Light(
        surface=(0.96, 0.88, 1.00), window=(262, 260, 268), veil=0.19, floor=(10, 8, 14), gamma=0.93
    ),
    "light": Light(
        surface=(1.22, 1.20, 0.90), window=(240, 258, 238), veil=0.07, floor=(6, 9, 3), gamma=0.92
    ),
    "neutral": Light(
        surface=(1.12, 1.12, 1.08), window=(250, 252, 252), veil=0.09, floor=(6, 7, 8), gamma=0.92
    ),
}


def veil_of(pixels: NDArray[np.uint8], *, lighting: Lighting) -> NDArray[np.float32]:
    """Return the lens's veiling glare of the empty scene; (h, w, 3) float32."""
    import cv2

    light = LIGHTS[lighting]
    shine = pixels[..., 3:].astype(np.float32) / 255 * np.asarray(light.window, np.float32)
    small = cv2.resize(shine, None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA)
    wide = cv2.GaussianBlur(small, (0, 0), 7) * light.veil + np.asarray(light.floor, np.float32)
    height, width = pixels.shape[:2]
    return np.asarray(cv2.resize(wide, (width, height)), dtype=np.float32)


def light_scene(
    pixels: NDArray[np.uint8], *, veil: NDArray[np.float32], lighting: Lighting
) -> NDArray[np.uint8]:
    """Surfaces (h, w, 4) as the camera sees them by this light: (h, w, 3) uint8 RGB."""
    light = LIGHTS[lighting]
    shine = pixels[..., 3:].astype(np.float32) / 255
    surface = pixels[..., :3] * np.asarray(light.surface, np.float32)
    lit = surface * (1 - shine) + shine * np.asarray(light.window, np.float32)
    lit = lit * (1 - light.veil) + veil
    level = np.clip(lit / 255, 0, 1) ** light.gamma
    return (255 * level * (1.12 - 0.12 * (1 - level) ** 2 - 0.12 * level)).astype(np.uint8)


_WORK = 2
_TURN_DEG_PER_PX = 0.06
_SCALE_PER_PX = 0.0007
_NOISE_GREY, _NOISE_COLOUR = 3.0, 1.6
_NOISE_FIELDS, _NOISE_SLACK_PX = 6, 48
_QUALITY = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Drift of the camera, as shares (-1 to 1) of the limit."""

    right: float = 0.0
    down: float = 0.0
    turn: float = 0.0
    nearer: float = 0.0

    def matrix(self, *, drift_px: float) -> NDArray[np.float64]:
        """(2, 3): pixels of the unmoved view → pixels of the picture, about the middle."""
        angle = np.deg2rad(self.turn * drift_px * _TURN_DEG_PER_PX)
        scale = 1 + self.nearer * drift_px * _SCALE_PER_PX
        turned = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = np.array([WIDTH_PX / 2, HEIGHT_PX / 2])
        moved = np.array([self.right, self.down]) * drift_px
        return np.column_stack([turned, middle + moved - turned @ middle])


def first_pose(rng: np.random.Generator) -> Pose:
    """Anywhere in the allowed range."""
    right, down, turn, nearer = rng.uniform(-1, 1, 4)
    return Pose(right=right, down=down, turn=turn, nearer=nearer)


def next_pose(pose: Pose, rng: np.random.Generator, *, stride: float) -> Pose:
    """One step of a random walk of deviation ``stride``, thrown back at the range's ends."""
    right, down, turn, nearer = (
        _thrown_back(share + step)
        for share, step in zip(
            (pose.right, pose.down, pose.turn, pose.nearer), rng.normal(0, stride, 4), strict=True
        )
    )
    return Pose(right=right, down=down, turn=turn, nearer=nearer)


def _thrown_back(share: float) -> float:
    """Fold the line onto -1 … 1, as a ball between two walls."""
    return float(abs((share - 3) % 4 - 2) - 1)


class RackCamera:
    """Renders pictures of one room; the same seed and calls give the same pictures."""

    def __init__(self, *, seed: int, drift_px: float, blur_px: float = 0.0) -> None:
        room, self._rng = (
            np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2)
        )
        self._scene = Scene(room)
        self._drift_px = drift_px
        self._blur_px = blur_px
        self._views: dict[Lighting, _LitScene] = {}
        self._noise = _noise_fields(self._rng)

    def picture(
        self, contents: Sequence[Content], *, lighting: Lighting, pose: Pose
    ) -> NDArray[np.uint8]:
        """(240, 320, 3) uint8 RGB of the rack with these nine contents, A1 to C3."""
        import cv2

        if lighting not in self._views:
            self._views[lighting] = _LitScene(self._scene, lighting)
        canvas = self._views[lighting].with_contents(tuple(contents))
        lit = _photograph(canvas, pose.matrix(drift_px=self._drift_px))
        if self._blur_px > 0:
            lit = np.asarray(cv2.GaussianBlur(lit, (0, 0), self._blur_px), dtype=np.uint8)
        return self._grainy(lit)

    def _grainy(self, lit: NDArray[np.uint8]) -> NDArray[np.uint8]:
        field, down, right = self._rng.integers(0, (_NOISE_FIELDS, *(_NOISE_SLACK_PX,) * 2))
        noise = self._noise[field, down : down + HEIGHT_PX, right : right + WIDTH_PX]
        return np.asarray(np.clip(lit + noise, 0, 255), dtype=np.uint8)


class _LitScene:
    """The scene by one light, at twice the camera's resolution; slots are lit when first shown."""

    def __init__(self, scene: Scene, lighting: Lighting) -> None:
        self._scene, self._lighting = scene, lighting
        pixels = _worked(scene.without_discs())
        self._veil = veil_of(pixels, lighting=lighting)
        self._canvas = light_scene(pixels, veil=self._veil, lighting=lighting)
        self._shown: list[Content | None] = [None] * len(SEATS)
        self._patches: dict[tuple[str, Content], NDArray[np.uint8]] = {}

    def with_contents(self, contents: tuple[Content, ...]) -> NDArray[np.uint8]:
        """The canvas with these contents; only slots that changed are laid anew."""
        for place, (seat, content) in enumerate(zip(SEATS, contents, strict=True)):
            if self._shown[place] != content:
                self._lay(seat, content)
                self._shown[place] = content
        return self._canvas

    def _lay(self, seat: Seat, content: Content) -> None:
        patch = self._scene.slot(seat, content)
        top, left = ((side + MARGIN_PX) * _WORK for side in (patch.y0_px, patch.x0_px))
        height, width = (side * _WORK // FINE for side in patch.pixels.shape[:2])
        piece = np.s_[top : top + height, left : left + width]
        if (seat.slot, content) not in self._patches:
            self._patches[seat.slot, content] = light_scene(
                _worked(patch), veil=self._veil[piece], lighting=self._lighting
            )
        self._canvas[piece] = self._patches[seat.slot, content]


def _worked(patch: Patch) -> NDArray[np.uint8]:
    """A patch at twice the camera's resolution: what was painted finely, averaged."""
    import cv2

    height, width = (side * _WORK // FINE for side in patch.pixels.shape[:2])
    small = cv2.resize(patch.pixels, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def _photograph(canvas: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The canvas through the camera's pose, averaged down to the camera's pixels."""
    import cv2

    fine = np.array([[_WORK, 0, (_WORK - 1) / 2], [0, _WORK, (_WORK - 1) / 2], [0, 0, 1]])
    margin = np.array([[1, 0, MARGIN_PX], [0, 1, MARGIN_PX], [0, 0, 1]])
    moved = fine @ np.vstack([matrix, [0, 0, 1]]) @ np.linalg.inv(fine @ margin)
    size = (WIDTH_PX * _WORK, HEIGHT_PX * _WORK)
    lit = cv2.warpAffine(canvas, moved[:2], size, flags=cv2.INTER_LINEAR)
    small = cv2.resize(lit, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def _noise_fields(rng: np.random.Generator) -> NDArray[np.int16]:
    """Noise of the sensor, (n, h, w, 3): grey and colour parts, larger than a picture."""
    height, width = HEIGHT_PX + _NOISE_SLACK_PX, WIDTH_PX + _NOISE_SLACK_PX
    shape = (_NOISE_FIELDS, height, width)
    grey = rng.normal(0, _NOISE_GREY, (*shape, 1))
    colour = rng.normal(0, _NOISE_COLOUR, (*shape, 3))
    return np.round(grey + colour).astype(np.int16)


def encode_picture(picture: NDArray[np.uint8]) -> bytes:
    """The picture as the camera sends it; of high quality, 38-57 kB, as the factory's own."""
    from lineside.vision import encode_jpeg

    return encode_jpeg(picture, quality=_QUALITY)
