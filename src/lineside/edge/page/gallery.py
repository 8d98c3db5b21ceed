"""The newest picture of each camera with what was decided of it, and the last decisions.

1. Told in the camera's own thread, of what is decided anyway; it keeps encoded bytes, no pixels,
   and wakes whoever waits. While nobody watches that is all.
2. A picture is shown once all its inspections have answered, so picture and answers are of one
   frame.
3. For those who watch a picture is made small at most every ``PERIOD_S``, once for all of them.
4. A labelled image, with its answer written on it, is made while somebody watches, at most every
   ``PERIOD_S``, once for all who watch alike; text and image are of one frame.
5. Nothing is queued for viewers: each is given the newest image then. A slow viewer gets fewer, and
   one who does not read at all loses the connection.
"""

import asyncio
import contextlib
import struct
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lineside.core import (
    Clock,
    Inspection,
    InvalidError,
    Json,
    LinesideError,
    Plant,
    UnavailableError,
    encode,
    rfc3339,
    to_plain,
)
from lineside.streams.verdicts import frame_judgement
from lineside.vision import (
    Decision,
    Frame,
    FrameRef,
    PictureState,
    Prediction,
    decode_picture,
    encode_jpeg,
    picture_size,
    thumbnail,
)
from lineside.vision.draw import draw_caption, draw_overlay
from lineside.vision.verdict import judge_prediction, reject_rule
from lineside.web.answers import (
    RegionAnswer,
    answer_text,
    mark_of,
    overlay_of,
    reasons_text,
    region_answers,
    verdict_mark,
)
from lineside.web.format import milliseconds, probability, tail

NO_MASK = "No segmentation mask available"
PERIOD_S = 0.1
MOST_RECENT = 20
_PASSED_ON = 400_000
MOST_BYTES = 64_000_000
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestFrame:
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
class SmallImage:
    """A picture as it is sent to those who watch; the size is that of the picture as it came."""

    newest: NewestFrame
    picture: bytes
    width_px: int
    height_px: int


@dataclass(slots=True, kw_only=True, eq=False)
class _Seat:
    newest: NewestFrame | None = None
    begun: dict[str, Prediction] = field(default_factory=dict)
    frame: str = ""


