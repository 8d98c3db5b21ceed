"""Devices: what they said, what was stored of it, and what is wished of them.

1. A prediction is taken from a device that is known (its status was seen, or it was named at
   enrolment) and only for a camera of this plant; its chain is the device's own.
2. ``acked`` is the highest count up to which everything was stored; it is written in the
   transaction that stores, and told only after the commit.
3. A device that counts anew (a wiped spool) begins anew here too, instead of being told that
   events were stored which were not.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from lineside.core import (
    Clock,
    InvalidError,
    Plant,
    decode_json,
    encode,
    parse_rfc3339,
)
from lineside.hub.topics import DeadLetterError, Reason, device_source
from lineside.hub.views import DeviceView
from lineside.store import Documents, Logged, Records
from lineside.streams import Event

_MOST_AHEAD = 10_000
_MOST_DEVICES = 1000
_STATES = ("online", "offline")


@dataclass(frozen=True, slots=True, kw_only=True)
class AckState:
    """How far one device is stored. ``ahead``: stored counts above a gap."""

    acked: int = 0
    ahead: frozenset[int] = frozenset()

    def take(self, sequence: int, *, first: int, fresh: bool) -> "AckState":
        """After an event with this count was stored; ``fresh``: its id was new to the log."""
        if sequence <= 0:
            return self
        start = self
        if fresh and sequence <= self.acked and first <= sequence:
            start = AckState(acked=first - 1)
        acked = max(start.acked, first - 1)
        ahead = {count for count in (*start.ahead, sequence) if count > acked}
        while acked + 1 in ahead:
            acked += 1
            ahead.discard(acked)
        kept = sorted(ahead)[:_MOST_AHEAD]
        return AckState(acked=acked, ahead=frozenset(kept))


@dataclass(slots=True, kw_only=True)
class _Device:
    acks: AckState = field(default_factory=AckState)
    status: dict[str, Any] = field(default_factory=dict)
    at: datetime | None = None


class Devices:
    """The fleet as the hub knows it."""

    def __init__(self, records: Records, *, plant: Plant, clock: Clock) -> None:
        self._documents: Documents = records.documents
        self._plant = plant
        self._clock = clock
        self._lock = threading.Lock()
        self._devices: dict[str, _Device] = {}
        self._desired: dict[str, tuple[dict[str, Any], ...]] = {}
        self._load()

    def _load(self) -> None:
        for document in self._documents.page("device", limit=_MOST_DEVICES):
            body = document.body
            self._devices[document.id] = _Device(
                acks=AckState(acked=int(body.get("acked", 0))),
                status=dict(body.get("status", {})),
                at=parse_rfc3339(body["at"]) if body.get("at") else None,
            )

    def known(self) -> list[str]:
        """Every device's name, in order."""
        with self._lock:
            return sorted(self._devices)

    def enrol(self, device: str) -> None:
        """Make a device known before it spoke."""
        with self._lock:
            self._devices.setdefault(device, _Device())
        self._save(device)

    def take_status(self, device: str, payload: bytes) -> None:
        """Keep a ``lineside.device/1``; a retained one may come again and again.

        Raises:
            DeadLetterError: not such a document, or one that names another device.
        """
        status = _read_status(device, payload)
        with self._lock:
            if device not in self._devices and len(self._devices) >= _MOST_DEVICES:
                raise DeadLetterError(Reason.UNKNOWN_DEVICE, "too many devices", where=device)
            entry = self._devices.setdefault(device, _Device())
            same = entry.status == status
            entry.status, entry.at = status, self._clock.now()
        if not same:
            self._save(device)

    def check(self, event: Event, *, line: str, camera: str) -> str:
        """The device that says this event, if it may.

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

    def wish(self, device: str, packages: tuple[dict[str, Any], ...]) -> None:
        """Remember what a device was asked to run."""
        with self._lock:
            self._desired[device] = packages

    def all(self) -> tuple[DeviceView, ...]:
        """Every device, by name."""
        with self._lock:
            entries = {name: _copy(entry) for name, entry in sorted(self._devices.items())}
            desired = dict(self._desired)
        return tuple(
            _view(name, entry, desired=desired.get(name, ())) for name, entry in entries.items()
        )

    def _save(self, device: str, *, acked: int | None = None) -> None:
        with self._lock:
            entry = self._devices[device]
            body = {
                "acked": entry.acks.acked if acked is None else acked,
                "status": entry.status,
                "at": entry.at.isoformat() if entry.at else "",
            }
        self._documents.put("device", device, body=body)


def _copy(entry: _Device) -> _Device:
    """A copy that later changes do not reach."""
    return _Device(acks=replace(entry.acks), status=dict(entry.status), at=entry.at)


def ack_payload(device: str, acked: int) -> bytes:
    """``lineside.ack/1``."""
    return encode({"schema": "lineside.ack/1", "device": device, "sequence": acked})


def desired_payload(packages: Iterable[dict[str, Any]]) -> bytes:
    """``lineside.desired/1``."""
    return encode({"schema": "lineside.desired/1", "packages": list(packages)})


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
        and isinstance(status.get("spool_depth", 0), int)
    )
    if not good:
        raise DeadLetterError(Reason.FIELDS, "not a lineside.device/1 of this device", where=device)
    return dict(status)


def _view(name: str, entry: _Device, *, desired: tuple[dict[str, Any], ...]) -> DeviceView:
    status = entry.status
    return DeviceView(
        id=name,
        state=str(status.get("state", "never")),
        at=entry.at,
        version=str(status.get("version", "")),
        packages=tuple(item for item in status.get("packages", ()) if isinstance(item, dict)),
        desired=desired,
        spool_depth=int(status.get("spool_depth", 0)),
        acked=entry.acks.acked,
        status=status,
    )
