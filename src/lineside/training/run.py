"""Carry a job out: open its data, hand it to the learner of its task, finish the package.

A step's result depends on job and data alone, never on when or how often the job was stopped.
"""

import ctypes
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lineside.core import Clock, UnavailableError, digest_of, encode, replace_durably
from lineside.core.errors import MissingExtraError
from lineside.datasets import Sample
from lineside.models import (
    MANIFEST_SCHEMA,
    Engine,
    Golden,
    Manifest,
    Metric,
    Package,
    build_package,
)
from lineside.models.archive import with_sbom
from lineside.models.predictor import NEAREST_FILE, RememberedPictures
from lineside.models.task_heads import HeadInput, task_head_for
from lineside.training.common.export import BOUND, ENGINE_FILE, with_scaled_input
from lineside.training.common.loop import CPU, Parallel
from lineside.training.common.methods import spread
from lineside.training.common.torch_backbone import backbone_facts
from lineside.training.evaluation.evaluate import (
    TRAINING_FILE,
    Evaluation,
    evaluate_cases,
    evidence_of,
)
from lineside.training.job import (
    PACKAGE_FILE,
    PAGE_FILE,
    REPORT_FILE,
    RESULT_FILE,
    LearningDevice,
    ResultFacts,
    Steps,
    Tell,
    TrainJob,
    TrainResult,
    Watch,
    read_job,
    read_result,
    write_job,
)
from lineside.training.report.task_report import task_page, task_report
from lineside.training.source import Data, leaks_of, lineage_of, open_data
from lineside.training.tasks import Trained, Work, learner_for
from lineside.training.tasks.contract import Case
from lineside.training.tasks.metrics import judge_all
from lineside.vision.verdict import reject_rule

logger = logging.getLogger(__name__)

_TELL_EVERY = 10
_MOST_MAPPED_PX = 150_000_000
"""Pixels whose maps are kept of all folds while they are measured, at 6 bytes each."""


def finish(job: TrainJob, trained: Trained, *, data: Data, work: Work) -> TrainResult:
    """Measure, control, report, and write package and result into the job's folder."""
    work.steps.at(90, "measuring")
    clock = work.steps.clock
    files = {TRAINING_FILE: encode(evidence_of(data.training, trained.baseline))}
    if trained.remembered:
        files[NEAREST_FILE] = encode(RememberedPictures(pictures=trained.remembered))
    manifest = _with_golden(_manifest(job, trained, data=data), trained, work=work, clock=clock)
    bare = Package.read(build_package(manifest, _files(trained, files, work=work)))
    found = _evaluated(bare, trained, data=data, work=work)
    work.steps.at(94, "looking for leaks")
    looked = (
        leaks_of(data, of_version=job.data.startswith("dataset://"))
        if trained.find_leaks is None
        else trained.find_leaks(data.validation)
    )
    work.steps.at(96, "writing the report")
    if job.backbone:
        own = {"Backbone": backbone_facts(job.backbone).section}
        trained = replace(trained, sections={**trained.sections, **own})
    report = task_report(
        job,
        trained,
        data=data,
        manifest=manifest,
        looked=looked,
        found=found,
    )
    raw = encode(report)
    page = task_page(
        report,
        pictures={**trained.files, **(found.thumbnails if found else {})},
        rule=reject_rule(job.inspection),
    )
    files |= {"evidence/report.json": raw, "evidence/report.html": page}
    lineage = replace(manifest.lineage, warnings=report.warnings)
    final = replace(manifest, metrics=dict(report.metrics), lineage=lineage)
    package = build_package(*with_sbom(final, _files(trained, files, work=work)))
    return _write(job, package, report=(raw, page), manifest=final, work=work)


def _scaled(trained: Trained, scale: float) -> Trained:
    """The same, with a network that takes values of pixels over ``scale``."""
    return replace(
        trained,
        network=with_scaled_input(trained.network, prepare=trained.prepare, scale=scale),
        prepare=replace(trained.prepare, mean=0.0, scale=scale),
    )


def _with_cases(job: TrainJob, trained: Trained, *, data: Data, work: Work) -> Trained:
    """The same without its folds, with their answers where nobody gave a part to measure on."""
    folds = [each for each in trained.folds if each.samples and not data.has_given_part]
    known = {sample.digest: sample for sample in data.training}  # as they are labelled
    cases, gaps = list(trained.cases), list[str]()
    for number, fold in enumerate(folds, start=1):
        work.steps.at(90, f"measuring part {number} of {len(folds)}")
        part = fold.trained()
        content = build_package(_manifest(job, part, data=data), _files(part, {}, work=work))
        samples = [known[sample.digest] for sample in fold.samples]
        if part.mask or part.anomaly:
            most = _MOST_MAPPED_PX // len(folds) // work.picture(samples[0])[..., 0].size + 1
            samples = spread(samples, most)
        if len(samples) < len(fold.samples):
            gaps.append(
                f"{len(samples)} of {len(fold.samples)} images held out together were measured, "
                "because the maps of more take too much memory"
            )
        cases += _judged(Package.read(content), samples, data=data, work=work)
    return replace(trained, cases=cases, folds=(), warnings=(*trained.warnings, *gaps))


