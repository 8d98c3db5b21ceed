"""A search here: kept in a folder, gone on with after a stop, copied to an experiment tracker."""

import importlib.util
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lineside.core import Inspection, InvalidError, SystemClock, Task
from lineside.training import Bench, JobCancelledError, TrainJob, search
from lineside.training.search.study import Parameter, Space
from lineside.vision import encode_png

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SMALL = {"epochs": 2.0, "steps": 2.0, "side_px": 64.0, "bf16": 0.0}
RATES = Space(
    parameter=(Parameter(name="learning_rate", low=1e-4, high=1e-2, log=True),), prune=False
)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    """Twenty small pictures, every other with a red dent and its mask."""
    root = tmp_path_factory.mktemp("dents")
    rng = np.random.default_rng(3)
    rows = ["file,label,mask"]
    for number in range(20):
        image = 90 + rng.integers(0, 10, (64, 64, 3)).astype(np.uint8)
        mask, name = np.zeros((64, 64, 3), np.uint8), f"{number:02d}.png"
        if number % 2:
            x, y = rng.integers(4, 44, 2)
            image[y : y + 12, x : x + 12] = (220, 60, 60)
            mask[y : y + 12, x : x + 12] = 255
        for folder, content in (("images", image), ("masks", mask)):
            (root / folder).mkdir(exist_ok=True)
            (root / folder / name).write_bytes(encode_png(content))
        drawn = f"masks/{name}" if number % 2 else ""
        rows.append(f"images/{name},{'dent' if number % 2 else 'good'},{drawn}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    inspection = Inspection(id="dents", camera="", task=Task.SEGMENT)
    return TrainJob(inspection=inspection, data=str(root), settings=SMALL)


def bench(job: TrainJob, folder: Path, *, space: Space = RATES) -> Bench:
    return Bench(job=job, space=space, folder=folder, clock=SystemClock())


def test_a_search_that_was_stopped_goes_on_with_the_same_trial(
    job: TrainJob, tmp_path: Path
) -> None:
    first = bench(job, tmp_path)
    first.cancelled.set()
    with pytest.raises(JobCancelledError):
        search(first, trials=2)
    (begun,) = (tmp_path / "trials").iterdir()
    found = search(bench(job, tmp_path), trials=2)
    assert [trial.state for trial in found.trials] == ["done", "done"]
    assert (begun / "package.lspkg").exists()
    assert len(list((tmp_path / "trials").iterdir())) == 2
    again = search(bench(job, tmp_path), trials=2)
    assert again == found
    assert found.best is not None
    assert found.best.value == min(trial.value or 1e9 for trial in found.trials)
    assert all(len(trial.history) == 2 for trial in found.trials)


def test_a_folder_of_another_search_is_refused(job: TrainJob, tmp_path: Path) -> None:
    (tmp_path / "search.json").write_bytes(b"{}")
    with pytest.raises(InvalidError, match="another search"):
        search(bench(job, tmp_path), trials=1)


def test_an_objective_that_nobody_watches_is_named(job: TrainJob, tmp_path: Path) -> None:
    space = replace(RATES, objective="happiness")
    with pytest.raises(InvalidError, match="does not watch 'happiness'") as caught:
        search(bench(job, tmp_path, space=space), trials=1)
    assert "validation_loss" in caught.value.fix


def test_a_run_is_copied_to_the_tracker(
    job: TrainJob, tmp_path: Path, absent: Callable[[str, str], None]
) -> None:
    if importlib.util.find_spec("mlflow") is None:
        absent("scale", "mlflow is not installed")
    chosen = [part for name, value in SMALL.items() for part in ("--setting", f"{name}={value}")]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "lineside",
            "train",
            "--task",
            "segment",
            "--data",
            job.data,
            "--mlflow",
            f"sqlite:///{tmp_path}/tracker.db",
            *chosen,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(tmp_path / "tracker.db")) as tracker:
        figures = {tuple(row) for row in tracker.execute("select key, step from metrics")}
        told = dict(tracker.execute("select key, value from params"))
    assert {("validation_loss", 1), ("validation_loss", 2), ("final/pixel_f1", 0)} <= figures
    assert (told["task"], told["epochs"]) == ("segment", "2.0")


def test_a_tracker_that_is_no_tracker_is_a_sentence(
    job: TrainJob, tmp_path: Path, absent: Callable[[str, str], None]
) -> None:
    if importlib.util.find_spec("mlflow") is None:
        absent("scale", "mlflow is not installed")
    chosen = [part for name, value in SMALL.items() for part in ("--setting", f"{name}={value}")]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "lineside",
            "train",
            "--task",
            "segment",
            "--data",
            job.data,
            "--mlflow",
            f"file://{tmp_path}/runs",
            *chosen,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 6
    assert "MLflow did not take the run" in done.stderr
