"""From an fp32 network to one whose convolutions are 8 bits wide (static, per channel, QDQ).

1. Only convolutions, the bounds on their outputs and the sums between them become int8: there the
   time goes. Heads, distances and maps behind them stay in fp32: a bank of features or a
   calibrated logit loses most by rounding and costs least.
2. Value ranges are those that calibration pictures reach. On x86 processors without VNNI sums of
   two 8-bit products saturate (ONNX Runtime, "Quantize ONNX models", on U8S8); there the golden
   pictures are answered otherwise and the package is refused. Weights of 7 bits never saturate and
   cost several times the error, so they are a choice (``bits``), not the rule.
3. The same network and the same pictures in the same order give the same bytes.
4. ``LADDER`` is what is tried in turn: each rung leaves more layers in fp32.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lineside.core import InvalidError, need
from lineside.models.engines import INPUT

Floats = NDArray[np.float32]
_BOUNDS = ("Clip", "Relu")
_OPSET = 13  # the first with scales per channel (ONNX, DequantizeLinear-13)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A rung: the convolutions that become int8.

    Attributes:
        unquantized: what stays in fp32, in words.
        takes: whether a convolution becomes int8, by its place from the input on and by how many
            there are.
    """

    unquantized: str
    takes: Callable[[int, int], bool]


LADDER = (
    Rung(unquantized="no convolution", takes=lambda place, count: True),  # noqa: ARG005  every one
    Rung(
        unquantized="the first and the last convolution",
        takes=lambda place, count: 0 < place < count - 1,
    ),
    Rung(
        unquantized="the first half of the convolutions and the last one",
        takes=lambda place, count: count // 2 <= place < count - 1,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """A network of reduced precision.

    Attributes:
        layers: convolutions it has.
        reduced: of these, how many are int8.
    """

    network: bytes
    layers: int
    reduced: int


def rungs_of(network: bytes) -> tuple[Rung, ...]:
    """The rungs of ``LADDER`` that differ for a network, and take something at all.

    Raises:
        InvalidError: the bytes are no ONNX network.
        MissingExtraError: onnx is not installed.
    """
    layers = _layers(_named(network))
    found: dict[tuple[str, ...], Rung] = {}
    for rung in LADDER:
        found.setdefault(tuple(node.name for node in _chosen(layers, rung)), rung)
    return tuple(rung for names, rung in found.items() if names)


def quantise(
    network: bytes, crops: Sequence[Floats], *, rung: Rung, bits: Literal[7, 8] = 8
) -> Quantised:
    """The network with the convolutions that the rung takes in int8.

    Args:
        network: ONNX, input ``crops``.
        crops: inputs that calibration pictures gave, in a fixed order; at least one.
        rung: of ``LADDER``.
        bits: of the weights.

    Raises:
        InvalidError: no ONNX network, too old an opset, nothing to quantise, or no pictures.
        MissingExtraError: onnx is not installed.
    """
    if not crops:
        raise InvalidError("no calibration picture", where="data", fix="Name training pictures.")
    model = _named(network)
    found = _layers(model)
    chosen = _chosen(found, rung)
    if not chosen:
        raise InvalidError(
            f"nothing to quantise when {rung.unquantized} stays in fp32",
            where="network",
            fix="Use the fp32 package.",
        )
    names = _with_neighbours(model, chosen)
    made = _quantised(model, crops, names=names, bits=bits)
    return Quantised(network=made, layers=len(found), reduced=len(chosen))


def _named(network: bytes) -> Any:  # noqa: ANN401  untyped library
    """The model, every node named by its place: the quantiser knows nodes by name."""
    onnx = need("onnx", extra="train")
    try:
        model = onnx.load_model_from_string(network)
        onnx.checker.check_model(model)
    except Exception as error:  # boundary: protobuf's and onnx's exceptions share no class
        raise InvalidError(
            f"no ONNX network: {str(error)[:200]}", where="network", fix="Export it again."
        ) from error
    opset = max(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    if opset < _OPSET:
        raise InvalidError(
            f"the network is of opset {opset}",
            where="network",
            fix=f"Export it with opset {_OPSET} or newer.",
        )
    for place, node in enumerate(model.graph.node):
        node.name = f"n{place}"
    entry = model.metadata_props.add()
    # Says that shapes are inferred; without it the quantiser asks for that at every call.
    entry.key, entry.value = "onnx.quant.pre_process", "onnxruntime.quant"
    return onnx.shape_inference.infer_shapes(model)


def _layers(model: Any) -> list[Any]:  # noqa: ANN401  untyped library
    """Nodes of the convolutions with constant weights, from the input on."""
    constants = {each.name for each in model.graph.initializer}
    return [
        node for node in model.graph.node if node.op_type == "Conv" and node.input[1] in constants
    ]


def _chosen(layers: Sequence[Any], rung: Rung) -> list[Any]:
    return [node for place, node in enumerate(layers) if rung.takes(place, len(layers))]


def _with_neighbours(model: Any, chosen: Sequence[Any]) -> list[str]:  # noqa: ANN401  untyped library
    """Names of convolutions, the bounds right behind them, and sums of nothing but these."""
    names = [node.name for node in chosen]
    ready = {node.output[0] for node in chosen}
    for node in model.graph.node:  # in the order of computation (ONNX IR, "Graphs")
        bound = node.op_type in _BOUNDS and node.input[0] in ready
        summed = node.op_type == "Add" and all(each in ready for each in node.input)
        if bound or summed:
            names.append(node.name)
            ready.add(node.output[0])
    return names


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's remarks on single scales, which it writes to the root logger."""
    root = logging.getLogger()

    def important(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING

    root.addFilter(important)
    try:
        yield
    finally:
        root.removeFilter(important)


class _Pictures:
    """The reader of calibration inputs (``CalibrationDataReader``)."""

    def __init__(self, crops: Sequence[Floats]) -> None:
        self._left: Iterator[Floats] = iter(crops)

    def get_next(self) -> dict[str, Floats] | None:
        following = next(self._left, None)
        return None if following is None else {INPUT: following}


def _quantised(
    model: Any,  # noqa: ANN401  untyped library
    crops: Sequence[Floats],
    *,
    names: Sequence[str],
    bits: int,
) -> bytes:
    onnx = need("onnx", extra="train")
    quantization = need("onnxruntime.quantization", extra="edge")

    with tempfile.TemporaryDirectory(prefix="lineside-quantise-") as folder, _quiet():
        out = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            model,
            out,
            _Pictures(crops),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Clip", "Relu", "Add"],
            per_channel=True,
            reduce_range=bits == 7,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_quantize=list(names),
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
        made = onnx.load(out)
    made.producer_name = "lineside"
    return bytes(made.SerializeToString(deterministic=True))
