"""Enrolment of a device: a code that works once, requests and answers.

1. A code carries a secret that the hub knows by its digest only, and the fingerprint of the site's
   authority, so that the device believes no other hub before it has shown anything.
2. The device makes its own key; what it sends is a signing request. The private key never leaves.
3. A code is used up by the first key that asks with it. The same key may ask again while the code
   runs, because an answer can be lost; any other key is refused.
4. Renewal is proved by the key that is running: it signs the new request. So is the certificate of
   a device's own page, which is for the device's names alone, and never for the hub's.

Enrolled devices, and how those that report are doing:

5. A device that was enrolled has a row here and is a thing of the job service, in the groups it was
   given; one name for all. A device that was revoked keeps its row, with the reason, and is no
   thing any longer. One that only reports, on a bus that asks for no certificate, is a thing too.
6. What a device says of itself changes with every message and is kept elsewhere, in memory first
   (``hub.devices``); here are the rules by which it is judged.
"""

import base64
import binascii
import contextlib
import hashlib
import ipaddress
import ssl
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal

from lineside.core import (
    InvalidError,
    NotFoundError,
    RefusedError,
    decode_fast,
    decode_json,
    encode,
    rfc3339,
)
from lineside.fleet.jobs.repository import ThingDirectory
from lineside.fleet.jobs.requests import is_name
from lineside.store import Records, every_document

