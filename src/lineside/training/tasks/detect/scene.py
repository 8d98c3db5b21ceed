"""Training pictures as a network sees them, with the objects on them in network pixels.

1. Every picture is scaled by one ``zoom``, by the function devices use, so that the median object
   is about as large as the network resolves best, the large ones of every label fit into a crop,
   and the small ones are not lost.
2. A point has no size. It takes the median of the boxes of its label, else of all boxes, else a
   size that follows from how near the points of its label lie to others. It teaches that size
   where no object of its label has a box: a network that is taught none gives sizes at random.

Crops to learn from: near objects more often than not, turned, mirrored, scaled, lit anew:

1. A share of crops holds a chosen object whole, the label drawn first, so that rare labels are
   seen; the rest lie anywhere.
2. An object belongs to a crop when its centre lies inside. One that the crop cuts teaches no size.
3. What lies outside the picture repeats its edge, as on a device.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.core import Box, InvalidError
from lineside.datasets import Marked, Sample
from lineside.training.common.cache import MemoryCache
from lineside.training.tasks.contract import Work
from lineside.vision import Crop, Prepare, picture_size
from lineside.vision.prepare import cut

OBJECT_PX = 28.0
"""Side of the median object on the network's input."""

CROP_PX = 128
"""Side of the crops that are learned from: less where the pictures are smaller."""

LARGE_CROP_PX = 192
"""Their side where objects are so large that the usual one would cut most of them."""

