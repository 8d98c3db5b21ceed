"""What camera adapters share: opening their shots, and keeping only the newest of a live source.

A live source is read by a thread of its own, because a picture that nobody fetched in time is of
no use: the newest two wait, older ones are dropped and counted.
"""

import itertools
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
from lineside.core import Clock, InvalidError, LinesideError, need
from lineside.links.backoff import backoff_s
from lineside.links.contract import Refused, Shot
from lineside.vision import Frame

logger = logging.getLogger(__name__)

WAITING = 2
UNREADABLE = "picture cannot be read"
_JOIN_S = 10.0

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
        self._stop = threading.Event()
        self._dropped = 0
        self._fault = ""
        self._sequence = 0
        self._thread = threading.Thread(target=self._run, name=f"camera-{camera.id}", daemon=True)

    def start(self, grab: Grab) -> None:
        """Begin to read; ``grab`` belongs to the first, already opened connection."""
        self._grab: Grab | None = grab
        self._thread.start()

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
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                image = self._grab() if self._grab is not None else None
                if image is not None:
                    self._put(image, at=whole_ms(self._clock.now()))
                elif not self._stop.is_set():
                    self._open_again()
        finally:
            self._release()

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

    def _open_again(self) -> None:
        """Connect again, however long it takes.

        A camera that refuses the password or the stream after its return (a reset, an exchange)
        may be set right at any time, so it is asked again like one that is away.
        """
        self._fault = "no pictures come"
        logger.warning("camera lost camera=%s", self._camera.id)
        self._release()
        for attempt in itertools.count():
            if self._stop.wait(backoff_s(attempt)):
                return
            try:
                self._grab = self._connect()
            except LinesideError as error:
                self._fault = f"no pictures come: {error.message}"
                logger.debug("camera still away camera=%s: %s", self._camera.id, error)
                continue
            self._fault = ""
            logger.info("camera regained camera=%s", self._camera.id)
            return
