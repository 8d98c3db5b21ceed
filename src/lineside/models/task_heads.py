"""Task heads: a package's network with its rules, from a picture to the answer of its task.

A head of each task: labels of regions, classes, objects, counts (of objects that are found, or from
a distribution over numbers), masks of defects, and anomalies of good parts. Not here: the order of
checks and the places of cameras (``lineside.models.predictor``), decisions (vision).

A picture larger than ``TILE_PX`` is searched for objects in tiles that overlap by more than an
object and the part of the picture that the network sees around it, and the maps are put together,
so that memory stays bounded.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from lineside.core import Clock, InvalidError
from lineside.models.archive import Package
from lineside.models.engines import (
    BANK_OUTPUT,
    LABEL_OUTPUTS,
    EngineDevice,
    EngineName,
    OpenEngine,
    engine_named,
)
from lineside.models.manifest import Manifest
from lineside.vision import (
    AnomalyAnswer,
    BoxAnswer,
    CountAnswer,
    Decision,
    DetectRule,
    LabelAnswer,
    MaskAnswer,
    Matrix,
    decode_picture,
    fitted,
    grey_of,
    prepare,
)
from lineside.vision.anomaly import anomaly_cells, anomaly_score, decide_anomaly, heat_on_picture
from lineside.vision.decide import Decider, decide_classes
from lineside.vision.detections import Candidates, count_found, count_likely, find_objects
from lineside.vision.masks import (
    decide_score,
    inside_picture,
    mask_answer,
    mask_score,
    on_picture,
    set_pixels,
)
from lineside.vision.pose import PoseEstimator
from lineside.vision.prepare import activation_on_picture, with_template

TILE_PX = 1536
MARGIN_PX = 128
"""Of a tile's maps so much of each inner edge is left to the next tile; a multiple of 16."""

_PROBES = 64
_TEMPLATE_CHANNELS = 9
_MOST_TEMPLATE_BYTES = 64_000_000
_FIX = "Export the package again."

Rule = TypeVar("Rule")
Image = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeadInput:
    """A picture and what stands beside it.

    Attributes:
        image: (height, width, 3) uint8 RGB.
        matrix: (2, 3), reference px → picture px; None where the package registers nothing.
        template: of the picture's size, uint8 RGB; None where the package takes none.
    """

    image: Image
    matrix: Matrix | None = None
    template: Image | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOutput:
    """Answer of a package to a picture; its task decides which fields are filled.

    Attributes:
        distance: of the picture's features from the training data, as ``HealthFigures`` says.
        prepare_ms, infer_ms: what the steps took.
        reason: why the picture could not be placed ("camera moved"); "" otherwise.
        unfamiliar: how the picture differs from those trained on; "" where it does not.
    """

    labels: tuple[LabelAnswer, ...] = ()
    boxes: tuple[BoxAnswer, ...] = ()
    count: CountAnswer | None = None
    mask: MaskAnswer | None = None
    anomaly: AnomalyAnswer | None = None
    distance: float = 0.0
    prepare_ms: float = 0.0
    infer_ms: float = 0.0
    reason: str = ""
    unfamiliar: str = ""