_LEAST_OBJECT_PX = 10.0
_MOST_OBJECT_PX = 160.0  # of the longer side; an object that no crop shows whole is never found
_MOST_ZOOM = 4.0
_MOST_PIXEL_BYTES = 1_000_000_000
_NOMINAL_SHARE = 0.05  # of the picture's side, where not even two points tell a distance
_LEAST_DISTANCES = 10  # below it, those of all labels tell more

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """Objects of one picture in network pixels.

    Attributes:
        boxes_px: (n, 4) float64.
        label: (n,) places in the labels.
        sized: (n,) whether the size was marked.
        teaches_size: (n,) whether it was, or no object of that label has a marked size.
        size_px: (width, height) of the picture itself, without what fills it up.
    """

    sample: Sample
    boxes_px: Floats
    label: NDArray[np.intp]
    sized: NDArray[np.bool_]
    teaches_size: NDArray[np.bool_]
    size_px: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Scale by which marks of a data set become boxes.

    Attributes:
        zoom: network pixels per picture pixel.
        nominal_px: (width, height) in picture pixels of a point's object, by label.
        boxed: labels of which an object is marked with a box.
        too_large: labels of which one object in ten, or more, fits into no crop at this zoom, which
            the smallest objects need.
    """

    zoom: float
    nominal_px: Mapping[str, tuple[float, float]]
    boxed: frozenset[str]
    too_large: tuple[str, ...]


def scale_of(samples: Sequence[Sample], *, labels: Sequence[str], side_px: float) -> Scale:
    """Zoom and nominal sizes from what is marked.

    Args:
        samples: with marks.
        labels: that count.
        side_px: a usual side of the pictures, for the case that nothing else tells a size.
    """
    marks = [m for sample in samples for m in sample.marked or () if m.label in labels]
    boxes = [m for m in marks if not m.is_point]
    overall, spacing = _median_size(boxes), _spacing(samples, labels=labels, side_px=side_px)
    by_label = {
        name: _median_size([m for m in boxes if m.label == name]) or overall or spacing[name]
        for name in labels
    }
    nominal = [math.sqrt(math.prod(size)) for size in by_label.values()]
    drawn = _boxes_of(marks, nominal_px=by_label)
    sides = drawn[:, 2:] - drawn[:, :2]
    middle = float(np.median(np.sqrt(sides.prod(axis=1)) if marks else nominal))
    label = np.array([m.label for m in marks])
    fitting = min(OBJECT_PX / middle, _MOST_OBJECT_PX / largest_side(sides, label=label))
    zoom = round(min(_MOST_ZOOM, max(fitting, _LEAST_OBJECT_PX / min(nominal))), 4)
    large = {
        name for name in labels
        if largest_side(sides[label == name], label=label[label == name]) * zoom > LARGE_CROP_PX
    }  # fmt: skip
    return Scale(
        zoom=zoom,
        nominal_px=by_label,
        boxed=frozenset(m.label for m in boxes),
        too_large=tuple(sorted(large)),
    )


def largest_side(sides: Floats, *, label: NDArray[Any]) -> float:
    """The longer side that nine of ten objects do not exceed, of the label with the largest.

    Args:
        sides: (n, 2) widths and heights.
        label: (n,) of each object.

    Returns:
        Pixels; 1 without any object.
    """
    longer = (sides[label == one].max(axis=1) for one in np.unique(label))
    return max((float(np.quantile(each, 0.9)) for each in longer), default=1.0)


def _median_size(boxes: Sequence[Marked]) -> tuple[float, float] | None:
    if not boxes:
        return None
    return (
        float(np.median([m.x1_px - m.x0_px for m in boxes])),
        float(np.median([m.y1_px - m.y0_px for m in boxes])),
    )


def _spacing(
    samples: Sequence[Sample], *, labels: Sequence[str], side_px: float
) -> dict[str, tuple[float, float]]:
    """By label the distance to a nearest neighbour that nine of ten exceed: about one object."""
    nearest: dict[str, list[float]] = {name: [] for name in labels}
    for sample in samples:
        marks = [m for m in sample.marked or () if m.label in labels]
        points = np.array([m.centre_px for m in marks])
        if len(points) > 1:
            apart = np.linalg.norm(points[:, None] - points[None], axis=2)
            np.fill_diagonal(apart, np.inf)
            for mark, distance in zip(marks, apart.min(axis=1).tolist(), strict=True):
                nearest[mark.label].append(distance)
    everything = [each for own in nearest.values() for each in own] or [_NOMINAL_SHARE * side_px]
    tenth = {
        name: np.quantile(own if len(own) >= _LEAST_DISTANCES else everything, 0.1)
        for name, own in nearest.items()
    }
    return {
        name: (float(np.clip(side, 0.01 * side_px, 0.25 * side_px)),) * 2
        for name, side in tenth.items()
    }


def _boxes_of(marks: Sequence[Marked], *, nominal_px: Mapping[str, tuple[float, float]]) -> Floats:
    """(n, 4) picture pixels; of a point a box of its label's nominal size around it."""
    boxes = [(m.x0_px, m.y0_px, m.x1_px, m.y1_px) for m in marks]
    reach = [np.array(nominal_px[m.label]) / 2 * m.is_point for m in marks]
    return np.reshape(boxes, (-1, 4)) + np.reshape(reach, (-1, 2)) @ [[-1, 0, 1, 0], [0, -1, 0, 1]]


def prepare_for(scale: Scale, *, trained_px: tuple[int, int] | None = None) -> Prepare:
    """The settings of training and device; ``trained_px``: the size of every picture."""
    whole = Box(x0_px=0.0, y0_px=0.0, x1_px=float(CROP_PX), y1_px=float(CROP_PX))
    return Prepare(
        crops=(Crop(region="", box_px=whole),),
        width_px=CROP_PX,
        height_px=CROP_PX,
        fit="zoom",
        zoom=scale.zoom,
        trained_px=trained_px,
    )


def one_size(work: Work) -> tuple[int, int] | None:
    """(width, height) of the training pictures; None where they differ."""
    sizes = {picture_size(work.files(sample.digest)) for sample in work.training}
    return sizes.pop() if len(sizes) == 1 else None


def scene_of(
    sample: Sample, *, scale: Scale, labels: Sequence[str], size_px: tuple[int, int]
) -> Scene:
    """A sample's objects of these labels on a picture of ``size_px`` (width, height)."""
    marks = [m for m in sample.marked or () if m.label in labels]
    sized = np.array([not m.is_point for m in marks], np.bool_)
    return Scene(
        sample=sample,
        boxes_px=_boxes_of(marks, nominal_px=scale.nominal_px) * scale.zoom,
        label=np.array([labels.index(m.label) for m in marks], np.intp),
        sized=sized,
        teaches_size=sized | np.array([m.label not in scale.boxed for m in marks], np.bool_),
        size_px=size_px,
    )