def _judged(
    package: Package, samples: Sequence[Sample], *, data: Data, work: Work
) -> Iterator[Case]:
    """Every picture with what the package says of it."""
    judged = judge_all(package, samples, files=data.files, clock=work.steps.clock, objects=True)
    for number, case in enumerate(judged, start=1):
        if number % _TELL_EVERY == 0:
            work.steps.at(92, "measuring")
        yield case


def _evaluated(package: Package, trained: Trained, *, data: Data, work: Work) -> Evaluation | None:
    """The package on the given part, else every picture by a network that had not seen it."""
    unseen = list(_judged(package, data.validation, data=data, work=work))
    cases = [*unseen, *(() if data.has_given_part else trained.cases)]
    if not cases:
        return None
    return evaluate_cases(
        package,
        cases,
        baseline=trained.baseline,
        files=data.files,
        clock=work.steps.clock,
        tell=partial(work.steps.at, 92, "measuring"),
        unseen=unseen,
    )


def _manifest(job: TrainJob, trained: Trained, *, data: Data) -> Manifest:
    return Manifest(
        schema=MANIFEST_SCHEMA,
        name=job.package_name,
        task=str(job.inspection.task),
        inspection=job.inspection.id,
        labels=trained.labels,
        prepare=trained.prepare,
        rules=trained.rules,
        policy=job.inspection.policy,
        health=trained.health,
        engine=Engine(
            file=ENGINE_FILE,
            digest=digest_of(trained.network),
            max_abs_diff=trained.max_abs_diff,
            bound=BOUND,
        ),
        golden=(),
        lineage=lineage_of(
            job,
            data=data,
            warnings=trained.warnings,
            pictures=len(data.training) - len(trained.refused),
        ),
        classes=trained.classes,
        detect=trained.detect,
        count=trained.count,
        mask=trained.mask,
        anomaly=trained.anomaly,
        template=trained.template,
        reference_file=trained.reference_file,
        reference_digest=digest_of(trained.files[trained.reference_file])
        if trained.reference_file
        else "",
        good=job.inspection.good,
    )


def _with_golden(manifest: Manifest, trained: Trained, *, work: Work, clock: Clock) -> Manifest:
    """The manifest with the answers its own engine gives to the golden pictures."""
    package = Package.read(build_package(manifest, {ENGINE_FILE: trained.network, **trained.files}))
    head = task_head_for(package, clock=clock)
    golden = []
    for number, sample in enumerate(trained.golden):
        matrix = trained.matrices[number] if trained.matrices else None
        place = HeadInput(image=work.picture(sample), matrix=matrix, template=work.template(sample))
        answer = head.golden(place)
        golden.append(
            Golden(
                file=_picture_name(f"golden/{number}", work.files(sample.digest)),
                digest=sample.digest,
                logits=_nested(answer),
                matrix=() if matrix is None else _nested(matrix),
                template_file=_template_name(number, sample, work=work),
            )
        )
    return replace(manifest, golden=tuple(golden))


def _nested(values: NDArray[np.floating]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in values)


def _template_name(number: int, sample: Sample, *, work: Work) -> str:
    if sample.template_digest is None:
        return ""
    return _picture_name(f"golden/{number}-template", work.files(sample.template_digest))


def _files(trained: Trained, evidence: Mapping[str, bytes], *, work: Work) -> dict[str, bytes]:
    found = {ENGINE_FILE: trained.network, **trained.files, **evidence}
    for number, sample in enumerate(trained.golden):
        encoded = work.files(sample.digest)
        found[_picture_name(f"golden/{number}", encoded)] = encoded
        if sample.template_digest is not None:
            encoded = work.files(sample.template_digest)
            found[_picture_name(f"golden/{number}-template", encoded)] = encoded
    return found


def _picture_name(stem: str, encoded: bytes) -> str:
    return stem + (".png" if encoded.startswith(b"\x89PNG") else ".jpeg")


