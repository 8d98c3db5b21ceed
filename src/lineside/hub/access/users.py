"""Users as they are kept."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime

from lineside.core import InvalidError, NotFoundError, decode_fast, encode
from lineside.hub.views import Role
from lineside.store import Document, Documents

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
    """What makes two names one."""
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
