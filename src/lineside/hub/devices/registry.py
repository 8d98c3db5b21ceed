"""Registry of the devices: their reports, stored counts and desired packages; the inventory.

1. A prediction is taken from a device that is known (its status was seen, or it was named at
   enrolment) and only for a camera of this plant; its chain is the device's own.
2. ``acked`` is the highest count up to which everything was stored; it is written in the
   transaction that stores, and told only after the commit.
3. A device that counts anew (a wiped spool) begins anew here too, instead of being told that
   events were stored which were not.
4. Status messages are kept in memory and written behind: who is new with its batch, at the next
   flush what changed its state, its packages or its version, and once a minute that it is still
   there. What kill -9 takes is at most that minute of "last heard".
5. Of several hubs one hears the devices; the others read what it wrote.
"""

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec

from lineside.core import (
    Clock,
    InvalidError,
    LinesideError,
    NotFoundError,
    Plant,
    decode_json,
    encode,
    load_plant,
    parse_rfc3339,
    rfc3339,
    stable_id,
)
from lineside.fleet import EnrolledDevice, JobQuery, JobService, Presence
from lineside.fleet.contract import OUTPUT_WAITS, Ack
from lineside.fleet.enrolment import ClockOffset, presence
from lineside.hub.config import HubConfig
from lineside.hub.devices.enrolment import Enrolment
from lineside.hub.eventlog.ledger import RecordsJournal
from lineside.hub.eventlog.topics import DeadLetterError, Reason, device_source, hub_source
from lineside.hub.views import DeviceView
from lineside.links.shots import LOSSES
from lineside.store import Documents, Logged, Records, every_document, open_records
from lineside.streams import EVENT_TYPE, Event

logger = logging.getLogger(__name__)

_MOST_ABOVE_GAP = 10_000
_PAGE = 1000
_STATES = ("online", "offline")
_WRITTEN_AGAIN_S = 60.0
_OVERLAP = timedelta(seconds=60)
_HEARD_LATE_S = 90.0
"""Rows are a minute old at most, and half a minute more where many are due at once."""
_INTERVALS = 3.0
_MOST_AT_ONCE = 500
_LASTING = (
    "packages",
    "desired",
    "every_s",
    "spool_depth",
    "spool_dropped",
    "frames",
    "predictions",
    "refused",
    "images_lost",
    "reads",
)
_TELLING = ("state", "version", "packages", "desired", "faults", "reads")
_REPORTED = ("packages", "reads")
_MOST_COUNT = 2**63
_COUNTED = ("spool_depth", "spool_dropped", "frames", "predictions")
_CAMERA_RULE: Literal["camera"] = "camera"
_CameraAction = Literal["lost", "returned"]
_CAMERA_ACTIONS: Mapping[str, _CameraAction] = {"lost": "lost", "connected": "returned"}
_MOST_REASON = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class AckState:
    """Stored counts of one device. ``above_gap``: those stored above a gap."""

    acked: int = 0
    above_gap: frozenset[int] = frozenset()

    def take(self, sequence: int, *, first: int, fresh: bool) -> "AckState":
        """After an event with this count was stored; ``fresh``: its id was new to the log."""
        if sequence <= 0:
            return self
        start = self
        if fresh and sequence <= self.acked and first <= sequence:
            start = AckState(acked=first - 1)
        acked = max(start.acked, first - 1)
        above_gap = {count for count in (*start.above_gap, sequence) if count > acked}
        while acked + 1 in above_gap:
            acked += 1
            above_gap.discard(acked)
        kept = sorted(above_gap)[:_MOST_ABOVE_GAP]
        return AckState(acked=acked, above_gap=frozenset(kept))


@dataclass(slots=True, kw_only=True)
class _Device:
    acks: AckState = field(default_factory=AckState)
    status: dict[str, Any] = field(default_factory=dict)
    at: datetime | None = None
    offset: ClockOffset = field(default_factory=ClockOffset)
    written: dict[str, Any] = field(default_factory=dict)
    written_s: float = 0.0
    dirty: bool = False
    is_heard_here: bool = False
    presence: Presence = Presence.NEVER


