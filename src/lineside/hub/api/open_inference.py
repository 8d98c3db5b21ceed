"""Open Inference Protocol, version 2, over HTTP: every approved package."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NotRequired, TypedDict

from fastapi import APIRouter, Request
from fastapi.responses import Response

from lineside.hub.api.wire import Hub, raw_body, responds
from lineside.models.serving.open_inference import (
    HttpAnswer,
    ModelMeta,
    http_failure,
    http_infer,
    http_live,
    http_model,
    http_model_ready,
    http_server,
    http_server_ready,
)
from lineside.web.security import BusyError

router = APIRouter(prefix="/v2", tags=["inference"])


class Live(TypedDict):
    """The server answers."""

    live: bool


class Ready(TypedDict):
    """Readiness of the server."""

    ready: bool
    error: NotRequired[str]


class Server(TypedDict):
    """Metadata of the server, and the names of its models."""

    name: str
    version: str
    extensions: Sequence[str]
    models: Sequence[str]


class ModelReady(TypedDict):
    """Readiness of a model."""

    name: str
    ready: bool
    error: NotRequired[str]


class InferAnswer(TypedDict):
    """Outputs of a call; with the binary extension their bytes follow the JSON."""

    model_name: str
    model_version: NotRequired[str]
    id: NotRequired[str]
    parameters: NotRequired[dict[str, Any]]
    outputs: list[dict[str, Any]]


def _sent(answer: HttpAnswer) -> Response:
    return Response(
        answer.body, status_code=answer.status, media_type=answer.content_type,
        headers=dict(answer.headers),
    )  # fmt: skip


@router.get("/health/live", summary="The server answers")
@responds(Live)
def live() -> Response:
    """Nothing is looked at."""
    return _sent(http_live())


@router.get("/health/ready", summary="The server can do its work")
@responds(Ready)
@responds(Ready, status=503)
async def ready(hub: Hub) -> Response:
    """503 with what is away; nothing is waited for."""
    return _sent(http_server_ready(away=hub.away()))


@router.get("", summary="Server metadata")
@responds(Server)
def server(hub: Hub) -> Response:
    """Name, version, extensions, and the names of the models."""
    return _sent(http_server(hub.inference))


@router.get("/models/{model}", summary="Model metadata")
@responds(ModelMeta)
def model(hub: Hub, model: str) -> Response:
    """Inputs and outputs of the newest approved version."""
    return _sent(http_model(hub.inference, model))


@router.get("/models/{model}/versions/{version}", summary="Metadata of a version")
@responds(ModelMeta)
def model_version(hub: Hub, model: str, *, version: str) -> Response:
    """Inputs and outputs of that version."""
    return _sent(http_model(hub.inference, model, version=version))


@router.get("/models/{model}/ready", summary="A model answers")
@responds(ModelReady)
@responds(ModelReady, status=503)
def model_ready(hub: Hub, model: str) -> Response:
    """404 where there is none."""
    return _sent(http_model_ready(hub.inference, model))


@router.get("/models/{model}/versions/{version}/ready", summary="A version answers")
@responds(ModelReady)
@responds(ModelReady, status=503)
def version_ready(hub: Hub, model: str, *, version: str) -> Response:
    """404 where there is none."""
    return _sent(http_model_ready(hub.inference, model, version=version))


@router.post("/models/{model}/infer", summary="Infer", openapi_extra=raw_body("application/json"))
@responds(InferAnswer)
@responds(bytes, "application/octet-stream")
async def infer(hub: Hub, request: Request, *, model: str) -> Response:
    """Pictures to decisions, or the network's own tensors to its outputs."""
    return await _inferred(hub, request, model=model)


@router.post(
    "/models/{model}/versions/{version}/infer",
    summary="Infer by a version",
    openapi_extra=raw_body("application/json"),
)
@responds(InferAnswer)
@responds(bytes, "application/octet-stream")
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
