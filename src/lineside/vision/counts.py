"""From found objects, or from a distribution over numbers, to a count with its interval.

1. Of found objects: value = objects above the cut; [value - reach, value + reach], the reach being
   the ceil((1 - error_rate)(n + 1))-th smallest error on n pictures not trained on, times the
   picture's own doubt where the rule says so. Below the honest floor, error_rate < 1 / (n + 1),
   there is no such interval, and ``low`` = 0, ``more`` = True say so.
2. Of a distribution: the smallest run of numbers around the likeliest whose probability reaches
   the conformal cut. The last output means "more than ``most``".
"""

from dataclasses import dataclass

from lineside.core import InvalidError


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRule:
    """How a count is told.

    Attributes:
        most: the largest number the training pictures support; above it the answer is "more".
        reach: of the interval, in objects (in units of the picture's own doubt if ``scaled``).
        scaled: whether the reach is multiplied by sqrt(sum of p (1 - p)) + 0.3.
        temperature: of a distribution's logits; 1 where objects are found.
        cut: conformal cut of a distribution: numbers are taken, likeliest first, until their
            probability reaches it; 0 where objects are found.
        error_rate: of the interval; never below 1 / (n + 1).
        calibration_pictures: n.
        labels: of the objects that are counted; empty counts all.
    """

    most: int
    reach: float
    error_rate: float
    calibration_pictures: int
    scaled: bool = False
    temperature: float = 1.0
    cut: float = 0.0
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.most < 0 or self.reach < 0 or not 0 < self.error_rate <= 1:
            raise InvalidError(
                "a largest number, a reach and an error rate above 0",
                where="count",
                fix="Export the package again.",
            )
