"""Carry a pipeline out: prepare, train, evaluate, gate, register.

1. Each step reads what the steps before it left; what is cached is not done again.
2. A run ends with a record whatever happens, in ``runs/<id>.json``; a gate that refuses ends it,
   with its reasons.
3. Registration waits for a person: a wish to be ``Approved`` is noted and not carried out.
"""

import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from lineside.core import (
    Clock,
    Inspection,
    InvalidError,
    LinesideError,
    Task,
    decode,
    digest_of,
    encode,
    new_id,
    replace_durably,
)
from lineside.models import ModelVersions, Package, Status
from lineside.models.manifest import code_version
from lineside.training.evaluation.evaluate import evaluate
from lineside.training.job import REPORT_FILE, JobCancelledError, Tell, TrainJob
from lineside.training.pipeline.definition import (
    EXPIRE_AFTER_DAYS,
    Check,
    Limits,
    Pipeline,
    Role,
    Step,
    Value,
    check_quality,
    published_report,
)
from lineside.training.pipeline.preparing import (
    ANOMALOUS,
    NORMAL,
    open_source,
    prepare_pictures,
)
from lineside.training.report.task_report import TaskReport, evaluation_page, evaluation_report
from lineside.training.run import run_job
from lineside.training.source import Labelled, open_labelled


class Outcome(StrEnum):
    """Outcome of a step or a run."""

    SUCCEEDED = "Succeeded"
    REFUSED = "Refused"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    NOT_RUN = "NotRun"


_USUAL_TURNS = 12  # those that ``tasks.segment`` takes where nothing is set


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One step.

    Attributes:
        cached: whether its result was there already.
        key: digest that names its result; "" for steps that are never kept.
        facts: small outputs by name.
        reason: why it failed or refused; "" otherwise.
    """

    name: str
    type: str
    outcome: Outcome
    cached: bool = False
    seconds: float = 0.0
    key: str = ""
    facts: Mapping[str, str | int | float] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run of a pipeline.

    Attributes:
        outcome: ``Refused`` where the gate held the model back.
        reason: in sentences; empty only where a version was registered.
        checks: all that the gate looked at.
        version: ``GROUP/NUMBER`` as it was registered; "" for none.
        remarks: what was asked and not done, and why.
    """

    id: str
    pipeline: str
    started_at: datetime
    ended_at: datetime
    by: str
    parameters: Mapping[str, Value]
    outcome: Outcome
    steps: tuple[StepRecord, ...]
    reason: str = ""
    checks: tuple[Check, ...] = ()
    version: str = ""
    remarks: tuple[str, ...] = ()
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    schema: str = "lineside.pipeline-run/1"


_DONE = "done.json"
_KEPT_NAME = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Record of a finished step.

    Attributes:
        facts: small outputs by name, such as digests and counts.
    """

    key: str
    step: str
    finished_at: datetime
    facts: Mapping[str, str | int | float] = field(default_factory=dict)
    schema: str = "lineside.pipeline-step/1"


def key_of(step: str, *, inputs: Mapping[str, object]) -> str:
    """The digest that names a step's result."""
    return digest_of(encode({"step": step, "code": code_version(), "inputs": dict(inputs)}))


class Cache:
    """Folders of steps under one folder; one process at a time."""

    def __init__(self, folder: Path, *, clock: Clock) -> None:
        """Keep results below ``folder``, which is made when it is needed."""
        self._folder = folder
        self._clock = clock

    def folder(self, key: str) -> Path:
        """Where the step with that key works."""
        return self._folder / key.removeprefix("sha256:")[:_KEPT_NAME]

    def find(self, key: str) -> Done | None:
        """The finished step, or None: not there, not whole, or too old, which empties it."""
        path = self.folder(key) / _DONE
        try:
            done = decode(Done, path.read_bytes(), where=str(path))
        except (OSError, InvalidError):
            return None
        limit = done.finished_at + timedelta(days=EXPIRE_AFTER_DAYS)
        if done.key == key and self._clock.now() < limit:
            return done
        shutil.rmtree(self.folder(key))
        return None

    def finish(self, key: str, *, step: str, facts: Mapping[str, str | int | float]) -> Done:
        """Mark a step's folder as whole."""
        done = Done(key=key, step=step, finished_at=self._clock.now(), facts=dict(facts))
        replace_durably(self.folder(key) / _DONE, encode(done))
        return done


