"""A frozen backbone of somebody's own: an ONNX file, and what ``backbone.toml`` says of it.

1. In training ONNX Runtime runs the file. In a package its nodes stand in the place of the one node
   that the exporter writes for it, so that a device loads one network, and parity is measured on
   the whole.
2. Its maps are brought to strides 8 and 16, which scorers and heads of regions read: of each the
   map of the nearest stride, bilinearly. Heads of whole images read each of its maps (``taps``).
   Images are brought to its size where its input has one size only.
3. Its own normalisation is part of the network; images are prepared as for the backbone that comes
   with lineside.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
import onnx.inliner
import torch
from torch import Tensor, nn

from lineside.core import InvalidError, NotFoundError, decode, decode_toml, need
from lineside.models.engines import open_session
from lineside.models.wrap import Licence
from lineside.training.common.backbone import Backbone, lite0_backbone, lite0_full
from lineside.vision import Prepare

SETTINGS_FILE = "backbone.toml"
_DOMAIN, _NODE = "lineside", "Backbone"
_STANDARD = {"", "ai.onnx"}
_STRIDES = ("4", "8", "14", "16", "32")
_TAP_STRIDES = (8, 16, 32)
_PROBE_PX = 224
_USUAL = Prepare(crops=(), width_px=1, height_px=1)
_FIX = "See docs/how-to/backbone.md."
OPSET = 17
"""Of every exported file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneInput:
    """The input: RGB, (n, 3, height, width); value = (pixel - mean) / scale, of pixels 0-255.

    Attributes:
        name: of the input; "" where it has one only.
        mean, scale: one number, or one a channel.
    """

    name: str = ""
    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (255.0,)

    def __post_init__(self) -> None:
        sizes = {len(self.mean), len(self.scale)}
        if not sizes <= {1, 3} or not all(value > 0 for value in self.scale):
            raise InvalidError(
                "mean and scale of one number or three, scale above 0", where="input", fix=_FIX
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSettings:
    """``backbone.toml``.

    Attributes:
        name: of the network, as lineage and bill of materials say it.
        licence: of its weights.
        outputs: stride in pixels → name of the output (n, channels, height / stride, width /
            stride).
    """

    name: str
    licence: Licence
    outputs: dict[str, str]
    input: BackboneInput = BackboneInput()

    def __post_init__(self) -> None:
        strange = [stride for stride in self.outputs if stride not in _STRIDES]
        if strange or not self.outputs or not self.name.strip():
            raise InvalidError(
                f"a name, and outputs by stride ({', '.join(_STRIDES)})", where="outputs", fix=_FIX
            )


class _Run(torch.autograd.Function):
    """The maps of a backbone; in a file one node, which ``inline`` replaces."""

    @staticmethod
    def forward(_: object, x: Tensor, backbone: "OnnxBackbone") -> tuple[Tensor, ...]:
        return backbone.run(x)

    @staticmethod
    def symbolic(g: Any, x: Any, backbone: "OnnxBackbone") -> Any:  # noqa: ANN401  torch's own
        """Give the node to ``torch.onnx.export``."""
        found = g.op(f"{_DOMAIN}::{_NODE}", x, outputs=len(backbone.strides))
        for one in found if isinstance(found, (list, tuple)) else (found,):
            one.setType(x.type().with_sizes([None] * 4))
        return found


class OnnxBackbone(Backbone):
    """A network in an ONNX file, which stays frozen."""

    learns = False
    most_scales = 1  # a package's file holds the network once

    def __init__(
        self, network: bytes, settings: BackboneSettings, *, where: str, batch: int = 1
    ) -> None:
        """Load the network and look at its maps once.

        Args:
            network: the ONNX file.
            settings: what ``backbone.toml`` says.
            where: names the file in errors.
            batch: images that it has to take at once.

        Raises:
            InvalidError: it does not load, or its maps are not what the settings say.
        """
        super().__init__()
        runtime = need("onnxruntime", extra="edge")
        self.settings, self.network = settings, network
        self.name = settings.name
        self.key = hashlib.sha256(network + repr(settings).encode()).hexdigest()
        self.strides = tuple(sorted(int(stride) for stride in settings.outputs))
        self._names = [settings.outputs[str(stride)] for stride in self.strides]
        self._session = open_session(runtime, network, where=where)
        self.model = _at_opset(network, where=where)
        self._input = self._checked_input(where)
        sides = self._session.get_inputs()[0].shape[2:]
        fixed = len(sides) == 2 and all(isinstance(side, int) for side in sides)
        self.size_px = (sides[0], sides[1]) if fixed else None
        shape = (1, 3, 1, 1)
        mean, scale = (np.resize(each, 3) for each in (settings.input.mean, settings.input.scale))
        factor, offset = _USUAL.scale / scale, (_USUAL.mean - mean) / scale
        self.register_buffer("factor", torch.tensor(factor, dtype=torch.float32).reshape(shape))
        self.register_buffer("offset", torch.tensor(offset, dtype=torch.float32).reshape(shape))
        self.channels = self.tap_channels = self._looked_at(where, batch=batch)
        self.tap_strides = tuple(
            min(_TAP_STRIDES, key=lambda each: abs(each - own)) for own in self.strides
        )

    factor: Tensor
    offset: Tensor

    def at_strides(self, x: Tensor, *strides: int) -> tuple[Tensor, ...]:
        maps = self._maps(x)
        return tuple(self._laid(maps, self.nearest(stride), stride, crops=x) for stride in strides)

    def learning(self, *, after: int) -> Self:
        raise InvalidError(
            f"an ONNX file stays frozen; it cannot learn after stride {after}",
            where=self.name,
            fix=_FIX,
        )

    def taps(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = self._maps(x)
        return tuple(
            self._laid(maps, place, stride, crops=x)
            for place, stride in enumerate(self.tap_strides)
        )

    def _maps(self, x: Tensor) -> Sequence[Tensor]:
        shown = x * self.factor + self.offset
        if self.size_px is not None:
            shown = nn.functional.interpolate(shown, size=self.size_px, mode="bilinear")
        found: Sequence[Tensor] = _Run.apply(shown, self)  # type: ignore[no-untyped-call] # torch's own
        return found

    def run(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of normalised crops, by rising stride."""
        found = self._session.run(self._names, {self._input: x.contiguous().numpy()})
        return tuple(torch.from_numpy(np.asarray(one, np.float32)) for one in found)

    def _laid(self, maps: Sequence[Tensor], place: int, stride: int, *, crops: Tensor) -> Tensor:
        if self.size_px is None and self.strides[place] == stride:
            return maps[place]
        size = (crops.shape[2] // stride, crops.shape[3] // stride)
        laid: Tensor = nn.functional.interpolate(maps[place], size=size, mode="bilinear")
        return laid

    def _checked_input(self, where: str) -> str:
        inputs = [one.name for one in self._session.get_inputs()]
        given = {one.name for one in self._session.get_outputs()}
        named = self.settings.input.name or (inputs[0] if len(inputs) == 1 else "")
        missing = [name for name in self._names if name not in given]
        if named not in inputs or len(inputs) != 1 or missing:
            raise InvalidError(
                f"the network takes {inputs} and gives {sorted(given)}",
                where=where,
                fix=f"Name its one input, and outputs by stride, in {SETTINGS_FILE}.",
            )
        return named

    def _looked_at(self, where: str, *, batch: int) -> tuple[int, ...]:
        """Check the maps of empty pictures; their channels."""
        high, wide = self.size_px or (_PROBE_PX, _PROBE_PX)
        try:
            maps = self.run(torch.zeros(batch, 3, high, wide))
        except Exception as error:  # boundary: the runtime's exceptions have no common class
            images = "an image" if batch == 1 else f"{batch} images"
            raise InvalidError(
                f"the network fails on {images} of {wide} x {high} pixels: {str(error)[:300]}",
                where=where,
                fix="Export it with height and width that vary, or both fixed"
                + (", and with any number of images at once." if batch > 1 else "."),
            ) from error
        for stride, found in zip(self.strides, maps, strict=True):
            size = (high // stride, wide // stride)
            if found.ndim != 4 or (len(found), *found.shape[2:]) != (batch, *size):
                raise InvalidError(
                    f"the output of stride {stride} is {tuple(found.shape)} for {wide} x {high} px",
                    where=where,
                    fix=f"It has to be (n, channels, {size[0]}, {size[1]}); a transformer's tokens "
                    "are laid out as a map first.",
                )
        return tuple(int(found.shape[1]) for found in maps)


def _at_opset(network: bytes, *, where: str) -> onnx.ModelProto:
    """The network in standard operators of ``OPSET``, without functions of its own.

    Raises:
        InvalidError: it cannot be brought there.
    """
    model = onnx.inliner.inline_local_functions(onnx.load_from_string(network))
    strange = {node.domain for node in model.graph.node} - _STANDARD
    if strange:
        raise InvalidError(
            f"the network has operators of {', '.join(sorted(strange))}",
            where=where,
            fix="Export it with standard ONNX operators alone, not optimised for one runtime.",
        )
    own = max(one.version for one in model.opset_import if one.domain in _STANDARD)
    if own == OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except Exception as error:  # boundary: the converter's exceptions have no common class
        raise InvalidError(
            f"the network of opset {own} cannot be brought to opset {OPSET}: {str(error)[-200:]}",
            where=where,
            fix=f"Export it with opset {OPSET}.",
        ) from error


def read_settings(path: Path) -> BackboneSettings:
    """The settings that stand beside a backbone's file.

    Raises:
        NotFoundError: no such file, or no ``backbone.toml`` beside it.
        InvalidError: what they say does not fit.
    """
    beside = path.with_name(SETTINGS_FILE)
    for file in (path, beside):
        if not file.is_file():
            raise NotFoundError("no such file", where=str(file), fix=_FIX)
    written = decode_toml(beside.read_bytes(), where=str(beside))
    return decode(BackboneSettings, written, where=str(beside))


def read_backbone(path: Path, *, batch: int = 1) -> OnnxBackbone:
    """A backbone with its settings; raises what ``read_settings`` and ``OnnxBackbone`` raise."""
    settings = read_settings(path)
    return OnnxBackbone(path.read_bytes(), settings, where=str(path), batch=batch)


def open_backbone(named: str, *, deepest: int = 16, batch: int = 1) -> Backbone:
    """Open the backbone that a job names, frozen; raises what ``read_backbone`` raises.

    Args:
        named: as in ``TrainJob``.
        deepest: the largest stride whose map is read.
        batch: images that it has to take at once.
    """
    if named:
        return read_backbone(Path(named), batch=batch)
    return lite0_full() if deepest > 16 else lite0_backbone()


def inline(model: onnx.ModelProto, network: nn.Module) -> None:
    """Put a backbone's own nodes in the place of the one that stands for it in an exported file."""
    backbone = next((one for one in network.modules() if isinstance(one, OnnxBackbone)), None)
    if backbone is None:
        return
    graph = model.graph
    place, node = next((n, one) for n, one in enumerate(graph.node) if one.domain == _DOMAIN)
    body = backbone.model
    names = {one.name for one in body.graph.initializer}
    taken = next(one.name for one in body.graph.input if one.name not in names)
    given = [backbone.settings.outputs[str(stride)] for stride in backbone.strides]
    prefixed = onnx.compose.add_prefix(body, "backbone/").graph
    new = {f"backbone/{taken}": node.input[0]}
    new |= {f"backbone/{name}": out for name, out in zip(given, node.output, strict=True)}
    for each in prefixed.node:
        each.input[:] = [new.get(name, name) for name in each.input]
        each.output[:] = [new.get(name, name) for name in each.output]
    nodes = [*graph.node[:place], *prefixed.node, *graph.node[place + 1 :]]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(prefixed.initializer)
    stay = [one for one in model.opset_import if one.domain != _DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(stay)
