"""Passwords: what is asked of one, how it is kept, and how often it may be guessed.

1. Kept as argon2id with the library's parameters (RFC 9106, section 4: 64 MiB, 3 passes); at most
   two are computed at once, so that sign-ins cannot fill the memory.
2. A name that does not exist costs the same time and gets the same words as a wrong password.
3. Wrong tries are counted for each name, whether or not it exists, and for each address; above the
   limit nothing is looked at until the window has passed. The counts are in memory only.
"""

import threading
import unicodedata
from collections import OrderedDict, deque
from functools import lru_cache
from typing import TYPE_CHECKING

from lineside.core import Clock, InvalidError, need

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SHORTEST = 12
LONGEST = 200
_AT_ONCE = threading.BoundedSemaphore(2)
_MOST_KEYS = 4096


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


class Tries:
    """Wrong tries by key within a window; the keys used longest ago are forgotten when it is full.

    Safe from several threads.
    """

    def __init__(self, *, most: int, window_s: float, clock: Clock) -> None:
        self._most = most
        self._window_s = window_s
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """How long this key has to wait; 0 when it may try."""
        with self._lock:
            wrong = self._recent(key)
            if len(wrong) < self._most:
                return 0.0
            return wrong[0] + self._window_s - self._clock.monotonic()

    def count(self, key: str) -> None:
        """One wrong try."""
        with self._lock:
            wrong = self._recent(key)
            wrong.append(self._clock.monotonic())
            self._wrong[key] = wrong
            self._wrong.move_to_end(key)
            while len(self._wrong) > _MOST_KEYS:
                self._wrong.popitem(last=False)

    def _recent(self, key: str) -> deque[float]:
        wrong = self._wrong.get(key) or deque(maxlen=self._most)
        oldest = self._clock.monotonic() - self._window_s
        while wrong and wrong[0] <= oldest:
            wrong.popleft()
        return wrong
