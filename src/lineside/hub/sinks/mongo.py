"""The MongoDB sink beside the hot path: a follower writes, a poll reads orders of other twins.

1. While the database is away nothing is lost: the follower goes on from its position in the log. A
   message that the database cannot hold is quarantined by the follower; see ``links.mongo``.
2. Documents are replaced by their ``_id``, so writing again changes nothing.
3. Orders that another twin inserted are placed like any other, once each: their id here is made of
   their id there. Status, reason and steps go into the document that the twin inserted, also of a
   refused one; there is no second document.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from lineside.core import (
    ConflictError,
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    stable_id,
)
from lineside.core.factory import ORDER_COLLECTION
from lineside.core.worker import Worker
from lineside.hub.api.documents import document_of
from lineside.hub.services import Services
from lineside.links.mongo import MongoSink
from lineside.store import Logged
from lineside.streams import Event, decode_event
from lineside.twin import documents, order_event, read_order
from lineside.twin.documents import order_progress, submitted_progress
from lineside.twin.orders import ORDER_TYPE, OrderAction

logger = logging.getLogger(__name__)

_POLL_S = 1.0
_BY = "other twin"
_CURSOR = "mongo-orders"
_DECISIONS: tuple[OrderAction, ...] = ("placed", "refused")
_MOST_WRITTEN = 1000
_MOST_REASON = 500


class MongoWriter:
    """Handler of a follower over the whole log."""

    def __init__(self, sink: MongoSink, *, services: Services) -> None:
        self._sink = sink
        self._services = services
        self._router = services.router
        self._written: dict[str, dict[str, Any]] = {}

    def resume(self, position: int) -> int:
        """Forget what was written: another hub may have written since."""
        self._written.clear()
        return position

    def write(self, entries: Sequence[Logged]) -> None:
        """Write what these entries mean to others, then the documents that follow from the twin.

        Raises:
            UnavailableError: the database is away or refuses the credentials.
            InvalidError: it cannot hold one of them.
        """
        try:
            for logged in entries:
                self._write_entry(decode_event(logged.entry.body, where=logged.entry.id))
            self._write_state()
        except RefusedError as error:
            raise UnavailableError(error.message, where=error.where, fix=error.fix) from error

    def _write_entry(self, event: Event) -> None:
        hub = self._services
        if event.type == ORDER_TYPE:
            self._write_outcome(event)
            return
        made = document_of(
            event, router=self._router, blobs=hub.blobs, picture=hub.config.mongo_picture
        )
        if made is not None:
            self._sink.write(*made)

    def _write_outcome(self, event: Event) -> None:
        """Tell whoever submitted an order that the twin's state does not hold: a refused one."""
        data, hub = read_order(event), self._services
        if hub.ledger.state.order(data.order) is not None:
            return
        document = data.document
        if not document:  # of another event than the decision, long ago
            page = hub.records.log.read(type=ORDER_TYPE, subject=data.order, limit=1)
            first = [decode_event(one.entry.body, where=one.entry.id) for one in page]
            document = read_order(first[0]).document if first else ""
        if document:
            self._sink.amend(ORDER_COLLECTION, submitted_progress(event, document=document))

    def _write_state(self) -> None:
        hub = self._services
        state = hub.ledger.state
        submitted = {order.document: order for order in state.orders if order.document}
        for collection, found in documents(state, plant=hub.plant).items():
            for document in found:
                order = submitted.get(document["_id"])
                if collection != ORDER_COLLECTION or order is None:
                    self._write_changed(collection, document, write=self._sink.write)
                else:
                    progress = order_progress(order)
                    self._write_changed(collection, progress, write=self._sink.amend)

    def _write_changed(
        self, collection: str, document: dict[str, Any], *, write: Callable[..., None]
    ) -> None:
        """Write what follows from the state; what cannot be held is no record's fault."""
        key = f"{collection}/{document['_id']}"
        if self._written.get(key) != document:
            try:
                write(collection, document)
            except InvalidError as error:
                logger.warning("document not written collection=%s why=%s", collection, error)
            self._written[key] = document
        while len(self._written) > _MOST_WRITTEN:
            self._written.pop(next(iter(self._written)))


class MongoOrders:
    """A thread that places orders which another twin wrote."""

    def __init__(self, sink: MongoSink, *, services: Services) -> None:
        self._sink = sink
        self._services = services
        self._lease = services.leases.lease(_CURSOR)
        self._worker = Worker("mongo-orders", self._turn, every_s=_POLL_S, delay_s=_POLL_S)

    def start(self) -> None:
        """Begin."""
        self._worker.start()

    def stop(self) -> None:
        """End after the poll in hand."""
        self._worker.stop()
        self._lease.release()

    def step(self) -> int:
        """Place what came since the last poll; how many were looked at."""
        after = self._cursor()
        found = self._sink.orders_after(after)
        for document in found:
            # The sink gives each order once, so none may be dropped on the way.
            self._services.failures.retry(partial(self._take, document))
        return len(found)

    def _cursor(self) -> str:
        """The newest order seen; on the first start this very moment, not the past."""
        documents = self._services.records.documents
        try:
            return str(documents.get("cursor", _CURSOR).body["after"])
        except NotFoundError:
            now_s = int(self._services.clock.now().timestamp())
            after = f"{now_s:08x}" + "0" * 16  # an object id begins with its second
            documents.put("cursor", _CURSOR, body={"after": after})
            return after

    def _take(self, document: dict[str, Any]) -> None:
        order_id = stable_id("ord", str(document["_id"]))
        if "order" not in document and not self._is_decided(order_id):
            self._place(str(document.get("color", "")), order_id, document=str(document["_id"]))
        self._services.records.documents.put(
            "cursor", _CURSOR, body={"after": str(document["_id"])}
        )

    def _is_decided(self, order_id: str) -> bool:
        """Return True if this order was placed or refused before: the sink may give it again."""
        now, site = self._services.clock.now(), self._services.plant.site
        for action in _DECISIONS:
            event = order_event(order_id, action, at=now, site=site)
            try:
                self._services.records.log.get(event.id)
            except NotFoundError:
                continue
            return True
        return False

    def _place(self, colour: str, order_id: str, *, document: str) -> None:
        orders = self._services.orders
        try:
            orders.place(colour, by=_BY, order_id=order_id, document=document)
        except ConflictError as error:  # the decision stands in the log
            logger.info("order of another twin refused order=%s why=%s", order_id, error)
        except InvalidError as error:
            orders.refuse(order_id, by=_BY, reason=str(error)[:_MOST_REASON], document=document)
            logger.info("order of another twin refused order=%s why=%s", order_id, error)

    def _turn(self) -> None:
        if self._lease.hold():
            self.step()
