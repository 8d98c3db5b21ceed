"""Pipeline: good pictures against anomalous ones, from ``normal/`` and ``anomalous/``.

Run it by ``lineside pipeline run -n lineside.training.pipeline.image_classification``.
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

NAME = "defect-detection-img-classification-pipeline"
PREFIX = "defect-detection-img-classification"


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
        task=Task.CLASSIFY,
        parameters=(
            *machines(training="ml.p3.2xlarge"),
            Parameter(name="TargetImageSize", default=224, least=32),
            Parameter(name="AugmentCountNormal", default=0, least=0),
            Parameter(name="AugmentCountAnomalous", default=0, least=0),
            Parameter(name="TrainingNumTrainingSamples", default=3600, least=0),
            Parameter(name="TrainingEpochs", default=15, least=1),
            Parameter(name="InputData", default=""),
            *registration(group="defect-detection-img-classification-model-group"),
            *quality_parameters(),
            Parameter(name="GateBalancedAccuracy", default=0.8, least=0),
        ),
        steps=(
            Step(
                name="DefectDetectionPreprocessing",
                role=Role.PREPARE,
                parameters=("InputData", "AugmentCountNormal", "AugmentCountAnomalous"),
            ),
            Step(
                name="DefectDetectionImageClassificationTrain",
                role=Role.TRAIN,
                parameters=("TargetImageSize", "TrainingEpochs", "Seed"),
            ),
            Step(name="DefectDetectionEvaluation", role=Role.EVALUATE),
            Step(
                name="DefectDetectionImageClassificationAccuracyCondition",
                role=Role.GATE,
                parameters=("GateRecall", "GateBalancedAccuracy"),
            ),
            Step(
                name="DefectDetectionImageClassificationRegister",
                role=Role.REGISTER,
                parameters=("ModelPackageGroupName", "ModelApprovalStatus"),
            ),
        ),
    )
    return made.with_values(parameters or {})
