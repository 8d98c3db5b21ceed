"""Checks and headers that the web servers of hub and device put before every route; plain ASGI.

1. Every response has a strict content security policy and its companions. Nothing is cached unless
   the route says so.
2. An unsafe request of a browser must come from the server's own pages: ``Sec-Fetch-Site`` is
   same-origin or none, else ``Origin`` equals the host. On plain HTTP under a LAN name browsers
   send only the latter.
3. Wrong attempts are counted for each key in memory only. Above the limit nothing is looked at
   until the window has passed.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from lineside.core import Clock, LinesideError, RefusedError, UnavailableError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_SAFE = ("GET", "HEAD", "OPTIONS")


class UnauthenticatedError(LinesideError):
    """Nobody is signed in; the page or client has to say who it is."""

    exit_code = 5
    http_status = 401
    title = "Not signed in"


class TooLargeError(LinesideError):
    """The body is larger than this route takes."""

    exit_code = 2
    http_status = 413
    title = "Too large"


class BusyError(UnavailableError):
    """Too many calls wait already; another moment is better."""

    http_status = 429
    title = "Too many requests"


class AttemptCounter:
    """Wrong attempts by key within a window; when it is full the oldest keys are forgotten.

    Safe from several threads.
    """

    def __init__(self, *, most: int, window_s: float, clock: Clock, most_keys: int = 4096) -> None:
        self._most = most
        self._window_s = window_s
        self._clock = clock
        self._most_keys = most_keys
        self._lock = threading.Lock()
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """Return how long this key has to wait; 0 when it may try."""
        with self._lock:
            wrong = self._recent(key)
            if len(wrong) < self._most:
                return 0.0
            return wrong[0] + self._window_s - self._clock.monotonic()

    def count(self, key: str) -> None:
        """Count one wrong attempt."""
        with self._lock:
            wrong = self._recent(key)
            wrong.append(self._clock.monotonic())
            self._wrong[key] = wrong
            self._wrong.move_to_end(key)
            while len(self._wrong) > self._most_keys:
                self._wrong.popitem(last=False)

    def _recent(self, key: str) -> deque[float]:
        wrong = self._wrong.get(key) or deque(maxlen=self._most)
        oldest = self._clock.monotonic() - self._window_s
        while wrong and wrong[0] <= oldest:
            wrong.popleft()
        return wrong


def add_security_headers(send: Send, *further: tuple[bytes, bytes]) -> Send:
    """Return a ``send`` that adds the headers of rule 1, and further ones, to each response."""

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            headers += [pair for pair in (*_HEADERS, *further) if pair[0] not in present]
            if b"cache-control" not in present:
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        await send(message)

    return add


def check_same_origin(scope: Scope, *, pages: str, fix: str) -> None:
    """Refuse an unsafe request or socket that comes from another site's page (rule 2).

    Args:
        scope: of the request.
        pages: ``the hub's own pages``, for the sentence.
        fix: what to do instead.

    Raises:
        RefusedError: it comes from elsewhere, or does not say from where.
    """
    if scope["type"] == "http" and is_safe(scope):
        return
    site, origin = header(scope, b"sec-fetch-site"), header(scope, b"origin")
    if site in ("same-origin", "none"):
        return
    scheme, _, named = origin.partition("://")
    host = header(scope, b"host").lower()
    if not site and scheme in ("http", "https") and host and named.lower() == host:
        return
    raise RefusedError(
        f"this request does not come from {pages}",
        where=f"origin {origin[:80] or 'absent'}, sec-fetch-site {site[:20] or 'absent'}",
        fix=fix,
    )


def is_safe(scope: Scope) -> bool:
    """Return whether a request only reads (RFC 9110, 9.2.1)."""
    return scope["method"] in _SAFE


def wants_page(scope: Scope) -> bool:
    """Return whether a browser asks for a page."""
    reads = scope["type"] == "http" and is_safe(scope)
    return reads and "text/html" in header(scope, b"accept")


def host_name(scope: Scope) -> str:
    """Return the name that the request calls this server, without the port."""
    name = header(scope, b"host").lower().strip()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name


def header(scope: Scope, name: bytes) -> str:
    """Return a header's value; "" where there is none."""
    for key, value in scope.get("headers", ()):
        if key == name:
            return bytes(value).decode("latin-1")
    return ""


def bearer_token(scope: Scope) -> str:
    """Return the token that a program sends; "" for none."""
    kind, _, token = header(scope, b"authorization").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def cookie(scope: Scope, name: str) -> str:
    """Return a cookie's value; "" where there is none."""
    for part in header(scope, b"cookie").split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value
    return ""


async def send_response(send: Send, status: int, *, headers: Headers, body: bytes = b"") -> None:
    """Send a whole response with its length."""
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def redirect(send: Send, location: str) -> None:
    """Send the browser to another page."""
    await send_response(send, 303, headers=[(b"location", location.encode())])


async def send_refusal(send: Send, status: int, *, headers: Headers, body: bytes) -> None:
    """Send a failure; 401 says how to sign in (RFC 6750)."""
    if status == 401:
        headers = [*headers, (b"www-authenticate", b'Bearer realm="lineside"')]
    await send_response(send, status, headers=headers, body=body)
