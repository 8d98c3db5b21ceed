"""Gradient descent that can be stopped at any step and goes on as if it had not been.

A step depends on job, pictures and its own number alone. After each hundred steps the loss on
held-out pictures is looked at and everything is kept in one file.

On a GPU the network alone is moved (``Parallel.move_network``). Its input comes from the CPU, and
its output goes back there, so that losses, checkpoints and all that follows know one device.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.core import UnavailableError
from lineside.datasets import Part, Sample
from lineside.datasets.splitting import folds, split
from lineside.training.job import Steps, TrainJob, load_arrays, save_arrays

EPOCH = 100
"""Steps between checkpoints and looks at held-out pictures."""

_TRUNK = "trunk."
_TRUNK_SHARE = 0.25  # of the learning rate: the trunk knows pictures already
_DECAY = 1e-2
_WARM = 0.15
_SAY_EVERY = 10
_LARGEST_STEP = 5.0

T = TypeVar("T")
Tell = Callable[[int, float], None]
History = tuple[dict[str, float], ...]
Arrays = dict[str, NDArray[np.generic]]


CPU = torch.device("cpu")


def _moved(tensors: Tensor | tuple[Tensor, ...], device: torch.device) -> Any:  # noqa: ANN401  of the same kind
    if isinstance(tensors, tuple):
        return tuple(each.to(device) for each in tensors)
    return tensors.to(device)


class Parallel:
    """One process alone; the shape of ``ProcessGroup`` without it.

    Attributes:
        device: that its networks learn on.
        used: whether a network was on that device, and it is not the CPU.
    """

    rank = 0
    size = 1

    def __init__(self, device: torch.device = CPU) -> None:
        self.device, self.used = device, False

    @contextmanager
    def move_network(self, network: nn.Module) -> Iterator[None]:
        """Move a network to the device and back; meanwhile it takes and gives tensors of the CPU.

        Raises:
            UnavailableError: the device has too little memory; it may have more later.
        """
        if self.device == CPU:
            yield
            return
        self.used = True
        hooks = [
            network.register_forward_pre_hook(lambda _, given: _moved(given, self.device)),
            network.register_forward_hook(lambda _, __, found: _moved(found, CPU)),
        ]
        try:
            network.to(self.device)
            yield
        except torch.OutOfMemoryError as error:
            raise UnavailableError(
                f"the GPU has too little memory: {str(error)[:200]}",
                where="device",
                fix="Lower --setting batch_size, end what else uses it, or train on the CPU.",
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
            network.to(CPU)

    def share(self, batch: Sequence[T]) -> list[T]:
        """This process's part of a batch; possibly empty."""
        return list(batch)

    def average(self, parameters: Iterable[nn.Parameter], *, own: int, batch: int) -> None:
        """Make every gradient that of the whole batch.

        Args:
            parameters: after ``backward`` of the mean loss over this process's share.
            own: how many items that share had.
            batch: how many the whole batch had.
        """


