"""Users and their passwords: names, hashes, and how they are stored.

1. A password is kept as argon2id with the library's parameters (RFC 9106, section 4: 64 MiB, 3
   passes). At most two are computed at once, so that sign-ins cannot fill the memory.
2. A name that does not exist costs the same time and gets the same words as a wrong password.
"""

import threading
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from lineside.core import InvalidError, NotFoundError, decode_fast, encode, need
from lineside.hub.access.permissions import Role
from lineside.store import Document, Documents

if TYPE_CHECKING:
    from argon2 import PasswordHasher

USER_KIND = "user"
_LONGEST_NAME = 64
_PAGE = 100


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
    found: list[User] = []
    after = ""
    while page := documents.page(USER_KIND, after=after, limit=_PAGE):
        found += [_user(document) for document in page]
        after = page[-1].id
    return tuple(found)


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
