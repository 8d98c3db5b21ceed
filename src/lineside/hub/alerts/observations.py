"""Observations of the site: what parts of the hub know already, as causes of alerts.

Nothing is measured here. Cameras are looked at every two seconds, all else every ten.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple

from lineside.core import Clock, LinesideError, Plant
from lineside.core.plant import Line
from lineside.fleet import Presence, renewal_due
from lineside.hub.access.tls import own_certificate
from lineside.hub.alerts.service import Alerts
from lineside.hub.config import HubConfig
from lineside.hub.devices.enrolment import Enrolment
from lineside.hub.devices.registry import DeviceRegistry
from lineside.hub.eventlog.followers import Follower, Followers, FollowerState
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
WITHIN_HUB = frozenset(
    {
        "approvals", "comparisons", "drift", "line-figures", "operating-points", "pictures",
        "replays", "rule-sums", "rules",
    }
)  # fmt: skip
"""Followers that feed parts of the hub, no other system."""
LOOK_S = 10.0
"""Seconds between two looks at what is not a camera."""
_DERIVED_LATE = "What the hub derives from events stands still; they wait in the log."
_LAGGING_S = 300.0
_DRIFT_KEPT = timedelta(days=7)
_LOOKED_AT = 50
_BACK = ("going back", "rolled back")


class Survey(NamedTuple):
    """A look at all objects of some causes; ``unknown``: of which it can say nothing now."""

    causes: Collection[AlertCause]
    present: list[Observation]
    unknown: Collection[str] = ()


class AlertWatch:
    """Looks at all causes and feeds what it sees.

    One hub of a site looks at all; the followers that hubs share are looked at by each of them.
    """

    def __init__(
        self, alerts: Alerts, *, cameras: LiveCameras, counts: LineCounts, devices: DeviceRegistry,
        enrolment: Enrolment, followers: Followers, log: EventLog, config: HubConfig,
        plant: Plant, clock: Clock,
    ) -> None:  # fmt: skip
        self._alerts = alerts
        self._followers = followers
        self._clock = clock
        self._next_s = 0.0
        self._fast: list[Callable[[datetime], Survey]] = [lambda _: look_at_cameras(cameras)]
        self._slow: list[Callable[[datetime], Survey]] = [
            lambda now: look_at_lines(counts, plant=plant, now=now),
            lambda now: look_at_devices(devices, enrolment=enrolment, now=now),
            lambda now: look_at_followers(_own(followers), others=_shared(followers), now=now),
            lambda now: look_at_machine(config, now=now),
            lambda now: look_at_certificate(config, now=now),
            lambda now: look_at_log(log, cameras=cameras, opened=self._opened(), now=now),
        ]

    def tick(self) -> None:
        """Look at what is due.

        Raises:
            LinesideError: the store is away; the next call looks again.
        """
        now, looks = self._clock.now(), list(self._fast)
        if self._clock.monotonic() >= self._next_s:
            self._next_s = self._clock.monotonic() + LOOK_S
            looks += self._slow
        self._feed([look(now) for look in looks], now=now)

    def tick_shared(self) -> None:
        """Look at the followers that the hubs of a site share; each hub knows its own.

        Raises:
            LinesideError: the store is away; the next call looks again.
        """
        shared, now = _shared(self._followers), self._clock.now()
        if shared:
            own = _own(self._followers)
            self._feed([look_at_followers(shared, others=own, now=now)], now=now)

    def _opened(self) -> set[str]:
        """Inspections whose rollback is an open alert."""
        return {one.object for one in self._alerts.open() if one.cause is AlertCause.ROLLBACK}

    def _feed(self, looks: Iterable[Survey], *, now: datetime) -> None:
        observed: list[Observation] = []
        for causes, present, unknown in looks:
            observed += survey(self._alerts.book, present, causes=causes, now=now, unknown=unknown)
        self._alerts.feed(observed)


def look_at_cameras(cameras: LiveCameras) -> Survey:
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
    return Survey(frozenset(CAMERA_CAUSES.values()), present, unknown)


def look_at_lines(counts: LineCounts, *, plant: Plant, now: datetime) -> Survey:
    """Rates of the last hour against the limits of the plant file."""
    present = [
        one
        for line in plant.line if line.limit_reject is not None or line.limit_review is not None
        for one in rates_over(line, counts.figures(line.id, counts.period(HOUR, now)), now=now)
    ]  # fmt: skip
    return Survey((AlertCause.REJECT_RATE, AlertCause.UNSURE_RATE), present)


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


def look_at_devices(devices: DeviceRegistry, *, enrolment: Enrolment, now: datetime) -> Survey:
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
        return Survey((AlertCause.DEVICE_LOST,), present)
    reason = f"{len(lost)} of {counted(devices.count()[1], 'device')} do not report"
    everything = Observation(
        cause=AlertCause.DEVICE_LOST, object=FLEET, at=min(one.at for one in lost), reason=reason
    )
    return Survey((AlertCause.DEVICE_LOST,), [everything], {one.device for one in lost})


def _shared(followers: Followers) -> list[Follower]:
    return [one for one in followers if one.shared]


def _own(followers: Followers) -> list[Follower]:
    return [one for one in followers if not one.shared]


def look_at_followers(
    followers: Iterable[Follower], *, now: datetime, others: Iterable[Follower] = ()
) -> Survey:
    """Followers of the log that wait for another system, lag far behind or stopped.

    One whose page may take any time lags while it works, and one that begins with a long log until
    it came to its end. ``others``: looked at elsewhere.
    """
    present, unknown = [], [one.name for one in others]
    for follower in followers:
        view = follower.view()
        if view.state is FollowerState.STANDBY:
            unknown.append(view.name)
            continue
        reason = view.reason or f"{view.lag_s:.0f} s behind"
        may_lag = follower.fills or math.isinf(follower.stuck_s)
        is_late = view.lag_s > _LAGGING_S and not may_lag
        stalled = view.state is not FollowerState.RUNNING or is_late
        if stalled:
            word = "stopped" if view.state is FollowerState.STOPPED else "waits"
            present.append(
                Observation(
                    cause=AlertCause.SINK_STALLED, object=view.name, at=view.since or now,
                    reason=f"{view.name} {word}: {reason}",
                    consequence=_DERIVED_LATE if view.name in WITHIN_HUB else "",
                )
            )  # fmt: skip
    return Survey((AlertCause.SINK_STALLED,), present, unknown)


def look_at_machine(config: HubConfig, *, now: datetime) -> Survey:
    """The disk: below twice the room at which the hub is no longer ready."""
    free, least = config.free_bytes, config.min_free_bytes
    if free >= 2 * least:
        return Survey((AlertCause.DISK,), [])
    reason = (
        f"{free / 1e9:.2f} GB are free where the hub keeps its data;"
        f" below {least / 1e9:.2f} GB it is not ready"
    )
    return Survey(
        (AlertCause.DISK,), [Observation(cause=AlertCause.DISK, object=HUB, at=now, reason=reason)]
    )


def look_at_certificate(config: HubConfig, *, now: datetime) -> Survey:
    """The hub's own certificate, where pages are served with TLS."""
    causes = (AlertCause.CERTIFICATE,)
    if not config.secure:
        return Survey(causes, [])
    try:
        found = own_certificate(config)
    except LinesideError:
        return Survey(causes, [], (HUB,))
    days = (found.ends_at - now).days
    if days >= 0 and not renewal_due(found, now=now):
        return Survey(causes, [])
    reason = f"the hub's certificate {'has expired' if days < 0 else f'expires in {days} days'}"
    due = Observation(cause=AlertCause.CERTIFICATE, object=HUB, at=now, reason=reason)
    return Survey(causes, [due])


