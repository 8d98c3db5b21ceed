"""Which learner a task has, and which settings it takes."""

import importlib
from collections.abc import Iterable, Mapping

from lineside.core import InvalidError, Task
from lineside.training.tasks.contract import Learner

_LEARNERS = {
    Task.CLASSIFY: "lineside.training.tasks.classify",
    Task.DETECT: "lineside.training.tasks.detect",
    Task.COUNT: "lineside.training.tasks.count",
    Task.SEGMENT: "lineside.training.tasks.segment",
    Task.ANOMALY: "lineside.training.tasks.anomaly",
}

# Their meaning stands in docs/reference/tasks.md.
SETTINGS: Mapping[Task, tuple[str, ...]] = {
    Task.MULTILABEL: (),
    Task.CLASSIFY: (
        "batch_size",
        "class_conditional",
        "epochs",
        "input_px",
        "learning_rate",
        "tune",
    ),
    Task.DETECT: ("batch_size", "epochs", "learning_rate", "steps"),
    Task.COUNT: ("batch_size", "epochs", "learning_rate", "steps"),
    Task.SEGMENT: (
        *("batch_size", "bf16", "epochs", "learning_rate", "patience", "side_px", "steps"),
        *("weight_decay", "zoom"),
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
    """The learner of a task; multilabel is learned by ``lineside.training.regions``."""
    found: Learner = importlib.import_module(_LEARNERS[task]).learn
    return found
