"""The belt as a line on a bus: every picture with the part that it shows."""

from collections.abc import Iterator
from dataclasses import dataclass

from lineside.core import Clock, InvalidError
from lineside.links import Bus
from lineside.simulator.outbox import Outbox
from lineside.simulator.settings import Simulated, Stop
from lineside.simulator.showing import Pace, Shot, check_pace, show_shots
from lineside.simulator.surface.parts import FAULTY_SHARE, parts
from lineside.simulator.surface.picture import encoded, seen

TOPIC = "surface/cam"


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceSettings:
    """One run of the simulated belt.

    Attributes:
        seed: of the parts; the same seed and clock give the same messages.
        fps: parts a second.
        frames: end after so many; 0 goes on until stopped.
        faulty_share: 0-1, how many parts have a fault.
        topic_prefix: stands before the topic, so that several lines can share a bus.
        truth: file of what was true, a JSON object a line; "" keeps none.
    """

    seed: int = 1
    fps: float = 2.0
    frames: int = 0
    faulty_share: float = FAULTY_SHARE
    topic_prefix: str = ""
    truth: str = ""

    def __post_init__(self) -> None:
        check_pace(seed=self.seed, fps=self.fps, frames=self.frames)
        check_share(self.faulty_share)


def check_share(faulty_share: float) -> None:
    """``InvalidError`` for a share that is none."""
    if not 0 <= faulty_share <= 1:
        raise InvalidError("0 to 1", where="faulty_share", fix="Write faulty_share = 0.3.")


def simulate_surface(settings: SurfaceSettings, *, bus: Bus, clock: Clock, stop: Stop) -> Simulated:
    """Show part after part on ``surface/cam`` until stopped or all frames are sent.

    The caller opens and closes the bus. Of each picture sent the truth file holds ``ts``,
    ``digest``, ``part``, ``label``, ``faults`` and ``wrong_px``, how many pixels the faults cover;
    its last line counts what was sent.
    """
    return show_shots(
        _shots(settings),
        pace=Pace(fps=settings.fps, frames=settings.frames, truth=settings.truth),
        topic=TOPIC,
        outbox=Outbox(bus, topic_prefix=settings.topic_prefix),
        clock=clock,
        stop=stop,
    )


def _shots(settings: SurfaceSettings) -> Iterator[Shot]:
    for part in parts(settings.seed, faulty_share=settings.faulty_share):
        view = seen(part)
        yield Shot(
            number=part.number,
            part=part.id,
            picture=encoded(view.picture),
            true={
                "label": part.label,
                "faults": sorted({fault.kind for fault in part.faults}),
                "wrong_px": int((view.mask > 0).sum()),
            },
        )
