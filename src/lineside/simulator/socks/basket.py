"""Which socks come, in which order, and where each is at every moment.

1. Socks come as pairs; the second of a pair comes next, or after one of another pair. Some have
   no fellow.
2. A hand brings a sock in from one side, holds it or lets it lie, and takes it away; then the table
   is empty for a while.
3. Time is that of the walk: it follows from the seed and is no clock's. A longer walk of the same
   seed begins like a shorter one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lineside.simulator.socks.designs import DESIGNS, Design

_SINGLE = 0.15
_CROSSED = 0.3
_SIDES_DEG = (-90.0, 0.0, 90.0, 180.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sock:
    """One physical sock: its number from 1, its design, its cloth, and the pair it belongs to."""

    number: int
    design: Design
    seed: int
    pair: int

    @property
    def id(self) -> str:
        """Its name in the truth."""
        return f"sock-{self.number:05d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """How something lies under the camera.

    Attributes:
        x, y: its middle, in shares of the picture's width and height; may lie outside.
        turn_deg: counter-clockwise.
        scale: 1 is some two thirds of the picture's height.
        hand: 0-1, how far the hand is away from it; 1 is out of the picture.
        arm_deg: where the arm comes from; 0 is the right, 90 the top.
    """

    x: float
    y: float
    turn_deg: float
    scale: float
    hand: float
    arm_deg: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Passing:
    """One sock's time under the camera, in seconds of the walk; ``rests`` is where it lies."""

    sock: Sock
    enters_s: float
    lies_s: float
    lifted_s: float
    leaves_s: float
    rests: Pose
    exit_deg: float
    held: bool

    def at(self, time_s: float) -> Pose | None:
        """Where it is; None before and after."""
        if not self.enters_s <= time_s < self.leaves_s:
            return None
        if time_s < self.lies_s:
            far = 1 - _eased((time_s - self.enters_s) / (self.lies_s - self.enters_s))
            return self._moved(far, toward_deg=self.rests.arm_deg)
        if time_s >= self.lifted_s:
            far = _eased((time_s - self.lifted_s) / (self.leaves_s - self.lifted_s))
            return self._moved(far, toward_deg=self.exit_deg)
        left = min(time_s - self.lies_s, self.lifted_s - time_s)
        return self._moved(0.0, toward_deg=self.rests.arm_deg, hand=self._hand(left))

    def _hand(self, left_s: float) -> float:
        return 0.0 if self.held else min(1.0, left_s / 0.4)

    def _moved(self, far: float, *, toward_deg: float, hand: float = 0.0) -> Pose:
        way = np.deg2rad(toward_deg)
        return Pose(
            x=self.rests.x + 1.1 * far * float(np.cos(way)),
            y=self.rests.y - 1.35 * far * float(np.sin(way)),
            turn_deg=self.rests.turn_deg + 14 * far,
            scale=self.rests.scale,
            hand=hand,
            arm_deg=toward_deg,
        )


def socks(seed: int) -> Iterator[Sock]:
    """Socks without end."""
    rng = np.random.default_rng([seed, 1])
    number = pair = 0
    while True:
        order = _pairs(rng)
        for design, place in order:
            number += 1
            seed_of = int(rng.integers(2**31))
            yield Sock(number=number, design=design, seed=seed_of, pair=pair + 1 + place)
        pair += 1 + max(place for _, place in order)


def _pairs(rng: np.random.Generator) -> list[tuple[Design, int]]:
    """The next socks: a single one, a pair, or two pairs that cross; with the pair each is of."""
    first, second = rng.choice(len(DESIGNS), 2, replace=False)
    kind = rng.random()
    if kind < _SINGLE:
        return [(DESIGNS[first], 0)]
    if kind < _SINGLE + _CROSSED:
        return [(DESIGNS[one], place) for place, one in ((0, first), (1, second)) * 2]
    return [(DESIGNS[first], 0)] * 2


def passings(seed: int) -> Iterator[Passing]:
    """Socks under the camera, one after the other, with the table empty in between."""
    rng = np.random.default_rng([seed, 2])
    time_s = float(rng.uniform(1.0, 2.0))
    for sock in socks(seed):
        lies_s = time_s + float(rng.uniform(0.5, 0.9))
        lifted_s = lies_s + float(rng.uniform(1.6, 3.6))
        leaves_s = lifted_s + float(rng.uniform(0.4, 0.8))
        yield Passing(
            sock=sock,
            enters_s=time_s,
            lies_s=lies_s,
            lifted_s=lifted_s,
            leaves_s=leaves_s,
            rests=resting(rng),
            exit_deg=_side(rng),
            held=bool(rng.random() < 0.4),
        )
        time_s = leaves_s + float(rng.uniform(1.9, 3.2))


def resting(rng: np.random.Generator) -> Pose:
    """Somewhere under the camera, a little out of the picture at times."""
    return Pose(
        x=float(np.clip(rng.normal(0.5, 0.1), 0.24, 0.76)),
        y=float(np.clip(rng.normal(0.5, 0.1), 0.26, 0.74)),
        turn_deg=float(rng.uniform(-180, 180)),
        scale=float(rng.uniform(0.85, 1.2)),
        hand=0.0,
        arm_deg=_side(rng),
    )


def _side(rng: np.random.Generator) -> float:
    return float(rng.choice(_SIDES_DEG) + rng.uniform(-25, 25))


def _eased(share: float) -> float:
    """0-1, slow at both ends."""
    return share * share * (3 - 2 * share)
