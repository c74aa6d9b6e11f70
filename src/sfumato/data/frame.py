"""How the picture of a word, of any size, is laid into a frame of one size."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

RATIO = 4
"""How many times as wide as high our frames of words are."""


class Framed(NamedTuple):
    """Pictures in their frame."""

    pixels: Float[Tensor, "n c h w"]
    extent: Float[Tensor, " 2"]
    """Which share of the frame's height and width the pictures take; they lie in its middle."""


def framed(x: Float[Tensor, "n c h w"], height: int, width: int) -> Framed:
    """Scale pictures as large as the frame allows, without distortion, and fill the rest with their paper."""
    scale = min(height / x.shape[2], width / x.shape[3])
    high, wide = (max(1, round(side * scale)) for side in x.shape[2:])
    inner = stretched(x, high, wide)
    out = paper(inner).expand(-1, -1, height, width).clone()
    top, left = (height - high) // 2, (width - wide) // 2
    out[:, :, top : top + high, left : left + wide] = inner
    return Framed(out, torch.tensor([high / height, wide / width]))


def stretched(x: Float[Tensor, "n c h w"], height: int, width: int) -> Float[Tensor, "n c i j"]:
    """Scaled to a size, by the bicubic filter and without regard to proportions."""
    if x.shape[2:] == (height, width):
        return x
    return interpolate(x, (height, width), mode="bicubic", antialias=True).clamp(-1, 1)


def paper(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 1 1"]:
    """The tone of the paper: the median along the border."""
    border = torch.cat([x[:, :, 0], x[:, :, -1], x[:, :, :, 0], x[:, :, :, -1]], 2)
    return border.median(2).values[:, :, None, None]


def out_of_frame(x: Float[Tensor, "b c h w"], extent: Float[Tensor, "b 2"]) -> Float[Tensor, "b c h w"]:
    """What lies in the middle of each frame, stretched over all of it."""
    matrix = torch.zeros(len(x), 2, 3, device=x.device)
    matrix[:, 0, 0], matrix[:, 1, 1] = extent[:, 1], extent[:, 0]
    grid = affine_grid(matrix, list(x.shape), align_corners=False)
    return grid_sample(x, grid, padding_mode="border", align_corners=False)
