"""Observations of the site: what parts of the hub know already, as causes of alerts.

Nothing is measured here. Cameras are looked at every two seconds, all else every ten.
"""

from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from lineside.core import Clock, LinesideError, Plant
from lineside.core.plant import Line
from lineside.fleet import Presence, renewal_due
from lineside.hub.access.tls import own_certificate
from lineside.hub.alerts.service import Alerts
from lineside.hub.config import HubConfig
from lineside.hub.devices.enrolment import Enrolment
from lineside.hub.devices.registry import DeviceRegistry
from lineside.hub.eventlog.followers import Followers, FollowerState
from lineside.hub.ingest.line_figures import HOUR, LineCounts, LineFigures
from lineside.hub.learning.drift import DRIFT
from lineside.hub.live import LiveCameras
from lineside.hub.rollouts.repository import ROLLOUT_TYPE
from lineside.store import EventLog
from lineside.streams import EVENT_TYPE, Event, decode_event
from lineside.streams.alerts import AlertCause, Observation, survey
from lineside.web.format import counted, percent, span

CAMERA_CAUSES = {
    "no signal": AlertCause.CAMERA_LOST,
    "moved": AlertCause.CAMERA_MOVED,
    "dark": AlertCause.CAMERA_DARK,
    "overexposed": AlertCause.CAMERA_OVEREXPOSED,
    "blurred": AlertCause.CAMERA_BLURRED,
    "frozen": AlertCause.CAMERA_FROZEN,
}
"""State of a camera and the alert that it is."""
LEAST_PARTS = 20
"""Parts of an hour below which a rate says nothing."""
MOST_DEVICES = 20
"""With more devices lost than this, one alert stands for all of them."""
FLEET = "all devices"
HUB = "hub"
_SLOW_S = 10.0
_LAGGING_S = 300.0
_DRIFT_KEPT = timedelta(days=7)
_LOOKED_AT = 50
_BACK = ("going back", "rolled back")


class Look(NamedTuple):
    """A look at all objects of some causes; ``unknown``: of which it can say nothing now."""

    causes: Collection[AlertCause]
    present: list[Observation]
    unknown: Collection[str] = ()


class AlertWatch:
    """Looks at all causes and feeds what it sees; by the timer of one hub."""

    def __init__(
        self, alerts: Alerts, *, cameras: LiveCameras, counts: LineCounts, devices: DeviceRegistry,
        enrolment: Enrolment, followers: Followers, log: EventLog, config: HubConfig,
        plant: Plant, clock: Clock,
    ) -> None:  # fmt: skip
        self._alerts = alerts
        self._clock = clock
        self._next_s = 0.0
        self._fast: list[Callable[[datetime], Look]] = [lambda _: look_at_cameras(cameras)]
        self._slow: list[Callable[[datetime], Look]] = [
            lambda now: look_at_lines(counts, plant=plant, now=now),
            lambda now: look_at_devices(devices, enrolment=enrolment, now=now),
            lambda now: look_at_followers(followers, now=now),
            lambda now: look_at_machine(config, now=now),
            lambda now: look_at_certificate(config, now=now),
            lambda now: look_at_log(log, cameras=cameras, now=now),
        ]

    def tick(self) -> None:
        """Look at what is due.

        Raises:
            LinesideError: the store is away; the next call looks again.
        """
        now, looks = self._clock.now(), list(self._fast)
        if self._clock.monotonic() >= self._next_s:
            self._next_s = self._clock.monotonic() + _SLOW_S
            looks += self._slow
        observed: list[Observation] = []
        for look in looks:
            causes, present, unknown = look(now)
            observed += survey(self._alerts.book, present, causes=causes, now=now, unknown=unknown)
        self._alerts.feed(observed)


def look_at_cameras(cameras: LiveCameras) -> Look:
    """The state that header and tiles show; one that is not heard since the start is unknown."""
    present, unknown = [], []
    for view in cameras.all():
        if not cameras.is_heard(view.id):
            unknown.append(view.id)
        cause = CAMERA_CAUSES.get(view.state)
        if cause is None or view.since is None or view.id in unknown:
            continue
        fault = cameras.fault(view.id) if cause is not AlertCause.CAMERA_LOST else None
        newest = view.newest.id if view.newest else ""
        present.append(
            Observation(
                cause=cause, object=view.id, at=view.since, line=view.line,
                reason=f"{view.name}: {fault.reason}" if fault else f"{view.name} sends no picture",
                frame=fault.frame if fault else newest,
            )
        )  # fmt: skip
    return Look(frozenset(CAMERA_CAUSES.values()), present, unknown)


def look_at_lines(counts: LineCounts, *, plant: Plant, now: datetime) -> Look:
    """Rates of the last hour against the limits of the plant file."""
    present = [
        one
        for line in plant.line if line.limit_reject is not None or line.limit_review is not None
        for one in rates_over(line, counts.figures(line.id, counts.period(HOUR, now)), now=now)
    ]  # fmt: skip
    return Look((AlertCause.REJECT_RATE, AlertCause.UNSURE_RATE), present)


def rates_over(line: Line, figures: LineFigures, *, now: datetime) -> Iterator[Observation]:
    """Return the rates of a line that are above their limits; none of few parts."""
    for cause, rate, limit, word in (
        (AlertCause.REJECT_RATE, figures.reject_rate, line.limit_reject, "rejected"),
        (AlertCause.UNSURE_RATE, figures.review_share, line.limit_review, "for review"),
    ):
        if rate is None or limit is None or figures.parts < LEAST_PARTS or rate <= limit:
            continue
        reason = (
            f"{line.name}: {percent(rate)} of {counted(figures.parts, 'part')} in the last hour"
            f" {word}, limit {percent(limit)}"
        )
        yield Observation(cause=cause, object=line.id, at=now, line=line.id, reason=reason)


