"""The contract of a task head, its input and output, and the head of each task."""

import importlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lineside.core import Clock, InvalidError
from lineside.models.archive import Package
from lineside.models.engines import EngineName, engine_named
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


class TaskHead(Protocol):
    """A package's network with its rules; called by one thread at a time."""

    def answer(self, place: HeadInput) -> HeadOutput:
        """Judge a picture."""
        ...

    def explain(self, place: HeadInput) -> dict[str, Floats]:
        """Label (or ``objects``, ``anomaly``) → (height, width) float32, 0-1, on its pixels."""
        ...

    def heat(self, place: HeadInput) -> Floats | None:
        """(height, width) float32 on its pixels, in the task's own unit, higher is more defective.

        Comparable between pictures, unlike ``explain``; None where the task gives no such map or
        the picture could not be placed.
        """
        ...

    def crops(self, place: HeadInput) -> Floats:
        """Return the network's input for a picture: (n, channels, height, width) float32.

        Raises:
            InvalidError: the picture could not be placed, or lacks its template.
        """
        ...

    def golden(self, place: HeadInput) -> Floats:
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


_HEADS = {
    "multilabel": "lineside.models.task_heads.labels",
    "classify": "lineside.models.task_heads.classes",
    "detect": "lineside.models.task_heads.objects",
    "count": "lineside.models.task_heads.counts",
    "segment": "lineside.models.task_heads.masks",
    "anomaly": "lineside.models.task_heads.anomaly",
}


def task_head_for(
    package: Package, *, clock: Clock, engine: EngineName = EngineName.ONNX_RUNTIME
) -> TaskHead:
    """Return the head of a package's task, its network loaded.

    Raises:
        InvalidError: the network does not load or does not fit the manifest.
        MissingExtraError: the engine's library is not installed.
    """
    task = package.manifest.task
    if task not in _HEADS:
        raise InvalidError(
            f"no task {task!r}", where=package.manifest.name, fix=f"Known: {', '.join(_HEADS)}."
        )
    made: TaskHead = importlib.import_module(_HEADS[task]).open_head(
        package, clock=clock, engine=engine_named(engine)
    )
    return made
