"""The description of a third-party network, and the changes to its graph that make it a package's.

The description is a TOML file of the tables below; unknown keys are refused, all faults are named
together. Values of pixels are 0 to 255 before ``mean`` and ``scale``.

Preparation that ours does not know (a mean a channel, BGR, NHWC) becomes nodes in front of it, the
form of its outputs becomes nodes behind it. Between, nothing changes: its values keep their names
behind a prefix, so that none of them meets ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lineside.core import Fault, InvalidError, decode, decode_toml, faults_error, need
from lineside.models.engines.contract import INPUT

_LARGEST_PX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """Terms of the weights, and of the data they were learned from where that is known."""

    weights: str
    data: str = ""

    def __post_init__(self) -> None:
        if not self.weights.strip():
            raise InvalidError(
                "nobody may run a network whose terms are unknown",
                where="licence.weights",
                fix='Write its licence, such as "Apache-2.0" or "LicenseRef-ours".',
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class WrapInput:
    """The input of the network.

    Attributes:
        name: of its input; "" where it has one only.
        mean, scale: one number, or one a channel in the order of ``colour``:
            value = (pixel - mean) / scale.
        fit: how a picture of any size meets the input, as ``Prepare`` says.
    """

    width_px: int
    height_px: int
    name: str = ""
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    colour: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (255.0,)
    fit: Literal["stretch", "pad", "crop"] = "stretch"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrapOutput:
    """The outputs of the network.

    Attributes:
        name: of the output; "" where it has one only. For detect the three below stand instead.
        form: of its numbers; probabilities are a softmax's for classify, a sigmoid's for segment.
        layout: of a map.
        channel: of a map that shows the defect.
        objectness, geometry, classes: outputs of a detector, in the very form of
            ``lineside.models.Engine``.
        stride_px: of a detector, input pixels per cell.
    """

    name: str = ""
    form: Literal["logits", "probabilities"] = "logits"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    channel: int = 0
    objectness: str = "objectness"
    geometry: str = "geometry"
    classes: str = "classes"
    stride_px: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class WrapDecide:
    """The rules by which numbers become decisions; nothing of it is learned.

    Attributes:
        temperature: of classify, divides the logits before softmax.
        present_above: probability from which a class is the answer, above which a picture is
            defective, or from which an object is told for certain.
        absent_below: of segment, below which a picture is good; between the two it is unsure.
        cut: of segment and detect, probability above which a pixel is set or an object is there.
        least_px: of segment, pieces of fewer pixels are dropped.
    """

    temperature: float = 1.0
    present_above: float = 0.5
    absent_below: float = 0.5
    cut: float = 0.5
    least_px: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapping:
    """The whole file.

    Attributes:
        data: what it learned from, in words.
        source: where the network is from: an address or a name.
    """

    name: str
    task: Literal["classify", "segment", "detect"]
    labels: tuple[str, ...]
    licence: Licence
    input: WrapInput
    output: WrapOutput = field(default_factory=WrapOutput)
    decide: WrapDecide = field(default_factory=WrapDecide)
    inspection: str = ""
    data: str = "unknown"
    source: str = ""
    schema: Literal["lineside.wrap/1"] = "lineside.wrap/1"


def read_wrapping(raw: bytes, *, where: str) -> Wrapping:
    """Read the TOML file.

    Raises:
        InvalidError: no TOML, or its faults, all of them with their places.
    """
    found = decode(Wrapping, decode_toml(raw, where=where), where=where)
    faults = tuple(_faults(found))
    if faults:
        raise faults_error(faults, where=where)
    return found


def _faults(found: Wrapping) -> list[Fault]:
    faults = []
    for name, size in (("width_px", found.input.width_px), ("height_px", found.input.height_px)):
        if not 1 <= size <= _LARGEST_PX:
            faults.append(_fault(f"input.{name}", size, expected=f"1 to {_LARGEST_PX}"))
    for name, values in (("mean", found.input.mean), ("scale", found.input.scale)):
        if len(values) not in (1, 3):
            faults.append(_fault(f"input.{name}", values, expected="one number, or one a channel"))
    if any(not value > 0 for value in found.input.scale):
        faults.append(_fault("input.scale", found.input.scale, expected="above 0"))
    if found.task == "classify" and len(found.labels) < 2:
        faults.append(_fault("labels", found.labels, expected="two classes or more"))
    if found.task == "segment" and len(found.labels) != 1:
        faults.append(_fault("labels", found.labels, expected="the name of the one defect"))
    if len(set(found.labels)) != len(found.labels) or not found.labels:
        faults.append(_fault("labels", found.labels, expected="different names"))
    return faults


def _fault(path: str, value: object, *, expected: str) -> Fault:
    return Fault(path=f"$.{path}", value=repr(value), expected=expected, fix="Mend the file.")


PREFIX = "wrapped/"
_LEAST = 1e-7
_OPSET = 13  # axes of Unsqueeze and ReduceSum are inputs from here on
_MOST_IR = 10
_FLOAT = 1  # onnx.TensorProto.FLOAT

Values = NDArray[Any]


class Surgery:
    """One network on the table."""

    def __init__(self, network: bytes, wrapping: Wrapping, *, where: str) -> None:
        """Read it and name its values apart from ours.

        Raises:
            InvalidError: no ONNX network, weights outside the file, too old an opset, or other
                inputs than the file says.
            MissingExtraError: onnx is not installed.
        """
        self._onnx = need("onnx", extra="train")
        self._where = where
        self._wrapping = wrapping
        self._model = self._read(network)
        self._taken = self._input(wrapping.input)
        self._front: list[Any] = []
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._outputs: list[Any] = []

    @property
    def batch(self) -> int | str:
        """1, or "n" where the batch is free."""
        dimension = self._taken.type.tensor_type.shape.dim[0]
        return 1 if dimension.HasField("dim_value") else "n"

    @property
    def given(self) -> list[str]:
        """Its outputs by their own names."""
        return [each.name.removeprefix(PREFIX) for each in self._model.graph.output]

    def own(self, name: str) -> str:
        """The prefixed name of an output; the only one where none is named."""
        chosen = name or (self.given[0] if len(self.given) == 1 else "")
        if chosen not in self.given:
            raise InvalidError(
                f"no output {name!r}" if name else "which output is meant is not said",
                where=f"{self._where}: output",
                fix=f"It gives {', '.join(self.given)}.",
            )
        return PREFIX + chosen

    # ---- building

    def constant(self, value: Values) -> str:
        """Name of a constant."""
        name = f"lineside/c{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(value, name))
        return name

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:  # noqa: ANN401
        """A node behind the network; returns its output's name."""
        output = name or f"lineside/v{len(self._nodes)}"
        made = self._onnx.helper.make_node(kind, list(inputs), [output], **attributes)
        self._nodes.append(made)
        return output

    def output(self, name: str, shape: Sequence[int | str]) -> None:
        """Declare an output of the whole."""
        info = self._onnx.helper.make_tensor_value_info(name, _FLOAT, list(shape))
        self._outputs.append(info)

    def nothing_of(self, value: str, *, rank: int, name: str) -> None:
        """An output (n,) of zeros: what this network does not tell."""
        zero = self.add("Mul", value, self.constant(np.array(0.0, np.float32)))
        axes = self.constant(np.arange(1, rank, dtype=np.int64))
        self.add("ReduceSum", zero, axes, keepdims=0, name=name)
        self.output(name, (self.batch,))

    def finished(self) -> bytes:
        """The whole as one checked file; always the same for the same inputs."""
        self._prepare(self._wrapping.input)
        onnx, model = self._onnx, self._model
        size = (self.batch, 3, self._wrapping.input.height_px, self._wrapping.input.width_px)
        crops = onnx.helper.make_tensor_value_info(INPUT, _FLOAT, list(size))
        graph = onnx.helper.make_graph(
            [*self._front, *model.graph.node, *self._nodes],
            "wrapped",
            [crops],
            self._outputs,
            initializer=[*model.graph.initializer, *self._constants],
        )
        made = onnx.helper.make_model(
            graph,
            opset_imports=list(model.opset_import),
            ir_version=min(model.ir_version, _MOST_IR),
            producer_name="lineside",
            functions=list(model.functions),
        )
        onnx.checker.check_model(made)
        return bytes(made.SerializeToString(deterministic=True))

    # ---- reading

    def _read(self, network: bytes) -> Any:  # noqa: ANN401  untyped library
        onnx = self._onnx
        try:
            model = onnx.load_model_from_string(network)
            outside = [t.name for t in model.graph.initializer if t.data_location == 1]
            if not outside:
                onnx.checker.check_model(model)
        except Exception as error:  # boundary: protobuf's and onnx's exceptions share no class
            raise self._error(f"no ONNX network: {str(error)[:200]}", "Export it again.") from error
        if outside:
            raise self._error(
                f"{len(outside)} weights stand outside of the file, {outside[0]!r} first",
                "Save it with its weights inside (onnx.save_model, save_as_external_data=False).",
            )
        opset = max(
            (e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), default=0
        )
        if opset < _OPSET:
            raise self._error(
                f"the network is of opset {opset}", f"Export it with opset {_OPSET} or newer."
            )
        return onnx.compose.add_prefix(model, PREFIX)

    def _input(self, wanted: WrapInput) -> Any:  # noqa: ANN401  untyped library
        constants = {each.name for each in self._model.graph.initializer}
        taken = [each for each in self._model.graph.input if each.name not in constants]
        names = [each.name.removeprefix(PREFIX) for each in taken]
        if len(taken) != 1 or wanted.name not in ("", names[0]):
            raise self._error(
                f"the network takes {', '.join(names) or 'nothing'}",
                "It must take one picture; name that input in input.name.",
                part="input.name",
            )
        self._check_shape(taken[0], wanted)
        return taken[0]

    def _check_shape(self, taken: Any, wanted: WrapInput) -> None:  # noqa: ANN401  untyped library
        shape = [d.dim_value or d.dim_param or "?" for d in taken.type.tensor_type.shape.dim]
        size = [3, wanted.height_px, wanted.width_px]
        if wanted.layout == "NHWC":
            size = [*size[1:], size[0]]
        fits = len(shape) == 4 and all(
            not isinstance(own, int) or own == asked
            for own, asked in zip(shape, [1, *size], strict=True)
        )
        if not fits:
            raise self._error(
                f"the network takes {shape}, the file says {wanted.layout} {[1, *size]}",
                "Set input.layout, width_px and height_px to what the network takes.",
                part="input",
            )

    def _prepare(self, wanted: WrapInput) -> None:
        """Nodes from ``crops`` (RGB, NCHW, 0-255) to the network's own input."""
        helper, value = self._onnx.helper, INPUT

        def step(kind: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401  ONNX's own
            made = f"lineside/p{len(self._front)}"
            self._front.append(helper.make_node(kind, [value, *inputs], [made], **attributes))
            return made

        if wanted.colour == "bgr":
            value = step("Gather", self.constant(np.array([2, 1, 0], np.int64)), axis=1)
        value = step("Sub", self.constant(_channels(wanted.mean)))
        value = step("Div", self.constant(_channels(wanted.scale)))
        if wanted.layout == "NHWC":
            value = step("Transpose", perm=[0, 2, 3, 1])
        kind = self._taken.type.tensor_type.elem_type
        self._front.append(helper.make_node("Cast", [value], [self._taken.name], to=kind))

    def as_floats(self, name: str) -> str:
        """One of the network's outputs as float32."""
        return self.add("Cast", self.own(name), to=_FLOAT)

    def _error(self, message: str, fix: str, *, part: str = "") -> InvalidError:
        where = f"{self._where}: {part}" if part else self._where
        return InvalidError(message, where=where, fix=fix)


def logit_of_softmax(surgery: Surgery, value: str) -> str:
    """Logits whose softmax are these probabilities: their logarithms."""
    low, high = (surgery.constant(np.array(each, np.float32)) for each in (_LEAST, 1.0))
    return surgery.add("Log", surgery.add("Clip", value, low, high))


def logit_of_sigmoid(surgery: Surgery, value: str) -> str:
    """Logits whose sigmoid are these probabilities."""
    low, high = (surgery.constant(np.array(each, np.float32)) for each in (_LEAST, 1 - _LEAST))
    kept = surgery.add("Clip", value, low, high)
    rest = surgery.add("Sub", surgery.constant(np.array(1.0, np.float32)), kept)
    return surgery.add("Log", surgery.add("Div", kept, rest))


def _channels(values: Sequence[float]) -> Values:
    """(1, 1 or 3, 1, 1) float32."""
    return np.array(values, np.float32).reshape(1, -1, 1, 1)
