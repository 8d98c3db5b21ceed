"""What a simulated line can be told, what ends it, and what it says of itself afterwards."""

from dataclasses import dataclass
from typing import Literal, Protocol

from lineside.core import InvalidError

_MOST_DRIFT_PX = 20.0
_MOST_FPS = 100.0


class Stop(Protocol):
    """What ends a run; a ``threading.Event`` is one."""

    def is_set(self) -> bool:
        """Whether to end."""
        ...

    def wait(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What a run sent: frames published, and messages or frames dropped with the broker away."""

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
        truth: file of the simulator's notebook; "" keeps none.
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
        for name, figure in (("seed", self.seed), ("frames", self.frames), ("teach", self.teach)):
            if figure < 0:
                raise InvalidError("0 or more", where=name, fix=f"Write {name} = 1.")
        for name, rate, most in (("fps", self.fps, _MOST_FPS), ("speed", self.speed, 1000.0)):
            if not 0 < rate <= most:
                fix = f"Write {name} = 5."
                raise InvalidError(f"above 0 and at most {most:g}", where=name, fix=fix)


def _between(*, most: float, **figures: float) -> None:
    for name, figure in figures.items():
        if not 0 <= figure <= most:
            raise InvalidError(f"between 0 and {most:g}", where=name, fix=f"Write {name} = 0.")
