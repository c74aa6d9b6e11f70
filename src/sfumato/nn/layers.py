"""Layers that every network here is made of."""

from __future__ import annotations

from functools import cache
from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, gelu, interpolate, linear, pad, pixel_shuffle, silu

M = TypeVar("M", bound=nn.Module)

ONEDNN_FROM = 2**23
"""Multiplications from which oneDNN's fp32 product beats the default one on a CPU (measured)."""
SMALL_MAP = 256
"""Places of a picture up to which group norm in bf16 is slow in channels-last layout (measured)."""
PHASED_FROM = 256
"""Places of a picture from which it pays to double it by phases (measured)."""


class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu & He 2018) that is safe for frozen networks in channels-last layout.

    PyTorch 2.13 crashes in backward on a CPU when a trainable group norm gets a channels-last input that
    needs no gradient; such input is made contiguous first.
    """

    def forward(self, x: Float[Tensor, "b c ..."]) -> Float[Tensor, "b c ..."]:
        if torch.is_grad_enabled():
            learns = self.affine and self.weight.requires_grad
            return super().forward(x.contiguous() if learns and not x.requires_grad else x)
        if _small_and_halved(x):
            return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
        return super().forward(x)


def _small_and_halved(x: Tensor) -> bool:
    """Whether x is a small map in bf16 and channels-last: PyTorch's norm is up to 15 times slower there."""
    return (
        x.dtype == torch.bfloat16
        and x.ndim == 4
        and x.shape[2] * x.shape[3] <= SMALL_MAP
        and x[0].numel() <= SMALL_MAP**2
        and x.device.type == "cpu"
        and not x.is_contiguous()
    )


class Linear(nn.Linear):
    """A linear layer whose large fp32 products on a CPU, where no gradient is asked for, go through oneDNN.

    PyTorch sends fp32 products to MKL, which on AMD has 0.5 to 0.95 of oneDNN's speed; both are as exact.
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


def doubled(
    x: Float[Tensor, "b c h w"], conv: nn.Conv2d, *, border: Literal["zeros", "reflect"] = "zeros"
) -> Float[Tensor, "b d h*2 w*2"]:
    """A 3 x 3 convolution of a picture whose places are repeated to twice the height and width.

    Each of the four phases of the result sees only 2 x 2 different places, so one 2 x 2 convolution with
    summed weights and four times the channels gives all of them: 4/9 of the multiplications, half the time.
    To reflect repeated places is to repeat the outermost once more.
    """
    if border == "reflect":
        x = pad(x, (1, 1, 1, 1), mode="replicate")
    plain = torch.compiler.is_exporting() or x.device.type != "cpu" or conv.padding_mode != "zeros"
    if plain or x.shape[2] * x.shape[3] < PHASED_FROM:
        repeated = interpolate(x, scale_factor=2, mode="nearest")
        if border == "zeros":
            return conv(repeated)
        return conv2d(repeated[:, :, 1:-1, 1:-1], conv.weight, conv.bias)
    bias = None if conv.bias is None else conv.bias.repeat_interleave(4)
    phases = conv2d(x, _phases(conv.weight), bias, padding=int(border == "zeros"))
    return pixel_shuffle(phases, 2)[:, :, 1:-1, 1:-1]


def _phases(kernel: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "o*4 i 2 2"]:
    """The four 2 x 2 kernels that a 3 x 3 kernel is to a picture whose places are repeated, last phase first.

    Of two neighbouring rows of the result, the upper one sees the row above its own once and its own twice,
    the lower one its own twice and the row below once; columns likewise.
    """
    columns = [_pairs(row) for row in _pairs(kernel.permute(0, 2, 3, 1))]
    cells = [
        columns[2 * down + i][2 * right + j]
        for down in (0, 1)
        for right in (0, 1)
        for i in (0, 1)
        for j in (0, 1)
    ]
    o, i = kernel.shape[:2]
    return torch.stack(cells, 1).view(4 * o, 2, 2, i).permute(0, 3, 1, 2)


def _pairs(triple: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What three weights along dimension 1 are to repeated places: both of the later, both of the earlier."""
    before, here, after = triple.unbind(1)
    return before + here, after, before, here + after


def circular(module: nn.Module) -> None:
    """Let every convolution that pads see the opposite edge beyond an edge: what it makes then tiles."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            conv.padding_mode = "circular"


def lower_right(x: Float[Tensor, "b c h w"], conv: nn.Conv2d) -> Float[Tensor, "b c i j"]:
    """One more row below and one more column at the right, of zeros, or of the opposite edges if the
    convolution that reads them is circular."""
    return pad(x, (0, 1, 0, 1), mode="circular" if conv.padding_mode == "circular" else "constant")


class GEGLU(nn.Module):
    """Half of a projection times GELU of the other half (Shazeer 2020)."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.proj = Linear(inside, 2 * outside)

    def forward(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * gelu(gate)


class FeedForward(nn.Module):
    """Four times as wide inside, gated by GELU."""

    def __init__(self, width: int):
        super().__init__()
        self.net = nn.Sequential(GEGLU(width, 4 * width), nn.Identity(), Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        return self.net(x)


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
