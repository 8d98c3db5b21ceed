"""Connections of the web servers: bounded in number and in time, without a flood of log."""

import asyncio
import logging
import resource
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from lineside.core import SystemClock
from lineside.fleet import CertificateAuthority
from lineside.testing.links import LONG_S
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
def serving(
    limits: ConnectionLimits, *, tls: Path | None = None, idle_s: int = int(LONG_S)
) -> Iterator[tuple[int, ConnectionFigures]]:
    """A server's port and its figures; ``idle_s``: an idle connection is closed after so long."""
    figures = ConnectionFigures()
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            count_bytes,
            http=limited_http(limits, figures),
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=20,  # what waits for close_notify takes 30 s
            timeout_keep_alive=idle_s,
            ssl_certfile=tls and tls / "crt",
            ssl_keyfile=tls and str(tls / "key"),
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
    link.settimeout(LONG_S)
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


def test_a_body_that_stops_is_closed() -> None:
    limits = ConnectionLimits(head_s=LONG_S, body_s=0.5)
    with serving(limits) as (port, figures), connected(port) as link:
        link.sendall(head(100) + b"half")
        assert is_closed(link)
        assert figures.too_slow == 1


class FakeTransport:
    def __init__(self, address: str = "10.0.0.7") -> None:
        self.address = address
        self.aborted = False
        self.written = b""

    def get_extra_info(self, name: str) -> object:
        return (self.address, 4711) if name in {"peername", "sockname"} else None

    def get_protocol(self) -> object:
        return self.protocol

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        """Nothing comes that the test does not hand over."""

    def resume_reading(self) -> None:
        """The same."""

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        assert not self.aborted, "asyncio's transport of TLS answers nothing after a second close"
        self.abort()

    protocol: object = None


class Client:
    """One client of a server whose time the test moves; made on its event loop."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.figures = ConnectionFigures()
        self.transport = FakeTransport()
        self._loop = asyncio.get_running_loop()
        self._began_s, self._passed_s = self._loop.time(), 0.0
        self._loop.time = lambda: self._began_s + self._passed_s  # type: ignore[method-assign]
        config = uvicorn.Config(
            count_bytes, http=limited_http(limits, self.figures), lifespan="off", log_config=None
        )
        config.load()
        kind: Any = config.http_protocol_class
        self._connection = kind(config=config, server_state=ServerState(), app_state={})
        self.transport.protocol = self._connection
        self._connection.connection_made(self.transport)

    async def send(self, data: bytes) -> None:
        self._connection.data_received(data)
        await self.wait(0.0)

    def stop(self) -> None:
        """The server's stop, as it goes through all connections."""
        self._connection.shutdown()

    async def wait(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due then."""
        self._passed_s += seconds
        for _ in range(20):
            await asyncio.sleep(0)


def test_the_head_of_a_second_request_has_the_same_time() -> None:
    async def ask_twice() -> None:
        client = Client(ConnectionLimits(head_s=3.0))
        await client.wait(2.9)
        await client.send(GET)
        assert client.transport.written.endswith(b"\r\n\r\n0")
        await client.wait(4.0)  # idle
        await client.send(b"GET / HT")
        await client.wait(2.9)
        assert not client.transport.aborted
        await client.wait(0.2)
        assert (client.transport.aborted, client.figures.too_slow) == (True, 1)

    asyncio.run(ask_twice())


def test_a_connection_that_was_idle_for_too_long_is_not_closed_again_at_a_stop() -> None:
    async def stop() -> None:
        client = Client(ConnectionLimits())
        await client.send(GET)
        await client.wait(5.1)
        assert client.transport.is_closing()
        client.stop()

    asyncio.run(stop())


def test_a_body_that_goes_on_is_taken_and_one_that_trickles_is_closed() -> None:
    async def upload() -> None:
        client = Client(ConnectionLimits(body_s=5.0))
        await client.send(head(8 * 20_000))
        for _ in range(8):
            await client.wait(2.0)
            await client.send(bytes(20_000))
        assert client.transport.written.endswith(b"160000")
        await client.send(head(100_000))
        for _ in range(2):
            await client.send(bytes(1000))
            await client.wait(2.6)
        assert (client.transport.aborted, client.figures.too_slow) == (True, 1)

    asyncio.run(upload())


def test_connections_beyond_the_limit_are_closed_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "lineside.web")
    limits = ConnectionLimits(most=10, head_s=LONG_S)
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


@pytest.mark.parametrize(("address", "taken"), [("10.0.0.7", 3), ("127.0.0.1", 5), ("::1", 5)])
def test_one_address_has_its_share_and_the_machine_itself_no_limit(
    address: str, taken: int
) -> None:
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


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    """A folder with ``ca``, ``crt`` and ``key`` of a server at 127.0.0.1."""
    authority = CertificateAuthority.create(tmp_path / "site", site="hall", clock=SystemClock())
    pair = authority.issue_server(("127.0.0.1",))
    files = {"ca": authority.certificate, "crt": pair.certificate, "key": pair.key}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@contextmanager
def asked_by_tls(port: int, tls: Path) -> Iterator[ssl.SSLSocket]:
    """A client's connection after its first answer."""
    context = ssl.create_default_context(cafile=tls / "ca")
    with connected(port) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as link:
        link.sendall(GET)
        assert answered(link) == b"0"
        yield link


def test_a_stop_does_not_wait_for_clients_that_keep_an_idle_connection_by_tls(
    tls: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack:
        with serving(ConnectionLimits(head_s=LONG_S), tls=tls) as (port, _):
            link = stack.enter_context(asked_by_tls(port, tls))
        assert is_closed(link)
    assert caplog.messages == []  # uvicorn says when it stopped waiting


def test_a_connection_that_is_idle_for_too_long_is_closed_by_tls_too(tls: Path) -> None:
    limits = ConnectionLimits(head_s=LONG_S)
    with serving(limits, tls=tls, idle_s=1) as (port, _), asked_by_tls(port, tls) as link:
        assert is_closed(link)  # it hears close_notify, and answers nothing
        with socket.socket(fileno=link.detach()) as below:
            below.settimeout(LONG_S)
            assert is_closed(below)
