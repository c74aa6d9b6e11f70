"""The critic of Progressive GAN, StyleGAN 1 and StyleGAN 2: from a picture to one number.

Karras et al. 2018, arXiv 1710.10196 (minibatch standard deviation, section 3; growth, figure 2); Karras et
al. 2020, arXiv 1912.04958 (residual critic, figure 7).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from sfumato.nn.stylegan import StyleConfig
from sfumato.nn.stylegan_layers import ACTIVE, EPS, SLOPE, EqualConv, EqualLinear, fir, halved

HALF = 0.5**0.5
"""Gain of each of two branches whose sum keeps its variance."""


def minibatch_std(x: Float[Tensor, "b c h w"], group: int) -> Float[Tensor, "b c1 h w"]:
    """Add a channel that tells how much the examples of a group differ: what a collapsed generator lacks.

    Groups have the largest size up to ``group`` that divides the batch.
    """
    b, _, h, w = x.shape
    size = next(size for size in range(min(group, b), 0, -1) if b % size == 0)
    y = x.float().unflatten(0, (size, -1))
    deviation = ((y - y.mean(0)).square().mean(0) + EPS).sqrt() - EPS**0.5
    told = deviation.mean((1, 2, 3)).repeat(size).view(b, 1, 1, 1).expand(b, 1, h, w)
    return torch.cat([x, told.to(x.dtype)], 1)


class Block(nn.Module):
    """Two convolutions to half the resolution, with a shortcut if the critic is residual."""

    def __init__(self, c: StyleConfig, inside: int, outside: int):
        super().__init__()
        gain = HALF if c.residual else 1.0
        self.conv0 = EqualConv(inside, inside, gain=ACTIVE)
        self.conv1 = EqualConv(inside, outside, gain=gain * ACTIVE, resample="down", taps=c.taps)
        self.skip = (
            EqualConv(inside, outside, 1, bias=False, gain=HALF, resample="down", taps=c.taps)
            if c.residual
            else None
        )

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        y = leaky_relu(self.conv0(x), SLOPE, inplace=True)
        y = leaky_relu(self.conv1(y), SLOPE, inplace=True)
        return y if self.skip is None else y + self.skip(x)


class StyleCritic(nn.Module):
    """Halves the picture until about 4 x 4 places are left, then compares, and judges."""

    pair: Tensor

    def __init__(self, c: StyleConfig):
        super().__init__()
        self.config = c
        maps = [level[0] for level in c.levels]
        first, height, width = c.levels[0]
        entries = maps if c.grows else maps[-1:]
        self.entries = nn.ModuleList(EqualConv(c.channels, wide, 1, gain=ACTIVE) for wide in entries)
        self.blocks = nn.ModuleList(Block(c, wide, below) for below, wide in pairwise(maps))
        self.conv = EqualConv(first + (c.group > 0), first, gain=ACTIVE)
        self.dense = EqualLinear(first * height * width, first, gain=ACTIVE)
        self.out = EqualLinear(first, 1)
        self.register_buffer("pair", fir((1, 1)), persistent=False)

    def forward(
        self, pixels: Float[Tensor, "b c h w"], *, level: int = -1, share: float = 1.0
    ) -> Float[Tensor, "b 1"]:
        """Logits of pictures as large as ``level`` says; ``share`` of them is seen, the rest goes in halved
        at the level below."""
        level = level % len(self.config.levels)
        x = self._enter(pixels, level)
        for at in range(level, 0, -1):
            x = self.blocks[at - 1](x)
            if at == level and share < 1:
                x = torch.lerp(self._enter(halved(pixels, self.pair), level - 1), x, share)
        if self.config.group:
            x = minibatch_std(x, self.config.group)
        x = leaky_relu(self.conv(x), SLOPE, inplace=True)
        logits: Tensor = self.out(leaky_relu(self.dense(x.flatten(1)), SLOPE))
        return logits

    def _enter(self, pixels: Tensor, level: int) -> Tensor:
        return leaky_relu(self.entries[level - len(self.config.levels)](pixels), SLOPE, inplace=True)
