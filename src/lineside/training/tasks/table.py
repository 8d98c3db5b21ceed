"""Learner, settings and evaluator of each task."""

import importlib
from collections.abc import Iterable, Mapping

from lineside.core import InvalidError, Task
from lineside.training.tasks.contract import Learner
from lineside.training.tasks.metrics import Evaluator

_LEARNERS = {
    Task.MULTILABEL: "lineside.training.tasks.multilabel.learn",
    Task.CLASSIFY: "lineside.training.tasks.classify.learn",
    Task.DETECT: "lineside.training.tasks.detect.learn",
    Task.COUNT: "lineside.training.tasks.count.learn",
    Task.SEGMENT: "lineside.training.tasks.segment.learn",
    Task.ANOMALY: "lineside.training.tasks.anomaly.learn",
}

# Their meaning stands in docs/reference/tasks.md.
SETTINGS: Mapping[Task, tuple[str, ...]] = {
    Task.MULTILABEL: (),
    Task.CLASSIFY: (
        "batch_size",
        "class_conditional",
        "epochs",
        "input_px",
        "input_scale",
        "learning_rate",
        "tune",
    ),
    Task.DETECT: ("batch_size", "epochs", "learning_rate", "steps"),
    Task.COUNT: ("batch_size", "epochs", "learning_rate", "steps"),
    Task.SEGMENT: (
        *("batch_size", "bf16", "epochs", "input_px", "input_scale", "learning_rate", "patience"),
        *("side_px", "steps", "weight_decay", "zoom"),
    ),
    Task.ANOMALY: (),
}


def check_settings(settings: Iterable[str], task: Task) -> None:
    """Refuse names that a task's learner would pass over.

    Raises:
        InvalidError: one of them is no setting of this learner.
    """
    known = SETTINGS[task]
    for name in settings:
        if name not in known:
            raise InvalidError(
                f"the task {task} has no setting {name!r}",
                where="settings",
                fix=f"Known: {', '.join(known)}." if known else "Leave it out: it has none.",
            )


def learner_for(task: Task) -> Learner:
    """Return the learner of a task."""
    found: Learner = importlib.import_module(_LEARNERS[task]).learn
    return found


_MEASURES = {
    "multilabel": "lineside.training.tasks.multilabel.metrics",
    "classify": "lineside.training.tasks.classify.metrics",
    "detect": "lineside.training.tasks.detect.metrics",
    "count": "lineside.training.tasks.count.metrics",
    "segment": "lineside.training.tasks.segment.metrics",
    "anomaly": "lineside.training.tasks.anomaly.metrics",
}


def evaluator_for(task: str) -> Evaluator:
    """The figures of a task; ``InvalidError`` for an unknown one."""
    if task not in _MEASURES:
        raise InvalidError(f"no task {task!r}", fix=f"Known: {', '.join(_MEASURES)}.")
    found: Evaluator = importlib.import_module(_MEASURES[task]).measure
    return found
