"""What the controls for shortcuts found."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lineside.models import Metric

LOWER_IS_BETTER = frozenset(
    {"mae", "count_mae", "rmse", "calibration_error", "refused_rate", "unsure_rate"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """What a trivial figure reaches, beside the package.

    Attributes:
        figure: ``mean_grey``, ``contrast``, … (``lineside.training.light_meter``).
        metric: which figure of the package it stands against.
        matched: whether it surely beats the baseline and reaches the package's interval.
    """

    figure: str
    metric: str
    reached: Metric
    package: Metric
    matched: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What the package says when the marked defects are painted over.

    Attributes:
        pictures: that were erased.
        still: share of those answered right before that are answered so still; its baseline is
            the share of pictures without a mark that are answered so.
        before, after: AUROC of marked pictures against those without a mark; None without those.
    """

    pictures: int
    still: Metric
    before: Metric | None = None
    after: Metric | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """All controls of one evaluation.

    Attributes:
        gain_normalised: figures of the same package on normalised pictures.
        gain_plain: the same figures on the same pictures as they are.
        warnings: sentences that stand beside every figure.
        by_metric: the sentences, by the figure they are about.
    """

    alone: tuple[Alone, ...] = ()
    gain_normalised: Mapping[str, Metric] = field(default_factory=dict)
    gain_plain: Mapping[str, Metric] = field(default_factory=dict)
    erased: Erased | None = None
    by_metric: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Every sentence once."""
        return tuple(dict.fromkeys(line for lines in self.by_metric.values() for line in lines))
