"""Which figures a task has."""

import importlib

from lineside.core import InvalidError
from lineside.training.measures.contract import Measure

_MEASURES = {
    "classify": "lineside.training.measures.classes",
    "detect": "lineside.training.measures.objects",
    "count": "lineside.training.measures.counts",
    "segment": "lineside.training.measures.masks",
    "anomaly": "lineside.training.measures.anomaly",
}


def measure_for(task: str) -> Measure:
    """The figures of a task; ``InvalidError`` for an unknown one."""
    if task not in _MEASURES:
        raise InvalidError(f"no task {task!r}", fix=f"Known: {', '.join(_MEASURES)}.")
    found: Measure = importlib.import_module(_MEASURES[task]).measure
    return found
