"""Write the network as one ONNX file, node by node.

The layers are few and known, so the graph is written directly: the file's bytes depend on the
weights alone, no tracing library has to be loaded, and the parity check
(``lineside.training.export``) holds it against the torch network on real pictures.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.training.architectures import BLOCKS_AT_STRIDE_8, Lite0Trunk
from lineside.training.network import CELLS, GRID, Heads, split_taps
from lineside.training.onnx_graph import Graph, add_block, add_conv, model_bytes, value_info

Floats = NDArray[np.float32]


def write_onnx(heads: Heads, *, trunk: Lite0Trunk, crop_px: int) -> bytes:
    """The file's bytes: input ``crops`` (regions, 3, crop_px, crop_px), three outputs."""
    regions, outputs = heads.bias.shape
    fine_px, coarse_px = crop_px // 8, crop_px // 16
    graph = Graph()
    fine, coarse = _trunk(graph, trunk)
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


def _trunk(graph: Graph, trunk: Lite0Trunk) -> tuple[str, str]:
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
