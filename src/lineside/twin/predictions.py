"""A prediction moves the picture's state and, where it could be judged, the slots.

A picture that could not be judged changes no slot: each keeps its value and its age, and
``state.picture`` says why. A region that the prediction does not answer keeps its slot too.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

from lineside.core import Plant, stable_id
from lineside.core.plant import Slot, Twin
from lineside.streams import EVENT_TYPE, Event, read_prediction
from lineside.twin.state import (
    Applied,
    Evidence,
    LineState,
    Order,
    OrderStep,
    PictureView,
    Presence,
    SlotState,
    ignored,
    is_newer,
    late,
    shows,
    watched,
    with_slots,
)

JUDGED = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    label: str
    probability: float
    presence: Presence


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sight:
    """A prediction in the twin's words: answers by region."""

    inspection: str
    state: str
    reason: str
    evidence: Evidence
    answers: dict[str, list[_Answer]]


def fold_prediction(state: LineState, event: Event, *, plant: Plant) -> Applied:
    """Slots and picture by capture time, each for itself."""
    twin = plant.twin
    sight = _read(event)
    if twin is None or sight.inspection != twin.inspection:
        return ignored(state)
    changed = _changed_slots(state, event, sight=sight, twin=twin)
    newer_picture = is_newer(state.picture.evidence, event)
    if not changed and not newer_picture:
        return late(state, state.picture.evidence)
    after = with_slots(state, changed, twin=twin) if changed else state
    after = _with_witnessed(after, event, changed=changed.values())
    if not newer_picture:
        return Applied(state=after)
    view = PictureView(state=sight.state, reason=sight.reason, evidence=sight.evidence)
    raised = _picture_events(state.picture, view, event=event, plant=plant)
    return Applied(state=replace(after, picture=view), raised=raised)


def _read(event: Event) -> _Sight:
    prediction = read_prediction(event)
    answers: dict[str, list[_Answer]] = {}
    for answer in prediction.labels:
        presence = Presence(answer.decision.value)
        told = _Answer(label=answer.label, probability=answer.probability, presence=presence)
        answers.setdefault(answer.region, []).append(told)
    return _Sight(
        inspection=prediction.inspection,
        state=prediction.state.value,
        reason=prediction.reason,
        evidence=Evidence(
            at=event.time, event=event.id, frame=prediction.frame.id, package=prediction.package
        ),
        answers=answers,
    )


def _changed_slots(
    state: LineState, event: Event, *, sight: _Sight, twin: Twin
) -> dict[str, SlotState]:
    if sight.state != JUDGED:
        return {}
    changed = {}
    for declared in twin.slot:
        slot, answers = state.slots.get(declared.id), sight.answers.get(declared.region)
        if slot is not None and answers and is_newer(slot.evidence, event):
            seen = _judged(slot, answers, declared=declared, evidence=sight.evidence)
            changed[slot.id] = watched(seen, declared, at=event.time)
    return changed


def _judged(
    slot: SlotState, answers: list[_Answer], *, declared: Slot, evidence: Evidence
) -> SlotState:
    if len(answers) == 1 and answers[0].label != declared.empty_class:
        seen, colours, probability = _by_presence(answers[0], declared.colour or answers[0].label)
    else:
        seen, colours, probability = _by_class(answers, empty=declared.empty_class)
    return replace(
        slot,
        seen=seen,
        colour=colours[0] if seen is Presence.PRESENT else "",
        possible=colours if seen is Presence.UNSURE else (),
        probability=round(probability, 4),
        evidence=evidence,
    )


def _by_presence(answer: _Answer, colour: str) -> tuple[Presence, tuple[str, ...], float]:
    if answer.presence is Presence.ABSENT:
        return Presence.ABSENT, (), 1.0 - answer.probability
    return answer.presence, (colour,), answer.probability


def _by_class(answers: list[_Answer], *, empty: str) -> tuple[Presence, tuple[str, ...], float]:
    """One present class decides; anything else is unsure among what was not ruled out."""
    present = [answer for answer in answers if answer.presence is Presence.PRESENT]
    if len(present) == 1:
        only = present[0]
        if only.label == empty:
            return Presence.ABSENT, (), only.probability
        return Presence.PRESENT, (only.label,), only.probability
    colours = [answer for answer in answers if answer.label != empty]
    colours = [answer for answer in colours if answer.presence is not Presence.ABSENT] or colours
    best = max((answer.probability for answer in colours), default=0.0)
    return Presence.UNSURE, tuple(answer.label for answer in colours), best


def _with_witnessed(state: LineState, event: Event, *, changed: Iterable[SlotState]) -> LineState:
    """Running orders whose piece was seen in its place, or seen to have left it."""
    held = {slot.reserved_by: slot for slot in changed if slot.reserved_by}
    if not held:
        return state
    orders = tuple(
        _witnessed(order, held[order.id], event=event) if order.id in held else order
        for order in state.orders
    )
    return replace(state, orders=orders)


def _witnessed(order: Order, slot: SlotState, *, event: Event) -> Order:
    began = order.begun_at
    if not order.begun or began is None or event.time < began:
        return order
    if order.seen_at is None:
        return replace(order, seen_at=event.time) if shows(slot, order.colour) else order
    if slot.seen is not Presence.ABSENT or any(step.name == "fetched" for step in order.steps):
        return order
    frame = slot.evidence.frame
    step = OrderStep(name="fetched", at=event.time, event=event.id, frame=frame)
    return replace(order, steps=(*order.steps, step))


class PictureData(TypedDict):
    """The image of the twin's inspection can no longer be judged, or can be again."""

    rule: Literal["picture"]
    action: Literal["begun", "ended"]
    state: str
    before: str
    reason: str
    frame: str
    package: str
    cause: str


def _picture_events(
    before: PictureView, after: PictureView, *, event: Event, plant: Plant
) -> tuple[Event, ...]:
    """The picture stopped or started to be judgeable."""
    first_good = before.state == "unknown" and after.state == JUDGED
    if before.state == after.state or first_good:
        return ()
    data: PictureData = {
        "rule": "picture",
        "action": "ended" if after.state == JUDGED else "begun",
        "state": after.state,
        "before": before.state,
        "reason": after.reason,
        "frame": after.evidence.frame,
        "package": after.evidence.package,
        "cause": event.id,
    }
    return (
        Event(
            id=stable_id("evt", "picture", plant.site, event.id),
            source=f"/{plant.site}/hub",
            type=EVENT_TYPE,
            time=event.time,
            subject="picture",
            data=dict(data),
        ),
    )
