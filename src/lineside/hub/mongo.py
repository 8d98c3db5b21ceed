"""The MongoDB sink beside the hot path: a follower writes, a poll reads orders of other twins.

While the database is away nothing is lost: the follower goes on from its position in the log.
Documents are replaced by their ``_id``, so writing again changes nothing. Orders another twin
inserted are placed like any other, once each: their id here is made of their id there.
"""

import logging
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from lineside.core import (
    ConflictError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    stable_id,
)
from lineside.hub.reference import document_of
from lineside.hub.services import Services
from lineside.hub.topics import Router
from lineside.links import MongoSink
from lineside.store import Logged
from lineside.streams import decode_event
from lineside.twin import OrderAction, documents, order_event

logger = logging.getLogger(__name__)

_POLL_S = 1.0
_BY = "other twin"
_CURSOR = "mongo-orders"
_DECISIONS: tuple[OrderAction, ...] = ("placed", "refused")
_MOST_WRITTEN = 1000


class MongoWriter:
    """Handler of a follower over the whole log."""

    def __init__(self, sink: MongoSink, *, services: Services) -> None:
        self._sink = sink
        self._services = services
        self._router = Router(services.plant)
        self._written: dict[str, dict[str, Any]] = {}

    def write(self, entries: Sequence[Logged]) -> None:
        """Write what these entries mean to others, then the documents that follow from the twin.

        Raises:
            UnavailableError: the database is away; the follower tries again.
        """
        hub = self._services
        for logged in entries:
            event = decode_event(logged.entry.body, where=logged.entry.id)
            made = document_of(
                event, router=self._router, blobs=hub.blobs, picture=hub.config.mongo_picture
            )
            if made is not None:
                self._write(*made)
        for collection, found in documents(hub.ledger.state, plant=hub.plant).items():
            for document in found:
                self._write_changed(collection, document)

    def _write(self, collection: str, document: dict[str, Any]) -> None:
        """What the database can never take is said once and passed over."""
        try:
            self._sink.write(collection, document)
        except InvalidError as error:
            logger.warning("document not written collection=%s why=%s", collection, error)

    def _write_changed(self, collection: str, document: dict[str, Any]) -> None:
        key = f"{collection}/{document['_id']}"
        if self._written.get(key) != document:
            self._write(collection, document)
            self._written[key] = document
        while len(self._written) > _MOST_WRITTEN:
            self._written.pop(next(iter(self._written)))


class MongoOrders:
    """A thread that places orders which another twin wrote."""

    def __init__(self, sink: MongoSink, *, services: Services) -> None:
        self._sink = sink
        self._services = services
        self._stop = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._run, name="mongo-orders")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the poll in hand."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def step(self) -> int:
        """Place what came since the last poll; how many were looked at."""
        after = self._cursor()
        found = self._sink.orders_after(after)
        for document in found:
            # The sink gives each order once, so none may be dropped on the way.
            self._services.keeping.patiently(partial(self._take, document))
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
            self._place(str(document.get("color", "")), order_id)
        self._services.records.documents.put(
            "cursor", _CURSOR, body={"after": str(document["_id"])}
        )

    def _is_decided(self, order_id: str) -> bool:
        """Whether this order was placed or refused before: the sink may give it again."""
        now, site = self._services.clock.now(), self._services.plant.site
        for action in _DECISIONS:
            event = order_event(order_id, action, at=now, site=site)
            try:
                self._services.records.log.get(event.id)
            except NotFoundError:
                continue
            return True
        return False

    def _place(self, colour: str, order_id: str) -> None:
        try:
            self._services.orders.place(colour, by=_BY, order_id=order_id)
        except (ConflictError, InvalidError) as error:
            logger.info("order of another twin refused order=%s why=%s", order_id, error)

    def _run(self) -> None:
        while not self._stop.wait(_POLL_S):
            try:
                self.step()
            except UnavailableError as error:
                if not self._lost:
                    logger.warning("orders in MongoDB not read reason=%s", error)
                self._lost = True
            except Exception:  # boundary
                logger.exception("orders in MongoDB not read")
                self._lost = True
            else:
                self._lost = False
