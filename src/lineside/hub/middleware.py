"""What stands before every route, as plain ASGI so that streams stay cheap.

1. Headers: a strict content security policy and its companions on every response; nothing is
   cached unless the route says so.
2. Host: bound to loopback, the hub answers to loopback's names and those configured, so that a
   foreign name that points here reaches nothing.
3. Size: a body above the path's limit is refused (413), whether announced or not. One above 1 MB
   is on the disk until it is complete, and few of these are worked on at a time, so that many or
   slow uploads take no memory.
4. Who: everything but the open paths needs a session or a token; see ``access.py``.
5. Same origin: an unsafe request or socket that leans on a cookie must come from our own pages
   (``Sec-Fetch-Site`` same-origin or none, else ``Origin`` equal to the host; on plain HTTP under
   a LAN name browsers send only the latter). A token needs no cookie and passes.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import IO, Any

from lineside.compat.aws.signed_links import is_signed_link
from lineside.core import LinesideError, RefusedError, UnavailableError
from lineside.hub.access.auth import Auth, UnauthenticatedError
from lineside.hub.access.permissions import COOKIE, is_open, may, may_be_signed
from lineside.hub.problems import TooLargeError, refusal
from lineside.hub.views import Identity

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_IN_MEMORY = 1_000_000
_PART = 262_144
_LARGE_AT_A_TIME = 2
_SAFE = ("GET", "HEAD", "OPTIONS")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class SecureHeaders:
    """Rule 1."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, adding headers to the response's start."""

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                present = {name.lower() for name, _ in headers}
                headers += [pair for pair in _HEADERS if pair[0] not in present]
                if b"cache-control" not in present:
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, add if scope["type"] == "http" else send)


class KnownHost:
    """Rule 2."""

    def __init__(self, app: App, *, names: tuple[str, ...], any_name: bool) -> None:
        self._app = app
        self._names = frozenset((*names, *_LOOPBACK))
        self._any_name = any_name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request to a name that is not ours."""
        if scope["type"] in ("http", "websocket") and not self._any_name:
            host = _host_name(_header(scope, b"host"))
            if host not in self._names:
                error = RefusedError(
                    f"this hub is not called {host!r}", fix="Add the name to allowed_hosts."
                )
                await _refuse(scope, send, error=error)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """Rule 3."""

    def __init__(self, app: App, *, limit_of: Callable[[str], int], folder: Path) -> None:
        """Take the limit of each path, and the folder for bodies that are too large for memory."""
        self._app = app
        self._limit_of = limit_of
        self._folder = folder
        self._large = asyncio.Semaphore(_LARGE_AT_A_TIME)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the body as it comes; what was announced too large is not read at all."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope["path"])
        announced = _header(scope, b"content-length")
        if announced.isdigit() and int(announced) > limit:
            await _refuse(scope, send, error=_too_large(limit))
            return
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(self._folder)) as file:
            body = _Body(receive, limit=limit, file=file, large=self._large)
            try:
                await self._app(scope, body.receive, send)
            finally:
                body.close()


class _Body:
    """One request's body: in memory while small, else on the disk until all of it is there."""

    def __init__(
        self, receive: Receive, *, limit: int, file: IO[bytes], large: asyncio.Semaphore
    ) -> None:
        self._receive = receive
        self._limit = limit
        self._file = file
        self._large = large
        self._left = -1  # bytes to hand over; -1: nothing has come yet
        self._is_large = False

    async def receive(self) -> Message:
        """Give the next part of the body, once the request has all of it."""
        if self._left < 0:
            message = await self._receive()
            if not message.get("more_body", False):  # all of it in one part, or a disconnect
                self._left = 0
                if len(message.get("body", b"")) > self._limit:
                    raise _too_large(self._limit)
                return message
            if not await self._collect(message):
                return {"type": "http.disconnect"}
        elif self._left == 0:
            return await self._receive()
        part = self._file.read(_PART)
        self._left -= len(part)
        return {"type": "http.request", "body": part, "more_body": self._left > 0}

    def close(self) -> None:
        """Let the next large body be worked on."""
        if self._is_large:
            self._is_large = False
            self._large.release()

    async def _collect(self, message: Message) -> bool:
        """Write the parts down; False when the client left before the last."""
        size = 0
        try:
            while message["type"] == "http.request":
                size += self._file.write(message.get("body", b""))
                if size > self._limit:
                    raise _too_large(self._limit)
                if not message.get("more_body", False):
                    break
                message = await self._receive()
            self._file.seek(0)
        except OSError as error:
            raise UnavailableError(
                f"the disk does not take the upload: {error.strerror}", fix="Free space."
            ) from error
        if size > _IN_MEMORY:
            await self._large.acquire()
            self._is_large = True
        self._left = size
        return bool(message["type"] == "http.request")


