"""Ray Train: one job in several processes, each with its share of every batch.

1. Every worker runs the very job with ``ProcessGroup``; the first one's result is the result. With
   trunks without batch statistics it is that of one process up to rounding.
2. After each epoch the first worker hands its job folder to Ray as a checkpoint. When a worker
   dies, Ray starts all of them again, and they go on from the newest checkpoint.
3. Workers read the dataset version and its pictures from the blobs.
"""

import tempfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

from lineside.core import (
    InvalidError,
    SystemClock,
    UnavailableError,
    decode,
    encode,
    replace_durably,
)
from lineside.training.distributed.cluster import Cluster, check_reachable, connected
from lineside.training.job import (
    PACKAGE_FILE,
    PAGE_FILE,
    REPORT_FILE,
    RESULT_FILE,
    Progress,
    Tell,
    TrainJob,
    TrainResult,
    read_result,
    write_job,
)

_FILES = (PACKAGE_FILE, REPORT_FILE, PAGE_FILE, RESULT_FILE)


def train_on(
    cluster: Cluster,
    job: TrainJob,
    *,
    folder: Path,
    progress: Tell,
    blobs_url: str = "",
) -> TrainResult:
    """Train on a cluster and bring the result into a job folder.

    Args:
        cluster: where.
        job: its data are ``version://``, a bucket, or on this machine's own cluster files.
        folder: of the job here; takes package and report.
        progress: told at the beginning and the end.
        blobs_url: of the dataset version's pictures.

    Raises:
        InvalidError: the data cannot be read from other machines, or cannot teach this task.
        UnavailableError: the cluster is away, or workers died more often than is retried.
    """
    check_reachable(cluster, data=job.data, blobs_url=blobs_url)
    write_job(replace(job, out=""), folder=folder)
    done = read_result(folder)
    if done is not None:
        return done
    progress(Progress(percent=1, eta_s=0, stage=f"training on {cluster.on}"))
    with connected(cluster) as ray:
        lead = ray.remote(num_cpus=0, max_retries=0)(_lead)
        facts = {
            "job": encode(replace(job, out="")),
            "blobs": blobs_url,
            "cluster": encode(cluster),
        }
        try:
            found: dict[str, bytes] = ray.get(lead.remote(facts, place=_place(cluster, folder)))
        except ray.exceptions.RayError as error:
            raise UnavailableError(
                f"the training did not come to an end: {_last_line(error)}",
                where=cluster.on,
                fix="Look at the cluster's log, and run it again.",
            ) from error
    _keep(found, folder=folder)
    progress(Progress(percent=100, eta_s=0, stage="done"))
    result = read_result(folder)
    if result is None:
        raise UnavailableError("the cluster gave no result", where=cluster.on, fix="Run it again.")
    return result


def _place(cluster: Cluster, folder: Path) -> str:
    """Where Ray keeps the run: a bucket, or below the job's folder on this machine."""
    if cluster.storage:
        return cluster.storage
    return str((folder / "ray").resolve()) if cluster.is_here else ""


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else type(error).__name__


def _keep(found: Mapping[str, bytes], *, folder: Path) -> None:
    """The result's own file last: with it the job is done."""
    if "refused" in found:
        raise decode_refusal(found["refused"])
    for name in _FILES:
        replace_durably(folder / name, found[name])


def decode_refusal(raw: bytes) -> InvalidError:
    """A worker's refusal of the job, as it was raised there."""
    told = decode(dict[str, str], raw, where="worker")
    return InvalidError(told["message"], where=told["where"], fix=told["fix"])


def _lead(facts: dict[str, Any], *, place: str) -> dict[str, bytes]:
    """Runs on the cluster: start the workers, wait, fetch what the first one left."""
    from ray import train
    from ray.train.torch import TorchTrainer

    cluster = decode(Cluster, facts["cluster"], where="cluster")
    with tempfile.TemporaryDirectory(prefix="lineside-ray-") as own:
        trainer = TorchTrainer(
            _work,
            train_loop_config=facts,
            scaling_config=train.ScalingConfig(
                num_workers=cluster.workers, resources_per_worker={"CPU": 1}
            ),
            run_config=train.RunConfig(
                name="training",
                storage_path=place or own,
                failure_config=train.FailureConfig(max_failures=cluster.retries),
                checkpoint_config=train.CheckpointConfig(num_to_keep=2),
            ),
        )
        result = trainer.fit()
        if result.checkpoint is None:
            raise UnavailableError("no worker came to an end", where="ray", fix="Run it again.")
        with result.checkpoint.as_directory() as found:
            return {
                path.name: path.read_bytes() for path in Path(found).iterdir() if path.is_file()
            }


def _work(facts: dict[str, Any]) -> None:
    """One worker: go on from the newest checkpoint, report after each epoch, leave the result."""
    from ray import train

    from lineside.training.common.loop import ProcessGroup
    from lineside.training.run import Crew, run_job

    job = decode(TrainJob, facts["job"], where="job")
    first = train.get_context().get_world_rank() == 0
    with tempfile.TemporaryDirectory(prefix="lineside-worker-") as made:
        folder = Path(made) / "job"
        _take_up(folder)

        def watch(epoch: int, figures: Mapping[str, float]) -> bool:
            _report({"epoch": float(epoch), **figures}, folder if first else None)
            return True

        try:
            run_job(
                job,
                folder=folder,
                progress=lambda _: None,
                cancelled=threading.Event(),
                clock=SystemClock(),
                blobs_url=facts["blobs"],
                crew=Crew(watcher=watch, parallel=ProcessGroup()),
            )
        except InvalidError as error:
            told = {"message": error.message, "where": error.where, "fix": error.fix}
            replace_durably(folder / "refused", encode(told))
        _report({"epoch": -1.0}, folder if first else None)


def _take_up(folder: Path) -> None:
    from ray import train

    newest = train.get_checkpoint()
    if newest is None:
        folder.mkdir(parents=True)
        return
    with newest.as_directory() as kept:
        copytree(kept, folder)


def _report(figures: Mapping[str, float], folder: Path | None) -> None:
    """A barrier of all workers; the first one's folder is the checkpoint."""
    from ray import train

    kept = None if folder is None else train.Checkpoint.from_directory(folder)
    train.report(dict(figures), checkpoint=kept)
