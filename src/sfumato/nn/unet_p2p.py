"""The U-Net of pix2pix: down to a single place and up again, every level handed across.

Isola et al. 2017 (arXiv 1611.07004), sections 3.2.1 and 6.1. Modules are named as in the authors' PyTorch
code, whose weight files therefore fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from sfumato.errors import UsageError
from sfumato.nn.patchgan import MOST, Norm, biased, own_norm, scatter

FIRST_DROPPED = 4
"""The level from which inner levels drop places while learning: their only source of chance."""
FEWEST = 2


@dataclass(frozen=True)
class TranslatorUNetConfig:
    """Shape of the network."""

    channels_in: int = 3
    channels_out: int = 3
    width: int = 64
    levels: int = 8
    """Times the picture is halved; 8 bring 256 pixels down to one."""
    dropout: float = 0.5
    norm: Norm = "channel"
    affine: bool = True
    """Whether norms scale and shift, as batch norm does over a batch of one."""


class TranslatorUNet(nn.Module):
    """From a picture to a picture of the same size, which is enlarged to a multiple of 2^levels inside."""

    def __init__(self, config: TranslatorUNetConfig):
        super().__init__()
        if config.levels < FEWEST:
            raise UsageError(f"The U-Net of pix2pix needs {FEWEST} levels, got {config.levels}; give more.")
        self.config = config
        inner: nn.Module | None = None
        for k in reversed(range(1, config.levels)):
            inner = _inner_level(config, k, inner)
        assert inner is not None
        outer, out = config.width, config.channels_out
        down = nn.Conv2d(config.channels_in, outer, 4, 2, 1, bias=biased(config.norm, affine=config.affine))
        up = nn.ConvTranspose2d(2 * outer, out, 4, 2, 1)
        self.model = Level(down, inner, nn.ReLU(), up, nn.Tanh())
        scatter(self)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        height, width = x.shape[2:]
        return self.model(enlarged(x, 2**self.config.levels))[:, :, :height, :width]


class Level(nn.Module):
    """Down, through the levels below, and up again."""

    def __init__(self, *parts: nn.Module):
        super().__init__()
        self.model = nn.Sequential(*parts)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        return self.model(x)


class Crossed(Level):
    """A level that hands on its input beside its output."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        return torch.cat([x, self.model(x)], 1)


def _inner_level(config: TranslatorUNetConfig, k: int, below: nn.Module | None) -> Crossed:
    """Level ``k`` from the outside; the innermost, with nothing below, has one place and so no norm."""
    outer, inner = (config.width * min(2**level, MOST) for level in (k - 1, k))
    bias = biased(config.norm, affine=config.affine)
    down = nn.Conv2d(outer, inner, 4, 2, 1, bias=bias)
    norms = [own_norm(w, config.norm, affine=config.affine) for w in (inner, outer)]
    if below is None:
        up = nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=bias)
        return Crossed(nn.LeakyReLU(0.2), down, nn.ReLU(), up, norms[1])
    up = nn.ConvTranspose2d(2 * inner, outer, 4, 2, 1, bias=bias)
    parts = [nn.LeakyReLU(0.2), down, norms[0], below, nn.ReLU(), up, norms[1]]
    if k >= FIRST_DROPPED and config.dropout:
        parts.append(nn.Dropout(config.dropout))
    return Crossed(*parts)


def enlarged(x: Float[Tensor, "b c h w"], factor: int) -> Float[Tensor, "b c i j"]:
    """The picture with its last row and column repeated until both sides are multiples of ``factor``."""
    height, width = x.shape[2:]
    down, right = -height % factor, -width % factor
    return pad(x, (0, right, 0, down), mode="replicate") if down or right else x
