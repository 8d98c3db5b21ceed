"""The sorting table as a line on a bus: moments of the walk, as many a second as are asked for."""

from collections.abc import Iterator
from dataclasses import dataclass

from lineside.core import Clock
from lineside.links import Bus
from lineside.simulator.outbox import Outbox
from lineside.simulator.settings import Simulated, Stop
from lineside.simulator.showing import Pace, Shot, check_pace, show_shots
from lineside.simulator.socks.basket import Passing, passings
from lineside.simulator.socks.scene import View, encoded, seen

TOPIC = "socks/cam"
_SOCKS_A_TABLE = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class SocksSettings:
    """One run of the simulated sorting table.

    Attributes:
        seed: of socks, table and hands; the same seed and clock give the same messages.
        fps: pictures a second.
        frames: end after so many; 0 goes on until stopped.
        topic_prefix: stands before the topic, so that several lines can share a bus.
        truth: file of what was true, a JSON object a line; "" keeps none.
    """

    seed: int = 1
    fps: float = 5.0
    frames: int = 0
    topic_prefix: str = ""
    truth: str = ""

    def __post_init__(self) -> None:
        check_pace(seed=self.seed, fps=self.fps, frames=self.frames)


def simulate_socks(settings: SocksSettings, *, bus: Bus, clock: Clock, stop: Stop) -> Simulated:
    """Show the table on ``socks/cam`` until stopped or all frames are sent.

    The caller opens and closes the bus. A message names no sock: what is under the camera, nobody
    tells. Of each picture sent the truth file holds ``ts``, ``digest``, ``label`` (the design,
    ``Blank``, or "" where too little of a sock is seen to say), ``sock``, ``design``, ``pair`` and
    ``share``; its last line counts what was sent.
    """
    return show_shots(
        _shots(settings),
        pace=Pace(fps=settings.fps, frames=settings.frames, truth=settings.truth),
        topic=TOPIC,
        outbox=Outbox(bus, topic_prefix=settings.topic_prefix),
        clock=clock,
        stop=stop,
    )


def moments(seed: int, *, fps: float) -> Iterator[View]:
    """What is under the camera at each picture, without end."""
    walk = passings(seed)
    passing = next(walk)
    number = 0
    while True:
        time_s = number / fps
        while time_s >= passing.leaves_s:
            passing = next(walk)
        yield _moment(passing, time_s=time_s, seed=seed, number=number)
        number += 1


def _moment(passing: Passing, *, time_s: float, seed: int, number: int) -> View:
    pose = passing.at(time_s)
    return View(
        sock=passing.sock if pose is not None else None,
        pose=pose,
        laid=passing.sock.seed,
        table=seed + passing.sock.number // _SOCKS_A_TABLE,
        moment=seed * 1_000_003 + number,
    )


def _shots(settings: SocksSettings) -> Iterator[Shot]:
    for number, view in enumerate(moments(settings.seed, fps=settings.fps), start=1):
        found = seen(view)
        sock = view.sock
        yield Shot(
            number=number,
            part="",
            picture=encoded(found.picture),
            true={
                "label": found.label,
                "sock": sock.id if sock else "",
                "design": sock.design if sock else "",
                "pair": sock.pair if sock else 0,
                "share": round(found.share, 3),
            },
        )
