"""Fault-injecting proxy between a device and its hub: it can hold packages half-way.

Main name: ``FaultProxy``. Where a test kills something in the middle of an update, the update
waits there for it, however fast or slow the machine is.
"""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

from lineside.core.worker import Worker

_FIRST_BYTES = 2000
_PATIENCE_S = 60.0
_HELD_S = 600.0  # longer than any test, so that what is held never goes on by itself
_PASSED = ("Range", "Authorization")
_ANSWERED = ("Content-Range", "Content-Type", "Retry-After")


class FaultProxy:
    """A proxy before a hub; ``with`` closes it. A hub that is away answers 503."""

    def __init__(self, hub: str) -> None:
        """``hub``: its ``http://`` address; it need not be there yet."""
        self._hub = urlsplit(hub).netloc
        self._open = threading.Event()
        self._open.set()
        self._changed = threading.Condition()
        self._held = 0
        self._first_bytes = _FIRST_BYTES
        self.begun: list[int] = []
        """For each package that was asked for, in order, from which byte on."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._worker = Worker("way", lambda: self._server.serve_forever(0.02), every_s=None)
        self._worker.start()

    @property
    def held(self) -> int:
        """Return how many packages stand still on it now."""
        return self._held

    @property
    def first_bytes(self) -> int:
        """Return how many bytes of a package pass while it is held."""
        return self._first_bytes

    def hold(self, *, after_bytes: int = _FIRST_BYTES) -> None:
        """From now on packages stop after so many bytes of an answer."""
        self._first_bytes = after_bytes
        self._open.clear()

    def release(self) -> None:
        """Let held connections go on."""
        self._open.set()

    def respond(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """The hub's answer: status, headers, body."""
        link = http.client.HTTPConnection(self._hub, timeout=_PATIENCE_S)
        try:
            link.request("GET", path, headers=headers)
            answer = link.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            return 503, {}, b""
        finally:
            link.close()
        return answer.status, {n: answer.headers[n] for n in _ANSWERED if answer.headers[n]}, body

    def wait(self) -> None:
        """Until it is released."""
        with self._changed:
            self._held += 1
        self._open.wait(_HELD_S)
        with self._changed:
            self._held -= 1

    def close(self) -> None:
        """Let everything go, and end."""
        self.release()
        self._server.shutdown()
        self._worker.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _handler(way: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = {name: self.headers[name] for name in _PASSED if self.headers[name]}
            status, headers, body = way.respond(self.path, given)
            try:
                self._say(status, headers, body=body)
            except OSError:
                return  # who asked is gone

        def _say(self, status: int, headers: dict[str, str], *, body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if "/targets/" not in self.path:
                self.wfile.write(body)
                return
            way.begun.append(_first_byte(self.headers["Range"]))
            self.wfile.write(body[: way.first_bytes])
            if len(body) > way.first_bytes:
                way.wait()
                self.wfile.write(body[way.first_bytes :])

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler


def _first_byte(fault: str | None) -> int:
    """Of ``Range: bytes=7-``; 0 where the whole is asked for."""
    return int(fault.removeprefix("bytes=").partition("-")[0]) if fault else 0
