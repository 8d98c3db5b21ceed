"""Which learner a task has."""

import importlib

from lineside.core import Task
from lineside.training.tasks.contract import Learner

_LEARNERS = {
    Task.CLASSIFY: "lineside.training.tasks.classify",
    Task.DETECT: "lineside.training.tasks.detect",
    Task.COUNT: "lineside.training.tasks.count",
    Task.SEGMENT: "lineside.training.tasks.segment",
    Task.ANOMALY: "lineside.training.tasks.anomaly",
}


def learner_for(task: Task) -> Learner:
    """The learner of a task; multilabel is learned by ``lineside.training.regions``."""
    found: Learner = importlib.import_module(_LEARNERS[task]).learn
    return found
