"""The same jobs on a Ray cluster: data-parallel training, search, batch scoring.

Main names: ``train_on``, ``search_on``, ``score_on``, ``Cluster``. Not here: what is trained,
searched or scored. Data is read from blobs by every worker; no disk is shared.
"""

from lineside.training.distributed.cluster import Cluster
from lineside.training.distributed.score import ScoredFrame, ScoreJob, score_here, score_on
from lineside.training.distributed.train import train_on
from lineside.training.distributed.tune import search_on

__all__ = [
    "Cluster",
    "ScoreJob",
    "ScoredFrame",
    "score_here",
    "score_on",
    "search_on",
    "train_on",
]