class AbsentDevice(NamedTuple):
    """A device that does not report; ``at``: when it was heard last."""

    device: str
    state: Presence
    at: datetime


class DeviceRegistry:
    """The fleet as the hub knows it."""

    def __init__(
        self,
        records: Records,
        *,
        plant: Plant,
        clock: Clock,
        most: int = 20_000,
        silent_after_s: float = 60.0,
    ) -> None:
        """Read what was written before.

        Args:
            records: hold what devices said.
            plant: of this site.
            clock: of this hub.
            most: devices.
            silent_after_s: of a device that reports oftener; else three of its own intervals.
        """
        self._records = records
        self._documents: Documents = records.documents
        self._most, self._silent_after_s = most, silent_after_s
        self._plant = plant
        self._clock = clock
        self._lock = threading.Lock()
        self._devices: dict[str, _Device] = {}
        self._unsaved: list[str] = []
        self._desired: dict[str, tuple[dict[str, Any], ...]] = {}
        self._conditions: dict[tuple[str, str], Event] = {}
        self._reports_changed: set[str] = set()
        self._read_at: datetime | None = None
        self.refresh(is_mine=False)

    def refresh(self, *, is_mine: bool) -> None:
        """Read what was written since the last time, by other hubs of the site.

        Args:
            is_mine: this hub hears the devices itself: it only gets to know those that are new.
        """
        begun = self._clock.now()
        since = self._read_at - _OVERLAP if self._read_at else None
        for document in every_document(self._documents, "device", size=_PAGE, since=since):
            with self._lock:
                entry = self._devices.get(document.id)
                if entry is None or not is_mine:
                    read = _read_row(document.body, before=entry)
                    self._devices[document.id] = read
                    told = entry.status if entry else read.status
                    if any(read.status.get(key) != told.get(key) for key in _REPORTED):
                        self._reports_changed.add(document.id)
        self._read_at = begun

    def known(self) -> list[str]:
        """Every device's name, in order."""
        with self._lock:
            return sorted(self._devices)

    def knows(self, device: str) -> bool:
        """Return whether a device reported its status, or was enrolled."""
        with self._lock:
            return device in self._devices

    def count(self) -> tuple[int, int]:
        """Return how many devices report now, and how many there are."""
        now = self._clock.now()
        with self._lock:
            online = sum(
                self._presence(one, now=now) is Presence.ONLINE for one in self._devices.values()
            )
            return online, len(self._devices)

    def absent(self) -> list[AbsentDevice]:
        """Return the devices that said goodbye or fell silent."""
        now = self._clock.now()
        with self._lock:
            found = [
                (name, self._presence(one, now=now), one.at) for name, one in self._devices.items()
            ]
        return [
            AbsentDevice(name, state, at) for name, state, at in found
            if at is not None and state in {Presence.OFFLINE, Presence.SILENT}
        ]  # fmt: skip

    def enrol(self, device: str) -> None:
        """Make a device known before it spoke."""
        with self._lock:
            self._devices.setdefault(device, _Device())
        self._save(device)

    def take_status(self, device: str, payload: bytes, *, retained: bool = False) -> None:
        """Keep a ``lineside.device/1``.

        Args:
            device: whose topic it came on.
            payload: the message.
            retained: it was said before, to somebody else: nothing was heard just now.

        Raises:
            DeadLetterError: not such a document, or one that names another device.
        """
        status = _read_status(device, payload)
        now = self._clock.now()
        with self._lock:
            is_new = device not in self._devices
            if is_new and len(self._devices) >= self._most:
                raise DeadLetterError(Reason.UNKNOWN_DEVICE, "too many devices", where=device)
            entry = self._devices.setdefault(device, _Device())
            before, entry.status = entry.status, _merge_status(entry.status, status=status)
            entry.dirty = True
            if any(before.get(key) != entry.status.get(key) for key in _REPORTED):
                self._reports_changed.add(device)
            said_at = _time_of(status)
            if not retained or entry.at is None:
                entry.at = said_at or now if retained else now
            entry.is_heard_here = entry.is_heard_here or not retained
            if not retained and said_at is not None and status["state"] == "online":
                entry.offset.note(moment=said_at, heard=now)
        if is_new:
            self._unsaved.append(device)

    def camera_events(self, device: str) -> list[Event]:
        """Return an event for each loss and return of a camera that the device told anew.

        The same change is told in every status until the next one; its event has one id.
        """
        with self._lock:
            conditions = _conditions(self._devices[device].status)
        events = []
        for condition in conditions:
            event = _camera_event(self._plant, device, condition)
            if event is not None and self._conditions.get((device, event.data["camera"])) != event:
                self._conditions[device, event.data["camera"]] = event
                events.append(event)
        return events

    def camera_figures(self) -> dict[str, dict[str, float]]:
        """Return of each camera in reports if none reaches it (``lost``), and images it lost."""
        now = self._clock.now()
        with self._lock:
            counts = [one.status.get("images_lost") for one in self._devices.values()]
            told = [
                each for one in self._devices.values()
                if self._presence(one, now=now) is Presence.ONLINE
                for each in _conditions(one.status)
            ]  # fmt: skip
        states = {camera.id: set[str]() for camera in self._plant.camera}
        for each in told:
            if each["camera"] in states:
                states[each["camera"]].add(str(each.get("state")))
        return {
            camera: {
                "lost": float("lost" in found and "connected" not in found),
                **{f"images_lost_{one}": _sum(counts, camera, one) for one in LOSSES},
            }
            for camera, found in sorted(states.items()) if found
        }  # fmt: skip

    def figures(self) -> dict[str, dict[str, float]]:
        """Return for each device whether it reports, and what it said last."""
        now = self._clock.now()
        with self._lock:
            return {name: self._figures(one, now=now) for name, one in self._devices.items()}

    def _figures(self, entry: _Device, *, now: datetime) -> dict[str, float]:
        found = {
            "online": float(self._presence(entry, now=now) is Presence.ONLINE),
            "heard_timestamp_s": entry.at.timestamp() if entry.at else None,
            "clock_offset_s": entry.offset.seconds,
            **{name: entry.status.get(name) for name in _COUNTED},
            **_output_figures(entry.status),
        }
        return {
            name: one for name, one in found.items()
            if isinstance(one, int | float) and abs(one) < _MOST_COUNT
        }  # fmt: skip

    def save_new(self) -> None:
        """Write the devices that were heard for the first time, in one transaction.

        Raises:
            UnavailableError: the store is away; the next call tries again.
        """
        new = list(self._unsaved)
        self._write(new)
        del self._unsaved[: len(new)]

    def flush(self) -> int:
        """Write what is due, in one transaction; how many rows. Says who fell silent or came back.

        Raises:
            UnavailableError: the store is away; the next call tries again.
        """
        self.save_new()
        now_s = self._clock.monotonic()
        with self._lock:
            due = [name for name, one in self._devices.items() if _is_due(one, now_s=now_s)]
        self._note_presence()
        return self._write(due[:_MOST_AT_ONCE])

    def flush_all(self) -> None:
        """Write everything that changed; at the end."""
        with self._lock:
            due = [name for name, one in self._devices.items() if one.dirty]
        self._write(due)

    def _write(self, names: list[str]) -> int:
        if names:
            with self._records.transaction():
                for name in names:
                    self._save(name)
        return len(names)

    def _note_presence(self) -> None:
        now = self._clock.now()
        with self._lock:
            entries = list(self._devices.items())
        for name, entry in entries:
            seen, before = self._presence(entry, now=now), entry.presence
            entry.presence = seen
            if seen is Presence.SILENT and before is not seen:
                logger.warning("device silent device=%s last=%s", name, entry.at)
            elif before is Presence.SILENT and seen is Presence.ONLINE:
                logger.info("device heard again device=%s", name)

    def _presence(self, entry: _Device, *, now: datetime) -> Presence:
        every_s = entry.status.get("every_s", 0.0)
        own_s = _INTERVALS * every_s if isinstance(every_s, int | float) else 0.0
        limit_s = max(self._silent_after_s, own_s)
        if not entry.is_heard_here:
            limit_s += _HEARD_LATE_S  # so much older may be what its row says
        return presence(
            str(entry.status.get("state", "")), heard_at=entry.at, now=now, silent_after_s=limit_s
        )

    def check(self, event: Event, *, line: str, camera: str) -> str:
        """The device that says this event of a camera, if it may.

        Raises:
            DeadLetterError: an unknown device, or a camera that is not of this topic.
        """
        prefix = device_source(self._plant.site, "")
        device = event.source.removeprefix(prefix)
        with self._lock:
            is_known = event.source.startswith(prefix) and device in self._devices
        if not is_known:
            raise DeadLetterError(
                Reason.UNKNOWN_DEVICE, f"{event.source!r} never told its status", where=event.source
            )
        named = event.data.get("frame")
        told = named.get("camera") if isinstance(named, dict) else None
        declared = {item.id: item.line for item in self._plant.camera}
        if told != camera or declared.get(camera) != line:
            raise DeadLetterError(
                Reason.WRONG_CAMERA, f"the frame is of {told!r}, the topic of {camera!r}"
            )
        return device

    def stored(self, device: str, counts: Iterable[tuple[Event, Logged]]) -> AckState:
        """Note stored events, inside their transaction; the new state is not told yet."""
        with self._lock:
            state = self._devices[device].acks
        for event, logged in counts:
            state = state.take(
                event.deviceseq, first=max(1, event.devicefirst), fresh=not logged.duplicate
            )
        self._save(device, acked=state.acked)
        return state

    def set_aside(self, device: str, event: Event) -> AckState:
        """Note an event that stands among the dead letters: it need not be sent again."""
        with self._lock:
            before = self._devices[device].acks
            first = max(1, event.devicefirst)
            state = before.take(event.deviceseq, first=first, fresh=False)
            self._devices[device].acks = state
        self._save(device)
        return state

    def committed(self, device: str, state: AckState) -> None:
        """The transaction is done; from now on this is what the device is told."""
        with self._lock:
            self._devices[device].acks = state

    def reports_changed(self) -> set[str]:
        """Devices that reported other packages, or read more, since the last call."""
        with self._lock:
            changed, self._reports_changed = self._reports_changed, set()
            return changed

    def reads(self, device: str) -> bool:
        """Return whether a device reports the revisions that it heard, so that it reads them."""
        with self._lock:
            entry = self._devices.get(device)
            return entry is not None and "desired" in entry.status

    def reads_points(self, device: str) -> bool:
        """Return whether a device reads operating points: it says so, or a package's report does.

        Devices that do not say what they read are known by the packages that they run.
        """
        with self._lock:
            entry = self._devices.get(device)
            status = entry.status if entry is not None else {}
            reads, told = status.get("reads"), status.get("packages", [])
            if isinstance(reads, list) and "operating_point" in reads:
                return True
            return any("operating_point" in one for one in told if isinstance(one, dict))

    def has_reported(self, device: str) -> bool:
        """Return whether the packages of a device are known: it reported, or never reports."""
        with self._lock:
            entry = self._devices.get(device)
            return entry is None or bool(entry.status)

    def set_desired(self, device: str, packages: tuple[dict[str, Any], ...]) -> None:
        """Remember what a device was asked to run."""
        with self._lock:
            self._desired[device] = packages

    def some(self, names: Iterable[str]) -> tuple[DeviceView, ...]:
        """Devices by name, in the order asked; who is not known is left out."""
        now = self._clock.now()
        with self._lock:
            found = [(name, self._devices.get(name)) for name in names]
            return tuple(
                self._view(name, entry, now=now) for name, entry in found if entry is not None
            )

    def presences(self) -> dict[str, Presence]:
        """Return the presence of every device, by name."""
        now = self._clock.now()
        with self._lock:
            entries = sorted(self._devices.items())
            return {name: self._presence(entry, now=now) for name, entry in entries}

    def all(self) -> tuple[DeviceView, ...]:
        """Every device, by name."""
        return self.some(self.known())

    def _view(self, name: str, entry: _Device, *, now: datetime) -> DeviceView:
        status = entry.status
        return DeviceView(
            id=name,
            state=self._presence(entry, now=now).value,
            at=entry.at,
            version=str(status.get("version", "")),
            packages=tuple(item for item in status.get("packages", ()) if isinstance(item, dict)),
            desired=self._desired.get(name, ()),
            spool_depth=int(status.get("spool_depth", 0)),
            acked=entry.acks.acked,
            status=dict(status),
            clock_offset_s=entry.offset.seconds,
        )

    def _save(self, device: str, *, acked: int | None = None) -> None:
        with self._lock:
            entry = self._devices[device]
            body = {
                "acked": entry.acks.acked if acked is None else acked,
                "status": entry.status,
                "at": entry.at.isoformat() if entry.at else "",
            }
            entry.dirty, entry.written = False, entry.status
            entry.written_s = self._clock.monotonic()
        try:
            self._documents.put("device", device, body=body)
        except LinesideError:
            with self._lock:
                entry.dirty, entry.written = True, {}
            raise


