"""Presence labels and classes of regions: logits per region, a rule per output."""

import numpy as np

from lineside.core import Clock
from lineside.models.archive import Package
from lineside.models.engines import OpenEngine
from lineside.models.task_heads.contract import Floats, HeadInput, HeadOutput
from lineside.vision import prepare
from lineside.vision.decide import Decider
from lineside.vision.prepare import activation_on_picture

_QUICK = ("logits", "distance")


class LabelTaskHead:
    """A network of region heads; see ``TaskHead``."""

    def __init__(self, package: Package, *, clock: Clock, engine: OpenEngine) -> None:
        self._manifest = package.manifest
        self._clock = clock
        settings = self._manifest.prepare
        self._regions = tuple(crop.region for crop in settings.crops)
        self._decider = Decider(
            self._manifest.rules, regions=self._regions, policy=self._manifest.policy
        )
        self._engine = engine(
            package.file(self._manifest.engine.file),
            crops=(len(settings.crops), 3, settings.height_px, settings.width_px),
            where=self._manifest.name,
        )

    def answer(self, place: HeadInput) -> HeadOutput:
        start_s = self._clock.monotonic()
        crops = prepare(place.image, self._manifest.prepare, matrix=place.matrix)
        cut_s = self._clock.monotonic()
        logits, distance = self._engine.run(crops, outputs=_QUICK)
        ended_s = self._clock.monotonic()
        return HeadOutput(
            labels=self._decider.decide(logits),
            distance=float(distance.max()),  # of the strangest region
            prepare_ms=(cut_s - start_s) * 1000,
            infer_ms=(ended_s - cut_s) * 1000,
        )

    def explain(self, place: HeadInput) -> dict[str, Floats]:
        """Support for each label; see ``Predictor.explain``."""
        settings = self._manifest.prepare
        crops = prepare(place.image, settings, matrix=place.matrix)
        (maps,) = self._engine.run(crops, outputs=("activation",))
        height, width = place.image.shape[:2]
        found = {}
        for rule in self._manifest.rules:
            row = self._regions.index(rule.region)
            found[rule.name] = activation_on_picture(
                support(maps[row, rule.output] * np.float32(np.sign(rule.slope) or 1)),
                settings.crops[row],
                width_px=width,
                height_px=height,
                matrix=place.matrix,
            )
        return found

    def heat(self, place: HeadInput) -> Floats | None:  # noqa: ARG002  labels give no such map
        return None

    def crops(self, place: HeadInput) -> Floats:
        return prepare(place.image, self._manifest.prepare, matrix=place.matrix)

    def golden(self, place: HeadInput) -> Floats:
        return self._engine.run(self.crops(place), outputs=("logits",))[0]


def open_head(package: Package, *, clock: Clock, engine: OpenEngine) -> LabelTaskHead:
    """Of a package of the task multilabel."""
    return LabelTaskHead(package, clock=clock, engine=engine)


def support(grid: Floats) -> Floats:
    """A map's positive values as a share of its strongest one, for or against."""
    strongest = float(np.abs(grid).max())
    return np.clip(grid, 0.0, None) / np.float32(strongest or 1.0)
