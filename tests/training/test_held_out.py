"""The fixes that refusals suggest: the part that was held out, and going on with a training."""

from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from lineside.cli.train import job_folder
from lineside.core import Inspection, InvalidError, SystemClock, Task
from lineside.datasets import Library, Part, SplitPlan, load_source
from lineside.datasets.library import FreezePlan
from lineside.store import open_blobs, open_records
from lineside.training import JobCancelledError, Labelled, TrainJob, open_labelled
from lineside.training.evaluation.evaluate import TrainingEvidence, refuse_overlap
from lineside.training.source import open_data

SHARES = {Part.TRAIN: 0.7, Part.TEST: 0.3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, label in enumerate(["good", "good", "bad"]):
        (tmp_path / label).mkdir(exist_ok=True)
        grey = np.full((8, 8, 3), 60 * number, np.uint8)
        cv2.imwrite(str(tmp_path / label / f"{number}.png"), grey)
    return tmp_path


def test_the_test_part_of_plain_folders_is_what_was_not_trained_on(folder: Path) -> None:
    samples = load_source(folder).samples
    evidence = TrainingEvidence(pictures=tuple(one.digest for one in samples[:2]), majority={})
    with pytest.raises(InvalidError) as refused:
        refuse_overlap(samples, evidence)
    assert "--part test" in refused.value.fix
    source = Labelled(data=str(folder), task="classify", part="test", trained_on=evidence.pictures)
    with open_labelled(source, clock=SystemClock()) as found:
        assert [one.name for one in found.samples] == [samples[2].name]
        refuse_overlap(found.samples, evidence)


def test_a_part_is_not_suggested_where_all_was_trained_on(folder: Path) -> None:
    samples = load_source(folder).samples
    evidence = TrainingEvidence(pictures=tuple(one.digest for one in samples), majority={})
    with pytest.raises(InvalidError) as refused:
        refuse_overlap(samples, evidence)
    assert refused.value.fix == "Name other pictures."


@pytest.mark.parametrize(
    ("plan", "given"),
    [
        (None, False),
        (SplitPlan(shares=SHARES, is_default=True), False),
        (SplitPlan(shares=SHARES), True),
    ],
)
def test_a_part_counts_as_given_where_somebody_chose_the_split(
    folder: Path, tmp_path: Path, *, plan: SplitPlan | None, given: bool
) -> None:
    clock = SystemClock()
    records_url, blobs_url = f"sqlite:///{tmp_path}/records.db", f"file://{tmp_path}/blobs"
    with (
        open_records(records_url, clock=clock) as records,
        closing(open_blobs(blobs_url)) as blobs,
    ):
        library = Library(records, blobs, clock=clock)
        found = load_source(folder)
        library.add("parts", [(one, found.read_file(one.digest)) for one in found.samples], by="a")
        library.freeze("parts", by="ann", plan=FreezePlan(split=plan))
    inspection = Inspection(id="parts", camera="", task=Task.CLASSIFY, labels=("good", "bad"))
    job = TrainJob(inspection=inspection, data="dataset://parts/1")
    with open_data(job, clock=clock, records_url=records_url, blobs_url=blobs_url) as data:
        assert data.validation
        assert data.has_given_part is given


def test_a_plan_that_nobody_chose_parts_like_the_same_one_that_somebody_did() -> None:
    assert SplitPlan(shares=SHARES, is_default=True) == SplitPlan(shares=SHARES)


def test_a_cancelled_job_without_folder_names_the_one_to_go_on_with() -> None:
    with pytest.raises(JobCancelledError) as cancelled, job_folder(None) as made:
        raise JobCancelledError("the job was cancelled", where=str(made), fix="Run it again.")
    made = Path(cancelled.value.where)
    assert f"--job {made}" in cancelled.value.fix
    (made / "job.json").write_text("{}")
    with job_folder(made):
        (made / "job.json").unlink()
    made.rmdir()


def test_the_folder_of_a_job_that_ended_is_removed() -> None:
    with job_folder(None) as made:
        (made / "job.json").write_text("{}")
    assert not made.exists()
    with pytest.raises(InvalidError) as failed, job_folder(None) as made:
        raise InvalidError("nothing to learn", where=str(made), fix="Add pictures.")
    assert not Path(failed.value.where).exists()
