"""Training pictures: which of them are defective, at which scale, and how they are kept.

1. A picture is defective when one of its labels is no good word, or its mask has a set pixel.
2. A defective picture without a drawn mask teaches the picture's score alone.
3. The scale follows from the widths of the masks of the training part: nine of ten drawn pieces
   stay at least ``LEAST_WIDTH_PX`` network pixels wide. Masks are cut after averaging, never kept
   as greys.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError
from lineside.datasets import Sample
from lineside.training.tasks.metrics import GOOD_NAMES
from lineside.training.tasks.segment.network import MULTIPLE_PX
from lineside.vision import HealthFigures, Prepare, fitted, picture_health
from lineside.vision.prepare import crops_for, cut

LEAST_WIDTH_PX = 5.0
_MOST_PX = 1 << 20
_LEAST_SIDE_PX = 128
_ZOOMS = (0.125, 0.18, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
_LEAST_PIECE_PX = 8
_MOST_KEPT_BYTES = 600_000_000
_POINTS_A_PIECE = 8
_MOST_PIECES = 64
IGNORED = 2
"""In a mask: outside the picture, said nothing of."""

Image = NDArray[np.uint8]


class Pictures(Protocol):
    """Gives pictures and masks, as ``lineside.training.tasks.Work`` does."""

    def picture(self, sample: Sample) -> Image:
        """(height, width, 3) uint8 RGB."""
        ...

    def mask(self, sample: Sample) -> NDArray[np.bool_] | None:
        """(height, width) bool; None where nobody drew one."""
        ...


def defect_labels(sample: Sample) -> tuple[str, ...]:
    """The sample's labels that are no good words."""
    return tuple(name for name in sample.labels if name.lower() not in GOOD_NAMES)


def is_defective(sample: Sample, mask: NDArray[np.bool_] | None) -> bool:
    """Return whether anything is wrong with the picture."""
    return bool(defect_labels(sample)) or (mask is not None and bool(mask.any()))


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


def facts_of(sample: Sample, *, pictures: Pictures) -> Facts:
    """Look at a picture and its mask; ``InvalidError`` where their sizes differ."""
    image, mask = pictures.picture(sample), pictures.mask(sample)
    if mask is not None and mask.shape != image.shape[:2]:
        raise InvalidError(
            f"a mask of {mask.shape[::-1]} for a picture of {image.shape[1::-1]} pixels",
            where=sample.name,
            fix="Draw the mask on the picture itself.",
        )
    defective = is_defective(sample, mask)
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


def prepare_for(zoom: float) -> Prepare:
    """The whole picture at that scale, up to the next multiple of the network's stride."""
    return Prepare(
        crops=fitted(
            Prepare(crops=(), width_px=1, height_px=1, fit="zoom"), width_px=1, height_px=1
        ).crops,
        width_px=MULTIPLE_PX,
        height_px=MULTIPLE_PX,
        fit="zoom",
        zoom=zoom,
        multiple=MULTIPLE_PX,
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


@dataclass(slots=True, kw_only=True, eq=False)
class Gallery:
    """Pictures on network pixels, kept while they fit into memory, else read again."""

    settings: Prepare
    pictures: Pictures
    most_bytes: int = _MOST_KEPT_BYTES
    kept: dict[str, PreparedPicture] = field(default_factory=dict)
    bytes: int = 0

    def show(self, sample: Sample) -> PreparedPicture:
        """The picture and its mask."""
        found = self.kept.get(sample.digest)
        if found is None:
            mask = self.pictures.mask(sample)
            found = prepared_picture(
                self.pictures.picture(sample), mask=mask, settings=self.settings
            )
            size = found.pixels.nbytes + found.mask.nbytes
            if self.bytes + size <= self.most_bytes:
                self.kept[sample.digest] = found
                self.bytes += size
        return found


Show = Callable[[Sample], PreparedPicture]
