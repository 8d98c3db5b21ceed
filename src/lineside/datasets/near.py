"""Near-duplicates among vectors: every pair where that can be done, else the pairs worth a look.

Up to ``limits.all_pairs`` vectors each is compared with each. Beyond, each is compared with its
neighbours in the order given (names or times: what was taken one after the other), and with those
that fall into the same bucket of several random-hyperplane hashes (Charikar 2002), cut to blocks.
Time and memory are bounded by the number of vectors, never by the clock, and what was compared is
counted (a pair that lies in two blocks, twice): the same vectors give the same answer everywhere.

Where there is fine structure of each picture too, a pair counts only if that agrees as well
(``FINE``): pictures of one dull surface are alike in the large and nothing of each other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32] | NDArray[np.float16]
Places = NDArray[np.int64]

_ROWS_AT_ONCE = 512
_SAMPLED = 200
FINE = 0.8
"""Correlation of the fine structure from which two pictures may be the same."""

_TABLES = 16
_IN_A_BUCKET = 24
_PAIRS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class NearLimits:
    """How much is compared.

    Attributes:
        all_pairs: up to so many vectors, each with each.
        neighbours: beyond, each with so many that follow it in the order given.
        block: beyond, each with at most so many of its bucket.
        kept: so many pairs between parts are kept, and so many within them, the nearest first.
    """

    all_pairs: int = 12_000
    neighbours: int = 16
    block: int = 128
    kept: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """Pairs found, nearest first, between parts before within them; and what was compared."""

    pairs: tuple[tuple[int, int, float], ...]
    found: int
    compared: int
    possible: int


def near_pairs(
    features: Vectors,
    *,
    above: float,
    parts: Sequence[str],
    fine: Vectors | None = None,
    order: Sequence[int] = (),
    limits: NearLimits | None = None,
) -> Near:
    """Pairs at least so similar.

    Args:
        features: (n, d).
        above: similarity as ``leaks`` defines it.
        parts: of each vector; a pair between two parts counts more.
        fine: (n, f) the fine structure of each, of length one; None where only features count.
        order: places in the order of name or time; as they stand by default.
        limits: how much is compared.
    """
    limits = limits or NearLimits()
    count = len(features)
    codes = np.unique(np.asarray(parts, dtype=str), return_inverse=True)[1] if count else None
    best = _Best(codes=codes, kept=limits.kept)
    if count <= limits.all_pairs:
        batches = _every(count)
    else:
        batches = _likely(features, order=order or range(count), limits=limits)
    scale = _Scale(features)
    seen = 0
    for rows, columns in batches:
        similarity = scale.similarity(rows, columns)
        fresh = rows[:, None] < columns[None, :]
        seen += int(fresh.sum())
        one, other = np.nonzero((similarity >= above) & fresh)
        left, right, value = rows[one], columns[other], similarity[one, other]
        agreeing = _agree(left, right, fine=fine)
        best.take(left[agreeing], right[agreeing], value=value[agreeing])
    pairs, found = best.result()
    return Near(pairs=pairs, found=found, compared=seen, possible=count * (count - 1) // 2)


def _every(count: int) -> Iterator[tuple[Places, Places]]:
    for start in range(0, count, _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, count))
        yield rows, np.arange(start, count)


def _likely(
    features: Vectors, *, order: Sequence[int], limits: NearLimits
) -> Iterator[tuple[Places, Places]]:
    """Blocks of neighbours in order, then blocks of every bucket; a pair may come twice."""
    places = np.asarray(order, dtype=np.int64)
    step = limits.neighbours
    for start in range(0, len(places), step):
        block = np.sort(places[start : start + 2 * step])
        yield block, block
    for code in _hashes(features):
        by_code = np.argsort(code, kind="stable")
        edges = np.flatnonzero(np.diff(code[by_code])) + 1
        for bucket in np.split(by_code, edges):
            for start in range(0, len(bucket), limits.block):
                block = np.sort(bucket[start : start + limits.block])
                if len(block) > 1:
                    yield block, block


def _hashes(features: Vectors) -> Iterator[Places]:
    """For each table the bucket of each vector: on which side of random hyperplanes it lies."""
    rng = np.random.default_rng(0)
    bits = max(4, int(np.log2(len(features) / _IN_A_BUCKET)))
    weights = (1 << np.arange(bits)).astype(np.int64)
    for _ in range(_TABLES):
        planes = rng.standard_normal((features.shape[1], bits)).astype(np.float32)
        yield (features @ planes > 0) @ weights


def _agree(left: Places, right: Places, *, fine: Vectors | None) -> NDArray[np.bool_]:
    """Of pairs, those whose fine structure agrees."""
    if fine is None:
        return np.ones(len(left), np.bool_)
    agreeing = [
        (fine[left[start:end]].astype(np.float32) * fine[right[start:end]]).sum(axis=1) >= FINE
        for start in range(0, len(left), _PAIRS_AT_ONCE)
        for end in (start + _PAIRS_AT_ONCE,)
    ]
    return np.concatenate(agreeing) if agreeing else np.zeros(0, np.bool_)


class _Scale:
    """Similarity as ``leaks`` defines it."""

    def __init__(self, features: Vectors) -> None:
        self._features = features
        self._squares = (features**2).sum(axis=1)
        self._usual = usual_difference(features)

    def similarity(self, rows: Places, columns: Places) -> NDArray[np.float32]:
        one, other = self._features[rows], self._features[columns]
        sums = self._squares[rows][:, None] + self._squares[columns][None, :]
        apart = np.maximum(sums - 2.0 * one @ other.T, 0.0)
        return np.asarray(1.0 - apart / (sums + self._usual), np.float32)


def usual_difference(features: Vectors) -> float:
    """Half the median squared distance over pairs of at most 200 pictures; at least noise's."""
    if not len(features):
        return 1.0
    few = features[np.unique(np.linspace(0, len(features) - 1, _SAMPLED).round().astype(int))]
    squares = (few**2).sum(axis=1)
    apart = squares[:, None] + squares[None, :] - 2.0 * few @ few.T
    pairs = apart[np.triu_indices(len(few), k=1)]
    return max(float(np.median(pairs)) / 2 if len(pairs) else 0.0, float(features.shape[1]))


