"""What the camera sees: a table, a sock with its shadow, a hand, the light and the sensor."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lineside.simulator.socks.basket import Pose, Sock
from lineside.simulator.socks.designs import BLANK, Floats
from lineside.simulator.socks.knit import SIDE_PX, knitted

WIDTH_PX, HEIGHT_PX = 848, 480
SURFACES = ("wood", "sheet", "belt", "mat")
_QUALITY = 88
_SURE, _NONE = 0.4, 0.02
_ARM_PX = 620
_SKINS = ((224, 172, 140), (198, 134, 98), (141, 85, 58), (92, 58, 42), (240, 200, 176))

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One moment under the camera.

    Attributes:
        sock: None where the table is empty, but for a hand perhaps.
        pose: of the sock, or of the hand alone; None where nothing is there.
        laid: seed of the sock's folds.
        table: seed of the surface, the light and whose hand it is.
        moment: seed of the sensor's noise.
    """

    sock: Sock | None
    pose: Pose | None
    laid: int
    table: int
    moment: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """A picture and its truth.

    Attributes:
        picture: (480, 848, 3) uint8 RGB.
        share: of the sock that lies within the picture, 0-1.
        label: the design where enough of it is seen, ``Blank`` where nothing is, "" between.
    """

    picture: Image
    share: float
    label: str


def seen(view: View) -> Seen:
    """Render a moment; the same moment gives the same pixels."""
    canvas = _table(view.table).copy()
    share = _with_sock(canvas, view) if view.sock is not None else 0.0
    if view.pose is not None and view.pose.hand < 1:
        _with_hand(canvas, view.pose, table=view.table)
    label = BLANK if share <= _NONE else ""
    if view.sock is not None and share >= _SURE:
        label = view.sock.design
    return Seen(picture=_exposed(canvas, view), share=share, label=label)


def encoded(picture: Image) -> bytes:
    """As JPEG, the same for the same pixels."""
    from lineside.vision import encode_jpeg

    return encode_jpeg(picture, quality=_QUALITY)


def surface_of(table: int) -> str:
    """What the table of that seed is covered with."""
    return SURFACES[table % len(SURFACES)]


@lru_cache(maxsize=2)
def _cloth(sock: Sock, laid: int) -> NDArray[np.float32]:
    return knitted(sock.design, seed=sock.seed, laid=laid)


def _with_sock(canvas: Floats, view: View) -> float:
    """Lay it; how much of it is within the picture."""
    import cv2

    assert view.sock is not None and view.pose is not None  # noqa: PT018, S101  the caller asked
    cloth = _cloth(view.sock, view.laid)
    whole = float(cloth[..., 3].sum()) * view.pose.scale**2
    place = _placed(view.pose)
    sock = cv2.warpAffine(cloth, place, (WIDTH_PX, HEIGHT_PX), flags=cv2.INTER_LINEAR)
    alpha = sock[..., 3:]
    share = float(alpha.sum()) / whole
    if share > 0:
        _shadow(canvas, np.ascontiguousarray(alpha[..., 0]))
        canvas += alpha * (sock[..., :3] - canvas)
    return min(1.0, share)


def _placed(pose: Pose) -> NDArray[np.float64]:
    import cv2

    middle = SIDE_PX / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), pose.turn_deg, pose.scale)
    matrix[0, 2] += pose.x * WIDTH_PX - middle
    matrix[1, 2] += pose.y * HEIGHT_PX - middle
    return np.asarray(matrix, np.float64)


