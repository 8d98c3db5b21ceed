"""Settings of model groups: what follows an approval, for whom, and when it may begin.

1. Windows are times of the site's wall clock; a window that ends at or before its begin ends on the
   day after. Without any window, any time is right.
2. When the clock is set back, the hour that comes twice counts twice; when it is set forward, the
   hour that is left out counts never.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum

from lineside.core import InvalidError, NotFoundError, decode_fast, encode, to_plain
from lineside.store import Records

GROUP_KIND = "model-group"
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_AHEAD_MINUTES = 8 * 24 * 60
_MOST_WINDOWS = 32


class Weekday(StrEnum):
    """Days as settings name them, Monday first."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


_WEEK = tuple(Weekday)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time in which a roll-out may begin.

    Attributes:
        days: on which it begins; empty: every day.
        begins, ends: ``HH:MM`` of the site's clock; the end is outside.
    """

    days: tuple[Weekday, ...] = ()
    begins: str
    ends: str

    def __post_init__(self) -> None:
        for name, text in (("begins", self.begins), ("ends", self.ends)):
            if not _TIME.fullmatch(text):
                raise InvalidError(
                    f"{text!r} is no time of day", where=f"windows.{name}", fix="Write 22:00."
                )

    def holds(self, local: datetime) -> bool:
        """Return whether a time of the site's clock is inside."""
        minute = local.hour * 60 + local.minute
        begins, ends = _minutes(self.begins), _minutes(self.ends)
        today = self._begins_on(local)
        if begins < ends:
            return today and begins <= minute < ends
        return (today and minute >= begins) or (
            self._begins_on(local - timedelta(days=1)) and minute < ends
        )

    def _begins_on(self, local: datetime) -> bool:
        return not self.days or _WEEK[local.weekday()] in self.days


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """The settings of a model group: what follows an approval.

    Attributes:
        deploy_on_approval: whether a roll-out begins by itself.
        windows: when one may begin; empty: at any time.
        device_group: which devices it is for; "" none yet.
    """

    deploy_on_approval: bool = False
    windows: tuple[Window, ...] = ()
    device_group: str = ""

    def __post_init__(self) -> None:
        if len(self.windows) > _MOST_WINDOWS:
            raise InvalidError(
                f"{len(self.windows)} windows", where="windows", fix=f"At most {_MOST_WINDOWS}."
            )
        if self.deploy_on_approval and not self.device_group:
            raise InvalidError(
                "a roll-out for nobody",
                where="device_group",
                fix="Name the group of devices that an approved version goes to.",
            )


def may_start(now: datetime, windows: Sequence[Window], *, zone: tzinfo) -> bool:
    """Return whether a roll-out may begin now."""
    local = now.astimezone(zone)
    return not windows or any(window.holds(local) for window in windows)


def next_start(now: datetime, windows: Sequence[Window], *, zone: tzinfo) -> datetime | None:
    """The first moment from now on at which a roll-out may begin, to the minute.

    None where no window comes within a week, which a change of clocks can bring about.
    """
    if may_start(now, windows, zone=zone):
        return now
    # Minute by minute: a change of clocks needs no rule of its own, and it takes milliseconds.
    minute = now.replace(second=0, microsecond=0)
    ahead = (minute + timedelta(minutes=step) for step in range(1, _AHEAD_MINUTES))
    return next((at for at in ahead if may_start(at, windows, zone=zone)), None)


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


class ModelGroups:
    """Settings over records; safe from several threads and processes."""

    def __init__(self, records: Records) -> None:
        self._documents = records.documents

    def settings(self, group: str) -> GroupSettings:
        """Return the settings of a group, by default without anything automatic."""
        try:
            document = self._documents.get(GROUP_KIND, group)
        except NotFoundError:
            return GroupSettings()
        return decode_fast(GroupSettings, encode(document.body), where=f"{GROUP_KIND} {group}")

    def put(self, group: str, settings: GroupSettings) -> None:
        """Set them all."""
        self._documents.put(GROUP_KIND, group, body=to_plain(settings))
