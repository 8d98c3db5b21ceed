"""Good parts only: a part's pose, a network's map of distances, one limit."""

import numpy as np

from lineside.core import Clock, InvalidError
from lineside.models.archive import Package
from lineside.models.engines import OpenEngine
from lineside.models.task_heads.contract import Floats, HeadInput, HeadOutput, probe
from lineside.vision import Matrix, decode_picture, grey_of, prepare
from lineside.vision.anomaly import anomaly_cells, anomaly_score, decide_anomaly, heat_on_picture
from lineside.vision.pose import PoseFinder

MAP = "map"
NAME = "anomaly"
_MOST_TEMPLATE_BYTES = 64_000_000


class AnomalyTaskHead:
    """A network that says how far each place is from good ones; see ``TaskHead``."""

    def __init__(self, package: Package, *, clock: Clock, engine: OpenEngine) -> None:
        self._manifest = manifest = package.manifest
        self._clock = clock
        if manifest.anomaly is None:
            raise InvalidError(
                "no rule for anomalies", where=manifest.name, fix="Export the package again."
            )
        self._rule = manifest.anomaly
        self._finder = _finder(package)
        varies = manifest.prepare.fit == "zoom"
        size = (0, 0) if varies else (manifest.prepare.height_px, manifest.prepare.width_px)
        self._engine = engine(
            package.file(manifest.engine.file),
            crops=(1, 3, *size),
            where=manifest.name,
            outputs=(MAP,),
        )

    def answer(self, place: HeadInput) -> HeadOutput:
        start_s = self._clock.monotonic()
        matrix, reason = self._lie(place)
        if reason:
            spent_ms = (self._clock.monotonic() - start_s) * 1000
            return HeadOutput(reason=reason, prepare_ms=spent_ms)
        crops = prepare(place.image, self._manifest.prepare, matrix=matrix)
        cut_s = self._clock.monotonic()
        (maps,) = self._engine.run(crops, outputs=(MAP,))
        ended_s = self._clock.monotonic()
        score = anomaly_score(self._cells(maps, place), self._rule)
        return HeadOutput(
            anomaly=decide_anomaly(score, self._rule),
            prepare_ms=(cut_s - start_s) * 1000,
            infer_ms=(ended_s - cut_s) * 1000,
        )

    def explain(self, place: HeadInput) -> dict[str, Floats]:
        """Return each place's distance from good ones, a share of the farthest or of the limit."""
        heat = self.heat(place)
        if heat is None:
            return {}
        highest = max(float(heat.max()), self._rule.limit, 1e-6)
        return {NAME: np.clip(heat / np.float32(highest), 0.0, 1.0)}

    def heat(self, place: HeadInput) -> Floats | None:
        """Distances in the rule's unit; None where the part is not found."""
        matrix, reason = self._lie(place)
        if reason:
            return None
        crops = prepare(place.image, self._manifest.prepare, matrix=matrix)
        (maps,) = self._engine.run(crops, outputs=(MAP,))
        return heat_on_picture(
            self._cells(maps, place),
            self._rule,
            settings=self._manifest.prepare,
            width_px=place.image.shape[1],
            height_px=place.image.shape[0],
            matrix=matrix,
        )

    def crops(self, place: HeadInput) -> Floats:
        matrix, reason = self._lie(place)
        if reason:
            raise InvalidError(
                f"the picture is not placed: {reason}",
                where=self._manifest.name,
                fix="Use a picture that shows the part.",
            )
        return prepare(place.image, self._manifest.prepare, matrix=matrix)

    def golden(self, place: HeadInput) -> Floats:
        return probe(*self._engine.run(self.crops(place), outputs=(MAP,)))

    def _lie(self, place: HeadInput) -> tuple[Matrix | None, str]:
        """(frame px → picture px, why there is none)."""
        if self._finder is None:
            return place.matrix, ""
        posed = self._finder.find(grey_of(place.image))
        return posed.matrix, posed.reason

    def _cells(self, maps: Floats, place: HeadInput) -> Floats:
        height, width = place.image.shape[:2]
        return anomaly_cells(
            maps[0, 0],
            self._rule,
            settings=self._manifest.prepare,
            width_px=width,
            height_px=height,
        )


def open_head(package: Package, *, clock: Clock, engine: OpenEngine) -> AnomalyTaskHead:
    """Of a package of the task anomaly."""
    return AnomalyTaskHead(package, clock=clock, engine=engine)


def _finder(package: Package) -> PoseFinder | None:
    pose, settings = package.manifest.prepare.pose, package.manifest.prepare
    if pose is None:
        return None
    template = decode_picture(package.file(pose.template_file), max_bytes=_MOST_TEMPLATE_BYTES)
    if template.shape[:2] != (settings.height_px, settings.width_px):
        raise InvalidError(
            f"a template of {template.shape[:2]}, the frame is of "
            f"{(settings.height_px, settings.width_px)} (height, width) pixels",
            where=package.manifest.name,
            fix="Export the package again.",
        )
    return PoseFinder(pose, template)
