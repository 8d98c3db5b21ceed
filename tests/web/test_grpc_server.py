"""Calls over gRPC that are admitted, or end before their message has come."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from lineside.core import RefusedError
from lineside.testing.links import LONG_S
from lineside.web import grpc_server
from lineside.web.grpc_server import GrpcServer

WHO = (("authorization", "Bearer t"),)


def admit(context: Any, method: str) -> None:  # noqa: ANN401  untyped library
    if not method.startswith("/s/") or WHO[0] not in context.invocation_metadata():
        raise RefusedError("nobody", where="metadata", fix="Say who.")


def answer(request: bytes, _: object) -> bytes:
    if request == b"fail":
        raise grpc.RpcError("of another server, with its address")
    return request


def twice(request: bytes, context: object) -> Iterator[bytes]:
    yield from (answer(request, context), request)


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Iterator[bool]]:
    """Messages of which none comes while the test runs, for a server that waits a moment."""
    monkeypatch.setattr(grpc_server, "_SHORT_MESSAGE_S", 0.2)
    over = threading.Event()
    yield iter(over.wait, True)  # noqa: FBT003  the value that ends it
    over.set()


@pytest.fixture
def channel() -> Iterator[Any]:
    serving = GrpcServer(
        threads=2, waiting=20, codes=((RefusedError, "PERMISSION_DENIED"),), admit=admit
    )
    handlers = {
        "Answer": grpc.unary_unary_rpc_method_handler(answer),
        "Twice": grpc.unary_stream_rpc_method_handler(twice),
    }
    serving.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", handlers),))
    with grpc.insecure_channel(f"127.0.0.1:{serving.start('127.0.0.1:0')}") as channel:
        yield channel
    serving.close()


@pytest.fixture(params=["Answer", "Twice"])
def call(request: pytest.FixtureRequest, channel: Any) -> Callable[..., Any]:  # noqa: ANN401
    """A call that is answered by one message or by several: gives them, or fails."""
    begin = channel.stream_stream(f"/s/{request.param}")
    return lambda messages, metadata=WHO: list(begin(messages, metadata=metadata, timeout=LONG_S))


def refusal(call: Callable[..., Any], messages: Iterator[object], **more: Any) -> tuple[Any, str]:  # noqa: ANN401
    with pytest.raises(grpc.RpcError) as refused:
        call(messages, **more)
    return refused.value.code(), refused.value.details()


def test_each_kind_of_call_is_admitted_before_its_message(call: Callable[..., Any]) -> None:
    assert set(call(iter([b"a"]))) == {b"a"}
    assert refusal(call, iter(()), metadata=())[0] is grpc.StatusCode.PERMISSION_DENIED


def test_a_call_without_a_message_is_none_of_the_protocol(call: Callable[..., Any]) -> None:
    code, sentence = refusal(call, iter(()))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert sentence.endswith("requires exactly one message")


def test_an_error_of_another_server_is_not_handed_on(call: Callable[..., Any]) -> None:
    code, sentence = refusal(call, iter([b"fail"]))
    assert code is grpc.StatusCode.INTERNAL
    assert "address" not in sentence


def test_half_sent_calls_on_every_thread_give_way_to_others(
    nothing: Iterator[bool],
    channel: Any,  # noqa: ANN401  untyped library
) -> None:
    begin = channel.stream_stream("/s/Answer")
    slow = [begin(nothing, metadata=WHO, timeout=LONG_S) for _ in range(2)]
    assert list(begin(iter([b"a"]), metadata=WHO, timeout=LONG_S / 4)) == [b"a"]
    for one in slow:
        one.cancel()


def test_a_call_whose_message_does_not_come_is_cancelled_and_logged(
    *,
    nothing: Iterator[bool],
    call: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grpc_server, "_MESSAGE_S", 0.2)
    assert refusal(call, nothing)[0] is grpc.StatusCode.CANCELLED
    assert "its message is late peer=ipv4:127.0.0.1" in caplog.text
