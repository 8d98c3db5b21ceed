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

from lineside.core import Clock, LinesideError, RefusedError, encode
from lineside.edge.page.door import Door
from lineside.web.security import (
    LOOPBACK,
    App,
    BusyError,
    Message,
    Receive,
    Scope,
    Send,
    TooLargeError,
    UnauthenticatedError,
    add_security_headers,
    check_same_origin,
    cookie,
    header,
    host_name,
    redirect,
    send_refusal,
    wants_page,
)

COOKIE = "lineside_page"
_OPEN = ("/health", "/sign-in", "/favicon.ico")
_RATE = 200.0
_BURST = 400.0
_INFER_BYTES = 24_000_000
_FORM_BYTES = 4_000


class Gate:
    """All six rules."""

    def __init__(self, app: App, *, door: Door, hosts: tuple[str, ...], clock: Clock) -> None:
        """``hosts``: names that are ours besides this machine's."""
        self._app = app
        self._door = door
        self._hosts = frozenset((*hosts, *LOOPBACK))
        self._clock = clock
        self._left = _BURST
        self._filled_s = clock.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        add = add_security_headers(send)
        try:
            self._check(scope)
        except UnauthenticatedError as error:
            if wants_page(scope) and self._door.takes_password:
                await redirect(add, "/sign-in")
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
        announced = header(scope, b"content-length")
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
        host = host_name(scope)
        if host not in self._hosts:
            raise RefusedError(
                f"this page is not called {host[:80]!r}", fix="Add the name to page.hosts."
            )

    def _check_who(self, scope: Scope) -> None:
        kind, _, token = header(scope, b"authorization").partition(" ")
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
        (b"connection", b"close"),  # a body that was not read must not be taken for a request
    ]
    await send_refusal(send, error.http_status, headers=headers, body=body)


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
    return cookie(scope, COOKIE)


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
    if any(header(scope, name) for name in (b"sec-fetch-site", b"origin")) or session_of(scope):
        check_same_origin(
            scope,
            pages="the device's own page",
            fix="Use the page, or send the token instead of the cookie.",
        )


def _is_open(path: str) -> bool:
    """What the sign-in page itself needs, and what watches the device."""
    return path in _OPEN or path.startswith("/static/")


async def bounded(send: Send, message: Message, *, seconds: float) -> None:
    """Send, or give up on whoever does not read; ``TimeoutError`` then."""
    async with asyncio.timeout(seconds):
        await send(message)
