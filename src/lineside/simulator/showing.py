"""A line that shows one picture after the other on the bus, and notes what is true of each."""

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

from lineside.core import Clock, InvalidError, digest_of, encode, rfc3339, write_message
from lineside.links import FrameMessage
from lineside.simulator.outbox import Outbox
from lineside.simulator.settings import Simulated, Stop

_MOST_FPS = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One picture, encoded, of one part; ``true`` is what the truth file holds of it."""

    number: int
    part: str
    picture: bytes
    true: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How shots are shown.

    Attributes:
        fps: pictures a second.
        frames: end after so many; 0 goes on until stopped.
        truth: file of what was true, a JSON object a line; "" keeps none.
    """

    fps: float
    frames: int
    truth: str


def check_pace(*, seed: int, fps: float, frames: int) -> None:
    """``InvalidError`` with the setting that cannot work."""
    for name, figure in (("seed", seed), ("frames", frames)):
        if figure < 0:
            raise InvalidError("0 or more", where=name, fix=f"Write {name} = 1.")
    if not 0 < fps <= _MOST_FPS:
        raise InvalidError(f"above 0 and at most {_MOST_FPS:g}", where="fps", fix="Write fps = 2.")


def show_shots(
    shots: Iterator[Shot], *, pace: Pace, topic: str, outbox: Outbox, clock: Clock, stop: Stop
) -> Simulated:
    """Show each when it is due, until stopped or all are sent.

    Of each picture sent the truth file holds ``ts``, ``digest`` and ``part`` beside what is true;
    its last line counts what was sent.
    """
    sent = dropped = 0
    due_s = clock.monotonic()
    with _opened(pace.truth) as truth:
        for shot in islice(shots, pace.frames or None):
            stop.wait(max(0.0, due_s - clock.monotonic()))
            if stop.is_set():
                break
            ts = rfc3339(clock.now())
            if outbox.show(topic, _message(shot, ts=ts)):
                sent += 1
                digest = digest_of(shot.picture)
                _note(truth, {"ts": ts, "digest": digest, "part": shot.part, **shot.true})
            else:
                dropped += 1
            due_s = max(due_s + 1 / pace.fps, clock.monotonic())
        _note(truth, {"end": True, "frames": sent, "dropped": dropped})
    return Simulated(frames=sent, dropped=dropped)


def _message(shot: Shot, *, ts: str) -> bytes:
    data = "data:image/jpeg;base64," + base64.b64encode(shot.picture).decode()
    return write_message(FrameMessage(ts=ts, data=data, sequence=shot.number, part=shot.part))


def _note(file: TextIO | None, line: Mapping[str, object]) -> None:
    if file is not None:
        file.write(encode(line).decode() + "\n")
        file.flush()


@contextmanager
def _opened(path: str) -> Iterator[TextIO | None]:
    if not path:
        yield None
        return
    with Path(path).open("w", encoding="utf-8") as file:
        yield file