@dataclass(slots=True, kw_only=True, eq=False)
class _ImageSlot:
    small: SmallImage | None = None
    made_s: float = -PERIOD_S
    making: threading.Lock = field(default_factory=threading.Lock)


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
        self._made: dict[tuple[str, ...], _ImageSlot] = {}
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
            seat.newest = NewestFrame(
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

    def newest(self, camera: str) -> NewestFrame | None:
        """A camera's newest picture."""
        seat = self._seats.get(camera)
        return seat.newest if seat is not None else None

    def newer(self, than: int) -> tuple[NewestFrame, ...]:
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

    def small(self, camera: str) -> SmallImage | None:
        """A camera's newest picture for those who watch; may be ``PERIOD_S`` behind.

        Raises:
            InvalidError: the picture cannot be read.
        """
        make = partial(_small, width_px=self._width_px)
        return self._fresh(camera, key=(camera,), make=make)

    def labelled(self, camera: str, *, inspection: str, size: str) -> SmallImage | None:
        """The same with an inspection's answer written on it, at one of the ``SIZES``."""
        make = partial(labelled, inspection=inspection, size=size)
        return self._fresh(camera, key=(camera, inspection, size), make=make)

    def _fresh(
        self, camera: str, *, key: tuple[str, ...], make: Callable[[NewestFrame], SmallImage]
    ) -> SmallImage | None:
        with self._lock:
            made = self._made.setdefault(key, _ImageSlot())
        with made.making:  # who comes meanwhile waits, and is given the same
            newest, now_s = self._seats[camera].newest, self._clock.monotonic()
            if newest is None:
                return None
            same = made.small is not None and made.small.newest is newest
            if not same and (made.small is None or now_s - made.made_s >= PERIOD_S):
                made.small, made.made_s = make(newest), now_s
            return made.small

    @staticmethod
    def _begin(seat: _Seat, frame: Frame) -> None:
        if seat.frame != frame.id:
            seat.begun, seat.frame = {}, frame.id


def _nothing() -> None:
    """Nobody watches."""


def _small(newest: NewestFrame, *, width_px: int) -> SmallImage:
    """A JPEG at most so wide; as it came where it is one already and not large."""
    encoded = newest.encoded
    width, height = picture_size(encoded)
    slight = encoded.startswith(_JPEG) and len(encoded) <= _PASSED_ON and width <= width_px
    if not slight:
        image = decode_picture(encoded, max_bytes=MOST_BYTES)
        encoded = thumbnail(image, width_px=width_px)
    return SmallImage(newest=newest, picture=encoded, width_px=width, height_px=height)


def _without_pixels(prediction: Prediction) -> Prediction:
    if prediction.mask is None:
        return prediction
    return replace(prediction, mask=replace(prediction.mask, rle=""))


WAIT_S = 10.0
BOUNDARY = "lineside-frame"
Make = Callable[[str], SmallImage | None]


class TooManyViewersError(UnavailableError):
    """As many watch as may."""


class Viewers:
    """Lives on the server's loop; ``wake`` may be called from any thread."""

    def __init__(self, gallery: Gallery, *, plant: Plant, most: int, clock: Clock) -> None:
        self._gallery = gallery
        self._plant = plant
        self._most = most
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._over = False
        self.viewers = 0
        gallery.wake_with(self.wake)

    def wake(self) -> None:
        """A picture came; costs nothing while nobody watches."""
        loop = self._loop
        if loop is not None and self.viewers:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the page ends
                loop.call_soon_threadsafe(self._changed.set)

    def close(self) -> None:
        """Nobody waits any more and every stream ends; from any thread."""
        self._over = True
        self.wake()

    @contextlib.asynccontextmanager
    async def seat(self) -> AsyncIterator[None]:
        """One who watches; ``TooManyViewersError`` when there are too many."""
        if self.viewers >= self._most:
            raise TooManyViewersError(
                f"{self.viewers} watch already", where="page.most_viewers", fix="Close a page."
            )
        self._loop = asyncio.get_running_loop()
        self.viewers += 1
        try:
            yield
        finally:
            self.viewers -= 1

    async def newer(self, than: int, *, cameras: tuple[str, ...] = ()) -> tuple[NewestFrame, ...]:
        """Pictures above that number, as soon as there are any.

        There are none after ``WAIT_S``, and when the page ends.

        Args:
            than: the highest number that was seen.
            cameras: which; empty: all.
        """
        ends_s = self._clock.monotonic() + WAIT_S
        while True:
            self._changed.clear()
            there = self._gallery.newer(than)
            found = tuple(one for one in there if not cameras or one.frame.camera in cameras)
            left_s = ends_s - self._clock.monotonic()
            if found or left_s <= 0 or self._over:
                return found
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, 1.0)):
                    await self._changed.wait()

    async def round(self, than: int) -> bytes:
        """All cameras' newest pictures above a number, as one message (``live_part`` by part)."""
        fresh: list[SmallImage] = []
        for _ in range(2):  # what was made small a moment ago may be older: once more, later
            smalls = [
                await self._made(self._gallery.small, one.frame.camera)
                for one in await self.newer(than)
            ]
            fresh = [one for one in smalls if one is not None and one.newest.number > than]
            if fresh or not smalls or self._over:
                break
            await asyncio.sleep(PERIOD_S)
        return b"".join(live_part(one, self._plant) for one in fresh)

    async def motion(self, camera: str, *, make: Make) -> AsyncIterator[bytes]:
        """A camera's pictures as the parts of ``multipart/x-mixed-replace``, until the page ends.

        Args:
            camera: which.
            make: gives the newest as it is to be sent; called on a thread.
        """
        number = 0
        while not self._over:
            if await self.newer(number, cameras=(camera,)):
                small = await self._made(make, camera)
                if small is not None and small.newest.number > number:
                    number = small.newest.number
                    yield _motion_part(small.picture)
                await asyncio.sleep(PERIOD_S)
        yield f"--{BOUNDARY}--\r\n".encode()

    @staticmethod
    async def _made(make: Make, camera: str) -> SmallImage | None:
        try:
            return await asyncio.to_thread(make, camera)
        except LinesideError:
            return None  # a picture that was judged and cannot be read again is left out


def live_part(small: SmallImage, plant: Plant) -> bytes:
    """``u32 header length | u32 picture length | JSON header | JPEG``, big-endian."""
    newest = small.newest
    predictions = tuple(newest.predictions.values())
    found = frame_judgement(predictions, plant=plant)
    mark = verdict_mark(found.verdict) if found else mark_of("live", next(iter(predictions), None))
    header: dict[str, Json] = {
        "number": newest.number,
        "camera": newest.frame.camera,
        "frame": newest.frame.id,
        "captured_at": rfc3339(newest.frame.captured_at),
        "arrived_at": rfc3339(newest.arrived_at),
        "part": newest.frame.part,
        "width_px": small.width_px,
        "height_px": small.height_px,
        "mark": to_plain(mark),
        "reason": reasons_text(found) if found else "",
        "predictions": {name: to_plain(one) for name, one in newest.predictions.items()},
        "shown": {
            name: shown_answer(one, plant.find_inspection(name))
            for name, one in newest.predictions.items()
        },
    }
    text = encode(header)
    return struct.pack(">II", len(text), len(small.picture)) + text + small.picture


