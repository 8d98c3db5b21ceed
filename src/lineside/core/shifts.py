"""Shifts and days of a site, as spans of time.

Rules:

1. A shift begins and ends at times of the local clock, in steps of ``STEP_S``. One that does not
   end later than it begins ends on the following day; ``days`` are those on which it begins.
2. A local time that the clock skips (summer time begins) is the moment of the change. One that
   comes twice (summer time ends) is the first of both.
3. So every span is that of the local clock: it is an hour shorter or longer where the clock is
   changed in it, and two spans that meet on the clock meet in time.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum

from lineside.core.codec import entries, refuse, unless
from lineside.core.errors import Fault

STEP_S = 300
"""Shifts begin and end at whole steps: figures are counted by them."""
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][05]")
_WEEK_MIN = 7 * 24 * 60
_DAY_MIN = 24 * 60


class Weekday(StrEnum):
    """Day of the week on which a shift begins."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """A shift of the site.

    Attributes:
        name: what people call it.
        begin, end: local times ``"HH:MM"`` in steps of five minutes; a shift that does not end
            later than it begins ends on the following day.
        days: list of ``"mon"``, ``"tue"``, ``"wed"``, ``"thu"``, ``"fri"``, ``"sat"``, ``"sun"``;
            on which it begins; left out, every day.
    """

    name: str
    begin: str
    end: str
    days: tuple[Weekday, ...] = ()

    def __post_init__(self) -> None:
        refuse(
            self, self._check_clock("begin"), self._check_clock("end"),
            unless(self.name, key="name", value="", expected="a name", fix='Write name = "Early".'),
        )  # fmt: skip

    def _check_clock(self, key: str) -> Iterator[Fault]:
        return unless(
            _CLOCK.fullmatch(getattr(self, key)), key=key, value=getattr(self, key),
            expected="a local time in steps of five minutes", fix=f'Write {key} = "06:00", say.',
        )  # fmt: skip

    def minutes(self, day: Weekday) -> tuple[int, int]:
        """Return begin and end in minutes of the week, for one that begins on this day."""
        start = list(Weekday).index(day) * _DAY_MIN + _minutes(self.begin)
        length = (_minutes(self.end) - _minutes(self.begin) - 1) % _DAY_MIN + 1
        return start, start + length


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A span of time with a name: a shift, a day, an hour; ``end`` lies outside."""

    name: str
    begin: datetime
    end: datetime

    def __contains__(self, at: datetime) -> bool:
        return self.begin <= at < self.end


def shift_at(shifts: Sequence[Shift], at: datetime, *, zone: tzinfo) -> Period | None:
    """Return the shift that a moment lies in; None where there is none."""
    today = at.astimezone(zone).date()
    near = (today - timedelta(days=back) for back in (0, 1))
    found = (one for day in near for one in shifts_of(shifts, day, zone=zone) if at in one)
    return next(found, None)


def shifts_of(shifts: Sequence[Shift], day: date, *, zone: tzinfo) -> Iterator[Period]:
    """The shifts that begin on a local day, in the order of the plant file."""
    weekday = list(Weekday)[day.weekday()]
    for one in shifts:
        if weekday in (one.days or Weekday):
            ends = day if _minutes(one.end) > _minutes(one.begin) else day + timedelta(days=1)
            yield Period(
                name=one.name,
                begin=instant(datetime.combine(day, time.fromisoformat(one.begin)), zone=zone),
                end=instant(datetime.combine(ends, time.fromisoformat(one.end)), zone=zone),
            )


def day_at(at: datetime, *, zone: tzinfo) -> Period:
    """Return the local day that a moment lies in."""
    local = datetime.combine(at.astimezone(zone).date(), time())
    return Period(
        name=local.date().isoformat(),
        begin=instant(local, zone=zone),
        end=instant(local + timedelta(days=1), zone=zone),
    )


def instant(local: datetime, *, zone: tzinfo) -> datetime:
    """Return the moment of a time of the local clock, which names no zone; see rule 2."""
    first = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == local:
        return first
    before = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    offset = before.astimezone(zone).utcoffset()
    while first - before > timedelta(seconds=1):  # the moment of the change lies in between
        middle = before + (first - before) // 2
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            first = middle
    return (before + timedelta(seconds=1)).replace(microsecond=0)


def check_shifts(shifts: Sequence[Shift]) -> Iterator[Fault]:
    """Faults of shifts that overlap."""
    owners: dict[int, str] = {}
    for place, one in entries(shifts):
        days = [day for _, day in entries(one.days)] if one.days else list(Weekday)
        spans = [one.minutes(day) for day in days]
        steps = [
            step % _WEEK_MIN for begin, end in spans for step in range(begin, end, STEP_S // 60)
        ]
        other = next((owners[step] for step in steps if step in owners), "")
        if other or len(set(steps)) < len(steps):
            yield Fault(
                path=f"$.shift[{place}]", value=f"{one.begin}-{one.end}",
                expected=f"a shift that does not overlap {other or 'itself'!r}",
                fix="Let it begin when the other ends, or name other days.",
            )  # fmt: skip
        owners |= dict.fromkeys(steps, one.name)


def _minutes(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)
