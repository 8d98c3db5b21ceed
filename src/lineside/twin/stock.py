"""Slots and colours: what the slots hold of each colour, where witnesses differ, and claims.

An open order keeps a claim on a piece, not on a place, until its own piece is certain.

The crane takes any piece of the colour, so the place that an order reserved may be emptied for
another one. An order whose place does not surely show a piece claims the first free one instead;
without that the piece would be sold again. Once a picture has shown the place full after the
factory began on the order (``Order.seen_at``), it can only be emptied for this order, since the
factory works on one at a time: then the claim stays, empty or hidden by the crane, until SHIPPED.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from lineside.core import Plant
from lineside.core.plant import Slot, Twin
from lineside.streams import Event
from lineside.twin.state import (
    ColourState,
    Evidence,
    LineState,
    Order,
    OrderStep,
    Presence,
    SlotState,
)


def with_slots(state: LineState, changed: Mapping[str, SlotState], *, twin: Twin) -> LineState:
    """The state with some slots replaced and the colours folded anew."""
    slots = {**state.slots, **changed}
    colours = {
        colour: _fold_colour(state.colours.get(colour), colour, slots=slots, twin=twin)
        for colour in twin.colours
    }
    return replace(state, slots=slots, colours=colours)


def holders(colour: str, *, slots: Mapping[str, SlotState], twin: Twin) -> list[SlotState]:
    """The slots that can hold a colour, in the order of the plant file."""
    return [
        slots[slot.id] for slot in twin.slot if slot.colour in ("", colour) and slot.id in slots
    ]


def shows(slot: SlotState, colour: str) -> bool:
    """Return whether the picture shows a piece of that colour there."""
    return slot.seen is Presence.PRESENT and slot.colour == colour


def first_free(
    colour: str,
    *,
    slots: Mapping[str, SlotState],
    twin: Twin,
    shown_since: datetime | None = None,
) -> SlotState | None:
    """The first piece, in the order of the plant file, that is seen, free and not denied.

    With ``shown_since`` a place counts only if a picture from then or later showed it.
    """
    declared = {slot.id: slot for slot in twin.slot}
    for slot in holders(colour, slots=slots, twin=twin):
        free = shows(slot, colour) and not slot.reserved_by
        if free and not differs(slot, declared[slot.id]) and not is_older(slot, shown_since):
            return slot
    return None


def is_older(slot: SlotState, than: datetime | None) -> bool:
    """Return whether the last picture that showed the place is from before a time."""
    return than is not None and (slot.evidence.at is None or slot.evidence.at < than)


def differs(slot: SlotState, declared: Slot) -> bool | None:
    """Return whether picture and report contradict each other; None where they cannot be compared.

    A slot that declares its colour is asked for that colour only: "no blue piece" does not
    contradict a report of a red one.
    """
    if slot.reported is None or slot.seen in (Presence.UNKNOWN, Presence.UNSURE):
        return None
    if declared.colour:
        return (slot.seen is Presence.PRESENT) is not (slot.reported == declared.colour)
    return slot.colour != slot.reported


def watched(slot: SlotState, declared: Slot, *, at: datetime) -> SlotState:
    """The slot with ``differs_since`` brought up to date; what cannot be compared keeps it."""
    contradicts = differs(slot, declared)
    if contradicts is None or contradicts is (slot.differs_since is not None):
        return slot
    return replace(slot, differs_since=at if contradicts else None)


def _fold_colour(
    before: ColourState | None, colour: str, *, slots: Mapping[str, SlotState], twin: Twin
) -> ColourState:
    places = holders(colour, slots=slots, twin=twin)
    present = [slot for slot in places if shows(slot, colour)]
    seen, deciding = _decide(colour, places, present=present)
    folded = ColourState(
        colour=colour,
        seen=seen,
        present=len(present),
        reserved=sum(1 for slot in present if slot.reserved_by),
        probability=deciding.probability if deciding else 0.0,
        evidence=deciding.evidence if deciding else Evidence(),
    )
    return before if before == folded else folded


def _decide(
    colour: str, places: list[SlotState], *, present: list[SlotState]
) -> tuple[Presence, SlotState | None]:
    """Present beats unsure beats unknown beats absent; the slot that speaks for it."""
    if present:
        return Presence.PRESENT, max(present, key=_sureness)
    unsure = [slot for slot in places if slot.seen is Presence.UNSURE and colour in slot.possible]
    if unsure:
        return Presence.UNSURE, max(unsure, key=_sureness)
    if not places or any(slot.seen is Presence.UNKNOWN for slot in places):
        return Presence.UNKNOWN, None
    return Presence.ABSENT, min(places, key=_sureness)


def _sureness(slot: SlotState) -> float:
    return slot.probability


def with_claims(state: LineState, event: Event, *, plant: Plant) -> LineState:
    """The state after every order whose place was emptied for another has looked for a new one."""
    twin = plant.twin
    if twin is None:
        return state
    for order in reversed(state.orders):
        if order.open and order.seen_at is None:
            state = _claimed(state, order, event=event, twin=twin)
    return state


def _claimed(state: LineState, order: Order, *, event: Event, twin: Twin) -> LineState:
    held = state.slots.get(order.slot)
    if held is None or shows(held, order.colour):
        return state
    found = first_free(order.colour, slots=state.slots, twin=twin)
    if found is None:
        return state
    changed = {
        held.id: replace(held, reserved_by=""),
        found.id: replace(found, reserved_by=order.id),
    }
    step = OrderStep(name="moved", at=event.time, event=event.id, frame=found.evidence.frame)
    # Only the last of several moves in a row is kept: a flickering picture makes no endless list.
    kept = order.steps[:-1] if order.steps[-1].name == step.name else order.steps
    moved = replace(order, slot=found.id, steps=(*kept, step))
    orders = tuple(moved if other is order else other for other in state.orders)
    return with_slots(replace(state, orders=orders), changed, twin=twin)