class ProcessGroup(Parallel):
    """One of several processes of a ``torch.distributed`` group that stands already."""

    def __init__(self) -> None:
        super().__init__()
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()

    def share(self, batch: Sequence[T]) -> list[T]:
        return list(batch[self.rank :: self.size])

    def average(self, parameters: Iterable[nn.Parameter], *, own: int, batch: int) -> None:
        wanting = [one for one in parameters if one.requires_grad]
        flat = torch.cat([_gradient(one).reshape(-1) for one in wanting]) * (own / batch)
        torch.distributed.all_reduce(flat)
        start = 0
        for one in wanting:
            one.grad = flat[start : start + one.numel()].reshape(one.shape).clone()
            start += one.numel()


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    """Zero where the share was empty."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopPlan:
    """One descent.

    Attributes:
        name: of its checkpoint.
        seed: everything random follows from it.
        steps: of gradient descent.
        rate: learning rate of new layers at its height; the trunk's is a quarter of it.
        batch: pictures or crops a step.
        best: whether the weights of the least loss on watched pictures are kept, not the last.
    """

    name: str
    seed: int
    steps: int
    rate: float
    batch: int
    best: bool = False


class Student(Protocol):
    """Network that is taught."""

    @property
    def network(self) -> nn.Module:
        """In training or evaluation mode as the loop says; its part ``trunk`` was published."""
        ...

    def loss(self, step: int, *, parallel: Parallel) -> tuple[Tensor | None, int]:
        """Mean loss over this process's share of a step, None for an empty share; its size."""
        ...

    def watched(self) -> float | None:
        """The loss on held-out pictures; None where there are none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """Where a descent is kept and who is told.

    Attributes:
        folder: for checkpoints.
        tell: called with step and loss; may raise to stop.
        epoch: called after each hundred steps with what was watched; may raise to stop.
        parallel: this process's share.
    """

    folder: Path
    tell: Tell
    epoch: Callable[[dict[str, float]], None]
    parallel: Parallel


@dataclass(slots=True, kw_only=True, eq=False)
class _Run:
    """A pupil on its way."""

    student: Student
    optimiser: torch.optim.AdamW
    done: int = 0
    losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    best: Arrays = field(default_factory=dict)


def descend(student: Student, plan: LoopPlan, *, course: Course) -> History:
    """Teach the pupil; returns what each hundred steps came to."""
    run = _begun(student, plan)
    path = course.folder / f"{plan.name}.npz"
    with course.parallel.move_network(student.network):
        _restore(run, path)
        student.network.train()
        while run.done < plan.steps:
            run.losses.append(_step(run, plan, parallel=course.parallel))
            run.done += 1
            ended = run.done == plan.steps
            if run.done % EPOCH == 0 or ended:
                _look(run, best=plan.best)
                _keep(run, path)
                course.epoch(_history(run)[-1])
            if run.done % _SAY_EVERY == 0 or ended:
                course.tell(run.done, float(np.mean(run.losses[-_SAY_EVERY:])))
    if plan.best and run.best:
        load_weights(student.network, run.best)
    student.network.eval()
    return _history(run)


def drawn(pictures: int, *, plan: LoopPlan, step: int) -> list[int]:
    """Pictures of a step: all in turn, in an order that changes with each turn."""
    found = []
    for number in range(step * plan.batch, (step + 1) * plan.batch):
        turn, place = divmod(number, pictures)
        found.append(int(np.random.default_rng([plan.seed, 2, turn]).permutation(pictures)[place]))
    return found


def _begun(student: Student, plan: LoopPlan) -> _Run:
    optimiser = torch.optim.AdamW(
        [
            {"params": learned, "top": rate}
            for learned, rate in zip(
                _learned(student.network), (plan.rate * _TRUNK_SHARE, plan.rate), strict=True
            )
        ],
        weight_decay=_DECAY,
    )
    return _Run(student=student, optimiser=optimiser)


def _learned(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Weights of the trunk that are learned, and new ones."""
    named = list(network.named_parameters())
    return (
        [one for name, one in named if name.startswith(_TRUNK) and one.requires_grad],
        [one for name, one in named if not name.startswith(_TRUNK)],
    )


def _step(run: _Run, plan: LoopPlan, *, parallel: Parallel) -> float:
    for group in run.optimiser.param_groups:
        done = run.done / plan.steps
        group["lr"] = group["top"] * one_cycle(done, warm_up=_WARM, first=0.1, last=1e-3)
    run.optimiser.zero_grad(set_to_none=True)
    loss, own = run.student.loss(run.done, parallel=parallel)
    if loss is not None:
        torch.autograd.backward(loss)
    learned = [one for group in _learned(run.student.network) for one in group]
    parallel.average(learned, own=own, batch=plan.batch)
    torch.nn.utils.clip_grad_norm_(learned, _LARGEST_STEP)
    run.optimiser.step()
    return 0.0 if loss is None else float(loss.detach())


