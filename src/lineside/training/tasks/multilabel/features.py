"""Features of each training picture and of its variants, with health and place.

Each picture is looked at on its own and the result kept in the job folder under its digest, so that
a job that was stopped does not look twice, and the order of pictures changes nothing.

Choose the reference view: the picture that most others lie like.

Regions are drawn in pixels of one picture's view. Where the job does not name that picture, the one
is taken to which most training pictures can be registered, and among equals the one they are
shifted
least against: the commonest camera position.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from lineside.core import Box, Digest, Inspection, InvalidError, View, encode
from lineside.datasets import Sample
from lineside.training.common.backbone import Backbone, lite0_backbone
from lineside.training.common.cache import health_array, health_of
from lineside.training.common.methods import spread
from lineside.training.job import stored_arrays
from lineside.training.tasks.multilabel.heads import grid_features
from lineside.vision import (
    Crop,
    HealthFigures,
    Matrix,
    Prepare,
    Registrar,
    RegistrationFigures,
    decode_picture,
    encode_jpeg,
    picture_health,
    picture_size,
)
from lineside.vision.geometry import about, apply, compose, similarity
from lineside.vision.prepare import cut, normalise

_CANDIDATES = 6
_PROBES = 12
_STILL_PX = 1.0

Image = NDArray[np.uint8]
Read = Callable[[Sample], bytes]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """The chosen view and the picture that shows it.

    Attributes:
        view: the inspection's; where it names none, the size of the pictures, not registered.
    """

    view: View
    sample: Sample
    encoded: bytes
    image: Image
    boxes: tuple[Box, ...]

    @property
    def file(self) -> str:
        """Name of the picture in a package."""
        return "reference.png" if self.encoded.startswith(b"\x89PNG") else "reference.jpeg"

    def registrar(self) -> Registrar:
        """A fresh registrar to this view, the same as a device makes."""
        return Registrar(self.view, self.image, boxes=self.boxes)


def choose_reference(
    inspection: Inspection, samples: Sequence[Sample], *, read: Read, named: str = ""
) -> Reference:
    """The reference view of a training.

    Args:
        inspection: its view says size and limits.
        samples: the training part.
        read: gives a sample's encoded picture.
        named: the job's own choice, a sample's name; "" to choose.

    Raises:
        InvalidError: no training picture of that name or of the view's size.
    """
    sizes = {sample.name: picture_size(read(sample)) for sample in samples}
    view = inspection.view or _whole(sizes)
    fitting = [s for s in samples if sizes[s.name] == (view.width_px, view.height_px)]
    if named:
        fitting = [sample for sample in fitting if sample.name == named]
    if not fitting:
        seen = ", ".join(sorted({f"{w}x{h}" for w, h in sizes.values()})) or "none"
        raise InvalidError(
            f"no training picture {named or 'of the view'} of {view.width_px}x{view.height_px} px",
            where="view",
            fix=f"Pictures here: {seen}. Set the view to the pictures the regions were drawn on.",
        )
    boxes = tuple(region.box_px for region in inspection.region)
    if len(fitting) > 1 and view.register:
        order = spread(fitting, _CANDIDATES)
        probes = [(s, decode_picture(read(s))) for s in spread(samples, _PROBES)]
        chosen = _likest(view, order, probes=probes, read=read, boxes=boxes)
    else:
        chosen = fitting[0]
    encoded = read(chosen)
    return Reference(
        view=view, sample=chosen, encoded=encoded, image=decode_picture(encoded), boxes=boxes
    )


def _whole(sizes: dict[str, tuple[int, int]]) -> View:
    """The commonest picture size as a view that is not registered."""
    counted = list(sizes.values())
    width, height = max(sorted(set(counted)), key=counted.count)
    return View(width_px=width, height_px=height, register=False)


def _likest(
    view: View,
    candidates: Sequence[Sample],
    *,
    probes: Sequence[tuple[Sample, Image]],
    read: Read,
    boxes: tuple[Box, ...],
) -> Sample:
    best: tuple[int, float] = (-1, 0.0)
    chosen = candidates[0]
    for candidate in candidates:
        registrar = Registrar(view, decode_picture(read(candidate)), boxes=boxes)
        others = [image for sample, image in probes if sample.digest != candidate.digest]
        shifts = [shift for image in others if (shift := _shift(registrar, image)) is not None]
        middle = float(np.median(shifts)) if shifts else np.inf
        if len(shifts) == len(others) and middle < _STILL_PX:
            return candidate
        if (len(shifts), -middle) > best:
            best, chosen = (len(shifts), -middle), candidate
    return chosen


def _shift(registrar: Registrar, image: Image) -> float | None:
    """Return the distance of the view's corners from a picture's, in px; None when refused."""
    matrix = registrar.register(image).matrix
    if matrix is None:
        return None
    height, width = image.shape[:2]
    ends = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    return float(np.linalg.norm(apply(matrix, ends) - ends, axis=1).mean())


_MOVE_SHARE = 0.06
_TURN_DEG = 1.0
_GROW = 0.03
_BLUR_PX = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Variant:
    """A changed picture and its transform from the reference view."""

    image: NDArray[np.uint8]
    matrix: Matrix


def picture_seed(seed: int, digest: Digest) -> int:
    """A seed of job and picture, so that a picture's variants do not depend on the others."""
    return seed * 2**64 + int(digest.removeprefix("sha256:")[:16], 16)


