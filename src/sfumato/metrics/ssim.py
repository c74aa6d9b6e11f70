"""Structural similarity: do two pictures agree in light, contrast and structure, window by window?

Wang, Bovik, Sheikh, Simoncelli: Image Quality Assessment: From Error Visibility to Structural Similarity,
IEEE Transactions on Image Processing 13(4), 2004.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

from sfumato.errors import DataError
from sfumato.metrics.psnr import SPAN, paired

WINDOW, SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03


def ssim(
    pixels: Float[Tensor, "n c h w"], wanted: Float[Tensor, "m k y x"], *, span: float = SPAN, border: int = 0
) -> Float[Tensor, " n"]:
    """Mean of eq. 13 over all channels and all whole windows of every picture; 1 for equal ones.

    Windows are Gaussian, 11 x 11 with sigma 1.5; variances are those of the weights (biased).
    """
    x, y = paired(pixels, wanted, border)
    if min(x.shape[2:]) < WINDOW:
        raise DataError(
            f"Structural similarity looks through windows of {WINDOW} pixels; "
            f"{x.shape[2]} x {x.shape[3]} is too small, give larger pictures."
        )
    x, y = x.double(), y.double()
    mean_x, mean_y = _blurred(x), _blurred(y)
    both, own_x, own_y = mean_x * mean_y, mean_x.square(), mean_y.square()
    var_x, var_y = _blurred(x.square()) - own_x, _blurred(y.square()) - own_y
    covariance = _blurred(x * y) - both
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    light = (2 * both + c1) / (own_x + own_y + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (light * structure).flatten(1).mean(1).float()


def _blurred(x: Tensor) -> Tensor:
    """Weighted means over whole windows, rows and columns in turn."""
    away = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weights = torch.softmax(-away.square() / (2 * SIGMA**2), 0)
    channels = x.flatten(0, 1)[:, None]
    rows = conv2d(channels, weights.view(1, 1, -1, 1))
    return conv2d(rows, weights.view(1, 1, 1, -1)).view(*x.shape[:2], *(s - WINDOW + 1 for s in x.shape[2:]))
