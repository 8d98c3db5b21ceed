"""From the network's logits to decisions: calibration, cuts, and the unsure band.

1. probability = sigmoid(slope * logit + offset), held between floor and 1 - floor.
2. A presence label: present if the probability is strictly greater than ``high``, absent if
   strictly less than ``low``, else unsure.
3. A region of classes: each class is calibrated by itself (one against the rest), then the region
   decides. Exactly one class not absent and that one present: it is the answer, the rest absent.
   Otherwise the region is unsure: every class that is not absent is unsure; where all are absent,
   the two likeliest are.
4. Where the policy fixes one cut (``present_above``), there is no unsure band: present if strictly
   greater, else absent. Of several classes above the cut the likeliest is present, equals are
   unsure; none above it leaves all absent.

From class logits to one class, several possible ones, or none.

1. probability = softmax(logits / temperature), said never nearer to 0 or 1 than ``floor``.
2. A class belongs to the set when its probability, before that bound, is at least its cut. The cut
   is one for all classes, 0.5 or more, and tested on pictures not trained on: of the answers given
   to pictures like those at most ``error_rate`` are wrong. Older packages have conformal cuts, by
   which at most that share of sets is without the true class.
3. A set of one class: that class is present. Of several: all of them are unsure. An empty set means
   that no class is likely enough: the likeliest two are unsure.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError, Policy
from lineside.vision.metrics import LimitRow
from lineside.vision.prediction import Decision, LabelAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRule:
    """Rule that turns one output into one label's decision.

    probability = sigmoid(slope * logit + offset), clipped to [floor, 1 - floor];
    present if probability > high, absent if probability < low, else unsure.

    Attributes:
        name: ``blue`` for presence, ``A1/blue`` for a class of region A1.
        output: index into the flat logits of the region's row.
        floor: 1 / (n + 2) with n training pictures of the label's rarer side.
        error_rate: shown among the answers of all rules, the wished one or the first larger one; in
            older packages the rate that the unsure band was made for.
        calibration_pictures: how many held-out answers slope, offset and band rest on.
    """

    name: str
    region: str
    label: str
    output: int
    slope: float
    offset: float
    floor: float
    low: float
    high: float
    error_rate: float
    calibration_pictures: int
    limits: tuple[LimitRow, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 0.5:
            raise InvalidError("between 0 and 0.5", where="floor", fix="Use 1 / (n + 2).")
        if self.low > self.high:
            raise InvalidError("at most high", where="low", fix="Swap low and high.")
        if self.output < 0:
            raise InvalidError("0 or above", where="output", fix="Count outputs from 0.")

    @property
    def is_class(self) -> bool:
        """Return whether the label is one of its region's classes, of which one holds."""
        return bool(self.region) and self.name == f"{self.region}/{self.label}"


def decide(
    logits: NDArray[np.float32],
    rules: Sequence[LabelRule],
    *,
    regions: Sequence[str],
    policy: Policy,
) -> tuple[LabelAnswer, ...]:
    """Answers in the order of the rules.

    Args:
        logits: (regions, outputs), a row per crop.
        rules: of the manifest.
        regions: region id of each row.
        policy: of the inspection.

    Raises:
        InvalidError: a rule names a region or output that is not there, or a logit is no number.
    """
    return Decider(rules, regions=regions, policy=policy).decide(logits)


def probabilities(
    logits: NDArray[np.float32], rules: Sequence[LabelRule], *, regions: Sequence[str]
) -> NDArray[np.float64]:
    """Calibrated probability of each rule's label, (rules,) float64."""
    return Decider(rules, regions=regions, policy=Policy()).probabilities(logits)


def calibrated(values: NDArray[np.float64], rules: Sequence[LabelRule]) -> NDArray[np.float64]:
    """Probability of each rule for its own logit, (rules,) float64."""
    found = map(_calibrate, values.tolist(), rules)
    return np.array(list(found), np.float64)


def decide_probabilities(
    chances: NDArray[np.float64], rules: Sequence[LabelRule], *, policy: Policy
) -> tuple[LabelAnswer, ...]:
    """Answers for probabilities that are there already."""
    cut = policy.present_above
    return _answers(chances.tolist(), rules, places=_class_regions(rules), cut=cut)


