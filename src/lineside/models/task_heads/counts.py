"""Counting objects of a picture: found ones, or a distribution over numbers."""

import numpy as np

from lineside.core import Clock, InvalidError
from lineside.models.archive import Package
from lineside.models.engines import OpenEngine
from lineside.models.task_heads.contract import Floats, HeadInput, HeadOutput, TaskHead, probe
from lineside.models.task_heads.objects import ObjectFinder, boxes_of
from lineside.vision import CountRule, fitted, prepare
from lineside.vision.detections import count_found, count_likely
from lineside.vision.prepare import activation_on_picture

_OUTPUTS = ("logits", "activation")


class FoundObjectCounter:
    """Counts objects that are found; see ``TaskHead``. The objects are told as well."""

    def __init__(
        self, package: Package, *, rule: CountRule, clock: Clock, engine: OpenEngine
    ) -> None:
        self._finder = ObjectFinder(package, engine=engine)
        self._rule = rule
        self._clock = clock
        labels = self._finder.rule.labels
        self._counted = np.array([not rule.labels or name in rule.labels for name in labels])

    def answer(self, place: HeadInput) -> HeadOutput:
        start_s = self._clock.monotonic()
        crops = self._finder.crops(place)
        cut_s = self._clock.monotonic()
        maps = self._finder.maps(crops)
        ended_s = self._clock.monotonic()
        found = self._finder.candidates(maps, place=place)
        found = found.only(self._counted[found.label])
        detect = self._finder.rule
        return HeadOutput(
            boxes=boxes_of(found, rule=detect, place=place),
            count=count_found(found.chance, cut=detect.cut, rule=self._rule),
            prepare_ms=(cut_s - start_s) * 1000,
            infer_ms=(ended_s - cut_s) * 1000,
        )

    def explain(self, place: HeadInput) -> dict[str, Floats]:
        return self._finder.heat(place)

    def heat(self, place: HeadInput) -> Floats | None:  # noqa: ARG002  a count has no such map
        return None

    def crops(self, place: HeadInput) -> Floats:
        return self._finder.crops(place)

    def golden(self, place: HeadInput) -> Floats:
        return self._finder.golden(place)


class DistributionCounter:
    """Tells a number from a distribution; see ``TaskHead``."""

    def __init__(
        self, package: Package, *, rule: CountRule, clock: Clock, engine: OpenEngine
    ) -> None:
        self._manifest = package.manifest
        self._rule = rule
        self._clock = clock
        settings = self._manifest.prepare
        self._engine = engine(
            package.file(self._manifest.engine.file),
            crops=(1, 3, settings.height_px, settings.width_px),
            where=self._manifest.name,
            outputs=_OUTPUTS,
        )

    def answer(self, place: HeadInput) -> HeadOutput:
        start_s = self._clock.monotonic()
        crops = prepare(place.image, self._manifest.prepare)
        cut_s = self._clock.monotonic()
        (logits,) = self._engine.run(crops, outputs=("logits",))
        ended_s = self._clock.monotonic()
        return HeadOutput(
            count=count_likely(logits[0], self._rule),
            prepare_ms=(cut_s - start_s) * 1000,
            infer_ms=(ended_s - cut_s) * 1000,
        )

    def explain(self, place: HeadInput) -> dict[str, Floats]:
        crops = prepare(place.image, self._manifest.prepare)
        (grid,) = self._engine.run(crops, outputs=("activation",))
        height, width = place.image.shape[:2]
        settings = fitted(self._manifest.prepare, width_px=width, height_px=height)
        positive = np.clip(grid[0, 0], 0.0, None)
        share = positive / np.float32(float(positive.max()) or 1.0)
        laid = activation_on_picture(share, settings.crops[0], width_px=width, height_px=height)
        return {"objects": np.clip(laid, 0, 1)}

    def heat(self, place: HeadInput) -> Floats | None:  # noqa: ARG002  a count has no such map
        return None

    def crops(self, place: HeadInput) -> Floats:
        return prepare(place.image, self._manifest.prepare)

    def golden(self, place: HeadInput) -> Floats:
        logits, activation = self._engine.run(self.crops(place), outputs=_OUTPUTS)
        return probe(logits, activation)


def open_head(package: Package, *, clock: Clock, engine: OpenEngine) -> TaskHead:
    """Of a package of the task count."""
    rule = package.manifest.count
    if rule is None:
        raise InvalidError("no rule of a count", where=package.manifest.name, fix="Export it.")
    if package.manifest.detect is not None:
        return FoundObjectCounter(package, rule=rule, clock=clock, engine=engine)
    return DistributionCounter(package, rule=rule, clock=clock, engine=engine)