class TaskHead(ABC):
    """A package's network with its rules; safe from several threads but for ``decide_by``."""

    OUTPUTS: ClassVar[tuple[str, ...]] = LABEL_OUTPUTS
    ANSWERING: ClassVar[tuple[str, ...]] = ("logits", "distance")
    """Of the network's outputs those that an answer needs."""

    def __init__(
        self,
        package: Package,
        *,
        clock: Clock,
        engine: OpenEngine,
        crops: tuple[int, int, int, int],
    ) -> None:
        """Load the network; ``crops`` is the shape of its input, 0 where it varies."""
        self._manifest = package.manifest
        self._settings = package.manifest.prepare
        self._clock = clock
        self.decide_by(package.manifest)
        self._engine = engine(
            package.file(self._manifest.engine.file),
            crops=crops,
            where=self._manifest.name,
            outputs=self.OUTPUTS,
        )

    @property
    def device(self) -> EngineDevice:
        """The processor that the network runs on; never ``auto``."""
        return self._engine.device

    def answer(self, place: HeadInput) -> HeadOutput:
        """Judge a picture."""
        start_s = self._clock.monotonic()
        place, reason = self._located(place)
        crops = None if reason else self._prepared(place)
        cut_s = self._clock.monotonic()
        if crops is None:
            return HeadOutput(reason=reason, prepare_ms=(cut_s - start_s) * 1000)
        maps = self._maps(crops)
        ended_s = self._clock.monotonic()
        return replace(
            self._decided(maps, place),
            prepare_ms=(cut_s - start_s) * 1000,
            infer_ms=(ended_s - cut_s) * 1000,
        )

    @abstractmethod
    def decide_by(self, manifest: Manifest) -> None:
        """Take the rules of a manifest, which is the package's own but for its limits."""

    @abstractmethod
    def explain(self, place: HeadInput) -> dict[str, Floats]:
        """Label (or ``objects``, ``anomaly``) → (height, width) float32, 0-1, on its pixels."""

    def heat(self, place: HeadInput) -> Floats | None:  # noqa: ARG002  most tasks give none
        """(height, width) float32 on its pixels, in the task's own unit, higher is more defective.

        Comparable between pictures, unlike ``explain``; None where the task gives no such map or
        the picture could not be placed.
        """
        return None

    def crops(self, place: HeadInput) -> Floats:
        """Return the network's input for a picture: (n, channels, height, width) float32.

        Raises:
            InvalidError: the picture could not be placed, or lacks its template.
        """
        place, reason = self._located(place)
        if reason:
            raise InvalidError(
                f"the picture is not placed: {reason}",
                where=self._manifest.name,
                fix="Use a picture that shows the part.",
            )
        return self._prepared(place)

    def bank_distances(self, place: HeadInput) -> Floats:
        """(crops, pictures) float32: distances from the training pictures that are remembered.

        Raises:
            InvalidError: the network gives none, or the picture could not be placed.
        """
        return self._output(BANK_OUTPUT, place)

    def golden(self, place: HeadInput) -> Floats:
        """(rows, numbers) float32: what ``Golden.logits`` holds of this picture."""
        return probe(*self._maps(self.crops(place)))

    def _located(self, place: HeadInput) -> tuple[HeadInput, str]:
        """The input with the place of its part, and why the part has none."""
        return place, ""

    def _prepared(self, place: HeadInput) -> Floats:
        return prepare(place.image, self._settings)

    def _maps(self, crops: Floats) -> list[Floats]:
        """Return the outputs that an answer needs."""
        return self._engine.run(crops, outputs=self.ANSWERING)

    @abstractmethod
    def _decided(self, maps: list[Floats], place: HeadInput) -> HeadOutput:
        """The answer that the network's outputs give."""

    def _output(self, name: str, place: HeadInput) -> Floats:
        """One of the network's outputs for a picture."""
        return self._engine.run(self.crops(place), outputs=(name,))[0]

    def _laid(self, grid: Floats, place: HeadInput, *, row: int = 0) -> Floats:
        """A map of one crop, laid on the picture's pixels."""
        height, width = place.image.shape[:2]
        own = fitted(self._settings, width_px=width, height_px=height)
        return activation_on_picture(
            grid, own.crops[row], width_px=width, height_px=height, matrix=place.matrix
        )


def probe(*maps: Floats) -> Floats:
    """Evenly spaced values of each array, one row of 64 each (fewer values are repeated)."""
    rows = []
    for each in maps:
        flat = each.reshape(-1)
        places = np.linspace(0, len(flat) - 1, _PROBES).round().astype(np.intp)
        rows.append(flat[places])
    return np.stack(rows).astype(np.float32)


def _ruled(rule: Rule | None, manifest: Manifest) -> Rule:
    if rule is None:
        raise InvalidError(f"no rule of the task {manifest.task}", where=manifest.name, fix=_FIX)
    return rule


def _input_size(package: Package) -> tuple[int, int]:
    """Height and width of the network's input; 0 where they follow the picture's."""
    settings = package.manifest.prepare
    return (0, 0) if settings.fit == "zoom" else (settings.height_px, settings.width_px)


def _support(grid: Floats) -> Floats:
    """A map's positive values as a share of its strongest one, for or against."""
    strongest = float(np.abs(grid).max())
    return np.clip(grid, 0.0, None) / np.float32(strongest or 1.0)


