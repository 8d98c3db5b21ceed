"""Fit a centre network: a fixed number of steps, one cycle of the learning rate, kept as it goes.

A step depends on job, pictures and its own number alone, so a fit that was stopped goes on from its
last checkpoint as if it had never been.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lineside.datasets import Sample
from lineside.training.job import load_arrays, save_arrays
from lineside.training.objects.crops import Piece, draw_piece, whole_piece
from lineside.training.objects.network import CentreNetwork
from lineside.training.objects.scene import CROP_PX, Scene, Scenes
from lineside.training.objects.targets import loss_of, targets_of
from lineside.training.parallel import Parallel
from lineside.vision import beside_template, normalise

RATE, BATCH = 2e-3, 8
EPOCH = 100
"""Steps between checkpoints and looks at held-out pictures."""

_TRUNK_SHARE = 0.25  # of the learning rate: the trunk knows pictures already
_DECAY = 1e-2
_WARM = 0.15
_SAY_EVERY = 10
_LARGEST_STEP = 5.0
_MOST_WATCHED = 8

Told = Callable[[int, float], None]
History = tuple[dict[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitPlan:
    """One fit.

    Attributes:
        name: of its checkpoint.
        seed: everything random follows from it.
        steps: of gradient descent.
        labels: how many.
        template: whether pictures stand beside templates.
        rate: learning rate of new layers at its height; the trunk's is a quarter of it.
        batch: crops a step.
        best: whether the weights of the least loss on watched pictures are kept, not the last.
    """

    name: str
    seed: int
    steps: int
    labels: int
    template: bool
    rate: float = RATE
    batch: int = BATCH
    best: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesson:
    """What a fit learns from and how it is watched.

    Attributes:
        learn: at least one.
        watch: never learned from; the loss on some of them is told.
        folder: for checkpoints.
        told: called with step and loss; may raise to stop.
        epoch: called after each hundred steps with what was watched; may raise to stop.
        parallel: this process's share.
    """

    scenes: Scenes
    learn: Sequence[Sample]
    watch: Sequence[Sample]
    folder: Path
    told: Told
    epoch: Callable[[dict[str, float]], None]
    parallel: Parallel


@dataclass(slots=True, kw_only=True, eq=False)
class _Run:
    """A network on its way."""

    network: CentreNetwork
    optimiser: torch.optim.AdamW
    done: int = 0
    losses: list[float] = field(default_factory=list)
    watched: list[float] = field(default_factory=list)
    best: dict[str, NDArray[np.generic]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Facts:
    """What follows from the pictures before the first step."""

    known: tuple[Scene, ...]
    side_px: int
    per_crop: float


def fit(plan: FitPlan, lesson: Lesson) -> tuple[CentreNetwork, History]:
    """A fitted network in evaluation mode, and what each hundred steps came to."""
    torch.manual_seed(plan.seed)
    run = _begun(plan)
    facts = _facts(plan, lesson)
    _start_sizes(run.network, facts.known)
    path = lesson.folder / f"{plan.name}.npz"
    _restore(run, path)
    run.network.train()
    while run.done < plan.steps:
        run.losses.append(_step(run, plan, facts=facts, lesson=lesson))
        run.done += 1
        ended = run.done == plan.steps
        if run.done % EPOCH == 0 or ended:
            _look(run, plan, lesson=lesson)
            _keep(run, path)
            lesson.epoch(_history(run)[-1])
        if run.done % _SAY_EVERY == 0 or ended:
            lesson.told(run.done, float(np.mean(run.losses[-_SAY_EVERY:])))
    if plan.best and run.best:
        _load(run.network, run.best)
    return run.network.eval(), _history(run)


def _begun(plan: FitPlan) -> _Run:
    network = CentreNetwork(labels=plan.labels, template=plan.template)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  not in torch's stubs
    optimiser = torch.optim.AdamW(
        [
            {"params": network.learned_trunk(), "top": plan.rate * _TRUNK_SHARE},
            {"params": network.new_layers(), "top": plan.rate},
        ],
        weight_decay=_DECAY,
    )
    return _Run(network=network, optimiser=optimiser)


def _facts(plan: FitPlan, lesson: Lesson) -> _Facts:
    known = tuple(lesson.scenes.scene(sample) for sample in lesson.learn)
    multiple = lesson.scenes.settings.multiple
    largest = max(max(scene.size_px) for scene in known)
    side_px = min(CROP_PX, math.ceil(largest / multiple) * multiple)
    blank = np.zeros((1, 1, 3), np.uint8)
    rng = np.random.default_rng([plan.seed, 0])
    drawn = [
        draw_piece(known[int(rng.integers(len(known)))], blank, side_px=side_px, rng=rng)
        for _ in range(64)
    ]
    objects = float(np.mean([len(piece.label) for piece in drawn]))
    return _Facts(known=known, side_px=side_px, per_crop=max(1.0, objects))


def _start_sizes(network: CentreNetwork, known: Sequence[Scene]) -> None:
    boxes = np.concatenate([scene.boxes_px for scene in known])
    if len(boxes):
        size = np.median(np.log(np.maximum(boxes[:, 2:] - boxes[:, :2], 1)), axis=0)
        network.start_sizes(float(size[0]), float(size[1]))


def _step(run: _Run, plan: FitPlan, *, facts: _Facts, lesson: Lesson) -> float:
    chosen = _chosen(len(facts.known), plan=plan, step=run.done)
    own = lesson.parallel.share(list(enumerate(chosen)))
    pieces = [
        draw_piece(
            facts.known[place],
            lesson.scenes.pixels(facts.known[place].sample),
            side_px=facts.side_px,
            rng=np.random.default_rng([plan.seed, 1, run.done, number]),
        )
        for number, place in own
    ]
    for group in run.optimiser.param_groups:
        group["lr"] = group["top"] * _rate(run.done / plan.steps)
    run.optimiser.zero_grad(set_to_none=True)
    value = 0.0
    if pieces:
        loss = _loss(run.network, pieces, scenes=lesson.scenes, per_crop=facts.per_crop)
        loss.backward()  # type: ignore[no-untyped-call]  not in torch's stubs
        value = float(loss.detach())
    learned = [*run.network.learned_trunk(), *run.network.new_layers()]
    lesson.parallel.average(learned, own=len(own), batch=len(chosen))
    torch.nn.utils.clip_grad_norm_(learned, _LARGEST_STEP)
    run.optimiser.step()
    return value


def _chosen(pictures: int, *, plan: FitPlan, step: int) -> list[int]:
    """Pictures of a step: all in turn, in an order that changes with each turn."""
    found = []
    for number in range(step * plan.batch, (step + 1) * plan.batch):
        turn, place = divmod(number, pictures)
        found.append(int(np.random.default_rng([plan.seed, 2, turn]).permutation(pictures)[place]))
    return found


def _rate(share: float) -> float:
    """One cycle (Smith and Topin 2019): up along a line, down along half a cosine."""
    if share < _WARM:
        return 0.1 + 0.9 * share / _WARM
    return 0.5 * (1 + math.cos(math.pi * (share - _WARM) / (1 - _WARM))) + 1e-3


def _loss(
    network: CentreNetwork, pieces: Sequence[Piece], *, scenes: Scenes, per_crop: float
) -> Tensor:
    maps = network(batch_of(pieces, scenes=scenes))
    return loss_of(maps, [targets_of(piece) for piece in pieces], per_crop=per_crop)


def _look(run: _Run, plan: FitPlan, *, lesson: Lesson) -> None:
    """The loss on whole held-out pictures; the best weights are remembered where asked."""
    if not lesson.watch:
        return
    scenes, losses = lesson.scenes, []
    run.network.eval()
    with torch.inference_mode():
        for sample in lesson.watch[:: max(1, len(lesson.watch) // _MOST_WATCHED)]:
            scene = scenes.scene(sample)
            piece = whole_piece(scene, scenes.pixels(sample), multiple=scenes.settings.multiple)
            loss = _loss(run.network, [piece], scenes=scenes, per_crop=1.0)
            losses.append(float(loss) / max(1, len(scene.label)))
    run.network.train()
    run.watched.append(float(np.mean(losses)))
    if plan.best and run.watched[-1] <= min(run.watched):
        run.best = _weights(run.network)


def batch_of(pieces: Sequence[Piece], *, scenes: Scenes) -> Tensor:
    """(n, 3 or 9, h, w), prepared as on a device."""
    pixels = np.stack([piece.pixels for piece in pieces])
    crops = normalise(np.ascontiguousarray(pixels[..., :3]), scenes.settings)
    if scenes.template:
        template = normalise(np.ascontiguousarray(pixels[..., 3:]), scenes.settings)
        crops = beside_template(crops, template)
    return torch.from_numpy(crops).contiguous(memory_format=torch.channels_last)


def _history(run: _Run) -> History:
    found = []
    for number, start in enumerate(range(0, run.done, EPOCH)):
        figures = {
            "epoch": float(number),
            "loss": float(np.mean(run.losses[start : start + EPOCH])),
        }
        if number < len(run.watched):
            figures["validation_loss"] = run.watched[number]
        found.append(figures)
    return tuple(found)


def _weights(network: CentreNetwork) -> dict[str, NDArray[np.generic]]:
    return {
        name: np.array(value.detach().contiguous().numpy())
        for name, value in network.state_dict().items()
    }


def _load(network: CentreNetwork, weights: dict[str, NDArray[np.generic]]) -> None:
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})


def _keep(run: _Run, path: Path) -> None:
    arrays: dict[str, NDArray[np.generic]] = {
        "done": np.array(run.done),
        "losses": np.array(run.losses, np.float64),
        "watched": np.array(run.watched, np.float64),
    }
    arrays |= {f"w/{name}": value for name, value in _weights(run.network).items()}
    arrays |= {f"b/{name}": value for name, value in run.best.items()}
    for place, state in run.optimiser.state_dict()["state"].items():
        for name, value in state.items():
            arrays[f"o/{place}/{name}"] = torch.as_tensor(value).contiguous().numpy()
    save_arrays(path, arrays)


def _restore(run: _Run, path: Path) -> None:
    """Go on from a checkpoint, where there is a whole one."""
    arrays = load_arrays(path)
    if arrays is None:
        return
    _load(run.network, _under("w/", arrays))
    run.best = _under("b/", arrays)
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("o/", arrays).items():
        place, _, key = name.partition("/")
        states.setdefault(int(place), {})[key] = torch.from_numpy(np.array(value))
    whole = run.optimiser.state_dict()
    run.optimiser.load_state_dict({"state": states, "param_groups": whole["param_groups"]})
    run.done = int(arrays["done"])
    run.losses, run.watched = arrays["losses"].tolist(), arrays["watched"].tolist()


def _under(prefix: str, arrays: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    return {name[2:]: value for name, value in arrays.items() if name.startswith(prefix)}
