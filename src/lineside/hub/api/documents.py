"""Documents of the twin's collections, from the log: for the API and for the MongoDB sink.

A message of a route with ``collection`` appears in it as it was sent; the stock document and the
orders follow from the twin.
"""

from typing import Any, Literal

from lineside.core import Digest, NotFoundError, Plant
from lineside.hub.eventlog.topics import DeadLetterError, Router
from lineside.hub.services import Services
from lineside.store import Blobs, Logged
from lineside.streams import Event, decode_event
from lineside.twin import camera_document, documents, reference_document

FRAME_TYPE = "lineside.plant.frame.v1"
_PAGE = 500
_MOST_PAGES = 20

PictureForm = Literal["text", "binary", "digest"]


def collections_of(plant: Plant) -> tuple[str, ...]:
    """Every collection that routes name."""
    return tuple(sorted({route.collection for route in plant.route if route.collection}))


def document_of(
    event: Event, *, router: Router, blobs: Blobs, picture: PictureForm
) -> tuple[str, dict[str, Any]] | None:
    """A plant event as its collection holds it; None where its route names no collection."""
    if not event.type.startswith("lineside.plant."):
        return None
    try:
        route = router.find(event.subject)
    except DeadLetterError:
        return None
    if not route.collection:
        return None
    if event.type != FRAME_TYPE:
        return reference_document(event, collection=route.collection)
    _, document = camera_document(event, _picture_bytes(event, blobs), picture=picture)
    return route.collection, document


def _picture_bytes(event: Event, blobs: Blobs) -> bytes:
    """The picture; nothing where it aged out meanwhile."""
    try:
        return blobs.get(Digest(str(event.data.get("digest", ""))))
    except NotFoundError:
        return b""


def collection_page(
    hub: Services, collection: str, *, after: int, limit: int
) -> tuple[list[dict[str, Any]], str]:
    """A page of a collection, oldest first, and the cursor behind it.

    Raises:
        NotFoundError: no route and no part of the twin fills such a collection.
    """
    derived = documents(hub.ledger.state, plant=hub.plant)
    if collection in derived:
        return derived[collection], ""
    known = collections_of(hub.plant)
    if collection not in known:
        listed = ", ".join((*derived, *known))
        raise NotFoundError("no such collection", where=collection, fix=f"Known: {listed}.")
    return _from_log(hub, collection, after=after, limit=limit)


def _from_log(
    hub: Services, collection: str, *, after: int, limit: int
) -> tuple[list[dict[str, Any]], str]:
    router, found, position = Router(hub.plant), list[dict[str, Any]](), after
    source = f"/{hub.plant.site}/plant"
    for _ in range(_MOST_PAGES):
        page = hub.records.log.read(after=position, limit=_PAGE, source=source)
        for logged in page:
            position = logged.position
            document = _in_collection(hub, logged, collection=collection, router=router)
            if document is not None:
                found.append(document)
            if len(found) >= limit:
                return found, str(position)
        if len(page) < _PAGE:
            return found, ""
    return found, str(position)


def _in_collection(
    hub: Services, logged: Logged, *, collection: str, router: Router
) -> dict[str, Any] | None:
    event = decode_event(logged.entry.body, where=logged.entry.id)
    made = document_of(event, router=router, blobs=hub.blobs, picture="text")
    return made[1] if made and made[0] == collection else None
