"""CLIP's text tower: token numbers in, one vector a token out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sfumato.nn.attention import attention
from sfumato.nn.layers import Linear, QuickGELU


@dataclass(frozen=True)
class ClipTextConfig:
    """The shape of a text tower; the defaults are CLIP ViT-L/14's, as Stable Diffusion 1.x has it."""

    vocabulary: int = 49408
    length: int = 77
    """Most tokens of a text, first and last marks included."""
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    """Width inside the feed-forward blocks."""
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    """OpenAI's models have quick_gelu, x sigmoid(1.702 x); OpenCLIP's have gelu."""
    eps: float = 1e-5
    skip: int = 0
    """Layers at the end that are passed over; 1 gives the penultimate layer, as SD 2.x reads it."""
    projection: int = 0
    """Width of the projected text (``pooled``); 0 means that there is no projection."""
    end: int = 49407
    """The token that ends a text; what the tower says there stands for the text."""


class ClipText(nn.Module):
    """Causal pre-norm transformer (Radford et al. 2021, section 2.4), with transformers' parameter names.

    No attention mask for padding exists: Stable Diffusion was trained without one.
    """

    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.config = config
        self.text_model = _Tower(config)
        self.text_projection = (
            nn.Linear(config.width, config.projection, bias=False) if config.projection else None
        )
        self.apply(self._initialise)
        if self.text_projection is not None:
            nn.init.normal_(self.text_projection.weight, std=config.width**-0.5)

    def forward(self, tokens: Int[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """States of the last layer that is not skipped, after the final norm."""
        *_, x = islice(self.states(tokens), 1 + self.config.layers - self.config.skip)
        return self.text_model.final_layer_norm(x)

    def states(self, tokens: Int[Tensor, "b l"]) -> Iterator[Float[Tensor, "b l d"]]:
        """What goes into the first layer, then what comes out of each; no final norm."""
        model = self.text_model
        length = tokens.shape[1]
        x = model.embeddings.token_embedding(tokens) + model.embeddings.position_embedding.weight[:length]
        mask = torch.full((length, length), float("-inf"), dtype=x.dtype, device=x.device).triu(1)
        yield x
        for layer in model.encoder.layers:
            x = layer(x, mask)
            yield x

    def pooled(self, last: Float[Tensor, "b l d"], tokens: Int[Tensor, "b l"]) -> Float[Tensor, "b p"]:
        """What stands for a whole text: the last layer's state at its first ``end``, normed and projected
        (section 2.4)."""
        ends = (tokens == self.config.end).int().argmax(1)
        read = last[torch.arange(len(last), device=last.device), ends]
        read = self.text_model.final_layer_norm(read)
        return read if self.text_projection is None else self.text_projection(read)

    def _initialise(self, module: nn.Module) -> None:
        """CLIP's own initialisation: residual branches shrink with the depth."""
        width, branch = self.config.width, (2 * self.config.layers) ** -0.5
        if isinstance(module, _Embeddings):
            nn.init.normal_(module.token_embedding.weight, std=0.02)
            nn.init.normal_(module.position_embedding.weight, std=0.01)
        elif isinstance(module, _Attention):
            for part in (module.q_proj, module.k_proj, module.v_proj):
                nn.init.normal_(part.weight, std=width**-0.5)
            nn.init.normal_(module.out_proj.weight, std=width**-0.5 * branch)
        elif isinstance(module, _FeedForward):
            nn.init.normal_(module.fc1.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(module.fc2.weight, std=width**-0.5 * branch)
        elif isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


class _Tower(nn.Module):
    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.width, eps=config.eps)


class _Embeddings(nn.Module):
    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.position_embedding = nn.Embedding(config.length, config.width)


class _Encoder(nn.Module):
    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))


class _Layer(nn.Module):
    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.self_attn = _Attention(config)
        self.layer_norm1 = nn.LayerNorm(config.width, eps=config.eps)
        self.mlp = _FeedForward(config)
        self.layer_norm2 = nn.LayerNorm(config.width, eps=config.eps)

    def forward(self, x: Float[Tensor, "b l d"], mask: Float[Tensor, "l l"]) -> Float[Tensor, "b l d"]:
        x = x + self.self_attn(self.layer_norm1(x), mask)
        return x + self.mlp(self.layer_norm2(x))


class _Attention(nn.Module):
    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.heads = config.heads
        self.q_proj = Linear(config.width, config.width)
        self.k_proj = Linear(config.width, config.width)
        self.v_proj = Linear(config.width, config.width)
        self.out_proj = Linear(config.width, config.width)

    def forward(self, x: Float[Tensor, "b l d"], mask: Float[Tensor, "l l"]) -> Float[Tensor, "b l d"]:
        q, k, v = (self._split(part(x)) for part in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(attention(q, k, v, mask).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class _FeedForward(nn.Module):
    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.activation = QuickGELU() if config.activation == "quick_gelu" else nn.GELU()
        self.fc1 = Linear(config.width, config.hidden)
        self.fc2 = Linear(config.hidden, config.width)

    def forward(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        return self.fc2(self.activation(self.fc1(x)))
