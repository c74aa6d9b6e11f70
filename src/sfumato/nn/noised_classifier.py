"""A classifier that knows how noisy its pictures are: the downward half of a U-Net with attention pooling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.errors import UsageError
from sfumato.nn.attention import attention
from sfumato.nn.blocks import join, split, to_tokens
from sfumato.nn.condition import Condition
from sfumato.nn.layers import GroupNorm, Linear, swish
from sfumato.nn.unet import Encoder, UNetConfig


@dataclass(frozen=True)
class NoisedClassifierConfig:
    """The half U-Net, and what it reads."""

    network: UNetConfig = UNetConfig()
    classes: int = 10
    height: int = 8
    width: int = 8


class NoisedClassifier(Encoder):
    """Logits of x at any noise level (Dhariwal & Nichol 2021, section 4 and appendix H)."""

    def __init__(self, config: NoisedClassifierConfig):
        super().__init__(config.network)
        shrink = config.network.patch * 2 ** (len(config.network.widths) - 1)
        self.size = config.height, config.width
        self.heads = config.network.levels[-1].heads
        inside, places = config.network.widths[-1], (config.height // shrink) * (config.width // shrink)
        self.conv_norm_out = GroupNorm(config.network.groups, inside, config.network.eps)
        self.positional_embedding = nn.Parameter(torch.randn(places + 1, inside) / inside**0.5)
        self.to_qkv = Linear(inside, 3 * inside)
        self.to_classes = Linear(inside, config.classes)

    def forward(self, x: Float[Tensor, "b c h w"], clock: Float[Tensor, " b"]) -> Float[Tensor, "b k"]:
        if tuple(x.shape[2:]) != self.size:
            raise UsageError(
                "This classifier reads pictures of {} x {} alone, got {} x {}; leave height and width out, "
                "or guidance.".format(*self.size, *x.shape[2:])
            )
        _, features = self.encode(x, clock, Condition())
        tokens = to_tokens(swish(self.conv_norm_out(features[-1])))
        return self.to_classes(self._pooled(tokens))

    def _pooled(self, tokens: Float[Tensor, "b l d"]) -> Float[Tensor, "b d"]:
        """What the mean of all places sees when it looks at them (Radford et al. 2021, section 2.4)."""
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + self.positional_embedding
        q, k, v = (split(part, self.heads) for part in self.to_qkv(tokens).chunk(3, dim=2))
        return join(attention(q[:, :, :1], k, v))[:, 0]
