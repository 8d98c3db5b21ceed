"""Somebody else's ONNX network as a package.

1. The network is given the input and outputs of its task (``wrap_graph``); what it does not tell,
   activation maps and the distance from its training data, are zeros. Hence nothing is explained
   and no picture is refused as strange.
2. Nothing is calibrated: the manifest says so among its warnings, and ``lineside evaluate`` shows
   what the network is worth on pictures of one's own.
3. The result is held against the network as it came, on the golden pictures.
4. What does not fit is named: which output, its shape, what was expected.

The description of a third-party network, and the changes to its graph that make it a package's.

The description is a TOML file of the tables below; unknown keys are refused, all faults are named
together. Values of pixels are 0 to 255 before ``mean`` and ``scale``.

Preparation that ours does not know (a mean a channel, BGR, NHWC) becomes nodes in front of it, the
form of its outputs becomes nodes behind it. Between, nothing changes: its values keep their names
behind a prefix, so that none of them meets ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lineside.core import (
    Box,
    Clock,
    Fault,
    InvalidError,
    Policy,
    RefusedError,
    decode,
    decode_toml,
    digest_of,
    need,
)
from lineside.core.codec import faults_error
from lineside.models.archive import Package, build_package, libraries_here, with_sbom
from lineside.models.engines import INPUT, OnnxEngine
from lineside.models.manifest import (
    MANIFEST_SCHEMA,
    Engine,
    Golden,
    HealthLimits,
    Lineage,
    Manifest,
    code_version,
)
from lineside.models.task_heads import HeadInput, task_head_for
from lineside.vision import (
    ClassRule,
    Crop,
    DetectRule,
    MaskRule,
    Prepare,
    decode_picture,
    encode_png,
    prepare,
)

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
        entry = [each for each in self._model.graph.input if each.name not in constants]
        names = [each.name.removeprefix(PREFIX) for each in entry]
        if len(entry) != 1 or wanted.name not in ("", names[0]):
            raise self._error(
                f"the network takes {', '.join(names) or 'nothing'}",
                "It must take one picture; name that input in input.name.",
                part="input.name",
            )
        self._check_shape(entry[0], wanted)
        return entry[0]

    def _check_shape(self, entry: Any, wanted: WrapInput) -> None:  # noqa: ANN401  untyped library
        shape = [d.dim_value or d.dim_param or "?" for d in entry.type.tensor_type.shape.dim]
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


NETWORK_FILE = "network.onnx"
_BOUND = 1e-3
_MOST_GOLDEN = 8
_MOST_BYTES = 64_000_000
_MADE = ("lineside", "onnx", "onnxruntime", "numpy", "opencv-python-headless")
_OURS = {"classify": "logits", "segment": "map", "detect": "objectness"}
_UNKNOWN = (
    "third-party model: its probabilities are not calibrated here",
    "third-party model: nothing says how unusual a picture is to it, and nothing is explained",
)

Floats = NDArray[np.float32]


def wrapped(
    network: bytes, wrapping: Wrapping, *, pictures: Sequence[bytes], clock: Clock
) -> bytes:
    """The package's bytes; the same inputs give the same bytes.

    Args:
        network: ONNX, its weights inside.
        wrapping: what it takes and gives, and its licence.
        pictures: JPEG or PNG, for the golden pictures; at most 8 are kept. Without any, three are
            drawn.
        clock: for the task head.

    Raises:
        InvalidError: something does not fit; says what.
        RefusedError: the result answers otherwise than the network as it came.
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    made = _operated(network, wrapping)
    shown = list(pictures[:_MOST_GOLDEN]) or drawn(wrapping.input)
    worst = _compared(network, made, wrapping=wrapping, pictures=shown)
    manifest = _manifest(network, made, wrapping=wrapping, worst=worst)
    bare = Package.read(build_package(manifest, {NETWORK_FILE: made}), where=wrapping.name)
    golden, files = _golden(bare, shown, clock=clock)
    told = replace(manifest, golden=golden)
    libraries = libraries_here(_MADE)
    return build_package(*with_sbom(told, {NETWORK_FILE: made, **files}, libraries=libraries))


