"""Square pieces of pictures for training: where they are cut, and how they are changed.

Picture and mask are warped together, once, from network pixels; the mask takes the nearest bit.
Everything follows from the generator handed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.training.tasks.segment.training_set import IGNORED, Facts, PreparedPicture, Show

_DEFECT_SHARE = 0.5
_GROW = 1.33
_TURN_DEG = 12.0
_OFF_CENTRE = 0.35
_ASIDE = 0.2

Image = NDArray[np.uint8]
Bits = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """One training example: (height, width, 3) pixels, their bits, and whether bits are known.

    Attributes:
        drawn: False for a whole defective picture whose defect nobody drew.
    """

    pixels: Image
    bits: Bits
    drawn: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Choice of a crop: an image, and a place around a defect, anywhere, or the whole."""

    place: int
    kind: str


class Deck:
    """Deals pictures so that each comes up as often as any other of its kind."""

    def __init__(self, places: Sequence[int], *, rng: np.random.Generator) -> None:
        self._places = np.array(places, np.int64)
        self._rng = rng
        self._left: list[int] = []

    def __len__(self) -> int:
        return len(self._places)

    def deal(self) -> int:
        """The next picture; the deck is shuffled anew when it is used up."""
        if not self._left:
            self._left = self._rng.permutation(self._places).tolist()
        return self._left.pop()


def plan_epoch(
    facts: Sequence[Facts], *, steps: int, batch: int, rng: np.random.Generator
) -> list[list[Draw]]:
    """The batches of an epoch.

    Half of the pieces lie around a drawn defect, the others anywhere on a good picture (on any,
    where there is none). Defective pictures without a mask are dealt evenly over the steps, whole,
    each at most once an epoch.
    """
    numbered = list(enumerate(facts))
    drawn = Deck([n for n, each in numbered if each.defective and each.drawn], rng=rng)
    good = Deck([n for n, each in numbered if not each.defective], rng=rng)
    bare = Deck([n for n, each in numbered if not each.drawn], rng=rng)
    around = batch if not len(good) else round(batch * _DEFECT_SHARE)
    batches = []
    for step in range(steps):
        found = [Draw(place=drawn.deal(), kind="defect") for _ in range(around)]
        found += [Draw(place=good.deal(), kind="any") for _ in range(batch - around)]
        due = min(len(bare), steps)
        if due and step * due // steps != (step + 1) * due // steps:
            found.append(Draw(place=bare.deal(), kind="whole"))
        batches.append(found)
    return batches


def cut_piece(
    draw: Draw, facts: Sequence[Facts], *, show: Show, side_px: int, rng: np.random.Generator
) -> Piece:
    """Cut and change one piece."""
    shown = show(facts[draw.place].sample)
    if draw.kind == "whole":
        return _whole(shown, rng)
    scale = float(np.exp(rng.uniform(-np.log(_GROW), np.log(_GROW))))
    centre = _centre(shown, around=draw.kind == "defect", window_px=side_px / scale, rng=rng)
    to_picture = _transform(centre, scale=scale, side_px=side_px, rng=rng)
    pixels, bits = _warp(shown, to_picture, side_px=side_px)
    return Piece(pixels=_changed(pixels, rng), bits=bits)


def _whole(shown: PreparedPicture, rng: np.random.Generator) -> Piece:
    pixels, bits = shown.pixels, shown.mask
    for axis in (0, 1):
        if rng.random() < 0.5:
            pixels, bits = np.flip(pixels, axis), np.flip(bits, axis)
    changed = _changed(np.ascontiguousarray(pixels), rng)
    return Piece(pixels=changed, bits=np.ascontiguousarray(bits), drawn=False)


def _centre(
    shown: PreparedPicture, *, around: bool, window_px: float, rng: np.random.Generator
) -> tuple[float, float]:
    """(x, y) of the window's middle; the window stays inside the picture where it fits."""
    down, across = shown.inside
    if around and len(shown.points):
        y, x = shown.points[int(rng.integers(len(shown.points)))].astype(np.float64)
        x, y = x + _jitter(rng) * window_px, y + _jitter(rng) * window_px
    else:
        x, y = rng.uniform(0, across), rng.uniform(0, down)
    return _held(x, length=across, window_px=window_px), _held(y, length=down, window_px=window_px)


def _jitter(rng: np.random.Generator) -> float:
    return float(rng.uniform(-_OFF_CENTRE, _OFF_CENTRE))


def _held(middle: float, *, length: int, window_px: float) -> float:
    if length <= window_px:
        return length / 2
    return float(min(max(middle, window_px / 2), length - window_px / 2))


def _transform(
    centre: tuple[float, float], *, scale: float, side_px: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(2, 3): pixel centres of the piece → pixel centres of the picture."""
    turn = np.deg2rad(rng.uniform(-_TURN_DEG, _TURN_DEG))
    flips = np.where(rng.random(2) < 0.5, -1.0, 1.0)
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = spin * flips / scale
    middle = np.array(centre) - 0.5 - linear @ np.full(2, (side_px - 1) / 2)
    return np.column_stack([linear, middle])


def _warp(
    shown: PreparedPicture, to_picture: NDArray[np.float64], *, side_px: int
) -> tuple[Image, Bits]:
    import cv2

    size = (side_px, side_px)
    pixels = cv2.warpAffine(
        shown.pixels,
        to_picture,
        size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    bits = cv2.warpAffine(
        shown.mask,
        to_picture,
        size,
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=IGNORED,
    )
    return np.asarray(pixels, np.uint8), np.asarray(bits, np.uint8)


def _changed(pixels: Image, rng: np.random.Generator) -> Image:
    """Other light, also from aside, now and then a little blur or noise."""
    import cv2

    gain, gamma = rng.uniform(0.8, 1.25), rng.uniform(0.8, 1.25)
    casts, offset = rng.uniform(0.95, 1.05, 3), rng.uniform(-12.0, 12.0)
    values = (np.arange(256) / 255.0) ** gamma * 255.0
    table = np.clip(values[:, None] * gain * casts + offset, 0, 255).astype(np.uint8)
    lit = cv2.LUT(pixels, table[None])
    if rng.random() < 0.5:
        lit = np.clip(lit * _slope(lit.shape[:2], rng), 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        lit = cv2.GaussianBlur(lit, (0, 0), rng.uniform(0.3, 0.8))
    if rng.random() < 0.3:
        noise = rng.standard_normal(pixels.shape, np.float32) * np.float32(rng.uniform(1.0, 5.0))
        lit = np.clip(lit + noise, 0, 255)
    return np.asarray(lit, np.uint8)


def _slope(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """(height, width, 1) gains that rise evenly in one direction, 1 in the middle."""
    down, across = rng.uniform(-_ASIDE, _ASIDE, 2)
    rows = np.linspace(-down, down, size[0], dtype=np.float32)
    columns = np.linspace(-across, across, size[1], dtype=np.float32)
    return (1 + rows[:, None] + columns[None])[..., None]
