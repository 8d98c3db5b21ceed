"""Fine-tuning: the layers beyond stride 16 learn on, from the head that the frozen network has.

1. Training starts at the frozen network with its fitted head, so that it can only be left for
   something better (Kumar et al. 2022). The layers up to stride 16 stay as they are.
2. Weights are averaged over steps; the average of the last epoch is what is used. How many epochs
   there are is set before, so that pictures held out choose nothing; their loss is only shown.
3. What an epoch draws follows from seed and epoch. After each epoch everything is written to the
   job's folder, so that a job that was stopped goes on at the next epoch to the same weights.
4. Pictures are decoded and changed on a thread of their own. float32 throughout: where the
   processor was measured, bfloat16 brought no speed to these layers.

Return whether fine-tuning pays, by pictures held out, and the network it gives where it does:

1. It is tried where there is enough to learn from and something left to gain.
2. Folds are learned one after the other from the other folds; the first that is not better than the
   frozen network ends the trial. Better is a loss that is lower after calibration by more than
   three percent, on each of them. Over all, the pictures' own losses have to fall, with no more
   wrong answers: by a paired bootstrap over groups (95 %) and a sign test over groups (2.5 %),
   which fewer than six groups never pass.
3. What is used is learned from all pictures in the same way. It is calibrated by held-out answers
   to all of them, each of a network of which the picture chose nothing: neither weights nor
   mirrorings nor epoch. All pictures choose between the tuned network and the frozen one, and of
   that its input and the strength of its head.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.core import encode
from lineside.core.worker import prefetch
from lineside.training.common.backbone import Backbone, channels_last, lite0_full
from lineside.training.common.cache import MemoryCache
from lineside.training.common.loop import Parallel, one_cycle
from lineside.training.common.methods import spread, temperature_of
from lineside.training.job import load_arrays, save_arrays
from lineside.training.tasks.classify.features import POOLED, InputSpec, frozen_engine, normalised
from lineside.training.tasks.classify.network import (
    Classes,
    Floats,
    Linear,
    Numbers,
    Space,
    ValidationLogits,
    calibrated_loss,
    picture_losses,
    pooled_of,
)
from lineside.training.tasks.learning_curve import mean_rise
from lineside.vision.prepare import cut, levelled

Image = NDArray[np.uint8]

_MOVE_SHARE = 0.06
_GROW = 0.1
_TURN_DEG = 5.0
_GAIN = (0.85, 1.15)
_OFFSET = 12.0
_LEAST_LOSS = 0.02


def _across(image: Image) -> Image:
    return image[:, ::-1]


def _down(image: Image) -> Image:
    return image[::-1]


def _over(image: Image) -> Image:
    return image.transpose(1, 0, 2)


MIRRORS: Mapping[str, Callable[[Image], Image]] = {"across": _across, "down": _down, "over": _over}
"""By name; ``over`` swaps rows and columns and needs a square input."""


def harmless(right: int, right_mirrored: int, *, pictures: int) -> bool:
    """Return whether mirrored images are answered as well: two percent or a standard error less."""
    if not pictures:
        return False
    share = right / pictures
    room = max(_LEAST_LOSS, float(np.sqrt(max(share * (1 - share), 1 / pictures) / pictures)))
    return right_mirrored / pictures >= share - room


def augmented(image: Image, *, mirrors: tuple[str, ...], rng: np.random.Generator) -> Image:
    """One changed copy of an (h, w, 3) uint8 RGB input."""
    import cv2

    for name in mirrors:
        if rng.random() < 0.5:
            image = MIRRORS[name](image)
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(
        (width / 2, height / 2), rng.uniform(-_TURN_DEG, _TURN_DEG), 1 + rng.uniform(-_GROW, _GROW)
    )
    across, down = rng.uniform(-_MOVE_SHARE, _MOVE_SHARE, 2).tolist()
    shift = np.array([[0.0, 0.0, across * width], [0.0, 0.0, down * height]])
    moved = cv2.warpAffine(
        np.ascontiguousarray(image),
        matrix + shift,
        (width, height),
        borderMode=cv2.BORDER_REFLECT_101,
    )
    gain, offset = rng.uniform(*_GAIN), rng.uniform(-_OFFSET, _OFFSET)
    table = np.clip((np.arange(256) - 127.0) * gain + 127.0 + offset, 0, 255).astype(np.uint8)
    return np.asarray(table[moved], np.uint8)


_SMOOTHING = 0.1
_DECAY = 0.02
_AVERAGE = 0.97
_WARM_UP = 0.2
_LONGEST_STEP = 2.0
_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings of fine-tuning; see ``TrainJob.settings``.

    Attributes:
        epochs: that the learning rate's rise and fall is spread over.
        mirrors: that change no class (``changes.MIRRORS``).
    """

    epochs: int = 8
    batch: int = 16
    learning_rate: float = 2e-4
    mirrors: tuple[str, ...] = ()
    seed: int = 7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingSet:
    """Pictures that are learned from and those that are watched.

    Attributes:
        pictures: gives the (h, w, 3) uint8 input of a picture by its place.
        truth: (pictures,) of all pictures.
        inside: places learned from.
        outside: places watched; possibly none.
        name: tells lessons of one job apart.
        backbone: that is begun with, frozen.
    """

    pictures: Callable[[int], Image]
    truth: Classes
    inside: NDArray[np.intp]
    outside: NDArray[np.intp]
    start: Linear
    name: str
    backbone: Backbone = field(default_factory=lite0_full)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tuned:
    """Average weights of the last epoch.

    Attributes:
        head: on raw pooled features of the tuned trunk.
        logits: (outside, classes) of the watched pictures.
        history: per epoch loss, validation loss and accuracy.
    """

    backbone: Backbone
    head: Linear
    logits: Numbers
    history: tuple[Mapping[str, float], ...]


