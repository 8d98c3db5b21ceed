"""An open order keeps a claim on a piece, not on a place, until its own piece is certain.

The crane takes any piece of the colour, so the place that an order reserved may be emptied for
another one. An order whose place does not surely show a piece claims the first free one instead;
without that the piece would be sold again. Once a picture has shown the place full after the
factory began on the order (``Order.seen_at``), it can only be emptied for this order, since the
factory works on one at a time: then the claim stays, empty or hidden by the crane, until SHIPPED.
"""

from dataclasses import replace

from lineside.core import Plant, Twin
from lineside.streams import Event
from lineside.twin.state import LineState, Order, OrderStep
from lineside.twin.stock import first_free, shows, with_slots


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