def one_cycle(share: float, *, warm_up: float, first: float = 0.0, last: float = 0.0) -> float:
    """One cycle (Smith and Topin 2019): up along a line, down along half a cosine.

    Args:
        share: of the steps that are done.
        warm_up: share of the steps on which the rate rises.
        first: share of the highest rate at the first step.
        last: share of it that is added after the rise.
    """
    if share < warm_up:
        return first + (1 - first) * share / warm_up
    return 0.5 * (1 + math.cos(math.pi * (share - warm_up) / (1 - warm_up))) + last


def _look(run: _Run, *, best: bool) -> None:
    run.student.network.eval()
    with torch.inference_mode():
        observed = run.student.watched()
    run.student.network.train()
    if observed is None:
        return
    run.validation_losses.append(observed)
    if best and observed <= min(run.validation_losses):
        run.best = weights_of(run.student.network)


def _history(run: _Run) -> History:
    found = []
    for number, start in enumerate(range(0, run.done, EPOCH)):
        loss = float(np.mean(run.losses[start : start + EPOCH]))
        figures = {"epoch": float(number), "loss": loss}
        if number < len(run.validation_losses):
            figures["validation_loss"] = run.validation_losses[number]
        found.append(figures)
    return tuple(found)


def weights_of(network: nn.Module) -> Arrays:
    """A copy of every weight and buffer by name."""
    return {
        name: np.array(value.detach().cpu().contiguous().numpy())
        for name, value in network.state_dict().items()
    }


def load_weights(network: nn.Module, weights: Arrays) -> None:
    """Put such a copy into a network."""
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})


def _keep(run: _Run, path: Path) -> None:
    arrays: Arrays = {
        "done": np.array(run.done),
        "losses": np.array(run.losses, np.float64),
        "seen": np.array(run.validation_losses, np.float64),
    }
    arrays |= {f"w/{name}": value for name, value in weights_of(run.student.network).items()}
    arrays |= {f"b/{name}": value for name, value in run.best.items()}
    for place, state in run.optimiser.state_dict()["state"].items():
        for name, value in state.items():
            arrays[f"o/{place}/{name}"] = torch.as_tensor(value).cpu().contiguous().numpy()
    save_arrays(path, arrays)


def _restore(run: _Run, path: Path) -> None:
    """Go on from a checkpoint, where there is a whole one."""
    arrays = load_arrays(path)
    if arrays is None:
        return
    load_weights(run.student.network, under("w/", arrays))
    run.best = under("b/", arrays)
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in under("o/", arrays).items():
        place, _, key = name.partition("/")
        states.setdefault(int(place), {})[key] = torch.from_numpy(np.array(value))
    whole = run.optimiser.state_dict()
    run.optimiser.load_state_dict({"state": states, "param_groups": whole["param_groups"]})
    run.done = int(arrays["done"])
    run.losses, run.validation_losses = _floats(arrays["losses"]), _floats(arrays["seen"])


def _floats(values: NDArray[np.generic]) -> list[float]:
    return [float(value) for value in np.asarray(values, np.float64)]


def under(prefix: str, arrays: Arrays) -> Arrays:
    """Arrays whose names begin with a prefix of two letters, without it."""
    return {name[2:]: value for name, value in arrays.items() if name.startswith(prefix)}


MANY = 300
"""From here on one held-out part is enough, and no fit on everything follows."""

