"""The report of a training or evaluation of a whole-picture task: everything that was found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape

from lineside.core import Digest, to_plain
from lineside.datasets import Leak, Part, Sample
from lineside.datasets.leaks import crossing
from lineside.datasets.samples import Skipped
from lineside.datasets.versions import version_digest
from lineside.models import Manifest, Metric, Package
from lineside.models.result import (
    GIVEN_PART,
    RANDOM_PART,
    Confusion,
    ErrorBound,
    LearningCurve,
    Mistake,
    PowerTest,
    measured_result,
)
from lineside.training.evaluation.evaluate import Evaluation
from lineside.training.evaluation.shortcuts import ShortcutTests
from lineside.training.job import TrainJob
from lineside.training.report.page_parts import (
    FigureNotes,
    bound_part,
    confusion_table,
    curve_part,
    history_part,
    leaks_part,
    limits_part,
    metrics_table,
    page,
    picture_cards,
    power_part,
    reliability_row,
    section,
    short_words,
    shortcuts_part,
    skipped_part,
    table,
    warnings,
)
from lineside.training.source import OF_VERSION, Data, LabelledData, LeakSearch, leak_warning
from lineside.training.tasks import Trained
from lineside.vision.metrics import LimitRow, ReliabilityBin, cheapest_cut
from lineside.vision.verdict import RejectRule

_MOST_LEAKS = 50
_WHOLE_TRAININGS = (
    "not estimated: the network is trained in rounds, so that each point would cost a training"
)
NO_CURVE = {
    "detect": _WHOLE_TRAININGS,
    "count": _WHOLE_TRAININGS,
    "segment": _WHOLE_TRAININGS,
    "anomaly": "not estimated: it learns from good parts alone, and answers to them do not tell how"
    " many defects more of them would find",
}
"""Why a report has no learning curve, by task."""
NOT_MEASURED = (
    "nothing was held out to measure on; give more pictures, or a source that declares a test part"
)


CROSS_VALIDATED = (
    "no validation part: figures are of cross-validation; pictures of another day, light or camera "
    "position may do worse"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """Everything a training has to show for itself.

    Attributes:
        evidence: where ``metrics`` come from; "" where there was nothing to measure on.
        validation_pictures: that ``metrics`` are of, judged by the package itself; 0 where they are
            of cross-validation, with the part that was drawn at random.
        limits: per score, escapes against over-rejects at every cut.
        controls: what a shortcut would reach on the same pictures.
        history: per epoch what was watched.
        error_bound: of the answers given; None where it is not known.
        learning_curve: what a share of the training pictures would have reached.
        power: which drawn defects are found; None of packages that learned from defects.
        sections: further facts by title.
        leaking: pairs that stand on both sides of the split.
        leaks_by: in words how leaks were looked for; "" where nobody looked.
    """

    package: str
    task: str
    dataset: str
    data_digest: Digest
    evidence: str
    training_pictures: int
    validation_pictures: int
    metrics: Mapping[str, Metric]
    per_class: Mapping[str, Metric]
    confusion: Mapping[str, Confusion]
    reliability: Mapping[str, tuple[ReliabilityBin, ...]]
    limits: Mapping[str, tuple[LimitRow, ...]]
    controls: ShortcutTests
    history: Sequence[Mapping[str, float]]
    slices: Mapping[str, Mapping[str, Metric]]
    mistakes: tuple[Mistake, ...]
    sections: Mapping[str, object]
    skipped: tuple[Skipped, ...]
    leaks: tuple[Leak, ...]
    leaking: int
    leaks_by: str
    warnings: tuple[str, ...]
    seed: int
    error_bound: ErrorBound | None = None
    learning_curve: LearningCurve = field(default_factory=LearningCurve)
    power: PowerTest | None = None
    schema: str = field(default="lineside.task-report/1")


def task_report(
    job: TrainJob,
    trained: Trained,
    *,
    data: Data,
    manifest: Manifest,
    found: Evaluation | None,
    looked: LeakSearch,
) -> TaskReport:
    """Everything that is known after a training; ``found`` is None where nothing was measured."""
    measured = found is not None
    found = found or Evaluation(metrics={}, per_class={}, confusion={}, slices={})
    leaking = len(crossing(looked.leaks))
    return TaskReport(
        package=job.package_name,
        task=manifest.task,
        dataset=data.name,
        data_digest=data.digest,
        evidence=_evidence(data, trained) if measured else "",
        training_pictures=manifest.lineage.pictures,
        validation_pictures=0 if _is_pooled(data, trained) else len(data.validation),
        metrics=found.metrics,
        per_class=found.per_class,
        confusion=found.confusion,
        reliability=found.reliability,
        limits=found.limits,
        controls=found.controls,
        history=trained.history,
        slices=found.slices,
        mistakes=found.mistakes,
        sections=trained.sections,
        skipped=(*data.skipped, *trained.refused),
        leaks=tuple(looked.leaks[:_MOST_LEAKS]),
        leaking=leaking,
        leaks_by=looked.how,
        warnings=(
            *trained.warnings,
            *found.warnings,
            *leak_warning(leaking),
            *(() if measured else (NOT_MEASURED,)),
            *((CROSS_VALIDATED,) if measured and not data.validation else ()),
            *((job.note,) if job.note else ()),
        ),
        seed=job.seed,
        error_bound=trained.error_bound,
        learning_curve=trained.curve
        if trained.curve.points
        else LearningCurve(heads=NO_CURVE.get(manifest.task, "")),
        power=trained.power,
    )


def _is_pooled(data: Data, trained: Trained) -> bool:
    """Return whether figures are of all pictures, each judged by a network without it."""
    return bool(trained.cases) and not data.has_given_part


def _evidence(data: Data, trained: Trained) -> str:
    if data.has_given_part:
        return GIVEN_PART
    return " and ".join(
        name
        for name, some in (("cross-validation", trained.cases), (RANDOM_PART, data.validation))
        if some
    )


_MOST_SHOWN = 400


def task_page(
    report: TaskReport, *, pictures: Mapping[str, bytes] | None = None, title: str = "",
    rule: RejectRule | None = None,
) -> bytes:  # fmt: skip
    """UTF-8 HTML.

    Args:
        report: what is shown.
        pictures: JPEG thumbnails of the mistakes by name of the picture, and examples of drawn
            defects by name of the package's file.
        title: of the page, where it is not of a training.
        rule: answers of the inspection that reject a part; None: the usual words.
    """
    beside = figure_notes(report)
    parts = [
        _result(report, rule=rule),
        _summary(report),
        warnings(report.warnings),
        section(
            "Figures",
            metrics_table(report.metrics, figure_notes=beside),
            note=f"From {report.evidence or 'no pictures'}. Unsure counts as not right. The "
            "interval is 95 %; the baseline is what the trivial answer reaches.",
        ),
        section("Per class", metrics_table(report.per_class, figure_notes=beside)),
        section(
            "Confusion", *(confusion_table(name, one) for name, one in report.confusion.items())
        ),
        power_part(report.power, pictures=pictures or {}),
        bound_part(report.error_bound),
        section("Reliability", reliability_row(report.reliability)),
        section(
            "Limits",
            *(limits_part(name, rows) for name, rows in report.limits.items() if rows),
            note="Escapes are defects let through at a cut, over-rejects good pictures stopped.",
        ),
        shortcuts_part(report.controls),
        mistakes_part(report.mistakes, pictures=pictures or {}),
        *(
            section(f"By {title}", metrics_table(found, first=title, figure_notes=_every(beside)))
            for title, found in report.slices.items()
        ),
        curve_part(report.learning_curve),
        section("Training", history_part(report.history)),
        *(_further(title, facts) for title, facts in report.sections.items()),
        skipped_part("Left out or merged when the data was read", report.skipped),
        leaks_part(report.leaks, by=report.leaks_by),
    ]
    return page(title or f"Training of {report.package}", parts)


def figure_notes(report: TaskReport) -> FigureNotes:
    """Return the notes at the report's figures: leaks at each, shortcuts at those they concern."""
    leaking = ("the split leaks",) if report.leaking else ()
    return FigureNotes(every=leaking, of=short_words(report.controls))


