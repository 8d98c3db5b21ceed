"""A search here: kept in a folder, gone on with after a stop, copied to an experiment tracker."""

import importlib.util
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from lineside.core import Inspection, InvalidError, SystemClock, Task
from lineside.training import Bench, JobCancelledError, TrainJob, run_job, search
from lineside.training.search.study import Parameter, Space
from tests.edge.conftest import PackageServer

pytestmark = pytest.mark.slow

SMALL = {"steps": 4.0, "side_px": 64.0, "bf16": 0.0}
RATES = Space(
    parameter=(Parameter(name="learning_rate", low=1e-4, high=1e-2, log=True),), prune=False
)


@pytest.fixture(scope="module")
def job(write_dents: Callable[[int], Path]) -> TrainJob:
    inspection = Inspection(id="dents", camera="", task=Task.SEGMENT)
    return TrainJob(inspection=inspection, data=str(write_dents(20)), settings=SMALL)


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
    assert all(len(trial.history) == 4 for trial in found.trials)
    for trial in found.trials:  # each of three folds has one epoch
        assert trial.value == pytest.approx(
            fmean(row["validation_loss"] for row in trial.history[:3])
        )


def test_a_folder_of_another_search_is_refused(job: TrainJob, tmp_path: Path) -> None:
    (tmp_path / "search.json").write_bytes(b"{}")
    with pytest.raises(InvalidError, match="another search"):
        search(bench(job, tmp_path), trials=1)


def test_an_objective_that_nobody_watches_is_named(job: TrainJob, tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="does not watch 'happiness'") as caught:
        search(bench(job, tmp_path, space=replace(RATES, objective="happiness")), trials=1)
    assert "validation_loss" in caught.value.fix


@pytest.fixture(scope="module")
def finished(job: TrainJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a job that is done: only its copy to a tracker is left."""
    folder = tmp_path_factory.mktemp("finished")
    run_job(
        job, folder=folder, progress=lambda _: None, cancelled=bench(job, folder).cancelled,
        clock=SystemClock(),
    )  # fmt: skip
    return folder


def tracked(
    finished: Path, tracker: str, *, folder: Path, option: str = "--mlflow"
) -> "subprocess.CompletedProcess[str]":
    """``lineside train`` with a tracker, which leaves threads behind: a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "lineside", "train", "--job", str(finished), option, tracker],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def mlflow(absent: Callable[[str, str], None]) -> None:
    if importlib.util.find_spec("mlflow") is None:
        absent("scale", "mlflow is not installed")


@pytest.mark.usefixtures("mlflow")
def test_a_run_is_copied_to_the_tracker(finished: Path, tmp_path: Path) -> None:
    done = tracked(finished, f"sqlite:///{tmp_path}/tracker.db", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(tmp_path / "tracker.db")) as tracker:
        figures = {tuple(row) for row in tracker.execute("select key, step from metrics")}
        told = dict(tracker.execute("select key, value from params"))
    assert {("validation_loss", 1), ("validation_loss", 2), ("final/pixel_f1", 0)} <= figures
    assert not {key for key, _ in figures} & {"epoch", "fit"}
    assert (told["task"], told["steps"]) == ("segment", "4.0")


@pytest.mark.usefixtures("mlflow")
@pytest.mark.parametrize(
    ("option", "says", "code", "credentials"),
    [
        ("--mlflow", "MLflow did not take the run", 6, {"Basic bGluZTpwZWVwaW5n"}),
        ("--on", "names no cluster", 2, set()),
    ],
)
def test_who_does_not_take_a_run_is_named_without_secrets(
    finished: Path, tmp_path: Path, option: str, says: str, code: int, credentials: set[str]
) -> None:
    with closing(PackageServer()) as other:
        done = tracked(
            finished, f"{other.url.replace('//', '//line:peeping@')}/peeping",
            folder=tmp_path, option=option,
        )  # fmt: skip
    assert says in done.stderr
    assert "peeping" not in done.stdout + done.stderr
    assert (done.returncode, {sent for _, sent in other.requests}) == (code, credentials)
