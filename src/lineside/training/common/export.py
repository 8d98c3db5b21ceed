"""Building blocks of an ONNX file that is written node by node.

The file's bytes depend on the weights alone: constants and values are numbered in the order they
are written in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from lineside.core import RefusedError
from lineside.datasets import Sample
from lineside.models import HealthLimits, OnnxEngine
from lineside.training.common.backbone import Block, Conv
from lineside.vision import HealthFigures, Prepare

ENGINE_FILE = "network.onnx"
BOUND = 1e-3
_GOLDEN = 3
_MOST_CLIPPED = 0.95
_OPSET = 17
_IR_VERSION = 9


@dataclass(slots=True)
class Graph:
    """Nodes and constants in the order they were added."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, value: NDArray[Any]) -> str:
        """Name of a constant of that value."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def axes(self, *places: int) -> str:
        """Name of a constant of whole numbers, as axes and shapes are given."""
        return self.constant(np.array(places, np.int64))

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:  # noqa: ANN401  ONNX's own
        """Add a node of one output; returns the output's name."""
        output = name or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output


def value_info(name: str, shape: Sequence[int | str]) -> Any:  # noqa: ANN401  the library is untyped
    """A float32 input or output; a name in the shape is a size that varies."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def add_conv(graph: Graph, step: Conv, *, x: str) -> str:
    """A convolution with its bias, padding and ReLU6."""
    conv = step.conv
    weight = graph.constant(conv.weight.detach().contiguous().numpy())
    bias = graph.constant(step.bias().detach().numpy())
    y = graph.add(
        "Conv",
        x,
        weight,
        bias,
        group=conv.groups,
        kernel_shape=list(conv.kernel_size),
        strides=list(conv.stride),
        pads=[step.before, step.before, step.after, step.after],
    )
    if not step.active:
        return y
    low = graph.constant(np.array(0.0, np.float32))
    high = graph.constant(np.array(6.0, np.float32))
    return graph.add("Clip", y, low, high)


def add_block(graph: Graph, block: Block, *, x: str) -> str:
    """An inverted bottleneck."""
    y = x
    for step in block.convs():
        y = add_conv(graph, step, x=y)
    return graph.add("Add", x, y) if block.added else y


def model_bytes(graph: Graph, *, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> bytes:
    """The checked file; always the same for the same graph."""
    model = helper.make_model(
        helper.make_graph(
            graph.nodes, name, list(inputs), list(outputs), initializer=graph.constants
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="lineside",
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
        numpy_helper.from_array(np.array(value, np.float32), key)
        for key, value in constants.items()
    )
    first = [
        helper.make_node("Mul", [name, "input_factor"], [f"{name}_scaled"]),
        helper.make_node("Sub", [f"{name}_scaled", "input_offset"], [normalised]),
    ]
    nodes = [*first, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    if prepare.fit != "zoom":
        shape = (1, 3, prepare.height_px, prepare.width_px)
        own.CopyFrom(value_info(name, shape))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def difference(
    network: nn.Module, crops: Tensor, *, engine: OnnxEngine, outputs: Sequence[str]
) -> float:
    """The most that an output differs by between torch and the file."""
    with torch.inference_mode():
        wanted = network(crops)
    said = engine.run(crops.numpy(), outputs=outputs)
    return max(
        float(np.abs(ours.numpy() - theirs).max())
        for ours, theirs in zip(wanted, said, strict=True)
    )


def within_bound(worst: float) -> float:
    """The difference itself; ``RefusedError`` above the bound."""
    if not worst <= BOUND:
        raise RefusedError(
            f"the exported network differs from the trained one by {worst:.2g}",
            where=ENGINE_FILE,
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
