"""Training pictures: which of them are defective, at which scale, and how they are kept.

1. A picture is defective as ``shows_defect`` says, and good where nobody said.
2. A defective picture without a drawn mask teaches the picture's score alone.
3. The scale follows from the widths of the masks of the training part: nine of ten drawn pieces
   stay at least ``LEAST_WIDTH_PX`` network pixels wide. Masks are cut after averaging, never kept
   as greys.

Square pieces of pictures for training: where they are cut, and how they are changed.

Picture and mask are warped together, once, from network pixels; the mask takes the nearest bit.
Everything follows from the generator handed in.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import Digest, InvalidError
from lineside.datasets import Sample, shows_defect
from lineside.training.common.cache import MemoryCache
from lineside.training.tasks.contract import Work
from lineside.training.tasks.segment.network import MULTIPLE_PX
from lineside.vision import HealthFigures, Prepare, fitted, picture_health
from lineside.vision.decide import says_good
from lineside.vision.prepare import crops_for, cut

LEAST_WIDTH_PX = 5.0
_MOST_PX = 1 << 20
_LEAST_SIDE_PX = 128
_ZOOMS = (0.125, 0.18, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
_LEAST_PIECE_PX = 8
_MOST_PIXEL_BYTES = 600_000_000
_POINTS_A_PIECE = 8
_MOST_PIECES = 64
IGNORED = 2
"""In a mask: outside the picture, said nothing of."""

Image = NDArray[np.uint8]


def defect_labels(names: Iterable[str], *, good: Collection[str] = ()) -> tuple[str, ...]:
    """Those of the labels that do not mean a good part."""
    return tuple(name for name in names if not says_good(name, named=good))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Facts:
    """Facts of a training picture before any of it is kept.

    Attributes:
        drawn: whether its mask says where the defect is; a good picture needs none.
        widths_px: of each drawn piece, twice its largest distance from the edge.
        areas_px: of each drawn piece.
        share: of its pixels that are defect.
    """

    sample: Sample
    defective: bool
    drawn: bool
    width_px: int
    height_px: int
    health: HealthFigures
    widths_px: tuple[float, ...] = ()
    areas_px: tuple[int, ...] = ()
    share: float = 0.0


def facts_of(sample: Sample, *, work: Work, good: Collection[str] = ()) -> Facts:
    """Look at a picture and its mask; ``InvalidError`` where their sizes differ.

    ``good``: the good labels of the inspection; empty: the usual words.
    """
    image, mask = work.picture(sample), work.mask(sample)
    if mask is not None and mask.shape != image.shape[:2]:
        raise InvalidError(
            f"a mask of {mask.shape[::-1]} for a picture of {image.shape[1::-1]} pixels",
            where=sample.name,
            fix="Draw the mask on the picture itself.",
        )
    defective = bool(shows_defect(sample, mask=mask, good=good))
    marked = mask is not None and bool(mask.any())
    widths, areas = _pieces(mask) if mask is not None and marked else ((), ())
    return Facts(
        sample=sample,
        defective=defective,
        drawn=marked or not defective,
        width_px=image.shape[1],
        height_px=image.shape[0],
        health=picture_health(image),
        widths_px=widths,
        areas_px=areas,
        share=float(mask.mean()) if mask is not None else 0.0,
    )


def _pieces(mask: NDArray[np.bool_]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Width and area of each piece."""
    import cv2

    bits = mask.astype(np.uint8)
    count, numbers, figures, _ = cv2.connectedComponentsWithStats(bits, connectivity=8)
    apart = cv2.distanceTransform(bits, cv2.DIST_L2, 5)
    widths = np.zeros(count, np.float32)
    np.maximum.at(widths, np.asarray(numbers, np.intp).reshape(-1), 2 * apart.reshape(-1))
    areas = figures[1:, cv2.CC_STAT_AREA]
    return tuple(widths[1:].tolist()), tuple(areas.tolist())


def zoom_for(facts: Sequence[Facts]) -> float:
    """Network pixels per picture pixel; see the module.

    Never so small that the shorter side of the middle picture falls below 128 pixels, never so
    large that the largest picture has more than a million.
    """
    pieces = [
        width
        for each in facts
        for width, area in zip(each.widths_px, each.areas_px, strict=True)
        if area >= _LEAST_PIECE_PX  # smaller ones are slips of the pen
    ]
    narrow = float(np.quantile(pieces, 0.1)) if pieces else LEAST_WIDTH_PX
    short = float(np.median([min(each.width_px, each.height_px) for each in facts]))
    largest = max(each.width_px * each.height_px for each in facts)
    wished = max(min(1.0, LEAST_WIDTH_PX / max(narrow, 1.0)), _LEAST_SIDE_PX / short)
    enough = [zoom for zoom in _ZOOMS if zoom >= wished * 0.95]
    most = math.sqrt(_MOST_PX / largest)
    fitting = [zoom for zoom in _ZOOMS if zoom <= most] or [most]
    return min(enough[0] if enough else _ZOOMS[-1], fitting[-1])


def stretched_to(side_px: int) -> Prepare:
    """The whole picture on a square, its proportions not kept."""
    side = max(1, round(side_px / MULTIPLE_PX)) * MULTIPLE_PX
    crops = crops_for((), width_px=side, height_px=side, margin=0.0)
    return Prepare(crops=crops, width_px=side, height_px=side, fit="stretch", multiple=MULTIPLE_PX)


