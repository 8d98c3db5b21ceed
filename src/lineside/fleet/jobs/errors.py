"""Conflicts that the operator's interface answers in different ways."""

from lineside.core import ConflictError


class JobThereError(ConflictError):
    """The job id is taken by another job."""


class JobTransitionError(ConflictError):
    """The state forbids it."""


class JobVersionError(ConflictError):
    """The execution is at another version than expected."""
