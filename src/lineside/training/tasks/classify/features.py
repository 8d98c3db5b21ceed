"""Features of pictures by the frozen network, through ONNX Runtime and the cache.

The features come from the same engine that devices run. A picture is decoded at most once for all
sights that still miss something of it, and cut once for those that differ in brightness alone; not
at all where the cache has everything.

Input specification: size, brightness and scales of the images shown to the network:

1. A picture of any size is stretched to one input. The input has the proportions that the training
   pictures have in the middle, so that most are hardly distorted, and about the area named.
2. With two scales the network also looks at the input halved: small things are seen at the first,
   the whole at the second. One set of weights serves both.
3. Brought to one brightness, a picture is multiplied so that its mean is that of all others: where
   the light changes and says nothing, less is left to learn; where it tells classes apart, it is
   lost.
4. Which sight is used is chosen by validation; a larger one has to earn its cost.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from lineside.core import Box, Digest
from lineside.core.worker import PICTURES_AT_ONCE, look_at_each, prefetch
from lineside.datasets import Sample
from lineside.models import OnnxEngine
from lineside.training.common.backbone import Backbone, lite0_full
from lineside.training.common.cache import (
    Arrays,
    FeatureCache,
    feature_key,
    health_array,
    health_of,
)
from lineside.training.common.export import onnx_bytes
from lineside.training.tasks.classify.network import FeatureNetwork, Floats, per_scale
from lineside.vision import Crop, HealthFigures, Prepare, picture_health, picture_size
from lineside.vision.prepare import cut, levelled, normalise

STEP_PX = 32
LEVEL = 127.0
_AREAS = ((224, 1), (320, 1), (448, 2))
_LARGEST_PROPORTION = 3.0
_MOST_GROWN = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """Input specification of a network.

    Attributes:
        width_px, height_px: of its input; multiples of 32, of 64 with two scales.
        scales: 1, or 2 where it also looks at the input halved.
        level: mean of the values that a picture is brought to; 0 leaves it as it is.
    """

    width_px: int
    height_px: int
    scales: int = 1
    level: float = 0.0

    @property
    def prepare(self) -> Prepare:
        """Any picture, whole, stretched to the input."""
        box = Box(x0_px=0.0, y0_px=0.0, x1_px=float(self.width_px), y1_px=float(self.height_px))
        return Prepare(
            crops=(Crop(region="", box_px=box),),
            width_px=self.width_px,
            height_px=self.height_px,
            fit="stretch",
            level=self.level,
        )

    @property
    def words(self) -> str:
        """For reports."""
        scales = "" if self.scales == 1 else " and half of it"
        light = ", brought to one brightness" if self.level else ""
        return f"{self.width_px} x {self.height_px} px{scales}{light}"

    @property
    def evened(self) -> "InputSpec":
        """The same, brought to one brightness."""
        return replace(self, level=LEVEL)


def input_specs_for(
    sizes_px: Sequence[tuple[int, int]], *, side_px: int = 0, most_scales: int = 2
) -> tuple[InputSpec, ...]:
    """Sights worth trying, the cheapest first.

    Args:
        sizes_px: (width, height) of the training pictures.
        side_px: of a square with the input's area, where it is prescribed; 0 tries several. What
            would blow most pictures up more than two and a half times is not tried.
        most_scales: 1 where the network cannot look at the input halved as well.
    """
    wide = float(np.median([width / height for width, height in sizes_px]))
    wide = min(max(wide, 1 / _LARGEST_PROPORTION), _LARGEST_PROPORTION)
    side = float(np.median([(width * height) ** 0.5 for width, height in sizes_px]))
    areas = ((side_px, 1),) if side_px else _AREAS
    candidates = [area for area in areas if area[0] <= _MOST_GROWN * side] or list(areas[:1])
    found = [
        _sight(length, scales=min(scales, most_scales), wide=wide) for length, scales in candidates
    ]
    return tuple(dict.fromkeys(found))


def _sight(side_px: int, *, scales: int, wide: float) -> InputSpec:
    step = STEP_PX * scales
    return InputSpec(
        width_px=max(1, round(side_px * wide**0.5 / step)) * step,
        height_px=max(1, round(side_px / wide**0.5 / step)) * step,
        scales=scales,
    )


POOLED = "pooled"
_FACTS = "facts/1"


@dataclass(slots=True, kw_only=True, eq=False)
class FeatureReader:
    """Looks at pictures with the frozen network.

    Attributes:
        samples: what is looked at, in this order.
        files: bytes by digest.
        picture: pixels of a sample.
        at: told the percent and the stage; may raise.
        backbone: the frozen network.
    """

    samples: Sequence[Sample]
    files: Callable[[Digest], bytes]
    picture: Callable[[Sample], NDArray[np.uint8]]
    at: Callable[[float, str], None]
    cache: FeatureCache
    backbone: Backbone = field(default_factory=lite0_full)
    _engines: dict[int, tuple[str, OnnxEngine]] = field(default_factory=dict, init=False)

    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) of every training picture, from their headers."""
        return [picture_size(self.files(sample.digest)) for sample in self.samples]

    def look(
        self, specs: Sequence[InputSpec], *, first: float, last: float
    ) -> tuple[list[HealthFigures], list[Floats]]:
        """Health of every training picture, and per input (pictures, scales x per scale) float32.

        Args:
            specs: inputs to look at them with.
            first: percent of the job before.
            last: percent of the job after.
        """
        samples = self.samples
        healths: list[HealthFigures] = []
        width = per_scale(self.backbone)
        found = [np.zeros((len(samples), spec.scales * width), np.float32) for spec in specs]
        for spec in specs:
            self._engine(spec.scales)  # made here, for all threads
        look = partial(self._look, specs)
        with closing(prefetch(look, samples, threads=PICTURES_AT_ONCE)) as all_observed:
            for place, (health, pooled) in enumerate(all_observed):
                share = place / len(samples)
                self.at(first + (last - first) * share, "looking at pictures")
                healths.append(health)
                for row, each in enumerate(pooled):
                    found[row][place] = each
        return healths, found

    def _look(
        self, specs: Sequence[InputSpec], sample: Sample
    ) -> tuple[HealthFigures, Sequence[Floats]]:
        """Take what the cache has, look at the picture for what it lacks, and keep that."""
        picture = cache(partial(self.picture, sample))
        pixels = cache(lambda spec: cut(picture(), spec.prepare))

        def cached(spec: InputSpec, name: str, make: Callable[[], Arrays]) -> Arrays:
            key = _key(sample, spec, name=name)
            found = self.cache.get(key)
            if found is not None:
                return found
            made = make()
            self.cache.put(key, made)
            return made

        def look_at(spec: InputSpec, engine: OnnxEngine) -> Arrays:
            crops = levelled(pixels(replace(spec, level=0.0)), spec.prepare)
            (pooled,) = engine.run(normalise(crops, spec.prepare), outputs=(POOLED,))
            return {POOLED: pooled[0]}

        facts = cached(
            specs[0], _FACTS, lambda: {"health": health_array(picture_health(picture()))}
        )
        engines = [self._engine(spec.scales) for spec in specs]
        pooled = [
            cast(Floats, cached(spec, name, partial(look_at, spec, engine))[POOLED])
            for spec, (name, engine) in zip(specs, engines, strict=True)
        ]
        return health_of(facts["health"]), pooled

    def _engine(self, scales: int) -> tuple[str, OnnxEngine]:
        """The frozen network at so many scales, and a name that says which it is."""
        if scales not in self._engines:
            self._engines[scales] = frozen_engine(scales, backbone=self.backbone)
        return self._engines[scales]


