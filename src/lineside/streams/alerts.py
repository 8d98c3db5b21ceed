"""Alerts: a pure fold from what is observed to the alerts that are open. No clock, no disk.

1. An alert is of one cause and one object (a camera, a line, a device, …): at most one of both is
   open, in whatever order observations come and however often.
2. It opens when its cause has held for ``begin_after_s``, and closes by itself when the cause has
   been gone for ``end_after_s``. An alert that comes back within ``REOPEN_S`` is the same alert
   again, which nobody has acknowledged; each time it waits twice as long, up to ``REOPEN_S``,
   before it closes: what flaps stays open.
3. A cause that happens instead of lasting (drift, a rollback) closes with its acknowledgement, or
   when what happened no longer matters. An observation not newer than that opens nothing.
4. What was not observed changes nothing: after a restart an open alert stays open until its cause
   is looked at again.
5. Waiting begins anew where the clock was set back.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from lineside.core import ConflictError, Json, rfc3339, stable_id
from lineside.streams.event import Event

ALERT_TYPE = "lineside.alert.v1"
"""Type of the events that say what became of an alert; the subject is its cause."""
REOPEN_S = 300.0
MOST_NOTE = 1000


class AlertCause(StrEnum):
    """Cause of an alert; the text is that of API, events and pages."""

    CAMERA_LOST = "camera lost"
    CAMERA_MOVED = "camera moved"
    CAMERA_DARK = "camera dark"
    CAMERA_OVEREXPOSED = "camera overexposed"
    CAMERA_BLURRED = "camera blurred"
    CAMERA_FROZEN = "camera frozen"
    REJECT_RATE = "reject rate"
    UNSURE_RATE = "unsure rate"
    DRIFT = "drift"
    DEVICE_LOST = "device lost"
    SINK_STALLED = "sink stalled"
    DISK = "disk nearly full"
    CERTIFICATE = "certificate expires"
    ROLLBACK = "rollback"

    @property
    def of_camera(self) -> bool:
        """Return whether a camera gives no usable picture while it holds."""
        return self.value.startswith("camera ")


class CauseRule(NamedTuple):
    """Meaning and timing of a cause.

    ``happens``: it is an event, not a state; it closes when a person acknowledges it.
    """

    consequence: str
    remedy: str
    begin_after_s: float = 0.0
    end_after_s: float = 10.0
    happens: bool = False


_BLIND = "Parts pass this camera without a usable picture."
_SINK = "Other systems get no new events; they wait in the log."
RULES: Mapping[AlertCause, CauseRule] = {
    AlertCause.CAMERA_LOST: CauseRule(
        "Parts pass this camera without inspection.",
        "Check power, network and address of the camera, and the device that reads it.",
        begin_after_s=6.0,
    ),
    AlertCause.CAMERA_MOVED: CauseRule(
        _BLIND, "Turn the camera back to its reference view, or make a new reference image."
    ),
    AlertCause.CAMERA_DARK: CauseRule(
        _BLIND, "Check the lens cover, the lighting and the exposure of the camera."
    ),
    AlertCause.CAMERA_OVEREXPOSED: CauseRule(
        _BLIND, "Shorten the exposure, or shade the light that falls into the lens."
    ),
    AlertCause.CAMERA_BLURRED: CauseRule(_BLIND, "Clean the lens and set its focus."),
    AlertCause.CAMERA_FROZEN: CauseRule(
        "The line is judged by an old picture.",
        "Restart the camera, then the device that reads it.",
    ),
    AlertCause.REJECT_RATE: CauseRule(
        "More parts are rejected than the line's limit allows.",
        "Look at the newest rejects: is the process off, or the inspection wrong?",
        end_after_s=120.0,
    ),
    AlertCause.UNSURE_RATE: CauseRule(
        "More parts wait for people than the line's limit allows.",
        "Answer the review, then train with the answers or move the operating point.",
        end_after_s=120.0,
    ),
    AlertCause.DRIFT: CauseRule(
        "The inspection sees other pictures than it was trained on; its error rate may rise.",
        "Compare new pictures with those of the dataset; clean, relight or train again.",
        happens=True,
    ),
    AlertCause.DEVICE_LOST: CauseRule(
        "Its cameras may be without inspection; what it has judged waits on it.",
        "Check power and network of the device, then its log.",
    ),
    AlertCause.SINK_STALLED: CauseRule(
        _SINK, "Check the system that the sink writes to, and the reason it gives.",
        begin_after_s=60.0,
    ),
    AlertCause.DISK: CauseRule(
        "The hub stops storing pictures and events when the disk is full.",
        "Free room, or set retention.max_bytes.", end_after_s=120.0,
    ),
    AlertCause.CERTIFICATE: CauseRule(
        "Browsers and devices refuse the hub when its certificate has expired.",
        "Restart the hub, which renews the certificate of its own site, or renew tls_cert.",
    ),
    AlertCause.ROLLBACK: CauseRule(
        "The devices run the version before again.",
        "Read why on the page of the rollout before the next attempt.", happens=True,
    ),
}  # fmt: skip


class AlertKey(NamedTuple):
    """Names an alert among the open ones."""

    cause: AlertCause
    object: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A cause of an alert that holds for an object now, or is gone.

    Attributes:
        at: since when, or when it happened.
        reason: a sentence with the figure and its limit.
        line: of the plant; "" where it is of none.
        frame: id of the frame that shows it; "" for none.
        consequence: for this object; "" for that of the cause's rule.
    """

    cause: AlertCause
    object: str
    at: datetime
    holds: bool = True
    reason: str = ""
    line: str = ""
    frame: str = ""
    consequence: str = ""

    @property
    def key(self) -> AlertKey:
        """Cause and object."""
        return AlertKey(self.cause, self.object)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert, open or in the history.

    Attributes:
        id: id of the alert.
        cause: such as ``camera dark``; all stand in the [how-to on alerts](../how-to/alerts.md).
        object: id of the camera, line, inspection, device, follower, … that it is about.
        line: line of the object, where it has one.
        since: when its cause began.
        reason: the cause in words, with figure and limit.
        consequence, remedy: what it costs, and what to do.
        frame: id of the frame that shows it; empty for none.
        times: how often it opened; more than once where it flaps.
        ended_at: when its cause was gone; None while it is open.
        acknowledged_by, acknowledged_at, note: who acknowledged it, when, and what they wrote.
    """

    id: str
    cause: AlertCause
    object: str
    since: datetime
    reason: str
    consequence: str
    remedy: str
    line: str = ""
    frame: str = ""
    times: int = 1
    ended_at: datetime | None = None
    acknowledged_by: str = ""
    acknowledged_at: datetime | None = None
    note: str = ""

    @property
    def key(self) -> AlertKey:
        """Cause and object."""
        return AlertKey(self.cause, self.object)

    @property
    def open(self) -> bool:
        """Return whether its cause still holds, as far as is known."""
        return self.ended_at is None


class AlertAction(StrEnum):
    """Change of an alert."""

    OPENED = "opened"
    REOPENED = "reopened"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"


class AlertChange(NamedTuple):
    """An alert as it stands after a change, and when that was."""

    action: AlertAction
    alert: Alert
    at: datetime
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertEntry:
    """State of the fold for one cause and object.

    Attributes:
        alert: the newest one, open or closed; None before the first.
        held_since: when the cause was first seen while no alert is open; None: it does not hold.
        gone_since: when the cause was first seen gone while the alert is open; None: it holds.
    """

    alert: Alert | None = None
    held_since: datetime | None = None
    gone_since: datetime | None = None


AlertBook = Mapping[AlertKey, AlertEntry]
"""The newest alert of each cause and object."""


def feed_alerts(
    book: AlertBook, observations: Iterable[Observation], *, now: datetime
) -> tuple[dict[AlertKey, AlertEntry], tuple[AlertChange, ...]]:
    """Take observations in; return the book after them and what changed."""
    after, changes = dict(book), list[AlertChange]()
    for observed in observations:
        entry = after.get(observed.key, AlertEntry())
        after[observed.key], change = (
            _held(entry, observed, now) if observed.holds else _gone(entry, now)
        )
        changes += [change] if change else []
    return after, tuple(changes)


def survey(
    book: AlertBook, present: Iterable[Observation], *, causes: Collection[AlertCause],
    now: datetime, unknown: Collection[str] = (),
) -> list[Observation]:  # fmt: skip
    """Return what a look at all objects of some causes says: present, and gone where it is not.

    ``unknown``: objects of which nothing can be said now.
    """
    found = {one.key: one for one in present}
    gone = [
        Observation(cause=key.cause, object=key.object, at=now, holds=False)
        for key, entry in book.items()
        if key.cause in causes and key not in found and key.object not in unknown
        and (entry.held_since or (entry.alert and entry.alert.open))
    ]  # fmt: skip
    return [*found.values(), *gone]


def acknowledge_alert(alert: Alert, *, by: str, note: str, at: datetime) -> Alert:
    """Return the alert as acknowledged; one that happened is over with that.

    Raises:
        ConflictError: it was acknowledged before.
    """
    if alert.acknowledged_at is not None:
        raise ConflictError(
            f"already acknowledged by {alert.acknowledged_by}", where=alert.id,
            fix="Read the page again.",
        )  # fmt: skip
    ended_at = at if RULES[alert.cause].happens else alert.ended_at
    return replace(
        alert,
        acknowledged_by=by,
        acknowledged_at=at,
        note=note,
        ended_at=alert.ended_at or ended_at,
    )


def _held(
    entry: AlertEntry, observed: Observation, now: datetime
) -> tuple[AlertEntry, AlertChange | None]:
    before = entry.alert
    if before is not None and before.open:
        return replace(entry, gone_since=None), None
    rule, ended_at = RULES[observed.cause], before.ended_at if before is not None else None
    if rule.happens and ended_at is not None and observed.at <= ended_at:
        return entry, None
    held_since = min(entry.held_since or now, now)
    if now - held_since < timedelta(seconds=rule.begin_after_s):
        return replace(entry, held_since=held_since), None
    soon = ended_at is not None and now - ended_at < _span(REOPEN_S)
    if before is not None and soon and not rule.happens:
        alert = replace(
            before, ended_at=None, times=before.times + 1, reason=observed.reason,
            acknowledged_by="", acknowledged_at=None, note="",
        )  # fmt: skip
        return AlertEntry(alert=alert), AlertChange(AlertAction.REOPENED, alert, now)
    named_by = observed.at if rule.happens else now
    alert = Alert(
        id=stable_id("alr", observed.cause, observed.object, rfc3339(named_by)),
        cause=observed.cause, object=observed.object, since=observed.at, reason=observed.reason,
        consequence=observed.consequence or rule.consequence, remedy=rule.remedy,
        line=observed.line, frame=observed.frame,
    )  # fmt: skip
    return AlertEntry(alert=alert), AlertChange(AlertAction.OPENED, alert, now)


def _gone(entry: AlertEntry, now: datetime) -> tuple[AlertEntry, AlertChange | None]:
    before = entry.alert
    if before is None or not before.open:
        return replace(entry, held_since=None), None
    gone_since = min(entry.gone_since or now, now)
    wait_s = min(RULES[before.cause].end_after_s * 2 ** min(before.times - 1, 10), REOPEN_S)
    if now - gone_since < _span(wait_s):
        return replace(entry, gone_since=gone_since), None
    alert = replace(before, ended_at=gone_since)
    return AlertEntry(alert=alert), AlertChange(AlertAction.CLOSED, alert, now)


def _span(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def alert_event(change: AlertChange, *, source: str) -> Event:
    """``lineside.alert.v1`` of a change; the same change gives the same id."""
    alert = change.alert
    data: dict[str, Json] = {
        "alert": alert.id, "action": str(change.action), "cause": str(alert.cause),
        "object": alert.object, "line": alert.line, "since": rfc3339(alert.since),
        "reason": alert.reason, "consequence": alert.consequence, "remedy": alert.remedy,
        "frame": alert.frame, "times": alert.times, "by": change.by, "note": alert.note,
    }  # fmt: skip
    return Event(
        id=stable_id("evt", alert.id, change.action, str(alert.times), rfc3339(change.at)),
        source=source, type=ALERT_TYPE, time=change.at, subject=str(alert.cause), data=data,
    )  # fmt: skip
