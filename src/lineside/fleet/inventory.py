"""The devices of a site that have a certificate, and how those that report are doing.

1. A device that was enrolled has a row here and is a thing of the job service, in the groups it was
   given; one name for all. A device that was revoked keeps its row, with the reason, and is no
   thing any longer. One that only reports, on a bus that asks for no certificate, is a thing too.
2. What a device says of itself changes with every message and is kept elsewhere, in memory first
   (``hub.devices``); here are the rules by which it is judged.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal

from lineside.core import InvalidError, NotFoundError, decode_fast, decode_json, encode
from lineside.fleet.jobs.repository import ThingDirectory
from lineside.fleet.jobs.requests import is_name
from lineside.store import Records, every_document

_KIND = "enrolled"
_SAMPLES = 8


class Presence(StrEnum):
    """State of a device's connection: present, gone, or silent for too long."""

    NEVER = "never"
    ONLINE = "online"
    SILENT = "silent"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolledDevice:
    """A device with a certificate of the site.

    Attributes:
        lines: of the plant, at whose cameras it looks.
        serial, ends_at: of its newest certificate.
        key: digest of that certificate's public key.
        revoked_at: None while it may work.
    """

    device: str
    lines: tuple[str, ...]
    enrolled_at: datetime
    enrolled_by: str
    serial: str
    ends_at: datetime
    key: str
    renewed_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_by: str = ""
    reason: str = ""
    schema: Literal["lineside.enrolled/1"] = "lineside.enrolled/1"

    @property
    def active(self) -> bool:
        """Return whether it was not revoked."""
        return self.revoked_at is None


class Inventory:
    """Rows of enrolled devices, and the things and groups of the job service."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._documents = records.documents
        self.things = ThingDirectory(records)

    def find(self, device: str) -> EnrolledDevice | None:
        """None where it was never enrolled."""
        try:
            body = self._documents.get(_KIND, device).body
        except NotFoundError:
            return None
        return decode_fast(EnrolledDevice, encode(body), where=f"device {device}")

    def one(self, device: str) -> EnrolledDevice:
        """``NotFoundError`` where it was never enrolled."""
        found = self.find(device)
        if found is None:
            raise NotFoundError(
                f"{device!r} was never enrolled",
                where="device",
                fix="List the devices: lineside device list.",
            )
        return found

    def all(self) -> list[EnrolledDevice]:
        """Every row, by name."""
        return [
            decode_fast(EnrolledDevice, encode(one.body), where=f"device {one.id}")
            for one in every_document(self._documents, _KIND)
        ]

    def enrol(self, row: EnrolledDevice, *, groups: Sequence[str]) -> None:
        """A new device, or one that comes back; in the groups it was given."""
        with self._records.transaction():
            self._keep(row)
            self.things.add(row.device, groups=groups)

    def renewed(self, row: EnrolledDevice) -> None:
        """The same device with its next certificate."""
        self._keep(row)

    def heard(self, devices: Sequence[str]) -> None:
        """Make things of devices that report; who was revoked, or has no name for it, stays out."""
        missing = [one for one in devices if is_name(one) and not self.things.has(one)]
        for device in missing:
            row = self.find(device)
            if row is None or row.active:
                self.things.add(device)

    def revoke(self, device: str, *, by: str, reason: str, at: datetime) -> EnrolledDevice:
        """Take a device out; its row stays."""
        row = replace(self.one(device), revoked_at=at, revoked_by=by, reason=reason)
        with self._records.transaction():
            self._keep(row)
            self.things.remove(device)
        return row

    def set_groups(self, device: str, groups: Sequence[str]) -> None:
        """Say anew which groups a device is in.

        Raises:
            NotFoundError: no such device.
            InvalidError: a group's name is none.
        """
        if not self.things.has(device):
            raise NotFoundError(
                f"{device!r} is no device that can be given work",
                where="device",
                fix="List the devices: lineside device list.",
            )
        self.things.add(device, groups=groups)

    def _keep(self, row: EnrolledDevice) -> None:
        body = decode_json(encode(row), where="enrolled")
        self._documents.put(_KIND, row.device, body=body)


class ClockOffset:
    """Offset of a device's clock to ours, from the times in its messages.

    A message takes its time, so what is measured is the offset less the delay; the largest of the
    last few is the one that was delayed least.
    """

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=_SAMPLES)

    def note(self, *, moment: datetime, heard: datetime) -> None:
        """A message that was written at ``moment`` and heard now."""
        self._seen.append((moment - heard).total_seconds())

    @property
    def seconds(self) -> float | None:
        """Above 0: the device's clock is ahead; None: nothing was heard yet."""
        return max(self._seen) if self._seen else None


def check_groups(groups: Sequence[str]) -> None:
    """``InvalidError`` for a name that no group can have."""
    for group in groups:
        if not is_name(group):
            raise InvalidError(
                f"{group[:80]!r} is no name of a group",
                where="groups",
                fix="Use 1 to 128 of a-z A-Z 0-9 : _ -.",
            )


def presence(
    state: str, *, heard_at: datetime | None, now: datetime, silent_after_s: float
) -> Presence:
    """Return a device's presence from the state it reported last and when."""
    if heard_at is None or state not in ("online", "offline"):
        return Presence.NEVER
    if state == "offline":
        return Presence.OFFLINE
    late = (now - heard_at).total_seconds() > silent_after_s
    return Presence.SILENT if late else Presence.ONLINE
