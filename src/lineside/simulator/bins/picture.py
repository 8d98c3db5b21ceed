"""What the camera sees of a bin: walls, goods one before the other, bands across, light, noise."""

import numpy as np
from numpy.typing import NDArray

from lineside.simulator.bins.goods import Item
from lineside.simulator.bins.paint import Patch, patch_of
from lineside.simulator.bins.store import View

_FLOOR_BACK, _FLOOR_FRONT = 0.72, 0.95
_QUALITIES = (72, 93)
_MOST_BANDS = 4

Image = NDArray[np.uint8]
Canvas = NDArray[np.float32]


def picture_of(view: View) -> Image:
    """(height, width, 3) uint8 RGB; of one bin always the same size."""
    place = np.random.default_rng(view.bin.seed)
    light = np.random.default_rng(view.seed)
    width_px = int(place.integers(260, 420))
    height_px = int(width_px * place.uniform(0.82, 1.08))
    canvas = _walls(place, width_px=width_px, height_px=height_px)
    for item in sorted(view.bin.items, key=lambda one: one.depth):
        _lay(canvas, item)
    _bands(canvas, place)
    return _exposed(canvas, light)


def encoded(view: View) -> bytes:
    """The picture as JPEG, of the view's own quality."""
    from lineside.vision import encode_jpeg

    quality = int(np.random.default_rng([view.seed, 2]).integers(*_QUALITIES))
    return encode_jpeg(picture_of(view), quality=quality)


def _walls(rng: np.random.Generator, *, width_px: int, height_px: int) -> Canvas:
    """Back wall of woven cloth, side walls and floor."""
    import cv2

    grey = rng.uniform(105, 175)
    tint = rng.normal(0, 9, 3)
    canvas = np.empty((height_px, width_px, 3), np.float32)
    canvas[:] = grey + tint
    weave = rng.normal(0, 5, (height_px // 3 + 1, width_px // 3 + 1, 1)).astype(np.float32)
    canvas += cv2.resize(weave, (width_px, height_px))[..., None]
    floor = int(height_px * _FLOOR_BACK)
    depth = np.linspace(0.72, 1.05, height_px - floor, dtype=np.float32)
    canvas[floor:] *= depth[:, None, None]
    wall = max(3, int(width_px * rng.uniform(0.015, 0.04)))
    canvas[:, :wall] *= 0.6
    canvas[:, -wall:] *= 0.7
    canvas[: max(2, wall // 2)] *= 0.55
    return canvas


def _lay(canvas: Canvas, item: Item) -> None:
    """One item on the floor at its depth, with the shadow it throws."""
    height, width = canvas.shape[:2]
    nearer = 0.88 + 0.12 * item.depth
    wide = max(6, int(item.product.width * width * nearer))
    high = max(6, int(item.product.height * height * nearer))
    patch = _turned(patch_of(item.product, width_px=wide, height_px=high), item.turn_deg)
    foot = height * (_FLOOR_BACK + (_FLOOR_FRONT - _FLOOR_BACK) * item.depth)
    top = int(foot - (patch.shape[0] + high) / 2)
    left = int(item.x * width - patch.shape[1] / 2)
    _shadow(canvas, middle=(int(item.x * width), int(foot)), half=wide // 2)
    _over(canvas, patch, top=top, left=left)


def _turned(patch: Patch, turn_deg: float) -> Patch:
    """The patch turned about its middle, on a canvas that holds all of it."""
    import cv2

    height, width = patch.shape[:2]
    angle = abs(np.deg2rad(turn_deg))
    wide = int(width * np.cos(angle) + height * np.sin(angle)) + 3
    high = int(height * np.cos(angle) + width * np.sin(angle)) + 3
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn_deg, 1.0)
    matrix[:, 2] += ((wide - width) / 2, (high - height) / 2)
    turned = cv2.warpAffine(patch, matrix, (wide, high), flags=cv2.INTER_LINEAR)
    return np.asarray(turned, np.uint8)


def _over(canvas: Canvas, patch: Patch, *, top: int, left: int) -> None:
    height, width = canvas.shape[:2]
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(height, top + patch.shape[0]), min(width, left + patch.shape[1])
    if y0 >= y1 or x0 >= x1:
        return
    piece = patch[y0 - top : y1 - top, x0 - left : x1 - left]
    alpha = piece[..., 3:].astype(np.float32) / 255
    under = canvas[y0:y1, x0:x1]
    under += alpha * (piece[..., :3] - under)


def _shadow(canvas: Canvas, *, middle: tuple[int, int], half: int) -> None:
    import cv2

    height, width = canvas.shape[:2]
    low = max(2, half // 4)
    y0, y1 = max(0, middle[1] - low), min(height, middle[1] + low)
    x0, x1 = max(0, middle[0] - half), min(width, middle[0] + int(1.5 * half))
    if y0 < y1 and x0 < x1:
        dark = np.ones((y1 - y0, x1 - x0), np.float32)
        centre = (middle[0] + half // 4 - x0, middle[1] - y0)
        cv2.ellipse(dark, centre, (int(1.1 * half), low), 0, 0, 360, 0.62, -1, cv2.LINE_AA)
        canvas[y0:y1, x0:x1] *= cv2.blur(dark, (5, 3))[..., None]


def _bands(canvas: Canvas, rng: np.random.Generator) -> None:
    """Elastic bands before the bin, half transparent, never in the same place twice."""
    import cv2

    height, width = canvas.shape[:2]
    for _ in range(int(rng.integers(1, _MOST_BANDS + 1))):
        cover = np.zeros((height, width), np.float32)
        ends = rng.uniform(-0.1, 1.1, 2)
        if rng.random() < 0.6:
            start, stop = (int(ends[0] * width), 0), (int(ends[1] * width), height)
        else:
            start, stop = (0, int(ends[0] * height)), (width, int(ends[1] * height))
        thick = max(3, int(width * rng.uniform(0.02, 0.06)))
        cv2.line(cover, start, stop, float(rng.uniform(0.35, 0.75)), thick, cv2.LINE_AA)
        colour = rng.uniform(150, 235) + rng.normal(0, 8, 3)
        canvas += cover[..., None] * (colour.astype(np.float32) - canvas)


def _exposed(canvas: Canvas, rng: np.random.Generator) -> Image:
    """The light of the moment, the lens, and the sensor's noise."""
    import cv2

    height, width = canvas.shape[:2]
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    slope = rng.uniform(-0.22, 0.22, 2)
    fall = 1 - rng.uniform(0, 0.25) * (across**2 + down**2) / 2
    gain = rng.uniform(0.6, 1.2) * (1 + slope[0] * across + slope[1] * down) * fall
    seen = canvas * gain[..., None] * (1 + rng.normal(0, 0.03, 3)).astype(np.float32)
    if rng.random() < 0.4:
        seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.4, 1.1)), np.float32)
    noise = rng.standard_normal((height, width, 1), np.float32) * rng.uniform(1.5, 5)
    return np.asarray(np.clip(seen + noise, 12, 250), np.uint8)