def _shadow(canvas: Floats, cover: Floats) -> None:
    """Soft, to the lower right; made small, for its edge is none."""
    import cv2

    small = cv2.resize(cover, (WIDTH_PX // 4, HEIGHT_PX // 4), interpolation=cv2.INTER_AREA)
    thrown = cv2.copyMakeBorder(small, 3, 0, 2, 0, cv2.BORDER_REPLICATE)[:-3, :-2]
    soft = cv2.GaussianBlur(thrown, (0, 0), 2.6)
    dark = cv2.resize(soft, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_LINEAR)
    canvas *= (1 - 0.42 * dark)[..., None]


def _with_hand(canvas: Floats, pose: Pose, *, table: int) -> None:
    """An arm from the picture's edge, its fingers on the sock."""
    import cv2

    rng = np.random.default_rng([table, 6])
    skin = np.array(_SKINS[int(rng.integers(len(_SKINS)))], np.float32)
    sleeve = rng.uniform(30, 200, 3).astype(np.float32)
    way = np.deg2rad(pose.arm_deg)
    ahead = np.array([np.cos(way), -np.sin(way)])
    aside = np.array([-ahead[1], ahead[0]])
    wrist = np.array([pose.x * WIDTH_PX, pose.y * HEIGHT_PX]) + ahead * (130 + 600 * pose.hand)
    hand, arm = (np.zeros((HEIGHT_PX, WIDTH_PX), np.float32) for _ in range(2))
    for finger in (-1.5, -0.5, 0.5, 1.5):
        tip = wrist - ahead * (84 - 9 * abs(finger)) + aside * finger * 21
        cv2.line(hand, _px(wrist + aside * finger * 17), _px(tip), 1.0, 19, cv2.LINE_AA)
    thumb = wrist - ahead * 34 + aside * 62
    cv2.line(hand, _px(wrist + aside * 26), _px(thumb), 1.0, 20, cv2.LINE_AA)
    cv2.circle(hand, _px(wrist + ahead * 12), 44, 1.0, -1, cv2.LINE_AA)
    cv2.line(hand, _px(wrist), _px(wrist + ahead * 110), 1.0, 62, cv2.LINE_AA)
    cv2.line(arm, _px(wrist + ahead * 118), _px(wrist + ahead * _ARM_PX), 1.0, 86, cv2.LINE_AA)
    _shadow(canvas, np.maximum(hand, arm))
    for cover, colour in ((hand, skin), (arm, sleeve)):
        canvas += _rounded(cover)[..., None] * (colour - canvas)


def _rounded(cover: Floats) -> Floats:
    """A little see-through at the rim, as what is round and out of focus."""
    import cv2

    return np.asarray(cv2.GaussianBlur(cover, (0, 0), 2.0), np.float32) * np.float32(0.97)


def _px(point: NDArray[np.float64]) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


@lru_cache(maxsize=4)
def _table(table: int) -> Floats:
    rng = np.random.default_rng([table, 7])
    match surface_of(table):
        case "wood":
            return _wood(rng)
        case "sheet":
            return _sheet(rng)
        case "belt":
            return _belt(rng)
        case _:
            return _mat(rng)


def _plain(rng: np.random.Generator, colour: tuple[float, float, float]) -> Floats:
    surface = np.empty((HEIGHT_PX, WIDTH_PX, 3), np.float32)
    surface[:] = np.array(colour, np.float32) + rng.normal(0, 6, 3).astype(np.float32)
    return surface


def _wood(rng: np.random.Generator) -> Floats:
    """Boards with their grain along."""
    surface = _plain(rng, (204, 164, 112))
    boards = np.arange(HEIGHT_PX) // 120
    surface += rng.normal(0, 9, 5).astype(np.float32)[boards][:, None, None]
    grain = _clouds(rng, high=60, wide=5) * 9 + _clouds(rng, high=160, wide=12) * 5
    surface += grain[..., None]
    surface[np.arange(HEIGHT_PX) % 120 < 2] *= 0.7
    return surface


def _sheet(rng: np.random.Generator) -> Floats:
    """A pale cloth with folds."""
    surface = _plain(rng, (228, 224, 214))
    surface += (_clouds(rng, high=5, wide=7) * 7)[..., None]
    return surface


def _belt(rng: np.random.Generator) -> Floats:
    """Dark rubber with fine ribs."""
    surface = _plain(rng, (62, 64, 68))
    ribs = np.where(np.arange(WIDTH_PX) % 24 < 3, 9.0, 0.0).astype(np.float32)
    surface += ribs[None, :, None] + (_clouds(rng, high=90, wide=160) * 3)[..., None]
    return surface


def _mat(rng: np.random.Generator) -> Floats:
    """A cutting mat with its lines."""
    surface = _plain(rng, (58, 108, 96))
    for axis, length in ((0, HEIGHT_PX), (1, WIDTH_PX)):
        lines = np.arange(length) % 60 < 2
        if axis == 0:
            surface[lines] += 38
        else:
            surface[:, lines] += 38
    return surface


def _clouds(rng: np.random.Generator, *, high: int, wide: int) -> Floats:
    """Noise of about 1, made of so many patches down and across."""
    import cv2

    coarse = rng.standard_normal((high, wide)).astype(np.float32)
    return np.asarray(
        cv2.resize(coarse, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_CUBIC), np.float32
    )


def _exposed(canvas: Floats, view: View) -> Image:
    """The lamp's fall and colour, and the sensor's noise."""
    light = np.random.default_rng([view.table, 8])
    noise = np.random.default_rng([view.moment, 9])
    across = np.linspace(-1, 1, WIDTH_PX, dtype=np.float32)[None, :]
    down = np.linspace(-1, 1, HEIGHT_PX, dtype=np.float32)[:, None]
    slope = light.uniform(-0.12, 0.12, 2)
    gain = float(light.uniform(0.82, 1.1) * (1 + np.clip(noise.normal(0, 0.01), -0.03, 0.03)))
    fall = (1 - 0.1 * (across**2 + down**2)) * (1 + slope[0] * across + slope[1] * down)
    tint = (1 + light.normal(0, 0.03, 3)).astype(np.float32)
    canvas *= (gain * fall)[..., None] * tint
    grain = noise.standard_normal((HEIGHT_PX, WIDTH_PX, 1), np.float32) * np.float32(2.4)
    return np.asarray(np.clip(canvas + grain, 4, 252), np.uint8)