_FOLDS = 3
_FOLD = "fold-"
LEAST_HELD = 10
_SHARES = {Part.TRAIN: 0.85, Part.VALID: 0.15}


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Pictures to learn from and pictures to be judged."""

    name: str
    learn: tuple[Sample, ...]
    judge: tuple[Sample, ...]

    @property
    def stage(self) -> str:
        """Return the name of a fit for progress messages; folds are counted from one."""
        if not self.name.startswith(_FOLD):
            return "fitting"
        return f"holding out part {int(self.name.removeprefix(_FOLD)) + 1} of {_FOLDS}"


def rounds(samples: Sequence[Sample], *, seed: int) -> list[Round]:
    """Folds of a small set, by group, else one part; none of a single group.

    The part is the one declared for it where that is large enough, else drawn by group.
    """
    if len(samples) < MANY:
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
    if len(declared) < LEAST_HELD:
        bare = [replace(sample, split=Part.OPEN) for sample in samples]
        parts = split(bare, seed=seed, shares=_SHARES)
        chosen = {sample.digest for sample in parts.get(Part.VALID, ())}
        declared = [sample for sample in samples if sample.digest in chosen]
    observed = {sample.digest for sample in declared}
    learn = tuple(sample for sample in samples if sample.digest not in observed)
    if not learn or not declared:
        return []
    return [Round(name="part", learn=learn, judge=tuple(declared))]


def one_group(samples: Sequence[Sample]) -> bool:
    """Return whether all samples say they belong together, so that no group can be held out."""
    return len({sample.group for sample in samples}) == 1 and bool(samples[0].group)


def apart(samples: Sequence[Sample]) -> list[Sample]:
    """The samples as groups for holding out; of one group alone each stands by itself."""
    if one_group(samples):
        return [replace(sample, group="") for sample in samples]
    return list(samples)


def split_lone_groups(
    samples: Sequence[Sample], labels: Sequence[str]
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """Let the samples of a label that are all of one group each stand by itself.

    A network that had not seen the group could not know the label.

    Args:
        samples: to learn from.
        labels: the one label of each.

    Returns:
        The samples, and those labels in their order of appearance; where all samples are of one
        group, they stay (see ``apart``).
    """
    groups: dict[str, set[str]] = {}
    for sample, label in zip(samples, labels, strict=True):
        groups.setdefault(label, set()).add(sample.group)
    lone = tuple(label for label, of in groups.items() if len(of) == 1 and of != {""})
    if one_group(samples):
        return tuple(samples), ()
    pairs = zip(samples, labels, strict=True)
    return tuple(replace(one, group="") if held in lone else one for one, held in pairs), lone


def owners_of(samples: Sequence[Sample]) -> list[str]:
    """Return what each sample goes together with: its group, or of one group alone itself."""
    return [sample.group or str(sample.digest) for sample in apart(samples)]


def fold_rows(numbers: Sequence[int]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows to learn from and rows held out, fold by fold; ``numbers``: the fold of each row."""
    own = np.array(numbers)
    return [(np.flatnonzero(own != fold), np.flatnonzero(own == fold)) for fold in np.unique(own)]


def planned_steps(job: TrainJob, *, usual: int, batch: int, pictures: int) -> int:
    """Steps of the package's own fit: as many as are asked for, else as turns of all pictures need.

    Args:
        job: with the settings ``steps`` and ``epochs``; the first one rules.
        usual: where neither is set.
        batch: pictures, or crops of them, per step.
        pictures: learned from.
    """
    turns = job.setting("epochs", 0)
    requested = turns * pictures / batch if turns else usual
    return max(1, round(job.setting("steps", requested)))


@dataclass(slots=True, kw_only=True)
class Far:
    """Turns steps of several fits into one percentage, and their epochs into one row.

    Each epoch of the history names its fit, counted from 1.
    """

    steps: Steps
    total: int
    before: int = 0
    fits: int = 0
    history: tuple[dict[str, float], ...] = ()

    def at(self, done: int, loss: float, *, stage: str) -> None:
        """Say how far the fit under way is."""
        self.steps.loss = loss
        self.steps.at(3 + 85 * min(1.0, (self.before + done) / self.total), stage)

    def epoch(self, figures: Mapping[str, float]) -> None:
        """Tell what a hundred steps of the fit under way came to."""
        known = {name: value for name, value in figures.items() if name != "epoch"}
        self.steps.epoch(len(self.history) + int(figures["epoch"]), **known)

    def ended(self, history: Sequence[Mapping[str, float]], *, steps: int) -> None:
        """A fit has ended, or had ended before the job was stopped."""
        before, self.fits = len(self.history), self.fits + 1
        rows = tuple({**row, "epoch": before + row["epoch"], "fit": self.fits} for row in history)
        self.history, self.before = (*self.history, *rows), self.before + steps


