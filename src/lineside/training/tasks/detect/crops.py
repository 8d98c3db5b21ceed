"""Crops to learn from: near objects more often than not, turned, mirrored, scaled, lit anew.

1. A share of crops holds a chosen object whole, the label drawn first, so that rare labels are
   seen; the rest lie anywhere.
2. An object belongs to a crop when its centre lies inside. One that the crop cuts teaches no size.
3. What lies outside the picture repeats its edge, as on a device.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.training.tasks.detect.scene import Scene

_NEAR = 0.7
_ZOOM = 1.33
_GAIN = 1.25
_CAST = 0.06

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]


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
        sized=scene.sized[inside] & whole,
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
    low, high = _around(pixels, corner=corner, side=side)
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


def _around(
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
        sized=scene.sized,
    )
