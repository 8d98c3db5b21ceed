"""Pictures made from numbers, for tests that need to know what they show."""

import numpy as np
from numpy.typing import NDArray

from lineside.vision import Matrix
from lineside.vision.geometry import similarity


def rack(*, width: int = 320, height: int = 240, seed: int = 0) -> NDArray[np.uint8]:
    """Rectangles of many greys and colours on a soft ramp: corners everywhere."""
    import cv2

    rng = np.random.default_rng(seed)
    ramp = np.linspace(60, 150, width, dtype=np.float32)[None, :, None]
    image = np.broadcast_to(ramp, (height, width, 3)).astype(np.uint8).copy()
    for _ in range(width * height // 700):
        x, y = int(rng.integers(-10, width)), int(rng.integers(-10, height))
        w, h = int(rng.integers(5, 40)), int(rng.integers(5, 30))
        colour = tuple(int(value) for value in rng.integers(10, 240, 3))
        cv2.rectangle(image, (x, y), (x + w, y + h), colour, thickness=-1)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.8), np.uint8)


def moved(image: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    """The picture a camera takes when the view's points go where ``matrix`` says."""
    import cv2

    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REFLECT), np.uint8)


def shifted(image: NDArray[np.uint8], *, dx_px: float, dy_px: float) -> NDArray[np.uint8]:
    """The picture after the camera slid: the view's points lie that much further right and down."""
    return moved(image, similarity(dx_px=dx_px, dy_px=dy_px))


def lit(image: NDArray[np.uint8], *, gain: float) -> NDArray[np.uint8]:
    """The picture under more or less light."""
    return np.asarray(np.clip(image * gain, 0, 255), np.uint8)
