"""Vectors for the leak report: what pictures of one inspection differ in.

Pictures are registered to one of them and cut at the inspection's regions, as training does; what
lies outside the regions is the camera's own background and takes no part.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lineside.core import Digest, Inspection, InvalidError, View
from lineside.datasets.leaks import region_vectors
from lineside.datasets.library import FreezePlan, Library
from lineside.datasets.samples import Sample, label_names
from lineside.vision import Prepare, Registrar, crops_for, cut, decode_picture, picture_size

MOST_PICTURES = 200
_CROP_PX = 96
_LARGEST_PICTURE = 64_000_000

Read = Callable[[Sample], bytes]


def inspection_of(
    samples: Sequence[Sample], inspections: Sequence[Inspection]
) -> Inspection | None:
    """The inspection that answers the names these samples are judged by; None where none does."""
    names = {name for sample in samples for name in sample.known}
    for inspection in inspections:
        if names and names <= set(label_names(inspection)):
            return inspection
    return None


def plan_freeze(library: Library, name: str, *, inspections: Sequence[Inspection]) -> FreezePlan:
    """A plan whose leak report looks for near-duplicates on the regions these inspections name.

    Where none of them answers the draft's labels, it looks at digests and groups alone.
    """
    samples = library.draft(name).samples
    inspection = inspection_of(samples, inspections)
    if inspection is None:
        return FreezePlan()
    features = leak_features(samples, read=library.read, inspection=inspection)
    by = f"regions of inspection {inspection.id}" if features else ""
    return FreezePlan(features=features, features_by=by)


def leak_features(
    samples: Sequence[Sample], *, read: Read, inspection: Inspection
) -> dict[Digest, NDArray[np.float32]]:
    """A vector for each picture that can be placed, for ``FreezePlan.features``.

    Args:
        samples: at most ``MOST_PICTURES``; of more, nothing is computed, because a person waits.
        read: gives a sample's encoded picture.
        inspection: its view and regions; without a view, pictures of the first one's size.
    """
    if not 2 <= len(samples) <= MOST_PICTURES:
        return {}
    view = inspection.view or _as_taken(read(samples[0]))
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
        registrar.forget()
        matrix = None if image is None else registrar.register(image).matrix
        if image is not None and matrix is not None:
            placed[sample.digest] = cut(image, settings, matrix=matrix)
    if not placed:
        return {}
    vectors = region_vectors(np.stack(list(placed.values())))
    return dict(zip(placed, vectors, strict=True))


def _reference(samples: Sequence[Sample], *, read: Read, view: View) -> NDArray[np.uint8] | None:
    """The first picture of the view's size that can be decoded; any of them gives the place."""
    for sample in samples:
        encoded = read(sample)
        if picture_size(encoded) == (view.width_px, view.height_px):
            image = _decoded(encoded)
            if image is not None:
                return image
    return None


def _as_taken(encoded: bytes) -> View:
    width, height = picture_size(encoded)
    return View(width_px=width, height_px=height, register=False)


def _decoded(encoded: bytes) -> NDArray[np.uint8] | None:
    """The picture, or None for one that is damaged: it takes no part in the leak report."""
    try:
        return decode_picture(encoded, max_bytes=_LARGEST_PICTURE)
    except InvalidError:
        return None
