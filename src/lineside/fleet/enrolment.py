"""Enrolment of a device: a code that works once, requests and answers.

1. A code carries a secret that the hub knows by its digest only, and the fingerprint of the site's
   authority, so that the device believes no other hub before it has shown anything.
2. The device makes its own key; what it sends is a signing request. The private key never leaves.
3. A code is used up by the first key that asks with it. The same key may ask again while the code
   runs, because an answer can be lost; any other key is refused.
4. Renewal is proved by the key that is running: it signs the new request. So is the certificate of
   a device's own page, which is for the device's names alone, and never for the hub's.
"""

import base64
import binascii
import contextlib
import hashlib
import ipaddress
import ssl
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from lineside.core import InvalidError, RefusedError, rfc3339

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
        device: its name; "": one is made up.
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
        authority: of the site, PEM.
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
