"""Few of many vectors that lie far apart."""

import numpy as np
from numpy.typing import NDArray


def far_apart(vectors: NDArray[np.float32], *, count: int) -> NDArray[np.intp]:
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
