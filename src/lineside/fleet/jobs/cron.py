"""Cron expressions of six parts, as maintenance windows have them. Pure.

``cron(minutes hours day-of-month month day-of-week year)`` in UTC; each part is ``*``, ``?``, a
number, a name (``JAN``, ``MON``), a range ``a-b``, a list ``a,b`` or a step ``a/n``. Sunday is 1.
``L``, ``W`` and ``#`` are refused. Source: AWS IoT developer guide, "Job scheduling".
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from lineside.core import InvalidError

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_PARTS = (
    ("minutes", 0, 59, ()), ("hours", 0, 23, ()), ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS), ("day of week", 1, 7, _DAYS), ("year", 1970, 2199, ()),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """The numbers that each part allows, in the order of the expression."""

    parts: tuple[frozenset[int], ...]

    def starts_at(self, moment: datetime) -> bool:
        """Whether a window opens in this minute."""
        minutes, hours, *_ = self.parts
        return moment.minute in minutes and moment.hour in hours and self.on_day(moment)

    def on_day(self, moment: datetime) -> bool:
        """Whether a window opens some time on this day."""
        _, _, days, months, weekdays, years = self.parts
        return (
            moment.day in days
            and moment.month in months
            and moment.isoweekday() % 7 + 1 in weekdays
            and moment.year in years
        )


def parse_cron(text: str) -> Cron:
    """Read an expression, with ``cron(…)`` around it or without.

    Raises:
        InvalidError: it is none.
    """
    bare = text.removeprefix("cron(").removesuffix(")") if text.startswith("cron(") else text
    parts = bare.split()
    if len(parts) != len(_PARTS):
        raise _wrong(text, f"{len(_PARTS)} parts are needed, there are {len(parts)}")
    return Cron(
        parts=tuple(
            frozenset(
                number
                for item in part.upper().split(",")
                for number in _numbers(item, row, text=text)
            )
            for part, row in zip(parts, _PARTS, strict=True)
        )
    )


def open_since(cron: Cron, *, minutes: int, now: datetime) -> datetime | None:
    """When the window that is open now was opened, the latest of several; None: it is closed."""
    minute = now.replace(second=0, microsecond=0)
    for back in range(minutes + 1):
        moment = minute - timedelta(minutes=back)
        if moment + timedelta(minutes=minutes) > now and cron.starts_at(moment):
            return moment
    return None


def _numbers(item: str, row: tuple[str, int, int, tuple[str, ...]], *, text: str) -> range:
    name, low, high, names = row
    span, _, step = item.partition("/")
    if span in ("*", "?"):
        first, last = low, high
    else:
        start, dash, end = span.partition("-")
        first = _number(start, names, text=text, name=name)
        last = _number(end, names, text=text, name=name) if dash else first
        last = high if step and not dash else last
    width = _number(step, (), text=text, name=name) if step else 1
    if not low <= first <= last <= high or width < 1:
        raise _wrong(text, f"{item!r} is out of range for {name} ({low} to {high})")
    return range(first, last + 1, width)


def _number(text_of: str, names: tuple[str, ...], *, text: str, name: str) -> int:
    if text_of in names:
        return names.index(text_of) + 1
    if not text_of.isascii() or not text_of.isdigit() or len(text_of) > 4:
        raise _wrong(text, f"{text_of[:20]!r} is no {name}")
    return int(text_of)


def _wrong(text: str, why: str) -> InvalidError:
    return InvalidError(
        f"{text[:60]!r} is no cron expression: {why}", where="startTime",
        fix="Write cron(0 22 ? * MON-FRI *).",
    )  # fmt: skip
