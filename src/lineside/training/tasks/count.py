"""Count objects: found ones where points or boxes are marked, else from the numbers alone."""

from dataclasses import replace

import numpy as np

from lineside.core import InvalidError
from lineside.datasets import Sample
from lineside.training.job import TrainJob
from lineside.training.objects.export import exported_numbers, golden_of, limits_of
from lineside.training.objects.numbers import (
    Numbered,
    NumberSetting,
    NumbersLearned,
    fit_numbers,
    most_of,
    number_rule,
)
from lineside.training.objects.parts import marked_samples, train_objects
from lineside.training.objects.reach import count_rule, no_interval
from lineside.training.tasks.contract import Trained, Work
from lineside.training.tasks.detect import trained_of
from lineside.vision import CountRule, picture_health

_FOLDER = "count"


def learn(job: TrainJob, work: Work) -> Trained:
    """Learn a count; see ``Learner``.

    Raises:
        InvalidError: no picture says how many objects it shows.
    """
    marked, _ = marked_samples(work.training, template=False)
    if any(sample.marked for sample in marked):
        return _found(job, work)
    counted = [sample for sample in work.training if sample.count is not None]
    if not counted:
        raise InvalidError(
            "no picture says how many objects it shows",
            where="data",
            fix="Mark objects with points or boxes, or give a count per picture.",
        )
    return _numbered(job, work, samples=counted)


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


def _numbered(job: TrainJob, work: Work, *, samples: list[Sample]) -> Trained:
    work.steps.at(2, "reading")
    counts = [sample.count or 0 for sample in samples]
    most = most_of(counts)
    numbered = Numbered(work, most=most)
    setting = NumberSetting(
        numbered=numbered,
        folder=work.folder / _FOLDER,
        job=job,
        steps=work.steps,
        parallel=work.parallel,
    )
    learned = fit_numbers(samples, setting)
    rule = number_rule(learned, most=most, policy=job.inspection.policy)
    golden = golden_of(samples, numbers=counts)
    network, worst = exported_numbers(learned.network, golden, numbered=numbered)
    return Trained(
        network=network,
        max_abs_diff=worst,
        prepare=numbered.settings,
        health=limits_of([picture_health(work.picture(sample)) for sample in samples]),
        golden=tuple(golden),
        labels=job.inspection.labels,
        count=rule,
        baseline={
            "median_count": float(np.median(counts)),
            "mean_count": float(np.mean(counts)),
        },
        warnings=_warnings(rule, counts=counts),
        held_out=_figures(learned),
        history=learned.history,
        sections={"numbers": {"largest taught": most, "largest seen": max(counts)}},
    )


def _warnings(rule: CountRule, *, counts: list[int]) -> tuple[str, ...]:
    told = []
    beyond = sum(count > rule.most for count in counts)
    if beyond:
        told.append(
            f"{beyond} pictures show more than {rule.most}; too few show each of those numbers, "
            "and they are told as more"
        )
    if not rule.promises:
        told.append(no_interval(rule))
    return tuple(told)


def _figures(learned: NumbersLearned) -> dict[str, float]:
    if not len(learned.truth):
        return {}
    off = np.abs(np.argmax(learned.logits, axis=1) - learned.truth)
    return {
        "exact": float(np.mean(off == 0)),
        "mae": float(np.mean(off)),
        "pictures": float(len(off)),
    }
