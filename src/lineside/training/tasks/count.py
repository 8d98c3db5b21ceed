"""Count objects: found ones where points or boxes are marked, else from the numbers alone."""

from dataclasses import replace

from lineside.core import InvalidError
from lineside.training.job import TrainJob
from lineside.training.objects.parts import marked_samples, train_objects
from lineside.training.objects.reach import count_rule, no_interval
from lineside.training.tasks.contract import Trained, Work
from lineside.training.tasks.detect import trained_of

_FOLDER = "count"


def learn(job: TrainJob, work: Work) -> Trained:
    """Learn a count; see ``Learner``."""
    marked, _ = marked_samples(work.training, template=False)
    if any(sample.marked for sample in marked):
        return _found(job, work)
    if any(sample.count is not None for sample in work.training):
        from lineside.training.objects.numbers import learn_numbers

        return learn_numbers(job, work)
    raise InvalidError(
        "no picture says how many objects it shows",
        where="data",
        fix="Mark objects with points or boxes, or give a count per picture.",
    )


def _found(job: TrainJob, work: Work) -> Trained:
    labels = job.inspection.labels
    made = train_objects(job, work, folder=_FOLDER, labels=labels, folded=True)
    rule = count_rule(
        made.learned.held,
        rule=made.rule,
        labels=labels,
        most=made.most,
        policy=job.inspection.policy,
    )
    told = () if rule.promises else (no_interval(rule),)
    return replace(trained_of(made), count=rule, warnings=(*made.warnings, *told))
