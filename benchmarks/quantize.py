"""What int8 costs and saves, for one package of each task.

    python benchmarks/quantize.py [--rows "classify;count"] [--only simulated]
    python benchmarks/quantize.py --only real --data "$LINESIDE_DATA"

Each row trains a small package (short: the comparison is between two precisions of one package, not
between trainings), makes its int8 variant by the command's own function and keeps its certificate,
or the refusal with every rung's figures. Times are of whole predictions and of the bare network, by
turns in one run on one thread. Rows that are in the results file already stay.
"""

import argparse
import csv
import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from measure import RESULTS, provenance, write
from numpy.typing import NDArray

from lineside.core import Box, Inspection, RefusedError, Region, SystemClock, Task, View
from lineside.models import OnnxEngine, Package, Predictor
from lineside.testing.pictures import tray_folder
from lineside.training import (
    Labelled,
    LabelledData,
    TrainJob,
    VariantRequest,
    open_labelled,
    quantised_variant,
    run_job,
)
from lineside.vision import encode_png, open_frame

CLOCK = SystemClock()
Image = NDArray[np.uint8]
SLOTS = {"left": (60, 60), "middle": (160, 120), "right": (260, 180)}


# ---- pictures


def plate(seed: int, *, kind: str) -> tuple[Image, Image]:
    """(120, 160) brushed metal, and the mask of its defect: ``good``, ``scratch`` or ``stain``."""
    rng = np.random.default_rng(seed)
    grain = cv2.GaussianBlur(rng.normal(0, 14, (120, 160)).astype(np.float32), (31, 1), 0)
    grey = rng.uniform(115, 150) + grain + rng.normal(0, 3, (120, 160))
    mask = np.zeros((120, 160), np.uint8)
    x, y = int(rng.integers(30, 130)), int(rng.integers(25, 95))
    if kind == "scratch":
        far = (x + int(rng.integers(-25, 25)), y + int(rng.integers(10, 25)))
        cv2.line(mask, (x, y), far, 255, 3)
    if kind == "stain":
        axes = (int(rng.integers(6, 14)), int(rng.integers(5, 10)))
        cv2.ellipse(mask, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
    depth = -rng.uniform(25, 60) if kind == "scratch" else rng.uniform(20, 45)
    grey = np.where(mask > 0, grey + depth, grey)
    image = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return image, np.repeat(mask[..., None], 3, axis=2)


def plates(folder: Path, *, kinds: Sequence[str], each: int, good_only: bool = False) -> Path:
    """A source with masks; every fourth picture is the test part, ``good_only`` trains on good."""
    (folder / "masks").mkdir(parents=True)
    rows = []
    for place, kind in enumerate(kinds):
        for number in range(each):
            image, mask = plate(1000 * place + number, kind=kind)
            name = f"{kind}-{number:03d}.png"
            (folder / name).write_bytes(encode_png(image))
            drawn = "" if kind == "good" else f"masks/{name}"
            if drawn:
                (folder / drawn).write_bytes(encode_png(mask))
            test = number % 4 == 3 or (good_only and kind != "good")
            rows.append((name, kind, drawn, "test" if test else "train"))
    return _table(folder, "file,label,mask,split", rows=rows)


def racks(folder: Path, *, pictures: int) -> Path:
    """A source of racks with three slots, each empty or holding a disc."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(pictures):
        rng = np.random.default_rng(number)
        room = np.random.default_rng(0)
        image = np.full((240, 320, 3), 110, np.uint8)
        for _ in range(90):
            x, y = int(room.integers(0, 320)), int(room.integers(0, 240))
            shade = tuple(int(v) for v in room.integers(20, 230, 3))
            cv2.rectangle(image, (x, y), (x + 20, y + 14), shade, -1)
        held = [slot for slot in SLOTS if rng.random() < 0.5]
        for slot, middle in SLOTS.items():
            cv2.rectangle(image, _corner(middle, -26), _corner(middle, 26), (40, 40, 40), -1)
            if slot in held:
                shade = tuple(int(v) for v in rng.integers(120, 240, 3))
                cv2.circle(image, middle, 17, shade, -1, cv2.LINE_AA)
        light = image * rng.uniform(0.7, 1.15) + rng.normal(0, 4, image.shape)
        name = f"{number:03d}.png"
        (folder / name).write_bytes(encode_png(np.asarray(np.clip(light, 0, 255), np.uint8)))
        rows.append((name, ";".join(held), "", "test" if number % 4 == 3 else "train"))
    return _table(folder, "file,label,mask,split", rows=rows)


def _corner(middle: tuple[int, int], reach: int) -> tuple[int, int]:
    return middle[0] + reach, middle[1] + reach


def _table(folder: Path, head: str, *, rows: Sequence[tuple[str, ...]]) -> Path:
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head.split(","), *rows])
    return folder


# ---- rows


@dataclass(frozen=True, kw_only=True)
class Row:
    """One package.

    Attributes:
        make: writes a source into a folder; None: ``data`` below the data folder.
    """

    name: str
    task: Task
    labels: tuple[str, ...] = ()
    make: Callable[[Path], Path] | None = None
    data: str = ""
    regions: tuple[Region, ...] = ()
    view: View | None = None
    settings: dict[str, float] = field(default_factory=dict)


def _regions() -> tuple[Region, ...]:
    return tuple(
        Region(
            id=slot,
            label=slot,
            box_px=Box(x0_px=x - 26, y0_px=y - 26, x1_px=x + 26, y1_px=y + 26),
        )
        for slot, (x, y) in SLOTS.items()
    )


KINDS = ("good", "scratch", "stain")
ROWS = (
    Row(
        name="multilabel, drawn racks", task=Task.MULTILABEL, regions=_regions(),
        make=lambda folder: racks(folder, pictures=64), view=View(width_px=320, height_px=240),
    ),
    Row(
        name="classify, drawn plates", task=Task.CLASSIFY, labels=KINDS,
        make=lambda folder: plates(folder, kinds=KINDS, each=60),
    ),
    Row(
        name="segment, drawn plates", task=Task.SEGMENT, labels=KINDS,
        make=lambda folder: plates(folder, kinds=KINDS, each=60),
        settings={"steps": 240.0},
    ),
    Row(
        name="anomaly, drawn plates", task=Task.ANOMALY,
        make=lambda folder: plates(folder, kinds=KINDS, each=40, good_only=True),
    ),
    Row(
        name="detect, drawn trays", task=Task.DETECT, labels=("disc", "square"),
        make=lambda folder: tray_folder(folder, pictures=160, marks="boxes"),
        settings={"steps": 240.0, "batch_size": 4.0},
    ),
    Row(
        name="count, drawn trays", task=Task.COUNT,
        make=lambda folder: tray_folder(folder, pictures=160, marks="points"),
        settings={"steps": 240.0, "batch_size": 4.0},
    ),
    Row(name="classify, elpv", task=Task.CLASSIFY, data="elpv/labels.csv"),
    Row(name="anomaly, kolektor-sdd", task=Task.ANOMALY, data="kolektor-sdd"),
)  # fmt: skip


def package_of(row: Row, data: Path, *, folder: Path) -> Package:
    """Train it."""
    labels = row.labels
    if row.task is Task.CLASSIFY and not labels:
        with opened(row, data, labels=()) as found:
            labels = tuple(sorted({label for s in found.samples for label in s.labels}))
    inspection = Inspection(
        id="bench", camera="bench", task=row.task, labels=labels, region=row.regions, view=row.view
    )
    job = TrainJob(inspection=inspection, data=str(data), settings=row.settings)
    done = run_job(
        job, folder=folder, progress=lambda _: None, cancelled=threading.Event(), clock=CLOCK
    )
    return Package.read(done.package)


@contextmanager
def opened(row: Row, data: Path, *, labels: tuple[str, ...]) -> Iterator[LabelledData]:
    asked = Labelled(data=str(data), labels=labels, task=str(row.task))
    with open_labelled(asked, clock=CLOCK) as found:
        yield found


def judged(row: Row, data: Path, *, folder: Path) -> dict[str, Any]:
    """Everything of one row."""
    start = perf_counter()
    package = package_of(row, data, folder=folder)
    trained_s = perf_counter() - start
    lines: list[str] = []
    result: dict[str, Any] = {
        "row": row.name, "task": str(row.task), "trained_s": round(trained_s, 1), "rungs": lines,
    }  # fmt: skip
    with opened(row, data, labels=package.manifest.labels) as found:
        start = perf_counter()
        try:
            made = quantised_variant(
                package, found.samples, files=found.files, clock=CLOCK, tell=lines.append,
                wanted=VariantRequest(),
            )  # fmt: skip
        except RefusedError as error:
            return result | {"refused": error.message}
        result["quantised_s"] = round(perf_counter() - start, 1)
        variant = Package.read(made.package)
        picture = found.files(found.samples[0].digest)
    loss = made.parity.loss
    return result | {
        "metric": loss.metric, "fp32": loss.original, "int8": loss.variant,
        "loss": {"value": loss.value, "low": loss.low, "high": loss.high, "n": loss.n},
        "changed": loss.changed, "max_abs_diff": made.parity.max_abs_diff,
        "kept_in_fp32": made.parity.kept,
        "layers": [made.parity.quantised, made.parity.layers],
        "prediction_ms": {
            "fp32": made.latency.original_ms, "int8": made.latency.variant_ms,
            "ratio": made.latency.ratio,
        },
        "network_ms": bare_times(package, variant, picture=picture),
        "archive_bytes": {
            "fp32": sum(map(len, package.files.values())),
            "int8": sum(map(len, variant.files.values())),
        },
    }  # fmt: skip


def bare_times(one: Package, other: Package, *, picture: bytes, rounds: int = 40) -> dict[str, Any]:
    """Medians of the networks alone, by turns."""
    frame = open_frame(picture, camera="bench", captured_at=CLOCK.now())
    crops = Predictor(one, clock=CLOCK).crops(frame)
    crops = np.ascontiguousarray(crops[:, :, :1536, :1536])
    names = _outputs(one)
    engines = [
        OnnxEngine(
            package.file(package.manifest.engine.file), crops=(0, 0, 0, 0), where="bench",
            outputs=names,
        )
        for package in (one, other)
    ]  # fmt: skip
    spent: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for seconds, engine in zip(spent, engines, strict=True):
            start = perf_counter()
            engine.run(crops, outputs=names)
            if turn >= 5:
                seconds.append(perf_counter() - start)
    fp32, int8 = (float(np.median(each)) * 1000 for each in spent)
    return {"fp32": round(fp32, 3), "int8": round(int8, 3), "ratio": round(int8 / fp32, 4)}


def _outputs(package: Package) -> tuple[str, ...]:
    manifest = package.manifest
    if manifest.detect is not None:
        return ("objectness", "geometry", "classes")
    return {"segment": ("map", "distance"), "anomaly": ("map",), "count": ("logits",)}.get(
        manifest.task, ("logits", "distance")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="")
    parser.add_argument("--only", choices=("simulated", "real", "all"), default="simulated")
    parser.add_argument("--data", type=Path, default=None, help="folder of the real pictures")
    asked = parser.parse_args()
    path = RESULTS / "quantize.json"
    kept = (
        {each["row"]: each for each in json.loads(path.read_text())["rows"]}
        if path.exists()
        else {}
    )
    for row in ROWS:
        real = row.make is None
        wanted = asked.only == "all" or (asked.only == "real") == real
        named = not asked.rows or any(each in row.name for each in asked.rows.split(";"))
        if not (wanted and named) or (real and asked.data is None):
            continue
        with tempfile.TemporaryDirectory(prefix="quantize-") as folder:
            place = Path(folder)
            data = asked.data / row.data if row.make is None else row.make(place / "data")
            found = judged(row, data, folder=place / "job")
            kept[row.name] = {**found, "measured": provenance()}
        print(json.dumps(kept[row.name], indent=1))
        rows = [kept[each.name] for each in ROWS if each.name in kept]
        write("quantize", {"rows": rows}, answer, is_part=bool(asked.rows))


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    made = [row for row in result["rows"] if "refused" not in row]
    refused = len(result["rows"]) - len(made)
    if not made:
        return f"No int8 variant was made: {refused} of {refused} packages refused."
    ratios = [row["prediction_ms"]["ratio"] for row in made]
    loss = max((row["loss"] for row in made), key=lambda one: float(one["value"]))
    rest = f"; {refused} refused" if refused else ""
    return (
        f"Predictions take {min(ratios):.2f} to {max(ratios):.2f} of the time of fp32 in "
        f"{len(made)} packages{rest}; the largest loss is {loss['value']:z.3f} "
        f"({loss['low']:z.3f} to {loss['high']:z.3f}, n {loss['n']:,})."
    )


if __name__ == "__main__":
    main()
