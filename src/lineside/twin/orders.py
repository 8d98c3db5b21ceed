"""The life of an order, folded from the hub's order events and the factory's ``f/i/order``.

Rules:

1. ``placed`` reserves its slot; SHIPPED and ``released`` end the reservation. When the factory had
   begun on the order, a place that still shows the piece is unknown until a newer picture.
2. ``sending`` is written before the publish. An order with ``sending`` is never sent again: after
   a crash it waits for ORDERED or for its time-out, so the factory gets it once or not at all.
3. The factory works on one order at a time. ORDERED binds its run to the oldest sent order of the
   colour that is still waiting; IN_PROCESS and SHIPPED go to the bound order, and without one to
   the oldest open sent order of the colour. WAITING_FOR_ORDER ends the run and moves no order.
4. A status only moves forward. An ORDERED said again while its order still runs starts nothing.
5. An order that waits behind another has its time-out counted from when that one ended.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from lineside.core import Colour, OrderMessage, OrderState, Plant, read_message
from lineside.streams import Event
from lineside.twin.change import Applied, ignored, is_newer, late
from lineside.twin.order_events import OrderData, order_event, read_order
from lineside.twin.state import (
    Evidence,
    FactoryState,
    LineState,
    Order,
    OrderStatus,
    OrderStep,
    Seen,
    SlotState,
)
from lineside.twin.stock import shows, with_slots

MOST_CLOSED = 100

_RUN = (OrderState.ORDERED, OrderState.IN_PROCESS, OrderState.SHIPPED)

_RANK = {
    OrderStatus.SUBMITTED: 0,
    OrderStatus.ORDERED: 1,
    OrderStatus.IN_PROCESS: 2,
    OrderStatus.RELEASED: 2,
    OrderStatus.SHIPPED: 3,
}


def fold_order(state: LineState, event: Event, *, plant: Plant) -> Applied:
    """The hub's own order events."""
    data = read_order(event)
    order = state.order(data.order)
    if data.action == "placed":
        return _placed(state, event, data=data, plant=plant) if order is None else ignored(state)
    if order is None or not order.open or data.action in ("refused", "advanced"):
        return ignored(state)
    if data.action == "released":
        return Applied(state=_released(state, order, event=event, reason=data.reason, plant=plant))
    if any(step.name == data.action for step in order.steps):
        return ignored(state)
    going = _with_step(order, data.action, event=event)
    return Applied(state=_put(state, _extended(going, event.time, plant=plant)))


def _placed(state: LineState, event: Event, *, data: OrderData, plant: Plant) -> Applied:
    time_out = timedelta(seconds=plant.twin.order.time_out_s if plant.twin else 0.0)
    order = Order(
        id=data.order,
        colour=data.colour,
        status=OrderStatus.SUBMITTED,
        placed_at=event.time,
        placed_by=data.by,
        expires_at=data.expires_at or event.time + time_out,
        slot=data.slot,
        document=data.document,
        steps=(OrderStep(name="placed", at=event.time, event=event.id, frame=data.frame),),
    )
    listed = replace(state, orders=_trimmed((order, *state.orders)))
    slot = state.slots.get(data.slot)
    if slot is not None and not slot.reserved_by:
        reserved = replace(slot, reserved_by=order.id)
        return Applied(state=_with_slot(listed, reserved, plant=plant))
    reason = f"place {data.slot or 'none'} was taken by another order in the same moment"
    released = order_event(
        order.id, "released", at=event.time, site=plant.site, colour=order.colour, reason=reason
    )
    after = _released(listed, order, event=released, reason=reason, plant=plant)
    return Applied(state=after, raised=(released,))


def _trimmed(orders: tuple[Order, ...]) -> tuple[Order, ...]:
    """Open orders stay; of the closed ones the newest."""
    closed = [order.id for order in orders if not order.open]
    dropped = set(closed[MOST_CLOSED:])
    return tuple(order for order in orders if order.id not in dropped)


def _released(
    state: LineState, order: Order, *, event: Event, reason: str, plant: Plant
) -> LineState:
    closed = _with_step(order, OrderStatus.RELEASED, event=event)
    closed = replace(closed, status=OrderStatus.RELEASED, reason=reason)
    taken = order.status is not OrderStatus.SUBMITTED
    return _closed(state, closed, event=event, taken=taken, plant=plant)


