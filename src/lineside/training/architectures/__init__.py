"""Networks being trained or borrowed from: layers and weights, nothing else.

Main names: ``Lite0Trunk``, ``lite0_trunk``, ``Lite0Full``, ``lite0_full``. Not here: loops,
losses, heads and export.
"""

from lineside.training.architectures.full import (
    STRIDE_32_CHANNELS,
    TAP_CHANNELS,
    TAP_STRIDES,
    TOP_CHANNELS,
    Lite0Full,
    lite0_full,
)
from lineside.training.architectures.lite0 import (
    BLOCKS_AT_STRIDE_4,
    BLOCKS_AT_STRIDE_8,
    STRIDE_4_CHANNELS,
    STRIDE_8_CHANNELS,
    STRIDE_16_CHANNELS,
    Block,
    Conv,
    Lite0Trunk,
    lite0_trunk,
)

__all__ = [
    "BLOCKS_AT_STRIDE_4",
    "BLOCKS_AT_STRIDE_8",
    "STRIDE_4_CHANNELS",
    "STRIDE_8_CHANNELS",
    "STRIDE_16_CHANNELS",
    "STRIDE_32_CHANNELS",
    "TAP_CHANNELS",
    "TAP_STRIDES",
    "TOP_CHANNELS",
    "Block",
    "Conv",
    "Lite0Full",
    "Lite0Trunk",
    "lite0_full",
    "lite0_trunk",
]
