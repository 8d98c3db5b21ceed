"""The store as a line on a bus: every picture with the bin it shows as its part."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from lineside.core import Clock, InvalidError, digest_of, encode, rfc3339, write_message
from lineside.links import Bus, FrameMessage
from lineside.simulator.bins.picture import encoded
from lineside.simulator.bins.store import View, views
from lineside.simulator.outbox import Outbox
from lineside.simulator.settings import Simulated, Stop

TOPIC = "bins/cam"
_MOST_FPS = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BinsSettings:
    """One run of the simulated store.

    Attributes:
        seed: of the walk; the same seed and clock give the same messages.
        fps: pictures a second.
        frames: end after so many; 0 goes on until stopped.
        topic_prefix: stands before the topic, so that several lines can share a bus.
        truth: file of what was true, a JSON object a line; "" keeps none.
    """

    seed: int = 1
    fps: float = 2.0
    frames: int = 0
    topic_prefix: str = ""
    truth: str = ""

    def __post_init__(self) -> None:
        for name, figure in (("seed", self.seed), ("frames", self.frames)):
            if figure < 0:
                raise InvalidError("0 or more", where=name, fix=f"Write {name} = 1.")
        if not 0 < self.fps <= _MOST_FPS:
            raise InvalidError(
                f"above 0 and at most {_MOST_FPS:g}", where="fps", fix="Write fps = 2."
            )


def simulate_bins(settings: BinsSettings, *, bus: Bus, clock: Clock, stop: Stop) -> Simulated:
    """Show bin after bin on ``bins/cam`` until stopped or all frames are sent.

    The caller opens and closes the bus. Of each picture sent the truth file holds ``ts``,
    ``digest``, ``part``, ``count`` and ``recorded``; its last line counts what was sent.
    """
    outbox = Outbox(bus, topic_prefix=settings.topic_prefix)
    sent = dropped = 0
    due_s = clock.monotonic()
    with _opened(settings.truth) as truth:
        for view in views(settings.seed):
            if 0 < settings.frames <= sent + dropped:
                break
            stop.wait(max(0.0, due_s - clock.monotonic()))
            if stop.is_set():
                break
            ts, picture = rfc3339(clock.now()), encoded(view)
            if outbox.show(TOPIC, _message(view, picture, ts=ts)):
                sent += 1
                _note(truth, _true(view, picture, ts=ts))
            else:
                dropped += 1
            due_s = max(due_s + 1 / settings.fps, clock.monotonic())
        _note(truth, {"end": True, "frames": sent, "dropped": dropped})
    return Simulated(frames=sent, dropped=dropped)


def _message(view: View, picture: bytes, *, ts: str) -> bytes:
    data = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
    return write_message(FrameMessage(ts=ts, data=data, sequence=view.number, part=view.bin.part))


def _true(view: View, picture: bytes, *, ts: str) -> dict[str, Any]:
    return {
        "ts": ts,
        "digest": digest_of(picture),
        "part": view.bin.part,
        "count": view.bin.count,
        "recorded": view.bin.recorded,
    }


def _note(file: TextIO | None, line: dict[str, Any]) -> None:
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