def drawn(wanted: WrapInput) -> list[bytes]:
    """Three PNG pictures of the input's size: grain, a ramp, spots; always the same."""
    rng = np.random.default_rng(0)
    size = (wanted.height_px, wanted.width_px, 3)
    grain = rng.integers(0, 256, size)
    ramp = np.broadcast_to(np.linspace(0, 255, size[1])[None, :, None], size)
    coarse = rng.integers(0, 256, (8, 8, 3))
    spots = coarse[np.arange(size[0])[:, None] * 8 // size[0], np.arange(size[1]) * 8 // size[1]]
    return [encode_png(np.asarray(each, np.uint8)) for each in (grain, ramp, spots)]


# ---- the network


def _operated(network: bytes, wrapping: Wrapping) -> bytes:
    surgery = Surgery(network, wrapping, where=wrapping.name)
    shapes = _shapes(network, wrapping)
    match wrapping.task:
        case "classify":
            _classes(surgery, wrapping, shapes=shapes)
        case "segment":
            _mask(surgery, wrapping, shapes=shapes)
        case "detect":
            _objects(surgery, wrapping, shapes=shapes)
    return surgery.finished()


def _shapes(network: bytes, wrapping: Wrapping) -> dict[str, tuple[int, ...]]:
    """Shape of each output, found by asking the network once."""
    results = _network_outputs(
        network, np.zeros(_size(wrapping.input), np.float32), wrapping=wrapping
    )
    return {name: each.shape for name, each in results.items()}


def _size(wanted: WrapInput) -> tuple[int, int, int, int]:
    if wanted.layout == "NHWC":
        return (1, wanted.height_px, wanted.width_px, 3)
    return (1, 3, wanted.height_px, wanted.width_px)


_KINDS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


def _network_outputs(
    network: bytes, values: NDArray[Any], *, wrapping: Wrapping
) -> dict[str, NDArray[Any]]:
    """Every output of the network as it came."""
    runtime = need("onnxruntime", extra="edge")
    try:
        session = runtime.InferenceSession(network, providers=["CPUExecutionProvider"])
        (entry,) = session.get_inputs()
        kind = _KINDS[entry.type]
        results = session.run(None, {entry.name: values.astype(kind)})
    except KeyError as error:
        raise InvalidError(
            f"the network takes {error}", where=wrapping.name, fix=f"Use {', '.join(_KINDS)}."
        ) from error
    except Exception as error:  # boundary: the runtime's exceptions have no common class
        raise InvalidError(
            f"the network does not run on {values.shape}: {str(error)[:200]}",
            where=wrapping.name,
            fix="Set the input's layout and size to what the network takes.",
        ) from error
    return {o.name: np.asarray(v) for o, v in zip(session.get_outputs(), results, strict=True)}


def _classes(
    surgery: Surgery, wrapping: Wrapping, *, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    name = surgery.own(wrapping.output.name).removeprefix(PREFIX)
    shape, count = shapes[name], len(wrapping.labels)
    if shape[0] != 1 or int(np.prod(shape)) != count:
        raise InvalidError(
            f"output {name!r} is of {shape}, {count} labels are named",
            where=f"{wrapping.name}: labels",
            fix="Name as many labels as it gives numbers, in its order.",
        )
    flat = surgery.add("Flatten", surgery.as_floats(wrapping.output.name), axis=1)
    value = flat if wrapping.output.form == "logits" else logit_of_softmax(surgery, flat)
    surgery.add("Identity", value, name="logits")
    surgery.output("logits", (surgery.batch, count))
    zero = surgery.add("Mul", flat, surgery.constant(np.array(0.0, np.float32)))
    axes = surgery.constant(np.array([2, 3], np.int64))
    surgery.add("Unsqueeze", zero, axes, name="activation")
    surgery.output("activation", (surgery.batch, count, 1, 1))
    surgery.nothing_of(flat, rank=2, name="distance")


def _mask(surgery: Surgery, wrapping: Wrapping, *, shapes: Mapping[str, tuple[int, ...]]) -> None:
    wanted = wrapping.output
    name = surgery.own(wanted.name).removeprefix(PREFIX)
    value, shape = surgery.as_floats(wanted.name), shapes[name]
    if wanted.layout == "NHWC" and len(shape) == 4:
        value = surgery.add("Transpose", value, perm=[0, 3, 1, 2])
        shape = (shape[0], shape[3], shape[1], shape[2])
    if len(shape) != 4 or shape[0] != 1 or not 0 <= wanted.channel < shape[1]:
        raise InvalidError(
            f"output {name!r} is of {shapes[name]}, no map with a channel {wanted.channel}",
            where=f"{wrapping.name}: output",
            fix="A map is (1, channels, rows, columns), or NHWC; set output.layout and channel.",
        )
    if shape[1] > 2 and wanted.form == "logits":
        raise InvalidError(
            f"output {name!r} has {shape[1]} channels of logits",
            where=f"{wrapping.name}: output.form",
            fix="Give one channel, two, or probabilities.",
        )
    one = _channel(surgery, value, place=wanted.channel)
    if wanted.form == "probabilities":
        one = logit_of_sigmoid(surgery, one)
    elif shape[1] == 2:  # the logit of one of two is the difference of their logits
        one = surgery.add("Sub", one, _channel(surgery, value, place=1 - wanted.channel))
    surgery.add("Identity", one, name="map")
    surgery.output("map", (surgery.batch, 1, *shape[2:]))
    surgery.nothing_of(one, rank=4, name="distance")


def _channel(surgery: Surgery, value: str, *, place: int) -> str:
    return surgery.add("Gather", value, surgery.constant(np.array([place], np.int64)), axis=1)


def _objects(
    surgery: Surgery, wrapping: Wrapping, *, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    wanted, size = wrapping.output, wrapping.input
    cells = (size.height_px // wanted.stride_px, size.width_px // wanted.stride_px)
    channels = {"objectness": 1, "geometry": 4, "classes": len(wrapping.labels)}
    for ours, count in channels.items():
        theirs = surgery.own(getattr(wanted, ours)).removeprefix(PREFIX)
        if shapes[theirs] != (1, count, *cells):
            raise InvalidError(
                f"output {theirs!r} is of {shapes[theirs]}, {ours} is (1, {count}, "
                f"{cells[0]}, {cells[1]}) at a stride of {wanted.stride_px}",
                where=f"{wrapping.name}: output.{ours}",
                fix="Only detectors of maps of centres fit; see the reference of packages.",
            )
        surgery.add("Identity", surgery.as_floats(theirs), name=ours)
        surgery.output(ours, (surgery.batch, count, *cells))


# ---- the package


def _settings(wanted: WrapInput) -> Prepare:
    """Pixels as they are: what the network wants of them stands in front of it."""
    width, height = float(wanted.width_px), float(wanted.height_px)
    box = Box(x0_px=0.0, y0_px=0.0, x1_px=width, y1_px=height)
    return Prepare(
        crops=(Crop(region="", box_px=box),),
        width_px=wanted.width_px,
        height_px=wanted.height_px,
        mean=0.0,
        scale=1.0,
        fit=wanted.fit,
        border="black" if wanted.fit == "pad" else "edge",
    )


_NO_LIMITS = HealthLimits(
    sharpness_min=0.0,
    mean_grey_min=0.0,
    mean_grey_max=255.0,
    clipped_share_max=1.0,
    residual_max_px=4.0,
    feature_distance_max=1.0,
)


def _manifest(network: bytes, made: bytes, *, wrapping: Wrapping, worst: float) -> Manifest:
    source = f"{wrapping.source or wrapping.name} ({digest_of(network)})"
    bare = Manifest(
        schema=MANIFEST_SCHEMA,
        name=wrapping.name,
        task=wrapping.task,
        inspection=wrapping.inspection,
        labels=wrapping.labels,
        prepare=_settings(wrapping.input),
        rules=(),
        policy=Policy(),
        health=_NO_LIMITS,
        engine=Engine(file=NETWORK_FILE, digest=digest_of(made), max_abs_diff=worst, bound=_BOUND),
        golden=(),
        lineage=Lineage(
            dataset=wrapping.data,
            data_digest=digest_of(b""),
            pictures=0,
            seed=0,
            code_version=code_version(),
            created_at="",
            data_licence=wrapping.licence.data,
            weights=source,
            weights_licence=wrapping.licence.weights,
            warnings=_UNKNOWN,
        ),
    )
    return _ruled(bare, made, wrapping=wrapping)


def _ruled(bare: Manifest, made: bytes, *, wrapping: Wrapping) -> Manifest:
    decide, rate = wrapping.decide, Policy().error_rate
    match wrapping.task:
        case "classify":
            rule = ClassRule(
                labels=wrapping.labels,
                temperature=decide.temperature,
                floor=0.0,
                cuts=(decide.present_above,) * len(wrapping.labels),
                error_rate=rate,
                class_conditional=False,
                calibration_pictures=0,
            )
            return replace(bare, classes=rule)
        case "segment":
            return replace(bare, mask=_mask_rule(made, wrapping, rate=rate))
        case "detect":
            found = DetectRule(
                labels=wrapping.labels,
                stride_px=wrapping.output.stride_px,
                cut=decide.cut,
                unsure_below=max(decide.cut, decide.present_above),
            )
            return replace(bare, detect=found)


def _mask_rule(made: bytes, wrapping: Wrapping, *, rate: float) -> MaskRule:
    size, decide = wrapping.input, wrapping.decide
    engine = _engine(made, wrapping, outputs=("map",))
    blank = np.zeros((1, 3, size.height_px, size.width_px), np.float32)
    (found,) = engine.run(blank, outputs=("map",))
    return MaskRule(
        label=wrapping.labels[0],
        cut=decide.cut,
        least_px=decide.least_px,
        present_above=decide.present_above,
        absent_below=decide.absent_below,
        error_rate=rate,
        calibration_pictures=0,
        stride_px=max(1, size.width_px // found.shape[3]),
    )


def _engine(made: bytes, wrapping: Wrapping, *, outputs: Sequence[str]) -> OnnxEngine:
    size = (0, 3, wrapping.input.height_px, wrapping.input.width_px)
    return OnnxEngine(made, crops=size, where=wrapping.name, outputs=outputs)


# ---- proof


def _compared(
    network: bytes, made: bytes, *, wrapping: Wrapping, pictures: Sequence[bytes]
) -> float:
    """Largest difference between the network as it came and the package's, in its own numbers.

    Raises:
        RefusedError: they differ by more than 0.001.
    """
    ours, theirs = _OURS[wrapping.task], wrapping.output.name
    if wrapping.task == "detect":
        theirs = wrapping.output.objectness
    engine = _engine(made, wrapping, outputs=(ours,))
    worst = 0.0
    for picture in pictures:
        crops = prepare(decode_picture(picture, max_bytes=_MOST_BYTES), _settings(wrapping.input))
        (results,) = engine.run(crops, outputs=(ours,))
        found = _network_outputs(network, _their_input(crops, wrapping.input), wrapping=wrapping)
        own = found[theirs] if theirs else next(iter(found.values()))
        worst = max(worst, _apart(results, own.astype(np.float32), wrapping=wrapping))
    if not worst <= _BOUND:
        raise RefusedError(
            f"the package answers otherwise than the network, by {worst:.3g}",
            where=wrapping.name,
            fix=f"At most {_BOUND} is taken; check output.form and layout.",
        )
    return worst


def _their_input(crops: Floats, wanted: WrapInput) -> Floats:
    """The same pixels as the network's own code would prepare them."""
    values = crops[:, ::-1] if wanted.colour == "bgr" else crops
    mean = np.array(wanted.mean, np.float32).reshape(1, -1, 1, 1)
    scale = np.array(wanted.scale, np.float32).reshape(1, -1, 1, 1)
    values = (values - mean) / scale
    return values.transpose(0, 2, 3, 1) if wanted.layout == "NHWC" else values


def _apart(ours: Floats, theirs: Floats, *, wrapping: Wrapping) -> float:
    """Largest difference, in logits or probabilities, whatever the network gives."""
    wanted, results = wrapping.output, np.asarray(ours, np.float64)
    if wrapping.task == "classify":
        own = theirs.reshape(results.shape)
        if wanted.form == "probabilities":
            results = np.exp(results)
            results = results / results.sum(axis=1, keepdims=True)
    else:
        own = theirs.transpose(0, 3, 1, 2) if wanted.layout == "NHWC" else theirs
        if wrapping.task == "segment":
            own = _one_channel(own, wrapping)
            results = 1 / (1 + np.exp(-results)) if wanted.form == "probabilities" else results
    return float(np.abs(results - own).max())


def _one_channel(maps: Floats, wrapping: Wrapping) -> Floats:
    place = wrapping.output.channel
    one = maps[:, place : place + 1]
    if wrapping.output.form == "logits" and maps.shape[1] == 2:
        return one - maps[:, 1 - place : 2 - place]
    return one


def _golden(
    package: Package, pictures: Sequence[bytes], *, clock: Clock
) -> tuple[tuple[Golden, ...], dict[str, bytes]]:
    head = task_head_for(package, clock=clock)
    golden, files = [], {}
    for number, encoded in enumerate(pictures):
        suffix = ".png" if encoded.startswith(b"\x89PNG") else ".jpeg"
        name = f"golden/{number}{suffix}"
        image = decode_picture(encoded, max_bytes=_MOST_BYTES)
        results = head.golden(HeadInput(image=image))
        rows = tuple(tuple(float(value) for value in row) for row in results)
        golden.append(Golden(file=name, digest=digest_of(encoded), logits=rows))
        files[name] = encoded
    return tuple(golden), files
