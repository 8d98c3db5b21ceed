"""Time is handed in: aware UTC for records, a monotonic count for durations and deadlines.

A duration is a number of seconds. Where people write one, text with units is one too
(``"10 min"``, ``"1 h 30 min"``); a day is 24 hours.
"""

import math
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Protocol

import msgspec

from lineside.core.errors import InvalidError

_UNITS: Mapping[str, Decimal] = {
    "ms": Decimal("0.001"), "s": Decimal(1), "min": Decimal(60), "h": Decimal(3600),
    "d": Decimal(86400),
}  # fmt: skip
_AMOUNT = rf"([0-9]+(?:\.[0-9]+)?) ?({'|'.join(_UNITS)})"
_DURATION = rf"^{_AMOUNT}( {_AMOUNT})*$"
_LONGEST_DURATION = 100

DURATION = msgspec.Meta(extra_json_schema={"pattern": _DURATION, "examples": ["10 min"]})
Seconds = Annotated[float, DURATION]
"""Seconds, which a document may also write as text with units."""


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


def parse_duration(text: str) -> float:
    """Read a duration with units, such as ``10 min``, as seconds.

    Raises:
        InvalidError: the text is no duration.
    """
    if len(text) <= _LONGEST_DURATION and re.fullmatch(_DURATION, text.strip()):
        amounts = re.findall(_AMOUNT, text)
        seconds = float(sum(Decimal(number) * _UNITS[unit] for number, unit in amounts))
        if math.isfinite(seconds):
            return seconds
    raise InvalidError(
        f"{text!r} is not a duration", fix='Write seconds, or text with a unit such as "10 min".'
    )


def duration_text(seconds: float) -> str:
    """Return seconds as people read them: whole minutes, hours and days in the largest unit."""
    for unit in ("d", "h", "min"):
        count, rest = divmod(seconds, float(_UNITS[unit]))
        if count >= 1 and not rest:
            return f"{count:.0f} {unit}"
    return f"{seconds:.15g} s"


def duration_toml(seconds: float) -> str:
    """Return seconds as a plant file has them: a plain number, or text with a longer unit."""
    text = duration_text(seconds)
    return repr(seconds).removesuffix(".0") if text.endswith(" s") else f'"{text}"'


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