class _LogitsHead(TaskHead):
    """A network of logits, activation and distance on crops of the reference view."""

    def golden(self, place: HeadInput) -> Floats:
        return self._output("logits", place)

    def _prepared(self, place: HeadInput) -> Floats:
        return prepare(place.image, self._settings, matrix=place.matrix)


class LabelTaskHead(_LogitsHead):
    """Presence labels and classes of regions: logits per region, a rule per output."""

    def __init__(self, package: Package, *, clock: Clock, engine: OpenEngine) -> None:
        settings = package.manifest.prepare
        size = (len(settings.crops), 3, settings.height_px, settings.width_px)
        super().__init__(package, clock=clock, engine=engine, crops=size)

    def decide_by(self, manifest: Manifest) -> None:
        self._regions = tuple(crop.region for crop in manifest.prepare.crops)
        self._decider = Decider(manifest.rules, regions=self._regions, policy=manifest.policy)

    def _decided(self, maps: list[Floats], place: HeadInput) -> HeadOutput:  # noqa: ARG002
        logits, distance = maps
        # The distance is that of the strangest region.
        return HeadOutput(labels=self._decider.decide(logits), distance=float(distance.max()))

    def explain(self, place: HeadInput) -> dict[str, Floats]:
        """Support for each label; see ``Predictor.explain``."""
        maps = self._output("activation", place)
        found = {}
        for rule in self._manifest.rules:
            row = self._regions.index(rule.region)
            sign = np.float32(np.sign(rule.slope) or 1)
            found[rule.name] = self._laid(_support(maps[row, rule.output] * sign), place, row=row)
        return found


class ClassTaskHead(_LogitsHead):
    """Classes of whole pictures: logits of one network, one rule for all of them."""

    def __init__(self, package: Package, *, clock: Clock, engine: OpenEngine) -> None:
        crops = (1, 3, *_input_size(package))
        super().__init__(package, clock=clock, engine=engine, crops=crops)

    def decide_by(self, manifest: Manifest) -> None:
        self._rule = _ruled(manifest.classes, manifest)

    def _decided(self, maps: list[Floats], place: HeadInput) -> HeadOutput:  # noqa: ARG002
        logits, distance = maps
        labels = decide_classes(logits[0], self._rule)
        return HeadOutput(labels=labels, distance=float(distance.max()))

    def explain(self, place: HeadInput) -> dict[str, Floats]:
        """Support for each class against the classes' average, which alone decides nothing."""
        maps = self._output("activation", place)
        apart = np.asarray(maps[0] - maps[0].mean(axis=0), np.float32)
        return {
            label: self._laid(_support(apart[row]), place)
            for row, label in enumerate(self._rule.labels)
        }


class MaskTaskHead(TaskHead):
    """Masks of defects: a network's map of logits, one rule for pixels and picture."""

    OUTPUTS = ANSWERING = ("map", "distance")

    def __init__(self, package: Package, *, clock: Clock, engine: OpenEngine) -> None:
        super().__init__(package, clock=clock, engine=engine, crops=(1, 3, 0, 0))

    def decide_by(self, manifest: Manifest) -> None:
        self._rule = _ruled(manifest.mask, manifest)
        self._policy = manifest.policy

    def _decided(self, maps: list[Floats], place: HeadInput) -> HeadOutput:
        height, width = place.image.shape[:2]
        grid, distance = maps
        cells = inside_picture(grid[0, 0], self._settings, width_px=width, height_px=height)
        score = mask_score(cells, self._rule)
        label = decide_score(score, self._rule, policy=self._policy)
        found, areas = set_pixels(self._logits(grid, place), self._rule)
        if label.decision is Decision.ABSENT:
            found, areas = np.zeros_like(found), ()
        return HeadOutput(
            labels=(label,), mask=mask_answer(found, areas), distance=float(distance.max())
        )

    def explain(self, place: HeadInput) -> dict[str, Floats]:
        return {self._rule.label: self.heat(place)}

    def heat(self, place: HeadInput) -> Floats:
        """Probability of each pixel."""
        laid = self._logits(self._output("map", place), place)
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(laid, -60.0, 60.0))), np.float32)

    def _logits(self, grid: Floats, place: HeadInput) -> Floats:
        height, width = place.image.shape[:2]
        return on_picture(grid[0, 0], self._settings, width_px=width, height_px=height)


