"""Split first, augment after: parts of a pipeline's pictures, and copies of the training part.

1. Validation and test get ``int(share * N)`` pictures each, drawn by a seeded hash, the labels
   spread by largest remainder. Where the source has groups, whole groups are drawn instead
   (``lineside.datasets.split``) and the counts follow from them.
2. Copies are made of training pictures alone and belong to the group of the picture they come from.
   Each copy differs: it is darker, or of another contrast, or both. None means none.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lineside.datasets import Part, Sample, split

_DARKER = (0.4, 0.9)
_CONTRAST = (0.9, 1.1)
_BRIGHTNESS_CHANCE, _CONTRAST_CHANCE = 0.3, 0.2
_TRIES = 64

Image = NDArray[np.uint8]


def parted(samples: Sequence[Sample], *, share: float, seed: int) -> dict[Part, tuple[Sample, ...]]:
    """Samples by part, each part in the order given; what the source declares is honoured."""
    if any(sample.group or sample.split is not Part.OPEN for sample in samples):
        shares = {Part.TRAIN: 1 - 2 * share, Part.VALID: share, Part.TEST: share}
        found = split(samples, seed=seed, shares=shares)
        return {part: found.get(part, ()) for part in (Part.TRAIN, Part.VALID, Part.TEST)}
    strata: dict[tuple[str, ...], list[Sample]] = defaultdict(list)
    for sample in sorted(samples, key=lambda one: _unit(one, seed)):
        strata[sample.labels].append(sample)
    quotas = _quotas([len(some) for some in strata.values()], wanted=int(share * len(samples)))
    placed: dict[str, Part] = {}
    for some, quota in zip(strata.values(), quotas, strict=True):
        for place, sample in enumerate(some):
            part = (Part.VALID, Part.TEST)[place // quota] if place < 2 * quota else Part.TRAIN
            placed[sample.digest] = part
    return {
        part: tuple(sample for sample in samples if placed[sample.digest] is part)
        for part in (Part.TRAIN, Part.VALID, Part.TEST)
    }


def _unit(sample: Sample, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{sample.digest}".encode()).digest()


def _quotas(sizes: Sequence[int], *, wanted: int) -> list[int]:
    """Whole numbers that add up to ``wanted``, in proportion (largest remainder)."""
    total = sum(sizes) or 1
    exact = [wanted * size / total for size in sizes]
    quotas = [math.floor(value) for value in exact]
    order = sorted(range(len(sizes)), key=lambda place: quotas[place] - exact[place])
    for place in order[: wanted - sum(quotas)]:
        quotas[place] += 1
    return quotas


def drawn(samples: Sequence[Sample], *, count: int, seed: int) -> list[Sample]:
    """``count`` samples with replacement; none of nothing."""
    rng = np.random.default_rng(seed)
    if not samples:
        return []
    return [samples[place] for place in rng.integers(len(samples), size=count).tolist()]


def changed(image: Image, *, rng: np.random.Generator) -> Image:
    """A copy with random brightness (0.4-0.9) or contrast (0.9-1.1), or both, never neither.

    It differs from the picture wherever that can be: a black one stays black.
    """
    for _ in range(_TRIES):
        made = _drawn_light(image, rng=rng)
        if not np.array_equal(made, image):
            return made
    return image


def _drawn_light(image: Image, *, rng: np.random.Generator) -> Image:
    pixels = image.astype(np.float32)
    if rng.random() < _BRIGHTNESS_CHANCE:
        pixels = pixels * np.float32(rng.uniform(*_DARKER))
    if rng.random() < _CONTRAST_CHANCE:
        middle = np.float32(pixels.mean())
        pixels = (pixels - middle) * np.float32(rng.uniform(*_CONTRAST)) + middle
    return np.asarray(np.clip(pixels.round(), 0, 255), np.uint8)
