"""The two transformers that guess a picture's CLIP embedding from its caption."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sfumato.nn.clip_layers import Activation, Encoder, initialise
from sfumato.nn.condition import Condition
from sfumato.nn.embed import Embedder, sinusoidal


@dataclass(frozen=True)
class PriorConfig:
    """The shape of a prior's transformer, and of what it reads; the defaults are the paper's for ViT-L/14."""

    width: int = 2048
    layers: int = 20
    heads: int = 32
    hidden: int = 8192
    """Width inside the feed-forward blocks."""
    dimension: int = 768
    """Of CLIP's space."""
    tokens: int = 768
    """Width of the states of CLIP's text tower."""
    length: int = 77
    """Of texts, in tokens."""
    activation: Activation = "gelu"
    eps: float = 1e-5


class _Reader(nn.Module):
    """What both have: a causal transformer that first reads the text, token by token and then as a whole."""

    def __init__(self, config: PriorConfig, more: int):
        super().__init__()
        self.config = config
        self.read = nn.Linear(config.tokens, config.width)
        self.told = nn.Linear(config.dimension, config.width)
        self.position = nn.Parameter(torch.randn(config.length + 1 + more, config.width) * 0.02)
        self.encoder = Encoder(config)
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        initialise(self.encoder, config)

    def states(self, cond: Condition, more: Float[Tensor, "b m w"]) -> Float[Tensor, "b m w"]:
        """States of what comes after the text: each sees the whole text and what stands before it."""
        assert cond.tokens is not None
        assert cond.vector is not None
        text = torch.cat([self.read(cond.tokens), self.told(cond.vector)[:, None]], 1)
        x = torch.cat([text.repeat_interleave(len(more) // len(text), 0), more], 1) + self.position
        count = x.shape[1]
        mask = torch.full((count, count), float("-inf"), dtype=x.dtype, device=x.device).triu(1)
        return self.norm(self.encoder(x, mask)[:, -more.shape[1] :])


class PriorTransformer(_Reader):
    """Ramesh et al. 2022, section 2.2: text, time and a noisy embedding in; a clean one out."""

    def __init__(self, config: PriorConfig):
        super().__init__(config, more=3)
        self.time = Embedder(config.width, config.width)
        self.enter = nn.Linear(config.dimension, config.width)
        self.query = nn.Parameter(torch.randn(config.width) * 0.02)
        self.leave = nn.Linear(config.width, config.dimension)

    @property
    def ends(self) -> tuple[nn.Module, ...]:
        """Where data and conditions come in and data goes out."""
        return (self.read, self.told, self.enter, self.leave)

    def forward(
        self, x: Float[Tensor, "b k d"], clock: Float[Tensor, " b"], cond: Condition
    ) -> Float[Tensor, "b k d"]:
        """``k`` embeddings for each text, which know nothing of each other."""
        count, width = x.shape[1], self.config.width
        noisy = self.enter(x.flatten(0, 1))
        time = self.time(sinusoidal(clock, width)).repeat_interleave(count, 0).to(noisy)
        more = torch.stack([time, noisy, self.query.to(noisy).expand_as(noisy)], 1)
        return self.leave(self.states(cond, more)[:, -1]).unflatten(0, (-1, count))


class CodeTransformer(_Reader):
    """The autoregressive prior: after the text comes one number a principal component, the largest first.

    Before them stands how near text and picture are, as a number of its own (section 2.2).
    """

    def __init__(self, config: PriorConfig, components: int, buckets: int):
        super().__init__(config, more=components)
        self.components, self.buckets = components, buckets
        self.codes = nn.Embedding(components * buckets, config.width)
        self.head = nn.Parameter(torch.randn(components, buckets, config.width) * config.width**-0.5)
        nn.init.normal_(self.codes.weight, std=0.02)

    @property
    def ends(self) -> tuple[nn.Module, ...]:
        """Where conditions come in."""
        return (self.read, self.told)

    def forward(
        self, nearness: Int[Tensor, " b"], codes: Int[Tensor, "b p"], cond: Condition
    ) -> Float[Tensor, "b p k"]:
        """Logits of every code given the nearness and those before it; the last is nobody's condition."""
        places = torch.arange(self.components, device=codes.device) * self.buckets
        given = torch.cat([nearness[:, None], codes[:, :-1]], 1)
        states = self.states(cond, self.codes(given + places).to(self.read.weight.dtype))
        return torch.einsum("bpw,pkw->bpk", states, self.head.to(states))