class _Learner(nn.Module):
    """The trunk with a head on standardised pooled features."""

    def __init__(self, start: Linear, *, backbone: Backbone) -> None:
        super().__init__()
        self.trunk = channels_last(backbone.learning(after=16))
        self.scale = np.sqrt(len(start.mean)) / 10 * start.spread
        weight = start.weight * self.scale
        self.register_buffer("mean", torch.from_numpy(start.mean.astype(np.float32)))
        self.register_buffer("unit", torch.from_numpy((1 / self.scale).astype(np.float32)))
        self.weight = nn.Parameter(torch.from_numpy(weight.astype(np.float32)))
        bias = start.bias + start.weight @ start.mean
        self.bias = nn.Parameter(torch.from_numpy(bias.astype(np.float32)))

    mean: Tensor
    unit: Tensor

    def forward(self, crops: Tensor) -> Tensor:
        pooled = pooled_of([self.trunk.taps(crops)])
        return nn.functional.linear((pooled - self.mean) * self.unit, self.weight, self.bias)

    def learned(self) -> list[nn.Parameter]:
        return [each for each in self.parameters() if each.requires_grad]

    def linear(self, start: Linear) -> Linear:
        """The head on raw features."""
        weight = self.weight.detach().numpy().astype(np.float64) / self.scale
        bias = self.bias.detach().numpy().astype(np.float64) - weight @ start.mean
        return Linear(weight=weight, bias=bias, mean=start.mean, spread=start.spread)