def look_at_log(
    log: EventLog, *, cameras: LiveCameras, now: datetime, opened: Collection[str] = ()
) -> Survey:
    """Drift of the packages in use, and rollouts that went back and have no successor.

    ``opened``: inspections whose rollback is an open alert; of each the newest rollout is read,
    however far back it lies.
    """
    running = {
        one.inspection: one.package
        for view in cameras.all()
        for one in (view.prediction, *view.also) if one is not None
    }  # fmt: skip
    drift: dict[str, Observation] = {}
    for event in islice(_newest(log, kind=EVENT_TYPE, subject=DRIFT), _LOOKED_AT):
        data, inspection = event.data, str(event.data.get("inspection", ""))
        in_use = running.get(inspection) in {None, data.get("package")}
        if inspection not in drift and in_use and now - event.time < _DRIFT_KEPT:
            drift[inspection] = Observation(
                cause=AlertCause.DRIFT, object=inspection, at=event.time,
                reason=f"{inspection}: {data.get('reason', '')}", frame=str(data.get("frame", "")),
            )  # fmt: skip
    back: dict[str, Observation] = {}
    settled: set[str] = set()  # by a newer rollout, or one before that did not go back
    for count, event in enumerate(_newest(log, kind=ROLLOUT_TYPE)):
        if count >= _LOOKED_AT and all(one in back or one in settled for one in opened):
            break
        data, inspection = event.data, str(event.data.get("inspection", ""))
        if data.get("action") not in _BACK:
            settled.add(inspection)
        elif inspection not in settled:
            back[inspection] = Observation(
                cause=AlertCause.ROLLBACK, object=inspection, at=event.time,
                reason=f"{data.get('group')}/{data.get('version')}: {data.get('reason')}",
            )  # fmt: skip
    return Survey((AlertCause.DRIFT, AlertCause.ROLLBACK), [*drift.values(), *back.values()])


def _newest(log: EventLog, *, kind: str, subject: str = "") -> Iterator[Event]:
    """Events of a type, newest first, a page at a time."""
    before = 0
    while page := log.read(
        after=before, type=kind, subject=subject, newest_first=True, limit=_LOOKED_AT
    ):
        for logged in page:
            yield decode_event(logged.entry.body, where=f"log position {logged.position}")
        before = page[-1].position
