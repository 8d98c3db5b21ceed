"""From a fitted network to what a package needs: file, parity, health limits, golden pictures."""

from collections.abc import Sequence

from lineside.datasets import Sample
from lineside.models import OnnxEngine
from lineside.training.common.export import ENGINE_FILE, difference, within_bound
from lineside.training.tasks.detect.crops import whole_piece
from lineside.training.tasks.detect.fitting import batch_of
from lineside.training.tasks.detect.network import TEMPLATE_CHANNELS, CentreNetwork, network_bytes
from lineside.training.tasks.detect.scene import Scenes

OUTPUTS = ("objectness", "geometry", "classes")


def exported(
    network: CentreNetwork, golden: Sequence[Sample], *, scenes: Scenes
) -> tuple[bytes, float]:
    """The ONNX file, and the most its maps differ by from the fitted network's.

    Raises:
        RefusedError: by more than 0.001.
    """
    encoded = network_bytes(network, labels=len(scenes.labels))
    channels = TEMPLATE_CHANNELS if scenes.template else 3
    engine = OnnxEngine(encoded, crops=(1, channels, 0, 0), where=ENGINE_FILE, outputs=OUTPUTS)
    worst = 0.0
    for sample in golden:
        multiple = scenes.settings.multiple
        piece = whole_piece(scenes.scene(sample), scenes.pixels(sample), multiple=multiple)
        crops = batch_of([piece], scenes=scenes).contiguous()
        worst = max(worst, difference(network, crops, engine=engine, outputs=OUTPUTS))
    return encoded, within_bound(worst)
