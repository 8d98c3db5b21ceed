"""Vectors for the leak report: what pictures of one camera differ in.

1. Where an inspection answers the labels, pictures are registered to one of them and cut at its
   regions, as training does: what lies outside is the camera's own background and takes no part.
   That takes tens of milliseconds a picture, hence it is done for at most ``limits.registered``.
2. Otherwise, and for more, a small copy of the whole picture counts, less the median picture of
   its camera: the pictures of one size (and of one ``camera``, where the source has that column).
   Two are near-duplicates if the fine structure of both agrees too, likewise less the camera's.
3. Of more than ``limits.pictures``, runs of pictures that follow one another are looked at, evenly
   spread: near-duplicates lie side by side. The report says how many were not looked at.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import Digest, Inspection, InvalidError, LinesideError, View
from lineside.datasets.leaks import NOISE_GREY, Appearance, region_features
from lineside.datasets.library import FreezePlan, Library
from lineside.datasets.samples import Sample, label_names
from lineside.datasets.splitting.grouping import natural_key
from lineside.vision import Prepare, Registrar, check_picture, decode_picture, picture_size
from lineside.vision.prepare import crops_for, cut

_CROP_PX = 96
_LARGEST_PICTURE = 64_000_000
_CELLS = 16
_THUMBNAIL_PX = 96
_FINE_CELLS = 48
_BLUR_CELLS = 9
_RUN = 50

Read = Callable[[Sample], bytes]
Appearances = dict[Digest, Appearance]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonLimits:
    """Limits on how many images are compared.

    Attributes:
        pictures: by a small copy, about three milliseconds each.
        registered: placed in the view and cut at its regions, about thirty milliseconds each.
    """

    pictures: int = 20_000
    registered: int = 200


def inspection_of(
    samples: Sequence[Sample], inspections: Sequence[Inspection]
) -> Inspection | None:
    """The inspection that answers the names these samples are judged by; None where none does."""
    names = {name for sample in samples for name in sample.known}
    for inspection in inspections:
        if names and names <= set(label_names(inspection)):
            return inspection
    return None


def plan_freeze(
    library: Library,
    name: str,
    *,
    inspections: Sequence[Inspection],
    limits: ComparisonLimits | None = None,
) -> FreezePlan:
    """A plan whose leak report looks for near-duplicates, as the module says."""
    features, by = look_at(
        library.draft(name).samples, read=library.read, inspections=inspections, limits=limits
    )
    return FreezePlan(features=features, features_by=by)


def look_at(
    samples: Sequence[Sample],
    *,
    read: Read,
    inspections: Sequence[Inspection] = (),
    limits: ComparisonLimits | None = None,
) -> tuple[Appearances, str]:
    """Return the appearance of each image looked at, and in words what was compared."""
    limits = limits or ComparisonLimits()
    inspection = inspection_of(samples, inspections)
    if inspection is not None and inspection.region and len(samples) <= limits.registered:
        features = leak_features(samples, read=read, inspection=inspection)
        if features:
            return features, f"regions of inspection {inspection.id}"
    features = appearances(spread_out(samples, most=limits.pictures), read=read)
    return features, "whole pictures, less the median picture of their camera" if features else ""


def spread_out(samples: Sequence[Sample], *, most: int) -> tuple[Sample, ...]:
    """At most so many, in runs of neighbours by name, evenly spread."""
    if len(samples) <= most:
        return tuple(samples)
    ordered = sorted(samples, key=lambda sample: natural_key(sample.name))
    runs = max(1, most // _RUN)
    starts = np.linspace(0, len(ordered) - min(_RUN, most), runs).round().astype(int).tolist()
    places = sorted({start + step for start in starts for step in range(min(_RUN, most))})
    return tuple(ordered[place] for place in places)


def appearances(samples: Sequence[Sample], *, read: Read) -> Appearances:
    """Return the appearance of each image that can be decoded, less its camera's median image."""
    cameras: dict[tuple[int, int, str], dict[Digest, _Small]] = defaultdict(dict)
    for sample in samples:
        small = _small(sample, read=read)
        if small is not None:
            camera = (*small.size, sample.facts.get("camera", ""))
            cameras[camera][sample.digest] = small
    found: Appearances = {}
    for same in cameras.values():
        vectors = _less_camera(np.stack([small.cells for small in same.values()]))
        fine = _fine(np.stack([small.fine for small in same.values()]))
        looks = (Appearance(vector=v, fine=f) for v, f in zip(vectors, fine, strict=True))
        found.update(zip(same, looks, strict=True))
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Small:
    """Of one picture: (width, height), (16, 16, 3) uint8 cells, (48, 48) float32 fine structure."""

    size: tuple[int, int]
    cells: NDArray[np.uint8]
    fine: NDArray[np.float32]