def _read_row(body: dict[str, Any], *, before: _Device | None) -> _Device:
    """A device as it was written down; what is never written stays as it was."""
    status = dict(body.get("status", {}))
    return _Device(
        acks=AckState(acked=int(body.get("acked", 0))), status=status, written=status,
        at=parse_rfc3339(body["at"]) if body.get("at") else None,
        offset=before.offset if before else ClockOffset(),
        presence=before.presence if before else Presence.NEVER,
    )  # fmt: skip


def _is_due(entry: _Device, *, now_s: float) -> bool:
    """Return whether a row must be written: it changed, or is a minute old."""
    if not entry.dirty:
        return False
    changed = any(entry.status.get(key) != entry.written.get(key) for key in _TELLING)
    return changed or now_s - entry.written_s >= _WRITTEN_AGAIN_S


def _time_of(status: dict[str, Any]) -> datetime | None:
    try:
        return parse_rfc3339(status.get("at", ""), where="at")
    except InvalidError:
        return None


def _conditions(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the conditions of cameras in a status, without what is no such record."""
    told = status.get("cameras")
    listed = told if isinstance(told, list) else []
    return [
        each for each in listed if isinstance(each, dict) and isinstance(each.get("camera"), str)
    ]


def _sum(counts: Iterable[Any], camera: str, reason: str) -> float:
    """Return the sum of a camera's images that devices lost, without what is no count."""
    of_camera = [one.get(camera) for one in counts if isinstance(one, dict)]
    found = [one.get(reason) for one in of_camera if isinstance(one, dict)]
    return sum(float(n) for n in found if isinstance(n, int) and 0 <= n < _MOST_COUNT)


def _output_figures(status: Mapping[str, Any]) -> dict[str, float]:
    """Return how many outputs have a fault, and the verdicts that came too late for them."""
    told = status.get("outputs")
    listed = [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []
    return {
        "outputs_fail_safe": sum(
            one.get("state") != "follows" and one.get("reason") != OUTPUT_WAITS for one in listed
        ),
        "outputs_late": sum(late for one in listed if isinstance(late := one.get("late"), int)),
    }


class CameraData(TypedDict):
    """A camera of a device was lost, or is back."""

    rule: Literal["camera"]
    action: _CameraAction
    camera: str
    device: str
    reason: str


def _camera_event(plant: Plant, device: str, condition: Mapping[str, Any]) -> Event | None:
    """Return the event of a change that a status tells; None where it tells none."""
    camera, action = condition["camera"], _CAMERA_ACTIONS.get(str(condition.get("state")))
    try:
        at = parse_rfc3339(condition.get("since") or "", where="since")
    except InvalidError:
        return None
    if action is None or camera not in {known.id for known in plant.camera}:
        return None
    data: CameraData = {
        "rule": _CAMERA_RULE, "action": action, "camera": camera, "device": device,
        "reason": str(condition.get("reason", ""))[:_MOST_REASON],
    }  # fmt: skip
    return Event(
        id=stable_id("evt", _CAMERA_RULE, device, camera, action, rfc3339(at)),
        source=hub_source(plant.site), type=EVENT_TYPE, time=at, subject=_CAMERA_RULE,
        data=dict(data),
    )  # fmt: skip


def ack_payload(device: str, acked: int) -> bytes:
    """``lineside.ack/1``."""
    return encode(Ack(schema="lineside.ack/1", device=device, sequence=acked))


def _merge_status(before: dict[str, Any], *, status: dict[str, Any]) -> dict[str, Any]:
    """Who goes tells nothing of packages and counts, so what it told last stands."""
    if status["state"] == "online":
        return status
    return status | {
        name: before[name] for name in _LASTING if name in before and not status.get(name)
    }


def _read_status(device: str, payload: bytes) -> dict[str, Any]:
    try:
        status = decode_json(payload, where="status")
    except InvalidError as error:
        raise DeadLetterError(Reason.NOT_JSON, str(error), where=device) from error
    good = (
        isinstance(status, dict)
        and status.get("schema") == "lineside.device/1"
        and status.get("device") == device
        and status.get("state") in _STATES
        and isinstance(status.get("packages", []), list)
        and isinstance(status.get("faults", []), list)
        and isinstance(status.get("spool_depth", 0), int)
    )
    if not good:
        raise DeadLetterError(Reason.FIELDS, "not a lineside.device/1 of this device", where=device)
    return dict(status)


STATES = (*(str(one) for one in Presence), "revoked")
_MOST_JOBS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceQuery:
    """Filter of a list; ``state`` is one of ``STATES``, or "" for all."""

    after: str = ""
    group: str = ""
    state: str = ""
    text: str = ""
    limit: int = 100

    def __post_init__(self) -> None:
        if self.state and self.state not in STATES:
            raise InvalidError(
                f"no state {self.state!r}", where="state", fix=f"Use one of: {', '.join(STATES)}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSummary:
    """A device in a list.

    Attributes:
        certified: whether it was enrolled; ``certificate_ends_at`` of its newest certificate.
        revoked_at: None while it may work.
    """

    id: str
    state: str
    at: datetime | None
    version: str
    packages: tuple[dict[str, Any], ...]
    spool_depth: int
    clock_offset_s: float | None
    groups: tuple[str, ...]
    certified: bool
    certificate_ends_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePage:
    """Some devices by name; ``following`` is the cursor behind a full page."""

    items: tuple[DeviceSummary, ...]
    following: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceJob:
    """One job on a device."""

    job_id: str
    status: str
    queued_at: datetime
    last_updated_at: datetime


class DeviceDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one device; ``report``, its last one (``told`` in JSON), or None."""

    line: DeviceSummary
    report: DeviceView | None = msgspec.field(name="told")
    enrolled: EnrolledDevice | None
    jobs: tuple[DeviceJob, ...]


class DeviceInventory:
    """Devices of a site: their reports, their enrolment and their jobs."""

    def __init__(self, devices: DeviceRegistry, *, enrolment: Enrolment, jobs: JobService) -> None:
        self.devices = devices
        self.enrolment = enrolment
        self.jobs = jobs

    def page(self, query: DeviceQuery) -> DevicePage:
        """Return a page of the list.

        Raises:
            NotFoundError: no such group.
        """
        rows = {one.device: one for one in self.enrolment.inventory.all()}
        names = list(islice(self._matching(query, rows=rows), query.limit + 1))
        shown = names[: query.limit]
        views = {one.id: one for one in self.devices.some(shown)}
        items = tuple(self._line(name, view=views.get(name), row=rows.get(name)) for name in shown)
        return DevicePage(items=items, following=shown[-1] if len(names) > query.limit else "")

    def one(self, device: str) -> DeviceDetails:
        """``NotFoundError`` for a name that was neither enrolled nor heard."""
        view = next(iter(self.devices.some((device,))), None)
        row = self.enrolment.inventory.find(device)
        if view is None and row is None:
            raise NotFoundError(
                f"no device {device!r}", where="device", fix="List them: lineside device list."
            )
        line = self._line(device, view=view, row=row)
        return DeviceDetails(line=line, report=view, enrolled=row, jobs=self._jobs(device))

    def figures(self) -> dict[str, dict[str, float]]:
        """Return the figures of the devices for ``/metrics``.

        One that was revoked, or was never heard, has none: an alert about it would never end.
        """
        revoked = {one.device for one in self.enrolment.inventory.all() if not one.active}
        return {
            name: one for name, one in self.devices.figures().items()
            if name not in revoked and "heard_timestamp_s" in one
        }  # fmt: skip

    def _matching(self, query: DeviceQuery, *, rows: Mapping[str, EnrolledDevice]) -> Iterator[str]:
        """Names in order, behind the cursor, of enrolled devices and of those only heard."""
        heard = self.devices.presences()
        known = {*heard, *rows}
        if query.group:
            known &= set(self.enrolment.inventory.things.members(query.group))
        for name in sorted(known):
            if name <= query.after or query.text.casefold() not in name.casefold():
                continue
            is_out = name in rows and not rows[name].active
            state = "revoked" if is_out else heard.get(name, Presence.NEVER).value
            if not query.state or state == query.state:
                yield name

    def _line(
        self, name: str, *, view: DeviceView | None, row: EnrolledDevice | None
    ) -> DeviceSummary:
        is_out = row is not None and not row.active
        has_certificate = row is not None and bool(row.serial)
        return DeviceSummary(
            id=name,
            state="revoked" if is_out else view.state if view else Presence.NEVER.value,
            at=view.at if view else None,
            version=view.version if view else "",
            packages=view.packages if view else (),
            spool_depth=view.spool_depth if view else 0,
            clock_offset_s=view.clock_offset_s if view else None,
            groups=tuple(self.enrolment.inventory.things.groups(name)),
            certified=has_certificate,
            certificate_ends_at=row.ends_at if row and has_certificate else None,
            revoked_at=row.revoked_at if row else None,
        )

    def _jobs(self, device: str) -> tuple[DeviceJob, ...]:
        """Some jobs that were for this device; none for one that may take none any longer."""
        if not self.enrolment.inventory.things.has(device):
            return ()
        page = self.jobs.runs_of_thing(device, JobQuery(limit=_MOST_JOBS))
        return tuple(
            DeviceJob(
                job_id=run.job_id, status=str(run.status), queued_at=run.queued_at,
                last_updated_at=run.last_updated_at,
            )
            for run in page.items
        )  # fmt: skip


@contextmanager
def open_inventory(config: HubConfig, *, clock: Clock) -> Iterator[DeviceInventory]:
    """Open the devices for a command beside the hub, whether or not it runs."""
    plant = load_plant(Path(config.plant))
    with open_records(config.records_url, clock=clock) as records:
        enrolment = Enrolment(
            records, journal=RecordsJournal(records), plant=plant, config=config, clock=clock
        )
        devices = DeviceRegistry(
            records, plant=plant, clock=clock, most=config.most_devices,
            silent_after_s=config.device_silent_s,
        )  # fmt: skip
        yield DeviceInventory(
            devices,
            enrolment=enrolment,
            jobs=JobService(records, clock=clock, directory=enrolment.inventory.things),
        )
