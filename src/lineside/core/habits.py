"""How things pass a camera and how its answers err: what ``lineside rule learn`` writes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lineside.core.checks import above_zero, refuse, unless, zero_or_more
from lineside.core.codec import decode
from lineside.core.errors import InvalidError

HABITS_SCHEMA = "lineside.sighting/1"
_MOST_BYTES = 1_000_000
# A dozen frames in the shortest stay, of which dwell_s is half, count wholly; more say no more.
_LOOKS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """Set by two numbers, or learned from a labelled clip.

    Attributes:
        dwell_s: a thing is in view at least so long.
        gap_s: an absence shorter than this does not end a sighting.
        look_s: frames closer than this err alike; 0 for a sixth of ``dwell_s``.
        flicker: share of frames that are wrong, where ``confusion`` says nothing else, above 0.
        confusion: what is in view → what a frame says → share of frames; ``""`` is nothing.
        things, frames: that it was learned from; 0 where it was not.
    """

    dwell_s: float
    gap_s: float
    look_s: float = 0.0
    flicker: float = 0.3
    confusion: dict[str, dict[str, float]] = field(default_factory=dict)
    things: int = 0
    frames: int = 0
    schema: Literal["lineside.sighting/1"] = "lineside.sighting/1"

    def __post_init__(self) -> None:
        shares = [share for row in self.confusion.values() for share in row.values()]
        again = "Learn the file anew: lineside rule learn."
        refuse(
            self,
            above_zero(self, "dwell_s", "gap_s"),
            zero_or_more(self, "look_s"),
            unless(
                0.0 < self.flicker < 1.0, key="flicker", seen=self.flicker,
                expected="above 0 and below 1", fix=again,
            ),
            unless(
                all(0.0 <= share <= 1.0 for share in shares), key="confusion",
                seen=self.confusion, expected="shares from 0 to 1", fix=again,
            ),
        )  # fmt: skip

    @property
    def look(self) -> float:
        """Seconds after which a frame is evidence of its own."""
        return self.look_s or self.dwell_s / _LOOKS


def read_habits(path: Path) -> Habits:
    """What a file that was learned says.

    Raises:
        InvalidError: it cannot be read, or says something else.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InvalidError(
            f"cannot read what was learned: {error.strerror}", where=str(path),
            fix="Make it: lineside rule learn.",
        ) from error  # fmt: skip
    if len(raw) > _MOST_BYTES:
        raise InvalidError(
            f"more than {_MOST_BYTES} bytes", where=str(path), fix="Learn the file anew."
        )
    return decode(Habits, raw, where=str(path))
