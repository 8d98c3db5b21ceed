"""What other programs call: message ingest, inference calls, health, figures."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from lineside.core import InvalidError, LinesideError, encode
from lineside.hub.api.wire import Hub, answer
from lineside.hub.problems import WrongTypeError
from lineside.hub.serving import Invocation, invoke
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
    """An array of probabilities in declared order; the caller signs (signature version 4)."""
    signed = SignedRequest(
        method=request.method,
        path=request.scope.get("raw_path", request.url.path.encode()).decode("latin-1"),
        query=request.scope.get("query_string", b"").decode("latin-1"),
        headers={key.lower(): value for key, value in request.headers.items()},
        body=body,
    )
    try:
        values, variant = invoke(hub, Invocation(name=name, request=signed))
    except SignatureRefusedError as error:
        return aws_error(403, error.code, message=error.message)
    except LinesideError as error:
        return aws_error(_aws_status(error), _aws_code(error), message=str(error))
    headers = {"x-Amzn-Invoked-Production-Variant": variant}
    return Response(encode(values), media_type="application/json", headers=headers)


def aws_error(status: int, code: str, *, message: str) -> Response:
    """An error as AWS' JSON protocol writes it."""
    return JSONResponse(
        {"message": message, "Message": message, "ErrorCode": code},
        status_code=status,
        headers={"x-amzn-ErrorType": code},
    )


def _aws_status(error: LinesideError) -> int:
    return 503 if error.http_status == 503 else 500 if error.http_status >= 500 else 400


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


@router.get("/readyz", summary="Store and bus answer")
def readyz(hub: Hub) -> Response:
    """503 with what is away."""
    away = hub.away()
    return answer({"ready": not away, "away": away}, status=503 if away else 200)


@router.get("/metrics", summary="Figures for Prometheus")
def metrics(hub: Hub) -> Response:
    """Text format 0.0.4."""
    return Response(hub.stats.exposition(), media_type="text/plain; version=0.0.4")
