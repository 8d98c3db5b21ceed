"""The verdict on a part, by one prediction or by several: with the reasons in words.

Rules for one prediction (``judge_prediction``), the first that applies:

1. An image in which nothing could be said (camera moved, black, blurred, …) is for review.
2. A reason to reject makes it a reject: ``reject`` names the labels that do, in classes, masks and
   boxes. Where it names none, every label of a class or mask that does not mean a good part does
   (``says_good``), and no box. An anomaly above its limit does. So does a count that is not the
   number that its trigger's message expected, or ``expected_count`` where that said none. Of
   presence labels, each that is present but not in ``expected_labels``, or in them but absent,
   does; without ``expected_labels`` none does.
3. An answer that is unsure and could be a reason to reject is for review. So is a count that is
   unsure, whether or not a number is expected.
4. Anything else is ok.

A part of several predictions (``judge_part``): one that rejects it makes it a reject, whatever is
missing; else it is incomplete where an inspection did not answer; else one for review makes it one
for review; else it is ok.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from lineside.core import Inspection
from lineside.vision.decide import says_good
from lineside.vision.prediction import Decision, PictureState, Prediction


class PartVerdict(StrEnum):
    """The verdict on a part, the one that outweighs the others first."""

    REJECT = "reject"
    INCOMPLETE = "incomplete"
    REVIEW = "review"
    OK = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectRule:
    """The answers of an inspection that reject a part; see the rules of this module.

    Attributes:
        good: labels that mean a good part; empty: the usual words for it.
        reject: labels that reject; empty: as rule 2 says.
        expected_labels: names of the presence labels of a good part; None: none is expected.
        expected_count: number of objects of a good part, where the count says none; None: none is
            expected.
    """

    good: Collection[str] = ()
    reject: Collection[str] = ()
    expected_labels: Collection[str] | None = None
    expected_count: int | None = None

    def rejects(self, label: str) -> bool:
        """Return whether a class or the label of a mask rejects a part; see rule 2."""
        return label in self.reject if self.reject else not says_good(label, named=self.good)


def reject_rule(inspection: Inspection) -> RejectRule:
    """Return the answers of an inspection that reject a part, as the plant file says."""
    return RejectRule(
        good=inspection.good, reject=inspection.reject, expected_labels=inspection.expected,
        expected_count=inspection.expected_count,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict with its reasons, a short sentence each; an ok needs none."""

    verdict: PartVerdict
    reasons: tuple[str, ...] = ()


def judge_prediction(prediction: Prediction, rule: RejectRule) -> Judgement:
    """Return the verdict on the part that the prediction is about."""
    if prediction.state is not PictureState.OK:
        reason = f": {prediction.reason}" if prediction.reason else ""
        return Judgement(verdict=PartVerdict.REVIEW, reasons=(f"{prediction.state}{reason}",))
    found = list(_reasons(prediction, rule))
    for verdict in (PartVerdict.REJECT, PartVerdict.REVIEW):
        reasons = tuple(dict.fromkeys(text for its, text in found if its is verdict))
        if reasons:
            return Judgement(verdict=verdict, reasons=reasons)
    return Judgement(verdict=PartVerdict.OK)


def judge_part(judgements: Sequence[Judgement], *, missing: Sequence[str] = ()) -> Judgement:
    """Return the verdict on a part by several predictions; ``missing`` inspections said nothing."""
    verdicts = {one.verdict for one in judgements}
    if missing:
        verdicts.add(PartVerdict.INCOMPLETE)
    verdict = next((one for one in PartVerdict if one in verdicts), PartVerdict.OK)
    found = [text for one in judgements if one.verdict is verdict for text in one.reasons]
    if verdict is PartVerdict.INCOMPLETE:
        found = [f"no answer of {name}" for name in missing]
    return Judgement(verdict=verdict, reasons=tuple(dict.fromkeys(found)))


_FIGURES = re.compile(r":.*| [0-9]+\.[0-9]+$", re.DOTALL)
_COUNTED = re.compile(r"[0-9]+.* counted(, [0-9]+ expected)?")
COUNT_REASON = "count"
ANOMALY_REASON = "not like good parts"


def reason_group(reason: str) -> str:
    """Return a reason without its figures, so that parts can be counted by it: ``scratch``."""
    if _COUNTED.fullmatch(reason):
        return COUNT_REASON
    return _FIGURES.sub("", reason) or reason


def _reasons(prediction: Prediction, rule: RejectRule) -> Iterator[tuple[PartVerdict, str]]:
    if prediction.task == "multilabel":
        yield from _presence(prediction, rule)
    else:
        yield from _labels(prediction, rule)
    for box in prediction.boxes:
        if box.label in rule.reject:
            yield _by(box.decision), f"{box.label} {box.probability:.2f}"
    if prediction.anomaly is not None and prediction.anomaly.decision is not Decision.ABSENT:
        score, limit = prediction.anomaly.score, prediction.anomaly.limit
        text = f"{ANOMALY_REASON}: {score:.2f}, limit {limit:.2f}"
        yield _by(prediction.anomaly.decision), prediction.anomaly.reason or text
    if prediction.count is not None:
        yield from _count(prediction, rule)


def _labels(prediction: Prediction, rule: RejectRule) -> Iterator[tuple[PartVerdict, str]]:
    """Reasons of classes and of the label of a mask."""
    for answer in prediction.labels:
        if rule.rejects(answer.label) and answer.decision is not Decision.ABSENT:
            yield _by(answer.decision), _shown(answer.name, answer.decision, answer.probability)


def _presence(prediction: Prediction, rule: RejectRule) -> Iterator[tuple[PartVerdict, str]]:
    for answer in prediction.labels:
        decision = answer.decision
        if answer.label in rule.reject and decision is not Decision.ABSENT:
            yield _by(decision), _shown(answer.name, decision, answer.probability)
        elif rule.expected_labels is not None:
            expected = answer.name in rule.expected_labels
            if decision is Decision.UNSURE:
                yield PartVerdict.REVIEW, _shown(answer.name, decision, answer.probability)
            elif expected != (decision is Decision.PRESENT):
                yield PartVerdict.REJECT, f"{answer.name} {decision}"


def _count(prediction: Prediction, rule: RejectRule) -> Iterator[tuple[PartVerdict, str]]:
    count = prediction.count
    if count is None:
        return
    expected = rule.expected_count if count.expected is None else count.expected
    shown = f"{count.low}" if count.low == count.high else f"{count.low} to {count.high}"
    shown += " or more" if count.more else ""
    beside = "" if expected is None else f", {expected} expected"
    possible = expected is None or (
        count.low <= expected and (count.more or expected <= count.high)
    )
    if not possible:
        yield PartVerdict.REJECT, f"{shown} counted{beside}"
    elif count.decision is Decision.UNSURE:
        yield PartVerdict.REVIEW, f"{shown} counted{beside}"


def _by(decision: Decision) -> PartVerdict:
    return PartVerdict.REJECT if decision is Decision.PRESENT else PartVerdict.REVIEW


def _shown(name: str, decision: Decision, probability: float) -> str:
    unsure = " unsure" if decision is Decision.UNSURE else ""
    return f"{name}{unsure} {probability:.2f}"
