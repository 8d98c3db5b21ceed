"""Learning from labelled pictures: jobs, heads on frozen features, calibration, export, evaluation.

Main names: ``TrainJob`` and ``run_job``; ``Progress``, ``TrainResult``, ``JobCancelledError``;
``write_job``, ``read_job`` and ``read_result`` for the job folder; ``evaluate``.
Not here: serving and deciding (models, vision), state outside a job folder, the command line.
"""

from lineside.training.evaluate import (
    Confusion,
    Evaluation,
    TrainingEvidence,
    evaluate,
    training_evidence,
)
from lineside.training.job import (
    JobCancelledError,
    Progress,
    TrainJob,
    TrainResult,
    read_job,
    read_result,
    write_job,
)
from lineside.training.report import Report
from lineside.training.run import run_job

__all__ = [
    "Confusion",
    "Evaluation",
    "JobCancelledError",
    "Progress",
    "Report",
    "TrainJob",
    "TrainResult",
    "TrainingEvidence",
    "evaluate",
    "read_job",
    "read_result",
    "run_job",
    "training_evidence",
    "write_job",
]
