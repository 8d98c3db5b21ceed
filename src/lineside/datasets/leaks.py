"""Pictures that a split should not have parted: the same picture, the same group, near-duplicates.

A camera that stands still makes every whole picture alike, so similarity is taken of what is left
when the camera's own background is gone: vectors of the registered regions only, less their median
over all pictures (``region_vectors``).

Of two such vectors a and b,

    similarity = 1 - |a - b|² / (|a|² + |b|² + c)

where c is half the median squared distance of all pairs, and at least that of pure noise. Without c
two pictures of nothing but background, which differ by noise alone, would be unlike. The same scene
seen twice is near 1; scenes that differ as pictures of this camera usually do are far below.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import Digest, InvalidError
from lineside.datasets.samples import Part, Sample

NEAR_DUPLICATE = 0.95
_NOISE_GREY = 4.0
_CELL_PX = 8
_MOST_PAIRS = 1000
_ROWS_AT_ONCE = 512
_SAMPLED = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Two samples that are nearer than a split may ignore.

    Attributes:
        a, b: names of the samples.
        similarity: 1 for the same picture; of a shared group as measured, 0 where not measured.
        splits: the parts (or folds) the two stand in.
        kind: ``same picture``, ``same group`` or ``near-duplicate``.
    """

    a: str
    b: str
    similarity: float
    splits: tuple[str, str]
    kind: str = "near-duplicate"

    @property
    def crosses(self) -> bool:
        """Whether the two stand in different parts, so that figures on them are too good."""
        return self.splits[0] != self.splits[1]


def find_leaks(
    samples: Sequence[Sample],
    features: NDArray[np.float32] | None = None,
    *,
    parts: Sequence[str] = (),
    above: float = NEAR_DUPLICATE,
) -> tuple[Leak, ...]:
    """Pairs of one picture, pairs of one group across parts, and near-duplicates.

    Args:
        samples: the pictures.
        features: (samples, d) float32 with the background removed, in units of noise
            (``region_vectors``); None looks at digests and groups alone.
        parts: the part of each sample; by default what the sample declares.
        above: pairs at least this similar are near-duplicates.

    Returns:
        Crossing pairs first, then by falling similarity; at most 1,000.
    """
    placed = tuple(parts) or tuple(sample.split for sample in samples)
    if len(placed) != len(samples) or (features is not None and len(features) != len(samples)):
        raise InvalidError(
            f"{len(samples)} samples, {len(placed)} parts", fix="Hand in one of each per sample."
        )
    found: dict[tuple[int, int], Leak] = {}
    for kind, pairs in (
        ("same picture", _same_picture(samples)),
        ("same group", _group_across(samples, placed)),
        ("near-duplicate", [] if features is None else _near(features, above=above)),
    ):
        for one, other, similarity in pairs:
            leak = Leak(
                a=samples[one].name,
                b=samples[other].name,
                similarity=round(similarity, 4),
                splits=(placed[one], placed[other]),
                kind=kind,
            )
            found.setdefault((one, other), leak)
    return _ordered(found.values())


def merge_leaks(*reports: Sequence[Leak]) -> tuple[Leak, ...]:
    """Several reports on the same samples as one; of a pair reported twice the first stands."""
    found: dict[tuple[str, str], Leak] = {}
    for leak in (leak for report in reports for leak in report):
        found.setdefault((min(leak.a, leak.b), max(leak.a, leak.b)), leak)
    return _ordered(found.values())


def _ordered(leaks: Iterable[Leak]) -> tuple[Leak, ...]:
    ordered = sorted(leaks, key=lambda x: (not x.crosses, -x.similarity, x.a, x.b))
    return tuple(ordered[:_MOST_PAIRS])


def region_vectors(crops: NDArray[np.uint8], *, cell_px: int = _CELL_PX) -> NDArray[np.float32]:
    """What pictures of one camera differ in, as vectors in units of its noise.

    Args:
        crops: (pictures, regions, height, width, 3) uint8 RGB, cut from registered pictures; for a
            camera without regions, one crop of the whole view.
        cell_px: crops are averaged over squares of this side; 1 for crops that are so already.

    Returns:
        (pictures, d) float32: regions averaged over their cells, less the median picture, over four
        grey levels of noise.
    """
    count, regions, height, width, _ = crops.shape
    down, across = max(1, height // cell_px), max(1, width // cell_px)
    high, wide = height // down, width // across
    cells = crops[:, :, : down * high, : across * wide].reshape(
        count, regions, down, high, across, wide, 3
    )
    vectors = cells.mean(axis=(3, 5), dtype=np.float32).reshape(count, -1)
    if count > 2:
        vectors -= np.median(vectors, axis=0)
    return np.asarray(vectors / np.float32(_NOISE_GREY), np.float32)


def _same_picture(samples: Sequence[Sample]) -> list[tuple[int, int, float]]:
    first: dict[Digest, int] = {}
    pairs = []
    for place, sample in enumerate(samples):
        earlier = first.setdefault(sample.digest, place)
        if earlier != place:
            pairs.append((earlier, place, 1.0))
    return pairs


def _group_across(samples: Sequence[Sample], placed: Sequence[str]) -> list[tuple[int, int, float]]:
    """One pair for every two parts that a group stands in."""
    first: dict[str, dict[str, int]] = {}
    pairs = []
    for place, sample in enumerate(samples):
        if not sample.group:
            continue
        seen = first.setdefault(sample.group, {})
        if placed[place] not in seen:
            pairs += [(earlier, place, 0.0) for earlier in seen.values()]
            seen[placed[place]] = place
    return pairs


def _near(features: NDArray[np.float32], *, above: float) -> list[tuple[int, int, float]]:
    squares = (features**2).sum(axis=1)
    usual = _usual_difference(features)
    pairs: list[tuple[int, int, float]] = []
    for start in range(0, len(features), _ROWS_AT_ONCE):
        rows = features[start : start + _ROWS_AT_ONCE]
        sums = squares[start : start + len(rows), None] + squares[None, :]
        apart = np.maximum(sums - 2.0 * rows @ features.T, 0.0)
        similarity = 1.0 - apart / (sums + usual)
        for one, other in np.argwhere(similarity >= above):
            if start + one < other:
                pairs.append((int(start + one), int(other), float(similarity[one, other])))
    pairs.sort(key=lambda pair: (-pair[2], pair[0], pair[1]))
    return pairs[:_MOST_PAIRS]


def _usual_difference(features: NDArray[np.float32]) -> float:
    """Half the median squared distance over pairs of at most 200 pictures; at least noise's."""
    few = features[np.unique(np.linspace(0, len(features) - 1, _SAMPLED).round().astype(int))]
    squares = (few**2).sum(axis=1)
    apart = squares[:, None] + squares[None, :] - 2.0 * few @ few.T
    pairs = apart[np.triu_indices(len(few), k=1)]
    return max(float(np.median(pairs)) / 2 if len(pairs) else 0.0, float(features.shape[1]))


def crossing(leaks: Sequence[Leak]) -> tuple[Leak, ...]:
    """The leaks that stand between different parts."""
    return tuple(leak for leak in leaks if leak.crosses)


def parts_of(
    samples: Sequence[Sample], splits: Mapping[Part, tuple[Sample, ...]]
) -> tuple[str, ...]:
    """The part of each sample, in the order of ``samples``."""
    where = {sample.digest: part for part, members in splits.items() for sample in members}
    return tuple(where.get(sample.digest, Part.OPEN) for sample in samples)
