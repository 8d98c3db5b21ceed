"""From a picture to the network's input: one function, its settings in the manifest.

Training, evaluation and device all call ``prepare``; there is no second way.

1. Each crop is sampled from the original picture through registration and crop in one bilinear
   warp; nothing is resized in between.
2. Where a crop is larger than the network's input, the warp samples a whole multiple of it and
   averages, so that no pixel of the picture is passed over. The multiple follows from the settings
   alone, never from the picture.
3. What lies outside the picture repeats its edge, or is black where the settings say so.
4. Pictures of various sizes are fitted (``fit``): the crop then follows from the picture's size,
   and everything else is as above.
5. OpenCV warps four channels to the same pixels as three in less than half the time. So a picture
   gets a fourth channel where its crops sample more than a quarter as many pixels as it has: adding
   the channel costs as much as warping a sixth to a tenth of the picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lineside.core import Box, Region, View
from lineside.vision.geometry import Matrix, compose, invert
from lineside.vision.pose import Pose

_MOST_SAMPLES = 16
_WIDENED_ABOVE = 0.25
_MOST_GAIN = 8.0
_SAME_PROPORTIONS = 0.02  # a side of 50 pixels may be rounded by one

Fit = Literal["view", "stretch", "pad", "crop", "zoom"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """One region to cut out, in pixels of the reference view.

    Attributes:
        box_px: what is cut, margin included.
        region_px: the region itself, which must be in the picture; None where it is ``box_px``.
    """

    region: str
    box_px: Box
    region_px: Box | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Settings that turn an image into a batch.

    Each crop is sampled once from the original picture through registration and crop in a single
    bilinear warp, to ``width_px`` x ``height_px``; then (value - mean) / scale, RGB, NCHW float32.

    Attributes:
        fit: how a picture of any size meets the one crop: ``view`` takes the crops as they stand;
            ``stretch`` the whole picture, its proportions not kept; ``pad`` the whole picture in a
            box of the input's proportions, centred, an odd pixel more at the right and the bottom;
            ``crop`` the largest centred box of the input's proportions; ``zoom`` the whole picture
            at ``zoom`` network pixels per picture pixel, up to the next ``multiple`` of pixels at
            the right and the bottom, so that the input's size follows the picture's.
        trained_px: of ``zoom``, (width, height) of every training picture: one of the same
            proportions and another resolution shows the same at another scale, and is brought to
            theirs. None where they differ.
        border: outside the picture: its ``edge`` repeated, or ``black``.
        level: mean value that each crop is brought to by one gain; 0 leaves it as it is.
        pose: how the part is found and laid into the one crop, which is then the canonical frame;
            the matrix handed to ``prepare`` leads from that frame to the picture.
    """

    crops: tuple[Crop, ...]
    width_px: int
    height_px: int
    mean: float = 127.0
    scale: float = 128.0
    colour: Literal["rgb"] = "rgb"
    view: View | None = None
    fit: Fit = "view"
    border: Literal["edge", "black"] = "edge"
    zoom: float = 1.0
    multiple: int = 32
    level: float = 0.0
    pose: Pose | None = None
    trained_px: tuple[int, int] | None = None


def fitted(settings: Prepare, *, width_px: int, height_px: int) -> Prepare:
    """The settings for a picture of that size: crops and input size as they then are."""
    if settings.fit == "view":
        return settings
    if settings.fit == "zoom":
        zoom = _zoom_of(settings, width=width_px, height=height_px)
        across = _up_to(width_px * zoom, settings.multiple)
        down = _up_to(height_px * zoom, settings.multiple)
        size = (across / zoom, down / zoom)
        box = Box(x0_px=0.0, y0_px=0.0, x1_px=size[0], y1_px=size[1])
        return replace(
            settings, crops=(Crop(region="", box_px=box),), width_px=across, height_px=down
        )
    box = _box_of(settings, width=width_px, height=height_px)
    return replace(settings, crops=(Crop(region="", box_px=box),))


def _zoom_of(settings: Prepare, *, width: int, height: int) -> float:
    """Network pixels per pixel of a picture of that size."""
    trained = settings.trained_px
    if trained is None or trained == (width, height):
        return settings.zoom
    across, down = trained[0] / width, trained[1] / height
    if abs(across / down - 1) > _SAME_PROPORTIONS:
        return settings.zoom
    return settings.zoom * math.sqrt(across * down)


