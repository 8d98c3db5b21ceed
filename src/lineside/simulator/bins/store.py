"""The walk through the store: which bin is photographed next, and what happened to it before.

1. Neighbouring numbers are often the same bin before and after a single pick or stow; in between,
   a hand only moves things about. Over all neighbours a quarter (26 %) go down by exactly one and
   15 % up by exactly one.
2. What was recorded of a bin is wrong for some bins, and stays wrong until the bin is left.
3. Everything follows from the seed; the first pictures of a longer walk are those of a shorter.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from lineside.simulator.bins.goods import Item, Product, laid, moved, new_product

MOST_ITEMS = 8
_STAYS = 0.62
_PICK, _STOW = 0.39, 0.18
_FIRST_SHARES = (0.05, 0.09, 0.12, 0.14, 0.14, 0.14, 0.12, 0.11, 0.09)
_SAME_PRODUCT = 0.35
_WRONG = 0.05
_WRONG_BY = (-2, -1, 1, 1, 2)
_HAND = 0.012


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """A bin as it stands.

    Attributes:
        number: of the bin, from 1; pictures of one bin follow one another.
        items: what lies in it.
        offset: what the record has too much (or too little).
        seed: of its walls and of the camera before it.
        phantom: a product that the record lists and the bin lacks.
    """

    number: int
    items: tuple[Item, ...]
    offset: int
    seed: int
    phantom: Product

    @property
    def count(self) -> int:
        """How many items lie in it."""
        return len(self.items)

    @property
    def recorded(self) -> int:
        """How many the record says."""
        return max(0, self.count + self.offset)

    @property
    def part(self) -> str:
        """The bin's name as the line says it."""
        return f"bin-{self.number:05d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One photograph to be taken: its number from 1, the bin, and the seed of light and noise."""

    number: int
    bin: Bin
    seed: int


def views(seed: int) -> Iterator[View]:
    """The walk, without end."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    standing = _new_bin(1, rng)
    number = 1
    while True:
        yield View(number=number, bin=standing, seed=int(rng.integers(2**31)))
        number += 1
        if rng.random() < _STAYS:
            standing = _after(standing, rng)
        else:
            standing = _new_bin(standing.number + 1, rng)


def _new_bin(number: int, rng: np.random.Generator) -> Bin:
    items: tuple[Item, ...] = ()
    for _ in range(int(rng.choice(MOST_ITEMS + 1, p=_FIRST_SHARES))):
        items = _stowed(items, rng)
    offset = int(rng.choice(_WRONG_BY)) if rng.random() < _WRONG else 0
    return Bin(
        number=number,
        items=items,
        offset=offset,
        seed=int(rng.integers(2**31)),
        phantom=new_product(rng),
    )


def _after(standing: Bin, rng: np.random.Generator) -> Bin:
    """The same bin once a hand was in it."""
    items = tuple(moved(item, rng=rng, by=_HAND) for item in standing.items)
    deed = rng.random()
    if deed < _PICK and items:
        gone = int(rng.integers(len(items)))
        items = items[:gone] + items[gone + 1 :]
    elif _PICK <= deed < _PICK + _STOW and len(items) < MOST_ITEMS:
        items = _stowed(items, rng)
    return replace(standing, items=items)


def _stowed(items: tuple[Item, ...], rng: np.random.Generator) -> tuple[Item, ...]:
    again = bool(items) and rng.random() < _SAME_PRODUCT
    product = items[int(rng.integers(len(items)))].product if again else new_product(rng)
    return (*items, laid(product, items, rng=rng))
