"""Time is handed in: aware UTC for records, a monotonic count for durations and deadlines."""

import time
from datetime import UTC, datetime
from typing import Protocol

from lineside.core.errors import InvalidError


class Clock(Protocol):
    """Where a program reads the time; the tests' clock is moved by hand."""

    def now(self) -> datetime:
        """Aware UTC time of day, for records and messages."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards, for durations and deadlines only."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(tz=UTC)

    def monotonic(self) -> float:
        return time.monotonic()


def rfc3339(moment: datetime) -> str:
    """Write an aware time as RFC 3339 UTC with milliseconds and ``Z`` (the wire form).

    Microseconds are cut, not rounded, so a written time never lies after the moment itself.
    """
    if moment.tzinfo is None:
        raise InvalidError("a time without zone cannot be written", fix="Attach a UTC offset.")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def parse_rfc3339(text: str, *, where: str = "") -> datetime:
    """Read an RFC 3339 time with zone; the result is aware UTC.

    Raises:
        InvalidError: the text is no time, or names no zone.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise _bad_time(text, where) from error
    raise _bad_time(text, where)


def require_order(since: datetime, until: datetime, *, where: str) -> None:
    """Refuse a span that ends before anything can lie in it.

    Raises:
        InvalidError: ``until``, which is left out of the span, is not after ``since``.
    """
    if until <= since:
        raise InvalidError(
            f"the span ends at {rfc3339(until)}, before it has begun at {rfc3339(since)}",
            where=where,
            fix="Let it end later.",
        )


def _bad_time(text: object, where: str) -> InvalidError:
    return InvalidError(
        f"{text!r} is not a time with zone",
        where=where,
        fix="Write ISO 8601 UTC, such as 2023-05-15T12:41:07.318Z.",
    )
