"""The network of a package: a backbone at one or two scales, pooled, a linear head, a distance.

The backbone's maps (of Lite0 those at strides 8, 16 and 32 and the last convolution's) are pooled
over the whole picture, each by its mean and by its maximum. The head is linear in these numbers,
standardisation folded in:

* ``logits`` (1, classes) = weight x pooled + bias;
* ``activation`` (1, classes, rows, columns), at the finest map's stride: what each place adds, so
  that its average plus the logit of an average training picture is the logit. A mean's share lies
  where the map is strong, a maximum's where it is reached;
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

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.core import Policy
from lineside.training.common.backbone import Backbone
from lineside.training.common.methods import (
    CONFIDENCE,
    bank_distances,
    calibrated_cut,
    log_sum_exp,
    shown_rate,
    temperature_of,
)
from lineside.vision import ClassRule
from lineside.vision.decide import class_probabilities

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassHead:
    """Learned weights beyond the backbone; all float32.

    Attributes:
        weight: (classes, scales x per scale): on pooled features, standardisation folded in.
        bias: (classes,).
        mean: (scales x per scale,): of the training pictures' pooled features.
        bank: (k, means): standardised means of training pictures.
        spread: (means,): divides means before they are compared with the bank.
        unit: divides the distance.
    """

    weight: Floats
    bias: Floats
    mean: Floats
    bank: Floats
    spread: Floats
    unit: float


def means_of(backbone: Backbone) -> int:
    """Channels of all maps together: means of one scale."""
    return sum(backbone.tap_channels)


def per_scale(backbone: Backbone) -> int:
    """Pooled features of one scale: a mean and a maximum of each channel."""
    return 2 * means_of(backbone)


def tap_slices(backbone: Backbone) -> tuple[slice, ...]:
    """Where each map's channels lie among the means."""
    return tuple(slice(*ends) for ends in pairwise(accumulate(backbone.tap_channels, initial=0)))


def halved(crops: Tensor) -> Tensor:
    """Every two by two pixels averaged."""
    return nn.functional.avg_pool2d(crops, 2)


def maps_of(backbone: Backbone, crops: Tensor, *, scales: int) -> list[tuple[Tensor, ...]]:
    """The backbone's maps of each scale, the input itself first."""
    found = []
    for scale in range(scales):
        crops = halved(crops) if scale else crops
        found.append(backbone.taps(crops))
    return found


def pooled_of(maps: list[tuple[Tensor, ...]]) -> Tensor:
    """(n, scales x per scale): per scale the means of all maps, then their maxima."""
    parts = []
    for taps in maps:
        parts += [tap.mean(dim=(2, 3)) for tap in taps]
        parts += [tap.amax(dim=(2, 3)) for tap in taps]
    return torch.cat(parts, dim=1)


class FeatureNetwork(nn.Module):
    """(n, 3, h, w) prepared pictures → (n, scales x per scale) pooled features."""

    def __init__(self, backbone: Backbone, *, scales: int) -> None:
        super().__init__()
        self.trunk, self.scales = backbone, scales

    def forward(self, crops: Tensor) -> Tensor:
        return pooled_of(maps_of(self.trunk, crops, scales=self.scales))


