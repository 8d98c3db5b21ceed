"""Somebody else's ONNX network as a package.

1. The network is given the input and outputs of its task (``wrap_graph``); what it does not tell,
   activation maps and the distance from its training data, are zeros. Hence nothing is explained
   and no picture is refused as strange.
2. Nothing is calibrated: the manifest says so among its warnings, and ``lineside evaluate`` shows
   what the network is worth on pictures of one's own.
3. The result is held against the network as it came, on the golden pictures.
4. What does not fit is named: which output, its shape, what was expected.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.core import Box, Clock, InvalidError, Policy, RefusedError, digest_of, need
from lineside.models.archive import Package, build_package
from lineside.models.engines.onnx import OnnxEngine
from lineside.models.manifest import (
    MANIFEST_SCHEMA,
    Engine,
    Golden,
    HealthLimits,
    Lineage,
    Manifest,
)
from lineside.models.sbom import libraries_here, with_sbom
from lineside.models.task_heads import HeadInput, task_head_for
from lineside.models.wrapping import (
    PREFIX,
    Surgery,
    WrapInput,
    Wrapping,
    logit_of_sigmoid,
    logit_of_softmax,
)
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

NETWORK_FILE = "network.onnx"
_BOUND = 1e-3
_MOST_GOLDEN = 8
_MOST_BYTES = 64_000_000
_MADE = ("lineside", "onnx", "onnxruntime", "numpy", "opencv-python-headless")
_OURS = {"classify": "logits", "segment": "map", "detect": "objectness"}
_UNKNOWN = (
    "others' network: its probabilities are not calibrated here",
    "others' network: nothing tells how strange a picture is to it, and nothing is explained",
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
    said = _asked(network, np.zeros(_size(wrapping.input), np.float32), wrapping=wrapping)
    return {name: each.shape for name, each in said.items()}


def _size(wanted: WrapInput) -> tuple[int, int, int, int]:
    if wanted.layout == "NHWC":
        return (1, wanted.height_px, wanted.width_px, 3)
    return (1, 3, wanted.height_px, wanted.width_px)


_KINDS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


def _asked(network: bytes, values: NDArray[Any], *, wrapping: Wrapping) -> dict[str, NDArray[Any]]:
    """Every output of the network as it came."""
    runtime = need("onnxruntime", extra="edge")
    try:
        session = runtime.InferenceSession(network, providers=["CPUExecutionProvider"])
        (taken,) = session.get_inputs()
        kind = _KINDS[taken.type]
        said = session.run(None, {taken.name: values.astype(kind)})
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
    return {o.name: np.asarray(v) for o, v in zip(session.get_outputs(), said, strict=True)}


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
            code_version=_code_version(),
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


def _code_version() -> str:
    try:
        return f"lineside {version('lineside')}"
    except PackageNotFoundError:
        return "lineside"


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
        (said,) = engine.run(crops, outputs=(ours,))
        found = _asked(network, _their_input(crops, wrapping.input), wrapping=wrapping)
        own = found[theirs] if theirs else next(iter(found.values()))
        worst = max(worst, _apart(said, own.astype(np.float32), wrapping=wrapping))
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
    wanted, said = wrapping.output, np.asarray(ours, np.float64)
    if wrapping.task == "classify":
        own = theirs.reshape(said.shape)
        if wanted.form == "probabilities":
            said = np.exp(said)
            said = said / said.sum(axis=1, keepdims=True)
    else:
        own = theirs.transpose(0, 3, 1, 2) if wanted.layout == "NHWC" else theirs
        if wrapping.task == "segment":
            own = _one_channel(own, wrapping)
            said = 1 / (1 + np.exp(-said)) if wanted.form == "probabilities" else said
    return float(np.abs(said - own).max())


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
        said = head.golden(HeadInput(image=image))
        rows = tuple(tuple(float(value) for value in row) for row in said)
        golden.append(Golden(file=name, digest=digest_of(encoded), logits=rows))
        files[name] = encoded
    return tuple(golden), files
