"""The sorting table as a line on a bus: moments of the walk, as many a second as are asked for.

Images of the sorting table: a sock with its shadow, a hand, the light and the sensor.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lineside.core import Clock
from lineside.links import Bus
from lineside.simulator.playback import (
    LineSettings,
    Shot,
    SimulationResult,
    Stop,
    show_shots,
    write_truth,
)

Design = Literal["Argyle", "Checks", "Dashes", "Dots", "Stripes", "Zigzag"]
Floats = NDArray[np.float32]
Marks = NDArray[np.bool_]
Colour = tuple[int, int, int]

DESIGNS: tuple[Design, ...] = get_args(Design)
BLANK = "Blank"
LABELS: tuple[str, ...] = (*DESIGNS, BLANK)

_CUFF, _HEEL, _TOE = 0.13, (0.47, 0.6), 0.88
_HEEL_SIDE = -0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Dye:
    """Colours of a design: of the cloth, of its marks, of cuff, heel and toe."""

    cloth: Colour
    marks: tuple[Colour, ...]
    ends: Colour


_DYES: Mapping[Design, Dye] = {
    "Argyle": Dye(cloth=(122, 32, 48), marks=((150, 148, 150), (236, 226, 200)), ends=(88, 20, 34)),
    "Checks": Dye(cloth=(203, 198, 212), marks=((126, 92, 168),), ends=(126, 92, 168)),
    "Dashes": Dye(cloth=(26, 32, 58), marks=((236, 160, 190), (120, 214, 220)), ends=(30, 36, 66)),
    "Dots": Dye(cloth=(20, 128, 122), marks=((240, 240, 232),), ends=(240, 240, 232)),
    "Stripes": Dye(cloth=(232, 188, 52), marks=((36, 62, 128),), ends=(36, 62, 128)),
    "Zigzag": Dye(cloth=(44, 44, 50), marks=((226, 112, 40),), ends=(30, 30, 36)),
}  # fmt: skip


def dye_cloth(design: Design, *, along: Floats, across: Floats, seed: int) -> Floats:
    """The cloth in colour.

    Args:
        design: which pattern.
        along: (height, width) 0 at the cuff's edge to 1 at the toe.
        across: the same shape, -1 to 1 over the sock's breadth; negative on the heel's side.
        seed: of one physical sock: how it was dyed, knitted and washed.

    Returns:
        (height, width, 3) float32, 0-255.
    """
    rng = np.random.default_rng([seed, 3])
    dye, phase = _DYES[design], float(rng.uniform(0, 1))
    cloth = np.empty((*along.shape, 3), np.float32)
    cloth[:] = dye.cloth
    found = _marks(design, along=along, across=across, phase=phase)
    for marks, colour in zip(found, dye.marks, strict=True):
        cloth[marks] = colour
    cloth[_ends(along, across)] = dye.ends
    washed = 1 + rng.normal(0, 0.04, 3)
    grey = cloth.mean(axis=2, keepdims=True)
    fade = float(rng.uniform(0, 0.18))
    return np.asarray((cloth + fade * (grey - cloth)) * washed, np.float32)


def _ends(along: Floats, across: Floats) -> Marks:
    heel = (along > _HEEL[0]) & (along < _HEEL[1]) & (across < _HEEL_SIDE)
    return np.asarray((along < _CUFF) | heel | (along > _TOE), np.bool_)


def _marks(design: Design, *, along: Floats, across: Floats, phase: float) -> tuple[Marks, ...]:
    match design:
        case "Stripes":
            return ((along * 8 + phase) % 1 < 0.45,)
        case "Zigzag":
            bent = along * 7 + phase + 0.35 * np.abs((across * 1.5) % 1 - 0.5) * 2
            return (np.asarray(bent % 1 < 0.36, np.bool_),)
        case "Dots":
            return (_spots(along, across, phase=phase, half=0.27),)
        case "Checks":
            squares = np.floor(along * 13 + phase) + np.floor((across + 1) * 2.2)
            return (np.asarray(squares % 2 > 0, np.bool_),)
        case "Argyle":
            return _argyle(along, across, phase=phase)
        case "Dashes":
            return _dashes(along, across, phase=phase)


def _spots(along: Floats, across: Floats, *, phase: float, half: float) -> Marks:
    rows = along * 11 + phase
    shifted = (across + 1) * 1.5 + 0.5 * (np.floor(rows) % 2)
    far = np.hypot(rows % 1 - 0.5, shifted % 1 - 0.5)
    return np.asarray(far < half, np.bool_)


def _argyle(along: Floats, across: Floats, *, phase: float) -> tuple[Marks, Marks]:
    rows = along * 5 + phase
    diamond = np.abs(rows % 1 - 0.5) + np.abs(across) * 0.5 < 0.4
    thread = np.abs(np.abs((rows + 0.5) % 1 - 0.5) - np.abs(across) * 0.5) < 0.035
    return np.asarray(diamond, np.bool_), np.asarray(thread, np.bool_)


def _dashes(along: Floats, across: Floats, *, phase: float) -> tuple[Marks, Marks]:
    rows = along * 12 + phase
    turn = np.floor(rows) % 2
    places = ((across + 1) * 1.6 + 0.5 * turn) % 1
    short = (np.abs(rows % 1 - 0.5) < 0.16) & (np.abs(places - 0.5) < 0.3)
    return np.asarray(short & (turn == 0), np.bool_), np.asarray(short & (turn == 1), np.bool_)


SIDE_PX = 400
_LEG_PX, _HEEL_PX, _TOE_PX = (150.0, 40.0), (150.0, 236.0), (318.0, 316.0)
_HALF_PX = 52.0
_ROUND_PX = 46.0
_FOLD_PX = 7.0


def knit_sock(design: Design, *, seed: int, laid: int) -> NDArray[np.float32]:
    """(SIDE_PX, SIDE_PX, 4) float32: colour 0-255, and 0-1 where there is cloth.

    Args:
        design: its pattern.
        seed: of the physical sock.
        laid: of how it lies this time: its folds.
    """
    along, across, inside = _tube()
    rng = np.random.default_rng([laid, 4])
    cloth = dye_cloth(design, along=along, across=across, seed=seed)
    shade = (1.04 - 0.34 * across**4) * _ribs(along, across)
    sock = np.empty((SIDE_PX, SIDE_PX, 4), np.float32)
    sock[..., :3] = cloth * shade[..., None]
    sock[..., 3] = inside
    return _folded(sock, rng=rng, mirrored=bool(np.random.default_rng([seed, 5]).integers(2)))


def _ribs(along: Floats, across: Floats) -> Floats:
    """Stitches: ribs along the sock, deeper at the cuff."""
    deep = np.where(along < 0.13, 0.16, 0.06)
    ribs = 1 - deep * (0.5 + 0.5 * np.cos(across * 34))
    return np.asarray(ribs * (1 - 0.03 * np.cos(along * 380)), np.float32)


@cache
def _tube() -> tuple[Floats, Floats, Floats]:
    """Along, across, and 1 inside; of the sock before it is folded."""
    path = _path()
    steps = np.hypot(*np.diff(path, axis=0).T)
    begins = np.concatenate([[0.0], np.cumsum(steps)])
    down, right = np.indices((SIDE_PX, SIDE_PX), dtype=np.float32)
    least = np.full((SIDE_PX, SIDE_PX), np.inf, np.float32)
    along, aside = np.zeros_like(least), np.zeros_like(least)
    for place, (start, stop) in enumerate(pairwise(path)):
        way = (stop - start) / steps[place]
        ahead = np.clip((right - start[0]) * way[0] + (down - start[1]) * way[1], 0, steps[place])
        off_x, off_y = right - start[0] - ahead * way[0], down - start[1] - ahead * way[1]
        far = np.hypot(off_x, off_y)
        nearer = far < least
        least[nearer] = far[nearer]
        along[nearer] = (begins[place] + ahead)[nearer]
        aside[nearer] = (off_y * way[0] - off_x * way[1])[nearer]
    side = np.sign(aside) * np.minimum(least / _half(along / begins[-1]), 1.6)
    cut = np.clip((down - _LEG_PX[1]) / 2, 0, 1)  # the cuff ends straight
    edge = np.clip((1 - np.abs(side)) * _HALF_PX / 2, 0, 1)
    return (
        np.asarray(along / begins[-1], np.float32),
        np.asarray(-side, np.float32),
        np.asarray(edge * cut, np.float32),
    )


def _half(along: Floats) -> Floats:
    """Half the sock's breadth in px: wide at the heel, narrow at ankle and toe."""
    heel = 9 * np.exp(-(((along - 0.54) / 0.09) ** 2))
    ankle = -6 * np.exp(-(((along - 0.36) / 0.1) ** 2))
    return np.asarray(_HALF_PX + heel + ankle - 9 * along, np.float32)


