"""What may happen to a picture on the line: other light, a small move, blur, compression.

Applied after the split, to training pictures only. The picture is changed as a whole, before it is
cut; a move is put into the transform, in the size of a registration's own error, so that nothing is
resampled twice.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import Box, Digest
from lineside.vision import (
    Crop,
    Matrix,
    about,
    compose,
    decode_picture,
    encode_jpeg,
    similarity,
)

_MOVE_SHARE = 0.06
_TURN_DEG = 1.0
_GROW = 0.03
_BLUR_PX = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Variant:
    """A changed picture and its transform from the reference view."""

    image: NDArray[np.uint8]
    matrix: Matrix


def picture_seed(seed: int, digest: Digest) -> int:
    """A seed of job and picture, so that a picture's variants do not depend on the others."""
    return seed * 2**64 + int(digest.removeprefix("sha256:")[:16], 16)


def augment(
    image: NDArray[np.uint8], matrix: Matrix, *, crops: tuple[Crop, ...], rng: np.random.Generator
) -> Variant:
    """One changed copy of an (height, width, 3) uint8 RGB picture."""
    changed = _light(image, rng)
    if rng.random() < 0.5:
        changed = _blur(changed, rng)
    if rng.random() < 0.5:
        changed = decode_picture(encode_jpeg(changed, quality=int(rng.integers(40, 91))))
    return Variant(image=changed, matrix=_move(matrix, crops, rng=rng))


def _light(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Gain 0.7-1.3, a colour cast of a tenth, gamma and an offset, as one table per channel."""
    gain = rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3)
    gamma, offset = rng.uniform(0.8, 1.25), rng.uniform(-12.0, 12.0)
    values = (np.arange(256) / 255.0) ** gamma * 255.0
    table = np.clip(values[:, None] * gain + offset, 0, 255).astype(np.uint8)
    return np.stack([table[image[..., channel], channel] for channel in range(3)], axis=-1)


def _blur(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    import cv2

    return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, _BLUR_PX)), np.uint8)


def _move(matrix: Matrix, crops: tuple[Crop, ...], *, rng: np.random.Generator) -> Matrix:
    """Shift by up to 6 % of a crop's shorter side, turn by a degree, grow by 3 %."""
    boxes = [crop.box_px for crop in crops]
    reach = _MOVE_SHARE * min(min(_size(box)) for box in boxes)
    across, down = (float(np.mean([middle[i] for middle in map(_middle, boxes)])) for i in (0, 1))
    turn = similarity(
        scale=1 + rng.uniform(-_GROW, _GROW), rotation_deg=rng.uniform(-_TURN_DEG, _TURN_DEG)
    )
    shift = similarity(dx_px=rng.uniform(-reach, reach), dy_px=rng.uniform(-reach, reach))
    return compose(matrix, compose(shift, about((across, down), turn)))


def _size(box: Box) -> tuple[float, float]:
    return box.x1_px - box.x0_px, box.y1_px - box.y0_px


def _middle(box: Box) -> tuple[float, float]:
    return (box.x0_px + box.x1_px) / 2, (box.y0_px + box.y1_px) / 2
