"""How a product looks from the front: a patch of colour with its outline as alpha."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lineside.simulator.bins.goods import Colour, Kind, Product

Floats = NDArray[np.float32]
Patch = NDArray[np.uint8]


def patch_of(product: Product, *, width_px: int, height_px: int) -> Patch:
    """(height, width, 4) uint8: red, green, blue, and alpha 0 outside the outline."""
    rng = np.random.default_rng(product.seed)
    surface = _pattern(product, rng, width_px=width_px, height_px=height_px)
    across, down = np.meshgrid(
        np.linspace(-1, 1, width_px, dtype=np.float32),
        np.linspace(-1, 1, height_px, dtype=np.float32),
    )
    shade, alpha = _SHAPES[product.kind](across, down)
    _with_label(product, surface, rng=rng)
    patch = np.empty((height_px, width_px, 4), np.uint8)
    patch[..., :3] = np.clip(surface * shade[..., None], 0, 255)
    patch[..., 3] = np.clip(alpha, 0, 1) * 255
    return patch


def _pattern(
    product: Product, rng: np.random.Generator, *, width_px: int, height_px: int
) -> Floats:
    base = np.empty((height_px, width_px, 3), np.float32)
    base[:] = product.colour
    steps = int(rng.integers(3, 8))
    across = np.arange(width_px, dtype=np.float32)[None, :] / width_px
    down = np.arange(height_px, dtype=np.float32)[:, None] / width_px
    match product.pattern:
        case "stripes":
            slant = float(rng.uniform(-1, 1))
            marks = (across + slant * down) * steps % 1 < 0.4
        case "dots":
            marks = (across * steps % 1 - 0.5) ** 2 + (down * steps % 1 - 0.5) ** 2 < 0.09
        case "checks":
            marks = (np.floor(across * steps) + np.floor(down * steps)) % 2 > 0
        case _:
            marks = np.zeros((height_px, width_px), bool)
    base[np.broadcast_to(marks, (height_px, width_px))] = product.second
    return base


def _with_label(product: Product, surface: Floats, *, rng: np.random.Generator) -> None:
    """A paper label with lines of print, on most things that are not a pattern all over."""
    import cv2

    height, width = surface.shape[:2]
    if product.pattern not in {"plain", "label"} or product.kind == "ball":
        return
    y0, y1 = int(height * rng.uniform(0.2, 0.4)), int(height * rng.uniform(0.6, 0.85))
    x0, x1 = int(width * rng.uniform(0.05, 0.2)), int(width * rng.uniform(0.75, 0.95))
    paper: Colour = product.second if product.pattern == "label" else (226, 222, 214)
    cv2.rectangle(surface, (x0, y0), (x1, y1), paper, -1)
    for line in range(int(rng.integers(1, 5))):
        y = y0 + int((line + 1) * (y1 - y0) / 6)
        right = x0 + int((x1 - x0) * rng.uniform(0.4, 0.9))
        cv2.line(surface, (x0 + 2, y), (right, y), (40, 40, 44), max(1, height // 60))


def _round(across: Floats) -> Floats:
    """Light on an upright cylinder: bright left of the middle, dark at its edges."""
    return np.asarray(1.12 - 0.75 * (across + 0.25) ** 2, np.float32)


def _edge(distance: Floats, *, soft: float = 0.03) -> Floats:
    """1 inside (distance below 1), 0 outside, over a narrow ramp."""
    return np.asarray(np.clip((1 - distance) / soft, 0, 1), np.float32)


def _carton(across: Floats, down: Floats) -> tuple[Floats, Floats]:
    """A box seen a little from the right and above."""
    side = across > 0.78
    top = down < -0.86
    shade = np.where(side, 0.62, np.where(top, 1.2, 1.0 - 0.08 * down))
    cut = (across - 0.78) / 0.22 > (down + 1) / 0.14
    alpha = np.where(side & top & cut, 0.0, 1.0)
    return np.asarray(shade, np.float32), np.asarray(alpha, np.float32)


def _bottle(across: Floats, down: Floats) -> tuple[Floats, Floats]:
    slope = np.where(down < -0.5, 0.42 + (down + 0.78) * 1.95, 0.96)
    half = np.asarray(np.where(down < -0.78, 0.42, slope), np.float32)
    cap = np.where(down < -0.8, 0.45, 1.0)
    return _round(across / half) * cap, _edge(np.asarray(np.abs(across) / half, np.float32))


def _ball(across: Floats, down: Floats) -> tuple[Floats, Floats]:
    far = across**2 + down**2
    light = (across + 0.35) ** 2 + (down + 0.4) ** 2
    return np.asarray(1.25 - 0.5 * light, np.float32), _edge(np.asarray(far, np.float32))


def _book(across: Floats, down: Floats) -> tuple[Floats, Floats]:
    bands = (np.abs(down + 0.7) < 0.04) | (np.abs(down - 0.75) < 0.04)
    shade = np.where(bands, 0.55, 1.08 - 0.35 * across**2)
    return np.asarray(shade, np.float32), np.ones_like(across)


def _pouch(across: Floats, down: Floats) -> tuple[Floats, Floats]:
    waist = 0.82 + 0.16 * np.sin((down + 1) * 1.5)
    folds = 0.1 * np.sin(9 * across + 3 * down) + 0.06 * np.sin(17 * down - 5 * across)
    seal = np.where(np.abs(down) > 0.88, 0.8, 1.0)
    shade = (1.0 + folds - 0.2 * across) * seal
    return np.asarray(shade, np.float32), _edge(np.asarray(np.abs(across) / waist, np.float32))


def _tin(across: Floats, down: Floats) -> tuple[Floats, Floats]:
    rim = 0.14 * np.sqrt(np.clip(1 - across**2, 0, 1))
    lid = down < -0.86 + rim
    shade = np.where(lid, 1.18, _round(across))
    inside = (down > -0.86 - rim) & (down < 0.86 + rim)
    return np.asarray(shade, np.float32), np.asarray(inside, np.float32) * _edge(np.abs(across))


_Shape = Callable[[Floats, Floats], tuple[Floats, Floats]]
_SHAPES: dict[Kind, _Shape] = {
    "carton": _carton,
    "bottle": _bottle,
    "ball": _ball,
    "book": _book,
    "pouch": _pouch,
    "tin": _tin,
}
