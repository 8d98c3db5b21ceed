"""Open Inference Protocol, version 2, over HTTP and gRPC: every approved package.

Over gRPC:

1. Callers name themselves by a token in the metadata, ``authorization: Bearer …``, of kind ``api``;
   looking needs the right to look, running a model the right to operate. Health answers anybody.
2. Without TLS only loopback addresses are listened at.
3. Eight calls of admitted callers are read at once, so that a few slow clients hold up no others,
   and a message that takes more than a minute is cancelled; as many run a model as over HTTP, one
   for each core.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from fastapi import APIRouter, Request
from fastapi.responses import Response

from lineside.compat.open_inference.http import (
    HttpAnswer,
    http_failure,
    http_infer,
    http_live,
    http_model,
    http_model_ready,
    http_server,
    http_server_ready,
)
from lineside.compat.open_inference.models import ModelMeta
from lineside.core import InvalidError, NotFoundError, RefusedError, UnavailableError, need
from lineside.hub.access.auth import Auth
from lineside.hub.access.permissions import GRANTS, Right, roles_with
from lineside.hub.api.wire import Hub, raw_body, responds
from lineside.hub.config import own_places
from lineside.hub.inference.endpoints import AT_ONCE
from lineside.hub.problems import redact
from lineside.web.security import BusyError, UnauthenticatedError

if TYPE_CHECKING:
    from lineside.hub.access.tls import ServerFiles
    from lineside.hub.services import Services

logger = logging.getLogger(__name__)

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


_THREADS = 8
_WAITING = 64
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_CODES = (
    (UnauthenticatedError, "UNAUTHENTICATED"),
    (InvalidError, "INVALID_ARGUMENT"),
    (NotFoundError, "NOT_FOUND"),
    (RefusedError, "PERMISSION_DENIED"),
    (UnavailableError, "UNAVAILABLE"),
)


class InferenceServer:
    """Serves until it is closed."""

    def __init__(self, address: str, *, services: "Services", files: "ServerFiles | None") -> None:
        """Bind and begin to answer.

        Args:
            address: host:port; port 0 takes a free one.
            services: of the hub.
            files: certificate and key; None without TLS.

        Raises:
            InvalidError: no address, or one beyond this machine without TLS.
            UnavailableError: it cannot be listened at.
            MissingExtraError: grpcio is not installed.
        """
        need("grpc", extra="edge")
        host = _host(address, secure=files is not None)
        from lineside.compat.open_inference import open_inference_pb2_grpc
        from lineside.compat.open_inference.grpc import InferenceService
        from lineside.web.grpc_server import GrpcServer

        own = own_places(services.config)
        self._serving = GrpcServer(
            threads=_THREADS,
            waiting=_WAITING,
            codes=_CODES,
            sentence=lambda error: str(redact(error, path="inference_grpc", own=own)),
            admit=admitting(services.auth),
        )
        service = InferenceService(
            services.inference,
            away=services.away,
            limiter=threading.BoundedSemaphore(AT_ONCE),
        )
        open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
            service, self._serving.server
        )
        key = None if files is None else (files.key.read_bytes(), files.certificate.read_bytes())
        self.address = f"{host}:{self._serving.start(address, key=key)}"
        logger.info("inference serves address=%s tls=%s", self.address, files is not None)

    def close(self) -> None:
        """Let calls under way end, then leave."""
        self._serving.close()


def _host(address: str, *, secure: bool) -> str:
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdigit() and int(port) <= 65535):
        raise InvalidError(
            f"{address!r} is no address",
            where="inference_grpc",
            fix='Write inference_grpc = "127.0.0.1:8001".',
        )
    if not secure and host not in _LOOPBACK:
        raise InvalidError(
            f"{host} can be reached from elsewhere, and tokens would cross the network unencrypted",
            where="inference_grpc",
            fix='Add tls = "site", or listen at 127.0.0.1.',
        )
    return host


def admitting(auth: Auth) -> Callable[[Any, str], None]:
    """Refuses who may not, by the token in a call's metadata."""

    def admit(context: Any, method: str) -> None:  # noqa: ANN401  untyped library
        told = dict(context.invocation_metadata()).get("authorization", "")
        kind, _, token = str(told).partition(" ")
        if kind.lower() != "bearer" or not token:
            raise UnauthenticatedError(
                "who calls is not said",
                where="metadata",
                fix='Send "authorization: Bearer TOKEN"; make one with lineside token issue.',
            )
        identity = auth.identify(token.strip())
        needed = (
            Right.LOOK
            if method.endswith(("/ServerMetadata", "/ModelReady", "/ModelMetadata"))
            else Right.OPERATE
        )
        if identity.role is None or needed not in GRANTS[identity.role]:
            raise RefusedError(
                f"{identity.name} may not do this, it needs the right to {needed}",
                where="metadata",
                fix=f"Use a token of kind api of one of {', '.join(roles_with(needed))}.",
            )

    return admit
