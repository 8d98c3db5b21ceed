"""Choose the reference view: the picture that most others lie like.

Regions are drawn in pixels of one picture's view. Where the job does not name that picture, the one
is taken to which most training pictures can be registered, and among equals the one they are
shifted
least against: the commonest camera position.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import Box, Inspection, InvalidError, View
from lineside.datasets import Sample
from lineside.vision import Registrar, decode_picture, picture_size
from lineside.vision.geometry import apply

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
        order = _spread(fitting, _CANDIDATES)
        probes = [(s, decode_picture(read(s))) for s in _spread(samples, _PROBES)]
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


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """At most ``count`` samples, evenly over the order given."""
    places = np.unique(np.linspace(0, len(samples) - 1, min(count, len(samples))).round())
    return [samples[int(place)] for place in places]


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
