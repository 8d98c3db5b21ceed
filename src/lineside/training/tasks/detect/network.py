"""The network that finds objects: Lite0's trunk, a small pyramid, one map of centres.

(n, 3 or 9, h, w) prepared pictures, sides multiples of 16, to maps at stride 4: ``objectness``
(n, 1, …) logits, ``geometry`` (n, 4, …) and ``classes`` (n, labels, …) logits, as
``lineside.models.Engine`` says. One map for all labels: with a map each, one object that looks like
two kinds is found twice. The 9 channels of a picture beside its template are mixed to three by a
layer of their own, which begins as the greys of picture, template and difference.
"""

import copy

import torch
from torch import Tensor, nn

from lineside.training.common.backbone import (
    BLOCKS_AT_STRIDE_4,
    STRIDE_4_CHANNELS,
    STRIDE_8_CHANNELS,
    STRIDE_16_CHANNELS,
    lite0_backbone,
)
from lineside.training.common.export import CELLS, PICTURE

STRIDE_PX = 4
TEMPLATE_CHANNELS = 9
OUTPUTS = ("objectness", "geometry", "classes")
VARIES = {"crops": PICTURE, **dict.fromkeys(OUTPUTS, CELLS)}
_WIDTH = 64
_RARE = -4.0  # logit of a cell before anything is learned: one in fifty
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601


class CentreNetwork(nn.Module):
    """See the module; trunk layers up to stride 4 stay as published."""

    def __init__(self, *, labels: int, template: bool) -> None:
        super().__init__()
        self.mix = _mix() if template else None
        self.trunk = copy.deepcopy(lite0_backbone()).requires_grad_(requires_grad=True)
        self.trunk.stem.requires_grad_(requires_grad=False)
        self.trunk.at_8[:BLOCKS_AT_STRIDE_4].requires_grad_(requires_grad=False)
        self.at_4 = nn.Conv2d(STRIDE_4_CHANNELS, _WIDTH, 1)
        self.at_8 = nn.Conv2d(STRIDE_8_CHANNELS, _WIDTH, 1)
        self.at_16 = nn.Conv2d(STRIDE_16_CHANNELS, _WIDTH, 1)
        self.smooth = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.shared = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.objectness = nn.Conv2d(_WIDTH, 1, 1)
        self.geometry = nn.Conv2d(_WIDTH, 4, 1)
        self.classes = nn.Conv2d(_WIDTH, labels, 3, padding=1)
        for head in (self.objectness, self.geometry, self.classes):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(_bias(head))
        nn.init.constant_(_bias(self.objectness), _RARE)

    def start_sizes(self, log_width: float, log_height: float) -> None:
        """Begin with boxes of that size."""
        with torch.no_grad():
            _bias(self.geometry)[2:] = torch.tensor([log_width, log_height])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.mix is not None:
            x = self.mix(x)
        finest, fine, coarse = self.trunk.at_strides(x)
        merged = self.at_8(fine) + _grown(self.at_16(coarse))
        merged = self.at_4(finest) + _grown(merged)
        seen = torch.relu(self.shared(torch.relu(self.smooth(merged))))
        return self.objectness(seen), self.geometry(seen), self.classes(seen)

    def learned_backbone(self) -> list[nn.Parameter]:
        """Trunk weights that are learned; the rest of the network is new."""
        return [one for one in self.trunk.parameters() if one.requires_grad]

    def new_layers(self) -> list[nn.Parameter]:
        """Weights that were not published."""
        return [one for name, one in self.named_parameters() if not name.startswith("trunk.")]


def _mix() -> nn.Conv2d:
    mix = nn.Conv2d(TEMPLATE_CHANNELS, 3, 1)
    with torch.no_grad():
        mix.weight.zero_()
        _bias(mix).zero_()
        for place in range(3):
            mix.weight[place, 3 * place : 3 * place + 3, 0, 0] = torch.tensor(_GREY)
    return mix


def _bias(conv: nn.Conv2d) -> Tensor:
    value = conv.bias
    assert value is not None  # noqa: S101  every convolution here has one
    return value


def _grown(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
