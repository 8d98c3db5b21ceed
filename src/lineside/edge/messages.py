"""Messages of the device, beside frames and predictions (docs/reference/messages.md)."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from lineside.core import Digest, InvalidError, Plant, decode, encode, parse_digest, rfc3339
from lineside.core.factory import write_message
from lineside.links import FrameMessage
from lineside.vision import Frame

_MOST_BYTES = 256_000
_MOST_COUNT = 2**53 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredPackage:
    """One package the hub wants run here."""

    inspection: str
    digest: Digest
    url: str

    def __post_init__(self) -> None:
        parse_digest(self.digest, where="digest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """``lineside.desired/1``.

    Attributes:
        packages: one for each inspection that should have one.
        revisions: how often the hub changed each inspection's package; also of those that should
            have none. A hub that does not count says nothing.
        bad: digests that no inspection keeps in use where it cannot have what it should: the hub
            took them back from the line.
    """

    schema: Literal["lineside.desired/1"]
    packages: tuple[DesiredPackage, ...] = ()
    revisions: Mapping[str, int] = field(default_factory=dict)
    bad: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [wanted.inspection for wanted in self.packages]
        if len(set(names)) != len(names):
            raise InvalidError("one package for each inspection", where="packages")

    def of(self, inspection: str) -> tuple[str, int]:
        """Digest and revision of an inspection; "" for no package, 0 where nobody counted."""
        found = (one.digest for one in self.packages if one.inspection == inspection)
        return next(found, ""), self.revisions.get(inspection, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """``lineside.ack/1``: everything up to ``sequence`` is stored."""

    schema: Literal["lineside.ack/1"]
    device: str
    sequence: int

    def __post_init__(self) -> None:
        if not 0 <= self.sequence <= _MOST_COUNT:
            raise InvalidError("a count", where="sequence")


@dataclass(frozen=True, slots=True, kw_only=True)
class InUse:
    """A package that answers for its inspection."""

    inspection: str
    digest: Digest
    loaded_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraCondition:
    """Condition of a camera.

    Attributes:
        since: time of the last loss or return, RFC 3339; "" where there was none since the start.
        reason: of a loss, in words.
    """

    camera: str
    state: Literal["connected", "lost"] = "connected"
    since: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStatus:
    """``lineside.device/1``.

    Attributes:
        refused: reason → how many frames or messages.
        desired: inspection → the revision of the desired state that the device heard.
        every_s: how often the device says this at least; 0: it does not tell.
    """

    device: str
    state: Literal["online", "offline"]
    version: str
    at: str
    packages: tuple[InUse, ...] = ()
    spool_depth: int = 0
    spool_dropped: int = 0
    frames: int = 0
    predictions: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    cameras: tuple[CameraCondition, ...] = ()
    desired: Mapping[str, int] = field(default_factory=dict)
    every_s: float = 0.0
    schema: Literal["lineside.device/1"] = "lineside.device/1"


def read_desired(raw: bytes, *, where: str) -> Desired:
    """Read what the hub wants; ``InvalidError`` says what is wrong with it."""
    return decode(Desired, _bounded(raw, where), where=where)


def read_ack(raw: bytes, *, device: str, where: str) -> int:
    """The acknowledged sequence number.

    Raises:
        InvalidError: not such a document, or one for another device.
    """
    ack = decode(Ack, _bounded(raw, where), where=where)
    if ack.device != device:
        raise InvalidError(f"speaks of device {ack.device!r}", where=where, fix="Mind the topic.")
    return ack.sequence


def offline(*, device: str, version: str, at: datetime) -> bytes:
    """The last will."""
    status = DeviceStatus(device=device, state="offline", version=version, at=rfc3339(at))
    return encode(status)


def frame_message(frame: Frame) -> bytes:
    """A frame as the factory's camera message, with ``sequence`` and ``part`` where it has them."""
    kind = "png" if frame.encoded.startswith(b"\x89PNG") else "jpeg"
    text = base64.b64encode(frame.encoded).decode()
    message = FrameMessage(
        ts=rfc3339(frame.captured_at),
        data=f"data:image/{kind};base64,{text}",
        sequence=frame.sequence,
        part=frame.part,
    )
    return write_message(message)


def frame_topic(plant: Plant, camera: str) -> str:
    """Where frames of a camera are forwarded to."""
    return f"{_camera(plant, camera)}/frame"


def prediction_topic(plant: Plant, camera: str) -> str:
    """Where predictions on a camera's frames are said."""
    return f"{_camera(plant, camera)}/prediction"


def device_topic(plant: Plant, *, device: str, noun: str) -> str:
    """``status``, ``desired`` or ``ack`` of a device."""
    return f"lineside/{plant.site}/device/{device}/{noun}"


def _camera(plant: Plant, camera: str) -> str:
    return f"lineside/{plant.site}/{plant.find_camera(camera).line}/{camera}"


def _bounded(raw: bytes, where: str) -> bytes:
    if len(raw) > _MOST_BYTES:
        raise InvalidError(
            f"{len(raw)} bytes, at most {_MOST_BYTES}", where=where, fix="Send a shorter list."
        )
    return raw
