"""Open Inference Protocol over gRPC: who calls, status codes, the port.

1. Callers name themselves by a token in the metadata, ``authorization: Bearer …``, of kind ``api``;
   looking needs the right to look, running a model the right to operate. Health answers anybody.
2. Without TLS only loopback addresses are listened at.
3. What a call raises becomes a status code with its sentence; anything else is INTERNAL and is
   logged with its trace.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

from lineside.core import (
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    need,
)
from lineside.hub.access.auth import Auth
from lineside.hub.access.permissions import GRANTS, Right, roles_with
from lineside.hub.config import own_places
from lineside.hub.problems import redact
from lineside.web.security import BusyError, UnauthenticatedError

if TYPE_CHECKING:
    from lineside.hub.access.tls import ServerFiles
    from lineside.hub.services import Services

logger = logging.getLogger(__name__)

MOST_MESSAGE_BYTES = 64_000_000
_AT_ONCE = 8
_WAITING = 64
_GRACE_S = 2.0
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


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
        grpc = need("grpc", extra="edge")
        host = _host(address, secure=files is not None)
        from lineside.fleet import wire

        self._threads = ThreadPoolExecutor(_AT_ONCE, "inference")
        self._server = grpc.server(
            self._threads,
            interceptors=(_sentences(grpc, own=own_places(services.config)),),
            maximum_concurrent_rpcs=_WAITING,
            options=(
                ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MOST_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
            ),
        )
        service = wire.InferenceService(
            services.inference, admit=admitting(services.auth), away=services.away
        )
        wire.open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
            service, self._server
        )
        try:
            port = self._bind(grpc, address, files=files)
        except RuntimeError as error:
            self._threads.shutdown()
            raise UnavailableError(
                f"cannot listen: {error}", where=address, fix="Choose a free port."
            ) from error
        self.address = f"{host}:{port}"
        self._server.start()
        logger.info("inference serves address=%s tls=%s", self.address, files is not None)

    def close(self) -> None:
        """Let calls under way end, then leave."""
        self._server.stop(_GRACE_S).wait()
        self._threads.shutdown()

    def _bind(self, grpc: Any, address: str, *, files: "ServerFiles | None") -> int:  # noqa: ANN401
        if files is None:
            return int(self._server.add_insecure_port(address))
        pair = (files.key.read_bytes(), files.certificate.read_bytes())
        return int(self._server.add_secure_port(address, grpc.ssl_server_credentials([pair])))


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


def admitting(auth: Auth) -> Callable[[Any, Literal["look", "run"]], None]:
    """Refuses who may not, by the token in a call's metadata."""

    def admit(context: Any, does: Literal["look", "run"]) -> None:  # noqa: ANN401  untyped library
        told = dict(context.invocation_metadata())
        kind, _, token = str(told.get("authorization", "")).partition(" ")
        if kind.lower() != "bearer" or not token:
            raise UnauthenticatedError(
                "who calls is not said",
                where="metadata",
                fix='Send "authorization: Bearer TOKEN"; make one with lineside token issue.',
            )
        identity = auth.identify(token.strip())
        needed = Right.OPERATE if does == "run" else Right.LOOK
        if identity.role is None or needed not in GRANTS[identity.role]:
            raise RefusedError(
                f"{identity.name} may not do this, it needs the right to {needed}",
                where="metadata",
                fix=f"Use a token of kind api of one of {', '.join(roles_with(needed))}.",
            )

    return admit


def _sentences(grpc: Any, *, own: str) -> Any:  # noqa: ANN401  untyped library
    """An interceptor: what a call raises, as status code and sentence."""
    codes = (
        (UnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED),
        (InvalidError, grpc.StatusCode.INVALID_ARGUMENT),
        (NotFoundError, grpc.StatusCode.NOT_FOUND),
        (RefusedError, grpc.StatusCode.PERMISSION_DENIED),
        (BusyError, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    )

    def abort(context: Any, error: Exception) -> None:  # noqa: ANN401  untyped library
        for kind, code in codes:
            if isinstance(error, kind):
                context.abort(code, str(redact(error, path="inference_grpc", own=own)))
        logger.error("inference call failed", exc_info=error)
        context.abort(grpc.StatusCode.INTERNAL, "something failed that nobody foresaw")

    def answered(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def answer(request: Any, context: Any) -> Any:  # noqa: ANN401  untyped library
            try:
                return method(request, context)
            except LinesideError as error:
                abort(context, error)
            except Exception as error:  # noqa: BLE001  # boundary: one call must not end the server
                abort(context, error)

        return answer

    class Sentences(grpc.ServerInterceptor):  # type: ignore[misc]  # the library has no types
        def intercept_service(self, continuation: Any, details: Any) -> Any:  # noqa: ANN401
            handler = continuation(details)
            if handler is None:
                return None
            return grpc.unary_unary_rpc_method_handler(
                answered(handler.unary_unary),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )

    return Sentences()