class Gate:
    """Rules 4 and 5."""

    def __init__(self, app: App, *, auth: Auth) -> None:
        self._app = app
        self._auth = auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find out who asks, and refuse what they may not."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            await self._admit(scope)
        except UnauthenticatedError as error:
            if _wants_page(scope):
                await _to_sign_in(send)
            else:
                await _refuse(scope, send, error=error)
        except LinesideError as error:
            await _refuse(scope, send, error=error)
        else:
            await self._app(scope, receive, send)

    async def _admit(self, scope: Scope) -> None:
        path, bearer = scope["path"], _bearer(scope)
        cookie = _cookie(scope)
        # Signing in needs no cookie, yet nobody else's page may sign this browser in (login CSRF).
        if (cookie or path == "/sign-in") and not bearer:
            _check_origin(scope)
        identity: Identity | None = None
        try:
            identity = await self._identify(bearer, cookie)
        except UnauthenticatedError:
            signed = may_be_signed(path) and _is_signed(scope)
            if scope["type"] == "http" and not is_open(path) and not signed:
                raise
        scope.setdefault("state", {})["identity"] = identity
        scope["state"]["session"] = cookie if identity and not bearer else ""
        scope["state"]["token"] = bearer if identity else ""
        if identity is not None and not is_open(path):
            may(identity, method=scope.get("method", "GET"), path=path)

    async def _identify(self, bearer: str, cookie: str) -> Identity:
        if bearer:
            return await asyncio.to_thread(self._auth.identify, bearer)
        if cookie:
            session = await asyncio.to_thread(self._auth.session, cookie)
            return session.identity
        raise UnauthenticatedError(
            "not signed in", fix="Sign in with a name or the hub's link, or send a token."
        )


def _check_origin(scope: Scope) -> None:
    if scope["type"] == "http" and scope["method"] in _SAFE:
        return
    site = _header(scope, b"sec-fetch-site")
    origin = _header(scope, b"origin")
    if site in ("same-origin", "none"):
        return
    if not site and origin and _same_host(origin, _header(scope, b"host")):
        return
    raise RefusedError(
        "this request does not come from the hub's own pages",
        where=f"origin {origin or 'absent'}, sec-fetch-site {site or 'absent'}",
        fix="Use the hub's pages, or send a token instead of the cookie.",
    )


def _same_host(origin: str, host: str) -> bool:
    scheme, _, rest = origin.partition("://")
    return scheme in ("http", "https") and bool(host) and rest.lower() == host.lower()


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


def _is_signed(scope: Scope) -> bool:
    if _header(scope, b"authorization").startswith("AWS4-HMAC-SHA256 "):
        return True
    query = scope.get("query_string", b"").decode("latin-1")
    return bool(scope["path"].startswith("/s3/")) and is_signed_link(query)


def _bearer(scope: Scope) -> str:
    kind, _, token = _header(scope, b"authorization").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _cookie(scope: Scope) -> str:
    for part in _header(scope, b"cookie").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def _wants_page(scope: Scope) -> bool:
    reads = scope["type"] == "http" and scope["method"] in _SAFE
    return reads and "text/html" in _header(scope, b"accept")


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"more than {limit} bytes", fix="Send less.")


async def _to_sign_in(send: Send) -> None:
    headers = [(b"location", b"/welcome"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(scope: Scope, send: Send, *, error: LinesideError) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 4403, "reason": error.message[:100]})
        return
    told = refusal(error, path=scope["path"])
    headers = [
        (b"content-type", told.media_type.encode()),
        (b"content-length", str(len(told.body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in told.headers.items()),
    ]
    if told.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="lineside"'))
    await send({"type": "http.response.start", "status": told.status, "headers": headers})
    await send({"type": "http.response.body", "body": told.body})
