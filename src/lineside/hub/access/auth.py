"""Authentication: sign-in links that work once, sessions, tokens, keys for signed requests.

1. A link is printed at start and worth one session, as administrator; it ends after a day unused.
2. Sessions and tokens are kept as SHA-256 only; they are 256 random bits, so no slow hash is
   needed. Comparison is by lookup of the hash, which tells nothing about the secret. They are read
   again after any commit to the records, so that one that is revoked, by whatever program, is
   refused at the next request.
3. Access keys sign (AWS signature version 4), so their secret has to be kept as it is.
4. A session by password holds as long as its user and the password do; the role is the user's at
   each request. Who has no such user learns no more than who has a wrong password.
5. Token files are written on the first start with mode 0600 and never printed.

Users and their passwords:

6. A password is kept as argon2id with the library's parameters (RFC 9106, section 4: 64 MiB, 3
   passes). At most two are computed at once, so that sign-ins cannot fill the memory.
7. A name that does not exist costs the same time and gets the same words as a wrong password.
"""

import hashlib
import logging
import os
import secrets
import threading
import unicodedata
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lineside.core import (
    Clock,
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    decode_fast,
    encode,
    need,
    parse_rfc3339,
    rfc3339,
)
from lineside.hub.access.permissions import Identity, Role
from lineside.store import Document, Documents, Records, every_document
from lineside.web.security import AttemptCounter, UnauthenticatedError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

USER_KIND = "user"
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person who signs in by name and password.

    Attributes:
        password: its argon2 hash.
        password_id: made with each password; a session begun with another one is over.
    """

    name: str
    role: Role
    password: str
    password_id: str
    added_at: datetime
    added_by: str


def checked_name(name: str) -> str:
    """A name as it is kept.

    Raises:
        InvalidError: empty, too long, or with signs that cannot be seen.
    """
    plain = unicodedata.normalize("NFKC", name)
    if not plain.strip() or plain != plain.strip() or len(plain) > _LONGEST_NAME:
        raise InvalidError(
            f"{name[:80]!r} is no name",
            where="name",
            fix=f"Write 1 to {_LONGEST_NAME} characters, no space around them.",
        )
    if not plain.isprintable():
        raise InvalidError(
            f"{name[:80]!r} holds signs that cannot be seen", where="name", fix="Leave them out."
        )
    return plain


def user_key(name: str) -> str:
    """Return the key of a name; two names with the same key are one."""
    return unicodedata.normalize("NFKC", name).casefold()


def find_user(documents: Documents, name: str) -> tuple[User, int] | None:
    """The user of a name and the version of the document; None where there is none."""
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        return None
    try:
        document = documents.get(USER_KIND, user_key(name))
    except NotFoundError:
        return None
    return _user(document), document.version


def all_users(documents: Documents) -> tuple[User, ...]:
    """Everybody, by name."""
    return tuple(_user(document) for document in every_document(documents, USER_KIND))


def _user(document: Document) -> User:
    return decode_fast(User, encode(document.body), where=f"{USER_KIND} {document.id}")


SHORTEST = 12
LONGEST = 200
_AT_ONCE = threading.BoundedSemaphore(2)


def check_password(password: str, *, name: str) -> None:
    """Refuse what is quickly guessed; length is what counts (NIST SP 800-63B, 5.1.1.2).

    Raises:
        InvalidError: too short, too long, or little else than the name.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise InvalidError(
            f"a password of {len(password)} characters",
            where="password",
            fix=f"Take {SHORTEST} to {LONGEST}; four words that do not belong together do well.",
        )
    plain, own = password.casefold(), name.casefold()
    if len(set(plain)) < 4 or plain.replace(own, "").strip() == "":
        raise InvalidError(
            "a password that is quickly guessed",
            where="password",
            fix="Take words that have nothing to do with the name.",
        )


def hash_password(password: str) -> str:
    """The text that is kept; another one each time."""
    with _AT_ONCE:
        return _hasher().hash(_normal(password))


def verify_password(stored: str, password: str) -> bool:
    """Return whether it is the password; never with ``stored`` empty, after the same time."""
    from argon2.exceptions import InvalidHashError, VerificationError

    with _AT_ONCE:
        nobody = _nobody()  # always, so that its own making tells nothing
        try:
            _hasher().verify(stored or nobody, _normal(password))
        except (VerificationError, InvalidHashError):
            return False
    return bool(stored)


def _normal(password: str) -> str:
    """Keyboards write the same letters differently (RFC 8265, 4.2.1)."""
    return unicodedata.normalize("NFC", password[: LONGEST + 1])


@lru_cache(maxsize=1)
def _hasher() -> "PasswordHasher":
    need("argon2", extra="hub")
    from argon2 import PasswordHasher

    return PasswordHasher()


