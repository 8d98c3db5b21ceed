"""Torch networks of somebody's own, which installed packages bring by entry points.

1. An entry point of the group ``lineside.backbones`` names a function without arguments that
   returns a ``TorchBackbone``. It is called when a job names the entry point.
2. Parameters whose ``requires_grad`` is on may learn, in the tasks that fine-tune; the function
   turns it off for layers that are to stay. What no map depends on does not learn. Batch
   normalisation keeps its statistics and dropout is off, so that training and the exported file
   compute the same, image by image.
3. Before anything is learned its maps are held against what is stated of them, the network as an
   ONNX file against torch on images of two sizes, its copy against itself, and images of a batch
   against one alone. The function is called twice, from the same random numbers.
4. Its key is of weights, graph, settings and what learns, none of which depends on the processor.
"""

import copy
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import entry_points
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from lineside.core import InvalidError, RefusedError
from lineside.core.drivers import backbone_file, installed
from lineside.models.wrap import Licence
from lineside.training.common.backbone import (
    Backbone,
    BackboneInput,
    OwnBackbone,
    lite0_backbone,
    lite0_full,
)
from lineside.training.common.export import CELLS, PICTURE, export, onnx_bytes
from lineside.training.common.onnx_backbone import read_backbone, read_settings

_KIND = "backbones"
_PROBE_PX = (240, 208)  # multiples of 16 that are none of 32, as tiles of large images are
_EXPORT_PX = ((224, 256), (96, 160))
_SAME = 1e-3  # of a map's largest value
_ONE_AT_A_TIME = threading.RLock()  # a network may keep its maps in itself, as forward hooks do
_FORWARD = (
    "Its forward takes (n, 3, height, width), with sides that are multiples of 16 unless size_px"
    " states one size, and returns a map for each stride that is stated, by rising stride."
)


