"""What a random split of neighbouring pictures pretends: counts on simulated bins, measured twice.

    python benchmarks/bins_study.py [--pictures 5000] [--fresh 1500] [--folder DIR] [--steps N]

Consecutive numbers are often the same bin before and after one pick. The same pictures are split
70:10:20 twice, by picture at random and by blocks of 100 numbers, and a count is trained on each
with default options (``--steps`` shortens a check). Each model is measured on its own test part,
once, and on bins of another walk, which no training has seen: what the first claims and the second
does not hold is the leak. Beside them stands what copying the count of the most similar training
picture reaches, which knows nothing but pictures it has seen.

With ``--folder`` a study that was stopped goes on. The result goes to
benchmarks/results/bins_study.json; the exit status is 1 when a target is missed: a leak whose
interval holds zero, or a coverage more than two points from what it promises.
"""

import argparse
import csv
import math
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import measure
import numpy as np
from numpy.typing import NDArray

from lineside.core import SystemClock, load_plant, to_plain
from lineside.models import Metric, Package
from lineside.simulator import write_bins
from lineside.training import Labelled, Progress, TrainJob, evaluate, open_labelled, run_job
from lineside.vision import decode_picture
from lineside.vision.metrics import wilson

PLANT = Path(__file__).parents[1] / "examples" / "bins" / "plant.toml"
SEED, FRESH_SEED, SPLIT_SEED = 1, 2, 3
BLOCK = 100
SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}
THUMB_PX = 24
MOST_MISS = 0.02

Row = dict[str, str]


def rendered(folder: Path, *, pictures: int, seed: int) -> list[Row]:
    """The rows of truth.csv; what is there already is not rendered again."""
    truth = folder / "truth.csv"
    if not truth.exists():
        write_bins(folder, pictures=pictures, seed=seed)
    with truth.open(newline="") as file:
        return list(csv.DictReader(file))


def parts(units: int) -> list[str]:
    """The part of each of so many pictures or blocks, in random order."""
    order = np.random.default_rng(SPLIT_SEED).permutation(units)
    train, valid = (round(units * s) for s in (SHARES["train"], SHARES["train"] + SHARES["valid"]))
    named = ["train"] * train + ["valid"] * (valid - train) + ["test"] * (units - valid)
    placed = [""] * units
    for place, part in zip(order, named, strict=True):
        placed[place] = part
    return placed


