"""Connect to a Ray cluster, or start one on this machine, for as long as a block.

``ray`` starts one here and ends it afterwards; ``ray://host:10001`` is a cluster that stands
already, whose machines have lineside with the extras ``train`` and ``ray``.

Ray Tune: the same space file, trials side by side on a cluster.

Trials ask Optuna's sampler for settings; a trial worse than the median at the same epoch is
stopped. A trial whose worker died is taken up again.

Ray Train: one job in several processes, each with its share of every batch:

1. Every worker runs the very job with ``ProcessGroup``; the first one's result is the result. With
   trunks without batch statistics it is that of one process up to rounding.
2. After each epoch the first worker hands its job folder to Ray as a checkpoint. When a worker
   dies, Ray starts all of them again, and they go on from the newest checkpoint.
3. Workers read the dataset version and its pictures from the blobs.

Ray Data: a store's frames through a package, many at a time, in the order they were taken.

Each worker loads the package once and reads frames from the blobs by digest. The plain loop is the
same function on one process, and what the cluster's rate is held against.
"""

import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np

from lineside.core import (
    Digest,
    InvalidError,
    LinesideError,
    SystemClock,
    UnavailableError,
    decode,
    encode,
    need,
    replace_durably,
)
from lineside.core.drivers import SecretUrl, without_secrets
from lineside.models import Package, Predictor
from lineside.store import Blobs, open_blobs
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
from lineside.training.search.study import (
    RESULT,
    Bench,
    Parameter,
    SearchResult,
    Space,
    TrialRecord,
    result_of,
    run_trial,
)
from lineside.vision import open_frame

HERE = "ray"

_FILES = (PACKAGE_FILE, REPORT_FILE, PAGE_FILE, RESULT_FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where and on how many.

    Attributes:
        on: ``ray`` or ``ray://host:port``.
        workers: processes at work at once, one core each.
        storage: where checkpoints of a run are kept: ``s3://bucket/prefix`` for a cluster of
            several machines; "" is a folder on the machine that leads the run.
        retries: how often a run whose worker died is taken up again.
    """

    on: SecretUrl = SecretUrl(HERE)
    workers: int = 2
    storage: str = ""
    retries: int = 3

    def __post_init__(self) -> None:
        if self.on != HERE and not self.on.startswith("ray://"):
            raise InvalidError(
                f"{self.on!r} names no cluster", where="on", fix="Write ray, or ray://host:10001."
            )
        if self.workers < 1:
            raise InvalidError("at least 1", where="workers", fix="Write 2.")

    @property
    def is_here(self) -> bool:
        """Return whether the cluster is this machine alone, which sees this machine's files."""
        return self.on == HERE


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
    if job.device == "cuda":
        raise InvalidError(
            "the processes of a cluster learn on the CPU", where="device",
            fix="Leave it out, or train on this machine.",
        )  # fmt: skip
    write_job(replace(job, out=""), folder=folder)
    done = read_result(folder)
    if done is not None:
        return done
    progress(Progress(percent=1, eta_s=0, stage=f"training on {cluster.on}"))
    with connected(cluster) as ray:
        lead = ray.remote(num_cpus=0, max_retries=0)(_lead_training)
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
    known = decode(dict[str, str], raw, where="worker")
    return InvalidError(known["message"], where=known["where"], fix=known["fix"])


def _lead_training(facts: dict[str, Any], *, place: str) -> dict[str, bytes]:
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
    from lineside.training.run import run_job

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
                watcher=watch,
                parallel=ProcessGroup(),
            )
        except InvalidError as error:
            known = {"message": error.message, "where": error.where, "fix": error.fix}
            replace_durably(folder / "refused", encode(known))
        _report({"epoch": -1.0}, folder if first else None)


def _take_up(folder: Path) -> None:
    from ray import train

    newest = train.get_checkpoint()
    if newest is None:
        folder.mkdir(parents=True)
        return
    with newest.as_directory() as stored:
        copytree(stored, folder)


def _report(figures: Mapping[str, float], folder: Path | None) -> None:
    """A barrier of all workers; the first one's folder is the checkpoint."""
    from ray import train

    stored = None if folder is None else train.Checkpoint.from_directory(folder)
    train.report(dict(figures), checkpoint=stored)


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """The ``ray`` module with a cluster behind it.

    Raises:
        UnavailableError: nobody answers at that address.
        MissingExtraError: ray is not installed.
    """
    ray = need("ray", extra="ray")
    with redirect_stdout(sys.stderr):  # what Ray tells is no result
        _join(ray, cluster)
        try:
            yield ray
        finally:
            ray.shutdown()


