"""Numeric methods that several tasks share: Platt scaling and k-center selection."""

import numpy as np
from numpy.typing import NDArray

_STEPS = 100
_LEAST_SLOPE = 1e-3

Numbers = NDArray[np.float64]


def platt(logit: Numbers, truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope >= 0.001 and offset of sigmoid(slope x logit + offset), by damped Newton steps."""
    ups, downs = int(truth.sum()), int((~truth).sum())
    target = np.where(truth, (ups + 1) / (ups + 2), 1 / (downs + 2))
    scale = max(float(np.abs(logit).max()), 1e-6)
    x = np.stack([logit / scale, np.ones_like(logit)])
    beta = np.array([0.0, np.log((ups + 1) / (downs + 1))])
    loss = _cross_entropy(beta @ x, target)
    for _ in range(_STEPS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(beta @ x, -60, 60)))
        slope = x @ (chance - target)
        curve = (x * (chance * (1 - chance))) @ x.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(curve, slope)
        size = 1.0
        while size > 1e-6 and _cross_entropy((beta - size * step) @ x, target) > loss:
            size /= 2
        beta = beta - size * step
        last, loss = loss, _cross_entropy(beta @ x, target)
        if last - loss < 1e-10:
            break
    if beta[0] / scale < _LEAST_SLOPE:
        # Held-out answers run against the labels: say the base rate, which the band makes unsure.
        return _LEAST_SLOPE, float(np.log((ups + 1) / (downs + 1)))
    return float(beta[0] / scale), float(beta[1])


def _cross_entropy(score: Numbers, target: Numbers) -> float:
    return float(np.sum(np.logaddexp(0.0, score) - target * score))


def k_center(vectors: NDArray[np.float32], *, count: int) -> NDArray[np.intp]:
    """Rows of (n, k) vectors, at most ``count``, chosen greedily (k-centre).

    The first, then always the one farthest from those chosen: Gonzalez, *Clustering to minimize the
    maximum intercluster distance*, Theoretical Computer Science 38 (1985).
    """
    if len(vectors) <= count:
        return np.arange(len(vectors))
    chosen = [0]
    nearest = np.linalg.norm(vectors - vectors[0], axis=1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(vectors - vectors[chosen[-1]], axis=1))
    return np.array(chosen)