def at_trained_scale(grey: NDArray[np.uint8], settings: Prepare) -> NDArray[np.uint8]:
    """(height, width) uint8, shrunk to the trained size where it shows the same with more pixels.

    Figures of health were learned there: an edge spread over three times the pixels is not blurred.
    """
    import cv2

    height, width = grey.shape
    trained = settings.trained_px
    scale = _zoom_of(settings, width=width, height=height) / settings.zoom
    if trained is None or scale >= 1:
        return grey
    return np.asarray(cv2.resize(grey, trained, interpolation=cv2.INTER_AREA), np.uint8)


def _up_to(length_px: float, multiple: int) -> int:
    return max(1, math.ceil(round(length_px, 6) / multiple)) * multiple


def _box_of(settings: Prepare, *, width: int, height: int) -> Box:
    if settings.fit == "stretch":
        return Box(x0_px=0.0, y0_px=0.0, x1_px=float(width), y1_px=float(height))
    wanted = settings.width_px / settings.height_px
    wider = width / height > wanted
    keeps_width = wider == (settings.fit == "pad")
    across, down = (width, width / wanted) if keeps_width else (height * wanted, height)
    # Whole pixels: an odd one is left over at the right or the bottom.
    x0, y0 = math.floor((width - across) / 2), math.floor((height - down) / 2)
    if settings.fit == "pad":
        x0, y0 = -math.floor((across - width) / 2), -math.floor((down - height) / 2)
    return Box(x0_px=float(x0), y0_px=float(y0), x1_px=x0 + across, y1_px=y0 + down)


def crops_for(
    regions: Sequence[Region], *, width_px: int, height_px: int, margin: float
) -> tuple[Crop, ...]:
    """One crop per region, in the order given; without regions one crop of the whole view.

    Args:
        regions: the inspection's regions; empty means the whole picture (``region`` is "").
        width_px: of the reference view (of the picture, where there is no view).
        height_px: likewise.
        margin: share of the box's own size added on each side; the crop may reach over the edge of
            the view, which keeps the region's place in its crop the same for every region.
    """
    if not regions:
        whole = Box(x0_px=0.0, y0_px=0.0, x1_px=float(width_px), y1_px=float(height_px))
        return (Crop(region="", box_px=whole),)
    return tuple(
        Crop(region=each.id, box_px=_widened(each.box_px, margin), region_px=each.box_px)
        for each in regions
    )


def _widened(box: Box, margin: float) -> Box:
    across = margin * (box.x1_px - box.x0_px)
    down = margin * (box.y1_px - box.y0_px)
    return Box(
        x0_px=box.x0_px - across,
        y0_px=box.y0_px - down,
        x1_px=box.x1_px + across,
        y1_px=box.y1_px + down,
    )


def crop_matrix(box: Box, *, width_px: int, height_px: int) -> Matrix:
    """Maps pixel centres of a crop resized to that size to pixel centres of the view."""
    across = (box.x1_px - box.x0_px) / width_px
    down = (box.y1_px - box.y0_px) / height_px
    return np.array(
        [
            [across, 0.0, box.x0_px + across / 2 - 0.5],
            [0.0, down, box.y0_px + down / 2 - 0.5],
        ]
    )


def prepare(
    image: NDArray[np.uint8], settings: Prepare, *, matrix: Matrix | None = None
) -> NDArray[np.float32]:
    """Cut, warp and normalise.

    Args:
        image: (height, width, 3) uint8 RGB, any size.
        settings: from the manifest.
        matrix: (2, 3), reference px → picture px, from the ``Registrar``; None where the
            inspection has no view, or the picture is the reference view itself.

    Returns:
        (regions, 3, height_px, width_px) float32.
    """
    pixels = cut(image, settings, matrix=matrix)
    return normalise(levelled(pixels, settings), settings)


def levelled(pixels: NDArray[np.uint8], settings: Prepare) -> NDArray[np.uint8]:
    """(n, h, w, 3) uint8 brought to the settings' mean, each crop by one gain; else as it is."""
    if settings.level <= 0:
        return pixels
    return np.stack([_with_mean(crop, settings.level) for crop in pixels])


def _with_mean(crop: NDArray[np.uint8], level: float) -> NDArray[np.uint8]:
    import cv2

    gain = min(max(level / max(float(crop.mean()), 1.0), 1 / _MOST_GAIN), _MOST_GAIN)
    table = np.clip(np.arange(256) * gain, 0, 255).round().astype(np.uint8)
    return np.asarray(cv2.LUT(crop, table), np.uint8)


