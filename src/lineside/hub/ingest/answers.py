"""Answers to frames, kept from predictions for lists of frames.

A follower of the event log keeps them, so that records from before they were kept, and restored
ones, get theirs from the log.

The verdict on a frame is that of ``vision.verdict`` by the inspection's rule. Its label, score and
doubt are those of the answer that speaks most against the part:

1. What could not be judged has the state of the image as label, no score, and full doubt.
2. A label that does not mean a good part stands before one that does, present before unsure, a
   higher probability before a lower one.
3. Without a label the score is that of the likeliest fault, or the anomaly's.
4. Doubt is 0.5 and above where the answer is unsure, below it where not; within each half it grows
   with the nearness of a probability to 1/2, of an anomaly's score to its limit, of a count's
   likeliest number to the others.
5. A frame of a part that is incomplete is so too, whatever was answered to it, but for a reject.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from lineside.core import FrameId, Inspection, Plant
from lineside.store import FrameAnswer, FrameIndex, Logged
from lineside.streams import decode_event, read_prediction, read_verdict
from lineside.streams.verdicts import InspectionAnswer
from lineside.vision import (
    AnomalyAnswer,
    BoxAnswer,
    CountAnswer,
    Decision,
    LabelAnswer,
    PictureState,
    Prediction,
)
from lineside.vision.verdict import PartVerdict, RejectRule, judge_prediction, reject_rule

_EVEN = 0.5
_DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[0-9]+)?")
ANOMALY = "anomaly"
"""Label of a frame that differs from good ones."""


class _Finding(NamedTuple):
    label: str
    score: float
    decision: Decision
    doubt: float
    is_good: bool = False


class PredictionAnswer(NamedTuple):
    """A prediction of the log with the answer that lists go by; ``event``: its id."""

    event: str
    prediction: Prediction
    answer: FrameAnswer


class AnswerIndex:
    """Keeps the answers of predictions as they come out of the event log.

    ``also`` is given each page of them behind it, for the review queue.
    """

    def __init__(
        self, frames: FrameIndex, *, plant: Plant,
        also: Callable[[Sequence[PredictionAnswer]], None] = lambda _judged: None,
    ) -> None:  # fmt: skip
        self._frames = frames
        self._plant = plant
        self._also = also

    def take(self, entries: Sequence[Logged]) -> None:
        """Keep the answers of a page of predictions; twice is as once."""
        found, inspections = [], {one.id: one for one in self._plant.inspection}
        for logged in entries:
            event = decode_event(logged.entry.body, where=f"log position {logged.position}")
            prediction = read_prediction(event)
            answer = answer_of(prediction, inspections.get(prediction.inspection))
            found.append(PredictionAnswer(event.id, prediction, answer))
        self._frames.answer([one.answer for one in found])
        self._also(found)

    def take_verdicts(self, entries: Sequence[Logged]) -> None:
        """Note the frames of incomplete parts in a page of verdicts; twice is as once."""
        found = []
        for logged in entries:
            event = decode_event(logged.entry.body, where=f"log position {logged.position}")
            given = read_verdict(event)
            if given.verdict is PartVerdict.INCOMPLETE:
                found += [_incomplete(one) for one in given.answers]
        self._frames.note_incomplete(found)

    def resume(self, position: int) -> int:
        """Begin at the first prediction where no answers are kept yet."""
        return position if self._frames.has_answers() else 0


def _incomplete(answer: InspectionAnswer) -> FrameAnswer:
    return FrameAnswer(
        frame=FrameId(answer.frame), camera=answer.camera, captured_at=answer.captured_at,
        inspection=answer.inspection, package=answer.package, verdict=PartVerdict.INCOMPLETE,
    )  # fmt: skip


def answer_of(prediction: Prediction, inspection: Inspection | None) -> FrameAnswer:
    """Return the answer as lists of frames go by it; see the rules of this module."""
    rule = reject_rule(inspection) if inspection else RejectRule()
    judgement = judge_prediction(prediction, rule)
    judged = prediction.state is PictureState.OK
    found = list(_findings(prediction, rule)) if judged else [_not_judged(prediction.state)]
    named = [one for one in found if one.label and one.decision is not Decision.ABSENT]
    first = max(named, key=_weight) if named else _likeliest(found)
    unsure = any(one.decision is Decision.UNSURE for one in found)
    doubt = max((one.doubt for one in found), default=0.0)
    return FrameAnswer(
        frame=prediction.frame.id,
        camera=prediction.frame.camera,
        captured_at=prediction.frame.captured_at,
        inspection=prediction.inspection,
        package=prediction.package,
        verdict=judgement.verdict,
        label=first.label if named else "",
        labels=tuple(sorted({one.label for one in named})),
        score=first.score,
        doubt=min(1.0, doubt / 2 + (_EVEN if unsure else 0.0)),
        unsure=unsure,
    )


def _not_judged(state: PictureState) -> _Finding:
    return _Finding(str(state), 0.0, Decision.UNSURE, 1.0)


def _weight(one: _Finding) -> tuple[bool, bool, float, str]:
    return not one.is_good, one.decision is Decision.PRESENT, one.score, one.label


def _likeliest(found: Sequence[_Finding]) -> _Finding:
    faults = [one for one in found if not one.is_good]
    return max(faults, key=lambda one: one.score, default=_Finding("", 0.0, Decision.ABSENT, 0.0))


def _findings(prediction: Prediction, rule: RejectRule) -> Iterator[_Finding]:
    answers: tuple[LabelAnswer | BoxAnswer, ...] = (*prediction.labels, *prediction.boxes)
    for answer in answers:
        probability = answer.probability
        good = _is_good(answer, rule)
        near = 1.0 - 2.0 * abs(probability - _EVEN)
        yield _Finding(answer.label, probability, answer.decision, near, good)
    if prediction.anomaly is not None:
        anomaly = prediction.anomaly
        yield _Finding(ANOMALY, anomaly.score, anomaly.decision, _nearness(anomaly))
    if prediction.count is not None:
        count = prediction.count
        yield _Finding(str(count.value), count.value, count.decision, _spread(count))


def _is_good(answer: LabelAnswer | BoxAnswer, rule: RejectRule) -> bool:
    if not rule.reject and rule.expected_labels is not None and isinstance(answer, LabelAnswer):
        return answer.name in rule.expected_labels
    return not rule.rejects(answer.label)


def _nearness(anomaly: AnomalyAnswer) -> float:
    high = max(anomaly.score, anomaly.limit)
    return max(0.0, min(anomaly.score, anomaly.limit)) / high if high > 0 else 0.0


def _spread(count: CountAnswer) -> float:
    if count.chances:
        return 1.0 - max(count.chances)
    return 1.0 - 1.0 / (1 + count.high - count.low)