class AnomalyTaskHead(TaskHead):
    """Anomalies of good parts: a part's pose, a network's map of distances, one limit."""

    OUTPUTS = ANSWERING = ("map",)

    def __init__(self, package: Package, *, clock: Clock, engine: OpenEngine) -> None:
        self._poses = _pose_estimator(package)
        crops = (1, 3, *_input_size(package))
        super().__init__(package, clock=clock, engine=engine, crops=crops)

    def decide_by(self, manifest: Manifest) -> None:
        self._rule = _ruled(manifest.anomaly, manifest)

    def _decided(self, maps: list[Floats], place: HeadInput) -> HeadOutput:
        score = anomaly_score(self._cells(maps[0], place), self._rule)
        return HeadOutput(anomaly=decide_anomaly(score, self._rule))

    def explain(self, place: HeadInput) -> dict[str, Floats]:
        """Return each place's distance from good ones, a share of the farthest or of the limit."""
        heat = self.heat(place)
        if heat is None:
            return {}
        highest = max(float(heat.max()), self._rule.limit, 1e-6)
        return {"anomaly": np.clip(heat / np.float32(highest), 0.0, 1.0)}

    def heat(self, place: HeadInput) -> Floats | None:
        """Distances in the rule's unit; None where the part is not found."""
        place, reason = self._located(place)
        if reason:
            return None
        height, width = place.image.shape[:2]
        return heat_on_picture(
            self._cells(self._maps(self._prepared(place))[0], place),
            self._rule,
            settings=self._settings,
            width_px=width,
            height_px=height,
            matrix=place.matrix,
        )

    def _located(self, place: HeadInput) -> tuple[HeadInput, str]:
        if self._poses is None:
            return place, ""
        posed = self._poses.find(grey_of(place.image))
        return replace(place, matrix=posed.matrix), posed.reason

    def _prepared(self, place: HeadInput) -> Floats:
        return prepare(place.image, self._settings, matrix=place.matrix)

    def _cells(self, grid: Floats, place: HeadInput) -> Floats:
        height, width = place.image.shape[:2]
        return anomaly_cells(
            grid[0, 0], self._rule, settings=self._settings, width_px=width, height_px=height
        )


def _pose_estimator(package: Package) -> PoseEstimator | None:
    settings = package.manifest.prepare
    if settings.pose is None:
        return None
    name = settings.pose.template_file
    template = decode_picture(package.file(name), max_bytes=_MOST_TEMPLATE_BYTES)
    size = (settings.height_px, settings.width_px)
    if template.shape[:2] != size:
        raise InvalidError(
            f"a template of {template.shape[:2]}, the frame is of {size} (height, width) pixels",
            where=package.manifest.name,
            fix=_FIX,
        )
    return PoseEstimator(settings.pose, template)


