"""Power test: which defects a scorer learned from good parts alone would find.

1. Defects of five kinds are drawn onto good pictures: at the network's scale, within the region
   that is inspected, growing in size at three contrasts. Place and shape follow from seed, picture
   and kind, so that only size and contrast differ between drawings of one defect.
2. Each picture is judged as held out, against the package's own limit. Good pictures that are
   rejected as they are take no part.
3. Of each picture, kind and contrast the smallest size that is found is looked for by bisection:
   a defect that is found is taken to be found when it is larger or stronger, too. The sizes at
   which 80 % and 95 % are found are quantiles of these sizes, with the distribution-free interval
   of order statistics.
4. A change reaches the features around it only. They are computed for a window with a margin, and
   the rest of the map stays; where the window is most of the picture, or the network is not the
   one that comes with lineside, for all of it.

No real defect is looked at, and nothing is chosen by the result.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lineside.models.result import DefectPower, PowerTest, smallest_size
from lineside.training.common.methods import spread
from lineside.training.tasks.anomaly.choice import (
    WHOLE,
    Candidate,
    SyntheticBenchmark,
    blob_shape,
    line_shape,
)
from lineside.training.tasks.anomaly.scene import LEVEL, STRIDE_PX, Patches, PatchExtractor
from lineside.vision import AnomalyRule, thumbnail

PICTURES = 20
KINDS = ("hairline", "scratch", "blob", "stain", "missing piece")
CONTRASTS = (80.0, 40.0, 20.0)
_LINES = ("hairline", "scratch")
_SIZES = 7  # bisected in three steps
_LEAST_PX = 4.0
_HAIRLINE_PX, _SCRATCH_PX = 1.0, 3.0
_OPTICS_PX = 0.7
_DARK_SHARE = 0.65
_TEXTURE_LEFT = 0.3
_SENSOR_NOISE = 2.0
_SURROUNDINGS_PX = 8.0
_TRIES = 30
_INSIDE = 0.9
_VISIBLE = 0.02
_SPARE_PX = 8
_MARGIN_PX, _BORDER_PX, _STEP_PX = 96, 32, 32
_MOST_OF_PICTURE = 0.5
_THUMBNAIL_PX = 240

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Box = tuple[slice, slice]
"""Rows and columns of pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """A defect to be drawn.

    Attributes:
        kind: one of ``KINDS``.
        size_px: length of a line, diameter of others, in network pixels.
        contrast: greatest difference from the surroundings, in grey levels of 255 at a mean of 127.
    """

    kind: str
    size_px: float
    contrast: float


def draw_defect(
    image: Image, defect: Defect, *, inside: Flags, rng: np.random.Generator
) -> tuple[Image, Box]:
    """A good picture with a defect, and the box that differs.

    Args:
        image: (height, width, 3) uint8 at the network's scale.
        defect: its kind, size and contrast.
        inside: (height, width), where parts are inspected; not empty.
        rng: chooses shape, place and whether it is darker or lighter.

    Returns:
        (height, width, 3) uint8, and the rows and columns outside which it is as before.
    """
    import cv2

    sign = -1.0 if rng.random() < _DARK_SHARE else 1.0
    cover = _shape(defect, size=inside.shape, rng=rng)
    box = _place(cover, inside=inside, rng=rng)
    wide = image[box].astype(np.float32)
    level = float(wide[cover > 0.5].mean())
    shift = sign * defect.contrast * float(image.mean()) / LEVEL
    if not 0 <= level + shift <= 255:
        shift = -shift
    if defect.kind in _LINES:
        changed = wide + shift
    elif defect.kind == "stain":
        changed = wide * max(0.0, 1.0 + shift / max(level, 1.0))
    else:
        around = np.asarray(cv2.GaussianBlur(wide, (0, 0), _SURROUNDINGS_PX), np.float32)
        noise = rng.normal(0.0, _SENSOR_NOISE, wide.shape)
        grain = _TEXTURE_LEFT * (wide - around) if defect.kind == "blob" else noise
        changed = np.asarray(around + grain + shift, np.float32)
    soft = cover[..., None]
    found = image.copy()
    found[box] = np.clip(wide * (1 - soft) + changed * soft, 0, 255).round()
    return found, box


