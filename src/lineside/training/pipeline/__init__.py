"""Pipelines: prepare, train, evaluate, gate, register, with cached steps and a record of each run.

Main names: ``Pipeline``, ``run_pipeline``, ``check_gate``; ``image_classification`` and
``semantic_segmentation`` are pipelines ready to run. Not here: learning itself
(``lineside.training.tasks``), the registry (models).
"""

from lineside.training.pipeline.definition import (
    Check,
    Gate,
    Limits,
    Parameter,
    Pipeline,
    Role,
    Step,
    check_gate,
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
    "Gate",
    "Limits",
    "Outcome",
    "Parameter",
    "Pipeline",
    "PipelineContext",
    "Role",
    "RunRecord",
    "Step",
    "StepRecord",
    "check_gate",
    "run_pipeline",
]
