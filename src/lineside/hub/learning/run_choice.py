"""What a run learns: an inspection of the plant file, or the whole picture of a dataset.

1. A named inspection is learned as the plant file declares it; a task asked for as well must be its
   task.
2. Without a name, the only inspection of the task asked for (of any, if none is asked for).
3. With a task that no inspection has, the whole picture of the dataset is judged by the defaults;
   the names of ``multilabel`` and ``classify`` are then the version's labels.
"""

from lineside.core import Inspection, InvalidError, Plant, Task
from lineside.datasets import DatasetVersion

_NAMED = (Task.MULTILABEL, Task.CLASSIFY)


def inspection_for(
    plant: Plant, version: DatasetVersion, *, inspection: str, task: str
) -> Inspection:
    """What to learn from that version.

    Raises:
        InvalidError: no such task or inspection, several that could be meant, or no labels.
    """
    asked = _task(task)
    if inspection:
        found = plant.find_inspection(inspection)
        if asked is not None and found.task is not asked:
            raise InvalidError(
                f"inspection {found.id} is of task {found.task}",
                where="task",
                fix=f"Write {found.task}, or leave the task out.",
            )
        return found
    fitting = [one for one in plant.inspection if asked is None or one.task is asked]
    if len(fitting) == 1:
        return fitting[0]
    if fitting or asked is None:
        known = ", ".join(one.id for one in plant.inspection)
        raise InvalidError(
            "no inspection named", where="inspection", fix=f"Known: {known}." if known else ""
        )
    return _whole_picture(version, asked)


def _task(word: str) -> Task | None:
    try:
        return Task(word) if word else None
    except ValueError:
        known = ", ".join(str(task) for task in Task)
        raise InvalidError(f"no task {word!r}", where="task", fix=f"Known: {known}.") from None


def _whole_picture(version: DatasetVersion, task: Task) -> Inspection:
    labels: tuple[str, ...] = ()
    if task in _NAMED:
        labels = tuple(sorted({name for sample in version.samples for name in sample.labels}))
        if not labels:
            raise InvalidError(
                f"no picture of {version.name}/{version.number} has a label",
                where="dataset",
                fix="Label some, or choose another task.",
            )
    return Inspection(id=version.name, camera="", task=task, labels=labels)