class ClassNetwork(nn.Module):
    """(n, 3, h, w) prepared pictures → logits, activation, distance, bank distances."""

    def __init__(self, head: ClassHead, *, backbone: Backbone) -> None:
        super().__init__()
        self.trunk = backbone
        self.means = means_of(backbone)
        self.scales = len(head.mean) // per_scale(backbone)
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
            pooled[:, : self.means], bank=self.bank, spread=self.spread, unit=self.unit
        )
        return logits, self.activation(maps), apart.amin(dim=1), apart

    def activation(self, maps: list[tuple[Tensor, ...]]) -> Tensor:
        """Evidence per place of the finest map, in logits."""
        parts = []
        for scale, taps in enumerate(maps):
            places = tap_slices(self.trunk)
            for tap, stride, place in zip(taps, self.trunk.tap_strides, places, strict=True):
                grid = self._evidence(tap, scale, place)
                parts.append(_grown(grid, times=stride * 2**scale // self.trunk.tap_strides[0]))
        return sum(parts[1:], parts[0])

    def _evidence(self, tap: Tensor, scale: int, place: slice) -> Tensor:
        first = scale * 2 * self.means
        mean, peak = (
            slice(first + offset + place.start, first + offset + place.stop)
            for offset in (0, self.means)
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
        self._back: tuple[Numbers, Numbers] | None = None  # their product leads back
        self.points = scaled
        if len(scaled) < scaled.shape[1] or len(scaled) > _MOST_SPANNING:
            even = np.linspace(0, len(scaled) - 1, min(len(scaled), _MOST_SPANNING))
            spanning = scaled[even.round().astype(np.intp)]
            products = scaled @ spanning.T
            lengths, axes = np.linalg.eigh(products[even.round().astype(np.intp)])
            stored = lengths > lengths[-1] * 1e-10
            self._back = (axes[:, stored] / np.sqrt(lengths[stored])).T, spanning
            self.points = products @ self._back[0].T

    def fit(self, truth: Classes, *, classes: int, strength: float) -> Linear:
        """A head on the raw features."""
        slope, offset = fit_logistic(self.points, truth, classes=classes, strength=strength)
        wide = slope if self._back is None else slope @ self._back[0] @ self._back[1]
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


_LEAST_CUT = 0.5


def calibrated_loss(logits: Numbers, truth: Classes) -> float:
    """Mean cross-entropy at the temperature that makes it least."""
    return cross_entropy(logits / temperature_of(logits, truth), truth)


def class_rule(
    logits: Numbers,
    truth: Classes,
    *,
    labels: Sequence[str],
    policy: Policy,
    owners: Sequence[object],
) -> tuple[ClassRule, float]:
    """The rule that follows from held-out answers, and the confidence of one cut's test.

    There is one cut for all classes.

    A class is answered from the cut on, which is never below one half. Truths are smoothed by one
    picture of each class more (as by Platt 1999), so that few pictures make no certainty.

    Args:
        logits: (pictures, classes) of pictures that the heads had not seen.
        truth: (pictures,) places in ``labels``.
        labels: the classes.
        policy: error rate, and perhaps one fixed cut. The rule's rate is the first that its cut
            shows, and 1 where no answer reaches one half.
        owners: whose each picture is, such as its group.
    """
    count, pictures = len(labels), len(truth)
    fixed = policy.present_above
    rule = ClassRule(
        labels=tuple(labels),
        temperature=temperature_of(logits, truth, smoothing=count / (pictures + count)),
        floor=0.0,
        cuts=(_LEAST_CUT if fixed is None else fixed,) * count,
        error_rate=policy.error_rate,
        class_conditional=False,
        calibration_pictures=pictures,
    )
    chances = class_probabilities(logits.astype(np.float32), rule)
    sureness = chances.max(axis=1)
    able = np.flatnonzero(sureness >= _LEAST_CUT)
    if fixed is not None:
        inside = chances >= fixed
        shown = shown_rate(
            inside.argmax(axis=1) != truth,
            answered=inside.sum(axis=1) == 1,
            owners=owners,
            rate=policy.error_rate,
        )
        return replace(rule, error_rate=shown), CONFIDENCE  # no other cut was tried
    if not len(able):
        return replace(rule, error_rate=1.0), CONFIDENCE
    found = calibrated_cut(
        sureness[able],
        (chances.argmax(axis=1) != truth)[able],
        owners=[owners[place] for place in able.tolist()],
        rate=policy.error_rate,
    )
    cuts = (max(found.cut, _LEAST_CUT),) * count
    return replace(rule, cuts=cuts, error_rate=found.rate), found.confidence
