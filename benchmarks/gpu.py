"""What a GPU of NVIDIA gains: the same trainings and the same packages on it and on the processor.

    LINESIDE_DATA=… python benchmarks/gpu.py [--rows "casting;bean-counting"] [--images 40]

1. The rows are those of ``learning.py`` whose task teaches a network; ``casting`` fine-tunes in any
   case. For each, `lineside train` runs on all images with defaults, on ``cuda`` and on ``cpu``,
   one after the other, each a process of its own on the cores that it takes by itself. ``wall_s``
   is its time by the clock, ``ratio`` that of the GPU to that of the processor.
2. ``metrics`` are the headline figures of each report with their 95 % intervals: what was learned
   on a GPU is to be as good.
3. The package that learned on the GPU answers images of the row by two predictors, one on each
   device (the engine takes one core), image by image in turns: medians by the clock, without
   decoding; how many of the images had other decisions; the largest difference of the golden
   images' probabilities from what the package promises.

Without a GPU, or without ``onnxruntime-gpu``, it ends with the sentence that says so. Each row has
the settings and the commit of its run; a run of some rows leaves the others.
"""

import argparse
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from learning import CLOCK, HEADLINES, ROWS, Row, Trained, trained
from measure import RESULTS, provenance, write

from lineside.datasets import load_source
from lineside.models import EngineDevice, Predictor
from lineside.training import Labelled, open_labelled
from lineside.training.tasks.contract import MOST_BYTES
from lineside.vision import Prediction, open_frame

SETS = ("casting", "blood-cell-counting", "bean-counting", "kolektor-sdd, with defects")
ALWAYS_TUNED = ("--setting", "tune=2")
DEVICES = (EngineDevice.CUDA, EngineDevice.CPU)


def learned(row: Row, device: EngineDevice, *, source: Path, work: Path) -> tuple[Trained, float]:
    """The row's training on a device, and its seconds by the clock."""
    tuned = ALWAYS_TUNED if row.task == "classify" else ()
    work.mkdir()
    asked = replace(row, options=(*row.options, *tuned, "--device", device.value))
    started_s = perf_counter()
    return trained(asked, source=source, work=work), perf_counter() - started_s


def decisions(said: Prediction) -> tuple[object, ...]:
    """What somebody acts on: decisions, and numbers; not probabilities."""
    labels = tuple((one.name, one.decision) for one in said.labels)
    boxes = tuple(sorted((one.label, one.decision) for one in said.boxes))
    count = said.count and (said.count.low, said.count.high, said.count.more)
    return (said.state, labels, boxes, count, said.anomaly and said.anomaly.decision)


def answered(row: Row, found: Trained, *, source: Path, images: int) -> dict[str, Any]:
    """Times and differences of two predictors, one on each device."""
    package = found.package
    predictors = {one: Predictor(package, clock=CLOCK, device=one) for one in DEVICES}
    wanted = Labelled(
        data=str(source), labels=package.manifest.labels, task=row.task, group=row.group
    )
    taken: dict[EngineDevice, list[float]] = {one: [] for one in DEVICES}
    differing = 0
    with open_labelled(wanted, clock=CLOCK) as open_:
        chosen = open_.samples[:: max(1, len(open_.samples) // images)][:images]
        for sample in (*chosen[:3], *chosen):  # the first three warm up
            data, said = open_.files(sample.digest), []
            for device, predictor in predictors.items():
                frame = open_frame(
                    data, camera=row.name, captured_at=CLOCK.now(), max_bytes=MOST_BYTES
                )
                started_s = perf_counter()
                said.append(decisions(predictor.predict_single(frame)))
                taken[device].append(perf_counter() - started_s)
            differing += said[0] != said[1]
    ms = {one: 1000 * float(np.median(taken[one][3:])) for one in DEVICES}
    return {
        "images": len(chosen),
        "other_decisions": differing,
        "golden_difference": {
            one.value: predictors[one].check_golden().max_abs_diff for one in DEVICES
        },
        "golden_bound": package.manifest.engine.bound,
        "ms": {one.value: round(ms[one], 2) for one in DEVICES},
        "ratio": round(ms[EngineDevice.CUDA] / ms[EngineDevice.CPU], 3),
    }


def measured(row: Row, *, data: Path, work: Path, images: int) -> dict[str, Any]:
    """One row: both trainings, then the answers of what the GPU taught."""
    source = row.derive(data / row.data, work / "source") if row.derive else data / row.data
    runs = {one: learned(row, one, source=source, work=work / one.value) for one in DEVICES}
    figures = {
        one.value: {
            "wall_s": round(wall_s, 1),
            "processor_s": round(run.processor_s, 1),
            "metrics": {
                name: run.metrics[name] for name in HEADLINES[row.task] if name in run.metrics
            },
        }
        for one, (run, wall_s) in runs.items()
    }
    gpu = runs[EngineDevice.CUDA][0]
    return {
        "task": row.task,
        "pictures": len(load_source(str(source), labels=(), group=row.group).samples),
        "training": figures,
        "ratio": round(runs[EngineDevice.CUDA][1] / runs[EngineDevice.CPU][1], 3),
        "answers": answered(row, gpu, source=source, images=images),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = os.environ.get("LINESIDE_DATA")  # noqa: TID251  the benchmark's own switch
    parser.add_argument("--data", type=Path, default=known)
    parser.add_argument("--rows", default=";".join(SETS), help="Names of rows, by semicolon.")
    parser.add_argument("--images", type=int, default=40)
    asked = parser.parse_args()
    if asked.data is None:
        parser.error("name the folder of data sets by --data or LINESIDE_DATA")
    if not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU of NVIDIA here")
    rows = {row.name: row for row in ROWS}
    kept = RESULTS / "gpu.json"
    stored = json.loads(kept.read_text())["rows"] if kept.exists() else {}
    for name in asked.rows.split(";"):
        with tempfile.TemporaryDirectory(prefix="gpu-") as made:
            data = Path(asked.data).resolve()
            found = measured(rows[name], data=data, work=Path(made), images=asked.images)
        stored[name] = {**found, "measured": provenance()}
        print(name, stored[name], flush=True)
        write("gpu", {"gpu": torch.cuda.get_device_name(), "rows": stored}, answer)


def answer(result: dict[str, Any]) -> str:
    """The result in one sentence."""
    rows = list(result["rows"].values())
    faster = ", ".join(
        f"{name} {row['training']['cuda']['wall_s']:.0f} s ({row['ratio']:.2f} of the processor's)"
        for name, row in result["rows"].items()
    )
    ratios = sorted(row["answers"]["ratio"] for row in rows)
    images = sum(row["answers"]["images"] for row in rows)
    return (
        f"On one {result['gpu']}, beside {result['machine']['cores']} cores: training {faster}; an "
        f"answer {ratios[0]:.2f} to {ratios[-1]:.2f} of the time on one core, "
        f"{sum(row['answers']['other_decisions'] for row in rows)} of {images} images decided "
        "otherwise."
    )


if __name__ == "__main__":
    main()
