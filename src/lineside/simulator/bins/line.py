"""The store as a line on a bus: every picture with the bin it shows as its part."""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lineside.core import Clock, encode
from lineside.links import Bus
from lineside.simulator.bins.picture import Product, View, encode_view, views
from lineside.simulator.playback import LineSettings, Shot, SimulationResult, Stop, show_shots

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


TRUTH_FILE = "truth.csv"
_INCHES = 20.0


def write_bins(
    folder: Path, *, pictures: int, seed: int, told: Callable[[int], None] = lambda _: None
) -> Path:
    """Render pictures 1 to ``pictures`` of the walk of this seed into a folder.

    Args:
        folder: made when absent; files of the same names are replaced.
        pictures: how many.
        seed: of the walk; the same seed writes the same bytes.
        told: called with the number of each picture written.

    Returns:
        The path of ``truth.csv``.
    """
    for name in ("bin-images", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = []
    for view in islice(views(seed), pictures):
        file = f"bin-images/{file_stem(view.number)}.jpg"
        (folder / file).write_bytes(encode_view(view))
        record = folder / "metadata" / f"{file_stem(view.number)}.json"
        record.write_bytes(encode(record_of(view)))
        rows.append((file, view.bin.count, view.bin.part, view.bin.recorded))
        told(view.number)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("file", "count", "group", "recorded"), *rows])
    (folder / TRUTH_FILE).write_text(text.getvalue())
    return folder / TRUTH_FILE


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