class Decider:
    """``decide`` for picture after picture: what follows from the rules is computed once."""

    def __init__(
        self, rules: Sequence[LabelRule], *, regions: Sequence[str], policy: Policy
    ) -> None:
        rows = {region: row for row, region in enumerate(regions)}
        self._rules = tuple(rules)
        self._regions = tuple(regions)
        self._cut = policy.present_above
        self._places = _class_regions(rules)
        self._rows = [rows.get(rule.region, -1) for rule in rules]
        self._outputs = [rule.output for rule in rules]
        self._lowest = min(self._rows, default=0)
        self._highest = (max(self._rows, default=-1), max(self._outputs, default=-1))

    def decide(self, logits: NDArray[np.float32]) -> tuple[LabelAnswer, ...]:
        """Answers in the order of the rules; see the function ``decide``."""
        chances = self._chances(logits)
        return _answers(chances, self._rules, places=self._places, cut=self._cut)

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated probability of each rule's label, (rules,) float64."""
        return np.array(self._chances(logits), np.float64)

    def _chances(self, logits: NDArray[np.float32]) -> list[float]:
        """One by one: for some dozens of numbers that is three times as fast as eight arrays."""
        self._check_shape(logits)
        values = logits.tolist()
        picked = [
            values[row][output] for row, output in zip(self._rows, self._outputs, strict=True)
        ]
        if not all(map(math.isfinite, picked)):
            raise InvalidError("the network answered something that is no number", where="logits")
        return list(map(_calibrate, picked, self._rules))

    def _check_shape(self, logits: NDArray[np.float32]) -> None:
        height, width = logits.shape if logits.ndim == 2 else (0, 0)
        if self._lowest >= 0 and self._highest[0] < height and self._highest[1] < width:
            return
        stray = next(
            rule
            for rule, row in zip(self._rules, self._rows, strict=True)
            if not 0 <= row < height or rule.output >= width
        )
        raise InvalidError(
            f"a rule names output {stray.output} of {stray.region!r}, the network answers"
            f" {logits.shape} for {list(self._regions)}",
            where="rules",
            fix="Export the package again.",
        )


def _calibrate(value: float, rule: LabelRule) -> float:
    score = min(max(rule.slope * value + rule.offset, -60.0), 60.0)
    chance = 1.0 / (1.0 + math.exp(-score))
    return min(max(chance, rule.floor), 1.0 - rule.floor)


def _answers(
    numbers: Sequence[float],
    rules: Sequence[LabelRule],
    *,
    places: Sequence[Sequence[int]],
    cut: float | None,
) -> tuple[LabelAnswer, ...]:
    single = [_single(p, rule, cut=cut) for p, rule in zip(numbers, rules, strict=True)]
    for group in places:
        chosen = [numbers[place] for place in group]
        verdicts = [single[place] for place in group]
        for place, verdict in zip(group, _one_class(chosen, verdicts, cut=cut), strict=True):
            single[place] = verdict
    return tuple(
        LabelAnswer(
            name=rule.name,
            region=rule.region,
            label=rule.label,
            probability=p,
            decision=verdict,
        )
        for rule, p, verdict in zip(rules, numbers, single, strict=True)
    )


def _single(chance: float, rule: LabelRule, *, cut: float | None) -> Decision:
    if cut is not None:
        return Decision.PRESENT if chance > cut else Decision.ABSENT
    if chance > rule.high:
        return Decision.PRESENT
    return Decision.ABSENT if chance < rule.low else Decision.UNSURE


def _class_regions(rules: Sequence[LabelRule]) -> list[list[int]]:
    """Places of the rules of each region of classes."""
    found: dict[str, list[int]] = {}
    for place, rule in enumerate(rules):
        if rule.is_class:
            found.setdefault(rule.region, []).append(place)
    return list(found.values())


