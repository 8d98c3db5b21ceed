"""Parameters that several pipelines have."""

from lineside.models import Status
from lineside.training.pipeline.definition import Parameter


def machines(*, training: str) -> tuple[Parameter, ...]:
    """Kinds and numbers of machines: kept with the run, this machine does the work."""
    return (
        Parameter(name="ProcessingInstanceType", default="ml.m5.xlarge"),
        Parameter(name="ProcessingInstanceCount", default=1, least=1),
        Parameter(name="TrainingInstanceType", default=training),
        Parameter(name="TrainingInstanceCount", default=1, least=1),
    )


def registration(*, group: str) -> tuple[Parameter, ...]:
    """Under which name a version is registered; a person approves it, whatever is wished here."""
    return (
        Parameter(
            name="ModelApprovalStatus",
            default=str(Status.PENDING),
            choices=tuple(str(status) for status in Status),
        ),
        Parameter(name="ModelPackageGroupName", default=group),
    )


def gates() -> tuple[Parameter, ...]:
    """What every gate asks: the lower end of each class's recall, and the seed of it all."""
    return (
        Parameter(name="GateRecall", default=0.5, least=0),
        Parameter(name="Seed", default=42, least=0),
    )
