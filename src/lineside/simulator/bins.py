"""The store as a line on a bus: every picture with the bin it shows as its part.

Image of a bin: walls, goods one before the other, bands across, light, noise.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lineside.core import Clock, encode
from lineside.links import Bus
from lineside.simulator.playback import (
    LineSettings,
    Shot,
    SimulationResult,
    Stop,
    show_shots,
    write_truth,
)

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
    """A product; all its items look alike.

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
    """Return the overlap of two items, 0 and above; equal depth does not reduce it."""
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
        """Number of items in the bin."""
        return len(self.items)

    @property
    def recorded(self) -> int:
        """Number of items in the record."""
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
    current = _new_bin(1, rng)
    number = 1
    while True:
        yield View(number=number, bin=current, seed=int(rng.integers(2**31)))
        number += 1
        if rng.random() < _STAYS:
            current = _after(current, rng)
        else:
            current = _new_bin(current.number + 1, rng)


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


def _after(current: Bin, rng: np.random.Generator) -> Bin:
    """The same bin once a hand was in it."""
    items = tuple(moved(item, rng=rng, by=_HAND) for item in current.items)
    deed = rng.random()
    if deed < _PICK and items:
        gone = int(rng.integers(len(items)))
        items = items[:gone] + items[gone + 1 :]
    elif _PICK <= deed < _PICK + _STOW and len(items) < MOST_ITEMS:
        items = _stowed(items, rng)
    return replace(current, items=items)


def _stowed(items: tuple[Item, ...], rng: np.random.Generator) -> tuple[Item, ...]:
    again = bool(items) and rng.random() < _SAME_PRODUCT
    product = items[int(rng.integers(len(items)))].product if again else new_product(rng)
    return (*items, laid(product, items, rng=rng))


Floats = NDArray[np.float32]
Patch = NDArray[np.uint8]


def patch_of(product: Product, *, width_px: int, height_px: int) -> Patch:
    """(height, width, 4) uint8: red, green, blue, and alpha 0 outside the outline."""
    rng = np.random.default_rng(product.seed)
    surface = _pattern(product, rng, width_px=width_px, height_px=height_px)
    across, down = np.meshgrid(
        np.linspace(-1, 1, width_px, dtype=np.float32),
        np.linspace(-1, 1, height_px, dtype=np.float32),
    )
    shade, alpha = _SHAPES[product.kind](across, down)
    _with_label(product, surface, rng=rng)
    patch = np.empty((height_px, width_px, 4), np.uint8)
    patch[..., :3] = np.clip(surface * shade[..., None], 0, 255)
    patch[..., 3] = np.clip(alpha, 0, 1) * 255
    return patch


def _pattern(
    product: Product, rng: np.random.Generator, *, width_px: int, height_px: int
) -> Floats:
    base = np.empty((height_px, width_px, 3), np.float32)
    base[:] = product.colour
    steps = int(rng.integers(3, 8))
    across = np.arange(width_px, dtype=np.float32)[None, :] / width_px
    down = np.arange(height_px, dtype=np.float32)[:, None] / width_px
    match product.pattern:
        case "stripes":
            slant = float(rng.uniform(-1, 1))
            marks = (across + slant * down) * steps % 1 < 0.4
        case "dots":
            marks = (across * steps % 1 - 0.5) ** 2 + (down * steps % 1 - 0.5) ** 2 < 0.09
        case "checks":
            marks = (np.floor(across * steps) + np.floor(down * steps)) % 2 > 0
        case _:
            marks = np.zeros((height_px, width_px), bool)
    base[np.broadcast_to(marks, (height_px, width_px))] = product.second
    return base


