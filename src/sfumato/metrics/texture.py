"""What judges painted pictures without having been optimised: local patterns, colours, and edges that stay.

Local binary patterns: Ojala, Pietikainen, Maenpaa: Multiresolution Gray-Scale and Rotation Invariant Texture
Classification with Local Binary Patterns, PAMI 2002. Edges: Sobel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import conv2d, pad

from sfumato.core.perceptual import LUMA
from sfumato.errors import DataError

RINGS = ((8, 1.0), (8, 2.0), (16, 3.0))
"""Points on a circle, and its radius in pixels, of the three patterns that are counted."""
LEVELS = 4
"""Of each colour, in the histogram of colours."""
_TINY = 1e-12


def grey(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
    """Brightness, in the range of the pictures."""
    return (x * x.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1) if x.shape[1] == 3 else x[:, 0]


def patterns(brightness: Float[Tensor, "n h w"], points: int, radius: float) -> Int[Tensor, "n i j"]:
    """For each pixel that has a whole circle around it, which of points + 2 patterns it is (section 2.3).

    Where the points lighter than their middle lie together on the circle: how many they are; else points + 1.
    Raises ``DataError`` for pictures without such a pixel.
    """
    rim = math.ceil(radius)
    height, width = brightness.shape[1:]
    if min(height, width) <= 2 * rim:
        raise DataError(
            f"Patterns of radius {radius:g} need more than {2 * rim} pixels a side, got {height} x {width}."
        )
    middle = brightness[:, rim : height - rim, rim : width - rim]
    lighter = torch.stack(
        [_at(brightness, rim, *_place(k, points, radius)) - middle >= -1e-6 for k in range(points)]
    )
    changes = (lighter != lighter.roll(1, 0)).sum(0)
    return torch.where(changes <= 2, lighter.sum(0), points + 1)


def _place(k: int, points: int, radius: float) -> tuple[float, float]:
    angle = 2 * math.pi * k / points
    return round(-radius * math.sin(angle), 5), round(radius * math.cos(angle), 5)


def _at(x: Tensor, rim: int, down: float, right: float) -> Tensor:
    """The picture beside each pixel, between four pixels by bilinear interpolation."""
    top, left = math.floor(down), math.floor(right)
    share = down - top, right - left
    height, width = (side - 2 * rim for side in x.shape[1:])
    whole = pad(x[:, None], (0, 1, 0, 1), mode="replicate")[:, 0]

    def shifted(i: int, j: int) -> Tensor:
        return whole[:, rim + top + i : rim + top + i + height, rim + left + j : rim + left + j + width]

    upper = (1 - share[1]) * shifted(0, 0) + share[1] * shifted(0, 1)
    lower = (1 - share[1]) * shifted(1, 0) + share[1] * shifted(1, 1)
    return (1 - share[0]) * upper + share[0] * lower


def texture(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
    """How often each pattern of each ring is there; together 1."""
    seen = grey(x.float())
    parts = [_shares(patterns(seen, points, radius), points + 2) for points, radius in RINGS]
    return torch.cat(parts, 1) / len(RINGS)


def colours(x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
    """How often each of 64 colours is there; together 1."""
    level = ((x.float().clamp(-1, 1) + 1) / 2 * LEVELS).long().clamp(max=LEVELS - 1)
    return _shares((level[:, 0] * LEVELS + level[:, 1]) * LEVELS + level[:, 2], LEVELS**3)


def _shares(kinds: Tensor, count: int) -> Tensor:
    flat = kinds.flatten(1)
    ones = torch.zeros(len(flat), count, device=flat.device)
    return ones.scatter_add_(1, flat, torch.ones_like(flat, dtype=torch.float32)) / flat.shape[1]


def chi_square(a: Float[Tensor, "*n k"], b: Float[Tensor, "*m k"]) -> Float[Tensor, "*_"]:
    """Sum of (a - b)^2 / (a + b): 0 for equal shares, 2 for such as have nothing in common."""
    return ((a - b).square() / (a + b + _TINY)).sum(-1)


def edges(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n i j"]:
    """Strength of the edge at each inner pixel."""
    kernel = x.new_tensor([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]]) / 8
    both = torch.stack([kernel, kernel.T])[:, None]
    return conv2d(grey(x.float())[:, None], both.float()).square().sum(1).sqrt()


def edge_correlation(x: Float[Tensor, "n c h w"], y: Float[Tensor, "n d h w"]) -> Float[Tensor, " n"]:
    """Correlation of the edges of pairs of pictures: 1 where all stayed, 0 where they have nothing to do."""
    a, b = (edges(part).flatten(1) for part in (x, y))
    a, b = (part - part.mean(1, keepdim=True) for part in (a, b))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=_TINY)


def nearest_styles(
    painted: Float[Tensor, "n 3 h w"],
    styles: Float[Tensor, "s 3 i j"],
    looks: Sequence[Callable[[Tensor], Tensor]] = (texture, colours),
) -> Int[Tensor, " n"]:
    """Which of several styles pictures look most like: by patterns and colours, which count the same."""
    far = [chi_square(see(painted)[:, None], see(styles)[None]) for see in looks]
    return torch.stack(far).sum(0).argmin(1)


def histogram_matched(x: Float[Tensor, "c h w"], style: Float[Tensor, "c i j"]) -> Float[Tensor, "c h w"]:
    """The control: each colour channel gets the style's values by rank, and no texture changes."""
    order = x.flatten(1).argsort(1).argsort(1)
    values = style.flatten(1).sort(1).values
    at = (order.double() + 0.5) / order.shape[1] * values.shape[1]
    return values.gather(1, at.long().clamp(max=values.shape[1] - 1)).view(x.shape)
