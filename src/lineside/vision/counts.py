"""From found objects, or from a distribution over numbers, to a count with its interval.

1. Of found objects: value = objects above the cut; [value - reach, value + reach], the reach being
   the ceil((1 - error_rate)(n + 1))-th smallest error on n pictures not trained on, times the
   picture's own doubt where the rule says so. Below the honest floor, error_rate < 1 / (n + 1),
   there is no such interval, and ``low`` = 0, ``more`` = True say so.
2. Of a distribution: the smallest run of numbers around the likeliest whose probability reaches
   the conformal cut. The last output means "more than ``most``".
3. Where the interval passes ``most``, the largest number that was trained, ``high`` is ``most`` and
   ``more`` is True; ``value`` stays what was found.
4. ``chances`` are those of the distribution, or, of found objects, of how many of the candidates
   are there when each is by its own chance (a Poisson binomial distribution).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError
from lineside.vision.prediction import CountAnswer, Decision

_LEAST_DOUBT = 0.3
_LARGEST_TOLD = 254
_MOST_CHANCES = 256
_DIGITS = 6
_ROUNDING = 1e-9  # a run that reaches the cut but for the last digit reaches it


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRule:
    """Decoding of a count.

    Attributes:
        most: the largest number the training pictures support; above it the answer is "more".
        reach: of the interval, in objects (in units of the picture's own doubt if ``scaled``).
        scaled: whether the reach is multiplied by sqrt(sum of p (1 - p)) + 0.3.
        temperature: of a distribution's logits; 1 where objects are found.
        cut: conformal cut of a distribution: numbers are taken, likeliest first, until their
            probability reaches it; 0 where objects are found.
        error_rate: of the interval: the one wished, or a smaller one where the narrowest interval
            already holds it. Below 1 / (n + 1) nothing can be promised, and no interval is told.
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
        if not self.temperature > 0 or not 0 <= self.cut <= 1:
            raise InvalidError(
                "a temperature above 0 and a cut from 0 to 1",
                where="count",
                fix="Export the package again.",
            )

    @property
    def promises(self) -> bool:
        """Return whether there are pictures enough for an interval at this error rate."""
        return self.error_rate * (self.calibration_pictures + 1) >= 1 - _ROUNDING


def doubt_of(chances: NDArray[np.float64]) -> float:
    """Return the uncertainty of a count: sqrt(sum of p (1 - p)) + 0.3 over its candidates."""
    return math.sqrt(float(np.sum(chances * (1 - chances)))) + _LEAST_DOUBT


def count_found(chances: NDArray[np.float64], *, cut: float, rule: CountRule) -> CountAnswer:
    """A count of found objects.

    Args:
        chances: (candidates,) calibrated, those below the cut included.
        cut: objects above it are counted.
        rule: of the interval.
    """
    value = int(np.sum(chances > cut))
    numbers = found_chances(chances, rule)
    if not rule.promises:
        return _answer(value, low=0, high=rule.most, more=True, chances=numbers)
    reach = rule.reach * (doubt_of(chances) if rule.scaled else 1.0)
    spare = math.floor(reach + _ROUNDING)
    low, high = max(0, value - spare), value + spare
    return _answer(
        value,
        low=min(low, rule.most),
        high=min(high, rule.most),
        more=high > rule.most,
        chances=numbers,
    )


def number_chances(logits: NDArray[np.float32], rule: CountRule) -> NDArray[np.float64]:
    """(most + 2,) logits → probabilities of 0, 1, …, most, and of more.

    Raises:
        InvalidError: another number of logits, or one that is no number.
    """
    if logits.shape != (rule.most + 2,) or not np.isfinite(logits).all():
        raise InvalidError(
            f"{logits.shape} logits for the numbers to {rule.most} and more, all finite",
            where="logits",
            fix="Export the package again.",
        )
    scaled = np.asarray(logits, np.float64) / rule.temperature
    raw = np.exp(scaled - scaled.max())
    return np.asarray(raw / raw.sum(), np.float64)


def count_likely(logits: NDArray[np.float32], rule: CountRule) -> CountAnswer:
    """A count of a distribution's (most + 2,) logits."""
    chances = number_chances(logits, rule)
    value = int(np.argmax(chances))
    if not rule.promises:
        return _answer(min(value, rule.most), low=0, high=rule.most, more=True, chances=chances)
    low, high = shortest_run(chances, reaching=rule.cut)
    return _answer(
        min(value, rule.most),
        low=min(low, rule.most),
        high=min(high, rule.most),
        more=high > rule.most,
        chances=chances,
    )


def found_chances(chances: NDArray[np.float64], rule: CountRule) -> NDArray[np.float64]:
    """(candidates,) chances → (most + 2,) probabilities of 0, 1, …, most, and of more."""
    told = np.zeros(rule.most + 2)
    told[0] = 1.0
    for chance in chances:
        there = told * chance
        told -= there
        told[1:] += there[:-1]
        told[-1] += there[-1]  # more stays more
    return told


def shortest_run(chances: NDArray[np.float64], *, reaching: float) -> tuple[int, int]:
    """First and last place of the run around the likeliest whose sum reaches so much.

    The run grows by its likelier neighbour, the upper one where both are alike.
    """
    low = high = int(np.argmax(chances))
    total = float(chances[low])
    while total < reaching - _ROUNDING and high - low + 1 < len(chances):
        below = chances[low - 1] if low else -1.0
        above = chances[high + 1] if high + 1 < len(chances) else -1.0
        low, high = (low, high + 1) if above >= below else (low - 1, high)
        total += float(max(below, above))
    return low, high


def _answer(
    value: int, *, low: int, high: int, more: bool, chances: NDArray[np.float64]
) -> CountAnswer:
    sure = low == high and not more
    told = np.clip(chances, 0, 1).round(_DIGITS).tolist() if len(chances) <= _MOST_CHANCES else ()
    return CountAnswer(
        value=value,
        low=low,
        high=high,
        more=more,
        decision=Decision.PRESENT if sure else Decision.UNSURE,
        chances=tuple(told),
    )
