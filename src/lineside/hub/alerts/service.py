"""Alerts of the site: the fold of ``streams.alerts`` over stored state, and what people do to them.

1. Each alert is a document of kind ``alert``. It changes in the transaction of the event
   ``lineside.alert.v1`` that says so: neither is ever without the other.
2. One hub looks at the causes, the one that reads the cameras; at the followers that hubs share
   each hub does. Any hub shows the alerts and takes acknowledgements; a document that another hub
   wrote meanwhile is read again first.
3. Of those that are over, the newest ``MOST_KEPT`` are kept; their events stay in the log. The
   newest of a cause that happens stays longer: what was acknowledged does not open again.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from lineside.core import (
    Clock,
    ConflictError,
    InvalidError,
    NotFoundError,
    Plant,
    decode,
    to_plain,
)
from lineside.hub.eventlog.ledger import Ledger
from lineside.hub.eventlog.topics import hub_source
from lineside.store import Document, Records, every_document
from lineside.streams.alerts import (
    MOST_NOTE,
    RULES,
    Alert,
    AlertAction,
    AlertBook,
    AlertChange,
    AlertEntry,
    AlertKey,
    Observation,
    acknowledge_alert,
    alert_event,
    feed_alerts,
)

KIND = "alert"
MOST_KEPT = 500
_PAGE = 500
_OVERLAP = timedelta(seconds=60)
_READ_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAlerts:
    """``lineside.alerts/1``: every alert that is open at a time.

    Attributes:
        schema: name and version of this message.
        at: the time.
        open: the alerts; empty when nothing is wrong.
    """

    at: datetime
    open: tuple[Alert, ...]
    schema: Literal["lineside.alerts/1"] = "lineside.alerts/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """Body of an acknowledgement; ``note``: what was seen or done, at most 1000 letters."""

    note: str = ""

    def __post_init__(self) -> None:
        if len(self.note) > MOST_NOTE:
            raise InvalidError(
                f"a note of {len(self.note)} letters, at most {MOST_NOTE}", where="note",
                fix="Shorten it.",
            )  # fmt: skip


class Alerts:
    """Open alerts and their history; safe from several threads."""

    def __init__(self, records: Records, *, ledger: Ledger, plant: Plant, clock: Clock) -> None:
        self._records, self._documents = records, records.documents
        self._ledger = ledger
        self._plant = plant
        self._clock = clock
        self._lock = threading.RLock()
        self._alerts: dict[str, Alert] = {}
        self._versions: dict[str, int] = {}
        self._entries: dict[AlertKey, AlertEntry] = {}
        self._read_at: datetime | None = None
        self._read_s = 0.0
        self._waiting = 0

    def load(self) -> None:
        """Read what was stored, and what other hubs stored since the last time."""
        begun, since = self._clock.now(), self._read_at
        written = every_document(
            self._documents, KIND, size=_PAGE, since=since and since - _OVERLAP
        )
        read = [(decode(Alert, one.body, where=f"alert {one.id}"), one.version) for one in written]
        with self._lock:
            for alert, version in sorted(read, key=lambda one: one[0].open):
                if self._versions.get(alert.id, 0) < version:
                    self._keep(alert, version)
            self._read_at, self._read_s = begun, self._clock.monotonic()

    # ---- what is seen

    @property
    def book(self) -> AlertBook:
        """The newest alert of each cause and object."""
        with self._lock:
            return dict(self._entries)

    def feed(self, observations: Sequence[Observation]) -> tuple[AlertChange, ...]:
        """Take observations in; return what changed.

        Raises:
            UnavailableError: the store is away; nothing changed.
            ConflictError: another hub wrote meanwhile; the next call reads it first.
        """
        with self._lock:
            self._read_if_shared(always=True)
            after, changes = feed_alerts(self._entries, observations, now=self._clock.now())
            if changes:
                self._record(changes)
            self._entries = after
        return changes

    def open(self) -> tuple[Alert, ...]:
        """Open alerts: those that nobody acknowledged first, then the newest first."""
        found = [one for one in self._known() if one.open]
        return tuple(sorted(found, key=lambda one: (one.acknowledged_at is not None, -_s(one))))

    def history(self, *, before: str = "", limit: int = 100) -> tuple[Alert, ...]:
        """Alerts that are over, newest first, from behind the alert ``before`` on.

        Raises:
            NotFoundError: no such alert.
        """
        found = sorted((one for one in self._known() if not one.open), key=_rank, reverse=True)
        if before:
            last = _rank(self.one(before))
            found = [one for one in found if _rank(one) < last]
        return tuple(found[:limit])

    def one(self, alert_id: str) -> Alert:
        """``NotFoundError`` if there is none."""
        with self._lock:
            self._read_if_shared()
            if alert_id not in self._alerts:
                raise NotFoundError(
                    f"no alert {alert_id!r}", where="alert", fix="List them: lineside alert list."
                )
            return self._alerts[alert_id]

    def count(self) -> int:
        """Return how many open alerts nobody acknowledged, as far as read; never waits."""
        return self._waiting

    def _known(self) -> list[Alert]:
        with self._lock:
            self._read_if_shared()
            return list(self._alerts.values())

    def message(self, *, at: datetime) -> OpenAlerts:
        """Return all open alerts as they are said on the bus: as the store has them now."""
        with self._lock:
            self._read_if_shared(always=True)
        return OpenAlerts(at=at, open=self.open())

    # ---- what people do

    def acknowledge(self, alert_id: str, given: Acknowledgement, *, by: str) -> Alert:
        """Say that somebody looks after an alert.

        Raises:
            NotFoundError: no such alert.
            ConflictError: it was acknowledged before, or another hub changed it meanwhile.
        """
        with self._lock:
            self._read_if_shared(always=True)
            before, now = self.one(alert_id), self._clock.now()
            after = acknowledge_alert(before, by=by, note=given.note.strip(), at=now)
            self._record([AlertChange(AlertAction.ACKNOWLEDGED, after, now, by)])
            return after

    # ---- the store

    def _record(self, changes: Sequence[AlertChange]) -> None:
        """Write changes with their events, then keep them in memory."""
        source = hub_source(self._plant.site)
        events = [alert_event(one, source=source) for one in changes]
        newest = {one.alert.id: one.alert for one in changes}
        over = sorted((one for one in self._alerts.values() if not one.open), key=_rank)
        forgotten = [
            one.id for one in over[: max(0, len(over) - MOST_KEPT)]
            if not (RULES[one.cause].happens and self._entries[one.key].alert == one)
        ]  # fmt: skip
        written: list[Document] = []

        def write(_logged: object) -> None:
            for alert_id, alert in newest.items():
                body: dict[str, Any] = to_plain(alert)
                expect = self._versions.get(alert_id, 0)
                written.append(self._documents.put(KIND, alert_id, body=body, expect=expect))
            for alert_id in forgotten:
                self._documents.delete(KIND, alert_id)

        try:
            self._ledger.record(events, within=write)
        except ConflictError:
            self._read_at = None  # the other hub's clock may be far from this one's
            raise
        for document in written:
            self._keep(newest[document.id], document.version)
        for alert_id in forgotten:
            del self._alerts[alert_id], self._versions[alert_id]

    def _keep(self, alert: Alert, version: int) -> None:
        before = self._alerts.get(alert.id)
        self._waiting += _waits(alert) - (before is not None and _waits(before))
        self._alerts[alert.id], self._versions[alert.id] = alert, version
        entry = self._entries.get(alert.key, AlertEntry())
        shown = entry.alert
        if shown is None or shown.id == alert.id or _newness(alert) >= _newness(shown):
            self._entries[alert.key] = AlertEntry(
                alert=alert, gone_since=entry.gone_since if alert.open else None
            )

    def _read_if_shared(self, *, always: bool = False) -> None:
        """Read what other hubs wrote, at most once a second unless a decision rests on it."""
        late = self._clock.monotonic() - self._read_s >= _READ_AGAIN_S
        if self._records.shared and (always or late):
            self.load()


def _s(alert: Alert) -> float:
    return alert.since.timestamp()


def _waits(alert: Alert) -> bool:
    return alert.open and alert.acknowledged_at is None


def _newness(alert: Alert) -> tuple[bool, datetime]:
    """Rank alerts of one key: the open one, then that which ended last."""
    return alert.open, alert.ended_at or alert.since


def _rank(alert: Alert) -> tuple[datetime, str]:
    return alert.ended_at or alert.since, alert.id


def alerts_topic(site: str) -> str:
    """Topic on which the open alerts stand, retained."""
    return f"lineside/{site}/alerts"
