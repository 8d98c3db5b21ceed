"""The newest picture of each camera with what was decided of it, and the last decisions.

1. Told in the camera's own thread, of what is decided anyway; it keeps encoded bytes, no pixels,
   and wakes whoever waits. While nobody watches that is all.
2. A picture is shown once all its inspections have answered, so picture and answers are of one
   frame.
3. For those who watch a picture is made small at most every ``PERIOD_S``, once for all of them.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from lineside.core import Clock
from lineside.vision import Frame, FrameRef, Prediction, decode_picture, picture_size, thumbnail

PERIOD_S = 0.1
MOST_RECENT = 20
_PASSED_ON = 400_000
MOST_BYTES = 64_000_000
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """A camera's newest picture.

    Attributes:
        number: counts up over all cameras.
        encoded: as it came.
        predictions: by inspection; none where no package answers.
        arrived_at: when the last answer was given.
    """

    number: int
    frame: FrameRef
    encoded: bytes
    predictions: Mapping[str, Prediction]
    arrived_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Small:
    """A picture as it is sent to those who watch; the size is that of the picture as it came."""

    newest: Newest
    picture: bytes
    width_px: int
    height_px: int


@dataclass(slots=True, kw_only=True, eq=False)
class _Seat:
    newest: Newest | None = None
    begun: dict[str, Prediction] = field(default_factory=dict)
    frame: str = ""
    encoding: threading.Lock = field(default_factory=threading.Lock)
    small: Small | None = None
    made_s: float = -PERIOD_S


class Gallery:
    """Safe from several threads."""

    def __init__(
        self, inspections: Mapping[str, str], *, clock: Clock, width_px: int = 1280
    ) -> None:
        """Nothing was seen yet.

        Args:
            inspections: the camera of each.
            clock: of the pictures' arrival.
            width_px: of the pictures for those who watch, at most.
        """
        self._clock = clock
        self._width_px = width_px
        self._seats = {camera: _Seat() for camera in dict.fromkeys(inspections.values())}
        self._latest: dict[str, tuple[Prediction, bytes]] = {}
        self._recent: deque[Prediction] = deque(maxlen=MOST_RECENT)
        self._lock = threading.Lock()
        self._number = 0
        self._wake: Callable[[], None] = _nothing

    def look(self, frame: Frame, prediction: Prediction) -> None:
        """An inspection answered."""
        seat = self._seats.get(frame.camera)
        if seat is None:
            return
        with self._lock:
            self._begin(seat, frame)
            seat.begun[prediction.inspection] = prediction
            self._latest[prediction.inspection] = (prediction, frame.encoded)
            self._recent.append(_without_pixels(prediction))

    def show(self, frame: Frame) -> None:
        """Every inspection of this picture has had its turn."""
        seat = self._seats.get(frame.camera)
        if seat is None:
            return
        with self._lock:
            self._begin(seat, frame)
            self._number += 1
            seat.newest = Newest(
                number=self._number,
                frame=frame.ref,
                encoded=frame.encoded,
                predictions=seat.begun,
                arrived_at=self._clock.now(),
            )
            seat.begun, seat.frame = {}, ""
        self._wake()

    def wake_with(self, wake: Callable[[], None]) -> None:
        """Called, in the cameras' threads, after each picture."""
        self._wake = wake

    @property
    def cameras(self) -> tuple[str, ...]:
        """Every camera, whether or not a picture came."""
        return tuple(self._seats)

    def newest(self, camera: str) -> Newest | None:
        """A camera's newest picture."""
        seat = self._seats.get(camera)
        return seat.newest if seat is not None else None

    def newer(self, than: int) -> tuple[Newest, ...]:
        """Every camera's newest picture with a higher number."""
        there = [seat.newest for seat in self._seats.values()]
        return tuple(one for one in there if one is not None and one.number > than)

    def latest(self, inspection: str) -> tuple[Prediction, bytes] | None:
        """An inspection's last answer and the picture it is of."""
        return self._latest.get(inspection)

    def recent(self) -> tuple[Prediction, ...]:
        """The last answers of all inspections, newest first, their masks without pixels."""
        with self._lock:
            return tuple(reversed(self._recent))

    def small(self, camera: str) -> Small | None:
        """A camera's newest picture for those who watch; may be ``PERIOD_S`` behind.

        Raises:
            InvalidError: the picture cannot be read.
        """
        seat = self._seats[camera]
        with seat.encoding:  # who comes meanwhile waits, and is given the same
            newest, now_s = seat.newest, self._clock.monotonic()
            if newest is None:
                return None
            same = seat.small is not None and seat.small.newest is newest
            if not same and (seat.small is None or now_s - seat.made_s >= PERIOD_S):
                seat.small, seat.made_s = _small(newest, width_px=self._width_px), now_s
            return seat.small

    @staticmethod
    def _begin(seat: _Seat, frame: Frame) -> None:
        if seat.frame != frame.id:
            seat.begun, seat.frame = {}, frame.id


def _nothing() -> None:
    """Nobody watches."""


def _small(newest: Newest, *, width_px: int) -> Small:
    """A JPEG at most so wide; as it came where it is one already and not large."""
    encoded = newest.encoded
    width, height = picture_size(encoded)
    slight = encoded.startswith(_JPEG) and len(encoded) <= _PASSED_ON and width <= width_px
    if not slight:
        image = decode_picture(encoded, max_bytes=MOST_BYTES)
        encoded = thumbnail(image, width_px=width_px)
    return Small(newest=newest, picture=encoded, width_px=width, height_px=height)


def _without_pixels(prediction: Prediction) -> Prediction:
    if prediction.mask is None:
        return prediction
    return replace(prediction, mask=replace(prediction.mask, rle=""))
