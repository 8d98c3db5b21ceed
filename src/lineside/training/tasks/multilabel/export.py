"""From fitted heads to a package: network, parity, golden pictures, health limits, manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lineside.core import digest_of
from lineside.models import (
    LABEL_OUTPUTS,
    MANIFEST_SCHEMA,
    Engine,
    Golden,
    HealthLimits,
    LabelRule,
    Manifest,
    Metric,
    OnnxEngine,
    build_package,
    inventoried,
)
from lineside.training.common.backbone import BLOCKS_AT_STRIDE_8, Lite0Trunk, lite0_trunk
from lineside.training.common.export import (
    BOUND,
    ENGINE_FILE,
    Graph,
    add_block,
    add_conv,
    model_bytes,
    value_info,
    within_bound,
)
from lineside.training.job import TrainJob
from lineside.training.source import Data, lineage_of
from lineside.training.tasks.multilabel.features import Looked
from lineside.training.tasks.multilabel.network import CELLS, GRID, Heads, RegionNetwork, split_taps
from lineside.training.tasks.multilabel.reference import Read, Reference
from lineside.vision import Prepare, decode_picture, prepare

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


_GOLDEN = 3
_LEAST_DISTANCE = 3.0
_DISTANCE_ROOM = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exported:
    """A network file that agrees with the network, and the pictures that show it.

    Attributes:
        files: engine, reference and golden pictures by their names in the package.
    """

    engine: Engine
    golden: tuple[Golden, ...]
    reference_file: str
    files: Mapping[str, bytes]


def export(
    heads: Heads,
    *,
    settings: Prepare,
    reference: Reference,
    pictures: Sequence[Looked],
    read: Read,
) -> Exported:
    """Write the network and hold it against torch on golden pictures.

    Raises:
        RefusedError: an output differs by more than 0.001.
    """
    network = write_onnx(heads, trunk=lite0_trunk(), crop_px=settings.width_px)
    size = (len(settings.crops), 3, settings.height_px, settings.width_px)
    engine = OnnxEngine(network, crops=size, where=ENGINE_FILE)
    torch_network = RegionNetwork(heads, trunk=lite0_trunk()).eval()
    files = {ENGINE_FILE: network, **_picture_file("reference", reference.encoded)}
    worst, golden = 0.0, []
    for number, looked in enumerate(golden_pictures(pictures)):
        encoded = read(looked.sample)
        crops = prepare(decode_picture(encoded), settings, matrix=looked.matrix)
        logits = engine.run(crops, outputs=("logits",))[0]
        worst = max(worst, _difference(torch_network, engine, crops=crops))
        file = _picture_file(f"golden/{number}", encoded)
        files |= file
        golden.append(
            Golden(
                file=next(iter(file)),
                digest=looked.sample.digest,
                logits=_nested(logits),
                matrix=() if looked.matrix is None else _nested(looked.matrix),
            )
        )
    return Exported(
        engine=Engine(
            file=ENGINE_FILE,
            digest=digest_of(network),
            max_abs_diff=within_bound(worst),
            bound=BOUND,
        ),
        golden=tuple(golden),
        reference_file=next(name for name in files if name.startswith("reference")),
        files=files,
    )


def golden_pictures(pictures: Sequence[Looked]) -> list[Looked]:
    """The picture with most labels, the one with fewest, and one between, all different."""
    ordered = sorted(pictures, key=lambda p: (len(p.sample.labels), p.sample.digest))
    places = dict.fromkeys((len(ordered) - 1, 0, len(ordered) // 2))
    return [ordered[place] for place in places][:_GOLDEN]


def _difference(network: RegionNetwork, engine: OnnxEngine, *, crops: Floats) -> float:
    said = engine.run(crops, outputs=LABEL_OUTPUTS)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(crops))
    return max(
        float(np.abs(ours.numpy() - theirs).max())
        for ours, theirs in zip(wanted, said, strict=True)
    )


def _picture_file(stem: str, encoded: bytes) -> dict[str, bytes]:
    suffix = ".png" if encoded.startswith(b"\x89PNG") else ".jpeg"
    return {str(PurePosixPath(stem).with_suffix(suffix)): encoded}


def _nested(values: NDArray[np.floating]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in values)


def health_limits(pictures: Sequence[Looked], distances: Floats) -> HealthLimits:
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """Everything a package is put together from, but its figures."""

    job: TrainJob
    data: Data
    settings: Prepare
    rules: tuple[LabelRule, ...]
    health: HealthLimits
    exported: Exported
    warnings: tuple[str, ...]
    pictures: int


def package_bytes(
    parts: Parts, *, metrics: Mapping[str, Metric], evidence: Mapping[str, bytes]
) -> bytes:
    """The package, byte by byte the same for the same parts."""
    job, exported = parts.job, parts.exported
    manifest = Manifest(
        schema=MANIFEST_SCHEMA,
        name=job.package_name,
        task=str(job.inspection.task),
        inspection=job.inspection.id,
        labels=tuple(rule.name for rule in parts.rules),
        prepare=parts.settings,
        rules=parts.rules,
        policy=job.inspection.policy,
        health=parts.health,
        engine=exported.engine,
        golden=exported.golden,
        lineage=lineage_of(job, data=parts.data, warnings=parts.warnings, pictures=parts.pictures),
        metrics=dict(metrics),
        reference_file=exported.reference_file,
        reference_digest=digest_of(exported.files[exported.reference_file]),
    )
    return build_package(*inventoried(manifest, {**exported.files, **evidence}))
