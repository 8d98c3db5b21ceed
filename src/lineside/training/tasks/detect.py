"""Find objects or defects of several labels, alone or beside a picture of how it should look."""

from lineside.training.job import TrainJob
from lineside.training.objects.parts import ObjectsTrained, train_objects
from lineside.training.tasks.contract import Trained, Work

_FOLDER = "detect"


def learn(job: TrainJob, work: Work) -> Trained:
    """Learn boxes; see ``Learner``."""
    made = train_objects(job, work, folder=_FOLDER, labels=job.inspection.labels, folded=False)
    return trained_of(made)


def trained_of(made: ObjectsTrained) -> Trained:
    """What a package of found objects needs, but the rule of a count."""
    return Trained(
        network=made.network,
        max_abs_diff=made.max_abs_diff,
        prepare=made.prepare,
        health=made.health,
        golden=made.golden,
        labels=made.rule.labels,
        detect=made.rule,
        template=made.template,
        baseline=made.baseline,
        warnings=made.warnings,
        held_out=made.figures,
        history=made.learned.history,
        sections=made.sections,
    )
