"""Middleware before every route of the hub, as plain ASGI so that streams stay cheap.

1. Headers: a strict content security policy and its companions on every response; nothing is
   cached unless the route says so.
2. Host: bound to loopback, the hub answers to loopback's names and those configured, so that a
   foreign name that points here reaches nothing.
3. Size: a body above the path's limit is refused (413), whether announced or not. One above 1 MB
   is on the disk until it is complete, and few of these are worked on at a time, so that many or
   slow uploads take no memory.
4. Who: everything but the open paths needs a session or a token; see ``access/permissions.py``.
5. Same origin: an unsafe request or socket that leans on a cookie must come from our own pages. A
   token needs no cookie and passes.
6. Route: an index by the first part of the path. The module of a route is imported when a request
   may be for it, or soon after the start, so that a hub is ready before every page is imported.
"""

import asyncio
import logging
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from pkgutil import resolve_name
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from starlette.routing import BaseRoute, Match

from lineside.compat.aws.sigv4 import is_signed_link
from lineside.core import LinesideError, RefusedError, UnavailableError
from lineside.core.config import LOOPBACK
from lineside.hub.access.auth import Auth
from lineside.hub.access.permissions import COOKIE, Identity, authorize, is_open, may_be_signed
from lineside.hub.problems import redact, refusal
from lineside.web.security import (
    App,
    Message,
    Receive,
    Scope,
    Send,
    TooLargeError,
    UnauthenticatedError,
    add_security_headers,
    bearer_token,
    check_same_origin,
    cookie,
    header,
    host_name,
    redirect,
    send_refusal,
    wants_page,
)

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from fastapi import FastAPI

RefusalPage = Callable[[Scope, LinesideError], App | None]

_CHOSEN = "lineside.route"
_ANY = ""
_OPENER_POLICY = (b"cross-origin-opener-policy", b"same-origin")
_IN_MEMORY = 1_000_000
_PART = 262_144
_LARGE_AT_A_TIME = 2
_IMPORT_PAUSE_S = 0.02


class SecureHeaders:
    """Rule 1."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, adding headers to the response's start."""
        is_http = scope["type"] == "http"
        add = add_security_headers(send, _OPENER_POLICY) if is_http else send
        await self._app(scope, receive, add)


