"""Hyper-parameter search: one space file, run here by Optuna or on a cluster by Ray Tune.

Main names: ``Space``, ``read_space``, ``search``, ``SearchResult``. Not here: training itself.
"""

from lineside.training.search.study import (
    Bench,
    Parameter,
    SearchResult,
    Space,
    TrialRecord,
    read_space,
    search,
)

__all__ = ["Bench", "Parameter", "SearchResult", "Space", "TrialRecord", "read_space", "search"]
