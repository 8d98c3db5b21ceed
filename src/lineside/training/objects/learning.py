"""Learn objects: fits that hold pictures out, then one on all, and the rules between them.

1. Few pictures are held out in folds by group, so that each is judged by a network that had not
   seen it; with many, one part is enough.
2. The network of the package is fitted to all pictures where there are few. Where a small part of
   many was held out, it is hardly missed, and the fit that was judged is taken as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lineside.core import InvalidError
from lineside.datasets import Sample
from lineside.training.job import TrainJob
from lineside.training.objects.fitting import BATCH, RATE, Lesson, fit
from lineside.training.objects.held_out import HeldOut, judge_held_out
from lineside.training.objects.loop import Course, LoopPlan
from lineside.training.objects.network import CentreNetwork
from lineside.training.objects.rounds import (
    MANY,
    Far,
    Round,
    fitted_again,
    rounds,
    steps_asked,
)
from lineside.training.objects.scene import Scenes
from lineside.training.parallel import Parallel
from lineside.training.steps import Steps

_STEPS, _STEPS_A_LABEL, _MOST_STEPS = 300, 50, 650
_FOLD_SHARE = 0.6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned:
    """What came of it.

    Attributes:
        held: every picture that was held out once.
        history: of all fits, per hundred steps.
    """

    network: CentreNetwork
    held: tuple[HeldOut, ...]
    history: tuple[dict[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setting:
    """What all fits of a job share.

    Attributes:
        folder: for checkpoints.
        job: for seed and settings: ``steps`` (of the package's fit; those of a fold are three
            fifths), ``learning_rate``, ``batch_size``.
        folded: whether every picture of a small set is to be held out once, as intervals need.
    """

    scenes: Scenes
    folder: Path
    job: TrainJob
    steps: Steps
    parallel: Parallel
    folded: bool


def learn_objects(samples: Sequence[Sample], setting: Setting) -> Learned:
    """A network and what networks say of pictures they had not seen.

    Raises:
        InvalidError: no object on any picture.
        JobCancelledError: stopped as asked.
    """
    if not any(len(setting.scenes.scene(sample).label) for sample in samples):
        raise InvalidError(
            "no object of these labels is marked on any training picture",
            where="data",
            fix=f"Mark {', '.join(setting.scenes.labels) or 'objects'} with boxes or points.",
        )
    planned = rounds(samples, seed=setting.job.seed, folded=setting.folded)
    again = fitted_again(planned, pictures=len(samples))
    usual = min(_MOST_STEPS, _STEPS + _STEPS_A_LABEL * len(setting.scenes.labels))
    batch = _batch(setting)
    whole = steps_asked(setting.job, usual=usual, batch=batch, pictures=len(samples))
    part = max(1, round(whole * _FOLD_SHARE)) if again else whole
    far = Far(steps=setting.steps, total=len(planned) * part + again * whole)
    held: list[HeldOut] = []
    found = None
    for place, each in enumerate(planned):
        found = _fit(each, setting, seed=place + 1, steps=part, far=far)
        held += judge_held_out(found, each.judge, scenes=setting.scenes)
    if again or found is None:
        everything = Round(name="all", learn=tuple(samples), judge=())
        found = _fit(everything, setting, seed=0, steps=whole, far=far)
    return Learned(network=found, held=tuple(held), history=far.history)


def _batch(setting: Setting) -> int:
    return max(1, round(setting.job.setting("batch_size", BATCH)))


def _fit(each: Round, setting: Setting, *, seed: int, steps: int, far: Far) -> CentreNetwork:
    plan = LoopPlan(
        name=each.name,
        seed=setting.job.seed * 1000 + seed,
        steps=steps,
        rate=setting.job.setting("learning_rate", RATE),
        batch=_batch(setting),
        best=each.name == "part" and len(each.learn) + len(each.judge) >= MANY,
    )
    course = Course(
        folder=setting.folder,
        told=lambda done, loss: far.at(done, loss, stage=each.stage),
        epoch=far.epoch,
        parallel=setting.parallel,
    )
    lesson = Lesson(scenes=setting.scenes, learn=each.learn, watch=each.judge)
    network, history = fit(plan, lesson, course=course)
    far.ended(history, steps=steps)
    return network
