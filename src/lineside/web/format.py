"""Formats of figures, ages and ids on pages; only ages that go on are written by scripts.

Thousands are set apart by a narrow no-break space (U+202F), units by a no-break space (U+00A0), so
that a figure never breaks across lines.
"""

from datetime import datetime

from lineside.core import rfc3339, short

NARROW = "\u202f"
UNIT = "\u00a0"
DASH = "\u2013"
_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86400
_TAIL = 6


def number(value: float, *, digits: int = 0) -> str:
    """``12609`` becomes ``12 609``; ``digits`` after the point, rounded half away from zero."""
    scaled = abs(value) * 10**digits
    whole = int(scaled + 0.5)
    sign = "-" if value < 0 and whole else ""
    text = str(whole).rjust(digits + 1, "0")
    head, tail = (text[:-digits], text[-digits:]) if digits else (text, "")
    groups: list[str] = []
    while len(head) > 3:
        head, last = head[:-3], head[-3:]
        groups.insert(0, last)
    grouped = NARROW.join([head, *groups])
    return f"{sign}{grouped}.{tail}" if digits else f"{sign}{grouped}"


def with_unit(value: float, unit: str, *, digits: int = 0) -> str:
    """A figure and its unit: ``27 ms``."""
    return f"{number(value, digits=digits)}{UNIT}{unit}"


def percent(share: float, *, digits: int = 1) -> str:
    """A share of 0-1 as ``1.9 %``."""
    return with_unit(share * 100, "%", digits=digits)


def probability(value: float) -> str:
    """Two digits; certainty is never claimed by rounding: 0.999 stays ``0.99``, 0.001 ``0.01``."""
    if 0 < value < 1:
        value = min(max(value, 0.01), 0.99)
    return number(value, digits=2)


def milliseconds(value_ms: float) -> str:
    """``8.4 ms`` below ten, ``27 ms`` below a second, ``1.2 s`` above."""
    if value_ms >= 1000:
        return with_unit(value_ms / 1000, "s", digits=1)
    return with_unit(value_ms, "ms", digits=0 if value_ms >= 10 else 1)


def span(seconds: float) -> str:
    """A length of time in at most two units: ``3 s``, ``6 min 40 s``, ``4 d 1 h``."""
    left = max(0, int(seconds))
    if left < _MINUTE_S:
        return f"{left}{UNIT}s"
    for size, unit, below, small in (
        (_DAY_S, "d", _HOUR_S, "h"),
        (_HOUR_S, "h", _MINUTE_S, "min"),
        (_MINUTE_S, "min", 1, "s"),
    ):
        if left >= size:
            rest = left % size // below
            return f"{left // size}{UNIT}{unit}" + (f" {rest}{UNIT}{small}" if rest else "")
    return ""


def age(seconds: float) -> str:
    """Return an age: ``just now`` below one second, ``3 s ago``."""
    return "just now" if seconds < 1 else f"{span(seconds)} ago"


def later(first: datetime, then: datetime) -> str:
    """Return a delay: ``12 ms later``; a clock that runs ahead is named as such."""
    seconds = (then - first).total_seconds()
    if seconds < 0:
        return f"{milliseconds(-seconds * 1000)} earlier: the sender's clock is ahead"
    return f"{milliseconds(seconds * 1000) if seconds < 60 else span(seconds)} later"


def size(count_bytes: int) -> str:
    """Bytes as people read them: ``512 B``, ``54 kB``, ``18.8 MB``, thousands by 1000."""
    if count_bytes < 1000:
        return f"{count_bytes}{UNIT}B"
    value = float(count_bytes)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5 or unit == "TB":
            return with_unit(value, unit, digits=1 if value < 100 and unit != "kB" else 0)
    return ""


def clock_time(at: datetime) -> str:
    """The time of day in UTC, for readers without script: ``14:02:11 UTC``."""
    return f"{rfc3339(at)[11:19]} UTC"


def day_time(at: datetime) -> str:
    """Date and time in UTC: ``2026-11-20 14:02:11 UTC``."""
    return f"{rfc3339(at)[:10]} {clock_time(at)}"


def tail(identifier: str) -> str:
    """The end of an id, as people read it out: ``…9F2K7Q``; a digest's first six hex digits."""
    if not identifier:
        return ""
    mark = "" if identifier.startswith("sha256:") or len(identifier) <= _TAIL else "…"
    return mark + short(identifier)


def at_most(count: int, most: int) -> str:
    """``99``, and ``99+`` for every number above ``most``."""
    return number(count) if count <= most else f"{number(most)}+"


def counted(count: int, one: str, *, many: str = "") -> str:
    """``1 camera``, ``6 cameras``; ``many`` where the plural is not ``one`` with an s."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"
