"""The store as a line on a bus: every picture with the bin it shows as its part."""

from collections.abc import Iterator
from dataclasses import dataclass

from lineside.core import Clock
from lineside.links import Bus
from lineside.simulator.bins.picture import encoded
from lineside.simulator.bins.store import views
from lineside.simulator.outbox import Outbox
from lineside.simulator.settings import Simulated, Stop
from lineside.simulator.showing import Pace, Shot, check_pace, show_shots

TOPIC = "bins/cam"


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
        check_pace(seed=self.seed, fps=self.fps, frames=self.frames)


def simulate_bins(settings: BinsSettings, *, bus: Bus, clock: Clock, stop: Stop) -> Simulated:
    """Show bin after bin on ``bins/cam`` until stopped or all frames are sent.

    The caller opens and closes the bus. Of each picture sent the truth file holds ``ts``,
    ``digest``, ``part``, ``count`` and ``recorded``; its last line counts what was sent.
    """
    return show_shots(
        _shots(settings.seed),
        pace=Pace(fps=settings.fps, frames=settings.frames, truth=settings.truth),
        topic=TOPIC,
        outbox=Outbox(bus, topic_prefix=settings.topic_prefix),
        clock=clock,
        stop=stop,
    )


def _shots(seed: int) -> Iterator[Shot]:
    for view in views(seed):
        yield Shot(
            number=view.number,
            part=view.bin.part,
            picture=encoded(view),
            true={"count": view.bin.count, "recorded": view.bin.recorded},
        )
