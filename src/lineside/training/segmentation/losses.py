"""What is minimised: cross-entropy and Dice of pixels, cross-entropy of pictures."""

import torch
from torch import Tensor, nn

from lineside.training.segmentation.lesson import IGNORED

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
    told = (bits != IGNORED).to(laid.dtype)
    truth = (bits == 1).to(laid.dtype)
    each = nn.functional.binary_cross_entropy_with_logits(laid, truth, reduction="none") * told
    entropy = each.sum(dim=(1, 2)) / told.sum(dim=(1, 2)).clamp(min=1.0)
    chance = laid.sigmoid() * told
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
