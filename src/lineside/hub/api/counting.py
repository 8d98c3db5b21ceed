"""``/api/v1/functions`` and ``/api/v1/counts``: pictures of a store, answered and counted."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypedDict, TypeVar

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response

from lineside.hub.api.wire import (
    PICTURE_TYPES,
    Hub,
    Limit,
    Page,
    Requester,
    bytes_body,
    json_body,
    json_response,
    next_cursor,
    page_response,
    responds,
)
from lineside.hub.counting.counter import Corrected, CountRequest, CountView, FunctionView
from lineside.hub.inference.endpoints import find_endpoint
from lineside.hub.inference.functions import FunctionRequest, result_body
from lineside.hub.services import Services

T = TypeVar("T")
router = APIRouter(prefix="/api/v1", tags=["counting"])


class CallBody(TypedDict):
    """Answer of a function: the picture in base64 and what was said of it."""

    image: str
    prediction: Any


@router.get("/functions", summary="Functions that read a picture and have it answered")
@responds(Page[FunctionView])
def list_functions(hub: Hub) -> Response:
    """With the store, prefix and endpoint that callers name."""
    return page_response(hub.counter.functions())


@router.get("/functions/{name}/pictures", summary="Names of the pictures on offer")
@responds(Page[str])
def list_pictures(hub: Hub, *, name: str, after: str = "", limit: Limit = 100) -> Response:
    """In order; ``after`` is the last name already seen."""
    names = hub.counter.offered(name)
    start = names.index(after) + 1 if after in names else 0
    page = names[start : start + limit]
    return page_response(page, following=next_cursor(page, limit, key=str))


@router.post(
    "/functions/{name}/call",
    summary="Call a function: picture and prediction",
)
@responds(CallBody)
async def call_function(
    hub: Hub,
    *,
    name: str,
    request: Annotated[FunctionRequest, Depends(json_body(FunctionRequest))],
) -> Response:
    """The same as the function contract's ``body``; a failure has its own status."""
    called = await _counted(hub, name, partial(hub.functions.call, name, request))
    return json_response(result_body(called))


@router.get("/counts", summary="Your own counts, newest first")
@responds(Page[CountView])
def list_counts(hub: Hub, who: Requester) -> Response:
    """Nobody else's; the newest hundred."""
    return page_response(hub.counter.all(who=who))


@router.post("/counts", summary="Have a picture on offer counted")
@responds(CountView, status=201)
async def ask(
    hub: Hub, who: Requester, *, order: Annotated[CountRequest, Depends(json_body(CountRequest))]
) -> Response:
    """403 for a picture that is not on offer."""
    work = partial(hub.counter.ask, order, who=who)
    return json_response(await _counted(hub, order.function, work), status=201)


@router.post(
    "/counts/uploaded",
    summary="Have a picture of your own counted",
)
@responds(CountView, status=201)
async def look(
    hub: Hub,
    who: Requester,
    *,
    function: Annotated[str, Query(description="whose endpoint counts")],
    data: Annotated[bytes, Depends(bytes_body(*PICTURE_TYPES))],
) -> Response:
    """The body is the picture's bytes."""
    work = partial(hub.counter.look, function, data, who=who)
    return json_response(await _counted(hub, function, work), status=201)


async def _counted(hub: Services, function: str, work: Callable[[], T]) -> T:
    """In the queue of the endpoint that answers the function's pictures."""
    endpoint = find_endpoint(hub.plant, hub.functions.one(function).endpoint)
    return await hub.queue.run(endpoint.id, work)


@router.get("/counts/{count}", summary="One of your own counts")
@responds(CountView)
def get_count(hub: Hub, who: Requester, *, count: str) -> Response:
    """With its interval, the chance of every number, and the inventory record."""
    return json_response(hub.counter.one(count, who=who))


@router.get("/counts/{count}/picture", summary="The very picture that was counted")
@responds(bytes, "image/jpeg", "image/png")
def get_picture(hub: Hub, who: Requester, *, count: str) -> Response:
    """Its bytes as they came."""
    picture = hub.counter.picture(count, who=who)
    return Response(picture.data, media_type=picture.media_type)


@router.post(
    "/counts/{count}/correction",
    summary="Teach from it: what a person counted, into a dataset",
)
@responds(CountView)
def correct(
    hub: Hub,
    who: Requester,
    *,
    count: str,
    correction: Annotated[Corrected, Depends(json_body(Corrected))],
) -> Response:
    """Correcting again replaces the number."""
    return json_response(hub.counter.correct(count, correction, who=who))
