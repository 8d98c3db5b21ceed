"""``mqtt:<topic>``: a camera that publishes on the site's bus.

Takes the factory's JSON (``ts``, ``data`` as a data URL, optional ``sequence`` and ``part``) and
bare JPEG or PNG bytes, whose capture time is then the time of arrival. A message that is neither
is refused with its reason; the stream goes on.
"""

from collections.abc import Iterator
from pathlib import Path

from lineside.core import Camera as CameraRecord
from lineside.core import Clock, InvalidError
from lineside.core.factory import CameraMessage, read_message
from lineside.links.contract import LONGEST_PART, Bus, Message, Refused, Shot
from lineside.links.shots import (
    BAD_FIELDS,
    TOO_LARGE,
    UNREADABLE,
    WAITING,
    ShotCamera,
    whole_ms,
)


class FrameMessage(CameraMessage, frozen=True, kw_only=True, omit_defaults=True):
    """The factory's camera message with the two fields lineside adds.

    Attributes:
        ts: when it was captured, RFC 3339.
        data: the image, ``data:image/jpeg;base64,…`` or ``data:image/png;base64,…``.
        sequence: counts up with each image; 0: not counted.
        part: id of the part shown; empty for none.
    """

    sequence: int = 0
    part: str = ""


_BARE = (b"\xff\xd8\xff", b"\x89PNG")
_ENVELOPE_BYTES = 4096
_MOST_COUNT = 2**53 - 1


class NoShotError(InvalidError):
    """A message without a picture; ``reason`` is what it is counted under."""

    def __init__(self, reason: str, sentence: str, *, where: str, fix: str) -> None:
        super().__init__(sentence, where=where, fix=fix)
        self.reason = reason


def open_mqtt_camera(
    camera: CameraRecord,
    *,
    clock: Clock,
    bus: Bus | None,
    refused: Refused,
    folder: Path | None = None,  # noqa: ARG001
) -> "MqttCamera":
    """Subscribe to the camera's topic."""
    if bus is None:
        raise InvalidError(
            f"camera {camera.id!r} needs a bus", where=camera.source, fix="Name the site's bus."
        )
    return MqttCamera(camera, clock=clock, bus=bus, refused=refused)


class MqttCamera(ShotCamera):
    """Newest shots of one topic."""

    def __init__(self, camera: CameraRecord, *, clock: Clock, bus: Bus, refused: Refused) -> None:
        super().__init__(refused=refused)
        self._camera = camera
        self._clock = clock
        topic = camera.source.reveal().removeprefix("mqtt:")
        self._mailbox = bus.subscribe((topic,), size=WAITING, name=f"camera {camera.id}")

    def shots(self) -> Iterator[Shot]:
        while (message := self._mailbox.get(timeout_s=None)) is not None:
            try:
                shot = read_shot(message, camera=self._camera, clock=self._clock)
            except NoShotError as error:
                self._refused(error.reason, str(error))
                continue
            yield shot

    def dropped(self) -> int:
        return self._mailbox.figures().dropped

    def close(self) -> None:
        """End ``shots``."""
        self._mailbox.close()


def most_bytes(camera: CameraRecord, *, bare: bool) -> int:
    """Longest message of a camera: bare bytes, or a picture as base64 in its envelope."""
    limit = camera.max_frame_bytes
    return limit if bare else limit * 4 // 3 + _ENVELOPE_BYTES


def read_shot(message: Message, *, camera: CameraRecord, clock: Clock) -> Shot:
    """Take one message of a camera apart.

    Raises:
        NoShotError: too large, no JSON of the documented shape, no time, or no picture in it.
    """
    payload = message.payload
    bare = payload.startswith(_BARE)
    limit = most_bytes(camera, bare=bare)
    if len(payload) > limit:
        raise NoShotError(
            TOO_LARGE,
            f"{len(payload)} bytes, at most {limit} are taken",
            where=message.topic,
            fix="Send a smaller picture, or raise max_frame_bytes of the camera.",
        )
    if bare:
        return Shot(
            camera=camera.id,
            captured_at=whole_ms(clock.now()),
            own_time=False,
            encoded=payload,
            arrived_s=message.arrived_s,
            max_bytes=camera.max_frame_bytes,
        )
    read = _read(message)
    return Shot(
        camera=camera.id,
        captured_at=read.at,
        encoded=_picture(read, where=message.topic),
        sequence=read.sequence,
        part=read.part,
        arrived_s=message.arrived_s,
        max_bytes=camera.max_frame_bytes,
    )


def _read(message: Message) -> FrameMessage:
    where = message.topic
    try:
        read = read_message(FrameMessage, message.payload, where=where)
    except (InvalidError, RecursionError, OverflowError) as error:
        fix = getattr(error, "fix", "Send the documented fields.")
        raise NoShotError(BAD_FIELDS, str(error), where=where, fix=fix) from error
    if not 0 <= read.sequence <= _MOST_COUNT or len(read.part) > LONGEST_PART:
        raise NoShotError(
            BAD_FIELDS,
            "sequence or part out of bounds",
            where=where,
            fix=f"Count from 0; a part has at most {LONGEST_PART} characters.",
        )
    return read


def _picture(read: FrameMessage, *, where: str) -> bytes:
    try:
        return read.picture()
    except (InvalidError, ValueError) as error:
        raise NoShotError(
            UNREADABLE, str(error), where=where, fix="Send data:image/jpeg;base64,…"
        ) from error
