"""From class logits to one class, several possible ones, or none: calibrated conformal sets.

1. probability = softmax(logits / temperature), said never nearer to 0 or 1 than ``floor``.
2. A class belongs to the set when its probability, before that bound, is at least its cut. Cuts are
   conformal quantiles of pictures not trained on (Vovk et al. 2005; per class: Sadinle et al.
   2019), so that the true class is left out of at most ``error_rate`` of pictures like those.
3. A set of one class: that class is present. Of several: all of them are unsure. An empty set means
   that the picture is like none of the classes: the likeliest two are unsure.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError
from lineside.vision.prediction import Decision, LabelAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRule:
    """Decoding of logits into classes.

    Attributes:
        labels: class names in the order of the logits.
        temperature: divides the logits before softmax (Guo et al. 2017).
        floor: 1 / (n + 2), n pictures of the rarest class.
        cuts: per class the least probability with which it belongs to the set.
        error_rate: the rate the cuts were made for; never below 1 / (n + 1).
        class_conditional: whether the rate holds for each class by itself.
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
    raw = _unbounded(logits, temperature=rule.temperature)
    inside = np.flatnonzero(raw >= np.array(rule.cuts))
    possible = inside if len(inside) else np.argsort(-raw, kind="stable")[:2]
    verdict = Decision.PRESENT if len(inside) == 1 else Decision.UNSURE
    return tuple(
        LabelAnswer(
            name=label,
            region="",
            label=label,
            probability=float(chances[place]),
            decision=verdict if place in possible else Decision.ABSENT,
        )
        for place, label in enumerate(rule.labels)
    )


GOOD_LABELS = frozenset(
    {"good", "normal", "ok", "free", "none", "no defect", "defect-free", "functional"}
)
"""What people call a good part, in small letters, where nobody named the labels."""


def says_good(label: str, *, named: Collection[str] = ()) -> bool:
    """Return whether a label means a good part.

    Args:
        label: as the package says it.
        named: the good labels of the inspection; empty: the usual words.
    """
    return label in named if named else label.lower() in GOOD_LABELS