_PICTURES = "pictures"
_PACKAGE = "package.lspkg"
EVALUATION_FILE = "evaluation.json"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PipelineContext:
    """Collaborators of a run.

    Attributes:
        folder: keeps cached steps and run records.
        versions: where a model that passes is registered; opened and closed by the caller.
        by: who runs it.
        records_url, blobs_url: of the store, for ``dataset://`` data.
        progress: told while training runs.
        on_step: called with each step's name when it begins.
    """

    folder: Path
    versions: ModelVersions
    by: str
    clock: Clock
    progress: Tell
    cancelled: threading.Event
    records_url: str = ""
    blobs_url: str = ""
    on_step: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Left:
    """Result of a step: whether it was cached, its key, its facts."""

    cached: bool = False
    key: str = ""
    facts: Mapping[str, str | int | float] = field(default_factory=dict)
    refused: str = ""


def run_pipeline(
    pipeline: Pipeline,
    pipeline_context: PipelineContext,
    *,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> RunRecord:
    """Run every step in order and keep the record.

    Raises:
        LinesideError: what a step raised; the record is kept before.
    """
    run = _Run(pipeline=pipeline, pipeline_context=pipeline_context)
    try:
        for step in pipeline.steps:
            if not run.do(step):
                break
    finally:
        record = replace(run.record(), description=description, tags=dict(tags or {}))
        replace_durably(pipeline_context.folder / "runs" / f"{record.id}.json", encode(record))
    return record


class _Run:
    """One run under way; what a step leaves is there for those after it."""

    _prepared: Path
    _trained: Path
    _evaluation: TaskReport

    def __init__(self, *, pipeline: Pipeline, pipeline_context: PipelineContext) -> None:
        self._pipeline = pipeline
        self._context = pipeline_context
        self._cache = Cache(pipeline_context.folder / "steps", clock=pipeline_context.clock)
        self._checks: tuple[Check, ...] = ()
        self._version = ""
        self._remarks: list[str] = []
        self._steps: list[StepRecord] = []
        self._id = new_id("run", clock=pipeline_context.clock)
        self._started: datetime = pipeline_context.clock.now()
        self._ended = Outcome.FAILED
        self._reason = ""
        self._acts: dict[Role, Callable[[Step], _Left]] = {
            Role.PREPARE: self._prepare,
            Role.TRAIN: self._train,
            Role.EVALUATE: self._evaluate,
            Role.GATE: self._check_quality,
            Role.REGISTER: self._register,
        }

    def do(self, step: Step) -> bool:
        """Carry a step out; whether to go on."""
        self._context.on_step(step.name)
        before_s = self._context.clock.monotonic()
        try:
            left = self._acts[step.role](step)
        except LinesideError as error:
            stopped = isinstance(error, JobCancelledError)
            self._ended = Outcome.CANCELLED if stopped else Outcome.FAILED
            self._reason = f"{step.name}: {error.message}"
            self._note(step, _Left(), outcome=self._ended, since_s=before_s, reason=error.message)
            raise
        outcome = Outcome.REFUSED if left.refused else Outcome.SUCCEEDED
        self._ended, self._reason = outcome, left.refused
        self._note(step, left, outcome=outcome, since_s=before_s, reason=left.refused)
        return outcome is Outcome.SUCCEEDED

    def record(self) -> RunRecord:
        """The run so far; steps that were not reached say so."""
        missing = [
            StepRecord(name=step.name, type=str(step.role), outcome=Outcome.NOT_RUN)
            for step in self._pipeline.steps[len(self._steps) :]
        ]
        return RunRecord(
            id=self._id,
            pipeline=self._pipeline.name,
            started_at=self._started,
            ended_at=self._context.clock.now(),
            by=self._context.by,
            parameters={p.name: self._pipeline.value(p.name) for p in self._pipeline.parameters},
            outcome=self._ended,
            steps=(*self._steps, *missing),
            reason=self._reason,
            checks=self._checks,
            version=self._version,
            remarks=tuple(self._remarks),
        )

    def _note(
        self, step: Step, left: _Left, *, outcome: Outcome, since_s: float, reason: str
    ) -> None:
        self._steps.append(
            StepRecord(
                name=step.name,
                type=str(step.role),
                outcome=outcome,
                cached=left.cached,
                seconds=round(self._context.clock.monotonic() - since_s, 3),
                key=left.key,
                facts=left.facts,
                reason=reason,
            )
        )

    # ---- the steps

    def _prepare(self, step: Step) -> _Left:
        pipeline, pipeline_context = self._pipeline, self._context
        # Else registration would refuse the package, after a training.
        pipeline_context.versions.check_task(pipeline.text("ModelPackageGroupName"), pipeline.task)
        with open_source(
            pipeline.text("InputData"),
            clock=pipeline_context.clock,
            records_url=pipeline_context.records_url,
            blobs_url=pipeline_context.blobs_url,
        ) as source:
            copies = {
                label: int(pipeline.number(name))
                for label, name in (
                    (NORMAL, "AugmentCountNormal"),
                    (ANOMALOUS, "AugmentCountAnomalous"),
                )
                if name in step.parameters
            }
            key = key_of(
                step.name,
                inputs={
                    "data": source.digest,
                    "copies": copies,
                    "split": pipeline.split,
                    "seed": pipeline.value("Seed"),
                },
            )
            done = self._cache.find(key)
            self._prepared = self._cache.folder(key)
            if done is not None:
                return _left(done, cached=True)
            counted = prepare_pictures(
                pipeline, source, folder=self._cache.folder(key), copies=copies
            )
            facts: dict[str, str | int | float] = {
                "data_digest": source.digest,
                "training": counted.training,
                "validation": counted.validation,
                "test": counted.test,
                "copies": counted.copies,
                "left_out": len(source.opened.skipped),
            }
        return _left(self._cache.finish(key, step=step.name, facts=facts))

    def _train(self, step: Step) -> _Left:
        pipeline, pipeline_context = self._pipeline, self._context
        job = self._job()
        key = key_of(step.name, inputs={"prepared": self._prepared.name, "job": encode(
            replace(job, data="")).decode()})  # fmt: skip
        done = self._cache.find(key)
        self._trained = self._cache.folder(key)
        self._remark_on_count()
        if done is not None:
            return _left(done, cached=True)
        result = run_job(
            job,
            folder=self._cache.folder(key),
            progress=pipeline_context.progress,
            cancelled=pipeline_context.cancelled,
            clock=pipeline_context.clock,
        )
        facts: dict[str, str | int | float] = {
            "package": result.digest,
            "pictures": result.pictures,
            "task": str(pipeline.task),
        }
        return _left(self._cache.finish(key, step=step.name, facts=facts))

    def _job(self) -> TrainJob:
        pipeline = self._pipeline
        named = {parameter.name for parameter in pipeline.parameters}
        turns = pipeline.number("TrainingEpochs")
        usual = pipeline.task is Task.SEGMENT and turns >= _USUAL_TURNS
        settings = {} if usual else {"epochs": turns}
        if "TargetImageSize" in named:
            settings["input_px"] = pipeline.number("TargetImageSize")
            # The sample's devices hand 0 to 255 to a classifier, 0 to 1 to a network of masks.
            settings["input_scale"] = 1.0 if pipeline.task is Task.CLASSIFY else 255.0
        labels = (NORMAL, ANOMALOUS) if pipeline.task is Task.CLASSIFY else ()
        return TrainJob(
            inspection=Inspection(
                id=pipeline.base_job_prefix, camera="", task=pipeline.task, labels=labels
            ),
            data=str(self._prepared),
            seed=int(pipeline.number("Seed")),
            settings=settings,
            trained_by=self._context.by,
        )

    def _remark_on_count(self) -> None:
        """The number of pictures is counted; one that a person typed is only compared."""
        name = "TrainingNumTrainingSamples"
        counted = next((s.facts for s in self._steps if "training" in s.facts), {})
        if name not in self._pipeline.values or not counted:
            return
        there = int(counted["training"]) + int(counted["copies"])
        if int(self._pipeline.number(name)) != there:
            self._remarks.append(
                f"{name} is {self._pipeline.value(name)}; {there} pictures were counted and used"
            )

    def _evaluate(self, step: Step) -> _Left:
        pipeline_context = self._context
        package = Package.open(self._trained / _PACKAGE)
        key = key_of(step.name, inputs={"package": package.digest, "on": self._prepared.name})
        into = self._cache.folder(key)
        done = self._cache.find(key)
        if done is not None:
            path = into / EVALUATION_FILE
            self._evaluation = decode(TaskReport, path.read_bytes(), where=str(path))
            return _left(done, cached=True)
        source = Labelled(data=str(self._prepared), part="test", task=package.manifest.task)
        with open_labelled(source, clock=pipeline_context.clock) as opened:
            known = self._leaks()
            found = evaluate(
                package,
                opened.samples,
                files=opened.files,
                clock=pipeline_context.clock,
                leaks=known.leaks,
            )
            report = replace(
                evaluation_report(
                    package, opened.samples, found=found, source=opened, name=self._pipeline.name
                ),
                leaks=known.leaks,
                leaks_by=known.leaks_by,
            )
        self._evaluation = report
        replace_durably(into / EVALUATION_FILE, encode(report))
        replace_durably(
            into / "evaluation.html", evaluation_page(report, pictures=found.thumbnails)
        )
        replace_durably(into / "evaluation_report.json", published_report(report))
        facts = {name: metric.value for name, metric in found.metrics.items()}
        return _left(self._cache.finish(key, step=step.name, facts=facts))

    def _leaks(self) -> TaskReport:
        """The training's own report: it looked for leaks between all parts."""
        path = self._trained / REPORT_FILE
        return decode(TaskReport, path.read_bytes(), where=str(path))

    def _check_quality(self, step: Step) -> _Left:
        pipeline = self._pipeline
        requested = {"GateBalancedAccuracy": "balanced_accuracy", "GatePixelF1": "pixel_f1"}
        limits = Limits(
            recall=pipeline.number("GateRecall"),
            least={
                metric: pipeline.number(name)
                for name, metric in requested.items()
                if name in step.parameters
            },
        )
        quality = check_quality(self._evaluation, limits)
        self._checks = quality.checks
        return _Left(
            facts={
                "checks": len(quality.checks),
                "failed": sum(not c.passed for c in quality.checks),
            },
            refused="" if quality.passed else quality.reason,
        )

    def _register(self, step: Step) -> _Left:
        del step
        pipeline, pipeline_context = self._pipeline, self._context
        raw = (self._trained / _PACKAGE).read_bytes()
        package = Package.read(raw)
        version = pipeline_context.versions.register(
            raw,
            group=pipeline.text("ModelPackageGroupName"),
            by=pipeline_context.by,
            metrics=self._evaluation.metrics,
            evidence={
                "run": self._id,
                "pipeline": pipeline.name,
                "dataset": pipeline.text("InputData"),
                "data_digest": package.manifest.lineage.data_digest,
            },
        )
        self._version = f"{version.group}/{version.number}"
        if pipeline.text("ModelApprovalStatus") != Status.PENDING:
            self._remarks.append(
                "the wish for another status than waiting was not carried out: a person approves, "
                f"by lineside model approve {self._version}"
            )
        return _Left(facts={"version": self._version, "status": str(version.status)})


def _left(done: Done, *, cached: bool = False) -> _Left:
    return _Left(cached=cached, key=done.key, facts=done.facts)
