"""Layers that every network here is made of."""

from __future__ import annotations

from functools import cache
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, silu

M = TypeVar("M", bound=nn.Module)

ONEDNN_FROM = 2**21
"""Multiplications from which oneDNN's fp32 product beats the default one on a CPU (measured)."""


class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu & He 2018) that is safe for frozen networks in channels-last layout.

    PyTorch 2.13 crashes in backward on a CPU when a trainable group norm gets a channels-last input that
    needs no gradient; such input is made contiguous first.
    """

    def forward(self, x: Float[Tensor, "b c ..."]) -> Float[Tensor, "b c ..."]:
        if self.weight.requires_grad and not x.requires_grad and not x.is_contiguous():
            x = x.contiguous()
        return super().forward(x)


class Linear(nn.Linear):
    """A linear layer whose large fp32 products on a CPU, where no gradient is asked for, go through oneDNN.

    PyTorch sends fp32 products to MKL, which runs at half speed on AMD; oneDNN's are as exact.
    """

    def forward(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        return product(x, self.weight, self.bias)


def product(
    x: Float[Tensor, "... i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None = None
) -> Float[Tensor, "... o"]:
    """x W^T + b by the fastest exact way."""
    if (
        x.dtype == weight.dtype == torch.float32
        and x.numel() * weight.shape[0] >= ONEDNN_FROM
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and onednn_agrees()
    ):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return linear(x, weight, bias)


@cache
def onednn_agrees() -> bool:
    """Whether this build has oneDNN's product (private to PyTorch) and it computes what it should."""
    if not torch.backends.mkldnn.is_available():
        return False
    x = torch.linspace(-1, 1, 3 * 33 * 40).view(3, 33, 40).sin()
    weight, bias = torch.linspace(-2, 1, 50 * 40).view(50, 40).cos(), torch.linspace(0, 1, 50)
    try:
        ours = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.allclose(ours, linear(x, weight, bias), rtol=1e-5, atol=1e-5)


class GEGLU(nn.Module):
    """Half of a projection times GELU of the other half (Shazeer 2020)."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.proj = Linear(inside, 2 * outside)

    def forward(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * gelu(gate)


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x): the GELU that CLIP was trained with."""

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return x * torch.sigmoid(1.702 * x)


def swish(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """SiLU of a tensor that nobody else reads: overwritten where no gradient will ask for it."""
    return silu(x, inplace=not torch.is_grad_enabled())


def zeroed(module: M) -> M:
    """The module with all parameters zero, so that the branch it ends adds nothing at first."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