def _with_label(product: Product, surface: Floats, *, rng: np.random.Generator) -> None:
    """A paper label with lines of print, on most things that are not a pattern all over."""
    import cv2

    height, width = surface.shape[:2]
    if product.pattern not in {"plain", "label"} or product.kind == "ball":
        return
    y0, y1 = int(height * rng.uniform(0.2, 0.4)), int(height * rng.uniform(0.6, 0.85))
    x0, x1 = int(width * rng.uniform(0.05, 0.2)), int(width * rng.uniform(0.75, 0.95))
    paper: Colour = product.second if product.pattern == "label" else (226, 222, 214)
    cv2.rectangle(surface, (x0, y0), (x1, y1), paper, -1)
    for line in range(int(rng.integers(1, 5))):
        y = y0 + int((line + 1) * (y1 - y0) / 6)
        right = x0 + int((x1 - x0) * rng.uniform(0.4, 0.9))
        cv2.line(surface, (x0 + 2, y), (right, y), (40, 40, 44), max(1, height // 60))


def _round(across: Floats) -> Floats:
    """Light on an upright cylinder: bright left of the middle, dark at its edges."""
    return np.asarray(1.12 - 0.75 * (across + 0.25) ** 2, np.float32)


def _edge(distance: Floats, *, soft: float = 0.03) -> Floats:
    """1 inside (distance below 1), 0 outside, over a narrow ramp."""
    return np.asarray(np.clip((1 - distance) / soft, 0, 1), np.float32)


def _carton(across: Floats, down: Floats) -> tuple[Floats, Floats]:
    """A box seen a little from the right and above."""
    side = across > 0.78
    top = down < -0.86
    shade = np.where(side, 0.62, np.where(top, 1.2, 1.0 - 0.08 * down))
    cut = (across - 0.78) / 0.22 > (down + 1) / 0.14
    alpha = np.where(side & top & cut, 0.0, 1.0)
    return np.asarray(shade, np.float32), np.asarray(alpha, np.float32)


def _bottle(across: Floats, down: Floats) -> tuple[Floats, Floats]:
    slope = np.where(down < -0.5, 0.42 + (down + 0.78) * 1.95, 0.96)
    half = np.asarray(np.where(down < -0.78, 0.42, slope), np.float32)
    cap = np.where(down < -0.8, 0.45, 1.0)
    return _round(across / half) * cap, _edge(np.asarray(np.abs(across) / half, np.float32))


def _ball(across: Floats, down: Floats) -> tuple[Floats, Floats]:
    far = across**2 + down**2
    light = (across + 0.35) ** 2 + (down + 0.4) ** 2
    return np.asarray(1.25 - 0.5 * light, np.float32), _edge(np.asarray(far, np.float32))


def _book(across: Floats, down: Floats) -> tuple[Floats, Floats]:
    bands = (np.abs(down + 0.7) < 0.04) | (np.abs(down - 0.75) < 0.04)
    shade = np.where(bands, 0.55, 1.08 - 0.35 * across**2)
    return np.asarray(shade, np.float32), np.ones_like(across)


def _pouch(across: Floats, down: Floats) -> tuple[Floats, Floats]:
    waist = 0.82 + 0.16 * np.sin((down + 1) * 1.5)
    folds = 0.1 * np.sin(9 * across + 3 * down) + 0.06 * np.sin(17 * down - 5 * across)
    seal = np.where(np.abs(down) > 0.88, 0.8, 1.0)
    shade = (1.0 + folds - 0.2 * across) * seal
    return np.asarray(shade, np.float32), _edge(np.asarray(np.abs(across) / waist, np.float32))


def _tin(across: Floats, down: Floats) -> tuple[Floats, Floats]:
    rim = 0.14 * np.sqrt(np.clip(1 - across**2, 0, 1))
    lid = down < -0.86 + rim
    shade = np.where(lid, 1.18, _round(across))
    inside = (down > -0.86 - rim) & (down < 0.86 + rim)
    return np.asarray(shade, np.float32), np.asarray(inside, np.float32) * _edge(np.abs(across))


_Shape = Callable[[Floats, Floats], tuple[Floats, Floats]]
_SHAPES: dict[Kind, _Shape] = {
    "carton": _carton,
    "bottle": _bottle,
    "ball": _ball,
    "book": _book,
    "pouch": _pouch,
    "tin": _tin,
}


_FLOOR_BACK, _FLOOR_FRONT = 0.72, 0.95
_QUALITIES = (72, 93)
_MOST_BANDS = 4

Image = NDArray[np.uint8]
Canvas = NDArray[np.float32]


def picture_of(view: View) -> Image:
    """(height, width, 3) uint8 RGB; of one bin always the same size."""
    place = np.random.default_rng(view.bin.seed)
    light = np.random.default_rng(view.seed)
    width_px = int(place.integers(260, 420))
    height_px = int(width_px * place.uniform(0.82, 1.08))
    canvas = _walls(place, width_px=width_px, height_px=height_px)
    for item in sorted(view.bin.items, key=lambda one: one.depth):
        _lay(canvas, item)
    _bands(canvas, place)
    return _exposed(canvas, light)


def encode_view(view: View) -> bytes:
    """The picture as JPEG, of the view's own quality."""
    from lineside.vision import encode_jpeg

    quality = int(np.random.default_rng([view.seed, 2]).integers(*_QUALITIES))
    return encode_jpeg(picture_of(view), quality=quality)


def _walls(rng: np.random.Generator, *, width_px: int, height_px: int) -> Canvas:
    """Back wall of woven cloth, side walls and floor."""
    import cv2

    grey = rng.uniform(105, 175)
    tint = rng.normal(0, 9, 3)
    canvas = np.empty((height_px, width_px, 3), np.float32)
    canvas[:] = grey + tint
    weave = rng.normal(0, 5, (height_px // 3 + 1, width_px // 3 + 1, 1)).astype(np.float32)
    canvas += cv2.resize(weave, (width_px, height_px))[..., None]
    floor = int(height_px * _FLOOR_BACK)
    depth = np.linspace(0.72, 1.05, height_px - floor, dtype=np.float32)
    canvas[floor:] *= depth[:, None, None]
    wall = max(3, int(width_px * rng.uniform(0.015, 0.04)))
    canvas[:, :wall] *= 0.6
    canvas[:, -wall:] *= 0.7
    canvas[: max(2, wall // 2)] *= 0.55
    return canvas


def _lay(canvas: Canvas, item: Item) -> None:
    """One item on the floor at its depth, with the shadow it throws."""
    height, width = canvas.shape[:2]
    nearer = 0.88 + 0.12 * item.depth
    wide = max(6, int(item.product.width * width * nearer))
    high = max(6, int(item.product.height * height * nearer))
    patch = _turned(patch_of(item.product, width_px=wide, height_px=high), item.turn_deg)
    foot = height * (_FLOOR_BACK + (_FLOOR_FRONT - _FLOOR_BACK) * item.depth)
    top = int(foot - (patch.shape[0] + high) / 2)
    left = int(item.x * width - patch.shape[1] / 2)
    _shadow(canvas, middle=(int(item.x * width), int(foot)), half=wide // 2)
    _over(canvas, patch, top=top, left=left)


def _turned(patch: Patch, turn_deg: float) -> Patch:
    """The patch turned about its middle, on a canvas that holds all of it."""
    import cv2

    height, width = patch.shape[:2]
    angle = abs(np.deg2rad(turn_deg))
    wide = int(width * np.cos(angle) + height * np.sin(angle)) + 3
    high = int(height * np.cos(angle) + width * np.sin(angle)) + 3
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn_deg, 1.0)
    matrix[:, 2] += ((wide - width) / 2, (high - height) / 2)
    turned = cv2.warpAffine(patch, matrix, (wide, high), flags=cv2.INTER_LINEAR)
    return np.asarray(turned, np.uint8)


def _over(canvas: Canvas, patch: Patch, *, top: int, left: int) -> None:
    height, width = canvas.shape[:2]
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(height, top + patch.shape[0]), min(width, left + patch.shape[1])
    if y0 >= y1 or x0 >= x1:
        return
    piece = patch[y0 - top : y1 - top, x0 - left : x1 - left]
    alpha = piece[..., 3:].astype(np.float32) / 255
    under = canvas[y0:y1, x0:x1]
    under += alpha * (piece[..., :3] - under)


def _shadow(canvas: Canvas, *, middle: tuple[int, int], half: int) -> None:
    import cv2

    height, width = canvas.shape[:2]
    low = max(2, half // 4)
    y0, y1 = max(0, middle[1] - low), min(height, middle[1] + low)
    x0, x1 = max(0, middle[0] - half), min(width, middle[0] + int(1.5 * half))
    if y0 < y1 and x0 < x1:
        dark = np.ones((y1 - y0, x1 - x0), np.float32)
        centre = (middle[0] + half // 4 - x0, middle[1] - y0)
        cv2.ellipse(dark, centre, (int(1.1 * half), low), 0, 0, 360, 0.62, -1, cv2.LINE_AA)
        canvas[y0:y1, x0:x1] *= cv2.blur(dark, (5, 3))[..., None]


def _bands(canvas: Canvas, rng: np.random.Generator) -> None:
    """Elastic bands before the bin, half transparent, never in the same place twice."""
    import cv2

    height, width = canvas.shape[:2]
    for _ in range(int(rng.integers(1, _MOST_BANDS + 1))):
        cover = np.zeros((height, width), np.float32)
        ends = rng.uniform(-0.1, 1.1, 2)
        if rng.random() < 0.6:
            start, stop = (int(ends[0] * width), 0), (int(ends[1] * width), height)
        else:
            start, stop = (0, int(ends[0] * height)), (width, int(ends[1] * height))
        thick = max(3, int(width * rng.uniform(0.02, 0.06)))
        cv2.line(cover, start, stop, float(rng.uniform(0.35, 0.75)), thick, cv2.LINE_AA)
        colour = rng.uniform(150, 235) + rng.normal(0, 8, 3)
        canvas += cover[..., None] * (colour.astype(np.float32) - canvas)


def _exposed(canvas: Canvas, rng: np.random.Generator) -> Image:
    """The light of the moment, the lens, and the sensor's noise."""
    import cv2

    height, width = canvas.shape[:2]
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    slope = rng.uniform(-0.22, 0.22, 2)
    fall = 1 - rng.uniform(0, 0.25) * (across**2 + down**2) / 2
    gain = rng.uniform(0.6, 1.2) * (1 + slope[0] * across + slope[1] * down) * fall
    seen = canvas * gain[..., None] * (1 + rng.normal(0, 0.03, 3)).astype(np.float32)
    if rng.random() < 0.4:
        seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.4, 1.1)), np.float32)
    noise = rng.standard_normal((height, width, 1), np.float32) * rng.uniform(1.5, 5)
    return np.asarray(np.clip(seen + noise, 12, 250), np.uint8)


TOPIC = "bins/cam"


@dataclass(frozen=True, slots=True, kw_only=True)
class BinsSettings(LineSettings):
    """One run of the simulated store; ``seed`` is of the walk."""


def simulate_bins(
    settings: BinsSettings, *, bus: Bus, clock: Clock, stop: Stop
) -> SimulationResult:
    """Show bin after bin on ``bins/cam`` until stopped or all frames are sent.

    The caller opens and closes the bus. Of each picture sent the truth file holds ``ts``,
    ``digest``, ``part``, ``count`` and ``recorded``; its last line counts what was sent.
    """
    return show_shots(
        _shots(settings.seed),
        settings=settings,
        topic=TOPIC,
        bus=bus,
        clock=clock,
        stop=stop,
    )


def _shots(seed: int) -> Iterator[Shot]:
    for view in views(seed):
        yield Shot(
            number=view.number,
            part=view.bin.part,
            picture=encode_view(view),
            true={"count": view.bin.count, "recorded": view.bin.recorded},
        )


_INCHES = 20.0


def write_bins(
    folder: Path, *, pictures: int, seed: int, progress: Callable[[int], None] = lambda _: None
) -> Path:
    """Render pictures 1 to ``pictures`` of the walk of this seed into a folder.

    Args:
        folder: made when absent; files of the same names are replaced.
        pictures: how many.
        seed: of the walk; the same seed writes the same bytes.
        progress: called with the number of each picture written.

    Returns:
        The path of ``truth.csv``.
    """
    for name in ("bin-images", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows: list[tuple[object, ...]] = [("file", "count", "group", "recorded")]
    for view in islice(views(seed), pictures):
        file = f"bin-images/{file_stem(view.number)}.jpg"
        (folder / file).write_bytes(encode_view(view))
        record = folder / "metadata" / f"{file_stem(view.number)}.json"
        record.write_bytes(encode(record_of(view)))
        rows.append((file, view.bin.count, view.bin.part, view.bin.recorded))
        progress(view.number)
    return write_truth(folder, rows)


def file_stem(number: int) -> str:
    """``00523`` of 523, ``499993`` of 499993."""
    return f"{number:05d}"


def record_of(view: View) -> dict[str, Any]:
    """Return the store's record, with the gaps that such records have."""
    quantities: dict[str, tuple[Product, int]] = {}
    kept = view.bin.items[: view.bin.recorded]
    for item in kept:
        product, held = quantities.get(item.product.key, (item.product, 0))
        quantities[product.key] = (product, held + 1)
    too_much = view.bin.recorded - len(kept)
    if too_much:
        quantities[view.bin.phantom.key] = (view.bin.phantom, too_much)
    document: dict[str, Any] = {
        "BIN_FCSKU_DATA": {key: _entry(*held) for key, held in quantities.items()},
        "EXPECTED_QUANTITY": view.bin.recorded,
    }
    if view.seed % 10 == 0:
        document["image_fname"] = f"{file_stem(view.number)}.jpg"
    return document


def _entry(product: Product, quantity: int) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "asin": None if product.seed % 40 == 0 else product.asin,
        "name": product.name,
        "quantity": quantity,
        "height": {"unit": "IN", "value": round(product.height * _INCHES, 2)},
        "length": {"unit": "IN", "value": round(product.width * _INCHES, 2)},
        "width": {"unit": "IN", "value": round(product.width * _INCHES, 2)},
        "weight": {"unit": "pounds", "value": round(product.width * product.height * 40, 2)},
    }
    if product.seed % 7:
        entry["normalizedName"] = product.name
    return entry
