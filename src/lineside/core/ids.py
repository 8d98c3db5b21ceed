"""Names for things: sortable ids for what is made, digests for what is content.

A made thing gets ``prefix_`` and a ULID (48 bits of milliseconds, 80 random bits, Crockford
base 32), so that ids sort by birth. Content gets ``sha256:`` and 64 hex digits. A frame's id is
computed from camera, capture time and content, so every program that sees the same picture of the
same moment names it alike without asking anyone, and a redelivered message changes nothing.
"""

import hashlib
import secrets
from datetime import UTC, datetime
from typing import NewType

from lineside.core.clock import Clock, rfc3339
from lineside.core.errors import InvalidError

Digest = NewType("Digest", str)
FrameId = NewType("FrameId", str)
EventId = NewType("EventId", str)
DeviceId = NewType("DeviceId", str)
CameraId = NewType("CameraId", str)

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_HEX_DIGITS = 64
_LONGEST_NUMBER = 18


def _base32(number: int, *, length: int) -> str:
    return "".join(_CROCKFORD[(number >> (5 * place)) & 31] for place in reversed(range(length)))


def new_id(prefix: str, *, clock: Clock) -> str:
    """Make a sortable id such as ``dev_01J9ZQ…``: prefix, underscore, 26 characters."""
    milliseconds = int(clock.now().timestamp() * 1000)
    return f"{prefix}_{_base32((milliseconds << 80) | secrets.randbits(80), length=26)}"


def made_at(identifier: str) -> datetime:
    """When an id of ``new_id`` was made, to the millisecond.

    Raises:
        InvalidError: not such an id.
    """
    text = identifier.rpartition("_")[2]
    if len(text) != 26 or text.strip(_CROCKFORD):
        raise InvalidError(f"{identifier!r} is no sortable id", where="id", fix="Give one.")
    number = 0
    for letter in text:
        number = (number << 5) | _CROCKFORD.index(letter)
    return datetime.fromtimestamp((number >> 80) / 1000, tz=UTC)


def digest_of(data: bytes) -> Digest:
    """SHA-256 of the bytes as ``sha256:<64 hex>``."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def parse_digest(text: str, *, where: str = "") -> Digest:
    """Accept ``sha256:<64 lower-case hex>`` and nothing else."""
    head, _, tail = text.partition(":")
    if head != "sha256" or len(tail) != _HEX_DIGITS or tail.strip("0123456789abcdef"):
        raise InvalidError(
            f"{text!r} is not a digest", where=where, fix="Write sha256: and 64 hex digits."
        )
    return Digest(text)


def split_version(name: str) -> tuple[str, int]:
    """Group and number of a version of a model, written ``GROUP/NUMBER``.

    Raises:
        InvalidError: it is not written so.
    """
    group, _, number = name.rpartition("/")
    if not (group and number.isascii() and number.isdecimal() and len(number) <= _LONGEST_NUMBER):
        raise InvalidError(
            f"{name[:100]!r} is no version", where="version",
            fix="Write GROUP/NUMBER such as tiles/3; a package also by its digest, sha256:….",
        )  # fmt: skip
    return group, int(number)


def frame_id(*, camera: str, captured_at: datetime, digest: str) -> FrameId:
    """Name a frame by what it is: ``frm_`` and 26 characters of a hash over its three facts."""
    facts = f"{camera}\n{rfc3339(captured_at)}\n{digest}".encode()
    number = int.from_bytes(hashlib.sha256(facts).digest()[:17], "big") >> 6
    return FrameId("frm_" + _base32(number, length=26))


def stable_id(prefix: str, *parts: str) -> str:
    """Name a thing by its parts: the same parts give the same id, in every program."""
    joined = "\n".join(parts).encode()
    number = int.from_bytes(hashlib.sha256(joined).digest()[:17], "big") >> 6
    return f"{prefix}_{_base32(number, length=26)}"


def short(identifier: str) -> str:
    """The first six characters people read out: of a digest its hex, of an id its tail's end."""
    if identifier.startswith("sha256:"):
        return identifier[7:13]
    return identifier.rpartition("_")[2][-6:]
