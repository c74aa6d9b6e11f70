"""Augmentation that a critic sees on real and fake pictures alike, and that gradients pass through.

DiffAugment: Zhao et al. 2020, arXiv 2006.10738. ADA: Karras et al. 2020, arXiv 2006.06676, appendix B (its
geometric and colour operations; pixels are looked up bilinearly, without the wavelet filter around it).

The chances come from outside as uniform numbers, one row an example, so that they belong to the example.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

DIFF_CHANCES = 7
ADA_CHANCES = 30
SHIFT = 1 / 8
"""Largest translation of DiffAugment, and of ADA's whole and (as a deviation) broken pixels."""
CUTOUT = 0.5
"""Side of the square that DiffAugment greys out, as a share of the picture's."""
SCALE, BRIGHTNESS, CONTRAST = 0.2, 0.2, 0.5
"""Deviations of ADA's scaling and contrast (in powers of 2) and of its brightness."""
GREY = (1 / 3) ** 0.5


# --- DiffAugment -------------------------------------------------------------------------------------


def diff_augment(x: Float[Tensor, "b c h w"], chances: Float[Tensor, "b 7"]) -> Float[Tensor, "b c h w"]:
    """Colour, translation, cutout, always all three."""
    u = chances.to(x.dtype).t()[:, :, None, None, None]
    x = x + (u[0] - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (2 * u[1]) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * (u[2] + 0.5) + mean
    return _cut(_translated(x, chances[:, 3:5]), chances[:, 5:7])


def _translated(x: Tensor, chances: Tensor) -> Tensor:
    """Shifted by whole pixels, with grey coming in."""
    for axis, chance in zip((2, 3), chances.unbind(1), strict=True):
        side = x.shape[axis]
        most = int(side * SHIFT + 0.5)
        shift = (chance.to(x.device) * (2 * most + 1)).long() - most
        places = (torch.arange(side, device=x.device) + shift[:, None] + 1).clamp(0, side + 1)
        margins = (0, 0, 1, 1) if axis == 2 else (1, 1, 0, 0)
        shape = [len(x), 1, -1, 1] if axis == 2 else [len(x), 1, 1, -1]
        x = pad(x, margins).gather(axis, places.view(shape).expand_as(x))
    return x


def _cut(x: Tensor, chances: Tensor) -> Tensor:
    """A square around a random place is grey."""
    inside = []
    for axis, chance in zip((2, 3), chances.unbind(1), strict=True):
        side = x.shape[axis]
        length = int(side * CUTOUT + 0.5)
        first = (chance.to(x.device) * (side + 1 - length % 2)).long() - length // 2
        place = torch.arange(side, device=x.device) - first[:, None]
        inside.append((place >= 0) & (place < length))
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return x * (~hole).to(x.dtype)


# --- ADA ---------------------------------------------------------------------------------------------


def ada_augment(
    x: Float[Tensor, "b c h w"], chances: Float[Tensor, "b 30"], p: Float[Tensor, ""] | float
) -> Float[Tensor, "b c h w"]:
    """Flips, turns, shifts, scales, brightness, contrast, hue and saturation, each with chance ``p``."""
    draw = _Draw(chances.to(x.device), p)
    x = warp(x, _geometry(draw, x.shape[2], x.shape[3]))
    return _recoloured(x, _colours(draw))


class _Draw:
    """Takes chances column by column; every operation has two: whether, and how."""

    def __init__(self, chances: Tensor, p: Tensor | float):
        self._columns, self._p = iter(chances.double().unbind(1)), torch.as_tensor(p).to(chances.device)

    def uniform(self, low: float, high: float, *, twice: bool = False) -> Tensor:
        """A number in [low, high) where the operation happens, 0 elsewhere.

        What is done ``twice`` happens each time so rarely that it happens at all with the chance p.
        """
        happens = next(self._columns) < (1 - (1 - self._p).sqrt() if twice else self._p)
        return torch.where(happens, low + (high - low) * next(self._columns), 0.0)

    def normal(self, deviation: float) -> Tensor:
        """A normal number where the operation happens, 0 elsewhere."""
        happens = next(self._columns) < self._p
        value = torch.special.ndtri(next(self._columns).clamp(1e-6, 1 - 1e-6)) * deviation
        return torch.where(happens, value, 0.0)


def _geometry(draw: _Draw, height: int, width: int) -> Float[Tensor, "b 2 3"]:
    """From places in the result to places in the picture, both from -1 to 1."""
    flip = 1 - 2 * draw.uniform(0.0, 2.0).floor()
    turn = draw.uniform(0.0, 4.0).floor() * (math.pi / 2)
    across = (draw.uniform(-1.0, 1.0) * SHIFT * width).round() * 2 / width
    down = (draw.uniform(-1.0, 1.0) * SHIFT * height).round() * 2 / height
    size = draw.normal(SCALE).exp2()
    before = draw.uniform(-math.pi, math.pi, twice=True)
    stretch = draw.normal(SCALE).exp2()
    behind = draw.uniform(-math.pi, math.pi, twice=True)
    across, down = across + 2 * draw.normal(SHIFT), down + 2 * draw.normal(SHIFT)
    one, nought = torch.ones_like(flip), torch.zeros_like(flip)
    matrix = _matrix(flip, nought, nought, one) @ _turned(turn + before)
    matrix = matrix @ _matrix(size * stretch, nought, nought, size / stretch) @ _turned(behind)
    aspect = width / height
    matrix = matrix * matrix.new_tensor([[1, 1 / aspect], [aspect, 1]])  # circles stay circles
    return torch.cat([matrix, torch.stack([across, down], 1)[:, :, None]], 2)


def _colours(draw: _Draw) -> Float[Tensor, "b 3 4"]:
    """An affine map of RGB colours; lightness is the axis (1, 1, 1)."""
    brightness, contrast = draw.normal(BRIGHTNESS), draw.normal(CONTRAST).exp2()
    flip = draw.uniform(0.0, 2.0).floor()
    hue = draw.uniform(-math.pi, math.pi)
    saturation = draw.normal(1.0).exp2()
    axis = brightness.new_full((3,), GREY)
    light, unit = torch.outer(axis, axis), torch.eye(3).to(axis)
    cross = torch.linalg.cross(unit, axis.expand(3, 3))
    c, s = torch.cos(hue)[:, None, None], torch.sin(hue)[:, None, None]
    turned = light + c * (unit - light) + s * cross
    linear = (light + saturation[:, None, None] * (unit - light)) @ turned
    linear = linear @ (unit - 2 * flip[:, None, None] * light) * contrast[:, None, None]
    return torch.cat([linear, linear.sum(2, keepdim=True) * brightness[:, None, None]], 2)


def _recoloured(x: Tensor, matrix: Float[Tensor, "b 3 4"]) -> Tensor:
    """Grey pictures keep what changes the lightness alone."""
    matrix = matrix.to(x.dtype)
    if x.shape[1] == 3:
        return torch.einsum("bij,bjhw->bihw", matrix[:, :, :3], x) + matrix[:, :, 3, None, None]
    gain = matrix[:, :, :3].sum((1, 2)) / 3
    return x * gain.view(-1, 1, 1, 1) + matrix[:, 0, 3].view(-1, 1, 1, 1)


def _matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return torch.stack([torch.stack([a, b], -1), torch.stack([c, d], -1)], -2)


def _turned(angle: Tensor) -> Tensor:
    return _matrix(angle.cos(), -angle.sin(), angle.sin(), angle.cos())


def warp(x: Float[Tensor, "b c h w"], matrix: Float[Tensor, "b 2 3"]) -> Float[Tensor, "b c h w"]:
    """Look up every place of the result at ``matrix`` times that place, mirrored at the borders."""
    grid = affine_grid(matrix.to(x.dtype), list(x.shape), align_corners=False)
    looked_up: Tensor = _LookUp.apply(x, grid)
    return looked_up


class _LookUp(torch.autograd.Function):
    """``grid_sample`` that can be differentiated twice, as penalties on gradients need; linear in x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = x.shape
        return grid_sample(x, grid, padding_mode="reflection", align_corners=False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _PutBack.apply(gradient, grid, ctx.shape), None


class _PutBack(torch.autograd.Function):
    """The transpose of ``_LookUp``."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        like = gradient.new_zeros(shape)
        bilinear, reflection = 0, 2
        back: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            gradient, like, grid, bilinear, reflection, False, (True, False)
        )[0]
        return back

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _LookUp.apply(gradient, grid), None, None
