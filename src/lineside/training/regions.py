"""Presence and classes of regions on a registered view: look, cross-validate, fit, export, measure.

A step's result depends on job and data alone, never on when or how often the job was stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lineside.core import InvalidError, encode, replace_durably
from lineside.datasets import Leak, Sample, Skipped, find_leaks, folds, merge_leaks, region_vectors
from lineside.models import HealthLimits, Metric, Package
from lineside.training.evaluation.evaluate import (
    TRAINING_FILE,
    TrainingEvidence,
    answer_all,
    confusion_of,
    slices,
)
from lineside.training.evaluation.label_shortcuts import label_controls, region_controls
from lineside.training.evaluation.shortcuts import Controls
from lineside.training.job import (
    PACKAGE_FILE,
    PAGE_FILE,
    REPORT_FILE,
    RESULT_FILE,
    ResultFacts,
    Steps,
    TrainJob,
    TrainResult,
)
from lineside.training.report.label_report import (
    Report,
    label_evidence,
    mistakes_of,
    one_group,
    other_places,
    report_page,
    share_metric,
    shown_leaks,
    warnings_for,
)
from lineside.training.source import Data
from lineside.training.tasks.multilabel.calibrate import rules_for
from lineside.training.tasks.multilabel.export import Parts, export, health_limits, package_bytes
from lineside.training.tasks.multilabel.features import Looked, Looker
from lineside.training.tasks.multilabel.heads import (
    Fitted,
    HeadPlan,
    Truth,
    check_enough,
    fit_heads,
    plan_heads,
    truth_of,
)
from lineside.training.tasks.multilabel.held_out import (
    FoldDone,
    HeldOut,
    cross_validate,
    held_out_answers,
)
from lineside.training.tasks.multilabel.metrics import (
    Answered,
    Judge,
    Majority,
    decided,
    figures,
    majority_of,
    per_class,
)
from lineside.training.tasks.multilabel.reference import Reference, choose_reference
from lineside.vision import LabelRule, Prepare, crops_for

_MARGIN = 0.25
_MOST_CROPS = 1500
_MOST_VARIANTS = 6
_MOST_GROUPS = 12
_LEAK_PARTS = ("train", "valid")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Learned:
    """What was learned, and what was held out while learning it."""

    plan: HeadPlan
    pictures: tuple[Looked, ...]
    refused: tuple[Looked, ...]
    truth: Truth
    held_out: HeldOut
    fitted: Fitted
    rules: tuple[LabelRule, ...]
    health: HealthLimits
    cross_validated: tuple[Answered, ...]
    left_out: tuple[Answered, ...]

    @property
    def samples(self) -> list[Sample]:
        return [picture.sample for picture in self.pictures]


def train_regions(job: TrainJob, data: Data, *, folder: Path, steps: Steps) -> TrainResult:
    """Train an inspection that declares regions; its folder keeps what was looked at."""
    steps.at(2, "choosing the reference view")
    reference = choose_reference(job.inspection, data.training, read=data.read, named=job.reference)
    settings = _prepare(job, reference)
    looker = Looker(
        reference=reference,
        registrar=reference.registrar(),
        prepare=settings,
        read=data.read,
        seed=job.seed,
        folder=folder / "features",
    )
    looked = _look(looker, data, variants=_variants(job, data, settings=settings), steps=steps)
    learned = _learn(job, looked, folder=folder, steps=steps)
    steps.at(88, "exporting")
    exported = export(
        learned.fitted.heads,
        settings=settings,
        reference=reference,
        pictures=learned.pictures,
        read=data.read,
    )
    held = _look_held(looker, data, steps=steps)
    leaks = merge_leaks(data.leaks, _leaks(learned.pictures, held))
    parts = Parts(
        job=job,
        data=data,
        settings=settings,
        rules=learned.rules,
        health=learned.health,
        exported=exported,
        warnings=warnings_for(
            learned.plan,
            learned.truth,
            answered=learned.cross_validated,
            rules=learned.rules,
            leaks=leaks,
            refused=len(learned.refused),
            validated=bool(data.validation),
            note=job.note,
        ),
        pictures=len(learned.pictures),
    )
    return _finish(parts, learned, reference=reference, leaks=leaks, folder=folder, steps=steps)


def _tell_fold(steps: Steps, done: FoldDone, *, first: float, last: float) -> None:
    steps.loss, steps.held_out = round(done.loss, 4), round(done.held_out, 4)
    steps.at(first + (last - first) * done.done / done.count, "cross-validating")


def _prepare(job: TrainJob, reference: Reference) -> Prepare:
    view = reference.view
    return Prepare(
        crops=crops_for(
            job.inspection.region,
            width_px=view.width_px,
            height_px=view.height_px,
            margin=_MARGIN,
        ),
        width_px=job.crop_px,
        height_px=job.crop_px,
        view=view,
    )


def _variants(job: TrainJob, data: Data, *, settings: Prepare) -> int:
    """The fewer crops there are to learn from, the more changed copies of each."""
    if job.variants >= 0:
        return job.variants
    crops = len(data.training) * len(settings.crops)
    return max(1, min(_MOST_VARIANTS, _MOST_CROPS // crops - 1))


def _look(looker: Looker, data: Data, *, variants: int, steps: Steps) -> list[Looked]:
    looked = []
    for number, sample in enumerate(data.training):
        steps.at(8 + 52 * number / len(data.training), "looking at pictures")
        looked.append(looker.look(sample, variants=variants))
    return looked


def _look_held(looker: Looker, data: Data, *, steps: Steps) -> list[Looked]:
    """The validation part, for the leak report alone."""
    looked = []
    for number, sample in enumerate(data.validation):
        steps.at(89 + 3 * number / len(data.validation), "looking for leaks")
        looked.append(looker.look(sample, variants=0))
    return looked


def _learn(job: TrainJob, looked: Sequence[Looked], *, folder: Path, steps: Steps) -> _Learned:
    plan = plan_heads(job.inspection)
    pictures = [picture for picture in looked if picture.matrix is not None]
    if not pictures:
        raise InvalidError(
            f"none of {len(looked)} pictures could be placed on the reference view",
            where="data",
            fix="Check the view, or name the picture the regions were drawn on (reference).",
        )
    samples = [picture.sample for picture in pictures]
    truth = truth_of(plan, samples)
    check_enough(plan, truth)
    numbers = folds(_apart(samples), count=job.folds, seed=job.seed)
    held_out = cross_validate(
        plan,
        pictures,
        truth=truth,
        folds=numbers,
        folder=folder / "folds",
        report=lambda done: _tell_fold(steps, done, first=62, last=76),
    )
    policy = job.inspection.policy
    judge = Judge(plan=plan)
    answered = held_out_answers(judge, samples, held_out=held_out, truth=truth, policy=policy)
    left_out = _leave_out(job, pictures, judge=judge, truth=truth, folder=folder, steps=steps)
    steps.at(84, "fitting")
    fitted = fit_heads(plan, [picture.features for picture in pictures], truth=truth)
    everyone = range(len(pictures))
    return _Learned(
        plan=plan,
        pictures=tuple(pictures),
        refused=tuple(picture for picture in looked if picture.matrix is None),
        truth=truth,
        held_out=held_out,
        fitted=fitted,
        rules=rules_for(plan, held_out.logits, truth=truth, policy=policy, pictures=everyone),
        health=health_limits(pictures, held_out.distances),
        cross_validated=answered,
        left_out=left_out,
    )


def _apart(samples: Sequence[Sample]) -> list[Sample]:
    """The samples as groups for folds; of one group alone each stands by itself (and is told)."""
    if one_group(samples):
        return [replace(sample, group="") for sample in samples]
    return list(samples)


def _leave_out(
    job: TrainJob,
    pictures: Sequence[Looked],
    *,
    judge: Judge,
    truth: Truth,
    folder: Path,
    steps: Steps,
) -> tuple[Answered, ...]:
    """Each group answered by heads that saw none of it; nothing where there are no few groups."""
    samples = [picture.sample for picture in pictures]
    groups = sorted({sample.group for sample in samples})
    if not all(groups) or not 2 <= len(groups) <= _MOST_GROUPS:
        return ()
    held_out = cross_validate(
        judge.plan,
        pictures,
        truth=truth,
        folds=[groups.index(sample.group) for sample in samples],
        folder=folder / "folds",
        report=lambda done: _tell_fold(steps, done, first=76, last=82),
    )
    policy = job.inspection.policy
    return held_out_answers(judge, samples, held_out=held_out, truth=truth, policy=policy)


def _leaks(training: Sequence[Looked], held: Sequence[Looked]) -> tuple[Leak, ...]:
    placed = [picture for picture in held if picture.matrix is not None]
    everyone = [*training, *placed]
    parts = [_LEAK_PARTS[0]] * len(training) + [_LEAK_PARTS[1]] * len(placed)
    vectors = region_vectors(np.stack([picture.crops for picture in everyone]), cell_px=1)
    return find_leaks([picture.sample for picture in everyone], vectors, parts=parts)


def _finish(
    parts: Parts,
    learned: _Learned,
    *,
    reference: Reference,
    leaks: Sequence[Leak],
    folder: Path,
    steps: Steps,
) -> TrainResult:
    """Measure the package as a device would run it, then write it with its figures."""
    steps.at(93, "measuring")
    majority = majority_of(learned.cross_validated)
    evidence = TrainingEvidence(
        pictures=tuple(sample.digest for sample in parts.data.training), majority=dict(majority)
    )
    files = {TRAINING_FILE: encode(evidence)}
    bare = Package.read(package_bytes(parts, metrics={}, evidence=files))
    answered = _measured(bare, parts.data, learned=learned, steps=steps)
    metrics = figures(answered, majority=majority)
    controls = _controls(bare, parts.data, answered=answered, majority=majority, steps=steps)
    parts = replace(parts, warnings=(*parts.warnings, *controls.warnings))
    steps.at(97, "writing the report")
    report = _report(
        parts, learned, answered=answered, reference=reference, leaks=leaks, metrics=metrics
    )
    report = replace(report, controls=controls)
    raw, page = encode(report), report_page(report)
    files |= {"evidence/report.json": raw, "evidence/report.html": page}
    data = package_bytes(parts, metrics=metrics, evidence=files)
    facts = ResultFacts(
        digest=Package.read(data).digest,
        metrics=metrics,
        seconds=round(steps.clock.monotonic() - steps.started_s, 3),
        pictures=len(learned.pictures),
    )
    for name, content in ((PACKAGE_FILE, data), (REPORT_FILE, raw), (PAGE_FILE, page)):
        replace_durably(folder / name, content)
    if parts.job.out:
        replace_durably(Path(parts.job.out), data)
    replace_durably(folder / RESULT_FILE, encode(facts))
    steps.at(100, "done")
    return TrainResult(
        package=data,
        digest=facts.digest,
        metrics=metrics,
        report=raw,
        seconds=facts.seconds,
        pictures=facts.pictures,
    )


def _measured(
    package: Package, data: Data, *, learned: _Learned, steps: Steps
) -> tuple[Answered, ...]:
    """The validation part as a device judges it; without one, the held-out training pictures."""
    if not data.validation:
        return learned.cross_validated
    return tuple(answer_all(package, data.validation, read=data.read, clock=steps.clock))


def _controls(
    package: Package,
    data: Data,
    *,
    answered: Sequence[Answered],
    majority: Majority,
    steps: Steps,
) -> Controls:
    """What a shortcut would reach; judged again only where the package has not learned from it."""
    steps.at(95, "measuring")
    judged = [picture for picture in answered if picture.answers]
    metrics = figures(judged, majority=majority)
    if not data.validation:
        return label_controls(judged, metrics=metrics, files=data.files)
    return region_controls(
        package,
        judged,
        metrics=metrics,
        majority=majority,
        answer_all=answer_all,
        files=data.files,
        clock=steps.clock,
    )


def _report(
    parts: Parts,
    learned: _Learned,
    *,
    answered: Sequence[Answered],
    reference: Reference,
    leaks: Sequence[Leak],
    metrics: dict[str, Metric],
) -> Report:
    majority = majority_of(learned.cross_validated)
    validated = bool(parts.data.validation)
    return Report(
        package=parts.job.package_name,
        inspection=parts.job.inspection.id,
        dataset=parts.data.name,
        data_digest=parts.data.digest,
        reference=reference.sample.name,
        evidence="validation part" if validated else "cross-validation",
        training_pictures=len(learned.pictures),
        validation_pictures=len(parts.data.validation),
        metrics=metrics,
        per_class=per_class(answered),
        confusion=confusion_of(answered),
        cross_validation=figures(learned.cross_validated, majority=majority),
        left_out=slices(learned.left_out, majority=majority),
        slices=slices(answered, majority=majority),
        stability=_stability(learned, parts),
        labels=label_evidence(learned.rules, learned.cross_validated),
        mistakes=mistakes_of(answered),
        other_places=other_places(
            learned.plan,
            learned.fitted.heads,
            features=[picture.features for picture in learned.pictures],
            truth=learned.truth,
        ),
        refused=tuple(
            Skipped(where=picture.sample.name, reason=picture.reason) for picture in learned.refused
        ),
        skipped=parts.data.skipped,
        leaks=shown_leaks(leaks),
        warnings=parts.warnings,
        seed=parts.job.seed,
    )


def _stability(learned: _Learned, parts: Parts) -> Metric | None:
    """How often a changed copy of a held-out picture is answered like the picture itself."""
    judge, held = Judge(plan=learned.plan), learned.held_out
    policy = parts.job.inspection.policy
    same = count = 0
    for sample, own, copies in zip(learned.samples, held.logits, held.varied, strict=True):
        wanted = _places(decided(judge, sample, logits=own, rules=learned.rules, policy=policy))
        for copy in copies:
            said = decided(judge, sample, logits=copy, rules=learned.rules, policy=policy)
            same += _places(said) == wanted
            count += 1
    return share_metric(same, count, baseline=0.0) if count else None


def _places(answered: Answered) -> list[int]:
    return [answer.predicted for answer in answered.answers]
