"""What a prediction says, in a few words; ``static/js/answers.js`` says it alike.

The shared cases stand in ``tests/hub/pages/answer_cases.json``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lineside.core import Inspection, Json, Plant
from lineside.hub.pages.format import UNIT
from lineside.vision import Decision, LabelAnswer, PictureState, Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A state as shape, tone and word: colour alone never carries it.

    ``shape``: ring, dot, triangle, diamond, bar, square, tick. ``tone``: ``""`` (quiet), ``ink``,
    ``ok``, ``warn``, ``bad``.
    """

    shape: str
    word: str
    tone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One region's answer: the label that holds, or the likeliest unsure one, or nothing."""

    region: str
    label: str
    probability: float
    decision: Decision
    classes: int


def said_of(prediction: Prediction) -> tuple[Said, ...]:
    """One answer a region, in the order of the prediction; whole picture labels each alone."""
    groups: dict[str, list[LabelAnswer]] = {}
    for answer in prediction.labels:
        groups.setdefault(answer.region or answer.name, []).append(answer)
    return tuple(_said(region, answers) for region, answers in groups.items())


def _said(region: str, answers: Sequence[LabelAnswer]) -> Said:
    ordered = sorted(answers, key=lambda answer: -answer.probability)
    for wanted in (Decision.PRESENT, Decision.UNSURE):
        for answer in ordered:
            if answer.decision is wanted:
                return _said_as(region, answer, classes=len(answers))
    return _said_as(region, ordered[0], classes=len(answers))


def _said_as(region: str, answer: LabelAnswer, *, classes: int) -> Said:
    return Said(
        region=region,
        label=answer.label,
        probability=answer.probability,
        decision=answer.decision,
        classes=classes,
    )


def answer_text(prediction: Prediction) -> str:
    """``blue, red`` for presence labels, ``3 blue, 6 empty`` for classes; else the state."""
    if prediction.state is not PictureState.OK:
        return str(prediction.state)
    said = said_of(prediction)
    held = [one for one in said if one.decision is Decision.PRESENT]
    if any(one.classes > 1 for one in said):
        counts = Counter(one.label for one in held)
        return ", ".join(f"{n}{UNIT}{label}" for label, n in counts.most_common()) or "none sure"
    if held:
        return ", ".join(one.label for one in held)
    return "none sure" if unsure_count(prediction) else "none"


def unsure_count(prediction: Prediction) -> int:
    """How many regions (or whole picture labels) are unsure."""
    return sum(one.decision is Decision.UNSURE for one in said_of(prediction))


def plan_of(inspection: Inspection) -> Json:
    """Regions on the reference view, for drawing: ``{width_px, height_px, regions}``."""
    view = inspection.view
    regions: list[Json] = [
        {
            "id": region.id,
            "box": [
                region.box_px.x0_px,
                region.box_px.y0_px,
                region.box_px.x1_px,
                region.box_px.y1_px,
            ],
        }
        for region in inspection.region
    ]
    return {
        "width_px": view.width_px if view else 0,
        "height_px": view.height_px if view else 0,
        "regions": regions,
    }


def plans_for(plant: Plant, *, camera: str) -> dict[str, Json]:
    """Every inspection of a camera, by id."""
    return {one.id: plan_of(one) for one in plant.inspection if one.camera == camera}


def package_name(digest: str, names: Mapping[str, str]) -> str:
    """The package's name; "" where the registry does not know it."""
    return names.get(digest, "")