def _path() -> NDArray[np.float64]:
    """The line down the leg and along the foot, its corner rounded."""
    leg, heel, toe = (np.array(point) for point in (_LEG_PX, _HEEL_PX, _TOE_PX))
    before = heel + (leg - heel) / np.hypot(*(leg - heel)) * _ROUND_PX
    after = heel + (toe - heel) / np.hypot(*(toe - heel)) * _ROUND_PX
    share = np.linspace(0, 1, 9)[:, None]
    bend = (1 - share) ** 2 * before + 2 * share * (1 - share) * heel + share**2 * after
    return np.concatenate([[leg], bend, [toe]])


def _folded(
    sock: NDArray[np.float32], *, rng: np.random.Generator, mirrored: bool
) -> NDArray[np.float32]:
    """As it came to lie: pushed here and there, with the shade of its folds."""
    import cv2

    if mirrored:
        sock = np.ascontiguousarray(sock[:, ::-1])
    down, right = np.indices((SIDE_PX, SIDE_PX), dtype=np.float32)
    push = [_waves(rng) * _FOLD_PX for _ in range(2)]
    folded = cv2.remap(sock, right + push[0], down + push[1], cv2.INTER_LINEAR)
    slope = np.gradient(push[0], axis=1) + np.gradient(push[1], axis=0)
    folded[..., :3] *= (1 + 0.5 * slope)[..., None]
    return np.asarray(folded, np.float32)


