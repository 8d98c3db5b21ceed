"""May this order be placed? One decision, made from the state alone.

Rules:

1. An order takes one place that shows the colour, is not reserved, and that the factory's report
   does not contradict. That place is reserved until SHIPPED, release or time-out.
2. Absent, and likewise every piece reserved, is refused with the reference's text.
3. Not knowing is refused too, each case with its own sentence: no picture yet, a picture that could
   not be judged, one too old, a place that is unsure, a place where the witnesses differ.
4. Who asks second for the same piece is refused: the caller applies each event before it decides
   the next (one authority), and there is no clock in it.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

from lineside.core import ConflictError, InvalidError, Plant, Twin, rfc3339
from lineside.streams import Event
from lineside.twin.order_events import order_event
from lineside.twin.picture import JUDGED
from lineside.twin.state import LineState, Seen, SlotState
from lineside.twin.stock import differs, first_free, holders, is_older, shows

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
            f"{colour} piece is there. The order was not placed."
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
    unsure = _named(s for s in places if s.seen is Seen.UNSURE and colour in s.possible)
    if unsure:
        return Refusal.UNSURE, (
            f"The picture does not show clearly whether a {colour} piece is in {unsure}. "
            "The order was not placed."
        )
    unknown = _named(slot for slot in places if slot.seen is Seen.UNKNOWN)
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
