"""The report of an evaluation, in the form of a training's; what an error of either kind costs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lineside.datasets import Part, Sample, version_digest
from lineside.models import Package
from lineside.training.evaluate import Evaluation
from lineside.training.source import Opened
from lineside.training.source_leaks import OF_VERSION
from lineside.training.task_page import task_page
from lineside.training.task_report import TaskReport
from lineside.vision import cheapest_cut

_MOST_LEAKS = 50


def evaluation_report(
    package: Package, samples: Sequence[Sample], *, found: Evaluation, source: Opened, name: str
) -> TaskReport:
    """What an evaluation found, in the form of a training's report.

    Args:
        package: what was measured.
        samples: what it was measured on.
        found: by ``lineside.training.evaluate``.
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
        held_out={},
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


def exact_only(package: Package, source: Opened) -> tuple[str, ...]:
    """What is not known of an evaluation on other data than the package's own version.

    A package lists the digests of its training pictures and nothing that a near-duplicate could be
    known by.
    """
    if source.version is not None and source.version == package.manifest.lineage.data_digest:
        return ()
    told = (
        "only the very files of the training are refused: another picture of a trained part, or a "
        "copy saved again, is not noticed and makes figures too good"
    )
    return (told,)


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
