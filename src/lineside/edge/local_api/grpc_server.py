"""The device's gRPC services on a Unix socket.

1. Only ``unix:`` addresses: the channel is not encrypted and asks for no name, so who may speak is
   a matter of who may open the socket (mode 0660).
2. What a service raises becomes a status code with its sentence; anything else is INTERNAL and is
   logged with its trace.
3. Beyond 32 calls under way further ones are RESOURCE_EXHAUSTED, as is a message above 64 MB.
4. A socket that somebody answers on is not taken from them; one that was left behind is.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc

from lineside.core import (
    ConflictError,
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from lineside.edge.local_api.grpc_edge import MOST_WATCHERS
from lineside.edge.packages import FullError
from lineside.fleet import wire

logger = logging.getLogger(__name__)

MOST_MESSAGE_BYTES = 64_000_000
_AT_ONCE = 4
_WAITING = 32
_GRACE_S = 2.0
_MODE = 0o660
_KNOCK_S = 0.5

_CODES: tuple[tuple[type[LinesideError], grpc.StatusCode], ...] = (
    (FullError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (wire.FutureError, grpc.StatusCode.OUT_OF_RANGE),
    (InvalidError, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (ConflictError, grpc.StatusCode.ALREADY_EXISTS),
    (RefusedError, grpc.StatusCode.FAILED_PRECONDITION),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
)


def code_of(error: LinesideError) -> grpc.StatusCode:
    """The status code that says what a client can do about an error."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return grpc.StatusCode.INTERNAL


class GrpcServer:
    """Serves until it is closed."""

    def __init__(
        self,
        address: str,
        *,
        agent: Any,  # noqa: ANN401  generated types
        edge: Any,  # noqa: ANN401  likewise
        inference: wire.InferenceService | None = None,
    ) -> None:
        """Bind the socket and begin to answer.

        Args:
            address: ``unix:///path`` or ``unix:path``.
            agent: of ``AWS.SageMaker.Edge``.
            edge: of ``lineside.edge.v1``.
            inference: of the Open Inference Protocol.

        Raises:
            InvalidError: no address of a socket.
            ConflictError: another program answers there.
            UnavailableError: the socket cannot be made.
        """
        self._path = socket_path(address)
        _check_free(self._path)
        self._threads = ThreadPoolExecutor(_AT_ONCE + MOST_WATCHERS, "grpc")
        self._server = grpc.server(
            self._threads,
            interceptors=(_Sentences(),),
            maximum_concurrent_rpcs=_WAITING,
            options=(
                ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MOST_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
            ),
        )
        wire.agent_pb2_grpc.add_AgentServicer_to_server(agent, self._server)
        wire.lineside_edge_v1_pb2_grpc.add_EdgeServicer_to_server(edge, self._server)
        if inference is not None:
            wire.open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
                inference, self._server
            )
        try:
            self._server.add_insecure_port(f"unix:{self._path}")
            self._path.chmod(_MODE)
        except (RuntimeError, OSError) as error:
            self._threads.shutdown()
            raise UnavailableError(
                f"the socket cannot be made: {error}",
                where=str(self._path),
                fix="Name a path in a folder that can be written.",
            ) from error
        self._server.start()
        logger.info("grpc serves address=unix:%s", self._path)

    def close(self) -> None:
        """Let calls under way end, then leave; the socket goes."""
        self._server.stop(_GRACE_S).wait()
        self._threads.shutdown()
        with suppress(OSError):
            self._path.unlink()


def socket_path(address: str) -> Path:
    """The absolute path of ``unix:///path`` or ``unix:path``; ``InvalidError`` for others."""
    rest = address.removeprefix("unix:")
    path = Path(rest.removeprefix("//")).absolute()
    longest = 107  # sun_path of sockaddr_un, less its NUL
    if rest == address or not rest.strip("/") or len(os.fsencode(path)) > longest:
        raise InvalidError(
            f"{address[:120]!r} is no socket",
            where="grpc",
            fix=f'Write grpc = "unix:///run/lineside/agent", at most {longest} bytes of path.',
        )
    return path


def _check_free(path: Path) -> None:
    """Refuse a socket that somebody answers on, and a path that is something else."""
    if not path.exists():
        return
    if not path.is_socket():
        raise ConflictError("something else is there", where=str(path), fix="Name another path.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.settimeout(_KNOCK_S)
        try:
            knock.connect(str(path))
        except OSError:
            return  # left behind; binding replaces it
    raise ConflictError(
        "another program answers there", where=str(path), fix="Stop it, or name another path."
    )


class _Sentences(grpc.ServerInterceptor):  # type: ignore[misc]  # the library has no types
    """Interceptor: errors of a service as status code and sentence."""

    def intercept_service(
        self,
        continuation: Callable[[Any], Any],
        handler_call_details: Any,  # noqa: ANN401  untyped library
    ) -> Any:  # noqa: ANN401  likewise
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                _streamed(handler.unary_stream),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            _answered(handler.unary_unary),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


_Method = Callable[[Any, Any], Any]


def _answered(method: _Method) -> _Method:
    def answer(request: Any, context: Any) -> Any:  # noqa: ANN401  untyped library
        try:
            return method(request, context)
        except Exception as error:  # noqa: BLE001  # boundary: one call must not end the server
            _abort(context, error)

    return answer


def _streamed(method: _Method) -> _Method:
    def stream(request: Any, context: Any) -> Iterator[Any]:  # noqa: ANN401  untyped library
        try:
            yield from method(request, context)
        except Exception as error:  # noqa: BLE001  # boundary: likewise
            _abort(context, error)

    return stream


def _abort(context: Any, error: Exception) -> None:  # noqa: ANN401  untyped library
    if isinstance(error, LinesideError):
        context.abort(code_of(error), str(error))
    logger.error("grpc call failed", exc_info=error)
    context.abort(grpc.StatusCode.INTERNAL, f"bug: {type(error).__name__}")
