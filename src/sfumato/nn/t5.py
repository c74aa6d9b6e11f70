"""T5: a transformer that reads a text and writes another, with transformers' parameter names.

Raffel, Shazeer, Roberts, Lee, Narang, Matena, Zhou, Li, Liu: Exploring the Limits of Transfer Learning with a
Unified Text-to-Text Transformer, JMLR 2020, arXiv 1910.10683. Its reading half is Imagen's text encoder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu, relu

from sfumato.data.unigram import PAD
from sfumato.errors import UsageError
from sfumato.nn.attention import unscaled
from sfumato.nn.layers import Linear

NEVER = -1e9
"""Added to the score of a place that must not be looked at; finite, so that an empty text is no trouble."""


TABLE = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
"""Of what is added to scores; all layers share the first one's."""


@dataclass(frozen=True)
class T5Shape:
    """The shape of a T5; the defaults are those of version 1.1, small."""

    vocabulary: int = 32128
    width: int = 512
    head_width: int = 64
    hidden: int = 1024
    """Width inside the feed-forward layers."""
    layers: int = 8
    decoder_layers: int = 8
    heads: int = 6
    buckets: int = 32
    """Of distances between words, which attention is biased by."""
    farthest: int = 128
    """Distances from here on share a bucket."""
    eps: float = 1e-6
    feed: Literal["gated-gelu", "relu"] = "gated-gelu"
    """Version 1.1 has gated-gelu, the first version relu."""
    tied: bool = False
    """Whether words are written by the table they are read with (the first version)."""

    def __post_init__(self) -> None:
        if self.buckets % 4 or self.farthest <= self.buckets // 2:
            raise UsageError(
                f"T5 has distances in buckets, a multiple of 4 and fewer than twice the farthest distance; "
                f"got {self.buckets} and {self.farthest}."
            )


