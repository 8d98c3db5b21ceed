"""What other programs call: message ingest, inference calls, health, figures."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from lineside.core import InvalidError, LinesideError, NotFoundError, RefusedError, encode
from lineside.hub.api.wire import Hub, answer
from lineside.hub.problems import WrongTypeError
from lineside.hub.serving import Invocation, PayloadError, invoke, invoke_function, may_invoke
from lineside.hub.sigv4 import SignatureRefusedError, SignedRequest
from lineside.hub.views import DeadLetterView

router = APIRouter(tags=["machines"])


async def _body(request: Request) -> bytes:
    return await request.body()


Body = Annotated[bytes, Depends(_body)]


@router.post("/mqttingest", summary="Hand in one factory message")
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
    told = {"id": logged.entry.id, "position": logged.position, "duplicate": logged.duplicate}
    return answer(told, status=200 if logged.duplicate else 201)


@router.post("/endpoints/{name}/invocations", summary="SageMaker runtime: InvokeEndpoint")
def invocations(hub: Hub, request: Request, *, name: str, body: Body) -> Response:
    """An array of probabilities in declared order, ``[[p0 … pN, more]]`` of a count; signed."""
    try:
        values, variant = invoke(hub, Invocation(name=name, request=signed_request(request, body)))
    except SignatureRefusedError as error:
        return aws_error(403, error.code, message=error.message)
    except LinesideError as error:
        return aws_error(_aws_status(error), _aws_code(error), message=str(error))
    headers = {"x-Amzn-Invoked-Production-Variant": variant}
    return Response(encode(values), media_type="application/json", headers=headers)


@router.post(
    "/2015-03-31/functions/{name}/invocations", summary="Lambda: Invoke, of a configured function"
)
def invoke_named(hub: Hub, request: Request, *, name: str, body: Body) -> Response:
    """The function's document, its own failures included; the caller signs."""
    call = Invocation(name=name, request=signed_request(request, body))
    kind = request.headers.get("x-amz-invocation-type", "RequestResponse")
    try:
        return _invoked(hub, call, kind=kind)
    except LinesideError as error:
        status, code = _lambda_refusal(error)
        message = error.message if isinstance(error, SignatureRefusedError) else str(error)
        return aws_error(status, code, message=message)


def _invoked(hub: Hub, call: Invocation, *, kind: str) -> Response:
    if kind == "DryRun":
        may_invoke(hub, call)
        return Response(status_code=204)
    if kind != "RequestResponse":
        raise InvalidError(
            f"invocation type {kind!r}", where="X-Amz-Invocation-Type", fix="Use RequestResponse."
        )
    reply = invoke_function(hub, call)
    headers = {"X-Amz-Executed-Version": "$LATEST"}
    if reply.failed:
        headers["X-Amz-Function-Error"] = "Handled"
    return Response(encode(reply.document), media_type="application/json", headers=headers)


def _lambda_refusal(error: LinesideError) -> tuple[int, str]:
    """Status and AWS' name of what stands between a caller and a function."""
    match error:
        case SignatureRefusedError():
            return 403, error.code
        case PayloadError():
            return 400, "InvalidRequestContentException"
        case NotFoundError():
            return 404, "ResourceNotFoundException"
        case InvalidError() | RefusedError():
            return 400, "InvalidParameterValueException"
        case _:
            return error.http_status, "ServiceException"


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
    return JSONResponse(
        {"message": message, "Message": message, "ErrorCode": code},
        status_code=status,
        headers={"x-amzn-ErrorType": code},
    )


def _aws_status(error: LinesideError) -> int:
    if error.http_status in {415, 503}:
        return error.http_status
    return 500 if error.http_status >= 500 else 400


def _aws_code(error: LinesideError) -> str:
    if error.http_status == 503:
        return "ServiceUnavailable"
    return "InternalFailure" if error.http_status >= 500 else "ValidationError"


@router.get("/ping", summary="SageMaker runtime: alive")
def ping() -> Response:
    """An empty 200."""
    return Response(status_code=200)


@router.get("/healthz", summary="The process answers")
def healthz() -> Response:
    """Nothing is looked at."""
    return PlainTextResponse("ok\n")


@router.get("/readyz", summary="The hub can do its work")
def readyz(hub: Hub) -> Response:
    """503 with what is away: the store, the bus, a follower that stopped.

    A sink that is away makes no hub unready, because its records wait in the log; it is listed.
    """
    away, views = hub.away(), hub.followers.views()
    followers = [
        {
            "name": view.name, "state": view.state, "position": view.position, "lag": view.lag,
            "lag_s": view.lag_s, "since": view.since, "quarantined": view.quarantined,
        }
        for view in views
    ]  # fmt: skip
    told = {"ready": not away, "away": away, "followers": followers}
    return answer(told, status=503 if away else 200)


@router.get("/metrics", summary="Figures for Prometheus")
def metrics(hub: Hub) -> Response:
    """Text format 0.0.4."""
    return Response(hub.stats.exposition(), media_type="text/plain; version=0.0.4")
