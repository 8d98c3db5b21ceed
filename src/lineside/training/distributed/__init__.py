"""The same jobs on a Ray cluster: data-parallel training, search, batch scoring.

Main names: ``train_on``, ``search_on``, ``score_on``, ``Cluster``. Not here: what is trained,
searched or scored. Data is read from blobs by every worker; no disk is shared.
"""

from lineside.training.distributed.cluster import (
    Cluster,
    ScoredFrame,
    ScoreJob,
    score_here,
    score_on,
    search_on,
    train_on,
)

__all__ = [
    "Cluster",
    "ScoreJob",
    "ScoredFrame",
    "score_here",
    "score_on",
    "search_on",
    "train_on",
]
