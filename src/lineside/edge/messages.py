"""Messages of the device, beside frames and predictions (docs/reference/messages.md).

Counters and present faults of the agent.
"""

import base64
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime

from lineside.core import (
    InvalidError,
    LinesideError,
    Plant,
    decode,
    decode_json,
    encode,
    rfc3339,
)
from lineside.core.factory import write_message
from lineside.fleet.contract import MOST_COUNT, Ack, Desired, DeviceStatus
from lineside.links import FrameMessage
from lineside.vision import Frame

_MOST_BYTES = 256_000


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
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= MOST_COUNT:
        raise InvalidError(
            f"{field} is {number!r}, no whole number from 0 up", where=where,
            fix=f'Send {{"{field}": 12}}, or correct expected_field in the plant file.',
        )  # fmt: skip
    return number


def offline(*, device: str, version: str, at: datetime) -> bytes:
    """The last will."""
    return encode(DeviceStatus(device=device, state="offline", version=version, at=rfc3339(at)))


def frame_message(frame: Frame) -> bytes:
    """A frame as the factory's camera message, with ``sequence`` and ``part`` where it has them."""
    kind = "png" if frame.encoded.startswith(b"\x89PNG") else "jpeg"
    return write_message(
        FrameMessage(
            ts=rfc3339(frame.captured_at),
            data=f"data:image/{kind};base64,{base64.b64encode(frame.encoded).decode()}",
            sequence=frame.sequence,
            part=frame.part,
        )
    )


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
    """One reading of the counts; ``images_lost``: of each camera, by reason."""

    frames: int
    predictions: int
    refused: dict[str, int]
    images_lost: dict[str, dict[str, int]]
    faults: tuple[str, ...]


class Counters:
    """Counts and faults; safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames = 0
        self._predictions = 0
        self._refused: Counter[tuple[str, str]] = Counter()
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

    def refuse(self, reason: str, *, count: int = 1, camera: str = "") -> None:
        """Count images or messages that were left; with ``camera``, images that it lost."""
        if count:
            with self._lock:
                self._refused[reason, camera] += count

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
            refused, lost = Counter[str](), defaultdict[str, dict[str, int]](dict)
            for (reason, camera), count in sorted(self._refused.items()):
                refused[reason] += count
                if camera:
                    lost[camera][reason] = count
            return CounterValues(
                frames=self._frames,
                predictions=self._predictions,
                refused=dict(refused),
                images_lost=lost,
                faults=tuple(self._faults.values()),
            )
