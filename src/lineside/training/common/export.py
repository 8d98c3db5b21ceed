"""Export of a network to ONNX through torch, held against torch before it is used.

1. The file's bytes depend on the network alone: names, producer and version are ours.
2. Every output of the file differs by at most ``BOUND`` from the network's on golden pictures.
"""

import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.core import RefusedError
from lineside.models import HealthLimits, OnnxEngine
from lineside.training.common.onnx_backbone import OPSET, inline
from lineside.vision import HealthFigures, Prepare

ENGINE_FILE = "network.onnx"
BOUND = 1e-3
PICTURE = {2: "height", 3: "width"}
CELLS = {2: "rows", 3: "columns"}
"""Axes whose sizes vary, of the input and of maps."""

_INPUT = "crops"
_MOST_CLIPPED = 0.95
_IR_VERSION = 9

Floats = NDArray[np.float32]
Axes = Mapping[str, Mapping[int, str]]
T = TypeVar("T")


def onnx_bytes(
    network: nn.Module,
    crops: Floats,
    *,
    outputs: Sequence[str],
    varies: Axes | None = None,
    fold: bool = True,
) -> bytes:
    """The checked file of a network in evaluation mode; always the same for the same weights.

    Args:
        network: takes ``crops``, gives the outputs in order.
        crops: an input, which says the sizes that do not vary.
        outputs: their names.
        varies: of input and outputs the axes whose sizes vary, with their names.
        fold: whether what follows from constants alone is computed now; weights of half precision
            would be widened.
    """
    varies = varies or {}
    x = torch.from_numpy(crops)
    with (
        tempfile.TemporaryDirectory(prefix="lineside-export-") as folder,
        warnings.catch_warnings(),
        torch.no_grad(),
    ):
        # It is marked as the older exporter; the newer one needs a further dependency.
        warnings.simplefilter("ignore")
        path = Path(folder) / ENGINE_FILE
        torch.onnx.export(
            network,
            (x,),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=[_INPUT],
            output_names=list(outputs),
            dynamic_axes={name: dict(axes) for name, axes in varies.items()},
            do_constant_folding=fold,
        )
        model = onnx.load_model(path)
        given = network(x)
    inline(model, network)
    model.producer_name, model.producer_version, model.ir_version = "lineside", "", _IR_VERSION
    model.graph.name = type(network).__name__
    shapes = [tuple(each.shape) for each in (given if isinstance(given, tuple) else (given,))]
    for value, shape in zip(model.graph.output, shapes, strict=True):
        sizes = [varies.get(value.name, {}).get(axis, size) for axis, size in enumerate(shape)]
        value.CopyFrom(
            onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, sizes)
        )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def with_scaled_input(network: bytes, *, prepare: Prepare, scale: float) -> bytes:
    """The same network, which takes values of pixels over ``scale`` and normalises them itself.

    Args:
        network: file with one input of normalised values.
        prepare: how its values were normalised. An input of one size becomes a fixed one.
        scale: 1 for values from 0 to 255, 255 for values from 0 to 1.
    """
    model = onnx.load_from_string(network)
    graph, own = model.graph, model.graph.input[0]
    name, normalised = own.name, f"{own.name}_normalised"
    for node in graph.node:
        node.input[:] = [normalised if each == name else each for each in node.input]
    constants = {
        "input_factor": scale / prepare.scale,
        "input_offset": prepare.mean / prepare.scale,
    }
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(value, np.float32), key)
        for key, value in constants.items()
    )
    first = [
        onnx.helper.make_node("Mul", [name, "input_factor"], [f"{name}_scaled"]),
        onnx.helper.make_node("Sub", [f"{name}_scaled", "input_offset"], [normalised]),
    ]
    nodes = [*first, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    if prepare.fit != "zoom":
        shape = (1, 3, prepare.height_px, prepare.width_px)
        own.CopyFrom(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exported:
    """A network file, an engine that runs it, and the most that an output differs from torch."""

    network: bytes
    engine: OnnxEngine
    max_abs_diff: float


def export(
    network: nn.Module,
    golden: Iterable[Floats],
    *,
    outputs: Sequence[str],
    varies: Axes | None = None,
    averaged: Sequence[str] = (),
    fold: bool = True,
) -> Exported:
    """Write a network and hold each output against torch on golden pictures.

    Args:
        network: as of ``onnx_bytes``, as are outputs, varies and fold.
        golden: prepared inputs, at least one.
        outputs: names.
        varies: axes.
        averaged: maps that are compared by their average over all places.
        fold: constants.

    Raises:
        RefusedError: an output differs by more than 0.001.
    """
    inputs = list(golden)
    encoded = onnx_bytes(network, inputs[0], outputs=outputs, varies=varies, fold=fold)
    sizes = inputs[0].shape if varies is None else (*inputs[0].shape[:2], 0, 0)
    engine = OnnxEngine(encoded, crops=sizes, where=ENGINE_FILE, outputs=outputs)
    worst = 0.0
    for crops in inputs:
        with torch.inference_mode():
            wanted: Tensor | tuple[Tensor, ...] = network(torch.from_numpy(crops))
        ours = wanted if isinstance(wanted, tuple) else (wanted,)
        pairs = zip(outputs, ours, engine.run(crops, outputs=outputs), strict=True)
        for name, one, other in pairs:
            apart = one.numpy() - other
            if name in averaged:
                apart = apart.mean(axis=(2, 3))
            worst = max(worst, float(np.abs(apart).max()))
    if not worst <= BOUND:
        raise RefusedError(
            f"the exported network differs from the trained one by {worst:.2g}",
            where=ENGINE_FILE,
            fix=f"At most {BOUND} is taken; report this processor.",
        )
    return Exported(network=encoded, engine=engine, max_abs_diff=worst)


def golden_of(ordered: Sequence[T]) -> list[T]:
    """The last, the first and the middle one, all different."""
    places = dict.fromkeys((len(ordered) - 1, 0, len(ordered) // 2))
    return [ordered[place] for place in places]


def limits_of(
    pictures: Sequence[HealthFigures],
    *,
    farthest: float = 0.0,
    residual_px: float = 0.0,
    compared: bool = False,
) -> HealthLimits:
    """Limits with room around what the training pictures show.

    Sharpness may fall to a quarter of the dullest picture's, light to a third or to a third of what
    was left above the brightest. Where pictures of the kind are clipped nearly everywhere, as
    binarised ones are, clipping says nothing.

    Args:
        pictures: their health.
        farthest: distance of a held-out picture from the known ones, which may double.
        residual_px: of registration, which may treble.
        compared: as ``HealthLimits`` says.
    """
    greys = [each.mean_grey for each in pictures]
    clipped = 3 * max(each.clipped_share for each in pictures)
    return HealthLimits(
        sharpness_min=round(min(each.sharpness for each in pictures) / 4, 3),
        mean_grey_min=round(min(greys) / 3, 3),
        mean_grey_max=round(255 - (255 - max(greys)) / 3, 3),
        clipped_share_max=1.0 if clipped > _MOST_CLIPPED else round(max(0.3, clipped), 3),
        residual_max_px=round(max(4.0, 3 * residual_px), 3),
        feature_distance_max=round(max(3.0, 2 * farthest), 3),
        compared=compared,
    )