def _every(notes: FigureNotes) -> FigureNotes:
    return FigureNotes(every=notes.every)


def _result(report: TaskReport, *, rule: RejectRule | None) -> str:
    """Return the meaning of the figures on the line; "" where nothing was measured."""
    found = measured_result(
        report.task, confusion=report.confusion, metrics=report.metrics,
        pictures=report.validation_pictures, rule=rule, curve=report.learning_curve,
        bound=report.error_bound, power=report.power, evidence=report.evidence,
    )  # fmt: skip
    return f"<p>{escape(found.words)}</p>" if found else ""


def _summary(report: TaskReport) -> str:
    facts = {
        "Task": report.task,
        "Data": report.dataset,
        "Data digest": report.data_digest,
        "Learned from": f"{report.training_pictures} pictures",
        "Figures from": report.evidence or "nothing",
        "Seed": str(report.seed),
    }
    return table((), facts.items())


def mistakes_part(mistakes: Sequence[Mistake], *, pictures: Mapping[str, bytes]) -> str:
    """The worst answers, with their pictures where they are given."""
    if not mistakes:
        return section("Mistakes", "<p>None.</p>")
    cards = [
        (
            pictures.get(worst.picture, b""),
            (
                worst.picture,
                f"truth: {worst.truth}",
                f"said: {worst.said} ({worst.probability:.2f})",
                worst.reason,
            ),
        )
        for worst in mistakes
    ]
    return section("Mistakes, the worst first", picture_cards(cards))


