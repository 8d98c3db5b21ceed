"""Objects on a picture: maps of centres read into boxes on the picture's own pixels.

A picture larger than ``TILE_PX`` is read in tiles that overlap by more than an object and the sight
of the network around it, and the maps are put together, so that memory stays bounded.
"""

from collections.abc import Iterator

import numpy as np

from lineside.core import Clock, InvalidError
from lineside.models.archive import Package
from lineside.models.engines import OpenEngine
from lineside.models.task_heads.contract import Floats, HeadInput, HeadOutput, probe
from lineside.vision import BoxAnswer, Decision, DetectRule, Prepare, fitted, prepare
from lineside.vision.detections import Candidates, find_objects
from lineside.vision.prepare import activation_on_picture, beside_template

OUTPUTS = ("objectness", "geometry", "classes")
TILE_PX = 1536
MARGIN_PX = 128
"""Of a tile's maps so much of each inner edge is left to the next tile; a multiple of 16."""

_TEMPLATE_CHANNELS = 9


class ObjectFinder:
    """A network of centre maps with its rule; shared by boxes and counts."""

    def __init__(self, package: Package, *, engine: OpenEngine) -> None:
        self._manifest = package.manifest
        rule = self._manifest.detect
        if rule is None:
            raise InvalidError("no rule for objects", where=self._manifest.name, fix="Export it.")
        self.rule: DetectRule = rule
        channels = _TEMPLATE_CHANNELS if self._manifest.template else 3
        self._engine = engine(
            package.file(self._manifest.engine.file),
            crops=(1, channels, 0, 0),
            where=self._manifest.name,
            outputs=OUTPUTS,
        )

    def crops(self, place: HeadInput) -> Floats:
        """The network's input, its template beside it where the package takes one."""
        crops = prepare(place.image, self._manifest.prepare)
        if not self._manifest.template:
            return crops
        if place.template is None:
            raise InvalidError(
                "no template", where=self._manifest.name, fix="Hand in the picture's template."
            )
        return beside_template(crops, prepare(place.template, self._manifest.prepare))

    def maps(self, crops: Floats) -> tuple[Floats, Floats, Floats]:
        """Objectness, geometry and classes of the whole input, each (channels, h, w)."""
        height, width = crops.shape[2:]
        if max(height, width) <= TILE_PX:
            return self._run(crops)
        stride = self.rule.stride_px
        size = (height // stride, width // stride)
        whole = [
            np.empty((channels, *size), np.float32) for channels in (1, 4, len(self.rule.labels))
        ]
        for (top, bottom), (keep_top, keep_bottom) in tiles(height):
            for (left, right), (keep_left, keep_right) in tiles(width):
                part = self._run(crops[:, :, top:bottom, left:right])
                rows = slice(keep_top // stride, keep_bottom // stride)
                columns = slice(keep_left // stride, keep_right // stride)
                inner = (
                    slice((keep_top - top) // stride, (keep_bottom - top) // stride),
                    slice((keep_left - left) // stride, (keep_right - left) // stride),
                )
                for out, found in zip(whole, part, strict=True):
                    out[:, rows, columns] = found[:, inner[0], inner[1]]
        return whole[0], whole[1], whole[2]

    def _run(self, crops: Floats) -> tuple[Floats, Floats, Floats]:
        said = self._engine.run(np.ascontiguousarray(crops), outputs=OUTPUTS)
        return said[0][0], said[1][0], said[2][0]

    def candidates(self, maps: tuple[Floats, Floats, Floats], *, place: HeadInput) -> Candidates:
        """Return candidates on the picture's own pixels, the likeliest first."""
        height, width = place.image.shape[:2]
        zoom = self.zoom(width, height_px=height)
        found = find_objects(maps, rule=self.rule)
        return found.scaled(1 / zoom[0], down=1 / zoom[1]).inside(width, height_px=height)

    def zoom(self, width_px: int, *, height_px: int) -> tuple[float, float]:
        """Network pixels per picture pixel, across and down."""
        settings = self.settings(width_px, height_px=height_px)
        box = settings.crops[0].box_px
        across = settings.width_px / (box.x1_px - box.x0_px)
        return across, settings.height_px / (box.y1_px - box.y0_px)

    def settings(self, width_px: int, *, height_px: int) -> Prepare:
        """Return the preparation of a picture of that size."""
        return fitted(self._manifest.prepare, width_px=width_px, height_px=height_px)

    def heat(self, place: HeadInput) -> dict[str, Floats]:
        """``objects`` → how likely a centre is around each pixel, 0-1."""
        objectness, _, _ = self.maps(self.crops(place))
        height, width = place.image.shape[:2]
        score = self.rule.slope * objectness[0] + self.rule.offset
        chance = (1 / (1 + np.exp(-np.clip(score, -60, 60)))).astype(np.float32)
        settings = self.settings(width, height_px=height)
        laid = activation_on_picture(chance, settings.crops[0], width_px=width, height_px=height)
        return {"objects": np.clip(laid, 0, 1)}

    def golden(self, place: HeadInput) -> Floats:
        """Probes of the three maps."""
        return probe(*self.maps(self.crops(place)))


class ObjectTaskHead:
    """Boxes; see ``TaskHead``."""

    def __init__(self, package: Package, *, clock: Clock, engine: OpenEngine) -> None:
        self._finder = ObjectFinder(package, engine=engine)
        self._clock = clock

    def answer(self, place: HeadInput) -> HeadOutput:
        start_s = self._clock.monotonic()
        crops = self._finder.crops(place)
        cut_s = self._clock.monotonic()
        maps = self._finder.maps(crops)
        ended_s = self._clock.monotonic()
        found = self._finder.candidates(maps, place=place)
        return HeadOutput(
            boxes=boxes_of(found, rule=self._finder.rule, place=place),
            prepare_ms=(cut_s - start_s) * 1000,
            infer_ms=(ended_s - cut_s) * 1000,
        )

    def explain(self, place: HeadInput) -> dict[str, Floats]:
        return self._finder.heat(place)

    def heat(self, place: HeadInput) -> Floats | None:  # noqa: ARG002  boxes stand for themselves
        return None

    def crops(self, place: HeadInput) -> Floats:
        return self._finder.crops(place)

    def golden(self, place: HeadInput) -> Floats:
        return self._finder.golden(place)


def open_head(package: Package, *, clock: Clock, engine: OpenEngine) -> ObjectTaskHead:
    """Of a package of the task detect."""
    return ObjectTaskHead(package, clock=clock, engine=engine)


def boxes_of(found: Candidates, *, rule: DetectRule, place: HeadInput) -> tuple[BoxAnswer, ...]:
    """Objects above the cut, the likeliest first, clipped to the picture."""
    height, width = place.image.shape[:2]
    there = found.only(found.chance > rule.cut)
    low = np.clip(there.boxes_px[:, :2], 0, (width, height))
    high = np.clip(there.boxes_px[:, 2:], 0, (width, height))
    said = there.chance * there.label_chance
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
        for (x0, y0), (x1, y1), label, probability in zip(low, high, there.label, said, strict=True)
    )


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
