"""A setting that no learner reads is refused, and every one that is read can be looked up."""

import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import lineside.training
from lineside.core import Inspection, InvalidError, Task
from lineside.testing import FakeClock
from lineside.training import Bench, Progress, TrainJob, read_space, run_job
from lineside.training.common.loop import planned_steps
from lineside.training.tasks import SETTINGS, check_settings

ROOT = Path(__file__).parents[2]
SOURCES = Path(lineside.training.__file__).parent
TRAY = Inspection(id="trays", camera="", task=Task.DETECT, labels=())


def told(_: Progress) -> None:
    """Progress that nobody watches."""


def test_every_setting_that_a_learner_reads_is_known_and_every_known_one_is_read() -> None:
    read = {
        name
        for path in SOURCES.rglob("*.py")
        for name in re.findall(r'\.setting\(\s*"(\w+)"', path.read_text("utf-8"))
    }
    assert read == {name for names in SETTINGS.values() for name in names}


@pytest.mark.parametrize("task", [task for task in Task if SETTINGS[task]])
def test_every_setting_stands_in_the_reference(task: Task) -> None:
    reference = (ROOT / "docs/reference/tasks.md").read_text("utf-8")
    assert [name for name in SETTINGS[task] if f"`{name}`" not in reference] == []


def test_a_mistyped_setting_is_refused_with_the_ones_there_are() -> None:
    check_settings(["epochs"], Task.CLASSIFY)
    with pytest.raises(InvalidError, match="no setting 'epoch'") as refused:
        check_settings(["epoch"], Task.CLASSIFY)
    assert "epochs" in refused.value.fix
    with pytest.raises(InvalidError) as refused:
        check_settings(["epochs"], Task.MULTILABEL)
    assert "none" in refused.value.fix


def test_a_job_with_a_setting_of_another_task_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    job = TrainJob(inspection=TRAY, data="nowhere", settings={"tune": 1.0})
    with pytest.raises(InvalidError, match="'tune'"):
        run_job(
            job,
            folder=tmp_path / "job",
            progress=told,
            cancelled=threading.Event(),
            clock=FakeClock(),
        )
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [
        *(("epochs", value, "of 0 or more") for value in (-1.0, float("nan"), float("inf"))),
        ("learning_rate", 0.0, "above 0"),
    ],
)
def test_a_setting_that_is_no_number_in_its_range_is_refused(
    name: str, value: float, least: str
) -> None:
    with pytest.raises(InvalidError, match=f"is not a number {least}") as refused:
        TrainJob(inspection=TRAY, data="nowhere", settings={name: value})
    assert refused.value.where == f"settings {name}"


def test_turns_of_the_pictures_become_steps_and_steps_rule() -> None:
    job = TrainJob(inspection=TRAY, data="nowhere")

    def steps(**settings: float) -> int:
        asked = replace(job, settings=settings)
        return planned_steps(asked, usual=300, batch=8, pictures=40)

    assert steps() == 300
    assert steps(epochs=10) == 50
    assert steps(epochs=10, steps=7) == 7
    assert steps(epochs=0.01) == 1


def test_the_space_that_comes_along_names_settings_of_its_task() -> None:
    space = read_space(ROOT / "examples" / "bins" / "space.toml")
    bench = Bench(
        job=TrainJob(inspection=replace(TRAY, task=Task.COUNT), data="nowhere"),
        space=space,
        folder=Path("nowhere"),
        clock=FakeClock(),
    )
    with pytest.raises(InvalidError, match="no setting 'learning_rate'"):
        replace(bench, job=replace(bench.job, inspection=replace(TRAY, task=Task.ANOMALY)))
