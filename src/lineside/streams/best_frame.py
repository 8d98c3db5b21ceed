"""A thing's best frame: the surest; of equals the one nearest the middle of its stay.

Many packages are equally sure of most frames, and at entry and exit a thing is half in view. Where
the middle lies is known at the end only, so equals are kept: at most ``MOST_EQUAL``, evenly spread
over the stay, and so one within a ``MOST_EQUAL``-th of the stay of the nearest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_EQUAL = 64
_DECIMALS = 6  # as the score is told; what is less is noise of the arithmetic


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One frame: when, the id of its record, the picture's id."""

    at_us: int
    id: str
    frame: str


@dataclass(slots=True, kw_only=True)
class BestFrame:
    """Fed frame by frame, in order of time.

    Attributes:
        score: the highest so far, 0-1; below 0 before the first.
        equals: how many frames had it.
        every: each how-manieth of them is kept.
        looks: those kept, in order of time.
    """

    score: float = -1.0
    equals: int = 0
    every: int = 1
    looks: list[Look] = field(default_factory=list)

    def see(self, look: Look, *, score: float) -> None:
        """One frame more."""
        told = round(score, _DECIMALS)
        if told < self.score:
            return
        if told > self.score:
            self.score, self.equals, self.every, self.looks = told, 0, 1, []
        if self.equals % self.every == 0:
            self.looks.append(look)
        self.equals += 1
        self._thin()

    def absorb(self, later: "BestFrame") -> None:
        """The frames of another, all of them later."""
        if later.score > self.score:
            self.score, self.equals, self.every = later.score, later.equals, later.every
            self.looks = later.looks
        elif later.score == self.score:
            self.equals += later.equals
            self.every = max(self.every, later.every)
            self.looks = self.looks + later.looks
            self._thin()

    def chosen(self, *, first_us: int, last_us: int) -> Look:
        """Of a stay from ``first_us`` to ``last_us``; at least one frame was seen.

        Of two equally near the middle the earlier.
        """
        return min(self.looks, key=lambda one: (abs(2 * one.at_us - first_us - last_us), one.at_us))

    @classmethod
    def loaded(cls, memory: Mapping[str, Any]) -> "BestFrame":
        """From ``dataclasses.asdict``."""
        return cls(**{**memory, "looks": [Look(**one) for one in memory["looks"]]})

    def _thin(self) -> None:
        while len(self.looks) > MOST_EQUAL:
            self.looks, self.every = self.looks[::2], 2 * self.every
