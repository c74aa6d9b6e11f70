"""Colours that stay: a style gets those of the picture before anything is painted with it.

Gatys, Bethge, Hertzmann, Shechtman: Preserving Color in Neural Artistic Style Transfer,
2016, arXiv 1606.05897.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

STEADY = 1e-3
"""Added to variances of colours, so that pictures of few colours have some in every direction."""


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
