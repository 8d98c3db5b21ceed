"""Orders: decided by the twin, sent to the factory exactly once.

1. Placing reads the stock and writes the order under the ledger's lock: two people cannot buy one
   piece.
2. ``sending`` is committed before ``f/o/order`` leaves, ``sent`` after it. When the hub dies in
   between, nobody knows whether the factory has it; it is never sent again, and the twin releases
   the reservation when its time is over.
3. An order waits, unsent, while the bus is away or the factory works on another.
"""

import logging
from collections.abc import Sequence

from lineside.core import (
    Clock,
    ConflictError,
    InvalidError,
    NotFoundError,
    Plant,
    UnavailableError,
    new_id,
)
from lineside.core.factory import order_command
from lineside.hub.eventlog.ledger import Ledger
from lineside.hub.eventlog.stats import Stats
from lineside.links import Bus
from lineside.streams import Event
from lineside.twin import LineState, Order, next_to_send, order_event, place

logger = logging.getLogger(__name__)


class Orders:
    """Orders of people and other twins."""

    def __init__(self, ledger: Ledger, *, plant: Plant, clock: Clock, stats: Stats) -> None:
        self._ledger = ledger
        self._plant = plant
        self._clock = clock
        self._stats = stats
        self.bus: Bus | None = None

    def all(self) -> tuple[Order, ...]:
        """Accepted orders, newest first."""
        return self._ledger.state.orders

    def one(self, order_id: str) -> Order:
        """``NotFoundError`` when there is none, or it is too old to be in the twin."""
        order = self._ledger.state.order(order_id)
        if order is None:
            raise NotFoundError("no such order", where=order_id, fix="List /api/v1/orders.")
        return order

    def place(self, colour: str, *, by: str, order_id: str = "", document: str = "") -> Order:
        """Reserve a piece; the factory is asked for it as soon as it can take an order.

        ``document``: ``_id`` of the one by which another twin submitted the order.

        Raises:
            InvalidError: no such colour.
            ConflictError: not to be had now; the message is the sentence to show.
        """
        twin = self._plant.twin
        if twin is None or colour not in twin.colours:
            known = ", ".join(twin.colours) if twin else "none, the plant file has no twin"
            raise InvalidError(f"no colour {colour!r}", where="colour", fix=f"Known: {known}.")
        wanted = order_id or new_id("ord", clock=self._clock)

        def decide(state: LineState) -> Sequence[Event]:
            now = self._clock.now()
            placed = place(
                state, colour=colour, by=by, now=now, order_id=wanted, plant=self._plant,
                document=document,
            )  # fmt: skip
            return [placed]

        commit = self._ledger.decide(decide)
        event = commit.events[0] if commit else None
        if event is None or event.data.get("action") != "placed":
            reason = str(event.data.get("reason")) if event else "refused"
            raise ConflictError(reason, where=colour, fix="Try again when the picture changed.")
        self._stats.count("orders")
        logger.info("order placed order=%s colour=%s by=%s", wanted, colour, by)
        return self.one(wanted)

    def refuse(self, order_id: str, *, by: str, reason: str, document: str) -> None:
        """Write down that an order of another twin names nothing that can be ordered."""
        event = order_event(
            order_id, "refused", at=self._clock.now(), site=self._plant.site, by=by,
            reason=reason, document=document,
        )  # fmt: skip
        self._ledger.record([event])

    def dispatch(self) -> Order | None:
        """Send the order whose turn it is; None when there is none or the bus is away.

        One thread calls this.
        """
        bus, twin = self.bus, self._plant.twin
        if bus is None or twin is None or not bus.connected():
            return None
        order = self._begin_sending()
        if order is None:
            return None
        command = order_command(order.colour, at=self._clock.now())
        try:
            bus.publish(twin.order.topic, command, qos=2)
        except UnavailableError as error:
            # The message may be under way: the client ends what it began after a return. So it
            # is not sent again; the twin releases the order if the factory never answers.
            logger.warning("order handed over without answer order=%s why=%s", order.id, error)
            return order
        self._ledger.record([self._step(order, sent=True)])
        logger.info("order sent order=%s colour=%s", order.id, order.colour)
        return order

    def _begin_sending(self) -> Order | None:
        chosen: list[Order] = []

        def decide(state: LineState) -> Sequence[Event]:
            order = next_to_send(state, now=self._clock.now(), plant=self._plant)
            if order is None:
                return []
            chosen.append(order)
            return [self._step(order, sent=False)]

        if next_to_send(self._ledger.state, now=self._clock.now(), plant=self._plant) is None:
            return None
        self._ledger.decide(decide)
        return chosen[0] if chosen else None

    def _step(self, order: Order, *, sent: bool) -> Event:
        return order_event(
            order.id, "sent" if sent else "sending", at=self._clock.now(), site=self._plant.site,
            colour=order.colour, slot=order.slot,
        )  # fmt: skip
