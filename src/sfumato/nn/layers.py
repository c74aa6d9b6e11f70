"""Layers that every network here is made of."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu & He 2018) that is safe for frozen networks in channels-last layout.

    PyTorch 2.13 crashes in backward on a CPU when a trainable group norm gets a channels-last input that
    needs no gradient; such input is made contiguous first.
    """

    def forward(self, x: Float[Tensor, "b c ..."]) -> Float[Tensor, "b c ..."]:
        if self.weight.requires_grad and not x.requires_grad and not x.is_contiguous():
            x = x.contiguous()
        return super().forward(x)