def _join(ray: Any, cluster: Cluster) -> None:  # noqa: ANN401  untyped library
    try:
        if cluster.is_here:
            # One core more than workers: the task that leads the run takes none, others may wait.
            ray.init(
                address="local",
                num_cpus=cluster.workers + 1,
                include_dashboard=False,
                logging_level="ERROR",
                log_to_driver=False,
                configure_logging=False,
            )
        else:
            ray.init(address=cluster.on.reveal(), logging_level="ERROR", log_to_driver=False)
    except (ConnectionError, TimeoutError, RuntimeError) as error:
        raise UnavailableError(
            f"no Ray cluster answers: {without_secrets(str(error))}",
            where=cluster.on,
            fix="Start it, or use --on ray.",
        ) from error


def check_reachable(cluster: Cluster, *, data: str, blobs_url: str) -> None:
    """Refuse data that workers on other machines could not read."""
    if cluster.is_here:
        return
    if not data.startswith(("dataset://", "version://", "s3://")):
        raise InvalidError(
            f"workers on other machines cannot read {data!r}",
            where="data",
            fix="Import it and name dataset://NAME/N, or a bucket.",
        )
    if not data.startswith("s3://") and blobs_url.startswith(("file:", "memory:")):
        raise InvalidError(
            "workers on other machines cannot read these blobs",
            where=blobs_url,
            fix="Keep blobs in a bucket: s3://….",
        )


_RECORD, _REFUSED = "record", "refused"


def search_on(
    cluster: Cluster,
    bench: Bench,
    *,
    trials: int = 0,
    seed: int = 7,
) -> SearchResult:
    """Search on a cluster; the result stands in the bench's folder.

    Args:
        cluster: where; ``workers`` trials run at once.
        bench: job, space and folder here.
        trials: how many; 0 takes the space's.
        seed: of what is asked for.

    Raises:
        InvalidError: as ``search``, or data that other machines cannot read.
        UnavailableError: the cluster is away.
    """
    check_reachable(cluster, data=bench.job.data, blobs_url=bench.blobs_url)
    facts = {
        "job": encode(bench.job),
        "space": encode(bench.space),
        "blobs": bench.blobs_url,
        "trials": trials or bench.space.trials,
        "seed": seed,
        "workers": cluster.workers,
        "retries": cluster.retries,
        "storage": cluster.storage,
    }
    with connected(cluster) as ray:
        lead = ray.remote(num_cpus=0, max_retries=0)(_lead)
        try:
            rows: list[dict[str, Any]] = ray.get(lead.remote(facts))
        except ray.exceptions.RayError as error:
            raise UnavailableError(
                f"the search did not come to an end: {error}", where=cluster.on, fix="Run it again."
            ) from error
    result = result_of(bench.space, _records(rows))
    replace_durably(bench.folder / RESULT, encode(result))
    return result


def _records(rows: list[dict[str, Any]]) -> list[TrialRecord]:
    found = []
    for number, row in enumerate(rows):
        if row.get(_REFUSED):
            raise decode_refusal(str(row[_REFUSED]).encode())
        if row.get(_RECORD):
            found.append(decode(TrialRecord, row[_RECORD], where=f"trial {number}"))
        else:
            found.append(_stopped(number, row))
    return found


def _stopped(number: int, row: Mapping[str, Any]) -> TrialRecord:
    """A trial that Ray stopped between two epochs, or lost for good."""
    return TrialRecord(
        number=number,
        state="failed" if row.get("error") else "stopped",
        params=row["config"],
        value=None,
        seconds=float(row.get("seconds", 0.0)),
        reason=str(row.get("error", "")),
    )


