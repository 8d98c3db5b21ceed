"""Alignment of good images: a part laid into one place, one frame, or a surface.

1. Posed: a part stands out from a plain ground in nearly all good pictures, in one size, and laid
   into one place its edges agree. It is cut out in its canonical frame.
2. Framed: pictures of one size; whether places correspond is for the patches to show.
3. Surface: pictures of various sizes, at one zoom.

Which one follows from the good pictures alone.

Patch features of good images by the frozen network, cached in the job's folder.

Features at strides 8 and 16, each averaged over 3 x 3 neighbours (Roth et al. 2022, section 3.1),
the coarse ones laid over the fine ones bilinearly. They are kept as float16.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.core import Box, Digest, InvalidError, encode
from lineside.core.worker import look_at_each
from lineside.datasets import Sample
from lineside.training.common.backbone import (
    STRIDE_8_CHANNELS,
    STRIDE_16_CHANNELS,
    Backbone,
    lite0_backbone,
)
from lineside.training.common.cache import health_array, health_of
from lineside.training.job import stored_arrays
from lineside.training.tasks.contract import Work
from lineside.vision import Crop, HealthFigures, Matrix, Prepare, encode_png, fitted, grey_of
from lineside.vision.geometry import invert
from lineside.vision.masks import inside_picture
from lineside.vision.picture import grey_health
from lineside.vision.pose import Pose, PoseEstimator, Silhouette, laid_level, silhouette
from lineside.vision.prepare import crop_matrix, cut, levelled, normalise

TEMPLATE_FILE = "pose.png"
LEVEL = 127.0
STEP_PX = 32
_SURFACE_PX = 160_000
_FRAME_PX = 512 * 512
_LONGEST_FRAME_PX = 576
_LEAST_FRAME_PX = 224
_MOST_ZOOM = 2.0
_SHARE_POSED = 0.9
_SIZE_ROOM = 0.25
_MARGIN_PX = 20
_LEAST_CORRELATION = 0.25
_CORRELATION_ROOM = 0.5
_SAME_SIZE = 1.02
_ROUNDS = 2
_REDUCTIONS = (4, 2)

Image = NDArray[np.uint8]
Grey = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """Way in which pictures are prepared for the network.

    Attributes:
        prepare: with the pose, where there is one.
        template: (height, width, 3) as ``Pose.template_file``; None without a pose.
        one_frame: whether all pictures have one frame, so that places can be compared.
        left_out: good pictures that could not be placed, with the reason.
    """

    prepare: Prepare
    template: Image | None = None
    one_frame: bool = False
    left_out: tuple[tuple[Sample, str], ...] = ()

    @property
    def files(self) -> dict[str, bytes]:
        """The package's files of the scene."""
        return {} if self.template is None else {TEMPLATE_FILE: encode_png(self.template)}

    def pose_estimator(self) -> PoseEstimator | None:
        """Finds parts; None without a pose."""
        if self.prepare.pose is None or self.template is None:
            return None
        return PoseEstimator(self.prepare.pose, self.template)

    def cover(self, stride_px: int) -> NDArray[np.bool_] | None:
        """(rows, columns) cells where good parts are; None where that is everywhere."""
        import cv2

        if self.template is None:
            return None
        size = (self.prepare.width_px // stride_px, self.prepare.height_px // stride_px)
        inside = np.asarray(self.template[..., 1] > 127, np.float32)
        return np.asarray(cv2.resize(inside, size, interpolation=cv2.INTER_AREA) > 0.3, np.bool_)


def scene_of(work: Work, samples: Sequence[Sample]) -> Scene:
    """The scene of good pictures.

    Raises:
        InvalidError: a picture that cannot be decoded.
    """
    outlines, sizes = zip(*_outlines(work, samples), strict=True)
    posed = _posed(work, samples, outlines=outlines)
    if posed is not None:
        return posed
    widths, heights = np.array(sizes).T
    if max(np.ptp(widths) / widths.min(), np.ptp(heights) / heights.min()) <= _SAME_SIZE - 1:
        return _framed(int(np.median(widths)), int(np.median(heights)))
    return _surface(float(np.median(widths * heights)))


def _outlines(
    work: Work, samples: Sequence[Sample]
) -> list[tuple[Silhouette | str, tuple[int, int]]]:
    """Part, or why there is none, and (width, height) of each picture."""

    def look(sample: Sample) -> tuple[Silhouette | str, tuple[int, int]]:
        image = work.picture(sample)
        return silhouette(grey_of(image)), (image.shape[1], image.shape[0])

    return look_at_each(
        look,
        samples,
        tell=lambda done: work.steps.at(2 + 8 * done / len(samples), "looking for parts"),
    )


def _framed(width: int, height: int) -> Scene:
    zoom = min(1.0, math.sqrt(_FRAME_PX / (width * height)))
    across, down = (max(STEP_PX, round(v * zoom / STEP_PX) * STEP_PX) for v in (width, height))
    prepare = Prepare(
        crops=(_whole(across, down),),
        width_px=across,
        height_px=down,
        fit="stretch",
        level=LEVEL,
    )
    return Scene(prepare=prepare, one_frame=True)


def _surface(pixels: float) -> Scene:
    prepare = Prepare(
        crops=(_whole(STEP_PX, STEP_PX),),
        width_px=STEP_PX,
        height_px=STEP_PX,
        fit="zoom",
        zoom=round(min(1.0, math.sqrt(_SURFACE_PX / pixels)), 4),
        multiple=STEP_PX,
        level=LEVEL,
    )
    return Scene(prepare=prepare)


def _whole(width: int, height: int) -> Crop:
    box = Box(x0_px=0.0, y0_px=0.0, x1_px=float(width), y1_px=float(height))
    return Crop(region="", box_px=box)


# ---- posed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """A canonical frame: its size and its zoom."""

    width: int
    height: int
    zoom: float

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    def pose(self, *, low: float = 0.0, high: float = math.inf, least: float = -1.0) -> Pose:
        return Pose(
            template_file=TEMPLATE_FILE,
            zoom=self.zoom,
            area_low=low,
            area_high=high,
            correlation_min=least,
            reductions=_REDUCTIONS,
        )


def _posed(
    work: Work, samples: Sequence[Sample], *, outlines: Sequence[Silhouette | str]
) -> Scene | None:
    """The scene of parts that stand out, or None where they do not."""
    observed = [(s, o) for s, o in zip(samples, outlines, strict=True) if isinstance(o, Silhouette)]
    if len(observed) < max(3, _SHARE_POSED * len(samples)):
        return None
    middle = float(np.median([outline.side_px for _, outline in observed]))
    alike = [(s, o) for s, o in observed if abs(o.side_px / middle - 1) <= _SIZE_ROOM]
    if len(alike) < max(3, _SHARE_POSED * len(samples)):
        return None
    first = min(alike, key=lambda each: (abs(each[1].side_px - middle), each[0].digest))
    frame = _frame(alike)
    greys = {sample.digest: grey_of(work.picture(sample)) for sample, _ in alike}
    start = laid_level(first[1], width_px=frame.width, height_px=frame.height, zoom=frame.zoom)
    template = _template([_warped(greys[first[0].digest], start, frame=frame)], [], frame=frame)
    sides = [outline.side_px * frame.zoom for _, outline in alike]
    correlations: list[float] = []
    for number in range(_ROUNDS):
        work.steps.at(10 + 4 * number, "laying parts into one place")
        template, correlations = _aligned(alike, greys=greys, template=template, frame=frame)
    if float(np.median(correlations)) < _LEAST_CORRELATION:
        return None
    room = 1 + _SIZE_ROOM
    pose = frame.pose(
        low=round(min(sides) / room, 2),
        high=round(max(sides) * room, 2),
        least=round(_CORRELATION_ROOM * float(np.quantile(correlations, 0.05)), 4),
    )
    prepare = Prepare(
        crops=(_whole(frame.width, frame.height),),
        width_px=frame.width,
        height_px=frame.height,
        level=LEVEL,
        pose=pose,
    )
    scene = Scene(prepare=prepare, template=template, one_frame=True)
    return _without_unplaced(scene, samples, work=work)


def _without_unplaced(scene: Scene, samples: Sequence[Sample], *, work: Work) -> Scene:
    pose_estimator = scene.pose_estimator()
    if pose_estimator is None:
        raise InvalidError("a scene without a pose", where="pose", fix="Report this.")
    found = [
        (sample, pose_estimator.find(grey_of(work.picture(sample))).reason) for sample in samples
    ]
    left_out = tuple((sample, reason) for sample, reason in found if reason)
    return Scene(prepare=scene.prepare, template=scene.template, one_frame=True, left_out=left_out)


def _frame(members: Sequence[tuple[Sample, Silhouette]]) -> _Frame:
    """Large enough for every part laid level, either way round."""
    reach = np.array([_reach(outline) for _, outline in members])
    across, down = np.quantile(reach, 0.98, axis=0) * 2
    zoom = min(_MOST_ZOOM, max(1.0, _LEAST_FRAME_PX / across), _LONGEST_FRAME_PX / across)
    return _Frame(
        width=_up_to(across * zoom + 2 * _MARGIN_PX),
        height=_up_to(down * zoom + 2 * _MARGIN_PX),
        zoom=round(float(zoom), 4),
    )


def _reach(outline: Silhouette) -> tuple[float, float]:
    """Farthest points from the centre along the axis and across it, in picture pixels."""
    rows, columns = np.nonzero(outline.mask)
    x = (columns + 0.5) / outline.factor - 0.5 - outline.centre[0]
    y = (rows + 0.5) / outline.factor - 0.5 - outline.centre[1]
    turn = math.radians(outline.axis_deg)
    along = x * math.cos(turn) + y * math.sin(turn)
    aside = y * math.cos(turn) - x * math.sin(turn)
    return float(np.abs(along).max()), float(np.abs(aside).max())


def _up_to(length_px: float) -> int:
    return math.ceil(length_px / STEP_PX) * STEP_PX


def _aligned(
    members: Sequence[tuple[Sample, Silhouette]],
    *,
    greys: Mapping[Digest, Grey],
    template: Image,
    frame: _Frame,
) -> tuple[Image, list[float]]:
    """The mean of all parts laid like the template, and how well their edges agree with it."""
    pose_estimator = PoseEstimator(frame.pose(), template)
    observed, masks, correlations = [], [], []
    for sample, outline in members:
        posed = pose_estimator.find(greys[sample.digest])
        correlations.append(posed.figures.correlation)
        if posed.matrix is None:
            continue
        observed.append(_warped(greys[sample.digest], posed.matrix, frame=frame))
        masks.append(_mask_in(outline, posed.matrix, frame=frame))
    return _template(observed, masks, frame=frame), correlations


def _warped(grey: Grey, matrix: Matrix, *, frame: _Frame) -> NDArray[np.float32]:
    import cv2

    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    observed = cv2.warpAffine(
        grey, matrix, frame.size, flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(observed, np.float32)


def _mask_in(outline: Silhouette, matrix: Matrix, *, frame: _Frame) -> NDArray[np.float32]:
    import cv2

    height, width = outline.mask.shape
    to_picture = crop_matrix(
        Box(x0_px=0.0, y0_px=0.0, x1_px=width / outline.factor, y1_px=height / outline.factor),
        width_px=width,
        height_px=height,
    )
    back = invert(to_picture)
    linear = back[:, :2] @ matrix
    linear[:, 2] += back[:, 2]
    laid = cv2.warpAffine(
        outline.mask.astype(np.float32),
        linear,
        frame.size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    return np.asarray(laid, np.float32)


def _template(
    images: Sequence[NDArray[np.float32]], masks: Sequence[NDArray[np.float32]], *, frame: _Frame
) -> Image:
    """Red the mean grey at one light, green where parts are, a little widened."""
    import cv2

    level = float(np.median([each.mean() for each in images]))
    mean = np.mean([each * (level / max(float(each.mean()), 1.0)) for each in images], axis=0)
    inside = np.full((frame.height, frame.width), 255, np.uint8)
    if masks:
        often = np.asarray(np.mean(masks, axis=0) > 0.05, np.uint8)
        around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_MARGIN_PX + 1, _MARGIN_PX + 1))
        inside = np.asarray(cv2.dilate(often, around) * 255, np.uint8)
    grey = np.clip(mean, 0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(np.dstack([grey, inside, inside]))


CHANNELS = STRIDE_8_CHANNELS + STRIDE_16_CHANNELS
STRIDE_PX = 8

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]


def taps(backbone: Backbone, crops: Tensor) -> Tensor:
    """(n, 3, h, w) prepared crops → (n, channels, h / 8, w / 8), of both strides together."""
    fine, coarse = backbone.at_strides(crops, 8, 16)
    near, far = (_averaged(each) for each in (fine, coarse))
    laid = nn.functional.interpolate(far, scale_factor=2, mode="bilinear")
    return torch.cat([near, laid], dim=1)


def _averaged(tap: Tensor) -> Tensor:
    return nn.functional.avg_pool2d(tap, 3, 1, 1, count_include_pad=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patches:
    """Patch features of one picture.

    Attributes:
        features: (channels, rows, columns) float16, only cells that lie in the picture.
        pixels: (height, width, 3) uint8, what was cut out of the picture.
    """

    sample: Sample
    features: Halves
    pixels: Image
    health: HealthFigures


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchExtractor:
    """Looks at pictures of one scene, all in the same way."""

    scene: Scene
    work: Work
    folder: Path
    backbone: Backbone = field(default_factory=lite0_backbone)

    @property
    def coarse(self) -> slice:
        """Channels of the coarser of the two maps."""
        return slice(self.backbone.channels_at(8)[0], None)

    def look(self, sample: Sample) -> Patches:
        """The picture's patches, from the folder where they are there."""
        path = self.folder / f"{self._key(sample)}.npz"
        stored = stored_arrays(path, lambda: self._look(sample))
        return Patches(
            sample=sample,
            features=np.asarray(stored["features"], np.float16),
            pixels=np.asarray(stored["pixels"], np.uint8),
            health=health_of(stored["health"]),
        )

    def _key(self, sample: Sample) -> str:
        template = b"" if self.scene.template is None else self.scene.template.tobytes()
        own = [self.backbone.key] if self.backbone.key else []
        facts = encode([sample.digest, self.scene.prepare, *own])
        return hashlib.sha256(facts + template).hexdigest()[:40]

    def _look(self, sample: Sample) -> dict[str, NDArray[np.generic]]:
        image = self.work.picture(sample)
        matrix = self.pose_matrix(image)
        pixels = cut(image, self.scene.prepare, matrix=matrix)[0]
        health = grey_health(grey_of(image))
        features = self.features(pixels)
        rows, columns = self._cells(image)
        return {
            "features": features[:, :rows, :columns],
            "pixels": pixels,
            "health": health_array(health),
        }

    def pose_matrix(self, image: Image) -> Matrix | None:
        """Where the part lies; None without a pose."""
        pose_estimator = self.scene.pose_estimator()
        return None if pose_estimator is None else pose_estimator.find(grey_of(image)).matrix

    def features(self, pixels: Image) -> Halves:
        """(channels, rows, columns) float16 of (height, width, 3) uint8 cut pixels."""
        return self.features_of_levelled(self.levelled(pixels))

    def levelled(self, pixels: Image) -> Image:
        """Cut pixels, brought to the scene's mean grey."""
        return np.asarray(levelled(pixels[None], self.scene.prepare)[0], np.uint8)

    def features_of_levelled(self, pixels: Image) -> Halves:
        """The same of pixels, or a window of them, that are at the scene's mean grey already."""
        crops = normalise(pixels[None], self.scene.prepare)
        with torch.inference_mode():
            x = torch.from_numpy(crops).contiguous(memory_format=torch.channels_last)
            found = taps(self.backbone, x)[0].contiguous().numpy()
        return np.asarray(np.clip(found, -6e4, 6e4), np.float16)

    def _cells(self, image: Image) -> tuple[int, int]:
        """Rows and columns of the map whose cells lie in the picture."""
        settings = self.scene.prepare
        own = fitted(settings, width_px=image.shape[1], height_px=image.shape[0])
        whole = np.zeros((own.height_px // STRIDE_PX, own.width_px // STRIDE_PX), np.float32)
        if settings.fit != "zoom":
            return whole.shape
        return inside_picture(
            whole, settings, width_px=image.shape[1], height_px=image.shape[0]
        ).shape


def patches_of(looker: PatchExtractor, samples: Sequence[Sample]) -> list[Patches]:
    """Every picture's patches, in order."""
    at, count = looker.work.steps.at, len(samples)
    return look_at_each(
        looker.look, samples, tell=lambda done: at(20 + 35 * done / count, "looking at patches")
    )
