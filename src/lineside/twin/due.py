"""Changes that time alone brings: released orders, lasting discrepancies, the next to send.

The hub asks with its own ``now`` and records what comes; asked again before that, the answer is
the same event with the same id.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from lineside.core import Plant, rfc3339, stable_id
from lineside.core.factory import OrderState
from lineside.core.plant import Twin
from lineside.streams import EVENT_TYPE, Event
from lineside.twin.orders import order_event
from lineside.twin.state import Discrepancy, LineState, Order, OrderStatus, SlotState
from lineside.twin.stock import differs

NOTHING = "nothing"


def due(state: LineState, *, now: datetime, plant: Plant) -> tuple[Event, ...]:
    """Events whose time has come."""
    twin = plant.twin
    if twin is None:
        return ()
    return (
        *_releases(state, now=now, plant=plant, twin=twin),
        *_ended(state, now=now, plant=plant),
        *_begun(state, now=now, plant=plant, twin=twin),
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


def _begun(state: LineState, *, now: datetime, plant: Plant, twin: Twin) -> Iterator[Event]:
    listed = {(item.slot, item.since) for item in state.discrepancies}
    for declared in twin.slot:
        slot = state.slots.get(declared.id)
        since = slot.differs_since if slot else None
        if slot is None or since is None or (slot.id, since) in listed:
            continue
        lasts = now - since >= timedelta(seconds=twin.discrepancy_after_s)
        if lasts and differs(slot, declared):
            yield _discrepancy_event(slot, since, action="begun", at=now, plant=plant)


def _ended(state: LineState, *, now: datetime, plant: Plant) -> Iterator[Event]:
    for item in state.discrepancies:
        slot = state.slots.get(item.slot)
        if slot is not None and slot.differs_since != item.since:
            yield _discrepancy_event(slot, item.since, action="ended", at=now, plant=plant)


def _discrepancy_event(
    slot: SlotState, since: datetime, *, action: str, at: datetime, plant: Plant
) -> Event:
    seen, reported = slot.colour or NOTHING, slot.reported or NOTHING
    sentence = f"{slot.id}: the picture shows {seen}, the factory reports {reported}"
    if action == "ended":
        sentence = f"{slot.id}: picture and report agree again"
    return Event(
        id=stable_id("evt", "discrepancy", plant.site, slot.id, since.isoformat(), action),
        source=f"/{plant.site}/hub",
        type=EVENT_TYPE,
        time=at,
        subject="discrepancy",
        data={
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
        },
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
