"""Fit the network: batches, schedule, validation by epoch, the best weights, a checkpoint.

1. Everything follows from seed and epoch: a job that was killed goes on at its last whole epoch and
   comes to the same weights.
2. Depthwise filters, their biases, and everything up to stride 4 keep the published weights: their
   gradients cost two thirds of the time and few pictures do not improve them.
3. The best epoch is that of the lowest loss on the pictures held out; epochs without a better one
   end the fitting.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.core import InvalidError
from lineside.training.common.loop import (
    Arrays,
    Parallel,
    load_weights,
    one_cycle,
    under,
    weights_of,
)
from lineside.training.job import Steps, load_arrays, save_arrays
from lineside.training.tasks.segment.network import MULTIPLE_PX, UNet, new_unet
from lineside.training.tasks.segment.training_set import (
    IGNORED,
    Draw,
    Facts,
    Piece,
    Show,
    cut_piece,
    plan_epoch,
)
from lineside.vision import Prepare
from lineside.vision.metrics import f1_of, pixel_counts
from lineside.vision.prepare import normalise

TOP_SHARE = 0.002
_PICTURE_WEIGHT = 0.25
_EDGE = 1e-4


def pixel_loss(logits: Tensor, bits: Tensor) -> Tensor:
    """Per example: mean binary cross-entropy, plus 1 - soft Dice where a defect is drawn.

    The map is laid bilinearly on the bits' own pixels, as a device does; bits are exact. Dice
    (Milletari et al. 2016, with plain sums) is taken example by example, so that a small defect
    weighs as much as a large one.

    Args:
        logits: (n, 1, rows, columns).
        bits: (n, h, w) uint8, 0, 1 or ``IGNORED``.

    Returns:
        (n,).
    """
    laid = laid_on(logits, bits)
    known = (bits != IGNORED).to(laid.dtype)
    truth = (bits == 1).to(laid.dtype)
    each = nn.functional.binary_cross_entropy_with_logits(laid, truth, reduction="none") * known
    entropy = each.sum(dim=(1, 2)) / known.sum(dim=(1, 2)).clamp(min=1.0)
    chance = laid.sigmoid() * known
    size = truth.sum(dim=(1, 2))
    both = (chance * truth).sum(dim=(1, 2))
    dice = 1.0 - (2.0 * both + 1.0) / (chance.sum(dim=(1, 2)) + size + 1.0)
    return entropy + dice * (size > 0)


def laid_on(logits: Tensor, bits: Tensor) -> Tensor:
    """(n, 1, rows, columns) maps bilinearly on the pixels of (n, h, w) bits: (n, h, w)."""
    size = tuple(bits.shape[1:])
    return nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)[:, 0]


def picture_loss(logits: Tensor, defective: Tensor) -> Tensor:
    """Per example: binary cross-entropy of the mean probability of its top cells; (n,)."""
    flat = logits.flatten(1)
    count = max(1, round(TOP_SHARE * flat.shape[1]))
    top = flat.topk(count, dim=1).values.sigmoid().mean(dim=1)
    held = top.clamp(_EDGE, 1.0 - _EDGE)
    return nn.functional.binary_cross_entropy(held, defective, reduction="none")


def drawn_loss(logits: Tensor, bits: Tensor) -> Tensor:
    """Per example whose bits are known: pixels, and a little of the picture; (n,)."""
    defective = (bits == 1).any(dim=2).any(dim=1).to(torch.float32)
    return pixel_loss(logits, bits) + _PICTURE_WEIGHT * picture_loss(logits, defective)


_DECODER_FASTER = 4.0
_WARM_UP = 0.15
_MOST_GRADIENT = 5.0
_FROZEN_BLOCKS = 3
_MOMENTS = (0.9, 0.99)
_SETTLED_ON = 16
_LARGEST_SIDE_PX = 1024
_WATCHED = ("loss", "validation_loss", "pixel_f1")


@dataclass(frozen=True, slots=True, kw_only=True)
class FitPlan:
    """Length and learning rate of a fit.

    Attributes:
        learning_rate: of the encoder at its peak; the decoder's is four times that.
        patience: epochs without a lower validation loss after which it ends.
        bf16: whether activations are rounded to bfloat16 where the library knows how.
    """

    seed: int
    epochs: int = 12
    steps: int = 30
    batch: int = 8
    side_px: int = 224
    learning_rate: float = 3e-4
    weight_decay: float = 1e-3
    patience: int = 6
    bf16: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "batch", "patience", "learning_rate"):
            if not getattr(self, name) > 0:
                raise InvalidError("above 0", where=f"settings.{name}", fix="Leave it out.")
        if self.side_px % MULTIPLE_PX or not MULTIPLE_PX <= self.side_px <= _LARGEST_SIDE_PX:
            raise InvalidError(
                f"a multiple of {MULTIPLE_PX} up to {_LARGEST_SIDE_PX}",
                where="settings.side_px",
                fix="Leave it out.",
            )


@dataclass(slots=True, kw_only=True, eq=False)
class Fitted:
    """Where a fitting stands.

    Attributes:
        best: the weights of the best epoch.
        history: per epoch ``epoch``, ``loss``, ``validation_loss`` and ``pixel_f1``, of all pixels
            held out, at a half.
    """

    best: Arrays = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def best_epoch(self) -> int:
        """Number of the best epoch; -1 before the first."""
        losses = [row["validation_loss"] for row in self.history]
        return int(np.argmin(losses)) if losses else -1

    def is_over(self, plan: FitPlan) -> bool:
        """Return whether all epochs are done, or the last ones did not help."""
        done = len(self.history)
        return done >= plan.epochs or done - 1 - self.best_epoch >= plan.patience


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitting:
    """Everything that fitting works with.

    Attributes:
        training, validation: pictures learned from and held out.
        first, last: percent of the job at its beginning and end.
    """

    training: Sequence[Facts]
    validation: Sequence[Facts]
    show: Show
    settings: Prepare
    folder: Path
    steps: Steps
    parallel: Parallel
    first: float = 8.0
    last: float = 80.0


def has_bf16() -> bool:
    """Return whether this processor multiplies bfloat16 by itself; elsewhere it would be slower."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001  torch has no public name for it


