"""The report of a training or evaluation of a whole-picture task: everything that was found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lineside.core import Digest
from lineside.datasets import Leak, Skipped, crossing
from lineside.models import Manifest, Metric
from lineside.training.control_records import Controls
from lineside.training.job import TrainJob
from lineside.training.measures import Confusion, Measured, Worst
from lineside.training.source import Data
from lineside.training.source_leaks import LookedFor
from lineside.training.tasks import Trained
from lineside.vision import LimitRow, ReliabilityBin

_MOST_LEAKS = 50
NOT_MEASURED = (
    "nothing was held out to measure on; give more pictures, or a source that declares a test part"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """Everything a training has to show for itself.

    Attributes:
        evidence: where ``metrics`` come from; "" where there was nothing to measure on.
        limits: per score, escapes against over-rejects at every cut.
        controls: what a shortcut would reach on the same pictures.
        held_out: figures on training pictures by networks that had not seen them.
        history: per epoch what was watched.
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
    controls: Controls
    held_out: Mapping[str, float]
    history: Sequence[Mapping[str, float]]
    slices: Mapping[str, Mapping[str, Metric]]
    mistakes: tuple[Worst, ...]
    sections: Mapping[str, object]
    skipped: tuple[Skipped, ...]
    leaks: tuple[Leak, ...]
    leaking: int
    leaks_by: str
    warnings: tuple[str, ...]
    seed: int
    schema: str = field(default="lineside.task-report/1")


def task_report(
    job: TrainJob,
    trained: Trained,
    *,
    data: Data,
    manifest: Manifest,
    measured: Measured | None,
    controls: Controls,
    looked: LookedFor,
) -> TaskReport:
    """Everything that is known after a training."""
    found = measured or Measured(metrics={})
    leaking = len(crossing(looked.leaks))
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
        limits=found.limits,
        controls=controls,
        held_out=trained.held_out,
        history=trained.history,
        slices=found.slices,
        mistakes=found.mistakes,
        sections=trained.sections,
        skipped=data.skipped,
        leaks=tuple(looked.leaks[:_MOST_LEAKS]),
        leaking=leaking,
        leaks_by=looked.how,
        warnings=(
            *trained.warnings,
            *found.warnings,
            *controls.warnings,
            *leak_warning(leaking),
            *(() if measured else (NOT_MEASURED,)),
            *((job.note,) if job.note else ()),
        ),
        seed=job.seed,
    )


def leak_warning(pairs: int) -> tuple[str, ...]:
    """What a leaking split is said to be."""
    if not pairs:
        return ()
    return (
        f"the data leaks: {pairs} pairs stand on both sides of the split; figures are too good",
    )