def _write(
    job: TrainJob,
    package: bytes,
    *,
    report: tuple[bytes, bytes],
    manifest: Manifest,
    work: Work,
) -> TrainResult:
    metrics: dict[str, Metric] = dict(manifest.metrics)
    facts = ResultFacts(
        digest=Package.read(package).digest,
        metrics=metrics,
        seconds=round(work.steps.spent_s, 3),
        pictures=manifest.lineage.pictures,
    )
    named = ((PACKAGE_FILE, package), (REPORT_FILE, report[0]), (PAGE_FILE, report[1]))
    for name, content in named:
        replace_durably(work.folder / name, content)
    if job.out:
        replace_durably(Path(job.out), package)
    replace_durably(work.folder / RESULT_FILE, encode(facts))
    work.steps.at(100, "done")
    return TrainResult(
        package=package,
        digest=facts.digest,
        metrics=metrics,
        report=report[0],
        seconds=facts.seconds,
        pictures=facts.pictures,
    )


def keep_freed_memory() -> None:
    """Let malloc(3) reuse freed memory instead of giving it back, until this process ends (glibc).

    For a process that only trains: each step of a fine-tuning asks for the same large blocks.
    malloc maps those and gives them back when they are freed, so that the kernel clears their pages
    at every step. ``benchmarks/training_speed.py`` measures the difference. All threads share one
    heap, because what a thread of its own heap freed would serve no other one.
    """
    with suppress(OSError, AttributeError, TypeError):  # TypeError: on Windows
        library = ctypes.CDLL(None)
        for setting, value in _MALLOC:
            library.mallopt(setting, value)


# M_MMAP_MAX, M_TRIM_THRESHOLD and M_ARENA_MAX of glibc's malloc.h
_MALLOC = ((-4, 0), (-1, -1), (-8, 1))
THREADS = 1


def learning_device(name: LearningDevice) -> torch.device:
    """The device of this machine that a job's network learns on.

    Raises:
        MissingExtraError: ``cuda`` is named, and torch is built without it.
        UnavailableError: it is named, and there is no such GPU.
    """
    if name == "cpu":
        return CPU
    try:  # not is_available: that is true of a GPU that torch has no kernels for, or another's
        return torch.ones(1, device="cuda").add_(1).device
    except (AssertionError, RuntimeError) as error:  # torch without CUDA asserts
        reason = " ".join(str(error).split())[:300]
    if name == "auto":
        logger.warning("training runs on the CPU reason=%s", reason)
        return CPU
    if torch.version.cuda is None:
        raise MissingExtraError(
            f"torch {torch.__version__} is built without CUDA",
            where="device",
            fix="pip install torch from the index for CUDA, or train on the CPU: --device cpu, "
            "training_device of a hub.",
        )
    raise UnavailableError(
        f"torch cannot use a GPU of NVIDIA here: {reason}",
        where="device",
        fix="Ask nvidia-smi whether there is one and its driver works; or train on the CPU: "
        "--device cpu, training_device of a hub.",
    )


def _device_warning(device: torch.device) -> str:
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return f"learned on {named}: the same training again gives other weights"


def run_job(
    job: TrainJob,
    *,
    folder: Path,
    progress: Tell,
    cancelled: threading.Event,
    clock: Clock,
    records_url: str = "",
    blobs_url: str = "",
    watcher: Watch | None = None,
    parallel: Parallel | None = None,
    cache: Path | None = None,
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
        watcher: told of each epoch; False stops the training.
        parallel: this process's share of each batch, where several train together.
        cache: folder of features that jobs share; None keeps them in the job's own folder. No
            result depends on it.

    Raises:
        JobCancelledError: stopped as asked; run it again to go on.
        InvalidError: the data cannot teach this inspection.
        UnavailableError: this machine has no such device, or it has too little memory.
        MissingExtraError: torch is built without this device.
        ConflictError: the folder holds another job.
        RefusedError: the exported network does not agree with the trained one.
    """
    parallel = parallel or Parallel(learning_device(job.device))
    write_job(job, folder=folder)
    job = read_job(folder)  # as it is read, so that a number written 3 or 3.0 makes no difference
    done = read_result(folder)
    if done is not None:
        return done
    steps = Steps(clock=clock, progress=progress, cancelled=cancelled, watcher=watcher)
    steps.at(1, "reading")
    with (
        _threads(THREADS),
        open_data(job, clock=clock, records_url=records_url, blobs_url=blobs_url) as data,
    ):
        work = Work(
            folder=folder,
            steps=steps,
            training=data.training,
            files=data.files,
            leaks=data.leaks,
            parallel=parallel,
            cache=cache,
        )
        trained = learner_for(job.inspection.task)(job, work)
        if parallel.used:
            trained = replace(
                trained, warnings=(*trained.warnings, _device_warning(parallel.device))
            )
        trained = _with_cases(job, trained, data=data, work=work)
        if scale := job.setting("input_scale", 0.0):
            trained = _scaled(trained, scale)
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
