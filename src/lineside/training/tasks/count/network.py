"""The network that tells a number without ever having been shown an object.

A density over the picture, at stride 8, sums to a number S. The logit of the number k is
-a (k - S)^2 / 2, that of "more than most" -a max(0, most + 1 - S)^2 / 2, so that neighbours of the
likeliest number are the next likely; a linear layer on the picture's mean features corrects them.
``activation`` is the density.
"""

import copy
import math

import torch
from torch import Tensor, nn

from lineside.training.common.backbone import (
    BLOCKS_AT_STRIDE_4,
    STRIDE_8_CHANNELS,
    STRIDE_16_CHANNELS,
    lite0_backbone,
)

STRIDE_PX = 8
_WIDTH = 64


class NumberNetwork(nn.Module):
    """(n, 3, h, w) → logits (n, most + 2), activation (n, 1, h / 8, w / 8)."""

    def __init__(self, *, most: int) -> None:
        super().__init__()
        self.trunk = copy.deepcopy(lite0_backbone()).requires_grad_(requires_grad=True)
        self.trunk.stem.requires_grad_(requires_grad=False)
        self.trunk.at_8[:BLOCKS_AT_STRIDE_4].requires_grad_(requires_grad=False)
        self.at_8 = nn.Conv2d(STRIDE_8_CHANNELS, _WIDTH, 1)
        self.at_16 = nn.Conv2d(STRIDE_16_CHANNELS, _WIDTH, 1)
        self.shared = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.density = nn.Conv2d(_WIDTH, 1, 1)
        self.correction = nn.Linear(_WIDTH, most + 2)
        self.sharpness = nn.Parameter(torch.zeros(1))
        self.register_buffer("numbers", torch.arange(most + 2, dtype=torch.float32))
        self.register_buffer("is_more", (torch.arange(most + 2) == most + 1).float())
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)
        nn.init.normal_(self.density.weight, std=0.01)

    numbers: Tensor
    is_more: Tensor

    def start_number(self, mean: float, *, cells: int) -> None:
        """Begin with that number on a picture of so many cells."""
        each = max(mean, 0.1) / cells
        with torch.no_grad():
            bias = self.density.bias
            if bias is not None:
                bias.fill_(math.log(math.expm1(each)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine, coarse = self.trunk(x)
        grown = nn.functional.interpolate(self.at_16(coarse), scale_factor=2.0, mode="nearest")
        seen = torch.relu(self.shared(torch.relu(self.at_8(fine) + grown)))
        density = nn.functional.softplus(self.density(seen))
        total = density.sum(dim=(1, 2, 3)).unsqueeze(1)
        apart = self.numbers - total
        apart = apart * (1 - self.is_more) + torch.relu(apart) * self.is_more
        likely = -torch.exp(self.sharpness) * apart * apart / 2
        return likely + self.correction(seen.mean(dim=(2, 3))), density

    def learned_backbone(self) -> list[nn.Parameter]:
        """Trunk weights that are learned; the rest of the network is new."""
        return [one for one in self.trunk.parameters() if one.requires_grad]

    def new_layers(self) -> list[nn.Parameter]:
        """Weights that were not published."""
        return [one for name, one in self.named_parameters() if not name.startswith("trunk.")]
