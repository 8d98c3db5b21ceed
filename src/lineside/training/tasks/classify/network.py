"""The network of a package: Lite0 at one or two scales, pooled, a linear head, a distance.

The maps at strides 8, 16 and 32 and the last convolution's are pooled over the whole picture, each
by its mean and by its maximum. The head is linear in these numbers, standardisation folded in:

* ``logits`` (1, classes) = weight x pooled + bias;
* ``activation`` (1, classes, h/8, w/8): what each place adds, so that its average plus the logit of
  an average training picture is the logit. A mean's share lies where the map is strong, a maximum's
  where it is reached;
* ``distance`` (1,): Euclidean distance of the first scale's means, standardised, to the nearest of
  the training pictures' (``bank``), in units of their own distances.

A linear head on pooled features: multinomial logistic regression, its strength by folds:

1. Features are standardised by the pictures a head is fitted to. With fewer pictures than features
   the fit runs in the space the pictures span, which changes nothing but the time: the penalty does
   not see rotations. With very many it runs in the space that an even choice of them spans.
2. Every class weighs the same, however many pictures show it.
3. Answers to held-out pictures come from heads that saw none of their group. By them the sight and
   the strength are chosen; a costlier sight has to lower the loss by more than two percent, and by
   more than the standard error of the difference.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.core import Policy
from lineside.training.common.backbone import TAP_CHANNELS, TAP_STRIDES, Lite0Full
from lineside.training.common.methods import bank_distances, log_sum_exp, temperature_of
from lineside.vision import ClassRule
from lineside.vision.decide import class_probabilities
from lineside.vision.metrics import conformal_cut

MEANS = sum(TAP_CHANNELS)
PER_SCALE = 2 * MEANS
FINEST = TAP_STRIDES[0]

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassHead:
    """Learned weights beyond the backbone; all float32.

    Attributes:
        weight: (classes, scales x PER_SCALE): on pooled features, standardisation folded in.
        bias: (classes,).
        mean: (scales x PER_SCALE,): of the training pictures' pooled features.
        bank: (k, MEANS): standardised means of training pictures.
        spread: (MEANS,): divides means before they are compared with the bank.
        unit: divides the distance.
    """

    weight: Floats
    bias: Floats
    mean: Floats
    bank: Floats
    spread: Floats
    unit: float

    @property
    def scales(self) -> int:
        """At how many scales the network looks."""
        return len(self.mean) // PER_SCALE


def tap_slices() -> tuple[slice, ...]:
    """Where each map's channels lie in (MEANS,)."""
    return tuple(slice(*ends) for ends in pairwise(accumulate(TAP_CHANNELS, initial=0)))


def halved(crops: Tensor) -> Tensor:
    """Every two by two pixels averaged."""
    return nn.functional.avg_pool2d(crops, 2)


def maps_of(backbone: Lite0Full, crops: Tensor, *, scales: int) -> list[tuple[Tensor, ...]]:
    """The four maps of each scale, the input itself first."""
    found = []
    for scale in range(scales):
        crops = halved(crops) if scale else crops
        found.append(backbone(crops))
    return found


def pooled_of(maps: list[tuple[Tensor, ...]]) -> Tensor:
    """(n, scales x PER_SCALE): per scale the means of all maps, then their maxima."""
    parts = []
    for taps in maps:
        parts += [tap.mean(dim=(2, 3)) for tap in taps]
        parts += [tap.amax(dim=(2, 3)) for tap in taps]
    return torch.cat(parts, dim=1)


class FeatureNetwork(nn.Module):
    """(n, 3, h, w) prepared pictures → (n, scales x PER_SCALE) pooled features."""

    def __init__(self, backbone: Lite0Full, *, scales: int) -> None:
        super().__init__()
        self.trunk, self.scales = backbone, scales

    def forward(self, crops: Tensor) -> Tensor:
        return pooled_of(maps_of(self.trunk, crops, scales=self.scales))


