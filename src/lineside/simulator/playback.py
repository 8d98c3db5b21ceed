"""Shared parts of the simulated lines: settings, the outbox to the bus, images shown at a pace.

While the broker is away images are dropped and counted; all other messages wait, as the firmware's
QoS 1 messages do, the newest ``_WAITING`` of them.
"""

import base64
import csv
import io
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

from lineside.core import Clock, InvalidError, UnavailableError, digest_of, encode, rfc3339
from lineside.core.factory import write_message
from lineside.links import Bus, FrameMessage

_MOST_DRIFT_PX = 20.0
_MOST_FPS = 100.0
TRUTH_FILE = "truth.csv"


class Stop(Protocol):
    """Stop signal of a run; a ``threading.Event`` is one."""

    def is_set(self) -> bool:
        """Return True where the run is to end."""
        ...

    def wait(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationResult:
    """Result of a run: frames published and dropped while the broker was away."""

    frames: int
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateSettings:
    """One run of the simulated warehouse.

    Attributes:
        seed: everything random follows from it; the same seed and clock give the same messages.
        lighting: by which light the camera sees the rack; teaching uses dark, then light.
        drift_px: how far the camera may wander from its place, up to 20.
        blur_px: deviation of the lens's blur; 0 is sharp.
        fps: frames a second.
        frames: end after so many frames; 0 goes on until stopped.
        speed: divides the duration of every stage.
        restock_after_s: a shipped piece is laid into the input again after this time; 0: never.
        topic_prefix: stands before every topic, so that several lines can share a bus.
        teach: send so many frames of random racks, each after the ``f/i/stock`` of the same
            ``ts``, then end; 0 runs the factory.
        truth: file of the ground truth; "" keeps none.
    """

    seed: int = 1
    lighting: Literal["dark", "light", "neutral"] = "light"
    drift_px: float = 4.0
    blur_px: float = 0.0
    fps: float = 5.0
    frames: int = 0
    speed: float = 1.0
    restock_after_s: float = 0.0
    topic_prefix: str = ""
    teach: int = 0
    truth: str = ""

    def __post_init__(self) -> None:
        _between(drift_px=self.drift_px, most=_MOST_DRIFT_PX)
        _between(blur_px=self.blur_px, most=5.0)
        _between(restock_after_s=self.restock_after_s, most=86_400.0)
        _not_below_0(seed=self.seed, frames=self.frames, teach=self.teach)
        _above_0(fps=self.fps, most=_MOST_FPS)
        _above_0(speed=self.speed, most=1000.0)


def _between(*, most: float, **figures: float) -> None:
    for name, figure in figures.items():
        if not 0 <= figure <= most:
            raise InvalidError(f"between 0 and {most:g}", where=name, fix=f"Write {name} = 0.")


def _not_below_0(**figures: int) -> None:
    for name, figure in figures.items():
        if figure < 0:
            raise InvalidError("0 or more", where=name, fix=f"Write {name} = 1.")


def _above_0(*, most: float, **figures: float) -> None:
    for name, figure in figures.items():
        if not 0 < figure <= most:
            fix = f"Write {name} = 5."
            raise InvalidError(f"above 0 and at most {most:g}", where=name, fix=fix)


logger = logging.getLogger(__name__)

_WAITING = 500
_TIMEOUT_S = 2.0


class Outbox:
    """The one place that publishes; logs loss and return of the broker once each."""

    def __init__(self, bus: Bus, *, topic_prefix: str) -> None:
        self._bus = bus
        self._prefix = topic_prefix
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=_WAITING)
        self._lost = False
        self.dropped = 0

    def say(self, topic: str, payload: bytes) -> None:
        """Send with QoS 1, now or as soon as the broker is back, in order."""
        self.dropped += len(self._waiting) == _WAITING
        self._waiting.append((topic, payload))
        self.flush()

    def flush(self) -> None:
        """Send what waits."""
        while self._waiting and self._publish(*self._waiting[0], qos=1):
            self._waiting.popleft()

    def show(self, topic: str, payload: bytes) -> bool:
        """Send a picture with QoS 0; False when it was dropped instead."""
        return self._publish(topic, payload, qos=0)

    def _publish(self, topic: str, payload: bytes, *, qos: Literal[0, 1]) -> bool:
        if not self._bus.connected():
            return self._away("not connected")
        try:
            self._bus.publish(self._prefix + topic, payload, qos=qos, timeout_s=_TIMEOUT_S)
        except UnavailableError as error:
            return self._away(error.message)
        if self._lost:
            logger.info("broker is back waiting=%d", len(self._waiting))
        self._lost = False
        return True

    def _away(self, reason: str) -> bool:
        if not self._lost:
            logger.warning("broker lost reason=%s", reason)
        self._lost = True
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One picture, encoded, of one part; ``true`` is what the truth file holds of it."""

    number: int
    part: str
    picture: bytes
    true: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSettings:
    """One run of a simulated line that shows one image after the other.

    Attributes:
        seed: of everything random; the same seed and clock give the same messages.
        fps: images a second.
        frames: end after so many; 0 goes on until stopped.
        topic_prefix: stands before the topic, so that several lines can share a bus.
        truth: file of the ground truth, a JSON object a line; "" keeps none.

    Raises:
        InvalidError: a setting that cannot work.
    """

    seed: int = 1
    fps: float = 2.0
    frames: int = 0
    topic_prefix: str = ""
    truth: str = ""

    def __post_init__(self) -> None:
        _not_below_0(seed=self.seed, frames=self.frames)
        _above_0(fps=self.fps, most=_MOST_FPS)


def show_shots(
    shots: Iterator[Shot], *, settings: LineSettings, topic: str, bus: Bus, clock: Clock, stop: Stop
) -> SimulationResult:
    """Show each when it is due, until stopped or all are sent.

    Of each picture sent the truth file holds ``ts``, ``digest`` and ``part`` beside what is true;
    its last line counts what was sent.
    """
    outbox = Outbox(bus, topic_prefix=settings.topic_prefix)
    sent = dropped = 0
    due_s = clock.monotonic()
    with open_truth(settings.truth) as truth:
        for shot in islice(shots, settings.frames or None):
            stop.wait(max(0.0, due_s - clock.monotonic()))
            if stop.is_set():
                break
            ts = rfc3339(clock.now())
            if outbox.show(topic, _message(shot, ts=ts)):
                sent += 1
                digest = digest_of(shot.picture)
                truth({"ts": ts, "digest": digest, "part": shot.part, **shot.true})
            else:
                dropped += 1
            due_s = max(due_s + 1 / settings.fps, clock.monotonic())
        truth({"end": True, "frames": sent, "dropped": dropped})
    return SimulationResult(frames=sent, dropped=dropped)


def _message(shot: Shot, *, ts: str) -> bytes:
    data = picture_text(shot.picture)
    return write_message(FrameMessage(ts=ts, data=data, sequence=shot.number, part=shot.part))


@contextmanager
def open_truth(path: str) -> Iterator[Callable[[Mapping[str, object]], None]]:
    """Writer of lines of a truth file, each flushed; with an empty path one that writes nothing."""
    if not path:
        yield lambda _: None
        return
    with Path(path).open("w", encoding="utf-8") as file:

        def write(line: Mapping[str, object]) -> None:
            file.write(encode(line).decode() + "\n")
            file.flush()

        yield write


def write_truth(folder: Path, rows: Iterable[Sequence[object]]) -> Path:
    """Write ``truth.csv`` of a folder of pictures, its first row the names of its columns."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path = folder / TRUTH_FILE
    path.write_text(text.getvalue())
    return path


def picture_text(picture: bytes) -> str:
    """A JPEG as the text that messages carry."""
    return "data:image/jpeg;base64," + base64.b64encode(picture).decode()