@lru_cache(maxsize=1)
def _nobody() -> str:
    """The hash that nobody's password is held against."""
    return _hasher().hash("nobody at all")


logger = logging.getLogger(__name__)

_LINK_HOURS = 24
_SIGN_IN_TRIES = 10
_SIGN_IN_WINDOW_S = 60.0
_PASSWORD_WINDOW_S = 300.0
_TRIES_OF_NAME_AND_ADDRESS = 5
_TRIES_OF_NAME = 50
_TRIES_OF_ADDRESS = 30
_TEMPORARY_KEYS = 10


class TooManyAttemptsError(LinesideError):
    """Too many tries in a short time; wait and try again."""

    exit_code = 5
    http_status = 429
    title = "Too many requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """An access key for clients that sign their requests. The secret is shown once.

    Attributes:
        role: what it may beside inference calls; None: nothing.
        thing: whose jobs it may take.
    """

    id: str
    secret: str
    name: str
    role: Role | None = None
    thing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A signed-in browser."""

    key: str
    identity: Identity
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenInfo:
    """A token without its secret. ``ends_at`` None: it holds until it is revoked.

    Attributes:
        id: Of an access key, by which its requests name it; "" of a token.
    """

    name: str
    kind: str
    id: str
    role: Role | None
    issued_at: datetime
    ends_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Name and password of a sign-in, and the address it came from."""

    name: str
    password: str
    address: str = ""


class Auth:
    """Links, sessions, tokens."""

    def __init__(self, records: Records, *, clock: Clock, session_hours: float) -> None:
        self._records = records
        self._documents = records.documents
        self._shared = records.shared
        self._clock = clock
        self._session = timedelta(hours=session_hours)
        self._lock = threading.Lock()
        self._tries: deque[float] = deque()
        self._guesses = tuple(
            AttemptCounter(most=most, window_s=_PASSWORD_WINDOW_S, clock=clock)
            for most in (_TRIES_OF_NAME_AND_ADDRESS, _TRIES_OF_NAME, _TRIES_OF_ADDRESS)
        )

    # ---- sign-in links and sessions

    def issue_link(self, *, name: str, role: Role = Role.ADMIN) -> str:
        """A token for ``/sign-in?token=…``."""
        token = secrets.token_urlsafe(32)
        ends = self._clock.now() + timedelta(hours=_LINK_HOURS)
        body = {"name": name, "role": str(role), "ends_at": rfc3339(ends)}
        self._put("sign-in", token, body=body)
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
        return self._begin_session({"name": body["name"], "role": body.get("role", Role.ADMIN)})

    def sign_in_by_password(self, given: Credentials) -> str:
        """A session's token for a name and its password; raises as ``user_of``."""
        user = self.user_of(given)
        logger.info("signed in user=%s role=%s", user.name, user.role)
        return self._begin_session({"name": user.name, "user": user.password_id})

    def user_of(self, given: Credentials) -> User:
        """The user whose name and password these are.

        Raises:
            TooManyAttemptsError: too many wrong tries of this name, or from this address.
            RefusedError: no such name, or another password; it does not say which.
        """
        name = given.name.strip().casefold()
        keys = (f"{name} {given.address}", name, given.address)
        counts = list(zip(self._guesses, keys, strict=True))
        wait_s = max(tries.wait_s(key) for tries, key in counts)
        if wait_s > 0:
            raise TooManyAttemptsError(
                "too many wrong tries to sign in", fix=f"Wait {wait_s / 60:.0f} minutes or so."
            )
        found = find_user(self._documents, given.name.strip())
        kept = found[0].password if found else ""
        right = verify_password(kept, given.password) and len(given.password) <= LONGEST
        if found is None or not right:
            for tries, key in counts:
                tries.count(key)
            logger.warning("sign-in refused address=%s", given.address)
            raise RefusedError(
                "wrong name or password",
                fix="Try again. An administrator sets a new password: lineside user password.",
            )
        return found[0]

    def _count_wrong(self) -> None:
        """A right link always works, so that nobody can lock others out by guessing."""
        now_s = self._clock.monotonic()
        while self._tries and self._tries[0] < now_s - _SIGN_IN_WINDOW_S:
            self._tries.popleft()
        if len(self._tries) >= _SIGN_IN_TRIES:
            raise TooManyAttemptsError(
                "too many wrong sign-in links in the last minute", fix="Wait a minute."
            )
        self._tries.append(now_s)

    def _begin_session(self, who: dict[str, Any]) -> str:
        token = secrets.token_urlsafe(32)
        ends = self._clock.now() + self._session
        self._put("session", token, body={**who, "ends_at": rfc3339(ends)})
        return token

    def session(self, token: str) -> Session:
        """The session of a cookie.

        Raises:
            UnauthenticatedError: there is none, or it is over.
        """
        key = _hash(token)
        body = self._body("session", key)
        if body is None:
            raise UnauthenticatedError("not signed in", fix="Sign in.")
        ends = parse_rfc3339(body["ends_at"])
        role = self._role_now(body)
        if ends <= self._clock.now() or role is None:
            self._forget("session", key)
            raise UnauthenticatedError("the session is over", fix="Sign in again.")
        identity = Identity(name=str(body["name"]), kind="session", role=role)
        return Session(key=key, identity=identity, ends_at=ends)

    def _role_now(self, body: dict[str, Any]) -> Role | None:
        """None where the user is gone, or has another password since."""
        if "user" not in body:
            return Role(body.get("role", Role.ADMIN))
        name = str(body["name"])
        found = self._records.read_once((USER_KIND, name), lambda: find_user(self._documents, name))
        if found is None or found[0].password_id != body["user"]:
            return None
        return found[0].role

    def sign_out(self, token: str) -> None:
        """End a session; one that is not there is fine."""
        self._forget("session", _hash(token))

    def sweep(self) -> int:
        """Forget what is over; how many."""
        now, gone = self._clock.now(), 0
        for kind in ("session", "sign-in", "token"):
            for document in self._all(kind):
                ends_at = document.body.get("ends_at")
                if ends_at is not None and parse_rfc3339(ends_at) <= now:
                    self._forget(kind, document.id)
                    gone += 1
        return gone

    # ---- tokens

    def issue_token(
        self, name: str, *, kind: str, role: Role | None = None, ends_at: datetime | None = None
    ) -> str:
        """A token for a program: ``api``, ``device`` or ``ingest``; shown once.

        One of kind ``api`` is an administrator's unless a role is named.
        """
        token = secrets.token_urlsafe(32)
        self._put("token", token, body=_token_body(name, kind=kind, role=role, ends_at=ends_at))
        return token

    def is_known(self, token: str) -> bool:
        """Return whether ``identify`` answers without a read of the records, and so at once."""
        return self._records.known(("token", _hash(token))) is not None

    def identify(self, token: str) -> Identity:
        """Whose token this is.

        Raises:
            UnauthenticatedError: nobody's, or one that was revoked or is over.
        """
        body = self._body("token", _hash(token))
        if body is None:
            raise UnauthenticatedError("unknown token", fix="Issue one: lineside token issue.")
        ends_at = body.get("ends_at")
        if ends_at is not None and parse_rfc3339(ends_at) <= self._clock.now():
            raise UnauthenticatedError("the token is over", fix="Issue one: lineside token issue.")
        kind = str(body["kind"])
        return Identity(name=str(body["name"]), kind=kind, role=_role_of(body))

    def tokens(self) -> tuple[TokenInfo, ...]:
        """Every token and access key, by name and age."""
        found = [_token_facts(document) for _, document in self._issued()]
        return tuple(sorted(found, key=lambda one: (one.name, one.issued_at)))

    def revoke(self, name: str) -> int:
        """Take every token and access key of that name out of use; how many there were."""
        found = [
            (kind, document.id)
            for kind, document in self._issued()
            if document.body.get("name") == name
        ]
        for kind, key in found:
            self._forget(kind, key)
        return len(found)

    def _issued(self) -> list[tuple[str, Document]]:
        """Tokens, and access keys that people issued: those of devices end within the hour."""
        return [
            (kind, one)
            for kind in ("token", "access-key")
            for one in self._all(kind)
            if kind == "token" or "ends_at" not in one.body
        ]

    def ensure_token_file(self, path: Path, *, name: str, kind: str, hub: str) -> bool:
        """Make sure that the file holds a token that is known here; whether one was issued.

        A file that was taken away gets a new token, and what it held before is worth nothing. The
        tokens that other hubs of the site wrote into files of theirs stay.
        """
        body = _token_body(name, kind=kind, role=None, ends_at=None) | {"hub": hub}
        try:
            token = path.read_text().strip()
        except FileNotFoundError:
            self._revoke_file(name, hub=hub)
            token = secrets.token_urlsafe(32)
            self._put("token", token, body=body)
            _write_secret(path, token)
            logger.info("token written name=%s file=%s", name, path)
            return True
        if self._body("token", _hash(token)) is None:
            self._put("token", token, body=body)
        return False

    def _revoke_file(self, name: str, *, hub: str) -> None:
        """Take out of use what a hub wrote into its file."""
        for document in self._all("token"):
            mine = not self._shared or document.body.get("hub") == hub
            if mine and document.body.get("name") == name:
                self._forget("token", document.id)

    # ---- keeping

    def _all(self, kind: str) -> list[Document]:
        return list(every_document(self._documents, kind))

    def _put(self, kind: str, token: str, *, body: dict[str, Any]) -> None:
        now = rfc3339(self._clock.now())
        self._documents.put(kind, _hash(token), body={**body, "issued_at": now})

    def _body(self, kind: str, key: str) -> dict[str, Any] | None:
        def read() -> dict[str, Any] | None:
            try:
                return self._documents.get(kind, key).body
            except NotFoundError:
                return None

        return self._records.read_once((kind, key), read)

    def _forget(self, kind: str, key: str) -> None:
        self._documents.delete(kind, key)


