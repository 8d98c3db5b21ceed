"""From a fitted network to what a package needs: file, parity, health limits, golden pictures."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lineside.core import RefusedError
from lineside.datasets import Sample
from lineside.models import HealthLimits, OnnxEngine
from lineside.training.objects.crops import whole_piece
from lineside.training.objects.fitting import batch_of
from lineside.training.objects.network import TEMPLATE_CHANNELS, CentreNetwork, network_bytes
from lineside.training.objects.number_network import NumberNetwork, number_bytes
from lineside.training.objects.numbers import SIDE_PX, Numbered
from lineside.training.objects.scene import Scenes
from lineside.vision import HealthFigures

OUTPUTS = ("objectness", "geometry", "classes")
NUMBER_OUTPUTS = ("logits", "activation")
BOUND = 1e-3
_FILE = "network.onnx"
_GOLDEN = 3
_MOST_CLIPPED = 0.95


def exported(
    network: CentreNetwork, golden: Sequence[Sample], *, scenes: Scenes
) -> tuple[bytes, float]:
    """The ONNX file, and the most its maps differ by from the fitted network's.

    Raises:
        RefusedError: by more than 0.001.
    """
    encoded = network_bytes(network, labels=len(scenes.labels))
    channels = TEMPLATE_CHANNELS if scenes.template else 3
    engine = OnnxEngine(encoded, crops=(1, channels, 0, 0), where=_FILE, outputs=OUTPUTS)
    worst = 0.0
    for sample in golden:
        multiple = scenes.settings.multiple
        piece = whole_piece(scenes.scene(sample), scenes.pixels(sample), multiple=multiple)
        crops = batch_of([piece], scenes=scenes).contiguous()
        worst = max(worst, _apart(network, crops, engine=engine, outputs=OUTPUTS))
    return encoded, checked(worst)


def exported_numbers(
    network: NumberNetwork, golden: Sequence[Sample], *, numbered: Numbered
) -> tuple[bytes, float]:
    """As ``exported``, of a network that tells numbers."""
    encoded = number_bytes(network, side_px=SIDE_PX)
    engine = OnnxEngine(
        encoded, crops=(1, 3, SIDE_PX, SIDE_PX), where=_FILE, outputs=NUMBER_OUTPUTS
    )
    worst = 0.0
    for sample in golden:
        crops = numbered.tensor([numbered.pixels(sample)]).contiguous()
        worst = max(worst, _apart(network, crops, engine=engine, outputs=NUMBER_OUTPUTS))
    return encoded, checked(worst)


def _apart(
    network: nn.Module, crops: Tensor, *, engine: OnnxEngine, outputs: Sequence[str]
) -> float:
    with torch.inference_mode():
        wanted = network(crops)
    said = engine.run(crops.numpy(), outputs=outputs)
    return max(
        float(np.abs(ours.numpy() - theirs).max())
        for ours, theirs in zip(wanted, said, strict=True)
    )


def checked(worst: float) -> float:
    """The difference itself; ``RefusedError`` above the bound."""
    if not worst <= BOUND:
        raise RefusedError(
            f"the exported network differs from the trained one by {worst:.2g}",
            where=_FILE,
            fix=f"At most {BOUND} is taken; report this processor.",
        )
    return worst


def golden_of(samples: Sequence[Sample], *, numbers: Sequence[int]) -> list[Sample]:
    """The picture with most objects, the one with fewest, and one between, all different."""
    order = sorted(range(len(samples)), key=lambda p: (numbers[p], samples[p].digest))
    places = dict.fromkeys((order[-1], order[0], order[len(order) // 2]))
    return [samples[place] for place in places][:_GOLDEN]


def limits_of(pictures: Sequence[HealthFigures]) -> HealthLimits:
    """Limits with room around what the training pictures show.

    Sharpness may fall to a quarter of the dullest picture's, light to a third or to a third of what
    was left above the brightest. Where pictures of the kind are clipped nearly everywhere, as
    binarised ones are, clipping says nothing.
    """
    greys = [each.mean_grey for each in pictures]
    clipped = max(each.clipped_share for each in pictures)
    return HealthLimits(
        sharpness_min=round(min(each.sharpness for each in pictures) / 4, 3),
        mean_grey_min=round(min(greys) / 3, 3),
        mean_grey_max=round(255 - (255 - max(greys)) / 3, 3),
        clipped_share_max=1.0 if 3 * clipped > _MOST_CLIPPED else round(max(0.3, 3 * clipped), 3),
        residual_max_px=4.0,
        feature_distance_max=3.0,
    )