SECRET_BYTES = 10
_PRINT_BYTES = 16
_CHECK_BYTES = 4
_GROUP = 6
_ALIKE = str.maketrans({"0": "O", "1": "I", "8": "B"})
_FIX = "Copy it whole from what lineside device invite printed."


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentCode:
    """A code taken apart; both parts hexadecimal."""

    secret: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInvitation:
    """Settings of an invitation for a device.

    Attributes:
        device: its name; "": generated automatically.
        groups: which groups of devices it will be in.
        lines: of the plant, at whose cameras it will look; empty: the only line there is.
        hours: how long the code works.
    """

    device: str = ""
    groups: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    hours: float = 24.0

    def __post_init__(self) -> None:
        if not 0 < self.hours <= 24 * 14:
            raise InvalidError(
                f"{self.hours:g} hours", where="hours", fix="Use more than 0 and at most 336."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """An invitation as it is kept, without its secret.

    Attributes:
        used_key: digest of the key that used it up; "": nobody yet.
    """

    device: str
    groups: tuple[str, ...]
    lines: tuple[str, ...]
    invited_at: datetime
    invited_by: str
    ends_at: datetime
    used_key: str = ""
    used_at: datetime | None = None
    schema: Literal["lineside.invitation/1"] = "lineside.invitation/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeQuestion:
    """Body of the first question: is the code good, and for which name?"""

    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeAnswer:
    """Its answer."""

    device: str
    site: str
    schema: Literal["lineside.invited/1"] = "lineside.invited/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRequest:
    """Body of the enrolment. ``request``: PKCS #10, PEM."""

    secret: str
    request: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalRequest:
    """Body of a renewal.

    Attributes:
        certificate: the one that runs, PEM.
        request: for the certificate after it, PKCS #10, PEM.
        proof: signature of ``renewal_message`` by the running key, base64.
    """

    certificate: str
    request: str
    proof: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentAnswer:
    """Everything an enrolled device needs to work.

    Attributes:
        certificate: the device's, PEM.
        authority: certificate of the site's CA, PEM, under the key that devices read.
        root: the update repository's root metadata, JSON; "": there is none.
        bus: URL of the site's bus for devices.
        plant: the plant file, TOML.
        cameras: of its lines; empty: all.
        token: what packages are fetched with.
    """

    device: str
    site: str
    certificate: str
    authority: str
    root: str
    bus: str
    plant: str
    cameras: tuple[str, ...]
    token: str
    schema: Literal["lineside.enrolment/1"] = "lineside.enrolment/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalAnswer:
    """The next certificate, PEM."""

    certificate: str
    schema: Literal["lineside.renewal/1"] = "lineside.renewal/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """Body of a device's question for its own page's certificate; as ``RenewalRequest``.

    ``proof`` is of ``page_message``.
    """

    certificate: str
    request: str
    proof: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAnswer:
    """The page's certificate with the authority's behind it, PEM, and what it is for."""

    certificate: str
    hosts: tuple[str, ...]
    schema: Literal["lineside.page_certificate/1"] = "lineside.page_certificate/1"


def fingerprint_of(ca_certificate: bytes) -> str:
    """SHA-256 of a certificate (PEM), its first half, hexadecimal.

    Raises:
        InvalidError: no certificate.
    """
    try:
        der = ssl.PEM_cert_to_DER_cert(ca_certificate.decode("ascii"))
    except (ValueError, UnicodeDecodeError) as error:
        raise InvalidError(
            "no certificate in PEM form", where="authority", fix="Ask the site's hub."
        ) from error
    return hashlib.sha256(der).hexdigest()[: 2 * _PRINT_BYTES]


def write_code(secret: bytes, *, fingerprint: str) -> str:
    """The code as a person carries it: groups of letters and digits (RFC 4648, 6)."""
    told = secret + bytes.fromhex(fingerprint)
    text = base64.b32encode(told + _check(told)).decode()
    return "-".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))


def read_code(text: str) -> EnrolmentCode:
    """A code as somebody typed it; case, blanks and hyphens do not matter.

    Raises:
        InvalidError: mistyped, cut off, or no code at all.
    """
    bare = "".join(text.split()).replace("-", "").upper().translate(_ALIKE)
    try:
        whole = base64.b32decode(bare)
    except (binascii.Error, ValueError) as error:
        raise InvalidError("no enrolment code", where="code", fix=_FIX) from error
    told, check = whole[:-_CHECK_BYTES], whole[-_CHECK_BYTES:]
    if len(told) != SECRET_BYTES + _PRINT_BYTES or _check(told) != check:
        raise InvalidError("the enrolment code is mistyped", where="code", fix=_FIX)
    return EnrolmentCode(secret=told[:SECRET_BYTES].hex(), fingerprint=told[SECRET_BYTES:].hex())


def secret_digest(secret: str) -> str:
    """Under what an invitation is kept; 80 random bits need no slow hash."""
    return hashlib.sha256(b"lineside.invitation/1\n" + secret.encode()).hexdigest()


def renewal_message(request: bytes) -> bytes:
    """Return the message that the present key signs to request the next certificate."""
    return b"lineside.renewal/1\n" + request


def page_message(request: bytes) -> bytes:
    """Return the message that the present key signs to request the page's certificate."""
    return b"lineside.page_certificate/1\n" + request


def page_hosts(device: str, *, address: str, names: Collection[str]) -> tuple[str, ...]:
    """Under which names a device's page may prove itself: its own, and where it asks from.

    Args:
        device: its name.
        address: from which it asks.
        names: names and addresses of the hub: no device proves that it is the hub.
    """
    name = device.lower().replace("_", "-")
    wanted = [name, f"{name}.local"]
    with contextlib.suppress(ValueError):
        wanted.append(str(ipaddress.ip_address(address)))
    others = {one.lower() for one in names}
    return tuple(one for one in wanted if one not in others)


def use_invitation(invitation: Invitation, *, key: str, now: datetime) -> Invitation:
    """The invitation after a key asked with it.

    Raises:
        RefusedError: it is over, or another key used it up.
    """
    check_runs(invitation, now=now)
    if invitation.used_key and invitation.used_key != key:
        at = rfc3339(invitation.used_at or now)
        raise RefusedError(
            f"this code was used already, at {at}, by another key",
            where=invitation.device,
            fix="If that was not you, revoke the device; then ask for a new code.",
        )
    return replace(invitation, used_key=key, used_at=invitation.used_at or now)


def check_runs(invitation: Invitation, *, now: datetime) -> None:
    """``RefusedError`` for a code that is over."""
    if invitation.ends_at <= now:
        raise RefusedError(
            f"this code was good until {rfc3339(invitation.ends_at)}",
            where=invitation.device,
            fix="Ask for a new one: lineside device invite.",
        )


def _check(body: bytes) -> bytes:
    return hashlib.sha256(b"lineside.code/1\n" + body).digest()[:_CHECK_BYTES]


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
    """A device with a certificate of the site, or one without that was revoked.

    Attributes:
        lines: of the plant, at whose cameras it looks.
        serial, ends_at: of its newest certificate; "" and when it was revoked where it had none.
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
        """Take a device out; its row stays. One that only reported gets a row."""
        row = self.find(device) or EnrolledDevice(
            device=device, lines=(), enrolled_at=at, enrolled_by="", serial="", ends_at=at, key=""
        )
        row = replace(row, revoked_at=at, revoked_by=by, reason=reason)
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
