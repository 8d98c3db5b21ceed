"""A brushed plate: streaks along it, a broad reflection across, bevel, screw holes."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

WIDTH_PX, HEIGHT_PX = 460, 316
_CORNER_PX, _BEVEL_PX = 22, 5
_HOLE_PX, _HOLE_IN_PX = 12, 34
_BAND_GREY = 11.0


def brushed(rng: np.random.Generator) -> Floats:
    """(HEIGHT_PX, WIDTH_PX) float32: grey of the metal, 0-255, before anything is wrong with it."""
    grain = sum(
        _streaks(rng, length_px=length) * amount
        for length, amount in ((9, 3.0), (61, 6.5), (241, 5.5))
    )
    down = np.linspace(-1, 1, HEIGHT_PX, dtype=np.float32)[:, None]
    across = np.linspace(-1, 1, WIDTH_PX, dtype=np.float32)[None, :]
    middle = float(rng.uniform(-0.5, 0.4))
    band = np.exp(-(((down - middle - 0.08 * across) / float(rng.uniform(0.4, 0.6))) ** 2))
    tone = float(rng.uniform(128, 146))
    metal = tone + grain * (0.8 + 0.5 * band) + 42 * band - 9 * across + _bands(rng)
    return np.asarray(metal, np.float32)


def outline() -> Floats:
    """(HEIGHT_PX, WIDTH_PX) float32: 1 on the plate, 0 beside it and in its holes."""
    import cv2

    shape = np.zeros((HEIGHT_PX, WIDTH_PX), np.float32)
    far = _CORNER_PX
    cv2.rectangle(shape, (far, 0), (WIDTH_PX - 1 - far, HEIGHT_PX - 1), 1.0, -1)
    cv2.rectangle(shape, (0, far), (WIDTH_PX - 1, HEIGHT_PX - 1 - far), 1.0, -1)
    for x in (far, WIDTH_PX - 1 - far):
        for y in (far, HEIGHT_PX - 1 - far):
            cv2.circle(shape, (x, y), far, 1.0, -1, cv2.LINE_AA)
    return shape


def with_edges(metal: Floats, *, rng: np.random.Generator) -> Floats:
    """Bevel, screw holes with their countersinks, and a few specks of dust."""
    import cv2

    seen = metal.copy()
    seen[:_BEVEL_PX] += 46
    seen[-_BEVEL_PX:] -= 52
    seen[:, :_BEVEL_PX] += 22
    seen[:, -_BEVEL_PX:] -= 26
    for x in (_HOLE_IN_PX, WIDTH_PX - 1 - _HOLE_IN_PX):
        for y in (_HOLE_IN_PX, HEIGHT_PX - 1 - _HOLE_IN_PX):
            cv2.circle(seen, (x, y), _HOLE_PX + 5, 96.0, -1, cv2.LINE_AA)
            cv2.ellipse(
                seen, (x, y), (_HOLE_PX + 4, _HOLE_PX + 4), 0, 20, 160, 208.0, 3, cv2.LINE_AA
            )
            cv2.circle(seen, (x, y), _HOLE_PX, 20.0, -1, cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 7))):
        at = (int(rng.integers(20, WIDTH_PX - 20)), int(rng.integers(20, HEIGHT_PX - 20)))
        cv2.circle(seen, at, 1, float(rng.uniform(90, 225)), -1, cv2.LINE_AA)
    return seen


def _bands(rng: np.random.Generator) -> Floats:
    """(HEIGHT_PX, 1): lighter and darker bands along the plate, as the brush wore and was set."""
    import cv2

    coarse = rng.standard_normal((HEIGHT_PX // 20 + 2, 1)).astype(np.float32)
    bands = cv2.resize(coarse, (1, HEIGHT_PX), interpolation=cv2.INTER_CUBIC)
    return np.asarray(_BAND_GREY * bands, np.float32)


def _streaks(rng: np.random.Generator, *, length_px: int) -> Floats:
    """Noise drawn out along the plate, of standard deviation 1."""
    import cv2

    noise = rng.standard_normal((HEIGHT_PX, WIDTH_PX + length_px), np.float32)
    drawn = cv2.blur(noise, (length_px, 1))[:, length_px // 2 : length_px // 2 + WIDTH_PX]
    return np.asarray(drawn * np.sqrt(length_px), np.float32)
