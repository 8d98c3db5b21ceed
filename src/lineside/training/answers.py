"""Answers held against the truth, one record per picture, whichever way they came about.

A presence label is one answer. A region of classes is one answer too: right only when the class
that holds is the one said to be present. Unsure is never right; a refused picture's answers are
unsure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineside.core import Policy
from lineside.datasets import Sample
from lineside.training.heads import UNKNOWN, HeadPlan, Truth, truth_of
from lineside.vision import (
    UNSURE,
    Decision,
    LabelAnswer,
    LabelRule,
    PictureState,
    decide,
)

Floats = NDArray[np.float32]
PRESENCE = ("absent", "present")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of one picture.

    Attributes:
        name: the presence label, or the region of classes.
        head: which head gave it; answers of one head are of one kind.
        classes: what truth and answer are places in; ``("absent", "present")`` for a label.
        truth, predicted: places in ``classes``; predicted is ``UNSURE`` (-1) where it is.
        chances: per class calibrated probability; empty for a refused picture.
    """

    name: str
    head: int
    classes: tuple[str, ...]
    truth: int
    predicted: int
    chances: tuple[float, ...] = ()

    @property
    def kind(self) -> str:
        """What answers are compared over: the label, or the class list."""
        return self.name if self.classes == PRESENCE else " / ".join(self.classes)

    @property
    def right(self) -> bool:
        """Whether the answer is the truth."""
        return self.predicted == self.truth


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One picture's judged answers."""

    sample: Sample
    answers: tuple[Answer, ...]
    state: PictureState = PictureState.OK
    reason: str = ""

    @property
    def exact(self) -> bool:
        """Whether every answer is right."""
        return all(answer.right for answer in self.answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Turns a plan's label answers into answers held against a sample's truth."""

    plan: HeadPlan

    def judged(self, sample: Sample, labels: Sequence[LabelAnswer]) -> Answered:
        """A picture that was answered."""
        by_name = {label.name: label for label in labels}
        return Answered(sample=sample, answers=self._answers(sample, by_name))

    def refused(self, sample: Sample, *, state: PictureState, reason: str) -> Answered:
        """A picture that was not."""
        return Answered(
            sample=sample, answers=self._answers(sample, {}), state=state, reason=reason
        )

    def _answers(self, sample: Sample, by_name: dict[str, LabelAnswer]) -> tuple[Answer, ...]:
        truth = truth_of(self.plan, [sample])[0]
        found: list[Answer] = []
        for number, head in enumerate(self.plan.heads):
            for row in head.rows:
                found += self._of_row(number, row, truth=truth, by_name=by_name)
        return tuple(found)

    def _of_row(
        self, number: int, row: int, *, truth: Truth, by_name: dict[str, LabelAnswer]
    ) -> list[Answer]:
        head = self.plan.heads[number]
        outputs = [output for output in self.plan.outputs if output.row == row]
        said = [by_name.get(output.name) for output in outputs]
        if head.exclusive:
            if (truth[row] != 1).all():
                return []
            answer = Answer(
                name=outputs[0].region,
                head=number,
                classes=head.labels,
                truth=int(np.flatnonzero(truth[row] == 1)[0]),
                predicted=_one_class(said),
                chances=tuple(each.probability for each in said if each is not None),
            )
            return [answer]
        return [
            Answer(
                name=output.name,
                head=number if len(head.labels) == 1 else -1 - output.place,
                classes=PRESENCE,
                truth=int(truth[row, output.place]),
                predicted=_presence(label),
                chances=() if label is None else (1 - label.probability, label.probability),
            )
            for output, label in zip(outputs, said, strict=True)
            if truth[row, output.place] != UNKNOWN
        ]


def decided(
    judge: Judge,
    sample: Sample,
    *,
    logits: Floats,
    rules: Sequence[LabelRule],
    policy: Policy,
) -> Answered:
    """A picture judged from (regions, outputs) logits, by the function devices use."""
    labels = decide(logits, rules, regions=judge.plan.regions, policy=policy)
    return judge.judged(sample, labels)


def _presence(label: LabelAnswer | None) -> int:
    if label is None or label.decision is Decision.UNSURE:
        return UNSURE
    return int(label.decision is Decision.PRESENT)


def _one_class(said: Sequence[LabelAnswer | None]) -> int:
    present = [
        place
        for place, label in enumerate(said)
        if label is not None and label.decision is Decision.PRESENT
    ]
    return present[0] if len(present) == 1 else UNSURE