class _Best:
    """The nearest pairs so far, of each kind, in bounded memory."""

    def __init__(self, *, codes: Places | None, kept: int) -> None:
        self._codes = codes
        self._kept = kept
        self._found = 0
        self._pairs: dict[bool, dict[tuple[int, int], float]] = {True: {}, False: {}}

    def take(self, left: Places, right: Places, *, value: NDArray[np.float32]) -> None:
        if self._codes is None or not len(left):
            return
        between = self._codes[left] != self._codes[right]
        for crossing in (True, False):
            chosen = np.flatnonzero(between == crossing)
            nearest = chosen[np.lexsort((right[chosen], left[chosen], -value[chosen]))]
            held = self._pairs[crossing]
            before = len(held)
            for place in nearest[: self._kept].tolist():
                held.setdefault((int(left[place]), int(right[place])), float(value[place]))
            self._found += len(held) - before + max(0, len(nearest) - self._kept)
            self._cut(crossing=crossing)

    def _cut(self, *, crossing: bool) -> None:
        held = self._pairs[crossing]
        if len(held) > 4 * self._kept:
            self._pairs[crossing] = dict(_nearest_first(held)[: self._kept])

    def result(self) -> tuple[tuple[tuple[int, int, float], ...], int]:
        pairs = [
            (one, other, value)
            for crossing in (True, False)
            for (one, other), value in _nearest_first(self._pairs[crossing])[: self._kept]
        ]
        return tuple(pairs), self._found


def _nearest_first(held: dict[tuple[int, int], float]) -> list[tuple[tuple[int, int], float]]:
    return sorted(held.items(), key=lambda item: (-item[1], item[0]))
