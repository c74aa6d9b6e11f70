"""The networks of DALL-E's dVAE, with the names of its published files."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

MARGIN = 0.1
"""How far pixels are kept from 0 and 1 on their way in (Ramesh et al. 2021, appendix A.3)."""


@dataclass(frozen=True)
class DVAEConfig:
    """The shape of the networks; the defaults are the published ones'."""

    channels: int = 3
    """Of a picture."""
    latent_channels: int = 128
    """Length of a code, as the decoder looks it up."""
    width: int = 256
    """Channels next to the picture; each further level doubles them, and halves height and width."""
    levels: int = 4
    blocks: int = 2
    """Residual blocks a level."""

    @property
    def factor(self) -> int:
        """How many pixels wide one code is."""
        return int(2 ** (self.levels - 1))

    @property
    def gain(self) -> float:
        """Share of a block's own part in what it passes on: one over the square of their number."""
        return float((self.levels * self.blocks) ** -2)


class DVAEEncoder(nn.Module):
    """Picture in [-1, 1] to features of every place; a 1 x 1 convolution makes logits of them."""

    def __init__(self, config: DVAEConfig):
        super().__init__()
        widths = [config.width * 2**i for i in range(config.levels)]
        parts: list[tuple[str, nn.Module]] = [
            ("input", nn.Conv2d(config.channels, config.width, 7, padding=3))
        ]
        for i, (before, width) in enumerate(zip((config.width, *widths), widths, strict=False)):
            group = _group(before, width, config, kernels=(3, 3, 3, 1))
            if i + 1 < config.levels:
                group.append(("pool", nn.MaxPool2d(2)))
            parts.append((f"group_{i + 1}", nn.Sequential(OrderedDict(group))))
        parts.append(("output", nn.ReLU()))
        self.blocks = nn.Sequential(OrderedDict(parts))
        self.outputs = widths[-1]
        """Features of a place."""

    @property
    def ends(self) -> tuple[nn.Module, ...]:
        """Where the picture comes in."""
        return (self.blocks.get_submodule("input"),)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        return self.blocks((1 - 2 * MARGIN) * (x + 1) / 2 + MARGIN)


class DVAEDecoder(nn.Module):
    """Codes to what is said of every pixel."""

    def __init__(self, config: DVAEConfig):
        super().__init__()
        widths = [config.width * 2**i for i in reversed(range(config.levels))]
        parts: list[tuple[str, nn.Module]] = []
        for i, (before, width) in enumerate(zip((config.latent_channels, *widths), widths, strict=False)):
            group = _group(before, width, config, kernels=(1, 3, 3, 3))
            if i + 1 < config.levels:
                group.append(("upsample", nn.Upsample(scale_factor=2, mode="nearest")))
            parts.append((f"group_{i + 1}", nn.Sequential(OrderedDict(group))))
        last = nn.Conv2d(config.width, config.channels, 1)
        parts.append(("output", nn.Sequential(OrderedDict([("relu", nn.ReLU()), ("conv", last)]))))
        self.blocks = nn.Sequential(OrderedDict(parts))

    @property
    def ends(self) -> tuple[nn.Module, ...]:
        """Where the picture goes out."""
        return (self.blocks.get_submodule("output.conv"),)

    def forward(self, z: Float[Tensor, "b d i j"]) -> Float[Tensor, "b c h w"]:
        return self.blocks(z)


class _Block(nn.Module):
    """What came in, and a little of four convolutions, each after a rectifier."""

    def __init__(self, before: int, width: int, kernels: tuple[int, ...], gain: float):
        super().__init__()
        inner = width // 4
        sizes = [before, *[inner] * (len(kernels) - 1), width]
        path: list[tuple[str, nn.Module]] = []
        for i, kernel in enumerate(kernels, start=1):
            conv = nn.Conv2d(sizes[i - 1], sizes[i], kernel, padding=kernel // 2)
            path += [(f"relu_{i}", nn.ReLU()), (f"conv_{i}", conv)]
        self.id_path = nn.Conv2d(before, width, 1) if before != width else nn.Identity()
        self.res_path = nn.Sequential(OrderedDict(path))
        self.gain = gain

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        return torch.add(self.id_path(x), self.res_path(x), alpha=self.gain)


def _group(
    before: int, width: int, config: DVAEConfig, kernels: tuple[int, ...]
) -> list[tuple[str, nn.Module]]:
    sizes = (before, *[width] * (config.blocks - 1))
    return [
        (f"block_{i}", _Block(size, width, kernels, config.gain)) for i, size in enumerate(sizes, start=1)
    ]
