"""Spectral normalisation: a layer that stretches nothing by more than one.

Miyato, Kataoka, Koyama, Yoshida: Spectral Normalization for Generative Adversarial Networks, ICLR 2018,
arXiv 1802.05957, algorithm 1.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.parametrize import register_parametrization

L = TypeVar("L", bound=nn.Module)


class SpectralNorm(nn.Module):
    """Divides a weight by an estimate of its largest singular value, bettered once a training step."""

    u: Tensor

    def __init__(self, rows: int, axis: int):
        super().__init__()
        self.axis = axis
        self.register_buffer("u", normalize(torch.randn(rows), dim=0))

    def forward(self, weight: Float[Tensor, ...]) -> Float[Tensor, ...]:
        matrix = weight.movedim(self.axis, 0).flatten(1)
        with torch.no_grad():
            v = normalize(matrix.T @ self.u, dim=0)
            if self.training:
                self.u.copy_(normalize(matrix @ v, dim=0))
            u = self.u.clone()  # A second pass before the gradient must not change what the first one used.
        return weight / (u @ (matrix @ v))


def bounded(layer: L) -> L:
    """The same layer with its weight normalised; rows are the outputs."""
    weight = layer.get_parameter("weight")
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    register_parametrization(layer, "weight", SpectralNorm(weight.shape[axis], axis))
    return layer
