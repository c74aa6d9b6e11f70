"""Peak signal-to-noise ratio: how far a picture is from the one it should be, in decibels."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import DataError

SPAN = 2.0
"""From the darkest to the lightest value of pictures in [-1, 1]."""


def psnr(
    pixels: Float[Tensor, "n c h w"], wanted: Float[Tensor, "m k y x"], *, span: float = SPAN, border: int = 0
) -> Float[Tensor, " n"]:
    """10 log10(span^2 / mean squared error) of every picture; infinite for equal ones.

    ``border`` pixels at every edge are left out, as papers on super-resolution do.

    >>> psnr(torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.2)).tolist()
    [20.0]
    """
    x, y = paired(pixels, wanted, border)
    return 10 * (span**2 / (x - y).square().flatten(1).mean(1)).log10()


def luminance(pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Y of ITU-R BT.601 in its narrow range (16 to 235 of 255), scaled to [-1, 1] as pictures are.

    >>> round((luminance(torch.ones(1, 3, 1, 1)).item() + 1) * 127.5, 3)
    235.0
    """
    weights = torch.tensor([65.481, 128.553, 24.966]).to(pixels)
    y = ((pixels + 1) / 2 * weights[:, None, None]).sum(1, keepdim=True) + 16
    return y / 127.5 - 1


def paired(
    pixels: Float[Tensor, "n c h w"], wanted: Float[Tensor, "m k y x"], border: int
) -> tuple[Tensor, Tensor]:
    """Both sets without their borders; sets that do not pair are refused."""
    if pixels.shape != wanted.shape:
        raise DataError(
            f"Pictures {tuple(pixels.shape)} do not pair with {tuple(wanted.shape)}; "
            "give as many of the same size."
        )
    height, width = pixels.shape[2:]
    if not 0 <= 2 * border < min(height, width):
        raise DataError(f"A border of {border} leaves nothing of {height} x {width} pixels; give less.")
    inner = (..., slice(border, height - border), slice(border, width - border))
    return pixels[inner].float(), wanted[inner].float()