def issue_access_key(
    records: Records, *, name: str, clock: Clock, role: Role | None = None, thing: str = "",
    ends_at: datetime | None = None,
) -> AccessKey:  # fmt: skip
    """A key pair as AWS clients take it; list and revoke by name."""
    key = AccessKey(
        id="LSAK" + secrets.token_hex(8).upper(), secret=secrets.token_urlsafe(30), name=name,
        role=role, thing=thing,
    )  # fmt: skip
    body: dict[str, Any] = {
        "name": name, "secret": key.secret, "issued_at": rfc3339(clock.now()), "thing": thing,
        "role": None if role is None else role.value,
    }  # fmt: skip
    if ends_at is not None:
        body["ends_at"] = rfc3339(ends_at)
    records.documents.put("access-key", key.id, body=body)
    return key


def issue_temporary_key(
    records: Records, *, thing: str, clock: Clock
) -> tuple[AccessKey, datetime]:
    """A key of a thing for an hour, and its end; what is over of it goes, the oldest beyond ten."""
    own = [
        one for one in every_document(records.documents, "access-key")
        if one.body.get("thing") == thing and "ends_at" in one.body
    ]  # fmt: skip
    own.sort(key=lambda one: str(one.body["ends_at"]))
    for place, one in enumerate(own):
        if _is_over(one.body, now=clock.now()) or len(own) - place >= _TEMPORARY_KEYS:
            revoke_access_key(records, one.id)
    ends_at = clock.now() + timedelta(hours=1)
    key = issue_access_key(records, name=thing, clock=clock, thing=thing, ends_at=ends_at)
    return key, ends_at


