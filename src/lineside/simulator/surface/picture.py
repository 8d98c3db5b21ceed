"""What the camera sees of a part: belt, plate, light; and the mask of what is wrong with it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.simulator.surface.faults import mar
from lineside.simulator.surface.parts import Part
from lineside.simulator.surface.plate import (
    HEIGHT_PX,
    WIDTH_PX,
    Floats,
    brushed,
    outline,
    with_edges,
)

VIEW_WIDTH_PX, VIEW_HEIGHT_PX = 320, 240
_FINER = 2  # drawn at twice the size, so that thin lines have no steps
_QUALITY = 90
_METAL_TINT = (0.985, 1.0, 1.02)

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """A picture and its truth.

    Attributes:
        picture: (240, 320, 3) uint8 RGB.
        mask: (240, 320) uint8, 255 where something is wrong, 0 elsewhere.
    """

    picture: Image
    mask: Image


def seen(part: Part) -> Seen:
    """Render a part; the same part gives the same pixels."""
    import cv2

    rng = np.random.default_rng(part.seed)
    metal, wrong = _plate(part, rng=rng)
    canvas = _belt(part, rng=rng)
    place = _placed(part)
    size = (VIEW_WIDTH_PX * _FINER, VIEW_HEIGHT_PX * _FINER)
    alpha = cv2.warpAffine(outline(), place, size, flags=cv2.INTER_LINEAR)[..., None]
    canvas *= (
        1 - 0.55 * cv2.GaussianBlur(np.roll(alpha[..., 0], (9, 6), (0, 1)), (0, 0), 7)[..., None]
    )
    canvas += alpha * (cv2.warpAffine(metal, place, size, flags=cv2.INTER_LINEAR) - canvas)
    covered = cv2.warpAffine(wrong, place, size, flags=cv2.INTER_LINEAR) * alpha[..., 0]
    view = (VIEW_WIDTH_PX, VIEW_HEIGHT_PX)
    small = cv2.resize(canvas, view, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(covered, view, interpolation=cv2.INTER_AREA) > 0.5
    return Seen(
        picture=_exposed(np.asarray(small, np.float32), part, rng=rng),
        mask=np.where(mask, 255, 0).astype(np.uint8),
    )


def encoded(picture: Image) -> bytes:
    """As JPEG, the same for the same pixels."""
    from lineside.vision import encode_jpeg

    return encode_jpeg(picture, quality=_QUALITY)


def _plate(part: Part, *, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """The plate in colour, and where something is wrong with it."""
    grey = brushed(rng)
    metal = np.asarray(grey[..., None] * np.array(_METAL_TINT, np.float32), np.float32)
    wrong = np.zeros((HEIGHT_PX, WIDTH_PX), np.float32)
    for fault in part.faults:
        np.maximum(wrong, mar(metal, fault), out=wrong)
    edged = with_edges(grey, rng=rng)
    metal += (edged - grey)[..., None]
    return metal, wrong


def _placed(part: Part) -> NDArray[np.float64]:
    """From the plate's pixels to the view's, drawn finer."""
    import cv2

    matrix = cv2.getRotationMatrix2D((WIDTH_PX / 2, HEIGHT_PX / 2), part.turn_deg, 1.0)
    matrix[0, 2] += (VIEW_WIDTH_PX * _FINER - WIDTH_PX) / 2 + part.shift_x_px * _FINER
    matrix[1, 2] += (VIEW_HEIGHT_PX * _FINER - HEIGHT_PX) / 2 + part.shift_y_px * _FINER
    return np.asarray(matrix, np.float64)


def _belt(part: Part, *, rng: np.random.Generator) -> Floats:
    """Dark rubber with ribs across, which stand elsewhere at every part, and two guide rails."""
    import cv2

    height, width = VIEW_HEIGHT_PX * _FINER, VIEW_WIDTH_PX * _FINER
    rough = rng.standard_normal((height // 2, width // 2), np.float32)
    belt = 38 + 5 * cv2.resize(rough, (width, height), interpolation=cv2.INTER_LINEAR)
    run = np.arange(width, dtype=np.float32) + 2 * part.shift_x_px + 137 * part.number
    belt += (7 * (run % 48 < 7) - 5 * (run % 48 < 2))[None, :]
    for y in (14, height - 15):
        belt[y - 8 : y + 8] = 74 + 26 * np.cos(np.linspace(-2, 2, 16, dtype=np.float32))[:, None]
    return np.repeat(np.asarray(belt, np.float32)[..., None], 3, axis=2)


def _exposed(canvas: Floats, part: Part, *, rng: np.random.Generator) -> Image:
    """The lamp's slope and fall, the exposure of the moment, the sensor's noise."""
    across = np.linspace(-1, 1, VIEW_WIDTH_PX, dtype=np.float32)[None, :]
    down = np.linspace(-1, 1, VIEW_HEIGHT_PX, dtype=np.float32)[:, None]
    slope = float(rng.uniform(-0.12, 0.12))
    gain = part.exposure * (1 + slope * across - 0.05 * down) * (1 - 0.09 * (across**2 + down**2))
    noise = rng.standard_normal(canvas.shape, np.float32) * 2.2
    return np.asarray(np.clip(canvas * gain[..., None] + noise, 0, 255), np.uint8)
