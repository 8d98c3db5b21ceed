"""Messages of the device, beside frames and predictions (docs/reference/messages.md).

Counters and present faults of the agent.
"""

import base64
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from lineside.core import (
    Digest,
    InvalidError,
    LinesideError,
    Plant,
    decode,
    decode_json,
    encode,
    parse_digest,
    rfc3339,
)
from lineside.core.factory import write_message
from lineside.links import FrameMessage
from lineside.vision import Frame

_MOST_BYTES = 256_000
_MOST_COUNT = 2**53 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredPoint:
    """Operating point that a package should decide by; ``url`` is for unsigned devices."""

    digest: Digest
    url: str

    def __post_init__(self) -> None:
        parse_digest(self.digest, where="digest")


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredPackage:
    """One package the hub wants run here, and the limits that it should decide by.

    ``operating_point``: None for the package's own limits.
    """

    inspection: str
    digest: Digest
    url: str
    operating_point: DesiredPoint | None = None

    def __post_init__(self) -> None:
        parse_digest(self.digest, where="digest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """``lineside.desired/1``.

    Attributes:
        packages: one for each inspection that should have one.
        revisions: how often the hub changed each inspection's package; also of those that should
            have none. A hub that does not count says nothing.
        bad: digests that are not kept in use where a device cannot have what it should: the hub
            took them back from the line. ``<inspection>/<digest>`` beside one says for which
            inspections; an earlier hub says none, and means all.
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

    def is_bad(self, digest: str, *, inspection: str) -> bool:
        """Return whether a package was judged bad on the line for an inspection."""
        named = [one for one in self.bad if one.endswith(f"/{digest}")]
        return f"{inspection}/{digest}" in named if named else digest in self.bad


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
    """A package that answers for its inspection.

    Attributes:
        operating_point: digest of the limits it decides by; "" for its own.
        refused_point: digest of the desired limits, where it cannot decide by them and does not try
            again; "" otherwise.
    """

    inspection: str
    digest: Digest
    loaded_at: str
    operating_point: str = ""
    refused_point: str = ""


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
class OutputCondition:
    """Condition of an output.

    Attributes:
        state: ``follows`` the verdicts, has its ``fail-safe`` value, or the other side is ``away``.
        reason: why it does not follow, in words.
        switched: how often a verdict switched it since the start.
        late: verdicts that came too late to switch it.
    """

    output: str
    state: Literal["follows", "fail-safe", "away"]
    reason: str = ""
    switched: int = 0
    late: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStatus:
    """``lineside.device/1``.

    Attributes:
        refused: reason → how many frames or messages.
        desired: inspection → the revision of the desired state that the device heard.
        every_s: how often the device says this at least; 0: it does not tell.
        reads: what beyond packages it reads in the desired state: ``operating_point``.
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
    outputs: tuple[OutputCondition, ...] = ()
    desired: Mapping[str, int] = field(default_factory=dict)
    every_s: float = 0.0
    reads: tuple[str, ...] = ()
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


def read_expected(raw: bytes, *, field: str, where: str) -> int:
    """The number of objects that a trigger's message expects.

    Raises:
        InvalidError: no JSON object with a whole number from 0 up in that field.
    """
    said = decode_json(_bounded(raw, where), where=where)
    number = said.get(field) if isinstance(said, dict) else None
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= _MOST_COUNT:
        raise InvalidError(
            f"{field} is {number!r}, no whole number from 0 up", where=where,
            fix=f'Send {{"{field}": 12}}, or correct expected_field in the plant file.',
        )  # fmt: skip
    return number


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


_LONGEST = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterValues:
    """One reading of the counts."""

    frames: int
    predictions: int
    refused: dict[str, int]
    faults: tuple[str, ...]


class Counters:
    """Counts and faults; safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames = 0
        self._predictions = 0
        self._refused: Counter[str] = Counter()
        self._faults: dict[str, str] = {}
        self._revision = 0

    def frame(self) -> None:
        """A picture came, whatever becomes of it."""
        with self._lock:
            self._frames += 1

    def prediction(self) -> None:
        """A picture was judged."""
        with self._lock:
            self._predictions += 1

    def refuse(self, reason: str, *, count: int = 1) -> None:
        """Pictures or messages that were left, with the reason."""
        if count:
            with self._lock:
                self._refused[reason] += count

    def fault(self, place: str, error: Exception) -> bool:
        """Something at ``place`` does not work; True when that is news."""
        text = error.message if isinstance(error, LinesideError) else repr(error)
        sentence = f"{place}: {text}"[:_LONGEST]
        with self._lock:
            news = self._faults.get(place) != sentence
            if news:
                self._faults[place] = sentence
                self._revision += 1
            return news

    def mended(self, place: str) -> None:
        """It works again."""
        with self._lock:
            if self._faults.pop(place, None) is not None:
                self._revision += 1

    def changed(self) -> None:
        """Something worth telling at once happened elsewhere."""
        with self._lock:
            self._revision += 1

    @property
    def revision(self) -> int:
        """Counts up with every change worth telling at once."""
        return self._revision

    def read(self) -> CounterValues:
        """All counts at one moment."""
        with self._lock:
            return CounterValues(
                frames=self._frames,
                predictions=self._predictions,
                refused=dict(sorted(self._refused.items())),
                faults=tuple(self._faults.values()),
            )