def look_at_devices(devices: DeviceRegistry, *, enrolment: Enrolment, now: datetime) -> Look:
    """Devices that fell silent or went, without those that were revoked."""
    lost = [
        one for one in devices.absent()
        if (row := enrolment.inventory.find(one.device)) is None or row.active
    ]  # fmt: skip
    if len(lost) <= MOST_DEVICES:
        present = [
            Observation(
                cause=AlertCause.DEVICE_LOST, object=one.device, at=one.at,
                reason=f"{one.device} {'is silent' if one.state is Presence.SILENT else 'went'},"
                f" last heard {span((now - one.at).total_seconds())} ago",
            )
            for one in lost
        ]  # fmt: skip
        return Look((AlertCause.DEVICE_LOST,), present)
    reason = f"{len(lost)} of {counted(devices.count()[1], 'device')} do not report"
    everything = Observation(
        cause=AlertCause.DEVICE_LOST, object=FLEET, at=min(one.at for one in lost), reason=reason
    )
    return Look((AlertCause.DEVICE_LOST,), [everything], {one.device for one in lost})


def look_at_followers(followers: Followers, *, now: datetime) -> Look:
    """Followers of the log that wait for another system, lag far behind or stopped."""
    present, unknown = [], []
    for view in followers.views():
        if view.state is FollowerState.STANDBY:
            unknown.append(view.name)
            continue
        reason = view.reason or f"{view.lag_s:.0f} s behind"
        stalled = view.state is not FollowerState.RUNNING or view.lag_s > _LAGGING_S
        if stalled:
            word = "stopped" if view.state is FollowerState.STOPPED else "waits"
            present.append(
                Observation(
                    cause=AlertCause.SINK_STALLED, object=view.name, at=view.since or now,
                    reason=f"{view.name} {word}: {reason}",
                )
            )  # fmt: skip
    return Look((AlertCause.SINK_STALLED,), present, unknown)


def look_at_machine(config: HubConfig, *, now: datetime) -> Look:
    """The disk: below twice the room at which the hub is no longer ready."""
    free, least = config.free_bytes, config.min_free_bytes
    if free >= 2 * least:
        return Look((AlertCause.DISK,), [])
    reason = (
        f"{free / 1e9:.2f} GB are free where the hub keeps its data;"
        f" below {least / 1e9:.2f} GB it is not ready"
    )
    return Look(
        (AlertCause.DISK,), [Observation(cause=AlertCause.DISK, object=HUB, at=now, reason=reason)]
    )


def look_at_certificate(config: HubConfig, *, now: datetime) -> Look:
    """The hub's own certificate, where pages are served with TLS."""
    causes = (AlertCause.CERTIFICATE,)
    if not config.secure:
        return Look(causes, [])
    try:
        found = own_certificate(config)
    except LinesideError:
        return Look(causes, [], (HUB,))
    days = (found.ends_at - now).days
    if days >= 0 and not renewal_due(found, now=now):
        return Look(causes, [])
    reason = f"the hub's certificate {'has expired' if days < 0 else f'expires in {days} days'}"
    found_due = Observation(cause=AlertCause.CERTIFICATE, object=HUB, at=now, reason=reason)
    return Look(causes, [found_due])


def look_at_log(log: EventLog, *, cameras: LiveCameras, now: datetime) -> Look:
    """Drift of the packages in use, and rollouts that went back and have no successor."""
    running = {
        one.inspection: one.package
        for view in cameras.all()
        for one in (view.prediction, *view.also) if one is not None
    }  # fmt: skip
    drift: dict[str, Observation] = {}
    for event in _newest(log, kind=EVENT_TYPE, subject=DRIFT):
        data, inspection = event.data, str(event.data.get("inspection", ""))
        in_use = running.get(inspection) in {None, data.get("package")}
        if inspection not in drift and in_use and now - event.time < _DRIFT_KEPT:
            drift[inspection] = Observation(
                cause=AlertCause.DRIFT, object=inspection, at=event.time,
                reason=f"{inspection}: {data.get('reason', '')}", frame=str(data.get("frame", "")),
            )  # fmt: skip
    back: dict[str, Observation | None] = {}
    for event in _newest(log, kind=ROLLOUT_TYPE):
        data, inspection = event.data, str(event.data.get("inspection", ""))
        before = back.get(inspection)
        if inspection not in back and data.get("action") not in _BACK:
            back[inspection] = None
        elif data.get("action") in _BACK and (inspection not in back or before is not None):
            back[inspection] = Observation(
                cause=AlertCause.ROLLBACK, object=inspection, at=event.time,
                reason=f"{data.get('group')}/{data.get('version')}: {data.get('reason')}",
            )  # fmt: skip
    present = [*drift.values(), *(one for one in back.values() if one is not None)]
    return Look((AlertCause.DRIFT, AlertCause.ROLLBACK), present)


def _newest(log: EventLog, *, kind: str, subject: str = "") -> Iterator[Event]:
    for logged in log.read(type=kind, subject=subject, newest_first=True, limit=_LOOKED_AT):
        yield decode_event(logged.entry.body, where=f"log position {logged.position}")
