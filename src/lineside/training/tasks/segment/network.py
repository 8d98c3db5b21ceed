"""A U-Net (Ronneberger et al. 2015) on a backbone: prepared pictures → a map of logits.

The encoder's maps at strides 2, 4, 8, 16 and 32 meet again on the way up: the coarser one is
doubled (nearest), laid beside the finer one, and two 3 x 3 convolutions mix them. The map ends at
stride 2; what is finer is bilinear between its cells.

No normalisation looks at a batch, so that training and the exported file compute the same, picture
by picture. Instead the encoder's maps are divided by their deviations on some training pictures,
and the new convolutions begin with outputs of mean 0 and deviation 1 on them (Mishkin and Matas
2016): without that the encoder's maps, of deviation 4 to 6, make every step of the optimiser too
large.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lineside.models.engines import BANK_OUTPUT
from lineside.training.common.backbone import Backbone, Conv, channels_last
from lineside.training.common.methods import FeatureBank, PictureBank

STRIDE_PX = 2
MULTIPLE_PX = 32
_STRIDES = (32, 16, 8, 4, 2)
_WIDTHS = (96, 64, 40, 24)
_RARE = 0.05
_LEAST_DEVIATION = 1e-3

Floats = NDArray[np.float32]


class Up(nn.Module):
    """Double the coarser map, lay it beside the finer one, mix both.

    ReLU without the encoder's bound of 6, which would make every sure cell equally sure.
    """

    def __init__(self, coarse: int, fine: int, *, out: int) -> None:
        super().__init__()
        self.first = Conv((coarse + fine, out), kernel=3, stride=1, groups=1, active=False)
        self.second = Conv((out, out), kernel=3, stride=1, groups=1, active=False)

    def convs(self) -> tuple[Conv, Conv]:
        """Both convolutions in order."""
        return self.first, self.second

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        doubled = nn.functional.interpolate(coarse, scale_factor=2, mode="nearest")
        y = torch.cat([doubled, fine], dim=1)
        for step in self.convs():
            y = nn.functional.relu(step(y), inplace=True)
        return y


class UNet(nn.Module):
    """(n, 3, h, w), sides multiples of 32 → ((n, 1, h/2, w/2) logits, (n, features) means)."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.trunk = backbone.learning(after=4)
        deepest, *skips = backbone.channels_at(*_STRIDES)
        self.narrow = Conv((deepest, 128), kernel=1, stride=1, groups=1, active=True)
        inside = (128, *_WIDTHS[:-1])
        self.ups = nn.ModuleList(
            Up(coarse, fine, out=out)
            for coarse, fine, out in zip(inside, skips, _WIDTHS, strict=True)
        )
        self.last = Conv((_WIDTHS[-1], 1), kernel=1, stride=1, groups=1, active=False)
        self.scales = nn.ParameterList(
            nn.Parameter(torch.ones(channels), requires_grad=False)
            for channels in (deepest, *skips)
        )

    def decoder(self) -> list[nn.Parameter]:
        """Parameters that are new."""
        parts = (self.narrow, self.ups, self.last)
        return [parameter for part in parts for parameter in part.parameters()]

    def up_steps(self) -> list[Up]:
        """The way up, coarsest first."""
        return [up for up in self.ups if isinstance(up, Up)]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        taps = self.taps(x)
        pooled = taps[1].mean(dim=(2, 3))
        scaled = [tap * scale[:, None, None] for tap, scale in zip(taps, self.scales, strict=True)]
        y: Tensor = self.narrow(scaled[0])
        for up, tap in zip(self.up_steps(), scaled[1:], strict=True):
            y = up(y, tap)
        logits: Tensor = self.last(y)
        return logits, pooled

    def taps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The encoder's maps at strides 32, 16, 8, 4 and 2."""
        return self.trunk.at_strides(x, *_STRIDES)

    @torch.no_grad()
    def settle(self, x: Tensor) -> None:
        """Make the maps and the new convolutions' outputs even on these pictures; see the module.

        Args:
            x: (n, 3, h, w) some training pictures.
        """
        taps = self.taps(x)
        for tap, scale in zip(taps, self.scales, strict=True):
            scale.copy_(1.0 / tap.std(dim=(0, 2, 3)).clamp(min=_LEAST_DEVIATION))
        scaled = [tap * scale[:, None, None] for tap, scale in zip(taps, self.scales, strict=True)]
        y = _settled(self.narrow, scaled[0])
        for up, tap in zip(self.up_steps(), scaled[1:], strict=True):
            y = torch.cat([nn.functional.interpolate(y, scale_factor=2, mode="nearest"), tap], 1)
            for step in up.convs():
                y = nn.functional.relu(_settled(step, y))

    @torch.no_grad()
    def fold(self) -> None:
        """Put the maps' scales into the convolutions that read them."""
        for scale, step in zip(self.scales, self._readers(), strict=True):
            step.conv.weight[:, -len(scale) :] *= scale[:, None, None]
            scale.fill_(1.0)

    def _readers(self) -> list[Conv]:
        return [self.narrow, *(up.first for up in self.up_steps())]


def _settled(step: Conv, x: Tensor) -> Tensor:
    """Give a convolution's outputs mean 0 and deviation 1 before ReLU6, and compute them."""
    y = step.conv(x)
    mean, deviation = y.mean(dim=(0, 2, 3)), y.std(dim=(0, 2, 3)).clamp(min=_LEAST_DEVIATION)
    step.conv.weight.div_(deviation[:, None, None, None])
    step.bias().sub_(mean).div_(deviation)
    found: Tensor = step(x)
    return found


def new_unet(seed: int, *, backbone: Backbone) -> UNet:
    """A network with that encoder and a decoder drawn by the seed."""
    with torch.random.fork_rng(devices=[]):
        network = UNet(backbone)
        torch.manual_seed(seed)
        for parameter in network.decoder():
            if parameter.ndim == 4:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            else:
                nn.init.zeros_(parameter)
        with torch.no_grad():
            network.last.conv.weight.mul_(0.1)
            network.last.bias().fill_(math.log(_RARE / (1 - _RARE)))
    return channels_last(network)


OUTPUTS = ("map", "distance", BANK_OUTPUT)


class MaskNetwork(nn.Module):
    """(1, 3, h, w) prepared pictures → map (1, 1, h/2, w/2) of logits, distance, bank distances."""

    def __init__(self, network: UNet, known: FeatureBank) -> None:
        super().__init__()
        self.network = network
        self.known = PictureBank(known)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, pooled = self.network(crops)
        apart = self.known(pooled)
        return logits, apart.amin(dim=1), apart
