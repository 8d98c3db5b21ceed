"""Pipelines: prepare, train, evaluate, gate, register, with cached steps and a record of each run.

Main names: ``Pipeline``, ``run_pipeline``, ``check_quality``; ``image_classification`` and
``semantic_segmentation`` are pipelines ready to run. Not here: learning itself
(``lineside.training.tasks``), the registry (models).
"""

from lineside.training.pipeline.definition import (
    Check,
    Limits,
    Parameter,
    Pipeline,
    QualityResult,
    Role,
    Step,
    check_quality,
)
from lineside.training.pipeline.running import (
    Outcome,
    PipelineContext,
    RunRecord,
    StepRecord,
    run_pipeline,
)

__all__ = [
    "Check",
    "Limits",
    "Outcome",
    "Parameter",
    "Pipeline",
    "PipelineContext",
    "QualityResult",
    "Role",
    "RunRecord",
    "Step",
    "StepRecord",
    "check_quality",
    "run_pipeline",
]
