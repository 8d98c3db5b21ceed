"""``/api/v1/functions`` and ``/api/v1/counts``: pictures of a store, answered and counted."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from lineside.hub.answering import endpoint_of
from lineside.hub.api.wire import (
    Hub,
    Limit,
    Who,
    answer,
    body_of,
    described,
    following_of,
    listed,
    raw_body,
)
from lineside.hub.counting.views import Asked, Corrected
from lineside.hub.functions import FunctionRequest, body_of_call
from lineside.hub.problems import WrongTypeError
from lineside.hub.services import Services

T = TypeVar("T")
router = APIRouter(prefix="/api/v1", tags=["counting"])

_PICTURES = ("image/jpeg", "image/png", "application/x-image", "application/octet-stream")


@router.get("/functions", summary="Functions that read a picture and have it answered")
def list_functions(hub: Hub) -> Response:
    """With the store, prefix and endpoint that callers name."""
    return listed(hub.counter.functions())


@router.get("/functions/{name}/pictures", summary="Names of the pictures on offer")
def list_pictures(hub: Hub, *, name: str, after: str = "", limit: Limit = 100) -> Response:
    """In order; ``after`` is the last name already seen."""
    names = hub.counter.offered(name)
    start = names.index(after) + 1 if after in names else 0
    page = names[start : start + limit]
    return listed(page, following=following_of(page, limit, key=str))


@router.post(
    "/functions/{name}/call",
    summary="Call a function: picture and prediction",
    openapi_extra=described(FunctionRequest),
)
async def call_function(
    hub: Hub,
    *,
    name: str,
    request: Annotated[FunctionRequest, Depends(body_of(FunctionRequest))],
) -> Response:
    """The same as the function contract's ``body``; a failure has its own status."""
    called = await _counted(hub, name, partial(hub.functions.call, name, request))
    return answer(body_of_call(called))


@router.get("/counts", summary="Your own counts, newest first")
def list_counts(hub: Hub, who: Who) -> Response:
    """Nobody else's; the newest hundred."""
    return listed(hub.counter.all(who=who))


@router.post("/counts", summary="Have a picture on offer counted", openapi_extra=described(Asked))
async def ask(hub: Hub, who: Who, *, asked: Annotated[Asked, Depends(body_of(Asked))]) -> Response:
    """403 for a picture that is not on offer."""
    work = partial(hub.counter.ask, asked, who=who)
    return answer(await _counted(hub, asked.function, work), status=201)


def _picture() -> Callable[[Request], Awaitable[bytes]]:
    async def read(request: Request) -> bytes:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in _PICTURES:
            raise WrongTypeError(
                f"{kind or 'no type'!r} is no picture", fix=f"Send one of {', '.join(_PICTURES)}."
            )
        return await request.body()

    return read


@router.post(
    "/counts/uploaded",
    summary="Have a picture of your own counted",
    openapi_extra=raw_body(_PICTURES[0]),
)
async def look(
    hub: Hub,
    who: Who,
    *,
    function: Annotated[str, Query(description="whose endpoint counts")],
    data: Annotated[bytes, Depends(_picture())],
) -> Response:
    """The body is the picture's bytes."""
    work = partial(hub.counter.look, function, data, who=who)
    return answer(await _counted(hub, function, work), status=201)


async def _counted(hub: Services, function: str, work: Callable[[], T]) -> T:
    """In the queue of the endpoint that answers the function's pictures."""
    endpoint = endpoint_of(hub.plant, hub.functions.one(function).endpoint)
    return await hub.queue.run(endpoint.id, work)


@router.get("/counts/{count}", summary="One of your own counts")
def get_count(hub: Hub, who: Who, *, count: str) -> Response:
    """With its interval, the chance of every number, and the inventory record."""
    return answer(hub.counter.one(count, who=who))


@router.get("/counts/{count}/picture", summary="The very picture that was counted")
def get_picture(hub: Hub, who: Who, *, count: str) -> Response:
    """Its bytes as they came."""
    picture = hub.counter.picture(count, who=who)
    return Response(picture.data, media_type=picture.media_type)


@router.post(
    "/counts/{count}/correction",
    summary="Teach from it: what a person counted, into a dataset",
    openapi_extra=described(Corrected),
)
def correct(
    hub: Hub,
    who: Who,
    *,
    count: str,
    said: Annotated[Corrected, Depends(body_of(Corrected))],
) -> Response:
    """Correcting again replaces the number."""
    return answer(hub.counter.correct(count, said, who=who))