class _Loop:
    """Learner, optimiser and averages of one lesson, with everything that goes on to the next."""

    def __init__(self, training_set: TrainingSet, recipe: Recipe, *, parallel: Parallel) -> None:
        self.lesson, self.recipe, self.parallel = training_set, recipe, parallel
        self.learner = _Learner(training_set.start, backbone=training_set.backbone)
        self.own = self.learner.learned()
        self.optimiser = torch.optim.AdamW(
            self.own, lr=recipe.learning_rate, weight_decay=_DECAY, foreach=False
        )
        self.average = [each.detach().clone() for each in self.own]
        self.logits = self._answers()
        self.history: list[dict[str, float]] = []
        counts = np.bincount(
            training_set.truth[training_set.inside], minlength=len(training_set.start.bias)
        )
        shares = len(training_set.inside) / len(counts) / np.maximum(counts, 1)
        self.weigh = torch.from_numpy(shares.astype(np.float32))

    @property
    def epoch(self) -> int:
        """Return the number of epochs that are done."""
        return len(self.history)

    @property
    def over(self) -> bool:
        """Return whether nothing is left to do."""
        return self.epoch >= self.recipe.epochs

    def learn_epoch(self) -> dict[str, float]:
        """One pass over the pictures, and what it came to."""
        lesson, recipe = self.lesson, self.recipe
        rng = np.random.default_rng([recipe.seed, self.epoch])
        batches = _batches(rng.permutation(lesson.inside), most=recipe.batch)
        seeds = rng.integers(2**62, size=len(batches)).tolist()
        done, every = self.epoch * len(batches), max(1, recipe.epochs * len(batches))
        total = 0.0
        self.learner.train()
        with closing(prefetch(self._load, zip(batches, seeds, strict=True), limit=4)) as all_loaded:
            for place, (crops, truth) in enumerate(all_loaded):
                rate = recipe.learning_rate * schedule((done + place) / every)
                for group in self.optimiser.param_groups:
                    group["lr"] = rate
                total += self._step(crops, truth=truth, batch=len(batches[place]))
        figures = {"epoch": float(self.epoch + 1), "loss": total / len(batches)}
        self.history.append(figures | self._watch())
        return self.history[-1]

    def _load(self, wanted: tuple[list[int], int]) -> tuple[Tensor, Tensor]:
        """This process's share of a batch as (n, 3, h, w) float32 and classes."""
        batch, seed = wanted
        rng = np.random.default_rng(seed)
        seeds = dict(zip(batch, rng.integers(2**62, size=len(batch)).tolist(), strict=True))
        mine = self.parallel.share(batch)
        images = [
            augmented(
                self.lesson.pictures(place),
                mirrors=self.recipe.mirrors,
                rng=np.random.default_rng(seeds[place]),
            )
            for place in mine
        ]
        return _tensor(images), torch.from_numpy(self.lesson.truth[mine])

    def _step(self, crops: Tensor, *, truth: Tensor, batch: int) -> float:
        self.optimiser.zero_grad()
        loss = torch.zeros(())
        if len(truth):
            # The mean over pictures, not over weights: that of several processes' shares is then
            # the mean over the whole batch.
            losses = nn.functional.cross_entropy(
                self.learner(crops),
                truth,
                weight=self.weigh,
                label_smoothing=_SMOOTHING,
                reduction="none",
            )
            loss = losses.mean()
            torch.autograd.backward([loss])
        self.parallel.average(self.own, own=len(truth), batch=batch)
        nn.utils.clip_grad_norm_(self.own, _LONGEST_STEP)
        self.optimiser.step()
        with torch.no_grad():
            for stored, now in zip(self.average, self.own, strict=True):
                stored.lerp_(now.cpu(), 1 - _AVERAGE)
        return float(loss.detach())

    def _watch(self) -> dict[str, float]:
        """Figures of the averaged weights on the watched pictures."""
        lesson = self.lesson
        if not len(lesson.outside):
            return {}
        learned = [each.detach().clone() for each in self.own]
        self.wear(self.average)
        self.logits = self._answers()
        self.wear(learned)
        truth = lesson.truth[lesson.outside]
        return {
            "validation_loss": calibrated_loss(self.logits, truth),
            "accuracy": float(np.mean(self.logits.argmax(axis=1) == truth)),
        }

    def _answers(self) -> Numbers:
        """(outside, classes) of the learner as it is."""
        places = self.lesson.outside.tolist()
        found = [np.zeros((0, len(self.lesson.start.bias)))]
        self.learner.eval()
        with torch.inference_mode():
            for start in range(0, len(places), _AT_ONCE):
                crops = _tensor([self.lesson.pictures(p) for p in places[start : start + _AT_ONCE]])
                found.append(self.learner(crops).numpy().astype(np.float64))
        return np.concatenate(found)

    @torch.no_grad()
    def wear(self, weights: Sequence[Tensor]) -> None:
        """Put weights into the learner."""
        for each, value in zip(self.own, weights, strict=True):
            each.copy_(value)

    def save(self, path: Path) -> None:
        """Write everything that goes on to the next epoch."""
        states = [self.optimiser.state[each] for each in self.own]
        lists: dict[str, list[Tensor]] = {
            "own": [each.detach() for each in self.own],
            "average": self.average,
            "first": [state["exp_avg"] for state in states],
            "second": [state["exp_avg_sq"] for state in states],
        }
        arrays: dict[str, NDArray[np.generic]] = {
            f"{name}/{place}": each.cpu().contiguous().numpy()
            for name, tensors in lists.items()
            for place, each in enumerate(tensors)
        }
        arrays["history"] = np.array([[row.get(n, np.nan) for n in _NAMES] for row in self.history])
        arrays["logits"] = self.logits
        arrays["steps"] = np.array(float(states[0]["step"]))
        save_arrays(path, arrays)

    def restore(self, path: Path) -> None:
        """Go on where a checkpoint stands, where there is one."""
        stored = load_arrays(path)
        if stored is None:
            return

        def tensors(name: str) -> list[Tensor]:
            return [torch.from_numpy(stored[f"{name}/{place}"]) for place in range(len(self.own))]

        self.wear(tensors("own"))
        self.average = tensors("average")
        steps = float(stored["steps"])
        for each, first, second in zip(self.own, tensors("first"), tensors("second"), strict=True):
            self.optimiser.state[each] = {
                "step": torch.tensor(steps),
                "exp_avg": first.to(each.device),
                "exp_avg_sq": second.to(each.device),
            }
        self.logits = np.asarray(stored["logits"], np.float64)
        self.history = [
            {name: value for name, value in zip(_NAMES, row, strict=True) if np.isfinite(value)}
            for row in np.asarray(stored["history"], np.float64).tolist()
        ]