class Scenes:
    """Pictures with their objects; pixels are kept up to a limit and read again beyond it."""

    def __init__(self, work: Work, *, scale: Scale, labels: Sequence[str], template: bool) -> None:
        self.settings = prepare_for(scale, trained_px=one_size(work))
        self.labels = tuple(labels)
        self.template = template
        self._scale = scale
        self._work = work
        self._shown = MemoryCache[Image](most_bytes=_MOST_PIXEL_BYTES)

    def scene(self, sample: Sample) -> Scene:
        """A sample's objects; reads its picture the first time."""
        height, width = self.pixels(sample).shape[:2]
        return scene_of(sample, scale=self._scale, labels=self.labels, size_px=(width, height))

    def pixels(self, sample: Sample) -> Image:
        """(h, w, 3) uint8 at the network's scale, (h, w, 6) beside its template."""
        return self._shown.get(sample.digest, lambda: self._read(sample))

    def _read(self, sample: Sample) -> Image:
        image = self._work.picture(sample)
        height, width = image.shape[:2]
        shown = [image]
        if self.template:
            shown.append(template_of(self._work, sample, image=image))
        layers = [cut(each, self.settings)[0] for each in shown]
        # What fills the input up to a multiple is no picture.
        down = max(1, min(layers[0].shape[0], math.ceil(height * self._scale.zoom)))
        across = max(1, min(layers[0].shape[1], math.ceil(width * self._scale.zoom)))
        return np.ascontiguousarray(np.concatenate(layers, axis=2)[:down, :across])


def template_of(work: Work, sample: Sample, *, image: Image) -> Image:
    """The sample's template; ``InvalidError`` where it is missing or of another size."""
    template = work.template(sample)
    if template is None or template.shape != image.shape:
        seen = "none" if template is None else f"one of {template.shape[:2]}"
        raise InvalidError(
            f"a picture of {image.shape[:2]} needs a template of its size, and there is {seen}",
            where=sample.name,
            fix="Name the template in the table, aligned and of the picture's size.",
        )
    return template


_NEAR = 0.7
_ZOOM = 1.33
_GAIN = 1.25
_CAST = 0.06


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """A crop with its objects in its own pixels.

    Attributes:
        pixels: (side, side, 3 or 6) uint8.
        boxes_px: (n, 4).
        label: (n,).
        sized: (n,) whether the box teaches a size.
    """

    pixels: Image
    boxes_px: Floats
    label: NDArray[np.intp]
    sized: NDArray[np.bool_]


def draw_piece(scene: Scene, pixels: Image, *, side_px: int, rng: np.random.Generator) -> Piece:
    """One changed crop of a picture; the same generator gives the same crop."""
    zoom = float(np.exp(rng.uniform(-1, 1) * np.log(_ZOOM)))
    side = side_px / zoom
    corner = _corner(scene, side=side, rng=rng)
    turn = int(rng.integers(8))
    window = _window(pixels, corner=corner, side=side, side_px=side_px)
    boxes = (scene.boxes_px - np.tile(corner, 2)) * zoom
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((centre >= 0) & (centre < side_px)).all(axis=1)
    whole = _whole(scene, corner=corner, side=side)[inside]
    turned = _turned(window, turn=turn)
    return Piece(
        pixels=_lit(turned, rng=rng),
        boxes_px=_turned_boxes(boxes[inside], turn=turn, side_px=side_px),
        label=scene.label[inside],
        sized=scene.teaches_size[inside] & whole,
    )


