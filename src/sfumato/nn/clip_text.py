"""CLIP's text tower: token numbers in, one vector a token out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sfumato.nn.clip_layers import Activation, Encoder, initialise


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
    activation: Activation = "quick_gelu"
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
        embeddings = self.text_model.embeddings
        nn.init.normal_(embeddings.token_embedding.weight, std=0.02)
        nn.init.normal_(embeddings.position_embedding.weight, std=0.01)
        initialise(self.text_model.encoder, config)
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
        yield from model.encoder.states(x, mask)

    def pooled(self, last: Float[Tensor, "b l d"], tokens: Int[Tensor, "b l"]) -> Float[Tensor, "b p"]:
        """What stands for a whole text: the last layer's state at its first ``end``, normed and projected
        (section 2.4)."""
        ends = (tokens == self.config.end).int().argmax(1)
        read = last[torch.arange(len(last), device=last.device), ends]
        read = self.text_model.final_layer_norm(read)
        return read if self.text_projection is None else self.text_projection(read)


class _Tower(nn.Module):
    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.encoder = Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.width, eps=config.eps)


class _Embeddings(nn.Module):
    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.position_embedding = nn.Embedding(config.length, config.width)
