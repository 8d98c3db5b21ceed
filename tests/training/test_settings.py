"""A setting that no learner reads is refused, and every one that is read can be looked up."""

import math
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import lineside.training
from lineside.core import Inspection, InvalidError, Task
from lineside.core.drivers import SETTINGS, check_learner
from lineside.testing import FakeClock
from lineside.training import Bench, TrainJob, read_space
from lineside.training.common.loop import planned_steps
from lineside.training.search import Parameter, Space

ROOT = Path(__file__).parents[2]
SOURCES = Path(lineside.training.__file__).parent
TRAY = Inspection(id="trays", camera="", task=Task.DETECT, labels=())


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
    check_learner(Task.CLASSIFY, settings={"epochs": 2})
    with pytest.raises(InvalidError, match="no setting 'epoch'") as refused:
        check_learner(Task.CLASSIFY, settings={"epoch": 2})
    assert "epochs (a number of 1 or more)" in refused.value.fix
    assert "tune (a whole number of 0 or more, at most 2)" in refused.value.fix
    with pytest.raises(InvalidError) as refused:
        check_learner(Task.MULTILABEL, settings={"epochs": 2})
    assert "none" in refused.value.fix


def test_a_job_with_a_setting_of_another_task_is_none() -> None:
    with pytest.raises(InvalidError, match="'tune'"):
        TrainJob(inspection=TRAY, data="nowhere", settings={"tune": 1.0})


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        *(("epochs", value, "a number of 0 or more") for value in (-1.0, math.nan, math.inf)),
        ("learning_rate", 0.0, "a number above 0, at most 1"),
        ("batch_size", 0.0, "a number of 1 or more"),
    ],
)
def test_a_setting_that_is_out_of_its_range_is_refused(
    name: str, value: float, allowed: str
) -> None:
    with pytest.raises(InvalidError, match=f"{value:g} is not {allowed} ") as refused:
        TrainJob(inspection=TRAY, data="nowhere", settings={name: value})
    assert refused.value.where == f"settings {name}"
    assert f"{name} ({allowed})" in refused.value.fix


def test_a_side_is_a_multiple_of_what_the_network_shrinks_by() -> None:
    check_learner(Task.SEGMENT, settings={"side_px": 64, "zoom": 0.5})
    with pytest.raises(InvalidError, match="100 is not a multiple of 32 of 0 or more, at most"):
        check_learner(Task.SEGMENT, settings={"side_px": 100})


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_no_generator_takes_is_refused(seed: int) -> None:
    with pytest.raises(InvalidError, match=f"{seed} is not a whole number of 0 or more"):
        TrainJob(inspection=TRAY, data="nowhere", seed=seed)


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
    wide = replace(space, parameter=(Parameter(name="learning_rate", low=0.1, high=5.0),))
    with pytest.raises(InvalidError, match="5 is not a number above 0, at most 1"):
        replace(bench, space=wide)


@pytest.mark.parametrize(
    ("task", "drawn", "message"),
    [
        (Task.CLASSIFY, Parameter(name="tune", low=0, high=2), "is not a whole number"),
        (Task.SEGMENT, Parameter(name="side_px", low=64, high=128, whole=True), "65 is not a mult"),
    ],
)
def test_a_range_whose_values_between_its_ends_no_training_takes_is_refused(
    task: Task, drawn: Parameter, message: str
) -> None:
    job = TrainJob(inspection=replace(TRAY, task=task, labels=("a",)), data="nowhere")
    bench = partial(Bench, job=job, folder=Path("nowhere"), clock=FakeClock())
    with pytest.raises(InvalidError, match=message):
        bench(space=Space(parameter=(drawn,)))
    bench(space=Space(parameter=(replace(drawn, high=drawn.low),)))
    ends = (drawn.low or 0, drawn.high or 0)
    bench(space=Space(parameter=(Parameter(name=drawn.name, choices=ends),)))
