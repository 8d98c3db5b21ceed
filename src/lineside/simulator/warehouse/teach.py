"""Arrangements for teaching: every slot shows every content equally often, in random order."""

import numpy as np

from lineside.core import SLOTS, Colour
from lineside.simulator.warehouse.light import Lighting
from lineside.simulator.warehouse.state import Place, places_of

_SHOWN = (Colour.BLUE, Colour.RED, Colour.WHITE, Colour.NONE)
_WITHOUT_TRAY = 1 / 3


def arrangements(count: int, *, rng: np.random.Generator) -> list[tuple[Place, ...]]:
    """``count`` racks; per slot, empty and the three colours differ in number by one at most.

    Of the empty places a third lacks its tray too, as while the crane has it.
    """
    columns = [_shuffled(count, rng=rng) for _ in SLOTS]
    return [_without_some_trays(places_of(list(rack), rng=rng), rng=rng)
            for rack in zip(*columns, strict=True)]  # fmt: skip


def lighting_of(frame: int, *, count: int) -> Lighting:
    """The first half is taught by dark light, the second by bright light."""
    return "dark" if 2 * frame < count else "light"


def _shuffled(count: int, *, rng: np.random.Generator) -> list[Colour]:
    """Balanced within each half, so that both lightings show everything."""
    halves = (count - count // 2, count // 2)
    shown: list[Colour] = []
    for half in halves:
        spread = [_SHOWN[(place + len(shown)) % len(_SHOWN)] for place in range(half)]
        shown += [spread[place] for place in rng.permutation(half)]
    return shown


def _without_some_trays(
    places: tuple[Place, ...], *, rng: np.random.Generator
) -> tuple[Place, ...]:
    lacks = rng.random(len(places)) < _WITHOUT_TRAY
    return tuple(
        Place(tray=False) if lack and place.piece is None else place
        for place, lack in zip(places, lacks, strict=True)
    )
