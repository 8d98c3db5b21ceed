"""EfficientNet-Lite0 whole: to stride 32, and its last convolution of 1,280 channels.

The 1,000 classes it was published with are left out. As in ``lite0``, batch normalisation is folded
in. Input (value - 127) / 128, RGB; sides that are multiples of 32.
"""

import copy
from functools import lru_cache

from torch import Tensor, nn

from lineside.training.architectures.lite0 import (
    STRIDE_8_CHANNELS,
    STRIDE_16_CHANNELS,
    Block,
    Conv,
    Lite0Trunk,
    fold_block,
    fold_conv,
    lite0_trunk,
    make_blocks,
    published_weights,
)

STRIDE_32_CHANNELS = 320
TOP_CHANNELS = 1280
TAP_CHANNELS = (STRIDE_8_CHANNELS, STRIDE_16_CHANNELS, STRIDE_32_CHANNELS, TOP_CHANNELS)
TAP_STRIDES = (8, 16, 32, 32)

# (expansion, channels, repeats, stride, kernel) beyond stride 16; Tan and Le, table 1.
_STAGES = ((6, 192, 4, 2, 5), (6, 320, 1, 1, 3))


class Lite0Full(nn.Module):
    """(n, 3, h, w) → four maps: 40 at h/8, 112 at h/16, 320 and 1,280 channels at h/32."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Lite0Trunk()
        self.at_32 = nn.Sequential(*make_blocks(_STAGES, inside=STRIDE_16_CHANNELS))
        self.top = Conv(
            (STRIDE_32_CHANNELS, TOP_CHANNELS), kernel=1, stride=1, groups=1, active=True
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        fine, coarse = self.trunk(x)
        deep = self.at_32(coarse)
        return fine, coarse, deep, self.top(deep)

    def blocks(self) -> list[Block]:
        """All blocks in order."""
        return [*self.trunk.blocks(), *(b for b in self.at_32 if isinstance(b, Block))]


@lru_cache(maxsize=1)
def _published() -> Lite0Full:
    weights = published_weights()
    network = Lite0Full().eval()
    network.trunk.load_state_dict(lite0_trunk().state_dict())
    first = len(network.trunk.blocks())
    for place, block in enumerate(network.blocks()[first:], start=first):
        fold_block(block, weights, place=place)
    fold_conv(network.top, weights, conv="_conv_head", norm="_bn1")
    return network.requires_grad_(requires_grad=False)


def lite0_full() -> Lite0Full:
    """A copy of one's own with the published weights, frozen, in evaluation mode."""
    return copy.deepcopy(_published())