RATE, BATCH = 2e-3, 8
_FOLD_SHARE = 0.6

R = TypeVar("R")
S = TypeVar("S", bound=Student)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fold(Generic[R]):
    """Pictures, and what was trained without them.

    Attributes:
        samples: the pictures.
        trained: makes the result of that training; called once.
    """

    samples: Sequence[Sample]
    trained: Callable[[], R]


def fit_rounds(
    samples: Sequence[Sample],
    *,
    job: TrainJob,
    steps: Steps,
    folder: Path,
    parallel: Parallel,
    usual: int,
    rate: float = RATE,
    student: Callable[[LoopPlan, Round], S],
    judge: Callable[[S, Round], Sequence[T]],
    taught: Callable[[S, Sequence[Sample], Sequence[T]], R],
) -> tuple[R, History, list[Fold[R]]]:
    """Fits that hold pictures out, then one on all where pictures are few.

    Args:
        samples: to learn from.
        job: for seed and settings: ``steps`` (of the package's fit; those of a fold are three
            fifths), ``learning_rate``, ``batch_size``.
        steps: told of progress.
        folder: for checkpoints.
        parallel: this process's share of each batch.
        usual: steps where the job names none.
        rate: learning rate of new layers where the job names none.
        student: an untaught one; what it draws follows from the plan's seed.
        judge: the answers of a taught one to the pictures of its round that it has not seen.
        taught: makes the result of a training from a taught one, the pictures that it learned from,
            and answers to pictures held out.

    Returns:
        The result of the package, by the answers to all pictures held out; the history of all
        fits; and those of several folds, each by the answers to the pictures of the others.
    """
    planned = rounds(samples, seed=job.seed)
    again = len(planned) != 1
    batch = max(1, round(job.setting("batch_size", BATCH)))
    whole = planned_steps(job, usual=usual, batch=batch, pictures=len(samples))
    part = max(1, round(whole * _FOLD_SHARE)) if again else whole
    far = Far(steps=steps, total=len(planned) * part + again * whole)

    def fit(each: Round, *, seed: int, length: int) -> S:
        plan = LoopPlan(
            name=each.name,
            seed=job.seed * 1000 + seed,
            steps=length,
            rate=job.setting("learning_rate", rate),
            batch=batch,
            best=not again,
        )
        course = Course(
            folder=folder,
            tell=lambda done, loss: far.at(done, loss, stage=each.stage),
            epoch=far.epoch,
            parallel=parallel,
        )
        torch.manual_seed(plan.seed)  # new layers follow from it; the backbone is open already
        made = student(plan, each)
        far.ended(descend(made, plan, course=course), steps=length)
        return made

    fitted = [fit(each, seed=place, length=part) for place, each in enumerate(planned, start=1)]
    held = [judge(one, each) for one, each in zip(fitted, planned, strict=True)]
    folds = [
        Fold(samples=each.judge, trained=partial(taught, one, each.learn, _joined(held, but=place)))
        for place, (one, each) in enumerate(zip(fitted, planned, strict=True))
        if again
    ]
    everything = Round(name="all", learn=tuple(samples), judge=())
    own = fit(everything, seed=0, length=whole) if again else fitted[0]
    return taught(own, samples, _joined(held)), far.history, folds


def _joined(held: Sequence[Sequence[T]], *, but: int = -1) -> list[T]:
    """The answers of all folds, or of all but one."""
    return [one for place, answers in enumerate(held) if place != but for one in answers]
