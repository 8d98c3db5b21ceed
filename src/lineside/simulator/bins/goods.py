"""The goods of the simulated store: products of several shapes, and single items of them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["carton", "bottle", "ball", "book", "pouch", "tin"]
Pattern = Literal["plain", "stripes", "dots", "checks", "label"]
Colour = tuple[int, int, int]

# Share of the bin's width and height: smallest and largest of each shape.
_SIZES: dict[Kind, tuple[tuple[float, float], tuple[float, float]]] = {
    "carton": ((0.18, 0.34), (0.20, 0.42)),
    "bottle": ((0.11, 0.16), (0.34, 0.56)),
    "ball": ((0.15, 0.25), (0.15, 0.25)),
    "book": ((0.08, 0.14), (0.38, 0.58)),
    "pouch": ((0.18, 0.29), (0.26, 0.42)),
    "tin": ((0.14, 0.22), (0.18, 0.30)),
}
_KINDS: tuple[Kind, ...] = tuple(_SIZES)
_PATTERNS: tuple[Pattern, ...] = ("plain", "stripes", "dots", "checks", "label")
_WORDS = ("Alder", "Birch", "Cedar", "Dogwood", "Elm", "Fir", "Hazel", "Juniper", "Larch", "Maple")
_MOST_TURN_DEG = 9.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """What is sold; every item of it looks alike.

    Attributes:
        asin: ten characters.
        key: under which the store's record lists it; not always the asin.
        width, height: shares of the bin's width and height.
        seed: of its pattern.
    """

    asin: str
    key: str
    name: str
    kind: Kind
    colour: Colour
    second: Colour
    pattern: Pattern
    width: float
    height: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One piece that lies in a bin.

    Attributes:
        x: of its middle, share of the bin's width.
        depth: 0 at the back, 1 at the front.
    """

    product: Product
    x: float
    depth: float
    turn_deg: float


def new_product(rng: np.random.Generator) -> Product:
    """A product at random."""
    kind = _KINDS[rng.integers(len(_KINDS))]
    (least_wide, most_wide), (least_high, most_high) = _SIZES[kind]
    width = float(rng.uniform(least_wide, most_wide))
    height = width if kind == "ball" else float(rng.uniform(least_high, most_high))
    asin = _code("B", rng)
    return Product(
        asin=asin,
        key=asin if rng.random() < 0.7 else _code("ZZ", rng),
        name=f"{_WORDS[rng.integers(len(_WORDS))]} {kind} no. {rng.integers(1, 1000)}",
        kind=kind,
        colour=_colour(rng),
        second=_colour(rng),
        pattern=_PATTERNS[rng.integers(len(_PATTERNS))],
        width=width,
        height=height,
        seed=int(rng.integers(2**31)),
    )


def laid(
    product: Product, others: tuple[Item, ...], *, rng: np.random.Generator, tries: int = 14
) -> Item:
    """An item of a product where it hides others least, and is hidden least, of a few places."""
    half = product.width / 2
    found = [
        Item(
            product=product,
            x=float(rng.uniform(0.05 + half, 0.95 - half)),
            depth=float(rng.uniform(0, 1)),
            turn_deg=float(rng.uniform(-1, 1) * _MOST_TURN_DEG),
        )
        for _ in range(tries)
    ]
    return min(found, key=lambda item: sum(_hidden(item, other) for other in others))


def moved(item: Item, *, rng: np.random.Generator, by: float) -> Item:
    """The same piece after somebody's hand was in the bin."""
    half = item.product.width / 2
    x = float(np.clip(item.x + rng.normal(0, by), 0.04 + half, 0.96 - half))
    turn_deg = float(np.clip(item.turn_deg + rng.normal(0, 60 * by), -12, 12))
    return Item(product=item.product, x=x, depth=item.depth, turn_deg=turn_deg)


def _hidden(one: Item, other: Item) -> float:
    """How badly the two cover each other, 0 and above; being alike in depth does not help."""
    reach = (one.product.width + other.product.width) / 2
    overlap = max(0.0, reach - abs(one.x - other.x)) / min(one.product.width, other.product.width)
    front, back = (one, other) if one.depth > other.depth else (other, one)
    seen_above = max(0.0, back.product.height - front.product.height + 0.1) / back.product.height
    return max(0.0, min(1.0, overlap) - 0.5 * seen_above) ** 2


def _colour(rng: np.random.Generator) -> Colour:
    """From grey to strong, from dark to bright."""
    grey = rng.uniform(45, 225)
    spread = rng.normal(0, 48, 3)
    red, green, blue = np.clip(grey + spread - spread.mean(), 25, 245).astype(int)
    return int(red), int(green), int(blue)


def _code(prefix: str, rng: np.random.Generator) -> str:
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"
    drawn = rng.integers(len(letters), size=10 - len(prefix))
    return prefix + "".join(letters[place] for place in drawn)