class TorchBackbone(OwnBackbone):
    """A torch network with what training has to know of it; it stays in evaluation mode."""

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        licence: str,
        channels: Mapping[int, int],
        mean: float | Sequence[float] = 0.0,
        scale: float | Sequence[float] = 255.0,
        size_px: tuple[int, int] | None = None,
        source: str = "",
    ) -> None:
        """Check the network and freeze it.

        Args:
            network: (n, 3, height, width) float32 → its maps by rising stride, as a sequence or as
                the values of a mapping: (n, channels, height / stride, width / stride).
            name: of the network, as lineage and bill of materials say it.
            licence: of its weights, as SPDX identifier or in words.
            channels: stride in pixels → channels of the map at that stride.
            mean: of RGB values 0-255; one number, or one a channel.
            scale: value = (pixel - mean) / scale.
            size_px: (height, width) of its input; None where it takes every size.
            source: where the weights come from, such as an address.

        Raises:
            InvalidError: what is stated is incomplete or does not fit, or the network cannot be
                exported, copied or run on several images.
        """
        each = (tuple(np.atleast_1d(one).tolist()) for one in (mean, scale))
        normalised = BackboneInput(mean=next(each), scale=next(each))
        super().__init__(name=name, strides=channels, size_px=size_px, normalised=normalised)
        self.licence, self.source = Licence(weights=licence).weights, source
        self.most_scales = 1 if size_px else 2
        self.network = network.float().eval()
        found = self.look(name, batch=2, size=_PROBE_PX, fix=_FORWARD)
        stated = tuple(channels[stride] for stride in self.strides)
        if found != stated:
            raise InvalidError(
                f"the maps at strides {self.strides} have {found} channels, not {stated}",
                where=name,
                fix="State the channels that the network gives at each stride.",
            )
        self.channels = self.tap_channels = found
        self._learned = self.reached()
        self.learns = bool(self._learned)
        self.requires_grad_(requires_grad=False)
        high, wide = size_px or _PROBE_PX
        if any(one.requires_grad for one in self.taps(torch.zeros(1, 3, high, wide))):
            raise InvalidError(
                "its maps have a gradient by tensors that are no parameters of the network",
                where=name,
                fix="Register its layers: nn.ModuleList in place of a list.",
            )
        self.key = self._exported()
        self._check_copy()

    def run(self, x: Tensor) -> tuple[Tensor, ...]:
        with _ONE_AT_A_TIME:
            maps = self.network(x)
            if isinstance(maps, Tensor):
                return (maps,)
            return tuple(maps.values() if isinstance(maps, Mapping) else maps)

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002, FBT001, FBT002  torch's own
        return super().train(mode=False)

    def learning(self, *, after: int) -> Self:  # noqa: ARG002  its package says what learns
        network = copy.deepcopy(self)
        for name, one in network.network.named_parameters():
            one.requires_grad_(name in self._learned)
        return network

    @property
    def weights(self) -> str:
        """Name and source in one line."""
        return f"{self.name} ({self.source})" if self.source else self.name

    def facts(self) -> dict[str, object]:
        """Return what a report says of it."""
        counts = {name: one.numel() for name, one in self.network.named_parameters()}
        learned = sum(counts[name] for name in self._learned)
        maps = zip(self.channels, self.strides, strict=True)
        return {
            "network": self.name,
            "source": self.source or "not stated",
            "licence": self.licence,
            "channels": ", ".join(f"{count} at stride {stride}" for count, stride in maps),
            "parameters that may learn": f"{learned:,} of {sum(counts.values()):,}",
        }

    def reached(self) -> set[str]:
        """Names of the parameters that are to learn and that a map depends on."""
        high, wide = self.size_px or _PROBE_PX
        wanted = {name: one for name, one in self.network.named_parameters() if one.requires_grad}
        try:
            maps = self.taps(torch.zeros(1, 3, high, wide))
            total = torch.stack([one.sum() for one in maps]).sum()
            if not wanted or not total.requires_grad:
                return set()
            found: Sequence[Tensor | None] = torch.autograd.grad(
                total, list(wanted.values()), allow_unused=True
            )
        except Exception as error:  # boundary: whatever somebody else's network raises
            raise InvalidError(
                f"the network has no gradient: {str(error)[:300]}",
                where=self.name,
                fix="Turn requires_grad off for the parameters that cannot learn.",
            ) from error
        return {name for name, one in zip(wanted, found, strict=True) if one is not None}

    def _exported(self) -> str:
        """Its key; its file is held against torch, each map divided by its largest value."""
        rng = np.random.default_rng(0)
        crops = [rng.normal(0, 1, (1, 3, *size)).astype(np.float32) for size in _EXPORT_PX]
        with torch.no_grad():
            peaks = [float(one.abs().max()) + 1e-6 for one in self.taps(torch.from_numpy(crops[0]))]
        names = tuple(f"map{place}" for place in range(len(peaks)))
        varies = {"crops": PICTURE, **dict.fromkeys(names, CELLS)}
        try:
            export(_Scaled(self, peaks).eval(), crops, outputs=names, varies=varies)
            # Nothing measured is in it, and nothing computed from its weights by sums.
            plain = _Scaled(self, [1.0] * len(peaks)).eval()
            graph = onnx_bytes(plain, crops[0], outputs=names, varies=varies, fold=False)
        except RefusedError as error:
            raise InvalidError(
                f"as an ONNX file the network gives other maps: {error.message}",
                where=self.name,
                fix="Its forward does the same for images of every size, without random numbers.",
            ) from error
        except Exception as error:  # boundary: exporter and engine share no class of exceptions
            raise InvalidError(
                f"the network cannot be written as an ONNX file: {str(error)[:300]}",
                where=self.name,
                fix="Build it of operators that torch.onnx.export writes (dynamo=False, opset 17).",
            ) from error
        settings = (self.name, self.strides, self.size_px, sorted(self._learned))
        hashed = hashlib.sha256(graph + repr(settings).encode())
        for name, value in sorted([*self.named_parameters(), *self.named_buffers()]):
            hashed.update(name.encode() + value.detach().contiguous().numpy().tobytes())
        return hashed.hexdigest()

    def _check_copy(self) -> None:
        """Refuse a network whose copy gives other maps or learns less, or that mixes images."""
        high, wide = self.size_px or _PROBE_PX
        drawn = torch.rand(2, 3, high, wide, generator=torch.Generator().manual_seed(1))
        shown = torch.stack([drawn[0], drawn[1] / 4 - 1])
        try:
            copied = self.learning(after=0)
            others = copied.taps(shown)
        except Exception as error:  # boundary: whatever somebody else's network raises
            raise InvalidError(
                f"a copy of the network fails: {str(error)[:300]}",
                where=self.name,
                fix="copy.deepcopy has to give a network of its own.",
            ) from error
        own = self.taps(shown)
        if not _same(others, own) or copied.reached() != self._learned:
            raise InvalidError(
                "its maps come from the original network, not from its copy: it keeps them in a"
                " closure",
                where=self.name,
                fix="Use a method of the module, for forward hooks too.",
            )
        if not _same([one[1:] for one in own], self.taps(shown[1:])):
            raise InvalidError(
                "the maps of an image depend on the other images of the batch",
                where=self.name,
                fix="Give batch normalisation running statistics, and average over no batch.",
            )


