"""Which parts come along, what is wrong with each, and how the light is when they pass."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

FaultKind = Literal["scratch", "dent", "stain"]
Label = Literal["normal", "anomalous"]

FAULTY_SHARE = 0.3

_SECOND_FAULT = 0.2
_EXPOSURE_PERIOD = 40.0
_EXPOSURE_SWING = 0.14


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with a surface.

    Attributes:
        x, y: its middle, in shares of the plate's width and height.
        size: of the plate's width: a scratch's length, a dent's or a stain's breadth.
        turn_deg: of its long axis, against the brushing.
        strength: 0-1, how plainly it shows.
        seed: of its shape.
    """

    kind: FaultKind
    x: float
    y: float
    size: float
    turn_deg: float
    strength: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part as it passes the camera.

    Attributes:
        number: 1 upwards.
        seed: of brushing, light and noise.
        shift_x_px, shift_y_px, turn_deg: how it lies on the belt, against the middle of the view.
        exposure: the picture's gain; wanders slowly, as lamps and daylight do.
    """

    number: int
    seed: int
    shift_x_px: float
    shift_y_px: float
    turn_deg: float
    exposure: float
    faults: tuple[Fault, ...]

    @property
    def id(self) -> str:
        """Part id, as it is printed on the carrier."""
        return f"plate-{self.number:06d}"

    @property
    def label(self) -> Label:
        """What a person would say of it."""
        return "anomalous" if self.faults else "normal"


def parts(seed: int, *, faulty_share: float = FAULTY_SHARE) -> Iterator[Part]:
    """Parts without end; a longer walk of the same seed begins like a shorter one."""
    begin = float(np.random.default_rng([seed, 0]).uniform(0, 2 * np.pi))
    number = 0
    while True:
        number += 1
        rng = np.random.default_rng([seed, number])
        yield Part(
            number=number,
            seed=int(rng.integers(2**31)),
            shift_x_px=float(np.clip(rng.normal(0, 8), -18, 18)),
            shift_y_px=float(np.clip(rng.normal(0, 6), -13, 13)),
            turn_deg=float(np.clip(rng.normal(0, 1.6), -4, 4)),
            exposure=_exposure(number, begin=begin, rng=rng),
            faults=_faults(rng, share=faulty_share),
        )


def _exposure(number: int, *, begin: float, rng: np.random.Generator) -> float:
    swing = np.sin(begin + 2 * np.pi * number / _EXPOSURE_PERIOD)
    return float(1 + _EXPOSURE_SWING * swing + np.clip(rng.normal(0, 0.03), -0.08, 0.08))


def _faults(rng: np.random.Generator, *, share: float) -> tuple[Fault, ...]:
    if rng.random() >= share:
        return ()
    count = 2 if rng.random() < _SECOND_FAULT else 1
    return tuple(_fault(rng) for _ in range(count))


def _fault(rng: np.random.Generator) -> Fault:
    kind = get_args(FaultKind)[int(rng.integers(3))]
    size = {"scratch": (0.25, 0.55), "dent": (0.13, 0.21), "stain": (0.14, 0.3)}[kind]
    side = 1 if rng.random() < 0.5 else -1
    return Fault(
        kind=kind,
        x=float(rng.uniform(0.2, 0.8)),
        y=float(rng.uniform(0.22, 0.78)),
        size=float(rng.uniform(*size)),
        turn_deg=float(side * rng.uniform(18, 90)),
        strength=float(rng.uniform(0.7, 1)),
        seed=int(rng.integers(2**31)),
    )
