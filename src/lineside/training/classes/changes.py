"""Training pictures with small changes: mirrored where that changes no class, moved, lit otherwise.

1. Everything is drawn from a generator that is handed in; the same draw gives the same pixels.
2. Mirroring is used only where a head that never saw mirrored pictures answers them as well as it
   answers the pictures themselves: then the classes do not hang on the side.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_MOVE_SHARE = 0.06
_GROW = 0.1
_TURN_DEG = 5.0
_GAIN = (0.85, 1.15)
_OFFSET = 12.0
_LEAST_LOSS = 0.02


def _across(image: Image) -> Image:
    return image[:, ::-1]


def _down(image: Image) -> Image:
    return image[::-1]


def _over(image: Image) -> Image:
    return image.transpose(1, 0, 2)


MIRRORS: Mapping[str, Callable[[Image], Image]] = {"across": _across, "down": _down, "over": _over}
"""By name; ``over`` swaps rows and columns and needs a square input."""


def harmless(right: int, right_mirrored: int, *, pictures: int) -> bool:
    """Whether mirrored pictures are answered as well: two percent or a standard error less."""
    if not pictures:
        return False
    share = right / pictures
    room = max(_LEAST_LOSS, float(np.sqrt(max(share * (1 - share), 1 / pictures) / pictures)))
    return right_mirrored / pictures >= share - room


def changed(image: Image, *, mirrors: tuple[str, ...], rng: np.random.Generator) -> Image:
    """One changed copy of an (h, w, 3) uint8 RGB input."""
    import cv2

    for name in mirrors:
        if rng.random() < 0.5:
            image = MIRRORS[name](image)
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(
        (width / 2, height / 2), rng.uniform(-_TURN_DEG, _TURN_DEG), 1 + rng.uniform(-_GROW, _GROW)
    )
    across, down = rng.uniform(-_MOVE_SHARE, _MOVE_SHARE, 2).tolist()
    shift = np.array([[0.0, 0.0, across * width], [0.0, 0.0, down * height]])
    moved = cv2.warpAffine(
        np.ascontiguousarray(image),
        matrix + shift,
        (width, height),
        borderMode=cv2.BORDER_REFLECT_101,
    )
    gain, offset = rng.uniform(*_GAIN), rng.uniform(-_OFFSET, _OFFSET)
    table = np.clip((np.arange(256) - 127.0) * gain + 127.0 + offset, 0, 255).astype(np.uint8)
    return np.asarray(table[moved], np.uint8)
