"""Drawn defects against real ones: whether the power test tells which real defects are found.

    python benchmarks/power.py --data DIR [--sets kolektor-sdd,mvtec-screw] [--good 35]

Of each set a package learns from at most so many good pictures, with the documented defaults; none
of its defects is learned from or looked at. Every real defect with a mask is then judged by the
package as devices do, and its chance to be found is read from the package's own power test:

* a mask whose longest piece is four times as long as wide is a line (a hairline up to 2.5 network
  pixels of width, else a scratch), any other a blob;
* its size is the longer side of the piece's smallest rectangle, its contrast the 90th percentile of
  its difference from the median around it, both as the power test counts them;
* between the sizes and contrasts that were drawn the share is interpolated in their logarithms.

These rules were written down before any result was looked at, and nothing was changed after. The
Spearman correlation of predicted share and real answer is told over defects and over classes
(a set's kinds of defects with five or more), with a bootstrap over defects.
"""

import argparse
import csv
import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import cv2
import numpy as np
from measure import RESULTS, provenance, write
from numpy.typing import NDArray

from lineside.core import Inspection, SystemClock, Task, to_plain
from lineside.datasets import load_source
from lineside.models import Package
from lineside.models.result import PowerTest, package_result
from lineside.training import TrainJob, run_job
from lineside.training.common.methods import spread
from lineside.training.tasks.contract import MOST_BYTES, Case, Files
from lineside.training.tasks.metrics import judge_all
from lineside.vision import decode_picture, grey_of
from lineside.vision.prepare import Prepare, fitted

CLOCK = SystemClock()
SETS = ("kolektor-sdd", "mvtec-screw", "magnetic-tile")
LONG, HAIRLINE_PX, RING_PX = 4.0, 2.5, 7
LEAST_OF_CLASS, ROUNDS = 5, 2000
LEVEL = 127.0

Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RealDefect:
    """A real defect: what it looks like, what the power test says of such, and what came true."""

    group: str
    kind: str
    size_px: float
    contrast: float
    predicted: float
    is_found: bool


def source_of(folder: Path, to: Path, *, good: int) -> Path:
    """Good pictures to learn from, evenly spread, and every defect with a mask to be judged."""
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    fine = [row for row in rows if row["label"] == "good" and row.get("split", "") != "test"]
    bad = [row for row in rows if row["label"] != "good" and row["mask"]]
    chosen = [(row, "train") for row in spread(fine, good)] + [(row, "test") for row in bad]
    to.mkdir()
    with (to / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "mask", "group", "split"])
        for row, part in chosen:
            for name in filter(None, (row["file"], row["mask"])):
                (to / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / name, to / name)
            label = row.get("defect_type") or row["label"]
            group = row.get("group") or row["file"]
            writer.writerow([row["file"], label, row["mask"], group, part])
    return to


def scale_of(settings: Prepare, *, width_px: int, height_px: int) -> float:
    """Network pixels per pixel of a picture."""
    if settings.pose is not None:
        return settings.pose.zoom
    if settings.fit == "zoom":
        return settings.zoom
    own = fitted(settings, width_px=width_px, height_px=height_px)
    return float(np.sqrt(own.width_px * own.height_px / (width_px * height_px)))


def looks(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], *, scale: float
) -> tuple[str, float, float]:
    """Kind, size in network pixels and contrast of a defect's largest piece."""
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    piece = numbers == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    rows, columns = np.nonzero(piece)
    sides = cv2.minAreaRect(np.stack([columns, rows], axis=1).astype(np.float32))[1]
    length = max(1.0, max(sides) + 1.0)
    width = piece.sum() / length
    kind = "blob"
    if length / width >= LONG:
        kind = "hairline" if width * scale <= HAIRLINE_PX else "scratch"
    kernel = np.ones((2 * RING_PX + 1, 2 * RING_PX + 1), np.uint8)
    ring = (cv2.dilate(mask.astype(np.uint8), kernel) > 0) & ~mask
    grey = grey_of(image).astype(np.float64)
    grey *= LEVEL / max(1.0, float(grey.mean()))
    away = np.abs(grey[piece] - np.median(grey[ring] if ring.any() else grey))
    return kind, length * scale, float(np.quantile(away, 0.9))


def predicted(power: PowerTest, kind: str, *, size_px: float, contrast: float) -> float:
    """Share of drawn defects like this that are found."""
    mine = sorted((one for one in power.defects if one.kind == kind), key=lambda one: one.contrast)
    shares = [
        float(np.interp(np.log(size_px), np.log(one.sizes_px), np.array(one.found) / one.n))
        for one in mine
    ]
    levels = np.log([one.contrast for one in mine])
    return float(np.interp(np.log(max(contrast, 1.0)), levels, shares))