def _shape(defect: Defect, *, size: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """(rows, columns) 0-1, its highest 1: the defect alone, at most as large as the picture."""
    reach = round(2 * defect.size_px) + 2 * _SPARE_PX
    canvas, middle = (2 * reach, 2 * reach), (float(reach), float(reach))
    if defect.kind in _LINES:
        wide = _HAIRLINE_PX if defect.kind == "hairline" else _SCRATCH_PX
        cover = line_shape(
            canvas, rng=rng, length_px=defect.size_px, wide_px=wide, middle_px=middle
        )
    else:
        blur = max(_OPTICS_PX, defect.size_px / 6) if defect.kind == "stain" else _OPTICS_PX
        cover = blob_shape(
            canvas, rng=rng, radius_px=defect.size_px / 2, blur_px=blur, middle_px=middle
        )
    rows, columns = (np.flatnonzero((cover > _VISIBLE).any(axis=axis)) for axis in (1, 0))
    cover = cover[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1][: size[0], : size[1]]
    return cover / float(cover.max())


def _place(cover: Floats, *, inside: Flags, rng: np.random.Generator) -> Box:
    """The first of some places that lies inside, else the one that lies inside most."""
    room = [whole - own + 1 for whole, own in zip(inside.shape, cover.shape, strict=True)]
    best, most = (slice(0, cover.shape[0]), slice(0, cover.shape[1])), -1.0
    for _ in range(_TRIES):
        top, left = (int(rng.integers(each)) for each in room)
        box = (slice(top, top + cover.shape[0]), slice(left, left + cover.shape[1]))
        within = float(cover[inside[box]].sum() / cover.sum())
        if within > most:
            best, most = box, within
        if within >= _INSIDE:
            break
    return best


def sizes_of(sides: tuple[float, float], kind: str) -> tuple[float, ...]:
    """Sizes that are tried, from 4 px to half a side of the region.

    Args:
        sides: shorter and longer side, in pixels.
        kind: of the defect; lines are bounded by the longer side, others by the shorter.
    """
    most = max(2 * _LEAST_PX, sides[kind in _LINES] / 2)
    return tuple(round(float(size), 1) for size in np.geomspace(_LEAST_PX, most, _SIZES))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judge:
    """Judges pictures with drawn defects as held out.

    Attributes:
        candidate: the scorer that stands, with what it says of held-out pictures.
        rule: its limit and unit.
    """

    looker: PatchExtractor
    patches: Sequence[Patches]
    candidate: Candidate
    rule: AnomalyRule
    benchmark: SyntheticBenchmark

    def score(self, picture: int, image: Image, box: Box) -> float:
        """Of a drawn picture, in the rule's unit; above its limit is found.

        Args:
            picture: number of the good picture that it was drawn onto.
            image: as ``draw_defect`` gives it.
            box: outside which it is as the good picture.
        """
        features = self.patches[picture].features
        # Another network may see farther than the margin.
        window = None if self.looker.backbone.key else _window(box, size=image.shape[:2])
        image = self.looker.levelled(image)
        if window is None:
            rows, columns = features.shape[1:]
            observed = self.looker.features_of_levelled(image)[:, :rows, :columns]
            grid = self.candidate.held_out(picture, observed, WHOLE)
        else:
            grid = self._base(picture).copy()
            observed = self.looker.features_of_levelled(image[window.pixels])
            cells, part = window.cells(grid.shape)
            grid[cells] = self.candidate.held_out(picture, observed[:, *part], cells)
        return self.benchmark.score(grid) / self.rule.unit

    def inside(self, picture: int) -> Flags:
        """(height, width): where the picture is inspected."""
        pixels, template = self.patches[picture].pixels, self.looker.scene.template
        if template is not None:
            return np.asarray(template[..., 1] > 127, np.bool_)
        rows, columns = self.patches[picture].features.shape[1:]
        held = np.zeros(pixels.shape[:2], np.bool_)
        held[: rows * STRIDE_PX, : columns * STRIDE_PX] = True
        return held

    def _base(self, picture: int) -> Floats:
        if picture not in self._maps:
            self._maps.clear()
            features = self.patches[picture].features
            self._maps[picture] = self.candidate.held_out(picture, features, WHOLE)
        return self._maps[picture]

    _maps: dict[int, Floats] = field(default_factory=dict, init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """Pixels whose features are computed again, and those of them that are not near its border.

    All bounds are multiples of 32 px, by axis: start and stop.
    """

    bounds: tuple[tuple[int, int], ...]
    size: tuple[int, ...]

    @property
    def pixels(self) -> tuple[slice, slice]:
        """Rows and columns."""
        (top, bottom), (left, right) = self.bounds
        return slice(top, bottom), slice(left, right)

    def cells(self, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Cells of a map of that shape, and the same ones in the window's own map."""
        whole, own = [], []
        for (start, stop), end, most in zip(self.bounds, self.size, shape, strict=True):
            first = start + _BORDER_PX if start else 0
            last = min(stop - _BORDER_PX if stop < end else stop, most * STRIDE_PX)
            whole.append(slice(first // STRIDE_PX, last // STRIDE_PX))
            own.append(slice((first - start) // STRIDE_PX, (last - start) // STRIDE_PX))
        return (whole[0], whole[1]), (own[0], own[1])


def _window(box: Box, *, size: tuple[int, ...]) -> _Window | None:
    """The pixels whose features a change of the box reaches; None for all of the picture."""
    bounds = []
    for change, end in zip(box, size, strict=True):
        start = max(0, change.start - _MARGIN_PX) // _STEP_PX * _STEP_PX
        stop = min(end, -(-(change.stop + _MARGIN_PX) // _STEP_PX) * _STEP_PX)
        bounds.append((start, stop))
    area = math.prod(stop - start for start, stop in bounds)
    if area > _MOST_OF_PICTURE * math.prod(size):
        return None
    return _Window(bounds=tuple(bounds), size=size)


def power_test(judge: Judge, *, pictures: int, seed: int) -> tuple[PowerTest, dict[str, bytes]]:
    """Draw defects and judge them; gives what is found, and a JPEG of an example of each kind.

    Args:
        judge: of the scorer that stands.
        pictures: good ones that defects are drawn onto, at most; 0: none.
        seed: of places and shapes.

    Raises:
        JobCancelledError: stopped as asked.
    """
    scores = judge.candidate.scores / judge.rule.unit
    quiet = np.flatnonzero(scores <= judge.rule.limit).tolist()
    chosen = spread(quiet, pictures) if pictures else []
    if not chosen:
        return PowerTest(), {}
    steps = judge.looker.work.steps
    found: dict[tuple[str, float], list[int]] = {
        (kind, contrast): [] for kind in KINDS for contrast in CONTRASTS
    }
    corners = [np.ptp(np.nonzero(judge.inside(picture)), axis=1) + 1 for picture in chosen]
    shorter, longer = np.median(np.sort(corners, axis=1), axis=0).tolist()
    sizes = {kind: sizes_of((shorter, longer), kind) for kind in KINDS}
    for done, picture in enumerate(chosen):
        for kind in KINDS:
            places = _smallest(judge, picture, kind=kind, sizes=sizes[kind], seed=seed)
            for contrast, place in zip(CONTRASTS, places, strict=True):
                found[kind, contrast].append(place)
            steps.at(78 + 6 * done / len(chosen), "drawing defects")
    defects = tuple(
        _power(kind, contrast, sizes=sizes[kind], places=places)
        for (kind, contrast), places in found.items()
    )
    test = PowerTest(defects=defects, pictures=len(chosen), part_px=longer)
    return test, _examples(judge, chosen[0], test=test, seed=seed)


def _rng(picture: int, kind: str, *, seed: int) -> np.random.Generator:
    return np.random.default_rng((seed, picture, KINDS.index(kind)))


def _smallest(
    judge: Judge, picture: int, *, kind: str, sizes: Sequence[float], seed: int
) -> list[int]:
    """Of each contrast the place of the smallest size found; the number of sizes where none is."""
    inside, good = judge.inside(picture), judge.patches[picture].pixels
    places, least = [], 0
    for contrast in CONTRASTS:

        def is_found(size_px: float, contrast: float = contrast) -> bool:
            defect = Defect(kind=kind, size_px=size_px, contrast=contrast)
            image, box = draw_defect(
                good, defect, inside=inside, rng=_rng(picture, kind, seed=seed)
            )
            return judge.score(picture, image, box) > judge.rule.limit

        least = bisect_left(sizes, x=True, lo=least, key=is_found)
        places.append(least)
    return places


def _power(
    kind: str, contrast: float, *, sizes: Sequence[float], places: Sequence[int]
) -> DefectPower:
    counts = tuple(sum(place <= size for place in places) for size in range(len(sizes)))
    return DefectPower(
        kind=kind,
        contrast=contrast,
        n=len(places),
        sizes_px=tuple(sizes),
        found=counts,
        at_80=smallest_size(sizes, counts, n=len(places), share=0.8),
        at_95=smallest_size(sizes, counts, n=len(places), share=0.95),
    )


def _examples(judge: Judge, picture: int, *, test: PowerTest, seed: int) -> dict[str, bytes]:
    """Of each kind the faintest that is found at 80 %, at its size; else the largest, strongest."""
    good, inside = judge.patches[picture].pixels, judge.inside(picture)
    pictures = {}
    for kind in KINDS:
        example = test.example(kind)
        defect = Defect(kind=kind, size_px=example.size_px, contrast=example.contrast)
        rng = _rng(picture, kind, seed=seed)
        image, box = draw_defect(good, defect, inside=inside, rng=rng)
        window = _window(box, size=image.shape[:2])
        part = image if window is None else image[window.pixels]
        pictures[kind] = thumbnail(part, width_px=_THUMBNAIL_PX)
    return pictures
