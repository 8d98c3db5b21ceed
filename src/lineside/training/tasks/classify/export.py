"""From a head to a network file that agrees with torch, and limits for the picture itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lineside.models import HealthLimits, OnnxEngine
from lineside.models.engines import LABEL_OUTPUTS
from lineside.training.common.backbone import TAP_STRIDES, Lite0Full, lite0_full
from lineside.training.common.export import (
    ENGINE_FILE,
    Graph,
    add_block,
    add_conv,
    model_bytes,
    value_info,
    within_bound,
)
from lineside.training.tasks.classify.inputs import InputSpec
from lineside.training.tasks.classify.network import (
    FINEST,
    MEANS,
    PER_SCALE,
    ClassHead,
    ClassNetwork,
    Floats,
    tap_slices,
)
from lineside.vision import HealthFigures, prepare

POOLED = "pooled"
_LAST_AT_8, _LAST_AT_16 = 4, 10


def write_classes(head: ClassHead, *, trunk: Lite0Full, spec: InputSpec) -> bytes:
    """The file of a package: input ``crops`` (1, 3, h, w), the three outputs of its task."""
    graph = Graph()
    maps = _maps(graph, trunk, scales=spec.scales)
    pooled = _pooled(graph, maps)
    weight, bias = graph.constant(head.weight), graph.constant(head.bias)
    graph.add("Gemm", pooled, weight, bias, transB=1, name="logits")
    _activation(graph, head, maps=maps, spec=spec)
    _distance(graph, head, pooled=pooled)
    grid = (spec.height_px // FINEST, spec.width_px // FINEST)
    return model_bytes(
        graph,
        name="classes",
        inputs=[value_info("crops", (1, 3, spec.height_px, spec.width_px))],
        outputs=[
            value_info("logits", (1, len(head.bias))),
            value_info("activation", (1, len(head.bias), *grid)),
            value_info("distance", (1,)),
        ],
    )


def write_features(trunk: Lite0Full, *, scales: int) -> bytes:
    """A file that gives ``pooled`` (n, scales x PER_SCALE) of pictures of any one size."""
    graph = Graph()
    _pooled(graph, _maps(graph, trunk, scales=scales), name=POOLED)
    return model_bytes(
        graph,
        name="features",
        inputs=[value_info("crops", ("n", 3, "h", "w"))],
        outputs=[value_info(POOLED, ("n", scales * PER_SCALE))],
    )


def _maps(graph: Graph, trunk: Lite0Full, *, scales: int) -> list[list[str]]:
    """Names of the four maps of each scale."""
    found = []
    crops = "crops"
    for scale in range(scales):
        if scale:
            crops = graph.add("AveragePool", crops, kernel_shape=[2, 2], strides=[2, 2])
        x = add_conv(graph, trunk.trunk.stem, x=crops)
        ends = []
        for block in trunk.blocks():
            x = add_block(graph, block, x=x)
            ends.append(x)
        top = add_conv(graph, trunk.top, x=x)
        found.append([ends[_LAST_AT_8], ends[_LAST_AT_16], x, top])
    return found


def _pooled(graph: Graph, maps: list[list[str]], *, name: str = "") -> str:
    parts = []
    for taps in maps:
        for kind in ("ReduceMean", "ReduceMax"):
            parts += [graph.add(kind, tap, axes=[2, 3], keepdims=0) for tap in taps]
    return graph.add("Concat", *parts, axis=1, name=name)


def _activation(graph: Graph, head: ClassHead, *, maps: list[list[str]], spec: InputSpec) -> None:
    parts = []
    for scale, taps in enumerate(maps):
        for tap, stride, place in zip(taps, TAP_STRIDES, tap_slices(), strict=True):
            step = stride * 2**scale
            places = (spec.height_px // step) * (spec.width_px // step)
            evidence = _evidence(
                graph, head, tap=tap, first=scale * PER_SCALE, place=place, places=places
            )
            parts.append(_grown(graph, evidence, times=step // FINEST))
    graph.add("Sum", *parts, name="activation")


def _evidence(
    graph: Graph, head: ClassHead, *, tap: str, first: int, place: slice, places: int
) -> str:
    """Add what each place of one map contributes to each class."""
    mean, peak = (
        slice(first + offset + place.start, first + offset + place.stop) for offset in (0, MEANS)
    )
    spread_out = graph.add("Sub", tap, graph.constant(_column(head.mean[mean])))
    highest = graph.add("ReduceMax", tap, axes=[2, 3], keepdims=1)
    reached = graph.add("Cast", graph.add("Equal", tap, highest), to=1)
    count = graph.add("ReduceSum", reached, graph.axes(2, 3), keepdims=1)
    scaled = graph.add("Mul", reached, graph.constant(np.array(places, np.float32)))
    share = graph.add("Div", scaled, count)
    peaks = graph.add(
        "Mul", share, graph.add("Sub", highest, graph.constant(_column(head.mean[peak])))
    )
    both = [
        graph.add("Conv", x, graph.constant(head.weight[:, chosen, None, None]))
        for x, chosen in ((spread_out, mean), (peaks, peak))
    ]
    return graph.add("Add", *both)


def _column(values: Floats) -> Floats:
    return values[None, :, None, None]


def _grown(graph: Graph, grid: str, *, times: int) -> str:
    """Repeat each place."""
    if times == 1:
        return grid
    scales = graph.constant(np.array([1, 1, times, times], np.float32))
    return graph.add(
        "Resize",
        grid,
        "",
        scales,
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )


def _distance(graph: Graph, head: ClassHead, *, pooled: str) -> None:
    means = graph.add("Slice", pooled, graph.axes(0), graph.axes(MEANS), graph.axes(1))
    scaled = graph.add("Div", means, graph.constant(head.spread))
    lifted = graph.add("Unsqueeze", scaled, graph.axes(1))
    apart = graph.add("Sub", lifted, graph.constant(head.bank))
    lengths = graph.add("ReduceL2", apart, axes=[2], keepdims=0)
    nearest = graph.add("ReduceMin", lengths, axes=[1], keepdims=0)
    graph.add("Div", nearest, graph.constant(np.array(head.unit, np.float32)), name="distance")


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
    spec: InputSpec,
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
    network = write_classes(head, trunk=trunk, spec=spec)
    engine = OnnxEngine(network, crops=(1, 3, spec.height_px, spec.width_px), where=ENGINE_FILE)
    judge = ClassNetwork(head, trunk=trunk).eval()
    worst = 0.0
    for picture in pictures:
        crops = prepare(picture, spec.prepare)
        with torch.inference_mode():
            wanted = [each.numpy() for each in judge(torch.from_numpy(crops))]
        worst = max(worst, _difference(wanted, engine.run(crops, outputs=LABEL_OUTPUTS)))
    return ExportedClasses(network=network, max_abs_diff=within_bound(worst))


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