def measured(name: str, *, good: int, folder: Path, data: Path) -> dict[str, object]:
    """One set: its power test, and what it says of each real defect beside the answer."""
    source = load_source(str(source_of(data / name, folder / name, good=good)))
    inspection = Inspection(id=name, camera="top", task=Task.ANOMALY, labels=())
    started, spent = perf_counter(), process_time()
    result = run_job(
        TrainJob(inspection=inspection, data=str(folder / name)), folder=folder / f"{name}-job",
        progress=lambda step: print(name, step.percent, step.stage, file=sys.stderr),
        cancelled=threading.Event(), clock=CLOCK,
    )  # fmt: skip
    package = Package.read(result.package)
    report = package_result(package)
    if report is None or report.power is None:
        raise SystemExit(f"{name}: no power test")
    bad = [sample for sample in source.samples if sample.mask_digest is not None]
    seconds = {"wall": perf_counter() - started, "processor": process_time() - spent}
    cases = judge_all(package, bad, files=source.read_file, clock=CLOCK)
    found = [
        one
        for case in cases
        if (
            one := real_defect(
                case, name, package=package, power=report.power, files=source.read_file
            )
        )
        is not None
    ]
    rule = package.manifest.anomaly
    return {
        "good": sum(sample.mask_digest is None for sample in source.samples),
        "usable": rule is not None and rule.usable,
        "limits": list(report.power.gaps),
        "words": report.power.words,
        "training_s": {of: round(value, 1) for of, value in seconds.items()},
        "drawn": report.power,
        "defects": [vars(one) for one in found],
        "real_recall": round(float(np.mean([one.is_found for one in found])), 4),
        "predicted_recall": round(float(np.mean([one.predicted for one in found])), 4),
        "n": len(found),
    }


def real_defect(
    case: Case, name: str, *, package: Package, power: PowerTest, files: Files
) -> RealDefect | None:
    """None where nothing is marked or the picture was refused."""
    answer, mask = case.prediction.anomaly, case.truth_mask
    if answer is None or mask is None or not mask.any():
        return None
    image = decode_picture(files(case.sample.digest), max_bytes=MOST_BYTES)
    scale = scale_of(package.manifest.prepare, width_px=image.shape[1], height_px=image.shape[0])
    kind, size_px, contrast = looks(image, mask, scale=scale)
    return RealDefect(
        group=f"{name}: {', '.join(case.sample.labels)}", kind=kind, size_px=round(size_px, 1),
        contrast=round(contrast, 1),
        predicted=round(predicted(power, kind, size_px=size_px, contrast=contrast), 4),
        is_found=answer.score > answer.limit,
    )  # fmt: skip


def ranks(values: Numbers) -> Numbers:
    """Ranks from 1, of ties the mean."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place], np.float64)


def spearman(one: Numbers, other: Numbers) -> float:
    """NaN where either is the same throughout."""
    a, b = ranks(one), ranks(other)
    if a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def by_class(rows: Sequence[RealDefect]) -> tuple[Numbers, Numbers]:
    """Mean predicted share and real recall of each class with enough defects."""
    classes: dict[str, list[RealDefect]] = {}
    for row in rows:
        classes.setdefault(row.group, []).append(row)
    stored = [some for some in classes.values() if len(some) >= LEAST_OF_CLASS]
    return (
        np.array([np.mean([one.predicted for one in some]) for some in stored], np.float64),
        np.array([np.mean([one.is_found for one in some]) for some in stored], np.float64),
    )


def of_defects(rows: Sequence[RealDefect]) -> tuple[Numbers, Numbers]:
    return (
        np.array([one.predicted for one in rows], np.float64),
        np.array([one.is_found for one in rows], np.float64),
    )


def correlation(
    rows: Sequence[RealDefect], columns: Callable[[Sequence[RealDefect]], tuple[Numbers, Numbers]]
) -> dict[str, object]:
    """Spearman correlation with its bootstrap interval over defects, drawn within each class."""
    rng, drawn = np.random.default_rng(0), []
    classes: dict[str, list[RealDefect]] = {}
    for row in rows:
        classes.setdefault(row.group, []).append(row)
    for _ in range(ROUNDS):
        again = [
            some[n] for some in classes.values() for n in rng.integers(len(some), size=len(some))
        ]
        drawn.append(spearman(*columns(again)))
    stored = np.array(drawn)[~np.isnan(drawn)]
    low, high = np.quantile(stored, [0.025, 0.975]) if len(stored) else (np.nan, np.nan)
    found = columns(rows)
    return {
        "spearman": rounded(spearman(*found)), "low": rounded(low), "high": rounded(high),
        "n": len(found[0]),
    }  # fmt: skip


def rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--good", type=int, default=35)
    parser.add_argument("--data", type=Path, required=True)
    asked = parser.parse_args()
    path = RESULTS / "power.json"
    stored = json.loads(path.read_text())["sets"] if path.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.sets.split(","):
            found = measured(name, good=asked.good, folder=Path(folder), data=asked.data)
            stored[name] = to_plain({**found, "measured": provenance()})
    rows = [RealDefect(**one) for found in stored.values() for one in found["defects"]]
    write(
        "power",
        {
            "of_defects": correlation(rows, of_defects),
            "of_classes": correlation(rows, by_class),
            "of_defects_by_set": {
                name: correlation([RealDefect(**one) for one in found["defects"]], of_defects)
                for name, found in stored.items()
            },
            "sets": stored,
        },
        answer,
    )


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    defects = [one for found in result["sets"].values() for one in found["defects"]]
    predicted_share = np.mean([one["predicted"] for one in defects])
    found_share = np.mean([one["is_found"] for one in defects])
    return (
        f"Spearman correlation {correlation_words(result['of_defects'])} over real defects of "
        f"{len(result['sets'])} sets, {correlation_words(result['of_classes'])} over classes; "
        f"{predicted_share:.0%} predicted, {found_share:.0%} found."
    ).replace("%", " %")


def correlation_words(found: dict[str, Any]) -> str:
    if found["spearman"] is None or found["low"] is None:
        return f"undefined (n {found['n']:,})"
    return f"{found['spearman']:.2f} ({found['low']:.2f} to {found['high']:.2f}, n {found['n']:,})"


if __name__ == "__main__":
    main()
