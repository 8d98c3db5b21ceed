"""Connections of the web servers: bounded in number and in time, without a flood of log."""

import logging
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvicorn

from lineside.web.connections import ConnectionFigures, ConnectionLimits, _Connection, limited_http

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def count_bytes(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer with the length of the body."""
    assert scope["type"] == "http"
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    body = str(size).encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", str(len(body)).encode())]})  # fmt: skip
    await send({"type": "http.response.body", "body": body})


@contextmanager
def serving(limits: ConnectionLimits) -> Iterator[tuple[int, ConnectionFigures]]:
    figures = ConnectionFigures()
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            count_bytes,
            http=limited_http(limits, figures),
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=1,
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="web")
    thread.start()
    try:
        yield listener.getsockname()[1], figures
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def connected(port: int) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port))
    link.settimeout(10)
    return link


def is_closed(link: socket.socket) -> bool:
    try:
        return link.recv(1) == b""
    except ConnectionResetError:
        return True


def answered(link: socket.socket) -> bytes:
    """Return the body of one answer."""
    answer = b""
    while b"\r\n\r\n" not in answer or answer.endswith(b"\r\n\r\n"):
        answer += link.recv(1000)
    return answer.partition(b"\r\n\r\n")[2]


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def head(length: int) -> bytes:
    return f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


def test_a_connection_that_says_nothing_or_half_a_head_is_closed() -> None:
    with serving(ConnectionLimits(head_s=0.3)) as (port, figures):
        for start in (b"", b"GET / HTTP/1.1\r\nHo"):
            with connected(port) as link:
                link.sendall(start)
                assert is_closed(link)
        assert figures.too_slow == 2


def test_the_head_of_a_second_request_has_the_same_time() -> None:
    with serving(ConnectionLimits(head_s=0.3)) as (port, figures), connected(port) as link:
        link.sendall(GET)
        assert answered(link) == b"0"
        link.sendall(b"GET / HT")
        assert is_closed(link)
        assert figures.too_slow == 1


def test_a_body_that_stops_is_closed_and_one_that_goes_on_is_taken() -> None:
    with serving(ConnectionLimits(body_s=0.5)) as (port, figures):
        with connected(port) as link:
            link.sendall(head(100) + b"half")
            assert is_closed(link)
        assert figures.too_slow == 1
        pause = threading.Event()
        with connected(port) as link:
            link.sendall(head(8 * 20_000))
            for _ in range(8):
                link.sendall(bytes(20_000))
                pause.wait(0.2)
            assert answered(link) == b"160000"
        assert figures.too_slow == 1


def test_connections_beyond_the_limit_are_closed_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "lineside.web")
    limits = ConnectionLimits(most=10)
    with serving(limits) as (port, figures), ExitStack() as stack:
        kept = [stack.enter_context(connected(port)) for _ in range(10)]
        for link in kept:
            link.sendall(GET)
            assert answered(link) == b"0"
        for _ in range(30):
            with connected(port) as link:
                assert is_closed(link)
        assert figures.refused == 30
        for link in kept:
            link.close()
        with connected(port) as link:
            link.sendall(GET)
            assert answered(link) == b"0"
    assert len(caplog.messages) == 1


class FakeTransport:
    def __init__(self, address: str) -> None:
        self.address = address
        self.aborted = False

    def get_extra_info(self, name: str) -> object:
        return (self.address, 4711) if name in {"peername", "sockname"} else None

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize(("address", "taken"), [("10.0.0.7", 3), ("127.0.0.1", 5), ("::1", 5)])
def test_one_address_has_its_share_and_the_machine_itself_no_limit(
    address: str, taken: int
) -> None:
    import asyncio

    from uvicorn.server import ServerState

    async def connect() -> list[FakeTransport]:
        kind = limited_http(ConnectionLimits(most_per_address=3), ConnectionFigures())
        config = uvicorn.Config(count_bytes, http=kind, log_config=None)
        config.load()
        state = ServerState()
        transports = [FakeTransport(address) for _ in range(5)]
        for transport in transports:
            made = kind(config=config, server_state=state, app_state={})  # type: ignore[call-arg]  # uvicorn's own call
            assert isinstance(made, _Connection)
            made.connection_made(transport)  # type: ignore[arg-type]  # what it uses of one
            made._wait_for("")
        return transports

    transports = asyncio.run(connect())
    assert sum(not transport.aborted for transport in transports) == taken


def test_a_process_that_may_open_few_files_takes_fewer_connections() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)); "
        "from lineside.web.connections import ConnectionLimits; "
        "print(ConnectionLimits(most=2000).within_descriptors())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert int(done.stdout) == 64
    assert ConnectionLimits(most=20).within_descriptors() == 20
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 80
