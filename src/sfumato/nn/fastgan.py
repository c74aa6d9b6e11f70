"""The generator of FastGAN: gated convolutions, and small maps that say which channels of large ones matter.

Liu, Zhu, Song, Elgammal: Towards Faster and Stabilized GAN Training for High-fidelity Few-shot Image
Synthesis, ICLR 2021, arXiv 2101.04775, section 3.1, in the form that projected GANs use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import glu

from sfumato.errors import UsageError
from sfumato.nn.spectral import bounded

_MULTIPLES = {2: 16.0, 4: 16.0, 8: 8.0, 16: 4.0, 32: 2.0, 64: 2.0, 128: 1.0, 256: 0.5, 512: 0.25, 1024: 0.125}
"""Channels by the side of a map, in units of ``width``."""
_SKIPS = {64: 4, 128: 8, 256: 16}
"""Side of a map, and of the small one that weighs its channels."""

Noise = Callable[[int, int], Tensor]
"""Normal numbers (b, 1, height, width) for a map of this size."""


@dataclass(frozen=True)
class FastGANConfig:
    """Pictures, latent, widths."""

    channels: int = 3
    height: int = 256
    width: int = 256
    latent: int = 256
    features: int = 128
    """Unit of the widths (ngf)."""
    lite: bool = False
    """One convolution a size instead of two, and no noise."""


class FastGenerator(nn.Module):
    """From a latent, scaled to length sqrt(d), to a picture whose longer side is a power of two."""

    def __init__(self, config: FastGANConfig):
        super().__init__()
        self.config = c = config
        side = max(c.height, c.width)
        side = 1 << (side - 1).bit_length()
        if side not in _MULTIPLES or side < 8:
            raise UsageError(
                f"FastGAN makes pictures of 5 to 1024 pixels a side, got {c.height} x {c.width}; scale them."
            )
        wide = {s: max(int(m * c.features), 1) for s, m in _MULTIPLES.items()}
        self.start = bounded(nn.ConvTranspose2d(c.latent, 2 * wide[2], 4, bias=False))
        self.norm = nn.BatchNorm2d(2 * wide[2])
        sizes = [2**k for k in range(3, side.bit_length())]
        self.blocks = nn.ModuleDict(
            {str(s): Doubling(wide[2] if s == 8 else wide[s // 2], wide[s], lite=c.lite) for s in sizes}
        )
        self.gates = nn.ModuleDict(
            {str(s): Excitation(wide[small], wide[s]) for s, small in _SKIPS.items() if s in sizes}
        )
        self.to_picture = bounded(nn.Conv2d(wide[side], c.channels, 3, 1, 1))

    def forward(self, z: Float[Tensor, "b d"], noise: Noise) -> Float[Tensor, "b c h w"]:
        """Pictures in [-1, 1]; what is larger than asked for is cut off."""
        z = z * (z.shape[1] ** 0.5) / z.norm(dim=1, keepdim=True).clamp(min=1e-8)
        maps = {4: glu(self.norm(self.start(z[:, :, None, None])), 1)}
        for name, block in self.blocks.items():
            side = int(name)
            x = block(maps[side // 2], noise)
            maps[side] = x * self.gates[name](maps[_SKIPS[side]]) if name in self.gates else x
        return self.to_picture(maps[side]).tanh()[:, :, : self.config.height, : self.config.width]


class Doubling(nn.Module):
    """Doubles a map by repetition, then one or two gated convolutions."""

    def __init__(self, wide: int, out: int, *, lite: bool):
        super().__init__()
        widths = (wide,) if lite else (wide, out)
        self.convs = nn.ModuleList(bounded(nn.Conv2d(w, 2 * out, 3, 1, 1, bias=False)) for w in widths)
        self.norms = nn.ModuleList(nn.BatchNorm2d(2 * out) for _ in widths)
        self.strengths = nn.ParameterList([] if lite else [torch.zeros(1) for _ in widths])

    def forward(self, x: Float[Tensor, "b c h w"], noise: Noise) -> Float[Tensor, "b d y x"]:
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        for k, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = conv(x)
            if len(self.strengths):
                x = x + self.strengths[k] * noise(x.shape[2], x.shape[3]).to(x)
            x = glu(norm(x), 1)
        return x


class Excitation(nn.Module):
    """How much each channel of a large map counts, by what a small one shows."""

    def __init__(self, small: int, large: int):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.squeeze = bounded(nn.Conv2d(small, large, 4, bias=False))
        self.weigh = bounded(nn.Conv2d(large, large, 1, bias=False))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d 1 1"]:
        weights: Tensor = self.weigh(nn.functional.silu(self.squeeze(self.pool(x)))).sigmoid()
        return weights
