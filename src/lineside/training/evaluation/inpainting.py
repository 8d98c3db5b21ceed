"""Erase a marked defect by real material: what good pictures, or the rest of this one, show there.

Paint leaves a smooth place, and where good parts alone were learned a smooth place is an anomaly of
its own. Material is taken from where its surroundings fit the mark's best: from good parts laid
over this one (``Pose``), a few pixels about, or from anywhere else in the same picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.models import Package
from lineside.training.tasks.contract import MOST_BYTES, Case, Files
from lineside.vision import Matrix, decode_picture, encode_png, grey_of
from lineside.vision.geometry import compose, invert
from lineside.vision.pose import PoseEstimator

_MOST_ERASED_SHARE = 0.3
_MARGIN_SHARE = 0.015
_LEAST_MARGIN_PX = 3
_RADIUS_PX = 5
_ERASED_AROUND_PX = 24


def marked_area(case: Case) -> NDArray[np.bool_] | None:
    """Where the mark lies, (height, width) bool; None without one that has an area.

    Of boxes, an array just large enough for them; ``erased`` lays it onto the picture.
    """
    if case.truth_mask is not None and case.truth_mask.any():
        return case.truth_mask
    boxes = [mark for mark in case.sample.marked or () if not mark.is_point]
    if not boxes:
        return None
    width = max(1, round(max(box.x1_px for box in boxes)))
    height = max(1, round(max(box.y1_px for box in boxes)))
    area = np.zeros((height, width), np.bool_)
    for box in boxes:
        area[
            max(0, int(box.y0_px)) : round(box.y1_px), max(0, int(box.x0_px)) : round(box.x1_px)
        ] = True
    return area


def erased(encoded: bytes, case: Case) -> bytes:
    """The picture as PNG with its mark painted over, some pixels wider than it was drawn.

    A mark that covers a third of the picture leaves too little to paint from: then it is one grey,
    the median of the rest.
    """
    import cv2

    image = np.array(decode_picture(encoded, max_bytes=MOST_BYTES))
    wide = wide_mark(marked_area(case), image.shape[:2]).astype(np.uint8)
    if not wide.any():
        return encoded
    if wide.mean() > _MOST_ERASED_SHARE:
        rest = image[wide == 0]
        image[wide > 0] = np.median(rest, axis=0) if len(rest) else 127
        return encode_png(image)
    rows, columns = _around(wide)
    image[rows, columns] = cv2.inpaint(
        np.ascontiguousarray(image[rows, columns]),
        np.ascontiguousarray(wide[rows, columns]),
        _RADIUS_PX,
        cv2.INPAINT_TELEA,
    )
    return encode_png(image)


def wide_mark(area: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mark on a picture of that (height, width), some pixels wider than it was drawn."""
    import cv2

    laid = _on_picture(area, shape)
    margin = max(_LEAST_MARGIN_PX, round(_MARGIN_SHARE * max(shape)))
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    return np.asarray(cv2.dilate(laid.astype(np.uint8), brush) > 0, np.bool_)


