"""Passwords: what is asked of one, how it is kept, and how often it may be guessed.

1. Kept as argon2id with the library's parameters (RFC 9106, section 4: 64 MiB, 3 passes); at most
   two are computed at once, so that sign-ins cannot fill the memory.
2. A name that does not exist costs the same time and gets the same words as a wrong password.
3. Wrong tries are counted for each name, whether or not it exists, and for each address; above the
   limit nothing is looked at until the window has passed. The counts are in memory only.
"""

import threading
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from lineside.core import InvalidError, need

if TYPE_CHECKING:
    from argon2 import PasswordHasher

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


def matches(kept: str, password: str) -> bool:
    """Whether it is the password; with ``kept`` empty never, after the same time."""
    from argon2.exceptions import InvalidHashError, VerificationError

    with _AT_ONCE:
        nobody = _nobody()  # always, so that its own making tells nothing
        try:
            _hasher().verify(kept or nobody, _normal(password))
        except (VerificationError, InvalidHashError):
            return False
    return bool(kept)


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