def _lead(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs on the cluster: one row a trial, in the order they were asked for."""
    from ray import tune
    from ray.tune.schedulers import MedianStoppingRule
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    space = decode(Space, facts["space"], where="space")
    mode = "min" if space.direction == "minimize" else "max"
    requested = OptunaSearch(seed=facts["seed"], metric=space.objective, mode=mode)
    stopping = MedianStoppingRule(
        time_attr="training_iteration",
        metric=space.objective,
        mode=mode,
        grace_period=3,
        min_samples_required=3,
    )
    with tempfile.TemporaryDirectory(prefix="lineside-tune-") as own:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(_try, facts=facts), {"cpu": 1}),
            param_space={one.name: _drawn(one) for one in space.parameter},
            tune_config=tune.TuneConfig(
                num_samples=facts["trials"],
                search_alg=ConcurrencyLimiter(requested, max_concurrent=facts["workers"]),
                scheduler=stopping if space.prune else None,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=facts["storage"] or own,
                failure_config=tune.FailureConfig(max_failures=facts["retries"]),
                verbose=0,
            ),
        )
        grid = tuner.fit()
        return [_row(grid[place]) for place in range(len(grid))]


def _row(result: Any) -> dict[str, Any]:  # noqa: ANN401  untyped library
    metrics = result.metrics or {}
    return {
        _RECORD: metrics.get(_RECORD, ""),
        _REFUSED: metrics.get(_REFUSED, ""),
        "config": dict(result.config or {}),
        "seconds": float(metrics.get("time_total_s", 0.0)),
        "error": "" if result.error is None else str(result.error)[:300],
    }


def _drawn(parameter: Parameter) -> Any:  # noqa: ANN401
    from ray import tune

    if parameter.choices:
        return tune.choice(list(parameter.choices))
    low, high = parameter.range
    if parameter.whole:
        draw = tune.lograndint if parameter.log else tune.randint
        return draw(int(low), int(high) + 1)
    return (tune.loguniform if parameter.log else tune.uniform)(low, high)


def _try(config: dict[str, float], *, facts: dict[str, Any]) -> None:
    """One trial on one worker."""
    from ray import tune

    space = decode(Space, facts["space"], where="space")
    with tempfile.TemporaryDirectory(prefix="lineside-trial-") as made:
        bench = Bench(
            job=decode(TrainJob, facts["job"], where="job"),
            space=space,
            folder=Path(made),
            clock=SystemClock(),
            cancelled=threading.Event(),
            blobs_url=facts["blobs"],
        )

        def go_on(epoch: int, figures: Mapping[str, float]) -> bool:
            if space.objective in figures:  # a fit on everything watches nothing
                tune.report({"epoch": float(epoch), **figures})
            return True

        numbers = {name: float(value) for name, value in config.items()}
        try:
            record = run_trial(bench, numbers, number=0, go_on=go_on)
        except InvalidError as error:
            known = {"message": error.message, "where": error.where, "fix": error.fix}
            tune.report({_REFUSED: encode(known).decode(), space.objective: _worst(space)})
            return
    tune.report({_RECORD: encode(record).decode(), space.objective: record.value})


def _worst(space: Space) -> float:
    return float("inf") if space.direction == "minimize" else float("-inf")


_BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredFrame:
    """A frame to score, as the frame index names it."""

    id: str
    digest: Digest
    camera: str
    captured_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreJob:
    """Pictures to score and the package that scores them.

    Attributes:
        package: the archive's bytes.
        blobs_url: where the frames' pictures are.
    """

    package: bytes
    frames: Sequence[ScoredFrame]
    blobs_url: str


class Scorer:
    """A package with the blobs it reads from; one per worker."""

    def __init__(self, package: bytes, blobs_url: str) -> None:
        self._clock = SystemClock()
        self._predictor = Predictor(Package.read(package), clock=self._clock)
        self._blobs: Blobs = open_blobs(blobs_url)

    def close(self) -> None:
        """Let go of the blobs."""
        self._blobs.close()

    def line(self, frame: ScoredFrame) -> bytes:
        """One JSON document: the prediction, or why there is none."""
        try:
            opened = open_frame(
                self._blobs.get(frame.digest), camera=frame.camera, captured_at=frame.captured_at
            )
            return encode({"frame": frame.id, "prediction": self._predictor.predict(opened)})
        except LinesideError as error:
            return encode({"frame": frame.id, "error": error.message})

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Ray Data's form: columns in, columns out."""
        rows = zip(batch["id"], batch["digest"], batch["camera"], batch["captured_at"], strict=True)
        lines = [
            self.line(
                ScoredFrame(
                    id=str(name),
                    digest=Digest(str(digest)),
                    camera=str(camera),
                    captured_at=datetime.fromisoformat(str(moment)),
                )
            )
            for name, digest, camera, moment in rows
        ]
        return {"line": np.array(lines, dtype=object)}


def score_here(job: ScoreJob) -> Iterator[bytes]:
    """Every frame's line, on this process."""
    scorer = Scorer(job.package, job.blobs_url)
    try:
        for frame in job.frames:
            yield scorer.line(frame)
    finally:
        scorer.close()


def score_on(cluster: Cluster, job: ScoreJob) -> Iterator[bytes]:
    """Every frame's line, from a cluster, in the order of the frames.

    Raises:
        InvalidError: blobs that other machines cannot read.
        UnavailableError: the cluster is away.
    """
    check_reachable(cluster, data="dataset://", blobs_url=job.blobs_url)
    with connected(cluster) as ray:
        data = need_data(ray)
        context = data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        rows = [_scored_row(frame) for frame in job.frames]
        blocks = max(1, min(len(rows) // _BATCH, 8 * cluster.workers))
        scored = data.from_items(rows, override_num_blocks=blocks).map_batches(
            Scorer,
            fn_constructor_args=(job.package, job.blobs_url),
            batch_size=_BATCH,
            compute=data.ActorPoolStrategy(size=cluster.workers),
            num_cpus=1,
        )
        for row in scored.iter_rows():
            yield bytes(row["line"])


def need_data(ray: Any) -> Any:  # noqa: ANN401  untyped library
    """``ray.data``, quiet."""
    import logging

    from ray import data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return data if ray.is_initialized() else None


def _scored_row(frame: ScoredFrame) -> dict[str, str]:
    return {
        "id": frame.id,
        "digest": frame.digest,
        "camera": frame.camera,
        "captured_at": frame.captured_at.isoformat(),
    }