def fold_factory_order(state: LineState, event: Event, *, plant: Plant) -> Applied:
    """``f/i/order``: the factory's own state, and the order of ours that it drives."""
    message = read_message(OrderMessage, event.data, where=event.subject)
    if not is_newer(state.factory.evidence, event):
        return late(state, state.factory.evidence)
    colour = "" if message.type is Colour.NONE else message.type.lower()
    driven = _driven(state, message.state, colour=colour)
    factory = FactoryState(
        state=message.state,
        colour=colour,
        order=driven.id if driven else "",
        evidence=Evidence(at=event.time, event=event.id),
    )
    after = replace(state, factory=factory)
    if driven is None or not _moves(driven, message.state):
        return Applied(state=after)
    return _advanced(after, driven, to=message.state, event=event, plant=plant)


def _driven(state: LineState, told: OrderState, *, colour: str) -> Order | None:
    """The order of ours that a factory state is about."""
    if told is OrderState.WAITING_FOR_ORDER:
        return None
    bound = state.order(state.factory.order)
    if bound is not None and colour in ("", bound.colour) and _runs_on(state, bound, told=told):
        return bound
    sent = [order for order in reversed(state.orders) if order.open and order.sent]
    sent = [order for order in sent if colour in ("", order.colour)]
    if told is OrderState.ORDERED:
        sent = [order for order in sent if order.status is OrderStatus.SUBMITTED]
    return sent[0] if sent else None


def _runs_on(state: LineState, bound: Order, *, told: OrderState) -> bool:
    """Whether a state belongs to the run under way; a step back begins another."""
    if told is OrderState.ORDERED:
        return state.factory.state == told and bound.open
    return _RUN.index(told) >= _RUN.index(OrderState(state.factory.state))


def _moves(order: Order, told: OrderState) -> bool:
    return _RANK[OrderStatus(told)] > _RANK[order.status]


def _advanced(
    state: LineState, order: Order, *, to: OrderState, event: Event, plant: Plant
) -> Applied:
    frame = state.picture.evidence.frame
    moved = replace(_with_step(order, to, event=event, frame=frame), status=OrderStatus(to))
    raised = order_event(
        order.id, "advanced", at=event.time, site=plant.site, colour=order.colour,
        status=to, frame=frame, cause=event.id,
    )  # fmt: skip
    if to is OrderState.SHIPPED:
        after = _closed(state, moved, event=event, taken=True, plant=plant)
    else:
        after = _put(state, _extended(moved, event.time, plant=plant))
    return Applied(state=after, raised=(raised,))


def _closed(
    state: LineState, order: Order, *, event: Event, taken: bool, plant: Plant
) -> LineState:
    """The order ends: its place is free again, and who waited behind it gets the full time."""
    after = _put(state, order)
    for slot in state.slots.values():
        if slot.reserved_by == order.id:
            freed = _unproven(slot, order, event=event) if taken else slot
            after = _with_slot(after, replace(freed, reserved_by=""), plant=plant)
    waiting = tuple(
        _extended(other, event.time, plant=plant) if other.open and not other.sent else other
        for other in after.orders
    )
    return replace(after, orders=_trimmed(waiting))


def _unproven(slot: SlotState, order: Order, *, event: Event) -> SlotState:
    """The place of a piece that the factory took: a picture from before proves nothing any more."""
    outdated = slot.evidence.at is not None and slot.evidence.at < event.time
    if not (outdated and shows(slot, order.colour)):
        return slot
    evidence = Evidence(at=event.time, event=event.id)
    return replace(slot, seen=Seen.UNKNOWN, colour="", probability=0.0, evidence=evidence)


def _with_slot(state: LineState, slot: SlotState, *, plant: Plant) -> LineState:
    return with_slots(state, {slot.id: slot}, twin=plant.twin) if plant.twin else state


def _with_step(order: Order, name: str, *, event: Event, frame: str = "") -> Order:
    step = OrderStep(name=str(name), at=event.time, event=event.id, frame=frame)
    return replace(order, steps=(*order.steps, step))


def _extended(order: Order, at: datetime, *, plant: Plant) -> Order:
    """Progress at ``at``: the time-out is counted anew from there."""
    time_out_s = plant.twin.order.time_out_s if plant.twin else 0.0
    return replace(order, expires_at=max(order.expires_at, at + timedelta(seconds=time_out_s)))


def _put(state: LineState, order: Order) -> LineState:
    orders = tuple(order if other.id == order.id else other for other in state.orders)
    return replace(state, orders=orders)
