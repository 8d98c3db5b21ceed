"""Texts, marks and drawings of predictions, for the pages of hub and device.

Scripts show and draw what is made here; they word nothing themselves.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lineside.core import Inspection, Json, Region, to_plain
from lineside.vision import (
    AnomalyAnswer,
    BoxAnswer,
    CountAnswer,
    Decision,
    LabelAnswer,
    PictureState,
    Prediction,
)
from lineside.vision.verdict import Judgement, PartVerdict, RejectRule, judge_prediction
from lineside.web.format import (
    UNIT,
    counted,
    probability,
    span,
)

SHARED_STATIC = Path(__file__).parent / "static"
ANOMALY_WORDS = {
    Decision.PRESENT: "differs from good parts",
    Decision.ABSENT: "like good parts",
    Decision.UNSURE: "unsure",
}
SILENT = {"never": "no picture yet", "no signal": "no signal for"}
"""States of a camera that shows nothing, in words; how long follows the second."""
_CLASSIFY = "classify"
_WHOLE = "picture"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A state as shape, tone and word: colour alone never carries it.

    ``shape``: ring, dashed (a ring), dot, triangle, diamond, bar, square, struck
    (a square), tick. ``tone``: ``""``
    (quiet), ``ink``, ``ok``, ``warn``, ``bad``.
    """

    shape: str
    word: str
    tone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionAnswer:
    """One region's answer: the label that holds, or the likeliest unsure one, or nothing."""

    region: str
    label: str
    probability: float
    decision: Decision
    classes: int


def region_answers(prediction: Prediction) -> tuple[RegionAnswer, ...]:
    """One answer a region, in the order of the prediction; whole picture labels each alone.

    Classes of the whole picture, of which one holds, are one answer.
    """
    groups: dict[str, list[LabelAnswer]] = {}
    whole = _WHOLE if prediction.task == _CLASSIFY else ""
    for answer in prediction.labels:
        groups.setdefault(answer.region or whole or answer.name, []).append(answer)
    return tuple(_region_answer(region, answers) for region, answers in groups.items())


def _region_answer(region: str, answers: Sequence[LabelAnswer]) -> RegionAnswer:
    ordered = sorted(answers, key=lambda answer: -answer.probability)
    for wanted in (Decision.PRESENT, Decision.UNSURE):
        for answer in ordered:
            if answer.decision is wanted:
                return _as_region_answer(region, answer, classes=len(answers))
    return _as_region_answer(region, ordered[0], classes=len(answers))


def _as_region_answer(region: str, answer: LabelAnswer, *, classes: int) -> RegionAnswer:
    return RegionAnswer(
        region=region,
        label=answer.label,
        probability=answer.probability,
        decision=answer.decision,
        classes=classes,
    )


def answer_text(prediction: Prediction) -> str:
    """``blue, red`` for presence labels, ``3 blue, 6 empty`` for classes; else the state.

    A count is ``5``, ``5 (4 to 6)`` or ``more than 8``; boxes are counted by label; an anomaly
    stands with its score and limit, a mask with its share.
    """
    if prediction.state is not PictureState.OK:
        return str(prediction.state)
    found = finding_text(prediction)
    said = region_answers(prediction)
    held = [one for one in said if one.decision is Decision.PRESENT]
    if found:
        return found
    if prediction.task == _CLASSIFY:
        return _class_text(prediction, held)
    if any(one.classes > 1 for one in said):
        counts = Counter(one.label for one in held)
        return ", ".join(f"{n}{UNIT}{label}" for label, n in counts.most_common()) or "none sure"
    if held:
        return ", ".join(one.label for one in held)
    return "none sure" if unsure_count(prediction) else "none"


def _class_text(prediction: Prediction, held: Sequence[RegionAnswer]) -> str:
    if held:
        return held[0].label
    unsure = [one for one in prediction.labels if one.decision is Decision.UNSURE]
    ordered = sorted(unsure, key=lambda one: -one.probability)
    return " or ".join(one.label for one in ordered) + "?" if ordered else "none"


def finding_text(prediction: Prediction) -> str:
    """Return the text of a count, boxes, an anomaly or a mask; "" where there is none."""
    if prediction.count is not None:
        return count_text(prediction.count)
    if prediction.anomaly is not None:
        return _anomaly_text(prediction.anomaly)
    if prediction.boxes or prediction.task == "detect":
        return _boxes_text(prediction.boxes)
    if prediction.mask is not None:
        held = [one.label for one in prediction.labels if one.decision is Decision.PRESENT]
        unsure = any(one.decision is Decision.UNSURE for one in prediction.labels)
        share = f"{prediction.mask.share * 100:.2f}{UNIT}%"
        none = ", ".join(f"no {one.label}" for one in prediction.labels) or "none"
        return f"{', '.join(held)} on {share}" if held else f"unsure, {share}" if unsure else none
    return ""


def count_text(count: CountAnswer) -> str:
    """``5``, ``5 (4 to 6)`` or ``more than 8``."""
    if count.more:
        return f"more than {count.high}" if count.value > count.high else f"{count.low} or more"
    if count.low == count.high:
        return str(count.value)
    return f"{count.value} ({count.low} to {count.high})"


