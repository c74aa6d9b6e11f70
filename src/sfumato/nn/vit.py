"""The vision transformer: a picture as a sequence of squares, with transformers' parameter names."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.errors import UsageError
from sfumato.nn.clip_layers import Activation, Encoder, initialise


@dataclass(frozen=True)
class VitConfig:
    """The shape of a vision transformer; the defaults are CLIP ViT-B/32's."""

    channels: int = 3
    size: tuple[int, int] = (224, 224)
    """Height and width of the pictures, in pixels."""
    patch: int = 32
    """Side of the squares that become one token."""
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    """Width inside the feed-forward blocks."""
    activation: Activation = "quick_gelu"
    """OpenAI's models have quick_gelu, x sigmoid(1.702 x); OpenCLIP's have gelu."""
    eps: float = 1e-5
    stem: tuple[int, ...] = ()
    """Channels of convolutions, each of which halves the picture, before squares are cut; none cuts pixels.
    With them forms are learned from far fewer pictures (Xiao et al. 2021, arXiv 2106.14881)."""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of squares; a size that leaves a rest, or squares that the stem makes smaller than
        one place, are a ``UsageError``."""
        height, width = self.size
        if self.patch % 2 ** len(self.stem):
            raise UsageError(
                f"Squares of {self.patch} pixels cannot be halved {len(self.stem)} times by the stem; choose "
                "larger ones, or a shorter stem."
            )
        if height % self.patch or width % self.patch:
            raise UsageError(
                f"Pictures of {height} x {width} pixels cannot be cut into squares of {self.patch}; "
                "choose a size that can, or another patch."
            )
        return height // self.patch, width // self.patch


class Vit(nn.Module):
    """Dosovitskiy et al. 2021, as CLIP has it: with a norm before the first layer.

    The first token stands for the whole picture.
    """

    def __init__(self, config: VitConfig):
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.width, eps=config.eps)  # transformers' spelling
        self.encoder = Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.width, eps=config.eps)
        initialise(self.encoder, config)

    @property
    def ends(self) -> tuple[nn.Module, ...]:
        """Where the picture comes in."""
        return (self.embeddings.stem[0] if self.config.stem else self.embeddings.patch_embedding,)

    def forward(
        self, x: Float[Tensor, "b c h w"], *, skip: int = 0
    ) -> tuple[Float[Tensor, "b l d"], Float[Tensor, "b d"]]:
        """States of the last layer (or the one ``skip`` before it), the whole picture's first; and that one's
        after the final norm."""
        states = self.encoder(self.pre_layrnorm(self.embeddings(x)), skip=skip)
        return states, self.post_layernorm(states[:, 0])


def _halving(wide: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(wide, out, 3, stride=2, padding=1), nn.GELU())


class _Embeddings(nn.Module):
    def __init__(self, config: VitConfig):
        super().__init__()
        rows, columns = config.grid
        self.size = config.size
        self.class_embedding = nn.Parameter(torch.randn(config.width) * config.width**-0.5)
        widths = (config.channels, *config.stem)
        self.stem = nn.Sequential(*(_halving(*both) for both in pairwise(widths)))
        square = config.patch >> len(config.stem)
        self.patch_embedding = nn.Conv2d(widths[-1], config.width, square, stride=square, bias=False)
        self.position_embedding = nn.Embedding(rows * columns + 1, config.width)
        nn.init.normal_(self.position_embedding.weight, std=config.width**-0.5)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b l d"]:
        if tuple(x.shape[2:]) != self.size:
            raise UsageError(
                f"This vision transformer reads pictures of {self.size[0]} x {self.size[1]} pixels, got "
                f"{x.shape[2]} x {x.shape[3]}; scale them first."
            )
        squares = self.patch_embedding(self.stem(x)).flatten(2).transpose(1, 2)
        first = self.class_embedding.to(squares).expand(len(x), 1, -1)
        return torch.cat([first, squares], 1) + self.position_embedding.weight
