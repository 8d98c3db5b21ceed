"""The contract of a task's figures.

Every figure is a ``Metric``: value, 95 % interval (Wilson for rates, bootstrap over pictures or
groups for the rest), count and trivial baseline. Names are those of every report: ``accuracy``,
``balanced_accuracy``, ``macro_f1``, ``auroc``, ``average_precision``, ``pixel_f1``, ``iou``,
``pro``, ``exact``, ``mae``, ``rmse``, ``coverage``, ``unsure_rate``; ``<metric>/<label>`` per
label. An unsure answer is not right in accuracy figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lineside.datasets import Sample
from lineside.models import Manifest, Metric
from lineside.vision import LimitRow, Prediction, ReliabilityBin


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Counts of truth (rows) against answers (columns; the last one is unsure)."""

    classes: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """A labelled picture and what the package said of it.

    Attributes:
        heat: (height, width) float32 on the picture's pixels, higher is more defective, comparable
            between pictures; None where the task gives no map.
        truth_mask: (height, width) bool; None where nobody drew one (a good picture has one without
            defect).
    """

    sample: Sample
    prediction: Prediction
    heat: NDArray[np.float32] | None = None
    truth_mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """An answer that was not right, the worst first; truth and answer in words."""

    picture: str
    truth: str
    said: str
    probability: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that was found.

    Attributes:
        limits: per score what escapes and what is rejected too much at every cut.
        slices: figures per group, lighting or kind: slice → name → figure.
        warnings: sentences that stand beside every figure, such as counts that do not beat the
            median guess.
    """

    metrics: Mapping[str, Metric]
    per_class: Mapping[str, Metric] = field(default_factory=dict)
    confusion: Mapping[str, Confusion] = field(default_factory=dict)
    reliability: Mapping[str, tuple[ReliabilityBin, ...]] = field(default_factory=dict)
    limits: Mapping[str, tuple[LimitRow, ...]] = field(default_factory=dict)
    mistakes: tuple[Worst, ...] = ()
    slices: Mapping[str, Mapping[str, Metric]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Measure(Protocol):
    """Computes a task's figures."""

    def __call__(
        self, cases: Sequence[Case], *, manifest: Manifest, baseline: Mapping[str, float]
    ) -> Measured:
        """Figures of judged pictures; refused pictures count as not right, never as left out.

        Args:
            cases: at least one, each with the truth that the task needs.
            manifest: of the package that judged.
            baseline: facts of the training pictures, as ``Trained.baseline``.
        """
        ...
