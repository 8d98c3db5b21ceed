"""Who is held out when, and how far several fits are together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lineside.datasets import Part, Sample, folds, split
from lineside.training.job import TrainJob
from lineside.training.steps import Steps

MANY = 300
"""From here on one held-out part is enough, and no fit on everything follows."""

_FOLDS = 3
_FOLD = "fold-"
_LEAST_HELD = 10
_SHARES = {Part.TRAIN: 0.85, Part.VALID: 0.15}
_SPARED = 60
_SPARED_SHARE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Pictures to learn from and pictures to be judged."""

    name: str
    learn: tuple[Sample, ...]
    judge: tuple[Sample, ...]

    @property
    def stage(self) -> str:
        """What a fit on it is called where progress is told; folds are counted from one."""
        if not self.name.startswith(_FOLD):
            return "fitting"
        return f"holding out part {int(self.name.removeprefix(_FOLD)) + 1} of {_FOLDS}"


def rounds(samples: Sequence[Sample], *, seed: int, folded: bool) -> list[Round]:
    """Folds of a small set where asked, else one part; none of a single group.

    The part is the one declared for it where that is large enough, else drawn by group.
    """
    if folded and len(samples) < MANY:
        place = folds(samples, count=_FOLDS, seed=seed)
        made = [
            Round(
                name=f"{_FOLD}{fold}",
                learn=tuple(s for s, p in zip(samples, place, strict=True) if p != fold),
                judge=tuple(s for s, p in zip(samples, place, strict=True) if p == fold),
            )
            for fold in sorted(set(place))
        ]
        return [each for each in made if each.learn and each.judge]
    declared = [sample for sample in samples if sample.split is Part.VALID]
    if len(declared) < _LEAST_HELD:
        bare = [replace(sample, split=Part.OPEN) for sample in samples]
        parts = split(bare, seed=seed, shares=_SHARES)
        chosen = {sample.digest for sample in parts.get(Part.VALID, ())}
        declared = [sample for sample in samples if sample.digest in chosen]
    seen = {sample.digest for sample in declared}
    learn = tuple(sample for sample in samples if sample.digest not in seen)
    if not learn or not declared:
        return []
    return [Round(name="part", learn=learn, judge=tuple(declared))]


def fitted_again(planned: Sequence[Round], *, pictures: int) -> bool:
    """Whether a fit on everything follows: not where one part was held out and is hardly missed."""
    if len(planned) != 1:
        return True
    held = len(planned[0].judge)
    return pictures < MANY and (pictures < _SPARED or held > _SPARED_SHARE * pictures)


def steps_asked(job: TrainJob, *, usual: int, batch: int, pictures: int) -> int:
    """Steps of the package's own fit: as many as are asked for, else as turns of all pictures need.

    Args:
        job: with the settings ``steps`` and ``epochs``; the first one rules.
        usual: where neither is set.
        batch: pictures, or crops of them, per step.
        pictures: learned from.
    """
    turns = job.setting("epochs", 0)
    asked = turns * pictures / batch if turns else usual
    return max(1, round(job.setting("steps", asked)))


@dataclass(slots=True, kw_only=True)
class Far:
    """Turns steps of several fits into one percentage, and their epochs into one row."""

    steps: Steps
    total: int
    before: int = 0
    history: tuple[dict[str, float], ...] = ()

    def at(self, done: int, loss: float, *, stage: str) -> None:
        """Say how far the fit under way is."""
        self.steps.loss = loss
        self.steps.at(3 + 85 * min(1.0, (self.before + done) / self.total), stage)

    def epoch(self, figures: Mapping[str, float]) -> None:
        """Tell what a hundred steps of the fit under way came to."""
        told = {name: value for name, value in figures.items() if name != "epoch"}
        self.steps.epoch(len(self.history) + int(figures["epoch"]), **told)

    def ended(self, history: Sequence[Mapping[str, float]], *, steps: int) -> None:
        """A fit has ended, or had ended before the job was stopped."""
        before = len(self.history)
        rows = tuple({**row, "epoch": before + row["epoch"]} for row in history)
        self.history, self.before = (*self.history, *rows), self.before + steps