def prepare_for(zoom: float, *, sizes_px: Collection[tuple[int, int]] = ()) -> Prepare:
    """The whole picture at that scale, up to the next multiple of the network's stride.

    Args:
        zoom: network pixels per picture pixel.
        sizes_px: (width, height) of the training pictures.
    """
    return Prepare(
        crops=fitted(
            Prepare(crops=(), width_px=1, height_px=1, fit="zoom"), width_px=1, height_px=1
        ).crops,
        width_px=MULTIPLE_PX,
        height_px=MULTIPLE_PX,
        fit="zoom",
        zoom=zoom,
        multiple=MULTIPLE_PX,
        trained_px=next(iter(sizes_px)) if len(set(sizes_px)) == 1 else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedPicture:
    """A picture as the network sees it.

    Attributes:
        pixels: (height, width, 3) uint8 RGB on network pixels.
        mask: (height, width) uint8: 0 good, 1 defect, ``IGNORED`` outside the picture.
        points: (n, 2) row and column of pixels inside the pieces, evenly over them.
        inside: rows and columns that are picture.
    """

    pixels: Image
    mask: NDArray[np.uint8]
    points: NDArray[np.int64]
    inside: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.pixels.nbytes + self.mask.nbytes


def prepared_picture(
    image: Image, *, mask: NDArray[np.bool_] | None, settings: Prepare
) -> PreparedPicture:
    """Bring picture and mask to network pixels by the same cut."""
    height, width = image.shape[:2]
    pixels = cut(image, settings)[0]
    bits = np.zeros(pixels.shape[:2], np.uint8)
    if mask is not None:
        whites = np.repeat(mask.astype(np.uint8)[..., None] * 255, 3, axis=2)
        bits = (cut(whites, settings)[0, ..., 0] > 127).astype(np.uint8)
    down, across = bits.shape
    if settings.fit == "zoom":
        down = min(down, math.ceil(height * settings.zoom))
        across = min(across, math.ceil(width * settings.zoom))
    inside = (down, across)
    bits[inside[0] :], bits[:, inside[1] :] = IGNORED, IGNORED
    return PreparedPicture(pixels=pixels, mask=bits, points=_points(bits == 1), inside=inside)


def _points(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    import cv2

    count, numbers = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    found = [np.zeros((0, 2), np.int64)]
    for number in range(1, min(count, _MOST_PIECES + 1)):
        places = np.argwhere(numbers == number)
        chosen = np.linspace(0, len(places) - 1, min(len(places), _POINTS_A_PIECE)).round()
        found.append(places[chosen.astype(np.intp)])
    return np.concatenate(found)


Show = Callable[[Sample], PreparedPicture]


def shown_by(settings: Prepare, *, work: Work, most_bytes: int = _MOST_PIXEL_BYTES) -> Show:
    """Shows pictures on network pixels, kept while they fit into memory, else read again."""
    shown = MemoryCache[PreparedPicture](most_bytes=most_bytes)

    def show(sample: Sample) -> PreparedPicture:
        return shown.get(
            sample.digest,
            lambda: prepared_picture(
                work.picture(sample), mask=work.mask(sample), settings=settings
            ),
        )

    return show


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingSet:
    """Pictures and settings that all fits of one job share.

    Attributes:
        facts: of each picture, by its digest.
        show: a picture on network pixels.
        side_px: of the pieces that are learned from, a multiple of the network's stride.
        bf16: whether activations are rounded to bfloat16 while learning.
    """

    facts: Mapping[Digest, Facts]
    show: Show
    settings: Prepare
    side_px: int
    bf16: bool


_GROW = 1.33
_TURN_DEG = 12.0
_OFF_CENTRE = 0.35
_ASIDE = 0.2

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


def plan_turn(
    facts: Sequence[Facts], *, steps: int, batch: int, rng: np.random.Generator
) -> list[list[Draw]]:
    """The batches of a turn: about as many pieces as there are pictures.

    Every second piece lies around a drawn defect, the others anywhere on a good one. Where there is
    no good picture, all lie around defects; where no defect is drawn, all are good. Defective
    pictures without a mask take the place of a piece: evenly over the steps, whole, each at most
    once a turn.
    """
    numbered = list(enumerate(facts))
    some = [n for n, each in numbered if each.drawn] or [n for n, _ in numbered]
    drawn = Deck([n for n, each in numbered if each.defective and each.drawn] or some, rng=rng)
    good = Deck([n for n, each in numbered if not each.defective], rng=rng)
    bare = Deck([n for n, each in numbered if not each.drawn], rng=rng)
    due, batches = min(len(bare), steps), []
    for step in range(steps):
        found = [
            Draw(place=drawn.deal(), kind="defect")
            if not len(good) or (step * batch + number) % 2 == 0
            else Draw(place=good.deal(), kind="any")
            for number in range(batch)
        ]
        if due and step * due // steps != (step + 1) * due // steps:
            found[step % batch] = Draw(place=bare.deal(), kind="whole")
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
    centre = _centre(shown, near_defect=draw.kind == "defect", window_px=side_px / scale, rng=rng)
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
    shown: PreparedPicture, *, near_defect: bool, window_px: float, rng: np.random.Generator
) -> tuple[float, float]:
    """(x, y) of the window's middle; the window stays inside the picture where it fits."""
    down, across = shown.inside
    if near_defect and len(shown.points):
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
