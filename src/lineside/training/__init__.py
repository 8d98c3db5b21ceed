"""Learning from labelled pictures: jobs, learners of every task, packages, evaluation, pipelines.

Main names: ``TrainJob`` and ``run_job``; ``Progress``, ``TrainResult``, ``JobCancelledError``;
``write_job``, ``read_job`` and ``read_result`` for the job folder; ``evaluate``; ``TorchBackbone``
for a network of one's own.
Where things are, in the order of a training:

* ``run`` opens the data (``source``) and hands the training part to the learner of its task
  (``tasks/<task>/learn``); each task has its networks and its figures (``metrics``) beside it, and
  what several share stands in ``common/``. ``run`` builds the package, ``evaluation/`` measures it,
  ``report/`` writes the report.
* ``evaluation/`` measures a package later; ``pipeline/``, ``search/`` and ``distributed/`` call
  ``run_job``.

Not here: serving and deciding (models, vision), state outside a job folder, the command line.
"""

from lineside.training.common.torch_backbone import TorchBackbone
from lineside.training.distributed import (
    Cluster,
    ScoredFrame,
    ScoreJob,
    score_here,
    score_on,
    search_on,
    train_on,
)
from lineside.training.evaluation.compare import Machine, compare, unseen_of
from lineside.training.evaluation.evaluate import Evaluation, evaluate
from lineside.training.job import (
    JobCancelledError,
    Progress,
    TrainJob,
    TrainResult,
    read_job,
    read_result,
    write_job,
)
from lineside.training.pipeline import Pipeline, PipelineContext, RunRecord, run_pipeline
from lineside.training.report.mlflow import track
from lineside.training.run import run_job
from lineside.training.search import Bench, SearchResult, read_space, search
from lineside.training.source import Labelled, LabelledData, frozen_data, labels_of, open_labelled
from lineside.training.variants import Variant, VariantRequest, quantised_variant, together

__all__ = [
    "Bench",
    "Cluster",
    "Evaluation",
    "JobCancelledError",
    "Labelled",
    "LabelledData",
    "Machine",
    "Pipeline",
    "PipelineContext",
    "Progress",
    "RunRecord",
    "ScoreJob",
    "ScoredFrame",
    "SearchResult",
    "TorchBackbone",
    "TrainJob",
    "TrainResult",
    "Variant",
    "VariantRequest",
    "compare",
    "evaluate",
    "frozen_data",
    "labels_of",
    "open_labelled",
    "quantised_variant",
    "read_job",
    "read_result",
    "read_space",
    "run_job",
    "run_pipeline",
    "score_here",
    "score_on",
    "search",
    "search_on",
    "together",
    "track",
    "train_on",
    "unseen_of",
    "write_job",
]
