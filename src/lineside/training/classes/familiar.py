"""What the training pictures look like to the network, and how far a picture may be from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.training.classes.head import standard
from lineside.training.classes.network import MEANS, Floats
from lineside.training.far_apart import far_apart

_LARGEST_BANK = 128
_USUAL = 0.99


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Familiar:
    """The bank of a network's distance.

    Attributes:
        bank: (k, MEANS): standardised means of training pictures that lie far apart.
        spread: (MEANS,): divides means before they are compared.
        unit: the 99th percentile of the training pictures' distances to the bank without their
            own group.
        farthest: the largest of them, in that unit.
    """

    bank: Floats
    spread: Floats
    unit: float
    farthest: float


def familiar(features: Floats, *, owners: Sequence[str]) -> Familiar:
    """The bank of pooled features, (pictures, at least MEANS); ``owners`` names their groups."""
    means = features[:, :MEANS].astype(np.float64)
    _, spread = standard(means)
    vectors = np.asarray(means / spread, np.float32)
    chosen = far_apart(vectors, count=_LARGEST_BANK)
    names = np.unique(np.array(owners), return_inverse=True)[1]
    apart = _distances(vectors, vectors[chosen])
    apart[names[:, None] == names[chosen][None]] = np.inf
    nearest = apart.min(axis=1)
    own = nearest[np.isfinite(nearest)]
    unit = max(float(np.quantile(own, _USUAL)), 1e-6) if len(own) else 1.0
    return Familiar(
        bank=vectors[chosen],
        spread=spread.astype(np.float32),
        unit=unit,
        farthest=float(own.max()) / unit if len(own) else 0.0,
    )


def _distances(vectors: Floats, bank: Floats) -> NDArray[np.float64]:
    """(n, k) Euclidean."""
    one, other = vectors.astype(np.float64), bank.astype(np.float64)
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))
