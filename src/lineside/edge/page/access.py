"""Access to the page: sign-in, and the checks before every route as plain ASGI middleware.

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
7. The password is kept as scrypt (RFC 7914, N = 2^14, r = 8, p = 1: 16 MB for a moment), one
   computation at a time, so that sign-ins cannot fill a small device's memory. Wrong passwords are
   counted for each address and over all; above the limit nothing is computed until the window has
   passed. A token is long and random: it is compared, not counted.
8. Sessions are random names in memory; they end by themselves, with a restart, and at sign-out.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
import threading
import unicodedata
from collections import OrderedDict
from pathlib import Path

from lineside.core import (
    Clock,
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    encode,
    replace_durably,
)
from lineside.core.config import LOOPBACK
from lineside.web.security import (
    App,
    AttemptCounter,
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

SHORTEST = 12
LONGEST = 200
SESSION_S = 12 * 3600.0
_SHORTEST_TOKEN = 16
_MOST_SESSIONS = 16
_MOST_WRONG = 5
_MOST_WRONG_TOGETHER = 20
_WINDOW_S = 60.0
_MOST_ADDRESSES = 256
_COST = 1 << 14
_BLOCK = 8
_COMPUTING = threading.Lock()


def hash_password(password: str) -> str:
    """The line that is kept.

    Raises:
        InvalidError: too short, too long, or of too few different letters.
    """
    if not SHORTEST <= len(password) <= LONGEST or len(set(password)) < 4:
        raise InvalidError(
            f"a password of {len(password)} characters, {len(set(password))} of them different",
            where="password",
            fix=f"Take {SHORTEST} to {LONGEST}; four words that do not belong together do well.",
        )
    salt = secrets.token_bytes(16)
    made = base64.b64encode(_derived(password, salt)).decode()
    return f"scrypt${_COST}${_BLOCK}$1${base64.b64encode(salt).decode()}${made}"


def write_page_password(password: str, *, path: Path) -> None:
    """Keep a password's line in a file that only its owner reads.

    Raises:
        InvalidError: quickly guessed.
        UnavailableError: the file cannot be written.
    """
    replace_durably(path, hash_password(password).encode() + b"\n", mode=0o600)
    path.chmod(0o600)


def read_password_line(path: Path) -> str:
    """The line that ``write_page_password`` wrote.

    Raises:
        NotFoundError: no such file.
        InvalidError: another content.
    """
    line = _read(path, fix="Run lineside edge page-password.")
    parts = line.split("$")
    if parts[:4] != ["scrypt", str(_COST), str(_BLOCK), "1"] or len(parts) != 6:
        raise InvalidError(
            "no password's line", where=str(path), fix="Run lineside edge page-password."
        )
    return line


def read_token_line(path: Path) -> str:
    """The token that programs send.

    Raises:
        NotFoundError: no such file.
        InvalidError: too short to be one.
    """
    token = _read(path, fix="Write a random text there: openssl rand -hex 32.")
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise InvalidError(
            f"a token of {len(token)} characters",
            where=str(path),
            fix=f"Write {_SHORTEST_TOKEN} or more random letters: openssl rand -hex 32.",
        )
    return token


def matches(line: str, password: str) -> bool:
    """True where a password is the one that is kept."""
    _, _, _, _, salt, made = line.split("$")
    found = _derived(password[: LONGEST + 1], base64.b64decode(salt))
    return hmac.compare_digest(found, base64.b64decode(made))


def _derived(password: str, salt: bytes) -> bytes:
    plain = unicodedata.normalize("NFC", password).encode()
    with _COMPUTING:
        return hashlib.scrypt(plain, salt=salt, n=_COST, r=_BLOCK, p=1, dklen=32)


def _read(path: Path, *, fix: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise NotFoundError("no such file", where=str(path), fix=fix) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(f"cannot be read: {error}", where=str(path), fix=fix) from error


class PageSignIn:
    """Sessions, wrong tries, and what is compared; safe from several threads."""

    def __init__(self, *, password: str = "", token: str = "", clock: Clock) -> None:
        """Lines as they stand in the files; "" for what is not configured."""
        self._password = password
        self._token = token
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, float] = OrderedDict()
        self._attempts = tuple(
            AttemptCounter(most=most, window_s=_WINDOW_S, clock=clock, most_keys=_MOST_ADDRESSES)
            for most in (_MOST_WRONG, _MOST_WRONG_TOGETHER)
        )

    @property
    def open(self) -> bool:
        """True where nobody has to sign in."""
        return not (self._password or self._token)

    @property
    def takes_password(self) -> bool:
        """True where people can sign in."""
        return bool(self._password)

    def sign_in(self, password: str, *, address: str) -> str:
        """A session's name.

        Raises:
            RefusedError: another password, or none is configured.
            UnavailableError: too many wrong tries.
        """
        counts = tuple(zip(self._attempts, (address, ""), strict=True))
        wait_s = max(attempts.wait_s(key) for attempts, key in counts)
        if wait_s > 0:
            raise UnavailableError(
                "too many wrong tries", where="sign-in", fix=f"Wait {int(wait_s) + 1} s."
            )
        if not self._password or not matches(self._password, password):
            for attempts, key in counts:
                attempts.count(key)
            raise RefusedError(
                "that is not the page's password",
                where="password",
                fix="Try again, or set another one: lineside edge page-password.",
            )
        name = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[_digest(name)] = self._clock.monotonic() + SESSION_S
            while len(self._sessions) > _MOST_SESSIONS:
                self._sessions.popitem(last=False)
        return name

    def knows(self, session: str) -> bool:
        """True where a session goes on."""
        with self._lock:
            ends_s = self._sessions.get(_digest(session), 0.0)
        return self._clock.monotonic() < ends_s

    def sign_out(self, session: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(_digest(session), None)

    def takes(self, token: str) -> bool:
        """True where it is the programs' token."""
        return bool(self._token) and hmac.compare_digest(self._token.encode(), token.encode())


