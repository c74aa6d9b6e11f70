"""A classifier that knows how noisy its pictures are: the downward half of a U-Net with attention pooling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from sfumato.nn.attention import attention
from sfumato.nn.blocks import Halve, ResBlock, SpatialAttention, join, split, to_tokens
from sfumato.nn.embed import Embedder, sinusoidal
from sfumato.nn.layers import GroupNorm, Linear


@dataclass(frozen=True)
class NoisedClassifierConfig:
    """The shape of a noise-aware classifier. Tuples have one entry a level, finest first."""

    channels: int = 3
    classes: int = 10
    widths: tuple[int, ...] = (32, 64)
    """Channels of each level; each further level halves height and width."""
    blocks: int = 2
    """Residual blocks of each level."""
    attend: tuple[bool, ...] = (False, True)
    """Which levels attend."""
    heads: int = 4
    groups: int = 16


class NoisedClassifier(nn.Module):
    """Logits of x at any noise level (Dhariwal & Nichol 2021, section 4 and appendix H)."""

    def __init__(self, config: NoisedClassifierConfig):
        super().__init__()
        self.config = config
        first, emb = config.widths[0], 4 * config.widths[0]
        self.time_embedding = Embedder(first, emb)
        self.conv_in = nn.Conv2d(config.channels, first, 3, padding=1)
        self.blocks, inside = nn.ModuleList(), first
        for level, (width, attends) in enumerate(zip(config.widths, config.attend, strict=True)):
            for i in range(config.blocks):
                resize = Halve() if level and not i else None
                block = ResBlock(
                    inside, width, emb, groups=config.groups, eps=1e-5, scale_shift=True, resize=resize
                )
                look = SpatialAttention(width, config.heads, groups=config.groups, eps=1e-5)
                self.blocks.append(nn.ModuleList([block, look] if attends else [block]))
                inside = width
        self.norm_out = GroupNorm(config.groups, inside)
        self.to_qkv = Linear(inside, 3 * inside)
        self.to_classes = Linear(inside, config.classes)

    def forward(self, x: Float[Tensor, "b c h w"], clock: Float[Tensor, " b"]) -> Float[Tensor, "b k"]:
        first = self.config.widths[0]
        emb = silu(self.time_embedding(sinusoidal(clock, first, flip_sin_to_cos=True)))
        x = self.conv_in(x)
        for block, *look in self.blocks:
            x = block(x, emb)
            for attend in look:
                x = attend(x, None)
        return self.to_classes(self._pooled(to_tokens(silu(self.norm_out(x)))))

    def _pooled(self, tokens: Float[Tensor, "b l d"]) -> Float[Tensor, "b d"]:
        """What the mean of all places sees when it looks at them (Radford et al. 2021, section 2.4)."""
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
        q, k, v = (split(part, self.config.heads) for part in self.to_qkv(tokens).chunk(3, dim=2))
        return join(attention(q[:, :, :1], k, v))[:, 0]