def augment(
    image: NDArray[np.uint8], matrix: Matrix, *, crops: tuple[Crop, ...], rng: np.random.Generator
) -> Variant:
    """One changed copy of an (height, width, 3) uint8 RGB picture."""
    changed = _light(image, rng)
    if rng.random() < 0.5:
        changed = _blur(changed, rng)
    if rng.random() < 0.5:
        changed = decode_picture(encode_jpeg(changed, quality=int(rng.integers(40, 91))))
    return Variant(image=changed, matrix=_move(matrix, crops, rng=rng))


def _light(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Gain 0.7-1.3, a colour cast of a tenth, gamma and an offset, as one table per channel."""
    gain = rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3)
    gamma, offset = rng.uniform(0.8, 1.25), rng.uniform(-12.0, 12.0)
    values = (np.arange(256) / 255.0) ** gamma * 255.0
    table = np.clip(values[:, None] * gain + offset, 0, 255).astype(np.uint8)
    return np.stack([table[image[..., channel], channel] for channel in range(3)], axis=-1)


def _blur(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    import cv2

    return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, _BLUR_PX)), np.uint8)


def _move(matrix: Matrix, crops: tuple[Crop, ...], *, rng: np.random.Generator) -> Matrix:
    """Shift by up to 6 % of a crop's shorter side, turn by a degree, grow by 3 %."""
    boxes = [crop.box_px for crop in crops]
    reach = _MOVE_SHARE * min(min(_size(box)) for box in boxes)
    across, down = (float(np.mean([middle[i] for middle in map(_middle, boxes)])) for i in (0, 1))
    turn = similarity(
        scale=1 + rng.uniform(-_GROW, _GROW), rotation_deg=rng.uniform(-_TURN_DEG, _TURN_DEG)
    )
    shift = similarity(dx_px=rng.uniform(-reach, reach), dy_px=rng.uniform(-reach, reach))
    return compose(matrix, compose(shift, about((across, down), turn)))


def _size(box: Box) -> tuple[float, float]:
    return box.x1_px - box.x0_px, box.y1_px - box.y0_px


def _middle(box: Box) -> tuple[float, float]:
    return (box.x0_px + box.x1_px) / 2, (box.y0_px + box.y1_px) / 2


_LEAK_CELL_PX = 8
_CROPS_AT_ONCE = 24

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PictureFeatures:
    """One picture as training sees it.

    Attributes:
        matrix: reference px → picture px; None when the picture was refused (``reason``).
        features: (1 + variants, regions, features) float32, the picture itself first.
        crops: (regions, height, width, 3) uint8 of the picture itself, reduced to 8 px cells.
    """

    sample: Sample
    health: HealthFigures
    place: RegistrationFigures
    matrix: Matrix | None
    features: Floats
    crops: NDArray[np.uint8]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeatureExtractor:
    """Looks at pictures, all in the same way.

    Attributes:
        registrar: to the reference.
        read: gives a sample's encoded picture.
        seed: of augmentation.
        folder: where looked-at pictures are kept.
        backbone: the frozen network.
    """

    reference: Reference
    registrar: Registrar
    prepare: Prepare
    read: Callable[[Sample], bytes]
    seed: int
    folder: Path
    backbone: Backbone = field(default_factory=lite0_backbone)

    def look(self, sample: Sample, *, variants: int) -> PictureFeatures:
        """The picture's look, from the folder where it is there."""
        path = self.folder / f"{self._key(sample, variants=variants)}.npz"
        return _unpacked(
            sample, stored_arrays(path, lambda: _packed(self._look(sample, variants=variants)))
        )

    def _key(self, sample: Sample, *, variants: int) -> str:
        """Names everything the look depends on, so that no old file is taken for a new one."""
        reference = self.reference
        facts = [sample.digest, reference.sample.digest, self.prepare, self.seed, variants]
        facts += [self.backbone.key] if self.backbone.key else []
        return hashlib.sha256(encode(facts)).hexdigest()[:40]

    def _look(self, sample: Sample, *, variants: int) -> PictureFeatures:
        try:
            image = decode_picture(self.read(sample), max_bytes=64_000_000)
        except InvalidError as error:
            return self._refused(sample, reason=error.message)
        placed = self.registrar.register(image)
        health = picture_health(image)
        if placed.matrix is None:
            refused = self._refused(sample, reason=placed.figures.reason)
            return replace(refused, health=health, place=placed.figures)
        own = cut(image, self.prepare, matrix=placed.matrix)
        rng = np.random.default_rng(picture_seed(self.seed, sample.digest))
        batch = [own]
        for _ in range(variants):
            changed = augment(image, placed.matrix, crops=self.prepare.crops, rng=rng)
            batch.append(cut(changed.image, self.prepare, matrix=changed.matrix))
        return PictureFeatures(
            sample=sample,
            health=health,
            place=placed.figures,
            matrix=placed.matrix,
            features=self._features(np.stack(batch)),
            crops=_reduced(own),
        )

    def _features(self, batch: NDArray[np.uint8]) -> Floats:
        """(copies, regions, h, w, 3) → (copies, regions, features), in batches of one size."""
        copies, regions = batch.shape[:2]
        flat = batch.reshape(copies * regions, *batch.shape[2:])
        parts = [
            grid_features(
                normalise(flat[start : start + _CROPS_AT_ONCE], self.prepare),
                backbone=self.backbone,
            )
            for start in range(0, len(flat), _CROPS_AT_ONCE)
        ]
        return np.concatenate(parts).reshape(copies, regions, -1)

    def _refused(self, sample: Sample, *, reason: str) -> PictureFeatures:
        return PictureFeatures(
            sample=sample,
            health=HealthFigures(sharpness=0.0, mean_grey=0.0, clipped_share=0.0),
            place=RegistrationFigures(state="moved", reason=reason),
            matrix=None,
            features=np.zeros((0, 0, 0), np.float32),
            crops=np.zeros((0, 0, 0, 3), np.uint8),
            reason=reason,
        )


def _reduced(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Crops averaged over 8 px cells, for the leak report."""
    regions, height, width, _ = crops.shape
    rows, columns = height // _LEAK_CELL_PX, width // _LEAK_CELL_PX
    cells = crops.reshape(regions, rows, _LEAK_CELL_PX, columns, _LEAK_CELL_PX, 3)
    return np.asarray(cells.mean(axis=(2, 4)).round(), np.uint8)


def _packed(looked: PictureFeatures) -> dict[str, NDArray[np.generic]]:
    health, place = looked.health, looked.place
    matrix = looked.matrix if looked.matrix is not None else np.zeros((0, 3))
    return {
        "features": looked.features,
        "crops": looked.crops,
        "matrix": matrix,
        "health": health_array(health),
        "place": np.array(
            [
                *(place.dx_px, place.dy_px, place.rotation_deg, place.scale, place.residual_px),
                *(float(place.inliers), place.correlation),
            ]
        ),
        "words": np.array([place.state, looked.reason]),
    }


def _unpacked(sample: Sample, arrays: dict[str, NDArray[np.generic]]) -> PictureFeatures:
    figures = [float(v) for v in cast(NDArray[np.float64], arrays["place"])]
    state, reason = (str(word) for word in arrays["words"])
    matrix = cast(Matrix, arrays["matrix"])
    return PictureFeatures(
        sample=sample,
        health=health_of(arrays["health"]),
        place=RegistrationFigures(
            state=state,
            dx_px=figures[0],
            dy_px=figures[1],
            rotation_deg=figures[2],
            scale=figures[3],
            residual_px=figures[4],
            inliers=round(figures[5]),
            correlation=figures[6],
            reason=reason,
        ),
        matrix=matrix if len(matrix) else None,
        features=cast(Floats, arrays["features"]),
        crops=cast(NDArray[np.uint8], arrays["crops"]),
        reason=reason,
    )
