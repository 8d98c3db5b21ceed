"""A frozen backbone of somebody's own: an ONNX file, and what ``backbone.toml`` says of it.

1. In training ONNX Runtime runs the file. In a package its nodes stand in the place of the one node
   that the exporter writes for it, so that a device loads one network, and parity is measured on
   the whole.
2. It stays frozen: there is no gradient through the file.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
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
from lineside.training.common.backbone import FIX, BackboneInput, OwnBackbone, check_outputs

SETTINGS_FILE = "backbone.toml"
_DOMAIN, _NODE = "lineside", "Backbone"
_STANDARD = {"", "ai.onnx"}
_PROBE_PX = (224, 224)
OPSET = 17
"""Of every exported file."""


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
    input: BackboneInput = field(default_factory=BackboneInput)

    def __post_init__(self) -> None:
        check_outputs(self.name, self.outputs)


class _Run(torch.autograd.Function):
    """The maps of a backbone; in a file one node, which ``inline`` replaces."""

    @staticmethod
    def forward(_: object, x: Tensor, backbone: "OnnxBackbone") -> tuple[Tensor, ...]:
        return backbone.infer(x)

    @staticmethod
    def symbolic(g: Any, x: Any, backbone: "OnnxBackbone") -> Any:  # noqa: ANN401  torch's own
        """Give the node to ``torch.onnx.export``."""
        found = g.op(f"{_DOMAIN}::{_NODE}", x, outputs=len(backbone.strides))
        for one in found if isinstance(found, (list, tuple)) else (found,):
            one.setType(x.type().with_sizes([None] * 4))
        return found


class OnnxBackbone(OwnBackbone):
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
        session = open_session(need("onnxruntime", extra="edge"), network, where=where)
        sides = session.get_inputs()[0].shape[2:]
        fixed = len(sides) == 2 and all(isinstance(side, int) for side in sides)
        super().__init__(
            name=settings.name,
            strides=map(int, settings.outputs),
            size_px=(sides[0], sides[1]) if fixed else None,
            normalised=settings.input,
        )
        self.settings, self._session = settings, session
        self.key = hashlib.sha256(network + repr(settings).encode()).hexdigest()
        self._names = [settings.outputs[str(stride)] for stride in self.strides]
        self.model = _at_opset(network, where=where)
        self._input = self._checked_input(where)
        fix = "Export it with height and width that vary, or both fixed" + (
            ", and with any number of images at once." if batch > 1 else "."
        )
        self.channels = self.tap_channels = self.look(where, batch=batch, size=_PROBE_PX, fix=fix)

    def run(self, x: Tensor) -> Sequence[Tensor]:
        found: Sequence[Tensor] = _Run.apply(x, self)  # type: ignore[no-untyped-call] # torch's own
        return found

    def infer(self, x: Tensor) -> tuple[Tensor, ...]:
        """Its maps as ONNX Runtime computes them."""
        found = self._session.run(self._names, {self._input: x.contiguous().numpy()})
        return tuple(torch.from_numpy(np.asarray(one, np.float32)) for one in found)

    def learning(self, *, after: int) -> Self:
        raise InvalidError(
            f"an ONNX file stays frozen; it cannot learn after stride {after}",
            where=self.name,
            fix=FIX,
        )

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
            raise NotFoundError("no such file", where=str(file), fix=FIX)
    written = decode_toml(beside.read_bytes(), where=str(beside))
    return decode(BackboneSettings, written, where=str(beside))


def read_backbone(path: Path, *, batch: int = 1) -> OnnxBackbone:
    """A backbone with its settings; raises what ``read_settings`` and ``OnnxBackbone`` raise."""
    settings = read_settings(path)
    return OnnxBackbone(path.read_bytes(), settings, where=str(path), batch=batch)


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
