"""A real server that webhooks post to: it notes what came and answers as it is told."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Hooks:
    """What came, and what is answered: the next of ``answers``, then 204.

    An answer is a status, or what is done with the request's handler.
    """

    url: str = ""
    came: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int | Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    connections: set[int] = field(default_factory=set)

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.came]


def _handler(hooks: Hooks) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            headers["path"] = self.path
            hooks.came.append((headers, body))
            hooks.connections.add(self.client_address[1])
            answer = hooks.answers.pop(0) if hooks.answers else 204
            if not isinstance(answer, int):
                answer(self)
                return
            self.send_response(answer)
            for name, value in hooks.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, *_: object) -> None:
        """A client that left."""


@contextmanager
def hooks_server(*, port: int = 0, certificate: Path | None = None) -> Iterator[Hooks]:
    """A server for the length of a ``with``; ``certificate``: a PEM file with its key, for TLS."""
    hooks = Hooks()
    server = _Server(("127.0.0.1", port), _handler(hooks))
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    scheme = "https" if certificate else "http"
    hooks.url = f"{scheme}://127.0.0.1:{server.server_address[1]}/hook"
    try:
        yield hooks
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
