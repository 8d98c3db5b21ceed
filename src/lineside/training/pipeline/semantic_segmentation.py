"""Pipeline: which pixels are defect, from ``images/`` and ``masks/``.

Run it by ``lineside pipeline run -n lineside.training.pipeline.semantic_segmentation``.
"""

from collections.abc import Mapping

from lineside.core import Task
from lineside.training.pipeline.definition import (
    Parameter,
    Pipeline,
    Role,
    Step,
    machines,
    quality_parameters,
    registration,
)

NAME = "defect-detection-semantic-segmentation-pipeline"
PREFIX = "defect-detection-semantic-segmentation"


def get_pipeline(
    *,
    region: str = "",
    role: str | None = None,
    default_bucket: str | None = None,
    pipeline_name: str = NAME,
    base_job_prefix: str = PREFIX,
    parameters: Mapping[str, object] | None = None,
) -> Pipeline:
    """The pipeline.

    Args:
        region: taken for the sake of callers that hand it in; nothing depends on it.
        role: likewise.
        default_bucket: likewise.
        pipeline_name: names its run records.
        base_job_prefix: names the package.
        parameters: values over the defaults.
    """
    del region, role, default_bucket
    made = Pipeline(
        name=pipeline_name,
        base_job_prefix=base_job_prefix,
        task=Task.SEGMENT,
        parameters=(
            *machines(training="ml.c5.xlarge"),
            Parameter(name="TargetImageSize", default=0, least=0),
            Parameter(name="TrainingEpochs", default=100, least=1),
            Parameter(name="InputData", default=""),
            *registration(group="defect-detection-semantic-segmentation-model-group"),
            *quality_parameters(),
            Parameter(name="GatePixelF1", default=0.3, least=0),
        ),
        steps=(
            Step(name="DefectDetectionPreprocessing", role=Role.PREPARE, parameters=("InputData",)),
            Step(
                name="DefectDetectionSemanticSegmentationTrain",
                role=Role.TRAIN,
                parameters=("TargetImageSize", "TrainingEpochs", "Seed"),
            ),
            Step(name="DefectDetectionSemanticSegmentationEvaluation", role=Role.EVALUATE),
            Step(
                name="DefectDetectionSemanticSegmentationCondition",
                role=Role.GATE,
                parameters=("GateRecall", "GatePixelF1"),
            ),
            Step(
                name="DefectDetectionSemanticSegmentationRegister",
                role=Role.REGISTER,
                parameters=("ModelPackageGroupName", "ModelApprovalStatus"),
            ),
        ),
    )
    return made.with_values(parameters or {})
