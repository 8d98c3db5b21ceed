"""What stands before every route, as plain ASGI so that streams stay cheap.

1. Headers: a strict content security policy on every answer; nothing is kept by browsers unless the
   route says so.
2. Rate: at most ``_RATE`` requests a second are looked at, whoever asks: the line's own work comes
   before the page.
3. Host: a page that nobody signs in to answers to this machine's names and those configured, so
   that a foreign name that points here reaches nothing.
4. Size: a body above the path's limit is refused, whether announced or not.
5. Who: everything but the open paths needs a session or the token.
6. Same origin: an unsafe request of a browser must come from our own page (``Sec-Fetch-Site``, or
   ``Origin`` equal to the host). A program sends neither, and no cookie.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from lineside.core import Clock, InvalidError, LinesideError, RefusedError, UnavailableError, encode
from lineside.edge.page.door import Door

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "lineside_page"
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
_OPEN = ("/health", "/sign-in", "/favicon.ico")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_RATE = 200.0
_BURST = 400.0
_INFER_BYTES = 24_000_000
_FORM_BYTES = 4_000


class UnauthenticatedError(RefusedError):
    """Nobody signed in."""

    http_status = 401
    title = "Not signed in"


class TooLargeError(InvalidError):
    """The body is larger than this path takes."""

    http_status = 413
    title = "Too large"


class BusyError(UnavailableError):
    """More requests than are looked at."""

    http_status = 429
    title = "Too many requests"


class Gate:
    """All six rules."""

    def __init__(self, app: App, *, door: Door, hosts: tuple[str, ...], clock: Clock) -> None:
        """``hosts``: names that are ours besides this machine's."""
        self._app = app
        self._door = door
        self._hosts = frozenset((*hosts, *_LOOPBACK))
        self._clock = clock
        self._left = _BURST
        self._filled_s = clock.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        add = _with_headers(send)
        try:
            self._check(scope)
        except UnauthenticatedError as error:
            if _wants_page(scope) and self._door.takes_password:
                await _to_sign_in(add)
            else:
                await refuse_with(add, error=error)
        except LinesideError as error:
            await refuse_with(add, error=error)
        else:
            await self._app(scope, _counted(receive, limit=_limit(scope["path"])), add)

    def _check(self, scope: Scope) -> None:
        self._count_request()
        if self._door.open:
            self._check_host(scope)
        announced = _header(scope, b"content-length")
        if announced.isdigit() and int(announced) > _limit(scope["path"]):
            raise _too_large(scope["path"])
        _check_origin(scope)
        if not self._door.open and not _is_open(scope["path"]):
            self._check_who(scope)

    def _count_request(self) -> None:
        now_s = self._clock.monotonic()
        self._left = min(_BURST, self._left + (now_s - self._filled_s) * _RATE)
        self._filled_s = now_s
        if self._left < 1:
            raise BusyError("more requests than this device answers", fix="Ask less often.")
        self._left -= 1

    def _check_host(self, scope: Scope) -> None:
        host = _host_name(_header(scope, b"host"))
        if host not in self._hosts:
            raise RefusedError(
                f"this page is not called {host[:80]!r}", fix="Add the name to page.hosts."
            )

    def _check_who(self, scope: Scope) -> None:
        kind, _, token = _header(scope, b"authorization").partition(" ")
        if kind.lower() == "bearer" and self._door.takes(token.strip()):
            return
        if not kind and self._door.knows(session_of(scope)):
            return
        raise UnauthenticatedError(
            "not signed in", fix="Sign in on the page, or send the page's token as Bearer."
        )


async def refuse_with(send: Send, *, error: LinesideError) -> None:
    """Say why as a problem document (RFC 9457)."""
    body = problem(error)
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # a body that was not read must not be taken for a request
    ]
    if error.http_status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="lineside"'))
    await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def problem(error: LinesideError) -> bytes:
    """The document; clients of the Open Inference Protocol read ``error``."""
    return encode(
        {
            "type": "about:blank",
            "title": error.title,
            "status": error.http_status,
            "detail": error.message,
            "where": error.where,
            "fix": error.fix,
            "error": str(error),
        }
    )


def session_of(scope: Scope) -> str:
    """The session that the browser names; "" for none."""
    for part in _header(scope, b"cookie").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def _with_headers(send: Send) -> Send:
    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            headers += [pair for pair in _HEADERS if pair[0] not in present]
            if b"cache-control" not in present:
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        await send(message)

    return add


def _counted(receive: Receive, *, limit: int) -> Receive:
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise TooLargeError(f"more than {limit} bytes", fix="Send less.")
        return message

    return counted


def _limit(path: str) -> int:
    return _INFER_BYTES if path.startswith("/v2/") else _FORM_BYTES


def _too_large(path: str) -> TooLargeError:
    return TooLargeError(f"more than {_limit(path)} bytes", fix="Send less.")


def _check_origin(scope: Scope) -> None:
    if scope["method"] in _SAFE:
        return
    site, origin = _header(scope, b"sec-fetch-site"), _header(scope, b"origin")
    if site in ("same-origin", "none") or not (site or origin or session_of(scope)):
        return
    _, _, rest = origin.partition("://")
    if not site and rest and rest.lower() == _header(scope, b"host").lower():
        return
    raise RefusedError(
        "this request does not come from the device's own page",
        where=f"origin {origin[:80] or 'absent'}, sec-fetch-site {site[:20] or 'absent'}",
        fix="Use the page, or send the token instead of the cookie.",
    )


def _is_open(path: str) -> bool:
    """What the sign-in page itself needs, and what watches the device."""
    return path in _OPEN or path.startswith("/static/")


def _wants_page(scope: Scope) -> bool:
    return scope["method"] in _SAFE and "text/html" in _header(scope, b"accept")


def _host_name(host: str) -> str:
    name = host.lower().strip()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name


def _header(scope: Scope, name: bytes) -> str:
    for key, value in scope.get("headers", ()):
        if key == name:
            return bytes(value).decode("latin-1")
    return ""


async def _to_sign_in(send: Send) -> None:
    headers = [(b"location", b"/sign-in"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def bounded(send: Send, message: Message, *, seconds: float) -> None:
    """Send, or give up on whoever does not read; ``TimeoutError`` then."""
    async with asyncio.timeout(seconds):
        await send(message)
