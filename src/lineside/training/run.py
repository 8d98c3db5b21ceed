"""Carry a job out: open its data, hand it to the learner of its task, finish the package.

A step's result depends on job and data alone, never on when or how often the job was stopped.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from lineside.core import Clock, Task
from lineside.training.finish import finish
from lineside.training.job import TrainJob, TrainResult, read_job, read_result, write_job
from lineside.training.parallel import Parallel
from lineside.training.regions import train_regions
from lineside.training.source import open_data
from lineside.training.steps import Steps, Tell, Watch
from lineside.training.tasks import Work, check_settings, learner_for

THREADS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Who takes part in a training besides its own process.

    Attributes:
        watcher: told of each epoch; False stops the training.
        parallel: this process's share of each batch, where several train together.
        cache: folder of features that jobs share; None keeps them in the job's own folder. No
            result depends on it.
    """

    watcher: Watch | None = None
    parallel: Parallel = field(default_factory=Parallel)
    cache: Path | None = None


def run_job(
    job: TrainJob,
    *,
    folder: Path,
    progress: Tell,
    cancelled: threading.Event,
    clock: Clock,
    records_url: str = "",
    blobs_url: str = "",
    crew: Crew = Crew(),
) -> TrainResult:
    """Train, or go on training, or return what is finished.

    Args:
        job: what to do; written to ``folder``.
        folder: the job's own; holds everything it keeps.
        progress: called after each step.
        cancelled: set it to stop after the step under way.
        clock: for the time left; nothing that is kept depends on it.
        records_url: of the store, for ``dataset://`` data.
        blobs_url: likewise.
        crew: who watches, and who trains along.

    Raises:
        JobCancelledError: stopped as asked; run it again to go on.
        InvalidError: the data cannot teach this inspection, or its learner has no such setting.
        ConflictError: the folder holds another job.
        RefusedError: the exported network does not agree with the trained one.
    """
    check_settings(job.settings, job.inspection.task)
    write_job(job, folder=folder)
    job = read_job(folder)  # as it is read, so that a number written 3 or 3.0 makes no difference
    done = read_result(folder)
    if done is not None:
        return done
    steps = Steps(clock=clock, progress=progress, cancelled=cancelled, watcher=crew.watcher)
    steps.at(1, "reading")
    with (
        _threads(THREADS),
        open_data(job, clock=clock, records_url=records_url, blobs_url=blobs_url) as data,
    ):
        if job.inspection.task is Task.MULTILABEL:
            return train_regions(job, data, folder=folder, steps=steps)
        work = Work(
            folder=folder,
            steps=steps,
            training=data.training,
            files=data.files,
            leaks=data.leaks,
            parallel=crew.parallel,
            cache=crew.cache,
        )
        trained = learner_for(job.inspection.task)(job, work)
        return finish(job, trained, data=data, work=work)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Use a fixed number of threads, so that sums are formed in one order.

    One: beside a hub and an agent on the same two cores, two threads were slower than one.
    """
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)
