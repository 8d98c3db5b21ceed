"""What is wrong with a surface, drawn into the metal, with the pixels that it covers."""

from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from lineside.simulator.surface.parts import Fault
from lineside.simulator.surface.plate import HEIGHT_PX, WIDTH_PX, Floats

Colour = NDArray[np.float32]
_SPLINE_POINTS = 24


def mar(metal: Colour, fault: Fault) -> Floats:
    """Draw a fault into (HEIGHT_PX, WIDTH_PX, 3) metal.

    Returns:
        (HEIGHT_PX, WIDTH_PX) float32: 1 where the fault is, 0 elsewhere.
    """
    rng = np.random.default_rng(fault.seed)
    match fault.kind:
        case "scratch":
            return _scratch(metal, fault, rng=rng)
        case "dent":
            return _dent(metal, fault, rng=rng)
        case "stain":
            return _stain(metal, fault, rng=rng)
        case _:
            assert_never(fault.kind)


def _scratch(metal: Colour, fault: Fault, *, rng: np.random.Generator) -> Floats:
    """A bright furrow with a dark lip, bent a little, deeper in its middle."""
    import cv2

    points = _bent_line(fault, rng=rng)
    furrow = np.zeros((HEIGHT_PX, WIDTH_PX), np.float32)
    covered = np.zeros_like(furrow)
    thick = int(rng.integers(3, 6))
    steps = len(points) - 1
    for step in range(steps):
        ends = tuple(points[step].tolist()), tuple(points[step + 1].tolist())
        depth = float(np.clip(1.35 * np.sin(np.pi * (step + 0.7) / (steps + 0.4)), 0.35, 1))
        cv2.line(furrow, *ends, depth * float(rng.uniform(0.7, 1)), thick, cv2.LINE_AA)
        cv2.line(covered, *ends, 1.0, thick + 3, cv2.LINE_AA)
    lip = np.roll(furrow, (thick, thick // 2), (0, 1))
    bright = (78 * furrow - 62 * np.clip(lip - furrow, 0, 1)) * fault.strength
    metal += np.asarray(cv2.GaussianBlur(bright, (0, 0), 0.8), np.float32)[..., None]
    return np.asarray(covered > 0.5, np.float32)


def _bent_line(fault: Fault, *, rng: np.random.Generator) -> NDArray[np.int32]:
    along = np.linspace(-0.5, 0.5, _SPLINE_POINTS) * fault.size * WIDTH_PX
    bend = rng.uniform(-0.12, 0.12) * fault.size * WIDTH_PX
    aside = bend * (1 - (2 * along / (fault.size * WIDTH_PX)) ** 2) + rng.normal(0, 0.7, along.size)
    turn = np.deg2rad(fault.turn_deg)
    x = fault.x * WIDTH_PX + along * np.cos(turn) - aside * np.sin(turn)
    y = fault.y * HEIGHT_PX + along * np.sin(turn) + aside * np.cos(turn)
    inside = np.stack([np.clip(x, 8, WIDTH_PX - 9), np.clip(y, 8, HEIGHT_PX - 9)], axis=1)
    return np.asarray(inside.round(), np.int32)


def _dent(metal: Colour, fault: Fault, *, rng: np.random.Generator) -> Floats:
    """A dip: bright on the side that faces the lamp, dark on the other, its brushing bent."""
    import cv2

    across, down = _around(fault, squash=float(rng.uniform(0.7, 1)))
    far = across**2 + down**2
    dip = np.exp(-2.2 * far).astype(np.float32)
    lamp = np.deg2rad(float(rng.uniform(225, 290)))
    slope = (across * np.cos(lamp) + down * np.sin(lamp)) * dip
    rows, columns = np.indices((HEIGHT_PX, WIDTH_PX), dtype=np.float32)
    shift = 7 * fault.strength * dip
    bent = cv2.remap(metal, columns, rows + shift * np.sign(down), cv2.INTER_LINEAR)
    metal[:] = bent
    glint = np.exp(-9 * ((across + 0.45 * np.cos(lamp)) ** 2 + (down + 0.45 * np.sin(lamp)) ** 2))
    shade = -150 * slope - 22 * dip + 52 * glint
    metal += np.asarray(shade * fault.strength, np.float32)[..., None]
    return np.asarray(far < 1, np.float32)


def _around(fault: Fault, *, squash: float) -> tuple[Floats, Floats]:
    """Coordinates about a fault's middle, 1 at its rim."""
    half = fault.size * WIDTH_PX / 2
    turn = np.deg2rad(fault.turn_deg)
    rows, columns = np.indices((HEIGHT_PX, WIDTH_PX), dtype=np.float32)
    x, y = columns - fault.x * WIDTH_PX, rows - fault.y * HEIGHT_PX
    across = (x * np.cos(turn) + y * np.sin(turn)) / half
    down = (-x * np.sin(turn) + y * np.cos(turn)) / (half * squash)
    return np.asarray(across, np.float32), np.asarray(down, np.float32)


def _stain(metal: Colour, fault: Fault, *, rng: np.random.Generator) -> Floats:
    """Dried oil or water: an uneven blot, browner or bluer than the metal, dark at its rim."""
    import cv2

    across, down = _around(fault, squash=float(rng.uniform(0.55, 0.95)))
    coarse = rng.standard_normal((HEIGHT_PX // 26 + 2, WIDTH_PX // 26 + 2)).astype(np.float32)
    ragged = cv2.resize(coarse, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_CUBIC)
    far = np.sqrt(across**2 + down**2) + 0.2 * ragged
    body = 1 / (1 + np.exp(np.clip((far - 0.9) / 0.05, -30, 30)))
    rim = np.exp(-(((far - 0.84) / 0.09) ** 2))
    tint = np.array([0.10, 0.20, 0.36] if rng.random() < 0.6 else [0.30, 0.20, 0.08], np.float32)
    cover = (0.75 * body + 0.55 * rim * (far < 1.05)) * fault.strength
    metal *= 1 - np.asarray(cover, np.float32)[..., None] * (tint + 0.14)
    return np.asarray(far < 0.95, np.float32)
