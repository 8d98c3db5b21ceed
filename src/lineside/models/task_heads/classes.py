"""Classes of whole pictures: logits of one network, one rule for all of them."""

import numpy as np

from lineside.core import Clock, InvalidError
from lineside.models.archive import Package
from lineside.models.engines import OpenEngine
from lineside.models.task_heads.contract import Floats, HeadInput, HeadOutput
from lineside.models.task_heads.labels import support
from lineside.vision import fitted, prepare
from lineside.vision.decide import decide_classes
from lineside.vision.prepare import activation_on_picture

_QUICK = ("logits", "distance")


class ClassTaskHead:
    """A network of classes; see ``TaskHead``."""

    def __init__(self, package: Package, *, clock: Clock, engine: OpenEngine) -> None:
        manifest = package.manifest
        if manifest.classes is None:
            raise InvalidError(
                "no rule of classes", where=manifest.name, fix="Export the package again."
            )
        self._rule = manifest.classes
        self._settings = manifest.prepare
        self._clock = clock
        varies = self._settings.fit == "zoom"
        size = (self._settings.height_px, self._settings.width_px)
        self._engine = engine(
            package.file(manifest.engine.file),
            crops=(1, 3, *((0, 0) if varies else size)),
            where=manifest.name,
        )

    def answer(self, place: HeadInput) -> HeadOutput:
        start_s = self._clock.monotonic()
        crops = prepare(place.image, self._settings, matrix=place.matrix)
        cut_s = self._clock.monotonic()
        logits, distance = self._engine.run(crops, outputs=_QUICK)
        ended_s = self._clock.monotonic()
        return HeadOutput(
            labels=decide_classes(logits[0], self._rule),
            distance=float(distance.max()),
            prepare_ms=(cut_s - start_s) * 1000,
            infer_ms=(ended_s - cut_s) * 1000,
        )

    def explain(self, place: HeadInput) -> dict[str, Floats]:
        """Support for each class against the classes' average, which alone decides nothing."""
        height, width = place.image.shape[:2]
        crops = prepare(place.image, self._settings, matrix=place.matrix)
        (maps,) = self._engine.run(crops, outputs=("activation",))
        apart = maps[0] - maps[0].mean(axis=0)
        crop = fitted(self._settings, width_px=width, height_px=height).crops[0]
        return {
            label: activation_on_picture(
                support(np.asarray(apart[row], np.float32)),
                crop,
                width_px=width,
                height_px=height,
                matrix=place.matrix,
            )
            for row, label in enumerate(self._rule.labels)
        }

    def heat(self, place: HeadInput) -> Floats | None:  # noqa: ARG002  classes give no such map
        return None

    def crops(self, place: HeadInput) -> Floats:
        return prepare(place.image, self._settings, matrix=place.matrix)

    def golden(self, place: HeadInput) -> Floats:
        return self._engine.run(self.crops(place), outputs=("logits",))[0]


def open_head(package: Package, *, clock: Clock, engine: OpenEngine) -> ClassTaskHead:
    """Of a package of the task classify."""
    return ClassTaskHead(package, clock=clock, engine=engine)