def shown_answer(prediction: Prediction, inspection: Inspection) -> Json:
    """An answer as the page shows it: texts, mark, and what is drawn on the picture."""
    ok = prediction.state is PictureState.OK
    masked = prediction.task != "segment" or prediction.mask is not None or not ok
    rule = reject_rule(inspection)
    said = [prediction.reason, reasons_text(judge_prediction(prediction, rule))]
    reason = "".join(f"{one}. " for one in dict.fromkeys(said) if one)
    latency = milliseconds(prediction.latency_ms.total)
    return {
        "answer": answer_text(prediction) if masked else NO_MASK,
        "mark": to_plain(mark_of("live", prediction, rule=rule)),
        "confidence": list(confidences(prediction)),
        "facts": f"{reason}Latency: {latency}, package {tail(prediction.package)}",
        "overlay": overlay_of(prediction, inspection),
    }


def confidences(prediction: Prediction) -> tuple[str, ...]:
    """Likeliest answer with its probability: ``anomalous 0.98``, ``A1: no blue 0.03``."""
    if prediction.state is not PictureState.OK:
        return ()
    if prediction.task == "classify":
        likeliest = sorted(prediction.labels, key=lambda one: -one.probability)
        return tuple(f"{one.label} {probability(one.probability)}" for one in likeliest[:6])
    if prediction.task in ("multilabel", "segment"):
        return tuple(_confidence(one) for one in region_answers(prediction)[:12])
    return tuple(f"{one.label} {probability(one.probability)}" for one in prediction.boxes[:12])


def _confidence(answer: RegionAnswer) -> str:
    words = {Decision.ABSENT: "no ", Decision.UNSURE: "perhaps "}
    where = f"{answer.region}: " if answer.region not in ("picture", answer.label) else ""
    return (
        f"{where}{words.get(answer.decision, '')}{answer.label} {probability(answer.probability)}"
    )


def _motion_part(picture: bytes) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
    return head.encode() + picture + b"\r\n"


SIZES = {"480p": 480, "720p": 720, "1080p": 1080}
USUAL_SIZE = "480p"
_WAITING = "no answer yet"


def check_size(size: str) -> str:
    """A height's name; ``InvalidError`` for one that is none."""
    if size not in SIZES:
        raise InvalidError(
            f"{size[:20]!r} is no size", where="size", fix=f"Known: {', '.join(SIZES)}."
        )
    return size


def labelled(newest: NewestFrame, *, inspection: str, size: str = USUAL_SIZE) -> SmallImage:
    """A picture of that height, and what was said of it.

    Of labels, the likeliest and its percentage are written large; boxes, counts and masks are
    drawn as on the page.
    """
    image = decode_picture(newest.encoded, max_bytes=MOST_BYTES)
    prediction = newest.predictions.get(inspection)
    if prediction is not None and not prediction.labels and prediction.state is PictureState.OK:
        drawn = draw_overlay(image, prediction)
        shown = _of_height(drawn, SIZES[size])
    else:
        shown = draw_caption(_of_height(image, SIZES[size]), caption_of(prediction))
    height_px, width_px = shown.shape[:2]
    return SmallImage(
        newest=newest,
        picture=encode_jpeg(shown, quality=80),
        width_px=width_px,
        height_px=height_px,
    )


def caption_of(prediction: Prediction | None) -> str:
    """``Google 97%``: the likeliest label with its percentage, or why there is none."""
    if prediction is None:
        return _WAITING
    if prediction.state is not PictureState.OK or not prediction.labels:
        return str(prediction.state.value)
    best = max(prediction.labels, key=lambda one: one.probability)
    return f"{best.name} {best.probability * 100:.0f}%"


def _of_height(image: NDArray[np.uint8], height_px: int) -> NDArray[np.uint8]:
    """The picture scaled to a height, its proportions kept, its width even."""
    import cv2

    height, width = image.shape[:2]
    size = (2 * max(1, round(width * height_px / height / 2)), height_px)
    how = cv2.INTER_AREA if height > height_px else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)
