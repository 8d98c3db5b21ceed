"""Six designs of socks, each a pattern over the cloth; no maker's marks or names.

Two of them are dark and differ by small marks alone, as socks do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Design = Literal["Argyle", "Checks", "Dashes", "Dots", "Stripes", "Zigzag"]
Floats = NDArray[np.float32]
Marks = NDArray[np.bool_]
Colour = tuple[int, int, int]

DESIGNS: tuple[Design, ...] = get_args(Design)
BLANK = "Blank"
LABELS: tuple[str, ...] = (*DESIGNS, BLANK)

_CUFF, _HEEL, _TOE = 0.13, (0.47, 0.6), 0.88
_HEEL_SIDE = -0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Dye:
    """Colours of a design: of the cloth, of its marks, of cuff, heel and toe."""

    cloth: Colour
    marks: tuple[Colour, ...]
    ends: Colour


_DYES: Mapping[Design, Dye] = {
    "Argyle": Dye(cloth=(122, 32, 48), marks=((150, 148, 150), (236, 226, 200)), ends=(88, 20, 34)),
    "Checks": Dye(cloth=(203, 198, 212), marks=((126, 92, 168),), ends=(126, 92, 168)),
    "Dashes": Dye(cloth=(26, 32, 58), marks=((236, 160, 190), (120, 214, 220)), ends=(30, 36, 66)),
    "Dots": Dye(cloth=(20, 128, 122), marks=((240, 240, 232),), ends=(240, 240, 232)),
    "Stripes": Dye(cloth=(232, 188, 52), marks=((36, 62, 128),), ends=(36, 62, 128)),
    "Zigzag": Dye(cloth=(44, 44, 50), marks=((226, 112, 40),), ends=(30, 30, 36)),
}  # fmt: skip


def dyed(design: Design, *, along: Floats, across: Floats, seed: int) -> Floats:
    """The cloth in colour.

    Args:
        design: which pattern.
        along: (height, width) 0 at the cuff's edge to 1 at the toe.
        across: the same shape, -1 to 1 over the sock's breadth; negative on the heel's side.
        seed: of one physical sock: how it was dyed, knitted and washed.

    Returns:
        (height, width, 3) float32, 0-255.
    """
    rng = np.random.default_rng([seed, 3])
    dye, phase = _DYES[design], float(rng.uniform(0, 1))
    cloth = np.empty((*along.shape, 3), np.float32)
    cloth[:] = dye.cloth
    found = _marks(design, along=along, across=across, phase=phase)
    for marks, colour in zip(found, dye.marks, strict=True):
        cloth[marks] = colour
    cloth[_ends(along, across)] = dye.ends
    washed = 1 + rng.normal(0, 0.04, 3)
    grey = cloth.mean(axis=2, keepdims=True)
    fade = float(rng.uniform(0, 0.18))
    return np.asarray((cloth + fade * (grey - cloth)) * washed, np.float32)


def _ends(along: Floats, across: Floats) -> Marks:
    heel = (along > _HEEL[0]) & (along < _HEEL[1]) & (across < _HEEL_SIDE)
    return np.asarray((along < _CUFF) | heel | (along > _TOE), np.bool_)


def _marks(design: Design, *, along: Floats, across: Floats, phase: float) -> tuple[Marks, ...]:
    match design:
        case "Stripes":
            return ((along * 8 + phase) % 1 < 0.45,)
        case "Zigzag":
            bent = along * 7 + phase + 0.35 * np.abs((across * 1.5) % 1 - 0.5) * 2
            return (np.asarray(bent % 1 < 0.36, np.bool_),)
        case "Dots":
            return (_spots(along, across, phase=phase, half=0.27),)
        case "Checks":
            squares = np.floor(along * 13 + phase) + np.floor((across + 1) * 2.2)
            return (np.asarray(squares % 2 > 0, np.bool_),)
        case "Argyle":
            return _argyle(along, across, phase=phase)
        case "Dashes":
            return _dashes(along, across, phase=phase)


def _spots(along: Floats, across: Floats, *, phase: float, half: float) -> Marks:
    rows = along * 11 + phase
    shifted = (across + 1) * 1.5 + 0.5 * (np.floor(rows) % 2)
    far = np.hypot(rows % 1 - 0.5, shifted % 1 - 0.5)
    return np.asarray(far < half, np.bool_)


def _argyle(along: Floats, across: Floats, *, phase: float) -> tuple[Marks, Marks]:
    rows = along * 5 + phase
    diamond = np.abs(rows % 1 - 0.5) + np.abs(across) * 0.5 < 0.4
    thread = np.abs(np.abs((rows + 0.5) % 1 - 0.5) - np.abs(across) * 0.5) < 0.035
    return np.asarray(diamond, np.bool_), np.asarray(thread, np.bool_)


def _dashes(along: Floats, across: Floats, *, phase: float) -> tuple[Marks, Marks]:
    rows = along * 12 + phase
    turn = np.floor(rows) % 2
    places = ((across + 1) * 1.6 + 0.5 * turn) % 1
    short = (np.abs(rows % 1 - 0.5) < 0.16) & (np.abs(places - 0.5) < 0.3)
    return np.asarray(short & (turn == 0), np.bool_), np.asarray(short & (turn == 1), np.bool_)