def _anomaly_text(anomaly: AnomalyAnswer) -> str:
    return f"{ANOMALY_WORDS[anomaly.decision]}, {anomaly.score:.2f} against {anomaly.limit:.2f}"


def _boxes_text(boxes: Sequence[BoxAnswer]) -> str:
    sure = Counter(box.label for box in boxes if box.decision is Decision.PRESENT)
    unsure = sum(box.decision is Decision.UNSURE for box in boxes)
    parts = [f"{n}{UNIT}{label}" for label, n in sure.most_common()]
    parts += [f"{unsure}{UNIT}unsure"] if unsure else []
    return ", ".join(parts) or "none"


def unsure_count(prediction: Prediction) -> int:
    """Count the unsure answers: regions or labels, boxes, the count, the anomaly."""
    found = sum(one.decision is Decision.UNSURE for one in region_answers(prediction))
    found += sum(box.decision is Decision.UNSURE for box in prediction.boxes)
    for answer in (prediction.count, prediction.anomaly):
        found += answer is not None and answer.decision is Decision.UNSURE
    return found


def region_mark(answer: RegionAnswer) -> Mark:
    """``blue`` where a class holds, ``blue?`` where unsure, ``no blue`` where it is absent."""
    match answer.decision:
        case Decision.UNSURE:
            return Mark(shape="triangle", word=f"{answer.label}?", tone="warn")
        case Decision.PRESENT:
            return Mark(shape="dot", word=answer.label, tone="ink")
        case Decision.ABSENT:
            return Mark(shape="ring", word=f"no {answer.label}")


_VERDICT_MARKS = {
    PartVerdict.OK: Mark(shape="ring", word="ok"),
    PartVerdict.REJECT: Mark(shape="diamond", word="reject", tone="bad"),
    PartVerdict.REVIEW: Mark(shape="triangle", word="review", tone="warn"),
    PartVerdict.INCOMPLETE: Mark(shape="dashed", word="incomplete", tone="warn"),
}


def verdict_mark(verdict: PartVerdict) -> Mark:
    """The verdict on a part in shape and word; colour only where someone has to act."""
    return _VERDICT_MARKS[verdict]


def reasons_text(judgement: Judgement) -> str:
    """The reasons of a verdict in a line; "" for an ok."""
    return ", ".join(judgement.reasons)


def mark_of(
    state: str, prediction: Prediction | None, *, rule: RejectRule | None = None,
    silent_s: float = 0.0,
) -> Mark:  # fmt: skip
    """The state of a camera, or the answer of one inspection, in shape and word."""
    if state in SILENT:
        word = SILENT[state] if state == "never" else f"{SILENT[state]} {span(silent_s)}"
        return Mark(shape="struck", word=word, tone="warn")
    if state == "live" and prediction is not None and prediction.state is not PictureState.OK:
        state = str(prediction.state)
    if state != "live":
        return Mark(shape="square", word=state, tone="bad")
    if prediction is None:
        return Mark(shape="ring", word="live, nothing decides yet")
    verdict = judge_prediction(prediction, rule or RejectRule()).verdict
    if verdict is PartVerdict.OK and unsure_count(prediction):
        return Mark(shape="triangle", word="unsure", tone="warn")
    return verdict_mark(verdict)


def summary(states: Sequence[str]) -> str:
    """``6 cameras, all live``; says how many are not and why, and never claims more than that."""
    if not states:
        return "no cameras"
    live = sum(state == "live" for state in states)
    text = counted(len(states), "camera")
    if live == len(states):
        return f"{text}, {'all ' if live > 1 else ''}live"
    faults = Counter("without signal" if one in {"no signal", "never"} else one for one in states)
    del faults["live"]
    told = [f"{count} {one}" if len(states) > 1 else one for one, count in faults.items()]
    return ", ".join([text, *told])


def overlay_of(prediction: Prediction, inspection: Inspection | None) -> Json:
    """Return what is drawn on the picture: regions and objects with their texts, defect pixels.

    None for a picture that was not judged. Regions are boxes on the reference view; the
    registration says where they lie on this picture.
    """
    if prediction.state is not PictureState.OK:
        return None
    answers = {one.region: one for one in region_answers(prediction)}
    view = inspection.view if inspection else None
    declared = inspection.region if inspection else ()
    mask = prediction.mask
    return {
        "view": [view.width_px, view.height_px] if view else [0, 0],
        "registration": to_plain(prediction.registration),
        "regions": [
            {
                "box": box_corners(region),
                "decision": str(answers[region.id].decision),
                "text": _tag(answers[region.id]),
            }
            for region in declared
            if region.id in answers
        ],
        "objects": [
            {
                "box": [box.x0_px, box.y0_px, box.x1_px, box.y1_px],
                "decision": str(box.decision),
                "text": _tag(box),
            }
            for box in prediction.boxes
        ],
        "mask": to_plain(mask) if mask else None,
    }


def _tag(answer: RegionAnswer | BoxAnswer) -> str:
    if answer.decision is Decision.ABSENT:
        return ""
    doubt = "?" if answer.decision is Decision.UNSURE else ""
    return f"{answer.label}{doubt} {probability(answer.probability)}"


def box_corners(region: Region) -> Json:
    """Return a region's corners on the reference view: x0, y0, x1, y1 in pixels."""
    box = region.box_px
    return [box.x0_px, box.y0_px, box.x1_px, box.y1_px]
