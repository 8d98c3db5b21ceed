"""What eighteen pictures of six designs can show: each told by what the other seventeen taught.

    python benchmarks/socks_study.py --data FOLDER/sock-sort [--folder DIR]

Leave-one-out over the published samples (docs/reference/test-pictures.md): eighteen trainings with
default options. Beside the count of right answers stands the same for pictures on the wooden table
and on the pale sheet, because the table predicts the class in this sample: a histogram of the whole
picture's colours with a linear classifier is right for 13 of 18, and for 2 of the 7 on the sheet.
A picture is on the sheet where its rim is nearly grey (median saturation below 55 of 255).

With ``--folder`` a study that was stopped goes on. The result goes to
benchmarks/results/socks_study.json; the exit status is 1 when no more than 13 are right.
"""

import argparse
import csv
import json
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import measure
import numpy as np

from lineside.core import Inspection, SystemClock, Task, to_plain
from lineside.models import Package, Predictor
from lineside.training import TrainJob, run_job
from lineside.vision import Decision, decode_picture, open_frame
from lineside.vision.metrics import wilson

BEFORE = 13
_PALE = 55
_RIM_PX = 12


def pictures_of(data: Path) -> list[Path]:
    """Every sample, in the order of its name."""
    return sorted((data / "sock-images-sample").glob("*/*.jpg"))


def on_the_sheet(path: Path) -> bool:
    """Whether the rim of the picture is nearly grey."""
    colour = cv2.cvtColor(decode_picture(path.read_bytes()), cv2.COLOR_RGB2HSV)[..., 1]
    inner = np.zeros(colour.shape, np.bool_)
    inner[_RIM_PX:-_RIM_PX, _RIM_PX:-_RIM_PX] = True
    return bool(np.median(colour[~inner]) < _PALE)


def trained_without(path: Path, pictures: Sequence[Path], *, folder: Path) -> bytes:
    """The package that all the others taught."""
    table = folder / "train.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "label", "split"))
        for one in pictures:
            if one != path:
                name = f"{one.parent.name}-{one.name}"
                shutil.copyfile(one, folder / name)
                rows.writerow((name, one.parent.name, "train"))
    labels = tuple(sorted({one.parent.name for one in pictures}))
    inspection = Inspection(id="sock", camera="overhead", task=Task.CLASSIFY, labels=labels)
    result = run_job(
        TrainJob(inspection=inspection, data=str(table)),
        folder=folder / "job",
        progress=lambda _: None,
        cancelled=threading.Event(),
        clock=SystemClock(),
    )
    return result.package


def said_of(package: bytes, path: Path) -> dict[str, Any]:
    """What is said of the picture that was left out."""
    predictor = Predictor(Package.read(package), clock=SystemClock())
    frame = open_frame(path.read_bytes(), camera="overhead", captured_at=SystemClock().now())
    labels = predictor.predict(frame).labels
    best = max(labels, key=lambda one: one.probability, default=None)
    return {
        "file": f"{path.parent.name}/{path.name}",
        "sheet": on_the_sheet(path),
        "said": best.label if best is not None else "",
        "probability": round(best.probability, 4) if best is not None else 0.0,
        "sure": best is not None and best.decision is Decision.PRESENT,
        "right": best is not None and best.label == path.parent.name,
    }


def study(data: Path, *, folder: Path) -> dict[str, Any]:
    began, pictures = perf_counter(), pictures_of(data)
    answers: list[dict[str, Any]] = []
    for place, path in enumerate(pictures):
        own = folder / f"without-{place:02d}"
        own.mkdir(parents=True, exist_ok=True)
        kept = own / "answer.json"
        if not kept.exists():
            said = said_of(trained_without(path, pictures, folder=own), path)
            kept.write_text(json.dumps(said))
        answers.append(json.loads(kept.read_text()))
        print(answers[-1], flush=True)
    return {
        "pictures": len(answers),
        "right": share(answers),
        "right_on_the_table": share([one for one in answers if not one["sheet"]]),
        "right_on_the_sheet": share([one for one in answers if one["sheet"]]),
        "colour_histogram_right": BEFORE,
        "answers": answers,
        "seconds": round(perf_counter() - began, 1),
    }


def share(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many are right, of how many, with the 95 % interval."""
    right = sum(one["right"] for one in answers)
    return {"count": right, **to_plain(wilson(right, len(answers)))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        found = study(asked.data, folder=asked.folder or Path(made))
    print(measure.write("socks_study", found, answer))
    return 0 if found["right"]["count"] > BEFORE else 1


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    right = result["right"]
    return (
        f"{right['count']} of {right['n']} ({100 * right['low']:.0f} to {100 * right['high']:.0f} "
        f"%); a colour histogram tells {result['colour_histogram_right']}."
    )


if __name__ == "__main__":
    raise SystemExit(main())
