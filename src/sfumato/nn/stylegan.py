"""What turns a latent into a picture in Progressive GAN, StyleGAN 1 and StyleGAN 2: mapping and synthesis.

Karras, Aila, Laine, Lehtinen 2018, arXiv 1710.10196 (equalised learning rate, pixel norm, growth); Karras,
Laine, Aila 2019, arXiv 1812.04948 (mapping, styles, noise); Karras et al. 2020, arXiv 1912.04958
(modulated convolution, skip connections).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from sfumato.errors import UsageError
from sfumato.nn.stylegan_layers import (
    ACTIVE,
    SLOPE,
    EqualConv,
    EqualLinear,
    adain,
    doubled,
    fir,
    modulated,
    pixel_norm,
    recoloured,
)

SMALLEST = 3
"""Fewest places a side of the map that synthesis starts from."""
Norm = Literal["demod", "adain", "pixel"]
"""What keeps magnitudes in check: StyleGAN 2's demodulation, StyleGAN 1's AdaIN, Progressive GAN's pixel
norm (and then no styles: the latent enters at the start)."""


@dataclass(frozen=True)
class StyleConfig:
    """Shapes of generator and critic."""

    channels: int = 3
    height: int = 32
    width: int = 32
    z: int = 64
    """Numbers in a latent."""
    w: int = 64
    """Numbers in a style."""
    mapping: int = 4
    """Layers between the two."""
    lr_mul: float = 0.01
    """Learning rate of the mapping, as a share of the others'."""
    base: int = 1024
    """Feature maps times resolution ..."""
    most: int = 64
    """... but no more feature maps than this."""
    norm: Norm = "demod"
    skip: bool = True
    """Whether each resolution adds its own colours (StyleGAN 2) or the last alone gives them."""
    residual: bool = True
    """Whether the critic's blocks have shortcuts (StyleGAN 2)."""
    taps: tuple[int, ...] = (1, 3, 3, 1)
    """Of the resampling filter. Nearest neighbours, convolution and the blur [1, 2, 1] of StyleGAN 1 come
    to the same, but for the border; Progressive GAN's nearest neighbours and 2 x 2 means are [1, 1]."""
    noise: bool = True
    fixed_noise: bool = False
    """Whether the weights bring the noise that belongs to them, as published models do."""
    grows: bool = False
    """Whether every resolution can be shown by itself, as growing needs."""
    group: int = 4
    """Examples over which the critic measures how much they differ; 0 turns it off."""

    @property
    def levels(self) -> tuple[tuple[int, int, int], ...]:
        """(feature maps, height, width) of every resolution, coarse to fine, about 4 x 4 at first."""
        height, width, doublings = self.height, self.width, 0
        while height % 2 == width % 2 == 0 and min(height, width) // 2 >= SMALLEST:
            height, width, doublings = height // 2, width // 2, doublings + 1
        if max(height, width) > 16:
            raise UsageError(
                f"StyleGAN doubles a small map until it is the picture, which {self.height} x {self.width} "
                "does not allow; choose sides that are 3 to 16 times the same power of two, such as 32 x 32."
            )
        maps = [max(1, min(self.most, self.base // (4 << i))) for i in range(doublings + 1)]
        return tuple((c, height << i, width << i) for i, c in enumerate(maps))

    @property
    def styles(self) -> int:
        """How many styles a picture has: two a resolution."""
        return 2 * len(self.levels)


# --- one layer of synthesis, by what keeps magnitudes in check ------------------------------------------


class Demodulated(nn.Module):
    """StyleGAN 2: a modulated convolution, noise of one strength, bias, leaky ReLU (figure 2d)."""

    kernel: Tensor

    def __init__(self, c: StyleConfig, inside: int, outside: int, *, up: bool = False):
        super().__init__()
        self.affine = EqualLinear(c.w, inside, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outside, inside, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outside))
        self.strength = nn.Parameter(torch.zeros(())) if c.noise else None
        self.up = up
        self.register_buffer("kernel", fir(c.taps), persistent=False)

    def forward(
        self, x: Float[Tensor, "b i h w"], w: Float[Tensor, "b d"], noise: Float[Tensor, "b 1 h2 w2"] | None
    ) -> Float[Tensor, "b o h2 w2"]:
        up = self.kernel if self.up else None
        x = modulated(x, self.weight, self.affine(w), gain=ACTIVE, up=up)
        x = x + (ACTIVE * self.bias).to(x.dtype).view(-1, 1, 1)
        if noise is not None and self.strength is not None:
            x = x + (ACTIVE * self.strength * noise).to(x.dtype)
        return leaky_relu(x, SLOPE, inplace=True)


class Adaptive(nn.Module):
    """StyleGAN 1: convolution, noise of one strength a channel, leaky ReLU, AdaIN (eq. 1)."""

    def __init__(self, c: StyleConfig, inside: int, outside: int, *, up: bool = False):
        super().__init__()
        resample: Literal["up"] | None = "up" if up else None
        self.conv = (
            EqualConv(inside, outside, bias=False, gain=ACTIVE, resample=resample, taps=c.taps)
            if inside
            else nn.Identity()
        )
        self.bias = nn.Parameter(torch.zeros(outside))
        self.strength = nn.Parameter(torch.zeros(outside)) if c.noise else None
        self.affine = EqualLinear(c.w, 2 * outside)

    def forward(
        self, x: Float[Tensor, "b i h w"], w: Float[Tensor, "b d"], noise: Float[Tensor, "b 1 h2 w2"] | None
    ) -> Float[Tensor, "b o h2 w2"]:
        x = self.conv(x)
        if noise is not None and self.strength is not None:
            x = x + (ACTIVE * self.strength.view(-1, 1, 1) * noise).to(x.dtype)
        x = leaky_relu(x + (ACTIVE * self.bias).to(x.dtype).view(-1, 1, 1), SLOPE)
        return adain(x, self.affine(w))


class Plain(nn.Module):
    """Progressive GAN: convolution, leaky ReLU, pixel norm; styles and noise are not asked for."""

    def __init__(self, c: StyleConfig, inside: int, outside: int, *, up: bool = False):
        super().__init__()
        resample: Literal["up"] | None = "up" if up else None
        self.conv = EqualConv(inside, outside, gain=ACTIVE, resample=resample, taps=c.taps)

    def forward(
        self, x: Float[Tensor, "b i h w"], w: Float[Tensor, "b d"], noise: Float[Tensor, "b 1 h2 w2"] | None
    ) -> Float[Tensor, "b o h2 w2"]:
        return pixel_norm(leaky_relu(self.conv(x), SLOPE, inplace=True))


class Colours(nn.Module):
    """Features to colours, by a 1 x 1 convolution that a style may modulate (never demodulated)."""

    def __init__(self, c: StyleConfig, inside: int):
        super().__init__()
        self.affine = EqualLinear(c.w, inside, bias=1.0) if c.norm == "demod" else None
        self.weight = nn.Parameter(torch.randn(c.channels, inside, 1, 1))
        self.bias = nn.Parameter(torch.zeros(c.channels))
        self.scale = inside**-0.5

    def forward(self, x: Float[Tensor, "b i h w"], w: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        weight = self.weight[:, :, 0, 0] * self.scale
        if self.affine is None:
            return recoloured(x, weight.expand(len(x), -1, -1), self.bias)
        return recoloured(x, weight * self.affine(w)[:, None], self.bias)


# --- networks ------------------------------------------------------------------------------------------


class Mapping(nn.Module):
    """From latents to styles: pixel norm and a few dense layers, which learn slowly."""

    average: Tensor

    def __init__(self, c: StyleConfig):
        super().__init__()
        wide = [c.z] + [c.w] * c.mapping
        self.layers = nn.ModuleList(
            EqualLinear(i, o, lr_mul=c.lr_mul, gain=ACTIVE) for i, o in pairwise(wide)
        )
        self.register_buffer("average", torch.zeros(wide[-1]))

    def forward(self, z: Float[Tensor, "b z"]) -> Float[Tensor, "b w"]:
        x = pixel_norm(z)
        for layer in self.layers:
            x = leaky_relu(layer(x), SLOPE)
        return x


class Synthesis(nn.Module):
    """From styles, and noise for what they do not say, to a picture."""

    kernel: Tensor
    pair: Tensor
    constant: Tensor | None

    def __init__(self, c: StyleConfig):
        super().__init__()
        self.config = c
        layer = {"demod": Demodulated, "adain": Adaptive, "pixel": Plain}[c.norm]
        maps = [level[0] for level in c.levels]
        first, height, width = c.levels[0]
        if c.norm == "pixel":
            inside = c.w if c.mapping else c.z
            self.dense = EqualLinear(inside, first * height * width, gain=ACTIVE / 4)
        else:
            start = torch.randn if c.norm == "demod" else torch.ones
            self.const = nn.Parameter(start(first, height, width))
        self.layers = nn.ModuleList([Adaptive(c, 0, first)] if c.norm == "adain" else [])
        self.layers.append(layer(c, first, first))
        for before, wide in pairwise(maps):
            self.layers += [layer(c, before, wide, up=True), layer(c, wide, wide)]
        shown = maps if c.skip or c.grows else maps[-1:]
        self.colours = nn.ModuleList(Colours(c, wide) for wide in shown)
        self.register_buffer("kernel", fir(c.taps), persistent=False)
        self.register_buffer("pair", fir((1, 1)), persistent=False)
        count = sum(h * w for h, w in self.noise_shapes)
        self.register_buffer("constant", torch.randn(count) if c.fixed_noise else None)

    @property
    def noise_shapes(self) -> list[tuple[int, int]]:
        """Height and width of the noise of every layer."""
        each = [(h, w) for _, h, w in self.config.levels for _ in range(2)]
        return each[len(each) - len(self.layers) :]

    def forward(
        self,
        styles: Float[Tensor, "b l d"],
        noise: Float[Tensor, "b n"] | None = None,
        *,
        level: int = -1,
        share: float = 1.0,
    ) -> Float[Tensor, "b c h w"]:
        """Picture at a ``level`` of resolution, the finest by default; ``share`` of it, the rest is the level
        below, doubled. ``noise`` holds the standard normal numbers of all layers; without it comes the
        noise of the weights, if they bring one, or none."""
        level = level % len(self.config.levels)
        if noise is None and self.constant is not None:
            noise = self.constant.expand(len(styles), -1)
        maps = self._noise(noise)
        x, pixels = self._start(styles[:, 0]), None
        ahead = len(self.layers) - 2 * len(self.config.levels)  # the first resolution may have one layer
        for at in range(level + 1):
            for i in range(max(0, 2 * at + ahead), 2 * at + 2 + ahead):
                x = self.layers[i](x, styles[:, i], maps[i] if maps else None)
            pixels = self._colour(x, styles[:, 2 * at + 1], pixels, at, level, share)
        assert pixels is not None
        return pixels

    def _colour(
        self, x: Tensor, w: Tensor, below: Tensor | None, at: int, level: int, share: float
    ) -> Tensor | None:
        """The picture so far: a sum over resolutions, or the last, faded in over the one below."""
        from_last = at - len(self.config.levels)
        if self.config.skip:
            mine: Tensor = self.colours[from_last](x, w)
            return mine if below is None else doubled(below, self.kernel) + mine
        if at < level - 1 or (at < level and share == 1):
            return None
        mine = self.colours[from_last](x, w)
        return mine if below is None else torch.lerp(doubled(below, self.pair), mine, share)

    def _start(self, w: Tensor) -> Tensor:
        first, height, width = self.config.levels[0]
        if self.config.norm == "pixel":
            x = leaky_relu(self.dense(w), SLOPE).view(-1, first, height, width)
            return pixel_norm(x)
        return self.const.expand(len(w), -1, -1, -1)

    def _noise(self, noise: Tensor | None) -> list[Tensor]:
        if noise is None:
            return []
        shapes = self.noise_shapes
        parts = noise.split([h * w for h, w in shapes], dim=1)
        return [part.view(-1, 1, h, w) for part, (h, w) in zip(parts, shapes, strict=True)]
