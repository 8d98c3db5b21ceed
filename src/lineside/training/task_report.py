"""The report of a training of one of the whole-picture tasks: records, and one page of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from lineside.core import Digest
from lineside.datasets import Leak, Skipped, crossing
from lineside.models import Manifest, Metric
from lineside.training.job import TrainJob
from lineside.training.measures import Confusion, Measured, Worst
from lineside.training.source import Data
from lineside.training.tasks import Trained
from lineside.vision import ReliabilityBin

_MOST_LEAKS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """Everything a training has to show for itself.

    Attributes:
        evidence: where ``metrics`` come from; "" where there was nothing to measure on.
        controls: what trivial figures alone reach on the same pictures, by name.
        held_out: figures on training pictures by networks that had not seen them.
        history: per epoch what was watched.
        sections: further facts by title.
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
    controls: Mapping[str, Metric]
    held_out: Mapping[str, float]
    history: Sequence[Mapping[str, float]]
    slices: Mapping[str, Mapping[str, Metric]]
    mistakes: tuple[Worst, ...]
    sections: Mapping[str, object]
    skipped: tuple[Skipped, ...]
    leaks: tuple[Leak, ...]
    warnings: tuple[str, ...]
    seed: int
    schema: str = field(default="lineside.task-report/1")


def task_report(
    job: TrainJob, trained: Trained, *, data: Data, manifest: Manifest, measured: Measured | None
) -> TaskReport:
    """Everything that is known after a training."""
    found = measured or Measured(metrics={})
    leaks = crossing(data.leaks)
    warned = (f"the data leaks: {len(leaks)} pairs stand on both sides of the split",)
    return TaskReport(
        package=job.package_name,
        task=manifest.task,
        dataset=data.name,
        data_digest=data.digest,
        evidence="pictures never trained on" if measured else "",
        training_pictures=len(data.training),
        validation_pictures=len(data.validation),
        metrics=found.metrics,
        per_class=found.per_class,
        confusion=found.confusion,
        reliability=found.reliability,
        controls={},
        held_out=trained.held_out,
        history=trained.history,
        slices=found.slices,
        mistakes=found.mistakes,
        sections=trained.sections,
        skipped=data.skipped,
        leaks=tuple(data.leaks[:_MOST_LEAKS]),
        warnings=(*trained.warnings, *found.warnings, *(warned if leaks else ())),
        seed=job.seed,
    )


def task_page(report: TaskReport) -> bytes:
    """UTF-8 HTML that needs nothing else."""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{m.value:.3f}</td><td>{m.low:.3f}-{m.high:.3f}</td>"
        f"<td>{m.n}</td><td>{m.baseline:.3f}</td></tr>"
        for name, m in report.metrics.items()
    )
    warnings = "".join(f"<p>{escape(warning)}</p>" for warning in report.warnings)
    title = f"Training of {escape(report.package)}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<h1>{title}</h1>{warnings}<table>{rows}</table></html>\n"
    ).encode()