def _small(sample: Sample, *, read: Read) -> _Small | None:
    """None for a picture that is damaged or gone."""
    import cv2

    try:
        checked = check_picture(read(sample), width_px=_THUMBNAIL_PX, max_bytes=_LARGEST_PICTURE)
        image = decode_picture(checked.thumbnail)
    except LinesideError:
        return None
    cells = cv2.resize(image, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
    shrunk = cv2.resize(image, (_FINE_CELLS, _FINE_CELLS), interpolation=cv2.INTER_AREA)
    grey = shrunk.astype(np.float32).mean(axis=2)
    return _Small(
        size=(checked.width_px, checked.height_px),
        cells=np.asarray(cells, np.uint8),
        fine=np.asarray(grey - cv2.blur(grey, (_BLUR_CELLS, _BLUR_CELLS)), np.float32),
    )


def _less_camera(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, h, w, 3) to (n, d): less the median picture; of one or two, less their own mean."""
    if len(cells) > 2:
        return region_features(cells[:, None], cell_px=1)
    level = cells.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    return np.asarray((cells - level).reshape(len(cells), -1) / NOISE_GREY, np.float32)


def _fine(structure: NDArray[np.float32]) -> NDArray[np.float16]:
    """(n, h, w) to (n, h * w) of length one, less the median where there are more than two."""
    flat = structure.reshape(len(structure), -1)
    if len(flat) > 2:
        flat = (flat - np.median(flat, axis=0)).astype(np.float32)
    length = np.sqrt((flat**2).sum(axis=1, keepdims=True)) + 1e-6
    return np.asarray(flat / length, np.float16)


def leak_features(samples: Sequence[Sample], *, read: Read, inspection: Inspection) -> Appearances:
    """The look of each picture that can be placed: its regions, registered to one view.

    Args:
        samples: all of them are looked at.
        read: gives a sample's encoded picture.
        inspection: its view and regions; without a view, pictures of the first one's size.
    """
    if len(samples) < 2:
        return {}
    view = inspection.view or _own_view(read(samples[0]))
    reference = _reference(samples, read=read, view=view)
    if reference is None:
        return {}
    registrar = Registrar(view, reference)
    settings = Prepare(
        crops=crops_for(
            inspection.region, width_px=view.width_px, height_px=view.height_px, margin=0.0
        ),
        width_px=_CROP_PX,
        height_px=_CROP_PX,
        view=view,
    )
    placed: dict[Digest, NDArray[np.uint8]] = {}
    for sample in samples:
        image = _decoded(read(sample))
        matrix = None if image is None else registrar.register(image).matrix
        if image is not None and matrix is not None:
            placed[sample.digest] = cut(image, settings, matrix=matrix)
    if not placed:
        return {}
    vectors = region_features(np.stack(list(placed.values())))
    return {digest: Appearance(vector=one) for digest, one in zip(placed, vectors, strict=True)}


def _reference(samples: Sequence[Sample], *, read: Read, view: View) -> NDArray[np.uint8] | None:
    """The first picture of the view's size that can be decoded; any of them gives the place."""
    for sample in samples:
        encoded = read(sample)
        if picture_size(encoded) == (view.width_px, view.height_px):
            image = _decoded(encoded)
            if image is not None:
                return image
    return None


def _own_view(encoded: bytes) -> View:
    width, height = picture_size(encoded)
    return View(width_px=width, height_px=height, register=False)


def _decoded(encoded: bytes) -> NDArray[np.uint8] | None:
    """The picture, or None for one that is damaged: it takes no part in the leak report."""
    try:
        return decode_picture(encoded, max_bytes=_LARGEST_PICTURE)
    except InvalidError:
        return None
