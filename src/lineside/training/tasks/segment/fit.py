"""The losses of masks, and the network as a student of the loop that fits it.

The pieces of a step follow from seed and step alone.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.training.common.backbone import Backbone
from lineside.training.common.loop import LoopPlan, Parallel, Round
from lineside.training.common.methods import spread
from lineside.training.tasks.segment.network import new_unet
from lineside.training.tasks.segment.training_set import (
    IGNORED,
    Draw,
    Piece,
    TrainingSet,
    cut_piece,
    plan_turn,
)
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


_SETTLED_ON = 16
_MOST_WATCHED = 15  # with a defect, and without


def has_bf16() -> bool:
    """Return whether this processor multiplies bfloat16 by itself; elsewhere it would be slower."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001  torch has no public name for it


class MaskStudent:
    """A U-Net that learns masks; see ``Student``."""

    def __init__(
        self, plan: LoopPlan, each: Round, *, known: TrainingSet, backbone: Backbone
    ) -> None:
        self.network = new_unet(plan.seed, backbone=backbone)
        self._plan, self._known = plan, known
        self._facts = [known.facts[sample.digest] for sample in each.learn]
        judged = [known.facts[sample.digest] for sample in each.judge]
        kinds = ([one for one in judged if one.defective is side] for side in (True, False))
        self._watch = [one for kind in kinds for one in spread(kind, _MOST_WATCHED)]
        self._turn, self._batches = -1, list[list[Draw]]()
        rng = np.random.default_rng([plan.seed, 3])
        (draws,) = plan_turn(self._facts, steps=1, batch=_SETTLED_ON, rng=rng)
        pieces = [self._piece(draw, step=-1, number=n) for n, draw in enumerate(draws)]
        pixels = np.stack([piece.pixels for piece in pieces if piece.drawn])
        self.network.settle(torch.from_numpy(normalise(pixels, known.settings)))

    def loss(self, step: int, *, parallel: Parallel) -> tuple[Tensor | None, int]:
        own = parallel.share(list(enumerate(self._batch(step))))
        losses = self._losses([self._piece(draw, step=step, number=n) for n, draw in own])
        return (losses.mean() if len(losses) else None), len(losses)

    def watched(self) -> float | None:
        """Per whole picture."""
        losses = []
        for facts in self._watch:
            shown = self._known.show(facts.sample)
            piece = Piece(pixels=shown.pixels, bits=shown.mask, drawn=facts.drawn)
            losses.append(float(self._losses([piece])))
        return float(np.mean(losses)) if losses else None

    def _batch(self, step: int) -> list[Draw]:
        """The pieces of a step: those of a turn of all pictures are planned at once."""
        length = max(1, round(len(self._facts) / self._plan.batch))
        turn, place = divmod(step, length)
        if turn != self._turn:
            rng = np.random.default_rng([self._plan.seed, 2, turn])
            batch = self._plan.batch
            self._batches = plan_turn(self._facts, steps=length, batch=batch, rng=rng)
            self._turn = turn
        return self._batches[place]

    def _piece(self, draw: Draw, *, step: int, number: int) -> Piece:
        return cut_piece(
            draw,
            self._facts,
            show=self._known.show,
            side_px=self._known.side_px,
            rng=np.random.default_rng([self._plan.seed, 1, step + 1, number]),
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
        x = torch.from_numpy(normalise(pixels, self._known.settings))
        with torch.autocast("cpu", torch.bfloat16, enabled=self._known.bf16):
            logits, _ = self.network(x.contiguous(memory_format=torch.channels_last))
        return torch.as_tensor(logits).float()
