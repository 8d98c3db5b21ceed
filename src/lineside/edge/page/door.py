"""Who may see the page: one password for people, one token for programs, sessions in memory.

1. The password is kept as scrypt (RFC 7914, N = 2^14, r = 8, p = 1: 16 MB for a moment), one
   computation at a time, so that sign-ins cannot fill a small device's memory.
2. Wrong passwords are counted for each address and over all; above the limit nothing is computed
   until the window has passed. A token is long and random: it is compared, not counted.
3. Sessions are random names in memory; they end by themselves, with a restart, and at sign-out.
"""

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
    NotFoundError,
    RefusedError,
    UnavailableError,
    replace_durably,
)
from lineside.web.security import AttemptCounter

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
    """What ``write_page_password`` kept.

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
    """Whether a password is the one that is kept."""
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


class Door:
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
        """Whether nobody has to sign in."""
        return not (self._password or self._token)

    @property
    def takes_password(self) -> bool:
        """Whether people can sign in."""
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
        """Whether a session goes on."""
        with self._lock:
            ends_s = self._sessions.get(_digest(session), 0.0)
        return self._clock.monotonic() < ends_s

    def sign_out(self, session: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(_digest(session), None)

    def takes(self, token: str) -> bool:
        """Whether it is the programs' token."""
        return bool(self._token) and hmac.compare_digest(self._token.encode(), token.encode())


def _digest(session: str) -> str:
    return hashlib.sha256(session.encode()).hexdigest()