def _same(maps: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return all(
        one.shape == other.shape and bool((one - other).abs().max() <= _SAME * other.abs().max())
        for one, other in zip(maps, others, strict=True)
    )


class _Scaled(nn.Module):
    """The maps of a backbone, each divided by a number."""

    def __init__(self, backbone: Backbone, peaks: Sequence[float]) -> None:
        super().__init__()
        self.backbone, self.peaks = backbone, peaks

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        maps = self.backbone.taps(crops)
        return tuple(one / peak for one, peak in zip(maps, self.peaks, strict=True))


def _seeded(function: Callable[[], object]) -> object:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return function()


@lru_cache
def installed_backbone(named: str) -> TorchBackbone:
    """Open the backbone that an installed package brings under that name.

    Raises:
        InvalidError: there is none, or what its function does or gives does not fit.
    """
    points, where = installed(_KIND), f"backbone {named}"
    if named not in points:
        names = sorted(name for name in points if backbone_file(name) is None)
        raise InvalidError(
            f"no backbone {named!r} is installed",
            where="backbone",
            fix=f"Installed: {', '.join(names) or 'none'}. Name one of these, or an ONNX"
            " file; docs/how-to/backbone.md says how a package brings one.",
        )
    brought = entry_points(group=f"lineside.{_KIND}", name=named)
    packages = sorted({one.dist.name for one in brought if one.dist is not None})
    if len(packages) > 1:
        raise InvalidError(
            f"{len(packages)} packages bring it: {', '.join(packages)}",
            where=where,
            fix="Uninstall all but one of them, or give its entry point another name.",
        )
    point = points[named]
    try:
        made, again = (_seeded(point.load()) for _ in range(2))
    except InvalidError as error:
        raise InvalidError(error.message, where=where, fix=error.fix) from error
    except (Exception, SystemExit) as error:  # boundary: the function is somebody else's
        raise InvalidError(
            f"{point.value} fails: {type(error).__name__}: {str(error)[:300]}",
            where=where,
            fix="Mend the package that brings it, or install what it needs.",
        ) from error
    if not isinstance(made, TorchBackbone) or not isinstance(again, TorchBackbone):
        raise InvalidError(
            f"{point.value} returns {type(made).__name__}",
            where=where,
            fix="Return a TorchBackbone of lineside.training.",
        )
    if made.key != again.key:
        raise InvalidError(
            f"{point.value} gives another network each time that it is called",
            where=where,
            fix="Read all weights from a file, or draw them after torch.manual_seed.",
        )
    if point.dist is not None:
        parts = (made.source, f"{point.dist.name} {point.dist.version}")
        made.source = ", ".join(part for part in parts if part)
    return made


def open_backbone(named: str, *, deepest: int = 16, batch: int = 1) -> Backbone:
    """Open the backbone that a job names, frozen.

    Args:
        named: as in ``TrainJob``.
        deepest: the largest stride whose map is read.
        batch: images that it has to take at once.

    Raises:
        NotFoundError: there is no such file.
        InvalidError: none of that name is installed, or it does not fit.
    """
    file = backbone_file(named)
    if file is not None:
        return read_backbone(file, batch=batch)
    if named:
        return installed_backbone(named)
    return lite0_full() if deepest > 16 else lite0_backbone()


class BackboneFacts(NamedTuple):
    """Facts of a backbone of somebody's own: for lineage, bill of materials and report."""

    weights: str
    licence: str
    section: Mapping[str, object]


def backbone_facts(named: str) -> BackboneFacts:
    """Return the facts of the backbone that a job names; it names one."""
    file = backbone_file(named)
    if file is None:
        own = installed_backbone(named)
        return BackboneFacts(own.weights, own.licence, own.facts())
    settings = read_settings(file)
    licence = settings.licence.weights
    return BackboneFacts(
        settings.name,
        licence,
        {"network": settings.name, "source": file.name, "licence": licence, "learns": "no"},
    )
