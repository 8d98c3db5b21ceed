"""Base of camera adapters: opening their shots, and keeping only the newest of a live source.

A live source is read by a thread of its own, because a picture that nobody fetched in time is of
no use: the newest two wait, older ones are dropped and counted.
"""

import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
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
_JOIN_S = 10.0
_LOST = "no pictures come"

Pixels = NDArray[np.uint8]
Grab = Callable[[], Pixels | None]


def whole_ms(moment: datetime) -> datetime:
    """Cut to milliseconds, as messages carry them, so that a frame has one time everywhere."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def say_nothing(_reason: str, _sentence: str) -> None:
    """For callers that count no refusals."""


def grab_from(capture: Any) -> Grab:  # noqa: ANN401  the library is optional
    """Return the function that takes the next picture (RGB) out of an open OpenCV capture."""
    cv2 = need("cv2", extra="edge")

    def grab() -> Pixels | None:
        good, image = capture.read()
        found: Pixels | None = cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if good else None
        return found

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


class LiveCamera(ShotCamera):
    """A source that gives pixels whether or not they are wanted.

    ``connect`` opens it and returns the function that fetches the next picture (RGB), which
    returns None when the source was lost; ``release`` frees it.
    """

    def __init__(
        self,
        camera: CameraRecord,
        *,
        clock: Clock,
        refused: Refused,
        connect: Callable[[], Grab],
        release: Callable[[], None],
    ) -> None:
        super().__init__(refused=refused)
        self._camera = camera
        self._clock = clock
        self._connect = connect
        self._release = release
        self._waiting: deque[Shot] = deque(maxlen=WAITING)
        self._changed = threading.Condition()
        self._dropped = 0
        self._fault = ""
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
        return self._fault

    def close(self) -> None:
        """End ``shots`` and free the source."""
        self._worker.request_stop()
        with self._changed:
            self._changed.notify_all()
        self._worker.join(_JOIN_S)

    def _read_one(self) -> None:
        """Read one picture, or connect again after the source was lost, however long that takes.

        A camera that refuses the password or the stream after its return (a reset, an exchange)
        may be set right at any time, so it is asked again like one that is away.
        """
        if self._grab is None:
            self._grab = self._connect()
            return
        image = self._grab()
        if image is not None:
            self._put(image, at=whole_ms(self._clock.now()))
        elif not self._stop.is_set():
            self._grab = None
            self._release()
            raise UnavailableError(_LOST)

    def _note(self, error: Exception | None) -> None:
        """Log loss and return, and keep the reason for ``fault``."""
        if error is None:
            self._fault = ""
            logger.info("camera regained camera=%s", self._camera.id)
        elif not self._fault:
            self._fault = _LOST
            logger.warning("camera lost camera=%s", self._camera.id)
        else:
            reason = error.message if isinstance(error, LinesideError) else repr(error)
            self._fault = f"{_LOST}: {reason}"
            logger.debug("camera still away camera=%s: %s", self._camera.id, error)

    def _put(self, image: Pixels, *, at: datetime) -> None:
        self._sequence += 1
        shot = Shot(
            camera=self._camera.id,
            captured_at=at,
            image=image,
            sequence=self._sequence,
            arrived_s=self._clock.monotonic(),
            max_bytes=self._camera.max_frame_bytes,
        )
        with self._changed:
            if len(self._waiting) == WAITING:
                self._dropped += 1
            self._waiting.append(shot)
            self._changed.notify_all()
