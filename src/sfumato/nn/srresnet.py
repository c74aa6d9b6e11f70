"""Networks that enlarge pictures four times: a residual network with pixel shuffling, and its critic.

Ledig et al.: Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network, CVPR
2017, arXiv 1609.04802, figure 4. Parameters are named as in mmagic's MSRResNet, whose files fit where the
structure is its own: ``SRResNetConfig(kernel=3, norm=False, refine=True, skip="bilinear", unit=True)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, pixel_shuffle

from sfumato.nn.layers import zeroed

FACTOR = 4
"""How many times as high and wide the answer is."""
Skip = Literal["none", "bilinear", "bicubic"]


@dataclass(frozen=True)
class SRResNetConfig:
    """The shape of the generator; as it stands, the paper's."""

    channels: int = 3
    width: int = 64
    blocks: int = 16
    kernel: int = 9
    """Of the first and the last convolution."""
    norm: bool = True
    """Batch norm, PReLU, and a skip around all blocks; without, plain rectifiers and no such skip."""
    refine: bool = False
    """Whether one more convolution works at full size."""
    skip: Skip = "none"
    """How the small picture itself is enlarged, for the network to add its difference; "none" leaves it all
    to the network."""
    unit: bool = False
    """Whether it works on pictures in [0, 1] inside, as public files do."""


class SRResNet(nn.Module):
    """Works at the small size and only then rearranges channels into a picture twice as large, twice."""

    def __init__(self, config: SRResNetConfig):
        super().__init__()
        self.config = c = config
        width, border = c.width, c.kernel // 2
        self.conv_first = nn.Conv2d(c.channels, width, c.kernel, padding=border)
        self.act = nn.PReLU() if c.norm else nn.LeakyReLU(0.1)
        self.trunk_net = nn.Sequential(*(_Block(width, norm=c.norm) for _ in range(c.blocks)))
        self.conv_trunk = (
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)) if c.norm else None
        )
        self.upsample1 = _Upsample(width, norm=c.norm)
        self.upsample2 = _Upsample(width, norm=c.norm)
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1) if c.refine else None
        self.conv_last = nn.Conv2d(width, c.channels, c.kernel, padding=border)
        if c.skip != "none":
            zeroed(self.conv_last)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h*4 w*4"]:
        x = (x + 1) / 2 if self.config.unit else x
        first = self.act(self.conv_first(x))
        h = self.trunk_net(first)
        if self.conv_trunk is not None:
            h = first + self.conv_trunk(h)
        h = self.upsample2(self.upsample1(h))
        if self.conv_hr is not None:
            h = leaky_relu(self.conv_hr(h), 0.1)
        answer = self.conv_last(h)
        if self.config.skip != "none":
            answer = answer + enlarged(x, self.config.skip).to(answer)
        return 2 * answer - 1 if self.config.unit else answer

    @property
    def reach(self) -> int:
        """How many pixels of the small picture away from it a pixel of the answer depends on at most."""
        c = self.config
        at_full = c.kernel // 2 + c.refine + 2  # the last layers, and one at twice the size
        return c.kernel // 2 + 2 * c.blocks + c.norm + 1 + -(-at_full // FACTOR) + 2


class _Block(nn.Module):
    def __init__(self, width: int, *, norm: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.bn1, self.bn2 = (nn.BatchNorm2d(width) if norm else nn.Identity() for _ in range(2))
        self.act = nn.PReLU() if norm else nn.ReLU()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))


class _Upsample(nn.Module):
    """A convolution to four times the channels, whose groups of four become squares of 2 x 2 pixels."""

    def __init__(self, width: int, *, norm: bool):
        super().__init__()
        self.upsample_conv = nn.Conv2d(width, 4 * width, 3, padding=1)
        self.act = nn.PReLU() if norm else nn.LeakyReLU(0.1)
        alike_within_squares(self.upsample_conv)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h*2 w*2"]:
        return self.act(pixel_shuffle(self.upsample_conv(x), 2))


@torch.no_grad()
def alike_within_squares(conv: nn.Conv2d, factor: int = 2) -> None:
    """Start a convolution before pixel shuffling as if it repeated pixels (Aitken et al. 2017, ICNR)."""
    square = factor**2
    conv.weight.copy_(conv.weight[::square].repeat_interleave(square, 0))
    if conv.bias is not None:
        conv.bias.copy_(conv.bias[::square].repeat_interleave(square, 0))


class SRCritic(nn.Module):
    """Eight convolutions, every second of which halves the picture, and two layers that decide (figure 4).

    The paper's dense layers fix the size of the picture; here they look at the mean over all places.
    """

    def __init__(self, channels: int, width: int, *, norm: bool = True):
        super().__init__()
        widths = [width * k for k in (1, 1, 2, 2, 4, 4, 8, 8)]
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2)]
        for k, (inside, outside) in enumerate(pairwise(widths)):
            layers.append(nn.Conv2d(inside, outside, 3, stride=2 - k % 2, padding=1))
            layers += [nn.BatchNorm2d(outside)] if norm else []
            layers.append(nn.LeakyReLU(0.2))
        self.body = nn.Sequential(*layers)
        self.decide = nn.Sequential(nn.Linear(8 * width, 16 * width), nn.LeakyReLU(0.2))
        self.answer = nn.Linear(16 * width, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1"]:
        return self.answer(self.decide(self.body(x).mean((2, 3))))


def reduced(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
    """A quarter of the height and width by the antialiased bicubic filter, as Pillow's (a = -0.5)."""
    size = (x.shape[2] // FACTOR, x.shape[3] // FACTOR)
    return interpolate(x.float(), size, mode="bicubic", antialias=True)


def enlarged(x: Float[Tensor, "b c h w"], way: Literal["bilinear", "bicubic"]) -> Float[Tensor, "b c i j"]:
    """Four times the height and width, as Pillow's filter of that name; nothing is learned."""
    size = (x.shape[2] * FACTOR, x.shape[3] * FACTOR)
    return interpolate(x.float(), size, mode=way, antialias=way == "bicubic", align_corners=False)
