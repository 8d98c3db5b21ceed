"""What a person says of somebody else's network, so that it can be packaged.

A TOML file of the tables below; unknown keys are refused, all faults are named together. Values of
pixels are 0 to 255 before ``mean`` and ``scale``.
"""

from dataclasses import dataclass, field
from typing import Literal

from lineside.core import Fault, InvalidError, decode, decode_toml, faults_error

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
    """What the network takes.

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
    """What the network gives.

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
    """How numbers become decisions; nothing of it is learned.

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
