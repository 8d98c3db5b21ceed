"""Orders: their events, the decision to place one, and their life.

Events (``lineside.order.v1``): ``data.action`` is ``placed`` or ``refused`` (the decision),
``sending`` (about to publish, written
before the publish), ``sent`` (published), ``advanced`` (the factory moved it on) or ``released``.
An order has each of these once, so the event's id is made of the order and the action.

The decision to place (``place``), made from the state alone:

1. An order takes one place that shows the colour, is not reserved, and that the factory's report
   does not contradict. That place is reserved until SHIPPED, release or time-out.
2. Absent, and likewise every piece reserved, is refused with the reference's text.
3. Not knowing is refused too, each case with its own sentence: no picture yet, a picture that could
   not be judged, one too old, a place that is unsure, a place where the witnesses differ.
4. Who asks second for the same piece is refused: the caller applies each event before it decides
   the next (one authority), and there is no clock in it.

The life of an order, folded from the hub's order events and the factory's ``f/i/order``:

1. ``placed`` reserves its slot; SHIPPED and ``released`` end the reservation. When the factory had
   begun on the order, a place that still shows the piece is unknown until a newer picture.
2. ``sending`` is written before the publish. An order with ``sending`` is never sent again: after
   a crash it waits for ORDERED or for its time-out, so the factory gets it once or not at all.
3. The factory works on one order at a time. ORDERED binds its run to the oldest sent order of the
   colour that is still waiting; IN_PROCESS and SHIPPED go to the bound order, and without one to
   the oldest open sent order of the colour. WAITING_FOR_ORDER ends the run and moves no order.
4. A status only moves forward. An ORDERED said again while its order still runs starts nothing.
5. An order that waits behind another has its time-out counted from when that one ended.

Changes that time alone brings: released orders, lasting discrepancies, the next to send.

The hub asks with its own ``now`` and records what comes; asked again before that, the answer is
the same event with the same id.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, TypedDict

import msgspec

from lineside.core import ConflictError, InvalidError, Plant, rfc3339, stable_id
from lineside.core.factory import Colour, OrderMessage, OrderState, read_message
from lineside.core.plant import Twin
from lineside.streams import EVENT_TYPE, Event
from lineside.twin.predictions import JUDGED
from lineside.twin.state import (
    Applied,
    Discrepancy,
    Evidence,
    FactoryState,
    LineState,
    Order,
    OrderStatus,
    OrderStep,
    Presence,
    SlotState,
    differs,
    first_free,
    holders,
    ignored,
    is_newer,
    is_older,
    late,
    shows,
    with_slots,
)

ORDER_TYPE = "lineside.order.v1"
OrderAction = Literal["placed", "refused", "sending", "sent", "advanced", "released"]


class OrderData(msgspec.Struct, frozen=True, kw_only=True):
    """``data`` of an order event; what an action does not need is left out."""

    action: OrderAction
    order: str
    colour: str = ""
    by: str = ""
    slot: str = ""
    status: str = ""
    reason: str = ""
    frame: str = ""
    document: str = ""
    expires_at: datetime | None = None


def order_event(
    order_id: str, action: OrderAction, *, at: datetime, site: str, **data: str
) -> Event:
    """Something that happened to an order, in the hub's own chain.

    Args:
        order_id: the order.
        action: what happened; ``data.status`` tells several ``advanced`` apart.
        at: when, aware.
        site: the plant's site.
        data: further fields of ``OrderData``; empty ones are left out.
    """
    details: dict[str, Any] = {key: str(value) for key, value in data.items() if value}
    return Event(
        id=stable_id("evt", "order", order_id, action, data.get("status", "")),
        source=f"/{site}/hub",
        type=ORDER_TYPE,
        time=at,
        subject=order_id,
        data={"action": action, "order": order_id, **details},
    )


def read_order(event: Event) -> OrderData:
    """The order event's data.

    Raises:
        InvalidError: another shape.
    """
    try:
        return msgspec.convert(event.data, OrderData)
    except msgspec.ValidationError as error:
        raise InvalidError(
            str(error),
            where=f"event {event.id}",
            fix="Send the shape of docs/reference/twin.md, Orders.",
        ) from error


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
        return (
            _place_order(state, event, data=data, plant=plant) if order is None else ignored(state)
        )
    if order is None or not order.open or data.action in ("refused", "advanced"):
        return ignored(state)
    if data.action == "released":
        return Applied(state=_released(state, order, event=event, reason=data.reason, plant=plant))
    if any(step.name == data.action for step in order.steps):
        return ignored(state)
    going = _with_step(order, data.action, event=event)
    return Applied(state=_put(state, _extended(going, event.time, plant=plant)))


def _place_order(state: LineState, event: Event, *, data: OrderData, plant: Plant) -> Applied:
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
    was_sent = order.status is not OrderStatus.SUBMITTED
    return _closed(state, closed, event=event, was_sent=was_sent, plant=plant)


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


def _driven(state: LineState, factory_state: OrderState, *, colour: str) -> Order | None:
    """The order of ours that a factory state is about."""
    if factory_state is OrderState.WAITING_FOR_ORDER:
        return None
    bound = state.order(state.factory.order)
    if (
        bound is not None
        and colour in ("", bound.colour)
        and _runs_on(state, bound, factory_state=factory_state)
    ):
        return bound
    sent = [order for order in reversed(state.orders) if order.open and order.sent]
    sent = [order for order in sent if colour in ("", order.colour)]
    if factory_state is OrderState.ORDERED:
        sent = [order for order in sent if order.status is OrderStatus.SUBMITTED]
    return sent[0] if sent else None


def _runs_on(state: LineState, bound: Order, *, factory_state: OrderState) -> bool:
    """Return whether a state belongs to the run under way; a step back begins another."""
    if factory_state is OrderState.ORDERED:
        return state.factory.state == factory_state and bound.open
    return _RUN.index(factory_state) >= _RUN.index(OrderState(state.factory.state))


def _moves(order: Order, factory_state: OrderState) -> bool:
    return _RANK[OrderStatus(factory_state)] > _RANK[order.status]


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
        after = _closed(state, moved, event=event, was_sent=True, plant=plant)
    else:
        after = _put(state, _extended(moved, event.time, plant=plant))
    return Applied(state=after, raised=(raised,))


def _closed(
    state: LineState, order: Order, *, event: Event, was_sent: bool, plant: Plant
) -> LineState:
    """The order ends: its place is free again, and who waited behind it gets the full time."""
    after = _put(state, order)
    for slot in state.slots.values():
        if slot.reserved_by == order.id:
            freed = _unproven(slot, order, event=event) if was_sent else slot
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
    return replace(slot, seen=Presence.UNKNOWN, colour="", probability=0.0, evidence=evidence)


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


# Word for word the reference's alert; one text for each colour.
OUT_OF_STOCK = "The {colour} piece you are requesting is out of stock in the Physical Factory!"


class Refusal(StrEnum):
    """Why an order was refused, as ``data.code`` of the event."""

    OUT_OF_STOCK = "out of stock"
    RESERVED = "reserved"
    UNKNOWN = "unknown"
    PICTURE = "picture"
    STALE = "stale"
    UNSURE = "unsure"
    DIFFERS = "differs"


def place(
    state: LineState, *, colour: str, by: str, now: datetime, order_id: str, plant: Plant,
    document: str = "",
) -> Event:  # fmt: skip
    """Decide an order; ``document``: ``_id`` of the one by which another twin submitted it.

    Returns:
        A ``lineside.order.v1`` event, ``placed`` with its slot or ``refused`` with the sentence.

    Raises:
        InvalidError: the plant has no twin, or nothing of that colour can be ordered.
        ConflictError: there is an order of that id already.
    """
    twin = _orderable(plant, colour)
    if state.order(order_id) is not None:
        raise ConflictError(
            f"order {order_id} is there already", where="order", fix="Take a new id."
        )
    refused = _not_knowing(state, colour, now=now, twin=twin)
    since = now - timedelta(seconds=twin.stale_after_s)
    slot = first_free(colour, slots=state.slots, twin=twin, shown_since=since)
    if slot is not None and not refused:
        expires = rfc3339(now + timedelta(seconds=twin.order.time_out_s))
        return order_event(
            order_id, "placed", at=now, site=plant.site, colour=colour, by=by, slot=slot.id,
            expires_at=expires, frame=slot.evidence.frame, package=slot.evidence.package,
            evidence=slot.evidence.event, document=document,
        )  # fmt: skip
    code, reason = refused or _why_not(state, colour, since=since, twin=twin)
    evidence = state.picture.evidence
    return order_event(
        order_id, "refused", at=now, site=plant.site, colour=colour, by=by, code=code,
        reason=reason, frame=evidence.frame, package=evidence.package, evidence=evidence.event,
        document=document,
    )  # fmt: skip


def _orderable(plant: Plant, colour: str) -> Twin:
    twin = plant.twin
    if twin is None:
        raise InvalidError(
            "this plant has no twin to order from", where="plant file", fix="Add a [twin] table."
        )
    if colour not in twin.colours:
        raise InvalidError(
            f"{colour!r} cannot be ordered",
            where="colour",
            fix=f"Known: {', '.join(twin.colours)}.",
        )
    return twin


def _not_knowing(
    state: LineState, colour: str, *, now: datetime, twin: Twin
) -> tuple[Refusal, str] | None:
    """Why no statement about the warehouse can be made at all."""
    picture, at = state.picture, state.picture.evidence.at
    if at is None:
        return Refusal.UNKNOWN, (
            f"No picture of the warehouse has been judged yet, so nobody knows whether a {colour} "
            "piece is there. The order was not placed."
        )
    if picture.state != JUDGED:
        why = f" ({picture.reason})" if picture.reason else ""
        return Refusal.PICTURE, (
            f"The last picture of the warehouse could not be judged: {picture.state}{why}. Nobody "
            f"knows whether a {colour} piece is there. The order was not placed."
        )
    age = now - at
    if age > timedelta(seconds=twin.stale_after_s):
        age_s = age.total_seconds()
        return Refusal.STALE, (
            f"The last picture of the warehouse is {age_s:.0f} s old, more than "
            f"{twin.stale_after_s:g} s, so nobody knows whether a {colour} piece is still there. "
            "The order was not placed."
        )
    return None


def _why_not(state: LineState, colour: str, *, since: datetime, twin: Twin) -> tuple[Refusal, str]:
    """The picture is good, and still no piece can be promised."""
    places = holders(colour, slots=state.slots, twin=twin)
    shown = [slot for slot in places if shows(slot, colour)]
    free = [slot for slot in shown if not slot.reserved_by]
    if free:
        return _why_not_these(free, colour, since=since, twin=twin)
    if shown:
        return Refusal.RESERVED, OUT_OF_STOCK.format(colour=colour)
    unsure = _named(s for s in places if s.seen is Presence.UNSURE and colour in s.possible)
    if unsure:
        return Refusal.UNSURE, (
            f"The picture does not show clearly whether a {colour} piece is in {unsure}. "
            "The order was not placed."
        )
    unknown = _named(slot for slot in places if slot.seen is Presence.UNKNOWN)
    if unknown or not places:
        return Refusal.UNKNOWN, (
            f"No picture has shown {unknown or 'any place'} yet, so nobody knows whether a "
            f"{colour} piece is there. The order was not placed."
        )
    return Refusal.OUT_OF_STOCK, OUT_OF_STOCK.format(colour=colour)


def _why_not_these(
    free: list[SlotState], colour: str, *, since: datetime, twin: Twin
) -> tuple[Refusal, str]:
    """Pieces are seen and not reserved, but each is denied or was seen too long ago."""
    declared = {slot.id: slot for slot in twin.slot}
    denied = _named(slot for slot in free if differs(slot, declared[slot.id]))
    if denied:
        return Refusal.DIFFERS, (
            f"The picture shows a {colour} piece in {denied}, but the factory's own stock report "
            "does not. The order was not placed."
        )
    old = _named(slot for slot in free if is_older(slot, since))
    return Refusal.STALE, (
        f"No picture has shown {old} for more than {twin.stale_after_s:g} s, so nobody knows "
        f"whether a {colour} piece is still there. The order was not placed."
    )


def _named(slots: Iterable[SlotState]) -> str:
    return ", ".join(slot.id for slot in slots)


NOTHING = "nothing"


def due(state: LineState, *, now: datetime, plant: Plant) -> tuple[Event, ...]:
    """Events whose time has come."""
    twin = plant.twin
    if twin is None:
        return ()
    return (
        *_releases(state, now=now, plant=plant, twin=twin),
        *_discrepancies_ended(state, now=now, plant=plant),
        *_discrepancies_begun(state, now=now, plant=plant, twin=twin),
    )


def next_to_send(state: LineState, *, now: datetime, plant: Plant) -> Order | None:
    """The order that may go to the factory now, if any.

    One at a time, oldest first, and only when the factory says WAITING_FOR_ORDER, has never said
    anything, or has been silent for half the time-out. Record ``sending`` before the publish.
    """
    if plant.twin is None:
        return None
    head = _head(state)
    if head is None or now >= head.expires_at or not _ready(state, now=now, twin=plant.twin):
        return None
    return head


def _head(state: LineState) -> Order | None:
    """The oldest unsent order, when no sent one is still open."""
    open_ = [order for order in reversed(state.orders) if order.open]
    if any(order.sent for order in open_):
        return None
    return open_[0] if open_ else None


def _ready(state: LineState, *, now: datetime, twin: Twin) -> bool:
    told, at = state.factory.state, state.factory.evidence.at
    if at is None or told == OrderState.WAITING_FOR_ORDER:
        return True
    return now - at >= timedelta(seconds=twin.order.time_out_s / 2)


def _releases(state: LineState, *, now: datetime, plant: Plant, twin: Twin) -> Iterator[Event]:
    head = _head(state)
    for order in state.orders:
        in_turn = order.sent or order is head
        if order.open and in_turn and now >= order.expires_at:
            yield order_event(
                order.id, "released", at=now, site=plant.site, colour=order.colour,
                slot=order.slot, reason=_why_released(order, state=state, twin=twin),
                frame=state.picture.evidence.frame,
            )  # fmt: skip


def _why_released(order: Order, *, state: LineState, twin: Twin) -> str:
    limit = f"within {twin.order.time_out_s:g} s"
    if not order.sent:
        last = state.factory.state or "nothing"
        return f"The order could not be sent {limit}; the factory last said {last}."
    if order.status is OrderStatus.SUBMITTED:
        return f"The factory did not answer ORDERED {limit} of sending."
    return f"The factory said {order.status}, but not SHIPPED {limit} of it."


def _discrepancies_begun(
    state: LineState, *, now: datetime, plant: Plant, twin: Twin
) -> Iterator[Event]:
    listed = {(item.slot, item.since) for item in state.discrepancies}
    for declared in twin.slot:
        slot = state.slots.get(declared.id)
        since = slot.differs_since if slot else None
        if slot is None or since is None or (slot.id, since) in listed:
            continue
        lasts = now - since >= timedelta(seconds=twin.discrepancy_after_s)
        if lasts and differs(slot, declared):
            yield _discrepancy_event(slot, since, action="begun", at=now, plant=plant)


def _discrepancies_ended(state: LineState, *, now: datetime, plant: Plant) -> Iterator[Event]:
    for item in state.discrepancies:
        slot = state.slots.get(item.slot)
        if slot is not None and slot.differs_since != item.since:
            yield _discrepancy_event(slot, item.since, action="ended", at=now, plant=plant)


class DiscrepancyData(TypedDict):
    """Image and factory disagree on a place, or agree again."""

    rule: Literal["discrepancy"]
    action: Literal["begun", "ended"]
    slot: str
    seen: str
    reported: str
    since: str
    sentence: str
    frame: str
    package: str
    evidence: str
    report: str


def _discrepancy_event(
    slot: SlotState,
    since: datetime,
    *,
    action: Literal["begun", "ended"],
    at: datetime,
    plant: Plant,
) -> Event:
    seen, reported = slot.colour or NOTHING, slot.reported or NOTHING
    sentence = f"{slot.id}: the picture shows {seen}, the factory reports {reported}"
    if action == "ended":
        sentence = f"{slot.id}: picture and report agree again"
    data: DiscrepancyData = {
        "rule": "discrepancy",
        "action": action,
        "slot": slot.id,
        "seen": slot.colour,
        "reported": slot.reported or "",
        "since": rfc3339(since),
        "sentence": sentence,
        "frame": slot.evidence.frame,
        "package": slot.evidence.package,
        "evidence": slot.evidence.event,
        "report": slot.reported_evidence.event,
    }
    return Event(
        id=stable_id("evt", "discrepancy", plant.site, slot.id, since.isoformat(), action),
        source=f"/{plant.site}/hub",
        type=EVENT_TYPE,
        time=at,
        subject="discrepancy",
        data=dict(data),
    )


def listed_discrepancies(state: LineState, event: Event) -> tuple[Discrepancy, ...]:
    """The list after a discrepancy event; the same object when the event says nothing new."""
    slot = state.slots.get(str(event.data.get("slot", "")))
    if slot is None:
        return state.discrepancies
    held = next((item for item in state.discrepancies if item.slot == slot.id), None)
    others = tuple(item for item in state.discrepancies if item is not held)
    since = slot.differs_since
    if event.data.get("action") == "ended":
        return others if held and held.since != since else state.discrepancies
    stands = since is not None and rfc3339(since) == event.data.get("since")
    if since is None or not stands or (held and held.since == since):
        return state.discrepancies
    told = Discrepancy(
        slot=slot.id, seen=slot.colour, reported=slot.reported or "", since=since, event=event.id
    )
    return (*others, told)