def fit(plan: FitPlan, fitting: Fitting) -> tuple[UNet, Fitted]:
    """Fit, or go on; returns the network with the best epoch's weights, frozen.

    Raises:
        JobCancelledError: stopped as asked; the last whole epoch is kept.
    """
    trainer = Trainer(plan, fitting)
    trainer.resume()
    while not trainer.fitted.is_over(plan):
        trainer.epoch()
    network = trainer.network
    load_weights(network, trainer.fitted.best)
    network.fold()
    for parameter in network.parameters():
        parameter.requires_grad = False
    return network.eval(), trainer.fitted


class Trainer:
    """The network with its optimiser, epoch by epoch."""

    def __init__(self, plan: FitPlan, fitting: Fitting) -> None:
        self.plan, self.fitting = plan, fitting
        self.network = new_unet(plan.seed)
        self._settle()
        _freeze(self.network)
        groups = (self.network.encoder(), self.network.decoder())
        self.wanting = [[one for one in group if one.requires_grad] for group in groups]
        self.optimiser = torch.optim.AdamW(
            [{"params": group} for group in self.wanting],
            lr=plan.learning_rate,
            weight_decay=plan.weight_decay,
            betas=_MOMENTS,
        )
        self.fitted = Fitted()

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Everything that is learned."""
        return [one for group in self.wanting for one in group]

    def epoch(self) -> None:
        """Learn for one epoch, look at the pictures held out, keep a checkpoint."""
        number = len(self.fitted.history)
        rng = np.random.default_rng([self.plan.seed, number])
        batches = plan_epoch(
            self.fitting.training, steps=self.plan.steps, batch=self.plan.batch, rng=rng
        )
        seeds = rng.integers(1 << 62, size=(len(batches), self.plan.batch + 1))
        losses = []
        self.network.train()
        for step, batch in enumerate(batches):
            done = number + step / len(batches)
            self._tell(done, f"learning, epoch {number + 1} of {self.plan.epochs}")
            losses.append(self._step(batch, seeds=seeds[step], done=done))
        self._end_epoch(number, loss=float(np.mean(losses)))

    def _end_epoch(self, number: int, *, loss: float) -> None:
        steps, fitted = self.fitting.steps, self.fitted
        self._tell(number + 0.99, f"looking, epoch {number + 1} of {self.plan.epochs}")
        held, f1 = self._validate()
        row = {"epoch": number + 1.0, "loss": loss, "validation_loss": held, "pixel_f1": f1}
        fitted.history.append({name: round(value, 6) for name, value in row.items()})
        if fitted.best_epoch == number:
            fitted.best = weights_of(self.network)
        steps.loss, steps.held_out = round(loss, 4), round(f1, 4)
        save_arrays(self._file, self._checkpoint())
        steps.epoch(number + 1, loss=loss, validation_loss=held, pixel_f1=f1)

    def _settle(self) -> None:
        rng = np.random.default_rng([self.plan.seed, self.plan.epochs])
        (batch,) = plan_epoch(self.fitting.training, steps=1, batch=_SETTLED_ON, rng=rng)
        seeds = rng.integers(1 << 62, size=len(batch)).tolist()
        pieces = [self._piece(draw, seed) for draw, seed in zip(batch, seeds, strict=True)]
        pixels = np.stack([piece.pixels for piece in pieces if piece.drawn])
        self.network.settle(torch.from_numpy(normalise(pixels, self.fitting.settings)))

    def _step(self, batch: Sequence[Draw], *, seeds: NDArray[np.int64], done: float) -> float:
        pairs = self.fitting.parallel.share(list(zip(batch, seeds.tolist(), strict=False)))
        self._set_rates(done / self.plan.epochs)
        self.optimiser.zero_grad(set_to_none=True)
        losses = self._losses([self._piece(draw, seed) for draw, seed in pairs])
        if len(losses):
            torch.autograd.backward(losses.mean())
        self.fitting.parallel.average(self.parameters, own=len(losses), batch=len(batch))
        nn.utils.clip_grad_norm_(self.parameters, _MOST_GRADIENT)
        self.optimiser.step()
        return float(losses.detach().mean()) if len(losses) else 0.0

    def _piece(self, draw: Draw, seed: int) -> Piece:
        return cut_piece(
            draw,
            self.fitting.training,
            show=self.fitting.show,
            side_px=self.plan.side_px,
            rng=np.random.default_rng(seed),
        )

    def _losses(self, pieces: Sequence[Piece]) -> Tensor:
        """One loss per piece, whole pictures one by one."""
        drawn = [piece for piece in pieces if piece.drawn]
        found = []
        if drawn:
            logits = self._logits(np.stack([piece.pixels for piece in drawn]))
            bits = torch.from_numpy(np.stack([piece.bits for piece in drawn]))
            found.append(drawn_loss(logits, bits))
        found += [
            picture_loss(self._logits(piece.pixels[None]), torch.ones(1))
            for piece in pieces
            if not piece.drawn
        ]
        return torch.cat(found) if found else torch.zeros(0)

    def _logits(self, pixels: NDArray[np.uint8]) -> Tensor:
        x = torch.from_numpy(normalise(pixels, self.fitting.settings))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.plan.bf16):
            logits, _ = self.network(x.contiguous(memory_format=torch.channels_last))
        return torch.as_tensor(logits).float()

    def _validate(self) -> tuple[float, float]:
        """Mean loss over whole pictures held out, and F1 of all their pixels at a half."""
        self.network.eval()
        losses, counts = [], [np.zeros((1, 3), np.int64)]
        with torch.inference_mode():
            for facts in self.fitting.validation:
                shown = self.fitting.show(facts.sample)
                logits = self._logits(shown.pixels[None])
                if not facts.drawn:
                    losses.append(float(picture_loss(logits, torch.ones(1))))
                    continue
                bits = torch.from_numpy(shown.mask[None])
                losses.append(float(drawn_loss(logits, bits)))
                found = ((laid_on(logits, bits) > 0) & (bits != IGNORED)).numpy()
                counts.append(pixel_counts(list(found), [shown.mask == 1]))
        f1 = f1_of(np.concatenate(counts))
        return float(np.mean(losses)), f1 if math.isfinite(f1) else 0.0

    def _set_rates(self, done: float) -> None:
        share = one_cycle(done, warm_up=_WARM_UP, first=0.05)
        peak = self.plan.learning_rate
        for group, rate in zip(
            self.optimiser.param_groups, (peak, peak * _DECODER_FASTER), strict=True
        ):
            group["lr"] = rate * max(share, 0.01)

    def _tell(self, done: float, stage: str) -> None:
        first, last = self.fitting.first, self.fitting.last
        self.fitting.steps.at(first + (last - first) * done / self.plan.epochs, stage)

    @property
    def _file(self) -> Path:
        return self.fitting.folder / "fitting.npz"

    def _checkpoint(self) -> Arrays:
        """Weights, the optimiser's moments, the best weights, the history."""
        found: Arrays = {f"w/{name}": value for name, value in weights_of(self.network).items()}
        found |= {f"b/{name}": value for name, value in self.fitted.best.items()}
        for place, one in enumerate(self.parameters):
            state = self.optimiser.state[one]
            found[f"m/{place}"] = state["exp_avg"].numpy().copy()
            found[f"v/{place}"] = state["exp_avg_sq"].numpy().copy()
            found[f"t/{place}"] = np.array(float(state["step"]))
        for name in _WATCHED:
            found[f"h/{name}"] = np.array([row[name] for row in self.fitted.history])
        return found

    def resume(self) -> None:
        """Take up the last whole epoch, where there is one."""
        stored = load_arrays(self._file)
        if stored is None:
            return
        load_weights(self.network, under("w/", stored))
        self.fitted.best = under("b/", stored)
        for place, one in enumerate(self.parameters):
            self.optimiser.state[one] = {
                "step": torch.tensor(float(stored[f"t/{place}"]), dtype=torch.float32),
                "exp_avg": _like(one, stored[f"m/{place}"]),
                "exp_avg_sq": _like(one, stored[f"v/{place}"]),
            }
        rows = zip(*(stored[f"h/{name}"].tolist() for name in _WATCHED), strict=True)
        self.fitted.history = [
            {"epoch": float(number), **dict(zip(_WATCHED, row, strict=True))}
            for number, row in enumerate(rows, start=1)
        ]


def _freeze(network: UNet) -> None:
    """Keep the published weights where learning is dear; see the module."""
    parts: list[nn.Module] = [network.trunk.stem, *network.trunk.blocks()[:_FROZEN_BLOCKS]]
    for part in parts:
        part.requires_grad_(requires_grad=False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.requires_grad_(requires_grad=False)


def _like(parameter: nn.Parameter, value: NDArray[np.generic]) -> Tensor:
    """A tensor laid out as its parameter is."""
    empty = torch.empty_like(parameter.detach())
    return empty.copy_(torch.from_numpy(np.asarray(value, np.float32)))
