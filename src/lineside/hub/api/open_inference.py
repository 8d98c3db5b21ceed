"""Open Inference Protocol, version 2, over HTTP: every approved package."""

from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response

from lineside.hub.api.wire import Hub, raw_body
from lineside.hub.problems import BusyError
from lineside.models import (
    HttpAnswer,
    http_failure,
    http_infer,
    http_live,
    http_model,
    http_model_ready,
    http_server,
    http_server_ready,
)

router = APIRouter(prefix="/v2", tags=["inference"])


def _sent(answer: HttpAnswer) -> Response:
    return Response(
        answer.body, status_code=answer.status, media_type=answer.content_type,
        headers=dict(answer.headers),
    )  # fmt: skip


@router.get("/health/live", summary="The server answers")
def live() -> Response:
    """Nothing is looked at."""
    return _sent(http_live())


@router.get("/health/ready", summary="The server can do its work")
def ready(hub: Hub) -> Response:
    """503 with what is away."""
    return _sent(http_server_ready(away=hub.away()))


@router.get("", summary="Server metadata")
def server(hub: Hub) -> Response:
    """Name, version, extensions, and the names of the models."""
    return _sent(http_server(hub.inference))


@router.get("/models/{model}", summary="Model metadata")
def model(hub: Hub, model: str) -> Response:
    """Inputs and outputs of the newest approved version."""
    return _sent(http_model(hub.inference, model))


@router.get("/models/{model}/versions/{version}", summary="Metadata of a version")
def model_version(hub: Hub, model: str, *, version: str) -> Response:
    """Inputs and outputs of that version."""
    return _sent(http_model(hub.inference, model, version=version))


@router.get("/models/{model}/ready", summary="A model answers")
def model_ready(hub: Hub, model: str) -> Response:
    """404 where there is none."""
    return _sent(http_model_ready(hub.inference, model))


@router.get("/models/{model}/versions/{version}/ready", summary="A version answers")
def version_ready(hub: Hub, model: str, *, version: str) -> Response:
    """404 where there is none."""
    return _sent(http_model_ready(hub.inference, model, version=version))


@router.post("/models/{model}/infer", summary="Infer", openapi_extra=raw_body("application/json"))
async def infer(hub: Hub, request: Request, *, model: str) -> Response:
    """Pictures to decisions, or the network's own tensors to its outputs."""
    return await _inferred(hub, request, model=model)


@router.post(
    "/models/{model}/versions/{version}/infer",
    summary="Infer by a version",
    openapi_extra=raw_body("application/json"),
)
async def infer_version(hub: Hub, request: Request, *, model: str, version: str) -> Response:
    """As above, by one approved version."""
    return await _inferred(hub, request, model=model, version=version)


async def _inferred(hub: Hub, request: Request, *, model: str, version: str = "") -> Response:
    body = await request.body()
    headers = {name.lower(): value for name, value in request.headers.items()}
    work = partial(http_infer, hub.inference, model, body=body, headers=headers, version=version)
    try:
        return _sent(await hub.queue.run(f"model {model}", work))
    except BusyError as error:
        return _sent(http_failure(error))
