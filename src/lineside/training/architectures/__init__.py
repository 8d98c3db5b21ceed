"""Networks being trained or borrowed from: layers and weights, nothing else.

Main names: ``Lite0Trunk``, ``lite0_trunk``. Not here: loops, losses, heads and export.
"""

from lineside.training.architectures.lite0 import (
    BLOCKS_AT_STRIDE_8,
    STRIDE_8_CHANNELS,
    STRIDE_16_CHANNELS,
    Conv,
    Lite0Trunk,
    lite0_trunk,
)

__all__ = [
    "BLOCKS_AT_STRIDE_8",
    "STRIDE_8_CHANNELS",
    "STRIDE_16_CHANNELS",
    "Conv",
    "Lite0Trunk",
    "lite0_trunk",
]
