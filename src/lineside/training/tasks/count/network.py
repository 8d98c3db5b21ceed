"""The network that tells a number without ever having been shown an object.

A density over the picture, at stride 8, sums to a number S. The logit of the number k is
-a (k - S)^2 / 2, that of "more than most" -a max(0, most + 1 - S)^2 / 2, so that neighbours of the
likeliest number are the next likely; a linear layer on the picture's mean features corrects them.
``activation`` is the density.
"""

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn

from lineside.training.common.backbone import (
    BLOCKS_AT_STRIDE_4,
    BLOCKS_AT_STRIDE_8,
    STRIDE_8_CHANNELS,
    STRIDE_16_CHANNELS,
    lite0_backbone,
)
from lineside.training.common.export import Graph, add_block, add_conv, model_bytes, value_info

STRIDE_PX = 8
_WIDTH = 64


class NumberNetwork(nn.Module):
    """(n, 3, h, w) → logits (n, most + 2), activation (n, 1, h / 8, w / 8)."""

    def __init__(self, *, most: int) -> None:
        super().__init__()
        self.trunk = copy.deepcopy(lite0_backbone()).requires_grad_(requires_grad=True)
        self.trunk.stem.requires_grad_(requires_grad=False)
        self.trunk.at_8[:BLOCKS_AT_STRIDE_4].requires_grad_(requires_grad=False)
        self.at_8 = nn.Conv2d(STRIDE_8_CHANNELS, _WIDTH, 1)
        self.at_16 = nn.Conv2d(STRIDE_16_CHANNELS, _WIDTH, 1)
        self.shared = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.density = nn.Conv2d(_WIDTH, 1, 1)
        self.correction = nn.Linear(_WIDTH, most + 2)
        self.sharpness = nn.Parameter(torch.zeros(1))
        self.register_buffer("numbers", torch.arange(most + 2, dtype=torch.float32))
        self.register_buffer("is_more", (torch.arange(most + 2) == most + 1).float())
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)
        nn.init.normal_(self.density.weight, std=0.01)

    numbers: Tensor
    is_more: Tensor

    def start_number(self, mean: float, *, cells: int) -> None:
        """Begin with that number on a picture of so many cells."""
        each = max(mean, 0.1) / cells
        with torch.no_grad():
            bias = self.density.bias
            if bias is not None:
                bias.fill_(math.log(math.expm1(each)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine, coarse = self.trunk(x)
        grown = nn.functional.interpolate(self.at_16(coarse), scale_factor=2.0, mode="nearest")
        seen = torch.relu(self.shared(torch.relu(self.at_8(fine) + grown)))
        density = nn.functional.softplus(self.density(seen))
        total = density.sum(dim=(1, 2, 3)).unsqueeze(1)
        apart = self.numbers - total
        apart = apart * (1 - self.is_more) + torch.relu(apart) * self.is_more
        likely = -torch.exp(self.sharpness) * apart * apart / 2
        return likely + self.correction(seen.mean(dim=(2, 3))), density

    def learned_backbone(self) -> list[nn.Parameter]:
        """Trunk weights that are learned; the rest of the network is new."""
        return [one for one in self.trunk.parameters() if one.requires_grad]

    def new_layers(self) -> list[nn.Parameter]:
        """Weights that were not published."""
        return [one for name, one in self.named_parameters() if not name.startswith("trunk.")]


def number_bytes(network: NumberNetwork, *, side_px: int) -> bytes:
    """The ONNX file of a network for squares of that side."""
    graph = Graph()
    x = add_conv(graph, network.trunk.stem, x="crops")
    taps = []
    for block in network.trunk.blocks():
        x = add_block(graph, block, x=x)
        taps.append(x)
    fine = _conv(graph, network.at_8, x=taps[BLOCKS_AT_STRIDE_8 - 1])
    grown = graph.add(
        "Resize",
        _conv(graph, network.at_16, x=taps[-1]),
        "",
        graph.constant(np.array([1, 1, 2, 2], np.float32)),
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )
    seen = graph.add("Relu", graph.add("Add", fine, grown))
    seen = graph.add("Relu", _conv(graph, network.shared, x=seen))
    density = graph.add("Softplus", _conv(graph, network.density, x=seen), name="activation")
    _logits(graph, network, seen=seen, density=density)
    cells = side_px // STRIDE_PX
    return model_bytes(
        graph,
        name="numbers",
        inputs=[value_info("crops", (1, 3, side_px, side_px))],
        outputs=[
            value_info("logits", (1, len(network.numbers))),
            value_info("activation", (1, 1, cells, cells)),
        ],
    )


def _logits(graph: Graph, network: NumberNetwork, *, seen: str, density: str) -> None:
    total = graph.add("ReduceSum", density, graph.axes(1, 2, 3), keepdims=0)
    total = graph.add("Unsqueeze", total, graph.axes(1))
    apart = graph.add("Sub", graph.constant(network.numbers.numpy()), total)
    plain = graph.add("Mul", apart, graph.constant(1 - network.is_more.numpy()))
    beyond = graph.add("Mul", graph.add("Relu", apart), graph.constant(network.is_more.numpy()))
    apart = graph.add("Add", plain, beyond)
    half = (-torch.exp(network.sharpness.detach()) / 2).numpy()
    likely = graph.add("Mul", graph.add("Mul", apart, apart), graph.constant(half))
    means = graph.add("ReduceMean", seen, axes=[2, 3], keepdims=0)
    weight = network.correction.weight.detach().numpy().T
    corrected = graph.add("MatMul", means, graph.constant(weight))
    bias = graph.constant(network.correction.bias.detach().numpy())
    graph.add("Add", graph.add("Add", likely, corrected), bias, name="logits")


def _conv(graph: Graph, conv: nn.Conv2d, *, x: str) -> str:
    bias, edge = conv.bias, int(conv.padding[0])
    held = torch.zeros(conv.out_channels) if bias is None else bias.detach()
    return graph.add(
        "Conv",
        x,
        graph.constant(conv.weight.detach().contiguous().numpy()),
        graph.constant(held.numpy()),
        kernel_shape=list(conv.kernel_size),
        pads=[edge, edge, edge, edge],
    )