_NAMES = ("epoch", "loss", "validation_loss", "accuracy")


def tune(
    training_set: TrainingSet,
    recipe: Recipe,
    *,
    folder: Path,
    parallel: Parallel,
    tell: Callable[[Mapping[str, float]], None],
) -> Tuned:
    """Learn on; goes on where the folder's checkpoint stands.

    Args:
        training_set: images and labels to learn from.
        recipe: how.
        folder: of checkpoints.
        parallel: this process's share of each batch.
        tell: called after each epoch with its figures; may raise.
    """
    loop = _Loop(training_set, recipe, parallel=parallel)
    path = folder / f"{_key(training_set, recipe)}.npz"
    with parallel.move_network(loop.learner):
        loop.restore(path)
        while not loop.over:
            figures = loop.learn_epoch()
            loop.save(path)
            tell(figures)
    loop.wear(loop.average)
    loop.learner.eval()
    backbone = loop.learner.trunk.requires_grad_(requires_grad=False)
    return Tuned(
        backbone=backbone,
        head=loop.learner.linear(training_set.start),
        logits=loop.logits,
        history=tuple(loop.history),
    )


def schedule(share: float) -> float:
    """Share of the learning rate at a share of all steps; the first step is no standstill."""
    return max(one_cycle(share, warm_up=_WARM_UP), 0.01 if share < _WARM_UP else 0.0)


def _batches(order: NDArray[np.intp], *, most: int) -> list[list[int]]:
    """Places by batch; a last batch of less than half goes to the next epoch's luck."""
    starts = range(0, len(order), most)
    found = [order[start : start + most].tolist() for start in starts]
    return found[:-1] if len(found) > 1 and len(found[-1]) * 2 < most else found


def _tensor(images: Sequence[Image]) -> Tensor:
    """Inputs as the network takes them, (n, 3, h, w) float32."""
    if not images:
        return torch.zeros((0, 3, 32, 32))
    planes = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2)).float()
    return planes.sub_(127.0).div_(128.0).contiguous(memory_format=torch.channels_last)


def _key(training_set: TrainingSet, recipe: Recipe) -> str:
    of = training_set.backbone.key.encode()
    hashed = hashlib.sha256(encode([recipe, training_set.name]) + of)
    for values in (
        training_set.truth,
        training_set.inside,
        training_set.outside,
        training_set.start.weight,
    ):
        hashed.update(np.ascontiguousarray(values).tobytes())
    return hashed.hexdigest()[:40]


