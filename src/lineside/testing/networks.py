"""Small ONNX networks as others export them, for tests of what packages and serves them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


def file_of(
    nodes: Sequence[Any],
    *,
    shape: tuple[str, Sequence[int | str]],
    given: dict[str, Sequence[int | str]],
    constants: dict[str, NDArray[Any]],
    opset: int = OPSET,
    kind: int = TensorProto.FLOAT,
) -> bytes:
    """A checked file of nodes; ``shape`` and ``given`` are names and shapes."""
    graph = helper.make_graph(
        list(nodes),
        "others",
        [helper.make_tensor_value_info(shape[0], kind, list(shape[1]))],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in given.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def shades(*, fragile: bool = False, batch: int | str = "batch", side: int = 16) -> bytes:
    """Logits of ``dark`` and ``bright``, from the mean of RGB in 0-1; four convolutions deep.

    Args:
        fragile: whether the difference between the two is carried on top of a value a thousand
            times as large, which 8 bits cannot hold.
        batch: of input ``pixels`` and output ``scores``.
        side: pixels of the square input.
    """
    carried = 1000.0 if fragile else 0.0
    first = np.full((2, 3, 1, 1), 1 / 3, np.float32)
    first[1] = -1 / 3
    constants = {
        "w0": first,
        "b0": np.array([carried, carried + 1.0], np.float32),
        "w1": np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1),
        "w2": np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1),
        "w3": np.array([[-8, 8], [8, -8]], np.float32).reshape(2, 2, 1, 1),
    }
    nodes = [
        helper.make_node("Conv", ["pixels", "w0", "b0"], ["v0"]),
        helper.make_node("Conv", ["v0", "w1"], ["v1"]),
        helper.make_node("Conv", ["v1", "w2"], ["v2"]),
        helper.make_node("Conv", ["v2", "w3"], ["v3"]),
        helper.make_node("GlobalAveragePool", ["v3"], ["v4"]),
        helper.make_node("Flatten", ["v4"], ["scores"]),
    ]
    return file_of(
        nodes,
        shape=("pixels", (batch, 3, side, side)),
        given={"scores": (batch, 2)},
        constants=constants,
    )


def spots(*, form: str = "probabilities", side: int = 32) -> bytes:
    """A map of bright places, (1, 1, side / 2, side / 2): logits or a sigmoid's probabilities."""
    last = [helper.make_node("Sigmoid", ["raw"], ["heat"])]
    if form == "logits":
        last = [helper.make_node("Identity", ["raw"], ["heat"])]
    nodes = [
        helper.make_node("Conv", ["pixels", "w", "b"], ["wide"]),
        helper.make_node("AveragePool", ["wide"], ["raw"], kernel_shape=[2, 2], strides=[2, 2]),
        *last,
    ]
    return file_of(
        nodes,
        shape=("pixels", (1, 3, side, side)),
        given={"heat": (1, 1, side // 2, side // 2)},
        constants={
            "w": np.full((1, 3, 1, 1), 20 / 3, np.float32),
            "b": np.array([-12.0], np.float32),
        },
    )