def _further(title: str, facts: object) -> str:
    """JSON-like facts as a table or a list, whatever they are."""
    plain, title = to_plain(facts), title[:1].upper() + title[1:]
    if isinstance(plain, dict):
        return section(
            title, table((), ((str(key), _short(value)) for key, value in plain.items()))
        )
    if isinstance(plain, list) and plain and all(isinstance(row, dict) for row in plain):
        header = list(dict.fromkeys(str(key) for row in plain for key in row))
        rows = [[_short(row.get(key, "")) for key in header] for row in plain]
        return section(title, table(header, rows))
    return section(title, f"<p>{escape(_short(plain))}</p>" if plain not in (None, "", []) else "")


def _short(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "unknown" if value is None else "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        value = [f"{key}: {_short(one)}" for key, one in value.items()]
    if isinstance(value, list):
        value = ", ".join(_short(one) for one in value)
    answer = str(value)
    return answer if len(answer) <= _MOST_SHOWN else answer[:_MOST_SHOWN] + "…"


def evaluation_report(
    package: Package,
    samples: Sequence[Sample],
    *,
    found: Evaluation,
    source: LabelledData,
    name: str,
) -> TaskReport:
    """Return an evaluation in the form of a training's report.

    Args:
        package: what was measured.
        samples: what it was measured on.
        found: by ``lineside.training.evaluation.evaluate``.
        source: where the samples came from, with what was left out and the leaks known of it.
        name: of the data.
    """
    manifest = package.manifest
    return TaskReport(
        package=manifest.name,
        task=manifest.task,
        dataset=name,
        data_digest=version_digest(samples, {Part.TEST: [s.digest for s in samples]}),
        evidence="pictures whose files were not trained on",
        training_pictures=manifest.lineage.pictures,
        validation_pictures=len(samples),
        metrics=found.metrics,
        per_class=found.per_class,
        confusion=found.confusion,
        reliability=found.reliability,
        limits=found.limits,
        controls=found.controls,
        history=(),
        slices=found.slices,
        mistakes=found.mistakes,
        sections={},
        skipped=source.skipped,
        leaks=tuple(source.leaks[:_MOST_LEAKS]),
        leaking=found.leaking,
        leaks_by=OF_VERSION if source.version is not None else "",
        warnings=found.warnings,
        seed=manifest.lineage.seed,
    )


def exact_only(package: Package, source: LabelledData) -> tuple[str, ...]:
    """Return the gaps of an evaluation on other data than the package's own version.

    A package lists the digests of its training pictures and nothing that a near-duplicate could be
    known by.
    """
    if source.version is not None and source.version == package.manifest.lineage.data_digest:
        return ()
    known = (
        "only the very files of the training are refused: another picture of a trained part, or a "
        "copy saved again, is not noticed and makes figures too good"
    )
    return (known,)


def evaluation_page(report: TaskReport, *, pictures: Mapping[str, bytes]) -> bytes:
    """One page of HTML; pictures as ``Evaluation.thumbnails``."""
    return task_page(report, pictures=pictures, title=f"Evaluation of {report.package}")


def priced(found: Evaluation, *, escape_cost: float, over_reject_cost: float) -> Evaluation:
    """The evaluation with its limit tables at these costs."""
    return replace(
        found,
        limits={
            name: tuple(
                replace(row, cost=row.escapes * escape_cost + row.over_rejects * over_reject_cost)
                for row in rows
            )
            for name, rows in found.limits.items()
        },
    )


def cheapest_cuts(found: Evaluation) -> dict[str, float]:
    """The cut of least cost of each limit table."""
    return {name: cheapest_cut(rows) for name, rows in found.limits.items() if rows}
