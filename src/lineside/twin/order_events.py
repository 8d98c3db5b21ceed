"""Orders as events: the documented shape of ``lineside.order.v1``, written and read.

``data.action`` is ``placed`` or ``refused`` (the decision), ``sending`` (about to publish, written
before the publish), ``sent`` (published), ``advanced`` (the factory moved it on) or ``released``.
An order has each of these once, so the event's id is made of the order and the action.
"""

from datetime import datetime
from typing import Any, Literal

import msgspec

from lineside.core import InvalidError, stable_id
from lineside.streams import Event

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
    told: dict[str, Any] = {key: str(value) for key, value in data.items() if value}
    return Event(
        id=stable_id("evt", "order", order_id, action, data.get("status", "")),
        source=f"/{site}/hub",
        type=ORDER_TYPE,
        time=at,
        subject=order_id,
        data={"action": action, "order": order_id, **told},
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
