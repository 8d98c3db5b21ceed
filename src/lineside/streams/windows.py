"""Operators over time-ordered records: pure, so the same records give the same answer again.

Time is the records' own. How the records are handed over (one by one, in chunks, once more) makes
no difference; a record older than one already seen is passed over.
"""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading(Generic[T]):
    """A value and the time at which it was true."""

    at: datetime
    value: T


def held_for(since: datetime, now: datetime, *, hold_s: float) -> bool:
    """Whether something that began at ``since`` has lasted ``hold_s``."""
    return now - since >= timedelta(seconds=hold_s)


def debounce(readings: Iterable[Reading[T]], *, hold_s: float) -> Iterator[Reading[T]]:
    """Changes that lasted: a value is given out once it has been the same for ``hold_s``.

    The first reading that confirms it makes it come out, with the time at which the value began.
    The value last given out is not repeated, however often others flickered in between.
    """
    began: Reading[T] | None = None
    given: Reading[T] | None = None
    latest: datetime | None = None
    for reading in readings:
        if latest is not None and reading.at < latest:
            continue
        latest = reading.at
        if began is None or reading.value != began.value:
            began = reading
        settled = given is not None and given.value == began.value
        if not settled and held_for(began.at, reading.at, hold_s=hold_s):
            given = began
            yield began