def _digest(session: str) -> str:
    return hashlib.sha256(session.encode()).hexdigest()


COOKIE = "lineside_page"
_OPEN = ("/health", "/sign-in", "/favicon.ico")
_RATE = 200.0
_BURST = 400.0
_INFER_BYTES = 24_000_000
_FORM_BYTES = 4_000


class AccessMiddleware:
    """All six rules."""

    def __init__(
        self, app: App, *, sign_in: PageSignIn, hosts: tuple[str, ...], clock: Clock
    ) -> None:
        """``hosts``: names that are ours besides this machine's."""
        self._app = app
        self._sign_in = sign_in
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
            if wants_page(scope) and self._sign_in.takes_password:
                await redirect(add, "/sign-in")
            else:
                await refuse_with(add, error=error)
        except LinesideError as error:
            await refuse_with(add, error=error)
        else:
            await self._app(scope, _counted(receive, limit=_limit(scope["path"])), add)

    def _check(self, scope: Scope) -> None:
        self._count_request()
        if self._sign_in.open:
            self._check_host(scope)
        announced = header(scope, b"content-length")
        if announced.isdigit() and int(announced) > _limit(scope["path"]):
            raise _too_large(scope["path"])
        _check_origin(scope)
        if not self._sign_in.open and not _is_open(scope["path"]):
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
        if kind.lower() == "bearer" and self._sign_in.takes(token.strip()):
            return
        if not kind and self._sign_in.knows(session_of(scope)):
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
    """True for the sign-in page's own files, and for monitors of the device."""
    return path in _OPEN or path.startswith("/static/")


async def bounded(send: Send, message: Message, *, seconds: float) -> None:
    """Send, or give up on whoever does not read; ``TimeoutError`` then."""
    async with asyncio.timeout(seconds):
        await send(message)
