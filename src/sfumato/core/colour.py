"""Colours that stay: a painted picture with those of the one it was made from, a style recoloured before.

Gatys, Bethge, Hertzmann, Shechtman: Preserving Color in Neural Artistic Style Transfer, 2016, arXiv 1606.05897.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

BRIGHTNESS = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in what is seen as light or dark (ITU-R BT.601)."""
STEADY = 1e-3
"""Added to variances of colours, so that pictures of few colours have some in every direction."""


def brightness(x: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n 1 h w"]:
    """How light pictures are, in their own range; grey ones are as light as they are."""
    if x.shape[-3] == 1:
        return x
    return (x * torch.tensor(BRIGHTNESS).to(x).view(3, 1, 1)).sum(-3, keepdim=True)


def with_colours_of(
    painted: Float[Tensor, "*n c h w"], given: Float[Tensor, "*n c h w"]
) -> Float[Tensor, "*n c h w"]:
    """The light of one picture with the colours of another: its Y, the other's Cb and Cr (section 3.1).

    In these coordinates colour is the difference from brightness, so the brightness alone is exchanged.
    """
    return given + (brightness(painted) - brightness(given))


def matched(
    style: Float[Tensor, "c i j"], given: Float[Tensor, "c h w"], steady: float = STEADY
) -> Float[Tensor, "c i j"]:
    """A style in the colours of another picture: their mean and covariance become equal (CORAL).

    The map between the two covariances is that of optimal transport between Gaussians, the one that changes
    the colours least.
    """
    mean, covariance = _colours(style, steady)
    wanted_mean, wanted = _colours(given, steady)
    half = _power(covariance, 0.5)
    inverse = _power(covariance, -0.5)
    change = inverse @ _power(half @ wanted @ half, 0.5) @ inverse
    moved = change @ (style.double().flatten(1) - mean) + wanted_mean
    return moved.view(style.shape).to(style.dtype)


def _colours(x: Tensor, steady: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance over all pixels, in double precision."""
    flat = x.double().flatten(1)
    mean = flat.mean(1, keepdim=True)
    apart = flat - mean
    return mean, apart @ apart.T / flat.shape[1] + steady * torch.eye(len(flat), dtype=flat.dtype).to(flat)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=1e-12) ** exponent) @ vectors.T
