"""Made-up local changes of good pictures; they choose among scorers and stand in no figure.

A thin wandering line, a patch of another tone, a foreign grain, a piece of another good picture,
and a smear; each where parts are. Strength is in units of the picture's own deviation.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

KINDS = ("line", "tone", "grain", "piece", "smear")
_TRIES = 30
_LEAST_PX = 12
_LEAST_DEVIATION = 8.0

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]


def perturbed(
    image: Image,
    *,
    others: Sequence[Image],
    kind: str,
    cover: NDArray[np.bool_] | None,
    rng: np.random.Generator,
) -> Image:
    """The picture with one change.

    Args:
        image: (height, width, 3) uint8.
        others: good pictures that a piece may be taken from.
        kind: one of ``KINDS``.
        cover: (height, width), where parts are; None for everywhere.
        rng: draws place, size and strength.
    """
    soft = _place(image.shape[:2], kind=kind, cover=cover, rng=rng)[..., None]
    wide = image.astype(np.float32)
    changed = _CHANGES[kind](wide, others=others, rng=rng)
    return np.asarray(np.clip(wide * (1 - soft) + changed * soft, 0, 255).round(), np.uint8)


def _place(
    size: tuple[int, int],
    *,
    kind: str,
    cover: NDArray[np.bool_] | None,
    rng: np.random.Generator,
) -> Floats:
    """(height, width) 0-1: where the change is."""
    best, most = np.zeros(size, np.float32), -1
    for _ in range(_TRIES):
        soft = _line(size, rng=rng) if kind == "line" else _blob(size, rng=rng)
        held = soft > 0.3
        seen = int(held.sum() if cover is None else (held & cover).sum())
        if seen > most:
            best, most = soft, seen
        if seen >= max(_LEAST_PX, 0.5 * held.sum()):
            break
    return best


def _line(size: tuple[int, int], *, rng: np.random.Generator) -> Floats:
    import cv2

    height, width = size
    count = int(rng.integers(6, 20))
    step = min(size) * rng.uniform(0.2, 0.6) / count
    turn = rng.uniform(0, 2 * np.pi)
    points = [np.array([rng.uniform(0, width), rng.uniform(0, height)])]
    for _ in range(count):
        turn += rng.normal(0, 0.35)
        points.append(points[-1] + step * np.array([np.cos(turn), np.sin(turn)]))
    drawn, thick = np.zeros(size, np.float32), rng.uniform(2.5, 5.5)
    for number in range(count):
        wide = max(1, round(thick * (1 - 0.7 * abs(2 * number / count - 1))))
        ends = [tuple(int(value * 8) for value in points[number + one]) for one in (0, 1)]
        cv2.line(drawn, ends[0], ends[1], (1.0,), wide, cv2.LINE_8, 3)
    return np.asarray(cv2.GaussianBlur(drawn, (0, 0), rng.uniform(0.5, 1.0)), np.float32)


def _blob(size: tuple[int, int], *, rng: np.random.Generator) -> Floats:
    import cv2

    radius = np.exp(rng.uniform(np.log(0.05), np.log(0.2))) * min(size)
    middle = rng.uniform(0, size[1]), rng.uniform(0, size[0])
    stretch, turn = np.exp(rng.normal(0, 0.4)), rng.uniform(0, np.pi)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    x, y = x - middle[0], y - middle[1]
    along = (x * np.cos(turn) + y * np.sin(turn)) / (radius * stretch)
    aside = (y * np.cos(turn) - x * np.sin(turn)) * stretch / radius
    edge = np.sqrt(along**2 + aside**2) + 0.35 * _noise(size, max(3.0, 0.7 * radius), rng=rng)
    held = np.asarray(edge < 1, np.float32)
    return np.asarray(cv2.GaussianBlur(held, (0, 0), rng.uniform(0.6, 2.0)), np.float32)


def _noise(size: tuple[int, int], grain_px: float, *, rng: np.random.Generator) -> Floats:
    import cv2

    cells = [max(2, int(length / grain_px) + 2) for length in size]
    coarse = rng.standard_normal(cells).astype(np.float32)
    return np.asarray(
        cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), np.float32
    )


def _deviation(wide: Floats) -> float:
    return max(_LEAST_DEVIATION, float(wide.std()))


def _tone(wide: Floats, *, others: Sequence[Image], rng: np.random.Generator) -> Floats:
    del others
    sign = -1.0 if rng.random() < 0.65 else 1.0
    return np.asarray(wide + sign * rng.uniform(1.5, 3.0) * _deviation(wide), np.float32)


def _ink(wide: Floats, *, others: Sequence[Image], rng: np.random.Generator) -> Floats:
    del others
    sign = -1.0 if rng.random() < 0.65 else 1.0
    level = float(wide.mean()) + sign * rng.uniform(2.0, 3.5) * _deviation(wide)
    return np.full_like(wide, np.clip(level, 0, 255))


def _grain(wide: Floats, *, others: Sequence[Image], rng: np.random.Generator) -> Floats:
    del others
    size = (wide.shape[0], wide.shape[1])
    noise = _noise(size, float(np.exp(rng.uniform(np.log(1.5), np.log(12)))), rng=rng)
    deviation = _deviation(wide)
    level = float(wide.mean()) + rng.normal() * deviation
    return np.asarray(level + noise[..., None] * deviation * rng.uniform(0.5, 1.2), np.float32)


def _piece(wide: Floats, *, others: Sequence[Image], rng: np.random.Generator) -> Floats:
    import cv2

    other = others[int(rng.integers(len(others)))].astype(np.float32)
    height, width = other.shape[:2]
    turn = cv2.getRotationMatrix2D(
        (width / 2, height / 2), rng.uniform(30, 330), float(np.exp(rng.uniform(-0.4, 0.4)))
    )
    shift = rng.uniform(-0.3, 0.3, (2, 1)) * [[width], [height]]
    moved = np.hstack([turn[:, :2], turn[:, 2:] + shift])
    size = (wide.shape[1], wide.shape[0])
    laid = cv2.warpAffine(other, moved, size, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(laid * rng.uniform(0.75, 1.25), np.float32)


def _smear(wide: Floats, *, others: Sequence[Image], rng: np.random.Generator) -> Floats:
    import cv2

    del others
    reach = rng.uniform(2.5, 7)
    soft = cv2.GaussianBlur(wide, (0, 0), reach, sigmaY=reach * rng.uniform(0.5, 2))
    return np.asarray(soft + rng.normal(0, 0.3) * _deviation(wide), np.float32)


_CHANGES = {"line": _ink, "tone": _tone, "grain": _grain, "piece": _piece, "smear": _smear}