def cut(
    image: NDArray[np.uint8], settings: Prepare, *, matrix: Matrix | None = None
) -> NDArray[np.uint8]:
    """The crops as pixels, (regions, height_px, width_px, 3) uint8 RGB, before normalisation."""
    import cv2

    settings = fitted(settings, width_px=image.shape[1], height_px=image.shape[0])
    width, height = settings.width_px, settings.height_px
    batch = np.empty((len(settings.crops), height, width, 3), np.uint8)
    samples = [_samples(crop.box_px, settings) for crop in settings.crops]
    sampled_px = sum(map(math.prod, samples)) * width * height
    if sampled_px > _WIDENED_ABOVE * image.shape[0] * image.shape[1]:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), np.uint8)
    matrices = _crop_matrices(settings, samples)
    if matrix is not None:
        matrices = matrix[:, :2] @ matrices
        matrices[:, :, 2] += matrix[:, 2]
    for to_picture, (across, down), out in zip(matrices, samples, batch, strict=True):
        fine = cv2.warpAffine(
            image,
            to_picture,
            (width * across, height * down),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE if settings.border == "edge" else cv2.BORDER_CONSTANT,
        )
        if (across, down) != (1, 1):
            fine = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
        if fine.shape[2] == 3:
            out[...] = fine
        else:
            cv2.cvtColor(fine, cv2.COLOR_RGBA2RGB, dst=out)
    return batch


def normalise(pixels: NDArray[np.uint8], settings: Prepare) -> NDArray[np.float32]:
    """(n, h, w, 3) uint8 → (n, 3, h, w) float32, (value - mean) / scale."""
    number, height, width, channels = pixels.shape
    planes = np.empty((number, channels, height, width), np.float32)
    np.subtract(
        pixels.transpose(0, 3, 1, 2), np.float32(settings.mean), out=planes, dtype=np.float32
    )
    planes *= np.float32(1.0 / settings.scale)
    return planes


def with_template(crops: NDArray[np.float32], template: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, 3, h, w) prepared picture and template → (n, 9, h, w): both, and their difference."""
    return np.concatenate([crops, template, crops - template], axis=1)


def _samples(box: Box, settings: Prepare) -> tuple[int, int]:
    """Samples per output pixel across and down."""
    return (
        _samples_along(box.x1_px - box.x0_px, settings.width_px),
        _samples_along(box.y1_px - box.y0_px, settings.height_px),
    )


def _samples_along(length_px: float, out_px: int) -> int:
    """1 up to a quarter above the output's size, then enough to touch each pixel."""
    return min(_MOST_SAMPLES, max(1, math.ceil(length_px / out_px - 0.25)))


def _crop_matrices(settings: Prepare, samples: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """``crop_matrix`` of every crop at its number of samples, (crops, 2, 3), in one go."""
    boxes = [crop.box_px for crop in settings.crops]
    low = np.array([(box.x0_px, box.y0_px) for box in boxes])
    high = np.array([(box.x1_px, box.y1_px) for box in boxes])
    step = (high - low) / (np.array(samples) * (settings.width_px, settings.height_px))
    matrices = np.zeros((len(boxes), 2, 3))
    matrices[:, 0, 0], matrices[:, 1, 1] = step[:, 0], step[:, 1]
    matrices[:, :, 2] = low + step / 2 - 0.5
    return matrices


def activation_on_picture(
    grid: NDArray[np.float32],
    crop: Crop,
    *,
    width_px: int,
    height_px: int,
    matrix: Matrix | None = None,
) -> NDArray[np.float32]:
    """Lay a network's map of one crop back onto the picture the crop was cut from.

    Args:
        grid: (rows, columns) float, evenly spread over the crop.
        crop: where it was cut on the view.
        width_px: of the picture.
        height_px: of the picture.
        matrix: reference px → picture px, as ``prepare`` got it.

    Returns:
        (height_px, width_px) float32, bilinear; 0 outside the crop.
    """
    import cv2

    rows, columns = grid.shape
    to_view = crop_matrix(crop.box_px, width_px=columns, height_px=rows)
    to_picture = to_view if matrix is None else compose(matrix, to_view)
    back = invert(to_picture)
    # Beyond the outer cells' centres the map repeats them up to the crop's own edge.
    warped = cv2.warpAffine(
        np.asarray(grid, np.float32),
        back,
        (width_px, height_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    across, down = np.meshgrid(np.arange(width_px), np.arange(height_px))
    column = back[0, 0] * across + back[0, 1] * down + back[0, 2]
    row = back[1, 0] * across + back[1, 1] * down + back[1, 2]
    inside = (column >= -0.5) & (column <= columns - 0.5) & (row >= -0.5) & (row <= rows - 0.5)
    return np.asarray(warped * inside, np.float32)
