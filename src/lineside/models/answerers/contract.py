"""The contract of an answerer, and what it says."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lineside.vision import (
    AnomalyAnswer,
    BoxAnswer,
    CountAnswer,
    LabelAnswer,
    MaskAnswer,
    Matrix,
)

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
_PROBES = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place:
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
class Said:
    """What a package says of a picture; which fields are filled follows from its task.

    Attributes:
        distance: of the picture's features from the training data, as ``HealthFigures`` says.
        prepare_ms, infer_ms: what the steps took.
        reason: why the picture could not be placed ("camera moved"); "" otherwise.
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


class Answerer(Protocol):
    """A package's network with its rules; called by one thread at a time."""

    def answer(self, place: Place) -> Said:
        """Judge a picture."""
        ...

    def explain(self, place: Place) -> dict[str, Floats]:
        """Label (or ``objects``, ``anomaly``) → (height, width) float32, 0-1, on its pixels."""
        ...

    def heat(self, place: Place) -> Floats | None:
        """(height, width) float32 on its pixels, in the task's own unit, higher is more defective.

        Comparable between pictures, unlike ``explain``; None where the task gives no such map or
        the picture could not be placed.
        """
        ...

    def crops(self, place: Place) -> Floats:
        """What the network is given of a picture: (n, channels, height, width) float32.

        Raises:
            InvalidError: the picture could not be placed, or lacks its template.
        """
        ...

    def golden(self, place: Place) -> Floats:
        """(rows, numbers) float32: what ``Golden.logits`` holds of this picture."""
        ...


def probe(*maps: Floats) -> Floats:
    """Evenly spaced values of each array, one row of 64 each (fewer values are repeated)."""
    rows = []
    for each in maps:
        flat = each.reshape(-1)
        places = np.linspace(0, len(flat) - 1, _PROBES).round().astype(np.intp)
        rows.append(flat[places])
    return np.stack(rows).astype(np.float32)