class HostCheck:
    """Rule 2."""

    def __init__(self, app: App, *, names: tuple[str, ...], any_name: bool) -> None:
        self._app = app
        self._names = frozenset((*names, *LOOPBACK))
        self._any_name = any_name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request to a name that is not ours."""
        if scope["type"] in ("http", "websocket") and not self._any_name:
            host = host_name(scope)
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
        announced = header(scope, b"content-length")
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


class Authentication:
    """Rules 4 and 5."""

    def __init__(
        self, app: App, *, auth: Auth, page: RefusalPage = lambda *_: None, own: str = "(?!)"
    ) -> None:
        """``page`` makes the page of a refusal, None where a program asked.

        ``own`` is what ``redact`` takes.
        """
        self._app = app
        self._auth = auth
        self._page = page
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find out who asks, and refuse what they may not."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            await self._authenticate(scope)
        except UnauthenticatedError as error:
            # The form for signing out has no script that could show a refusal.
            if wants_page(scope) or (
                scope.get("method") == "POST"
                and scope["path"] == "/sign-out"
                and "text/html" in header(scope, b"accept")
            ):
                await redirect(send, _welcome(scope))
            else:
                await _refuse(scope, send, error=error)
        except LinesideError as error:
            page = await asyncio.to_thread(self._page, scope, error) if wants_page(scope) else None
            shown = error if page else redact(error, path=scope["path"], own=self._own)
            await (page(scope, receive, send) if page else _refuse(scope, send, error=shown))
        else:
            await self._app(scope, receive, send)

    async def _authenticate(self, scope: Scope) -> None:
        path, bearer, session = scope["path"], bearer_token(scope), cookie(scope, COOKIE)
        # Signing in needs no cookie, yet nobody else's page may sign this browser in (login CSRF).
        if (session or path == "/sign-in") and not bearer:
            check_same_origin(
                scope,
                pages="the hub's own pages",
                fix="Use the hub's pages, or send a token instead of the cookie.",
            )
        identity: Identity | None = None
        try:
            identity = await self._identify(bearer, session)
        except UnauthenticatedError:
            signed = may_be_signed(path) and _is_signed(scope)
            if scope["type"] == "http" and not is_open(path) and not signed:
                raise
        scope.setdefault("state", {})["identity"] = identity
        scope["state"]["session"] = session if identity and not bearer else ""
        scope["state"]["token"] = bearer if identity else ""
        if identity is not None and not is_open(path):
            authorize(identity, method=scope.get("method", "GET"), path=path)

    async def _identify(self, bearer: str, session: str) -> Identity:
        if bearer and self._auth.is_known(bearer):
            return self._auth.identify(bearer)
        if bearer:
            return await asyncio.to_thread(self._auth.identify, bearer)
        if session:
            return (await asyncio.to_thread(self._auth.session, session)).identity
        raise UnauthenticatedError(
            "not signed in", fix="Sign in with a name or the hub's link, or send a token."
        )


def _welcome(scope: Scope) -> str:
    """The address of the sign-in page, which goes on to the page that was asked for."""
    query = scope.get("query_string", b"").decode("latin-1")
    asked = quote(scope["path"]) + (f"?{query}" if query else "")
    is_kept = asked not in ("/", "/sign-out") and len(asked) <= 2000
    return "/welcome?" + urlencode({"next": asked}) if is_kept else "/welcome"


def _is_signed(scope: Scope) -> bool:
    if header(scope, b"authorization").startswith("AWS4-HMAC-SHA256 "):
        return True
    query = scope.get("query_string", b"").decode("latin-1")
    return bool(scope["path"].startswith("/s3/")) and is_signed_link(query)


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"more than {limit} bytes", fix="Send less.")


async def _refuse(scope: Scope, send: Send, *, error: LinesideError) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 4403, "reason": error.message[:100]})
        return
    answer = refusal(error, path=scope["path"])
    headers = [
        (b"content-type", answer.media_type.encode()),
        *((name.lower().encode(), value.encode()) for name, value in answer.headers.items()),
    ]
    await send_refusal(send, answer.status, headers=headers, body=answer.body)


# ---- routes


RoutePart = tuple[frozenset[str], Callable[[], Sequence[BaseRoute]]]
"""Beginnings of the paths of some routes, and what imports and returns these routes."""


def route_parts(
    app: "FastAPI", package: str, named: Iterable[tuple[str, str]], *,
    dependencies: Sequence[Any] = (),
) -> list[RoutePart]:  # fmt: skip
    """Parts of an application that are imported by use.

    Args:
        app: the application.
        package: of the modules.
        named: each router as ``module:attribute``, and the beginnings of its routes' paths.
        dependencies: of FastAPI, of every route.
    """

    def part(name: str, beginnings: str) -> RoutePart:
        @cache
        def routes() -> Sequence[BaseRoute]:
            others = len(app.router.routes)
            app.include_router(resolve_name(f"{package}.{name}"), dependencies=dependencies)
            own, app.router.routes[others:] = app.router.routes[others:], []  # the index has them
            return own

        return frozenset(one.strip("/") for one in beginnings.split()), routes

    return [part(*each) for each in named]


class RouteIndex(BaseRoute):
    """The routes of an application, in their order, asked only where one may match.

    Starlette asks one route after the other, and FastAPI each router for all of its own: with two
    hundred routes that is a millisecond before anything is done.
    """

    def __init__(self, parts: Sequence[RoutePart]) -> None:
        self.parts = tuple(parts)
        self._routes = {
            name: [routes for beginnings, routes in self.parts if beginnings & {name, _ANY}]
            for name in frozenset({_ANY}).union(*(beginnings for beginnings, _ in self.parts))
        }

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        partial: tuple[Match, Scope] = (Match.NONE, {})
        parts = self._routes.get(path_beginning(scope["path"]), self._routes[_ANY])
        for route in chain.from_iterable(routes() for routes in parts):
            match, child = route.matches(scope)
            if match is not Match.NONE and partial[0] is Match.NONE:
                partial = match, {**child, _CHOSEN: route}
            if match is Match.FULL:
                return match, {**child, _CHOSEN: route}
        return partial

    async def import_all(self) -> None:
        """Import every part, one at a time, so that a later request waits for none.

        A program that is updated while it runs would mix two releases, and a module that is broken
        would be found by the first who asks.
        """
        for beginnings, routes in self.parts:
            try:
                routes()
            except Exception:  # of a module; its routes fail, the others answer
                logger.exception("routes not imported paths=%s", ",".join(sorted(beginnings)))
            await asyncio.sleep(_IMPORT_PAUSE_S)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope[_CHOSEN].handle(scope, receive, send)


def path_beginning(path: str) -> str:
    """The first part of a path that tells routers apart; "" where it is a parameter."""
    name = path.removeprefix("/api/v1/").lstrip("/").partition("/")[0]
    return _ANY if "{" in name else name
