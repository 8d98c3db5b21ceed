"""From what a learner handed back to a measured package with its report.

The package is measured as a device would run it: it is built without figures, opened again, and
judges the pictures it was not trained on.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lineside.core import Clock, digest_of, encode, replace_durably
from lineside.datasets import Sample
from lineside.models import (
    MANIFEST_SCHEMA,
    Engine,
    Golden,
    Manifest,
    Metric,
    Package,
    Place,
    answerer_for,
    build_package,
    inventoried,
)
from lineside.training.appraise import Appraised, appraise
from lineside.training.control_records import Controls
from lineside.training.evaluate import TRAINING_FILE, TrainingEvidence
from lineside.training.export import BOUND, ENGINE_FILE, lineage_of
from lineside.training.job import (
    PACKAGE_FILE,
    PAGE_FILE,
    REPORT_FILE,
    RESULT_FILE,
    ResultFacts,
    TrainJob,
    TrainResult,
)
from lineside.training.source import Data
from lineside.training.source_leaks import leaks_of
from lineside.training.task_page import task_page
from lineside.training.task_report import task_report
from lineside.training.tasks import Trained, Work


def finish(job: TrainJob, trained: Trained, *, data: Data, work: Work) -> TrainResult:
    """Measure, control, report, and write package and result into the job's folder."""
    work.steps.at(90, "measuring")
    clock = work.steps.clock
    evidence = TrainingEvidence(
        pictures=tuple(sample.digest for sample in data.training),
        majority={},
        facts=dict(trained.baseline),
    )
    files = {TRAINING_FILE: encode(evidence)}
    manifest = _with_golden(_manifest(job, trained, data=data), trained, work=work, clock=clock)
    bare = Package.read(build_package(manifest, _files(trained, files, work=work)))
    found = _appraised(bare, trained, data=data, work=work)
    work.steps.at(94, "looking for leaks")
    looked = leaks_of(data, of_version=job.data.startswith("dataset://"))
    work.steps.at(96, "writing the report")
    report = task_report(
        job,
        trained,
        data=data,
        manifest=manifest,
        looked=looked,
        measured=found.measured if found else None,
        controls=found.controls if found else Controls(),
    )
    raw = encode(report)
    page = task_page(report, pictures=found.pictures if found else {})
    files |= {"evidence/report.json": raw, "evidence/report.html": page}
    lineage = replace(manifest.lineage, warnings=report.warnings)
    final = replace(manifest, metrics=dict(report.metrics), lineage=lineage)
    package = build_package(*inventoried(final, _files(trained, files, work=work)))
    return _write(job, package, report=(raw, page), manifest=final, data=data, work=work)


def _appraised(package: Package, trained: Trained, *, data: Data, work: Work) -> Appraised | None:
    if not data.validation:
        return None
    return appraise(
        package,
        data.validation,
        baseline=trained.baseline,
        files=data.files,
        clock=work.steps.clock,
        tell=lambda: work.steps.at(92, "measuring"),
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
        lineage=lineage_of(job, data=data, warnings=trained.warnings, pictures=len(data.training)),
        classes=trained.classes,
        detect=trained.detect,
        count=trained.count,
        mask=trained.mask,
        anomaly=trained.anomaly,
        template=trained.template,
    )


def _with_golden(manifest: Manifest, trained: Trained, *, work: Work, clock: Clock) -> Manifest:
    """The manifest with the answers its own engine gives to the golden pictures."""
    package = Package.read(build_package(manifest, {ENGINE_FILE: trained.network, **trained.files}))
    answerer = answerer_for(package, clock=clock)
    golden = []
    for number, sample in enumerate(trained.golden):
        place = Place(image=work.picture(sample), template=work.template(sample))
        said = answerer.golden(place)
        golden.append(
            Golden(
                file=_picture_name(f"golden/{number}", work.files(sample.digest)),
                digest=sample.digest,
                logits=tuple(tuple(float(value) for value in row) for row in said),
                template_file=_template_name(number, sample, work=work),
            )
        )
    return replace(manifest, golden=tuple(golden))


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
    data: Data,
    work: Work,
) -> TrainResult:
    metrics: dict[str, Metric] = dict(manifest.metrics)
    facts = ResultFacts(
        digest=Package.read(package).digest,
        metrics=metrics,
        seconds=round(work.steps.spent_s, 3),
        pictures=len(data.training),
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