class ObjectTaskHead(TaskHead):
    """Objects: maps of centres read into boxes on the picture's own pixels."""

    OUTPUTS = ANSWERING = ("objectness", "geometry", "classes")

    def __init__(self, package: Package, *, clock: Clock, engine: OpenEngine) -> None:
        channels = _TEMPLATE_CHANNELS if package.manifest.template else 3
        super().__init__(package, clock=clock, engine=engine, crops=(1, channels, 0, 0))
        self._compared = (BANK_OUTPUT,) if package.manifest.health.compared else ()

    def decide_by(self, manifest: Manifest) -> None:
        self._rule = _ruled(manifest.detect, manifest)

    def bank_distances(self, place: HeadInput) -> Floats:
        return self._engine.run(bounded(self.crops(place)), outputs=(BANK_OUTPUT,))[0]

    def _decided(self, maps: list[Floats], place: HeadInput) -> HeadOutput:
        found, unfamiliar = self._candidates(maps, place)
        return HeadOutput(
            boxes=_boxes(found, rule=self._rule, place=place),
            distance=_nearest(maps[3:]),
            unfamiliar=unfamiliar,
        )

    def explain(self, place: HeadInput) -> dict[str, Floats]:
        """``objects`` → how likely a centre is around each pixel, 0-1."""
        objectness = self._maps(self.crops(place))[0]
        score = self._rule.slope * objectness[0] + self._rule.offset
        chance = (1 / (1 + np.exp(-np.clip(score, -60, 60)))).astype(np.float32)
        return {"objects": np.clip(self._laid(chance, replace(place, matrix=None)), 0, 1)}

    def _prepared(self, place: HeadInput) -> Floats:
        """The network's input, its template beside it where the package takes one."""
        crops = prepare(place.image, self._settings)
        if not self._manifest.template:
            return crops
        if place.template is None:
            raise InvalidError(
                "no template", where=self._manifest.name, fix="Hand in the picture's template."
            )
        return with_template(crops, prepare(place.template, self._settings))

    def _maps(self, crops: Floats) -> list[Floats]:
        """Objectness, geometry and classes of the whole input, each (channels, h, w).

        Bank distances follow, (pictures,), where the limits ask for them and no tiles are cut.
        """
        height, width = crops.shape[2:]
        if max(height, width) <= TILE_PX:
            return self._tile(crops, more=self._compared)
        stride = self._rule.stride_px
        size = (height // stride, width // stride)
        whole = [
            np.empty((channels, *size), np.float32) for channels in (1, 4, len(self._rule.labels))
        ]
        for (top, bottom), (keep_top, keep_bottom) in tiles(height):
            for (left, right), (keep_left, keep_right) in tiles(width):
                part = self._tile(crops[:, :, top:bottom, left:right])
                rows = slice(keep_top // stride, keep_bottom // stride)
                columns = slice(keep_left // stride, keep_right // stride)
                inner = (
                    slice((keep_top - top) // stride, (keep_bottom - top) // stride),
                    slice((keep_left - left) // stride, (keep_right - left) // stride),
                )
                for out, found in zip(whole, part, strict=True):
                    out[:, rows, columns] = found[:, inner[0], inner[1]]
        return whole

    def _tile(self, crops: Floats, *, more: tuple[str, ...] = ()) -> list[Floats]:
        outputs = (*self.OUTPUTS, *more)
        maps = self._engine.run(np.ascontiguousarray(crops), outputs=outputs)
        return [each[0] for each in maps]

    def golden(self, place: HeadInput) -> Floats:
        return probe(*self._maps(self.crops(place))[: len(self.OUTPUTS)])

    def _candidates(self, maps: list[Floats], place: HeadInput) -> tuple[Candidates, str]:
        """Candidates on the picture's own pixels, the likeliest first, and what is unfamiliar."""
        height, width = place.image.shape[:2]
        own = fitted(self._settings, width_px=width, height_px=height)
        box = own.crops[0].box_px
        across = own.width_px / (box.x1_px - box.x0_px)
        down = own.height_px / (box.y1_px - box.y0_px)
        found = find_objects((maps[0], maps[1], maps[2]), rule=self._rule)
        inside = found.scaled(1 / across, down=1 / down).inside(width, height_px=height)
        return inside, self._rule.unfamiliar(
            inside.scaled(across, down=down), scale=math.sqrt(across * down)
        )


def _boxes(found: Candidates, *, rule: DetectRule, place: HeadInput) -> tuple[BoxAnswer, ...]:
    """Objects above the cut, the likeliest first, clipped to the picture."""
    height, width = place.image.shape[:2]
    there = found.only(found.chance > rule.cut)
    low = np.clip(there.boxes_px[:, :2], 0, (width, height))
    high = np.clip(there.boxes_px[:, 2:], 0, (width, height))
    chances = there.chance * there.label_chance
    return tuple(
        BoxAnswer(
            label=rule.labels[label],
            x0_px=round(float(x0), 2),
            y0_px=round(float(y0), 2),
            x1_px=round(float(x1), 2),
            y1_px=round(float(y1), 2),
            probability=float(probability),
            decision=Decision.PRESENT if probability >= rule.unsure_below else Decision.UNSURE,
        )
        for (x0, y0), (x1, y1), label, probability in zip(
            low, high, there.label, chances, strict=True
        )
    )


def _nearest(distances: list[Floats]) -> float:
    """Return the distance of the nearest remembered picture; 0 where none was asked for."""
    return float(distances[0].min()) if distances else 0.0


def bounded(crops: Floats) -> Floats:
    """A network's input, (n, channels, h, w), with sides of at most ``TILE_PX``.

    A larger side is shrunk by a whole number, as a mean; what no multiple of 16 holds is cut off.
    """
    down, across = (-(-side // TILE_PX) for side in crops.shape[2:])
    high, wide = (
        side // (16 * times) * 16
        for side, times in zip(crops.shape[2:], (down, across), strict=True)
    )
    cells = crops[:, :, : high * down, : wide * across]
    shape = (*crops.shape[:2], high, down, wide, across)
    return np.ascontiguousarray(cells.reshape(shape).mean(axis=(3, 5)), np.float32)


def tiles(length_px: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where tiles along one side lie, and which part of the side each one speaks for.

    Args:
        length_px: a multiple of 16, as every number given back is.
    """
    if length_px <= TILE_PX:
        yield (0, length_px), (0, length_px)
        return
    step = TILE_PX - 2 * MARGIN_PX
    start = 0
    while True:
        end = min(start + TILE_PX, length_px)
        last = end == length_px
        kept_from = 0 if start == 0 else start + MARGIN_PX
        yield (start, end), (kept_from, end if last else end - MARGIN_PX)
        if last:
            return
        start += step


class ObjectCountTaskHead(ObjectTaskHead):
    """Counts of objects that are found; the answer holds the objects as well."""

    def decide_by(self, manifest: Manifest) -> None:
        super().decide_by(manifest)
        self._count = count = _ruled(manifest.count, manifest)
        self._counted = np.array(
            [not count.labels or name in count.labels for name in self._rule.labels]
        )

    def _decided(self, maps: list[Floats], place: HeadInput) -> HeadOutput:
        found, unfamiliar = self._candidates(maps, place)
        found = found.only(self._counted[found.label])
        return HeadOutput(
            boxes=_boxes(found, rule=self._rule, place=place),
            distance=_nearest(maps[3:]),
            unfamiliar=unfamiliar,
            count=count_found(found.chance, cut=self._rule.cut, rule=self._count),
        )


class NumberTaskHead(TaskHead):
    """Counts from a distribution over numbers."""

    OUTPUTS = ("logits", "activation")
    ANSWERING = ("logits",)

    def __init__(self, package: Package, *, clock: Clock, engine: OpenEngine) -> None:
        settings = package.manifest.prepare
        size = (1, 3, settings.height_px, settings.width_px)
        super().__init__(package, clock=clock, engine=engine, crops=size)
        self._compared = (BANK_OUTPUT,) if package.manifest.health.compared else ()

    def decide_by(self, manifest: Manifest) -> None:
        self._rule = _ruled(manifest.count, manifest)

    def _maps(self, crops: Floats) -> list[Floats]:
        return self._engine.run(crops, outputs=(*self.ANSWERING, *self._compared))

    def _decided(self, maps: list[Floats], place: HeadInput) -> HeadOutput:  # noqa: ARG002
        return HeadOutput(count=count_likely(maps[0][0], self._rule), distance=_nearest(maps[1:]))

    def explain(self, place: HeadInput) -> dict[str, Floats]:
        """``objects`` → support for any object around each pixel, 0-1."""
        positive = np.clip(self._output("activation", place)[0, 0], 0.0, None)
        share = positive / np.float32(float(positive.max()) or 1.0)
        return {"objects": np.clip(self._laid(share, replace(place, matrix=None)), 0, 1)}

    def golden(self, place: HeadInput) -> Floats:
        return probe(*self._engine.run(self.crops(place), outputs=self.OUTPUTS))


def task_head_for(
    package: Package, *, clock: Clock, engine: EngineName = EngineName.ONNX_RUNTIME,
    device: EngineDevice = EngineDevice.CPU,
) -> TaskHead:  # fmt: skip
    """Return the head of a package's task, its network loaded.

    Raises:
        InvalidError: the network does not load or does not fit the manifest, or no such device.
        MissingExtraError: the engine's library is not installed, or not for this device.
    """
    manifest = package.manifest
    heads = {
        "multilabel": LabelTaskHead,
        "classify": ClassTaskHead,
        "detect": ObjectTaskHead,
        "count": NumberTaskHead if manifest.detect is None else ObjectCountTaskHead,
        "segment": MaskTaskHead,
        "anomaly": AnomalyTaskHead,
    }
    if manifest.task not in heads:
        raise InvalidError(
            f"no task {manifest.task!r}", where=manifest.name, fix=f"Known: {', '.join(heads)}."
        )
    return heads[manifest.task](package, clock=clock, engine=engine_named(engine, device))