def _waves(rng: np.random.Generator) -> Floats:
    import cv2

    coarse = rng.standard_normal((5, 5)).astype(np.float32)
    return np.asarray(
        cv2.resize(coarse, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC), np.float32
    )


_SINGLE = 0.15
_CROSSED = 0.3
_SIDES_DEG = (-90.0, 0.0, 90.0, 180.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sock:
    """One physical sock: its number from 1, its design, its cloth, and the pair it belongs to."""

    number: int
    design: Design
    seed: int
    pair: int

    @property
    def id(self) -> str:
        """Its name in the truth."""
        return f"sock-{self.number:05d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Pose of a sock under the camera.

    Attributes:
        x, y: its middle, in shares of the picture's width and height; may lie outside.
        turn_deg: counter-clockwise.
        scale: 1 is some two thirds of the picture's height.
        hand: 0-1, how far the hand is away from it; 1 is out of the picture.
        arm_deg: where the arm comes from; 0 is the right, 90 the top.
    """

    x: float
    y: float
    turn_deg: float
    scale: float
    hand: float
    arm_deg: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Passing:
    """One sock's time under the camera, in seconds of the walk; ``rests`` is where it lies."""

    sock: Sock
    enters_s: float
    lies_s: float
    lifted_s: float
    leaves_s: float
    rests: Pose
    exit_deg: float
    held: bool

    def at(self, time_s: float) -> Pose | None:
        """Where it is; None before and after."""
        if not self.enters_s <= time_s < self.leaves_s:
            return None
        if time_s < self.lies_s:
            far = 1 - _eased((time_s - self.enters_s) / (self.lies_s - self.enters_s))
            return self._moved(far, toward_deg=self.rests.arm_deg)
        if time_s >= self.lifted_s:
            far = _eased((time_s - self.lifted_s) / (self.leaves_s - self.lifted_s))
            return self._moved(far, toward_deg=self.exit_deg)
        left = min(time_s - self.lies_s, self.lifted_s - time_s)
        return self._moved(0.0, toward_deg=self.rests.arm_deg, hand=self._hand(left))

    def _hand(self, left_s: float) -> float:
        return 0.0 if self.held else min(1.0, left_s / 0.4)

    def _moved(self, far: float, *, toward_deg: float, hand: float = 0.0) -> Pose:
        way = np.deg2rad(toward_deg)
        return Pose(
            x=self.rests.x + 1.1 * far * float(np.cos(way)),
            y=self.rests.y - 1.35 * far * float(np.sin(way)),
            turn_deg=self.rests.turn_deg + 14 * far,
            scale=self.rests.scale,
            hand=hand,
            arm_deg=toward_deg,
        )


def socks(seed: int) -> Iterator[Sock]:
    """Socks without end."""
    rng = np.random.default_rng([seed, 1])
    number = pair = 0
    while True:
        order = _pairs(rng)
        for design, place in order:
            number += 1
            seed_of = int(rng.integers(2**31))
            yield Sock(number=number, design=design, seed=seed_of, pair=pair + 1 + place)
        pair += 1 + max(place for _, place in order)


def _pairs(rng: np.random.Generator) -> list[tuple[Design, int]]:
    """The next socks: a single one, a pair, or two pairs that cross; with the pair each is of."""
    first, second = rng.choice(len(DESIGNS), 2, replace=False)
    kind = rng.random()
    if kind < _SINGLE:
        return [(DESIGNS[first], 0)]
    if kind < _SINGLE + _CROSSED:
        return [(DESIGNS[one], place) for place, one in ((0, first), (1, second)) * 2]
    return [(DESIGNS[first], 0)] * 2


def passings(seed: int) -> Iterator[Passing]:
    """Socks under the camera, one after the other, with the table empty in between."""
    rng = np.random.default_rng([seed, 2])
    time_s = float(rng.uniform(1.0, 2.0))
    for sock in socks(seed):
        lies_s = time_s + float(rng.uniform(0.5, 0.9))
        lifted_s = lies_s + float(rng.uniform(1.6, 3.6))
        leaves_s = lifted_s + float(rng.uniform(0.4, 0.8))
        yield Passing(
            sock=sock,
            enters_s=time_s,
            lies_s=lies_s,
            lifted_s=lifted_s,
            leaves_s=leaves_s,
            rests=resting(rng),
            exit_deg=_side(rng),
            held=bool(rng.random() < 0.4),
        )
        time_s = leaves_s + float(rng.uniform(1.9, 3.2))


def resting(rng: np.random.Generator) -> Pose:
    """Somewhere under the camera, a little out of the picture at times."""
    return Pose(
        x=float(np.clip(rng.normal(0.5, 0.1), 0.24, 0.76)),
        y=float(np.clip(rng.normal(0.5, 0.1), 0.26, 0.74)),
        turn_deg=float(rng.uniform(-180, 180)),
        scale=float(rng.uniform(0.85, 1.2)),
        hand=0.0,
        arm_deg=_side(rng),
    )


def _side(rng: np.random.Generator) -> float:
    return float(rng.choice(_SIDES_DEG) + rng.uniform(-25, 25))


def _eased(share: float) -> float:
    """0-1, slow at both ends."""
    return share * share * (3 - 2 * share)


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
class SockImage:
    """A picture and its truth.

    Attributes:
        picture: (480, 848, 3) uint8 RGB.
        share: of the sock that lies within the picture, 0-1.
        label: the design where enough of it is seen, ``Blank`` where nothing is, "" between.
    """

    picture: Image
    share: float
    label: str


def render_view(view: View) -> SockImage:
    """Render a moment; the same moment gives the same pixels."""
    canvas = _table(view.table).copy()
    share = _with_sock(canvas, view) if view.sock is not None else 0.0
    if view.pose is not None and view.pose.hand < 1:
        _with_hand(canvas, view.pose, table=view.table)
    label = BLANK if share <= _NONE else ""
    if view.sock is not None and share >= _SURE:
        label = view.sock.design
    return SockImage(picture=_exposed(canvas, view), share=share, label=label)


def encode_view(picture: Image) -> bytes:
    """As JPEG, the same for the same pixels."""
    from lineside.vision import encode_jpeg

    return encode_jpeg(picture, quality=_QUALITY)


def surface_of(table: int) -> str:
    """Return the cover of the table of that seed."""
    return SURFACES[table % len(SURFACES)]


@lru_cache(maxsize=2)
def _cloth(sock: Sock, laid: int) -> NDArray[np.float32]:
    return knit_sock(sock.design, seed=sock.seed, laid=laid)


def _with_sock(canvas: Floats, view: View) -> float:
    """Lay it; how much of it is within the picture."""
    import cv2

    assert view.sock is not None and view.pose is not None  # noqa: PT018, S101  the caller asked
    cloth = _cloth(view.sock, view.laid)
    whole = float(cloth[..., 3].sum()) * view.pose.scale**2
    place = _pose_matrix(view.pose)
    sock = cv2.warpAffine(cloth, place, (WIDTH_PX, HEIGHT_PX), flags=cv2.INTER_LINEAR)
    alpha = sock[..., 3:]
    share = float(alpha.sum()) / whole
    if share > 0:
        _shadow(canvas, np.ascontiguousarray(alpha[..., 0]))
        canvas += alpha * (sock[..., :3] - canvas)
    return min(1.0, share)


def _pose_matrix(pose: Pose) -> NDArray[np.float64]:
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


TOPIC = "socks/cam"
_SOCKS_A_TABLE = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class SocksSettings(LineSettings):
    """One run of the simulated sorting table; ``seed`` is of socks, table and hands."""

    fps: float = 5.0


def simulate_socks(
    settings: SocksSettings, *, bus: Bus, clock: Clock, stop: Stop
) -> SimulationResult:
    """Show the table on ``socks/cam`` until stopped or all frames are sent.

    The caller opens and closes the bus. A message names no sock: what is under the camera, nobody
    tells. Of each picture sent the truth file holds ``ts``, ``digest``, ``label`` (the design,
    ``Blank``, or "" where too little of a sock is seen to say), ``sock``, ``design``, ``pair`` and
    ``share``; its last line counts what was sent.
    """
    return show_shots(
        _shots(settings),
        settings=settings,
        topic=TOPIC,
        bus=bus,
        clock=clock,
        stop=stop,
    )


def moments(seed: int, *, fps: float) -> Iterator[View]:
    """Yield the view of each image, without end."""
    walk = passings(seed)
    passing = next(walk)
    number = 0
    while True:
        time_s = number / fps
        while time_s >= passing.leaves_s:
            passing = next(walk)
        yield _moment(passing, time_s=time_s, seed=seed, number=number)
        number += 1


def _moment(passing: Passing, *, time_s: float, seed: int, number: int) -> View:
    pose = passing.at(time_s)
    return View(
        sock=passing.sock if pose is not None else None,
        pose=pose,
        laid=passing.sock.seed,
        table=seed + passing.sock.number // _SOCKS_A_TABLE,
        moment=seed * 1_000_003 + number,
    )


def _shots(settings: SocksSettings) -> Iterator[Shot]:
    for number, view in enumerate(moments(settings.seed, fps=settings.fps), start=1):
        found = render_view(view)
        sock = view.sock
        yield Shot(
            number=number,
            part="",
            picture=encode_view(found.picture),
            true={
                "label": found.label,
                "sock": sock.id if sock else "",
                "design": sock.design if sock else "",
                "pair": sock.pair if sock else 0,
                "share": round(found.share, 3),
            },
        )


PICTURES = Path("pictures")

_OF_EACH = 3
_TABLES = 10_000
_HAND_ALONE = 0.4


def write_socks(
    folder: Path, *, pictures: int, seed: int, progress: Callable[[int], None] = lambda _: None
) -> Path:
    """Render labelled pictures, of each label equally many, into a folder.

    Args:
        folder: made when absent; files of the same names are replaced.
        pictures: how many.
        seed: of socks, tables and hands; the same seed writes the same bytes.
        progress: called with the number of each picture written.

    Returns:
        The path of ``truth.csv``.
    """
    for label in LABELS:
        (folder / PICTURES / label).mkdir(parents=True, exist_ok=True)
    rows = [("file", "label", "group")]
    for number, (found, group) in enumerate(islice(labelled(seed), pictures), start=1):
        file = PICTURES / found.label / f"{number:05d}.jpg"
        (folder / file).write_bytes(encode_view(found.picture))
        rows.append((str(file), found.label, group))
        progress(number)
    return write_truth(folder, rows)


def labelled(seed: int) -> Iterator[tuple[SockImage, str]]:
    """Pictures with their groups, without end: a round of all labels, then the next."""
    number = 0
    while True:
        for design in (*DESIGNS, None):
            number += 1
            for each in range(_OF_EACH):
                rng = np.random.default_rng([seed, number, each])
                if design is None:
                    yield render_view(_empty(number, seed=seed, rng=rng)), f"table-{number:05d}"
                else:
                    yield _sock(design, number=number, seed=seed, rng=rng), f"sock-{number:05d}"


def _sock(design: Design, *, number: int, seed: int, rng: np.random.Generator) -> SockImage:
    """A moment of its passing at which enough of it is seen; another table each time."""
    cloth = int(np.random.default_rng([seed, number]).integers(2**31))
    sock = Sock(number=number, design=design, seed=cloth, pair=number)
    while True:
        found = render_view(
            View(
                sock=sock,
                pose=_pose(rng),
                laid=int(rng.integers(2**31)),
                table=int(rng.integers(_TABLES)),
                moment=int(rng.integers(2**31)),
            )
        )
        if found.label == design:
            return found


def _pose(rng: np.random.Generator) -> Pose:
    """Where a sock is at some moment between coming and going."""
    passing = next(passings(int(rng.integers(2**31))))
    time_s = float(rng.uniform(passing.enters_s, passing.leaves_s))
    pose = passing.at(time_s)
    assert pose is not None  # noqa: S101  the moment lies within the passing
    return pose


def _empty(number: int, *, seed: int, rng: np.random.Generator) -> View:
    """A table without a sock; with a hand over it at times."""
    alone = replace(resting(rng), hand=float(rng.uniform(-0.1, 0.6)))
    return View(
        sock=None,
        pose=alone if rng.random() < _HAND_ALONE else None,
        laid=0,
        table=int(np.random.default_rng([seed, number]).integers(_TABLES)),
        moment=int(rng.integers(2**31)),
    )
