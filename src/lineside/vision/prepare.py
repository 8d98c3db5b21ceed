"""From a picture to the network's input: one function, its settings in the manifest.

Training, evaluation and device all call ``prepare``; there is no second way.
"""

from dataclasses import dataclass
from typing import Literal

from lineside.core import Box, View


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """One region to cut out, in pixels of the reference view, margin already included."""

    region: str
    box_px: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """How a picture becomes a batch.

    Each crop is sampled once from the original picture through registration and crop in a single
    bilinear warp, to ``width_px`` x ``height_px``; then (value - mean) / scale, RGB, NCHW float32.
    """

    crops: tuple[Crop, ...]
    width_px: int
    height_px: int
    mean: float = 127.0
    scale: float = 128.0
    colour: Literal["rgb"] = "rgb"
    view: View | None = None
