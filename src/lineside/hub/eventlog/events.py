"""The event log as people and programs read it."""

from datetime import datetime
from typing import Any, NotRequired, TypedDict, cast

from lineside.core import decode_json
from lineside.hub.views import EventView
from lineside.store import EventLog, Logged


class Events:
    """Entries of the log with their place in the chain."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def page(
        self, *, after: int = 0, kind: str = "", source: str = "", subject: str = "",
        limit: int = 100, newest_first: bool = False,
    ) -> list[EventView]:  # fmt: skip
        """Entries by position; with ``newest_first`` those before ``after`` (0: the end)."""
        page = self._log.read(
            after=after, limit=limit, source=source, type=kind, subject=subject,
            newest_first=newest_first,
        )  # fmt: skip
        return [view_of(logged) for logged in page]

    def one(self, event_id: str) -> EventView:
        """``NotFoundError`` if there is none."""
        return view_of(self._log.get(event_id))


def view_of(logged: Logged) -> EventView:
    """An entry of the log as it is shown."""
    entry = logged.entry
    return EventView(
        position=logged.position,
        source_position=logged.source_position,
        id=entry.id,
        source=entry.source,
        type=entry.type,
        subject=entry.subject,
        time=entry.captured_at,
        arrived_at=logged.arrived_at,
        hash=logged.hash,
        previous=logged.previous,
        event=decode_json(entry.body, where=f"log {logged.position}"),
    )


class LogPlace(TypedDict):
    """The place of an event in the log and in its chain."""

    position: int
    source_position: int
    arrived_at: datetime
    previous: str
    hash: str


class LoggedEvent(TypedDict):
    """A CloudEvent with its place in the log."""

    specversion: str
    id: str
    source: str
    type: str
    time: str
    datacontenttype: str
    data: dict[str, Any]
    subject: NotRequired[str]
    dataschema: NotRequired[str]
    deviceseq: NotRequired[int]
    devicefirst: NotRequired[int]
    recordedtime: NotRequired[str]
    log: LogPlace


def plain(view: EventView) -> LoggedEvent:
    """The CloudEvent with its place in the log beside it, as the API answers."""
    place = LogPlace(
        position=view.position, source_position=view.source_position, arrived_at=view.arrived_at,
        previous=view.previous, hash=view.hash,
    )  # fmt: skip
    return cast("LoggedEvent", {**view.event, "log": place})