def _on_picture(area: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    laid = np.zeros(shape, np.bool_)
    if area is not None:
        part = area[: shape[0], : shape[1]]
        laid[: part.shape[0], : part.shape[1]] = part
    return laid


def _around(wide: NDArray[np.uint8]) -> tuple[slice, slice]:
    """The mark with some picture around it, so that the rest is not touched."""
    down, across = np.flatnonzero(wide.any(axis=1)), np.flatnonzero(wide.any(axis=0))
    return (
        slice(max(0, int(down[0]) - _ERASED_AROUND_PX), int(down[-1]) + 1 + _ERASED_AROUND_PX),
        slice(max(0, int(across[0]) - _ERASED_AROUND_PX), int(across[-1]) + 1 + _ERASED_AROUND_PX),
    )


_MOST_DONORS = 16
_AROUND_PX = 10
_REACH_PX = 10
_MOST_SHARE = 0.25
_SOFT_PX = 1.5

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Donor:
    """A good picture and where its part lies (frame px → picture px)."""

    image: Image
    matrix: Matrix


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Found:
    """Material for a mark's box, and how badly its surroundings fit."""

    material: Floats
    error: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inpainter:
    """Erases marks; ``donors`` are good pictures with their part's place, where parts are posed."""

    finder: PoseEstimator | None
    donors: tuple[_Donor, ...] = ()

    def inpainted(self, encoded: bytes, case: Case) -> bytes:
        """The picture as PNG with real material in place of its mark."""
        image = np.array(decode_picture(encoded, max_bytes=MOST_BYTES))
        wide = wide_mark(marked_area(case), image.shape[:2])
        if not wide.any() or wide.mean() > _MOST_SHARE:
            return erased(encoded, case)
        box = _box(wide)
        sources = self._laid_over(image)
        found = [_fitting(image, wide, source=laid, box=box, own=False) for laid in sources]
        if not sources:
            found = [_fitting(image, wide, source=image, box=box, own=True)]
        usable = [each for each in found if each is not None]
        if not usable:
            return erased(encoded, case)
        best = min(usable, key=lambda each: each.error)
        return encode_png(_filled(image, wide, material=best.material, box=box))

    def _laid_over(self, image: Image) -> list[Image]:
        """Good pictures, their parts where this one's part is."""
        import cv2

        if self.finder is None:
            return []
        matrix = self.finder.find(grey_of(image)).matrix
        if matrix is None:
            return []
        size = (image.shape[1], image.shape[0])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return [
            np.asarray(
                cv2.warpAffine(
                    donor.image,
                    compose(donor.matrix, invert(matrix)),
                    size,
                    flags=flags,
                    borderMode=cv2.BORDER_REPLICATE,
                ),
                np.uint8,
            )
            for donor in self.donors
        ]


def inpainter_of(package: Package, good: Sequence[Case], *, files: Files) -> Inpainter:
    """Of a package of good parts, with material from good pictures it was not trained on."""
    settings = package.manifest.prepare
    if settings.pose is None:
        return Inpainter(finder=None)
    template = decode_picture(package.file(settings.pose.template_file), max_bytes=MOST_BYTES)
    finder = PoseEstimator(settings.pose, template)
    step = max(1, len(good) // _MOST_DONORS)
    donors = []
    for case in good[::step][:_MOST_DONORS]:
        image = decode_picture(files(case.sample.digest), max_bytes=MOST_BYTES)
        matrix = finder.find(grey_of(image)).matrix
        if matrix is not None:
            donors.append(_Donor(image=image, matrix=matrix))
    return Inpainter(finder=finder, donors=tuple(donors))


def _box(wide: Mask) -> tuple[slice, slice]:
    """The mark with its surroundings."""
    down, across = np.flatnonzero(wide.any(axis=1)), np.flatnonzero(wide.any(axis=0))
    return (
        slice(max(0, int(down[0]) - _AROUND_PX), int(down[-1]) + 1 + _AROUND_PX),
        slice(max(0, int(across[0]) - _AROUND_PX), int(across[-1]) + 1 + _AROUND_PX),
    )


def _fitting(
    image: Image, wide: Mask, *, source: Image, box: tuple[slice, slice], own: bool
) -> _Found | None:
    """Where in a source the mark's surroundings are found again, and what lies within them."""
    import cv2

    patch, hole = image[box].astype(np.float32), wide[box]
    gain = 1.0 if own else float(image[~wide].mean()) / max(1.0, float(source[~wide].mean()))
    scaled = np.clip(source.astype(np.float32) * gain, 0, 255)
    window = scaled if own else _about(scaled, box)
    if any(a < b for a, b in zip(window.shape[:2], patch.shape[:2], strict=True)):
        return None
    ring = np.repeat((~hole)[..., None].astype(np.float32), 3, axis=2)
    errors = np.asarray(cv2.matchTemplate(window, patch, cv2.TM_SQDIFF, mask=ring), np.float32)
    if own:  # not from under the mark itself
        under = cv2.matchTemplate(wide.astype(np.float32), hole.astype(np.float32), cv2.TM_CCORR)
        errors = np.where(np.asarray(under) > 0.5, np.float32(np.inf), errors)
    y, x = np.unravel_index(int(np.argmin(errors)), errors.shape)
    if not np.isfinite(errors[y, x]):
        return None
    height, width = patch.shape[:2]
    return _Found(material=window[y : y + height, x : x + width], error=float(errors[y, x]))


def _about(source: Floats, box: tuple[slice, slice]) -> Floats:
    """The box in a source, some pixels wider."""
    rows, columns = box
    return source[
        max(0, rows.start - _REACH_PX) : rows.stop + _REACH_PX,
        max(0, columns.start - _REACH_PX) : columns.stop + _REACH_PX,
    ]


def _filled(image: Image, wide: Mask, *, material: Floats, box: tuple[slice, slice]) -> Image:
    """The material in the hole, at its surroundings' light, with a soft seam inside the mark."""
    import cv2

    hole, patch = wide[box], image[box].astype(np.float32)
    around = ~hole
    gain = float(patch[around].mean()) / max(1.0, float(material[around].mean()))
    soft = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), _SOFT_PX)[..., None] * hole[..., None]
    mixed = patch * (1 - soft) + np.clip(material * gain, 0, 255) * soft
    found = image.copy()
    found[box] = mixed.round().astype(np.uint8)
    return found
