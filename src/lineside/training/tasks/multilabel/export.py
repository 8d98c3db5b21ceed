"""From fitted heads to a package: network, parity, golden pictures, health limits, manifest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lineside.models import HealthLimits, OnnxEngine
from lineside.models.engines import LABEL_OUTPUTS
from lineside.training.common.backbone import BLOCKS_AT_STRIDE_8, Lite0Backbone, lite0_backbone
from lineside.training.common.export import (
    ENGINE_FILE,
    Graph,
    add_block,
    add_conv,
    difference,
    model_bytes,
    value_info,
    within_bound,
)
from lineside.training.tasks.multilabel.features import PictureFeatures
from lineside.training.tasks.multilabel.network import CELLS, GRID, Heads, RegionNetwork, split_taps
from lineside.training.tasks.multilabel.reference import Read
from lineside.vision import Prepare, decode_picture, prepare

Floats = NDArray[np.float32]


def write_onnx(heads: Heads, *, trunk: Lite0Backbone, crop_px: int) -> bytes:
    """The file's bytes: input ``crops`` (regions, 3, crop_px, crop_px), three outputs."""
    regions, outputs = heads.bias.shape
    fine_px, coarse_px = crop_px // 8, crop_px // 16
    graph = Graph()
    fine, coarse = _backbone(graph, trunk)
    fine_grid = graph.add("AveragePool", fine, **_pool(fine_px // GRID))
    coarse_grid = graph.add("AveragePool", coarse, **_pool(coarse_px // GRID))
    _logits(graph, heads, fine=fine_grid, coarse=coarse_grid)
    _activation(graph, heads, fine=fine, coarse=coarse, crop_px=crop_px)
    _distance(graph, heads, fine=fine_grid, coarse=coarse_grid)
    return model_bytes(
        graph,
        name="regions",
        inputs=[value_info("crops", (regions, 3, crop_px, crop_px))],
        outputs=[
            value_info("logits", (regions, outputs)),
            value_info("activation", (regions, outputs, fine_px, fine_px)),
            value_info("distance", (regions,)),
        ],
    )


def _pool(cell: int) -> dict[str, Any]:
    return {"kernel_shape": [cell, cell], "strides": [cell, cell]}


def _backbone(graph: Graph, trunk: Lite0Backbone) -> tuple[str, str]:
    x = add_conv(graph, trunk.stem, x="crops")
    taps: list[str] = []
    for block in trunk.blocks():
        x = add_block(graph, block, x=x)
        taps.append(x)
    return taps[BLOCKS_AT_STRIDE_8 - 1], taps[-1]


def _weighted(graph: Graph, tap: str, *, weight: Floats, over: tuple[int, ...]) -> str:
    """Sum of tap x weight over the axes given, for every output."""
    lifted = graph.add("Unsqueeze", tap, graph.axes(1))
    product = graph.add("Mul", lifted, graph.constant(weight))
    return graph.add("ReduceSum", product, graph.axes(*over), keepdims=0)


def _logits(graph: Graph, heads: Heads, *, fine: str, coarse: str) -> None:
    weight_fine, weight_coarse = split_taps(heads.weight)
    one = _weighted(graph, fine, weight=weight_fine, over=(2, 3, 4))
    other = _weighted(graph, coarse, weight=weight_coarse, over=(2, 3, 4))
    both = graph.add("Add", one, other)
    graph.add("Add", both, graph.constant(heads.bias), name="logits")


def _activation(graph: Graph, heads: Heads, *, fine: str, coarse: str, crop_px: int) -> None:
    fine_px, coarse_px = crop_px // 8, crop_px // 16
    weight_fine, weight_coarse = split_taps(heads.weight * np.float32(CELLS))
    centre = split_taps(heads.weight * heads.mean[:, None, :] * np.float32(CELLS))
    offset = (centre[0].sum(axis=2) + centre[1].sum(axis=2)).astype(np.float32)
    high = _weighted(graph, fine, weight=_over(weight_fine, fine_px), over=(2,))
    low = _weighted(graph, coarse, weight=_over(weight_coarse, coarse_px), over=(2,))
    scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
    grown = graph.add(
        "Resize",
        low,
        "",
        scales,
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )
    both = graph.add("Add", high, grown)
    graph.add("Sub", both, graph.constant(_over(offset, fine_px)), name="activation")


def _over(grid: Floats, length_px: int) -> Floats:
    """Repeat the last two axes of a grid so that they cover a square map."""
    each = length_px // GRID
    return np.asarray(grid.repeat(each, axis=-2).repeat(each, axis=-1), np.float32)


def _distance(graph: Graph, heads: Heads, *, fine: str, coarse: str) -> None:
    means = [graph.add("ReduceMean", tap, axes=[2, 3], keepdims=0) for tap in (fine, coarse)]
    pooled = graph.add("Concat", *means, axis=1)
    scaled = graph.add("Div", pooled, graph.constant(heads.spread))
    apart = graph.add(
        "Sub", graph.add("Unsqueeze", scaled, graph.axes(1)), graph.constant(heads.bank)
    )
    lengths = graph.add("ReduceL2", apart, axes=[2], keepdims=0)
    nearest = graph.add("ReduceMin", lengths, axes=[1], keepdims=0)
    graph.add("Div", nearest, graph.constant(heads.unit), name="distance")


_GOLDEN = 3
_LEAST_DISTANCE = 3.0
_DISTANCE_ROOM = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A network file, and the most it differs by from torch on golden pictures."""

    network: bytes
    max_abs_diff: float


def export(
    heads: Heads, *, settings: Prepare, golden: Sequence[PictureFeatures], read: Read
) -> Exported:
    """Write the network and hold it against torch on golden pictures.

    Raises:
        RefusedError: an output differs by more than 0.001.
    """
    encoded = write_onnx(heads, trunk=lite0_backbone(), crop_px=settings.width_px)
    size = (len(settings.crops), 3, settings.height_px, settings.width_px)
    engine = OnnxEngine(encoded, crops=size, where=ENGINE_FILE)
    network = RegionNetwork(heads, trunk=lite0_backbone()).eval()
    worst = 0.0
    for looked in golden:
        crops = prepare(decode_picture(read(looked.sample)), settings, matrix=looked.matrix)
        found = difference(network, torch.from_numpy(crops), engine=engine, outputs=LABEL_OUTPUTS)
        worst = max(worst, found)
    return Exported(network=encoded, max_abs_diff=within_bound(worst))


def golden_pictures(pictures: Sequence[PictureFeatures]) -> list[PictureFeatures]:
    """The picture with most labels, the one with fewest, and one between, all different."""
    ordered = sorted(pictures, key=lambda p: (len(p.sample.labels), p.sample.digest))
    places = dict.fromkeys((len(ordered) - 1, 0, len(ordered) // 2))
    return [ordered[place] for place in places][:_GOLDEN]


def health_limits(pictures: Sequence[PictureFeatures], distances: Floats) -> HealthLimits:
    """Limits with room around what the training pictures show.

    Sharpness may fall to a quarter of the dullest training picture's, light to a third or to a
    third of what was left above the brightest, the residual may treble. The feature distance may be
    twice what any held-out picture or its changed copies had.

    Args:
        pictures: accepted training pictures.
        distances: (pictures, copies, regions) held out.
    """
    health = [picture.health for picture in pictures]
    greys = [each.mean_grey for each in health]
    clipped = max(each.clipped_share for each in health)
    residual = max(picture.place.residual_px for picture in pictures)
    farthest = float(distances.max()) if distances.size else 0.0
    return HealthLimits(
        sharpness_min=round(min(each.sharpness for each in health) / 4, 3),
        mean_grey_min=round(min(greys) / 3, 3),
        mean_grey_max=round(255 - (255 - max(greys)) / 3, 3),
        clipped_share_max=round(min(0.95, max(0.3, 3 * clipped)), 3),
        residual_max_px=round(max(4.0, 3 * residual), 3),
        feature_distance_max=round(max(_LEAST_DISTANCE, _DISTANCE_ROOM * farthest), 3),
    )
