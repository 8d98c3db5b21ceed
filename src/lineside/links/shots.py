"""Base of camera adapters: opening their shots, and keeping only the newest of a live source.

A live source is read by a thread of its own, because a picture that nobody fetched in time is of
no use: the newest two wait, older ones are dropped and counted.
"""

import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.core import Camera as CameraRecord
from lineside.core import Clock, InvalidError, LinesideError, UnavailableError, need
from lineside.core.worker import Worker
from lineside.links.contract import Refused, Shot
from lineside.vision import Frame

logger = logging.getLogger(__name__)

WAITING = 2
UNREADABLE = "picture cannot be read"
IMAGE_LOST = "image lost"
NO_PART = "part id cannot be read"
TRIGGER_FAILED = "trigger failed"
NOT_IN_TIME = "not taken in time"
TOO_LARGE = "too large"
BAD_FIELDS = "fields not as documented"
FAILED = "failed"
LOSSES = (
    IMAGE_LOST, UNREADABLE, NO_PART, TRIGGER_FAILED, NOT_IN_TIME, TOO_LARGE, BAD_FIELDS, FAILED,
)  # fmt: skip
"""Why an image of a camera is not judged, whatever the inspection."""
NOT_PUT_AWAY = "not moved or remembered"
"""The one refusal that concerns an image which was judged: of its file, afterwards."""
_JOIN_S = 10.0
_LOST = "no pictures come"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """Reply of a live source that is asked; without image and bytes: nothing yet.

    Attributes:
        image: (height, width, 3) uint8 RGB, where the source gives pixels.
        encoded: JPEG or PNG bytes, where it gives these.
        captured_at: aware UTC by the source's own clock; None: when it was given.
        part: id of the part shown; empty for none.
        next_s: seconds until it is to be asked again; ``math.inf``: at the next trigger.
    """

    image: Pixels | None = None
    encoded: bytes = b""
    captured_at: datetime | None = None
    part: str = ""
    next_s: float = 0.0


Grab = Callable[[], Picture | None]
"""Gives the next picture of an open source; None where the source was lost."""


def whole_ms(moment: datetime) -> datetime:
    """Cut to milliseconds, as messages carry them, so that a frame has one time everywhere."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def say_nothing(_reason: str, _sentence: str) -> None:
    """For callers that count no refusals."""


def grab_from(capture: Any) -> Grab:  # noqa: ANN401  the library is optional
    """Return the function that takes the next picture (RGB) out of an open OpenCV capture."""
    cv2 = need("cv2", extra="edge")

    def grab() -> Picture | None:
        good, image = capture.read()
        return Picture(image=cv2.cvtColor(image, cv2.COLOR_BGR2RGB)) if good else None

    return grab


class ShotCamera(ABC):
    """Shared behaviour of every camera: frames are its shots, opened."""

    def __init__(self, *, refused: Refused) -> None:
        self._refused = refused

    @abstractmethod
    def shots(self) -> Iterator[Shot]:
        """See ``contract.Camera``."""

    def frames(self) -> Iterator[Frame]:
        for shot in self.shots():
            try:
                frame = shot.open()
            except InvalidError as error:
                self._refused(UNREADABLE, str(error))
                continue
            yield frame

    def dropped(self) -> int:
        return 0

    def fault(self) -> str:
        return ""

    def trigger(self) -> None:  # noqa: B027  most cameras do nothing here
        """See ``contract.Camera``."""


class LiveCamera(ShotCamera):
    """A source that is read whether or not its pictures are wanted.

    ``connect`` opens it and returns the function that fetches the next picture; ``release`` frees
    it. Other threads call ``interrupt``, which ends what either of them waits for, and ``trigger``,
    which asks for a picture.
    """

    def __init__(
        self,
        camera: CameraRecord,
        *,
        clock: Clock,
        refused: Refused,
        connect: Callable[[], Grab],
        release: Callable[[], None],
        interrupt: Callable[[], None] = lambda: None,
        trigger: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(refused=refused)
        self._camera = camera
        self._clock = clock
        self._connect = connect
        self._release = release
        self._interrupt = interrupt
        self._trigger = trigger
        self._waiting: deque[Shot] = deque(maxlen=WAITING)
        self._changed = threading.Condition()
        self._dropped = 0
        self._fault = ""
        self._is_told = self._is_over = False
        self._sequence = 0
        self._grab: Grab | None = None
        self._worker = Worker(
            f"camera-{camera.id}", self._read_one, at_end=release, report=self._note, clock=clock
        )
        self._stop = self._worker.stopping

    def start(self, grab: Grab) -> None:
        """Begin to read; ``grab`` belongs to the first, already opened connection."""
        self._grab = grab
        self._worker.start()

    def shots(self) -> Iterator[Shot]:
        while not self._stop.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stop.is_set())
                if self._stop.is_set():
                    return
                shot = self._waiting.popleft()
            yield shot

    def dropped(self) -> int:
        return self._dropped

    def fault(self) -> str:
        """A loss that is over is told once, too, if nobody asked meanwhile."""
        self._is_told, fault = True, self._fault
        if self._is_over:
            self._fault, self._is_over = "", False
        return fault

    def trigger(self) -> None:
        if self._camera.trigger == "software":
            self._trigger()
            self._worker.wake()

    def close(self) -> None:
        """End ``shots`` and free the source."""
        self._worker.request_stop()
        self._interrupt()
        with self._changed:
            self._changed.notify_all()
        self._worker.join(_JOIN_S)

    def _read_one(self) -> float:
        """Read one picture, or connect again after the source was lost, however long that takes.

        A camera that refuses the password or the stream after its return (a reset, an exchange)
        may be set right at any time, so it is asked again like one that is away.
        """
        if self._grab is None:
            self._release()  # its loss was said before: to free a camera that is away takes seconds
            if self._stop.is_set():
                return 0.0
            self._grab = self._connect()
            return 0.0
        try:
            picture = self._grab()
            if picture is None:
                raise UnavailableError(_LOST)
        except LinesideError:
            if self._stop.is_set():
                return 0.0
            self._grab = None
            raise
        if picture.encoded or picture.image is not None:
            self._put(picture, at=whole_ms(picture.captured_at or self._clock.now()))
        return picture.next_s

    def _note(self, error: Exception | None) -> None:
        """Log loss and return, and keep the reason for ``fault``."""
        if error is None:
            self._is_over = True
            if self._is_told:
                self.fault()
            logger.info("camera regained camera=%s", self._camera.id)
            return
        log = logger.debug if self._fault else logger.warning
        log(
            "camera %s camera=%s: %s",
            "still away" if self._fault else "lost",
            self._camera.id,
            error,
        )
        reason = error.message if isinstance(error, LinesideError) else repr(error)
        self._is_told, self._is_over = self._is_told and bool(self._fault), False
        self._fault = _LOST if reason == _LOST else f"{_LOST}: {reason}"

    def _put(self, picture: Picture, *, at: datetime) -> None:
        self._sequence += 1
        shot = Shot(
            camera=self._camera.id,
            captured_at=at,
            encoded=picture.encoded,
            image=picture.image,
            sequence=self._sequence,
            part=picture.part,
            arrived_s=self._clock.monotonic(),
            max_bytes=self._camera.max_frame_bytes,
            rotate_deg=self._camera.rotate_deg,
            crop_px=self._camera.crop_px,
        )
        with self._changed:
            if len(self._waiting) == WAITING:
                self._dropped += 1
            self._waiting.append(shot)
            self._changed.notify_all()
