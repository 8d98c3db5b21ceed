"""A gRPC server with bounds, whose errors are status codes with a sentence.

1. What a call raises becomes the status code of its kind, with its sentence; any other kind is
   INTERNAL. What is INTERNAL is logged with its trace.
2. A message above 64 MB, and a call beyond those that may wait, is RESOURCE_EXHAUSTED.
3. A call is admitted before its message is read: who may not call holds up nobody.
4. A call has a thread from then on, so a client that stops in the middle of its message keeps one,
   until the call is cancelled after ``_MESSAGE_S``, or after ``_SHORT_MESSAGE_S`` while such calls
   have every thread. Health has threads of its own and reads no message, so that it waits for no
   other call and for no client.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from lineside.core import LinesideError, SystemClock, UnavailableError
from lineside.core.worker import Worker

logger = logging.getLogger(__name__)

MOST_MESSAGE_BYTES = 64_000_000
_GRACE_S = 2.0
_MESSAGE_S = 60.0
_SHORT_MESSAGE_S = 10.0
_HEALTH = ("ServerLive", "ServerReady")

Codes = Sequence[tuple[type[LinesideError], str]]
"""Status codes by name of kinds of errors; the first kind that fits counts."""

Admit = Callable[[Any, str], None]
"""Refuses a caller: is given the call's context (``grpc.ServicerContext``) and the method."""


def admit_all(context: object, method: str) -> None:
    """Access where the socket itself admits callers."""


def code_of(error: LinesideError, codes: Codes) -> str:
    """The name of the status code that says what a client can do about an error."""
    return next((code for kind, code in codes if isinstance(error, kind)), "INTERNAL")


class GrpcServer:
    """A server that answers from ``start`` until it is closed."""

    def __init__(
        self,
        *,
        threads: int,
        waiting: int,
        codes: Codes,
        sentence: Callable[[LinesideError], str] = str,
        admit: Admit = admit_all,
    ) -> None:
        """Make it; nothing is bound yet.

        Args:
            threads: calls that are read or answered at once, besides health.
            waiting: calls under way, those that are answered included.
            codes: of the errors that calls raise.
            sentence: what a caller reads of an error.
            admit: asked before every call but those of the server's health.
        """
        self._threads = ThreadPoolExecutor(threads, "grpc")
        self._health = ThreadPoolExecutor(threads, "grpc-health")
        calls = _Calls(codes, sentence, admit=admit, health=self._health, threads=threads)
        self._slow = Worker("grpc-slow", calls.cancel_slow)
        self.server = grpc.server(
            self._threads,
            interceptors=(calls,),
            maximum_concurrent_rpcs=waiting,
            options=(
                ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MOST_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
            ),
        )

    def start(self, address: str, *, key: tuple[bytes, bytes] | None = None, mode: int = 0) -> int:
        """Bind and begin to answer.

        Args:
            address: ``host:port``, where port 0 takes a free one, or ``unix:path``.
            key: private key and certificate, PEM; None without TLS.
            mode: permissions of the socket of ``unix:path``; 0 leaves them.

        Returns:
            The port.

        Raises:
            UnavailableError: it cannot be listened at.
        """
        try:
            if key is None:
                port = int(self.server.add_insecure_port(address))
            else:
                credentials = grpc.ssl_server_credentials([key])
                port = int(self.server.add_secure_port(address, credentials))
            if mode:
                Path(address.removeprefix("unix:")).chmod(mode)
        except (RuntimeError, OSError) as error:
            self._threads.shutdown()
            raise UnavailableError(
                f"cannot listen: {error}",
                where=address,
                fix="Choose a free port, or a path in a folder that can be written.",
            ) from error
        self.server.start()
        self._slow.start()
        return port

    def close(self) -> None:
        """Let calls under way end, then leave."""
        self.server.stop(_GRACE_S).wait()
        self._slow.stop()
        self._threads.shutdown()
        self._health.shutdown()


class _Calls(grpc.ServerInterceptor):  # type: ignore[misc]  # the library has no types
    """Interceptor: who may call, how long a message may take, and errors as code and sentence."""

    def __init__(
        self,
        codes: Codes,
        sentence: Callable[[LinesideError], str],
        *,
        admit: Admit,
        health: ThreadPoolExecutor,
        threads: int,
    ) -> None:
        self._codes = codes
        self._sentence = sentence
        self._admit = admit
        self._health = health
        self._most_reading = threads
        self._clock = SystemClock()
        self._read_since_s: dict[Any, float] = {}

    def cancel_slow(self) -> float:
        """Cancel calls whose message takes too long; return the seconds until the next look."""
        reading = list(self._read_since_s.items())
        most_s = _MESSAGE_S if len(reading) < self._most_reading else _SHORT_MESSAGE_S
        late_s = self._clock.monotonic() - most_s
        for context, since_s in reading:
            if since_s <= late_s:
                logger.warning("grpc cancels a call, its message is late peer=%s", context.peer())
                context.cancel()
        return _SHORT_MESSAGE_S / 4

    def intercept_service(
        self,
        continuation: Callable[[Any], Any],
        handler_call_details: Any,  # noqa: ANN401  untyped library
    ) -> Any:  # noqa: ANN401  likewise
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        coded = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        called = handler_call_details.method
        # One message is a stream of one; of a stream the handler is called before it is read.
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._streamed(handler.unary_stream, called=called), **coded
            )
        answer = self._answered(handler.unary_unary, called=called)
        if called.endswith(_HEALTH):
            answer.experimental_thread_pool = self._health  # type: ignore[attr-defined]
        return grpc.stream_unary_rpc_method_handler(answer, **coded)

    def _answered(
        self, method: Callable[[Any, Any], Any], *, called: str
    ) -> Callable[[Iterator[Any], Any], Any]:
        def answer(requests: Iterator[Any], context: Any) -> Any:  # noqa: ANN401  untyped library
            request = self._request(requests, context, called=called)
            try:
                return method(request, context)
            except Exception as error:  # noqa: BLE001  # boundary: one call must not end the server
                self._abort(context, error)

        return answer

    def _streamed(
        self, method: Callable[[Any, Any], Any], *, called: str
    ) -> Callable[[Iterator[Any], Any], Iterator[Any]]:
        def stream(requests: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: ANN401  likewise
            request = self._request(requests, context, called=called)
            try:
                yield from method(request, context)
            except Exception as error:  # noqa: BLE001  # boundary: likewise
                self._abort(context, error)

        return stream

    def _request(self, requests: Iterator[Any], context: Any, *, called: str) -> Any:  # noqa: ANN401
        """The message of an admitted caller; None of health, whose message says nothing."""
        if called.endswith(_HEALTH):
            return None
        try:
            self._admit(context, called)
        except Exception as error:  # noqa: BLE001  # boundary: likewise
            self._abort(context, error)
        self._read_since_s[context] = self._clock.monotonic()
        try:
            return next(requests)  # grpc.RpcError where the client went, or was too slow
        except StopIteration:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{called} requires exactly one message")
        finally:
            del self._read_since_s[context]

    def _abort(self, context: Any, error: Exception) -> None:  # noqa: ANN401  untyped library
        code, sentence = "INTERNAL", "something failed that nobody foresaw"
        if isinstance(error, LinesideError):
            code, sentence = code_of(error, self._codes), self._sentence(error)
        if code == "INTERNAL":
            logger.error("grpc call failed", exc_info=error)
        context.abort(grpc.StatusCode[code], sentence)
