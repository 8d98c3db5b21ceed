"""Input specification: size, brightness and scales of the images shown to the network.

1. A picture of any size is stretched to one input. The input has the proportions that the training
   pictures have in the middle, so that most are hardly distorted, and about the area named.
2. With two scales the network also looks at the input halved: small things are seen at the first,
   the whole at the second. One set of weights serves both.
3. Brought to one brightness, a picture is multiplied so that its mean is that of all others: where
   the light changes and says nothing, less is left to learn; where it tells classes apart, it is
   lost.
4. Which sight is used is chosen by validation; a larger one has to earn its cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lineside.core import Box
from lineside.vision import Crop, Prepare

STEP_PX = 32
LEVEL = 127.0
_AREAS = ((224, 1), (320, 1), (448, 2))
_LARGEST_PROPORTION = 3.0
_MOST_GROWN = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """Input specification of a network.

    Attributes:
        width_px, height_px: of its input; multiples of 32, of 64 with two scales.
        scales: 1, or 2 where it also looks at the input halved.
        level: mean of the values that a picture is brought to; 0 leaves it as it is.
    """

    width_px: int
    height_px: int
    scales: int = 1
    level: float = 0.0

    @property
    def prepare(self) -> Prepare:
        """Any picture, whole, stretched to the input."""
        box = Box(x0_px=0.0, y0_px=0.0, x1_px=float(self.width_px), y1_px=float(self.height_px))
        return Prepare(
            crops=(Crop(region="", box_px=box),),
            width_px=self.width_px,
            height_px=self.height_px,
            fit="stretch",
            level=self.level,
        )

    @property
    def words(self) -> str:
        """For reports."""
        scales = "" if self.scales == 1 else " and half of it"
        light = ", brought to one brightness" if self.level else ""
        return f"{self.width_px} x {self.height_px} px{scales}{light}"

    @property
    def evened(self) -> "InputSpec":
        """The same, brought to one brightness."""
        return replace(self, level=LEVEL)


def input_specs_for(
    sizes_px: Sequence[tuple[int, int]], *, side_px: int = 0
) -> tuple[InputSpec, ...]:
    """Sights worth trying, the cheapest first.

    Args:
        sizes_px: (width, height) of the training pictures.
        side_px: of a square with the input's area, where it is prescribed; 0 tries several. What
            would blow most pictures up more than two and a half times is not tried.
    """
    wide = float(np.median([width / height for width, height in sizes_px]))
    wide = min(max(wide, 1 / _LARGEST_PROPORTION), _LARGEST_PROPORTION)
    side = float(np.median([(width * height) ** 0.5 for width, height in sizes_px]))
    areas = ((side_px, 1),) if side_px else _AREAS
    tried = [area for area in areas if area[0] <= _MOST_GROWN * side] or list(areas[:1])
    found = [_sight(length, scales=scales, wide=wide) for length, scales in tried]
    return tuple(dict.fromkeys(found))


def _sight(side_px: int, *, scales: int, wide: float) -> InputSpec:
    step = STEP_PX * scales
    return InputSpec(
        width_px=max(1, round(side_px * wide**0.5 / step)) * step,
        height_px=max(1, round(side_px / wide**0.5 / step)) * step,
        scales=scales,
    )