class T5Encoder(nn.Module):
    """The reading half (transformers' ``T5EncoderModel``): one vector a token, of a whole text at once.

    Empty places are not looked at. No layer has a bias; norms do not shift.
    """

    def __init__(self, shape: T5Shape):
        super().__init__()
        self.shape = shape
        self.shared = nn.Embedding(shape.vocabulary, shape.width)
        self.encoder = _Stack(shape, shape.layers, writes=False)
        initialise(self, shape)

    def forward(self, ids: Int[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """States after the last norm; those of empty places mean nothing."""
        return self.encoder(self.shared(ids), held=ids != PAD)

    def words_alone(self, ids: Int[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """The vectors that go into the first layer, after the last norm: words that know of no others."""
        return self.encoder.final_layer_norm(self.shared(ids))


class T5Network(T5Encoder):
    """Both halves (transformers' ``T5ForConditionalGeneration``)."""

    def __init__(self, shape: T5Shape):
        super().__init__(shape)
        self.decoder = _Stack(shape, shape.decoder_layers, writes=True)
        self.lm_head = None if shape.tied else nn.Linear(shape.width, shape.vocabulary, bias=False)
        initialise(self, shape)

    def write(self, ids: Int[Tensor, "b l"], before: Int[Tensor, "b m"]) -> Float[Tensor, "b m v"]:
        """Logits of what follows each of the tokens ``before``, in an answer to the text ``ids``."""
        read = self(ids)
        held = ids != PAD
        x = self.decoder(
            self.shared(before), held=torch.ones_like(before, dtype=torch.bool), read=(read, held)
        )
        if self.lm_head is not None:
            return self.lm_head(x)
        return (x * self.shape.width**-0.5) @ self.shared.weight.to(x.dtype).T


def initialise(module: nn.Module, shape: T5Shape) -> None:
    """Mesh TensorFlow's first weights: unscaled attention needs small queries."""
    for layer in module.modules():
        if isinstance(layer, _Attention):
            for part, std in (
                (layer.q, (shape.width * shape.head_width) ** -0.5),
                (layer.k, shape.width**-0.5),
                (layer.v, shape.width**-0.5),
                (layer.o, (shape.heads * shape.head_width) ** -0.5),
            ):
                nn.init.normal_(part.weight, std=std)
            if layer.relative_attention_bias is not None:
                nn.init.normal_(layer.relative_attention_bias.weight, std=shape.width**-0.5)
        elif isinstance(layer, _Gated | _Plain):
            for name, weight in layer.named_parameters():
                wide = shape.hidden if name == "wo.weight" else shape.width
                nn.init.normal_(weight, std=wide**-0.5)


def bucket(distance: Int[Tensor, "l s"], buckets: int, farthest: int, *, both: bool) -> Int[Tensor, "l s"]:
    """Which bucket a distance, key minus query, falls into: near ones have buckets of their own, far ones
    share logarithmically wider ones (section 2.1). ``both`` tells before from behind; else what lies behind
    is 0."""
    base = torch.zeros_like(distance)
    if both:
        buckets //= 2
        base = (distance > 0).long() * buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = buckets // 2
    scale = (buckets - exact) / math.log(farthest / exact)
    far = exact + ((distance.clamp(min=1).float() / exact).log() * scale).long()
    return base + torch.where(distance < exact, distance, far.clamp(max=buckets - 1))


class _Stack(nn.Module):
    def __init__(self, shape: T5Shape, layers: int, *, writes: bool):
        super().__init__()
        self.shape, self.writes = shape, writes
        self.block = nn.ModuleList(_Block(shape, writes=writes, biased=i == 0) for i in range(layers))
        self.final_layer_norm = Norm(shape.width, shape.eps)

    def forward(
        self,
        x: Float[Tensor, "b l d"],
        held: Bool[Tensor, "b l"],
        read: tuple[Tensor, Tensor] | None = None,
    ) -> Float[Tensor, "b l d"]:
        places = torch.arange(x.shape[1], device=x.device)
        distance = places[None, :] - places[:, None]
        table = self.get_parameter(TABLE).float()
        number = bucket(distance, self.shape.buckets, self.shape.farthest, both=not self.writes)
        bias = table[number].permute(2, 0, 1)[None] + _unless(held)[:, None, None]
        if self.writes:
            bias = bias + _unless(distance <= 0)
        for block in self.block:
            x = block(x, bias, read)
        return self.final_layer_norm(x)


def _unless(seen: Tensor) -> Tensor:
    """0 where a place may be looked at, nearly minus infinity elsewhere."""
    return torch.where(seen, 0.0, NEVER)


class Norm(nn.Module):
    """Divides by the root mean square; subtracts and adds nothing (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps)
        return self.weight * (x.float() * scale).to(self.weight.dtype)


class _Block(nn.Module):
    """Layers in the order of transformers: itself, the other text if there is one, feed-forward."""

    def __init__(self, shape: T5Shape, *, writes: bool, biased: bool):
        super().__init__()
        across = [_Attending(shape, "EncDecAttention", biased=False)] if writes else []
        self.layer = nn.ModuleList(
            [_Attending(shape, "SelfAttention", biased=biased), *across, _Feeding(shape)]
        )

    def forward(self, x: Tensor, bias: Tensor, read: tuple[Tensor, Tensor] | None) -> Tensor:
        x = self.layer[0](x, None, bias)
        if read is not None:
            states, held = read
            x = self.layer[1](x, states, _unless(held)[:, None, None])
        return self.layer[-1](x)


class _Attending(nn.Module):
    def __init__(self, shape: T5Shape, name: str, *, biased: bool):
        super().__init__()
        self.name = name
        self.add_module(name, _Attention(shape, biased=biased))
        self.layer_norm = Norm(shape.width, shape.eps)

    def forward(self, x: Tensor, other: Tensor | None, bias: Tensor) -> Tensor:
        inside = self.layer_norm(x)
        return x + self.get_submodule(self.name)(inside, inside if other is None else other, bias)


class _Attention(nn.Module):
    def __init__(self, shape: T5Shape, *, biased: bool):
        super().__init__()
        self.heads, inside = shape.heads, shape.heads * shape.head_width
        self.q = Linear(shape.width, inside, bias=False)
        self.k = Linear(shape.width, inside, bias=False)
        self.v = Linear(shape.width, inside, bias=False)
        self.o = Linear(inside, shape.width, bias=False)
        self.relative_attention_bias = nn.Embedding(shape.buckets, shape.heads) if biased else None

    def forward(self, x: Tensor, other: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (
            part(of).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part, of in ((self.q, x), (self.k, other), (self.v, other))
        )
        return self.o(unscaled(q, k, v, bias).transpose(1, 2).flatten(2))


class _Feeding(nn.Module):
    def __init__(self, shape: T5Shape):
        super().__init__()
        self.DenseReluDense = _Gated(shape) if shape.feed == "gated-gelu" else _Plain(shape)
        self.layer_norm = Norm(shape.width, shape.eps)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.DenseReluDense(self.layer_norm(x))


class _Gated(nn.Module):
    """GELU of one projection times another (Shazeer 2020)."""

    def __init__(self, shape: T5Shape):
        super().__init__()
        self.wi_0 = Linear(shape.width, shape.hidden, bias=False)
        self.wi_1 = Linear(shape.width, shape.hidden, bias=False)
        self.wo = Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))


class _Plain(nn.Module):
    def __init__(self, shape: T5Shape):
        super().__init__()
        self.wi = Linear(shape.width, shape.hidden, bias=False)
        self.wo = Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(relu(self.wi(x)))