def split_rows(rows: Sequence[Row], *, by: str) -> list[Row]:
    """The same pictures with a part each; the random split is told nothing of neighbours."""
    if by == "random":
        placed = parts(len(rows))
        return [{**row, "group": "", "split": part} for row, part in zip(rows, placed, strict=True)]
    placed = parts(math.ceil(len(rows) / BLOCK))
    return [
        {**row, "group": f"block {place // BLOCK}", "split": placed[place // BLOCK]}
        for place, row in enumerate(rows)
    ]


def write_table(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, ("file", "count", "group", "split"), extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)


def shared_bins(rows: Sequence[Row], bins: Sequence[str]) -> float:
    """Share of test pictures whose bin stands in the training part as well."""
    trained = {b for row, b in zip(rows, bins, strict=True) if row["split"] != "test"}
    tests = [b for row, b in zip(rows, bins, strict=True) if row["split"] == "test"]
    return sum(b in trained for b in tests) / len(tests)


def thumbnails(folder: Path, rows: Sequence[Row]) -> NDArray[np.float32]:
    """(pictures, 24 x 24) grey, light taken away: mean 0, deviation 1 each."""
    found = []
    for row in rows:
        image = decode_picture((folder / row["file"]).read_bytes())
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        small = cv2.resize(grey, (THUMB_PX, THUMB_PX), interpolation=cv2.INTER_AREA).ravel()
        found.append((small - small.mean()) / (small.std() + 1e-6))
    return np.stack(found)


def copied(thumbs: NDArray[np.float32], rows: Sequence[Row]) -> dict[str, float]:
    """How often the most similar training picture has the same count."""
    test = np.array([row["split"] == "test" for row in rows])
    counts = np.array([int(row["count"]) for row in rows])
    nearest = (thumbs[test] @ thumbs[~test].T).argmax(axis=1)
    same = counts[~test][nearest] == counts[test]
    return to_plain(wilson(int(same.sum()), len(same)))  # type: ignore[no-any-return]  # a plain record


def trained(table: Path, job_folder: Path, *, steps: int) -> tuple[Package, dict[str, Metric]]:
    """The package and its figures on the test part."""
    inspection = load_plant(PLANT).find_inspection("contents")
    settings = {"steps": float(steps)} if steps else {}
    job = TrainJob(inspection=inspection, data=str(table), settings=settings)
    said = [""]

    def tell(progress: Progress) -> None:
        line = f"{table.stem}: {progress.percent // 5 * 5:.0f} % {progress.stage}"
        if line != said[0]:
            said[0] = line
            print(line, flush=True)

    result = run_job(
        job, folder=job_folder, progress=tell, cancelled=threading.Event(), clock=SystemClock()
    )
    return Package.read(result.package), dict(result.metrics)


def on_fresh(package: Package, table: Path) -> dict[str, Metric]:
    """Figures on bins of another walk."""
    clock = SystemClock()
    with open_labelled(Labelled(data=str(table), task="count"), clock=clock) as opened:
        found = evaluate(package, opened.samples, files=opened.files, clock=clock)
    return dict(found.metrics)


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float]:
    """Of two independent shares, with its 95 % interval (Newcombe 1998, method 10)."""
    gap = one["value"] - other["value"]
    down = math.hypot(one["value"] - one["low"], other["high"] - other["value"])
    up = math.hypot(one["high"] - one["value"], other["value"] - other["low"])
    return {"value": gap, "low": gap - down, "high": gap + up}


def study(folder: Path, *, pictures: int, fresh: int, steps: int) -> dict[str, Any]:
    began = perf_counter()
    rows = rendered(folder / "bins", pictures=pictures, seed=SEED)
    rendered(folder / "fresh", pictures=fresh, seed=FRESH_SEED)
    bins = [row["group"] for row in rows]
    thumbs = thumbnails(folder / "bins", rows)
    found: dict[str, Any] = {}
    for by in ("random", "blocks"):
        placed = split_rows(rows, by=by)
        table = folder / "bins" / f"{by}.csv"
        write_table(table, placed)
        start = perf_counter()
        package, own = trained(table, folder / f"job-{by}", steps=steps)
        rule = package.manifest.count
        assert rule is not None
        found[by] = {
            "test_pictures_of_trained_bins": shared_bins(placed, bins),
            "copy_of_the_nearest": copied(thumbs, placed),
            "own_test": to_plain(own),
            "fresh_bins": to_plain(on_fresh(package, folder / "fresh" / "truth.csv")),
            "promised_coverage": 1 - rule.error_rate,
            "most": rule.most,
            "seconds": round(perf_counter() - start, 1),
        }
    return {
        "pictures": pictures,
        "fresh_pictures": fresh,
        "steps": steps or "default",
        "seconds": round(perf_counter() - began, 1),
        "splits": found,
        **leaks_of(found),
    }


def leaks_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the random split claims beyond the blocks, and beyond what it holds on fresh bins."""
    random, blocks = found["random"], found["blocks"]
    miss = {
        f"{by}_{where}": figures[where]["coverage"]["value"] - figures["promised_coverage"]
        for by, figures in found.items()
        for where in ("own_test", "fresh_bins")
    }
    return {
        "leak": {
            "exact_random_minus_blocks": difference(
                random["own_test"]["exact"], blocks["own_test"]["exact"]
            ),
            "exact_claimed_minus_held_random": difference(
                random["own_test"]["exact"], random["fresh_bins"]["exact"]
            ),
            "exact_claimed_minus_held_blocks": difference(
                blocks["own_test"]["exact"], blocks["fresh_bins"]["exact"]
            ),
            "copy_random_minus_blocks": difference(
                random["copy_of_the_nearest"], blocks["copy_of_the_nearest"]
            ),
        },
        "coverage_minus_promised": miss,
    }


def targets(result: Mapping[str, Any]) -> dict[str, bool]:
    miss = result["coverage_minus_promised"]
    return {
        "copying_shows_the_leak": result["leak"]["copy_random_minus_blocks"]["low"] > 0,
        "the_count_shows_the_leak": result["leak"]["exact_random_minus_blocks"]["low"] > 0,
        "coverage_by_blocks_within_2_points": abs(miss["blocks_own_test"]) <= MOST_MISS,
        "coverage_on_fresh_bins_within_2_points": abs(miss["blocks_fresh_bins"]) <= MOST_MISS,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--fresh", type=int, default=1500)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--steps", type=int, default=0, help="of training; 0: the default")
    parser.add_argument("--name", default="bins_study", help="of the file of results")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = asked.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        result = study(folder, pictures=asked.pictures, fresh=asked.fresh, steps=asked.steps)
    met = targets(result)
    path = measure.write(asked.name, {**result, "targets": met}, answer)
    print(f"{path}: {met}")
    return 0 if all(met.values()) else 1


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    splits, leak = result["splits"].values(), result["leak"]
    own, fresh = (
        result["splits"]["random"][where]["exact"] for where in ("own_test", "fresh_bins")
    )
    commonest = [
        split[where]["exact"]["baseline"]
        for split in splits
        for where in ("own_test", "fresh_bins")
    ]
    return (
        f"By {_points(leak['exact_claimed_minus_held_random'])}:"
        f" {100 * own['value']:.1f} % exact (n {own['n']:,}),"
        f" {100 * fresh['value']:.1f} % on new bins (n {fresh['n']:,});"
        f" by blocks {_points(leak['exact_claimed_minus_held_blocks'])};"
        f" the commonest count reaches {100 * min(commonest):.0f} to {100 * max(commonest):.0f} %."
    )


def _points(gap: Mapping[str, float]) -> str:
    value, low, high = (100 * gap[name] for name in ("value", "low", "high"))
    return f"{value:.1f} points ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    raise SystemExit(main())