def _corner(scene: Scene, *, side: float, rng: np.random.Generator) -> Floats:
    """Upper left corner of the crop in the picture, network pixels."""
    size = np.array(scene.size_px, np.float64)
    reach = size - side
    anywhere = rng.uniform(0, 1, 2) * reach  # a picture smaller than the crop lies anywhere in it
    near, pick, jitter = rng.uniform(0, 1), rng.uniform(0, 1, 2), rng.uniform(0, 1, 2)
    if near >= _NEAR or not len(scene.label):
        return np.asarray(anywhere, np.float64)
    kinds = np.unique(scene.label)
    kind = kinds[int(pick[0] * len(kinds))]
    of_kind = np.flatnonzero(scene.label == kind)
    box = scene.boxes_px[of_kind[int(pick[1] * len(of_kind))]]
    spare = side - (box[2:] - box[:2])
    corner = box[:2] - jitter * spare
    low, high = np.minimum(reach, 0), np.maximum(reach, 0)
    return np.asarray(np.clip(corner, low, high), np.float64)


def _window(pixels: Image, *, corner: Floats, side: float, side_px: int) -> Image:
    import cv2

    step = side / side_px
    low, high = _near_object(pixels, corner=corner, side=side)
    pixels = pixels[low[1] : high[1], low[0] : high[0]]
    x, y = corner - low + step / 2 - 0.5
    matrix = np.array([[step, 0, x], [0, step, y]])
    layers = [pixels[..., :3], pixels[..., 3:]] if pixels.shape[2] > 3 else [pixels]
    warped = [
        cv2.warpAffine(
            np.ascontiguousarray(layer),
            matrix,
            (side_px, side_px),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for layer in layers
    ]
    return np.asarray(np.concatenate(warped, axis=2), np.uint8)


def _near_object(
    pixels: Image, *, corner: Floats, side: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The part of a picture that a crop looks at, a little more on each side."""
    size = np.array(pixels.shape[1::-1])
    low = np.clip(np.floor(corner).astype(np.intp) - 2, 0, size - 1)
    high = np.clip(np.ceil(corner + side).astype(np.intp) + 2, low + 1, size)
    return low, high


def _whole(scene: Scene, *, corner: Floats, side: float) -> NDArray[np.bool_]:
    """Boxes that the crop does not cut; the picture's own edge cuts as it will on a device."""
    low = np.maximum(corner, 0)
    high = np.minimum(corner + side, scene.size_px)
    clipped = np.clip(scene.boxes_px, 0, np.tile(scene.size_px, 2))
    inside = (clipped[:, :2] >= low - 1) & (clipped[:, 2:] <= high + 1)
    return np.asarray(inside.all(axis=1), np.bool_)


def _turned(pixels: Image, *, turn: int) -> Image:
    if turn & 1:
        pixels = pixels[:, ::-1]
    if turn & 2:
        pixels = pixels[::-1]
    if turn & 4:
        pixels = pixels.transpose(1, 0, 2)
    return pixels


def _turned_boxes(boxes: Floats, *, turn: int, side_px: int) -> Floats:
    x0, y0, x1, y1 = boxes.T
    if turn & 1:
        x0, x1 = side_px - x1, side_px - x0
    if turn & 2:
        y0, y1 = side_px - y1, side_px - y0
    if turn & 4:
        x0, y0, x1, y1 = y0, x0, y1, x1
    return np.stack([x0, y0, x1, y1], axis=1)


def _lit(pixels: Image, *, rng: np.random.Generator) -> Image:
    """Other light, the same for a picture and its template: a gain and a cast per channel."""
    gain = np.exp(rng.uniform(-1, 1) * np.log(_GAIN)) * rng.uniform(1 - _CAST, 1 + _CAST, 3)
    offset = rng.uniform(-10, 10)
    table = np.clip(np.arange(256)[:, None] * gain + offset, 0, 255).astype(np.uint8)
    layers = [table[pixels[..., each], each % 3] for each in range(pixels.shape[2])]
    return np.stack(layers, axis=-1)


def whole_piece(scene: Scene, pixels: Image, *, multiple: int) -> Piece:
    """The picture as it is, filled up to a multiple of pixels."""
    down, across = (-pixels.shape[0]) % multiple, (-pixels.shape[1]) % multiple
    return Piece(
        pixels=np.pad(pixels, ((0, down), (0, across), (0, 0)), mode="edge"),
        boxes_px=scene.boxes_px,
        label=scene.label,
        sized=scene.teaches_size,
    )
