"""The whole network, in torch and as an ONNX file: trunk, patches, scorer."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.models import OnnxEngine
from lineside.training.common.backbone import BLOCKS_AT_STRIDE_8, Lite0Backbone, fast_backbone
from lineside.training.common.export import (
    ENGINE_FILE,
    Graph,
    add_block,
    add_conv,
    model_bytes,
    value_info,
    within_bound,
)
from lineside.training.tasks.anomaly.patches import STRIDE_PX, taps
from lineside.training.tasks.anomaly.scorers import Scorer
from lineside.vision import Prepare

MAP = "map"


class AnomalyNetwork(nn.Module):
    """(1, 3, height, width) prepared crops → (1, 1, height / 8, width / 8) distances."""

    def __init__(self, scorer: Scorer, *, trunk: Lite0Backbone) -> None:
        super().__init__()
        self.trunk = trunk
        self.scorer = scorer

    def forward(self, crops: Tensor) -> Tensor:
        found: Tensor = self.scorer(taps(self.trunk, crops))
        return found


def network_bytes(scorer: Scorer, *, settings: Prepare) -> bytes:
    """The ONNX file; its input's size varies where pictures' sizes do."""
    trunk = fast_backbone()
    graph = Graph()
    fine, coarse = _backbone(graph, trunk)
    near, far = (_averaged(graph, each) for each in (fine, coarse))
    scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
    laid = graph.add(
        "Resize", far, "", scales, mode="linear", coordinate_transformation_mode="half_pixel"
    )
    features = graph.add("Concat", near, laid, axis=1)
    graph.add("Identity", scorer.write(graph, features), name=MAP)
    varies = settings.fit == "zoom"
    height, width = settings.height_px, settings.width_px
    size: tuple[int | str, int | str] = ("height", "width") if varies else (height, width)
    cells: tuple[int | str, int | str] = ("rows", "columns")
    if not varies:
        cells = (height // STRIDE_PX, width // STRIDE_PX)
    return model_bytes(
        graph,
        name="anomaly",
        inputs=[value_info("crops", (1, 3, *size))],
        outputs=[value_info(MAP, (1, 1, *cells))],
    )


def _backbone(graph: Graph, trunk: Lite0Backbone) -> tuple[str, str]:
    x = add_conv(graph, trunk.stem, x="crops")
    found = []
    for block in trunk.blocks():
        x = add_block(graph, block, x=x)
        found.append(x)
    return found[BLOCKS_AT_STRIDE_8 - 1], found[-1]


def _averaged(graph: Graph, tap: str) -> str:
    return graph.add(
        "AveragePool",
        tap,
        kernel_shape=[3, 3],
        strides=[1, 1],
        pads=[1, 1, 1, 1],
        count_include_pad=0,
    )


def difference(scorer: Scorer, network: bytes, *, crops: NDArray[np.float32]) -> float:
    """Largest difference of the map between torch and ONNX Runtime.

    Raises:
        RefusedError: it is above the bound that packages promise.
    """
    engine = OnnxEngine(network, crops=(1, 3, 0, 0), where=ENGINE_FILE, outputs=(MAP,))
    with torch.inference_mode():
        wanted = AnomalyNetwork(scorer, trunk=fast_backbone())(torch.from_numpy(crops)).numpy()
    (said,) = engine.run(crops, outputs=(MAP,))
    return within_bound(float(np.abs(said - wanted).max()))