def _one_class(
    chances: list[float], verdicts: list[Decision], *, cut: float | None
) -> list[Decision]:
    possible = [place for place, each in enumerate(verdicts) if each is not Decision.ABSENT]
    if cut is not None:
        best = max(chances)
        possible = [place for place in possible if chances[place] == best]
        return _only(
            possible,
            Decision.PRESENT if len(possible) == 1 else Decision.UNSURE,
            count=len(chances),
        )
    if len(possible) == 1 and verdicts[possible[0]] is Decision.PRESENT:
        return _only(possible, Decision.PRESENT, count=len(chances))
    if not possible:
        possible = sorted(range(len(chances)), key=lambda place: -chances[place])[:2]
    return _only(possible, Decision.UNSURE, count=len(chances))


def _only(places: list[int], verdict: Decision, *, count: int) -> list[Decision]:
    return [verdict if place in places else Decision.ABSENT for place in range(count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRule:
    """Decoding of logits into classes.

    Attributes:
        labels: class names in the order of the logits.
        temperature: divides the logits before softmax (Guo et al. 2017).
        floor: no probability is said nearer to 0 or 1; 0, but in older packages 1 / (n + 2) with n
            pictures of the rarest class.
        cuts: per class the least probability with which it belongs to the set.
        error_rate: the rate the cuts were shown to hold: the wished one, or the first larger one
            of those tested; 1 where none was shown.
        class_conditional: whether each class has a cut by itself; only in older packages.
        calibration_pictures: how many pictures the cuts rest on.
    """

    labels: tuple[str, ...]
    temperature: float
    floor: float
    cuts: tuple[float, ...]
    error_rate: float
    class_conditional: bool
    calibration_pictures: int

    def __post_init__(self) -> None:
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise InvalidError("two or more different classes", where="labels", fix="Name them.")
        if len(self.cuts) != len(self.labels):
            raise InvalidError("one cut per class", where="cuts", fix="Export the package again.")
        if not self.temperature > 0:
            raise InvalidError("above 0", where="temperature", fix="Export the package again.")


def class_probabilities(logits: NDArray[np.float32], rule: ClassRule) -> NDArray[np.float64]:
    """(…, classes) logits → calibrated probabilities of the same shape, float64."""
    chances = _unbounded(logits, temperature=rule.temperature)
    return np.asarray(np.clip(chances, rule.floor, 1.0 - rule.floor), np.float64)


def _unbounded(logits: NDArray[np.float32], *, temperature: float) -> NDArray[np.float64]:
    """Probabilities that sum to 1, as cuts are compared with them."""
    scaled = np.asarray(logits, np.float64) / temperature
    raw = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(raw / raw.sum(axis=-1, keepdims=True), np.float64)


def decide_classes(logits: NDArray[np.float32], rule: ClassRule) -> tuple[LabelAnswer, ...]:
    """(classes,) logits → one answer per class, in the rule's order.

    Raises:
        InvalidError: another number of logits, or one that is no number.
    """
    if logits.shape != (len(rule.labels),) or not np.isfinite(logits).all():
        raise InvalidError(
            f"{logits.shape} logits for {len(rule.labels)} classes, all finite",
            where="logits",
            fix="Export the package again.",
        )
    chances = class_probabilities(logits, rule)
    decisions = class_decisions(_unbounded(logits, temperature=rule.temperature), rule)
    return tuple(
        LabelAnswer(
            name=label, region="", label=label, probability=float(chance), decision=decision
        )
        for label, chance, decision in zip(rule.labels, chances, decisions, strict=True)
    )


def class_decisions(chances: NDArray[np.float64], rule: ClassRule) -> tuple[Decision, ...]:
    """Return the decision on each class, (classes,) probabilities in the rule's order."""
    inside = np.flatnonzero(chances >= np.array(rule.cuts))
    possible = inside if len(inside) else np.argsort(-chances, kind="stable")[:2]
    verdict = Decision.PRESENT if len(inside) == 1 else Decision.UNSURE
    return tuple(
        verdict if place in possible else Decision.ABSENT for place in range(len(rule.labels))
    )


_GOOD_LABELS = frozenset(
    {"good", "normal", "ok", "free", "none", "no defect", "defect-free", "functional"}
)
"""What people call a good part, in small letters, where nobody named the labels."""


def says_good(label: str, *, named: Collection[str] = ()) -> bool:
    """Return whether a label means a good part.

    Args:
        label: as the package says it.
        named: the good labels of the inspection; empty: the usual words.
    """
    return label in named if named else label.lower() in _GOOD_LABELS
