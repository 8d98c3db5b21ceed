"""From a fitted network to its file: distance to known pictures, ONNX, parity, health limits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from lineside.models import HealthLimits, OnnxEngine
from lineside.training.common.export import (
    ENGINE_FILE,
    Graph,
    add_block,
    add_conv,
    limits_of,
    model_bytes,
    value_info,
    within_bound,
)
from lineside.training.tasks.segment.network import ENDS, UNet, Up
from lineside.training.tasks.segment.training_set import Facts
from lineside.vision import Prepare, prepare

OUTPUTS = ("map", "distance")
_LEAST_DISTANCE = 3.0
_DISTANCE_ROOM = 2.0

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnownFeatures:
    """The training pictures' mean features, to tell how far another picture is from them.

    Attributes:
        bank: (k, channels) divided by ``spread``.
        spread: (channels,) standard deviations.
        unit: 99th percentile of the pictures' distances to their nearest other one.
    """

    bank: Floats
    spread: Floats
    unit: float


def known_features(features: Floats) -> KnownFeatures:
    """From (n, channels) mean features of some training pictures."""
    spread = np.maximum(features.std(axis=0), 1e-3).astype(np.float32)
    bank = (features / spread).astype(np.float32)
    apart = distances(bank, bank)
    np.fill_diagonal(apart, np.inf)
    nearest = apart.min(axis=1)
    near = nearest[np.isfinite(nearest)]
    unit = float(np.quantile(near, 0.99)) if len(near) else 1.0
    return KnownFeatures(bank=bank, spread=spread, unit=max(unit, 1e-3))


def distances(one: Floats, other: Floats) -> Floats:
    """(n, c) and (m, c) → (n, m) Euclidean distances."""
    # Row by row: the product form of the square loses what lies near, and near is what counts.
    rows = [np.sqrt(((other - row) ** 2).sum(axis=1)) for row in one]
    return np.asarray(rows, np.float32).reshape(len(one), len(other))


def network_bytes(network: UNet, known: KnownFeatures) -> bytes:
    """ONNX: ``crops`` (1, 3, h, w), sides multiples of 32 → ``map`` and ``distance``."""
    graph = Graph()
    x = add_conv(graph, network.trunk.stem, x="crops")
    taps = []
    for place, block in enumerate(network.trunk.blocks(), start=1):
        x = add_block(graph, block, x=x)
        if place in ENDS:
            taps.append(x)
    _distance(graph, known, tap=x)
    for block in network.deep_blocks():
        x = add_block(graph, block, x=x)
    x = add_conv(graph, network.narrow, x=x)
    for up, tap in zip(network.up_steps(), reversed(taps), strict=True):
        x = _up(graph, up, coarse=x, fine=tap)
    x = add_conv(graph, network.last, x=x)
    graph.add("Identity", x, name="map")
    return model_bytes(
        graph,
        name="masks",
        inputs=[value_info("crops", (1, 3, "height", "width"))],
        outputs=[value_info("map", (1, 1, "rows", "columns")), value_info("distance", (1,))],
    )


def _up(graph: Graph, up: Up, *, coarse: str, fine: str) -> str:
    scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
    doubled = graph.add(
        "Resize",
        coarse,
        "",
        scales,
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )
    y = graph.add("Concat", doubled, fine, axis=1)
    for step in up.convs():
        y = graph.add("Relu", add_conv(graph, step, x=y))
    return y


def _distance(graph: Graph, known: KnownFeatures, *, tap: str) -> None:
    mean = graph.add("ReduceMean", tap, axes=[2, 3], keepdims=0)
    scaled = graph.add("Div", mean, graph.constant(known.spread))
    lifted = graph.add("Unsqueeze", scaled, graph.axes(1))
    apart = graph.add("Sub", lifted, graph.constant(known.bank))
    lengths = graph.add("ReduceL2", apart, axes=[2], keepdims=0)
    nearest = graph.add("ReduceMin", lengths, axes=[1], keepdims=0)
    unit = graph.constant(np.array(known.unit, np.float32))
    graph.add("Div", nearest, unit, name="distance")


def engine_of(encoded: bytes) -> OnnxEngine:
    """The file as a device runs it."""
    return OnnxEngine(encoded, crops=(1, 3, 0, 0), where=ENGINE_FILE, outputs=OUTPUTS)


def parity(
    network: UNet,
    known: KnownFeatures,
    *,
    engine: OnnxEngine,
    pictures: Sequence[Image],
    settings: Prepare,
) -> float:
    """The most that any output differs by between the file and the fitted network.

    Raises:
        RefusedError: by more than 0.001.
    """
    worst = 0.0
    for image in pictures:
        crops = prepare(image, settings)
        with torch.inference_mode():
            logits, pooled = network(torch.from_numpy(crops))
        near = distances(pooled.numpy() / known.spread, known.bank).min(axis=1) / known.unit
        said = engine.run(crops, outputs=OUTPUTS)
        for ours, theirs in zip((logits.numpy(), near), said, strict=True):
            worst = max(worst, float(np.abs(ours - theirs).max()))
    return within_bound(worst)


def health_limits(facts: Sequence[Facts], *, farthest: float) -> HealthLimits:
    """Limits with room around what the training pictures show, and around what was held out."""
    room = max(_LEAST_DISTANCE, _DISTANCE_ROOM * farthest)
    found = limits_of([each.health for each in facts])
    return replace(found, feature_distance_max=round(room, 3))
