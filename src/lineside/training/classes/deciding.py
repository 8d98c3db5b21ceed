"""From held-out logits to the rule of a package: temperature, floor, conformal cuts.

1. One temperature divides all logits, so that the held-out truths are likeliest (Guo et al. 2017).
2. A class's cut is the conformal quantile of the probability that held-out pictures of that class
   gave it (class-conditional; Vovk 2012), or of all held-out pictures where a class has too few for
   the error rate. With n pictures the rate cannot be below 1 / (n + 1); the rule carries the rate
   that holds.
3. No cut is above one half: a class that is likelier than all others together belongs to the set.
   This only enlarges sets. Without it, a network that errs less often than allowed would have to be
   unsure now and then for no reason.
4. Where the policy fixes a cut, it is every class's cut.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lineside.core import Policy
from lineside.training.classes.head import Classes, Numbers, cross_entropy, log_sum_exp
from lineside.vision import ClassRule, class_probabilities, conformal_cut

_HIGHEST_CUT = 0.5
_TEMPERATURES = np.exp(np.linspace(math.log(0.05), math.log(20.0), 241))


def temperature_of(logits: Numbers, truth: Classes) -> float:
    """The temperature at which the truths of held-out pictures are likeliest."""
    own = logits[np.arange(len(truth)), truth]
    losses = [
        float(np.mean(log_sum_exp(logits / each) - own / each)) for each in _TEMPERATURES.tolist()
    ]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def calibrated_loss(logits: Numbers, truth: Classes) -> float:
    """Mean cross-entropy at the temperature that makes it least."""
    return cross_entropy(logits / temperature_of(logits, truth), truth)


def class_rule(
    logits: Numbers,
    truth: Classes,
    *,
    labels: Sequence[str],
    policy: Policy,
    class_conditional: bool | None = None,
) -> ClassRule:
    """The rule that follows from held-out answers.

    Args:
        logits: (pictures, classes) of pictures that the heads had not seen.
        truth: (pictures,) places in ``labels``.
        labels: the classes.
        policy: error rate, or one fixed cut.
        class_conditional: whether the rate shall hold for each class by itself; None where every
            class has enough pictures for it.
    """
    counts = np.bincount(truth, minlength=len(labels))
    enough = math.ceil(1 / policy.error_rate - 1e-9) - 1
    each_class = bool(counts.min() >= enough) if class_conditional is None else class_conditional
    bare = ClassRule(
        labels=tuple(labels),
        temperature=temperature_of(logits, truth),
        floor=0.0,  # cuts are compared with probabilities that nothing bounds
        cuts=(0.0,) * len(labels),
        error_rate=policy.error_rate,
        class_conditional=each_class,
        calibration_pictures=len(truth),
    )
    floor = 1.0 / (int(counts.min()) + 2)
    rule = replace(bare, floor=floor)
    if policy.present_above is not None:
        return replace(rule, cuts=(policy.present_above,) * len(labels))
    own = class_probabilities(logits.astype(np.float32), bare)[np.arange(len(truth)), truth]
    if not each_class:
        found = conformal_cut(-own, error_rate=policy.error_rate)
        return _with(rule, [-found.cut] * len(labels), rate=found.error_rate)
    cuts, rate = [], policy.error_rate
    for place in range(len(labels)):
        mine = own[truth == place]
        found = conformal_cut(-mine, error_rate=policy.error_rate)
        cuts.append(-found.cut)
        rate = max(rate, found.error_rate)
    return _with(rule, cuts, rate=rate)


def _with(rule: ClassRule, cuts: Sequence[float], *, rate: float) -> ClassRule:
    return replace(rule, cuts=tuple(min(cut, _HIGHEST_CUT) for cut in cuts), error_rate=rate)
