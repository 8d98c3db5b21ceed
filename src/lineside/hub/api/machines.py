"""What other programs call: message ingest, inference calls, health, figures."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any, NotRequired, TypedDict

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, Response

from lineside.compat.aws.sigv4 import SignedRequest
from lineside.core import InvalidError, encode
from lineside.hub.api.serving import (
    Invocation,
    endpoint_called,
    function_called,
    invoke,
    invoke_function,
)
from lineside.hub.api.wire import Hub, answer, gives, raw_body, sent
from lineside.hub.eventlog.followers import FollowerState
from lineside.hub.problems import UnknownOperationError, WrongTypeError, aws_refusal, request_id
from lineside.hub.views import DeadLetterView

router = APIRouter(tags=["machines"])


async def _body(request: Request) -> bytes:
    return await request.body()


Body = Annotated[bytes, Depends(_body)]


class StoredMessage(TypedDict):
    """A message in the log; ``duplicate``: it stood there already."""

    id: str
    position: int
    duplicate: bool


class FollowerFigures(TypedDict):
    """A follower in short."""

    name: str
    state: FollowerState
    position: int
    lag: int
    lag_s: float
    since: datetime | None
    quarantined: int


class Readiness(TypedDict):
    """Whether the hub can do its work, and what is away."""

    ready: bool
    away: Sequence[str]
    followers: list[FollowerFigures]
    fix: NotRequired[str]


@router.post(
    "/mqttingest", summary="Hand in one factory message", openapi_extra=raw_body("application/json")
)
@gives(StoredMessage)
@gives(StoredMessage, status=201)
def ingest(hub: Hub, request: Request, *, body: Body) -> Response:
    """JSON with ``topic``. 2xx means stored; 400 means kept among the dead letters."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if kind.lower() not in ("application/json", "text/json", "text/plain"):
        raise WrongTypeError(f"{kind!r} is no JSON", fix="Send application/json.")
    taken = hub.plant_ingest.take_http(body)
    if isinstance(taken, DeadLetterView):
        raise InvalidError(
            f"{taken.reason}: {taken.detail}",
            where=f"/api/v1/dead-letters/{taken.id}",
            fix="Mend the message; the bytes are kept there.",
        )
    logged = taken.logged[0]
    told = StoredMessage(id=logged.entry.id, position=logged.position, duplicate=logged.duplicate)
    return answer(told, status=200 if logged.duplicate else 201)


@router.post(
    "/endpoints/{name}/invocations",
    summary="SageMaker runtime: InvokeEndpoint",
    openapi_extra=raw_body("image/jpeg"),
)
@gives(list[Any])
async def invocations(hub: Hub, request: Request, *, name: str, body: Body) -> Response:
    """An array of probabilities in declared order, ``[[p0 … pN, more]]`` of a count; signed."""
    call = Invocation(name=name, request=signed_request(request, body))
    queue = await run_in_threadpool(endpoint_called, hub, call)
    values, variant = await hub.queue.run(queue, partial(invoke, hub, call))
    headers = {"x-Amzn-Invoked-Production-Variant": variant, **request_id()}
    return Response(encode(values), media_type="application/json", headers=headers)


@router.post(
    "/2015-03-31/functions/{name}/invocations",
    summary="Lambda: Invoke, of a configured function",
    openapi_extra=raw_body("application/json"),
)
@gives(dict[str, Any])
@gives(None, status=204)
async def invoke_named(hub: Hub, request: Request, *, name: str, body: Body) -> Response:
    """The function's document, its own failures included; the caller signs."""
    call = Invocation(name=name, request=signed_request(request, body))
    kind = request.headers.get("x-amz-invocation-type", "RequestResponse")
    if kind not in ("RequestResponse", "DryRun"):
        raise InvalidError(
            f"invocation type {kind!r}", where="X-Amz-Invocation-Type", fix="Use RequestResponse."
        )
    queue = await run_in_threadpool(function_called, hub, call)
    if kind == "DryRun":
        return Response(status_code=204, headers=request_id())
    reply = await hub.queue.run(queue, partial(invoke_function, hub, call))
    headers = {"X-Amz-Executed-Version": "$LATEST", **request_id()}
    if reply.failed:
        headers["X-Amz-Function-Error"] = "Handled"
    return Response(encode(reply.document), media_type="application/json", headers=headers)


_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]


@router.api_route("/endpoints/{rest:path}", methods=_METHODS, include_in_schema=False)
@router.api_route("/2015-03-31/functions{rest:path}", methods=_METHODS, include_in_schema=False)
def unknown_operation(request: Request, *, rest: str) -> Response:
    """Any other call of the two contracts."""
    raise UnknownOperationError(
        f"{request.method} of {rest[:80]!r} is not offered here",
        fix="Offered: InvokeEndpoint of an endpoint, Invoke of a function.",
    )


def signed_request(request: Request, body: bytes) -> SignedRequest:
    """The request as whoever signed it wrote it."""
    return SignedRequest(
        method=request.method,
        path=request.scope.get("raw_path", request.url.path.encode()).decode("latin-1"),
        query=request.scope.get("query_string", b"").decode("latin-1"),
        headers={key.lower(): value for key, value in request.headers.items()},
        body=body,
    )


def aws_error(status: int, code: str, *, message: str) -> Response:
    """An error as AWS' JSON protocol writes it."""
    return sent(aws_refusal(status, code, message=message))


@router.get("/ping", summary="SageMaker runtime: alive")
@gives(None)
async def ping() -> Response:
    """An empty 200."""
    return Response(status_code=200)


@router.get("/healthz", summary="The process answers")
@gives(bytes, "text/plain")
async def healthz() -> Response:
    """Nothing is looked at, and no thread is waited for."""
    return PlainTextResponse("ok\n")


@router.get("/readyz", summary="The hub can do its work")
@gives(Readiness)
@gives(Readiness, status=503)
def readyz(hub: Hub) -> Response:
    """503 with what is away: the store, the bus, room on the disk, a follower that stopped.

    A sink that is away makes no hub unready, because its records wait in the log; it is listed.
    """
    away, views = hub.away(), hub.followers.views()
    followers: list[FollowerFigures] = [
        {
            "name": view.name, "state": view.state, "position": view.position, "lag": view.lag,
            "lag_s": view.lag_s, "since": view.since, "quarantined": view.quarantined,
        }
        for view in views
    ]  # fmt: skip
    told = Readiness(ready=not away, away=away, followers=followers)
    if "disk" in away:
        told["fix"] = (
            f"{hub.config.free_bytes / 1e9:.2f} GB are free where the hub keeps its data, at least"
            f" {hub.config.min_free_bytes / 1e9:.2f} GB must be (min_free_bytes). Free some, or set"
            " retention.max_bytes."
        )
    return answer(told, status=503 if away else 200)


@router.get("/metrics", summary="Figures for Prometheus")
@gives(bytes, "text/plain")
def metrics(hub: Hub) -> Response:
    """Text format 0.0.4."""
    return Response(hub.stats.exposition(), media_type="text/plain; version=0.0.4")
