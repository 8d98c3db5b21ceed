"""Figures of single pictures, and thumbnails with what is marked on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import Digest, LinesideError
from lineside.datasets.samples import Marked, Sample
from lineside.vision import check_picture, decode_picture, encode_jpeg

LARGEST_PICTURE = 64_000_000
THUMBNAIL_PX = 160
_MASKED = 127

Files = Callable[[Digest], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFigures:
    """Of one picture.

    Attributes:
        brightness, contrast: mean and standard deviation of its grey, 0 to 255, of a small copy.
        mask_share: of its pixels that its mask covers; None without a mask.
        size_bytes: as stored.
    """

    digest: Digest
    width_px: int
    height_px: int
    size_bytes: int
    brightness: float
    contrast: float
    mask_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Five numbers of a set of values: the ends, the quartiles and the middle."""

    n: int
    low: float
    lower: float
    median: float
    upper: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Count of values between neighbouring edges; the last edge is inside."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


def figures_of(sample: Sample, *, files: Files) -> tuple[PictureFigures, bytes]:
    """A picture's figures and its thumbnail.

    Raises:
        LinesideError: the picture or its mask is damaged or gone.
    """
    encoded = files(sample.digest)
    checked = check_picture(encoded, width_px=THUMBNAIL_PX, max_bytes=LARGEST_PICTURE)
    grey = decode_picture(checked.thumbnail).astype(np.float32).mean(axis=2)
    figures = PictureFigures(
        digest=sample.digest,
        width_px=checked.width_px,
        height_px=checked.height_px,
        size_bytes=len(encoded),
        brightness=round(float(grey.mean()), 2),
        contrast=round(float(grey.std()), 2),
        mask_share=_mask_share(sample, files=files),
    )
    return figures, checked.thumbnail


def _mask_share(sample: Sample, *, files: Files) -> float | None:
    if sample.mask_digest is None:
        return None
    mask = decode_picture(files(sample.mask_digest), max_bytes=LARGEST_PICTURE)
    return round(float((mask[..., 0] > _MASKED).mean()), 6)


def figures_of_all(
    samples: Sequence[Sample], *, files: Files
) -> tuple[dict[Digest, PictureFigures], dict[Digest, str]]:
    """The figures of each picture, and of each that cannot be read why not."""
    found: dict[Digest, PictureFigures] = {}
    faults: dict[Digest, str] = {}
    for sample in samples:
        try:
            found[sample.digest] = figures_of(sample, files=files)[0]
        except LinesideError as error:
            faults[sample.digest] = error.message
    return found, faults


def spread_of(values: Sequence[float]) -> Spread:
    """Quartiles by linear interpolation; of at least one value."""
    five = np.quantile(np.asarray(values, np.float64), (0.0, 0.25, 0.5, 0.75, 1.0))
    low, lower, median, upper, high = (round(float(value), 4) for value in five)
    return Spread(n=len(values), low=low, lower=lower, median=median, upper=upper, high=high)


def histogram_of(values: Sequence[float], *, bins: int, low: float, high: float) -> Histogram:
    """Values in so many equal bins; what lies outside counts at the ends."""
    clipped = np.clip(np.asarray(values, np.float64), low, high)
    counts, edges = np.histogram(clipped, bins=bins, range=(low, high))
    return Histogram(
        edges=tuple(round(float(edge), 4) for edge in edges),
        counts=tuple(int(count) for count in counts),
    )


DRAWN_PX = 320
_COLOURS = ((255, 176, 0), (214, 0, 147), (0, 176, 255), (44, 182, 125))
_MASK = (255, 64, 64)


def is_drawn_on(sample: Sample) -> bool:
    """Return whether there is something to draw."""
    return bool(sample.marked) or sample.mask_digest is not None


def drawn_thumbnail(sample: Sample, *, files: Files, width_px: int = DRAWN_PX) -> bytes:
    """A JPEG at most so wide, with the sample's objects and its mask's outline on it.

    Each label has a colour of its own, as long as there are no more than four.

    Raises:
        InvalidError: the picture or its mask is damaged.
    """
    image = decode_picture(files(sample.digest), max_bytes=LARGEST_PICTURE)
    scale = min(1.0, width_px / image.shape[1])
    small = _scaled(image, scale)
    if sample.mask_digest is not None:
        mask = decode_picture(files(sample.mask_digest), max_bytes=LARGEST_PICTURE)
        _outline(small, mask)
    labels = sorted({mark.label for mark in sample.marked or ()})
    for mark in sample.marked or ():
        colour = _COLOURS[labels.index(mark.label) % len(_COLOURS)]
        _draw(small, mark, scale=scale, colour=colour)
    return encode_jpeg(small, quality=80)


def _scaled(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    import cv2

    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _outline(small: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    import cv2

    size = (small.shape[1], small.shape[0])
    shrunk = cv2.resize(mask[..., 0], size, interpolation=cv2.INTER_AREA)
    found = cv2.findContours(
        (shrunk > _MASKED).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )[0]
    cv2.drawContours(small, found, -1, _MASK, 1)


def _draw(
    small: NDArray[np.uint8], mark: Marked, *, scale: float, colour: tuple[int, int, int]
) -> None:
    import cv2

    if mark.is_point:
        x, y = mark.centre_px
        cv2.circle(small, (round(x * scale), round(y * scale)), 4, colour, 1)
    else:
        start = (round(mark.x0_px * scale), round(mark.y0_px * scale))
        cv2.rectangle(
            small, start, (round(mark.x1_px * scale), round(mark.y1_px * scale)), colour, 1
        )
