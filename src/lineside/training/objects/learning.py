"""Learn objects: fits that hold pictures out, then one on all, and the rules between them.

1. Few pictures are held out in folds by group, so that each is judged by a network that had not
   seen it; with many, one part is enough.
2. The network of the package is fitted to all pictures where there are few. With many, a part less
   makes no difference, and the fit that was judged is taken as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lineside.core import InvalidError
from lineside.datasets import Part, Sample, folds, split
from lineside.training.job import TrainJob
from lineside.training.objects.fitting import BATCH, RATE, FitPlan, History, Lesson, fit
from lineside.training.objects.held_out import HeldOut, judge_held_out
from lineside.training.objects.network import CentreNetwork
from lineside.training.objects.scene import Scenes
from lineside.training.parallel import Parallel
from lineside.training.steps import Steps

_STEPS = 400
_FOLD_SHARE = 0.75
_MANY = 300
_FOLDS = 3
_LEAST_HELD = 10
_SHARES = {Part.TRAIN: 0.8, Part.VALID: 0.2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Pictures to learn from and pictures to be judged."""

    name: str
    learn: tuple[Sample, ...]
    judge: tuple[Sample, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned:
    """What came of it.

    Attributes:
        held: every picture that was held out once.
        history: per hundred steps of the package's network.
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
            quarters), ``learning_rate``, ``batch_size``.
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
    again = len(samples) < _MANY or not planned
    whole = max(1, round(setting.job.setting("steps", _STEPS)))
    part = max(1, round(whole * _FOLD_SHARE)) if again else whole
    far = _Far(steps=setting.steps, total=len(planned) * part + again * whole)
    held: list[HeldOut] = []
    found = None
    for place, each in enumerate(planned):
        found = _fit(each, setting, seed=place + 1, steps=part, far=far)
        held += judge_held_out(found[0], each.judge, scenes=setting.scenes)
    if again or found is None:
        everything = Round(name="all", learn=tuple(samples), judge=())
        found = _fit(everything, setting, seed=0, steps=whole, far=far)
    return Learned(network=found[0], held=tuple(held), history=far.history)


def rounds(samples: Sequence[Sample], *, seed: int, folded: bool) -> list[Round]:
    """Who is held out when: folds of a small set, else one part; none of a single picture."""
    if folded and len(samples) < _MANY:
        place = folds(samples, count=_FOLDS, seed=seed)
        made = [
            Round(
                name=f"fold-{fold}",
                learn=tuple(s for s, p in zip(samples, place, strict=True) if p != fold),
                judge=tuple(s for s, p in zip(samples, place, strict=True) if p == fold),
            )
            for fold in sorted(set(place))
        ]
        return [each for each in made if each.learn and each.judge]
    declared = [sample for sample in samples if sample.split is Part.VALID]
    if len(declared) < _LEAST_HELD:
        bare = [_open(sample) for sample in samples]
        parts = split(bare, seed=seed, shares=_SHARES)
        chosen = {sample.digest for sample in parts.get(Part.VALID, ())}
        declared = [sample for sample in samples if sample.digest in chosen]
    seen = {sample.digest for sample in declared}
    learn = tuple(sample for sample in samples if sample.digest not in seen)
    if not learn or not declared:
        return []
    return [Round(name="part", learn=learn, judge=tuple(declared))]


def _open(sample: Sample) -> Sample:
    return replace(sample, split=Part.OPEN)


@dataclass(slots=True, kw_only=True)
class _Far:
    """Turns steps of several fits into one percentage, and their epochs into one row."""

    steps: Steps
    total: int
    before: int = 0
    history: tuple[dict[str, float], ...] = ()

    def at(self, done: int, loss: float, *, stage: str) -> None:
        self.steps.loss = loss
        self.steps.at(3 + 85 * min(1.0, (self.before + done) / self.total), stage)

    def epoch(self, figures: dict[str, float]) -> None:
        number = len(self.history)
        self.history = (*self.history, {**figures, "epoch": float(number)})
        told = {name: value for name, value in figures.items() if name != "epoch"}
        self.steps.epoch(number, **told)


def _fit(
    each: Round, setting: Setting, *, seed: int, steps: int, far: _Far
) -> tuple[CentreNetwork, History]:
    plan = FitPlan(
        name=each.name,
        seed=setting.job.seed * 1000 + seed,
        steps=steps,
        labels=len(setting.scenes.labels),
        template=setting.scenes.template,
        rate=setting.job.setting("learning_rate", RATE),
        batch=max(1, round(setting.job.setting("batch_size", BATCH))),
        best=each.name == "part" and len(each.learn) >= _MANY,
    )
    stage = "fitting" if each.name in ("all", "part") else f"holding out {each.name}"
    lesson = Lesson(
        scenes=setting.scenes,
        learn=each.learn,
        watch=each.judge,
        folder=setting.folder,
        told=lambda done, loss: far.at(done, loss, stage=stage),
        epoch=far.epoch,
        parallel=setting.parallel,
    )
    found = fit(plan, lesson)
    far.before += steps
    return found
