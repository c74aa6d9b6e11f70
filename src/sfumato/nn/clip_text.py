"""CLIP's text tower: token numbers in, one vector a token out."""

from __future__ import annotations

from dataclasses import dataclass

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


class ClipText(nn.Module):
    """Causal pre-norm transformer (Radford et al. 2021, section 2.4), with transformers' parameter names.

    No attention mask for padding exists: Stable Diffusion was trained without one.
    """

    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.config = config
        self.text_model = _Tower(config)
        embeddings = self.text_model.embeddings
        nn.init.normal_(embeddings.token_embedding.weight, std=0.02)
        nn.init.normal_(embeddings.position_embedding.weight, std=0.01)
        initialise(self.text_model.encoder, config)

    def forward(self, tokens: Int[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """States of the last layer that is not skipped, after the final norm."""
        model = self.text_model
        length = tokens.shape[1]
        x = model.embeddings.token_embedding(tokens) + model.embeddings.position_embedding.weight[:length]
        mask = torch.full((length, length), float("-inf"), dtype=x.dtype, device=x.device).triu(1)
        x = model.encoder(x, mask, skip=self.config.skip)
        return model.final_layer_norm(x)


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
