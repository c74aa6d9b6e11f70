"""The blocks a U-Net is built of: residual, attending, halving, doubling."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from sfumato.nn.attention import attention
from sfumato.nn.layers import FeedForward, GroupNorm, Linear, doubled, lower_right, product, swish, zeroed

TOKEN_EPS = 1e-6
"""Of the group norm before a transformer (latent-diffusion's code), whatever the other norms use."""


class ResBlock(nn.Module):
    """x + conv(norm(conv(norm(x)))), told the time in between.

    With ``scale_shift`` the embedding scales and shifts the second norm's output (AdaGN: Dhariwal & Nichol
    2021, section 3.1), else it is added before that norm (DDPM). ``resize`` halves or doubles the picture
    inside (BigGAN's blocks, as in ADM).
    """

    def __init__(
        self,
        inside: int,
        outside: int,
        emb: int,
        *,
        groups: int,
        eps: float,
        dropout: float = 0.0,
        scale_shift: bool = False,
        resize: nn.Module | None = None,
    ):
        super().__init__()
        self.scale_shift, self.resize = scale_shift, resize
        self.norm1 = GroupNorm(groups, inside, eps)
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.time_emb_proj = Linear(emb, 2 * outside if scale_shift else outside)
        self.norm2 = GroupNorm(groups, outside, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(nn.Conv2d(outside, outside, 3, padding=1))
        self.conv_shortcut = nn.Conv2d(inside, outside, 1) if inside != outside else None

    def forward(
        self, x: Float[Tensor, "b c h w"], emb: Float[Tensor, "b e"], size: tuple[int, int] | None = None
    ) -> Float[Tensor, "b d i j"]:
        """``emb`` has gone through SiLU already; ``size`` is that of the result where ``resize`` doubles."""
        h = swish(self.norm1(x))
        if self.resize is not None:
            x, h = self.resize(x, size), self.resize(h, size)
        told = self.time_emb_proj(emb)[:, :, None, None]
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            h = self.norm2(self.conv1(h)) * (1 + scale) + shift
        else:
            h = self.norm2(self.conv1(h) + told)
        h = self.conv2(self.dropout(swish(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Halve(nn.Module):
    """Half the size by averaging squares of four."""

    def forward(self, x: Float[Tensor, "b c h w"], size: tuple[int, int] | None) -> Float[Tensor, "b c i j"]:
        return avg_pool2d(x, 2)


class Double(nn.Module):
    """Twice the size, or ``size``, by repetition."""

    def forward(self, x: Float[Tensor, "b c h w"], size: tuple[int, int] | None) -> Float[Tensor, "b c i j"]:
        return interpolate(x, size or (2 * x.shape[2], 2 * x.shape[3]), mode="nearest")


class Downsample(nn.Module):
    """Half the size by a strided convolution; ``padding`` 0 pads at the right and the bottom alone (DDPM)."""

    def __init__(self, width: int, padding: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=padding)

    def forward(self, x: Float[Tensor, "b c h w"], emb: Tensor) -> Float[Tensor, "b c i j"]:
        return self.conv(x if self.conv.padding[0] else lower_right(x, self.conv))


class Upsample(nn.Module):
    """Twice the size, or ``size``, by repetition, then a convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "b c h w"], emb: Tensor, size: tuple[int, int] | None
    ) -> Float[Tensor, "b c i j"]:
        if size == (2 * x.shape[2], 2 * x.shape[3]):
            return doubled(x, self.conv)
        return self.conv(interpolate(x, size, mode="nearest"))


class SpatialAttention(nn.Module):
    """Every place looks at every place (DDPM, ADM), and where there is a ``context`` at all of it in the same
    glance (Nichol et al. 2021, GLIDE, section 2.3)."""

    def __init__(self, width: int, heads: int, *, groups: int, eps: float, context: int = 0):
        super().__init__()
        self.heads = heads
        self.group_norm = GroupNorm(groups, width, eps)
        self.to_q = Linear(width, width)
        self.to_k = Linear(width, width)
        self.to_v = Linear(width, width)
        self.add_k_proj = Linear(context, width) if context else None
        self.add_v_proj = Linear(context, width) if context else None
        self.to_out = nn.ModuleList([zeroed(Linear(width, width))])

    def forward(self, x: Float[Tensor, "b c h w"], context: Tensor | None) -> Float[Tensor, "b c h w"]:
        tokens = to_tokens(self.group_norm(x))
        q, k, v = (split(to(tokens), self.heads) for to in (self.to_q, self.to_k, self.to_v))
        if self.add_k_proj is not None and self.add_v_proj is not None and context is not None:
            k = torch.cat([split(self.add_k_proj(context), self.heads), k], 2)
            v = torch.cat([split(self.add_v_proj(context), self.heads), v], 2)
        return x + to_picture(self.to_out[0](join(attention(q, k, v))), x)


class SpatialTransformer(nn.Module):
    """Places as tokens that look at each other and at a context (Rombach et al. 2022, appendix E.2.1)."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        groups: int,
        depth: int,
        context: int,
        linear: bool,
        only_cross: bool = False,
    ):
        super().__init__()
        self.norm = GroupNorm(groups, width, TOKEN_EPS)
        self.proj_in: nn.Module = Linear(width, width) if linear else Pointwise(width, width)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(width, heads, context, only_cross=only_cross) for _ in range(depth)
        )
        self.proj_out: nn.Module = zeroed(Linear(width, width) if linear else Pointwise(width, width))

    def forward(self, x: Float[Tensor, "b c h w"], context: Tensor | None) -> Float[Tensor, "b c h w"]:
        tokens = self.proj_in(to_tokens(self.norm(x)))
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        return x + to_picture(self.proj_out(tokens), x)


class Pointwise(nn.Conv2d):
    """A 1 x 1 convolution of a picture that is given as tokens: a linear layer with the kernel's shape."""

    def __init__(self, inside: int, outside: int):
        super().__init__(inside, outside, 1)

    def forward(self, x: Float[Tensor, "b l c"]) -> Float[Tensor, "b l d"]:
        return product(x, self.weight.flatten(1), self.bias)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention where there is a context, and a gated feed-forward layer.

    With ``only_cross`` the first attention reads the context as well.
    """

    def __init__(self, width: int, heads: int, context: int, *, only_cross: bool = False):
        super().__init__()
        self.only_cross = only_cross
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = CrossAttention(width, heads, context if only_cross else width)
        self.norm2 = nn.LayerNorm(width) if context else None
        self.attn2 = CrossAttention(width, heads, context) if context else None
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Float[Tensor, "b l d"], context: Tensor | None) -> Float[Tensor, "b l d"]:
        seen = self.norm1(x)
        x = x + self.attn1(seen, context if self.only_cross and context is not None else seen)
        if self.norm2 is not None and self.attn2 is not None and context is not None:
            x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class CrossAttention(nn.Module):
    """Tokens look at a context, which may be themselves; queries, keys and values without bias."""

    def __init__(self, width: int, heads: int, context: int):
        super().__init__()
        self.heads = heads
        self.to_q = Linear(width, width, bias=False)
        self.to_k = Linear(context, width, bias=False)
        self.to_v = Linear(context, width, bias=False)
        self.to_out = nn.ModuleList([Linear(width, width)])

    def forward(self, x: Float[Tensor, "b l d"], context: Float[Tensor, "b s e"]) -> Float[Tensor, "b l d"]:
        q, k, v = (
            split(to(of), self.heads)
            for to, of in ((self.to_q, x), (self.to_k, context), (self.to_v, context))
        )
        return self.to_out[0](join(attention(q, k, v)))


def to_tokens(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h*w c"]:
    """Places as tokens, row by row; free of copying in channels-last layout."""
    return x.flatten(2).transpose(1, 2)


def to_picture(tokens: Float[Tensor, "b l c"], like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    return tokens.transpose(1, 2).unflatten(2, like.shape[2:])


def split(tokens: Float[Tensor, "b l d"], heads: int) -> Float[Tensor, "b h l e"]:
    return tokens.unflatten(2, (heads, -1)).transpose(1, 2)


def join(tokens: Float[Tensor, "b h l e"]) -> Float[Tensor, "b l d"]:
    return tokens.transpose(1, 2).flatten(2)
