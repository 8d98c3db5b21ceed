"""How far a count may be off: the interval's reach from pictures not trained on."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lineside.core import Policy
from lineside.training.objects.held_out import HeldOut, chances_of
from lineside.vision import LEAST_CHANCE, CountRule, DetectRule, conformal_cut, doubt_of

_WORTH_SCALING = 0.9  # a scaled interval has to be that much narrower to be taken
_ENOUGH_TO_SCALE = 20

Floats = NDArray[np.float64]


def truth_of(each: HeldOut, *, counted: NDArray[np.bool_]) -> int:
    """Objects of the labels that count."""
    return int(np.sum(counted[each.scene.label]))


def found_chances(each: HeldOut, *, rule: DetectRule, counted: NDArray[np.bool_]) -> Floats:
    """Probabilities of the candidates that count, as a device lists them."""
    chances = chances_of(each, rule=rule)
    return chances[counted[each.found.label] & (chances > LEAST_CHANCE)]


def count_rule(
    held: Sequence[HeldOut],
    *,
    rule: DetectRule,
    labels: Sequence[str],
    most: int,
    policy: Policy,
) -> CountRule:
    """The rule of a count of found objects.

    Args:
        held: pictures not trained on.
        rule: calibrated.
        labels: that count; empty counts all.
        most: objects on any training picture.
        policy: the error rate wished.
    """
    counted = np.array([not labels or name in labels for name in rule.labels])
    listed = [found_chances(each, rule=rule, counted=counted) for each in held]
    truth = np.array([truth_of(each, counted=counted) for each in held])
    value = np.array([int(np.sum(chances > rule.cut)) for chances in listed])
    off = np.abs(value - truth).astype(np.float64)
    doubt = np.array([doubt_of(chances) for chances in listed])
    plain = CountRule(
        most=most,
        reach=0.0,
        error_rate=policy.error_rate,
        calibration_pictures=len(held),
        labels=tuple(labels),
    )
    return reached(plain, off=off, doubt=doubt)


def reached(plain: CountRule, *, off: Floats, doubt: Floats) -> CountRule:
    """The rule with its reach: scaled by each picture's doubt where that is clearly narrower.

    The error rate becomes the one that holds: errors are whole numbers, and the narrowest interval
    is often right more often than asked.
    """
    if not plain.promises:
        return plain
    even = _reach(off, error_rate=plain.error_rate)
    scaled = _reach(off / doubt, error_rate=plain.error_rate)
    narrower = np.floor(scaled * doubt).mean() < _WORTH_SCALING * np.floor(even)
    if narrower and len(off) >= _ENOUGH_TO_SCALE:
        held = _rate(off <= np.floor(scaled * doubt + 1e-9))
        return replace(plain, reach=scaled, scaled=True, error_rate=min(plain.error_rate, held))
    held = _rate(off <= even)
    return replace(plain, reach=even, error_rate=min(plain.error_rate, held))


def _reach(off: Floats, *, error_rate: float) -> float:
    return float(np.ceil(conformal_cut(off, error_rate=error_rate).cut * 1e6) / 1e6)


def _rate(inside: NDArray[np.bool_]) -> float:
    """The error rate that so many covered pictures speak for; never below 1 / (n + 1)."""
    return float((len(inside) + 1 - inside.sum()) / (len(inside) + 1))


def no_interval(rule: CountRule) -> str:
    """The sentence of a rule that promises nothing."""
    n = rule.calibration_pictures
    least = f"{1 / (n + 1):.2f}"
    return (
        f"no interval: an error rate of {rule.error_rate:g} cannot be promised from {n} pictures, "
        f"whose least is {least}"
    )