def _is_over(body: dict[str, Any], *, now: datetime) -> bool:
    return "ends_at" in body and now >= parse_rfc3339(body["ends_at"])


def issue_link(records: Records, *, name: str, clock: Clock, role: Role = Role.ADMIN) -> str:
    """A further sign-in token, for a hub that runs already."""
    return Auth(records, clock=clock, session_hours=1).issue_link(name=name, role=role)


def access_key(records: Records, key_id: str, *, now: datetime) -> AccessKey:
    """``NotFoundError`` when it was never issued, was revoked, or is over."""
    kind = "access-key"
    body = records.read_once((kind, key_id), lambda: records.documents.get(kind, key_id).body)
    if _is_over(body, now=now):
        raise NotFoundError("the key is over", where=key_id, fix="Ask for another.")
    role = body.get("role")
    return AccessKey(
        id=key_id, secret=str(body["secret"]), name=str(body["name"]),
        role=None if role is None else Role(role), thing=str(body.get("thing", "")),
    )  # fmt: skip


def revoke_access_key(records: Records, key_id: str) -> None:
    """Take a key out of use."""
    records.documents.delete("access-key", key_id)


def revoke_keys_of_thing(records: Records, thing: str) -> int:
    """Take every key that was issued for a thing out of use; how many there were."""
    gone = [
        one.id for one in every_document(records.documents, "access-key")
        if one.body.get("thing") == thing
    ]  # fmt: skip
    for key in gone:
        revoke_access_key(records, key)
    return len(gone)


def _token_body(
    name: str, *, kind: str, role: Role | None, ends_at: datetime | None
) -> dict[str, Any]:
    body: dict[str, Any] = {"name": name, "kind": kind}
    if kind == "api":
        body["role"] = str(role or Role.ADMIN)
    if ends_at is not None:
        body["ends_at"] = rfc3339(ends_at)
    return body


def _role_of(body: dict[str, Any]) -> Role | None:
    """Tokens of kind ``api`` that were issued before there were roles may do everything."""
    role = body.get("role", Role.ADMIN if body.get("kind") == "api" else None)
    return None if role is None else Role(role)


def _token_facts(document: Document) -> TokenInfo:
    body = document.body
    ends_at = body.get("ends_at")
    return TokenInfo(
        name=str(body["name"]),
        kind=str(body.get("kind", "key")),
        id="" if "kind" in body else document.id,
        role=_role_of(body),
        issued_at=parse_rfc3339(body["issued_at"]),
        ends_at=parse_rfc3339(ends_at) if ends_at is not None else None,
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _write_secret(path: Path, secret: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secret + "\n")
