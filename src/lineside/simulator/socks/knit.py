"""A sock as a piece of cloth: a tube along a bent line, with ribs, folds and rounded edges.

The line runs down the leg, round the heel and along the foot. Each pixel of the cloth knows how far
along and how far across it is, so that every pattern follows the sock's bend.
"""

from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lineside.simulator.socks.designs import Design, Floats, dyed

SIDE_PX = 400
_LEG, _HEEL, _TOE = (150.0, 40.0), (150.0, 236.0), (318.0, 316.0)
_HALF_PX = 52.0
_ROUND_PX = 46.0
_FOLD_PX = 7.0


def knitted(design: Design, *, seed: int, laid: int) -> NDArray[np.float32]:
    """(SIDE_PX, SIDE_PX, 4) float32: colour 0-255, and 0-1 where there is cloth.

    Args:
        design: its pattern.
        seed: of the physical sock.
        laid: of how it lies this time: its folds.
    """
    along, across, inside = _tube()
    rng = np.random.default_rng([laid, 4])
    cloth = dyed(design, along=along, across=across, seed=seed)
    shade = (1.04 - 0.34 * across**4) * _ribs(along, across)
    sock = np.empty((SIDE_PX, SIDE_PX, 4), np.float32)
    sock[..., :3] = cloth * shade[..., None]
    sock[..., 3] = inside
    return _folded(sock, rng=rng, mirrored=bool(np.random.default_rng([seed, 5]).integers(2)))


def _ribs(along: Floats, across: Floats) -> Floats:
    """Stitches: ribs along the sock, deeper at the cuff."""
    deep = np.where(along < 0.13, 0.16, 0.06)
    ribs = 1 - deep * (0.5 + 0.5 * np.cos(across * 34))
    return np.asarray(ribs * (1 - 0.03 * np.cos(along * 380)), np.float32)


@cache
def _tube() -> tuple[Floats, Floats, Floats]:
    """Along, across, and 1 inside; of the sock before it is folded."""
    path = _path()
    steps = np.hypot(*np.diff(path, axis=0).T)
    begins = np.concatenate([[0.0], np.cumsum(steps)])
    down, right = np.indices((SIDE_PX, SIDE_PX), dtype=np.float32)
    least = np.full((SIDE_PX, SIDE_PX), np.inf, np.float32)
    along, aside = np.zeros_like(least), np.zeros_like(least)
    for place, (start, stop) in enumerate(pairwise(path)):
        way = (stop - start) / steps[place]
        ahead = np.clip((right - start[0]) * way[0] + (down - start[1]) * way[1], 0, steps[place])
        off_x, off_y = right - start[0] - ahead * way[0], down - start[1] - ahead * way[1]
        far = np.hypot(off_x, off_y)
        nearer = far < least
        least[nearer] = far[nearer]
        along[nearer] = (begins[place] + ahead)[nearer]
        aside[nearer] = (off_y * way[0] - off_x * way[1])[nearer]
    side = np.sign(aside) * np.minimum(least / _half(along / begins[-1]), 1.6)
    cut = np.clip((down - _LEG[1]) / 2, 0, 1)  # the cuff ends straight
    edge = np.clip((1 - np.abs(side)) * _HALF_PX / 2, 0, 1)
    return (
        np.asarray(along / begins[-1], np.float32),
        np.asarray(-side, np.float32),
        np.asarray(edge * cut, np.float32),
    )


def _half(along: Floats) -> Floats:
    """Half the sock's breadth in px: wide at the heel, narrow at ankle and toe."""
    heel = 9 * np.exp(-(((along - 0.54) / 0.09) ** 2))
    ankle = -6 * np.exp(-(((along - 0.36) / 0.1) ** 2))
    return np.asarray(_HALF_PX + heel + ankle - 9 * along, np.float32)


def _path() -> NDArray[np.float64]:
    """The line down the leg and along the foot, its corner rounded."""
    leg, heel, toe = (np.array(point) for point in (_LEG, _HEEL, _TOE))
    before = heel + (leg - heel) / np.hypot(*(leg - heel)) * _ROUND_PX
    after = heel + (toe - heel) / np.hypot(*(toe - heel)) * _ROUND_PX
    share = np.linspace(0, 1, 9)[:, None]
    bend = (1 - share) ** 2 * before + 2 * share * (1 - share) * heel + share**2 * after
    return np.concatenate([[leg], bend, [toe]])


def _folded(
    sock: NDArray[np.float32], *, rng: np.random.Generator, mirrored: bool
) -> NDArray[np.float32]:
    """As it came to lie: pushed here and there, with the shade of its folds."""
    import cv2

    if mirrored:
        sock = np.ascontiguousarray(sock[:, ::-1])
    down, right = np.indices((SIDE_PX, SIDE_PX), dtype=np.float32)
    push = [_waves(rng) * _FOLD_PX for _ in range(2)]
    folded = cv2.remap(sock, right + push[0], down + push[1], cv2.INTER_LINEAR)
    slope = np.gradient(push[0], axis=1) + np.gradient(push[1], axis=0)
    folded[..., :3] *= (1 + 0.5 * slope)[..., None]
    return np.asarray(folded, np.float32)


def _waves(rng: np.random.Generator) -> Floats:
    import cv2

    coarse = rng.standard_normal((5, 5)).astype(np.float32)
    return np.asarray(
        cv2.resize(coarse, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC), np.float32
    )