def _key(sample: Sample, spec: InputSpec, *, name: str) -> str:
    return feature_key(sample.digest, backbone=name, prepare=spec.prepare)


def features_bytes(backbone: Backbone, *, scales: int) -> bytes:
    """A file that gives ``pooled`` (n, scales x per scale) of pictures of any one size."""
    return onnx_bytes(
        FeatureNetwork(backbone, scales=scales),
        np.zeros((1, 3, 64, 64), np.float32),
        outputs=(POOLED,),
        varies={"crops": {0: "n", 2: "h", 3: "w"}, POOLED: {0: "n"}},
    )


def frozen_engine(scales: int, *, backbone: Backbone) -> tuple[str, OnnxEngine]:
    """A network as an engine that gives ``pooled``, and its name.

    The name holds the digest of weights, settings and scales, so that caches never mix networks.
    """
    encoded = features_bytes(backbone, scales=scales)
    engine = OnnxEngine(encoded, crops=(0, 3, 0, 0), where=backbone.name, outputs=(POOLED,))
    return f"{backbone.name}/{hashlib.sha256(encoded).hexdigest()}", engine


def pooled_by(
    backbone: Backbone, inputs: Callable[[int], NDArray[np.uint8]], *, count: int
) -> Floats:
    """(count, per scale): what a trunk sees of inputs (h, w, 3) uint8, by the device's engine."""
    encoded = features_bytes(backbone, scales=1)
    engine = OnnxEngine(encoded, crops=(0, 3, 0, 0), where="tuned", outputs=(POOLED,))

    def look(place: int) -> Floats:
        return engine.run(normalised(inputs(place)), outputs=(POOLED,))[0]

    return np.concatenate(look_at_each(look, range(count)))


def normalised(image: NDArray[np.uint8]) -> Floats:
    """(h, w, 3) uint8 → (1, 3, h, w) float32, as every sight ends its preparation."""
    return normalise(image[None], InputSpec(width_px=1, height_px=1).prepare)
