"""What turns a U-Net into unCLIP's decoder: a picture's embedding joins the time and becomes a few tokens."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.nn.condition import Condition
from sfumato.nn.unet import UNet, UNetConfig


class EmbeddingDecoder(nn.Module):
    """Ramesh et al. 2022, section 2.1: CLIP's embedding of a picture is projected and added to that of the
    time, and projected into tokens that attention reads.

    ``Condition.vector`` is the embedding, a unit vector, with one number more: 1 if it is told, 0 if not. A
    vector that is learned is added to what is told, and stands alone where nothing is.
    """

    def __init__(self, config: UNetConfig, dimension: int, tokens: int):
        """``dimension`` is that of the embeddings, ``config.context`` the width of the tokens."""
        super().__init__()
        self.dimension, self.count = dimension, tokens
        self.unet = UNet(replace(config, vector=dimension))
        self.tokens = nn.Linear(dimension, tokens * config.context)
        self.null = nn.Parameter(torch.randn(dimension) * 0.1)

    @property
    def ends(self) -> tuple[nn.Module, ...]:
        """Where data and conditions come in and data goes out."""
        return (*self.unet.ends, self.tokens)

    def forward(
        self, x: Float[Tensor, "b c h w"], clock: Float[Tensor, " b"], cond: Condition
    ) -> Float[Tensor, "b c h w"]:
        assert cond.vector is not None
        z, told = cond.vector[:, :-1], cond.vector[:, -1:]
        # Times the root of its dimension each number of a unit vector has variance 1 or so.
        z = self.null + told * self.dimension**0.5 * z
        tokens = self.tokens(z).unflatten(1, (self.count, -1))
        answer: Tensor = self.unet(x, clock, Condition(vector=z, tokens=tokens))
        return answer


def told(z: Float[Tensor, "b d"]) -> Condition:
    """Embeddings, as the decoder is told of them."""
    return Condition(vector=torch.cat([z, torch.ones_like(z[:, :1])], 1))


def untold(like: Float[Tensor, "b d"]) -> Condition:
    """Nothing, in its place."""
    return Condition(vector=like.new_zeros(len(like), like.shape[1] + 1))
