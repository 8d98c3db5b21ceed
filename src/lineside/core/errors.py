"""The six things a caller can do about a failure: classes with exit code and HTTP status.

A message says what happened, ``where`` says at which place, ``fix`` says what to do. Secrets never
stand in any of the three.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_TRIES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with a document: where it is, what was seen, what was expected, the fix."""

    path: str
    value: str
    expected: str
    fix: str

    def __str__(self) -> str:
        place = "" if self.path == "$" else f"{self.path}: "
        return f"{place}{self.sentence}. {self.fix}".rstrip()

    @property
    def sentence(self) -> str:
        """The fault without its place and its mend; ``nothing`` is the value of a missing key."""
        if self.value == "nothing":
            return f"missing, expected {self.expected}"
        return f"{self.value} is not {self.expected}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JointFault(Fault):
    """A fault of one key that nobody knows where one of ``needs``, other keys, cannot be read."""

    needs: tuple[str, ...]


class LinesideError(Exception):
    """Any failure lineside names; the subclass says what the caller can do about it."""

    exit_code = 1
    http_status = 500
    title = "Internal error"

    def __init__(
        self, message: str, *, where: str = "", fix: str = "", faults: tuple[Fault, ...] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = str(where)
        self.fix = fix
        self.faults = faults

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        mend = f" fix: {self.fix}" if self.fix else ""
        return f"{self.message}{place}{mend}"


class InvalidError(LinesideError):
    """The input is wrong; do not retry."""

    exit_code = 2
    http_status = 400
    title = "Invalid input"


class NotFoundError(LinesideError):
    """The thing named is not there."""

    exit_code = 3
    http_status = 404
    title = "Not found"


class ConflictError(LinesideError):
    """The thing changed since it was read; read again, redo."""

    exit_code = 4
    http_status = 409
    title = "Conflict"


class StaleError(ConflictError):
    """A document is not at the version that was read: somebody else wrote it first."""


class RefusedError(LinesideError):
    """A signature, digest, credential or permission was refused; never retry."""

    exit_code = 5
    http_status = 403
    title = "Refused"


class UnavailableError(LinesideError):
    """The other side is away; retry later."""

    exit_code = 6
    http_status = 503
    title = "Unavailable"


class MissingExtraError(LinesideError):
    """An optional dependency is absent; the fix names the command that installs it."""

    exit_code = 7
    http_status = 501
    title = "Missing optional dependency"


def retry_stale(act: Callable[P, T]) -> Callable[P, T]:
    """Decorator of a function that reads, changes and writes if nobody else wrote meanwhile.

    Where somebody did, the function runs again from its start.

    Raises:
        UnavailableError: others wrote first each time, and nothing was written.
    """

    @wraps(act)
    def again(*args: P.args, **kwargs: P.kwargs) -> T:
        for left in reversed(range(_TRIES)):
            try:
                return act(*args, **kwargs)
            except StaleError as error:
                if not left:
                    raise UnavailableError(
                        f"others keep writing: {error.message}", fix="Try again."
                    ) from error
        raise AssertionError(act)

    return again
