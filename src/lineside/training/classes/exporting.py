"""From a head to a network file that agrees with torch, and limits for the picture itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lineside.core import RefusedError
from lineside.models import LABEL_OUTPUTS, HealthLimits, OnnxEngine
from lineside.training.architectures import Lite0Full, lite0_full
from lineside.training.classes.network import ClassHead, ClassNetwork, Floats
from lineside.training.classes.onnx_file import write_classes
from lineside.training.classes.sight import Sight
from lineside.training.export import BOUND, ENGINE_FILE
from lineside.vision import HealthFigures, prepare

_LEAST_DISTANCE = 3.0
_DISTANCE_ROOM = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedClasses:
    """A network file and how far it is from torch on golden pictures."""

    network: bytes
    max_abs_diff: float


def export_classes(
    head: ClassHead,
    *,
    sight: Sight,
    pictures: Sequence[NDArray[np.uint8]],
    trunk: Lite0Full | None = None,
) -> ExportedClasses:
    """Write the network and hold logits and distance against torch.

    The activation is compared as well, by its average: where a map reaches its maximum is not the
    same in the last digit.

    Raises:
        RefusedError: an output differs by more than 0.001.
    """
    trunk = trunk or lite0_full()
    network = write_classes(head, trunk=trunk, sight=sight)
    engine = OnnxEngine(network, crops=(1, 3, sight.height_px, sight.width_px), where=ENGINE_FILE)
    judge = ClassNetwork(head, trunk=trunk).eval()
    worst = 0.0
    for picture in pictures:
        crops = prepare(picture, sight.prepare)
        with torch.inference_mode():
            wanted = [each.numpy() for each in judge(torch.from_numpy(crops))]
        worst = max(worst, _difference(wanted, engine.run(crops, outputs=LABEL_OUTPUTS)))
    if not worst <= BOUND:
        raise RefusedError(
            f"the exported network differs from the trained one by {worst:.2g}",
            where=ENGINE_FILE,
            fix=f"At most {BOUND} is taken; report this processor.",
        )
    return ExportedClasses(network=network, max_abs_diff=worst)


def _difference(wanted: Sequence[Floats], said: Sequence[Floats]) -> float:
    pairs = [(wanted[0], said[0]), (wanted[2], said[2])]
    pairs.append((wanted[1].mean(axis=(2, 3)), said[1].mean(axis=(2, 3))))
    return max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)


def limits_around(pictures: Sequence[HealthFigures], *, farthest: float) -> HealthLimits:
    """Limits with room around what the training pictures show.

    Sharpness may fall to a quarter of the dullest picture's, light to a third or to a third of what
    was left above the brightest. The distance may be twice what any training picture had to the
    others.
    """
    greys = [each.mean_grey for each in pictures]
    clipped = 3 * max(each.clipped_share for each in pictures)
    return HealthLimits(
        sharpness_min=round(min(each.sharpness for each in pictures) / 4, 3),
        mean_grey_min=round(min(greys) / 3, 3),
        mean_grey_max=round(255 - (255 - max(greys)) / 3, 3),
        clipped_share_max=1.0 if clipped > 1 else round(max(0.3, clipped), 3),
        residual_max_px=4.0,
        feature_distance_max=round(max(_LEAST_DISTANCE, _DISTANCE_ROOM * farthest), 3),
    )
