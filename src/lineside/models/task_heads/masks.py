"""Masks of defects: a network's map of logits, one rule for pixels and picture."""

import numpy as np

from lineside.core import Clock, InvalidError
from lineside.models.archive import Package
from lineside.models.engines import OpenEngine
from lineside.models.task_heads.contract import Floats, HeadInput, HeadOutput, probe
from lineside.vision import Decision, prepare
from lineside.vision.masks import (
    decide_score,
    inside_picture,
    mask_answer,
    mask_score,
    on_picture,
    set_pixels,
)

OUTPUTS = ("map", "distance")


class MaskTaskHead:
    """A network that says of each pixel whether it is defect; see ``TaskHead``."""

    def __init__(self, package: Package, *, clock: Clock, engine: OpenEngine) -> None:
        self._manifest = manifest = package.manifest
        self._clock = clock
        if manifest.mask is None:
            raise InvalidError(
                "no rule for masks", where=manifest.name, fix="Export the package again."
            )
        self._rule = manifest.mask
        self._engine = engine(
            package.file(manifest.engine.file),
            crops=(1, 3, 0, 0),
            where=manifest.name,
            outputs=OUTPUTS,
        )

    def answer(self, place: HeadInput) -> HeadOutput:
        start_s = self._clock.monotonic()
        crops = prepare(place.image, self._manifest.prepare)
        cut_s = self._clock.monotonic()
        maps, distance = self._engine.run(crops, outputs=OUTPUTS)
        ended_s = self._clock.monotonic()
        score = mask_score(self._inside(maps, place), self._rule)
        label = decide_score(score, self._rule, policy=self._manifest.policy)
        found, areas = set_pixels(self._laid(maps, place), self._rule)
        if label.decision is Decision.ABSENT:
            found, areas = np.zeros_like(found), ()
        return HeadOutput(
            labels=(label,),
            mask=mask_answer(found, areas),
            distance=float(distance.max()),
            prepare_ms=(cut_s - start_s) * 1000,
            infer_ms=(ended_s - cut_s) * 1000,
        )

    def explain(self, place: HeadInput) -> dict[str, Floats]:
        return {self._rule.label: self.heat(place)}

    def heat(self, place: HeadInput) -> Floats:
        """Probability of each pixel."""
        laid = self._laid(self._map(place), place)
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(laid, -60.0, 60.0))), np.float32)

    def crops(self, place: HeadInput) -> Floats:
        return prepare(place.image, self._manifest.prepare)

    def golden(self, place: HeadInput) -> Floats:
        return probe(*self._engine.run(self.crops(place), outputs=OUTPUTS))

    def _map(self, place: HeadInput) -> Floats:
        crops = prepare(place.image, self._manifest.prepare)
        return self._engine.run(crops, outputs=("map",))[0]

    def _laid(self, maps: Floats, place: HeadInput) -> Floats:
        height, width = place.image.shape[:2]
        return on_picture(maps[0, 0], self._manifest.prepare, width_px=width, height_px=height)

    def _inside(self, maps: Floats, place: HeadInput) -> Floats:
        height, width = place.image.shape[:2]
        return inside_picture(maps[0, 0], self._manifest.prepare, width_px=width, height_px=height)


def open_head(package: Package, *, clock: Clock, engine: OpenEngine) -> MaskTaskHead:
    """Of a package of the task segment."""
    return MaskTaskHead(package, clock=clock, engine=engine)
