"""Times and other scalars as vectors that a network can tell apart."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, silu

from sfumato.nn.layers import Linear

LONGEST = 10000.0
"""Wavelength of the slowest sinusoid over 2 pi (Vaswani et al. 2017, section 3.5)."""


def sinusoidal(
    t: Float[Tensor, " b"], width: int, *, flip_sin_to_cos: bool = False, freq_shift: float = 0.0
) -> Float[Tensor, "b d"]:
    """Sines and cosines of ``t`` at frequencies falling from 1 to about 1/10000, in fp32.

    ``flip_sin_to_cos`` puts the cosines first (ADM, Stable Diffusion); ``freq_shift`` 1 makes the lowest
    frequency exactly 1/10000 (DDPM), 0 does not (ADM, Stable Diffusion). An odd ``width`` ends in a zero.
    """
    half = width // 2
    exponents = -math.log(LONGEST) * torch.arange(half, dtype=torch.float32, device=t.device)
    angles = t.float()[:, None] * torch.exp(exponents / (half - freq_shift))
    waves = (angles.cos(), angles.sin()) if flip_sin_to_cos else (angles.sin(), angles.cos())
    return pad(torch.cat(waves, 1), (0, width % 2))


class FourierFeatures(nn.Module):
    """Cosines and sines at fixed random frequencies (Tancik et al. 2020), in fp32.

    The frequencies are a buffer: they are saved with the weights and never trained.
    """

    weight: Tensor

    def __init__(self, width: int, scale: float = 16.0):
        super().__init__()
        self.register_buffer("weight", torch.randn(width // 2) * scale)

    def forward(self, t: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        angles = t.float()[:, None] * (2 * math.pi * self.weight.float())
        return torch.cat([angles.cos(), angles.sin()], 1)


class Embedder(nn.Module):
    """The two layers that turn an embedding of the time, or any vector, into what the blocks are told."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.linear_1 = Linear(inside, outside)
        self.linear_2 = Linear(outside, outside)

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b e"]:
        return self.linear_2(silu(self.linear_1(x.to(self.linear_1.weight.dtype))))
