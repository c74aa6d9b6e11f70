"""Networks that squeeze a picture into a short vector, and that unfold it again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from sfumato.errors import UsageError


@dataclass(frozen=True)
class BottleneckConfig:
    """The shape of an encoder and of the decoder that mirrors it."""

    channels: int = 1
    height: int = 28
    width: int = 28
    convs: tuple[int, ...] = ()
    """Channels of convolutions that halve the picture, finest first; none makes the network dense."""
    hidden: tuple[int, ...] = (512,)
    """Widths of dense layers between picture, or convolutions, and latent."""
    latent: int = 16
    """Length of the vector."""
    act: Literal["relu", "tanh"] = "relu"

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Height and width before and after each convolution."""
        sizes = [(self.height, self.width)]
        for _ in self.convs:
            sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
        return tuple(sizes)


class Encoder(nn.Module):
    """Picture to ``outputs`` numbers: convolutions of stride 2, dense layers, one linear layer."""

    def __init__(self, config: BottleneckConfig, outputs: int):
        super().__init__()
        self.config = config
        widths, sizes = (config.channels, *config.convs), config.sizes
        flat = widths[-1] * math.prod(sizes[-1])
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, 2, 1), _act(config)]
        layers.append(nn.Flatten())
        for before, after in pairwise((flat, *config.hidden)):
            layers += [nn.Linear(before, after), _act(config)]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear((flat, *config.hidden)[-1], outputs)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o"]:
        c = self.config
        if x.shape[1:] != (c.channels, c.height, c.width):
            raise UsageError(
                f"This model takes pictures of {c.height} x {c.width} pixels with {c.channels} channels, got "
                f"{x.shape[2]} x {x.shape[3]} with {x.shape[1]}; scale or crop them."
            )
        return self.out(self.layers(x))


class Decoder(nn.Module):
    """Vector to picture, through the encoder's layers in reverse.

    It gives ``outputs`` numbers for each number of the picture.
    """

    def __init__(self, config: BottleneckConfig, outputs: int = 1):
        super().__init__()
        channels, sizes, widths = outputs * config.channels, config.sizes[::-1], config.convs[::-1]
        first = widths[0] if widths else channels
        dense = (config.latent, *config.hidden[::-1])
        layers: list[nn.Module] = []
        for before, after in pairwise(dense):
            layers += [nn.Linear(before, after), _act(config)]
        layers += [nn.Linear(dense[-1], first * math.prod(sizes[0])), nn.Unflatten(1, (first, *sizes[0]))]
        for i, width in enumerate(widths):
            layers += [_act(config), _doubling(widths[max(0, i - 1)], width, sizes[i], sizes[i + 1])]
        if widths:
            layers += [_act(config), nn.Conv2d(widths[-1], channels, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b k h w"]:
        return self.layers(z)


def _act(config: BottleneckConfig) -> nn.Module:
    return nn.Tanh() if config.act == "tanh" else nn.ReLU()


def _doubling(before: int, after: int, small: tuple[int, int], large: tuple[int, int]) -> nn.Module:
    """A transposed convolution from one size to one of its two doubles, odd or even, on each side."""
    extra = (large[0] - 2 * small[0] + 1, large[1] - 2 * small[1] + 1)
    return nn.ConvTranspose2d(before, after, 3, 2, padding=1, output_padding=extra)
