"""By which light the scene is seen: three lightings of about the same mean grey.

``dark``: strong light from behind, hazy and violet, low contrast. ``light``: the room's lamps,
green-yellow cast, better contrast. ``neutral``: daylight from the front.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Lighting = Literal["dark", "light", "neutral"]
_Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """Factors per channel: on surfaces, of what shines, and of the veil over the picture.

    ``veil`` is the share of light scattered in the lens; ``gamma`` below 1 lifts the shadows.
    """

    surface: _Triple
    window: _Triple
    veil: float
    floor: _Triple
    gamma: float


LIGHTS: dict[Lighting, Light] = {
    "dark": Light(
        surface=(0.96, 0.88, 1.00), window=(262, 260, 268), veil=0.19, floor=(10, 8, 14), gamma=0.93
    ),
    "light": Light(
        surface=(1.22, 1.20, 0.90), window=(240, 258, 238), veil=0.07, floor=(6, 9, 3), gamma=0.92
    ),
    "neutral": Light(
        surface=(1.12, 1.12, 1.08), window=(250, 252, 252), veil=0.09, floor=(6, 7, 8), gamma=0.92
    ),
}


def veil_of(pixels: NDArray[np.uint8], *, lighting: Lighting) -> NDArray[np.float32]:
    """What the lens scatters over the whole canvas, from the empty scene; (h, w, 3) float32."""
    import cv2

    light = LIGHTS[lighting]
    shine = pixels[..., 3:].astype(np.float32) / 255 * np.asarray(light.window, np.float32)
    small = cv2.resize(shine, None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA)
    wide = cv2.GaussianBlur(small, (0, 0), 7) * light.veil + np.asarray(light.floor, np.float32)
    height, width = pixels.shape[:2]
    return np.asarray(cv2.resize(wide, (width, height)), dtype=np.float32)


def lit(
    pixels: NDArray[np.uint8], *, veil: NDArray[np.float32], lighting: Lighting
) -> NDArray[np.uint8]:
    """Surfaces (h, w, 4) as the camera sees them by this light: (h, w, 3) uint8 RGB."""
    light = LIGHTS[lighting]
    shine = pixels[..., 3:].astype(np.float32) / 255
    surface = pixels[..., :3] * np.asarray(light.surface, np.float32)
    seen = surface * (1 - shine) + shine * np.asarray(light.window, np.float32)
    seen = seen * (1 - light.veil) + veil
    level = np.clip(seen / 255, 0, 1) ** light.gamma
    return (255 * level * (1.12 - 0.12 * (1 - level) ** 2 - 0.12 * level)).astype(np.uint8)