class ClassNetwork(nn.Module):
    """(n, 3, h, w) prepared pictures → logits, activation, distance, bank distances."""

    def __init__(self, head: ClassHead, *, backbone: Lite0Full) -> None:
        super().__init__()
        self.trunk = backbone
        self.scales = head.scales
        for name, value in (
            ("weight", head.weight),
            ("bias", head.bias),
            ("mean", head.mean),
            ("bank", head.bank),
            ("spread", head.spread),
            ("unit", np.array(head.unit)),
        ):
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value, np.float32)))

    weight: Tensor
    bias: Tensor
    mean: Tensor
    bank: Tensor
    spread: Tensor
    unit: Tensor

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        maps = maps_of(self.trunk, crops, scales=self.scales)
        pooled = pooled_of(maps)
        logits = nn.functional.linear(pooled, self.weight, self.bias)
        apart = bank_distances(
            pooled[:, :MEANS], bank=self.bank, spread=self.spread, unit=self.unit
        )
        return logits, self.activation(maps), apart.amin(dim=1), apart

    def activation(self, maps: list[tuple[Tensor, ...]]) -> Tensor:
        """Evidence per place of the finest map, in logits."""
        parts = []
        for scale, taps in enumerate(maps):
            for tap, stride, place in zip(taps, TAP_STRIDES, tap_slices(), strict=True):
                grid = self._evidence(tap, scale, place)
                parts.append(_grown(grid, times=stride * 2**scale // FINEST))
        return sum(parts[1:], parts[0])

    def _evidence(self, tap: Tensor, scale: int, place: slice) -> Tensor:
        first = scale * PER_SCALE
        mean, peak = (
            slice(first + offset + place.start, first + offset + place.stop)
            for offset in (0, MEANS)
        )
        spread_out = tap - self.mean[mean, None, None]
        highest = tap.amax(dim=(2, 3), keepdim=True)
        reached = (tap == highest).to(tap.dtype)
        share = reached * (tap.shape[2] * tap.shape[3]) / reached.sum(dim=(2, 3), keepdim=True)
        peaks = share * (highest - self.mean[peak, None, None])
        return nn.functional.conv2d(
            spread_out, self.weight[:, mean, None, None]
        ) + nn.functional.conv2d(peaks, self.weight[:, peak, None, None])


def _grown(grid: Tensor, *, times: int) -> Tensor:
    """Repeat each place."""
    return nn.functional.interpolate(grid, scale_factor=float(times), mode="nearest")


STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_LEAST_GAIN = 0.02
_LEAST_SPREAD = 0.25
_RADIUS = 10.0
_MOST_ROUNDS = 300
_MOST_SPANNING = 1200

Classes = NDArray[np.intp]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linear:
    """logits = features x weight.T + bias, on raw features; float64."""

    weight: Numbers
    bias: Numbers
    mean: Numbers
    spread: Numbers

    def logits(self, features: Floats) -> Numbers:
        """(n, features) → (n, classes)."""
        return np.asarray(features.astype(np.float64) @ self.weight.T + self.bias)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ValidationLogits:
    """Answers to pictures by heads that had not seen them.

    Attributes:
        logits: (pictures, classes) float64.
        losses: (pictures,) cross-entropy.
        strength: of the heads.
    """

    logits: Numbers
    losses: Numbers
    strength: float

    @property
    def loss(self) -> float:
        """Mean cross-entropy."""
        return float(self.losses.mean())


class Space:
    """Standardised features of some pictures, in at most as many dimensions as pictures."""

    def __init__(self, features: Floats) -> None:
        values = features.astype(np.float64)
        self.mean, self.spread = standard(values)
        scaled = (values - self.mean) / self.spread * (_RADIUS / np.sqrt(values.shape[1]))
        self._back: Numbers | None = None
        self.points = scaled
        if len(scaled) < scaled.shape[1] or len(scaled) > _MOST_SPANNING:
            even = np.linspace(0, len(scaled) - 1, min(len(scaled), _MOST_SPANNING))
            spanning = scaled[even.round().astype(np.intp)]
            lengths, axes = np.linalg.eigh(spanning @ spanning.T)
            stored = lengths > lengths[-1] * 1e-10
            self._back = spanning.T @ (axes[:, stored] / np.sqrt(lengths[stored]))
            self.points = scaled @ self._back

    def fit(self, truth: Classes, *, classes: int, strength: float) -> Linear:
        """A head on the raw features."""
        slope, offset = fit_logistic(self.points, truth, classes=classes, strength=strength)
        wide = slope if self._back is None else slope @ self._back.T
        weight = wide / self.spread * (_RADIUS / np.sqrt(len(self.mean)))
        bias = offset - weight @ self.mean
        return Linear(weight=weight, bias=bias, mean=self.mean, spread=self.spread)


def standard(values: Numbers) -> tuple[Numbers, Numbers]:
    """Mean and spread per feature; a feature that hardly moves is not blown up."""
    deviation = values.std(axis=0)
    return values.mean(axis=0), np.maximum(deviation, _LEAST_SPREAD * np.median(deviation) + 1e-6)


def fit_logistic(
    points: Numbers, truth: Classes, *, classes: int, strength: float
) -> tuple[Numbers, Numbers]:
    """(classes, dimensions) slopes and (classes,) offsets; a class not shown is never likely."""
    from sklearn.linear_model import LogisticRegression

    shown = np.unique(truth)
    slope = np.zeros((classes, points.shape[1]))
    offset = np.full(classes, -10.0)
    if len(shown) == 1:
        offset[shown] = 0.0
        return slope, offset
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=_MOST_ROUNDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stopping at max_iter is a fit like any other
        model.fit(points, truth)
    found, offsets = model.coef_, model.intercept_
    if len(shown) == 2:  # of two classes the library gives one row
        found = np.concatenate([-found / 2, found / 2])
        offsets = np.concatenate([-offsets / 2, offsets / 2])
    slope[shown], offset[shown] = found, offsets
    return slope, offset


def hold_out(
    features: Floats,
    truth: Classes,
    *,
    folds: Sequence[int],
    classes: int,
    strengths: Sequence[float] = STRENGTHS,
) -> ValidationLogits:
    """Held-out answers at the strength of the least loss."""
    numbers = np.array(folds)
    logits = np.zeros((len(strengths), len(truth), classes))
    for fold in np.unique(numbers):
        inside, outside = numbers != fold, numbers == fold
        space = Space(features[inside])
        for row, strength in enumerate(strengths):
            head = space.fit(truth[inside], classes=classes, strength=strength)
            logits[row, outside] = head.logits(features[outside])
    losses = [picture_losses(each, truth) for each in logits]
    best = int(np.argmin([each.mean() for each in losses]))
    return ValidationLogits(logits=logits[best], losses=losses[best], strength=strengths[best])


def choose(found: Sequence[ValidationLogits]) -> int:
    """Place of the sight to use: a later, costlier one where it is worth it."""
    best = 0
    for place, each in enumerate(found):
        gains = found[best].losses - each.losses
        error = float(gains.std()) / np.sqrt(len(gains))
        if gains.mean() > max(_LEAST_GAIN * found[best].loss, error):
            best = place
    return best


def picture_losses(logits: Numbers, truth: Classes) -> Numbers:
    """(pictures,) cross-entropy."""
    return np.asarray(log_sum_exp(logits) - logits[np.arange(len(truth)), truth])


def cross_entropy(logits: Numbers, truth: Classes) -> float:
    """Mean over the pictures."""
    return float(picture_losses(logits, truth).mean())


_HIGHEST_CUT = 0.5


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