_FEWEST_PICTURES = 80
_FEWEST_OF_CLASS = 8
_LEAST_WRONG = 0.02
_FEWEST_GROUPS = 6  # with fewer the sign test never passes
_LEAST_GAIN = 0.03
_MOST_PIXEL_BYTES = 512_000_000
_MOST_MIRRORED = 100


def inputs_of(spec: InputSpec, *, picture: Callable[[int], Image]) -> Callable[[int], Image]:
    """Gives the (h, w, 3) uint8 input of a picture by its place; kept while there is memory."""
    settings = spec.prepare
    shown = MemoryCache[Image](most_bytes=_MOST_PIXEL_BYTES)
    return lambda place: shown.get(
        place, lambda: levelled(cut(picture(place), settings), settings)[0]
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TuningTask:
    """Result of the frozen network.

    Attributes:
        spec: that tuning uses, which is a single-scale one.
        inputs: of it, by a picture's place.
        features: (pictures, per scale) with that sight.
        own: held-out answers with that sight.
        best: held-out answers of what would be used without tuning.
        owners: number of each picture's group.
        folds: of each picture; those of ``own`` and ``best`` too.
        backbone: the frozen network.
    """

    spec: InputSpec
    inputs: Callable[[int], Image]
    features: Floats
    own: ValidationLogits
    best: ValidationLogits
    truth: Classes
    owners: Classes
    folds: tuple[int, ...]
    classes: int
    backbone: Backbone = field(default_factory=lite0_full)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """Result of a trial.

    Attributes:
        tuned: learned from all pictures; None where tuning did not pay.
        logits: (pictures, classes), answers to each by a network that had not seen it; zeros of
            folds that were not learned because tuning did not pay on one before.
        history: epochs of the first fold.
        words: for the report.
    """

    tuned: Tuned | None
    logits: Numbers
    history: tuple[Mapping[str, float], ...]
    words: dict[str, object]


Tell = Callable[[str, Mapping[str, float]], None]
"""Told of each epoch of a trial: the stage in words, and the figures."""


def worth_trying(task: TuningTask) -> str:
    """Why fine-tuning is not tried; "" where it is."""
    counts = np.bincount(task.truth, minlength=task.classes)
    if len(task.truth) < _FEWEST_PICTURES or counts.min() < _FEWEST_OF_CLASS:
        return "too few pictures"
    if len(np.unique(task.owners)) < _FEWEST_GROUPS:
        return "too few groups"
    wrong = task.best.logits.argmax(axis=1) != task.truth
    if wrong.mean() < _LEAST_WRONG:
        return "the frozen network leaves hardly anything to gain"
    return ""


def try_tuning(
    task: TuningTask, recipe: Recipe, *, folder: Path, parallel: Parallel, tell: Tell
) -> Trial:
    """Learn the folds, and all of it where that pays."""
    mirrored = cache(partial(_mirrored_features, task))
    logits = np.zeros((len(task.truth), task.classes))
    history: tuple[Mapping[str, float], ...] = ()
    numbers, gains, mirrors = sorted(set(task.folds)), list[float](), dict[str, str]()
    for fold in numbers:
        inside, outside = _parts(task, fold)
        name = f"fold {fold}"
        own = replace(recipe, mirrors=mirrors_for(task, mirrored, without=fold))
        mirrors[name] = ", ".join(own.mirrors)
        tuned = tune(
            _training_set(task, inside=inside, outside=outside, name=name),
            own,
            folder=folder,
            parallel=parallel,
            tell=partial(tell, f"fine-tuning {name}"),
        )
        history, logits[outside] = history or tuned.history, tuned.logits
        gains.append(_gain(task, outside, logits=tuned.logits))
        if gains[-1] <= _LEAST_GAIN:
            break
    final = None
    if len(gains) == len(numbers) and gains[-1] > _LEAST_GAIN and is_better(task, logits=logits):
        everyone = np.arange(len(task.truth))
        own = replace(recipe, mirrors=mirrors_for(task, mirrored))
        mirrors["all"] = ", ".join(own.mirrors)
        final = tune(
            _training_set(task, inside=everyone, outside=everyone[:0], name="all"),
            own,
            folder=folder,
            parallel=parallel,
            tell=partial(tell, "fine-tuning"),
        )
    words: dict[str, object] = {
        "relative gain in calibrated loss, by fold": [f"{gain:+.3f}" for gain in gains],
        "mirrored": mirrors,
        "epochs": recipe.epochs,
    }
    return Trial(tuned=final, logits=logits, history=history, words=words)


def _parts(task: TuningTask, fold: int) -> tuple[Classes, Classes]:
    numbers = np.array(task.folds)
    return np.flatnonzero(numbers != fold), np.flatnonzero(numbers == fold)


def _training_set(task: TuningTask, *, inside: Classes, outside: Classes, name: str) -> TrainingSet:
    start = Space(task.features[inside]).fit(
        task.truth[inside], classes=task.classes, strength=task.own.strength
    )
    return TrainingSet(
        pictures=task.inputs,
        truth=task.truth,
        inside=inside,
        outside=outside,
        start=start,
        name=name,
        backbone=task.backbone,
    )


def _gain(task: TuningTask, outside: Classes, *, logits: Numbers) -> float:
    """By which share the loss on held-out pictures fell, both calibrated on them."""
    truth = task.truth[outside]
    before = calibrated_loss(task.best.logits[outside], truth)
    return 1 - calibrated_loss(logits, truth) / max(before, 1e-9)


def is_better(task: TuningTask, *, logits: Numbers) -> bool:
    """Return whether answers to pictures held out are surely better than the frozen network's.

    Args:
        task: with the frozen network's answers.
        logits: (pictures, classes), the tuned network's answers.
    """
    truth, before = task.truth, task.best.logits
    right = [int((each.argmax(axis=1) == truth).sum()) for each in (before, logits)]
    losses = [
        picture_losses(each / temperature_of(each, truth), truth) for each in (before, logits)
    ]
    fall = mean_rise((losses[0] - losses[1])[:, None], owners=task.owners)
    return right[1] >= right[0] and fall.low > 0


def mirrors_for(
    task: TuningTask, mirrored: Callable[[str, int], Floats], *, without: int | None = None
) -> tuple[str, ...]:
    """Return the mirrorings that change no class.

    A head that saw no picture of one fold answers the pictures of it, mirrored and as they are.

    Args:
        task: what the frozen network found.
        mirrored: gives the frozen network's features of a fold's pictures, mirrored.
        without: fold that is left out of both; with no two others, nothing is mirrored.
    """
    shown, *learned = [fold for fold in sorted(set(task.folds)) if fold != without]
    if not learned:
        return ()
    inside, outside = np.flatnonzero(np.isin(task.folds, learned)), _shown(task, shown)
    head = Space(task.features[inside]).fit(
        task.truth[inside], classes=task.classes, strength=task.own.strength
    )

    def right(features: Floats) -> int:
        return int((head.logits(features).argmax(axis=1) == task.truth[outside]).sum())

    names = [n for n in MIRRORS if n != "over" or task.spec.width_px == task.spec.height_px]
    plain = right(task.features[outside])
    return tuple(
        name
        for name in names
        if harmless(plain, right(mirrored(name, shown)), pictures=len(outside))
    )


def _shown(task: TuningTask, fold: int) -> Classes:
    """Places of a fold evenly: sources are often sorted by class."""
    return np.array(spread(_parts(task, fold)[1].tolist(), _MOST_MIRRORED), np.intp)


def _mirrored_features(task: TuningTask, name: str, fold: int) -> Floats:
    """(pictures, per scale) of a fold's pictures, mirrored."""
    _, engine = frozen_engine(1, backbone=task.backbone)
    images = (MIRRORS[name](task.inputs(place)) for place in _shown(task, fold).tolist())
    return np.concatenate(
        [
            engine.run(normalised(np.ascontiguousarray(image)), outputs=(POOLED,))[0]
            for image in images
        ]
    )
