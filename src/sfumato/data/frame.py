"""How the picture of a word, of any size, is laid into a frame of one size."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

RATIO = 3.125
"""How many times as wide as high our frames of words are: 32 x 100, as AttentionHTR reads."""


class Framed(NamedTuple):
    """Pictures in their frame."""

    pixels: Float[Tensor, "n c h w"]
    extent: Float[Tensor, " 2"]
    """Which share of the frame's height and width the pictures take; they lie in its middle."""


def framed(x: Float[Tensor, "n c h w"], height: int, width: int, stretch: float = 1.0) -> Framed:
    """Scale pictures as large as the frame allows, and fill the rest with their paper.

    The side that does not fill the frame may be stretched up to ``stretch`` times for it, without limit if
    that is 0.
    """
    scale = min(height / x.shape[2], width / x.shape[3])
    share = torch.tensor([x.shape[2] * scale / height, x.shape[3] * scale / width])
    share = _grown(share, stretch)
    high, wide = max(1, round(share[0].item() * height)), max(1, round(share[1].item() * width))
    inner = stretched(x, high, wide)
    out = paper(inner).expand(-1, -1, height, width).clone()
    top, left = (height - high) // 2, (width - wide) // 2
    out[:, :, top : top + high, left : left + wide] = inner
    return Framed(out, torch.tensor([high / height, wide / width]))


def dark_on_light(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Pictures whose paper is darker than their ink, inverted."""
    tones = x.flatten(2)
    middle = (tones.amin(2) + tones.amax(2))[:, :, None, None] / 2
    return torch.where(paper(x) < middle, -x, x)


def reframed(
    x: Float[Tensor, "b c h w"], extent: Float[Tensor, "b 2"], stretch: float
) -> Float[Tensor, "b c h w"]:
    """Pictures that lie proportionally in the middle of frames, as ``framed`` would have stretched them."""
    zoom = extent / _grown(extent, stretch)
    if bool((zoom == 1).all()):
        return x
    matrix = torch.zeros(len(x), 2, 3, device=x.device)
    matrix[:, 0, 0], matrix[:, 1, 1] = zoom[:, 1], zoom[:, 0]
    grid = affine_grid(matrix, list(x.shape), align_corners=False)
    return grid_sample(x, grid, padding_mode="border", align_corners=False)


def _grown(share: Tensor, stretch: float) -> Tensor:
    return torch.ones_like(share) if stretch == 0 else (share * stretch).clamp(max=1)


def stretched(x: Float[Tensor, "n c h w"], height: int, width: int) -> Float[Tensor, "n c i j"]:
    """Scaled to a size, by the bicubic filter and without regard to proportions."""
    if x.shape[2:] == (height, width):
        return x
    return interpolate(x, (height, width), mode="bicubic", antialias=True).clamp(-1, 1)


def paper(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 1 1"]:
    """The tone of the paper: the median along the border."""
    border = torch.cat([x[:, :, 0], x[:, :, -1], x[:, :, :, 0], x[:, :, :, -1]], 2)
    return border.median(2).values[:, :, None, None]
