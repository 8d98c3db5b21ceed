"""Who asks: sign-in links that work once, sessions, tokens for programs, keys for signed requests.

1. A link is printed at start and worth one session; it ends after a day unused.
2. Sessions and tokens are kept as SHA-256 only; they are 256 random bits, so no slow hash is
   needed. Comparison is by lookup of the hash, which tells nothing about the secret.
3. Access keys sign (AWS signature version 4), so their secret has to be kept as it is.
4. Token files are written on the first start with mode 0600 and never printed.
"""

import hashlib
import logging
import os
import secrets
import threading
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from lineside.core import (
    Clock,
    LinesideError,
    NotFoundError,
    RefusedError,
    parse_rfc3339,
    rfc3339,
)
from lineside.hub.views import Identity
from lineside.store import Records

logger = logging.getLogger(__name__)

_LINK_HOURS = 24
_SIGN_IN_TRIES = 10
_SIGN_IN_WINDOW_S = 60.0


class TooManyError(LinesideError):
    """Too many tries in a short time; wait and try again."""

    exit_code = 5
    http_status = 429
    title = "Too many requests"


class UnauthenticatedError(LinesideError):
    """Nobody is signed in; the page or client has to say who it is."""

    exit_code = 5
    http_status = 401
    title = "Not signed in"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """An access key for clients that sign their requests. The secret is shown once."""

    id: str
    secret: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A signed-in browser."""

    key: str
    identity: Identity
    ends_at: datetime


class Auth:
    """Links, sessions, tokens."""

    def __init__(self, records: Records, *, clock: Clock, session_hours: float) -> None:
        self._documents = records.documents
        self._clock = clock
        self._session = timedelta(hours=session_hours)
        self._lock = threading.Lock()
        self._tries: deque[float] = deque()

    # ---- sign-in links and sessions

    def issue_link(self, *, name: str) -> str:
        """A token for ``/sign-in?token=…``."""
        token = secrets.token_urlsafe(32)
        ends = self._clock.now() + timedelta(hours=_LINK_HOURS)
        self._put("sign-in", token, body={"name": name, "ends_at": rfc3339(ends)})
        return token

    def sign_in(self, token: str) -> str:
        """Turn a link's token into a session's; the link is worth nothing afterwards.

        Raises:
            TooManyError: too many wrong tokens in the last minute, from anywhere.
            RefusedError: unknown, used or over.
        """
        with self._lock:
            try:
                body = self._documents.get("sign-in", _hash(token)).body
            except NotFoundError as error:
                self._count_wrong()
                raise RefusedError(
                    "this sign-in link was used already, or never given out",
                    fix="Run `lineside hub link` for a new one.",
                ) from error
            self._documents.delete("sign-in", _hash(token))
        if parse_rfc3339(body["ends_at"]) <= self._clock.now():
            raise RefusedError("this sign-in link is over", fix="Ask the hub for a new one.")
        return self._begin_session(str(body["name"]))

    def _count_wrong(self) -> None:
        """A right link always works, so that nobody can lock others out by guessing."""
        now_s = self._clock.monotonic()
        while self._tries and self._tries[0] < now_s - _SIGN_IN_WINDOW_S:
            self._tries.popleft()
        if len(self._tries) >= _SIGN_IN_TRIES:
            raise TooManyError(
                "too many wrong sign-in links in the last minute", fix="Wait a minute."
            )
        self._tries.append(now_s)

    def _begin_session(self, name: str) -> str:
        token = secrets.token_urlsafe(32)
        ends = self._clock.now() + self._session
        self._put("session", token, body={"name": name, "ends_at": rfc3339(ends)})
        return token

    def session(self, token: str) -> Session:
        """The session of a cookie.

        Raises:
            UnauthenticatedError: there is none, or it is over.
        """
        key = _hash(token)
        body = self._body("session", key)
        if body is None:
            raise UnauthenticatedError("not signed in", fix="Open the sign-in link of the hub.")
        ends = parse_rfc3339(body["ends_at"])
        if ends <= self._clock.now():
            self._forget("session", key)
            raise UnauthenticatedError("the session is over", fix="Sign in again.")
        identity = Identity(name=str(body["name"]), kind="session")
        return Session(key=key, identity=identity, ends_at=ends)

    def sign_out(self, token: str) -> None:
        """End a session; one that is not there is fine."""
        self._forget("session", _hash(token))

    def sweep(self) -> int:
        """Forget what is over; how many."""
        now, gone = self._clock.now(), 0
        for kind in ("session", "sign-in"):
            for document in self._documents.page(kind, limit=1000):
                if parse_rfc3339(document.body["ends_at"]) <= now:
                    self._forget(kind, document.id)
                    gone += 1
        return gone

    # ---- tokens

    def issue_token(self, name: str, *, kind: str) -> str:
        """A token for a program: ``api``, ``device`` or ``ingest``; shown once."""
        token = secrets.token_urlsafe(32)
        self._put("token", token, body={"name": name, "kind": kind})
        return token

    def identify(self, token: str) -> Identity:
        """Whose token this is.

        Raises:
            UnauthenticatedError: nobody's, or a revoked one.
        """
        body = self._body("token", _hash(token))
        if body is None:
            raise UnauthenticatedError("unknown token", fix="Issue one at the hub.")
        return Identity(name=str(body["name"]), kind=str(body["kind"]))

    def revoke(self, name: str) -> int:
        """Take every token of that name out of use; how many there were."""
        found = [
            document.id
            for document in self._documents.page("token", limit=1000)
            if document.body.get("name") == name
        ]
        for key in found:
            self._forget("token", key)
        return len(found)

    def ensure_token_file(self, path: Path, *, name: str, kind: str) -> None:
        """Make sure that the file holds a token that is known here.

        A file that was taken away gets a new token, and what it held before is worth nothing.
        """
        try:
            self._put_known(path.read_text().strip(), name=name, kind=kind)
        except FileNotFoundError:
            self.revoke(name)
            _write_secret(path, self.issue_token(name, kind=kind))
            logger.info("token written name=%s file=%s", name, path)

    def _put_known(self, token: str, *, name: str, kind: str) -> None:
        if self._body("token", _hash(token)) is None:
            self._put("token", token, body={"name": name, "kind": kind})

    # ---- keeping

    def _put(self, kind: str, token: str, *, body: dict[str, Any]) -> None:
        now = rfc3339(self._clock.now())
        self._documents.put(kind, _hash(token), body={**body, "issued_at": now})

    def _body(self, kind: str, key: str) -> dict[str, Any] | None:
        try:
            return self._documents.get(kind, key).body
        except NotFoundError:
            return None

    def _forget(self, kind: str, key: str) -> None:
        self._documents.delete(kind, key)


def issue_access_key(records: Records, *, name: str, clock: Clock) -> AccessKey:
    """A key pair as AWS clients take it; list and revoke by name."""
    key = AccessKey(
        id="LSAK" + secrets.token_hex(8).upper(), secret=secrets.token_urlsafe(30), name=name
    )
    body = {"name": name, "secret": key.secret, "issued_at": rfc3339(clock.now())}
    records.documents.put("access-key", key.id, body=body)
    return key


def issue_link(records: Records, *, name: str, clock: Clock) -> str:
    """A further sign-in token, for a hub that runs already."""
    return Auth(records, clock=clock, session_hours=1).issue_link(name=name)


def access_key(records: Records, key_id: str) -> AccessKey:
    """``NotFoundError`` when it was never issued, or revoked."""
    body = records.documents.get("access-key", key_id).body
    return AccessKey(id=key_id, secret=str(body["secret"]), name=str(body["name"]))


def revoke_access_key(records: Records, key_id: str) -> None:
    """Take a key out of use."""
    records.documents.delete("access-key", key_id)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _write_secret(path: Path, secret: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secret + "\n")
